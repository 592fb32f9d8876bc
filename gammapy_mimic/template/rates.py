"""Rates of a template, as arrays: filling, smoothing, and nodes to interpolate."""

import astropy.units as u
import numpy as np
from scipy.interpolate import BSpline

from .bins import get_center

__all__ = [
    "check_smooth",
    "fill_empty",
    "fill_unexposed",
    "make_nodes",
    "smooth_rate",
    "weight_exposure",
]


MIN_SHAPE, MAX_CHANGE = 0.01, 0.3  # where the slope inside a bin is not precise
EMPTY_COUNTS = 0.5  # a bin without counts has at most the rate of so many
SPECTRAL_INDEX = 2.7  # of cosmic rays, where the counts do not tell
MAX_LOG_CHANGE = 0.1  # in a step of a correction that may not converge
SMOOTH_OPTIONS = {"gauss": "sigma", "poly": "degree", "spline": "n_intervals"}


def fill_unexposed(counts, exposure, offset, ring_edges):
    """Divide counts by exposure, and interpolate in offset where there is none.

    Parameters
    ----------
    counts, exposure : `~numpy.ndarray`
        Counts and exposure, both 0 where there is no exposure. Shape (n_energy,
        n_position).
    offset : `~numpy.ndarray`
        Offset of the positions, in deg. Shape (n_position,).
    ring_edges : `~numpy.ndarray`
        Edges of rings around the pointing, in deg.

    Returns
    -------
    rate : `~numpy.ndarray`
        Rate. Where there is no exposure it is interpolated linearly, per energy,
        between the rings with exposure, and that of the nearest ring beyond them; 0 at
        energies without any exposure.
    """
    valid = exposure > 0
    rate = _divide(counts, exposure, 0)
    ring = np.searchsorted(ring_edges, offset, side="right")
    for idx in np.flatnonzero(valid.any(axis=1) & ~valid.all(axis=1)):
        weights = counts[idx], exposure[idx], exposure[idx] * offset
        sums = np.array([np.bincount(ring, _) for _ in weights])
        ring_counts, ring_exposure, moment = sums[:, sums[1] > 0]
        missing = ~valid[idx]
        rate[idx, missing] = np.interp(
            offset[missing], moment / ring_exposure, ring_counts / ring_exposure
        )
    return rate


def weight_exposure(exposure, moment, rate, position_edges):
    """Weight the exposure by the slope of the rate inside the bins.

    The mean rate of a bin that is partly masked is not that of the part which is left.

    Parameters
    ----------
    exposure : `~numpy.ndarray`
        Exposure. Shape (n_energy, n_position).
    moment : `~numpy.ndarray`
        Exposure times distance from the mean of the bin, in deg. Shape (n_axes,
        n_energy, n_position).
    rate : `~numpy.ndarray`
        First estimate of the rate. Its slope is taken from the sum over energies.
        Shape (n_energy, n_position).
    position_edges : list of `~numpy.ndarray`
        Edges of the bins of each axis, in deg.

    Returns
    -------
    exposure : `~numpy.ndarray`
        Exposure that gives, with the counts, the mean rate of the bin.
    """
    centers = [get_center(_) for _ in position_edges]
    shape = np.reshape(exposure.sum(axis=1) @ rate, [len(_) for _ in centers])
    log_shape = np.log(np.maximum(shape, MIN_SHAPE * shape.max()))
    change = np.zeros(exposure.shape)
    for idx, (center, distance) in enumerate(zip(centers, moment, strict=True)):
        if len(center) > 1:
            change += distance * np.gradient(log_shape, center, axis=idx).ravel()
    limit = MAX_CHANGE * exposure
    return exposure + change.clip(-limit, limit)


