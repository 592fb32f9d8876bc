"""Time and memory against the size of the archive: tables and plot of the docs.

- Rows of an index, which needs no files: ranking of one target, and plan of 200 targets
  with 5 mimic sets, from 1,000 to 100,000 OFF observations, of which criteria leave a
  tenth, see ``archives.py``.
- Files: index of 250 to 2,000 OFF observations, plan of a tenth as many targets with 5
  mimic sets, and these written. They repeat 50 simulated observations with new OBS_IDs,
  and their IRFs. They take 1 GB in the temporary folder, and are removed.

Each point is measured in a process of its own: its CPU time, and its largest memory,
imports included. Run with ``python benchmarks/scaling.py``, which writes
``docs/method/scaling.txt`` and ``docs/images/scaling.png``.
"""

import copy
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import archives
import matplotlib.pyplot as plt
from astropy.table import Table

N_ROWS = (1_000, 10_000, 30_000, 100_000)
N_FILES = (250, 500, 1_000, 2_000)
N_SIMULATED = 50
FIRST_TARGET, FIRST_OFF = 1, 10_001
DOCS = archives.HERE / "docs"
STEPS = {
    "rank": "rank one target",
    "plan": "plan 200 targets x 5 sets",
    "index": "index the files",
    "pair": "plan a tenth as targets x 5 sets",
    "write": "write these mimic sets",
}


def simulate(path):
    """Write stores of simulated observations of which larger ones are made."""
    from astropy.coordinates import SkyCoord

    from gammapy_mimic.simulate import simulate_datastore

    zenith = "40 deg", "50 deg"
    field = {"target": SkyCoord(83.63, 22.01, unit="deg")}
    off = {"first_obs_id": FIRST_OFF, "zenith": zenith}
    simulate_datastore(path / "some_off", N_SIMULATED, **off)
    simulate_datastore(path / "some_targets", 20, targets=field, zenith=zenith)


def repeat(store, n_obs, path):
    """Write a store that repeats the observations of another, with new OBS_IDs."""
    from gammapy_mimic.data import write_datastore
    from gammapy_mimic.data.observation import load_events_file

    known = list(store.get_observations(required_irf="all-optional"))
    for observation in known:
        load_events_file(observation)
    first = min(int(_.obs_id) for _ in known)

    def make():
        for idx in range(n_obs):
            observation = copy.copy(known[idx % len(known)])
            observation.obs_id = first + idx
            yield observation

    write_datastore(make(), path)


def measure(path, n_obs):
    """Measure index, plan and mimic sets of files in this process."""
    from gammapy.data import DataStore

    from gammapy_mimic import KLBackgroundSelector
    from gammapy_mimic.data import select_datastore
    from gammapy_mimic.makers import write_mimic_sets
    from gammapy_mimic.selection import OffIndex

    targets, off = (DataStore.from_dir(path / _) for _ in ("targets", "off"))
    off = select_datastore(off, range(FIRST_OFF, FIRST_OFF + n_obs))
    obs_ids = range(FIRST_TARGET, FIRST_TARGET + n_obs // 10)
    observations = targets.get_observations(obs_ids, required_irf="all-optional")
    times = [time.process_time()]
    index = OffIndex.create(off)
    times.append(time.process_time())
    plan = KLBackgroundSelector(off, index=index).make_plan(observations, n_sets=5)
    times.append(time.process_time())
    write_mimic_sets(observations, off, plan, path / "mimics", overwrite=True)
    times.append(time.process_time())
    names, steps = ("index", "pair", "write"), itertools.pairwise(times)
    seconds = {name: b - a for name, (a, b) in zip(names, steps, strict=True)}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {"seconds": seconds, "gb": memory}


def run(path, task, n_obs=0):
    """Do a task in a process of its own."""
    command = [sys.executable, __file__, str(path), task, str(n_obs)]
    env = os.environ | {"PYTHONPATH": str(archives.HERE), "OMP_NUM_THREADS": "1"}
    output = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True)
    return json.loads(output.stdout.splitlines()[-1])


def work(path, task, n_obs):
    """Do a task in this process, and print what it measures."""
    from gammapy.data import DataStore

    result = None
    if task == "simulate":
        simulate(path)
    elif task == "measure":
        result = measure(path, n_obs)
    else:
        for name, number in (("off", n_obs), ("targets", n_obs // 10)):
            repeat(DataStore.from_dir(path / f"some_{name}"), number, path / name)
    print(json.dumps(result))


def measure_all(path):
    """Rows of the table: step, number of OFF observations, CPU time in s, GB."""
    rows, index = [], path / "index.fits"
    archives.run(archives.HERE, index)
    for what in ("rank", "plan"):
        for n_obs in N_ROWS:
            limits = archives.CRITERIA["a tenth"]
            made = archives.run(archives.HERE, index, what, n_obs, limits)
            rows.append((STEPS[what], n_obs, made["seconds"], made["gb"]))
            print(*rows[-1], flush=True)
    run(path, "simulate")
    run(path, "repeat", max(N_FILES))
    for n_obs in N_FILES:
        made = run(path, "measure", n_obs)
        for name, seconds in made["seconds"].items():
            rows.append((STEPS[name], n_obs, seconds, made["gb"]))
            print(*rows[-1], flush=True)
    return rows


def plot(table):
    """Plot time and memory against the number of OFF observations."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for step in STEPS.values():
        part = table[table["step"] == step]
        axes[0].loglog(part["OFF observations"], part["CPU [s]"], "o-", label=step)
    for name, steps in {"rows": ("rank", "plan"), "files": ("write",)}.items():
        for step in steps:
            part = table[table["step"] == STEPS[step]]
            label = f"{name}: {STEPS[step]}" if name == "rows" else "files: all steps"
            axes[1].semilogx(
                part["OFF observations"], part["memory [GB]"], "o-", label=label
            )
    axes[0].set_ylabel("CPU time [s]")
    axes[1].set_ylabel("largest memory of the process [GB]")
    axes[1].set_ylim(0, None)
    for ax in axes:
        ax.set_xlabel("OFF observations")
        ax.grid(alpha=0.3)
        ax.legend(fontsize="small")
    fig.savefig(DOCS / "images" / "scaling.png", dpi=120)


def main(*args):
    if args:
        work(Path(args[0]), args[1], int(args[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_all(Path(folder))
    names = ["step", "OFF observations", "CPU [s]", "memory [GB]"]
    table = Table(rows=rows, names=names)
    plot(table)
    for name in names[2:]:
        table[name].info.format = ".3g"
    table["step"].info.format = "<33s"
    lines = table.pformat(max_width=-1, max_lines=-1)
    (DOCS / "method" / "scaling.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
