"""Geometry of the sphere: vectors, fields of view, and rotations between them.

Moving a field of view is a rigid rotation of the sphere. With the RADEC alignment
one rotation carries the pointing and its local north to those of the target. With
the ALTAZ alignment each event keeps its camera position (Gammapy's
`~gammapy.utils.coordinates.FoVAltAzFrame`) at the time to which it is moved.

Positions on the sky are longitude and latitude, in deg, or unit vectors with the
components along the first axis. In a field of view (FoV) the components of a vector are
those to the east, to the north and to the centre. There, a position also has an offset
from the centre, in deg, and an azimuth from north to east, in rad; or the longitude and
latitude of Gammapy's `~gammapy.utils.coordinates.FoVICRSFrame`, of which the longitude
grows to the west.
"""

import functools
import warnings

import astropy.units as u
import numpy as np
from astropy.coordinates import AltAz, SkyCoord
from astropy.coordinates.erfa_astrom import ErfaAstromInterpolator, erfa_astrom
from astropy.utils import iers
from scipy.spatial import cKDTree

__all__ = [
    "altaz_to_radec",
    "from_fov_lon_lat",
    "from_polar",
    "get_altaz",
    "get_axes",
    "get_azimuth",
    "get_offset",
    "get_ring_area",
    "get_separation",
    "get_vectors",
    "is_touching",
    "is_touching_any",
    "local_axes",
    "make_ring",
    "move_altaz",
    "move_radec",
    "rotate_fov",
    "to_fov_lon_lat",
    "to_lon_lat",
    "to_vectors",
]

# Earth rotation is exact in the interpolation; what is interpolated (precession,
# aberration, polar motion) changes the direction by less than 1e-9 deg in this time.
INTERPOLATION_STEP = 300 * u.s

EARTH_ROTATION = np.radians(360 * 1.00273781191135448 / 86400)
"""Rate of the Earth rotation angle, in rad/s."""

RING_POINTS = 40_000  # fractions are true to 1e-4 rms, less than 1e-3 at most

GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


def to_vectors(lon, lat):
    """Make unit vectors of shape (3, n), for positions in deg of shape (n,)."""
    lon, lat = np.radians(lon), np.radians(lat)
    cos_lat = np.cos(lat)
    return np.array([cos_lat * np.cos(lon), cos_lat * np.sin(lon), np.sin(lat)])


def to_lon_lat(vectors):
    """Longitude, from 0 to 360, and latitude of vectors of shape (3, n), in deg."""
    x, y, z = vectors
    lon, lat = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))
    return np.degrees(lon) % 360, np.degrees(lat)


def get_vectors(position):
    """Make unit vectors (ICRS) of a `~astropy.coordinates.SkyCoord`. Shape (3, n)."""
    position = position.icrs.reshape(-1)
    # columns of observation tables have single precision
    return to_vectors(*(_.deg.astype(float) for _ in (position.ra, position.dec)))


def local_axes(lon, lat):
    """Make the unit vectors to the east and north of a position, in deg, and to it.

    The product of this matrix, of shape (3, 3), with vectors of the sky gives their
    coordinates in the frame of the position.
    """
    # north is 90 deg further along the meridian, which may be beyond the pole
    return np.array(
        [to_vectors(lon + 90, 0), to_vectors(lon + 180, 90 - lat), to_vectors(lon, lat)]
    )


def get_axes(pointing):
    """Make the `local_axes` of a `~astropy.coordinates.SkyCoord` (ICRS), a scalar."""
    return local_axes(pointing.icrs.ra.deg, pointing.icrs.dec.deg)


def get_separation(first, second):
    """Separation of unit vectors of shape (..., 3), in rad."""
    # by the chord, as the arccos of a product loses small angles
    return 2 * np.arcsin(np.clip(np.linalg.norm(first - second, axis=-1) / 2, 0, 1))


def get_offset(vectors):
    """Angle to the third axis, in deg. Shape (n,) for vectors of shape (3, n)."""
    # true to rounding at any angle, unlike the arccos of the third component
    return np.degrees(np.arctan2(np.hypot(vectors[0], vectors[1]), vectors[2]))


def get_azimuth(vectors):
    """Azimuth of vectors of the FoV from north to east, in rad. Shape (n,)."""
    return np.arctan2(vectors[0], vectors[1])


def from_polar(offset, azimuth):
    """Make unit vectors in the FoV, for offsets in deg and azimuths in rad."""
    offset, azimuth = np.broadcast_arrays(np.radians(offset), azimuth)
    sin = np.sin(offset)
    return np.array([sin * np.sin(azimuth), sin * np.cos(azimuth), np.cos(offset)])


