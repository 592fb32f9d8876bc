"""Speed and memory: plan, mimic sets as datastores, and whole runs.

Run with ``python benchmarks/pipeline.py`` for the times of H.E.S.S. DL3 DR1 (21
targets, 45 OFF runs) where it is in ``$GAMMAPY_DATA``, else of simulated data, and with

- ``memory`` for the memory of a run of 50 targets and 1000 simulated OFF observations,
- ``run`` to compare a whole run of 8 targets with the reduction of the same datasets by
  Gammapy, and a second run with the import of Gammapy,
- ``scale 20 40`` for time and memory of runs of so many targets, with 5 sets and two
  processes,
- ``cpu OTHER ...`` to compare the CPU time of one process with that of other checkouts
  of this package, in turns: make one with ``git worktree add OTHER COMMIT``.

Ratios within one run can be compared, times of different machines cannot.
"""

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from gammapy.analysis import Analysis, AnalysisConfig
from gammapy.data import DataStore

from gammapy_mimic import KLBackgroundSelector
from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.data import query_obs_table, select_datastore
from gammapy_mimic.data.datastore import DatastoreWriter
from gammapy_mimic.data.obs_ids import get_obs_id
from gammapy_mimic.data.observation import get_off_observation, load_events_file
from gammapy_mimic.makers import MimicMaker, write_mimic_sets
from gammapy_mimic.simulate import simulate_datastore

N_REPEAT = 5
N_SETS = 5
N_TARGETS = 21
PARTS = (
    "plan from a ready index",
    "sets",
    "sum",
    "  read an OFF observation (once for all)",
    "  move it",
    "  write a mimic",
)
FIELD = {"target": SkyCoord(83.63, 22.01, unit="deg")}


def simulate(path, n_targets, n_off):
    """Stores of targets and of OFF observations."""
    zenith = "40 deg", "50 deg"
    return (
        simulate_datastore(path / "targets", n_targets, targets=FIELD, zenith=zenith),
        simulate_datastore(path / "off", n_off, first_obs_id=10001, zenith=zenith),
    )


def open_stores(path):
    hess = Path(os.environ.get("GAMMAPY_DATA", "")) / "hess-dl3-dr1"
    if not hess.exists():
        return simulate(path, N_TARGETS, 45)
    store = DataStore.from_dir(hess)
    queries = "TARGET_NAME != 'Off data'", "TARGET_NAME == 'Off data'"
    targets, off = (query_obs_table(store.obs_table, _)["OBS_ID"] for _ in queries)
    targets = sorted(targets)[-N_TARGETS:]
    return [select_datastore(store, _) for _ in (targets, off)]


def get_observations(store):
    return store.get_observations(required_irf="all-optional")


class Archive:
    """Archive step, from an index that is there."""

    def __init__(self, targets, off, path):
        self.targets, self.off, self.path = targets, off, path
        self.index = path / "index.fits"
        KLBackgroundSelector(off).make_index(self.index)

    def make_plan(self, observations):
        selector = KLBackgroundSelector(self.off)
        selector.make_index(self.index)
        return selector.make_plan(observations, n_sets=N_SETS)

    def run(self, n_jobs=1, clock=time.perf_counter):
        """Seconds for the plan and for the sets, and number of files."""
        observations = get_observations(self.targets)
        start = clock()
        plan = self.make_plan(observations)
        stop = clock()
        args = observations, self.off, plan, self.path / "mimics"
        write_mimic_sets(*args, overwrite=True, n_jobs=n_jobs)
        n_files = sum(len(plan.partners(_)) for _ in plan.sets)
        return stop - start, clock() - stop, n_files


