"""Significance and background of datasets, by energy and position."""

import itertools
import logging
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.convolution import Tophat2DKernel
from astropy.coordinates import SkyCoord
from gammapy.datasets import SpectrumDatasetOnOff
from gammapy.maps import Geom
from gammapy.stats import WStatCountsStatistic
from scipy.ndimage import binary_erosion

from ..data.prediction import get_safe_mask
from ..utils.coordinates import get_separation, get_vectors
from .excess import measure_excess

__all__ = [
    "ALL",
    "Band",
    "Measurement",
    "add_offsets",
    "get_bands",
    "get_circle",
    "get_clear_mask",
    "get_pixel_areas",
    "get_pointings",
    "get_source_free_mask",
    "has_rings",
    "is_map",
    "measure_maps",
    "measure_offset",
    "measure_spectra",
    "read_pointings",
    "snap_energy_edges",
    "split_bands",
]

log = logging.getLogger(__name__)

ALL = "all"  # name of the band of all energies
EDGE_TOLERANCE = 1e-3  # relative
RING_PIXELS = 20  # pixels of OFF acceptance, from which a background is that of a ring


class Band(NamedTuple):
    """Band of energy. Its fields are columns of the tables of the result.

    Attributes
    ----------
    band : str
        Name: "0", "1" ... from low to high energies, "all" for all energies.
    e_min : `~astropy.units.Quantity`
        Lower edge.
    e_max : `~astropy.units.Quantity`
        Upper edge.
    """

    band: str
    e_min: u.Quantity
    e_max: u.Quantity


class Measurement(NamedTuple):
    r"""Significance of datasets in the bands of energy of `get_bands`.

    Attributes
    ----------
    significance : `~numpy.ndarray`
        Significance, NaN where it is not defined. Shape (n_bands, n_y, n_x) for maps,
        (n_bands, n_datasets) for spectra.
    background : `~numpy.ndarray`
        Effective background counts, :math:`N_b / (1 + \alpha)`. Same shape.
    alpha : `~numpy.ndarray`
        Ratio of exposures, 0 for a background that is known exactly. Same shape.
    total : `~numpy.ndarray`
        Significance of all spectra together. Shape (n_bands,), NaN for maps.
    geom : `~gammapy.maps.Geom` or None
        Geometry of the maps without energy, None for spectra.
    offset : `~astropy.units.Quantity` or None
        Mean offset of each position over the pointings, None if they are not known.
    """

    significance: np.ndarray
    background: np.ndarray
    alpha: np.ndarray
    total: np.ndarray
    geom: Geom | None
    offset: u.Quantity | None = None


def is_map(dataset):
    """Whether a dataset has maps, rather than the spectrum of a region.

    Not by its class: in Gammapy, spectra are maps as well.

    Parameters
    ----------
    dataset : `~gammapy.datasets.Dataset`
        Dataset with counts.

    Returns
    -------
    is_map : bool
        Whether it has.
    """
    return not dataset.counts.geom.is_region


def snap_energy_edges(energy_edges, axis):
    """Move edges of bands of energy to the nearest edges of bins.

    Parameters
    ----------
    energy_edges : `~astropy.units.Quantity` or None
        Edges, which rise. None for one band of all bins.
    axis : `~gammapy.maps.MapAxis`
        Axis of the datasets.

    Returns
    -------
    energy_edges : `~astropy.units.Quantity`
        Edges of bins, in TeV.

    Raises
    ------
    ValueError
        If two edges are at the same edge of a bin.
    """
    edges = axis.edges.to("TeV")
    if energy_edges is None:
        return edges[[0, -1]]
    asked = energy_edges.to("TeV")
    distance = np.abs(np.log(asked[:, np.newaxis] / edges).value)
    idx = np.argmin(distance, axis=1)
    if len(np.unique(idx)) < len(idx):
        raise ValueError(
            f"energy_edges {asked} are finer than the bins of the datasets, or outside "
            f"of them. Choose from {edges}."
        )
    if np.any(distance.min(axis=1) > EDGE_TOLERANCE):
        log.warning(
            "energy_edges %s are not edges of bins of the datasets. The bands have the "
            "nearest, %s.",
            asked,
            np.round(edges[idx], 4),
        )
    return edges[idx]


def get_bands(energy_edges):
    """Get the bands of energy: each one, and all energies.

    Parameters
    ----------
    energy_edges : `~astropy.units.Quantity`
        Edges of the bands. Shape (n + 1,).

    Returns
    -------
    bands : list of `Band`
        From low to high energies, "all" at the end. "all" alone for n = 1.
    """
    total = Band(ALL, energy_edges[0], energy_edges[-1])
    if len(energy_edges) == 2:
        return [total]
    pairs = itertools.pairwise(energy_edges)
    return [*(Band(str(idx), *_) for idx, _ in enumerate(pairs)), total]


