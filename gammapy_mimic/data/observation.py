"""What an observation holds, without reading more of its files than is needed.

This is the only place that knows how `~gammapy.data.Observation` keeps its lazy data.
"""

import contextlib
import copy
import functools
from collections.abc import Iterable
from typing import TypeAlias

import astropy.units as u
import numpy as np
from gammapy.data import (
    GTI,
    DataStore,
    FixedPointingInfo,
    Observation,
    ObservationFilter,
    ObservationMetaData,
    Observations,
    PointingMode,
)
from gammapy.utils.fits import HDULocation

from ..utils.coordinates import get_altaz
from .checks import (
    add_way_out,
    check_header,
    check_intervals,
    check_observation,
    get_intervals,
)
from .events import (
    EVENT_UNITS,
    get_seconds,
    get_time_ref,
    get_unit_factor,
    read_event_list,
    read_gti,
)
from .files import check_links, check_regular, open_fits
from .headers import has_value, make_time_info, to_float
from .obs_ids import get_obs_id, to_obs_id, to_obs_ids

__all__ = [
    "IRF_NAMES",
    "PoolLike",
    "describe_error",
    "get_altaz_pointing",
    "get_fixed_pointing",
    "get_good_events",
    "get_gti",
    "get_hdu",
    "get_livetime_fraction",
    "get_location",
    "get_off_observation",
    "has_hdu",
    "load_events_file",
    "replace_parts",
    "select_good_events",
    "to_pool",
]

HEADER_ATTRIBUTE = "_events_header"
IRF_NAMES = ("aeff", "edisp", "psf", "bkg", "rad_max")


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
    value, location = _get_kept(observation, name)
    return location if value is None else value


def _get_kept(observation, name):
    """Get a part that is in memory, and where it was read; None where there is none."""
    # each public attribute of Gammapy reads the file
    parts = observation.__dict__
    attribute = name if name in ("aeff", "edisp", "psf") else f"_{name}"
    location = parts.get(f"_{attribute}_hdu")
    if isinstance(location, HDULocation) and not has_hdu(location):
        location = None
    return parts.get(attribute), location


def has_hdu(location):
    """Whether there is an HDU that an index names, as far as indices are guessed.

    `~gammapy.data.DataStore.from_events_files` does not look whether the files have
    edisp, PSF and background. Gammapy takes for none what they do not have.

    Parameters
    ----------
    location : `~gammapy.utils.fits.HDULocation`
        Where the HDU is said to be.

    Returns
    -------
    has_hdu : bool
        False if an IRF of a guessed index is not in its file.
    """
    is_irf = location.hdu_class.startswith(("edisp", "psf", "bkg"))
    # an index on disk has a folder
    if not is_irf or str(location.base_dir) not in ("", "."):
        return True
    path = location.path()
    if not path.is_file():
        return True
    names = _read_hdu_names(path, path.stat().st_mtime_ns)
    return not names or location.hdu_name.strip().upper() in names


@functools.cache
def _read_hdu_names(path, mtime):
    """Names of the HDUs of a file, none if it cannot be read: its reader tells why."""
    try:
        with open_fits(path) as hdu_list:
            return {hdu.name for hdu in hdu_list}
    except OSError:
        return set()


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
    except (KeyError, TypeError, ValueError, u.UnitsError) as error:
        text = f"OBS_ID {observation.obs_id} cannot be read from {events.path()}: "
        raise ValueError(add_way_out(text + describe_error(error))) from error
    return getattr(observation, HEADER_ATTRIBUTE)


