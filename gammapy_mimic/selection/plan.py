"""The plan of a mimic analysis: which OFF observation stands in for which target."""

import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from astropy.table import Table
from gammapy.data import ObservationTable
from gammapy.utils.scripts import make_path
from matplotlib.axes import Axes

from ..data.obs_ids import NO_PARTNER, to_obs_ids
from ..utils.files import replace_file
from .assignment import assign_partners, check_draws
from .candidates import Candidates, find_candidates
from .conditions import Conditions
from .criteria import MatchCriteria
from .cuts import check_livetime, draw_cuts, get_ontime
from .plan_columns import (
    COLUMNS,
    check_cuts,
    check_once,
    check_status,
    fill_column,
    get_integers,
)
from .plan_summary import PlanSummary, summarise_plan

__all__ = ["MimicPlan", "PlanLike"]

log = logging.getLogger(__name__)


PAIR_COLUMNS = ("OBS_ID", "OFF_OBS_ID", "STATUS", "CUT_START", "CUT_STOP")
"""What makers need of a pair."""

P_VALUE_UNLIKE = 0.001
"""P-value below which a pair differs for certain."""


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

    _known = None

    def __init__(self, table: Table) -> None:
        missing = {"OBS_ID", "OFF_OBS_ID"} - set(table.colnames)
        if missing:
            raise ValueError(f"The plan has no column {sorted(missing)}.")
        # a new one, as that of the user may have masks and is not changed
        self.table = Table(meta=dict(table.meta))
        for name, (dtype, unit) in COLUMNS.items():
            self.table[name] = fill_column(table, name, dtype, unit)
            self.table[name].unit = unit
            if dtype is float:
                self.table[name].info.format = ".4g"
        has_partner = self.table["OFF_OBS_ID"] != NO_PARTNER
        check_status(self.table[has_partner], np.flatnonzero(has_partner))
        self.table["STATUS"][~has_partner] = "no_mimic"
        # who takes a partner away by hand leaves its numbers
        for name, (dtype, _) in COLUMNS.items():
            if dtype is float:
                self.table[name][~has_partner] = np.nan
        check_cuts(self.table)

        own = self.table["OBS_ID"] == self.table["OFF_OBS_ID"]
        if own.any():
            obs_ids = np.unique(self.table["OBS_ID"][own]).tolist()
            raise ValueError(f"OBS_ID {obs_ids}: an observation cannot mimic itself.")
        check_once(self.table, "OBS_ID", "has more than one partner")
        check_once(self.table[has_partner], "OFF_OBS_ID", "is used more than once")
        self.table.sort(["MIMIC_SET", "OBS_ID"])

    @classmethod
    def create(cls, plan: "PlanLike") -> "MimicPlan":
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
        if isinstance(plan, MimicPlan):
            return plan
        if isinstance(plan, Mapping):
            # -1 for a target that shall have no partner
            columns = (to_obs_ids(plan), to_obs_ids(plan.values(), NO_PARTNER))
            return cls(Table(columns, names=["OBS_ID", "OFF_OBS_ID"]))
        if isinstance(plan, Table):
            return cls(plan)
        return cls.read(plan)

    @classmethod
    def from_obs_tables(
        cls,
        obs_table: ObservationTable,
        off_table: ObservationTable,
        criteria: MatchCriteria | Mapping[str, Any] | None = None,
        n_sets: int = 5,
        randomise: bool = True,
        n_best: int | None = None,
        random_state: int = 0,
        livetime: str = "cut",
    ) -> Self:
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
        targets, off = (
            _[np.argsort(_.obs_id)]
            for _ in map(Conditions.from_obs_table, (obs_table, off_table))
        )
        ontime = get_ontime(off_table)[np.argsort(to_obs_ids(off_table["OBS_ID"]))]
        return cls.from_candidates(
            find_candidates(targets, off, criteria, livetime, ontime),
            off.obs_id,
            n_targets=len(targets),
            n_sets=n_sets,
            randomise=randomise,
            n_best=n_best,
            random_state=random_state,
            livetime=livetime,
        )

    @classmethod
    def from_candidates(
        cls,
        candidates: Iterable[Candidates],
        off_obs_ids: np.ndarray,
        random_state: int = 0,
        livetime: str = "cut",
        **options: Any,
    ) -> Self:
        """Make a plan from the candidates of every target.

        A warning tells if the sets share much of their OFF observations.

        Parameters
        ----------
        candidates : iterable of `~gammapy_mimic.selection.candidates.Candidates`
            Candidates of each target.
        off_obs_ids : `~numpy.ndarray` of int
            All OFF observations, rising. Shape (n_off,).
        random_state : int, optional
            Seed. Default is 0.
        livetime : {"cut", "whole"}, optional
            Whether OFF observations are cut to the livetime of their target, where
            the candidates have the columns ``ONTIME``, ``LIVETIME`` and
            ``LIVETIME_RATIO``. Default is "cut".
        **options : dict, optional
            Options of `~gammapy_mimic.selection.assignment.assign_partners`.

        Returns
        -------
        plan : `MimicPlan`
            Plan. Targets without partner have the status "no_mimic".
        """
        kept, partners = assign_partners(
            candidates, off_obs_ids, random_state=random_state, **options
        )
        blank = dict.fromkeys((name for _ in kept for name in _.columns), np.nan)
        blank |= {name: "no_mimic" for name in blank if name == "STATUS"}
        rows = []
        for mimic_set, chosen in enumerate(partners.tolist(), start=1):
            for target, row in zip(kept, chosen, strict=True):
                ids = {"OBS_ID": target.obs_id, "MIMIC_SET": mimic_set}
                if row == NO_PARTNER:
                    ids["OFF_OBS_ID"], values = NO_PARTNER, {}
                else:
                    ids["OFF_OBS_ID"] = target.off_obs_ids[row]
                    values = {name: _[row] for name, _ in target.columns.items()}
                rows.append(ids | blank | values)
        table = Table(rows)
        needed = {"ONTIME", "LIVETIME", "LIVETIME_RATIO"}
        if livetime == "cut" and needed <= {*table.colnames}:
            cuts = draw_cuts(table, random_state)
            table["CUT_START"], table["CUT_STOP"] = cuts
        table.meta["MIM_SEED"] = int(random_state)
        plan = cls(table)
        plan.warn_of_sharing()
        return plan

    @classmethod
    def read(
        cls,
        path: str | Path,
        obs_ids: Iterable[int] | None = None,
        off_obs_ids: Iterable[int] | None = None,
    ) -> Self:
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
            found = get_integers(table, name)
            rows = np.nonzero(~np.isin(found, [*values, NO_PARTNER]))[0]
            if len(rows):
                raise ValueError(
                    f"row {rows[0] + 1}, {name}: OBS_ID {found[rows[0]]} is not among "
                    f"{what}, or was left out as broken. Change or remove the row."
                )
        return cls(table)

    def write(self, path: str | Path, overwrite: bool = False) -> None:
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

    def __len__(self) -> int:
        return len(self.table)

    def __str__(self) -> str:
        n_targets = len(np.unique(self.table["OBS_ID"]))
        return (
            f"MimicPlan({n_targets} targets, {len(self.sets)} sets, "
            f"{len(self.questionable)} questionable)"
        )

    @property
    def sets(self) -> list[int]:
        """Mimic sets as a list of int."""
        return sorted(self._pairs)

    @property
    def seed(self) -> int | None:
        """Seed with which the partners were drawn, None if not known."""
        return self.table.meta.get("MIM_SEED")

    @property
    def questionable(self) -> list[tuple[int, str]]:
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
    def unlike(self) -> list[int]:
        """Targets that differ from all their partners, as a list of OBS_ID.

        By more than chance does in one of 1000.
        """
        is_known = self.table["OFF_OBS_ID"] != NO_PARTNER
        obs_ids = np.asarray(self.table["OBS_ID"])
        is_alike = ~(self.table["P_VALUE"] < P_VALUE_UNLIKE)
        return np.setdiff1d(obs_ids[is_known], obs_ids[is_known & is_alike]).tolist()

    @property
    def reuse(self) -> Counter[int]:
        """Number of sets that an OFF observation is in, by its ID (Counter)."""
        partners = [self.off_obs_ids(mimic_set) for mimic_set in self.sets]
        return Counter(itertools.chain.from_iterable(partners))

    def off_obs_ids(self, mimic_set: int) -> list[int]:
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

    def partners(self, mimic_set: int, questionable: bool = True) -> dict[int, int]:
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
        return {
            obs_id: off
            for obs_id, off, status, *_ in self._get_pairs(mimic_set)
            if off != NO_PARTNER and (questionable or status != "large_kl")
        }

    def _get_pairs(self, mimic_set):
        """Pairs of a mimic set, an error if there is none."""
        if mimic_set not in self._pairs:
            raise ValueError(
                f"The plan has no mimic set {mimic_set}, choose from {self.sets}."
            )
        return self._pairs[mimic_set]

    @property
    def _pairs(self):
        """Values of `PAIR_COLUMNS` by mimic set, of the table as it is now."""
        columns = [np.asarray(self.table[_]) for _ in ("MIMIC_SET", *PAIR_COLUMNS)]
        # each mimic asks for them, and the table may be edited at any time
        content = [_.tobytes() for _ in columns]
        if self._known is None or self._known[0] != content:
            pairs = {}
            for mimic_set, *pair in zip(*map(np.ndarray.tolist, columns), strict=True):
                pairs.setdefault(mimic_set, []).append(pair)
            self._known = content, pairs
        return self._known[1]

    def __getstate__(self):
        """Send the table alone to other processes."""
        return {"table": self.table}

    def cuts(self, mimic_set: int) -> dict[int, tuple[float, float]]:
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
        return {
            obs_id: tuple(cut)
            for obs_id, _, _, *cut in self._get_pairs(mimic_set)
            if not np.isnan(cut[0])
        }

    def to_pairs(self, mimic_set: int | None = None) -> list[tuple[int, int]]:
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

    def make_summary(self) -> PlanSummary:
        """Find what the plan is worth: OFF time, reuse, and what sets share.

        Returns
        -------
        summary : `~gammapy_mimic.selection.plan_summary.PlanSummary`
            Summary of all pairs but those with the status "large_kl", which are left
            out of all numbers. NaN for what is not known.
        """
        return summarise_plan(self.table)

    def warn_of_sharing(self) -> None:
        """Log a warning if sets share much, or have little OFF time."""
        warning = self.make_summary().warning
        if warning:
            log.warning(warning)

    def write_questionable(self, path: str | Path, overwrite: bool = False) -> None:
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

    def plot(self, ax: Axes | None = None) -> Axes:
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


PlanLike: TypeAlias = MimicPlan | Table | Mapping[int, int] | str | Path
"""What `MimicPlan.create` takes."""
