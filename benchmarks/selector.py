"""Speed of the index, the ranking, the planning and the templates.

Run with ``python benchmarks/selector.py``. The archive of 10,000 observations repeats
simulated rows; the times on files need the H.E.S.S. DL3 DR1 data of ``$GAMMAPY_DATA``.
"""

import logging
import os
import resource
import time
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack
from gammapy.data import DataStore
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector
from gammapy_mimic.data import query_obs_table
from gammapy_mimic.selection import MatchCriteria, MimicPlan, OffIndex
from gammapy_mimic.selection.ranking import rank_observations
from gammapy_mimic.simulate import simulate_observations
from gammapy_mimic.template import make_template

N_REPEAT = 3


def measure(*functions):
    """Median seconds of functions that are called in turn."""
    times = np.zeros((N_REPEAT + 1, len(functions)))
    for row in times:
        for idx, call in enumerate(functions):
            start = time.perf_counter()
            call()
            row[idx] = time.perf_counter() - start
    return np.median(times[1:], axis=0)


def make_archive(index, n_obs):
    """Repeat the rows of an index, with new OBS_IDs and names."""
    rows = np.arange(n_obs) % len(index)
    table = index.table[rows].copy()
    table["OBS_ID"] = np.arange(n_obs) + 1_000_000
    table["OBJECT"] = [f"field {_ // 4}" for _ in range(n_obs)]
    rng = np.random.default_rng(0)
    counts = rng.poisson(index.counts[rows]).astype(index.counts.dtype)
    arrays = counts, index.fraction[rows]
    return OffIndex(table, *arrays, index.binning, aeff=index.aeff[rows])


def get_peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def compare_ranking():
    observations = simulate_observations(200, zenith=("20 deg", "40 deg"))
    index = OffIndex.create(observations)
    most = MatchCriteria.create({"field_radius": "0.5 deg"})
    few = MatchCriteria.create({"field_radius": "0.5 deg", "airmass": 0.008})
    target = index.select(index.obs_ids[:1])
    rows = []
    for n_obs in (10_000, 100_000):
        archive = make_archive(index, n_obs)
        for criteria in (most, few):

            def rank(archive=archive, criteria=criteria):
                return rank_observations(target, archive, criteria)

            n_accepted = np.sum(rank()["STATUS"] != "rejected")
            name = f"rank one target among {n_obs:,}, {n_accepted:,} accepted [ms]"
            rows.append((name, *(1e3 * measure(rank))))
        rows.append((f"peak memory after {n_obs:,} [GB]", get_peak_memory()))
    return rows + compare_planning(observations, index)


def compare_planning(observations, index):
    archive = make_archive(index, 10_000)
    criteria = {"field_radius": "0.5 deg"}
    selector = KLBackgroundSelector(observations, criteria, index=archive)

    start = time.perf_counter()
    plan = selector.make_plan(observations, n_sets=5)
    seconds = time.perf_counter() - start
    assert isinstance(plan, MimicPlan)
    return [("plan 200 targets x 5 sets from 10,000 [s]", seconds)]


def compare_files(store):
    table = query_obs_table(store.obs_table, "TARGET_NAME == 'Off data'")
    off = store.get_observations(table["OBS_ID"])
    circles = [
        CircleSkyRegion(SkyCoord(ra, dec, unit="deg"), 0.3 * u.deg)
        for ra, dec in zip(table["RA_OBJ"], table["DEC_OBJ"], strict=True)
    ]

    def read():
        return [_.events for _ in off]

    def index():
        return OffIndex.create(off, exclusion_regions=circles)

    def make_2d():
        return make_template(off, exclusion_regions=circles)

    def make_3d():
        return make_template(
            off, "3d", exclusion_regions=circles, fov_alignment="ALTAZ"
        )

    seconds, *others = measure(read, index, make_2d)
    names = ["index", "2D template"]
    rows = [(f"read the events of {len(off)} H.E.S.S. runs [s]", seconds)]
    rows += [
        (f"{name} of them, over reading", value / seconds)
        for name, value in zip(names, others, strict=True)
    ]
    start = time.perf_counter()
    make_3d()
    rows.append(("3D template, ALTAZ, of them [s]", time.perf_counter() - start))
    return rows


def main():
    logging.getLogger("gammapy_mimic").setLevel(logging.ERROR)
    rows = compare_ranking()
    hess = Path(os.environ.get("GAMMAPY_DATA", "")) / "hess-dl3-dr1"
    if hess.exists():
        rows += compare_files(DataStore.from_dir(hess))
    table = vstack([Table(rows=[row], names=["what", "value"]) for row in rows])
    table["value"].info.format = ".2f"
    table["what"].info.format = "<60s"
    table.pprint(max_width=-1, max_lines=-1)


if __name__ == "__main__":
    main()
