r"""Spread of a background: f squared from deviations in apertures, and its variance.

Arrays only. Sums over runs have the shape (n_sets, n_apertures).
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.special import chdtri

from .aperture_counts import (
    NO_RUN,
    get_deviations,
    get_information,
    get_share,
    keep_result,
)

__all__ = ["WEIGHT_SPREAD", "SpreadNoise", "measure_spread"]

# f for which apertures of different counts are weighted best. It is fixed: weights that
# follow the counts would bias the result.
WEIGHT_SPREAD = 0.05
MIN_RUNS = 3
# a jackknife larger than expected is chance, if that is as probable as this
CHANCE = 0.05
# scales of the correlation of a field, up to a quarter of its extent
N_SCALES = 30
# of the extent of positions, to which they are on a grid, and its largest size
GRID_TOLERANCE = 1e-6
MAX_PIXELS = 10_000_000
# relative error of a Fourier transform
FFT_ERROR = 1e-12


class SpreadNoise(NamedTuple):
    """What counts, runs and template add to delta and f squared.

    Attributes
    ----------
    level : float
        Mean square by counts, in units of f squared.
    constant, slope : float
        The variance of f squared by counts is ``constant + slope f_squared``.
    shared : `~numpy.ndarray`
        Correlation of two sets in the counts of a run that both have. Shape
        (n_sets, n_sets).
    n_apertures : float
        Effective number of independent apertures.
    field_share : float
        Variance of the mean error of a field, over f squared.
    template : float, optional
        Mean relative variance of the template.
    template_delta : float, optional
        Relative variance of delta by the template.
    own : float, optional
        Part of f squared that is errors of single runs, not common to all.
    factor : float, optional
        Factor of the variance by counts, from the scatter of runs.
    dof : float, optional
        Degrees of freedom of the factor. Infinity for a variance by counts.
    """

    level: float
    constant: float
    slope: float
    shared: np.ndarray
    n_apertures: float
    field_share: float
    template: float = 0.0
    template_delta: float = 0.0
    own: float = 0.0
    factor: float = 1.0
    dof: float = np.inf

    def get_counts_variance(self, f_squared):
        """Get the variance of f squared by counts and runs."""
        # errors of single runs are noise, and no error of the field
        field = max(f_squared - self.own, 0)
        return self.factor * (self.constant + self.slope * field)

    def get_variance(self, f_squared):
        """Get the variance of f squared of this field."""
        # the template is one more random field, which counts add noise to as well
        counts = self.get_counts_variance(f_squared + self.template)
        template = 2 * self.template * (self.template + 2 * f_squared)
        return counts + template / self.n_apertures

    def get_field_error(self, f_squared):
        """Get the standard deviation of f squared between fields."""
        return max(f_squared, 0) * np.sqrt(2 / (self.n_apertures - 1))

    def get_expected_limit(self):
        """Get the upper limit of f squared, with 95% confidence, for an f of 0."""
        # errors of single runs are there, also without an error of the field
        level = self.level + self.template + self.own
        nu = max(2 * level**2 / self.get_variance(self.own), 1)
        return max(nu / chdtri(nu, 0.95) - 1, 0) * level


class _Sums(NamedTuple):
    """Sums of `Deviations` over runs. Shape (..., n_sets, n_apertures)."""

    value: np.ndarray
    lever: np.ndarray
    noise: np.ndarray
    excess_lever: np.ndarray

    def get_squares(self, weight):
        """Weighted squares, and the squared levers that they are divided by."""
        share = get_share(self.lever)
        value = _project(self.value, share)
        noise = self.noise * (1 - 2 * share)
        noise += share**2 * self.noise.sum(axis=-1, keepdims=True)
        # single counts can have less than the excess
        levers = np.maximum(self.lever**2 - self.excess_lever, 0) * _get_left(share)
        return weight * (value**2 - noise), weight * levers

    def get_f_squared(self, weight):
        """Estimate f squared. Shape (...,)."""
        square, norm = (_.sum(axis=(-2, -1)) for _ in self.get_squares(weight))
        return _divide(square, norm)


class _Runs(NamedTuple):
    """Deviations of runs (or nights), and of all of them together.

    ``parts`` has the shape (n_rows, n_sets, n_apertures), where the rows of each set
    are the ``clusters``, ``scatter`` is what their deviations differ by from the mean
    of the set. ``pairs`` has the indices of two sets, and the rows of their runs that
    are the same.
    """

    sums: _Sums
    parts: _Sums
    scatter: np.ndarray
    weight: np.ndarray
    levers: np.ndarray  # weighted squares of levers of the sums
    clusters: np.ndarray
    n_clusters: int
    pairs: list


class _Measured(NamedTuple):
    """Estimate of f squared with its noise, but for the template and the positions.

    Arrays of shape (n_sets, n_apertures), of all runs together.
    """

    f_squared: float
    noise: SpreadNoise
    value: np.ndarray  # without the norm of the set
    lever: np.ndarray
    levers: np.ndarray


def measure_spread(counts, template_counts=np.inf, positions=None):
    """Measure f squared, and what its noise is.

    Parameters
    ----------
    counts : `~gammapy_mimic.estimators.aperture_counts.ApertureCounts`
        Counts.
    template_counts : float or `~numpy.ndarray`, optional
        As in `~gammapy_mimic.estimators.bias_spread.measure_bias_spread`.
    positions : `~numpy.ndarray` or None, optional
        As there.

    Returns
    -------
    f_squared : float
        Estimate. NaN if there is no lever in at least two apertures.
    noise : `SpreadNoise`
        Noise.
    """
    measured = _measure_counts(counts)
    f_squared, noise = measured.f_squared, _add_template(measured, template_counts)
    if not noise.n_apertures > 0:
        return np.nan, noise
    f_squared -= noise.template
    if positions is not None:
        noise = _correlate_apertures(measured, noise, f_squared, positions)
    return f_squared, noise


@keep_result
def _measure_counts(counts):
    """Measure what needs neither template nor positions."""
    runs = _get_runs(counts)
    # where runs are not known, sets are taken to be independent
    shared = _measure_sharing(runs) if counts.has_runs else np.eye(len(runs.levers))
    noise = _measure_counts_noise(runs, shared)
    f_squared = float(runs.sums.get_f_squared(runs.weight))
    has_apertures = noise.n_apertures > 0
    if has_apertures and counts.has_runs and counts.n_clusters >= MIN_RUNS:
        noise = _measure_runs_noise(runs, noise, f_squared, counts.n_runs - 1)
    value = _project(runs.sums.value, get_share(runs.sums.lever))
    return _Measured(f_squared, noise, value, runs.sums.lever, runs.levers)


def _add_template(measured, template_counts):
    """Add the noise of a template to that of counts."""
    shape = measured.levers.shape
    relative = np.broadcast_to(1 / np.asarray(template_counts, dtype=float), shape)
    total, share = measured.levers.sum(), get_share(measured.lever.sum(axis=0))
    return measured.noise._replace(
        template=float(_divide(np.sum(measured.levers * relative), total)),
        template_delta=float(np.sum(share**2 * relative.mean(axis=0))),
    )


def _get_runs(counts):
    deviations = get_deviations(counts)
    sums = _Sums(*(_.sum(axis=0) for _ in deviations))
    parts = _Sums(*(counts.merge_runs(_) for _ in deviations))
    mean = _divide(sums.value, sums.lever, 0)
    scatter = _project(parts.value - parts.lever * mean, get_share(sums.lever))
    information = get_information(counts).sum(axis=0)
    weight = 1 / (1 + WEIGHT_SPREAD**2 * information) ** 2
    return _Runs(
        sums,
        parts,
        scatter,
        weight,
        sums.get_squares(weight)[1],
        counts.clusters,
        counts.n_clusters,
        _find_pairs(counts.clusters),
    )


def _find_pairs(clusters):
    """Find the runs that two sets, or one and itself, have in common."""
    sets = range(clusters.shape[1])
    pairs = []
    for first, second in itertools.combinations_with_replacement(sets, 2):
        columns = clusters[:, first], clusters[:, second]
        # rows that have no run are nothing but zeros
        _, *rows = np.intersect1d(*columns, return_indices=True)
        pairs.append((first, second, *rows))
    return pairs


def _project(values, share):
    """Values without the norm of their set. Shape (..., n_sets, n_apertures)."""
    return values - share * values.sum(axis=-1, keepdims=True)


def _get_left(share):
    """Part of the variance of an aperture that the norm of its set leaves."""
    return 1 - 2 * share + (share**2).sum(axis=-1, keepdims=True)


def _divide(numerator, denominator, fill=np.nan):
    """Ratio, filled where the denominator is not above 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    out = np.full(numerator.shape, float(fill))
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def _measure_counts_noise(runs, shared):
    """Noise of counts.

    What belongs to f squared is NaN if no lever is left, as of one aperture.
    """
    levers, lever = runs.levers, runs.sums.lever
    total = levers.sum()
    norm = total if total > 0 else np.nan
    root = np.sqrt(runs.parts.lever)
    weight = runs.weight * np.sqrt(_get_left(get_share(lever)))
    constant = slope = 0.0
    for first, second, rows, others in runs.pairs:
        # covariance of the deviations of the two sets in each aperture
        products = root[rows, first] * root[others, second]
        covariance = shared[first, second] * products.sum(axis=0)
        number = 1 if first == second else 2
        weights = number * weight[first] * weight[second]
        constant += np.sum(weights * covariance**2)
        slope += np.sum(weights * lever[first] * lever[second] * covariance)
    information = levers.sum(axis=0)
    share = get_share(lever.sum(axis=0))
    return SpreadNoise(
        level=float(np.sum(runs.weight * lever * (1 - get_share(lever))) / norm),
        constant=2 * constant / norm**2,
        slope=4 * slope / norm**2,
        shared=shared,
        n_apertures=float(_divide(total**2, np.sum(information**2), 0)),
        field_share=float(np.sum(share**2)),
    )


