"""How often a target that is nothing but background is called rare.

Run with ``python benchmarks/calibration.py [number of toys] [studies]`` (default 50,000
toys of positions, and all studies). The tests do the same with fewer toys.
"""

import itertools
import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).parents[1]))

from gammapy_mimic.estimators.calibration import draw_systematic
from gammapy_mimic.estimators.maxima import (
    get_maximum_p_value,
    simulate_random_maps,
)
from tests.calibration_toys import simulate_calibrated, simulate_measured
from tests.maxima_toys import make_prediction, simulate_maxima
from tests.test_sharing import simulate_shared

N_VALUES = (5, 10, 20, 50)
# background counts of the target and of each mimic, mean error, and ratio of exposures
CASES = (
    (120, 120, 0, 0),
    (400, 120, 0, 0),
    (300, 300, 0, 0),
    (1000, 300, 0, 0),
    (20, 20, 0, 0),
    (66, 20, 0, 0),
    (1000, 300, 0.1, 0),
    (1000, 300, -0.1, 0),
    (400, 120, 0, 0.2),
    (400, 120, 0, 1),
)
# spread, circles and sets
CIRCLES = (
    (0, 6, 5),
    (0, 20, 5),
    (0.05, 6, 5),
    (0.05, 20, 5),
    (0.1, 6, 5),
    (0.1, 20, 5),
    (0.1, 6, 1),
)
SIGNIFICANCES = (1.645, 3)
N_TARGETS, N_MAPS = 5000, 10_000
LEVELS = (0.1, 0.03, 0.01, 0.001)
# what targets have, and what random maps assume
MAPS = {
    "noise": ({}, {}),
    "f = 5%": ({"f": 0.05, "scale": 2.5}, {"f": 0.05, "scale": 2.5}),
    "f = 10%": ({"f": 0.1, "scale": 2.5}, {"f": 0.1, "scale": 2.5}),
    "f = 10% on a larger scale": ({"f": 0.1, "scale": 7.5}, {"f": 0.1, "scale": 2.5}),
    "ON and OFF counts": ({"alpha": 0.2}, {"alpha": 0.2}),
    "f = 5%, not taken into account": ({"f": 0.05, "scale": 2.5}, {}),
}


def format_parts(values):
    """Parts above the significances with their errors, in percent."""
    parts = [np.mean(values > _) for _ in SIGNIFICANCES]
    # of the expected number, if there are fewer
    errors = [
        np.sqrt(max(part, norm.sf(_)) / len(values))
        for part, _ in zip(parts, SIGNIFICANCES, strict=True)
    ]
    pairs = zip(parts, errors, (2, 3), strict=True)
    return " ".join(f"{100 * a:.{n}f} ± {100 * b:.{n}f}" for a, b, n in pairs)


def study_position(n_toys):
    print("Parts above 1.645 sigma (5%) and 3 sigma (0.135%), in %, of calibrated")
    print(f"significances, for numbers of mimics {N_VALUES}, {n_toys} toys")
    print("    f   target mimic delta alpha")
    for f in (0, 0.05, 0.1):
        for target, mimic, delta, alpha in CASES:
            text = f"{f:5.0%} {target:7} {mimic:5} {delta:5} {alpha:5}"
            for n_values in N_VALUES:
                arguments = f, target, mimic, n_values, n_toys, delta, alpha
                values = simulate_calibrated(*arguments, above=min(SIGNIFICANCES))
                parts = [100 * np.mean(values > _) for _ in SIGNIFICANCES]
                text += " | {:4.2f} {:.3f}".format(*parts)
            print(text, flush=True)


def study_circles(n_toys):
    print("The same, as mean and spread are measured in circles of 400 counts in sets")
    print(f"of 10 OFF observations each, {n_toys} toys")
    for f, n_circles, n_sets in CIRCLES:
        arguments = f, n_circles, n_sets
        values = simulate_measured(*arguments, n_toys=n_toys, above=min(SIGNIFICANCES))
        text = f"{f:5.0%} {n_circles:3} circles, {n_sets} sets"
        print(text, "|", format_parts(values), flush=True)


