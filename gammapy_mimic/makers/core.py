"""Base class of the makers."""

import abc
import copy
import inspect
import logging

import numpy as np
from gammapy.data import DataStore, Observations
from gammapy.datasets import MapDatasetOnOff, SpectrumDataset
from gammapy.makers import MapDatasetMaker, SpectrumDatasetMaker
from gammapy.makers.core import Maker

from ..observation import get_hdu
from ..parallel import run_parallel

__all__ = ["ObservationMaker", "check_option", "check_pool", "get_off_observation"]

log = logging.getLogger(__name__)

MAPS = {
    "counts": "events",
    "exposure": "aeff",
    "background": "bkg",
    "psf": "psf",
    "edisp": "edisp",
}
"""Maps of a dataset, and the part of the observation that each is made from."""


class ObservationMaker(Maker):
    """Maker that is a function from observation to observation.

    What it does in a chain of makers follows from that function: `run` makes the maps
    which `~gammapy.makers.MapDatasetMaker` makes from the new observation.
    """

    changed_maps = tuple(MAPS)
    """Maps that differ between the observation and the one made from it."""

    added_maps = ()
    """Maps that are made also if the dataset does not have them."""

    invalid_datasets = (SpectrumDataset, MapDatasetOnOff)
    """Classes of datasets in which the maps cannot be made again."""

    @abc.abstractmethod
    def make_observation(self, observation):
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

    def can_make(self, observation):
        """Whether there is a way to treat this observation.

        One that cannot be treated is masked by `run` and left out by
        `make_observations`, with a warning.

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

    def make_observations(self, observations, n_jobs=None, parallel_backend=None):
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
            self.make_observation, treated, n_jobs, parallel_backend, self.tag
        )
        return Observations(results)

    def run(self, dataset, observation):
        """Make the maps of the dataset from the new observation.

        Where the observation cannot be treated, ``mask_safe`` is set to False, as
        `~gammapy.makers.FoVBackgroundMaker` does.

        Parameters
        ----------
        dataset : `~gammapy.datasets.MapDataset`
            Dataset of the observation, or the reference dataset.
        observation : `~gammapy.data.Observation`
            Observation, as it was before any maker.

        Returns
        -------
        dataset : `~gammapy.datasets.MapDataset`
            Dataset with the maps of the new observation. ``mask_safe`` can only be
            tightened; ``name``, ``models`` and ``mask_fit`` stay.

        Raises
        ------
        TypeError
            If the dataset has no maps that could be made again.
        """
        self._check_dataset(dataset)
        is_reduced = _is_reduced(dataset, observation)

        if not self.can_make(observation):
            log.warning(
                f"{self.tag} cannot treat OBS_ID {observation.obs_id}. "
                f"Setting mask of {dataset.name} to False."
            )
            return self._mask_all(dataset, observation, is_reduced)

        available = [
            name
            for name in MAPS
            if getattr(dataset, name) is not None or name in self.added_maps
        ]
        # of a reference dataset there is nothing to take over
        changed = self.changed_maps if is_reduced else available
        result = self._make_maps(
            dataset,
            self.make_observation(observation),
            selection=[name for name in available if name in changed],
        )
        for name in available:
            if name not in changed:
                setattr(result, name, getattr(dataset, name))
        if is_reduced and dataset.mask_safe:
            result.mask_safe &= dataset.mask_safe
        result.mask_fit = dataset.mask_fit
        result.models = dataset.models
        return result

    def make_meta_table(self, observation):
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
        return MapDatasetMaker.make_meta_table(observation)

    def _make_maps(self, dataset, observation, selection):
        for name in selection:
            if get_hdu(observation, MAPS[name]) is None:
                others = [_ for _ in selection if _ != name]
                raise ValueError(
                    f"The dataset has a {name} map, but the observation made for "
                    f"OBS_ID {observation.obs_id} has no {MAPS[name]}. "
                    f"Start the chain with MapDatasetMaker(selection={others})."
                )

        # Gammapy reads the effective area for each map anew
        observation.aeff = observation.aeff
        is_spectrum = isinstance(dataset, SpectrumDataset)
        maker = SpectrumDatasetMaker if is_spectrum else MapDatasetMaker
        result = maker(selection=selection).run(dataset, observation)
        result.meta_table = self.make_meta_table(observation)
        return result

    def _mask_all(self, dataset, observation, is_reduced):
        if not is_reduced:
            models = dataset.models
            dataset = type(dataset).from_geoms(**dataset.geoms, name=dataset.name)
            dataset.models = models
        dataset.meta_table = self.make_meta_table(observation)
        dataset.mask_safe.data[...] = False
        return dataset

    def _check_dataset(self, dataset):
        if isinstance(dataset, self.invalid_datasets):
            raise TypeError(
                f"{self.tag} cannot change a {type(dataset).__name__}: the makers "
                "beside it would count the events of the original observation. Call "
                f"{self.tag}.make_observations(observations) first, and reduce what "
                "it returns."
            )

    def __str__(self):
        names = list(inspect.signature(type(self)).parameters)
        values = {name: getattr(self, name, None) for name in names}
        width = max(len(name) for name in names) + 1
        lines = [
            f"  {name:{width}s}: {_to_str(value)}"
            for name, value in values.items()
            if value is not None
        ]
        title = type(self).__name__
        return "\n".join([title, "-" * len(title), "", *lines, ""])


def _to_str(value):
    if isinstance(value, DataStore):
        return f"{len(value.obs_ids)} observations in {value.hdu_table.base_dir}"
    if isinstance(value, Observations):
        return f"{len(value)} observations"
    if hasattr(value, "__len__") and not isinstance(value, str):
        value = f"{len(value)} of {type(value).__name__}"
    return " ".join(str(value).split())


def _is_reduced(dataset, observation):
    """Whether the dataset was made from just this observation.

    Otherwise it is a reference dataset: empty, or with others stacked into it.
    """
    table = dataset.meta_table
    if table is None or "OBS_ID" not in table.colnames:
        return False
    return np.array_equal(np.ravel(table["OBS_ID"]), [observation.obs_id])


def check_option(name, value, options):
    """Raise an error that lists the valid options of a parameter."""
    if value not in options:
        raise ValueError(f"Invalid {name}: {value!r}. Choose from {options}.")


def check_pool(off_observations):
    """Raise an error if this is not a pool of observations."""
    if not isinstance(off_observations, DataStore | Observations):
        raise TypeError(
            "off_observations must be a DataStore or Observations, "
            f"got {type(off_observations).__name__}"
        )


def get_off_observation(off_observations, obs_id):
    """Get an observation of a pool.

    Parameters
    ----------
    off_observations : `~gammapy.data.DataStore` or `~gammapy.data.Observations`
        Pool.
    obs_id : int
        Observation ID.

    Returns
    -------
    observation : `~gammapy.data.Observation`
        Observation that can be loaded without an effect on the pool.

    Raises
    ------
    ValueError
        If it is not there.
    """
    if isinstance(off_observations, DataStore):
        if obs_id in off_observations.obs_ids:
            return off_observations.obs(obs_id, required_irf="all-optional")
    else:
        for observation in off_observations:
            if observation.obs_id == obs_id:
                return copy.copy(observation)
    raise ValueError(f"OBS_ID {obs_id} is not among the OFF observations.")