def _measure_sharing(runs):
    """Correlation of the deviations of shared runs in two sets. (n_sets, n_sets).

    It is 1 where sets have the same events in the same aperture, and 0 where a run is
    elsewhere in the field of another set.
    """
    root = np.sqrt(runs.parts.lever)
    products, expected = np.zeros((2, *[len(runs.levers)] * 2))
    for first, second, rows, others in runs.pairs:
        for values, result in ((runs.scatter, products), (root, expected)):
            product = np.vdot(values[rows, first], values[others, second])
            result[first, second] = result[second, first] = product
    # of common counts, in the scale of the scatter
    scale = np.sqrt(_divide(np.diag(products), np.diag(expected), 0))
    shared = _divide(products, expected * scale * scale[:, np.newaxis], 0).clip(0, 1)
    np.fill_diagonal(shared, 1)
    return shared


def _measure_runs_noise(runs, noise, f_squared, dof):
    """Make the noise that the scatter of runs tells of, never below that of counts."""
    n = runs.n_clusters
    pairs = _get_pair_variance(runs)
    # errors of single runs, relative to counts
    expected = np.sum(runs.parts.lever * (1 - get_share(runs.sums.lever)))
    own = max(np.sum(runs.scatter**2) / expected * n / (n - 1), 1)
    noise = noise._replace(
        constant=max(noise.constant, pairs),
        slope=noise.slope * own,
        own=noise.level * (own - 1),
    )
    # runs may differ in how strong the error of the field is
    jackknife = (n - 1) * np.var(_leave_out_runs(runs))
    expected = noise.get_counts_variance(f_squared)
    # products of runs are twice in a jackknife
    if jackknife > (expected + pairs) * chdtri(dof, CHANCE) / dof:
        noise = noise._replace(factor=(jackknife - pairs) / expected, dof=dof)
    return noise


