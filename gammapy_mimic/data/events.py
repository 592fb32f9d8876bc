"""Times and columns of event lists as numbers, in a known unit."""

import copy
import functools

import astropy.units as u
import numpy as np
from astropy.io.fits.connect import REMOVE_KEYWORDS, is_column_keyword
from astropy.table import Column, Table
from astropy.time.utils import day_frac
from gammapy.data import EventList, EventListMetaData
from gammapy.data.io import EventListReader
from gammapy.utils.time import time_ref_from_dict

from ..utils.coordinates import get_altaz
from .columns import is_no_value, split_missing

__all__ = [
    "EVENT_UNITS",
    "get_exact_seconds",
    "get_seconds",
    "get_time_ref",
    "get_unit_factor",
    "is_in_good_time",
    "is_in_gti",
    "read_column",
    "read_event_list",
    "read_gti",
    "replace_table",
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

SECONDS = u.day.to("s")
"""Those of a day."""

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
    # one in TT would be copied
    time, reference = (_ if _.scale == "tt" else _.tt for _ in (time, reference))
    days = (time.jd1 - reference.jd1) + (time.jd2 - reference.jd2)
    # of a time that is masked nothing is known
    mask = np.broadcast_to(np.asarray(time.mask), np.shape(days))
    return np.where(mask, np.nan, np.asarray(days, dtype=float)) * SECONDS


def get_exact_seconds(time, reference):
    """Seconds from a reference, to the bit those of a difference of times of astropy.

    Without the copies that it makes. The parameters are those of `get_seconds`.
    """
    # as for astropy, leap seconds are no part of a difference
    time = time.tai if time.scale == "utc" else time
    reference = getattr(reference, time.scale)
    days = day_frac(time.jd1 - reference.jd1, time.jd2 - reference.jd2)
    mask = np.broadcast_to(np.asarray(time.mask), np.shape(days[0]))
    return np.where(mask, np.nan, np.asarray(sum(days))) * SECONDS


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
    return _make_time_ref(*(header.get(key) for key in TIME_KEYS))


@functools.lru_cache
def _make_time_ref(*values):
    """Make a reference time, once for all headers that have the same."""
    keys = zip(TIME_KEYS, values, strict=True)
    return time_ref_from_dict({key: _ for key, _ in keys if _ is not None})


def read_event_list(hdu, cards):
    """Read an event list as Gammapy does, without looking at its header again.

    Astropy asks for its configuration at each look at a card, several times.

    Parameters
    ----------
    hdu : `~astropy.io.fits.BinTableHDU`
        Events.
    cards : list of tuple
        Keys and values of its header.

    Returns
    -------
    events : `~gammapy.data.EventList`
        Events, as from `gammapy.data.EventList.read`.
    """
    columns = {_.name: _read_plain_column(hdu.data, _) for _ in hdu.columns}
    is_plain = all(_ is not None for _ in columns.values())
    # masks and text are left to astropy, and what is missing to Gammapy
    if not is_plain or not {"TIME", *EVENT_UNITS} <= set(columns):
        return EventListReader.from_gadf_hdu(hdu)
    meta = _make_meta(cards)
    seconds = read_column(hdu.data, "TIME", "s")
    columns["TIME"] = get_time_ref(meta) + seconds * u.s
    names = [_ for _ in columns if _ not in ("TIME", *EVENT_UNITS, *GALACTIC_COLUMNS)]
    names = ["TIME", "ENERGY", "RA", "DEC", *names]
    table = Table({name: columns[name] for name in names}, copy=False)
    table.meta = meta
    return EventList(table, EventListMetaData.from_header(meta))


def _read_plain_column(data, column):
    """Column as `~astropy.table.Table` reads it, None if it is more than numbers."""
    values = data[column.name]
    has_more = column.null is not None or column.disp is not None
    if has_more or values.dtype.kind not in "biuf" or np.isnan(values).any():
        return None
    unit = column.unit and u.Unit(column.unit, format="fits", parse_strict="warn")
    return Column(np.array(values), unit=unit)


def _make_meta(cards):
    """Make of a header what `~astropy.table.Table` does: all but what columns say."""
    meta = {}
    for key, value in cards:
        if key in ("COMMENT", "HISTORY"):
            meta.setdefault("comments" if key == "COMMENT" else key, []).append(value)
        elif key in meta:
            former = meta[key] if isinstance(meta[key], list) else [meta[key]]
            meta[key] = [*former, value]
        elif not is_column_keyword(key) and key not in REMOVE_KEYWORDS:
            meta[key] = value
    return meta


def replace_table(events, table):
    """Make an event list of another table with the same columns.

    A new one would compare them with those of an empty list, which takes longer than
    all else.

    Parameters
    ----------
    events : `~gammapy.data.EventList`
        Events. Not changed.
    table : `~astropy.table.Table`
        Table of the result.

    Returns
    -------
    events : `~gammapy.data.EventList`
        Events, with metadata of their own.
    """
    events, meta = copy.copy(events), events.meta.model_copy()
    # a copy of the model shares what is in it
    if meta.creation is not None:
        meta.creation = meta.creation.model_copy()
    events.table, events.meta = table, meta
    return events


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
