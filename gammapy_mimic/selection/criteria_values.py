"""Values that criteria can have, whoever writes them: Python, YAML or a command."""

import contextlib
import dataclasses
import datetime
from collections.abc import Mapping
from numbers import Real

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle, SkyCoord
from astropy.time import Time
from regions import CircleSkyRegion

from ..data.obs_ids import to_obs_ids
from ..utils.angles import check_angle, describe_angle
from .conditions import DIFFERENCES, RATIOS

__all__ = ["ColumnCriterion", "convert_criterion"]

NONE = ", or null for none"


@dataclasses.dataclass(frozen=True)
class ColumnCriterion:
    """Limit and weight of a column of the observation table.

    Parameters
    ----------
    max_difference : float, optional
        Largest difference, in the unit of the column. Default is no limit.
    relative : bool, optional
        Whether it is a fraction of the target's. Default is False.
    weight : float, optional
        Weight in the distance. Default is 1.
    """

    max_difference: float | None = None
    relative: bool = False
    weight: float = 1

    def __post_init__(self):
        for name, (what, convert) in COLUMN_KINDS.items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, convert(value))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name} must be {what}, got {value!r}") from error


def convert_criterion(name, value):
    """Convert the value of a criterion.

    Parameters
    ----------
    name : str
        Name of the criterion.
    value : object
        Value. None is for a criterion that is not applied.

    Returns
    -------
    value : float, bool, tuple, `~astropy.coordinates.Angle`, `~astropy.time.Time` \
or None
        Value, angles in deg and times in d.

    Raises
    ------
    ValueError
        If it makes no sense. Names the criterion, what it can be, and the value.
    """
    what, convert = KINDS[name]
    try:
        return convert(value)
    # what conversions raise of objects of any kind
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{name} must be {what}, got {value!r}") from error


def _accept(is_valid):
    if not is_valid:
        raise ValueError("not a valid value")


def _to_switch(value):
    _accept(isinstance(value, bool | None))
    return value


def _to_relative(value):
    _accept(isinstance(value, bool))
    return value


def _to_number(value):
    # True is a number for Python
    _accept(isinstance(value, Real | str | u.Quantity) and not isinstance(value, bool))
    number = float(value)
    _accept(0 <= number < np.inf)
    return number


def _to_whole_number(value):
    number = _to_number(value)
    _accept(number.is_integer())
    return number


def _to_duration(value):
    duration = u.Quantity(value).to("d")
    _accept(duration.isscalar and 0 <= duration.value < np.inf)
    return duration


def _to_list(value):
    # a text or a dict would be one of its characters or keys
    _accept(not isinstance(value, str | bytes | Mapping))
    return list(value)


def _to_epochs(value):
    dates = [_to_date(_) for _ in _to_list(value)]
    # in order, as they are searched
    return Time(dates).sort() if dates else None


def _to_date(value):
    _accept(isinstance(value, str | datetime.date | np.datetime64 | Time))
    # astropy takes neither a day, as YAML makes of a text without quotes, nor an offset
    # from UTC in a text
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            day = datetime.datetime.fromisoformat(value)
            value = value if day.tzinfo is None else day
    elif not isinstance(value, datetime.datetime | np.datetime64 | Time):
        value = value.isoformat()
    date = Time(value)
    _accept(date.isscalar and np.isfinite(date.mjd))
    return date


def _to_range(value):
    low, high = (check_angle("end", _, *ELEVATIONS) for _ in _to_list(value))
    _accept(low < high)
    return Angle([low, high])


def _to_names(value):
    names = _to_list(value)
    _accept(all(isinstance(_, str) and _.strip() for _ in names))
    return tuple(_.strip().lower() for _ in names)


def _to_circles(value):
    return tuple(map(_to_circle, _to_list(value)))


def _to_circle(value):
    if isinstance(value, CircleSkyRegion):
        center = value.center.icrs
        value = center.ra, center.dec, value.radius
    lon, lat, radius = _to_list(value)
    lon = check_angle("RA", lon, -360, 360, with_low=True)
    lat = check_angle("DEC", lat, -90, 90, with_low=True)
    return CircleSkyRegion(SkyCoord(lon, lat), check_angle("radius", radius))


