"""What an observation holds, without reading more of its files than is needed.

This is the only place that knows how `~gammapy.data.Observation` keeps its lazy data.
"""

import copy
import functools
import hashlib
import re

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from gammapy.data import (
    GTI,
    DataStore,
    FixedPointingInfo,
    Observation,
    ObservationFilter,
    ObservationMetaData,
    Observations,
    ObservationTable,
    PointingMode,
)
from gammapy.data.io import EventListReader
from gammapy.irf import FoVAlignment
from gammapy.utils.fits import HDULocation
from gammapy.utils.metadata import TimeInfoMetaData
from gammapy.utils.time import time_ref_to_dict

from .events import (
    EVENT_UNITS,
    TIME_KEYS,
    get_seconds,
    get_time_ref,
    select_good_events,
)

__all__ = [
    "IRF_NAMES",
    "derive_header",
    "derive_times",
    "describe_error",
    "get_background_stamp",
    "get_fixed_pointing",
    "get_fov_alignment",
    "get_good_events",
    "get_gti",
    "get_hdu",
    "get_header_deadc",
    "get_header_pointing",
    "get_livetime_fraction",
    "get_obs_id",
    "get_safe_range",
    "load_events_file",
    "make_obs_table",
    "make_time_info",
    "parse_safe_range",
    "replace_parts",
    "scale_rate",
    "to_obs_id",
    "to_obs_ids",
    "to_pool",
]

OBS_ID_MAX = 2**63
HEADER_ATTRIBUTE = "_events_header"
IRF_NAMES = ("aeff", "edisp", "psf", "bkg", "rad_max")

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
    "MUONEFF": None,
    "NSBLEVEL": None,
    "EVENT_COUNT": None,
    "MIM_OBS": None,
    "MIM_SET": None,
}
"""Columns of the observation index, with their units."""

INDEX_HEADER = {
    "HDUCLASS": "GADF",
    "HDUDOC": "https://github.com/open-gamma-ray-astro/gamma-astro-data-formats",
    "HDUVERS": "0.3",
    "HDUCLAS1": "INDEX",
}
"""Header that all index tables have."""


def get_hdu(observation, name):
    """Get a part of an observation as it is kept, without reading it.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation.
    name : {"events", "gti", "aeff", "edisp", "psf", "bkg", "rad_max", "pointing", \
"meta"}
        Part of the observation.

    Returns
    -------
    hdu : object or `~gammapy.utils.fits.HDULocation` or None
        The object if it is in memory, else where to read it, else None.
    """
    # each public attribute of Gammapy reads the file
    parts = observation.__dict__
    attribute = name if name in ("aeff", "edisp", "psf") else f"_{name}"
    value = parts.get(attribute)
    return parts.get(f"_{attribute}_hdu") if value is None else value


def _keep_part(observation, name, value):
    """Keep a part that was read: "events", "gti", "pointing" or "meta"."""
    # Gammapy sets neither the pointing nor metadata, and no GTI besides events
    setattr(observation, f"_{name}", value)


def _get_part(observation, name, is_filtered):
    """Read a part of an observation, with its filters applied or as it is on disk."""
    if not is_filtered:
        observation = copy.copy(observation)
        observation.obs_filter = ObservationFilter()
    return getattr(observation, name)


def load_events_file(observation, with_events=True):
    """Read the header, GTI, pointing and metadata of an observation in one go.

    Gammapy opens the file for each of them.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation. Keeps what is read: a copy (`copy.copy`), if it is not our own.
    with_events : bool, optional
        Whether to read the events as well. Default is True.

    Returns
    -------
    header : dict
        Header of the event list, empty for an observation without events.
    """
    events, gti = get_hdu(observation, "events"), get_hdu(observation, "gti")
    if events is None:
        return {}
    if not isinstance(events, HDULocation):
        return events.table.meta
    if not with_events and hasattr(observation, HEADER_ATTRIBUTE):
        return getattr(observation, HEADER_ATTRIBUTE)

    try:
        _load_file(observation, events, gti, with_events)
    # Gammapy needs some keys, and does not say of which observation
    except (KeyError, ValueError, u.UnitsError) as error:
        raise ValueError(
            f"OBS_ID {observation.obs_id} cannot be read from {events.path()}: "
            f"{describe_error(error)}."
        ) from error
    return getattr(observation, HEADER_ATTRIBUTE)


