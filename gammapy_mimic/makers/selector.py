"""Select OFF observations by their background, and make templates from them."""

import copy
import functools
import numbers
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table
from gammapy.data import DataStore, Observation
from gammapy.irf import Background2D, Background3D
from gammapy.makers import MapDatasetMaker
from gammapy.maps import MapAxis
from regions import SkyRegion

from ..data.obs_ids import get_obs_id, to_obs_ids
from ..data.observation import PoolLike, replace_background, to_pool
from ..data.template_irfs import make_template_columns
from ..exclusion.sky_regions import check_regions
from ..selection.assignment import check_draws
from ..selection.binning import FoVBinning
from ..selection.criteria import MatchCriteria
from ..selection.cuts import check_livetime, prepare_ranking
from ..selection.index import OffIndex
from ..selection.indexed_pool import IndexedPool
from ..selection.plan import MimicPlan, PlanLike
from ..selection.ranked_plan import make_ranked_plan
from ..selection.ranker import Failure, Ranker, describe_failure
from ..selection.ranking import KL_MAX, RANKINGS
from ..template.bins import TemplateBins
from ..template.counts import TemplateCounts
from ..template.fair import FairTemplates
from ..template.smoothing import check_smooth
from ..template.target import (
    WHOLE,
    get_halves,
    make_target_counts,
    make_target_template,
    merge_parts,
    select_ranked,
)
from .core import (
    NotTreatedError,
    ObservationMaker,
    check_dataset_maker,
    check_option,
    check_type,
)

__all__ = ["KLBackgroundSelector"]

POOL_PARAMETERS = (
    "off_observations",
    "index",
    "energy_axis",
    "offset_axis",
    "exclusion_regions",
)
"""Parameters of the pool, in the order of `IndexedPool`."""


def _check_axis(name, axis):
    if axis is not None:
        FoVBinning.create(**{name: axis})
    return axis


def _check_template_axes(axes):
    """Check a list of axes, which the dimension of the template has to fit."""
    if axes is None:
        return None
    is_list = isinstance(axes, list | tuple)
    if not is_list or not all(isinstance(_, MapAxis) for _ in axes):
        raise TypeError(f"template_axes must be a list of MapAxis, got {axes!r}")
    names = [_.name for _ in axes]
    if len({*names}) < len(names):
        raise ValueError(f"template_axes has a name twice, got {names}")
    return tuple(axes)


def _check_template_obs_ids(obs_ids):
    if obs_ids is None:
        return None
    obs_ids = tuple(to_obs_ids(obs_ids).tolist())
    if not obs_ids:
        raise ValueError("template_obs_ids is empty. None is what is selected.")
    return obs_ids


def _check_exclusion_regions(regions):
    """Check a list of regions, and make it one that is not changed in place."""
    if regions is None:
        return None
    check_regions(regions)
    return tuple(regions)


def _check_kl_max(value):
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if value is not None and not (is_number and value > 0):
        raise ValueError(f"kl_max must be a positive number, or None, got {value!r}")
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


def _check_plan(plan):
    return None if plan is None else MimicPlan.create(plan)


def _to_targets(observations):
    """Make a list of observations of one, of several, or of a datastore."""
    if isinstance(observations, Observation):
        observations = [observations]
    targets = to_pool(observations, "observations")
    if isinstance(targets, DataStore):
        # an event list and its GTI are enough
        return targets.get_observations(required_irf=[])
    return targets


