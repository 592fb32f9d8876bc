"""Closure and speed of the systematics estimator.

Run with ``python benchmarks/estimator.py [number of seeds] [--study speed ...]``
(default are 200 seeds and all studies, half an hour on two cores). A set is 100,000
events of a known background: 20 observations of 5000, or 12 that are drawn from a pool
(20 to 45 OFF observations that five sets share). The tests do the same with fewer
seeds.

Truth of f is the rms of the planted errors averaged over circles, after the mean of the
field is taken out. Numbers after "68%" and "95%" are the share of toys, in %, in which
the interval or upper limit holds the truth.
"""

import argparse
import cProfile
import itertools
import logging
import pstats
import sys
import time
from functools import partial
from pathlib import Path

import astropy.units as u
import numpy as np
from gammapy.datasets import Datasets
from gammapy.estimators import ExcessMapEstimator
from gammapy.maps import MapAxis, WcsGeom
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from gammapy_mimic.estimators import MimicSystematicsEstimator, make_bias_map
from gammapy_mimic.estimators.systematics import RADII
from gammapy_mimic.utils.parallel import run_parallel
from tests.sets_toys import SetsToy, measure_position, measure_toy
from tests.test_systematics import (
    CENTER,
    EDGES,
    GRADIENT,
    TILT,
    Field,
    add_exposure,
    few_random_maps,
    fit_gradient,
    get_total,
    make_fov_maker,
    simulate_random_sets,
    simulate_sets,
    simulate_stacked,
)

OFFSETS = (0, 0.5, 1.5)
N_REPEAT = 9
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


def describe_share(flags):
    """Share of toys in %, with its error."""
    share = np.mean(flags)
    error = np.sqrt(share * (1 - share) / len(flags))
    return f"{100 * share:.0f} ± {100 * error:.0f}"


def run_toys(toy, n_seeds, energy_edges=None):
    """Rows of toys by radius and band, columns are arrays over toys."""
    function = partial(find_spread, toy=toy, energy_edges=energy_edges)
    inputs = [(seed,) for seed in range(n_seeds)]
    found = run_parallel(function, inputs, n_jobs=N_JOBS)
    for rows in zip(*found, strict=True):
        yield {name: np.array([_[name] for _ in rows]) for name in rows[0]}


def find_spread(seed, toy, energy_edges):
    return measure_toy(toy, [seed, 10], energy_edges=energy_edges)


def compare(found, true):
    """Mean of a number less its truth, in % of the mean truth if that is not 0."""
    mean = np.mean(true)
    scale, unit = (100 / mean, "%") if mean > 1e-8 else (1e4, "e-4")
    values = scale * (found - true)
    return (
        f"{np.mean(values):+.2f} ± {np.std(values) / np.sqrt(len(values)):.2f} {unit}"
    )


def describe_place(row):
    return f"{row['radius'][0]:.1f} deg, from {row['e_min'][0]:.2g} TeV"


def describe_toys(rows, name):
    """Spread of toys against what is true, by radius."""
    for idx, row in enumerate(rows):
        if idx == 0:
            yield f"{name} ({len(row['f'])} toys)", ""
        true = row["true_f_squared"]
        twice = row["f_squared"] > 2 * row["f_squared_err"]
        yield (
            f"    {describe_place(row)}: f = {100 * np.sqrt(np.mean(true)):.2f}%",
            f"f² less truth {compare(row['f_squared'], true)}; "
            f"f 68%: {describe_share(row['f_covered'])}, "
            f"95%: {describe_share(row['f_limited'])}; "
            f"total 68%: {describe_share(row['total_covered'])}, "
            f"95%: {describe_share(row['total_limited'])}; "
            f"another field 95%: {describe_share(row['f_other_limited'])}; "
            f"above 2 errors: {describe_share(twice)}",
        )


def study_no_systematic(n_seeds):
    for n_off in (20, 45):
        rows = run_toys(SetsToy(n_off=n_off), n_seeds)
        yield from describe_toys(rows, f"no systematic, {n_off} OFF observations")


def study_random_field(n_seeds):
    for spread, scale in itertools.product((0.02, 0.05, 0.1), (0.1, 0.3, 1.0)):
        rows = run_toys(SetsToy(spread, scale), n_seeds)
        yield from describe_toys(rows, f"{spread:.0%} on {scale} deg")


