"""The plan of a mimic analysis: which OFF observation stands in for which target."""

import contextlib
import itertools
import logging
from collections import Counter

import numpy as np
from astropy.table import Table
from gammapy.utils.scripts import make_path
from scipy.optimize import linear_sum_assignment

from ..data.columns import split_missing
from ..data.cut import check_cut
from ..data.events import get_unit_factor, read_column
from ..data.obs_ids import NO_PARTNER, to_obs_id, to_obs_ids
from ..utils.checks import check_integer
from ..utils.files import replace_file
from ..utils.random import random_generator
from .conditions import Conditions
from .criteria import MatchCriteria, describe_rejections
from .cuts import check_livetime, draw_cuts, get_ontime, is_too_long
from .plan_summary import summarise_plan

__all__ = ["MimicPlan", "assign_partners", "check_draws"]

log = logging.getLogger(__name__)


P_VALUE_UNLIKE = 0.001
"""P-value below which a pair differs for certain."""

STATUSES = ("ok", "differs", "undecided", "large_kl", "no_mimic")
"""What may be said of a pair, see `~gammapy_mimic.selection.ranking.find_status`."""

MINIMUM = {"OBS_ID": 0, "OFF_OBS_ID": NO_PARTNER, "MIMIC_SET": 1}

COLUMNS = {
    "OBS_ID": (int, None),
    "MIMIC_SET": (int, None),
    "OFF_OBS_ID": (int, None),
    "KL_DIV": (float, None),
    "KL_CORR": (float, None),
    "P_VALUE": (float, None),
    "DELTA_RMS": (float, None),
    "ONTIME": (float, "s"),
    "LIVETIME": (float, "s"),
    "LIVETIME_RATIO": (float, None),
    "RATE_RATIO": (float, None),
    "DELTA_ZENITH": (float, "deg"),
    "DISTANCE": (float, None),
    "ENERGY_MIN": (float, "TeV"),
    "CUT_START": (float, "s"),
    "CUT_STOP": (float, "s"),
    "STATUS": (str, None),
}


