"""Closure and speed of the systematics estimator.

Run with ``python benchmarks/estimator.py [number of seeds]`` (default 200, a quarter of
an hour on two cores). A set is 100,000 events, 20 observations of 5000, of a known
background. The tests do the same with fewer seeds.
"""

import itertools
import logging
import sys
import time
from functools import partial
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import Table, vstack
from gammapy.datasets import Datasets
from gammapy.estimators import ExcessMapEstimator
from gammapy.maps import MapAxis, WcsGeom
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from gammapy_mimic.estimators import MimicSystematicsEstimator, make_bias_map
from gammapy_mimic.utils.parallel import run_parallel
from tests.test_systematics import (
    CENTER,
    EDGES,
    GRADIENT,
    TILT,
    Field,
    fit_gradient,
    get_total,
    make_fov_maker,
    simulate_random_sets,
    simulate_sets,
    simulate_stacked,
)

OFFSETS = (0, 0.5, 1.5)
RADII = ("0.1 deg", "0.2 deg", "0.3 deg")
N_REPEAT = 5
N_JOBS = 2


def get_position(offset):
    return CENTER.directional_offset_by(30 * u.deg, offset * u.deg)


def describe(values):
    """Mean with its error, and scatter."""
    mean, scatter = np.mean(values), np.std(values, ddof=1)
    return f"{mean:.5f} ± {scatter / np.sqrt(len(values)):.5f}, scatter {scatter:.5f}"


def run(function, n_seeds):
    inputs = [(seed,) for seed in range(n_seeds)]
    return np.array(run_parallel(function, inputs, n_jobs=N_JOBS))


def find_no_systematic(seed):
    *sets, target = simulate_stacked(Field(), [seed, 0], n_sets=6)
    rows = []
    for radius in RADII:
        result = MimicSystematicsEstimator(radius).run(sets, target)
        row = get_total(result)
        maximum = get_total(result, "maximum")["n_larger"]
        rows.append([row[_] for _ in ("f_squared", "f_squared_err", "f_ul")])
        rows[-1] += [row["width"], maximum]
    for offset in OFFSETS:
        estimator = MimicSystematicsEstimator(position=get_position(offset))
        row = get_total(estimator.run(sets, target), "position")
        rows.append([row[_] for _ in ("calibrated", "p_value", "n_sample")])
        rows[-1] += [row["mimic_width"], row["calibrated_err"]]
    return rows


def study_no_systematic(n_seeds):
    values = run(find_no_systematic, n_seeds)
    columns = np.moveaxis(values, 1, 0)[: len(RADII)]
    for radius, column in zip(RADII, columns, strict=True):
        square, error, limit, width, maximum = column.T
        yield f"no systematic, {radius}: f² x 1e5", describe(1e5 * square)
        yield (
            "    median upper limit of f, part below 1%",
            (f"{np.median(limit):.4f}, {np.mean(limit < 0.01):.2f}"),
        )
        covered = square + stats.t.ppf(0.95, 4) * error > 0
        yield "    coverage of the limit of f² (95%)", f"{np.mean(covered):.3f}"
        yield "    width", describe(width)
        numbers = np.bincount(maximum.astype(int), minlength=6)
        yield (
            "    p-value of the maximum: of chi2",
            f"{stats.chisquare(numbers)[1]:.2f}",
        )
    rng = np.random.default_rng(0)
    for offset, column in zip(OFFSETS, np.moveaxis(values[:, 3:], 1, 0), strict=True):
        calibrated, p_value, n_sample, width, error = column.T
        yield f"calibrated significance at {offset} deg", describe(calibrated)
        smooth = p_value - rng.uniform(size=n_seeds) / (1 + n_sample)
        yield (
            "    KS p-values: unit normal, uniform p",
            (
                f"{stats.kstest(calibrated, 'norm')[1]:.2f}, "
                f"{stats.kstest(smooth, 'uniform')[1]:.2f}"
            ),
        )
        yield (
            "    positions, width, error",
            (f"{n_sample.mean():.0f}, {describe(width)}, {error.mean():.3f}"),
        )


def find_random_field(seed, fraction, is_same, radius):
    rng = np.random.default_rng([seed, 1])
    field = Field(n_obs=1)
    sets = simulate_random_sets(field, rng, fraction, radius, is_same=is_same)
    row = get_total(MimicSystematicsEstimator(f"{radius} deg").run(sets))
    return [row[_] for _ in ("f", "f_squared", "f_squared_err", "f_ul", "width")]


