"""Angles from what users write."""

import re

import astropy.units as u
from astropy.coordinates import Angle

__all__ = ["check_angle", "describe_angle", "to_angle"]


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


def check_angle(name, value, low=0, high=180, with_low=False):
    """Convert to one angle in a range.

    Parameters
    ----------
    name : str
        Name of the parameter, for errors.
    value : str or `~astropy.units.Quantity`
        Angle, as for `to_angle`.
    low, high : float, optional
        Range, in deg. Default is up to 180 deg.
    with_low : bool, optional
        Whether ``low`` itself is in the range. Default is False.

    Returns
    -------
    angle : `~astropy.coordinates.Angle`
        Angle in deg. Shape ().

    Raises
    ------
    ValueError
        If it is no angle, not one, or not in the range.
    """
    what = describe_angle(low, high, with_low)
    try:
        angle = to_angle(value).to("deg")
        is_above = angle >= low * u.deg if with_low else angle > low * u.deg
        # NaN compares as False
        if not (angle.isscalar and is_above and angle <= high * u.deg):
            raise ValueError(f"not in the range: {angle}")
    except ValueError as error:
        raise ValueError(f"{name} must be {what}, got {value!r}") from error
    return angle


def describe_angle(low=0, high=180, with_low=False):
    """Describe what `check_angle` takes, with its bounds."""
    bounds = f"from {low} to" if with_low else f"above {low} and up to"
    return f"an angle {bounds} {high} deg such as '0.3 deg'"
