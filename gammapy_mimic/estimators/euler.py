"""Cross-check of the p-value of a maximum by the Euler characteristic. Arrays only."""

import numpy as np
from scipy.special import ndtr

__all__ = ["get_euler_characteristic", "predict_euler_characteristic"]

LEVELS = (1.0, 2.0)  # significances at which the characteristic is measured


def get_euler_characteristic(above):
    """Euler characteristic of the regions of a map: their number less that of holes.

    Of the graph of pixels: vertices less edges and plus faces.

    Parameters
    ----------
    above : `~numpy.ndarray` of bool
        Positions in the regions. Shape (..., n_y, n_x).

    Returns
    -------
    characteristic : `~numpy.ndarray` of int
        Euler characteristic. Shape (...).
    """
    above = np.asarray(above, dtype=bool)
    rows = above[..., 1:, :] & above[..., :-1, :]
    columns = above[..., :, 1:] & above[..., :, :-1]
    faces = rows[..., :, 1:] & rows[..., :, :-1]
    signs = ((above, 1), (rows, -1), (columns, -1), (faces, 1))
    return sum(sign * np.sum(_, axis=(-2, -1)) for _, sign in signs)


def predict_euler_characteristic(value, significance, levels=LEVELS):
    r"""Predict the Euler characteristic above a high level, from that above low ones.

    .. math:: \Phi(-u) + e^{-u^2 / 2}\,(N_1 + N_2 u)

    for a Gaussian field on the plane, with N from the mean of maps at two levels
    (Vitells & Gross 2011, Astropart. Phys. 35, 230, for the signed root). Where it is
    well below 1, it is about the p-value of a maximum of u. That holds for smooth
    fields: counts in circles have an edge, and the result is up to twice the p-value.
    It is there to cross-check random maps, for which it needs none.

    Parameters
    ----------
    value : `~numpy.ndarray` or float
        Level u.
    significance : `~numpy.ndarray`
        Significance of maps without a source, such as of mimic sets, NaN where they
        are not searched. Shape (n_maps, n_y, n_x).
    levels : tuple of float, optional
        Two low levels. Default is 1 and 2.

    Returns
    -------
    characteristic : `~numpy.ndarray`
        Expected characteristic, in the shape of the value.
    """
    levels, value = np.asarray(levels, float), np.asarray(value, float)
    # NaN is above nothing
    measured = [np.mean(get_euler_characteristic(significance > _)) for _ in levels]
    scaled = (measured - ndtr(-levels)) * np.exp(levels**2 / 2)
    slope = (scaled[1] - scaled[0]) / (levels[1] - levels[0])
    number = scaled[0] + slope * (value - levels[0])
    return ndtr(-value) + np.exp(-(value**2) / 2) * number
