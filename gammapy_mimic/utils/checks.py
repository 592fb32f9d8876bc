"""Checks of what users give."""

import numpy as np

__all__ = ["check_integer"]


def check_integer(name, value, minimum=1):
    """Raise an error if this is no integer, or too small a one.

    Parameters
    ----------
    name : str
        Name of the option, for the error.
    value : object
        Value.
    minimum : int, optional
        Smallest valid number. Default is 1.

    Returns
    -------
    value : int
        Value.

    Raises
    ------
    ValueError
        If it is not valid. Names option and value.
    """
    # True is an int for Python
    is_int = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_int or value < minimum:
        raise ValueError(
            f"{name} must be an integer of {minimum} or more, got {value!r}"
        )
    return int(value)