class KLBackgroundSelector(ObservationMaker):
    """Find the OFF observations that may stand in for a target, and use them.

    Conditions choose, divergence vetoes. The nearest OFF observation is that whose
    conditions differ least, by their standardised distance
    (`~gammapy_mimic.selection.MatchCriteria`). Refused is one whose events in energy
    and offset differ from those of the target by too much, and significantly: by their
    Kullback-Leibler divergence, less the noise of counting
    (`~gammapy_mimic.selection.divergence.compare_counts`).

    As a maker it gives an observation, or in a chain a dataset, the background template
    made from the best OFF observations.

    Parameters
    ----------
    off_observations : `~gammapy.data.DataStore`, `~gammapy.data.Observations` or list
        OFF observations.
    criteria : `~gammapy_mimic.selection.MatchCriteria` or dict, optional
        What an OFF observation must have in common with the target.
    ranking : {"conditions", "kl"}, optional
        What puts OFF observations in order, the distance of conditions or the
        divergence. That by divergence chooses, of many, those whose *fluctuations* are
        most like the target's: mimics then scatter less than noise, and the p-value of
        a chosen pair is none. Templates are not biased by it, as the events of each OFF
        observation are halved: what is chosen by one half is filled from the other.
        Default is "conditions".
    energy_axis, offset_axis : `~gammapy.maps.MapAxis`, optional
        Bins in which observations are compared. Default are those of
        `~gammapy_mimic.selection.OffIndex`, or of ``index``.
    distribution : {"counts", "irf"}, optional
        Compare events, or the counts that the background IRFs predict. These have no
        noise, and no p-value. Default is "counts".
    exclusion_regions : list of `~regions.SkyRegion`, optional
        Sources in any of the fields, targets and OFF. Default are those of ``index``.
    kl_max : float, optional
        Largest divergence of a good pair, None if it may have any. What is above it by
        more than chance is refused, see `gammapy_mimic.selection.veto`. Default is
        0.00125, shapes that differ by 5% rms.
    time_request : `~astropy.units.Quantity` or str, optional
        Livetime to stack into a template. OFF observations whose livetime is not known
        are then not used, with a warning. Default is None, all good observations.
    background : {"2d", "3d"}, optional
        Dimension of the template. Default is "2d".
    smooth : {None, "gauss", "poly", "spline"}, optional
        Smoothing of the template. Default is None.
    smooth_options : dict, optional
        Option of the smoothing, such as ``{"sigma": "0.2 deg"}``, see
        `~gammapy_mimic.template.smoothing.smooth_ratio`.
    template_axes : list of `~gammapy.maps.MapAxis`, optional
        Bins of the template: "energy", and "offset" or "fov_lon" and "fov_lat", or some
        of them. Default are those of `~gammapy_mimic.template.make_template_counts`.
    template_obs_ids : list of int, optional
        OFF observations that the template is made of, whatever their rank, but for the
        target itself and those of its mimic set. Default is to select them.
    keep_empty : bool, optional
        Whether the template has energy bins without exposure, see
        `~gammapy_mimic.template.make_template`. Default is False.
    plan : `~gammapy_mimic.selection.MimicPlan`, optional
        Plan, or what `~gammapy_mimic.selection.MimicPlan.create` takes, whose mimic
        sets are compared with these templates. All of a target then are of the same
        number of OFF observations, see `~gammapy_mimic.template.fair`. `MimicMaker`
        sets its own. Default is None.
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
    available_rankings = RANKINGS
    available_distributions = ("counts", "irf")
    available_backgrounds = ("2d", "3d")
    available_smooth = (None, "gauss", "poly", "spline")
    checks = MappingProxyType(
        {
            "off_observations": to_pool,
            "criteria": MatchCriteria.create,
            "ranking": check_option("ranking", available_rankings),
            "energy_axis": functools.partial(_check_axis, "energy_axis"),
            "offset_axis": functools.partial(_check_axis, "offset_axis"),
            "distribution": check_option("distribution", available_distributions),
            "exclusion_regions": _check_exclusion_regions,
            "kl_max": _check_kl_max,
            "time_request": _check_time_request,
            "background": check_option("background", available_backgrounds),
            "smooth": check_option("smooth", available_smooth),
            "smooth_options": lambda options: options,
            "template_axes": _check_template_axes,
            "template_obs_ids": _check_template_obs_ids,
            "keep_empty": check_option("keep_empty", (False, True)),
            "plan": _check_plan,
            "index": check_type("index", "an OffIndex", OffIndex),
            "dataset_maker": check_dataset_maker,
        }
    )

    def __init__(
        self,
        off_observations: PoolLike,
        criteria: MatchCriteria | Mapping[str, Any] | None = None,
        ranking: str = "conditions",
        energy_axis: MapAxis | None = None,
        offset_axis: MapAxis | None = None,
        distribution: str = "counts",
        exclusion_regions: Iterable[SkyRegion] | None = None,
        kl_max: float | None = KL_MAX,
        time_request: u.Quantity | str | None = None,
        background: str = "2d",
        smooth: str | None = None,
        smooth_options: dict[str, Any] | None = None,
        template_axes: Sequence[MapAxis] | None = None,
        template_obs_ids: Iterable[int] | None = None,
        keep_empty: bool = False,
        plan: PlanLike | None = None,
        index: OffIndex | None = None,
        dataset_maker: MapDatasetMaker | None = None,
    ) -> None:
        self._set(
            off_observations=off_observations,
            criteria=criteria,
            ranking=ranking,
            energy_axis=energy_axis,
            offset_axis=offset_axis,
            distribution=distribution,
            exclusion_regions=exclusion_regions,
            kl_max=kl_max,
            time_request=time_request,
            background=background,
            smooth=smooth,
            smooth_options=smooth_options,
            template_axes=template_axes,
            template_obs_ids=template_obs_ids,
            keep_empty=keep_empty,
            plan=plan,
            index=index,
            dataset_maker=dataset_maker,
        )

    def _update(self, changed):
        if changed & set(POOL_PARAMETERS):
            # of the index the one that was given, not the one that it is made into
            self._pool = IndexedPool(*(self.__dict__[_] for _ in POOL_PARAMETERS))
        if changed & {"background", "template_axes"}:
            self._check_bins()
        check_smooth(self.smooth, self.smooth_options)
        # templates of the last plan
        self._fair = None

    def _check_bins(self):
        """Raise an error if the axes of the template are not those of its dimension."""
        axes = {_.name: _ for _ in self.template_axes or ()}
        TemplateBins.create(self.background, **axes)

    @property
    def index(self) -> OffIndex:
        """Index of the OFF observations (`~gammapy_mimic.selection.OffIndex`)."""
        return self._pool.index

    @property
    def _ranker(self):
        options = self.kl_max, self.distribution, self.ranking
        return Ranker(self._pool, self.criteria, *options)

    def make_index(
        self,
        path: str | Path | None = None,
        n_jobs: int | None = None,
        parallel_backend: str | None = None,
    ) -> OffIndex:
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
        self._pool.make_index(path, n_jobs=n_jobs, parallel_backend=parallel_backend)
        return self.index

    def rank(self, observation: Observation, path: str | Path | None = None) -> Table:
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
        return self._ranker.rank(observation, path)

    def select(self, observation: Observation, exclude: Sequence[int] = ()) -> Table:
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
            Rows of `rank`, up to the livetime asked for, with ``HALF``: -1, or with the
            ranking "kl" the half of the events that is used if it is not all, 0 or 1.
            ``ONTIME`` and ``LIVETIME`` are those that are used.

        Raises
        ------
        ValueError
            If there is no good OFF observation, or with a ``plan`` too few.
        """
        if self.plan is not None and len(exclude) == 0:
            return self._select_fairly(observation, self.plan)
        rankings = self._ranker.rank_all_parts(observation)
        selected = merge_parts(
            {
                half: select_ranked(table, exclude, self.time_request)
                for half, table in rankings.items()
            }
        )
        if len(selected) == 0:
            reason = describe_failure([Failure.create(_) for _ in rankings.values()])
            raise NotTreatedError(
                f"There is no good OFF observation for OBS_ID {observation.obs_id}. "
                f"{reason} kl_max is {self.kl_max}."
            )
        return selected

    def _get_fair(self, plan):
        """Get what goes into the templates that are compared in a plan."""
        if self._fair is None or self._fair.plan is not plan:
            self._fair = FairTemplates(self._ranker, plan, self.time_request)
        return self._fair

    def _select_fairly(self, observation, plan, mimic_set=None):
        family = self._get_fair(plan).find(observation)
        reason = family.explain(mimic_set)
        if reason is not None:
            raise NotTreatedError(reason)
        return family.select(mimic_set)

    def make_plan(
        self,
        observations: PoolLike | Observation,
        n_sets: int = 5,
        randomise: bool = True,
        random_state: int = 0,
        n_best: int | None = None,
        path: str | Path | None = None,
        n_jobs: int | None = None,
        livetime: str = "cut",
    ) -> MimicPlan:
        """Make the plan that pairs targets with OFF observations.

        Partners are drawn, the nearer the more often (odds of ``exp(-DISTANCE**2 / 2)``
        with the ranking "conditions", equal ones with "kl"), or are the nearest. A pair
        with the status "large_kl" is refused. If all candidates of a target are, the
        nearest of them is its partner, and the target is ``questionable``.

        Parameters
        ----------
        observations : `~gammapy.data.Observations`, list or datastore
            Target observations, or one of them: whatever ``off_observations`` may be,
            or an `~gammapy.data.Observation`.
        n_sets : int, optional
            Number of mimic sets. Default is 5.
        randomise : bool, optional
            Whether to draw among the candidates, or to take the nearest.
            Default is True.
        random_state : int, optional
            Seed. Default is 0.
        n_best : int, optional
            Number of candidates to draw from, the nearest. Default is all.
        path : str or `~pathlib.Path`, optional
            Folder to keep the table of each target in, see `rank`. Default is None.
        n_jobs : int, optional
            Number of processes that read targets. Default is that of
            `gammapy.utils.parallel`, 1.
        livetime : {"cut", "whole"}, optional
            Whether an OFF observation that is longer than its target is cut to the
            target's livetime: to a part of its good time that is drawn by the seed,
            with or without ``randomise``. Or whether all are used whole, and those that
            are longer by more than the criterion of the livetime are refused. Default
            is "cut". An observation whose livetime is not known is used whole.

        Returns
        -------
        plan : `~gammapy_mimic.selection.MimicPlan`
            Plan. Targets without partner have the status "no_mimic".

        Raises
        ------
        TypeError, ValueError
            If there is no candidate for any target, or an option is not valid.
        """
        check_livetime(livetime)
        check_draws(n_sets, n_best, random_state)
        observations = _to_targets(observations)
        rankings = self._ranker.rank_all(observations, path, n_jobs)
        options = livetime, self.criteria.livetime
        return make_ranked_plan(
            (prepare_ranking(_, *options) for _ in rankings),
            self.ranking,
            n_targets=len(observations),
            n_sets=n_sets,
            randomise=randomise,
            random_state=random_state,
            n_best=n_best,
            livetime=livetime,
        )

    def make_background(
        self,
        observation: Observation,
        exclude: Sequence[int] = (),
        obs_ids: Iterable[int] | None = None,
    ) -> Background2D | Background3D:
        """Make the background template for a target.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Target observation.
        exclude : list of int, optional
            OFF observations not to use. Default is none. If there are any, the ``plan``
            does not matter.
        obs_ids : list of int, optional
            OFF observations to use instead of the selected ones, but for those that are
            excluded and the target itself. Default is ``template_obs_ids``.

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
        selected = self._choose(observation, exclude, obs_ids)
        return self._make_template(observation, selected)

    def make_mimic_background(
        self,
        observation: Observation,
        mimic: Observation,
        plan: MimicPlan,
        mimic_set: int,
    ) -> Background2D | Background3D:
        """Make the background template for a mimic.

        It is for the conditions of the OFF observation whose events the mimic has, and
        without all OFF observations of the mimic set.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Target observation.
        mimic : `~gammapy.data.Observation`
            Its mimic.
        plan : `~gammapy_mimic.selection.MimicPlan`
            Plan.
        mimic_set : int
            Mimic set.

        Returns
        -------
        bkg : `~gammapy.irf.Background2D` or `~gammapy.irf.Background3D`
            Background template for the dead time of the mimic.

        Raises
        ------
        ValueError
            If there are too few good OFF observations, for the mimic or for the target.
        """
        if self.template_obs_ids is not None:
            return self.make_background(mimic, plan.off_obs_ids(mimic_set))
        selected = self._select_fairly(observation, plan, mimic_set)
        return self._make_template(mimic, selected)

    def make_template_table(self, observations: Iterable[Observation]) -> Table:
        """Tell what the templates of targets and of the mimics of the ``plan`` are of.

        Parameters
        ----------
        observations : list of `~gammapy.data.Observation`
            Target observations.

        Returns
        -------
        table : `~astropy.table.Table`
            See `~gammapy_mimic.template.fair.FairTemplates.make_table`.

        Raises
        ------
        ValueError
            If there is no ``plan``.
        """
        if self.plan is None:
            raise ValueError(
                "Templates are compared by the mimic sets of a plan, of which the "
                "selector has none. Set its plan."
            )
        return self._get_fair(self.plan).make_table(observations)

    def _make_template(self, observation, selected):
        return make_target_template(
            observation,
            self._pool,
            smooth=self.smooth,
            smooth_options=self.smooth_options,
            keep_empty=self.keep_empty,
            **self._get_count_options(selected),
        )

    def make_template_counts(
        self,
        observation: Observation,
        exclude: Sequence[int] = (),
        obs_ids: Iterable[int] | None = None,
    ) -> TemplateCounts:
        """Count what the background template for a target is made of.

        To have it raw and smooth, without reading twice.

        Parameters
        ----------
        observation, exclude, obs_ids
            As for `make_background`.

        Returns
        -------
        counts : `~gammapy_mimic.template.TemplateCounts`
            Counts and exposure, of which ``to_irf`` makes a template.

        Raises
        ------
        ValueError
            As `make_background`.
        """
        selected = self._choose(observation, exclude, obs_ids)
        options = self._get_count_options(selected)
        return make_target_counts(observation, self._pool, **options)

    def _get_count_options(self, selected):
        """Get what is counted in which bins, as `make_target_counts` has it."""
        axes = {f"{_.name}_axis": _ for _ in self.template_axes or ()}
        return {
            "obs_ids": selected["OFF_OBS_ID"].tolist(),
            "halves": get_halves(selected),
            "dimension": self.background,
            **axes,
        }

    def _choose(self, observation, exclude, obs_ids):
        """Choose the OFF observations of the template, or the halves of their events.

        Table with OFF_OBS_ID and HALF.
        """
        obs_ids = self.template_obs_ids if obs_ids is None else obs_ids
        if obs_ids is None:
            return self.select(observation, exclude)
        obs_ids = to_obs_ids(obs_ids).tolist()
        # what is looked for would be in the template
        left_out = {*to_obs_ids(exclude).tolist(), get_obs_id(observation)}
        kept = [_ for _ in obs_ids if _ not in left_out]
        if not kept:
            raise NotTreatedError(
                f"All of {obs_ids}, the OFF observations given for the template of "
                f"OBS_ID {observation.obs_id}, are excluded, or are itself."
            )
        return Table({"OFF_OBS_ID": kept, "HALF": np.full(len(kept), WHOLE)})

    def make_observation(self, observation: Observation) -> Observation:
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

    def make_columns(self, observation: Observation | None) -> dict[str, Any]:
        """Make the columns of a meta table that tell what a template is made of.

        Parameters
        ----------
        observation : `~gammapy.data.Observation` or None
            Observation with a template. None if there is none.

        Returns
        -------
        columns : dict
            See `~gammapy_mimic.data.template_irfs.make_template_columns`.
        """
        return make_template_columns(observation)
