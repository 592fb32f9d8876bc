"""Coordinates of events in a frame that is fixed in the field of view or camera."""

import numpy as np

from ..utils.coordinates import (
    from_fov_lon_lat,
    from_polar,
    get_azimuth,
    get_offset,
    to_fov_lon_lat,
)

__all__ = ["turn_fov_columns"]

ORIENTATION_OFFSET = 0.1  # deg, from which on rounding does not matter
ORIENTATION_CONCENTRATION = 0.9
SAMPLE_SIZE = 2000


def turn_fov_columns(x, y, old, new, donors=None, seconds=None, new_seconds=None):
    """Turn coordinates of a frame that is fixed in the FoV or in the camera.

    The orientation of the frame, which may turn with time, and whether it is a mirror
    image (GADF's DETX has the opposite sign of ``fov_lon``) are found from the events.

    Parameters
    ----------
    x, y : `~numpy.ndarray`
        Coordinates of the events, of any unit. Shape (n,), in the order of time.
    old : tuple of `~numpy.ndarray`
        Offsets, in deg, and azimuths, in rad, of the events. Shape (n,).
    new : tuple of `~numpy.ndarray`
        Offsets and azimuths to which events are moved. Shape (m,).
    donors : `~numpy.ndarray` of int
        Indices of the events that are moved. Shape (m,).
    seconds, new_seconds : `~numpy.ndarray`
        Times of the events, and times at which they are placed, if these are others.
        Shapes (n,) and (m,).

    Returns
    -------
    x, y : `~numpy.ndarray` or None
        Coordinates of the moved events, None if they do not fit the positions.
    """
    offset, azimuth = old
    x, y = (np.asarray(values, dtype=float) for values in (x, y))
    good = np.nonzero((offset > ORIENTATION_OFFSET) & (abs(x) + abs(y) > 0))[0]
    if len(good) < 3:
        return None
    # what holds for all events is found from some, and their next in time
    sample = np.arange(0, len(good) - 1, max(len(good) // SAMPLE_SIZE, 1))
    sample = good[np.sort(np.concatenate([sample, sample + 1]))]
    on_sphere = _is_longitude_and_latitude(x[sample], y[sample], offset[sample])
    to_polar = _sphere_to_polar if on_sphere else _plane_to_polar
    radius, angle = to_polar(x[sample], y[sample])
    sign = _find_sign(angle, azimuth[sample])
    if sign is None:
        return None
    # close to the centre, or at another time, that of the next event in time
    if new_seconds is None:
        nearest = good[_find_nearest(good, donors)]
    else:
        good = good[np.argsort(seconds[good], kind="stable")]
        nearest = good[_find_nearest(seconds[good], new_seconds)]
    orientation = to_polar(x[nearest], y[nearest])[1] + sign * azimuth[nearest]
    new_offset, new_azimuth = new
    radius = _project(radius, offset[sample], new_offset)
    to_columns = _polar_to_sphere if on_sphere else _polar_to_plane
    return to_columns(radius, orientation - sign * new_azimuth)


def _find_sign(angle, azimuth):
    """Find the sign of the azimuth, for pairs of events that are next in time.

    It is 1 for a mirror image of the sky as seen from Earth, None if neither fits.
    """
    fit = {}
    for sign in (1, -1):
        turn = angle + sign * azimuth
        fit[sign] = abs(np.mean(np.exp(1j * (turn[1::2] - turn[::2]))))
    sign = max(fit, key=fit.get)
    return sign if fit[sign] > ORIENTATION_CONCENTRATION else None


def _is_longitude_and_latitude(x, y, offset):
    """Whether coordinates are angles in deg on the sphere, and not in a plane.

    So they are in Gammapy's ``FoVICRSFrame``: 0.005 deg at an offset of 3 deg.
    """
    radius, _ = _plane_to_polar(x, y)
    if radius.max() > 180:
        return False
    error = _project(radius, offset, offset) - radius
    sphere_error = _sphere_to_polar(x, y)[0] - offset
    return np.median(abs(sphere_error)) < np.median(abs(error))


def _plane_to_polar(x, y):
    """From coordinates to radius and angle, in rad."""
    return np.hypot(x, y), np.arctan2(y, x)


def _polar_to_plane(radius, angle):
    return radius * np.cos(angle), radius * np.sin(angle)


def _sphere_to_polar(lon, lat):
    """From longitude and latitude to offset, all in deg, and angle, in rad."""
    vectors = from_fov_lon_lat(-lon, lat)
    return get_offset(vectors), np.pi / 2 - get_azimuth(vectors)


def _polar_to_sphere(offset, angle):
    lon, lat = to_fov_lon_lat(from_polar(offset, np.pi / 2 - angle))
    return -lon, lat


def _project(radius, offset, new_offset):
    """Distances from the centre at other offsets, in the projection that fits best."""
    fits = []
    for projection in (np.positive, np.tan, np.sin):
        projected = projection(np.radians(offset))
        scale = np.sum(radius) / np.sum(projected)
        error = np.median(abs(radius - scale * projected))
        fits.append((error, scale, projection))
    _, scale, projection = min(fits, key=lambda fit: fit[0])
    return scale * projection(np.radians(new_offset))


def _find_nearest(values, wanted):
    """Find the nearest of sorted values, at least two of them."""
    idx = np.searchsorted(values, wanted).clip(1, len(values) - 1)
    return idx - (wanted - values[idx - 1] < values[idx] - wanted)