def _load_file(observation, events, gti, with_events):
    # others are read by Gammapy, which would wait for the end of anything
    for part in (get_hdu(observation, name) for name in ("gti", *IRF_NAMES)):
        if isinstance(part, HDULocation):
            check_regular(part.path())
    with open_fits(events.path()) as hdu_list:
        hdu = hdu_list[events.hdu_name]
        # before Gammapy reads the same HDU, as it needs the dead time
        check_header(hdu.header, get_obs_id(observation))
        cards = [(_.keyword, _.value) for _ in hdu.header.cards]
        header = {}
        for key, value in cards:
            header.setdefault(key, value if has_value(value) else None)
        if with_events:
            for name in set(EVENT_UNITS) & set(hdu.columns.names):
                column = hdu.columns[name]
                # GADF prescribes the units
                if not column.unit:
                    column.unit = EVENT_UNITS[name]
                get_unit_factor(name, column.unit, EVENT_UNITS[name])
            _keep_part(observation, "events", read_event_list(hdu, cards))
        if isinstance(gti, HDULocation) and gti.path() == events.path():
            if gti.hdu_name not in hdu_list:
                raise ValueError(f"no GTI in the file, no HDU {gti.hdu_name!r}")
            hdu = hdu_list[gti.hdu_name]
            reference = get_time_ref(hdu.header, "GTI")
            start, stop = read_gti(hdu, hdu.header) * u.s
            _keep_part(observation, "gti", GTI.create(start, stop, reference))

    setattr(observation, HEADER_ATTRIBUTE, header)
    # what is in memory may be other than what is on disk
    if isinstance(get_hdu(observation, "pointing"), HDULocation):
        try:
            pointing = FixedPointingInfo.from_fits_header(header)
        except OSError as error:
            raise ValueError(f"the header of the events: {error}") from None
        _keep_part(observation, "pointing", pointing)
    if isinstance(get_hdu(observation, "meta"), HDULocation):
        _keep_part(observation, "meta", ObservationMetaData.from_header(header))


def describe_error(error, path=""):
    """Describe an error of reading a file, with the key that is missing.

    Parameters
    ----------
    error : Exception
        Error.
    path : str or `~pathlib.Path`, optional
        File, named if the error does not name it. Default is not to.

    Returns
    -------
    text : str
        Text.
    """
    text = str(error).rstrip(".") or type(error).__name__
    if isinstance(error, FileNotFoundError):
        text = "there is no such file"
    elif isinstance(error, KeyError) and error.args:
        key = str(error.args[0])
        text = f"{key} is missing" if key.isupper() else key.rstrip(".")
    return text if str(path) in text else f"{path}: {text}"


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
    with _name_fault(observation):
        if gti is None or len(gti.table) == 0:
            raise ValueError("no GTI")
        check_intervals(*get_intervals(gti))
    return gti


@contextlib.contextmanager
def _name_fault(observation):
    """Say of which observation and file an error is, and the way out."""
    try:
        yield
    except ValueError as error:
        # also of events that were read already
        _, location = _get_kept(observation, "events")
        where = "" if location is None else f", see {location.path()}"
        text = f"OBS_ID {observation.obs_id} has {error}{where}"
        raise ValueError(add_way_out(text)) from None


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
    good : `~gammapy_mimic.data.checks.GoodEvents`
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
    with _name_fault(observation):
        if events is None:
            raise ValueError("no events")
        good = select_good_events(observation, events, gti)
        if is_required:
            good.check_any()
    return events, good


def select_good_events(observation, events, gti):
    """Check the values of an observation, and select the events that count.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation.
    events : `~gammapy.data.EventList`
        Its events.
    gti : `~gammapy.data.GTI` or None
        Its good time intervals. None if they are not known: then all times are good.

    Returns
    -------
    events : `~gammapy_mimic.data.checks.GoodEvents`
        Events.

    Raises
    ------
    ValueError
        As for `~gammapy_mimic.data.checks.check_observation`.
    """
    pointing = get_fixed_pointing(observation)
    values = {
        "RA_PNT": pointing.ra.deg,
        "DEC_PNT": pointing.dec.deg,
        "DEADC": 1 - observation.observation_dead_time_fraction,
    }
    reference = events.time_ref if gti is None else gti.time_ref
    time = get_seconds(events.time, reference)
    intervals = None if gti is None else get_intervals(gti)
    return check_observation(events.table, values, time, intervals)


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
    # `Observation.copy` would read all IRFs
    names = ("events", "gti", *IRF_NAMES)
    update = {"optional": {**(observation.meta.optional or {}), **optional}}
    gti = parts.get("gti")
    if gti is None and get_hdu(observation, "gti") is not None:
        gti = observation.gti
    if gti is not None and len(gti.table):
        update["time_info"] = make_time_info(gti)
    return Observation(
        obs_id=observation.obs_id,
        meta=observation.meta.model_copy(update=update),
        pointing=observation.pointing,
        location=observation.observatory_earth_location,
        obs_filter=observation.obs_filter.copy(),
        **{name: get_hdu(observation, name) for name in names} | parts,
    )