class MimicPlan:
    """Which OFF observation stands in for which target observation.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Plan. Needs the columns ``OBS_ID`` and ``OFF_OBS_ID`` (-1: no partner), others
        are filled: ``MIMIC_SET`` with 1, ``STATUS`` with "ok" or "no_mimic", numbers
        with NaN, as all are of a row without partner. ``ONTIME`` (good time) and
        ``LIVETIME`` are those of the whole OFF observation, ``LIVETIME_RATIO`` and
        ``RATE_RATIO`` are OFF over target,
        ``DELTA_ZENITH`` is OFF minus target. ``ENERGY_MIN`` is the higher of both
        thresholds. ``CUT_START`` and ``CUT_STOP`` tell which part of the good time of
        the OFF observation is used, NaN: all of it.

    Raises
    ------
    ValueError
        If a column is missing, a number or a status is not valid, the status is
        "no_mimic" but there is a partner, a target has two partners in one set, an
        observation is its own partner, an OFF observation is used twice in one set, or
        a part is none of the good time of the OFF observation.
    """

    def __init__(self, table):
        missing = {"OBS_ID", "OFF_OBS_ID"} - set(table.colnames)
        if missing:
            raise ValueError(f"The plan has no column {sorted(missing)}.")
        # a new one, as that of the user may have masks and is not changed
        self.table = Table(meta=dict(table.meta))
        for name, (dtype, unit) in COLUMNS.items():
            self.table[name] = _fill_column(table, name, dtype, unit)
            self.table[name].unit = unit
            if dtype is float:
                self.table[name].info.format = ".4g"
        has_partner = self.table["OFF_OBS_ID"] != NO_PARTNER
        _check_status(self.table[has_partner], np.flatnonzero(has_partner))
        self.table["STATUS"][~has_partner] = "no_mimic"
        # who takes a partner away by hand leaves its numbers
        for name, (dtype, _) in COLUMNS.items():
            if dtype is float:
                self.table[name][~has_partner] = np.nan
        _check_cuts(self.table)

        own = self.table["OBS_ID"] == self.table["OFF_OBS_ID"]
        if own.any():
            obs_ids = np.unique(self.table["OBS_ID"][own]).tolist()
            raise ValueError(f"OBS_ID {obs_ids}: an observation cannot mimic itself.")
        _check_once(self.table, "OBS_ID", "has more than one partner")
        _check_once(self.table[has_partner], "OFF_OBS_ID", "is used more than once")
        self.table.sort(["MIMIC_SET", "OBS_ID"])

    @classmethod
    def create(cls, plan):
        """Create a plan from what a user may have.

        Parameters
        ----------
        plan : `MimicPlan`, `~astropy.table.Table`, dict, str or `~pathlib.Path`
            Plan, its table, ``{obs_id: off_obs_id}``, or a file.

        Returns
        -------
        plan : `MimicPlan`
            Plan.
        """
        if isinstance(plan, cls):
            return plan
        if isinstance(plan, dict):
            # -1 for a target that shall have no partner
            columns = (to_obs_ids(plan), to_obs_ids(plan.values(), NO_PARTNER))
            return cls(Table(columns, names=["OBS_ID", "OFF_OBS_ID"]))
        if isinstance(plan, Table):
            return cls(plan)
        return cls.read(plan)

    @classmethod
    def from_obs_tables(
        cls,
        obs_table,
        off_table,
        criteria=None,
        n_sets=5,
        randomise=True,
        n_best=None,
        random_state=0,
        livetime="cut",
    ):
        """Make a plan from observation tables, by conditions alone: no file is read.

        Partners are the nearest by `MatchCriteria.get_distances`, or drawn, the nearer
        the more often, with odds of ``exp(-DISTANCE**2 / 2)``.

        Parameters
        ----------
        obs_table, off_table : `~gammapy.data.ObservationTable`
            Observation tables of the targets and of the OFF observations.
        criteria : `MatchCriteria` or dict, optional
            What OFF observations must have in common with their target.
        n_sets : int, optional
            Number of mimic sets. Default is 5.
        randomise : bool, optional
            Whether to draw among the candidates, or to take the nearest.
            Default is True.
        n_best : int, optional
            Number of candidates to draw from, the nearest. Default is all.
        random_state : int, optional
            Seed. Default is 0.
        livetime : {"cut", "whole"}, optional
            Whether an OFF observation that is longer than its target is cut to the
            target's livetime: to a part of its good time that is drawn by the seed,
            with or without ``randomise``. Or whether all are used whole, and those that
            are longer by more than the criterion of the livetime are refused. Default
            is "cut". An observation whose livetime is not known is used whole.

        Returns
        -------
        plan : `MimicPlan`
            Plan. Targets without partner have the status "no_mimic".

        Raises
        ------
        ValueError
            If there is no candidate for any target, or an option is not valid.
        """
        check_livetime(livetime)
        check_draws(n_sets, n_best, random_state)
        criteria = MatchCriteria.create(criteria)
        # sorted, so that the plan does not depend on the order of the tables
        targets = _sort(Conditions.from_obs_table(obs_table))
        off = _sort(Conditions.from_obs_table(off_table))
        columns = {}
        if targets.livetime is not None and off.livetime is not None:
            columns["LIVETIME_RATIO"] = off.livetime / targets.livetime[:, np.newaxis]
            shape = columns["LIVETIME_RATIO"].shape
            ontime = get_ontime(off_table)[np.argsort(to_obs_ids(off_table["OBS_ID"]))]
            columns["LIVETIME"] = np.broadcast_to(off.livetime, shape)
            columns["ONTIME"] = np.broadcast_to(ontime, shape)
        if targets.elevation is not None and off.elevation is not None:
            columns["DELTA_ZENITH"] = targets.elevation[:, np.newaxis] - off.elevation
        cost = rank_by_conditions(targets, off, criteria, livetime)
        columns["DISTANCE"] = np.where(np.isfinite(cost), cost, np.nan)
        return cls.from_cost(
            targets.obs_id,
            off.obs_id,
            cost,
            columns,
            n_sets=n_sets,
            randomise=randomise,
            n_best=n_best,
            log_odds=get_log_odds(cost),
            random_state=random_state,
            livetime=livetime,
        )

    @classmethod
    def from_cost(
        cls,
        obs_ids,
        off_obs_ids,
        cost,
        columns=None,
        random_state=0,
        livetime="cut",
        **options,
    ):
        """Make a plan from the cost of every pair.

        A warning tells if the sets share much of their OFF observations.

        Parameters
        ----------
        obs_ids : `~numpy.ndarray` of int
            Target observation IDs. Shape (n_targets,).
        off_obs_ids : `~numpy.ndarray` of int
            OFF observation IDs. Shape (n_off,).
        cost : `~numpy.ndarray`
            Cost of each pair, inf where rejected. Shape (n_targets, n_off).
        columns : dict of `~numpy.ndarray`, optional
            Values of each pair for other columns of the plan, of the same shape.
        random_state : int, optional
            Seed. Default is 0.
        livetime : {"cut", "whole"}, optional
            Whether OFF observations are cut to the livetime of their target, where
            ``columns`` has ``ONTIME``, ``LIVETIME`` and ``LIVETIME_RATIO``. Default is
            "cut".
        **options : dict, optional
            Options of `assign_partners`.

        Returns
        -------
        plan : `MimicPlan`
            Plan. Targets without partner have the status "no_mimic".
        """
        partners = assign_partners(cost, obs_ids, random_state=random_state, **options)
        n_sets, n_targets = partners.shape
        idx, idx_off = np.tile(np.arange(n_targets), n_sets), partners.ravel()
        # -1 as an index is the last one, whose values are replaced
        has_partner = idx_off != NO_PARTNER
        table = Table(
            {
                "OBS_ID": obs_ids[idx],
                "MIMIC_SET": np.repeat(np.arange(n_sets) + 1, n_targets),
                "OFF_OBS_ID": np.where(has_partner, off_obs_ids[idx_off], NO_PARTNER),
            }
        )
        for name, values in (columns or {}).items():
            blank = "no_mimic" if name == "STATUS" else np.nan
            table[name] = np.where(has_partner, values[idx, idx_off], blank)
        needed = {"ONTIME", "LIVETIME", "LIVETIME_RATIO"}
        if livetime == "cut" and needed <= {*table.colnames}:
            cuts = draw_cuts(table, random_state)
            table["CUT_START"], table["CUT_STOP"] = cuts
        table.meta["MIM_SEED"] = int(random_state)
        plan = cls(table)
        plan.warn_of_sharing()
        return plan

    @classmethod
    def read(cls, path, obs_ids=None, off_obs_ids=None):
        """Read a plan from an ECSV or FITS file.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            File.
        obs_ids, off_obs_ids : `~numpy.ndarray` of int, optional
            Targets and OFF observations that there are. Default is not to check it.

        Returns
        -------
        plan : `MimicPlan`
            Plan.

        Raises
        ------
        ValueError
            If a row is not valid, or names an observation that is not there. Gives row
            and column.
        """
        path, table = make_path(path), None
        try:
            table = Table.read(path)
        except ValueError:
            # a number of a wrong kind, which astropy does not say where it is
            with contextlib.suppress(Exception):
                table = Table.read(path, format="ascii", fast_reader=False)
            if table is None:
                raise
        known = {
            "OBS_ID": (obs_ids, "the targets"),
            "OFF_OBS_ID": (off_obs_ids, "the OFF observations"),
        }
        for name, (values, what) in known.items():
            if values is None or name not in table.colnames:
                continue
            found = _get_integers(table, name)
            rows = np.nonzero(~np.isin(found, [*values, NO_PARTNER]))[0]
            if len(rows):
                raise ValueError(
                    f"row {rows[0] + 1}, {name}: OBS_ID {found[rows[0]]} is not among "
                    f"{what}, or was left out as broken. Change or remove the row."
                )
        return cls(table)

    def write(self, path, overwrite=False):
        """Write the plan to an ECSV or FITS file.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            File, its ending tells the format.
        overwrite : bool, optional
            Whether to replace an existing file. Default is False.
        """
        with replace_file(path, overwrite) as temporary:
            self.table.write(temporary)

    def __len__(self):
        return len(self.table)

    def __str__(self):
        n_targets = len(np.unique(self.table["OBS_ID"]))
        return (
            f"MimicPlan({n_targets} targets, {len(self.sets)} sets, "
            f"{len(self.questionable)} questionable)"
        )

    @property
    def sets(self):
        """Mimic sets as a list of int."""
        return [int(_) for _ in np.unique(self.table["MIMIC_SET"])]

    @property
    def seed(self):
        """Seed with which the partners were drawn, None if not known."""
        return self.table.meta.get("MIM_SEED")

    @property
    def questionable(self):
        """Targets to look at, as a list of ``(obs_id, reason)``.

        The reason is "no_mimic" or "large_kl".
        """
        rows = {
            (int(row["OBS_ID"]), str(row["STATUS"]))
            for row in self.table
            if row["STATUS"] in ("no_mimic", "large_kl")
        }
        return sorted(rows)

    @property
    def unlike(self):
        """Targets that differ from all their partners, as a list of OBS_ID.

        By more than chance does in one of 1000.
        """
        is_known = self.table["OFF_OBS_ID"] != NO_PARTNER
        obs_ids = np.asarray(self.table["OBS_ID"])
        is_alike = ~(self.table["P_VALUE"] < P_VALUE_UNLIKE)
        return np.setdiff1d(obs_ids[is_known], obs_ids[is_known & is_alike]).tolist()

    @property
    def reuse(self):
        """Number of sets that an OFF observation is in, by its ID (Counter)."""
        partners = [self.off_obs_ids(mimic_set) for mimic_set in self.sets]
        return Counter(itertools.chain.from_iterable(partners))

    def off_obs_ids(self, mimic_set):
        """OFF observations of a mimic set.

        Parameters
        ----------
        mimic_set : int
            Mimic set.

        Returns
        -------
        off_obs_ids : list of int
            OFF observation IDs, sorted.
        """
        return sorted(self.partners(mimic_set).values())

    def partners(self, mimic_set, questionable=True):
        """Partners of a mimic set.

        Parameters
        ----------
        mimic_set : int
            Mimic set.
        questionable : bool, optional
            Whether those with the status "large_kl" are among them. Default is True.

        Returns
        -------
        partners : dict of int
            OFF observation ID by target observation ID, without the targets that
            have no partner.

        Raises
        ------
        ValueError
            If the plan has no such set.
        """
        rows = self._get_rows(mimic_set)
        if not questionable:
            rows = rows[rows["STATUS"] != "large_kl"]
        pairs = zip(rows["OBS_ID"], rows["OFF_OBS_ID"], strict=True)
        return {int(obs_id): int(off) for obs_id, off in pairs if off != NO_PARTNER}

    def _get_rows(self, mimic_set):
        """Rows of a mimic set, an error if there is none."""
        if mimic_set not in self.sets:
            raise ValueError(
                f"The plan has no mimic set {mimic_set}, choose from {self.sets}."
            )
        return self.table[self.table["MIMIC_SET"] == mimic_set]

    def cuts(self, mimic_set):
        """Parts of OFF observations that a mimic set uses.

        Parameters
        ----------
        mimic_set : int
            Mimic set.

        Returns
        -------
        cuts : dict of tuple of float
            Begin and end of the part, in s of good time of the OFF observation, by
            target observation ID. Without the OFF observations that are used whole.

        Raises
        ------
        ValueError
            If the plan has no such set.
        """
        rows = self._get_rows(mimic_set)
        rows = rows[~np.isnan(rows["CUT_START"])]
        columns = (rows[name].tolist() for name in ("OBS_ID", "CUT_START", "CUT_STOP"))
        return {obs_id: tuple(cut) for obs_id, *cut in zip(*columns, strict=True)}

    def to_pairs(self, mimic_set=None):
        """Pairs of OBS_IDs, for another maker that works on pairs of observations.

        Parameters
        ----------
        mimic_set : int, optional
            Mimic set. Default is all of them.

        Returns
        -------
        pairs : list of tuple of int
            Target and OFF observation, without targets that have no partner.

        Raises
        ------
        ValueError
            If the plan has no such set.
        """
        sets = self.sets if mimic_set is None else [mimic_set]
        return [pair for _ in sets for pair in self.partners(_).items()]

    def make_summary(self):
        """Find what the plan is worth: OFF time, reuse, and what sets share.

        Returns
        -------
        summary : `~gammapy_mimic.selection.plan_summary.PlanSummary`
            Summary of all pairs but those with the status "large_kl", which are left
            out of all numbers. NaN for what is not known.
        """
        return summarise_plan(self.table)

    def warn_of_sharing(self):
        """Log a warning if sets share much, or have little OFF time."""
        warning = self.make_summary().warning
        if warning:
            log.warning(warning)

    def write_questionable(self, path, overwrite=False):
        """Write the table of `questionable`, with ``OBS_ID`` and ``REASON``.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            File, ECSV or FITS.
        overwrite : bool, optional
            Whether to replace an existing file. Default is False.

        Raises
        ------
        FileExistsError
            If the file exists and may not be replaced.
        """
        table = Table(
            rows=self.questionable or None,
            names=["OBS_ID", "REASON"],
            dtype=[int, "U10"],
        )
        with replace_file(path, overwrite) as temporary:
            table.write(temporary)

    def plot(self, ax=None):
        """Plot the plan: the partner of every target in every set.

        The colour is the difference of the zenith angles.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Axes. Default is the current one.

        Returns
        -------
        ax : `~matplotlib.axes.Axes`
            Axes.
        """
        # pyplot is loaded only when a plot is asked for
        from ..visualization import plot_plan

        return plot_plan(self, ax=ax)


