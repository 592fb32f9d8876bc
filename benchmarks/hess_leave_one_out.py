"""Does choosing OFF observations help a template? H.E.S.S. DL3 DR1 answers.

Each of the 45 OFF runs is reduced, with the FoV background, on a template made of n
other OFF runs, of another object and field:

- random: drawn among all that cover its bins, three times;
- conditions: the nearest of those that the criteria accept (``kl_max=None``);
- both: the nearest of those that divergence does not refuse (the default).

The number n is the same for the three: at most ten, and as many as are left in the
end. Prints, for three correlation radii, the width of the significances, mean and error
over the runs, and how much it differs from that of random templates; and how much
better a template describes the counts (difference of the Cash statistic).

Run with ``python benchmarks/hess_leave_one_out.py``, needs ``$GAMMAPY_DATA``.
"""

import functools
import logging
import operator

import numpy as np
from astropy.table import Table
from gammapy.data import DataStore, Observations
from gammapy.datasets import Datasets

from gammapy_mimic import KLBackgroundSelector
from gammapy_mimic.data import query_obs_table
from gammapy_mimic.data.observation import get_livetime_fraction, replace_background
from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.makers import reduce_fov_background
from gammapy_mimic.template.bins import TemplateBins
from gammapy_mimic.template.counts import TemplateCounts
from gammapy_mimic.utils.random import random_generator

N_PARTNERS = 10
N_DRAWS = 3
MIN_BACKGROUND = {"0.1 deg": 1, "0.3 deg": 5, "0.5 deg": 5}
"""Background counts of a position, by correlation radius."""

LIMITS = ("livetime", "airmass", "zenith", "galactic_latitude", "muon_efficiency")
NO_LIMITS = dict.fromkeys((*LIMITS, "rate"))
CHOICES = {
    "random": {"criteria": NO_LIMITS, "kl_max": None},
    "conditions": {"kl_max": None},
    "both": {},
}


def get_candidates(selector, observation):
    """OFF observations that are not refused, best first."""
    table = selector.rank(observation)
    is_refused = np.isin(table["STATUS"], ("rejected", "large_kl"))
    return table["OFF_OBS_ID"][~is_refused].tolist()


def choose(selectors, observation):
    """OFF observations of the templates of each choice, none if none is left."""
    candidates = {
        name: get_candidates(selector, observation)
        for name, selector in selectors.items()
    }
    number = min(N_PARTNERS, len(candidates["both"]))
    pool, draws = candidates.pop("random"), []
    for idx in range(N_DRAWS if number else 0):
        rng = random_generator(idx, "leave one out", observation.obs_id)
        draws.append(rng.choice(pool, number, replace=False).tolist())
    nearest = {name: [obs_ids[:number]] for name, obs_ids in candidates.items()}
    return number, {"random": draws} | nearest


def reduce(observation, counts):
    """Reduce an observation on the template that counts of others make."""
    total = functools.reduce(operator.add, counts)
    fraction = get_livetime_fraction(observation)
    made = replace_background(observation, total.to_irf("gauss", None, fraction))
    return reduce_fov_background(Observations([made]), energy_bins=6)


def measure(datasets):
    """Mean width by radius, and the Cash statistic."""
    widths = []
    for radius, min_background in MIN_BACKGROUND.items():
        estimator = MimicSystematicsEstimator(radius, min_background=min_background)
        rows = estimator.run(datasets).select("significance")[: len(datasets)]
        widths.append(np.mean(rows["width"]))
    return [*widths, np.mean([Datasets([_]).stat_sum() for _ in datasets])]


def get_mean(values):
    """Mean and its error, over runs."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.3f}"


def main():
    logging.getLogger("gammapy_mimic").setLevel(logging.ERROR)
    store = DataStore.from_dir("$GAMMAPY_DATA/hess-dl3-dr1")
    table = query_obs_table(store.obs_table, "TARGET_NAME == 'Off data'")
    off = store.get_observations(table["OBS_ID"])
    index = KLBackgroundSelector(off).index
    selectors = {
        name: KLBackgroundSelector(off, index=index, **options)
        for name, options in CHOICES.items()
    }
    # each is read once, and templates are sums
    bins = TemplateBins.create("2d")
    counts = {_.obs_id: TemplateCounts.from_observation(_, bins) for _ in off}
    rows, results = [], []
    for observation in off:
        number, chosen = choose(selectors, observation)
        if number == 0:
            print(f"{observation.obs_id}: all candidates are refused, left out")
            continue
        measured = {}
        for name, templates in chosen.items():
            parts = [[counts[int(_)] for _ in obs_ids] for obs_ids in templates]
            measured[name] = measure([reduce(observation, _) for _ in parts])
        results.append(list(measured.values()))
        widths = [values[1] for values in measured.values()]
        stat, *others = (values[-1] for values in measured.values())
        rows.append([observation.obs_id, number, *widths, *(stat - _ for _ in others)])

    names = [*CHOICES, "gain (conditions)", "gain (both)"]
    print("Width at 0.3 deg, and gain in Cash")
    show(Table(rows=rows, names=["OBS_ID", "n", *names]), names, ".2f")
    # shape: runs, choices, radii and the statistic
    results, rows = np.array(results), []
    for idx, name in enumerate(CHOICES):
        own, difference = results[:, idx], results[:, idx] - results[:, 0]
        for idx_radius, radius in enumerate(MIN_BACKGROUND):
            values = [get_mean(_[:, idx_radius]) for _ in (own, difference)]
            rows.append([name, radius, values[0], values[1] if idx else ""])
    print(f"Mean of {len(results)} runs")
    show(Table(rows=rows, names=["choice", "radius", "width", "less that of random"]))
    for idx, name in enumerate(CHOICES):
        if idx:
            gain = get_mean(results[:, 0, -1] - results[:, idx, -1])
            print(f"Gain in Cash of a run, {name}: {gain}")


def show(table, names=(), spec=None):
    """Print a table."""
    for name in names:
        table[name].info.format = spec
    print("\n".join(table.pformat(max_lines=-1, max_width=-1)))


if __name__ == "__main__":
    main()