def study_random_field(n_seeds):
    cases = itertools.product((0.1, 0.2), (0.02, 0.05, 0.1), (False, True))
    for radius, fraction, is_same in cases:
        function = partial(
            find_random_field, fraction=fraction, is_same=is_same, radius=radius
        )
        found, square, error, limit, width = run(function, n_seeds).T
        where = "same in all sets" if is_same else "one for each set"
        pull = (square - fraction**2) / error
        inside = np.abs(pull) < stats.t.ppf(0.84, 4)
        yield f"f = {fraction}, {radius} deg, {where}", describe(found)
        yield (
            "    width, within 20%, within the error (68%), limit (95%)",
            (
                f"{width.mean():.3f}, {np.mean(abs(found / fraction - 1) < 0.2):.2f}, "
                f"{inside.mean():.2f}, {np.mean(limit > fraction):.2f}"
            ),
        )


def correct_gradient(seed):
    field, options = Field(20, 3), {"gradient": GRADIENT, "tilt": TILT}
    sets = simulate_sets(field, [seed, 2], **options)
    result = MimicSystematicsEstimator("0.1 deg", EDGES).run(sets)
    bias = result.bias
    center = bias.position_edges.size // 2
    row = [fit_gradient(bias, 0)[0], fit_gradient(bias, 1)[0]]
    row.append(bias.ratio[1, center, center] / bias.ratio[0, center, center])
    others = simulate_sets(field, [seed, 3], **options)
    for radius in ("0.1 deg", "0.3 deg"):
        for values in (others, correct(bias, others), correct(bias, sets)):
            estimator = MimicSystematicsEstimator(radius, EDGES)
            other = estimator.run(values)
            row += [other.select("systematics", _)["width"][0] for _ in (0, "all")]
    return row


def correct(bias, sets):
    return [
        Datasets([bias.apply(_, force=True).dataset for _ in values]) for values in sets
    ]


def study_gradient(n_seeds):
    values = run(correct_gradient, n_seeds).T
    yield f"gradient of {GRADIENT} / deg, low energies", describe(values[0])
    yield "    high energies", describe(values[1])
    yield f"ratio of energies, tilt of {TILT}", describe(values[2])
    cases = ("before", "corrected, other sets", "corrected, own sets")
    names = itertools.product((0.1, 0.3), cases, ("low", "all"))
    for (radius, case, band), widths in zip(names, values[3:], strict=True):
        yield f"width {radius} deg, {case}, {band} energies", describe(widths)


def find_bias(seed):
    sets = simulate_sets(Field(), [seed, 4], n_sets=2)
    if seed % 2:
        sets.append(sets[0])
    options = {"repetition": 5 / 3 if seed % 2 else 1}
    bias = make_bias_map(list(itertools.chain(*sets)), [1, 10] * u.TeV, **options)
    return bias.p_value, np.std(bias.significance[bias.error > 0])


def study_bias(n_seeds):
    values = run(find_bias, n_seeds)
    for start, name in enumerate(("once", "again")):
        p_value, width = values[start::2].T
        yield f"bias map, observations {name}: p-values", describe(p_value)
        yield (
            "    KS p-value, width",
            (f"{stats.kstest(p_value, 'uniform')[1]:.2f}, {describe(width)}"),
        )


def correct_random_field(seed):
    """Width after a correction of what is as small as the circle, by smoothing."""
    field, rng = Field(n_obs=1), np.random.default_rng([seed, 5])
    row = []
    for fraction in (0.02, 0.05, 0.1):
        sets = simulate_random_sets(field, rng, fraction, 0.1, n_sets=10, is_same=True)
        others = sets[5:]
        row.append(get_total(MimicSystematicsEstimator().run(others))["width"])
        for smooth in ("0.25 deg", "0.1 deg", "0.05 deg"):
            bias = make_bias_map(
                list(itertools.chain(*sets[:5])),
                [1, 10] * u.TeV,
                binsz="0.05 deg",
                smooth=smooth,
            )
            estimator = MimicSystematicsEstimator()
            row.append(get_total(estimator.run(correct(bias, others)))["width"])
    return row


def study_random_correction(n_seeds):
    values = run(correct_random_field, n_seeds).T
    cases = ("before", "smooth 0.25 deg", "smooth 0.1 deg", "smooth 0.05 deg")
    names = itertools.product((0.02, 0.05, 0.1), cases)
    for (fraction, case), widths in zip(names, values, strict=True):
        yield f"width, f = {fraction} in 0.1 deg, {case}", describe(widths)


