"""Times and columns of event lists as numbers, in a known unit."""

import astropy.units as u
import numpy as np
from astropy.table import Column
from gammapy.utils.time import time_ref_from_dict

from ..utils.coordinates import get_altaz
from .columns import is_no_value, split_missing

__all__ = [
    "EVENT_UNITS",
    "get_seconds",
    "get_time_ref",
    "get_unit_factor",
    "is_in_good_time",
    "is_in_gti",
    "read_column",
    "read_gti",
    "update_sky_columns",
]

EVENT_UNITS = {"RA": "deg", "DEC": "deg", "ENERGY": "TeV"}
"""Columns that an event needs, and the units in which they are handled."""

EDGE_TOLERANCE = 1e-6
"""In s, by which times at the edge of a GTI may be rounded in a file."""

ALTAZ_COLUMNS = ("ALT", "AZ")
"""Columns that follow from RA, DEC and TIME."""

GALACTIC_COLUMNS = ("GLON", "GLAT")
"""Columns that follow from RA and DEC."""

TIME_KEYS = ("MJDREFI", "MJDREFF", "TIMESYS")


def is_in_gti(time, gti):
    """Whether times are in the good time intervals.

    Parameters
    ----------
    time : `~astropy.time.Time`
        Times. Shape (n,).
    gti : `~gammapy.data.GTI`
        Good time intervals.

    Returns
    -------
    is_good : `~numpy.ndarray` of bool
        Whether they are. Shape (n,).
    """
    if len(gti.table) == 0:
        return np.zeros(len(time), dtype=bool)
    reference = gti.time_start[0]
    times = (get_seconds(_, reference) for _ in (time, gti.time_start, gti.time_stop))
    return is_in_good_time(*times)


def is_in_good_time(seconds, start, stop):
    """Whether times are in any interval, edges included.

    Parameters
    ----------
    seconds : `~numpy.ndarray`
        Times, in s. Shape (n,).
    start, stop : `~numpy.ndarray`
        Intervals, in s of the same scale, in any order. Shape (m,).

    Returns
    -------
    is_good : `~numpy.ndarray` of bool
        Whether a time is in an interval, or no more than `EDGE_TOLERANCE` beyond.
        Shape (n,).
    """
    order = np.argsort(start)
    # of all intervals that have begun, the one that ends last decides
    last_stop = np.maximum.accumulate(stop[order])
    idx = np.searchsorted(start[order], seconds + EDGE_TOLERANCE, side="right") - 1
    if not len(order):
        return np.zeros(len(seconds), dtype=bool)
    return (idx >= 0) & (seconds <= last_stop[idx] + EDGE_TOLERANCE)


def get_seconds(time, reference):
    """Seconds from a reference. Astropy's difference of times takes ten times as long.

    Parameters
    ----------
    time : `~astropy.time.Time`
        Times. Shape (n,).
    reference : `~astropy.time.Time`
        Reference, scalar.

    Returns
    -------
    seconds : `~numpy.ndarray`
        Seconds. Shape (n,).
    """
    time, reference = time.tt, reference.tt
    days = (time.jd1 - reference.jd1) + (time.jd2 - reference.jd2)
    # of a time that is masked nothing is known
    mask = np.broadcast_to(np.asarray(time.mask), np.shape(days))
    return np.where(mask, np.nan, np.asarray(days, dtype=float)) * u.day.to("s")


def get_time_ref(header, name="events"):
    """Get the reference time of a header. Without TIMESYS it is TT, as in Gammapy.

    Parameters
    ----------
    header : dict-like
        Header.
    name : str, optional
        What it is the header of. Default is "events".

    Returns
    -------
    reference : `~astropy.time.Time`
        Reference time.

    Raises
    ------
    ValueError
        If the header does not tell it.
    """
    missing = [key for key in ("MJDREFI", "MJDREFF") if key not in header]
    if missing:
        raise ValueError(f"the header of the {name} has no {', '.join(missing)}")
    return time_ref_from_dict(header)