def study_maximum():
    print("P(p < x) / x of the maximum, with errors, for x of", *LEVELS)
    data = make_prediction(60, 5)
    for name, (planted, assumed) in MAPS.items():
        maxima, _ = simulate_maxima(*data, N_TARGETS, **planted)
        random = simulate_random_maps(*data, n_maps=N_MAPS, **assumed).maximum
        p_values = np.array([get_maximum_p_value(_, random).p_value for _ in maxima])
        text = f"{name:32}"
        for x in LEVELS:
            # targets, and random maps that tell where x is
            error = np.sqrt((1 - x) / x * (1 / N_TARGETS + 1 / N_MAPS))
            text += f" | {np.mean(p_values < x) / x:.2f} ± {error:.2f}"
        print(text, flush=True)


def study_measured_spread(n_background=60):
    """Random maps of f as it was measured, and of draws from its posterior."""
    print("P(p < x) / x of the maximum if f is measured, for x of", *LEVELS)
    data = make_prediction(60, 5, n_background)
    grid = np.linspace(0, 0.3, 13)
    options = {"n_maps": 4000, "scale": 2.5}
    random = [simulate_random_maps(*data, f=f, **options).maximum for f in grid]
    rng = np.random.default_rng(0)
    for planted, dof in itertools.product((0, 0.05, 0.1), (4, 20, 60)):
        maxima, _ = simulate_maxima(*data, N_TARGETS, planted, 2.5, random_state=2)
        larger = np.array([[np.mean(_ >= value) for _ in random] for value in maxima])
        # of variances of background alone
        variance = 1 + planted**2 * n_background
        variance = variance * rng.chisquare(dof, N_TARGETS) / dof
        square = (variance - 1) / n_background
        p_values = []
        for row, f_squared in zip(larger, square, strict=True):
            drawn = draw_systematic(f_squared, dof, n_background, 500, rng)
            f = [np.sqrt(max(f_squared, 0))], drawn
            p_values.append([np.mean(np.interp(_, grid, row)) for _ in f])
        for idx, name in enumerate(("value", "posterior")):
            text = f"f = {planted:3.0%}, {dof:2} degrees of freedom, {name:9}"
            parts = [np.mean(np.array(p_values)[:, idx] < x) / x for x in LEVELS]
            print(text, *(f"| {_:.2f}" for _ in parts), flush=True)


def study_speed():
    prediction, kernel, where = make_prediction(200, 5)
    for name, options in {
        "noise": {},
        "f = 5%": {"f": 0.05},
        "ON and OFF counts": {"alpha": 0.2},
    }.items():
        start = time.process_time()
        random = simulate_random_maps(prediction, kernel, where, n_maps=500, **options)
        seconds = (time.process_time() - start) / 500
        value = np.quantile(random.maximum, 0.5)
        start = time.process_time()
        simulate_random_maps(prediction, kernel, where, value=value, **options)
        print(
            f"200 x 200 pixels, {name}: {N_MAPS * seconds:.0f} s for {N_MAPS} maps, "
            f"{time.process_time() - start:.1f} s for a target with p = 0.5",
            flush=True,
        )


def study_sharing():
    print("P(p < x) / x of a position, by the share of common events of 5 sets")
    for n_runs in (20, 25, 40, 100):
        plain, weighted, number = simulate_shared(n_runs, 2000)
        text = f"{n_runs:4} OFF runs, {np.mean(number):.1f} samples of 100:"
        for x in (0.1, 0.03, 0.01):
            parts = [np.mean(_ < x) / x for _ in (plain, weighted)]
            text += f" x = {x}: {parts[0]:.2f} as they are, {parts[1]:.2f} weighted;"
        print(text, flush=True)


def main(n_toys=50_000, *names):
    studies = {
        "position": lambda: study_position(int(n_toys)),
        "circles": lambda: study_circles(int(n_toys)),
        "maximum": study_maximum,
        "measured": study_measured_spread,
        "sharing": study_sharing,
        "speed": study_speed,
    }
    for name in names or studies:
        studies[name]()


if __name__ == "__main__":
    main(*sys.argv[1:])
