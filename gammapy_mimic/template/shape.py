"""The mean shape of a template: smooth in energy and in position."""

import numpy as np
from scipy.interpolate import BSpline

from .poisson import fit_log_linear

__all__ = ["fit_shape"]

# where the counts do not tell
SPECTRAL_INDEX = 2.7  # of cosmic rays
WIDTH = 1.4  # deg
SQUARE_SCALE, CHANGE_SCALE = 0.5, 0.1  # of the terms of that width, and its change
KNOT_DISTANCE = 0.5  # deg, of the radial shape


def fit_shape(counts, exposure, energy, position, spread):
    r"""Fit a smooth rate in energy and position.

    The log of the rate is a spectrum, a radial shape, a part that is not radial (3D),
    and their change with energy, linear in the log of it. Without counts that tell
    otherwise it is a power law times a Gauss function of the offset. How far it is from
    that the counts decide, see `fit_log_linear`.

    Parameters
    ----------
    counts, exposure : `~numpy.ndarray`
        Counts, and exposure: the product with the rate is counts. Shape (n_energy,
        n_position).
    energy : `~numpy.ndarray`
        Energies, in TeV. Shape (n_energy,).
    position : `~numpy.ndarray`
        Offset, or longitude and latitude, in deg. Shape (1 or 2, n_position).
    spread : `~numpy.ndarray`
        Mean square distance from it in its bin, in deg2. Shape (n_position,).

    Returns
    -------
    rate : `~numpy.ndarray`
        Rate, positive, also where there is no exposure. The sum of its product with
        the exposure is that of the counts. Shape (n_energy, n_position).
    variance : `~numpy.ndarray`
        Variance of the log of the rate. Same shape.
    """
    terms, groups = _make_terms(np.log(energy), position, spread)
    profile = np.exp(-(position**2).sum(axis=0) / 2 / WIDTH**2)
    start = np.multiply.outer(energy**-SPECTRAL_INDEX, profile)
    flat = terms.reshape(counts.size, -1)
    fit = fit_log_linear(counts.ravel(), (exposure * start).ravel(), flat, groups)
    rate = start * np.exp(fit.log_factor).reshape(counts.shape)

    terms = np.concatenate([np.ones((*counts.shape, 1)), terms], axis=-1)
    variance = np.einsum("epi,epi->ep", terms @ fit.covariance, terms)
    return rate, variance


def _make_terms(log_energy, position, spread):
    """Terms of the log of the rate, and their groups.

    Shapes (n_energy, n_position, n_terms) and (n_terms,).
    """
    x = log_energy - log_energy.mean()
    square = (position**2).sum(axis=0) + spread
    curved = _bend(x)
    radial = _make_radial(square)
    angular = (
        _make_angular(position) if len(position) > 1 else np.zeros((0, len(radial)))
    )
    slope, square = x[np.newaxis], square[np.newaxis]
    one_x, one_p = np.ones_like(slope), np.ones_like(square)
    # terms of energy, terms of position
    blocks = [
        (-1, slope, one_p),
        (-1, one_x, SQUARE_SCALE * square),
        (-1, slope, CHANGE_SCALE * square),
        (0, curved.T, one_p),
        (1, one_x, radial.T),
        (2, one_x, angular[:2]),
        (3, one_x, angular[2:]),
        (4, slope, radial.T),
        (4, slope**2, square),
        (5, slope, angular),
    ]
    terms, groups = [], []
    for group, first, second in blocks:
        product = np.einsum("ie,jp->epij", first, second)
        terms.append(product.reshape(*product.shape[:2], -1))
        groups += [group] * terms[-1].shape[-1]
    return np.concatenate(terms, axis=-1), np.array(groups)


def _bend(x):
    """Functions of nodes with second differences of 1. Shape (n, n - 2).

    They, a constant and a slope are all functions of the nodes.
    """
    if len(x) < 3:
        return np.zeros((len(x), 0))
    width = np.diff(x)
    mean = (width[1:] + width[:-1]) / 2
    rows = np.arange(len(x) - 2)
    difference = np.zeros((len(x) - 2, len(x)))
    difference[rows, rows] = mean / width[:-1]
    difference[rows, rows + 2] = mean / width[1:]
    difference[rows, rows + 1] = -mean / width[1:] - mean / width[:-1]
    return np.linalg.pinv(difference)


def _make_radial(square):
    """Radial shapes beside a Gauss function. Shape (n_position, n_terms)."""
    offset_max = np.sqrt(square.max())
    n_knots = int(np.ceil(offset_max / KNOT_DISTANCE)) + 1
    knots = np.pad(np.linspace(0, offset_max, n_knots) ** 2, 3, mode="edge")
    # with coefficients at these places a spline is linear in the square of the offset
    nodes = np.array([knots[_ + 1 : _ + 4].mean() for _ in range(len(knots) - 4)])
    splines = BSpline.design_matrix(square.clip(0, knots[-1]), knots, 3).toarray()
    return splines @ _bend(nodes)


def _make_angular(position):
    """Shapes that are not radial. Shape (n_terms, n_position)."""
    # 0 where there is but one bin
    scale = np.abs(position).max() / 2 or 1
    x, y = position / scale
    square = x**2 + y**2
    terms = [x, y, x * square, y * square]
    for order in (2, 3):
        power = (x + 1j * y) ** order
        terms += [power.real, power.imag]
    return np.array(terms)