def _load_file(observation, events, gti, with_events):
    with fits.open(events.path(), memmap=False) as hdu_list:
        hdu = hdu_list[events.hdu_name]
        _check_header(hdu.header)
        header = dict(hdu.header)
        if with_events:
            _set_units(hdu)
            _keep_part(observation, "events", EventListReader.from_gadf_hdu(hdu))
        if isinstance(gti, HDULocation) and gti.path() == events.path():
            hdu = hdu_list[gti.hdu_name]
            get_time_ref(hdu.header, "GTI")
            _keep_part(observation, "gti", GTI.from_table_hdu(hdu))

    setattr(observation, HEADER_ATTRIBUTE, header)
    # what is in memory may be other than what is on disk
    for name, read in HEADER_PARTS.items():
        if isinstance(get_hdu(observation, name), HDULocation):
            _keep_part(observation, name, read(header))


def _make_pointing(header):
    try:
        return FixedPointingInfo.from_fits_header(header)
    except OSError as error:
        raise ValueError(f"the header of the events: {error}") from None


HEADER_PARTS = {"pointing": _make_pointing, "meta": ObservationMetaData.from_header}
"""Parts of an observation that are made from the header of its events."""


def _check_header(header):
    """Check what Gammapy needs, and complete the dead time."""
    get_time_ref(header)
    if "DEADC" not in header:
        deadc = get_header_deadc(header)
        if not np.isfinite(deadc):
            raise ValueError(
                "the header of the events has neither DEADC nor LIVETIME and ONTIME"
            )
        header["DEADC"] = deadc
    missing = [key for key in ("GEOLON", "GEOLAT") if key not in header]
    if not {"GEOALT", "ALTITUDE"} & set(header):
        missing.append("ALTITUDE")
    if missing:
        raise ValueError(f"the header of the events has no {', '.join(missing)}")


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
        _to_float(header.get(key)) for key in ("DEADC", "LIVETIME", "ONTIME")
    )
    if not 0 < deadc <= 1 and ontime > 0:
        # LIVETIME may be rounded
        deadc = min(livetime / ontime, 1) if livetime < 1.001 * ontime else np.nan
    return float(deadc) if 0 < deadc <= 1 else np.nan


def _set_units(hdu):
    """Give columns without a unit the one that GADF prescribes."""
    for name, unit in EVENT_UNITS.items():
        if name in hdu.columns.names and not hdu.columns[name].unit:
            hdu.columns[name].unit = unit


def describe_error(error):
    """Describe an error of reading a file, with the key that is missing.

    Parameters
    ----------
    error : Exception
        Error.

    Returns
    -------
    text : str
        Text.
    """
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, KeyError) and error.args:
        key = str(error.args[0])
        return f"{key} is missing" if key.isupper() else key.rstrip(".")
    return str(error).rstrip(".") or type(error).__name__


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


def get_gti(observation, is_filtered=True):
    """Get the good time intervals of an observation.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation.
    is_filtered : bool, optional
        Whether to apply the filters of the observation. Default is True.

    Returns
    -------
    gti : `~gammapy.data.GTI`
        Good time intervals, at least one.

    Raises
    ------
    ValueError
        If there is none.
    """
    gti = None
    if get_hdu(observation, "gti") is not None:
        gti = _get_part(observation, "gti", is_filtered)
    if gti is None or len(gti.table) == 0:
        raise ValueError(f"OBS_ID {observation.obs_id} has no GTI.")
    return gti


def get_good_events(observation, is_filtered=True, is_required=False):
    """Get the event list of an observation, and which of its events count.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation. Without GTI, all its times are good.
    is_filtered : bool, optional
        Whether to apply the filters of the observation. Default is True.
    is_required : bool, optional
        Whether it is an error if no event counts. Default is False.

    Returns
    -------
    events : `~gammapy.data.EventList`
        Events.
    good : `~gammapy_mimic.data.events.GoodEvents`
        Those that count.

    Raises
    ------
    ValueError
        If there is no event list, or an event is not valid.
    """
    events = gti = None
    if get_hdu(observation, "events") is not None:
        events = _get_part(observation, "events", is_filtered)
    if get_hdu(observation, "gti") is not None:
        gti = _get_part(observation, "gti", is_filtered)
    try:
        if events is None:
            raise ValueError("no events")
        good = select_good_events(events, gti)
        if is_required:
            good.check_any()
    except ValueError as error:
        raise ValueError(
            f"OBS_ID {observation.obs_id} has {error}. Mend its event list, or leave "
            "it out with the criterion exclude_obs_ids."
        ) from None
    return events, good


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
        **dict.fromkeys(("OBS", "BEG"), start),
        "AVG": start + (stop - start) / 2,
        "END": stop,
    }
    for suffix, time in times.items():
        keys |= _derive_date(header, suffix, getattr(time, reference.scale))
    return keys


