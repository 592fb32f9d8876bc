"""Angles from what users write."""

import re

import astropy.units as u
from astropy.coordinates import Angle

__all__ = ["to_angle"]


def to_angle(value, unit=None):
    """Convert to an angle, as `~astropy.coordinates.Angle` does, but take no length.

    For `~astropy.coordinates.Angle`, "1 m" is a minute of arc, and "1 s" a second.

    Parameters
    ----------
    value : str, `~astropy.units.Quantity` or float
        Angle.
    unit : str, optional
        Unit of a number without one. Default is none, so that it is an error.

    Returns
    -------
    angle : `~astropy.coordinates.Angle`
        Angle.

    Raises
    ------
    ValueError
        If it is no angle.
    """
    is_length = isinstance(value, str) and re.fullmatch(r"[^a-zA-Z]*[ms]\s*", value)
    try:
        if is_length:
            raise ValueError("a length or a time")
        return Angle(value, unit)
    except (TypeError, ValueError, u.UnitsError) as error:
        raise ValueError(
            f"must be an angle with its unit, such as '0.1 deg', got {value!r}"
        ) from error
