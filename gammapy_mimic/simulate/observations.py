"""Simulate observations: a header, a schedule, and datastores."""

import astropy.units as u
import numpy as np
from astropy.coordinates import AltAz, SkyCoord, angular_separation
from astropy.time import Time
from gammapy.data import (
    GTI,
    DataStore,
    EventList,
    EventListMetaData,
    FixedPointingInfo,
    Observation,
    ObservationMetaData,
    Observations,
    observatory_locations,
)

from ..data.datastore import write_datastore
from ..data.irfs import scale_rate
from ..utils.random import random_generator
from ..version import __version__
from .events import draw_events
from .irfs import make_irfs

__all__ = ["simulate_datastore", "simulate_observation", "simulate_observations"]

HEADER = {
    "HDUCLASS": "GADF",
    "HDUDOC": "https://github.com/open-gamma-ray-astro/gamma-astro-data-formats",
    "HDUVERS": "0.3",
    "HDUCLAS1": "EVENTS",
    "ORIGIN": "gammapy-mimic simulation",
    "TELESCOP": "SIMULATION",
    "INSTRUME": "IACT",
    "CREATOR": f"gammapy-mimic {__version__}",
    "EV_CLASS": "std",
    "MJDREFI": 51910,
    "MJDREFF": 0.000742870370370241,
    "TIMEUNIT": "s",
    "TIMESYS": "TT",
    "TIMEREF": "LOCAL",
    "RADESYS": "ICRS",
    "EQUINOX": 2000.0,
    "OBS_MODE": "POINTING",
    "N_TELS": 4,
    "TELLIST": "1,2,3,4",
    "MUONEFF": 1.0,
    "NSBLEVEL": 1.0,
    "QUALITY": 0,
}
"""Header of the events, the same for all observations. Times as for H.E.S.S."""

REFERENCE_TIME = Time(HEADER["MJDREFI"], HEADER["MJDREFF"], format="mjd", scale="tt")

DEADTIME_FRACTION = 0.1
"""Default dead time, and that of the observation which background IRFs are made for."""

WOBBLE_ANGLES = [0, 180, 90, 270] * u.deg
FIELD_SEPARATION = np.radians(7)  # the FoVs of two fields do not overlap
GALACTIC_POLE = np.radians([192.85948, 27.12825])
GALACTIC_LATITUDE_MIN = np.radians(10)

# Mean longitude of the Sun and Greenwich mean sidereal time, in deg and in days from
# J2000 (The Astronomical Almanac)
J2000 = 2451545.0
YEAR = 365.2422
SUN_LONGITUDE = 280.460
EARTH_ANGLE, EARTH_RATE = 280.46062, 360.98564737


