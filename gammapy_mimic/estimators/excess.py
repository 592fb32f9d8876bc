"""Significance in a circle around every pixel, in all bands of energy at once."""

import numpy as np
from gammapy.datasets import MapDataset, MapDatasetOnOff
from gammapy.estimators import ExcessMapEstimator
from gammapy.maps import Map, MapAxis

__all__ = ["add_bins", "find_bins", "make_band_dataset", "measure_excess"]


def measure_excess(dataset, bands, correlation_radius, correlate_off=True):
    """Measure significance and background in a circle around every pixel.

    Equal to one run of `~gammapy.estimators.ExcessMapEstimator` for each band. A flux,
    which needs IRFs, is not made.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.MapDatasetOnOff`
        Dataset. With OFF counts, models of sources are left out.
    bands : list of `~gammapy_mimic.estimators.measurement.Band`
        Bands of energy, which may overlap.
    correlation_radius : `~astropy.coordinates.Angle`
        Radius of the circle.
    correlate_off : bool, optional
        Whether OFF counts are added up in the circle, too. Default is True.

    Returns
    -------
    significance, background, alpha : `~numpy.ndarray`
        Significance, effective background counts and ratio of exposures, NaN where they
        are not defined. Shape (n_bands, n_y, n_x).
    """
    is_on_off = dataset.stat_type == "wstat"
    bands_dataset = make_band_dataset(dataset, bands)
    estimator = ExcessMapEstimator(
        correlation_radius=correlation_radius,
        energy_edges=bands_dataset.counts.geom.axes["energy"].edges,
        selection_optional=["alpha"] if is_on_off else [],
        correlate_off=correlate_off,
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        # without its resampling of energies, which takes half of the time of a run
        maps = estimator.estimate_excess_map(bands_dataset, None)
        background = maps["npred_background"].data
        alpha = maps["alpha"].data if is_on_off else np.zeros_like(background)
        background = background / (1 + alpha)
    return maps["sqrt_ts"].data, background, alpha


def find_bins(dataset, bands):
    """Find the bins of energy of each band.

    Parameters
    ----------
    dataset : `~gammapy.datasets.Dataset`
        Dataset with counts.
    bands : list of `~gammapy_mimic.estimators.measurement.Band`
        Bands of energy, which may overlap.

    Returns
    -------
    bins : list of slice
        Bins of each band.
    """
    energy = dataset.counts.geom.axes["energy"].center
    idx = [
        np.flatnonzero((energy >= band.e_min) & (energy < band.e_max)) for band in bands
    ]
    return [slice(_[0], _[-1] + 1) for _ in idx]


def add_bins(values, bins):
    """Add up the bins of energy of each band.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Values. Shape (n_bins, n_y, n_x).
    bins : list of slice
        Bins of each band.

    Returns
    -------
    sums : `~numpy.ndarray` of float
        Shape (n_bands, n_y, n_x).
    """
    result = values[[_.start for _ in bins]].astype(float)
    # the others on their own, as Gammapy has it: sums in a circle have single
    # precision, and differ by that if one is rounded to the other side
    for image, part in zip(result, bins, strict=True):
        rest = values[part][1:]
        if len(rest):
            image += np.sum(rest, axis=0, dtype=float)
    return result


def make_band_dataset(dataset, bands):
    """Make a dataset that has each of several bands of energy as one bin.

    Bins are what `~gammapy.datasets.MapDataset.resample_energy_axis` makes of each
    band, but bands may overlap: the energy axis of the result numbers them, and is not
    one of energies.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.MapDatasetOnOff`
        Dataset.
    bands : list of `~gammapy_mimic.estimators.measurement.Band`
        Bands of energy.

    Returns
    -------
    dataset : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.MapDatasetOnOff`
        Counts, background and masks, without models and IRFs.
    """
    bins = find_bins(dataset, bands)
    axis = MapAxis.from_energy_edges(np.arange(1, len(bands) + 2), unit="TeV")
    geom = dataset.counts.geom.to_image().to_cube([axis])
    mask = None if dataset.mask_safe is None else dataset.mask_safe.data

    def add(values):
        return add_bins(values if mask is None else values * mask, bins)

    def make_map(values):
        return Map.from_geom(geom, data=values)

    maps = {
        name: make_map(np.stack([np.any(map_.data[_], axis=0) for _ in bins]))
        for name in ("mask_safe", "mask_fit")
        if (map_ := getattr(dataset, name)) is not None
    }
    maps["counts"] = make_map(add(dataset.counts.data))
    if dataset.stat_type != "wstat":
        # with nothing else, there is nothing to be added to the background
        npred = dataset.npred() if dataset.models else dataset.background
        background = make_map(add(np.maximum(npred.data, 0)))
        return MapDataset(**maps, background=background)
    off, acceptance, background = (
        add(_.data)
        for _ in (dataset.counts_off, dataset.acceptance, dataset.background)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        acceptance_off = acceptance * off / background
    maps |= {"counts_off": make_map(off), "acceptance": make_map(acceptance)}
    return MapDatasetOnOff(**maps, acceptance_off=make_map(acceptance_off))