def get_location(observation):
    """Get where an observation was taken, which the ALTAZ alignment needs.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation.

    Returns
    -------
    location : `~astropy.coordinates.EarthLocation`
        Location.

    Raises
    ------
    ValueError
        If it has none.
    """
    location = observation.observatory_earth_location
    if location is None:
        raise ValueError(
            f"OBS_ID {observation.obs_id} has no observatory location, which the ALTAZ "
            "alignment needs. Set GEOLON, GEOLAT and ALTITUDE in its header."
        )
    return location


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
    if observation.pointing is None:
        text = f"OBS_ID {observation.obs_id} has no pointing"
        raise ValueError(add_way_out(text))
    if observation.pointing.mode is PointingMode.DRIFT:
        raise ValueError(
            f"OBS_ID {observation.obs_id} was taken in DRIFT mode. Its field of view "
            "moves over the sky, only tracking observations (OBS_MODE = POINTING) "
            "can be used."
        )
    return observation.pointing.fixed_icrs


def get_altaz_pointing(observation, header):
    """Get the horizontal pointing of an observation, from its header or computed.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation that tracks a position.
    header : dict-like
        Header of its events.

    Returns
    -------
    keys : dict of float
        ALT_PNT and AZ_PNT, in deg. Those that the header does not tell are those of the
        middle of the good time, without refraction; none without a GTI or a location.
    """
    alt, az, zenith = (to_float(header.get(f"{_}_PNT")) for _ in ("ALT", "AZ", "ZEN"))
    known = {"ALT_PNT": 90 - zenith if np.isnan(alt) else alt, "AZ_PNT": az}
    keys = {key: value for key, value in known.items() if np.isfinite(value)}
    location = observation.observatory_earth_location
    if len(keys) == 2 or location is None or get_hdu(observation, "gti") is None:
        return keys
    gti, pointing = get_gti(observation), get_fixed_pointing(observation)
    start, stop = gti.time_start.min(), gti.time_stop.max()
    middle = start + (stop - start) / 2
    alt, az = get_altaz(pointing.ra.deg, pointing.dec.deg, 0.0, middle, location)
    return {"ALT_PNT": float(alt), "AZ_PNT": float(az)} | keys


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
    start, stop = get_intervals(get_gti(observation))
    if not np.sum(stop - start) > 0:
        raise ValueError(f"OBS_ID {observation.obs_id} has no good time.")
    fraction = 1 - observation.observation_dead_time_fraction
    return float(fraction * observation.obs_filter.livetime_fraction)


PoolLike: TypeAlias = DataStore | Iterable[Observation]
"""What `to_pool` takes."""


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
    OSError, ValueError
        If it is empty, or a row of a datastore leads out of its folder, see
        `~gammapy_mimic.data.files.check_links`.
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
    if isinstance(observations, DataStore):
        check_links(observations)
    return observations


def get_off_observation(off_observations, obs_id):
    """Get an observation of a pool.

    Parameters
    ----------
    off_observations : `~gammapy.data.DataStore` or `~gammapy.data.Observations`
        Pool.
    obs_id : int
        Observation ID.

    Returns
    -------
    observation : `~gammapy.data.Observation`
        Observation that can be loaded without an effect on the pool.

    Raises
    ------
    ValueError
        If it is not there.
    """
    obs_id = to_obs_id(obs_id)
    if isinstance(off_observations, DataStore):
        names = off_observations.obs_ids
        for name in names[to_obs_ids(names) == obs_id]:
            # Gammapy's error names no way out
            observation = off_observations.obs(name, [], require_events=False)
            for part in ("events", "gti"):
                if get_hdu(observation, part) is None:
                    base_dir = off_observations.hdu_table.base_dir
                    text = f"OBS_ID {obs_id} has no {part.upper()} in the HDU index of "
                    raise ValueError(add_way_out(f"{text}{base_dir}"))
            return observation
    else:
        for observation in off_observations:
            if get_obs_id(observation) == obs_id:
                return copy.copy(observation)
    raise ValueError(f"OBS_ID {obs_id} is not among the OFF observations.")


def replace_background(observation, bkg):
    """Give an observation another background, without reading its other parts.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation. Not changed.
    bkg : `~gammapy.irf.BackgroundIRF`
        Background.

    Returns
    -------
    observation : `~gammapy.data.Observation`
        Observation with the background. Its metadata say HDUVERS 0.3, as Gammapy would
        reverse the background of an old H.E.S.S. file.
    """
    return replace_parts(observation, {"HDUVERS": "0.3"}, bkg=bkg)