def rank_by_conditions(targets, off, criteria, livetime="cut"):
    """Rank the OFF observations by their conditions.

    Parameters
    ----------
    targets, off : `~gammapy_mimic.selection.conditions.Conditions`
        Conditions of targets and of OFF observations.
    criteria : `~gammapy_mimic.selection.MatchCriteria`
        Criteria.
    livetime : {"cut", "whole"}, optional
        Whether OFF observations are cut, else those that are too long are rejected.

    Returns
    -------
    distance : `~numpy.ndarray`
        Distances, inf where rejected. Shape (n_targets, n_off).

    Raises
    ------
    ValueError
        If no candidate is left for any target.
    """
    # once, as it warns
    skip = criteria.check_columns(targets, off)
    distance = np.full((len(targets), len(off)), np.inf)
    removed = Counter()
    for idx in range(len(targets)):
        target = targets[idx]
        rejected = criteria.reject(target, off, skip)
        if livetime == "whole" and "livetime" in rejected:
            ratio = off.livetime / target.livetime
            rejected["livetime"] |= is_too_long(ratio, criteria.livetime)
        keep = ~np.any(list(rejected.values()), axis=0)
        distance[idx, keep] = criteria.get_distances(target, off)[keep]
        if not keep.any():
            counts = {name: int(np.sum(mask)) for name, mask in rejected.items()}
            removed.update(counts)
            log.warning(
                f"No OFF observation matches OBS_ID {target.obs_id}. "
                f"{describe_rejections(counts, len(off))}"
            )
    if not np.isfinite(distance).any():
        raise ValueError(
            f"No OFF observation matches any of the {len(targets)} targets. "
            f"{describe_rejections(removed, len(targets) * len(off))}"
        )
    return distance