def _leave_out_runs(runs):
    """Estimate f squared without each of the runs. Shape (n_clusters,)."""
    without = _Sums(*(a - b for a, b in zip(runs.sums, runs.parts, strict=True)))
    known = runs.clusters != NO_RUN
    results = []
    for whole, parts in zip(
        runs.sums.get_squares(runs.weight),
        without.get_squares(runs.weight),
        strict=True,
    ):
        whole, parts = whole.sum(axis=-1), parts.sum(axis=-1)
        # a set without the run is what it is
        result = np.full(runs.n_clusters, whole.sum())
        np.add.at(result, runs.clusters[known], (parts - whole)[known])
        results.append(result)
    return _divide(*results)


def _get_pair_variance(runs):
    """Get the variance of f squared by products of two different runs.

    Their mean is 0, so that their squares are their variance. Two runs in several sets
    are one pair.
    """
    weight = runs.weight / runs.levers.sum()
    # of two runs r and q of each set, shape (n_sets, n_rows, n_rows)
    scatter = np.moveaxis(runs.scatter, 0, 1)
    pairs = (scatter * weight[:, np.newaxis]) @ np.moveaxis(scatter, 1, 2)
    # what is left of a mean that is their own
    share = get_share(runs.parts.lever.sum(axis=2).T)
    own = _divide(np.einsum("srr->sr", pairs), 1 - share, 0)
    product = share[:, np.newaxis] * own[..., np.newaxis]
    pairs += product + np.swapaxes(product, 1, 2)
    total = own.sum(axis=1)[:, np.newaxis, np.newaxis]
    pairs -= share[:, np.newaxis] * share[..., np.newaxis] * total
    sums = np.zeros((runs.n_clusters, runs.n_clusters))
    for one, clusters in zip(pairs, runs.clusters.T, strict=True):
        known = np.flatnonzero(clusters != NO_RUN)
        # each run is in a set once
        sums[np.ix_(*[clusters[known]] * 2)] += one[np.ix_(known, known)]
    np.fill_diagonal(sums, 0)
    # and those of a run with itself
    return 2 * np.sum(sums**2) * len(sums) / (len(sums) - 1)


