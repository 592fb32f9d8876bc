"""Which part of an OFF observation is used, where it is longer than its target."""

import numpy as np

from ..data.events import read_column
from ..utils.random import random_generator

__all__ = [
    "LIVETIMES",
    "check_livetime",
    "draw_cuts",
    "get_ontime",
    "is_too_long",
    "prepare_ranking",
]

LIVETIMES = ("cut", "whole")
"""What is done with OFF observations that are longer than their target."""

DIFFERENCE_MIN = 1.0
"""Difference of livetimes, in s, from which it is worth to cut."""

ROUNDING = 1.001
"""By which a livetime may seem to be longer than the observation time."""


def check_livetime(livetime):
    """Raise an error if this is not one of `LIVETIMES`."""
    if livetime not in LIVETIMES:
        raise ValueError(f"Invalid livetime: {livetime!r}. Choose from {LIVETIMES}.")


def get_ontime(obs_table):
    """Get the good time of observations from an observation table.

    Parameters
    ----------
    obs_table : `~astropy.table.Table`
        Table with ONTIME, or with LIVETIME and DEADC, or with TSTART and TSTOP: the
        first of them that tells it.

    Returns
    -------
    ontime : `~numpy.ndarray`
        Good time, in s. NaN where it is not known. Shape (n_obs,).
    """
    ontime, livetime, start, stop = (
        _read(obs_table, name, "s")
        for name in ("ONTIME", "LIVETIME", "TSTART", "TSTOP")
    )
    deadc = _read(obs_table, "DEADC")
    deadc = np.where((deadc > 0) & (deadc <= 1), deadc, np.nan)
    for values in (livetime / deadc, stop - start):
        ontime = np.where(ontime > 0, ontime, values)
    # what is shorter than the livetime is something else
    return np.where((ontime > 0) & ~(livetime > ROUNDING * ontime), ontime, np.nan)


def draw_cuts(table, random_state=0):
    """Draw the parts of the OFF observations that are longer than their targets.

    A part has the livetime of the target, and begins anywhere.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Pairs, with ``OBS_ID`` and ``MIMIC_SET``, by which the begin is drawn,
        ``ONTIME`` and ``LIVETIME`` of the OFF observation, and ``LIVETIME_RATIO``, OFF
        over target.
    random_state : int, optional
        Seed. Default is 0.

    Returns
    -------
    start, stop : `~numpy.ndarray`
        Begin and end, in s of good time, to a millisecond. NaN for the whole: of what
        is not longer by a second, or not known. Shape (n_pairs,).
    """
    ontime, livetime, ratio = (
        np.asarray(table[name], dtype=float)
        for name in ("ONTIME", "LIVETIME", "LIVETIME_RATIO")
    )
    start, stop = np.full((2, len(table)), np.nan)
    with np.errstate(divide="ignore"):
        length, longer = ontime / ratio, livetime - livetime / ratio
    for row in np.flatnonzero((longer >= DIFFERENCE_MIN) & np.isfinite(length)):
        ids = table["OBS_ID"][row], table["MIMIC_SET"][row]
        # one for each pair, so that another target changes none of its numbers
        rng = random_generator(random_state, "MimicPlan cut", *ids)
        start[row] = np.round(rng.uniform(0, ontime[row] - length[row]), 3)
        stop[row] = np.round(start[row] + length[row], 3)
    return start, np.minimum(stop, ontime)


def is_too_long(ratio, tolerance):
    """Whether OFF observations that are used whole are too long for their target.

    Parameters
    ----------
    ratio : `~numpy.ndarray`
        Livetime, OFF over target. Shape (n_off,).
    tolerance : float or None
        Criterion of the livetime. None for no limit.

    Returns
    -------
    is_too_long : `~numpy.ndarray` of bool
        Whether they are. What is not known is not. Shape (n_off,).
    """
    return ratio > (np.inf if tolerance is None else 1 + tolerance)


def prepare_ranking(table, livetime, tolerance):
    """Make the ranking that a plan is made of, from one that does not depend on cuts.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Ranking. Not changed.
    livetime : {"cut", "whole"}
        Whether OFF observations are cut. If not, those that are too long are rejected.
    tolerance : float or None
        Criterion of the livetime.

    Returns
    -------
    table : `~astropy.table.Table`
        Ranking, with "livetime" among the ``REASONS`` of those that are too long.
    """
    if livetime == "cut":
        return table
    table = table.copy()
    refused = is_too_long(np.asarray(table["LIVETIME_RATIO"]), tolerance)
    reasons = np.asarray(table["REASONS"]).astype(object)
    reasons[refused] = [
        ", ".join(filter(None, [_, "livetime"])) for _ in reasons[refused]
    ]
    table["REASONS"] = reasons.astype(str)
    table["STATUS"] = np.where(refused, "rejected", np.asarray(table["STATUS"]))
    return table


def _read(table, name, unit=""):
    if name not in table.colnames:
        return np.full(len(table), np.nan)
    return read_column(table, name, unit)
