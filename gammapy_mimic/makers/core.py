"""Base class of the makers."""

import abc
import copy
import inspect
import logging
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import astropy.units as u
from astropy.table import Table
from gammapy.data import DataStore, Observation, Observations
from gammapy.datasets import MapDataset, MapDatasetOnOff, SpectrumDataset
from gammapy.makers import MapDatasetMaker, SpectrumDatasetMaker
from gammapy.makers.core import Maker

from ..data.observation import get_hdu
from ..utils.parallel import run_parallel
from .order import check_order, is_made_of

__all__ = [
    "NotTreatedError",
    "ObservationMaker",
    "check_dataset_maker",
    "check_option",
    "check_type",
]

log = logging.getLogger(__name__)

MAPS = {
    "counts": "events",
    "exposure": "aeff",
    "background": "bkg",
    "psf": "psf",
    "edisp": "edisp",
}
"""Maps of a dataset, and the part of the observation that each is made from."""


class NotTreatedError(ValueError):
    """An observation cannot be treated, but others can."""


class ObservationMaker(Maker):
    """Maker that is a function from observation to observation.

    What it does in a chain of makers follows from that function: `run` makes the maps
    which a `~gammapy.makers.MapDatasetMaker` makes from the new observation.

    Parameters are checked when they are set, as when they are given, and act from then
    on: whatever a maker keeps of them is made again.
    """

    dataset_maker: MapDatasetMaker | None = None
    """Maker of the maps (`~gammapy.makers.MapDatasetMaker`), None for the default."""

    checks: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Functions that check and convert the parameters, by name."""

    changed_maps: tuple[str, ...] = tuple(MAPS)
    """Maps that differ between the observation and the one made from it."""

    added_maps: tuple[str, ...] = ()
    """Maps that are made also if the dataset does not have them."""

    trace: str | None = None
    """Column of the meta table by which the maps of this maker are known."""

    def __setattr__(self, name, value):
        if name in self.checks:
            self._set(**{name: value})
        else:
            super().__setattr__(name, value)

    def _set(self, **parameters):
        """Set parameters, all of them or, if one is not valid, none."""
        before = dict(self.__dict__)
        try:
            # not by setattr, which would come back to here
            for name, value in parameters.items():
                self.__dict__[name] = self.checks[name](value)
            self._update(set(parameters))
        except Exception:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _update(self, changed):
        """Check parameters together, and make again what is kept of them.

        Parameters
        ----------
        changed : set of str
            Names of the parameters that were set.
        """

    @abc.abstractmethod
    def make_observation(self, observation: Observation) -> Observation:
        """Make an observation. The input is not changed.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Observation.

        Returns
        -------
        observation : `~gammapy.data.Observation`
            New observation.
        """

    def can_make(self, observation: Observation) -> bool:
        """Whether there is a way to treat this observation.

        One that cannot be treated, or for which `make_observation` raises a
        `NotTreatedError`, is masked by `run` and left out by `make_observations`, with
        a warning.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Observation.

        Returns
        -------
        can_make : bool
            True unless a maker knows better.
        """
        return True

    def make_observations(
        self,
        observations: Iterable[Observation],
        n_jobs: int | None = None,
        parallel_backend: str | None = None,
    ) -> Observations:
        """Make observations, in parallel if asked to.

        The result does not depend on the order of the observations, the number of
        jobs or the backend.

        Parameters
        ----------
        observations : `~gammapy.data.Observations`
            Observations.
        n_jobs : int, optional
            Number of processes. Default is that of `gammapy.utils.parallel`, 1.
        parallel_backend : {"multiprocessing", "ray"}, optional
            Backend. Default is that of `gammapy.utils.parallel`.

        Returns
        -------
        observations : `~gammapy.data.Observations`
            New observations in the order of the input. Those that cannot be treated
            are left out, with a warning.
        """
        treated = []
        for observation in observations:
            if self.can_make(observation):
                treated.append((observation,))
            else:
                log.warning(
                    f"{self.tag} cannot treat OBS_ID {observation.obs_id}, left out."
                )
        results = run_parallel(
            self._try_observation, treated, n_jobs, parallel_backend, self.tag
        )
        made = []
        for result in results:
            if isinstance(result, NotTreatedError):
                log.warning(f"{self.tag}: {result} Left out.")
            else:
                made.append(result)
        return Observations(made)

    def _try_observation(self, observation):
        """Make an observation, or return why it cannot be treated."""
        try:
            return self.make_observation(observation)
        except NotTreatedError as error:
            return error

    def run(self, dataset: MapDataset, observation: Observation) -> MapDataset:
        """Make the maps of the dataset from the new observation.

        Where the observation cannot be treated, ``mask_safe`` is set to False, as
        `~gammapy.makers.FoVBackgroundMaker` does.

        Parameters
        ----------
        dataset : `~gammapy.datasets.MapDataset`
            Dataset that was made of the observation, or with ``dataset_maker`` also the
            reference dataset.
        observation : `~gammapy.data.Observation`
            Observation, as it was before any maker. Not changed.

        Returns
        -------
        dataset : `~gammapy.datasets.MapDataset`
            Dataset with the maps of the new observation. ``mask_safe`` can only be
            tightened; ``name``, ``models``, ``mask_fit`` and other columns of the meta
            table stay.

        Raises
        ------
        TypeError
            If the dataset has no maps that could be made again.
        ValueError
            If the makers of a chain are in the wrong order: there are no maps yet, the
            background was fitted already, or maps would replace those of another maker
            of this package.
        """
        maker = self._get_dataset_maker(dataset)
        # before anything is read
        check_order(self, dataset, observation, ObservationMaker.__subclasses__())
        is_reduced = is_made_of(dataset, observation)

        made: Any = "No OFF observation is planned."
        if self.can_make(observation):
            made = self._try_observation(observation)
        if isinstance(made, str | NotTreatedError):
            log.warning(
                f"{self.tag} cannot treat OBS_ID {observation.obs_id}: {made} "
                f"Setting mask of {dataset.name} to False."
            )
            return self._mask_all(dataset, observation, is_reduced)

        has_map = {name: getattr(dataset, name) is not None for name in MAPS}
        # of a reference dataset there is nothing to take over
        present = [name for name in MAPS if is_reduced and has_map[name]]
        kept = [_ for _ in present if _ not in self.changed_maps]
        if self.dataset_maker is None:
            maker.selection = {*present, *self.added_maps}
        missing = [_ for _ in present if _ not in kept and _ not in maker.selection]
        if missing:
            raise ValueError(
                f"{self.tag} makes the maps {missing} of the dataset {dataset.name!r} "
                "again, but its dataset_maker does not. Add them to its selection."
            )
        # counts and background have one geometry
        known = {"background", *(name for name in MAPS if has_map[name])}
        maker.selection = (set(maker.selection) & known) - set(kept)

        self._warn_of_unseen(observation, made)
        result = self._run_dataset_maker(maker, dataset, made)
        for name in kept:
            setattr(result, name, getattr(dataset, name))
        result.meta_table = self._join_meta_tables(dataset, made, is_reduced)
        # as it was given: Gammapy looks for it after the chain
        result.meta_table["OBS_ID"] = [observation.obs_id]
        if is_reduced and dataset.mask_safe:
            result.mask_safe &= dataset.mask_safe
        result.mask_fit = dataset.mask_fit
        result.models = dataset.models
        return result

    def make_meta_table(self, observation: Observation) -> Table:
        """Make the table that tells in a dataset which observation it is made of.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Observation made by this maker.

        Returns
        -------
        meta_table : `~astropy.table.Table`
            Table with one row.
        """
        table = MapDatasetMaker.make_meta_table(observation)
        for name, value in self.make_columns(observation).items():
            table[name] = [value]
        return table

    def make_columns(self, observation: Observation | None) -> dict[str, Any]:
        """Make the columns of the meta table that tell what this maker did.

        Parameters
        ----------
        observation : `~gammapy.data.Observation` or None
            Observation made by this maker. None if there is none.

        Returns
        -------
        columns : dict
            Values by column, one of them that of `trace`.
        """
        return {}

    def _warn_of_unseen(self, observation, made):
        """Warn of what the makers after this one cannot see in the observation."""

    def _join_meta_tables(self, dataset, observation, is_reduced):
        """Make the meta table, and keep what others have added to that before."""
        table = self.make_meta_table(observation)
        if is_reduced:
            for name, column in dataset.meta_table.columns.items():
                if name not in table.colnames:
                    table[name] = column
        return table

    def _run_dataset_maker(self, maker, dataset, observation):
        for name in sorted(maker.selection):
            if get_hdu(observation, MAPS[name]) is None:
                others = sorted(maker.selection - {name})
                raise ValueError(
                    f"The dataset has a {name} map, but the observation made for "
                    f"OBS_ID {observation.obs_id} has no {MAPS[name]}. "
                    f"Start the chain with MapDatasetMaker(selection={others})."
                )

        # what Gammapy would change, or read for each map anew, is not the caller's
        observation = copy.copy(observation)
        observation.aeff = observation.aeff
        if "background" in maker.selection:
            observation.bkg = copy.copy(observation.bkg)
        return maker.run(dataset, observation)

    def _mask_all(self, dataset, observation, is_reduced):
        table = self._join_meta_tables(dataset, observation, is_reduced)
        if not is_reduced:
            # a reference dataset may hold others, which are not to be masked
            models, mask_fit = dataset.models, dataset.mask_fit
            dataset = type(dataset).from_geoms(**dataset.geoms, name=dataset.name)
            dataset.models, dataset.mask_fit = models, mask_fit
            dataset.gti = observation.gti
        dataset.meta_table = table
        dataset.mask_safe.data[...] = False
        return dataset

    def _get_dataset_maker(self, dataset):
        """Get the maker of the maps, a copy whose selection may be changed."""
        if isinstance(dataset, MapDatasetOnOff):
            raise TypeError(
                f"{self.tag} cannot change a {type(dataset).__name__}. Put it before "
                f"the maker of the OFF counts, or call {self.tag}.make_observations("
                "observations) first, and reduce what it returns."
            )
        is_spectrum = isinstance(dataset, SpectrumDataset)
        maker = self.dataset_maker
        if maker is not None:
            if is_spectrum and not isinstance(maker, SpectrumDatasetMaker):
                raise TypeError(
                    f"{self.tag} cannot make a SpectrumDataset with a "
                    f"{type(maker).__name__}, use dataset_maker=SpectrumDatasetMaker()."
                )
            return copy.copy(maker)
        if not is_spectrum:
            return MapDatasetMaker()
        if "counts" not in self.changed_maps:
            return SpectrumDatasetMaker()
        raise TypeError(
            f"{self.tag} does not change a {type(dataset).__name__} by default: a "
            "maker of reflected regions after it would count the events of the "
            "original observation. Make the observations first, and reduce these:\n"
            f"    observations = {self.tag}(...).make_observations(observations)\n"
            "    datasets = DatasetsMaker([SpectrumDatasetMaker(...), ...]).run("
            "dataset, observations)\n"
            "A chain without such a maker may have "
            f"{self.tag}(..., dataset_maker=SpectrumDatasetMaker(...))."
        )

    def __str__(self):
        names = list(inspect.signature(type(self)).parameters)
        width = max(len(name) for name in names) + 1
        title = type(self).__name__
        lines = [title, "-" * len(title), ""]
        for name in names:
            # as they were set: nothing is made to be printed
            value = self.__dict__.get(name)
            if value is None:
                continue
            if isinstance(value, DataStore):
                folder = value.hdu_table.base_dir
                text = f"{len(value.obs_ids)} observations in {folder}"
            elif isinstance(value, Observations):
                text = f"{len(value)} observations"
            elif isinstance(value, Collection) and not isinstance(
                value, str | u.Quantity
            ):
                text = f"{len(value)} of {type(value).__name__}"
            else:
                text = " ".join(str(value).split())
            lines.append(f"  {name:{width}s}: {text}")
        return "\n".join([*lines, ""])


def check_option(name, options, cls=()):
    """Make a function that raises an error which lists the valid options.

    Objects of a class are valid as well, if it is given.
    """

    def check(value):
        if not isinstance(value, cls) and value not in options:
            raise ValueError(f"Invalid {name}: {value!r}. Choose from {options}.")
        return value

    return check


def check_type(name, kind, cls):
    """Make a function that raises an error if a value is not of a class, or None.

    The kind is the class in words, for the error.
    """

    def check(value):
        if not isinstance(value, cls | None):
            raise TypeError(f"{name} must be {kind}, got {type(value).__name__}")
        return value

    return check


check_dataset_maker = check_type(
    "dataset_maker", "a MapDatasetMaker or SpectrumDatasetMaker", MapDatasetMaker
)
"""Raise an error if this is not a maker of maps, or None."""