def _correlate_apertures(measured, noise, f_squared, positions):
    r"""Make the noise that knows the correlation of the errors of two apertures.

    A Gaussian correlation, :math:`\rho = e^{-d^2 / 4 s^2}` at the distance d, is fitted
    to the products of the deviations of two apertures, whose noise is independent. Less
    the mean of the field, they are :math:`F (\rho - H) / (1 - H)`, where
    :math:`H = \sum h_i h_j \rho_{ij}` is the share of the mean, which is measured with
    the shares h of the apertures, in the variance of the field.
    """
    # an error of the field that is lost in noise has no correlation that is not
    field = max(f_squared - noise.own, np.sqrt(noise.get_variance(0)))
    lever = measured.lever.sum(axis=0)
    error = _divide(measured.value.sum(axis=0), lever, 0)
    information, share = measured.levers.sum(axis=0), get_share(lever)
    root = np.sqrt(information)
    columns = root, root * error, share, information
    width, (number, products, shares, weights) = _add_pairs(positions, columns)
    number = np.where(number > FFT_ERROR * number.max(), number, 0)
    mean = _divide(products, number, 0)
    # one row for each scale, the first of none
    scales = width * np.append(0.1, np.geomspace(0.3, (len(number) - 1) / 4, N_SCALES))
    rho = np.exp(-((np.arange(len(number)) * width / (2 * scales[:, np.newaxis])) ** 2))
    means = np.sum(share**2) + 2 * rho @ shares
    model = field * (rho - means[:, np.newaxis]) / (1 - means[:, np.newaxis])
    best = np.argmin(((mean - model) ** 2) @ number)
    squares = np.sum(information**2) + 2 * (rho[best] ** 2) @ weights
    return noise._replace(
        n_apertures=max(float(information.sum() ** 2 / squares), 2.0),
        field_share=float(means[best] / (1 - means[best])),
    )


def _add_pairs(positions, columns):
    """Add up products of two apertures in bins of distance.

    Return the width of a bin, the distance of the nearest two, and the sums. The
    products of all pairs that are apart by the same step on the grid are the
    correlation of a column with itself, which a Fourier transform makes.
    """
    pixels, step = _find_grid(positions)
    # with room for steps in both directions
    padded = [fft.next_fast_len(2 * int(_) + 2) for _ in pixels.max(axis=0)]
    images = np.zeros((1 + len(columns), *padded))
    for image, values in zip(images, [1, *columns], strict=True):
        image[tuple(pixels.T)] = values
    power = np.abs(fft.rfft2(images)) ** 2
    # of each pair both directions are there
    number, *products = fft.irfft2(power, padded) / 2
    axes = (fft.fftfreq(n, 1 / n) * one for n, one in zip(padded, step, strict=True))
    distance = np.hypot(*np.meshgrid(*axes, indexing="ij"))
    is_pair = (number > 0.25) & (distance > 0)
    distance = distance[is_pair]
    width = distance.min()
    idx = np.rint(distance / width).astype(int)
    return width, np.array([np.bincount(idx, _[is_pair]) for _ in products])


def _find_grid(positions):
    """Find the grid of positions: their pixels, and its step in both directions."""
    pixels, steps = zip(*map(_find_step, positions.T), strict=True)
    shape = [int(_.max()) + 1 for _ in pixels]
    if np.prod(shape, dtype=float) > MAX_PIXELS:
        raise ValueError(
            "'positions' must be those of a regular grid, which may have gaps. Theirs "
            f"would have {shape[0]} x {shape[1]} pixels."
        )
    return np.transpose(pixels), steps


def _find_step(values):
    """Find the largest step of which values are multiples: these, and the step."""
    values = values - values.min()
    extent = values.max()
    distances = np.diff(np.unique(values))
    # as Euclid did
    rest = distances[distances > GRID_TOLERANCE * extent]
    step = np.inf
    while len(rest):
        step = rest.min()
        rest = np.abs(distances - step * np.rint(distances / step))
        rest = rest[rest > GRID_TOLERANCE * extent]
    pixels = np.rint(values / step).astype(int)
    # the mean is more exact than one of them
    return pixels, extent / max(pixels.max(), 1)