def get_log_odds(distance):
    """Get the logarithm of the odds of being drawn, ``exp(-distance**2 / 2)``.

    Parameters
    ----------
    distance : `~numpy.ndarray`
        Distance of conditions. Any shape.

    Returns
    -------
    log_odds : `~numpy.ndarray`
        Relative to those of the other candidates of a target, however far all are.
    """
    return -(distance**2) / 2


def check_draws(n_sets, n_best, random_state):
    """Raise an error if these are no options of `assign_partners`."""
    check_integer("n_sets", n_sets)
    check_integer("random_state", random_state, minimum=0)
    if n_best is not None:
        check_integer("n_best", n_best)


def assign_partners(
    cost,
    obs_ids,
    n_sets=5,
    randomise=True,
    n_best=None,
    log_odds=None,
    random_state=0,
):
    """Assign OFF observations to targets, without reuse inside a mimic set.

    Every set is an assignment problem (`scipy.optimize.linear_sum_assignment`) that
    minimises, in this order: targets without partner, partners that are not among the
    best, pairs of earlier sets, OFF observations of earlier sets, and a random number
    (with `randomise`) or the cost. For one target, it draws by the odds.

    Parameters
    ----------
    cost : `~numpy.ndarray`
        Cost of each pair, inf where rejected. Shape (n_targets, n_off).
    obs_ids : `~numpy.ndarray`
        Target observation IDs, the seeds of the random numbers. Shape (n_targets,).
    n_sets : int, optional
        Number of sets. Default is 5.
    randomise : bool, optional
        Whether to draw among the best candidates of each target. Default is True.
    n_best : int or `~numpy.ndarray` of int, optional
        Number of best candidates, of all targets or of each. Default is all.
    log_odds : `~numpy.ndarray`, optional
        Logarithm of how often a candidate is drawn, over others. Shape
        (n_targets, n_off). Default is equal odds.
    random_state : int, optional
        Seed. Default is 0.

    Returns
    -------
    partners : `~numpy.ndarray` of int
        Index of the OFF observation, -1 for none. Shape (n_sets, n_targets).

    Raises
    ------
    ValueError
        If the number of sets or of candidates is no positive integer.
    """
    shape = cost.shape
    n_best = shape[1] if n_best is None else n_best
    check_draws(n_sets, np.min(n_best).item(), random_state)
    allowed = np.isfinite(cost)
    finite = np.where(allowed, cost, 0)
    normalised = (finite - finite.min()) / max(np.ptp(finite), 1e-300)
    rank = np.argsort(np.argsort(cost, axis=1, kind="stable"), axis=1, kind="stable")
    not_best = np.maximum(rank - np.reshape(n_best, (-1, 1)) + 1, 0)
    used = np.zeros(shape)

    # each level outweighs the sum of all lower ones, for every target at once
    reuse_off = shape[0] + 1
    reuse_pair = reuse_off * shape[0] * (n_sets + 1)
    worse = reuse_pair * shape[0] * (n_sets + 1)

    partners = np.full((n_sets, shape[0]), NO_PARTNER)
    for idx_set in range(n_sets):
        tie_breaker = normalised
        if randomise:
            # one of each target, so that another target changes none of its numbers
            generators = [
                random_generator(random_state, "MimicPlan", obs_id, idx_set + 1)
                for obs_id in obs_ids
            ]
            # of clocks that run at the rate of their odds, each is the first by them
            log_times = np.log([_.exponential(size=shape[1]) for _ in generators])
            if log_odds is not None:
                log_times -= log_odds
            log_times[~allowed] = np.inf
            # ranks keep the order where all are far away
            tie_breaker = np.argsort(np.argsort(log_times, axis=1), axis=1) / shape[1]
        total = tie_breaker + reuse_off * used.sum(axis=0) + reuse_pair * used
        total += worse * not_best
        total[~allowed] = (shape[0] + 1) * (total[allowed].max(initial=0) + 1)
        rows, columns = linear_sum_assignment(total)
        valid = allowed[rows, columns]
        partners[idx_set, rows[valid]] = columns[valid]
        used[rows[valid], columns[valid]] += 1
    return partners


