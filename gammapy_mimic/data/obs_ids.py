"""Observation IDs: what is one, and of which observation."""

import re

import numpy as np

__all__ = ["get_obs_id", "shorten", "to_obs_id", "to_obs_ids"]

NO_PARTNER = -1

OBS_ID_MAX = 2**63


def to_obs_id(value, minimum=0):
    """Convert an OBS_ID to the integer that it stands for.

    Parameters
    ----------
    value : int, str, float or `~numpy.ndarray`
        OBS_ID. Digits in a text, such as "0001", are that integer.
    minimum : int, optional
        Smallest valid number. Default is 0.

    Returns
    -------
    obs_id : int
        OBS_ID.

    Raises
    ------
    ValueError
        If it is no such number.
    """
    item = value
    if isinstance(value, np.generic | np.ndarray) and value is not np.ma.masked:
        item = value.item() if value.size == 1 else value.tolist()
    if isinstance(item, bytes):
        item = item.decode(errors="replace")
    if isinstance(item, str) and re.fullmatch(r"-?[0-9]+", item.strip()):
        item = int(item)
    # True is an int for Python
    is_number = isinstance(item, int | float) and not isinstance(item, bool)
    is_valid = is_number and minimum <= item < OBS_ID_MAX and item == int(item)
    if not is_valid:
        raise ValueError(
            f"OBS_ID {item!r} is not valid: an integer of {minimum} or more is needed, "
            'or its digits as text, such as "0001".'
        )
    return int(item)


def to_obs_ids(values, minimum=0):
    """Convert OBS_IDs to integers, see `to_obs_id`.

    Parameters
    ----------
    values : array-like
        OBS_IDs. Shape (n,).
    minimum : int, optional
        Smallest valid number, also what a masked value is. Default is 0.

    Returns
    -------
    obs_ids : `~numpy.ndarray` of int
        OBS_IDs. Shape (n,).

    Raises
    ------
    ValueError
        If one is not valid, or a single text is given.
    """
    if isinstance(values, str | bytes):
        raise ValueError(f"a list of OBS_ID is needed, got {values!r}")
    # an array made of numbers and text would be one of text
    is_int = isinstance(values, np.ndarray) and values.dtype.kind == "i"
    if is_int and not np.ma.is_masked(values) and np.all(values >= minimum):
        return np.array(values, dtype=int)
    if minimum < 0:
        values = [minimum if _ is np.ma.masked else _ for _ in values]
    return np.array([to_obs_id(_, minimum) for _ in values], dtype=int)


def get_obs_id(observation):
    """Get the OBS_ID of an observation as an integer, see `to_obs_id`."""
    return to_obs_id(observation.obs_id)


def shorten(obs_ids, n_max=10):
    """OBS_IDs as text, no more than n_max of them."""
    text = ", ".join(str(_) for _ in obs_ids[:n_max])
    more = len(obs_ids) - n_max
    return f"{text} and {more} more" if more > 0 else text