def measure_pieces(archive, clock):
    """Milliseconds of reading an event list, moving it, and writing a file."""
    observations = get_observations(archive.targets)
    plan = archive.make_plan(observations)
    partners = plan.partners(1)
    observation = next(_ for _ in observations if get_obs_id(_) in partners)
    off_obs_id = partners[get_obs_id(observation)]
    load_events_file(observation, with_events=False)
    times = []
    with DatastoreWriter.open(archive.path / "pieces", overwrite=True) as writer:
        for idx in range(4 * N_REPEAT):
            steps = [clock()]
            off = get_off_observation(archive.off, off_obs_id)
            load_events_file(off)
            steps.append(clock())
            one = MimicMaker(type(observations)([off]), plan)
            mimic = one.make_observation(observation)
            steps.append(clock())
            mimic.obs_id = idx
            written = writer.write(mimic)
            steps.append(clock())
            times.append(np.diff(steps))
        writer.add(written)
    return np.median(times, axis=0) * 1e3


def measure_parts(path, clock):
    """Milliseconds a file of one process, and what was measured in words."""
    archive = Archive(*open_stores(path), path)
    archive.run()
    results = [archive.run(clock=clock) for _ in range(N_REPEAT)]
    plan, sets, n_files = np.median(results, axis=0)
    per_file = np.array([plan, sets, plan + sets]) / n_files * 1e3
    text = (
        f"{len(archive.targets.obs_ids)} targets, {len(archive.off.obs_ids)} OFF "
        f"observations, {N_SETS} sets, {n_files:.0f} files, one process"
    )
    return [*per_file, *measure_pieces(archive, clock)], text


def print_times(path):
    parts, text = measure_parts(path, time.perf_counter)
    print(text)
    for name, value in zip(PARTS, parts, strict=True):
        print(f"{name:40s} {value:6.1f} ms a file")


def print_parts(path):
    """Print what `print_cpu` reads."""
    print(json.dumps(measure_parts(path, time.process_time)))


