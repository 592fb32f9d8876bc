"""Speed and memory of the archive step: plan, and mimic sets as datastores.

Run with ``python benchmarks/pipeline.py`` for the times of H.E.S.S. DL3 DR1 (15
targets, 45 OFF runs) where it is in ``$GAMMAPY_DATA``, else of simulated data, and with
``python benchmarks/pipeline.py memory`` for the memory of a run of 50 targets and 1000
simulated OFF observations. Ratios within one run can be compared, times of different
machines cannot.
"""

import contextlib
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
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
        return simulate(path, 15, 45)
    store = DataStore.from_dir(hess)
    queries = "TARGET_TAG == 'pks2155_flare'", "TARGET_NAME == 'Off data'"
    tables = [query_obs_table(store.obs_table, _) for _ in queries]
    return [select_datastore(store, _["OBS_ID"]) for _ in tables]


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

    def run(self, n_jobs=1):
        """Seconds for the plan and for the sets, and number of files."""
        observations = get_observations(self.targets)
        start = time.perf_counter()
        plan = self.make_plan(observations)
        stop = time.perf_counter()
        args = observations, self.off, plan, self.path / "mimics"
        write_mimic_sets(*args, overwrite=True, n_jobs=n_jobs)
        n_files = sum(len(plan.partners(_)) for _ in plan.sets)
        return stop - start, time.perf_counter() - stop, n_files


def measure_pieces(archive):
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
            steps = [time.perf_counter()]
            off = get_off_observation(archive.off, off_obs_id)
            load_events_file(off)
            steps.append(time.perf_counter())
            one = MimicMaker(type(observations)([off]), plan)
            mimic = one.make_observation(observation)
            steps.append(time.perf_counter())
            mimic.obs_id = idx
            written = writer.write(mimic)
            steps.append(time.perf_counter())
            times.append(np.diff(steps))
        writer.add(written)
    return np.median(times, axis=0) * 1e3


def print_times(path):
    archive = Archive(*open_stores(path), path)
    archive.run()
    results = np.array([archive.run() for _ in range(N_REPEAT)])
    plan, sets, n_files = np.median(results, axis=0)
    per_file = (plan + sets) / n_files * 1e3
    n_targets = len(archive.targets.obs_ids)
    print(
        f"{n_targets} targets, {len(archive.off.obs_ids)} OFF observations, "
        f"{N_SETS} sets, {n_files:.0f} files, one process"
    )
    print(f"{'plan from a ready index':40s} {plan * 1e3 / n_files:6.1f} ms a file")
    print(f"{'sets':40s} {sets * 1e3 / n_files:6.1f} ms a file")
    print(f"{'sum (aim: 12 ms)':40s} {per_file:6.1f} ms a file")
    for name, value in zip(
        ("read an OFF observation (once for all)", "move it", "write a mimic"),
        measure_pieces(archive),
        strict=True,
    ):
        print(f"{'  ' + name:40s} {value:6.1f} ms")


def print_parallel(path):
    archive = Archive(*simulate(path, 50, 200), path)
    archive.run()
    times = {1: [], 2: []}
    for _ in range(N_REPEAT):
        for n_jobs, values in times.items():
            values.append(archive.run(n_jobs)[1])
    one, two = (np.median(_) for _ in times.values())
    print(f"50 simulated targets, {N_SETS} sets: {one:.2f} s with one process,")
    print(f"{two:.2f} s with two, {one / two:.2f} times faster (aim: 1.7)")


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
mimic: {off: {datastore: off, index: index.fits}, n_sets: 5}
"""


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


if __name__ == "__main__":
    functions = (
        (print_memory,) if "memory" in sys.argv else (print_times, print_parallel)
    )
    for function in functions:
        with tempfile.TemporaryDirectory() as folder:
            function(Path(folder))
