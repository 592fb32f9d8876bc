"""Select OFF observations by their background, and make templates from them."""

import copy
import functools
import logging
from collections import Counter
from types import MappingProxyType

import astropy.units as u
import numpy as np
from astropy.table import Table
from gammapy.data import Observations
from gammapy.utils.scripts import make_path

from ..data.irfs import get_background_stamp
from ..data.obs_ids import NO_PARTNER, get_obs_id, to_obs_ids
from ..data.observation import (
    get_livetime_fraction,
    get_off_observation,
    load_events_file,
    replace_background,
    to_pool,
)
from ..exclusion.sky_regions import check_regions, regions_to_text
from ..selection.binning import FoVBinning
from ..selection.criteria import MatchCriteria, describe_rejections
from ..selection.index import OffIndex
from ..selection.plan import MimicPlan
from ..selection.ranking import KL_MAX, predict_counts, rank_observations
from ..template import make_template, select_livetime, shorten
from ..utils.files import make_checksum, replace_file
from ..version import __version__
from .core import NotTreatedError, ObservationMaker, check_dataset_maker, check_option

__all__ = ["KLBackgroundSelector"]

log = logging.getLogger(__name__)

INDEX_PARAMETERS = {
    "off_observations",
    "energy_axis",
    "offset_axis",
    "exclusion_regions",
    "index",
}
"""Parameters that the index depends on."""


def _check_axis(name, axis):
    if axis is not None:
        FoVBinning.create(**{name: axis})
    return axis


def _check_exclusion_regions(regions):
    """Check a list of regions, and make it one that is not changed in place."""
    if regions is None:
        return None
    check_regions(regions)
    return tuple(regions)


def _check_kl_max(value):
    if not value > 0:
        raise ValueError(f"kl_max must be positive, got {value}")
    return value


def _check_time_request(value):
    if value is None:
        return None
    try:
        time = u.Quantity(value).to("h")
    except (u.UnitsError, ValueError, TypeError):
        time = None
    if time is None or not (time.isscalar and time > 0):
        raise ValueError(
            f"time_request must be a positive time such as '10 h', got {value!r}"
        )
    return time


def _check_type_of_index(index):
    if not isinstance(index, OffIndex | None):
        raise TypeError(f"index must be an OffIndex, got {type(index).__name__}")
    return index