def read_gti(hdu, header):
    """Read good time intervals, as fast as can be.

    Parameters
    ----------
    hdu : `~astropy.io.fits.BinTableHDU`
        GTI.
    header : `~astropy.io.fits.Header`
        Header of the events, whose reference time is the zero of the result.

    Returns
    -------
    start, stop : `~numpy.ndarray`
        Intervals, in s. Shape (m,).
    """
    unit = hdu.header.get("TIMEUNIT", "s")
    start, stop = (read_column(hdu.data, _, "s", unit) for _ in ("START", "STOP"))
    # GTI may count from another time than the events of the same file
    if any(hdu.header.get(key) != header.get(key) for key in TIME_KEYS):
        zero = get_seconds(get_time_ref(hdu.header, "GTI"), get_time_ref(header))
        start, stop = start + zero, stop + zero
    return start, stop


def read_column(table, name, unit=None, default_unit=None):
    """Read a column as floats in a unit.

    Parameters
    ----------
    table : `~astropy.table.Table` or `~astropy.io.fits.FITS_rec`
        Table.
    name : str
        Column.
    unit : str, optional
        Unit of the result. Default is that of the column.
    default_unit : str, optional
        Unit of a column that has none. Default is ``unit``, as GADF prescribes the
        units of all columns.

    Returns
    -------
    values : `~numpy.ndarray`
        Values, NaN where masked, None or a text that stands for none. float64.

    Raises
    ------
    ValueError
        If the column has no numbers, or its unit cannot be converted.
    """
    try:
        values, is_missing = split_missing(table[name])
        if values.dtype.kind == "U":
            is_missing = is_missing | is_no_value(values)
            values = np.where(is_missing, "nan", values)
        values = values.astype(float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a column {name} without numbers: {error}") from None
    # what lies under a mask may look like a valid number
    values[is_missing] = np.nan
    own = str(getattr(table.columns[name], "unit", None) or default_unit or unit)
    if unit is None or own == unit:
        return values
    return values * get_unit_factor(name, own, unit)


def get_unit_factor(name, own, unit):
    """Factor from the unit of a column to another. An error if there is none."""
    try:
        return u.Unit(own).to(unit)
    except (u.UnitsError, TypeError, ValueError):
        raise ValueError(
            f"a column {name} with the unit {own!r}, which cannot be converted to "
            f"{unit!r}"
        ) from None


def update_sky_columns(table, location):
    """Let columns that follow from RA, DEC and TIME hold again for moved events.

    ALT and AZ are computed, for all events: archives may have other conventions, such
    as no precession, which are not to be mixed. GLON and GLAT are left out, as are ALT
    and AZ without a location, or with a unit that is no angle.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Events. Changed in place.
    location : `~astropy.coordinates.EarthLocation` or None
        Location of the observatory.
    """
    values = {}
    if location is not None and set(ALTAZ_COLUMNS) & set(table.colnames):
        altaz = _compute_altaz(table, location)
        values = dict(zip(ALTAZ_COLUMNS, altaz, strict=True))
    for name in (*GALACTIC_COLUMNS, *ALTAZ_COLUMNS):
        if name not in table.colnames:
            continue
        # GADF prescribes deg
        unit = u.Unit(table[name].unit or "deg", parse_strict="silent")
        if name in values and unit.is_equivalent("deg"):
            column = values[name] * u.deg.to(unit)
            description = table[name].info.description
            table[name] = Column(column, unit=unit, description=description)
        else:
            table.remove_column(name)


def _compute_altaz(table, location):
    """Altitude and azimuth of events, in deg."""
    if not len(table):
        return np.empty((2, 0))
    seconds = get_seconds(table["TIME"], table["TIME"][0])
    # from the middle, as the error grows with time
    middle = (seconds.min() + seconds.max()) / 2
    reference = table["TIME"][0] + middle * u.s
    radec = (read_column(table, name, "deg") for name in ("RA", "DEC"))
    return get_altaz(*radec, seconds - middle, reference, location)
