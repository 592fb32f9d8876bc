"""What a plan is worth: how much OFF time it uses, and what its sets share."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from astropy.table import Table

from ..data.obs_ids import NO_PARTNER

__all__ = ["PlanSummary", "summarise_plan"]

SHARED_MAX = 0.5
"""Part of their livetime that two mimic sets may share."""

RATIO_MIN = 0.9
"""OFF livetime over target livetime that is enough: each OFF observation may be shorter
than its target by the default of the criterion."""

WAY_OUT = "wider criteria or more OFF observations."


class PlanSummary(NamedTuple):
    """What a plan is worth. NaN for what is not known, as there are no livetimes."""

    n_sets: int
    """Number of mimic sets that have a partner for any target."""
    target_livetime: float
    """Livetime of the targets that have a partner, in s."""
    off_livetime: float
    """Livetime of the parts of OFF observations that are used, in s: what several sets
    share counts once."""
    max_reuse: int
    """Largest number of sets that an OFF observation is in."""
    mean_reuse: float
    """Mean number."""
    n_effective: float
    """Effective number of independent sets, n^2 / sum_kl rho_kl, with rho_kl the
    livetime that the sets k and l share over the root of the product of both."""
    max_shared: float
    """Largest rho_kl of two sets. NaN for one set."""
    most_shared: tuple
    """Mimic sets with the largest rho_kl."""
    n_shared: int
    """Number of pairs of sets with a rho_kl above `SHARED_MAX`."""
    n_repeated: int
    """Number of pairs of target and OFF observation that are in more than one set."""

    @property
    def livetime_ratio(self):
        """Independent OFF livetime over target livetime (float)."""
        return self.off_livetime / self.target_livetime

    @property
    def is_independent(self):
        """Whether the sets share next to nothing (bool). False if it is not known."""
        return self.n_effective > 0.99 * self.n_sets

    @property
    def warning(self):
        """What limits the plan, and the way out (str), "" if nothing does."""
        texts = []
        if self.n_repeated and not self.is_independent:
            pairs = "1 pair" if self.n_repeated == 1 else f"{self.n_repeated} pairs"
            verb = "is" if self.n_repeated == 1 else "are"
            texts.append(
                f"{pairs} of target and OFF observation {verb} in more than one mimic "
                "set, so that the sets are not independent."
            )
        if self.n_shared:
            first, second = self.most_shared
            texts.append(
                f"Mimic sets {first} and {second} share {self.max_shared:.0%} of their "
                f"OFF livetime; pairs of sets that share more than {SHARED_MAX:.0%}: "
                f"{self.n_shared}. {self.n_sets} sets are worth "
                f"{self.n_effective:.1f} independent ones."
            )
        if self.livetime_ratio < RATIO_MIN:
            texts.append(
                f"OFF observations have {self.livetime_ratio:.0%} of the livetime of "
                f"the targets, {_to_hours(self.off_livetime)} for "
                f"{_to_hours(self.target_livetime)}."
            )
        way_out = f"Use fewer sets, {WAY_OUT}" if self.n_sets > 1 else f"Use {WAY_OUT}"
        return " ".join([*texts, way_out]) if texts else ""

    def to_table(self):
        """Make a table of one row.

        Returns
        -------
        table : `~astropy.table.Table`
            Table, with livetimes in h.
        """
        table = Table(
            {
                "N_SETS": [self.n_sets],
                "TARGET_LIVETIME": [self.target_livetime / 3600],
                "OFF_LIVETIME": [self.off_livetime / 3600],
                "LIVETIME_RATIO": [self.livetime_ratio],
                "MAX_REUSE": [self.max_reuse],
                "MEAN_REUSE": [self.mean_reuse],
                "N_EFFECTIVE": [self.n_effective],
                "MAX_SHARED": [self.max_shared],
            }
        )
        for name in ("TARGET_LIVETIME", "OFF_LIVETIME"):
            table[name].unit = "h"
        for name in table.colnames[1:]:
            if table[name].dtype.kind == "f":
                table[name].info.format = ".2f"
        return table

    @property
    def sentences(self):
        """What the plan is worth, as a list of str."""
        reuse = "1 set" if self.max_reuse == 1 else f"{self.max_reuse} sets"
        texts = [f"An OFF observation is in {reuse} at most"]
        if self.max_reuse > 1:
            texts[0] += f", {self.mean_reuse:.1f} on average"
        if np.isnan(self.n_effective):
            texts.append("Their livetime is not known, nor what sets share")
        else:
            texts.append(
                "With what sets share counted once, OFF observations have "
                f"{_to_hours(self.off_livetime)} of livetime, "
                f"{self.livetime_ratio:.2f} times that of the targets"
            )
        if self.n_sets > 1 and not np.isnan(self.n_effective):
            texts.append(
                f"{self.n_sets} sets are worth {self.n_effective:.1f} independent ones"
            )
        return [f"{_}." for _ in texts]

    def __str__(self):
        return " ".join(self.sentences)


def summarise_plan(table):
    """Find what a plan is worth.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table of a `~gammapy_mimic.selection.MimicPlan`.

    Returns
    -------
    summary : `PlanSummary`
        Summary, without the pairs with the status "large_kl", which are left out of
        all numbers. Without ``ONTIME``, an observation is taken to have no dead time.
    """
    table = table[table["OFF_OBS_ID"] != NO_PARTNER]
    table = table[table["STATUS"] != "large_kl"]
    obs_ids, off_obs_ids = (table[_].tolist() for _ in ("OBS_ID", "OFF_OBS_ID"))
    reuse = Counter(off_obs_ids)
    repeated = Counter(zip(obs_ids, off_obs_ids, strict=True))
    sets, idx_set = np.unique(table["MIMIC_SET"], return_inverse=True)
    # of each target, however many partners it has
    livetimes = table["LIVETIME"] / table["LIVETIME_RATIO"]
    target_livetime = sum(dict(zip(obs_ids, livetimes.tolist(), strict=True)).values())

    off_livetime, shared = _measure_parts(table, idx_set, len(sets))
    own = np.diag(shared)
    with np.errstate(invalid="ignore"):
        rho = shared / np.sqrt(np.outer(own, own))
    is_known = len(sets) > 0 and bool(np.isfinite(rho).all())
    most, most_shared, n_shared = np.nan, (), 0
    if is_known and len(sets) > 1:
        rows = np.triu_indices(len(sets), k=1)
        n_shared = int(np.sum(rho[rows] > SHARED_MAX))
        idx = np.argmax(rho[rows])
        most = float(rho[rows][idx])
        most_shared = tuple(int(sets[_[idx]]) for _ in rows)
    return PlanSummary(
        n_sets=len(sets),
        target_livetime=float(target_livetime) if is_known else np.nan,
        off_livetime=off_livetime if is_known else np.nan,
        max_reuse=max(reuse.values(), default=0),
        mean_reuse=len(table) / len(reuse) if reuse else np.nan,
        n_effective=float(len(sets) ** 2 / rho.sum()) if is_known else np.nan,
        max_shared=most,
        most_shared=most_shared,
        n_shared=n_shared,
        n_repeated=sum(count > 1 for count in repeated.values()),
    )


def _measure_parts(table, idx_set, n_sets):
    """Measure the livetime of parts of OFF observations, in s.

    Returns the sum of all, where repetitions count once, and what each two sets have in
    common. Shape (n_sets, n_sets).
    """
    livetime, ontime, start, stop = (
        np.asarray(table[name], dtype=float)
        for name in ("LIVETIME", "ONTIME", "CUT_START", "CUT_STOP")
    )
    ontime = np.where(np.isnan(ontime), livetime, ontime)
    start, stop = np.where(np.isnan(start), [0 * ontime, ontime], [start, stop])
    scale = livetime / ontime
    total, shared = 0.0, np.zeros((n_sets, n_sets))
    off_obs_ids = np.asarray(table["OFF_OBS_ID"])
    for off_obs_id in np.unique(off_obs_ids):
        rows = np.flatnonzero(off_obs_ids == off_obs_id)
        rows = rows[np.argsort(start[rows])]
        low, high, factor = start[rows], stop[rows], scale[rows[0]]
        # what is not in any part that began before
        covered = np.maximum.accumulate(np.append(low[0], high[:-1]))
        total += factor * np.sum(np.maximum(high - np.maximum(low, covered), 0))
        overlap = np.minimum.outer(high, high) - np.maximum.outer(low, low)
        idx = idx_set[rows]
        shared[np.ix_(idx, idx)] += factor * np.maximum(overlap, 0)
    return float(total), shared


def _to_hours(seconds):
    return f"{seconds / 3600:.1f} h"