class KLBackgroundSelector(ObservationMaker):
    """Find the OFF observations whose background is most alike, and use them.

    OFF observations are compared by the Kullback-Leibler divergence of their events in
    energy and offset from those of the target, less the noise of counting
    (`~gammapy_mimic.selection.divergence.compare_counts`).

    As a maker it gives an observation, or in a chain a dataset, the background template
    made from the best OFF observations.

    Parameters
    ----------
    off_observations : `~gammapy.data.DataStore`, `~gammapy.data.Observations` or list
        OFF observations.
    criteria : `~gammapy_mimic.selection.MatchCriteria` or dict, optional
        What an OFF observation must have in common with the target.
    energy_axis, offset_axis : `~gammapy.maps.MapAxis`, optional
        Bins in which observations are compared. Default are those of
        `~gammapy_mimic.selection.OffIndex`, or of ``index``.
    distribution : {"counts", "irf"}, optional
        Compare events, or the counts that the background IRFs predict. These have no
        noise, and no p-value. Default is "counts".
    exclusion_regions : list of `~regions.SkyRegion`, optional
        Sources in any of the fields, targets and OFF. Default are those of ``index``.
    kl_max : float, optional
        Largest KL_CORR of a good pair. Default is 0.02, shapes that differ by 20% rms,
        see `gammapy_mimic.selection.ranking.KL_MAX`.
    time_request : `~astropy.units.Quantity` or str, optional
        Livetime to stack into a template. OFF observations whose livetime is not known
        are then not used, with a warning. Default is None, all good observations.
    background : {"2d", "3d"}, optional
        Dimension of the template. Default is "2d".
    smooth : {None, "gauss", "poly", "spline"}, optional
        Smoothing of the template. Default is None.
    index : `~gammapy_mimic.selection.OffIndex`, optional
        Index of the OFF observations, if there is one. Default is to make it when it
        is needed, which reads all of them, and again when ``off_observations``, an axis
        or ``exclusion_regions`` is set.
    dataset_maker : `~gammapy.makers.MapDatasetMaker`, optional
        Maker of the maps in a chain, or a `~gammapy.makers.SpectrumDatasetMaker`: the
        one that the chain starts with, with all its options. Default is
        ``MapDatasetMaker()``, or ``SpectrumDatasetMaker()``, with the maps that the
        dataset has.

    Raises
    ------
    TypeError, ValueError
        If an option is not valid, or does not agree with the index.
    """

    tag = "KLBackgroundSelector"
    trace = "BKG_OBS_IDS"
    changed_maps = ("background",)
    added_maps = ("background",)
    available_distributions = ("counts", "irf")
    available_backgrounds = ("2d", "3d")
    available_smooth = (None, "gauss", "poly", "spline")
    checks = MappingProxyType(
        {
            "off_observations": to_pool,
            "criteria": MatchCriteria.create,
            "energy_axis": functools.partial(_check_axis, "energy_axis"),
            "offset_axis": functools.partial(_check_axis, "offset_axis"),
            "distribution": check_option("distribution", available_distributions),
            "exclusion_regions": _check_exclusion_regions,
            "kl_max": _check_kl_max,
            "time_request": _check_time_request,
            "background": check_option("background", available_backgrounds),
            "smooth": check_option("smooth", available_smooth),
            "index": _check_type_of_index,
            "dataset_maker": check_dataset_maker,
        }
    )

    def __init__(
        self,
        off_observations,
        criteria=None,
        energy_axis=None,
        offset_axis=None,
        distribution="counts",
        exclusion_regions=None,
        kl_max=KL_MAX,
        time_request=None,
        background="2d",
        smooth=None,
        index=None,
        dataset_maker=None,
    ):
        self._set(
            off_observations=off_observations,
            criteria=criteria,
            energy_axis=energy_axis,
            offset_axis=offset_axis,
            distribution=distribution,
            exclusion_regions=exclusion_regions,
            kl_max=kl_max,
            time_request=time_request,
            background=background,
            smooth=smooth,
            index=index,
            dataset_maker=dataset_maker,
        )

    def _update(self, changed):
        if changed & INDEX_PARAMETERS:
            given = self.__dict__["index"]
            if given is not None:
                self._check_index(given)
                given = _restrict(given, self.off_observations)
                _warn_of_changed(given, self.off_observations)
            self._keep_index(given)

    def _keep_index(self, index):
        self._index = index
        self._predicted = {}

    def __getstate__(self):
        """Make the index before anything is pickled, not in each process."""
        _ = self.index
        return self.__dict__

    @property
    def index(self):
        """Index of the OFF observations (`~gammapy_mimic.selection.OffIndex`)."""
        if self._index is None:
            self._keep_index(self._make_index(self.off_observations))
        return self._index

    def make_index(self, path=None, n_jobs=None, parallel_backend=None):
        """Make the index now, in parallel if asked to.

        Parameters
        ----------
        path : str or `~pathlib.Path`, optional
            File to keep the index in. If it exists, only what is new is read. It is
            made anew for other bins or exclusion regions, and if it is damaged.
        n_jobs : int, optional
            Number of processes. Default is that of `gammapy.utils.parallel`, 1.
        parallel_backend : {"multiprocessing", "ray"}, optional
            Backend. Default is that of `gammapy.utils.parallel`.

        Returns
        -------
        index : `~gammapy_mimic.selection.OffIndex`
            Index of the OFF observations.

        Raises
        ------
        FileExistsError
            If the file is not an index.
        """
        known = self._read_index(path) or self.__dict__["index"]
        make = self._make_index if known is None else known.update
        self._keep_index(
            make(
                self.off_observations, n_jobs=n_jobs, parallel_backend=parallel_backend
            )
        )
        if path is not None:
            self._index.write(path, overwrite=True)
        return self._index

    def _read_index(self, path):
        """Read the index from a file, None if it has to be made anew."""
        if path is None:
            return None
        OffIndex.check_own(path)
        if not make_path(path).exists():
            return None
        try:
            index = OffIndex.read(path)
            self._check_index(index)
        except ValueError as error:
            log.warning(f"Making the index {path} anew: {error}")
            return None
        return index

    def rank(self, observation, path=None):
        """Rank the OFF observations for a target.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Target observation.
        path : str or `~pathlib.Path`, optional
            ECSV file to keep the table in. It is read if nothing has changed that the
            table depends on, else made again. Default is None.

        Returns
        -------
        table : `~astropy.table.Table`
            OFF observations, best first, the rejected ones last with their reasons,
            see `~gammapy_mimic.selection.ranking.rank_observations`.
        """
        return self._rank(self._make_target_index([observation]), observation, path)

    def select(self, observation, exclude=()):
        """Select the OFF observations of the template for a target.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Target observation.
        exclude : list of int, optional
            OFF observations not to use. Default is none.

        Returns
        -------
        table : `~astropy.table.Table`
            Rows of `rank`, up to the livetime asked for.

        Raises
        ------
        ValueError
            If there is no good OFF observation.
        """
        table = self.rank(observation)
        is_good = np.isin(table["STATUS"], ("ok", "undecided"))
        is_good &= ~np.isin(table["OFF_OBS_ID"], to_obs_ids(exclude))
        if not is_good.any():
            raise NotTreatedError(
                f"There is no good OFF observation for OBS_ID {observation.obs_id}. "
                f"{_describe_failure([table])} kl_max is {self.kl_max}."
            )
        table = table[is_good]
        if self.time_request is not None:
            table = _select_known_livetime(table)
        return table[: select_livetime(table["LIVETIME"].quantity, self.time_request)]

    def make_plan(
        self,
        observations,
        n_sets=5,
        randomise=True,
        random_state=0,
        n_best=10,
        path=None,
        n_jobs=None,
    ):
        """Make the plan that pairs targets with OFF observations.

        A pair with the status "large_kl" is made only where there is no better one.

        Parameters
        ----------
        observations : `~gammapy.data.Observations`
            Target observations.
        n_sets : int, optional
            Number of mimic sets. Default is 5.
        randomise : bool, optional
            Whether to draw among the best candidates, or to take the best.
            Default is True.
        random_state : int, optional
            Seed. Default is 0.
        n_best : int, optional
            Number of candidates to draw from. Default is 10.
        path : str or `~pathlib.Path`, optional
            Folder to keep the table of each target in, see `rank`. Default is None.
        n_jobs : int, optional
            Number of processes that read targets. Default is that of
            `gammapy.utils.parallel`, 1.

        Returns
        -------
        plan : `~gammapy_mimic.selection.MimicPlan`
            Plan. Targets without partner have the status "no_mimic".

        Raises
        ------
        ValueError
            If there is no candidate for any target.
        """
        targets = self._make_target_index(observations, n_jobs=n_jobs)
        by_obs_id = {get_obs_id(_): _ for _ in observations}
        skip = self._find_skipped(targets)
        tables = []
        for obs_id in targets.obs_ids:
            file = None if path is None else make_path(path) / f"kl_{obs_id}.ecsv"
            target = targets.select([obs_id])
            table = self._rank(target, by_obs_id[int(obs_id)], file, skip)
            if np.all(table["STATUS"] == "rejected"):
                log.warning(
                    f"No OFF observation matches OBS_ID {obs_id}. "
                    f"{_describe_failure([table])}"
                )
            table.sort("OFF_OBS_ID")
            tables.append(table)

        matrices = {name: np.array([_[name] for _ in tables]) for name in _PLAN_COLUMNS}
        is_rejected = matrices["STATUS"] == "rejected"
        if is_rejected.all():
            raise ValueError(
                f"No OFF observation matches any of the {len(tables)} targets. "
                f"{_describe_failure(tables)}"
            )
        cost = np.nan_to_num(matrices["KL_CORR"], nan=np.inf)
        worst = np.max(cost, where=np.isfinite(cost), initial=0)
        cost = np.where(is_rejected, np.inf, np.minimum(cost, worst + 1))
        return MimicPlan.from_cost(
            targets.obs_ids,
            self.index.obs_ids,
            cost,
            matrices,
            random_state=random_state,
            n_sets=n_sets,
            randomise=randomise,
            n_best=n_best,
            avoid=matrices["STATUS"] == "large_kl",
        )

    def make_background(self, observation, exclude=(), obs_ids=None):
        """Make the background template for a target.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Target observation.
        exclude : list of int, optional
            OFF observations not to use. Default is none.
        obs_ids : list of int, optional
            OFF observations to use instead of the selected ones.

        Returns
        -------
        bkg : `~gammapy.irf.Background2D` or `~gammapy.irf.Background3D`
            Background template for the dead time of the target, see
            `~gammapy_mimic.template.make_template`.

        Raises
        ------
        ValueError
            If there is no good OFF observation, or the target is a mimic of one of
            those that would be used.
        """
        if obs_ids is None:
            obs_ids = self.select(observation, exclude)["OFF_OBS_ID"].tolist()
        obs_ids = to_obs_ids(obs_ids).tolist()
        # a copy, which keeps the header for the dead time below
        observation = copy.copy(observation)
        header = load_events_file(observation, with_events=False)
        _check_overlap(observation.obs_id, obs_ids, [header.get("MIM_OBS", NO_PARTNER)])
        return make_template(
            [get_off_observation(self.off_observations, _) for _ in obs_ids],
            dimension=self.background,
            exclusion_regions=self._get_exclusion_regions(),
            smooth=self.smooth,
            livetime_fraction=get_livetime_fraction(observation),
        )

    def make_observation(self, observation):
        """Make an observation with the background template.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Target observation.

        Returns
        -------
        observation : `~gammapy.data.Observation`
            Same events and IRFs, not read if they are on disk, and the template.

        Raises
        ------
        ValueError
            As `make_background`.
        """
        # what is read is not kept by the one that was given
        observation = copy.copy(observation)
        return replace_background(observation, self.make_background(observation))

    def make_columns(self, observation):
        """Make the column ``BKG_OBS_IDS`` of a meta table.

        Parameters
        ----------
        observation : `~gammapy.data.Observation` or None
            Observation with a template. None if there is none.

        Returns
        -------
        columns : dict
            OFF observations that the template is made of, such as "101,105".
        """
        meta = None if observation is None else observation.bkg.meta
        return {"BKG_OBS_IDS": (meta or {}).get("OBS_IDS", "")}

    def _rank(self, target, observation, path=None, skip=None):
        if skip is None:
            skip = self._find_skipped(target)
        observations = {}
        if self.distribution == "irf":
            observations = self._find_compared(target, observation, skip)
        checksum = make_checksum(
            target.checksum,
            self.index.checksum,
            self.criteria,
            self.distribution,
            self.kl_max,
            {obs_id: get_background_stamp(_) for obs_id, _ in observations.items()},
            __version__,
        )
        path = None if path is None else make_path(path)
        if path is not None and path.exists():
            table = Table.read(path)
            if table.meta.get("CHECKSUM") == checksum:
                return table
            if "CHECKSUM" not in table.meta:
                raise FileExistsError(
                    f"{path} is not a ranking and will not be replaced. Choose another "
                    "folder, or remove it yourself."
                )
        predicted = None
        if self.distribution == "irf":
            predicted = self._predict_all(observations)
        table = rank_observations(
            target, self.index, self.criteria, self.kl_max, predicted, skip
        )
        table.meta.update(OBS_ID=int(target.obs_ids[0]), CHECKSUM=checksum)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(path, overwrite=True) as temporary:
                table.write(temporary)
        return table

    def _find_skipped(self, targets):
        """Criteria that cannot be applied, with one warning for all targets."""
        return self.criteria.check_columns(targets.conditions, self.index.conditions)

    def _find_compared(self, target, observation, skip):
        """Find the target, and the candidates that the criteria accept, by OBS_ID."""
        rejected = self.criteria.reject(
            target.conditions[0], self.index.conditions, skip
        )
        is_rejected = np.any(list(rejected.values()), axis=0)
        return {int(target.obs_ids[0]): observation} | {
            int(obs_id): get_off_observation(self.off_observations, obs_id)
            for obs_id in self.index.obs_ids[~is_rejected]
        }

    def _predict_all(self, observations):
        """Predict counts, of the target and of all candidates, NaN if not compared."""
        target, *candidates = (self._predict(*_) for _ in observations.items())
        predicted = np.full((len(self.index), *target.shape), np.nan)
        if candidates:
            rows = np.searchsorted(self.index.obs_ids, list(observations)[1:])
            predicted[rows] = candidates
        return target, predicted

    def _predict(self, obs_id, observation):
        """Predict counts by the background IRF, which is read when it has changed."""
        stamp = get_background_stamp(observation)
        known = self._predicted.get(obs_id)
        if known is None or known[0] != stamp:
            shape = self.index.binning.shape
            predicted = np.zeros(shape)
            if stamp is not None:
                axes = self.index.energy_axis, self.index.offset_axis
                predicted = predict_counts(observation.bkg, *axes)
            known = self._predicted[obs_id] = stamp, predicted
        return known[1]

    def _make_index(self, observations, **kwargs):
        return OffIndex.create(
            observations,
            energy_axis=self.energy_axis,
            offset_axis=self.offset_axis,
            exclusion_regions=self._get_exclusion_regions(),
            **kwargs,
        )

    def _get_exclusion_regions(self):
        """Exclusion regions, those of the index if there are no others."""
        if self.exclusion_regions is not None:
            return self.exclusion_regions
        return () if self._index is None else self._index.exclusion_regions

    def _make_target_index(self, observations, **kwargs):
        """Index of targets, in the bins of the OFF observations."""
        return self.index.update(Observations(list(observations)), **kwargs)

    def _check_index(self, index):
        """Check that what else is given agrees with the index."""
        for name in ("energy_axis", "offset_axis"):
            axis, own = getattr(self, name), getattr(index, name)
            if axis is not None and not own.is_allclose(axis, rtol_axes=1e-6):
                raise ValueError(
                    f"{name} differs from that of the index. Leave it out, or make "
                    "the index with it."
                )
        if self.exclusion_regions is None:
            return
        own = regions_to_text(check_regions(self.exclusion_regions))
        if own != regions_to_text(index.exclusion_regions):
            raise ValueError(
                f"The {len(self.exclusion_regions)} exclusion_regions are not those of "
                f"the index, which has {len(index.exclusion_regions)}. Leave them out, "
                "or make the index with them."
            )


