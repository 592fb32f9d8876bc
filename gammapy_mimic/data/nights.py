"""Names of nights."""

import numpy as np

__all__ = ["to_night"]

NO_NIGHT = {"", "nan", "nat", "none", "null", "n/a", "na", "--", "-1", "-1.0"}
"""Texts that tables have for no value, in small letters."""


def to_night(value):
    """Get the name of a night.

    Parameters
    ----------
    value : str, int or other
        Name, or number.

    Returns
    -------
    night : str
        Name. "" for what stands for no value: nothing, NaN, masked values, -1, and
        texts such as "N/A".
    """
    if np.ma.is_masked(value):
        return ""
    text = value.decode() if isinstance(value, bytes) else str(value)
    text = text.strip()
    return "" if text.lower() in NO_NIGHT else text