def simulate_observation(
    obs_id,
    pointing,
    tstart,
    ontime="28 min",
    deadtime_fraction=DEADTIME_FRACTION,
    location=None,
    irfs=make_irfs,
    kept_irfs=dict,
    sources=(),
    meta=None,
    random_state=0,
):
    """Simulate an observation.

    The background is what `~gammapy.makers.MapDatasetMaker` predicts with its default
    options. As a background IRF is a rate per observation time, but events come in the
    livetime, it is scaled from 10% dead time to that of the observation. A
    `~gammapy.irf.Background2D` reaches one offset bin beyond its last.

    Parameters
    ----------
    obs_id : int
        Observation ID.
    pointing : `~astropy.coordinates.SkyCoord`
        Position that is tracked.
    tstart : `~astropy.time.Time`
        Start time.
    ontime : `~astropy.units.Quantity` or str, optional
        Observation time, including dead time. Default is 28 min.
    deadtime_fraction : float, optional
        Fraction of dead time. Default is 0.1.
    location : `~astropy.coordinates.EarthLocation`, optional
        Observatory. Default is that of H.E.S.S.
    irfs : dict or callable, optional
        IRFs "aeff", "edisp", "psf" and "bkg", or a function that returns them for a
        zenith angle. Default is `make_irfs`; other options of it are given by, say,
        ``functools.partial(make_irfs, background="2d")``.
    kept_irfs : callable, optional
        Function that makes the IRFs which the observation has of those by which its
        events are drawn, such as `make_point_like` or `remove_background`. Default is
        to keep all.
    sources : list of `~gammapy.modeling.models.SkyModel`, optional
        Sources, in the FoV or not. Default is none.
    meta : dict, optional
        Header keywords to add or to change, such as OBJECT, RA_OBJ, DEC_OBJ, NSBLEVEL.
    random_state : int, optional
        Seed. The same ``random_state`` and ``obs_id`` give the same random numbers.
        Default is 0.

    Returns
    -------
    observation : `~gammapy.data.Observation`
        Observation in memory. The events have a column MC_ID: 0 is background, 1 the
        first source.
    """
    ontime = u.Quantity(ontime).to("s")
    if not ontime > 0:
        raise ValueError(f"ontime must be positive, got {ontime}.")
    if not 0 <= deadtime_fraction < 1:
        raise ValueError(
            f"deadtime_fraction must be 0 or more and less than 1, "
            f"got {deadtime_fraction}."
        )
    location = observatory_locations["hess"] if location is None else location
    header = _make_header(obs_id, pointing, tstart, ontime, deadtime_fraction, location)
    header.update(meta or {})

    # from the header, in which the caller may have changed anything
    start = header["TSTART"] * u.s
    irfs = dict(irfs(header["ZEN_PNT"] * u.deg) if callable(irfs) else irfs)
    if irfs.get("bkg") is None:
        raise ValueError("irfs must have a background IRF, 'bkg'.")
    if deadtime_fraction != DEADTIME_FRACTION:
        factor = (1 - deadtime_fraction) / (1 - DEADTIME_FRACTION)
        irfs["bkg"] = scale_rate(irfs["bkg"], factor)
    parts = {
        "obs_id": obs_id,
        "meta": ObservationMetaData.from_header(header),
        "gti": GTI.create(start, start + ontime, reference_time=REFERENCE_TIME),
        "pointing": FixedPointingInfo.from_fits_header(header),
        "location": location,
    }
    rng = random_generator(random_state, "simulate events", obs_id)
    table = draw_events(Observation(**parts, **irfs), sources, rng)
    table.meta = header
    events = EventList(table, meta=EventListMetaData.from_header(header))
    return Observation(**parts, **kept_irfs(irfs), events=events)


def _make_header(obs_id, pointing, tstart, ontime, deadtime_fraction, location):
    """Make the header of the events, with the horizontal pointing at half time."""
    icrs, galactic = pointing.icrs, pointing.galactic
    tstart = tstart.tt
    tstop = tstart + ontime
    frame = AltAz(obstime=tstart + ontime / 2, location=location)
    altaz = icrs.transform_to(frame)
    if altaz.alt < 0 * u.deg:
        raise ValueError(
            f"The pointing of OBS_ID {obs_id}, {icrs.to_string()} deg, is below the "
            f"horizon at {tstart.utc.isot} (altitude {altaz.alt.deg:.1f} deg)."
        )
    start, ontime = (tstart - REFERENCE_TIME).to_value("s"), ontime.to_value("s")
    date_obs, time_obs = tstart.isot.split("T")
    date_end, time_end = tstop.isot.split("T")
    return HEADER | {
        "OBS_ID": obs_id,
        "TSTART": start,
        "TSTOP": start + ontime,
        "TELAPSE": ontime,
        "ONTIME": ontime,
        "LIVETIME": ontime * (1 - deadtime_fraction),
        "DEADC": 1 - deadtime_fraction,
        "DATE-OBS": date_obs,
        "TIME-OBS": time_obs,
        "DATE-END": date_end,
        "TIME-END": time_end,
        "RA_PNT": icrs.ra.deg,
        "DEC_PNT": icrs.dec.deg,
        "GLON_PNT": galactic.l.deg,
        "GLAT_PNT": galactic.b.deg,
        "ALT_PNT": altaz.alt.deg,
        "AZ_PNT": altaz.az.deg,
        "ZEN_PNT": 90 - altaz.alt.deg,
        "OBJECT": f"field of {obs_id}",
        "RA_OBJ": icrs.ra.deg,
        "DEC_OBJ": icrs.dec.deg,
        "GEOLON": location.lon.deg,
        "GEOLAT": location.lat.deg,
        "ALTITUDE": location.height.to_value("m"),
    }