def find_prior(seed):
    field = Field(n_obs=20, n_energies=5, binsz=0.2)
    rng, maker = np.random.default_rng([seed, 6]), make_fov_maker()
    row = []
    for mean, spread in ((TILT, 0), (0, TILT)):
        sets = []
        for number in range(5):
            tilts = rng.normal(mean, spread, 20)
            norms = rng.normal(1, 0.05, 20)
            sets.append(
                Datasets(
                    [
                        field.make_dataset(
                            idx,
                            rng.poisson(field.get_truth(idx, 0, tilts[idx], norm)),
                            off_obs_id=100 * number + idx,
                            maker=maker,
                        )
                        for idx, norm in enumerate(norms)
                    ]
                )
            )
        result = MimicSystematicsEstimator("0.3 deg").run(sets)
        for name in ("tilt", "norm"):
            prior = result.to_prior(name)
            row += [prior.mu.value, prior.sigma.value]
    return row


def study_prior(n_seeds):
    values = iter(run(find_prior, n_seeds).T)
    for truth in (f"tilt {TILT} ± 0", f"tilt 0 ± {TILT}"):
        for name in ("tilt", "norm"):
            yield f"{truth}: prior of the {name}, mu", describe(next(values))
            yield "    sigma", describe(next(values))


def find_source(seed):
    field, rng = Field(), np.random.default_rng([seed, 7])
    options = {"gradient": GRADIENT * (seed % 2)}
    sets = [field.simulate_stacked(rng, **options) for _ in range(5)]
    row = []
    for offset in OFFSETS:
        position = get_position(offset)
        x, y = np.squeeze(field.geom.to_image().coord_to_idx(position))
        counts = [rng.poisson(field.get_truth(_, **options)) for _ in range(4)]
        n_background = 13 * sum(field.background)[0, y, x]
        counts[0][0, y, x] += rng.poisson(5 * np.sqrt(n_background) + 4)
        estimator = MimicSystematicsEstimator(position=position)
        found = get_total(estimator.run(sets, [field.stack(counts)]), "position")
        true = field.stack(counts, is_true=True, **options)
        edges = field.geom.axes["energy"].edges[[0, -1]]
        maps = ExcessMapEstimator("0.1 deg", energy_edges=edges).run(true)
        row += [found["calibrated"], maps["sqrt_ts"].data[0, y, x]]
    return row


def study_source(n_seeds):
    values = run(find_source, n_seeds)
    for is_biased, offset in itertools.product((0, 1), range(3)):
        found, true = values[is_biased::2, 2 * offset : 2 * offset + 2].T
        name = "gradient" if is_biased else "no systematic"
        yield (
            f"source of {true.mean():.2f} sigma at {OFFSETS[offset]} deg, {name}",
            (f"calibrated - true: {describe(found - true)}"),
        )


def study_speed(n_seeds):
    """Five sets of 200 x 200 pixels and 6 energies, stacked or of 20 observations."""
    field = Field(20, 6)
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=6)
    field.geom = WcsGeom.create(
        skydir=CENTER, width=5, binsz=0.025, proj="TAN", axes=[axis]
    )
    shape = field.geom.data_shape
    field.background = [
        np.repeat(np.repeat(_, 2, axis=1), 2, axis=2) / 4 for _ in field.background
    ]
    field.fov = [
        tuple(np.repeat(np.repeat(_, 2, axis=0), 2, axis=1) for _ in fov)
        for fov in field.fov
    ]
    sets = simulate_sets(field, 0)
    stacked = simulate_stacked(field, 0)
    bands = (axis.edges, axis.edges[[0, -1]])

    def estimate_maps():
        for values, edges in itertools.product(stacked, bands):
            ExcessMapEstimator("0.1 deg", energy_edges=edges).run(values[0])

    yield f"ExcessMapEstimator, 5 sets of {shape} and all [s]", measure(estimate_maps)
    reference = measure(estimate_maps)
    for name, values in (("stacked", stacked), ("20 observations each", sets)):
        estimator = MimicSystematicsEstimator("0.1 deg", axis.edges)
        seconds = measure(partial(estimator.run, values))
        yield f"    the estimator over it, {name}", f"{seconds / reference:.2f}"


def measure(function):
    """Median seconds of a function."""
    times = []
    for _ in range(N_REPEAT):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return np.median(times)


def main(n_seeds=200):
    logging.disable(logging.WARNING)
    studies = {
        study_speed: 1,
        study_no_systematic: n_seeds,
        study_random_field: max(n_seeds // 5, 2),
        study_random_correction: max(n_seeds // 10, 2),
        study_gradient: max(n_seeds // 10, 2),
        study_bias: n_seeds,
        study_prior: max(n_seeds // 10, 2),
        study_source: max(n_seeds // 2, 2),
    }
    for study, number in studies.items():
        rows = [[name, str(value)] for name, value in study(number)]
        table = vstack([Table(rows=[_], names=["what", "value"]) for _ in rows])
        table["what"].info.format = "<65s"
        table["value"].info.format = "<60s"
        table.pprint(max_width=-1, max_lines=-1)
        sys.stdout.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
