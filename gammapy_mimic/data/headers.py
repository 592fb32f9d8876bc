"""What headers say of an observation, and what follows from its data."""

import functools

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io.fits.card import Undefined
from astropy.time import Time
from gammapy.data import ObservationTable
from gammapy.utils.metadata import TimeInfoMetaData
from gammapy.utils.time import time_ref_to_dict

from .events import TIME_KEYS, get_seconds, get_time_ref
from .obs_ids import to_obs_id

__all__ = [
    "derive_header",
    "derive_times",
    "get_header_deadc",
    "get_header_pointing",
    "has_value",
    "is_drift",
    "make_obs_table",
    "make_time_info",
    "to_float",
]

OBS_TABLE_COLUMNS = {
    "OBS_ID": None,
    "OBS_MODE": None,
    "RA_PNT": "deg",
    "DEC_PNT": "deg",
    "ZEN_PNT": "deg",
    "ALT_PNT": "deg",
    "AZ_PNT": "deg",
    "OBJECT": None,
    "RA_OBJ": "deg",
    "DEC_OBJ": "deg",
    "ONTIME": "s",
    "LIVETIME": "s",
    "DEADC": None,
    "TSTART": "s",
    "TSTOP": "s",
    "DATE-OBS": None,
    "TIME-OBS": None,
    "DATE-END": None,
    "TIME-END": None,
    "TELESCOP": None,
    "INSTRUME": None,
    "N_TELS": None,
    "TELLIST": None,
    "QUALITY": None,
    "TRGRATE": "Hz",
    "ZTRGRATE": "Hz",
    "MUONEFF": None,
    "BROKPIX": None,
    "AIRTEMP": "deg_C",
    "PRESSURE": "hPa",
    "RELHUM": None,
    "NSBLEVEL": None,
    "EVENT_COUNT": None,
    "MIM_OBS": None,
    "MIM_SET": None,
    "RA_ORG": "deg",
    "DEC_ORG": "deg",
    "ZEN_ORG": "deg",
    "ALT_ORG": "deg",
    "AZ_ORG": "deg",
    "MIM_TSTA": "s",
    "MIM_TSTO": "s",
}
"""Columns of the observation index, with their units."""

META_KEYS = ("MJDREFI", "MJDREFF", "TIMEUNIT", "TIMESYS", "TIMEREF")
META_KEYS += ("GEOLON", "GEOLAT", "ALTITUDE")
"""Keys of the observation index, of time and place."""

ALIGNMENT_KEYS = ("CREATOR", "HDUVERS")
"""Keys by which Gammapy decides how to read the background of old H.E.S.S. files."""

INDEX_HEADER = {
    "HDUCLASS": "GADF",
    "HDUDOC": "https://github.com/open-gamma-ray-astro/gamma-astro-data-formats",
    "HDUVERS": "0.3",
    "HDUCLAS1": "INDEX",
}
"""Header that all index tables have."""


def get_header_deadc(header):
    """Get the fraction of livetime that a header of events tells.

    Parameters
    ----------
    header : dict-like
        Header with DEADC, or with LIVETIME and ONTIME.

    Returns
    -------
    deadc : float
        Fraction, NaN if it is not known.
    """
    deadc, livetime, ontime = (
        to_float(header.get(key)) for key in ("DEADC", "LIVETIME", "ONTIME")
    )
    if np.isnan(deadc) and ontime > 0:
        # LIVETIME may be rounded
        deadc = min(livetime / ontime, 1) if livetime < 1.001 * ontime else np.nan
    return float(deadc) if 0 < deadc <= 1 else np.nan


def derive_times(start, stop, livetime_fraction):
    """Derive what follows from good time intervals and dead time.

    Parameters
    ----------
    start, stop : `~numpy.ndarray`
        Intervals, in s. Shape (m,).
    livetime_fraction : float
        Livetime over observation time.

    Returns
    -------
    keys : dict of float
        TSTART and TSTOP (begin of the first, end of the last), ONTIME (their sum),
        LIVETIME and DEADC. The last three are rounded, to a microsecond and to 1e-12,
        so that they do not depend on the way they were computed.
    """
    ontime = float(np.sum(stop - start))
    deadc = round(float(livetime_fraction), 12)
    return {
        "TSTART": float(np.min(start)),
        "TSTOP": float(np.max(stop)),
        "ONTIME": round(ontime, 6),
        "LIVETIME": round(ontime * deadc, 6),
        "DEADC": deadc,
    }


def derive_header(header, gti, livetime_fraction):
    """Derive the keys of an events header that follow from GTI and dead time.

    Parameters
    ----------
    header : dict-like
        Header of the events. Not changed.
    gti : `~gammapy.data.GTI`
        Good time intervals.
    livetime_fraction : float
        Livetime over observation time, see `get_livetime_fraction`.

    Returns
    -------
    keys : dict
        Those of `derive_times`, and of TELAPSE, DATE-*, TIME-* and MJD-* those that the
        header has, in its time scale. The reference time is that of the GTI if the
        header has none.
    """
    # the columns of what is written are in s, whatever the header said
    keys = {"TIMEUNIT": "s"}
    if not {"MJDREFI", "MJDREFF"} <= set(header):
        keys |= time_ref_to_dict(gti.time_ref, scale=gti.time_ref.scale)
        keys["MJDREFI"] = int(keys["MJDREFI"])
    reference = get_time_ref({**header, **keys})
    keys["TIMESYS"] = reference.scale.upper()
    intervals = (get_seconds(_, reference) for _ in (gti.time_start, gti.time_stop))
    keys |= derive_times(*intervals, livetime_fraction)
    if "TELAPSE" in header:
        keys["TELAPSE"] = keys["TSTOP"] - keys["TSTART"]
    start, stop = gti.time_start.min(), gti.time_stop.max()
    times = {
        "OBS": lambda: start,
        "BEG": lambda: start,
        "AVG": lambda: start + (stop - start) / 2,
        "END": lambda: stop,
    }
    for suffix, get_time in times.items():
        date, time_of_day, mjd = (f"{_}-{suffix}" for _ in ("DATE", "TIME", "MJD"))
        # times of astropy take longer than all else
        if not {date, time_of_day, mjd} & set(header):
            continue
        time = getattr(get_time(), reference.scale)
        text = _format_time(float(time.jd1), float(time.jd2), time.scale)
        if date in header:
            keys[date] = text
        # old files have the time of day beside the date
        if time_of_day in header:
            keys[date], keys[time_of_day] = text.split("T")
        if mjd in header:
            keys[mjd] = float(time.mjd)
    return keys


