"""Nights of observations, from their index."""

import numpy as np

from ..data.nights import to_night
from ..data.obs_ids import to_obs_ids
from ..selection.conditions import Conditions

__all__ = ["find_nights"]

GAP = 0.5
"""Days between the begins of two observations, from which they are of two nights: no
night is as long, and no day between two nights as short."""


def find_nights(table, column=None):
    """Find the night of each observation.

    Parameters
    ----------
    table : `~gammapy.data.ObservationTable`
        Index of the observations.
    column : str, optional
        Column that names the night. Default is none: observations that begin less than
        12 hours apart are of one night.

    Returns
    -------
    nights : dict
        Night by OBS_ID.

    Raises
    ------
    ValueError
        If there is no such column, or an observation has no value there, or no begin.
    """
    obs_ids = to_obs_ids(table["OBS_ID"]).tolist()
    if column is None:
        return dict(zip(obs_ids, _number_nights(table, obs_ids), strict=True))
    if column not in table.colnames:
        raise ValueError(
            f"there is no column {column!r} in the observation index. Choose from "
            f"{table.colnames}, or true for nights by time."
        )
    nights = dict(zip(obs_ids, map(to_night, table[column]), strict=True))
    _check(obs_ids, [*nights.values()], f"no value in the column {column!r}")
    return nights


def _number_nights(table, obs_ids):
    """Give each observation the number of its night."""
    mjd = Conditions.from_obs_table(table).mjd
    if mjd is None:
        raise ValueError(
            "the observation index has no TSTART with a reference time (MJDREFI). Give "
            "the name of a column of nights instead."
        )
    _check(obs_ids, np.isfinite(mjd), "no TSTART")
    order = np.argsort(mjd)
    numbers = np.zeros(len(mjd), dtype=int)
    numbers[order[1:]] = np.cumsum(np.diff(mjd[order]) >= GAP)
    return numbers.tolist()


def _check(obs_ids, values, what):
    missing = [_ for _, value in zip(obs_ids, values, strict=True) if not value]
    if missing:
        raise ValueError(f"OBS_ID {missing} have {what} of the observation index.")
