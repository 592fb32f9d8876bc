"""Values between which Gammapy interpolates, from mean rates in bins."""

import numpy as np

from .bins import get_center

__all__ = ["AxisRule", "apply", "make_nodes"]

N_STEPS = 50
TOLERANCE = 1e-6


class AxisRule:
    """How Gammapy interpolates a rate along an axis, and its mean in the bins.

    There are two points of Gauss-Legendre in each half of a bin, at ``points``, in rad
    or as the log of the energy in TeV.

    Parameters
    ----------
    axis : `~gammapy.maps.MapAxis`
        Axis "energy" (interpolated in the log of it), "offset", "fov_lon" or
        "fov_lat" of a background IRF.
    """

    def __init__(self, axis):
        self.name = axis.name
        unit = "TeV" if axis.name == "energy" else "rad"
        edges = axis.edges.to_value(unit)
        self.edges = np.log(edges) if axis.name == "energy" else edges
        self.nodes = get_center(self.edges)
        breaks = np.sort(np.concatenate([self.edges, self.nodes]))
        half = np.diff(breaks) / 2
        points = get_center(breaks)[:, np.newaxis] + np.outer(
            half, [-1, 1] / np.sqrt(3)
        )
        self.points, self._width = points.ravel(), np.repeat(half, 2)

    def get_measure(self, values):
        """Energy or solid angle per step along the axis."""
        if self.name == "energy":
            return np.exp(values)
        if self.name == "offset":
            return 2 * np.pi * np.sin(values)
        return np.cos(values) if self.name == "fov_lat" else np.ones_like(values)

    def make_interpolation(self):
        """Matrix from the nodes to the points. Shape (4 n, n)."""
        nodes, points = self.nodes, self.points
        result = np.zeros((len(points), len(nodes)))
        if len(nodes) == 1:
            return result + 1
        idx = (np.searchsorted(nodes, points) - 1).clip(0, len(nodes) - 2)
        share = (points - nodes[idx]) / (nodes[idx + 1] - nodes[idx])
        if self.name == "offset":  # MapDatasetMaker pads it towards the pointing
            share = share.clip(0)
        rows = np.arange(len(points))
        result[rows, idx], result[rows, idx + 1] = 1 - share, share
        return result

    def make_mean(self):
        """Matrix from the points to the means of the bins. Shape (n, 4 n)."""
        weights = self._width * self.get_measure(self.points)
        weights = np.repeat(np.eye(len(self.nodes)), 4, axis=1) * weights
        return weights / weights.sum(axis=1, keepdims=True)


def make_nodes(rate, ratio, exposure, axes):
    r"""Make the values to interpolate between.

    Gammapy interpolates the log of the rate between the centres of the bins, log in
    energy. The mean of that in a bin, :math:`I(\ln r)`, is not the value at its centre:
    by the slope of the spectrum, the growth of the solid angle with offset, and the
    curvature. For a smooth rate m the values at the centres are the fixed point of

    .. math:: \ln r \leftarrow \ln r + \ln m - \ln I(\ln r)

    Noise would grow by it. So the ratio to the smooth rate is not treated in this way.
    A factor then makes the counts that Gammapy predicts those of rate and ratio.

    Parameters
    ----------
    rate : `~numpy.ndarray`
        Smooth mean rate in the bins, positive. Same shape as the axes.
    ratio : `~numpy.ndarray`
        Ratio of the mean rate to it, positive. Same shape.
    exposure : `~numpy.ndarray`
        Exposure, the product of which with the rate is counts. Same shape.
    axes : `~gammapy.maps.MapAxes`
        Axes of a background IRF.

    Returns
    -------
    rate : `~numpy.ndarray`
        Rate at the centres. Same shape.
    """
    rules = [AxisRule(_) for _ in axes]
    interpolation = [_.make_interpolation() for _ in rules]
    mean = [_.make_mean() for _ in rules]

    def get_mean(log_rate):
        return apply(mean, np.exp(apply(interpolation, log_rate)))

    log_mean = np.log(rate)
    log_rate = log_mean
    for _ in range(N_STEPS):
        change = log_mean - np.log(get_mean(log_rate))
        log_rate = log_rate + change
        if np.abs(change).max() < TOLERANCE:
            break
    result = np.exp(log_rate + np.log(ratio))
    predicted = (exposure * get_mean(np.log(result))).sum()
    return result * (exposure * rate * ratio).sum() / predicted


def apply(matrices, array):
    """Multiply the last axes of an array by one matrix each."""
    first = array.ndim - len(matrices)
    for axis, matrix in reversed(list(enumerate(matrices, start=first))):
        before, after = array.shape[:axis], array.shape[axis + 1 :]
        if after:
            array = matrix @ array.reshape(*before, array.shape[axis], -1)
        else:
            array = array @ matrix.T
        array = array.reshape(*before, len(matrix), *after)
    return array