@functools.lru_cache
def _format_time(jd1, jd2, scale):
    """Date and time of day, once for a header that is made and then written.

    Not much else takes as long.
    """
    return Time(jd1, jd2, format="jd", scale=scale).isot


def make_time_info(gti):
    """Make the metadata of the time of an observation.

    Parameters
    ----------
    gti : `~gammapy.data.GTI`
        Good time intervals.

    Returns
    -------
    time_info : `~gammapy.utils.metadata.TimeInfoMetaData`
        Begin of the first, end of the last, and reference time.
    """
    return TimeInfoMetaData(
        time_start=gti.time_start.min(),
        time_stop=gti.time_stop.max(),
        reference_time=gti.time_ref,
    )


def get_header_pointing(header):
    """Get the pointing from the header of events, as fast as can be.

    Parameters
    ----------
    header : dict-like
        Header.

    Returns
    -------
    pointing : tuple of float
        RA and DEC, in deg.

    Raises
    ------
    ValueError
        If there is none, or the observation was taken in DRIFT mode.
    """
    if is_drift(header):
        raise ValueError("taken in DRIFT mode, only tracking observations can be used")
    missing = [key for key in ("RA_PNT", "DEC_PNT") if key not in header]
    if missing:
        raise ValueError(f"the header of the events has no {', '.join(missing)}")
    pointing = tuple(to_float(header[key]) for key in ("RA_PNT", "DEC_PNT"))
    if not np.all(np.isfinite(pointing)):
        raise ValueError(f"the pointing {pointing} is not valid")
    return pointing


def is_drift(header):
    """Whether an observation was taken in DRIFT mode, and has no pointing."""
    return str(header.get("OBS_MODE", "")).strip().upper() == "DRIFT"


def has_value(value):
    """Whether a header tells anything: FITS has cards without a value."""
    return not isinstance(value, Undefined | None)


def to_float(value):
    """Float of what a header holds, NaN if it is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def make_obs_table(headers):
    """Make an observation index table from the headers of event lists.

    Follows the GADF format, with the OFF observation (``MIM_OBS``), its pointing
    (``*_ORG``) and the set (``MIM_SET``) of mimic observations.

    Parameters
    ----------
    headers : list of dict-like
        Headers of event lists, with ``EVENT_COUNT`` if that is wanted.

    Returns
    -------
    table : `~gammapy.data.ObservationTable`
        Observation table. A value that a header does not have is NaN, -1 or "".
    """
    rows = [_make_obs_row(header, headers[0]) for header in headers]
    table = ObservationTable()
    for name, unit in OBS_TABLE_COLUMNS.items():
        values = [row[name] for row in rows if name in row]
        if values:
            fill_value = {str: "", int: -1}.get(type(values[0]), float("nan"))
            table[name] = [row.get(name, fill_value) for row in rows]
            table[name].unit = unit
    names = set(table.colnames)
    if {"RA_PNT", "DEC_PNT"} <= names:
        galactic = table.pointing_radec.galactic
        table["GLON_PNT"], table["GLAT_PNT"] = galactic.l, galactic.b
    if {"RA_PNT", "DEC_PNT", "RA_OBJ", "DEC_OBJ"} <= names:
        # a placeholder such as 99 is no declination
        lat = np.where(np.abs(table["DEC_OBJ"]) <= 90, table["DEC_OBJ"], np.nan)
        target = SkyCoord(table["RA_OBJ"], lat, unit="deg")
        table["OFFSET_OBJ"] = table.pointing_radec.separation(target).to("deg")

    table.meta.update(INDEX_HEADER, HDUCLAS2="OBS", EXTNAME="OBS_INDEX")
    table.meta.update((key, headers[0][key]) for key in META_KEYS if key in headers[0])
    return table


def _make_obs_row(header, reference):
    row = {name: header.get(name) for name in OBS_TABLE_COLUMNS}
    row = {name: value for name, value in row.items() if has_value(value)}
    for name, value in row.items():
        if isinstance(value, str):
            row[name] = value.strip()
    row["OBS_ID"] = to_obs_id(row["OBS_ID"])
    # some tools read the zenith angle, others the altitude
    for suffix in ("PNT", "ORG"):
        names = f"ALT_{suffix}", f"ZEN_{suffix}"
        for name, other in (names, names[::-1]):
            if name in row:
                row[other] = 90 - row[name]
                break
    # the table has one reference time, that of its first row
    if any(header.get(key) != reference.get(key) for key in TIME_KEYS):
        shift = get_seconds(get_time_ref(header), get_time_ref(reference))
        for name in {"TSTART", "TSTOP"} & set(row):
            row[name] += float(shift)
    return row
