"""Do templates add an error of their own? Against the rate that they are drawn from.

Prints, with errors over toys,

- closure: the counts that Gammapy predicts by a template over the truth, in rings, for
  noise-free counts and few ones, two widths of the field of view, 2D and 3D, each
  smoothing;
- thresholds: runs of several zenith angles, for a target between them, below and above
  the highest threshold;
- how well a template knows its error: the mean of the squared deviation from the truth
  times the effective counts, 1 if it is right;
- where the H.E.S.S. DL3 DR1 is in ``$GAMMAPY_DATA``: the deviance of each OFF run
  against a template of others, over its number of bins, with a fitted norm; and the
  time of a template of all OFF runs, and that of reading them.

Run with ``python benchmarks/templates.py``, or with the number of toys as an argument.
"""

import functools
import itertools
import operator
import os
import sys
import time
from pathlib import Path

import astropy.units as u
import numpy as np
from gammapy.data import DataStore

# what is shared with the tests
sys.path.insert(0, str(Path(__file__).parents[1]))

from gammapy_mimic.data import query_obs_table
from gammapy_mimic.simulate.irfs import energy_threshold
from gammapy_mimic.template import TemplateBins, TemplateCounts
from gammapy_mimic.template.rate import estimate_rate
from tests.template_toys import (
    RINGS,
    compare_rings,
    get_means,
    get_rate,
    make_runs,
    make_template,
)

N_EVENTS = (None, 500, 2000, 7000, 30_000)
SMOOTH = (None, "gauss", "poly", "spline")
ENERGIES = np.geomspace(0.422, 100, 20)
N_TRAIN = (4, 22)
N_SPLITS = 4


def draw(expected, seed):
    rng = np.random.default_rng(seed)
    return [rng.poisson(_) for _ in expected]


def get_mean(values):
    """Mean and its error, along the first axis."""
    return np.mean(values, axis=0), np.std(values, axis=0) / len(values) ** 0.5


def try_closure(n_toys):
    """Prediction over truth, less 1, in percent."""
    print("Closure: prediction over truth - 1, in %, in rings to", RINGS[1:], "deg")
    for case in itertools.product(("2d", "3d"), ("gauss", "flat"), (0.8, 1.2), SMOOTH):
        dimension, shape, width, smooth = case
        truth = functools.partial(get_rate, width=width, shape=shape)
        for n_events in N_EVENTS:
            runs = make_runs(dimension, n_events or 1e6, width=width, shape=shape)
            bins, expected, exposures = runs
            ratios = []
            for seed in range(n_toys if n_events else 1):
                counts = draw(expected, seed) if n_events else expected
                template = make_template(bins, counts, exposures, smooth=smooth)
                ratios.append(compare_rings(template, truth, ENERGIES))
            mean, error = get_mean(100 * (np.array(ratios) - 1))
            values = zip(mean, error, strict=True)
            text = "  ".join("{:5.1f} ± {:3.1f}".format(*_) for _ in values)
            name = f"{dimension} {shape} {width}, {smooth}, {n_events or 'no noise'}"
            print(f"{name:32s} {text}", flush=True)


def try_thresholds(n_toys):
    """Prediction over truth below the highest threshold, over that above it."""
    print("Thresholds: step at the highest one, 1 if there is none")
    for dimension, zeniths in itertools.product(
        ("2d", "3d"), [(25, 40), (20, 30, 36, 46)]
    ):
        target, rings = np.mean(zeniths) + 0.5, np.array([0, 2])
        bins, expected, exposures = make_runs(dimension, 3e4, zeniths, width=1.2)
        limits = [
            bins.energy_edges[bins.energy_edges >= energy_threshold(_)][0]
            for _ in (min(zeniths), max(zeniths))
        ]

        def truth(energy, offset, zenith=target):
            rate = get_rate(energy, offset, zenith, width=1.2)
            return rate / np.minimum(energy / energy_threshold(zenith), 1) ** 4

        steps = []
        for seed in range(n_toys):
            template = make_template(bins, draw(expected, seed), exposures)
            below, above = (
                compare_rings(template, truth, np.geomspace(*_, 6), rings)[0]
                for _ in (limits, (limits[1], 50))
            )
            steps.append(below / above)
        mean, error = get_mean(steps)
        print(f"{dimension} zenith {zeniths} deg: {mean:.4f} ± {error:.4f}", flush=True)


