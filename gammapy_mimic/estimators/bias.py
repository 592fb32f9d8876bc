"""Bias of a background in the field of view: counts over prediction."""

import dataclasses
import itertools
import logging
from typing import NamedTuple

import astropy.units as u
import numpy as np
from gammapy.maps import Map, WcsNDMap
from scipy import stats
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter

from ..data.prediction import get_safe_mask
from ..utils.angles import to_angle
from ..utils.coordinates import get_offset, get_vectors, local_axes
from .copies import check_background_model, replace_parts
from .measurement import read_pointings

__all__ = ["BiasMap", "CorrectedDataset", "make_bias_map", "stack_fov"]

log = logging.getLogger(__name__)

P_VALUE_MAX = 0.01
MIN_COUNTS = 10  # background counts of a bin that is tested


class CorrectedDataset(NamedTuple):
    """Dataset with a corrected background.

    Attributes
    ----------
    dataset : `~gammapy.datasets.MapDataset`
        Dataset.
    error : `~gammapy.maps.Map`
        Relative error of the correction, on the geometry of the background.
    """

    dataset: object
    error: Map


class FoVCounts(NamedTuple):
    """Counts in bins of energy and of position in the field of view.

    Attributes
    ----------
    counts : `~numpy.ndarray`
        Counts. Shape (n_bands, n_lat, n_lon).
    background : `~numpy.ndarray`
        Predicted background. Same shape.
    variance : `~numpy.ndarray`
        Variance of their difference, if the prediction is right. Same shape.
    """

    counts: np.ndarray
    background: np.ndarray
    variance: np.ndarray


def stack_fov(datasets, energy_edges, position_edges):
    """Add the counts of observations in coordinates of the field of view.

    The counts of a pixel of a map are those of its centre. Coordinates are those of the
    pointing, to the east and north, in the projection in which distances from the
    centre are offsets.

    Parameters
    ----------
    datasets : list of `~gammapy.datasets.MapDataset`
        Datasets of single observations, with their pointing in the meta table.
    energy_edges : `~numpy.ndarray`
        Edges of the bands of energy, in TeV. Shape (n_bands + 1,).
    position_edges : `~numpy.ndarray`
        Edges in both directions, in deg. Shape (n_positions + 1,).

    Returns
    -------
    fov_counts : `FoVCounts`
        Counts.

    Raises
    ------
    ValueError
        If a dataset is that of several observations.
    """
    n_bands, n_bins = len(energy_edges) - 1, len(position_edges) - 1
    total = np.zeros((3, n_bands, n_bins**2))
    geom = vectors = None
    for pointing, group in _group_datasets(datasets):
        if group[0].counts.geom != geom:
            geom = group[0].counts.geom
            vectors = get_vectors(geom.to_image().get_coord().skycoord)
        energy = geom.axes["energy"].center.to_value("TeV")
        bands = np.digitize(energy, energy_edges) - 1
        counts = [_get_pixel_counts(_) for _ in group]
        used = np.flatnonzero(np.any([safe.any(axis=0) for _, safe in counts], axis=0))
        lon, lat = (
            np.digitize(_, position_edges) - 1
            for _ in _to_fov(vectors[:, used], pointing)
        )
        inside = (lon >= 0) & (lon < n_bins) & (lat >= 0) & (lat < n_bins)
        used, idx = used[inside], (lat * n_bins + lon)[inside]
        for band in range(n_bands):
            images = _add_images(counts, np.flatnonzero(bands == band))
            sums = [
                np.bincount(idx, image.ravel()[used], minlength=n_bins**2)
                for image in images
            ]
            # the variance of counts is their prediction, if that is exact
            total[:, band] += sums[0], sums[1], sums[-1]
    return FoVCounts(*total.reshape(3, n_bands, n_bins, n_bins))


def _group_datasets(datasets):
    """Yield each pointing with its datasets of one geometry, which all sets have."""
    groups = {}
    for idx, dataset in enumerate(datasets):
        pointings, geom = read_pointings([dataset]), dataset.counts.geom
        if pointings is None or pointings.shape[1] != 1:
            number = "no" if pointings is None else pointings.shape[1]
            raise ValueError(
                f"The dataset {dataset.name} has {number} pointings. The field of view "
                "is that of one observation: reduce with datasets.stack = false."
            )
        same = groups.setdefault(tuple(pointings[:, 0]), [])
        for other, stat_type, group in same:
            if other == geom and stat_type == dataset.stat_type:
                group.append(idx)
                break
        else:
            same.append((geom, dataset.stat_type, [idx]))
    for pointing, same in groups.items():
        for _, _, group in same:
            yield pointing, [datasets[_] for _ in group]