def _derive_date(header, suffix, time):
    """Date of an observation, with its time beside it if that is how it was."""
    keys = {}
    if f"DATE-{suffix}" in header:
        keys[f"DATE-{suffix}"] = time.isot
    if f"TIME-{suffix}" in header:
        keys[f"DATE-{suffix}"], keys[f"TIME-{suffix}"] = time.isot.split("T")
    if f"MJD-{suffix}" in header:
        keys[f"MJD-{suffix}"] = float(time.mjd)
    return keys


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


def replace_parts(observation, optional, **parts):
    """Make an observation with some other parts, without reading the rest.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation. Not changed.
    optional : dict
        Keywords to add to ``observation.meta.optional``.
    **parts : dict
        "events", "gti" or IRFs, instead of those of the observation.

    Returns
    -------
    observation : `~gammapy.data.Observation`
        New observation.
    """
    names = ("events", "gti", *IRF_NAMES)
    update = {"optional": {**(observation.meta.optional or {}), **optional}}
    if get_hdu(observation, "gti") is not None and len(observation.gti.table):
        update["time_info"] = make_time_info(observation.gti)
    return Observation(
        obs_id=observation.obs_id,
        meta=observation.meta.model_copy(update=update),
        pointing=observation.pointing,
        location=observation.observatory_earth_location,
        obs_filter=observation.obs_filter.copy(),
        **{name: get_hdu(observation, name) for name in names} | parts,
    )


def get_fixed_pointing(observation):
    """Get the pointing of an observation that tracks a position.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation.

    Returns
    -------
    pointing : `~astropy.coordinates.SkyCoord`
        Pointing (ICRS).

    Raises
    ------
    ValueError
        If the observation was taken in DRIFT mode.
    """
    if observation.pointing.mode is PointingMode.DRIFT:
        raise ValueError(
            f"OBS_ID {observation.obs_id} was taken in DRIFT mode. Its field of view "
            "moves over the sky, only tracking observations (OBS_MODE = POINTING) "
            "can be used."
        )
    return observation.pointing.fixed_icrs


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
    if str(header.get("OBS_MODE", "")).strip().upper() == "DRIFT":
        raise ValueError("taken in DRIFT mode, only tracking observations can be used")
    missing = [key for key in ("RA_PNT", "DEC_PNT") if key not in header]
    if missing:
        raise ValueError(f"the header of the events has no {', '.join(missing)}")
    pointing = tuple(_to_float(header[key]) for key in ("RA_PNT", "DEC_PNT"))
    if not np.all(np.isfinite(pointing)):
        raise ValueError(f"the pointing {pointing} is not valid")
    return pointing


def get_fov_alignment(observation):
    """Get the alignment of the background IRF, reading no more than its header.

    A `~gammapy.irf.Background2D` depends on the offset alone, and counts as RADEC, as
    does an observation without background.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation.

    Returns
    -------
    alignment : {"radec", "altaz"}
        Alignment. The REVERSE_LON_RADEC of old H.E.S.S. files is "radec".
    """
    bkg = get_hdu(observation, "bkg")
    if isinstance(bkg, HDULocation):
        if bkg.hdu_class != "bkg_3d":
            return "radec"
        path = bkg.path()
        alignment = _read_fov_alignment(path, bkg.hdu_name, path.stat().st_mtime_ns)
    elif getattr(bkg, "has_offset_axis", True):
        return "radec"
    else:
        alignment = bkg.fov_alignment
    return "altaz" if FoVAlignment(alignment) is FoVAlignment.ALTAZ else "radec"


@functools.cache
def _read_fov_alignment(path, hdu_name, mtime):
    """Alignment in a file that was changed at a given time."""
    return fits.getheader(path, hdu_name).get("FOVALIGN", "RADEC")


def get_background_stamp(observation):
    """Get what changes if the background IRF of an observation does, without reading.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation.

    Returns
    -------
    stamp : tuple or None
        Place, size and time of its file; its unit, axes and a hash of its data if it is
        in memory; None if there is none, or no such file.
    """
    bkg = get_hdu(observation, "bkg")
    if bkg is None:
        return None
    if isinstance(bkg, HDULocation):
        path = bkg.path()
        if not path.is_file():
            return None
        stat = path.stat()
        return str(path), bkg.hdu_name, stat.st_size, stat.st_mtime_ns
    content = hashlib.sha256(np.ascontiguousarray(bkg.data).tobytes()).hexdigest()
    axes = [(_.name, str(_.unit), _.edges.value.tolist()) for _ in bkg.axes]
    return str(bkg.unit), axes, content


