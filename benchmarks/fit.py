"""How often fitted spectra hold the truth, if the background has an error.

The error of the target is drawn anew in each toy, from the distribution of that of the
mimics, which are drawn anew, too. Run with ``python benchmarks/fit.py [number of
toys]`` (default 100; 1000 are half an hour on one core). The tests do the same with
fewer toys.
"""

import itertools
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.band_toys import KINDS, LEVELS, simulate_fits

SIZES = (0.01, 0.02, 0.05)
# a seed of its own for each case
SEED = 1


def study_coverage(n_toys):
    print("Part of 68% intervals that hold the truth, in %, with errors")
    print("error of  level       size norm | with penalty: flux, index | without: same")
    totals = []
    cases = itertools.product((False, True), KINDS, LEVELS, SIZES)
    for idx, (has_norm, kind, level, size) in enumerate(cases):
        options = {"seed": [SEED, idx], "has_norm": has_norm}
        covered = simulate_fits(kind, size, level, n_toys, **options)
        text = f"{kind:9} {level:10} {size:5.0%} {'fitted' if has_norm else '-':6}"
        for values in covered.values():
            parts = values.mean(axis=0)
            errors = np.sqrt(parts * (1 - parts) / n_toys)
            for part, error in zip(100 * parts, 100 * errors, strict=True):
                text += f" | {part:4.1f} ± {error:.1f}"
        totals.append(covered["with"].mean(axis=0))
        print(text, flush=True)
    for name, part in zip(("flux", "index"), np.mean(totals, axis=0), strict=True):
        print(f"mean of the {name} with penalty: {part:.1%}")


if __name__ == "__main__":
    study_coverage(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