def study_shared(n_seeds):
    """More or fewer observations of which sets are made."""
    for n_off in (20, 45):
        rows = run_toys(SetsToy(0.05, 0.3, n_off=n_off), n_seeds)
        name = f"5% on 0.3 deg, {n_off} OFF observations"
        yield from describe_toys(rows, name)


def study_radial(n_seeds):
    rows = run_toys(SetsToy(gradient=0.05), n_seeds)
    yield from describe_toys(rows, "radial gradient of 0.05 / deg")


def study_tilt(n_seeds):
    toy = SetsToy(tilt=0.1, n_energies=3)
    edges = toy.field.geom.axes["energy"].edges
    yield from describe_delta(run_toys(toy, n_seeds, edges), "tilt of 0.10")


def study_norm(n_seeds):
    rows = run_toys(SetsToy(is_fitted=False), n_seeds)
    yield from describe_delta(rows, "norm spread of 5%, not fitted")
    for n_off in (20, 45):
        row = next(run_toys(SetsToy(n_off=n_off), n_seeds))
        covered = (row["norm_spread_lo"] <= 0.05) & (row["norm_spread_hi"] >= 0.05)
        yield (
            f"norm spread of 5%, {n_off} OFF observations ({n_seeds} toys)",
            f"found {describe(row['norm_spread'])}, error "
            f"{np.mean(row['norm_spread_err']):.5f}; "
            f"68%: {describe_share(covered)}, "
            f"95%: {describe_share(row['norm_spread_ul'] >= 0.05)}",
        )


def describe_delta(rows, name):
    """Bias of toys against what is true."""
    yield f"{name} (delta in %)", ""
    for row in rows:
        true = row["true_delta"]
        yield (
            f"    {describe_place(row)}: delta = {100 * np.mean(true):+.2f}",
            f"less truth {describe(100 * (row['delta'] - true))}, "
            f"error {100 * np.mean(row['delta_err']):.5f}; "
            f"68%: {describe_share(row['delta_covered'])} ({len(true)} toys); "
            f"f² less truth {compare(row['f_squared'], row['true_f_squared'])}",
        )


def find_position(seed, toy, is_same, ratio):
    row = measure_position(toy, [seed, 11], is_same=is_same, ratio=ratio)
    names = ("significance", "calibrated", "mimic_width", "n_effective", "p_value")
    return [row[_] for _ in names]