def fill_empty(rate, exposure, energy_edges, solid_angle):
    """Give bins without counts a rate, keeping the integral at each energy.

    Parameters
    ----------
    rate, exposure : `~numpy.ndarray`
        Rate and exposure, the product of which is counts. Shape (n_energy, n_position).
    energy_edges : `~numpy.ndarray`
        Edges of the energy bins, in TeV. Shape (n_energy + 1,).
    solid_angle : `~numpy.ndarray`
        Solid angles. Shape (n_position,).

    Returns
    -------
    rate : `~numpy.ndarray`
        Rate, nowhere 0. Where the counts were less than half of one, the rate is at
        least that of the spectrum times the shape of the FoV over all energies, or of
        half a count if that is less. At energies without any counts the spectrum is
        interpolated, or continued by a power law.
    """
    log_energy = np.log(np.sqrt(energy_edges[:-1] * energy_edges[1:]))
    shape = np.diff(energy_edges) @ rate
    shape /= shape @ solid_angle
    spectrum, mean_exposure = rate @ solid_angle, exposure @ shape
    # at energies without counts, a spectrum that is interpolated in the log of both
    seen = spectrum > 0
    nodes, values = log_energy[seen], np.log(spectrum[seen])
    slope = -SPECTRAL_INDEX
    if len(nodes) > 1:
        weights = np.sqrt((spectrum * mean_exposure)[seen])
        slope = np.polynomial.Polynomial.fit(nodes, values, 1, w=weights).deriv()(0)
    filled = np.interp(log_energy, nodes, values)
    filled += slope * (log_energy - log_energy.clip(nodes[0], nodes[-1]))
    limit = _divide(EMPTY_COUNTS, mean_exposure, np.inf)
    spectrum = np.where(seen, spectrum, np.minimum(np.exp(filled), limit))
    # where there are no counts at any energy
    shape = np.maximum(shape, _divide(EMPTY_COUNTS, spectrum @ exposure, 0))
    limit = _divide(EMPTY_COUNTS, exposure, np.inf)
    expected = np.minimum(np.multiply.outer(spectrum, shape), limit)
    return _keep_integral(np.maximum(rate, expected), spectrum, solid_angle)


def smooth_rate(rate, exposure, solid_angle, position, method="gauss", **options):
    """Smooth a rate over the FoV, keeping its integral at each energy.

    - "gauss": mean of the neighbours, weighted by exposure and by a Gauss function of
      the distance in offset, or in longitude and latitude. Option ``sigma``, an angle,
      default 0.2 deg. It flattens what is not wider than that.
    - "poly": the log of the rate is a polynomial in offset (even powers), or in
      longitude and latitude. Option ``degree``, default 6.
    - "spline": the same with cubic splines. Option ``n_intervals`` between knots, in
      each direction, default 4.

    "poly" and "spline" are fitted to the counts by maximum likelihood (Poisson), first
    the shape over all energies, then its change at each energy. Where there are few
    counts the change is held near zero by a normal prior of width 1 on its
    coefficients.

    Parameters
    ----------
    rate : `~numpy.ndarray`
        Rate, not negative. Shape (n_energy, n_position).
    exposure : `~numpy.ndarray`
        Exposure, the product with the rate is counts. 0 where the rate is not measured.
        Same shape.
    solid_angle : `~numpy.ndarray`
        Solid angles. Shape (n_position,).
    position : `~numpy.ndarray`
        Offset, or longitude and latitude, in deg. Shape (1 or 2, n_position).
    method : {"gauss", "poly", "spline"}, optional
        Method. Default is "gauss".
    **options : dict, optional
        Option of the method.

    Returns
    -------
    rate : `~numpy.ndarray`
        Smooth rate, never negative. The sum of rate times solid angle at each energy is
        that of the input. Same shape.

    Raises
    ------
    ValueError
        If the method or an option is not valid.
    """
    check_smooth(method, options)
    integral = rate @ solid_angle
    if method == "gauss":
        result = _smooth_gauss(rate, exposure, position, **options)
    else:
        basis = {"poly": _make_polynomials, "spline": _make_splines}[method]
        result = _fit_rate(rate * exposure, exposure, basis(position, **options))
    return _keep_integral(result, integral, solid_angle)


def _keep_integral(rate, integral, solid_angle):
    """Scale the rate at each energy to an integral, of shape (n_energy,)."""
    return rate * _divide(integral, rate @ solid_angle, 0)[:, np.newaxis]


def _smooth_gauss(rate, exposure, position, sigma="0.2 deg"):
    sigma = u.Quantity(sigma).to_value("deg")
    centers = [np.unique(_) for _ in position]
    kernels = [np.exp(-(((_ - _[:, np.newaxis]) / sigma) ** 2) / 2) for _ in centers]
    shape = len(rate), *map(len, centers)

    counts, weights = (
        _apply(kernels, _.reshape(shape)).reshape(rate.shape)
        for _ in (rate * exposure, exposure)
    )
    # divided by the exposure within reach, which normalises the kernel in each bin
    reached = weights > 1e-6 * exposure.max()
    return np.divide(counts, weights, out=rate.copy(), where=reached)