def try_errors(n_toys):
    """Squared deviation from the truth times effective counts."""
    print("Effective counts: mean of the squared deviation over its variance")
    for dimension, smooth in itertools.product(("2d", "3d"), SMOOTH):
        texts = []
        for n_events in N_EVENTS[1:]:
            bins, (mean,), ((livetime, area),) = make_runs(dimension, n_events, width=1)
            used = slice(np.flatnonzero(livetime)[0], None)
            exposure = (np.outer(livetime, area) * bins.energy_width)[used]
            mean, bins = mean[used], bins.slice_energy(used.start, len(livetime))
            moment = np.zeros((len(bins.axes) - 1, *mean.shape))
            weights, pulls = mean * (bins.offset < 2.25), []
            for seed in range(n_toys):
                args = draw([mean], seed)[0], exposure, moment, bins, smooth
                rate, ratio, variance = estimate_rate(*args)
                deviation = np.log(rate * ratio * exposure / mean)
                pulls.append(np.average(deviation**2 / variance, weights=weights))
            texts.append("{:.2f} ± {:.2f}".format(*get_mean(pulls)))
        print(f"{dimension} {smooth!s:6s} {'  '.join(texts)}", flush=True)


def try_hess():
    """Templates of some OFF runs against the others, each with its own norm."""
    store = DataStore.from_dir("$GAMMAPY_DATA/hess-dl3-dr1")
    table = query_obs_table(store.obs_table, "TARGET_NAME == 'Off data'")
    off = store.get_observations(table["OBS_ID"], required_irf="all-optional")
    for dimension, alignment in (("2d", "RADEC"), ("3d", "RADEC"), ("3d", "ALTAZ")):
        bins = TemplateBins.create(dimension)
        start = time.perf_counter()
        parts = [TemplateCounts.from_observation(_, bins, alignment) for _ in off]
        read = time.perf_counter()
        functools.reduce(operator.add, parts).to_irf()
        times = read - start, time.perf_counter() - read
        print(
            f"{dimension} {alignment}: read {times[0]:.1f} s, template {times[1]:.2f} s"
        )
        for smooth, n_train in itertools.product(SMOOTH, N_TRAIN):
            ratios = []
            for split in range(N_SPLITS):
                order = np.random.default_rng(split).permutation(len(parts))
                chosen = [parts[_] for _ in order[:n_train]]
                template = functools.reduce(operator.add, chosen).to_irf(smooth)
                others = [parts[_] for _ in order[max(N_TRAIN) :]]
                ratios.append(compare_runs(template, others, bins))
            mean, error = get_mean(ratios)
            print(f"  {smooth!s:6s} of {n_train:2d} runs: {mean:.3f} ± {error:.3f}")


def compare_runs(template, parts, bins):
    """Deviance of runs over their number of bins."""
    edges = template.axes["energy"].edges.to_value("TeV")
    # those next to the exposed ones are extrapolated
    start = np.argmin(np.abs(bins.energy_edges - edges[0])) + 1
    used = slice(start, start + len(edges) - 3)
    inner = bins.slice_energy(used.start, used.stop)
    if not bins.is_3d:  # as MapDatasetMaker does
        template = template.pad(1, mode="edge", axis_name="offset")

    def evaluate(energy, *position):
        names = [_.name for _ in template.axes]
        values = energy * u.TeV, *(_ * u.deg for _ in position)
        coords = dict(zip(names, values, strict=True))
        return template.evaluate(**coords).to_value("s-1 TeV-1 sr-1")

    rate = get_means(inner, evaluate, of_offset=False)
    deviance, n_bins = 0, 0
    for part in parts:
        exposure = (part.exposure * bins.energy_width)[used]
        good = (exposure > 0) & (bins.offset < 2.2) & (rate > 0)
        counts, expected = part.counts[used][good], (rate * exposure)[good]
        expected = expected * counts.sum() / expected.sum()
        log_ratio = np.log(np.where(counts > 0, counts, expected) / expected)
        deviance += 2 * np.sum(counts * log_ratio - counts + expected)
        n_bins += good.sum()
    return deviance / n_bins


def main(n_toys=100):
    try_thresholds(n_toys)
    try_errors(max(n_toys // 5, 2))
    if (Path(os.environ.get("GAMMAPY_DATA", "")) / "hess-dl3-dr1").exists():
        try_hess()
    try_closure(n_toys)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
