"""The one check of an observation, for all that reads one.

Makers, index, templates, scrambling and the check of files all ask here whether the
values of an observation make sense, and which of its events count: those in the good
time. What is out of the good time is not checked, it may hold anything.
"""

import contextlib
from typing import NamedTuple

import numpy as np
from astropy.table import Table

from ..utils.coordinates import to_vectors
from .events import (
    EVENT_UNITS,
    get_seconds,
    is_in_good_time,
    read_column,
)
from .headers import get_header_deadc, get_header_pointing, is_drift, to_float
from .obs_ids import to_obs_id

__all__ = [
    "GoodEvents",
    "add_way_out",
    "check_header",
    "check_intervals",
    "check_observation",
    "get_intervals",
]

WAY_OUT = "Mend it, or leave it out with the criterion exclude_obs_ids"

TINY, HUGE = np.finfo(float).smallest_subnormal, np.finfo(float).max

VALID_RANGES = {
    "RA": (-360, 360, "-360 to 360 deg"),
    "DEC": (-90, 90, "-90 to 90 deg"),
    "ENERGY": (TINY, HUGE, "above 0 TeV"),
    "TIME": (-HUGE, HUGE, "in s"),
    "START": (-HUGE, HUGE, "in s"),
    "STOP": (-HUGE, HUGE, "in s"),
    "RA_PNT": (-360, 360, "-360 to 360 deg"),
    "DEC_PNT": (-90, 90, "-90 to 90 deg"),
    "DEADC": (TINY, 1, "above 0, up to 1"),
}
"""Lowest and highest value of columns and keys, and both in words."""

NEEDED_KEYS = ("MJDREFI", "MJDREFF", "GEOLON", "GEOLAT")

GTI_OVERLAP_MAX = 1e-3
"""In s, by which times may be rounded in a file."""

GTI_REACH_MAX = 3600.0
"""In s, from the good time to the first and last event in it. IACTs record several
events a second, and a run takes half an hour."""

OFFSET_MAX = 10.0
"""In deg, of most events from the pointing: twice the radius of the largest field of
view of an IACT, 5 deg."""

N_SAMPLE = 300  # events whose offset is looked at, spread evenly over the list


class GoodEvents(NamedTuple):
    """Events that count."""

    is_good: np.ndarray
    """Whether a row of the table counts. Shape (n_rows,)."""
    ra: np.ndarray
    """Right ascension of those that do, in deg. Shape (n,)."""
    dec: np.ndarray
    """Declination, in deg. Shape (n,)."""
    energy: np.ndarray
    """Energy, in TeV. Shape (n,)."""

    def check_any(self):
        """Raise an error if there are none."""
        if len(self.ra) == 0:
            raise ValueError("no events")


def add_way_out(reason):
    """Say once what can be done about an observation that cannot be used.

    Parameters
    ----------
    reason : str
        What is wrong, with the way out or without.

    Returns
    -------
    text : str
        Sentences.
    """
    text = reason.rstrip(".")
    return f"{text}." if WAY_OUT in text else f"{text}. {WAY_OUT}."


def check_header(header, obs_id=None):
    """Check what the header of the events in a file must tell, as Gammapy needs it.

    Parameters
    ----------
    header : dict-like
        Header. DEADC is added if it follows from LIVETIME and ONTIME.
    obs_id : int, optional
        OBS_ID in the index. Default is not to compare it with that of the header.

    Returns
    -------
    values : dict of float
        DEADC, and RA_PNT and DEC_PNT (in deg) unless it was taken in DRIFT mode.

    Raises
    ------
    ValueError
        If a key is missing or its value makes no sense, or the OBS_ID is another one.
    """
    missing = [key for key in NEEDED_KEYS if key not in header]
    # GADF has ALTITUDE, older files GEOALT, and Gammapy reads both
    if not {"GEOALT", "ALTITUDE"} & set(header):
        missing.append("ALTITUDE")
    if missing:
        raise ValueError(f"the header of the events has no {', '.join(missing)}")
    values = {}
    if not is_drift(header):
        values["RA_PNT"], values["DEC_PNT"] = get_header_pointing(header)
    values["DEADC"] = to_float(header.get("DEADC"))
    if np.isnan(values["DEADC"]):
        values["DEADC"] = get_header_deadc(header)
        if np.isnan(values["DEADC"]):
            raise ValueError(
                "the header of the events has neither DEADC nor LIVETIME and ONTIME"
            )
        header["DEADC"] = values["DEADC"]
    _check_values(values)
    value = header.get("OBS_ID", "")
    # it may be blank
    if obs_id is not None and str(value).strip():
        is_same = False
        with contextlib.suppress(ValueError):
            is_same = to_obs_id(value) == obs_id
        if not is_same:
            raise ValueError(
                f"OBS_ID {value!r} in the header of the events, and {obs_id} in the "
                "index"
            )
    return values


