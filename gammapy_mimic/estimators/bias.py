"""Bias of a background in the field of view: counts over prediction."""

import dataclasses
import logging
from typing import NamedTuple

import astropy.units as u
import numpy as np
from gammapy.datasets import MapDataset
from gammapy.maps import Map, WcsNDMap
from scipy import stats
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter

from ..data.prediction import get_safe_mask
from ..utils.angles import to_angle
from ..utils.coordinates import get_axes, get_offset, get_vectors
from .measurement import get_pointings

__all__ = ["BiasMap", "CorrectedDataset", "make_bias_map", "stack_fov"]

log = logging.getLogger(__name__)

P_VALUE_MAX = 0.01
# what a dataset has beside its background and models
PARTS = (
    "counts",
    "exposure",
    "psf",
    "edisp",
    "mask_safe",
    "mask_fit",
    "gti",
    "meta_table",
    "meta",
)
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
    total = np.zeros((3, n_bands, n_bins, n_bins))
    # the pixels of all sets have the same places, as they have the same pointings
    cache = {}
    for dataset in datasets:
        pointings, geom = get_pointings([dataset]), dataset.counts.geom
        if pointings is None or len(pointings) != 1:
            number = "no" if pointings is None else len(pointings)
            raise ValueError(
                f"The dataset {dataset.name} has {number} pointings. The field of view "
                "is that of one observation: reduce with datasets.stack = false."
            )
        (pointing,) = pointings
        projection = geom.wcs.to_header_string(), geom.data_shape
        key = pointing.ra.deg, pointing.dec.deg, *projection
        if key not in cache:
            position = geom.to_image().get_coord().skycoord.icrs
            lon, lat = (
                np.digitize(_, position_edges) - 1 for _ in _to_fov(position, pointing)
            )
            inside = (lon >= 0) & (lon < n_bins) & (lat >= 0) & (lat < n_bins)
            # the last bin is for the rest, and there for a dummy pixel
            idx = np.where(inside, lat * n_bins + lon, n_bins**2)
            cache[key] = np.append(idx, n_bins**2)
        bands = geom.axes["energy"].center.to_value("TeV")
        bands = np.digitize(bands, energy_edges) - 1
        for values, result in zip(_get_pixel_counts(dataset), total, strict=True):
            for band, image in zip(bands, values, strict=True):
                if 0 <= band < n_bands:
                    weights = np.append(image.ravel(), 0)
                    sums = np.bincount(cache[key], weights, minlength=n_bins**2 + 1)
                    result[band] += sums[:-1].reshape(n_bins, n_bins)
    return FoVCounts(*total)


def _get_pixel_counts(dataset):
    """Get counts, background and variance in each pixel, 0 where it is masked."""
    mask = get_safe_mask(dataset)
    counts = dataset.counts.data * mask
    if dataset.stat_type == "wstat":
        background = dataset.background.data
        with np.errstate(invalid="ignore", divide="ignore"):
            alpha = np.nan_to_num(dataset.alpha.data, posinf=0)
        # b of the counts, and alpha b of the OFF counts times alpha
        variance = background * (1 + alpha)
    else:
        background = variance = dataset.npred_background().data
    # a ratio needs a prediction
    valid = np.isfinite(background) & (background > 0)
    return [np.where(valid, _ * mask, 0) for _ in (counts, background, variance)]


def _to_fov(position, pointing):
    """Coordinates to the east and north of a pointing, in deg. Shape (2, n)."""
    vectors = get_axes(pointing) @ get_vectors(position)
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
        # a background that is measured in the field has the bias already in it
        if dataset.stat_type == "wstat" or dataset.background is None:
            raise ValueError(
                f"The dataset {dataset.name} has no background model to be corrected."
            )
        pointings = get_pointings([dataset])
        if pointings is None:
            raise ValueError(
                f"The dataset {dataset.name} has no RA_PNT and DEC_PNT in meta_table."
            )
        ratio, error = self._average_pointings(dataset.background.geom, pointings)
        error = WcsNDMap(dataset.background.geom, error / ratio)
        # a copy alone keeps the prediction of the old background in its cache
        copied = dataset.copy(name=dataset.name)
        corrected = MapDataset(
            **{name: getattr(copied, name) for name in PARTS},
            background=dataset.background * ratio,
            models=dataset.models,
            name=dataset.name,
        )
        return CorrectedDataset(corrected, error)

    def _average_pointings(self, geom, pointings):
        """Ratio and error on a geometry, averaged over pointings."""
        energy = geom.axes["energy"].center.to_value("TeV")
        edges = self.energy_edges.to_value("TeV")
        # energies beyond the bands have the ratio of the nearest one
        bands = (np.digitize(energy, edges) - 1).clip(0, len(edges) - 2)
        edges = self.position_edges.to_value("deg")
        grid = [(edges[1:] + edges[:-1]) / 2] * 2
        position = geom.to_image().get_coord().skycoord.icrs
        result = np.zeros((2, *geom.data_shape))
        # no correction, without error, where there are no mimics
        parts = [(self.ratio, 1), (self.error, 0)]
        for pointing in pointings:
            lon, lat = _to_fov(position, pointing)
            inside = (abs(lat) < edges[-1]) & (abs(lon) < edges[-1])
            points = np.clip(np.transpose([lat, lon]), grid[0][0], grid[0][-1])
            for (values, fill), total in zip(parts, result, strict=True):
                images = [RegularGridInterpolator(grid, _)(points) for _ in values]
                images = np.where(inside, images, fill)
                total += images.reshape(-1, *geom.data_shape[1:])[bands]
        return result / len(pointings)


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
