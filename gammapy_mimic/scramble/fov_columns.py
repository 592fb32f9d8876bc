"""Coordinates of events in a frame that is fixed in the field of view or camera."""

from collections.abc import Callable
from typing import NamedTuple

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


def turn_fov_columns(x, y, old, new, idx=None, seconds=None, new_seconds=None):
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
    idx : `~numpy.ndarray` of int
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
    sample = good[np.stack([sample, sample + 1], axis=1).ravel()]
    frame = _Frame.fit(x[sample], y[sample], offset[sample], azimuth[sample])
    if frame is None:
        return None
    # close to the centre, or at another time, that of the next event in time
    if new_seconds is None:
        nearest = good[_find_nearest(good, idx)]
    else:
        good = good[np.argsort(seconds[good], kind="stable")]
        nearest = good[_find_nearest(seconds[good], new_seconds)]
    orientation = frame.get_orientation(x[nearest], y[nearest], azimuth[nearest])
    return frame.place(*new, orientation)


class _Frame(NamedTuple):
    """Frame of two columns, apart from its orientation."""

    on_sphere: bool
    """Whether the columns are longitude and latitude, in deg, and not in a plane."""
    projection: Callable
    """From offset, in rad, to radius, apart from the scale."""
    scale: float
    """Scale of the radius."""
    sign: int
    """1 for a mirror image of the sky as seen from Earth, else -1."""

    @classmethod
    def fit(cls, x, y, offset, azimuth):
        """Fit to pairs of events that are next in time. None if no frame fits."""
        radius, angle = _to_polar(x, y, on_sphere=False)
        on_sphere = False
        # so they are in Gammapy's ``FoVICRSFrame``: 0.005 deg at an offset of 3 deg
        if radius.max() <= 180:
            projection, scale = _fit_projection(radius, offset)
            error = scale * projection(np.radians(offset)) - radius
            polar = _to_polar(x, y, on_sphere=True)
            on_sphere = np.median(abs(polar[0] - offset)) < np.median(abs(error))
            radius, angle = polar if on_sphere else (radius, angle)
        # with the right sign, the orientation changes little from an event to the next
        concentration = {}
        for sign in (1, -1):
            orientation = angle + sign * azimuth
            turn = orientation[1::2] - orientation[::2]
            concentration[sign] = abs(np.mean(np.exp(1j * turn)))
        sign = max(concentration, key=concentration.get)
        if not concentration[sign] > ORIENTATION_CONCENTRATION:
            return None
        return cls(on_sphere, *_fit_projection(radius, offset), sign)

    def get_orientation(self, x, y, azimuth):
        """Orientation, in rad, that the frame has for an event."""
        return _to_polar(x, y, self.on_sphere)[1] + self.sign * azimuth

    def place(self, offset, azimuth, orientation):
        """Coordinates of positions, in the frame with an orientation."""
        radius = self.scale * self.projection(np.radians(offset))
        angle = orientation - self.sign * azimuth
        if self.on_sphere:
            lon, lat = to_fov_lon_lat(from_polar(radius, np.pi / 2 - angle))
            return -lon, lat
        return radius * np.cos(angle), radius * np.sin(angle)


def _fit_projection(radius, offset):
    """Fit the distance from the centre: the projection that fits best, and its scale.

    The radius is proportional to the offset, its tangent or its sine.
    """
    fits = []
    for projection in (np.positive, np.tan, np.sin):
        projected = projection(np.radians(offset))
        scale = np.sum(radius) / np.sum(projected)
        error = np.median(abs(radius - scale * projected))
        fits.append((error, projection, scale))
    return min(fits, key=lambda fit: fit[0])[1:]


def _find_nearest(values, wanted):
    """Find the nearest of sorted values, at least two of them."""
    idx = np.searchsorted(values, wanted).clip(1, len(values) - 1)
    return idx - (wanted - values[idx - 1] < values[idx] - wanted)


def _to_polar(x, y, on_sphere):
    """Distance from the centre, in the unit of the columns, and angle, in rad."""
    if not on_sphere:
        return np.hypot(x, y), np.arctan2(y, x)
    vectors = from_fov_lon_lat(-x, y)
    return get_offset(vectors), np.pi / 2 - get_azimuth(vectors)