def simulate_observations(
    n_obs=60,
    targets=None,
    zenith=("10 deg", "50 deg"),
    ontime="28 min",
    dates=("2010-01-01", "2020-01-01"),
    wobble_offset="0.5 deg",
    first_obs_id=1,
    location=None,
    meta=None,
    random_state=0,
    **kwargs,
):
    """Simulate observations of many fields, in nights of several years.

    Each target is observed four times in a row, wobbled to north, south, east and
    west, at four times and zenith angles. What is observed first does not depend on
    how many observations follow. To have targets and OFF observations of fields that
    are apart, make them together and split them.

    Parameters
    ----------
    n_obs : int, optional
        Number of observations. Default is 60.
    targets : dict, optional
        Positions (`~astropy.coordinates.SkyCoord`) by name. Default is None, for fields
        drawn at random outside the Galactic plane, at least 7 deg apart.
    zenith : tuple of `~astropy.units.Quantity` or of str, optional
        Range of zenith angles. Default is 10 to 50 deg.
    ontime : `~astropy.units.Quantity` or str, or a tuple of two, optional
        Observation time, or its range. Default is 28 min.
    dates : tuple of `~astropy.time.Time` or of str, optional
        Range of dates, a year or more. Default is 2010 to 2019, for which astropy
        needs no download.
    wobble_offset : `~astropy.units.Quantity` or str, optional
        Offset of the pointing from the target. Default is 0.5 deg.
    first_obs_id : int, optional
        First OBS_ID, the others follow. Default is 1.
    location, meta, random_state
        As for `simulate_observation`.
    **kwargs : dict, optional
        Other options of `simulate_observation`: ``irfs``, ``kept_irfs``, ``sources``
        and ``deadtime_fraction``.

    Returns
    -------
    observations : `~gammapy.data.Observations`
        Observations in memory.
    """
    if n_obs < 1:
        raise ValueError(f"n_obs must be 1 or more, got {n_obs}.")
    location = observatory_locations["hess"] if location is None else location
    zenith = [u.Quantity(_).to_value("deg") for _ in zenith]
    ontime = ontime if isinstance(ontime, tuple | list) else (ontime, ontime)
    ontime = [u.Quantity(_).to_value("s") for _ in ontime]
    if targets is None:
        # rounded up
        n_fields = -(-n_obs // len(WOBBLE_ANGLES))
        targets = _draw_fields(n_fields, zenith, location.lat.deg, random_state)
    targets = list(targets.items())

    observations = Observations()
    for idx in range(n_obs):
        # its own, so that it does not matter how many observations there are
        rng = random_generator(random_state, "simulate pointing", first_obs_id + idx)
        field, wobble = divmod(idx, len(WOBBLE_ANGLES))
        name, position = targets[field % len(targets)]
        pointing = position.icrs.directional_offset_by(
            WOBBLE_ANGLES[wobble], u.Quantity(wobble_offset)
        )
        time = _draw_time(pointing, zenith, dates, location, rng)
        duration = rng.uniform(*ontime) * u.s
        header = {
            "OBJECT": name,
            "RA_OBJ": position.icrs.ra.deg,
            "DEC_OBJ": position.icrs.dec.deg,
            "MUONEFF": rng.uniform(0.95, 1.05),
            "NSBLEVEL": rng.uniform(0.8, 1.2),
        }
        observation = simulate_observation(
            first_obs_id + idx,
            pointing,
            # the zenith angle is that at half time
            tstart=time - duration / 2,
            ontime=duration,
            location=location,
            meta=header | (meta or {}),
            random_state=random_state,
            **kwargs,
        )
        observations.append(observation)
    return observations


def _draw_fields(n_fields, zenith, latitude, random_state):
    """Draw positions apart from each other, that culminate in the range of zenith."""
    rng = random_generator(random_state, "simulate fields", 0)
    band = latitude + np.mean(zenith) * np.array([-1, 1])
    sin_dec = np.sin(np.radians(band.clip(-90, 90)))
    lon, lat = np.empty((2, 0))
    n_tries = 0
    while lon.size < n_fields:
        # uniform in solid angle
        field = rng.uniform(0, 2 * np.pi), np.arcsin(rng.uniform(*sin_dec))
        glat = np.pi / 2 - angular_separation(*GALACTIC_POLE, *field)
        separation = angular_separation(lon, lat, *field)
        if abs(glat) > GALACTIC_LATITUDE_MIN and np.all(separation > FIELD_SEPARATION):
            lon, lat = np.append(lon, field[0]), np.append(lat, field[1])
            n_tries = 0
        n_tries += 1
        if n_tries > 2000:
            raise ValueError(
                f"There is no room in the sky for {n_fields} fields with zenith angles "
                f"in {zenith} deg. Ask for fewer observations, or pass targets."
            )
    positions = SkyCoord(lon, lat, unit="rad")
    return {f"SIM J{_.ra.deg:05.1f}{_.dec.deg:+05.1f}": _ for _ in positions}


def _draw_time(pointing, zenith, dates, location, rng):
    """Draw a time at night when a pointing has a zenith angle in a range (in deg).

    Without precession, equation of time and so on: true to 0.5 deg. The Sun is 4 h or
    less from midnight.
    """
    dec, lat = pointing.dec.rad, location.lat.rad
    culmination = np.degrees(abs(dec - lat))
    if culmination > zenith[1]:
        raise ValueError(
            f"The pointing {pointing.to_string()} deg culminates at a zenith angle of "
            f"{culmination:.1f} deg, outside the range {zenith} deg."
        )
    first, last = (Time(_).jd - J2000 for _ in dates)
    n_years = int((last - first) // YEAR)
    if n_years < 1:
        raise ValueError(f"dates must be a year or more apart, got {dates}.")

    cos_zenith = np.cos(np.radians(rng.uniform(max(zenith[0], culmination), zenith[1])))
    cos_angle = (cos_zenith - np.sin(lat) * np.sin(dec)) / (np.cos(lat) * np.cos(dec))
    hour_angle = np.degrees(np.arccos(cos_angle.clip(-1, 1))) * rng.choice([-1, 1])
    sidereal_time = pointing.ra.deg + hour_angle

    # the day on which that sidereal time is at night, then the time of that day
    sun = sidereal_time - 180 + rng.uniform(-60, 60)
    day = first + (sun - SUN_LONGITUDE - 360 / YEAR * first) % 360 / 360 * YEAR
    day += rng.integers(n_years) * YEAR
    ahead = sidereal_time - location.lon.deg - EARTH_ANGLE - EARTH_RATE * day
    day += ((ahead + 180) % 360 - 180) / EARTH_RATE
    return Time(J2000, day, format="jd", scale="utc")


def simulate_datastore(path, n_obs=60, overwrite=False, **kwargs):
    """Simulate observations and write them as a datastore.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Folder of the datastore.
    n_obs : int, optional
        Number of observations. Default is 60.
    overwrite : bool, optional
        Whether to replace a datastore that is there. Default is False.
    **kwargs : dict, optional
        Options of `simulate_observations`.

    Returns
    -------
    datastore : `~gammapy.data.DataStore`
        Datastore.
    """
    observations = simulate_observations(n_obs, **kwargs)
    # in memory there is no file to link to
    write_datastore(observations, path, irfs="copy", overwrite=overwrite)
    return DataStore.from_dir(path)
