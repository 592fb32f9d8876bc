"""Counts in apertures with planted errors, for tests and benchmarks of the kernel."""

import numpy as np
from scipy.ndimage import gaussian_filter

from gammapy_mimic.estimators.aperture_counts import ApertureCounts
from gammapy_mimic.estimators.bias_spread import measure_bias_spread
from gammapy_mimic.estimators.run_spread import measure_run_spread
from gammapy_mimic.estimators.spread import WEIGHT_SPREAD

N_SETS = 5
# runs in a set
N_MIN, N_MAX = 15, 20
# a field of 3 deg in apertures of 0.2 deg, and pixels of 0.05 deg
N_PIXELS, N_BIN, PIXEL = 60, 4, 0.05
N_SIDE = N_PIXELS // N_BIN
LAT, LON = (np.indices((N_SIDE, N_SIDE)).reshape(2, -1) + 0.5) * PIXEL * N_BIN - 1.5
POSITIONS = np.transpose([LON, LAT])


def draw_apertures(rng, mean, spread=0.0, n=1500, delta=0.0, n_sets=1):
    """Counts of a known background in apertures of one mean."""
    errors = rng.normal(0, spread, (n_sets, n))
    true = np.maximum(mean * (1 + delta) * (1 + errors), 0)
    return ApertureCounts(rng.poisson(true), np.full(errors.shape, float(mean)))


def draw_on_off(rng, mean, alpha, spread=0.0, n=1500, delta=0.0):
    """ON and OFF counts in apertures of one mean."""
    errors = rng.normal(0, spread, (1, n))
    on = rng.poisson(np.maximum(mean * (1 + delta) * (1 + errors), 0))
    off = rng.poisson(mean / alpha, errors.shape)
    return ApertureCounts(on, counts_off=off, alpha=np.full(errors.shape, alpha))


def draw_template(rng, mean, template_counts, spread=0.0, n=200, n_sets=5):
    """Counts of a background that is known as well as some counts tell."""
    errors = rng.normal(0, spread, (1, n))
    template = rng.poisson(template_counts, (1, n)) / template_counts
    counts = rng.poisson(mean * (1 + errors), (n_sets, n))
    return ApertureCounts(counts, np.broadcast_to(mean * template, counts.shape))


def draw_sets(rng, n_runs, n_max=N_MAX):
    """Which runs are in which set. Shape (n_runs, n_sets)."""
    used = np.zeros((n_runs, N_SETS))
    for idx in range(N_SETS):
        number = rng.integers(N_MIN, min(n_max, n_runs) + 1)
        used[rng.choice(n_runs, number, replace=False), idx] = 1
    return used


class Toy:
    """Sets that share runs, with a planted field of errors that all runs have.

    ``mean`` are counts of a set in an aperture, which fall with the offset. Runs have a
    norm of their own (``norm_spread``), errors of their own (``run_spread``) and see
    the field stronger or weaker (``strength_spread``). ``scale`` is that of the field
    in deg, on a grid of apertures. None is for independent errors in ``n`` apertures.
    """

    def __init__(
        self,
        spread,
        n_runs=30,
        mean=400,
        n=50,
        delta=0.0,
        scale=None,
        norm_spread=0.05,
        run_spread=0.0,
        strength_spread=0.0,
        gradient=0.0,
    ):
        self.spread, self.n_runs, self.delta, self.scale = spread, n_runs, delta, scale
        self.norm_spread, self.run_spread = norm_spread, run_spread
        self.strength_spread = strength_spread
        if scale is None:
            self.shape, self.positions = np.linspace(1.5, 0.5, n), None
            self.radial = np.zeros(n)
        else:
            self.shape = np.exp(-(LON**2 + LAT**2) / (2 * 1.5**2))
            self.positions = POSITIONS
            self.radial = gradient * np.hypot(LON, LAT)
            rng = np.random.default_rng(0)
            self.norm = np.std([self.draw_grid(rng) for _ in range(200)])
        self.background = mean / ((N_MIN + N_MAX) / 2) * self.shape
        self.mean = mean * self.shape

    def draw_grid(self, rng):
        # edges have no neighbours on the other side
        values = rng.normal(size=(2 * N_PIXELS, 2 * N_PIXELS))
        values = gaussian_filter(values, self.scale / PIXEL, mode="wrap")
        values = values[:N_PIXELS, :N_PIXELS]
        return values.reshape(N_SIDE, N_BIN, N_SIDE, N_BIN).mean(axis=(1, 3)).ravel()

    def draw_field(self, rng):
        """Errors of a field, averaged over the apertures."""
        if self.scale is None:
            return rng.normal(0, self.spread, len(self.shape))
        return self.spread * self.draw_grid(rng) / self.norm + self.radial

    def get_mean_run_spread(self):
        """Spread of the errors of runs, averaged over those of a set."""
        return self.run_spread / np.sqrt((N_MIN + N_MAX) / 2)

    def draw(self, rng, field):
        """Counts of sets."""
        shape = self.n_runs, len(field)
        strength = 1 + rng.normal(0, self.strength_spread, (self.n_runs, 1))
        true = self.background * (1 + self.delta) * (1 + field * strength)
        true = true * (1 + rng.normal(0, self.norm_spread, (self.n_runs, 1)))
        true = true * (1 + rng.normal(0, self.run_spread, shape))
        counts = rng.poisson(np.maximum(true, 0))[:, np.newaxis]
        used = draw_sets(rng, self.n_runs)[..., np.newaxis]
        return ApertureCounts(counts * used, self.background * used)

    def get_truth(self, field):
        """Delta and squared spread of a field."""
        return find_truth((1 + self.delta) * (1 + field) - 1, self.mean)


