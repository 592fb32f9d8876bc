"""Smoothing of the ratio of counts to a mean shape."""

import numbers

import numpy as np
from scipy.interpolate import BSpline

from ..utils.angles import check_angle, to_angle
from .nodes import apply
from .poisson import fit_log_linear
from .posterior import Posterior, fit_prior_counts

__all__ = ["check_smooth", "smooth_ratio"]

SMOOTH_OPTIONS = {"gauss": "sigma", "poly": "degree", "spline": "n_intervals"}
SIGMA_MAX = 10  # deg
N_TERMS_MAX = 10


def smooth_ratio(counts, expected, position, method="gauss", **options):
    """Smooth the ratio of counts to what a mean shape expects, over the FoV.

    So a shape that is no wider than the kernel is not flattened, and where nothing is
    seen, the mean shape stays.

    - "gauss": ratio of smoothed counts to smoothed expected counts. The kernel is a
      Gauss function of the distance in offset, or in longitude and latitude. Option
      ``sigma``, an angle, default 0.2 deg. The mean shape has the weight that it has
      without smoothing, as `~gammapy_mimic.template.posterior.fit_posterior` says.
    - "poly": the log of the ratio is a polynomial in offset (even powers), or in
      longitude and latitude. Option ``degree``, default 6.
    - "spline": the same with cubic splines. Option ``n_intervals`` between knots, in
      each direction, default 4.

    "poly" and "spline" are fitted to the counts by maximum likelihood (Poisson), at
    each energy, with a normal prior on their coefficients that is as wide as the
    counts tell. They change the shape, and not the sum at an energy.

    Parameters
    ----------
    counts, expected : `~numpy.ndarray`
        Counts, and what is expected, 0 in both where there is no exposure. Shape
        (n_energy, n_position).
    position : `~numpy.ndarray`
        Offset, or longitude and latitude, in deg. Shape (1 or 2, n_position).
    method : {"gauss", "poly", "spline"}, optional
        Method. Default is "gauss".
    **options : dict, optional
        Option of the method.

    Returns
    -------
    posterior : `~gammapy_mimic.template.posterior.Posterior`
        Ratio, positive. The sum of its product with what is expected is that of the
        counts. Shape (n_energy, n_position).

    Raises
    ------
    ValueError
        If the method or an option is not valid.
    """
    options = check_smooth(method, options)
    if method == "gauss":
        result = _smooth_gauss(counts, expected, position, **options)
    else:
        basis = {"poly": _make_polynomials, "spline": _make_splines}[method]
        result = _fit_ratio(counts, expected, basis(position, **options))
    ratio, variance, inherited = result
    scale = counts.sum() / (ratio * expected).sum()
    return Posterior(ratio * scale, variance, inherited)


def _smooth_gauss(counts, expected, position, sigma="0.2 deg"):
    sigma = to_angle(sigma).deg
    centers = [np.unique(_) for _ in position]
    kernels = [np.exp(-(((_ - _[:, np.newaxis]) / sigma) ** 2) / 2) for _ in centers]
    shape = len(counts), *map(len, centers)

    def smooth(values, kernels):
        return apply(kernels, values.reshape(shape)).reshape(counts.shape)

    k = fit_prior_counts(counts, expected)
    if k is None:
        one = np.ones(counts.shape)
        return one, 0 * one, one
    total, mean = smooth(counts, kernels), smooth(expected, kernels)
    noise = smooth(expected, [_**2 for _ in kernels])
    return (total + k) / (mean + k), noise / (mean + k) ** 2, k / (mean + k)


def _make_polynomials(position, degree=6):
    """Legendre polynomials without the constant. Shape (n_position, n_terms)."""
    vander = np.polynomial.legendre.legvander
    # in an axis of one bin, all are at 0
    terms = [vander(_ / (np.abs(_).max() or 1), degree) for _ in position]
    if len(terms) == 1:
        return terms[0][:, 2::2]  # even: smooth across the pointing
    first, second = np.indices((degree + 1, degree + 1))
    return _multiply(*terms)[:, (first + second <= degree).ravel()][:, 1:]


def _make_splines(position, n_intervals=4):
    """Cubic B-splines. Shape (n_position, n_terms)."""
    terms = []
    for values in position:
        if np.ptp(values) == 0:  # an axis of one bin
            terms.append(np.ones((len(values), 1)))
            continue
        knots = np.linspace(values.min(), values.max(), n_intervals + 1)
        knots = np.pad(knots, 3, mode="edge")
        terms.append(BSpline.design_matrix(values, knots, 3).toarray())
    return terms[0] if len(terms) == 1 else _multiply(*terms)


def _multiply(first, second):
    """All products of terms. Shape (n_position, n_first * n_second)."""
    return (first[:, :, np.newaxis] * second[:, np.newaxis]).reshape(len(first), -1)


def _fit_ratio(counts, expected, terms):
    """Fit the log of the ratio, at each energy, by terms of shape (n_position, n).

    The sum of an energy is that which is expected, as few counts do not tell it better.
    """
    # without counts the mean shape stays
    ratio, inherited = np.ones((2, *counts.shape))
    variance = np.zeros(counts.shape)
    groups = np.zeros(terms.shape[1], dtype=int)
    for idx in np.flatnonzero(counts.any(axis=1)):
        weights = expected[idx] / expected[idx].sum()
        fit = fit_log_linear(counts[idx], expected[idx], terms, groups)
        factor = np.exp(fit.log_factor)
        ratio[idx] = factor / (factor @ weights)
        centred = terms - weights @ terms
        covariance = fit.covariance[1:, 1:]
        variance[idx] = ((centred @ covariance) * centred).sum(axis=1)
    return ratio, variance, inherited


def check_smooth(method, options):
    """Check a method of smoothing, and its options.

    Parameters
    ----------
    method : {None, "gauss", "poly", "spline"}
        Method.
    options : dict or None
        Options.

    Returns
    -------
    options : dict
        Valid options.

    Raises
    ------
    ValueError
        If the method or an option is not valid.
    """
    options = {} if options is None else options
    if method is not None and method not in SMOOTH_OPTIONS:
        raise ValueError(
            f"smooth must be None or one of {list(SMOOTH_OPTIONS)}, got {method!r}."
        )
    if not isinstance(options, dict):
        raise ValueError(
            "smooth_options must be a dict, such as {'sigma': '0.2 deg'}, got "
            f"{options!r}."
        )
    unknown = sorted(set(options) - {SMOOTH_OPTIONS.get(method)})
    if unknown:
        known = SMOOTH_OPTIONS.get(method)
        way_out = f"but {known!r}" if known else f"choose from {SMOOTH_OPTIONS}"
        raise ValueError(f"smooth={method!r} has no option {unknown}, {way_out}.")
    return {name: _check_option(name, value) for name, value in options.items()}


def _check_option(name, value):
    if name == "sigma":
        return check_angle("The option sigma", value, high=SIGMA_MAX)
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not (is_integer and 1 <= value <= N_TERMS_MAX):
        raise ValueError(
            f"The option {name} must be a whole number from 1 to {N_TERMS_MAX}, got "
            f"{value!r}."
        )
    return value