def _select_known_livetime(table):
    """Leave out the OFF observations whose livetime is not known."""
    is_known = table["LIVETIME"] > 0
    if not is_known.all():
        obs_ids = table["OFF_OBS_ID"][~is_known].tolist()
        log.warning(
            f"The livetime of OBS_ID {shorten(obs_ids)} is not known, neither from the "
            "observation table nor from its files. Not used, because of time_request."
        )
    if not is_known.any():
        raise ValueError(
            "time_request needs the livetime of OFF observations, of which none has "
            "one. Set LIVETIME in the observation table, or time_request=None."
        )
    return table[is_known]


def _warn_of_changed(index, off_observations):
    """Warn of files that are others now: rankings are by the index alone."""
    changed = index.find_changed(off_observations)
    if changed:
        log.warning(
            f"The files of OBS_ID {shorten(changed)} have changed since the index was "
            "made, which is used as it is. Use index.update(off_observations)."
        )


def _restrict(index, off_observations):
    """Index of the observations of a pool, and no others."""
    names = getattr(off_observations, "obs_ids", None)
    if names is None:
        names = [_.obs_id for _ in off_observations]
    wanted = np.isin(index.obs_ids, to_obs_ids(names))
    if not wanted.any():
        raise ValueError("The index has none of the off_observations.")
    return index if wanted.all() else index.select(index.obs_ids[wanted])


def _describe_failure(tables):
    """Why there is no candidate in any of these rankings."""
    reasons = [
        name
        for table in tables
        for row in table["REASONS"]
        for name in str(row).split(", ")
        if name
    ]
    text = describe_rejections(Counter(reasons), sum(len(_) for _ in tables))
    accepted = [_["KL_CORR"][_["STATUS"] != "rejected"] for _ in tables]
    best = np.min(np.concatenate(accepted), initial=np.inf)
    if np.isfinite(best):
        text += f" The best KL_CORR of the others is {best:.3g}."
    return text


_PLAN_COLUMNS = (
    "KL_DIV",
    "KL_CORR",
    "P_VALUE",
    "DELTA_RMS",
    "LIVETIME_RATIO",
    "DELTA_ZENITH",
    "STATUS",
)


def _check_overlap(obs_id, selected, used):
    overlap = sorted({int(_) for _ in used if _ != NO_PARTNER} & set(selected))
    if overlap:
        raise ValueError(
            f"OBS_ID {obs_id} is a mimic of OFF observations {overlap}, which the "
            "template would be made of. Use MimicMaker(background=selector), or "
            "exclude all OFF observations of the mimic set."
        )
