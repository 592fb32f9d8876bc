"""How often a blank position is a source, and what is recovered of a planted one.

Run with ``python benchmarks/flux.py [number of positions] [number of injections]``
(default are 10,000 and 40; a quarter of an hour on one core). The tests do the same
with fewer toys.
"""

import itertools
import logging
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from gammapy_mimic.estimators.flux import SpuriousFlux, describe_flux
from tests.source_toys import make_asimov, recover_spectrum, simulate_blank
from tests.test_injection import AMPLITUDE, TRUTH, inject

F = 0.05
KINDS = {
    "same": "the same everywhere",
    "bands": "another one in each band",
    "pixels": "another one in each pixel",
}
BACKGROUNDS = ((100,), (1000,), (10_000,), (2000, 400, 80), (500, 500, 500))
DELTAS = (0, 0.02, 0.05, -0.05)
N_SETS = (3, 5, 10)
SPREADS = (0, 0.5, 1, 2)


def describe(values):
    """Mean with its error."""
    return f"{np.mean(values):+.3f} ± {np.std(values) / np.sqrt(len(values)):.3f}"


def study_weights(n_toys):
    print(f"Part of {n_toys} blank positions above 3 sigma, in %, for an f of {F:.0%}:")
    print(
        "error of the background, counts in the circle by band, without, with weights"
    )
    for kind, in_circle in itertools.product(KINDS, BACKGROUNDS):
        significance = simulate_blank(F, F, kind, n_toys, in_circle)
        parts = np.mean(significance > 3, axis=1)
        errors = np.sqrt(np.maximum(parts, 1 / n_toys) / n_toys)
        pairs = zip(100 * parts, 100 * errors, strict=True)
        text = " | ".join(f"{part:6.3f} ± {error:.3f}" for part, error in pairs)
        widths = ", ".join(f"{_:.2f}" for _ in np.std(significance, axis=1))
        numbers = ", ".join(map(str, in_circle))
        print(f"{KINDS[kind]:26} {numbers:14} | {text} | widths {widths}", flush=True)


def study_injection(n_toys):
    print(f"Recovered flux and index of a planted source, {n_toys} times six sets:")
    print("planted bias, its effect on the flux, pulls of flux and index with it")
    for delta in DELTAS:
        flux, index = recover_spectrum(make_asimov(1e10, delta, AMPLITUDE))
        effect = (flux / TRUTH).to_value("") - 1
        rows = [inject(delta, seed=_, random_state=_)[-1] for _ in range(n_toys)]
        pulls = [(row["flux"] - flux.value) / row["flux_err"] for row in rows]
        others = [(row["index"] - index) / row["index_err"] for row in rows]
        within = [f"{np.mean(np.abs(_) < 2):.2f}" for _ in (pulls, others)]
        text = f"{describe(pulls)}, {describe(others)}, within two {', '.join(within)}"
        print(f"{delta:+.0%} {effect:+.1%} | {text}", flush=True)


def study_limits(n_toys):
    print("Flux of another one, in units of the error of a set by counts:")
    print("sets, mean, spread, below the limit (95%), within the error (68%)")
    for n_sets, mean, spread in itertools.product(N_SETS, (0, 1), SPREADS):
        rng = np.random.default_rng(0)
        truth = mean + spread * rng.normal(size=(n_toys, n_sets))
        values = truth + rng.normal(size=truth.shape)
        found = [describe_flux(_, np.ones(n_sets)) for _ in values]
        found = SpuriousFlux(*np.transpose(found))
        other = mean + spread * rng.normal(size=n_toys)
        below = np.mean(other < found.sys_ul)
        inside = np.mean((other > -found.sys_errp) & (other < found.sys_errn))
        print(f"{n_sets:3} {mean} {spread:4} | {below:.3f} | {inside:.3f}", flush=True)


if __name__ == "__main__":
    logging.disable()
    given = list(map(int, sys.argv[1:]))
    n_positions, n_injections = (*given, *(10_000, 40)[len(given) :])[:2]
    study_weights(n_positions)
    study_injection(n_injections)
    study_limits(n_positions)
