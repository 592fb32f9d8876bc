"""Likelihood weights for a background that is not known exactly."""

import numpy as np
from gammapy.maps import Map
from scipy.signal import fftconvolve

from ..data.prediction import get_safe_mask
from .band_errors import find_bands, get_band_errors
from .copies import check_background_model, replace_parts
from .measurement import get_circle, is_map

__all__ = ["get_weights", "make_weighted"]


def get_weights(background, f):
    r"""Likelihood weights of counts whose prediction has an error.

    .. math::
        w_i = \frac{1}{1 + r_i \sum_j r_j}, \qquad r_i = f_i \sqrt{N_i},

    with the background counts N in a circle around a position, in all bands of energy
    j. For one band this is the weight of the Fermi-LAT catalog, :math:`1 / (1 + f^2
    N)` (Abdollahi et al. 2020, ApJS 247, 33, appendix B; `gtwtsmap` of the Fermitools),
    which makes the variance of counts without weight, N, that of counts with the error,
    :math:`N + f^2 N^2`.

    Other than there, f is measured, by band, not one fraction of 3%. N is of the circle
    in which f was measured; that of Fermi is convolved with the point spread function.
    With several bands Fermi adds the counts of those above to N (`gteffbkg`), as if
    their error were the same one and the source were as its background. Here errors of
    bands may be the same one, or not, and the source may have any spectrum. With the
    sum over j the variance is never too small, as

    .. math:: \Big(\sum_i f_i u_i\Big)^2 \le
        \sum_i \frac{r_i \sum_j r_j}{N_i} u_i^2

    for any u (Cauchy and Schwarz). If the errors of bands are independent it is too
    large, by the number of bands where their r are alike.

    Parameters
    ----------
    background : `~numpy.ndarray`
        Background counts in the kernel. Shape (n_bands, ...).
    f : `~numpy.ndarray`
        Relative error of the prediction in the kernel. Shape (n_bands,).

    Returns
    -------
    weights : `~numpy.ndarray`
        Weights, above 0 and at most 1. Shape of the background.
    """
    ratio = np.reshape(f, (-1, *[1] * (background.ndim - 1))) * np.sqrt(background)
    return 1 / (1 + ratio * ratio.sum(axis=0))


def make_weighted(result, dataset, f=None):
    """Make a copy of a dataset with likelihood weights.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    dataset : `~gammapy.datasets.MapDataset`
        Dataset with a background model. Not changed.
    f : float, `~numpy.ndarray` or str, optional
        Spread of the background, see
        `~gammapy_mimic.estimators.band_errors.get_band_errors`. Default is the measured
        one.

    Returns
    -------
    dataset : `~gammapy.datasets.MapDataset`
        Dataset.

    Raises
    ------
    ValueError
        If the dataset has no background model, is no map or has weights already, or if
        f was not measured or is not valid.
    """
    check_background_model(dataset)
    if not is_map(dataset) or dataset.stat_type != "cash":
        raise ValueError(
            "Weights are for maps with the statistic 'cash'. The dataset "
            f"{dataset.name} is a {type(dataset).__name__} with {dataset.stat_type!r}."
        )
    geom = dataset.counts.geom
    f, bands = get_band_errors(result, "f", f), find_bands(result, geom.axes["energy"])
    npred = np.where(get_safe_mask(dataset), dataset.npred_background().data, 0)
    images = np.stack([npred[bands == _].sum(axis=0) for _ in range(len(f))])
    circle = get_circle(geom.to_image(), result.correlation_radius)
    inside = fftconvolve(images, circle[np.newaxis], mode="same", axes=(1, 2))
    # of a Fourier transform, nothing may be a bit less than nothing
    weights = get_weights(np.maximum(inside, 0), f)[bands]
    if dataset.mask_fit is not None:
        weights = weights * dataset.mask_fit.data
    mask_fit = Map.from_geom(geom, data=weights)
    return replace_parts(dataset, mask_fit=mask_fit, stat_type="cash_weighted")
