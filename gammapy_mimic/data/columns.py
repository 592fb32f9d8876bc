"""What columns of tables hold, in whatever way they say that a value is not known."""

import numpy as np
from astropy.utils.masked import Masked

__all__ = ["is_no_value", "split_missing", "to_str"]

NO_VALUES = ("", "-", "--", "n/a", "nan", "none", "not available", "null", "unknown")
"""Texts that stand for none, in lower case; also that of Gammapy's `DataStoreMaker`."""


def to_str(values):
    """Text of an array of strings, also of bytes that are no UTF-8."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "backslashreplace")
    return values.astype(str)


def is_no_value(texts):
    """Whether texts stand for none, such as "" and "N/A"."""
    return np.isin(np.char.lower(np.char.strip(texts)), NO_VALUES)


def split_missing(column):
    """Split a column into plain values and where they are missing.

    Tables from a query of an archive may hold Python objects, bytes, masked cells and
    None, all in one.

    Parameters
    ----------
    column : array-like
        Column, of any shape.

    Returns
    -------
    values : `~numpy.ndarray`
        Truth values, numbers or text, never objects or bytes. Of objects, float if all
        that are known are numbers, else text. Anything where they are missing.
    is_missing : `~numpy.ndarray` of bool
        Where they are masked or None; of objects, also NaN.
    """
    if isinstance(column, Masked):
        column = np.ma.MaskedArray(column.unmasked, column.mask)
    column = np.ma.asarray(column)
    # arithmetic with columns of astropy takes several times as long
    values = np.asarray(np.ma.getdata(column))
    is_missing = np.ma.getmaskarray(column)
    if values.dtype.kind == "S":
        return to_str(values), is_missing
    if values.dtype.kind != "O":
        return values, is_missing
    is_none = [
        _ is None or _ is np.ma.masked or (isinstance(_, float) and np.isnan(_))
        for _ in values.flat
    ]
    is_missing = is_missing | np.reshape(is_none, values.shape).astype(bool)
    known = values[~is_missing]
    if all(isinstance(_, int | float | np.number) for _ in known):
        # an OBS_ID may be too large for a float
        filled = np.where(is_missing, np.nan, values) if is_missing.any() else values
        return np.array(filled.tolist()), is_missing
    plain = np.full(values.shape, "", dtype=object)
    plain[~is_missing] = [to_str(np.asarray(_))[()] for _ in known]
    return plain.astype(str), is_missing