def check_observation(table, values, time=None, gti=None):
    """Check the values of an observation, and find the events that count.

    Parameters
    ----------
    table : `~astropy.table.Table` or `~astropy.io.fits.FITS_rec`
        Events.
    values : dict of float
        What is known of RA_PNT, DEC_PNT (in deg) and DEADC, as from `check_header`.
    time : `~numpy.ndarray`, optional
        Times of the events, in s from any reference. Shape (n,). Default is that they
        are not known: all events are in the good time.
    gti : tuple of `~numpy.ndarray`, optional
        Start and stop of the good time intervals, in s from the same reference. Shape
        (m,). Default is that they are not known.

    Returns
    -------
    events : `GoodEvents`
        Events that are in the good time.

    Raises
    ------
    ValueError
        If a column is missing or has another kind of unit; an event in the good time
        has no valid position or energy, or any no valid time; there are events, but
        none in the good time, or that reaches far beyond the events; most events are
        far from the pointing; or the dead time makes no sense. Names the column, the
        number of rows, and the first value.
    """
    names = table.colnames if isinstance(table, Table) else table.names
    missing = [name for name in EVENT_UNITS if name not in names]
    if missing:
        raise ValueError(f"no column {missing} of events")
    _check_values(values)
    is_good = np.ones(len(table), dtype=bool)
    if time is not None:
        _check_range("TIME", time, "events")
    if gti is not None:
        check_intervals(*gti)
        if time is not None and len(time):
            is_good = is_in_good_time(time, *gti)
            if not is_good.any():
                raise ValueError(f"no event of {len(time)} in the good time (GTI)")
            first, last = time[is_good].min(), time[is_good].max()
            is_near = gti[0] >= first - GTI_REACH_MAX
            is_near &= gti[1] <= last + GTI_REACH_MAX
            text = "GTI that reach more than 1 h beyond the events"
            _check_rows(is_near, text, *gti)
    columns = []
    for name, unit in EVENT_UNITS.items():
        column = read_column(table, name, unit)
        _check_range(name, column, "events", is_good)
        columns.append(column[is_good])
    events = GoodEvents(is_good, *columns)
    if "RA_PNT" in values and len(events.ra):
        _check_offset(events, values["RA_PNT"], values["DEC_PNT"])
    return events


def check_intervals(start, stop):
    """Raise an error if good time intervals make no sense.

    Parameters
    ----------
    start, stop : `~numpy.ndarray`
        Intervals, in s. Shape (m,).
    """
    _check_range("START", start, "GTI")
    _check_range("STOP", stop, "GTI")
    _check_rows(stop >= start, "GTI that end before they start", start, stop)
    order = np.argsort(start)
    last_stop = np.maximum.accumulate(stop[order])
    is_apart = np.ones(len(start), dtype=bool)
    is_apart[order[1:]] = start[order][1:] > last_stop[:-1] - GTI_OVERLAP_MAX
    _check_rows(is_apart, "GTI that overlap with another", start, stop)


def get_intervals(gti, reference=None):
    """Get good time intervals as numbers.

    Parameters
    ----------
    gti : `~gammapy.data.GTI`
        Good time intervals.
    reference : `~astropy.time.Time`, optional
        Zero of the result. Default is the reference time of the GTI.

    Returns
    -------
    start, stop : `~numpy.ndarray`
        Intervals, in s. Shape (m,).
    """
    reference = gti.time_ref if reference is None else reference
    return tuple(get_seconds(_, reference) for _ in (gti.time_start, gti.time_stop))


def _check_values(values):
    for name, value in values.items():
        low, high, text = VALID_RANGES[name]
        if not low <= value <= high:
            raise ValueError(f"a header without a valid {name} ({text}) but {value:g}")


def _check_range(name, values, what, selection=None):
    low, high, text = VALID_RANGES[name]
    # NaN compares as False
    is_valid = (values >= low) & (values <= high)
    if selection is not None:
        is_valid |= ~selection
    if not is_valid.all():
        row = np.argmin(is_valid)
        raise ValueError(
            f"{np.sum(~is_valid)} {what} without a valid {name} ({text}), the first of "
            f"{values[row]:g} in row {row + 1}"
        )


def _check_rows(is_valid, what, start, stop):
    if not is_valid.all():
        row = np.argmin(is_valid)
        raise ValueError(
            f"{np.sum(~is_valid)} {what}, the first from {start[row]:.3f} to "
            f"{stop[row]:.3f} s in row {row + 1}"
        )


def _check_offset(events, *pointing):
    """Check that most events are near the pointing, in deg."""
    step = slice(None, None, max(1, len(events.ra) // N_SAMPLE))
    ra, dec = events.ra[step], events.dec[step]
    cos_offset = to_vectors(*pointing) @ to_vectors(ra, dec)
    is_far = cos_offset < np.cos(np.radians(OFFSET_MAX))
    if np.mean(is_far) > 0.5:
        row = np.argmax(is_far)
        raise ValueError(
            f"RA_PNT {pointing[0]:.6g}, DEC_PNT {pointing[1]:.6g}, but {is_far.sum()} "
            f"of {len(ra)} events more than {OFFSET_MAX:g} deg away, such as one at RA "
            f"{ra[row]:.6g}, DEC {dec[row]:.6g}"
        )