def _sort(conditions):
    return conditions[np.argsort(conditions.obs_id)]


def _get_integers(table, name):
    """Integers of a column. An error names the row."""
    minimum = MINIMUM[name]
    try:
        return to_obs_ids(table[name], minimum)
    except ValueError:
        for idx, value in enumerate(table[name]):
            with contextlib.suppress(ValueError):
                if value is not np.ma.masked or minimum >= 0:
                    to_obs_id(value, minimum)
                continue
            raise ValueError(
                f"row {idx + 1}, {name}: {value} is not valid, an integer of {minimum} "
                "or more is needed."
            ) from None
        raise


def _get_floats(table, name, unit):
    """Numbers of a column, in a unit. An error names the row."""
    try:
        values = read_column(table, name)
    except ValueError:
        for idx in range(len(table)):
            try:
                read_column(table[idx : idx + 1], name)
            except ValueError:
                raise ValueError(
                    f"row {idx + 1}, {name}: {table[name][idx]} is not valid, a number "
                    "or nan is needed."
                ) from None
        raise
    own = table[name].unit
    return values if None in (own, unit) else values * get_unit_factor(name, own, unit)


def _check_cuts(table):
    """Check the parts of the OFF observations, as far as their good time is known."""
    columns = (table[name] for name in ("CUT_START", "CUT_STOP", "ONTIME"))
    for idx, values in enumerate(zip(*columns, strict=True)):
        try:
            check_cut(*values)
        except ValueError as error:
            raise ValueError(f"row {idx + 1}, {error}") from None