def split_bands(energy_edges):
    """Edges of an estimator for the bands, and of one for all energies.

    Parameters
    ----------
    energy_edges : `~astropy.units.Quantity`
        Edges of the bands of energy.

    Returns
    -------
    edges : list of `~astropy.units.Quantity`
        Edges of each run of the estimator, which together give `get_bands`.
    """
    is_one = len(energy_edges) == 2
    return [energy_edges] if is_one else [energy_edges, energy_edges[[0, -1]]]


def measure_maps(dataset, energy_edges, correlation_radius):
    """Measure the significance in a circle around every pixel.

    OFF counts of a ring are those of many pixels, and not added up once more.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.MapDatasetOnOff`
        Dataset.
    energy_edges : `~astropy.units.Quantity`
        Edges of the bands of energy.
    correlation_radius : `~astropy.coordinates.Angle`
        Radius of the circle.

    Returns
    -------
    measurement : `Measurement`
        Measurement.
    """
    bands = get_bands(energy_edges)
    arrays = measure_excess(dataset, bands, correlation_radius, not has_rings(dataset))
    total = np.full(len(bands), np.nan)
    return Measurement(*arrays, total, dataset.counts.geom.to_image())


def has_rings(dataset):
    """Whether the OFF counts of a pixel are those of many pixels around it.

    Then they are not to be added up in a circle once more.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.MapDatasetOnOff`
        Dataset.

    Returns
    -------
    has_rings : bool
        Whether they are. False without OFF counts.
    """
    if dataset.stat_type != "wstat":
        return False
    on, off = dataset.acceptance.data, dataset.acceptance_off.data
    valid = (on > 0) & (off > 0)
    return bool(valid.any() and np.median(off[valid] / on[valid]) > RING_PIXELS)


def measure_spectra(datasets, energy_edges):
    """Measure the significance of spectra.

    Parameters
    ----------
    datasets : list of `~gammapy.datasets.SpectrumDatasetOnOff`
        Spectra.
    energy_edges : `~astropy.units.Quantity`
        Edges of the bands of energy.

    Returns
    -------
    measurement : `Measurement`
        Measurement.
    """
    counts = np.array([_count(_, energy_edges) for _ in datasets])
    n_on, n_off, background = np.moveaxis(counts, 1, 0)
    total = _get_significance(*counts.sum(axis=0))
    alpha = np.divide(background, n_off, out=np.zeros_like(background), where=n_off > 0)
    return Measurement(
        significance=_get_significance(n_on, n_off, background).T,
        background=(background / (1 + alpha)).T,
        alpha=alpha.T,
        total=total,
        geom=None,
    )


def _count(dataset, energy_edges):
    """Count events, OFF events and background in each band. Shape (3, n_bands)."""
    if not isinstance(dataset, SpectrumDatasetOnOff):
        raise TypeError(
            f"Spectra must be a SpectrumDatasetOnOff, got {type(dataset).__name__}. "
            "Use a maker of OFF counts, such as ReflectedRegionsBackgroundMaker."
        )
    center = dataset.counts.geom.axes["energy"].center
    values = [dataset.counts, dataset.counts_off, dataset.background]
    values = [np.ravel(_.data * get_safe_mask(dataset)) for _ in values]
    bands = [
        (center >= band.e_min) & (center < band.e_max)
        for band in get_bands(energy_edges)
    ]
    return np.array([[np.sum(row[band]) for band in bands] for row in values])


def _get_significance(n_on, n_off, background):
    """Significance (Li & Ma 1983, ApJ 272, 317), NaN where there is no OFF count."""
    valid = n_off > 0
    alpha = np.divide(background, n_off, out=np.ones_like(background), where=valid)
    significance = WStatCountsStatistic(n_on, n_off, alpha).sqrt_ts
    return np.where(valid, significance, np.nan)


def read_pointings(datasets):
    """Read the pointings of all observations in datasets.

    Parameters
    ----------
    datasets : list of `~gammapy.datasets.Dataset`
        Datasets, stacked or not.

    Returns
    -------
    lon, lat : `~numpy.ndarray`
        Pointings (ICRS) in deg, one array of shape (2, n). None if the meta tables do
        not have them.
    """
    tables = [_.meta_table for _ in datasets]
    if any(_ is None or "RA_PNT" not in _.colnames for _ in tables):
        return None
    names = ("RA_PNT", "DEC_PNT")
    parts = [[np.ravel(table[_].data) for _ in names] for table in tables]
    return np.concatenate(parts, axis=1).astype(float)


def get_pointings(datasets):
    """Get the pointings of all observations in datasets.

    Parameters
    ----------
    datasets : list of `~gammapy.datasets.Dataset`
        Datasets, stacked or not.

    Returns
    -------
    pointings : `~astropy.coordinates.SkyCoord` or None
        Pointings (ICRS), None if the meta tables do not have them.
    """
    pointings = read_pointings(datasets)
    return None if pointings is None else SkyCoord(*pointings, unit="deg")