def from_fov_lon_lat(lon, lat):
    """Make unit vectors in the FoV, for ``fov_lon`` and ``fov_lat`` in deg."""
    return to_vectors(-lon, lat)[[1, 2, 0]]


def to_fov_lon_lat(vectors):
    """``fov_lon`` and ``fov_lat``, in deg, of vectors in the FoV of shape (3, n)."""
    east, north, center = vectors
    lon, lat = np.arctan2(-east, center), np.arctan2(north, np.hypot(east, center))
    return np.degrees(lon), np.degrees(lat)


def get_ring_area(offset_min, offset_max):
    """Solid angle between two offsets, in deg, in sr."""
    return 2 * np.pi * (np.cos(np.radians(offset_min)) - np.cos(np.radians(offset_max)))


@functools.lru_cache(maxsize=64)
def make_ring(offset_min, offset_max):
    """Make unit vectors that fill a ring around the third axis. Shape (3, n).

    Each stands for the same solid angle. They follow a spiral that turns by the golden
    angle from one to the next. Offsets are in deg. The array is read-only.
    """
    cos_min, cos_max = np.cos(np.radians([offset_min, offset_max]))
    step = np.arange(RING_POINTS) + 0.5
    z = cos_min + (cos_max - cos_min) * step / RING_POINTS
    sin, angle = np.sqrt(1 - z**2), step * GOLDEN_ANGLE
    vectors = np.array([sin * np.cos(angle), sin * np.sin(angle), z])
    # whoever asks for the ring gets the same array
    vectors.setflags(write=False)
    return vectors


def is_touching(centers, radii, other_centers, other_radii):
    """Whether circles touch others.

    Parameters
    ----------
    centers, other_centers : `~numpy.ndarray`
        Unit vectors. Shape (3, n) and (3, m).
    radii, other_radii : float or `~numpy.ndarray`
        Radii of the circles, in deg. Shape (n,) and (m,), or one for all.

    Returns
    -------
    touching : `~numpy.ndarray`
        Boolean array of shape (n, m).
    """
    reach = np.minimum(np.add.outer(radii, other_radii), 180)
    return centers.T @ other_centers >= np.cos(np.radians(reach))


def is_touching_any(pointings, fov_radius, centers, radii):
    """Whether circles touch any of the fields of view, see `is_touching`.

    Needs little memory, whatever the numbers of pointings and circles. Shape (n,).
    """
    reach = np.radians(np.minimum(fov_radius + radii, 180))
    chord, _ = cKDTree(pointings.T).query(centers.T)
    return chord <= 2 * np.sin(reach / 2)


def rotate_fov(lon, lat, origin, new_origin):
    """Rotate positions rigidly from one field of view to another.

    The rotation carries ``origin`` to ``new_origin`` and local north to local north,
    so that the separation and the position angle of every position as seen from the
    pointing are kept. In terms of the rotations about the y and z axis it is

    .. math:: R = R_z(-lon') R_y(lat') R_y(-lat) R_z(lon)

    Parameters
    ----------
    lon, lat : `~numpy.ndarray`
        Positions, in deg. Shape (n,).
    origin, new_origin : tuple of float or of `~numpy.ndarray`
        Longitude and latitude of the old and the new pointing, in deg. Scalars, or
        arrays of shape (n,) with one pointing for each position. At a pole the
        longitude tells the direction of north.

    Returns
    -------
    lon, lat : `~numpy.ndarray`
        Rotated positions, in deg, with ``0 <= lon < 360``. Shape (n,).
    """
    (lon_from, lat_from), (lon_to, lat_to) = origin, new_origin
    x, y, z = to_vectors(np.subtract(lon, lon_from), lat)
    # the two rotations about the y axis are one, which is exact for a small difference
    angle = np.radians(np.subtract(lat_from, lat_to))
    cos, sin = np.cos(angle), np.sin(angle)
    lon, lat = to_lon_lat([cos * x + sin * z, y, cos * z - sin * x])
    return (lon + lon_to) % 360, lat


def move_radec(ra, dec, pointing, new_pointing):
    """Move events to another pointing, with the RADEC alignment.

    Parameters
    ----------
    ra, dec : `~numpy.ndarray`
        Event positions (ICRS), in deg. Shape (n,).
    pointing, new_pointing : `~astropy.coordinates.SkyCoord`
        Old and new pointing (ICRS), scalar.

    Returns
    -------
    ra, dec : `~numpy.ndarray`
        Moved positions, in deg. Shape (n,).
    """
    origins = [(_.icrs.ra.deg, _.icrs.dec.deg) for _ in (pointing, new_pointing)]
    return rotate_fov(ra, dec, *origins)