def get_livetime_fraction(observation):
    """Get the part of the observation time in which events were recorded.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation.

    Returns
    -------
    fraction : float
        Livetime over observation time: 1 minus the dead time, times the part that a
        filter in phase keeps. Gammapy multiplies exposures by the livetime, and
        background rates by the observation time.
    """
    # completes a dead time that Gammapy does not find, on a copy
    observation = copy.copy(observation)
    load_events_file(observation, with_events=False)
    ontime = get_gti(observation).time_sum
    if not ontime > 0:
        raise ValueError(f"OBS_ID {observation.obs_id} has no good time.")
    return float((observation.observation_live_time_duration / ontime).to_value(""))


def scale_rate(bkg, factor, **meta):
    """Scale the rate of a background IRF.

    Parameters
    ----------
    bkg : `~gammapy.irf.BackgroundIRF`
        Background. Not changed.
    factor : float
        Factor.
    **meta : dict
        Entries of ``meta`` to change.

    Returns
    -------
    bkg : `~gammapy.irf.BackgroundIRF`
        Background.
    """
    options = {} if bkg.has_offset_axis else {"fov_alignment": bkg.fov_alignment}
    meta = {**(bkg.meta or {}), **meta}
    data, axes = bkg.data * factor, list(bkg.axes)
    return type(bkg)(axes=axes, data=data, unit=bkg.unit, meta=meta, **options)


def get_safe_range(observation):
    """Get the safe energy range of an observation, reading no more than a header.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation.

    Returns
    -------
    low, high : float
        Range in TeV, see `parse_safe_range`.
    """
    aeff = get_hdu(observation, "aeff")
    if isinstance(aeff, HDULocation):
        return parse_safe_range(fits.getheader(aeff.path(), aeff.hdu_name))
    return parse_safe_range(getattr(aeff, "meta", None) or {})


def parse_safe_range(header):
    """Get the safe energy range from the header of an effective area.

    Parameters
    ----------
    header : dict-like
        Header, with ``LO_THRES`` and ``HI_THRES`` or without.

    Returns
    -------
    low, high : float
        Range in TeV, 0 to infinity where the header does not tell.
    """
    low, high = (_to_float(header.get(key)) for key in ("LO_THRES", "HI_THRES"))
    return low if low > 0 else 0.0, high if high > 0 else np.inf


def _to_float(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def to_pool(observations, name="off_observations"):
    """Check a pool of observations, and make `~gammapy.data.Observations` of a list.

    Parameters
    ----------
    observations : `~gammapy.data.DataStore`, `~gammapy.data.Observations` or list
        Pool.
    name : str, optional
        Name of the parameter, for errors. Default is "off_observations".

    Returns
    -------
    observations : `~gammapy.data.DataStore` or `~gammapy.data.Observations`
        Pool.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If it is empty.
    """
    is_list = isinstance(observations, list | tuple)
    if is_list and all(isinstance(_, Observation) for _ in observations):
        observations = Observations(observations)
    elif not isinstance(observations, DataStore | Observations):
        kind = type(observations).__name__
        if is_list:
            kind += f" of {', '.join(sorted({type(_).__name__ for _ in observations}))}"
        raise TypeError(
            f"{name} must be a DataStore or Observations, or a list of Observation, "
            f"got {kind}"
        )
    if isinstance(observations, Observations) and not len(observations):
        raise ValueError(f"{name} has no observations.")
    return observations


def make_obs_table(headers):
    """Make an observation index table from the headers of event lists.

    Follows the GADF format, with the OFF observation (``MIM_OBS``) and the set
    (``MIM_SET``) of mimic observations.

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
            blank = {str: "", int: -1}.get(type(values[0]), float("nan"))
            table[name] = [row.get(name, blank) for row in rows]
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

    time_keys = ("MJDREFI", "MJDREFF", "TIMEUNIT", "TIMESYS", "TIMEREF")
    location_keys = ("GEOLON", "GEOLAT", "ALTITUDE")
    table.meta.update(INDEX_HEADER, HDUCLAS2="OBS", EXTNAME="OBS_INDEX")
    table.meta.update(
        {key: headers[0][key] for key in time_keys + location_keys if key in headers[0]}
    )
    return table


def _make_obs_row(header, reference):
    row = {name: header[name] for name in OBS_TABLE_COLUMNS if name in header}
    for name, value in row.items():
        if isinstance(value, str):
            row[name] = value.strip()
    row["OBS_ID"] = to_obs_id(row["OBS_ID"])
    if "ALT_PNT" in row:
        row["ZEN_PNT"] = 90 - row["ALT_PNT"]
    elif "ZEN_PNT" in row:
        row["ALT_PNT"] = 90 - row["ZEN_PNT"]
    if any(header.get(key) != reference.get(key) for key in TIME_KEYS):
        shift = get_seconds(get_time_ref(header), get_time_ref(reference))
        for name in {"TSTART", "TSTOP"} & set(row):
            row[name] += float(shift)
    return row