def _get_pixel_counts(dataset):
    """Get counts, background and, with OFF counts, variance, and the safe mask."""
    safe, counts = get_safe_mask(dataset), dataset.counts.data
    if dataset.stat_type != "wstat":
        return [counts, dataset.npred_background().data], safe
    background = dataset.background.data
    with np.errstate(invalid="ignore", divide="ignore"):
        alpha = np.nan_to_num(dataset.alpha.data, posinf=0)
    # b of the counts, and alpha b of the OFF counts times alpha
    return [counts, background, background * (1 + alpha)], safe


def _add_images(counts, bins):
    """Add the maps of `_get_pixel_counts` in bins of energy. Shape (n, n_y, n_x)."""
    images = np.zeros((len(counts[0][0]), *counts[0][1].shape[1:]))
    # an image at a time, which stays in the cache of the processor
    for idx, (values, safe) in itertools.product(bins, counts):
        background = values[1][idx]
        # a ratio needs a prediction
        valid = safe[idx] & (background > 0) & (background < np.inf)
        for image, data in zip(images, values, strict=True):
            np.add(image, data[idx], out=image, where=valid)
    return images


def _to_fov(vectors, pointing):
    """Coordinates to the east and north of a pointing, in deg. Shape (2, n).

    Vectors of the sky have the shape (3, n), the pointing is longitude and latitude.
    """
    vectors = local_axes(*pointing) @ vectors
    x, y, _ = vectors
    # at the pointing itself there is no direction, and both are 0
    scale = get_offset(vectors) / np.maximum(np.hypot(x, y), 1e-12)
    return scale * x, scale * y


@dataclasses.dataclass(frozen=True, eq=False)
class BiasMap:
    """Counts over prediction in coordinates of the field of view.

    Attributes
    ----------
    ratio, error : `~numpy.ndarray`
        Ratio of the smoothed counts and the smoothed prediction, 1 where there is no
        prediction, and its statistical error. Shape (n_bands, n_lat, n_lon).
    energy_edges : `~astropy.units.Quantity`
        Bands of energy. Shape (n_bands + 1,).
    position_edges : `~astropy.units.Quantity`
        Edges in both directions. Shape (n_lon + 1,).
    p_value : float
        Probability of counts that differ as much from the prediction, if that is right:
        that of the chi2 of bins of the correlation length. NaN if no bin has enough
        background.
    """

    ratio: np.ndarray
    error: np.ndarray
    energy_edges: u.Quantity
    position_edges: u.Quantity
    p_value: float

    @property
    def significance(self):
        """Difference from 1 over the error. Shape of the ratio."""
        deviation, nothing = self.ratio - 1, np.zeros_like(self.ratio)
        return np.divide(deviation, self.error, out=nothing, where=self.error > 0)

    @property
    def is_significant(self):
        """Whether counts and prediction differ by more than chance."""
        return bool(self.p_value < P_VALUE_MAX)

    def apply(self, dataset, force=False):
        """Multiply the background of a dataset by the ratio.

        Approximation: the background of a stacked dataset is multiplied by the mean
        ratio over its pointings.

        Parameters
        ----------
        dataset : `~gammapy.datasets.MapDataset`
            Dataset with a background model. Not changed.
        force : bool, optional
            Whether to apply a map that is not significant. Default is False.

        Returns
        -------
        corrected : `CorrectedDataset`
            Dataset, and the relative error of the correction.

        Raises
        ------
        ValueError
            If the map is not significant, the dataset has a measured background, or no
            pointing.
        """
        if not (self.is_significant or force):
            reason = f"p = {self.p_value:.2g}, at most {P_VALUE_MAX}"
            if np.isnan(self.p_value):
                reason = "it has no bin with enough background"
            raise ValueError(
                f"The bias map is not significant ({reason}): a correction would add "
                "noise. Use more mimic sets."
            )
        check_background_model(dataset)
        pointings = read_pointings([dataset])
        if pointings is None:
            raise ValueError(
                f"The dataset {dataset.name} has no RA_PNT and DEC_PNT in meta_table."
            )
        ratio, error = self._average_pointings(dataset.background.geom, pointings)
        error = WcsNDMap(dataset.background.geom, error / ratio)
        corrected = replace_parts(dataset, background=dataset.background * ratio)
        return CorrectedDataset(corrected, error)

    def _average_pointings(self, geom, pointings):
        """Ratio and error on a geometry, averaged over pointings."""
        energy = geom.axes["energy"].center.to_value("TeV")
        edges = self.energy_edges.to_value("TeV")
        # energies beyond the bands have the ratio of the nearest one
        bands = (np.digitize(energy, edges) - 1).clip(0, len(edges) - 2)
        edges = self.position_edges.to_value("deg")
        grid = [(edges[1:] + edges[:-1]) / 2] * 2
        vectors = get_vectors(geom.to_image().get_coord().skycoord)
        result = np.zeros((2, *geom.data_shape))
        # no correction, without error, where there are no mimics
        parts = [(self.ratio, 1), (self.error, 0)]
        for pointing in pointings.T:
            lon, lat = _to_fov(vectors, pointing)
            inside = (abs(lat) < edges[-1]) & (abs(lon) < edges[-1])
            points = np.clip(np.transpose([lat, lon]), grid[0][0], grid[0][-1])
            for (values, fill), total in zip(parts, result, strict=True):
                images = [RegularGridInterpolator(grid, _)(points) for _ in values]
                images = np.where(inside, images, fill)
                total += images.reshape(-1, *geom.data_shape[1:])[bands]
        return result / pointings.shape[1]


