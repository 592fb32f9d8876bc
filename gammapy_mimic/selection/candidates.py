"""OFF observations that may stand in for a target."""

import logging
from collections import Counter
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from .criteria import describe_rejections
from .cuts import is_too_long

__all__ = ["Candidates", "find_candidates", "get_log_odds"]

log = logging.getLogger(__name__)


class Candidates(NamedTuple):
    """Candidates of one target. Arrays (n_candidates,)."""

    obs_id: int
    """Target."""
    off_obs_ids: np.ndarray
    """OFF observations, rising."""
    cost: np.ndarray
    """What is small for a good partner, NaN for what is worse than all others."""
    log_odds: np.ndarray | None = None
    """Logarithm of how often one is drawn, over others. None for equal odds."""
    n_best: int | None = None
    """Number of them to draw from, the best. None for all."""
    columns: dict = MappingProxyType({})
    """Values for other columns of the plan, by name."""
    is_refused: bool = False
    """Whether none is good, so that another target comes first."""

    def select(self, rows):
        """Select some of the candidates, with the number of the best as it is."""
        return self._replace(
            off_obs_ids=self.off_obs_ids[rows],
            cost=self.cost[rows],
            log_odds=None if self.log_odds is None else self.log_odds[rows],
            columns={name: values[rows] for name, values in self.columns.items()},
        )


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


def find_candidates(targets, off, criteria, livetime="cut", ontime=None):
    """Find the candidates of targets by conditions alone.

    Parameters
    ----------
    targets, off : `~gammapy_mimic.selection.conditions.Conditions`
        Conditions of targets and of OFF observations, of rising OBS_ID.
    criteria : `~gammapy_mimic.selection.MatchCriteria`
        Criteria.
    livetime : {"cut", "whole"}, optional
        Whether OFF observations are cut, else those that are too long are rejected.
    ontime : `~numpy.ndarray`, optional
        Good time of the OFF observations in s. Shape (n_off,).

    Yields
    ------
    candidates : `Candidates`
        Candidates of a target, whose cost is the distance of the conditions.

    Raises
    ------
    ValueError
        If no candidate is left for any target.
    """
    # once, as it warns
    skip = criteria.check_columns(targets, off)
    removed, alone, n_found = Counter(), Counter(), 0
    for idx in range(len(targets)):
        target = targets[idx]
        rejected = criteria.reject(target, off, skip)
        if livetime == "whole" and "livetime" in rejected:
            ratio = off.livetime / target.livetime
            rejected["livetime"] |= is_too_long(ratio, criteria.livetime)
        n_reasons = np.sum(list(rejected.values()), axis=0)
        rows = np.flatnonzero(n_reasons == 0)
        n_found += len(rows)
        if len(rows) == 0:
            counts = {name: int(np.sum(mask)) for name, mask in rejected.items()}
            only = {
                _: int(np.sum(mask & (n_reasons == 1))) for _, mask in rejected.items()
            }
            removed.update(counts)
            alone.update(only)
            log.warning(
                f"No OFF observation matches OBS_ID {target.obs_id}. "
                f"{describe_rejections(counts, len(off), only)}"
            )
        distance = criteria.get_distances(target, off)[rows]
        yield Candidates(
            obs_id=int(target.obs_id),
            off_obs_ids=off.obs_id[rows],
            cost=distance,
            log_odds=get_log_odds(distance),
            columns={"DISTANCE": distance} | _compare(target, off, rows, ontime),
        )
    if n_found == 0:
        n_pairs = len(targets) * len(off)
        raise ValueError(
            f"No OFF observation matches any of the {len(targets)} targets. "
            f"{describe_rejections(removed, n_pairs, alone, len(targets))}"
        )


def _compare(target, off, rows, ontime):
    """Columns of a plan that tell of times and elevations, as far as they are known."""
    columns = {}
    if target.livetime is not None and off.livetime is not None:
        columns["LIVETIME"] = off.livetime[rows]
        columns["LIVETIME_RATIO"] = off.livetime[rows] / target.livetime
        if ontime is not None:
            columns["ONTIME"] = ontime[rows]
    if target.elevation is not None and off.elevation is not None:
        columns["DELTA_ZENITH"] = target.elevation - off.elevation[rows]
    return columns
