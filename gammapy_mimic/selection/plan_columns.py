"""The columns of a plan: read with defaults, and checked row by row."""

import contextlib
from collections import Counter

import numpy as np

from ..data.columns import split_missing
from ..data.cut import check_cut
from ..data.events import get_unit_factor, read_column
from ..data.obs_ids import NO_PARTNER, to_obs_id, to_obs_ids

__all__ = [
    "COLUMNS",
    "STATUSES",
    "check_cuts",
    "check_once",
    "check_status",
    "fill_column",
    "get_integers",
]

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


def get_integers(table, name):
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


def check_cuts(table):
    """Check the parts of the OFF observations, as far as their good time is known."""
    columns = (table[name] for name in ("CUT_START", "CUT_STOP", "ONTIME"))
    for idx, values in enumerate(zip(*columns, strict=True)):
        try:
            check_cut(*values)
        except ValueError as error:
            raise ValueError(f"row {idx + 1}, {error}") from None


def check_status(table, rows):
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


def fill_column(table, name, dtype, unit):
    """Read a column of a plan, with defaults where it has none or is masked."""
    defaults = {int: 1, float: np.nan, str: "ok"}
    if name not in table.colnames:
        values = np.full(len(table), defaults[dtype])
    elif dtype is int:
        values = get_integers(table, name)
    elif dtype is float:
        values = _get_floats(table, name, unit)
    else:
        values = _get_statuses(table)
    # room for every status
    return values.astype("U10") if dtype is str else values


def check_once(table, name, what):
    """Raise an error if a value is in a mimic set more than once."""
    pairs = Counter(zip(table["MIMIC_SET"], table[name], strict=True))
    for (mimic_set, obs_id), count in pairs.items():
        if count > 1:
            raise ValueError(
                f"{name} {obs_id} {what} in mimic set {mimic_set} of the plan."
            )