def _check_status(table, rows):
    """Raise an error if pairs, of these rows, have no partner by their status."""
    for idx in np.flatnonzero(table["STATUS"] == "no_mimic"):
        raise ValueError(
            f"row {rows[idx] + 1}, STATUS: 'no_mimic', but OFF_OBS_ID is "
            f"{table['OFF_OBS_ID'][idx]}. Set OFF_OBS_ID to {NO_PARTNER} to use no "
            "partner, or STATUS to 'ok'."
        )


def _get_statuses(table):
    """Statuses of the column, "ok" where it is blank. An error names the row."""
    values, is_missing = split_missing(table["STATUS"])
    values = np.char.strip(values.astype(str))
    values = np.where(is_missing | (values == ""), "ok", values)
    for idx in np.flatnonzero(~np.isin(values, STATUSES)):
        raise ValueError(
            f"row {idx + 1}, STATUS: {str(values[idx])!r} is not valid. Choose from "
            f"{STATUSES}."
        )
    return values


def _fill_column(table, name, dtype, unit):
    """Read a column of a plan, with defaults where it has none or is masked."""
    defaults = {int: 1, float: np.nan, str: "ok"}
    if name not in table.colnames:
        values = np.full(len(table), defaults[dtype])
    elif dtype is int:
        values = _get_integers(table, name)
    elif dtype is float:
        values = _get_floats(table, name, unit)
    else:
        values = _get_statuses(table)
    # room for every status
    return values.astype("U10") if dtype is str else values


def _check_once(table, name, what):
    pairs = Counter(zip(table["MIMIC_SET"], table[name], strict=True))
    for (mimic_set, obs_id), count in pairs.items():
        if count > 1:
            raise ValueError(
                f"{name} {obs_id} {what} in mimic set {mimic_set} of the plan."
            )
