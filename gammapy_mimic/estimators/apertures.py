"""Apertures in which counts are added, as labels of the pixels of a map.

No pixel is in two apertures, so that their counts are independent.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

__all__ = ["OUTSIDE", "Apertures", "make_grid", "make_region", "make_ring"]

OUTSIDE = -1
"""Label of pixels that are in no aperture."""

ROW_HEIGHT = np.sqrt(3) / 2
"""Distance of the rows of the closest packing of circles, by that of circles."""


class Apertures(NamedTuple):
    """Apertures on a map.

    Attributes
    ----------
    labels : `~numpy.ndarray` of int
        Index of the aperture of each pixel, `OUTSIDE` for none. Shape (n_y, n_x).
    pixels : `~numpy.ndarray`
        Centers, (y, x) in pixels. Shape (n, 2).
    pixel_size : float
        Size of a pixel in deg.
    """

    labels: np.ndarray
    pixels: np.ndarray
    pixel_size: float

    @property
    def positions(self):
        """Centers in the plane of the map, in deg. Shape (n, 2)."""
        return self.pixels * self.pixel_size

    @property
    def indices(self):
        """Pixels that hold the centers, as indices of y and x."""
        return tuple(np.rint(self.pixels).astype(int).T)

    def add(self, values):
        """Add up the pixels of each aperture.

        Parameters
        ----------
        values : `~numpy.ndarray`
            Values. Shape (..., n_y, n_x).

        Returns
        -------
        sums : `~numpy.ndarray`
            Shape (..., n).
        """
        inside = self.labels != OUTSIDE
        labels, n = self.labels[inside], len(self.pixels)
        *shape, _, _ = values.shape
        rows = values[..., inside].reshape(int(np.prod(shape)), len(labels))
        sums = [np.bincount(labels, _, n) for _ in rows]
        return np.reshape(sums, (*shape, n))

    def cut(self, rows, columns):
        """Get the same apertures on a part of the map.

        Parameters
        ----------
        rows, columns : slice
            Part.

        Returns
        -------
        apertures : `Apertures`
            Apertures, of which some may have no pixel. Centers stay those of the map.
        """
        return self._replace(labels=self.labels[rows, columns])


def make_grid(shape, pixel_size, radius):
    """Make circles that fill a map, as closely as circles can be packed.

    Parameters
    ----------
    shape : tuple of int
        Shape of the map, (n_y, n_x).
    pixel_size, radius : float
        Size of a pixel, and radius of the circles, in deg.

    Returns
    -------
    apertures : `Apertures`
        Circles whose center is on the map.
    """
    step = max(2 * radius / pixel_size, 1)
    center = (np.array(shape) - 1) / 2
    n_rows, n_columns = (np.array(shape) / step).astype(int) + 1
    rows, columns = np.mgrid[-n_rows : n_rows + 1, -n_columns : n_columns + 1]
    # each other row is shifted by a radius
    shifted = columns + (rows % 2) / 2
    pixels = np.stack([rows * ROW_HEIGHT, shifted], axis=-1).reshape(-1, 2) * step
    pixels = pixels + center
    is_inside = np.all((pixels > -0.5) & (pixels < np.array(shape) - 0.5), axis=1)
    return _make_circles(shape, pixel_size, radius, pixels[is_inside])


def make_ring(shape, pixel_size, radius, pixel, offset=None):
    """Make circles around a position, and around others of the same offset.

    Parameters
    ----------
    shape : tuple of int
        Shape of the map, (n_y, n_x).
    pixel_size, radius : float
        Size of a pixel, and radius of the circles, in deg.
    pixel : tuple of float
        Position, (y, x) in pixels.
    offset : `~numpy.ndarray`, optional
        Offset of each pixel, in deg. Shape (n_y, n_x). Default is not known: then
        there is the one circle.

    Returns
    -------
    apertures : `Apertures`
        Circles, the first of which is that at the position. The others are at offsets
        that differ by half a radius or less.
    """
    pixels = [np.asarray(pixel, dtype=float)]
    if offset is not None:
        y, x = (int(np.rint(_)) for _ in pixel)
        is_near = np.abs(offset - offset[y, x]) <= max(radius, pixel_size) / 2
        free = np.argwhere(is_near).astype(float)
        # neighbours touch, those farther away come later
        step = max(2 * radius / pixel_size, 1)
        while True:
            distance = np.hypot(*(free - pixels[-1]).T)
            free = free[distance >= step]
            if not len(free):
                break
            pixels.append(free[np.argmin(distance[distance >= step])])
    return _make_circles(shape, pixel_size, radius, np.array(pixels))


def make_region(mask, pixel_size):
    """Make one aperture of a mask.

    Parameters
    ----------
    mask : `~numpy.ndarray` of bool
        True inside. Shape (n_y, n_x).
    pixel_size : float
        Size of a pixel in deg.

    Returns
    -------
    apertures : `Apertures`
        One aperture.
    """
    labels = np.where(mask, 0, OUTSIDE)
    center = np.argwhere(mask).mean(axis=0) if mask.any() else np.zeros(2)
    return Apertures(labels, center[np.newaxis], pixel_size)


def _make_circles(shape, pixel_size, radius, pixels):
    """Label the pixels that are within a radius of the nearest of the centers."""
    coordinates = np.argwhere(np.ones(shape, dtype=bool))
    distance, labels = cKDTree(pixels).query(coordinates)
    # of a circle that is smaller than a pixel, the pixel
    reach = max(radius / pixel_size, 0.5)
    labels = np.where(distance <= reach + 1e-9, labels, OUTSIDE)
    return Apertures(labels.reshape(shape), pixels, pixel_size)