def make_bias_map(
    datasets,
    energy_edges,
    width="6 deg",
    binsz="0.1 deg",
    smooth="0.25 deg",
    repetition=1.0,
):
    r"""Make the map of counts over prediction.

    Both are smoothed by a Gaussian :math:`K`. The variance of the ratio is
    :math:`\sum K^2 v / (\sum K b)^2` with the variance v and the prediction b.

    Parameters
    ----------
    datasets : list of `~gammapy.datasets.MapDataset`
        Datasets of single mimic observations.
    energy_edges : `~astropy.units.Quantity`
        Bands of energy.
    width, binsz, smooth : `~astropy.coordinates.Angle` or str, optional
        Width of the field of view, of a bin, and of the Gaussian (its sigma).
    repetition : float, optional
        Factor of the variance for observations that are there more than once: the mean
        number of times of an event. Default is 1.

    Returns
    -------
    bias : `BiasMap`
        Map.
    """
    width, binsz, smooth = (to_angle(_).deg for _ in (width, binsz, smooth))
    n_bins = int(np.ceil(width / binsz))
    edges = (np.arange(n_bins + 1) - n_bins / 2) * binsz
    fov = stack_fov(datasets, energy_edges.to_value("TeV"), edges)
    sigma = (0, smooth / binsz, smooth / binsz)
    # outside there is neither a count nor a prediction
    counts = gaussian_filter(fov.counts, sigma, mode="constant")
    background = gaussian_filter(fov.background, sigma, mode="constant")
    # the square of a Gaussian is one of sigma / sqrt(2), of this integral
    narrow = (0, *(_ / np.sqrt(2) for _ in sigma[1:]))
    integral = 1 / (4 * np.pi * (smooth / binsz) ** 2)
    variance = gaussian_filter(fov.variance, narrow, mode="constant") * integral
    # a Gaussian averages 1 / integral bins
    valid = background > MIN_COUNTS * integral
    ratio = np.divide(counts, background, out=np.ones_like(counts), where=valid)
    error = np.sqrt(variance * repetition)
    error = np.divide(error, background, out=np.zeros_like(counts), where=valid)
    return BiasMap(
        ratio=ratio,
        error=error,
        energy_edges=energy_edges,
        position_edges=edges * u.deg,
        p_value=_test_chi2(fov, max(round(2 * smooth / binsz), 1), repetition),
    )


def _test_chi2(fov, n_merge, repetition):
    """P-value of the chi2 of counts and prediction in blocks of bins."""
    # smoothed bins are correlated, and have no chi2
    n_bands, n_bins, _ = fov.counts.shape
    n_blocks = n_bins // n_merge
    shape = n_bands, n_blocks, n_merge, n_blocks, n_merge
    inside = slice(n_blocks * n_merge)
    counts, background, variance = (
        values[:, inside, inside].reshape(shape).sum(axis=(2, 4)) for values in fov
    )
    valid = background > MIN_COUNTS
    if not valid.any():
        return np.nan
    chi2 = (counts - background)[valid] ** 2 / (variance[valid] * repetition)
    return float(stats.chi2.sf(chi2.sum(), valid.sum()))
