"""Maps of a background and their maxima, by other code than that of the package."""

import numpy as np
from astropy.convolution import Tophat2DKernel
from gammapy.stats import CashCountsStatistic, WStatCountsStatistic
from scipy.ndimage import convolve, gaussian_filter


def make_prediction(n_pixels, radius, n_background=60):
    """Background that falls off to the edge, kernel, and positions without a source.

    Parameters
    ----------
    n_pixels : int
        Number of pixels of the sides.
    radius : float
        Radius of the kernel in pixels.
    n_background : float, optional
        Counts in the circle at the center.

    Returns
    -------
    prediction, kernel, where : `~numpy.ndarray`
        Arguments of `~gammapy_mimic.estimators.maxima.simulate_random_maps`.
    """
    kernel = Tophat2DKernel(radius).array > 0
    axis = np.arange(n_pixels) - (n_pixels - 1) / 2
    offset = np.hypot(axis, axis[:, np.newaxis]) / n_pixels
    prediction = np.exp(-((offset / 0.35) ** 2) / 2) * n_background / kernel.sum()
    return prediction, kernel, offset > 0.12


def make_fields(shape, kernel, f, scale, n, rng):
    """Gaussian fields of a scale, with the rms f in the circle. Shape (n, *shape)."""
    margin = 4 * int(np.ceil(scale)) + kernel.shape[0]
    noise = rng.normal(size=(n, *(_ + 2 * margin for _ in shape)))
    fields = gaussian_filter(noise, (0, scale, scale), mode="wrap")
    means = convolve(fields, kernel[np.newaxis] / kernel.sum(), mode="wrap")
    cut = slice(margin, -margin)
    return 1 + f / np.std(means) * fields[:, cut, cut]


def simulate_maxima(
    prediction,
    kernel,
    where,
    n,
    f=0.0,
    scale=1.0,
    alpha=0.0,
    is_normalised=False,
    random_state=1,
):
    """Draw maps, and find their largest significance where 10 counts are expected.

    Returns
    -------
    maxima, n_above : `~numpy.ndarray`
        Maxima, and numbers of positions above 2 sigma. Shape (n,).
    """
    rng = np.random.default_rng(random_state)
    kernel = kernel.astype(float)

    def add(maps):
        return convolve(maps.astype(float), kernel[np.newaxis], mode="constant")

    results = []
    for start in range(0, n, 500):
        shape = (min(500, n - start), *prediction.shape)
        rate = np.broadcast_to(prediction, shape)
        if f:
            fields = make_fields(shape[1:], kernel > 0, f, scale, shape[0], rng)
            rate = rate * np.maximum(fields, 0)
        pixels = rng.poisson(rate)
        n_on = add(pixels)
        if alpha:
            off = add(rng.poisson(prediction / alpha, shape))
            values = WStatCountsStatistic(n_on, off, alpha).sqrt_ts
            background = alpha * off / (1 + alpha)
        else:
            background = add(prediction[np.newaxis])
            if is_normalised:
                norm = pixels.sum(axis=(1, 2)) / prediction.sum()
                background = background * norm[:, np.newaxis, np.newaxis]
            values = CashCountsStatistic(n_on, background).sqrt_ts
        values = np.where(where & (background >= 10), values, -np.inf)
        results.append((values.max(axis=(1, 2)), np.sum(values > 2, axis=(1, 2))))
    return tuple(np.concatenate(_) for _ in zip(*results, strict=True))
