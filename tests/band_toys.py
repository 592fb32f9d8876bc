"""Toys of a spectrum whose background has an error as mimics have it."""

import numpy as np

from gammapy_mimic.estimators.aperture_counts import ApertureCounts
from gammapy_mimic.estimators.band_covariance import measure_band_covariance
from gammapy_mimic.estimators.covariance_table import get_interpolation

# two bins in each of six bands, in TeV
N_BANDS, N_BINS = 6, 2
EDGES = np.geomspace(0.5, 20, N_BANDS * N_BINS + 1)
ENERGY = np.sqrt(EDGES[1:] * EDGES[:-1])
BAND = np.repeat(np.arange(N_BANDS), N_BINS)
# counts of the background of the target, and of each set in an aperture
BACKGROUND = 12_000 * -np.diff(EDGES**-1.7) * EDGES[0] ** 1.7
BAND_BACKGROUND = np.bincount(BAND, BACKGROUND)
LOG_ENERGY = np.bincount(BAND, BACKGROUND * np.log(ENERGY)) / BAND_BACKGROUND
X = LOG_ENERGY - LOG_ENERGY.mean()
INDEX, SIGNAL = 2.3, 0.25
N_SETS, N_IN_SET, N_RUNS, N_APERTURES = 5, 6, 24, 12
KINDS = ("norm", "tilt", "bands")
LEVELS = ("runs", "apertures")
N_STEPS = 12


def draw_errors(rng, kind, size, shape):
    """Relative errors of this rms in the mean of bands. Shape (\\*shape, n_bands)."""
    if kind == "bands":
        return size * rng.normal(size=(*shape, N_BANDS))
    direction = np.ones(N_BANDS) if kind == "norm" else X / np.sqrt(np.mean(X**2))
    return size * rng.normal(size=(*shape, 1)) * direction


def get_truth(kind, size):
    """Covariance of the errors."""
    if kind == "bands":
        return size**2 * np.eye(N_BANDS)
    direction = np.ones(N_BANDS) if kind == "norm" else X / np.sqrt(np.mean(X**2))
    return size**2 * np.outer(direction, direction)


def draw_mimics(
    rng, kind, size, level="runs", n_runs=N_RUNS, scale=1.0, template_err=0.0
):
    """Counts of each band, of sets that share runs, and a template with such a noise.

    The errors are those of runs, in all of their field, of which a set has the mean, or
    those of apertures, in all runs.
    """
    used = np.zeros((n_runs, N_SETS))
    for idx in range(N_SETS):
        used[rng.choice(n_runs, N_IN_SET, replace=False), idx] = 1
    if level == "runs":
        errors = draw_errors(rng, kind, size * np.sqrt(N_IN_SET), (n_runs, 1))
    else:
        errors = draw_errors(rng, kind, size, (1, N_APERTURES))
    if template_err:
        errors = errors + template_err * rng.normal(size=(1, N_APERTURES, N_BANDS))
    counts = []
    for mean, error in zip(scale * BAND_BACKGROUND, errors.T, strict=True):
        true = np.maximum(1 + error.T, 0) * np.ones((n_runs, N_APERTURES))
        values = rng.poisson(mean / N_IN_SET * true)[:, np.newaxis]
        shape = used[..., np.newaxis]
        background = mean / N_IN_SET * shape * np.ones(N_APERTURES)
        counts.append(ApertureCounts(values * shape, background))
    return counts


def fit_norms(counts):
    """Scale the prediction of each run to its counts in all apertures and bands.

    Returns
    -------
    counts : list of `~gammapy_mimic.estimators.aperture_counts.ApertureCounts`
        Counts of each band.
    norm_shares : list of `~numpy.ndarray`
        Share of each band in these counts. Shape (n_sets, n_apertures).
    """
    found, total = (
        sum(getattr(_, name).sum(axis=-1) for _ in counts)
        for name in ("counts", "background")
    )
    norm = np.divide(found, total, out=np.ones_like(total), where=total > 0)
    fitted = [
        ApertureCounts(_.counts, _.background * norm[..., np.newaxis]) for _ in counts
    ]
    totals = sum(_.background.sum(axis=(0, 2)) for _ in fitted)
    shares = [_.background.sum(axis=0) / totals[:, np.newaxis] for _ in fitted]
    return fitted, shares