def _make_polynomials(position, degree=6):
    """Legendre polynomials. Shape (n_position, n_terms)."""
    vander = np.polynomial.legendre.legvander
    terms = [vander(_ / np.abs(_).max(), degree) for _ in position]
    if len(terms) == 1:
        return terms[0][:, ::2]  # even: smooth across the pointing
    first, second = np.indices((degree + 1, degree + 1))
    return _multiply(*terms)[:, (first + second <= degree).ravel()]


def _make_splines(position, n_intervals=4):
    """Cubic B-splines. Shape (n_position, n_terms)."""
    terms = []
    for values in position:
        knots = np.linspace(values.min(), values.max(), n_intervals + 1)
        knots = np.pad(knots, 3, mode="edge")
        terms.append(BSpline.design_matrix(values, knots, 3).toarray())
    return terms[0] if len(terms) == 1 else _multiply(*terms)


def _multiply(first, second):
    """All products of terms. Shape (n_position, n_first * n_second)."""
    return (first[:, :, np.newaxis] * second[:, np.newaxis]).reshape(len(first), -1)


def _fit_rate(counts, exposure, basis):
    """Fit the log of the rate, at each energy, by terms of shape (n_position, n)."""
    total, total_exposure = counts.sum(axis=1), exposure.sum(axis=1)
    mean = _divide(total, total_exposure, 0)
    shape = _fit_factor(counts.sum(axis=0), mean @ exposure, basis)
    result = np.zeros(counts.shape)
    for idx in np.flatnonzero(total):
        expected = exposure[idx] * shape
        scale = total[idx] / expected.sum()
        factor = _fit_factor(counts[idx], scale * expected, basis)
        result[idx] = scale * shape * factor
    return result


def _fit_factor(counts, expected, basis, n_steps=50):
    """Fit the ratio of counts to what is expected, by the exponential of the terms.

    Newton's method for the Poisson likelihood and a normal prior on the coefficients,
    which has a single maximum.
    """
    coefficients = np.zeros(basis.shape[1])
    for _ in range(n_steps):
        predicted = expected * np.exp(basis @ coefficients)
        gradient = basis.T @ (counts - predicted) - coefficients
        hessian = (basis.T * predicted) @ basis + np.eye(len(coefficients))
        step = np.linalg.solve(hessian, gradient)
        change = np.abs(basis @ step).max()
        coefficients += step / max(change, 1)
        if change < 1e-6:
            break
    return np.exp(basis @ coefficients)


def make_nodes(rate, exposure, axes, degree=4, n_steps=10):
    """Make the values to interpolate between, from the mean rates in bins.

    Gammapy interpolates the log of the rate between the centres of the bins, log in
    energy. The integral of that over a bin is not the value at its centre: by the slope
    of the spectrum, the growth of the solid angle with offset, the curvature, and also
    because noise makes the mean of the log smaller than the log of the mean.

    First the rate is scaled, along each axis, by the ratio of centre and mean of a
    smooth function. Then by a smooth function of the bin, such that the integrals in
    the bins along each axis are on average those of the mean rate, and the total
    exactly. To make them exact in each bin would undo the averaging of neighbours, and
    amplify the noise. Smooth is the exponential of a polynomial.

    Parameters
    ----------
    rate, exposure : `~numpy.ndarray`
        Mean rate in the bins, nowhere 0, and exposure, the product of which is counts.
        Same shape as the axes.
    axes : `~gammapy.maps.MapAxes`
        Axes of a background IRF.
    degree : int, optional
        Degree of the polynomials. Default is 4.
    n_steps : int, optional
        Number of steps to solve for them. Default is 10.

    Returns
    -------
    rate : `~numpy.ndarray`
        Rate at the centres. Same shape.
    """
    rules = [_make_rule(axis) for axis in axes]
    _, interpolate, integrate = zip(*rules, strict=True)
    target = rate * _apply(integrate, np.ones([_.shape[1] for _ in integrate]))
    counts = rate * exposure

    def sum_others(values, idx):
        return values.sum(axis=tuple(_ for _ in range(rate.ndim) if _ != idx))

    def expand(values, idx):
        return values.reshape([-1 if _ == idx else 1 for _ in range(rate.ndim)])

    log_rate = np.log(rate)
    for idx, rule in enumerate(rules):
        margins = sum_others(target, idx), sum_others(counts, idx)
        log_rate += expand(_get_log_factor(*margins, rule, degree, n_steps), idx)
    for _ in range(n_steps):
        predicted = _apply(integrate, np.exp(_apply(interpolate, log_rate)))
        log_norm = np.log(target.sum() / predicted.sum())
        changes = [
            _fit_polynomial(
                np.arange(n_bins),
                np.log(sum_others(target, idx) / sum_others(predicted, idx)) - log_norm,
                sum_others(counts, idx),
                degree - 1,
            )
            for idx, n_bins in enumerate(rate.shape)
        ]
        for idx, change in enumerate(changes):
            log_rate += expand(change.clip(-MAX_LOG_CHANGE, MAX_LOG_CHANGE), idx)
        log_rate += log_norm
    return np.exp(log_rate)