def find_truth(errors, mean):
    """Delta and squared spread of errors of apertures, as apertures are weighted.

    Parameters
    ----------
    errors : `~numpy.ndarray`
        True counts over prediction minus 1, in each aperture.
    mean : `~numpy.ndarray`
        Predicted counts of a set.
    """
    share = mean / mean.sum()
    weight = (mean / (1 + WEIGHT_SPREAD**2 * mean)) ** 2
    delta = np.sum(share * errors)
    left = 1 - 2 * share + np.sum(share**2)
    spread = (1 + errors) / (1 + delta) - 1
    return delta, np.sum(weight * spread**2) / np.sum(weight * left)


QUANTITIES = ("f", "f_other", "delta", "delta_other", "total", "total_other")


def measure_toys(toy, n_toys, seed=0):
    """Measure toys. Arrays by name, with whether intervals hold the truth."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(n_toys):
        this, other = toy.draw_field(rng), toy.draw_field(rng)
        counts = toy.draw(rng, this)
        # another field is seen by other runs, this one by any runs
        spread = toy.get_mean_run_spread()
        other = other + rng.normal(0, spread, len(other))
        result = measure_bias_spread(counts, positions=toy.positions)
        truths = {}
        for suffix, field, more in (("", this, spread), ("_other", other, 0)):
            delta, square = toy.get_truth(field)
            square += more**2
            truths |= {f"delta{suffix}": delta, f"f{suffix}": np.sqrt(square)}
            truths[f"total{suffix}"] = np.sqrt(delta**2 + square * (1 + delta) ** 2)
        row = {
            "f_squared": result.f_squared - truths["f"] ** 2,
            "f_squared_err": result.f_squared_err,
            "true_f_squared": truths["f"] ** 2,
            "delta": result.delta.value - truths["delta"],
            "delta_err": result.delta.error,
        }
        for name in QUANTITIES:
            interval, truth = getattr(result, name), truths[name]
            row[f"{name} 68%"] = interval.low <= truth <= interval.high
            row[f"{name} 95%"] = truth <= interval.upper_limit
        rows.append(row)
    return {name: np.array([float(_[name]) for _ in rows]) for name in rows[0]}


def measure_norm_toys(n_runs, spread, error, n_toys, seed=0):
    """Spread of norms that sets share. Arrays by name, as `measure_toys`."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(n_toys):
        norms = rng.normal(rng.normal(1, spread, n_runs), error)
        runs = np.nonzero(draw_sets(rng, n_runs).T)[1]
        errors = np.full(len(runs), error)
        result = measure_run_spread(norms[runs], errors, runs)
        row = {"spread": result.spread.value, "spread_err": result.spread.error}
        row |= {"mean": result.mean.value - 1, "mean_err": result.mean.error}
        for name, truth in (("mean", 1), ("spread", spread)):
            interval = getattr(result, name)
            row[f"{name} 68%"] = interval.low <= truth <= interval.high
            row[f"{name} 95%"] = truth <= interval.upper_limit
        other = rng.normal(1, spread)
        row["prior 68%"] = abs(other - result.mean.value) < result.other_err
        rows.append(row)
    return {name: np.array([float(_[name]) for _ in rows]) for name in rows[0]}


def get_mean(values):
    """Mean and its error."""
    return np.mean(values), np.std(values) / np.sqrt(len(values))
