"""What an observation holds, without reading more of its files than is needed.

This is the only place that knows how `~gammapy.data.Observation` keeps its lazy data.
"""

import functools

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from gammapy.data import (
    GTI,
    DataStore,
    FixedPointingInfo,
    Observation,
    ObservationMetaData,
    Observations,
    ObservationTable,
    PointingMode,
)
from gammapy.data.io import EventListReader
from gammapy.irf import FoVAlignment
from gammapy.utils.fits import HDULocation
from gammapy.utils.time import time_ref_from_dict

__all__ = [
    "IRF_NAMES",
    "get_fixed_pointing",
    "get_fov_alignment",
    "get_hdu",
    "get_livetime_fraction",
    "get_safe_range",
    "load_events_file",
    "make_obs_table",
    "parse_safe_range",
    "read_column",
    "replace_parts",
    "scale_rate",
    "to_pool",
]

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
    name : {"events", "gti", "aeff", "edisp", "psf", "bkg", "rad_max"}
        Part of the observation.

    Returns
    -------
    hdu : object or `~gammapy.utils.fits.HDULocation` or None
        The object if it is in memory, else where to read it, else None.
    """
    attribute = name if name in ("aeff", "edisp", "psf") else f"_{name}"
    value = observation.__dict__.get(attribute)
    if value is None:
        value = observation.__dict__.get(f"_{attribute}_hdu")
    return value


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
    if not with_events and HEADER_ATTRIBUTE in observation.__dict__:
        return observation.__dict__[HEADER_ATTRIBUTE]

    with fits.open(events.path(), memmap=False) as hdu_list:
        hdu = hdu_list[events.hdu_name]
        header = dict(hdu.header)
        if with_events:
            observation._events = EventListReader.from_gadf_hdu(hdu)
        if isinstance(gti, HDULocation) and gti.path() == events.path():
            observation._gti = GTI.from_table_hdu(hdu_list[gti.hdu_name])

    observation.__dict__[HEADER_ATTRIBUTE] = header
    # what is in memory may be other than what is on disk
    if "_pointing" not in observation.__dict__:
        observation._pointing = FixedPointingInfo.from_fits_header(header)
    if "_meta" not in observation.__dict__:
        observation._meta = ObservationMetaData.from_header(header)
    return header


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
    optional = {**(observation.meta.optional or {}), **optional}
    return Observation(
        obs_id=observation.obs_id,
        meta=observation.meta.model_copy(update={"optional": optional}),
        pointing=observation.pointing,
        location=observation.observatory_earth_location,
        obs_filter=observation.obs_filter.copy(),
        **{name: get_hdu(observation, name) for name in names} | parts,
    )


def read_column(column):
    """Read a column of an event list as floats.

    Parameters
    ----------
    column : `~astropy.table.Column` or `~numpy.ndarray`
        Column, maybe masked.

    Returns
    -------
    values : `~numpy.ndarray`
        Values, NaN where masked.
    n_invalid : int
        Number of values that are not finite.
    """
    values = np.ma.filled(np.ma.asarray(column, dtype=float), np.nan)
    return values, int(np.sum(~np.isfinite(values)))


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
    ontime = observation.observation_time_duration
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
    if "RA_PNT" in table.colnames:
        galactic = table.pointing_radec.galactic
        table["GLON_PNT"], table["GLAT_PNT"] = galactic.l, galactic.b
    if {"RA_PNT", "RA_OBJ"} <= set(table.colnames):
        target = SkyCoord(table["RA_OBJ"], table["DEC_OBJ"])
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
    row["OBS_ID"] = int(row["OBS_ID"])
    if "ALT_PNT" in row:
        row["ZEN_PNT"] = 90 - row["ALT_PNT"]
    time_keys = ("MJDREFI", "MJDREFF", "TIMESYS")
    if any(header.get(key) != reference.get(key) for key in time_keys):
        time_ref = time_ref_from_dict(header)
        for name in {"TSTART", "TSTOP"} & set(row):
            time = time_ref + row[name] * u.s
            row[name] = float((time - time_ref_from_dict(reference)).to_value("s"))
    return row
