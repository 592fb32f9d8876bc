"""Does choosing OFF observations by their divergence help? H.E.S.S. DL3 DR1 answers.

Each of the 45 OFF runs is reduced, with the FoV background, on a template made of other
OFF runs: the half of all that match the criteria, at most ten, with the smallest
KL_CORR, or as many drawn at random. Prints the significance mean and width of each
run, and how much better the one template describes the counts than the other
(difference of the Cash statistic).

Run with ``python benchmarks/hess_leave_one_out.py``, needs ``$GAMMAPY_DATA``.
"""

import logging

import numpy as np
from astropy.table import Table
from gammapy.data import DataStore, Observations
from gammapy.datasets import Datasets

from gammapy_mimic import KLBackgroundSelector
from gammapy_mimic.data import query_obs_table
from gammapy_mimic.data.observation import replace_background
from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.makers import reduce_fov_background
from gammapy_mimic.utils.random import random_generator

N_PARTNERS = 10
N_DRAWS = 3
RADIUS = "0.3 deg"


def reduce(selector, observation, obs_ids):
    bkg = selector.make_background(observation, obs_ids=obs_ids)
    made = replace_background(observation, bkg)
    return reduce_fov_background(Observations([made]), energy_bins=6, binsz="0.1 deg")


def measure(datasets):
    """Rows of the significance of each dataset and of all."""
    estimator = MimicSystematicsEstimator(RADIUS, min_background=5)
    return list(estimator.run(datasets).select("significance"))


def main():
    logging.getLogger("gammapy_mimic").setLevel(logging.ERROR)
    store = DataStore.from_dir("$GAMMAPY_DATA/hess-dl3-dr1")
    table = query_obs_table(store.obs_table, "TARGET_NAME == 'Off data'")
    off = store.get_observations(table["OBS_ID"])
    selector = KLBackgroundSelector(off, background="2d", smooth="gauss")
    rows, chosen, drawn = [], [], []
    for observation in off:
        ranked = selector.rank(observation)
        obs_ids = ranked["OFF_OBS_ID"][ranked["STATUS"] != "rejected"].tolist()
        n_partners = min(N_PARTNERS, len(obs_ids) // 2)
        if n_partners == 0:
            print(f"{observation.obs_id}: {len(obs_ids)} candidates, left out")
            continue
        dataset = reduce(selector, observation, obs_ids[:n_partners])
        best, _ = measure([dataset])
        others = []
        for idx in range(N_DRAWS):
            rng = random_generator(idx, "leave one out", observation.obs_id)
            draw = rng.choice(obs_ids, n_partners, replace=False).tolist()
            others.append(reduce(selector, observation, draw))
        *each, random = measure(others)
        chosen.append(best)
        drawn += each
        stat, *stats = (Datasets([_]).stat_sum() for _ in (dataset, *others))
        gain = np.mean(stats) - stat
        rows.append(
            [
                observation.obs_id,
                n_partners,
                best["mean"],
                best["width"],
                best["width_err"],
                random["mean"],
                random["width"],
                gain,
            ]
        )
    names = ["OBS_ID", "n", "mean", "width", "error"]
    names += ["mean_random", "width_random", "gain"]
    result = Table(rows=rows, names=names)
    for name in names[2:]:
        result[name].info.format = ".2f"
    result.pprint(max_lines=-1)
    for name, parts in {"KL": chosen, "random": drawn}.items():
        widths = [row["width"] for row in parts]
        error = np.std(widths) / np.sqrt(len(rows))
        print(f"mean width, {name}: {np.mean(widths):.3f} ± {error:.3f}")
    gains = result["gain"]
    error = np.std(gains) / np.sqrt(len(gains))
    print(f"gain in Cash by the choice: {np.mean(gains):.1f} ± {error:.1f} per run")


if __name__ == "__main__":
    main()
