"""Significance and background of datasets, by energy and position."""

import itertools
import logging
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.convolution import Tophat2DKernel
from astropy.coordinates import SkyCoord
from gammapy.datasets import SpectrumDatasetOnOff
from gammapy.estimators import ExcessMapEstimator
from gammapy.maps import Geom, WcsGeom
from gammapy.stats import WStatCountsStatistic
from scipy.ndimage import binary_erosion

from ..data.meta_tables import stack_dataset
from ..data.prediction import get_safe_mask
from ..utils.coordinates import get_separation, get_vectors

__all__ = [
    "ALL",
    "Band",
    "Measurement",
    "add_offset",
    "get_bands",
    "get_pointings",
    "get_source_free_mask",
    "has_rings",
    "is_map",
    "make_stacking_geoms",
    "measure_maps",
    "measure_offset",
    "measure_spectra",
    "snap_energy_edges",
    "split_bands",
    "stack_datasets",
    "stack_groups",
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


def make_stacking_geoms(datasets):
    """Make the geometries that hold all of several datasets.

    Parameters
    ----------
    datasets : list of `~gammapy.datasets.MapDataset`
        Datasets, as a rule cutouts of one geometry.

    Returns
    -------
    geoms : dict of `~gammapy.maps.WcsGeom`
        Geometries for `~gammapy.datasets.MapDataset.from_geoms`.

    Raises
    ------
    ValueError
        If they are not parts of one geometry.
    """
    reference = datasets[0].geoms
    for dataset in datasets:
        same = dataset.geoms.keys() == reference.keys() and all(
            geom.is_aligned(reference[name]) for name, geom in dataset.geoms.items()
        )
        if not same:
            raise ValueError(
                f"The datasets {datasets[0].name} and {dataset.name} differ in pixels, "
                "bins of energy or maps. Reduce all with the same configuration."
            )
    joined = {}
    for name, geom in reference.items():
        geoms = [_.geoms[name] for _ in datasets]
        crpix = np.array([_.wcs.wcs.crpix for _ in geoms])
        npix = np.array([_.data_shape[:-3:-1] for _ in geoms])
        first, last = np.min(1 - crpix, axis=0), np.max(npix - crpix, axis=0)
        wcs = geom.wcs.deepcopy()
        wcs.wcs.crpix = 1 - first
        npix = np.rint(last - first + 1).astype(int)
        wcs.array_shape = tuple(npix[::-1])
        joined[name] = WcsGeom(wcs, npix=tuple(npix), axes=geom.axes)
    return joined


def stack_datasets(datasets, geoms):
    """Stack datasets to one.

    Parameters
    ----------
    datasets : list of `~gammapy.datasets.MapDataset`
        Datasets of one mimic set. Not changed. Their background models become part of
        the background.
    geoms : dict of `~gammapy.maps.WcsGeom`
        Geometries of the result.

    Returns
    -------
    dataset : `~gammapy.datasets.MapDataset`
        One dataset.
    """
    first = datasets[0]
    if len(datasets) == 1 and first.counts.geom == geoms["geom"] and not first.models:
        return first
    stacked = type(first).from_geoms(**geoms, name="stacked")
    for dataset in datasets:
        stack_dataset(stacked, dataset)
    return stacked


def stack_groups(groups):
    """Stack each of several groups of datasets, all to the same geometry.

    Parameters
    ----------
    groups : dict of `~gammapy.datasets.Datasets`
        Datasets of each mimic set and of the target.

    Returns
    -------
    datasets : dict of `~gammapy.datasets.MapDataset`
        One dataset for each group.
    """
    geoms = make_stacking_geoms(
        [dataset for group in groups.values() for dataset in group]
    )
    return {name: stack_datasets(values, geoms) for name, values in groups.items()}


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
    is_on_off = dataset.stat_type == "wstat"
    correlate_off = not has_rings(dataset)
    results = []
    for edges in split_bands(energy_edges):
        estimator = ExcessMapEstimator(
            correlation_radius=correlation_radius,
            energy_edges=edges,
            selection_optional=["alpha"] if is_on_off else [],
            correlate_off=correlate_off,
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            maps = estimator.run(dataset)
            background = maps["npred_background"].data
            alpha = maps["alpha"].data if is_on_off else np.zeros_like(background)
            background = background / (1 + alpha)
        results.append((maps["sqrt_ts"].data, background, alpha))
    arrays = [np.concatenate(_, axis=0) for _ in zip(*results, strict=True)]
    total = np.full(len(arrays[0]), np.nan)
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


def get_pointings(datasets):
    """Pointings of all observations in datasets.

    Parameters
    ----------
    datasets : list of `~gammapy.datasets.Dataset`
        Datasets, stacked or not.

    Returns
    -------
    pointings : `~astropy.coordinates.SkyCoord` or None
        Pointings (ICRS), None if the meta tables do not have them.
    """
    tables = [_.meta_table for _ in datasets]
    if any(_ is None or "RA_PNT" not in _.colnames for _ in tables):
        return None
    lon, lat = (
        np.concatenate([np.ravel(_[name]).astype(float) for _ in tables])
        for name in ("RA_PNT", "DEC_PNT")
    )
    return SkyCoord(lon, lat, unit="deg")


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


def add_offset(measurement, datasets):
    """Add the mean offset of each position to a measurement.

    Parameters
    ----------
    measurement : `Measurement`
        Measurement.
    datasets : `~gammapy.datasets.Datasets`
        Its datasets. One for each position of spectra.

    Returns
    -------
    measurement : `Measurement`
        With the offset, where the pointings are known.
    """
    pointings = get_pointings(datasets)
    if pointings is None:
        return measurement
    if measurement.geom is not None:
        position = measurement.geom.get_coord().skycoord.icrs
        return measurement._replace(offset=measure_offset(position, pointings))
    offset = []
    for dataset in datasets:
        position = dataset.counts.geom.center_skydir.icrs
        offset.append(measure_offset(position, get_pointings([dataset])).squeeze())
    return measurement._replace(offset=u.Quantity(offset))


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
    pixel_size = np.mean(np.abs(geom.wcs.wcs.cdelt))
    circle = Tophat2DKernel(correlation_radius.deg / pixel_size).array > 0
    margin = circle.shape[0] // 2
    if mask.geom.axes:
        mask = mask.reduce_over_axes(func=np.logical_and, keepdims=False)
    position = geom.pad(margin, axis_name=None).get_coord().skycoord
    values = mask.get_by_coord({"skycoord": position}).astype(float)
    keep = np.nan_to_num(values, nan=1) > 0
    source_free = binary_erosion(keep, circle, border_value=1)
    return source_free[margin:-margin, margin:-margin] if margin else source_free