def _get_log_factor(target, counts, rule, degree, n_steps):
    """Log of the ratio of centre and mean, of a smooth function with the integrals.

    Shape (n,), as the integrals in the bins of an axis, and their counts.
    """
    nodes, interpolate, integrate = rule
    width = integrate.sum(axis=1)
    log_value = np.log(target / width)
    for _ in range(n_steps):
        log_integral = np.log(integrate @ np.exp(interpolate @ log_value))
        log_value += np.log(target) - log_integral
        log_value = _fit_polynomial(nodes, log_value, counts, degree)
    log_integral = np.log(integrate @ np.exp(interpolate @ log_value))
    return log_value - log_integral + np.log(width)


def _fit_polynomial(x, values, counts, degree):
    """Smooth values that have the errors of counts. Shape (n,)."""
    # a bin without counts has a weight, for there to be a solution
    weights = np.sqrt(counts + 0.01)
    degree = min(degree, len(values) - 1)
    if degree == 0:
        return np.full(len(values), np.average(values, weights=weights**2))
    return np.polynomial.Polynomial.fit(x, values, degree, w=weights)(x)


def _make_rule(axis):
    """Matrices to interpolate to points in the bins, and to integrate over bins.

    After the nodes, of shape (n,), log in energy, in rad else. In each half of a bin
    there are two points of Gauss-Legendre: shapes (4 n, n) and (n, 4 n).
    """
    is_energy = axis.name == "energy"
    edges = axis.edges.to_value("TeV" if is_energy else "rad")
    edges = np.log(edges) if is_energy else edges
    nodes = get_center(edges)
    breaks = np.sort(np.concatenate([edges, nodes]))
    half = np.diff(breaks) / 2
    points = get_center(breaks)[:, np.newaxis] + np.outer(half, [-1, 1] / np.sqrt(3))
    points, weights = points.ravel(), np.repeat(half, 2)
    measure = {
        "energy": np.exp,
        "offset": lambda offset: 2 * np.pi * np.sin(offset),
        "fov_lon": np.ones_like,
        "fov_lat": np.cos,
    }[axis.name]
    integrate = np.repeat(np.eye(len(nodes)), 4, axis=1) * weights * measure(points)

    interpolate = np.zeros((len(points), len(nodes)))
    if len(nodes) == 1:
        return nodes, interpolate + 1, integrate
    idx = (np.searchsorted(nodes, points) - 1).clip(0, len(nodes) - 2)
    share = (points - nodes[idx]) / (nodes[idx + 1] - nodes[idx])
    if axis.name == "offset":  # MapDatasetMaker pads it towards the pointing
        share = share.clip(0)
    rows = np.arange(len(points))
    interpolate[rows, idx], interpolate[rows, idx + 1] = 1 - share, share
    return nodes, interpolate, integrate


def _divide(values, divisor, fallback):
    """Divide, with a value to fall back on where the divisor is 0."""
    out = np.full(divisor.shape, float(fallback))
    return np.divide(values, divisor, out=out, where=divisor > 0)


def _apply(matrices, array):
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


def check_smooth(method, options):
    """Raise an error if a method of smoothing, or its options, are not valid."""
    if method is None and not options:
        return
    if method not in SMOOTH_OPTIONS:
        raise ValueError(
            f"smooth must be None or one of {list(SMOOTH_OPTIONS)}, got {method!r}."
        )
    unknown = sorted(set(options or {}) - {SMOOTH_OPTIONS[method]})
    if unknown:
        raise ValueError(
            f"smooth={method!r} has no option {unknown}, but "
            f"{SMOOTH_OPTIONS[method]!r}."
        )
