"""Distribution of the largest significance of a map, from random maps. Arrays only."""

from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.signal import fftconvolve
from scipy.special import xlogy

from ..utils.random import random_generator
from .statistics import count_larger, get_p_value

__all__ = [
    "ExceedanceCheck",
    "MaximumProbability",
    "RandomMaps",
    "check_exceedances",
    "get_maximum_p_value",
    "get_significance",
    "simulate_random_maps",
]

EXCEEDANCE = 2  # significance above which positions are counted, to check random maps
CONFIDENCE_LEVEL = 0.95
BATCH = 16  # maps at a time
N_LARGER = 100  # larger maxima, from which a p-value is known to 10%
N_SPREADS = 200  # of the table from the spread of a field to that of circles
MAX_SPREAD = 1.5  # of a field in a pixel, the cube of a Gaussian is off beyond it
MIN_NORM = 0.1  # of counts over prediction, the error of a mean has a long tail


class RandomMaps(NamedTuple):
    """What is kept of random maps. Arrays of shape (n_maps,).

    Attributes
    ----------
    maximum : `~numpy.ndarray`
        Largest significance, -inf without a position that has enough background.
    n_above : `~numpy.ndarray`
        Number of positions above 2 sigma.
    """

    maximum: np.ndarray
    n_above: np.ndarray


class MaximumProbability(NamedTuple):
    """Probability of a maximum that is as large, see `get_maximum_p_value`.

    Attributes
    ----------
    p_value : float
        Empirical p-value. NaN for a value of NaN.
    n_larger, n_maps : int
        Number of random maps whose maximum is as large, and of all.
    text : str
        The same in words, with what n maps cannot tell.
    """

    p_value: float
    n_larger: int
    n_maps: int
    text: str


class ExceedanceCheck(NamedTuple):
    """Positions above 2 sigma of mimics, compared with random maps.

    Attributes
    ----------
    observed, expected : float
        Mean number in mimic sets, and in random maps.
    error : float
        Standard error of the former that is expected.
    p_value : float
        Two-sided p-value of the difference.
    text : str
        The same in words.
    """

    observed: float
    expected: float
    error: float
    p_value: float
    text: str


def get_significance(n_on, prediction, alpha=0.0):
    r"""Significance of counts above a prediction, as Gammapy has it.

    The signed root of the test statistic (Cash 1979, ApJ 228, 939), and for a
    prediction from OFF counts that of Li & Ma (1983, ApJ 272, 317), eq. 17. With
    :math:`\mu = \alpha n_\mathrm{off}`, :math:`x = n_\mathrm{on} / \mu - 1` and
    :math:`y = \alpha x / (1 + \alpha)`,

    .. math::
        S^2 = 2 \mu \left[(1 + x) \ln(1 + x)
        - \frac{1 + \alpha}{\alpha} (1 + y) \ln(1 + y)\right],

    the second term of which is x for :math:`\alpha = 0`.

    Parameters
    ----------
    n_on : `~numpy.ndarray`
        Counts.
    prediction : `~numpy.ndarray`
        Predicted background counts.
    alpha : `~numpy.ndarray` or float, optional
        Ratio of exposures. Default is 0, a background that is known exactly.

    Returns
    -------
    significance : `~numpy.ndarray`
        Significance, in the shape of the arguments together. NaN without background.
    """
    mu = np.where(np.asarray(prediction) > 0, prediction, np.nan)
    ratio = n_on / mu
    share = np.asarray(alpha / (1 + alpha))
    common = 1 + share * (ratio - 1)
    is_off = share > 0
    second = xlogy(common, common) / np.where(is_off, share, 1)
    second = np.where(is_off, second, ratio - 1)
    square = 2 * mu * (xlogy(ratio, ratio) - second)
    return np.sign(ratio - 1) * np.sqrt(np.maximum(square, 0))


