"""Flux of an excess of counts in a region."""

import astropy.units as u
import numpy as np
from gammapy.datasets import SpectrumDataset
from gammapy.maps import Map
from gammapy.modeling.models import PowerLawSpectralModel, SkyModel

from ..data.prediction import get_safe_mask
from .measurement import get_bands

__all__ = ["get_flux_per_count", "make_flux_columns"]

EDGES = ("e_min", "e_max")
FLUX_UNIT = u.Unit("cm-2 s-1")


def get_flux_per_count(datasets, regions, energy_edges, spectral_model=None):
    """Get the flux of a source that is all in a region, by its counts.

    Parameters
    ----------
    datasets : `~gammapy.datasets.Datasets`
        Maps of the target.
    regions : list of `~regions.SkyRegion`
        Regions.
    energy_edges : `~astropy.units.Quantity`
        Edges of the bands of energy.
    spectral_model : `~gammapy.modeling.models.SpectralModel`, optional
        Spectrum. Default is a power law of index 2.

    Returns
    -------
    flux : `~astropy.units.Quantity` or None
        Flux for one count, by region and band, NaN where no count is expected. Shape
        (n_regions, n_bands). None if the datasets have no exposure.
    """
    if any(_.exposure is None for _ in datasets):
        return None
    if spectral_model is None:
        spectral_model = PowerLawSpectralModel(index=2)
    energy = datasets[0].counts.geom.axes["energy"].center
    bands = get_bands(energy_edges)
    low, high = (u.Quantity([getattr(_, name) for _ in bands]) for name in EDGES)
    flux = spectral_model.integral(low, high).to(FLUX_UNIT)
    # edges of bands are those of bins
    is_in = (energy > low[:, np.newaxis]) & (energy < high[:, np.newaxis])
    result = []
    for region in regions:
        npred = _predict_counts(datasets, region, spectral_model)
        counts = np.sum(npred * is_in, axis=1)
        result.append(flux / np.where(counts > 0, counts, np.nan))
    return u.Quantity(result)


def _predict_counts(datasets, region, spectral_model):
    """Predict the counts of a source in a region, by bin of energy."""
    axis = datasets[0].counts.geom.axes["energy"]
    counts = np.zeros(axis.nbin)
    for dataset in datasets:
        # a map need not hold the region
        inside = dataset.counts.geom.to_image().region_mask([region]).data
        is_safe = np.any(get_safe_mask(dataset) & inside, axis=(1, 2))
        if is_safe.any():
            exposure = dataset.exposure.to_region_nd_map(region, func=np.mean)
            geom = exposure.geom.drop("energy_true").to_cube([axis])
            spectrum = SpectrumDataset(
                counts=Map.from_geom(geom),
                exposure=exposure,
                edisp=dataset.edisp and dataset.edisp.to_region_nd_map(region),
                models=[SkyModel(spectral_model.copy())],
            )
            counts += np.where(is_safe, spectrum.npred_signal().data.ravel(), 0)
    return counts


def make_flux_columns(row, variance, flux_per_count):
    """Make columns of the flux of the target, and of that of the bias.

    Parameters
    ----------
    row : dict
        Bias ``delta``, ``delta_err``, ``target_counts`` and ``target_background``.
    variance : float
        Variance of the excess by counts.
    flux_per_count : `~astropy.units.Quantity`
        Flux for one count.

    Returns
    -------
    columns : dict
        Flux of the excess and its error by counts, and how much of it the bias of the
        background is.
    """
    background = row["target_background"]
    return {
        "target_flux": (row["target_counts"] - background) * flux_per_count,
        "target_flux_err": np.sqrt(variance) * flux_per_count,
        "spurious_flux": row["delta"] * background * flux_per_count,
        "spurious_flux_err": row["delta_err"] * background * flux_per_count,
    }