def study_position(n_seeds):
    cases = [(0, True, 1), (0.05, True, 1), (0.1, True, 1)]
    cases += [(0.05, False, 1), (0.1, False, 1), (0.05, True, 10 / 3)]
    for spread, is_same, ratio in cases:
        function = partial(
            find_position, toy=SetsToy(spread), is_same=is_same, ratio=ratio
        )
        raw, value, width, number, p_value = run(function, n_seeds).T
        shares = (value > 1.645, value < -1.645, value > 3, p_value < 0.05)
        yield (
            f"position, {spread:.0%}, {'same' if is_same else 'another'} field, "
            f"counts of the target x {ratio:.1f} ({n_seeds} toys)",
            f"calibrated {describe(value)}; raw {np.std(raw):.2f}, "
            f"width {np.mean(width):.2f}, {np.mean(number):.0f} sets; "
            f"KS {stats.kstest(value, 'norm')[1]:.3f}; P(> 1.645, < -1.645, > 3), "
            f"P(p < 0.05): {', '.join(map(describe_share, shares))}",
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
        estimator = MimicSystematicsEstimator(position=position, radii=None)
        with few_random_maps(2):
            result = estimator.run(sets, [field.stack(counts)])
        found = get_total(result, "position")
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


PARTS = {
    "significance maps": "measure_maps",
    "counting": "count_maps",
    "bias and spread": "describe_background",
    "covariance": "tabulate_covariance",
    "bias map": "make_bias_map",
    "flux fit": "measure_flux",
    "random maps": "tabulate_maximum",
}  # functions in which the time goes


def study_speed(n_seeds):
    """Five sets of 200 x 200 pixels and 6 energies, stacked or of 20 observations.

    In units of one run of ExcessMapEstimator for each set and radius of apertures, each
    of which is measured, and of one run for each set.
    """
    field = make_large_field()
    edges = field.geom.axes["energy"].edges
    # the last is the target
    stacked, sets = simulate_stacked(field, 0, 6), simulate_sets(field, 0, 6)
    cases = {"stacked": stacked, "20 observations each": sets}
    radii = np.union1d(RADII.to_value("deg"), [0.1])
    estimators = [ExcessMapEstimator(_ * u.deg, energy_edges=edges) for _ in radii]
    functions = [partial(run_excess, stacked[:5], _) for _ in estimators]
    estimator = MimicSystematicsEstimator("0.1 deg", edges)
    functions += [partial(estimator.run, values[:5]) for values in cases.values()]
    references, seconds = np.split(measure(functions), [len(radii)])
    single, total = references[radii == 0.1][0], references.sum()
    shape = " x ".join(map(str, field.geom.data_shape))
    yield f"ExcessMapEstimator, 5 sets of {shape} [s]", f"{single:.3f}"
    yield f"    and for each of {len(radii)} radii", f"{total:.3f}"
    for name, other in zip(cases, seconds, strict=True):
        yield (
            f"    the estimator over it, {name}",
            f"{other / total:.2f} a set and radius, {other / single:.2f} a set",
        )
    estimator.position = CENTER
    for name, values in cases.items():
        for dataset in itertools.chain(*values):
            add_exposure(dataset)
        parts = profile(partial(estimator.run, values[:5], values[5]))
        yield f"    with a target and a position, {name}, a set and radius", ""
        for part, other in parts.items():
            yield f"        {part}", f"{other / total:.2f}"


def make_large_field():
    field = Field(20, 6)
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=6)
    field.geom = WcsGeom.create(
        skydir=CENTER, width=5, binsz=0.025, proj="TAN", axes=[axis]
    )
    field.background = [
        np.repeat(np.repeat(_, 2, axis=1), 2, axis=2) / 4 for _ in field.background
    ]
    field.fov = [
        tuple(np.repeat(np.repeat(_, 2, axis=0), 2, axis=1) for _ in fov)
        for fov in field.fov
    ]
    return field


def run_excess(sets, estimator):
    for (dataset,) in sets:
        estimator.run(dataset)


def profile(function):
    """Seconds of a processor in each of the parts, and in all others."""
    profiler = cProfile.Profile(time.process_time)
    profiler.runcall(function)
    rows = pstats.Stats(profiler).stats
    found = dict.fromkeys(PARTS, 0.0)
    for part, name in PARTS.items():
        found[part] = sum(row[3] for key, row in rows.items() if key[2] == name)
    total = sum(row[2] for row in rows.values())
    apart = found["flux fit"] + found["random maps"]
    return found | {
        "all others": total - sum(found.values()),
        "all but flux fit and random maps": total - apart,
        "all": total,
    }


def measure(functions):
    """Median seconds of a processor for each of several functions, by turns."""
    times = []
    for _ in range(N_REPEAT):
        times.append([])
        for function in functions:
            start = time.process_time()
            function()
            times[-1].append(time.process_time() - start)
    return np.median(times, axis=0)


STUDIES = {
    "speed": (study_speed, 1),
    "tilt": (study_tilt, 1 / 2),
    "norm": (study_norm, 1 / 2),
    "radial": (study_radial, 1 / 2),
    "no_systematic": (study_no_systematic, 1 / 2),
    "random_field": (study_random_field, 1 / 2),
    "shared": (study_shared, 1 / 2),
    "position": (study_position, 1),
    "random_correction": (study_random_correction, 1 / 10),
    "gradient": (study_gradient, 1 / 10),
    "bias": (study_bias, 1),
    "prior": (study_prior, 1 / 10),
    "source": (study_source, 1 / 2),
}  # with the part of the seeds that each is run for


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n_seeds", type=int, nargs="?", default=200)
    parser.add_argument("--study", nargs="+", choices=STUDIES, default=list(STUDIES))
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    for study, part in (STUDIES[_] for _ in args.study):
        number = max(int(args.n_seeds * part), 2)
        for name, value in study(number):
            print(f"{name:<65} {value}", flush=True)


if __name__ == "__main__":
    main()