def measure_offset(position, pointings):
    """Mean offset of positions over pointings.

    Parameters
    ----------
    position : `~astropy.coordinates.SkyCoord`
        Positions, of any shape.
    pointings : `~astropy.coordinates.SkyCoord`
        Pointings. Shape (n,).

    Returns
    -------
    offset : `~astropy.units.Quantity`
        Offset averaged over the pointings, in the shape of the positions.
    """
    vectors = get_vectors(position).T
    total = sum(get_separation(vectors, _) for _ in get_vectors(pointings).T)
    return np.degrees(total / len(pointings)).reshape(position.shape) * u.deg


def add_offsets(measurements, groups):
    """Add the mean offset of each position to measurements.

    Parameters
    ----------
    measurements : list of `Measurement`
        Measurements of one geometry, or of spectra.
    groups : list of `~gammapy.datasets.Datasets`
        Datasets of each. One for each position of spectra.

    Returns
    -------
    measurements : list of `Measurement`
        With the offset, where the pointings are known.
    """
    # mimic sets have the pointings of the target
    known = {}
    return [_add_offset(*_, known) for _ in zip(measurements, groups, strict=True)]


def _add_offset(measurement, datasets, known):
    """Add the mean offset, that of a map from those that are known by pointings."""
    pointings = get_pointings(datasets)
    if pointings is None:
        return measurement
    if measurement.geom is not None:
        key = read_pointings(datasets).tobytes()
        if key not in known:
            position = measurement.geom.get_coord().skycoord.icrs
            known[key] = measure_offset(position, pointings)
        return measurement._replace(offset=known[key])
    offset = []
    for dataset in datasets:
        position = dataset.counts.geom.center_skydir.icrs
        offset.append(measure_offset(position, get_pointings([dataset])).squeeze())
    return measurement._replace(offset=u.Quantity(offset))


def get_pixel_areas(geom):
    """Get the solid angle of each pixel.

    `~gammapy.maps.WcsGeom.solid_angle` takes three times as long, and has half of it
    for some pixels next to a pole. Approximation: pixels are flat, true to 1e-5 for
    those of 0.1 deg.

    Parameters
    ----------
    geom : `~gammapy.maps.WcsGeom`
        Geometry of the image.

    Returns
    -------
    area : `~numpy.ndarray`
        Solid angle, in deg2. Shape (n_y, n_x).
    """
    corners = geom.get_coord(mode="edges").skycoord
    vectors = np.moveaxis(get_vectors(corners).reshape(3, *corners.shape), 0, -1)
    # half of the product of the diagonals
    first = vectors[1:, 1:] - vectors[:-1, :-1]
    second = vectors[1:, :-1] - vectors[:-1, 1:]
    area = np.linalg.norm(np.cross(first, second), axis=-1) / 2
    return np.degrees(np.degrees(area))


def get_source_free_mask(mask, geom, correlation_radius):
    """Mask of the positions whose correlation circle holds no excluded sky.

    The excluded part of the mask, also of what lies just outside of the image, is grown
    by the circle in which `~gammapy.estimators.ExcessMapEstimator` adds counts: the
    counts of a source reach all positions around it.

    Parameters
    ----------
    mask : `~gammapy.maps.WcsNDMap`
        Mask, True where there is no known source, with or without energy. Outside of it
        all is True.
    geom : `~gammapy.maps.WcsGeom`
        Geometry of the image.
    correlation_radius : `~astropy.coordinates.Angle`
        Radius of the circle.

    Returns
    -------
    source_free : `~numpy.ndarray` of bool
        True where the circle holds no excluded sky at any energy. Shape (n_y, n_x).
    """
    circle = get_circle(geom, correlation_radius)
    margin = circle.shape[0] // 2
    keep = get_clear_mask(mask, geom.pad(margin, axis_name=None))
    source_free = binary_erosion(keep, circle, border_value=1)
    return source_free[margin:-margin, margin:-margin] if margin else source_free


def get_circle(geom, radius):
    """Get the circle in which `~gammapy.estimators.ExcessMapEstimator` adds counts.

    Parameters
    ----------
    geom : `~gammapy.maps.WcsGeom`
        Geometry of the image.
    radius : `~astropy.coordinates.Angle`
        Radius of the circle.

    Returns
    -------
    circle : `~numpy.ndarray` of bool
        True inside. Odd shape.
    """
    pixel_size = np.mean(np.abs(geom.wcs.wcs.cdelt))
    return Tophat2DKernel(radius.deg / pixel_size).array > 0


def get_clear_mask(mask, geom):
    """Mask of the pixels of an image that are not excluded.

    Parameters
    ----------
    mask : `~gammapy.maps.WcsNDMap`
        Mask, True where there is no known source, with or without energy. Outside of it
        all is True.
    geom : `~gammapy.maps.WcsGeom`
        Geometry of the image.

    Returns
    -------
    clear : `~numpy.ndarray` of bool
        True where nothing is excluded at any energy. Shape (n_y, n_x).
    """
    if mask.geom.axes:
        mask = mask.reduce_over_axes(func=np.logical_and, keepdims=False)
    position = geom.get_coord().skycoord
    values = mask.get_by_coord({"skycoord": position}).astype(float)
    return np.nan_to_num(values, nan=1) > 0