def _to_obs_ids(value):
    return tuple(to_obs_ids(_to_list(value)).tolist())


def _to_factor(value):
    factor = _to_number(value)
    _accept(factor > 1)
    return factor


def _to_dict(value):
    _accept(isinstance(value, Mapping) and all(isinstance(_, str) for _ in value))
    # in one order, as checksums are made of it
    return dict(sorted(value.items()))


def _to_columns(value):
    return {name: _to_column(_) for name, _ in _to_dict(value).items()}


def _to_column(value):
    return value if isinstance(value, ColumnCriterion) else ColumnCriterion(**value)


def _to_weights(value):
    weights = {name: _to_number(_) for name, _ in _to_dict(value).items()}
    _accept(set(weights) <= {*DIFFERENCES, *RATIOS})
    return weights


def _or_none(convert, none=None):
    """Convert, or return what stands for none."""
    return lambda value: none if value is None else convert(value)


def _or_auto(what, convert):
    """Take "auto", too."""
    return (
        f"{what}, or auto",
        lambda value: value if _is_auto(value) else convert(value),
    )


def _is_auto(value):
    return isinstance(value, str) and value == "auto"


def _angle_kind(low, high, with_low=True):
    bounds = low, high, with_low
    convert = _or_none(lambda value: check_angle("angle", value, *bounds))
    return describe_angle(*bounds) + NONE, convert


ELEVATIONS = 0, 90, True
NUMBER = f"a finite number of 0 or more{NONE}", _or_none(_to_number)
FACTOR = f"a factor above 1{NONE}", _or_none(_to_factor)
SWITCH = "true or false", _to_switch

KINDS = {
    **dict.fromkeys(("livetime", "airmass", "nsb", "muon_efficiency"), NUMBER),
    **dict.fromkeys(("same_object", "same_field", "strict"), SWITCH),
    "n_tels": (f"a whole number of 0 or more{NONE}", _or_none(_to_whole_number)),
    "azimuth": _angle_kind(0, 180),
    "zenith": _or_auto(*_angle_kind(0, 180)),
    "rate": _or_auto(*FACTOR),
    "effective_area": FACTOR,
    "columns": (
        "limits and weights by column, such as {'ZTRGRATE': {'max_difference': 0.1, "
        "'relative': true, 'weight': 1}}",
        _or_none(_to_columns, {}),
    ),
    "weights": (
        "numbers of 0 or more, such as {'azimuth': 0}, of "
        f"{', '.join((*DIFFERENCES, *RATIOS))}",
        _or_none(_to_weights, {}),
    ),
    "galactic_latitude": _angle_kind(0, 90),
    "field_radius": (
        f"{describe_angle()} (same_field: false switches it off)",
        lambda value: check_angle("field_radius", value),
    ),
    "time_difference": (
        f"a time of 0 or more such as '30 d'{NONE}",
        _or_none(_to_duration),
    ),
    "epochs": (
        f"a list of dates such as ['2004-01-01']{NONE}",
        _or_none(_to_epochs),
    ),
    "elevation": (
        "a range of two angles from 0 to 90 deg that rise, such as "
        f"['40 deg', '60 deg']{NONE}",
        _or_none(_to_range),
    ),
    "exclude_objects": (
        "a list of names such as ['Crab', 'Vela X']",
        _or_none(_to_names, ()),
    ),
    "exclude_circles": (
        "a list of circles such as [['83.6 deg', '22 deg', '2 deg']]: RA, DEC from -90 "
        "to 90 deg, and a radius above 0 and up to 180 deg",
        _or_none(_to_circles, ()),
    ),
    "exclude_obs_ids": (
        "a list of OBS_IDs such as [23523, 23526], integers of 0 or more",
        _or_none(_to_obs_ids, ()),
    ),
}
"""What a criterion must be, and what converts its value or raises an error."""

COLUMN_KINDS = {
    "max_difference": NUMBER,
    "relative": ("true or false", _to_relative),
    "weight": ("a finite number of 0 or more", _to_number),
}
"""The same for a column."""
