r"""Borrow from other offsets, where regions leave little of their own.

The density of events per solid angle goes locally as :math:`\exp(b r^2)`.
"""

import numpy as np

from ..utils.coordinates import get_ring_area

__all__ = ["borrow"]

WINDOW_STEP = 0.1  # deg, by which the offsets to borrow from grow
WINDOW_MARGIN = 0.7  # deg, beyond the window, where the slope of the acceptance is fit
BORROWED_MAX = 0.5  # events that are borrowed from an event outside, on average
SLOPES = np.linspace(-20, 20, 401)  # deg-2
TERM_EVENTS = 50  # events that a term of the parabola needs
STEP_MAX = 2.0  # deg-2
ENERGY_QUANTILES = 0.01, 0.99


def borrow(coverage, area, capacity, donors, band_edges):
    """Estimate what the events at an offset do not tell, from those around it.

    Parameters
    ----------
    coverage : `~gammapy_mimic.scramble.coverage.Coverage`
        Regions.
    area : `~numpy.ndarray`
        Solid angle in each bin of offset of which others have to tell, in deg2. Shape
        (n_bins,).
    capacity : `~numpy.ndarray`
        How many events an event outside, in each bin, can stand for. Shape (n_bins,).
    donors : `~gammapy_mimic.scramble.estimate.Donors`
        Events outside of the regions. Shape (n,).
    band_edges : `~numpy.ndarray`
        Energies between bands. Shape (n_bands - 1,).

    Returns
    -------
    borrowed : `~numpy.ndarray`
        Expected events that each event outside stands for. Shape (n,).
    missing : `~numpy.ndarray`
        How they are distributed in offset, with a sum of 1. Shape (n_bands, n_bins).

    Raises
    ------
    ValueError
        If no solid angle is left outside of the regions.
    """
    edges = coverage.edges
    x_bins = ((edges[:-1] + edges[1:]) / 2) ** 2
    free = get_ring_area(edges[:-1], edges[1:]) * (1 - coverage.fraction)
    room = free * capacity
    window = _find_window(edges, area, room)
    fit_window = _widen(edges, window, WINDOW_MARGIN)

    idx = np.nonzero(fit_window[donors.bins])[0]
    x, energy = donors.offset[idx] ** 2, donors.energy[idx]
    slopes = _fit_slopes(x_bins[fit_window], free[fit_window], x, energy)
    lends = np.nonzero(window[donors.bins[idx]])[0]
    lenders, slopes = idx[lends], slopes[lends]
    # relative to the middle of the bins that borrow
    borrows = np.nonzero(area)[0]
    area = area[borrows]
    x_mean = np.average(x_bins[borrows], weights=area)
    x_borrows = x_bins[borrows] - x_mean
    density = np.exp(np.outer(SLOPES, x_borrows)) @ area / room[window].sum()
    borrowed = np.zeros(len(donors.idx))
    borrowed[lenders] = capacity[donors.bins[lenders]] * np.exp(
        np.interp(slopes, SLOPES, np.log(density)) - slopes * (x[lends] - x_mean)
    )

    n_bands = len(band_edges) + 1
    bands = np.digitize(donors.energy[lenders], band_edges)
    counts = np.bincount(bands, minlength=n_bands)
    mean_slopes = np.bincount(bands, slopes, n_bands) / np.maximum(counts, 1)
    missing = np.zeros((n_bands, len(x_bins)))
    missing[:, borrows] = area * np.exp(np.outer(mean_slopes, x_borrows))
    return borrowed, missing / missing.sum(axis=1, keepdims=True)


def _find_window(edges, area, room):
    """Find the bins around those that borrow with enough room to borrow from."""
    window = area > 0
    for margin in np.arange(WINDOW_STEP, edges[-1] + WINDOW_STEP, WINDOW_STEP):
        window = _widen(edges, area > 0, margin)
        if BORROWED_MAX * room[window].sum() >= area.sum():
            return window
    if not room[window].any():
        raise ValueError(
            f"The regions cover all offsets up to {edges[-1]:.2f} deg, nothing is left "
            "to measure the background. Use smaller or fewer regions."
        )
    return window


def _widen(edges, selected, margin):
    """Select all bins within a margin of the selected ones."""
    low, high = edges[:-1][selected][0], edges[1:][selected][-1]
    return (edges[1:] > low - margin) & (edges[:-1] < high + margin)


def _fit_slopes(x_bins, area, x, energy):
    """Fit b of a density exp(b x) per solid angle, a parabola in the log of energy.

    By its likelihood, in which each event counts with the density at its own energy.

    Parameters
    ----------
    x_bins, area : `~numpy.ndarray`
        Values of x, in deg2, and solid angles of bins. Shape (n_bins,).
    x, energy : `~numpy.ndarray`
        Events. Shape (n,).

    Returns
    -------
    slopes : `~numpy.ndarray`
        Value of b for each event, in deg-2. Shape (n,).
    """
    n_terms = min(len(x) // TERM_EVENTS, 3)
    slopes = np.zeros(len(x))
    if n_terms == 0:
        return slopes
    log_energy = np.log(np.maximum(energy, np.finfo(float).tiny))
    # the few events at the ends would have too large a say
    log_energy = log_energy.clip(*np.quantile(log_energy, ENERGY_QUANTILES))
    basis = np.vander(log_energy - log_energy.mean(), n_terms, increasing=True).T

    exponent = np.outer(SLOPES, x_bins)
    weights = area * np.exp(exponent - exponent.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    means = weights @ x_bins
    variances = weights @ x_bins**2 - means**2
    terms = np.zeros(n_terms)
    for _ in range(30):
        variance = np.interp(slopes, SLOPES, variances)
        gradient = basis @ (x - np.interp(slopes, SLOPES, means))
        hessian = (basis * variance) @ basis.T
        step = np.linalg.pinv(hessian) @ gradient
        size = np.max(abs(step @ basis))
        terms += step * min(1, STEP_MAX / size) if size > 0 else 0
        slopes = (terms @ basis).clip(SLOPES[0], SLOPES[-1])
        if size < 1e-4:
            break
    return slopes
