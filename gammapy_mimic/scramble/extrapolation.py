r"""Background at offsets of which regions leave little, from the offsets around them.

The density of events per solid angle goes locally as :math:`\exp(b x)`, where x is the
square of the offset and b the slope of the acceptance.
"""

import numpy as np

from ..utils.coordinates import get_ring_area

__all__ = ["extrapolate_background"]

WINDOW_STEP = 0.1  # deg, by which the window around what is hidden grows
WINDOW_MARGIN = 0.7  # deg, beyond the window, where the slope of the acceptance is fit
MEAN_WEIGHT_MAX = 0.5  # of the events in the window
SLOPES = np.linspace(-20, 20, 401)  # deg-2
TERM_EVENTS = 50  # events that a term of the parabola needs
STEP_MAX = 2.0  # deg-2
ENERGY_QUANTILES = 0.01, 0.99


def extrapolate_background(coverage, hidden_area, weight_max, outside, band_edges):
    r"""Estimate what the events at an offset do not tell, from those around it.

    An event outside at x stands for

    .. math:: w_\mathrm{max} \sum_k A_k \exp(b (x_k - x)) / A_\mathrm{usable}

    events inside, where the bins k have the hidden solid angle :math:`A_k`, and
    :math:`A_\mathrm{usable}` is the solid angle outside in the window, times
    :math:`w_\mathrm{max}`.

    Parameters
    ----------
    coverage : `~gammapy_mimic.scramble.coverage.Coverage`
        Regions.
    hidden_area : `~numpy.ndarray`
        Solid angle inside of the regions, in deg2, for which the events at the same
        offset do not suffice. Shape (n_bins,).
    weight_max : `~numpy.ndarray`
        Largest number of events that an event outside, in each bin, can stand for
        besides those at its own offset. Shape (n_bins,).
    outside : `~gammapy_mimic.scramble.estimate.OutsideEvents`
        Events outside of the regions. Shape (n,).
    band_edges : `~numpy.ndarray`
        Energies between bands. Shape (n_bands - 1,).

    Returns
    -------
    weight : `~numpy.ndarray`
        Expected hidden events that each event outside stands for. Shape (n,).
    profile : `~numpy.ndarray`
        How they are distributed in offset, with a sum of 1. Shape (n_bands, n_bins).

    Raises
    ------
    ValueError
        If no solid angle is left outside of the regions.
    """
    edges = coverage.edges
    x = ((edges[:-1] + edges[1:]) / 2) ** 2
    outside_area = get_ring_area(edges[:-1], edges[1:]) * (1 - coverage.fraction)
    usable_area = outside_area * weight_max

    window = _make_window(edges, hidden_area, usable_area)
    is_fit = _widen(edges, window, WINDOW_MARGIN)
    fitted = np.nonzero(is_fit[outside.bins])[0]
    slopes = np.zeros(len(outside.idx))
    slopes[fitted] = _fit_slopes(
        *(x[is_fit], outside_area[is_fit]),
        *(outside.offset[fitted] ** 2, outside.energy[fitted]),
    )

    hidden, used = np.nonzero(hidden_area)[0], np.nonzero(window[outside.bins])[0]
    slopes, area = slopes[used], hidden_area[hidden]
    # exponents are small if x is counted from the middle of what is hidden
    x_mean = np.average(x[hidden], weights=area)
    x_hidden, x_used = x[hidden] - x_mean, outside.offset[used] ** 2 - x_mean
    weight = np.zeros(len(outside.idx))
    # the sum over bins depends on the slope alone
    sums = np.exp(np.outer(SLOPES, x_hidden)) @ area / usable_area[window].sum()
    inside = np.exp(np.interp(slopes, SLOPES, np.log(sums)) - slopes * x_used)
    weight[used] = weight_max[outside.bins[used]] * inside

    n_bands = len(band_edges) + 1
    bands = np.digitize(outside.energy[used], band_edges)
    counts = np.bincount(bands, minlength=n_bands)
    mean_slopes = np.bincount(bands, slopes, n_bands) / np.maximum(counts, 1)
    profile = np.zeros((n_bands, len(x)))
    profile[:, hidden] = area * np.exp(np.outer(mean_slopes, x_hidden))
    return weight, profile / profile.sum(axis=1, keepdims=True)


def _make_window(edges, hidden_area, usable_area):
    """Select the bins around the hidden ones that leave enough solid angle outside."""
    for margin in np.arange(WINDOW_STEP, edges[-1] + WINDOW_STEP, WINDOW_STEP):
        window = _widen(edges, hidden_area > 0, margin)
        if MEAN_WEIGHT_MAX * usable_area[window].sum() >= hidden_area.sum():
            return window
    if not usable_area[window].any():
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

    By its likelihood, in which each event counts with the density at its own energy:
    the sum over events of b x - log(Z(b)), where Z is the sum of area exp(b x) over
    bins. The derivatives of log(Z) are mean and variance of x.

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
    density = area * np.exp(exponent - exponent.max(axis=1, keepdims=True))
    density /= density.sum(axis=1, keepdims=True)
    means = density @ x_bins
    variances = density @ x_bins**2 - means**2
    terms = np.zeros(n_terms)
    # Newton's method
    for _ in range(30):
        gradient = basis @ (x - np.interp(slopes, SLOPES, means))
        hessian = (basis * np.interp(slopes, SLOPES, variances)) @ basis.T
        step = np.linalg.pinv(hessian) @ gradient
        size = np.max(abs(step @ basis))
        terms += step * min(1, STEP_MAX / size) if size > 0 else 0
        slopes = (terms @ basis).clip(SLOPES[0], SLOPES[-1])
        if size < 1e-4:
            break
    return slopes