def move_altaz(ra, dec, pointing, new_pointing, frame, new_frame):
    """Move events to another pointing, with the ALTAZ alignment.

    Each event keeps its camera position: the one at the event's own time for the old
    pointing is the one at the mapped time for the new pointing. Precession, nutation,
    aberration and Earth rotation are those of astropy, interpolated in time
    (`~astropy.coordinates.erfa_astrom.ErfaAstromInterpolator`). Refraction is left
    out, as in Gammapy.

    Parameters
    ----------
    ra, dec : `~numpy.ndarray`
        Event positions (ICRS), in deg. Shape (n,).
    pointing, new_pointing : `~astropy.coordinates.SkyCoord`
        Old and new pointing (ICRS), scalar.
    frame, new_frame : `~astropy.coordinates.AltAz`
        Horizontal frames at the event times and at the mapped times, with
        ``obstime`` of shape (n,) and the location of the observatory.

    Returns
    -------
    ra, dec : `~numpy.ndarray`
        Moved positions, in deg. Shape (n,).
    """
    events = SkyCoord(ra, dec, unit="deg", frame="icrs")

    with erfa_astrom.set(ErfaAstromInterpolator(INTERPOLATION_STEP)):
        events = events.transform_to(frame)
        origin = pointing.icrs.transform_to(frame)
        new_origin = new_pointing.icrs.transform_to(new_frame)

        az, alt = rotate_fov(
            events.az.deg,
            events.alt.deg,
            (origin.az.deg, origin.alt.deg),
            (new_origin.az.deg, new_origin.alt.deg),
        )
        events = SkyCoord(az, alt, unit="deg", frame=new_frame).icrs

    return events.ra.deg, events.dec.deg


def altaz_to_radec(fov_lon, fov_lat, pointing, frame):
    """Find positions on the sky from camera positions, with the ALTAZ alignment.

    Parameters
    ----------
    fov_lon, fov_lat : `~numpy.ndarray`
        Positions in Gammapy's `~gammapy.utils.coordinates.FoVAltAzFrame`, in deg.
        Shape (n,).
    pointing : `~astropy.coordinates.SkyCoord`
        Pointing (ICRS), scalar.
    frame : `~astropy.coordinates.AltAz`
        Horizontal frame at the event times, with ``obstime`` of shape (n,).

    Returns
    -------
    ra, dec : `~numpy.ndarray`
        Positions (ICRS), in deg. Shape (n,).
    """
    with erfa_astrom.set(ErfaAstromInterpolator(INTERPOLATION_STEP)):
        origin = pointing.icrs.transform_to(frame)
        origin = origin.az.deg, origin.alt.deg
        # fov_lon grows to the left of the camera, azimuth to the right
        az, alt = rotate_fov(-fov_lon, fov_lat, (0, 0), origin)
        events = SkyCoord(az, alt, unit="deg", frame=frame).icrs
    return events.ra.deg, events.dec.deg


def get_altaz(ra, dec, seconds, reference, location):
    """Find the horizontal coordinates of events, each at its own time.

    Those at the reference time are turned with the Earth, which takes a fifth of the
    time of astropy's transformation for each event. Approximation: they differ by less
    than 0.2 arcsec for times within an hour of the reference, and 1.5 arcsec within a
    day. Refraction is left out, as in Gammapy. Nothing is downloaded: at times that no
    table of `astropy.utils.iers` has, the rotation of the Earth is known to 14 arcsec.

    Parameters
    ----------
    ra, dec : `~numpy.ndarray`
        Event positions (ICRS), in deg. Shape (n,).
    seconds : `~numpy.ndarray`
        Times of the events after the reference, in s. Shape (n,).
    reference : `~astropy.time.Time`
        Reference time, scalar.
    location : `~astropy.coordinates.EarthLocation`
        Location of the observatory.

    Returns
    -------
    alt, az : `~numpy.ndarray`
        Altitude and azimuth (north is 0, east is 90), in deg. Shape (n,).
    """
    events = SkyCoord(ra, dec, unit="deg", frame="icrs")
    frame = AltAz(obstime=reference, location=location)
    with (
        iers.conf.set_temp("auto_download", False),
        iers.conf.set_temp("auto_max_age", None),
        # of times that are not in the tables
        warnings.catch_warnings(action="ignore"),
    ):
        events = events.transform_to(frame)
    north, east, up = to_vectors(events.az.deg, events.alt.deg)
    lat = location.geodetic.lat.rad
    # from the zenith to the pole, by the hour angle that passes, and back
    equator, pole = _turn(up, north, lat)
    equator, west = _turn(equator, -east, EARTH_ROTATION * np.asarray(seconds))
    up, north = _turn(equator, pole, -lat)
    az, alt = to_lon_lat([north, -west, up])
    return alt, az


def _turn(x, y, angle):
    """Turn vectors in a plane by an angle, in rad, from x to y."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x - sin * y, sin * x + cos * y