def draw_target(rng, kind, size, level, mimics=None, template_err=0.0):
    """Expected counts of the background of a target, and their prediction.

    A norm is fitted if there are mimics: to as many counts as a set has in its other
    apertures, whose errors are those of the target if they are those of runs, and those
    of the mimics if they are those of places, which all runs have.
    """
    error = draw_errors(rng, kind, size, ())
    if template_err:
        error = error + template_err * rng.normal(size=N_BANDS)
    true, norm = np.maximum(1 + error, 0), 1.0
    if mimics is not None:
        found, total = (
            np.array([getattr(_, name).sum() for _ in mimics])
            for name in ("counts", "background")
        )
        field = true if level == "runs" else found / total
        n_counts = (N_APERTURES - 1) * BAND_BACKGROUND
        norm = rng.poisson(n_counts * field).sum() / n_counts.sum()
    return BACKGROUND * true[BAND], BACKGROUND * norm


def measure(counts, **options):
    return measure_band_covariance(counts, LOG_ENERGY, **options)


def get_node_prior(result):
    """Mean and covariance of the norms at the nodes."""
    inverse = np.linalg.inv(get_interpolation(LOG_ENERGY, ENERGY, BAND, BACKGROUND))
    return 1 + inverse @ result.delta, inverse @ result.covariance @ inverse.T


def get_spectrum(amplitude, index):
    """Counts of the source in each bin, and their derivatives."""
    shape = ENERGY**-index * np.diff(EDGES) * ENERGY
    norm = SIGNAL * BACKGROUND.sum() / np.sum(ENERGY ** (1 - INDEX) * np.diff(EDGES))
    values = norm * shape
    return amplitude * values, [values, -amplitude * values * np.log(ENERGY)]


def fit_spectrum(counts, prior=None, prediction=BACKGROUND):
    """Fit amplitude and index, and norms of the background if there is a prior.

    Fisher scoring of the Cash statistic with a Gaussian penalty, as `Fit` does it.

    Returns
    -------
    values, errors : `~numpy.ndarray`
        Amplitude, whose true value is 1, and index.
    """
    n_free = 2 + (0 if prior is None else N_BANDS)
    values, precision = np.ones(n_free), np.zeros((n_free, n_free))
    values[1], mean = INDEX, np.zeros(n_free)
    interpolation = [
        np.interp(np.log(ENERGY), LOG_ENERGY, row) for row in np.eye(N_BANDS)
    ]
    if prior is not None:
        mean[2:] = values[2:] = prior[0]
        precision[2:, 2:] = np.linalg.inv(prior[1])
    for _ in range(N_STEPS):
        signal, slopes = get_spectrum(*values[:2])
        background = prediction
        if prior is not None:
            background = prediction * np.exp(np.log(values[2:]) @ interpolation)
            slopes = [*slopes, *(background * interpolation / values[2:, np.newaxis])]
        predicted, slopes = signal + background, np.array(slopes)
        gradient = slopes @ (counts / predicted - 1) - precision @ (values - mean)
        inverse = np.linalg.inv(slopes / predicted @ slopes.T + precision)
        # far from the maximum, a step may be too long
        values = values + np.clip(inverse @ gradient, -0.5, 0.5)
    return values[:2], np.sqrt(np.diag(inverse))[:2]


def simulate_fits(
    kind,
    size,
    level,
    n_toys,
    seed=0,
    n_runs=N_RUNS,
    template_err=0.0,
    has_norm=False,
):
    """Whether 68% intervals of amplitude and index hold the truth.

    The error of the target is drawn anew in each toy, and so are the mimics, and a
    template with such a noise for each of both. Norms are fitted or not.

    Returns
    -------
    covered : dict of `~numpy.ndarray`
        With and without penalty. Shape (n_toys, 2).
    """
    rng = np.random.default_rng(seed)
    truth = np.array([1, INDEX])
    covered = {"with": [], "without": []}
    options = {"template_variances": np.full(N_BANDS, template_err**2)}
    for _ in range(n_toys):
        mimics = draw_mimics(rng, kind, size, level, n_runs, template_err=template_err)
        field = mimics if has_norm else None
        target = draw_target(rng, kind, size, level, field, template_err)
        if has_norm:
            mimics, options["norm_shares"] = fit_norms(mimics)
        result = measure(mimics, **options)
        background, prediction = target
        counts = rng.poisson(get_spectrum(1, INDEX)[0] + background)
        priors = {"with": get_node_prior(result), "without": None}
        for name, prior in priors.items():
            values, errors = fit_spectrum(counts, prior, prediction)
            covered[name].append(np.abs(values - truth) < errors)
    return {name: np.array(_) for name, _ in covered.items()}