def print_cpu(*others):
    """CPU time of this package and of others, each in processes of its own."""
    here = str(Path(__file__).resolve().parents[1])
    folders, results = [here, *others], {}
    for _ in range(3):
        for folder in folders:
            env = os.environ | {"PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, "parts"]
            output = subprocess.run(
                command, env=env, stdout=subprocess.PIPE, check=True
            )
            parts, text = json.loads(output.stdout)
            results.setdefault(folder, []).append(parts)
    print(f"{text}, CPU in ms a file")
    medians = [np.median(results[_], axis=0) for _ in folders]
    for name, *values in zip(PARTS, *medians, strict=True):
        columns = [f"{values[0]:8.2f}"]
        columns += [f"{_:8.2f} ({_ / values[0]:.2f} times)" for _ in values[1:]]
        print(f"{name:40s} {' '.join(columns)}")


def print_parallel(path):
    archive = Archive(*simulate(path, 50, 200), path)
    archive.run()
    times = {1: [], 2: []}
    for _ in range(N_REPEAT):
        for n_jobs, values in times.items():
            values.append(archive.run(n_jobs)[1])
    one, two = (np.median(_) for _ in times.values())
    print(f"50 simulated targets, {N_SETS} sets: {one:.2f} s with one process,")
    print(f"{two:.2f} s with two, {one / two:.2f} times faster (aim: 1.85)")


CONFIG = """
general: {outdir: result, log: {level: warning}}
observations: {datastore: targets}
datasets:
  type: 3d
  geom:
    wcs:
      skydir: {frame: icrs, lon: 83.63 deg, lat: 22.01 deg}
      width: {width: 5 deg, height: 5 deg}
      binsize: 0.05 deg
    axes:
      energy: {min: 0.5 TeV, max: 20 TeV, nbins: 6}
      energy_true: {min: 0.3 TeV, max: 30 TeV, nbins: 8}
  background: {method: fov_background, parameters: {method: scale}}
  safe_mask: {methods: [offset-max], parameters: {offset_max: 2 deg}}
mimic:
  off: {datastore: off, index: index.fits}
  n_sets: 5
  systematics: {position: {frame: icrs, lon: 83.63 deg, lat: 22.01 deg}}
"""
N_RUN_TARGETS, N_RUN_SETS = 8, 3
COMMAND = "from gammapy_mimic.scripts.main import main; main()"


def write_config(path, n_sets, n_jobs=1):
    config = MimicAnalysisConfig.from_yaml(CONFIG)
    config.general.n_jobs, config.mimic.n_sets = n_jobs, n_sets
    # one for each observation, as errors that know of shared observations need
    config.datasets.stack = False
    config.write(path / "config.yaml", overwrite=True)


def call_python(path, code, *args):
    """CPU and wall seconds, and largest memory of a process in GiB."""
    measure = (
        "import os, resource, subprocess, sys, time; start = time.perf_counter();"
        "code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(used.ru_utime + used.ru_stime, time.perf_counter() - start,"
        "used.ru_maxrss / 1024**2); sys.exit(code)"
    )
    command = [sys.executable, "-c", measure, sys.executable, "-c", code, *args]
    output = subprocess.run(command, cwd=path, stdout=subprocess.PIPE, check=True)
    return np.array(output.stdout.split(), dtype=float)


def reduce_plainly(path, clock):
    """Seconds for the datasets of a run, by Gammapy alone."""
    config = MimicAnalysisConfig.read(path / "config.yaml")
    analysis = Analysis(AnalysisConfig(**config.model_dump(exclude={"mimic"})))
    names = ["targets", *(f"result/mimic_{_ + 1}" for _ in range(N_RUN_SETS))]
    start = clock()
    for name in names:
        analysis.observations = get_observations(DataStore.from_dir(path / name))
        analysis.get_datasets()
    return clock() - start


def print_run(path):
    simulate(path, N_RUN_TARGETS, 5 * N_RUN_TARGETS)
    write_config(path, N_RUN_SETS)
    times = []
    for _ in range(2):
        shutil.rmtree(path / "result", ignore_errors=True)
        row = []
        with contextlib.chdir(path):
            for clock in (time.process_time, time.perf_counter):
                start = clock()
                MimicAnalysis(MimicAnalysisConfig.read("config.yaml")).run()
                row.append(clock() - start)
                row.append(reduce_plainly(path, clock))
                if clock is time.process_time:
                    shutil.rmtree("result")
        times.append(row)
    cpu, plain_cpu, wall, plain = np.min(times, axis=0)
    print(f"{N_RUN_TARGETS} targets, {N_RUN_SETS} sets, one process:")
    print(f"run {cpu:.1f} s of CPU, plain reduction {plain_cpu:.1f} s:", end=" ")
    print(f"{cpu / plain_cpu:.2f} times, {wall / plain:.2f} by wall (aim: 1.5)")
    second, gammapy = (
        np.min([call_python(path, *args)[0] for _ in range(3)])
        for args in ((COMMAND, "run", "config.yaml"), ("import gammapy.analysis",))
    )
    print(f"second run {second:.2f} s of CPU, import gammapy.analysis", end=" ")
    print(f"{gammapy:.2f} s: {second / gammapy:.2f} times (aim: 1.2)")


def print_scale(path, *numbers):
    for number in map(int, numbers or [20, 40]):
        folder = path / f"{number}"
        folder.mkdir()
        simulate(folder, number, 5 * number)
        write_config(folder, N_SETS, n_jobs=2)
        cpu, wall, peak = call_python(folder, COMMAND, "run", "config.yaml")
        print(f"{number} targets, {N_SETS} sets, two processes: {wall:.0f} s,", end=" ")
        print(f"{cpu:.0f} s of CPU, peak of a process {peak:.2f} GiB", flush=True)


def print_memory(path):
    simulate(path, 50, 1000)
    with contextlib.chdir(path):
        start = time.perf_counter()
        MimicAnalysis(MimicAnalysisConfig.from_yaml(CONFIG)).run()
        seconds = time.perf_counter() - start
        size = sum(_.stat().st_size for _ in Path("off").rglob("*.fits*"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"50 targets, 1000 OFF observations ({size / 1e9:.2f} GB), 5 sets")
    print(f"{seconds:.0f} s, peak {peak:.2f} GiB (aim: 1.5)")


def main(name="", *others):
    functions = {
        "memory": [print_memory],
        "cpu": [lambda _: print_cpu(*others)],
        "parts": [print_parts],
        "run": [print_run],
        "scale": [lambda _: print_scale(_, *others)],
    }
    for function in functions.get(name, [print_times, print_parallel]):
        with tempfile.TemporaryDirectory() as folder:
            function(Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