class CircleSum:
    """Sum of maps in the circle of a kernel, by FFT, with nothing outside of them.

    Parameters
    ----------
    shape : tuple of int
        Shape of maps, (n_y, n_x).
    kernel : `~numpy.ndarray` of bool
        Circle, of odd shape.
    """

    def __init__(self, shape, kernel):
        self.shape = shape
        self.center = tuple(_ // 2 for _ in kernel.shape)
        sizes = [a + b - 1 for a, b in zip(shape, kernel.shape, strict=True)]
        self.sizes = [fft.next_fast_len(_, real=True) for _ in sizes]
        self.kernel = fft.rfft2(kernel.astype(np.float32), self.sizes)

    def __call__(self, maps):
        """Add up maps of shape (..., n_y, n_x), in the same shape."""
        values = fft.rfft2(maps.astype(np.float32), self.sizes)
        values *= self.kernel
        values = fft.irfft2(values, self.sizes)
        rows, columns = (
            slice(start, start + size)
            for start, size in zip(self.center, self.shape, strict=True)
        )
        return values[..., rows, columns]


class GammaField:
    r"""Random field of mean 1, with a given rms in the circle of a kernel.

    In a pixel it has the gamma distribution of the rms s, which with the noise of
    counts is the negative binomial one, by the cube of a Gaussian number (Wilson &
    Hilferty 1931, PNAS 17, 684),

    .. math:: (a + b z)^3, \quad a = 1 - s^2 / 9, \quad b = s / 3.

    z is white noise that is smoothed with a Gaussian of the scale in pixels. If its
    correlation is C(d), and a kernel of n pixels has k(d) pairs at the distance d, the
    mean in the circle has the variance

    .. math::
        f^2 = n^{-2} \sum_d k(d)\,[9 b^2 (a^2 + b^2)^2 C(d) + 18 a^2 b^4 C(d)^2
        + 6 b^6 C(d)^3].

    Parameters
    ----------
    shape : tuple of int
        Shape of maps, (n_y, n_x).
    kernel : `~numpy.ndarray` of bool
        Circle.
    scale : float
        Standard deviation of the Gaussian in pixels.
    """

    def __init__(self, shape, kernel, scale):
        margin = int(np.ceil(4 * scale)) + max(kernel.shape)
        self.shape = shape
        self.sizes = [fft.next_fast_len(_ + margin, real=True) for _ in shape]
        frequency = np.hypot(
            fft.fftfreq(self.sizes[0])[:, np.newaxis], fft.rfftfreq(self.sizes[1])
        )
        smoothing = np.exp(-2 * (np.pi * scale * frequency) ** 2)
        correlation = fft.irfft2(smoothing**2, self.sizes)
        self.smoothing = (smoothing / np.sqrt(correlation[0, 0])).astype(np.float32)
        pairs = fft.irfft2(np.abs(fft.rfft2(kernel, self.sizes)) ** 2, self.sizes)
        pairs = np.maximum(np.rint(pairs), 0) / np.sum(kernel) ** 2
        near = pairs > 0
        correlation = correlation[near] / correlation[0, 0]
        # of C, C^2 and C^3
        powers = [np.sum(pairs[near] * correlation**power) for power in (1, 2, 3)]
        self.spread = np.linspace(0, MAX_SPREAD, N_SPREADS)
        a, b = self.get_coefficients(self.spread)
        factors = [(3 * b * (a**2 + b**2)) ** 2, 18 * a**2 * b**4, 6 * b**6]
        self.f = np.sqrt(np.maximum(powers @ np.array(factors), 0))

    @staticmethod
    def get_coefficients(spread):
        """Coefficients a and b for the rms of a pixel."""
        return 1 - spread**2 / 9, spread / 3

    def draw(self, f, rng):
        """Fields for the spreads f. Shape (n, n_y, n_x) for n spreads."""
        spread = np.interp(f, self.f, self.spread).astype(np.float32)
        a, b = self.get_coefficients(spread[:, np.newaxis, np.newaxis])
        noise = rng.standard_normal((len(f), *self.sizes), dtype=np.float32)
        noise = fft.irfft2(fft.rfft2(noise) * self.smoothing, self.sizes)
        rows, columns = (slice(_) for _ in self.shape)
        return np.maximum(a + b * noise[:, rows, columns], 0) ** 3


def simulate_random_maps(
    prediction,
    kernel,
    where=True,
    alpha=0.0,
    f=0.0,
    delta=0.0,
    scale=None,
    norm_region=None,
    min_background=10,
    n_maps=10_000,
    value=None,
    random_state=0,
):
    r"""Draw random maps of a background, and keep their largest significance.

    Counts are Poisson numbers of the prediction, times 1 + delta, times a random field
    of mean 1. This has a gamma distribution and a Gaussian power spectrum, and its
    average over the circle of the kernel has the rms f (`GammaField`). Counts in the
    circle are then compared with the prediction as
    `~gammapy.estimators.ExcessMapEstimator` does. With a ratio of exposures, the
    prediction is measured anew by the OFF counts of each pixel, which are added in the
    same circle.

    A significance is at most :math:`(n - \mu) / \sqrt{\mu (1 + \alpha)}` for counts n
    above the prediction :math:`\mu` (the series of `get_significance` falls short of
    its first term), so only positions where this is above 2 need a logarithm.

    Parameters
    ----------
    prediction : `~numpy.ndarray`
        Predicted background counts of the target, 0 where they are masked. Shape
        (n_y, n_x).
    kernel : `~numpy.ndarray`
        Circle in which counts are added, 1 inside and 0 outside. Odd shape.
    where : `~numpy.ndarray` of bool, optional
        Positions to search: those of the target, without known sources. Shape
        (n_y, n_x). Default is all.
    alpha : `~numpy.ndarray` or float, optional
        Ratio of exposures. Shape (n_y, n_x). Default is 0, a background that is known
        exactly.
    f, delta : `~numpy.ndarray` or float, optional
        Spread and mean of the error of the background. Shape (n_maps,) if they have
        errors, see `~gammapy_mimic.estimators.calibration.draw_systematic`: the value
        of f alone makes too many maxima rare if it is poorly known. Default is 0. If
        the prediction is scaled to counts, delta is what is left after that.
    scale : float, optional
        Scale of the field in pixels, the standard deviation of a Gaussian. Default is
        half of the radius of the kernel: larger structures have fewer independent
        positions, and a smaller maximum.
    norm_region : `~numpy.ndarray` of bool, optional
        Pixels to the counts of which the prediction was scaled (FoV background). That
        of each random map then is, too. Not with OFF counts. Shape (n_y, n_x). Default
        is none.
    min_background : float, optional
        Effective background counts :math:`\mu / (1 + \alpha)` that a position must
        have. Default is 10.
    n_maps : int, optional
        Number of maps. Default is 10,000.
    value : float, optional
        Largest significance of the target. If given, no more maps are made than are
        needed to know that it is not rare: they end before the 100th map that has one
        as large, so that the p-value of `get_maximum_p_value` stays valid (Besag &
        Clifford 1991, Biometrika 78, 301). Default is to make all.
    random_state : int, optional
        Seed. Default is 0.

    Returns
    -------
    maps : `RandomMaps`
        Maxima, and numbers of positions above 2 sigma.

    Raises
    ------
    ValueError
        If the prediction is negative or not finite, the kernel has an even shape, there
        is not one spread for each map, or it is negative or (half of them) too large
        for a field of this scale, or there are OFF counts and a norm.
    """
    prediction, kernel = np.asarray(prediction, float), np.asarray(kernel) > 0
    _check(prediction, kernel, f, delta, n_maps)
    shape = prediction.shape
    where, alpha = (np.broadcast_to(_, shape) for _ in (where, alpha))
    f, delta = (np.broadcast_to(_, n_maps) for _ in (f, delta))
    rng = random_generator(random_state, "random maps", 0)
    norms = np.maximum(1 + delta, MIN_NORM)
    draw_counts = _make_drawing(prediction, kernel, f, norms, scale, rng)
    make_search = _make_measuring(
        prediction, kernel, alpha, norm_region, where, min_background, rng
    )
    add = CircleSum(shape, kernel)
    results, n_larger = [], 0
    for start in range(0, n_maps, BATCH):
        part = slice(start, start + BATCH)
        maps = draw_counts(part)
        for *data, counts in zip(maps, norms[part], np.rint(add(maps)), strict=True):
            results.append(make_search(*data)(counts))
            n_larger += value is not None and results[-1][0] >= value
            if n_larger == N_LARGER:
                # the last one only tells when to stop
                return RandomMaps(*np.array(results[:-1]).T)
    return RandomMaps(*np.array(results).T)


def _make_drawing(prediction, kernel, f, norms, scale, rng):
    """Make a function that draws the counts of a slice of all maps."""
    norm = norms[:, np.newaxis, np.newaxis]
    if not np.any(f > 0):
        return lambda part: rng.poisson(prediction * norm[part])
    radius = np.sqrt(np.sum(kernel) / np.pi)
    field = GammaField(prediction.shape, kernel, radius / 2 if scale is None else scale)
    # of the posterior of a spread the tail may be, and then is as large as can be
    if np.median(f) > field.f[-1]:
        raise ValueError(
            f"A spread f of {np.median(f):.2g} is too large for a random field on this "
            f"scale, the largest is {field.f[-1]:.2g}."
        )

    def draw(part):
        return rng.poisson(prediction * norm[part] * field.draw(f[part], rng))

    return draw


def _make_measuring(prediction, kernel, alpha, norm_region, where, min_background, rng):
    """Make a function that measures the background of a map, and gives its search."""
    known = fftconvolve(np.where(alpha > 0, 0, prediction), kernel, mode="same")
    if np.any(alpha > 0):
        if norm_region is not None:
            raise ValueError(
                "A background of OFF counts has no norm. Leave out norm_region."
            )
        off = np.divide(prediction, alpha, out=np.zeros_like(known), where=alpha > 0)
        add = CircleSum(known.shape, kernel)

        def measure(*_):
            n_off = rng.poisson(off)
            mu = known + add(alpha * n_off)
            n_off = np.rint(add(n_off))
            ratio = np.divide(mu, n_off, out=np.zeros_like(mu), where=n_off > 0)
            return Search(mu, ratio, where, min_background)

        return measure
    nothing = np.zeros_like(known)
    if norm_region is None:
        search = Search(known, nothing, where, min_background)
        return lambda *_: search
    total = np.sum(prediction[norm_region])

    def scale(pixels, error):
        norm = np.sum(pixels[norm_region]) / (total * error)
        return Search(known * norm, nothing, where, min_background)

    return scale


def _check(prediction, kernel, f, delta, n_maps):
    """Raise for arguments that cannot be."""
    if not (np.isfinite(prediction).all() and np.min(prediction) >= 0):
        raise ValueError(
            "The prediction must be finite and not negative. Set it to 0 where it is "
            "masked."
        )
    if any(_ % 2 == 0 for _ in kernel.shape):
        raise ValueError(f"The kernel must have an odd shape, got {kernel.shape}.")
    for name, value in (("f", f), ("delta", delta)):
        if np.ndim(value) and len(value) != n_maps:
            raise ValueError(
                f"There are {len(value)} values of {name} for {n_maps} random maps. "
                "Give one for each map, or one for all."
            )
    if np.min(f) < 0:
        raise ValueError(f"The spread f must not be negative, got {np.min(f):.3g}.")


class Search:
    """Search for the largest significance of counts above a background.

    Parameters
    ----------
    mu, alpha : `~numpy.ndarray`
        Predicted counts in the circle, and ratio of exposures. Shape (n_y, n_x).
    where : `~numpy.ndarray` of bool
        Positions to search.
    min_background : float
        Effective background counts that a position must have.
    """

    def __init__(self, mu, alpha, where, min_background):
        # the FFT leaves values below 0 where there is no background
        mu = np.maximum(mu, 0)
        self.valid = where & (mu > 0) & (mu >= min_background * (1 + alpha))
        self.mu, self.alpha = mu, alpha
        noise = np.sqrt(mu * (1 + alpha))
        # single precision is enough to find candidates
        self.level = (mu + EXCEEDANCE * noise).astype(np.float32)
        self.level[~self.valid] = np.inf

    def __call__(self, counts):
        """Largest significance, and number of positions above 2 sigma."""
        values = self.get_significance(counts, counts > self.level)
        maximum = np.max(values, initial=-np.inf)
        if maximum < EXCEEDANCE:
            # it may be none of the candidates
            maximum = np.max(self.get_significance(counts, self.valid), initial=-np.inf)
        return maximum, np.sum(values > EXCEEDANCE)

    def get_significance(self, counts, where):
        """Significance at some positions. Shape (n,)."""
        mu, alpha = self.mu[where], self.alpha[where]
        return get_significance(counts[where].astype(float), mu, alpha)


def get_maximum_p_value(value, maxima):
    r"""Probability that a random map has a maximum as large as that of the target.

    (1 + k) / (1 + n), for k of n maps (Phipson & Smyth 2010, SAGMB 9, 39). If no map
    reaches the value, the probability is below :math:`1 - 0.05^{1/n}`, 3 / n, with 95%
    confidence, and n maps cannot tell by how much.

    Parameters
    ----------
    value : float
        Largest significance of the target.
    maxima : `~numpy.ndarray`
        Those of random maps. Shape (n,).

    Returns
    -------
    probability : `MaximumProbability`
        P-value with words.

    Raises
    ------
    ValueError
        If there are no random maps.
    """
    n_larger, n_maps = count_larger(value, maxima)
    if not n_maps:
        raise ValueError("There is no random map with a position to search.")
    p_value = float(get_p_value(value, maxima))
    if np.isnan(p_value):
        return MaximumProbability(p_value, 0, n_maps, "not measured")
    if n_larger:
        text = f"p = {p_value:.2g} ({n_larger:.0f} of {n_maps} random maps)"
    else:
        limit = 1 - (1 - CONFIDENCE_LEVEL) ** (1 / n_maps)
        text = (
            f"p below {limit:.2g} (95% confidence; none of {n_maps} random maps, more "
            "of them are needed to tell how far below)"
        )
    return MaximumProbability(p_value, int(n_larger), n_maps, text)


def check_exceedances(observed, random, n_sets=None, n_draws=10_000, random_state=0):
    """Check random maps by the positions above 2 sigma of mimic sets.

    Their mean number in sets is compared with that in as many random maps. If mimics
    have more, they hold structures that random maps have not, and the p-value of the
    maximum is too small.

    Parameters
    ----------
    observed : `~numpy.ndarray`
        Number of positions above 2 sigma in each mimic set. Shape (n_sets,).
    random : `~numpy.ndarray`
        Those of random maps, see `RandomMaps`. Shape (n_maps,).
    n_sets : float, optional
        Effective number of mimic sets if they share events, see
        `~gammapy_mimic.estimators.sharing.get_effective_number`. Default is the number
        of sets. Rounded down, at least 1.
    n_draws : int, optional
        Number of groups of random maps.
    random_state : int, optional
        Seed.

    Returns
    -------
    check : `ExceedanceCheck`
        Comparison with words.

    Raises
    ------
    ValueError
        If there are no sets, or fewer than two random maps.
    """
    observed, random = np.asarray(observed, float), np.asarray(random, float)
    if len(observed) == 0 or len(random) < 2:
        raise ValueError(
            "The check needs a mimic set and two random maps, got "
            f"{len(observed)} and {len(random)}."
        )
    n_sets = max(int(len(observed) if n_sets is None else n_sets), 1)
    rng = random_generator(random_state, "exceedances", 0)
    groups = rng.choice(random, (n_draws, n_sets)).mean(axis=1)
    mean = float(np.mean(observed))
    tails = get_p_value(mean, groups), get_p_value(-mean, -groups)
    expected, error = float(np.mean(random)), float(np.std(groups))
    p_value = min(2 * float(min(tails)), 1.0)
    text = (
        f"{mean:.1f} positions above {EXCEEDANCE} sigma in a mimic set, "
        f"{expected:.1f} ± {error:.1f} expected from random maps (p = {p_value:.2g})"
    )
    return ExceedanceCheck(mean, expected, error, p_value, text)
