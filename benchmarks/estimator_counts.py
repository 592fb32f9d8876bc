"""Bias and spread of a background from counts: are numbers and errors right?

Prints, with errors over toys,

- f squared and delta of counts with a known background, with ON/OFF data, and with a
  template, nothing or something planted;
- how often intervals of 68% and limits of 95% hold the truth, of this field and of
  another one, for OFF observations that five sets share;
- the same for random fields of several scales, a radial gradient, and runs that have
  errors of their own;
- mean and spread of norms that sets share, and the prior that they make.

Run with ``python benchmarks/estimator_counts.py [number of toys]`` (default 1000, five
minutes on one core; half of them where no runs are shared). The tests do the same with
fewer toys.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from gammapy_mimic.estimators.bias_spread import measure_bias_spread
from tests.counts_toys import (
    QUANTITIES,
    Toy,
    draw_apertures,
    draw_on_off,
    draw_template,
    get_mean,
    measure_norm_toys,
    measure_toys,
)

TILT = 0.10
ENERGIES = (0.5, 1, 2, 5)  # TeV
FIELDS = (
    *({"spread": f, "n_runs": n} for n in (20, 30, 45) for f in (0, 0.02, 0.05, 0.1)),
    *(
        {"spread": 0.05, "n_runs": 30, "delta": (energy / 1) ** -TILT - 1}
        for energy in ENERGIES
    ),
    {"spread": 0.05, "norm_spread": 0.0},
    {"spread": 0.05, "n": 10, "mean": 2000},
    {"spread": 0.05, "n": 500, "mean": 100},
    {"spread": 0.2, "mean": 10, "n": 200},
    {"spread": 0.05, "run_spread": 0.2},
    {"spread": 0.1, "strength_spread": 0.5},
)
SCALES = (
    *(
        {"spread": f, "scale": scale, "mean": 200}
        for scale in (0.1, 0.3, 1)
        for f in (0.02, 0.05, 0.1)
    ),
    {"spread": 0.02, "scale": 0.1, "mean": 200, "gradient": 0.05},
)
ON_OFF = (
    (12, 0.2, 0.08),
    (20, 1.0, 0.15),
    (20, 0.5, 0.08),
    (12, 1.0, 0.0),
    *((mean, 1.0, 0.0) for mean in (2, 3, 5, 10)),
)


def print_spread(name, draw, n_toys, truth, **options):
    """Print delta and f squared of stacked toys."""
    rng = np.random.default_rng(0)
    results = [measure_bias_spread(draw(rng), **options) for _ in range(n_toys)]
    square, error = get_mean([_.f_squared for _ in results])
    root = np.sign(square) * np.sqrt(abs(square))
    pull = np.sqrt(n_toys) * error / np.mean([_.f_squared_err for _ in results])
    delta, delta_err = get_mean([_.delta.value for _ in results])
    print(
        f"{name:48s} f² = {square:+.5f} ± {error:.5f}, f = {root:+.2%} ({truth:.0%}), "
        f"scatter/error {pull:.2f}, delta = {delta:+.4f} ± {delta_err:.4f}"
    )


def print_spreads(n_toys):
    print(f"{n_toys} toys")
    for mean in (2, 3, 5, 10):
        print_spread(
            f"known background, N_b {mean}",
            lambda rng, mean=mean: draw_apertures(rng, mean),
            n_toys,
            0,
        )
    print_spread(
        "known background, N_b 100, delta 0.14",
        lambda rng: draw_apertures(rng, 100, delta=0.14),
        n_toys,
        0,
    )
    for mean, alpha, spread in ON_OFF:
        print_spread(
            f"ON/OFF, N_b {mean}, alpha {alpha}",
            lambda rng, args=(mean, alpha, spread): draw_on_off(rng, *args),
            n_toys,
            spread,
        )
    for spread in (0, 0.05):
        print_spread(
            "template of 100 counts, N_b 100",
            lambda rng, spread=spread: draw_template(rng, 100, 100, spread),
            n_toys,
            spread,
            template_counts=100,
        )


def print_coverage(n_toys, cases):
    """Print how often intervals hold the truth, in percent."""
    names = " ".join(f"{name:>11s}" for name in QUANTITIES)
    title = f"68% / 95%, {n_toys} toys"
    print(f"{title:66s} {'f²/err':>6s} {names}")
    for options in cases:
        values = measure_toys(Toy(**options), n_toys)
        bias, bias_err = get_mean(values["f_squared"])
        truth = np.mean(values["true_f_squared"])
        delta, delta_err = get_mean(values["delta"])
        cover = " ".join(
            f"{100 * np.mean(values[f'{_} 68%']):5.1f}/"
            f"{100 * np.mean(values[f'{_} 95%']):5.1f}"
            for _ in QUANTITIES
        )
        name = ", ".join(f"{key} {value:.3g}" for key, value in options.items())
        ratio = truth / np.mean(values["f_squared_err"])
        print(f"{name:66s} {ratio:6.1f} {cover}")
        print(
            f"    f² - truth = {bias:+.6f} ± {bias_err:.6f} of {truth:.6f}, "
            f"delta - truth = {delta:+.5f} ± {delta_err:.5f}",
            flush=True,
        )


def print_norms(n_toys):
    print(f"{n_toys} toys")
    for n_runs in (45, 25, 18):
        for spread, error in ((0.02, 0.03), (0.05, 0.01), (0.05, 0.03), (0, 0.03)):
            values = measure_norm_toys(n_runs, spread, error, n_toys)
            ratios = [
                np.std(values[name]) / np.mean(values[f"{name}_err"])
                for name in ("mean", "spread")
            ]
            cover = ", ".join(
                f"{name} {100 * np.mean(values[name]):.1f}"
                for name in values
                if name.endswith("%")
            )
            print(
                f"norms of {n_runs} runs, spread {spread} ± {error}: scatter/error of "
                f"mean and spread {ratios[0]:.2f}, {ratios[1]:.2f}; {cover}",
                flush=True,
            )


def main(n_toys=1000):
    print_spreads(n_toys // 2)
    print_coverage(n_toys, FIELDS)
    print_coverage(n_toys, SCALES)
    print_norms(n_toys)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
