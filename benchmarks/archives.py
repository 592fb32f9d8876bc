"""Time and memory of rankings and plans of large archives, which need no files.

An archive repeats the rows of an index of 200 simulated observations, with new OBS_IDs
and counts that are drawn anew. Rows of the table are

- the ranking of one target among 10,000 and 100,000 OFF observations,
- the plan of 200 targets with 5 mimic sets from as many,

with criteria that leave most of them, and a tenth. Each runs in a process of its own,
of which the time of the CPU and the largest memory are told, that of the imports and of
the archive included.

Run with ``python benchmarks/archives.py``. To compare with another version in one run,
as times of two runs compare badly, give its folder::

    git worktree add ../before COMMIT
    python benchmarks/archives.py --before ../before

The large plan takes another version ten minutes and more memory than many machines
have: it is left out there without ``--all``.
"""

import argparse
import inspect
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.table import Table

N_TARGETS = 200
N_REPEAT = 5
LARGE = 100_000
CRITERIA = {
    "most": {"field_radius": "0.5 deg"},
    "a tenth": {"field_radius": "0.5 deg", "airmass": 0.008},
}
HERE = Path(__file__).parents[1]


def make_archive(index, n_obs):
    """Repeat the rows of an index, with new OBS_IDs and names."""
    rows = np.arange(n_obs) % len(index)
    table = index.table[rows].copy()
    table["OBS_ID"] = np.arange(n_obs) + 1_000_000
    table["OBJECT"] = [f"field {_ // 4}" for _ in range(n_obs)]
    rng = np.random.default_rng(0)
    counts = rng.poisson(index.counts[rows]).astype(index.counts.dtype)
    arrays = counts, index.fraction[rows]
    return type(index)(table, *arrays, index.binning, aeff=index.aeff[rows])


def rank(targets, archive, criteria):
    """Rank the archive for one target."""
    from gammapy_mimic.selection.ranking import rank_observations

    table = rank_observations(targets.select(targets.obs_ids[:1]), archive, criteria)
    return int(np.sum(table["STATUS"] != "rejected"))


def plan(targets, archive, criteria):
    """Make the plan of all targets."""
    from gammapy_mimic.selection.ranked_plan import make_ranked_plan
    from gammapy_mimic.selection.ranking import rank_observations

    def rank_all():
        _ = targets.conditions
        for obs_id in targets.obs_ids.tolist():
            table = rank_observations(targets.select([obs_id]), archive, criteria)
            table.meta["OBS_ID"] = obs_id
            yield table

    # which versions before do not have
    is_new = "n_targets" in inspect.signature(make_ranked_plan).parameters
    options = {"n_targets": len(targets)} if is_new else {}
    made = make_ranked_plan(rank_all(), n_sets=5, **options)
    return int(np.sum(made.table["OFF_OBS_ID"] >= 0))


def simulate(path):
    """Write the index of simulated targets."""
    from gammapy_mimic.selection import OffIndex
    from gammapy_mimic.simulate import simulate_observations

    zenith = "20 deg", "40 deg"
    OffIndex.create(simulate_observations(N_TARGETS, zenith=zenith)).write(path)


def measure(path, what, n_obs, limits):
    """Measure one row in this process."""
    from gammapy_mimic.selection import MatchCriteria, OffIndex

    logging.getLogger("gammapy_mimic").setLevel(logging.ERROR)
    targets = OffIndex.read(path)
    archive = make_archive(targets, n_obs)
    criteria, call = MatchCriteria.create(limits), {"rank": rank, "plan": plan}[what]
    times = []
    for _ in range(N_REPEAT if what == "rank" else 1):
        start = time.process_time()
        number = call(targets, archive, criteria)
        times.append(time.process_time() - start)
    # of the first one the conditions are read
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {"seconds": float(np.median(times[-3:])), "gb": memory, "number": number}


def run(folder, path, *case):
    """Measure one row in another process, with the version of a folder."""
    command = [sys.executable, __file__, "--case", json.dumps([str(path), *case])]
    options = {"env": os.environ | {"PYTHONPATH": str(folder)}, "check": True}
    output = subprocess.run(command, capture_output=True, text=True, **options).stdout
    return json.loads(output.splitlines()[-1])


def compare(path, before, with_all):
    """Measure all rows, with both versions in turn."""
    rows = []
    for what in ("rank", "plan"):
        for n_obs in (10_000, LARGE):
            for name, limits in CRITERIA.items():
                case = path, what, n_obs, limits
                after = run(HERE, *case)
                is_skipped = what == "plan" and n_obs == LARGE and not with_all
                old = {"seconds": np.nan, "gb": np.nan}
                if before is not None and not is_skipped:
                    old = run(Path(before).resolve(), *case)
                    assert old["number"] == after["number"]
                text = f"{what} from {n_obs:,}, of which criteria leave {name}"
                times = old["seconds"], after["seconds"]
                rows.append((text, *times, times[0] / times[1], old["gb"], after["gb"]))
                print(*rows[-1])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", help="Folder of the version to compare with.")
    parser.add_argument("--all", action="store_true", help="Also its large plans.")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        path, *case = json.loads(args.case)
        print(json.dumps(measure(path, *case) if case else simulate(path)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.fits"
        # a process begins with the memory of the one that starts it, which stays small
        run(HERE, path)
        rows = compare(path, args.before, args.all)
    names = ["what", "before [s]", "now [s]", "ratio", "before [GB]", "now [GB]"]
    table = Table(rows=rows, names=names)
    for name in names[1:]:
        table[name].info.format = ".3g"
    table["what"].info.format = "<55s"
    table.pprint(max_width=-1, max_lines=-1)


if __name__ == "__main__":
    main()
