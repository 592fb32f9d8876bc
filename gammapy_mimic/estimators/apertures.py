"""Apertures in which counts are added, as labels of the pixels of a map.

No pixel is in two apertures, so that their counts are independent.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.sparse import csc_array
from scipy.spatial import cKDTree

__all__ = [
    "OUTSIDE",
    "ApertureSums",
    "Apertures",
    "make_grid",
    "make_region",
    "make_ring",
]

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
        return ApertureSums([self]).add(values)


class ApertureSums:
    """Sums in several kinds of apertures at once, by the product with a matrix.

    Parameters
    ----------
    apertures : list of `Apertures`
        Apertures on one map. Those of different ones may overlap.

    Attributes
    ----------
    parts : list of slice
        Part of the sums that belongs to each of them.
    """

    def __init__(self, apertures):
        ends = np.cumsum([0, *(len(_.pixels) for _ in apertures)])
        self.parts = [slice(*_) for _ in itertools.pairwise(ends.tolist())]
        self._shape = apertures[0].labels.shape
        # a column for each pixel, with the few apertures that it is in
        labels = np.stack([_.labels.ravel() for _ in apertures], axis=1)
        inside = labels != OUTSIDE
        rows = (labels + ends[:-1])[inside]
        starts = np.append(0, np.cumsum(inside.sum(axis=1)))
        shape = ends[-1], len(labels)
        self._matrix = csc_array((np.ones(len(rows)), rows, starts), shape=shape)

    def add(self, values, place=(slice(None), slice(None))):
        """Add up the pixels of each aperture, on a part of the map.

        Parameters
        ----------
        values : `~numpy.ndarray`
            Values. Shape (..., n_y, n_x).
        place : tuple of slice, optional
            Rows and columns of the map that they are those of. Default is all.

        Returns
        -------
        sums : `~numpy.ndarray`
            Shape (..., n), 0 for an aperture that is elsewhere.
        """
        *shape, n_y, n_x = values.shape
        matrix = self._matrix
        if (n_y, n_x) != self._shape:
            pixels = np.arange(matrix.shape[1]).reshape(self._shape)[place]
            matrix = matrix[:, pixels.ravel()]
        rows = values.reshape(-1, n_y * n_x).astype(float, copy=False)
        return (matrix @ rows.T).T.reshape(*shape, matrix.shape[0])


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
