"""Runs that are killed, interrupted, or started into one folder.

Run with ``python benchmarks/safety.py``, or with a number as the fraction of the cases
to try, such as 0.1. A small simulated analysis is killed at each rename, replacement
and removal and at random moments, with one process and with two; interrupted while it
reads the gzip files of H.E.S.S. DL3 DR1 (where they are in ``$GAMMAPY_DATA``); and
started twice into one folder. The table counts the runs, and those that went wrong.
"""

import hashlib
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from gammapy.data import DataStore

from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.analysis.pipeline import run_pipeline
from gammapy_mimic.data import query_obs_table
from gammapy_mimic.simulate import simulate_datastore

N_RANDOM, N_INTERRUPTS, N_OFFSETS = 50, 40, 10
FORK = multiprocessing.get_context("fork")
MAIN = "from gammapy_mimic.scripts.main import main; main()"
FIELD = {"target": SkyCoord(83.63, 22.01, unit="deg")}
CONFIG = """
general: {{outdir: {path}/out, n_jobs: {n_jobs}, log: {{level: error}}}}
observations: {{datastore: {path}/targets}}
datasets:
  type: 3d
  map_selection: [counts, background]
  geom:
    wcs:
      skydir: {{frame: icrs, lon: 83.63 deg, lat: 22.01 deg}}
      width: {{width: 4 deg, height: 4 deg}}
      binsize: 0.2 deg
    axes:
      energy: {{min: 1 TeV, max: 10 TeV, nbins: 1}}
      energy_true: {{min: 0.5 TeV, max: 20 TeV, nbins: 3}}
  background: {{method: fov_background, parameters: {{method: scale}}}}
  safe_mask: {{methods: [offset-max], parameters: {{offset_max: 2 deg}}}}
mimic: {{off: {{datastore: {path}/off}}, n_sets: 2, random_state: {seed}}}
"""


def make_config(path, n_jobs=1, seed=0):
    text = CONFIG.format(path=path, n_jobs=n_jobs, seed=seed)
    return MimicAnalysisConfig.from_yaml(text)


def run(config):
    run_pipeline(MimicAnalysis(config), report=lambda text: None)


def take_hashes(out):
    """Hash of the data of each file, without dates and times."""
    hashes = {}
    for path in sorted(out.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(out))
            hashes[name] = hashlib.sha256(read_content(path)).hexdigest()
    return hashes


def read_content(path):
    if path.name.endswith((".fits", ".fits.gz")):
        with fits.open(path, memmap=False) as hdus:
            return b"".join(b"" if _.data is None else _.data.tobytes() for _ in hdus)
    if path.parent.name == ".steps":
        record = json.loads(path.read_text())
        return repr((record["checksum"], sorted(record["files"]))).encode()
    # both have the date of the run, the configuration has the number of jobs
    return b"" if path.suffix in (".yaml", ".html") else path.read_bytes()


def run_and_kill(config, n_changes=None, delay=None):
    """Kill a run before a change on the disk, or after a time. Number of changes."""
    counter = FORK.Value("i", 0)

    def watch(owner, name):
        function = getattr(owner, name)

        def watched(*args, **kwargs):
            if counter.value == n_changes:
                os.kill(os.getpid(), signal.SIGKILL)
            counter.value += 1
            return function(*args, **kwargs)

        setattr(owner, name, watched)

    def work():
        for name in ("rename", "replace", "unlink"):
            watch(pathlib.Path, name)
        watch(shutil, "rmtree")
        run(config)

    process = FORK.Process(target=work)
    process.start()
    process.join(delay)
    process.kill()
    process.join()
    return counter.value


def try_kills(path, fraction):
    """Runs that were killed, and what the next run made of it."""
    out = path / "out"
    run(make_config(path))
    expected = take_hashes(out)
    for n_jobs in (1, 2):
        config = make_config(path, n_jobs)
        shutil.rmtree(out)
        start = time.perf_counter()
        n_all = run_and_kill(config)
        seconds = time.perf_counter() - start
        changes = np.arange(n_all)[:: int(1 / fraction)].tolist()
        delays = np.random.default_rng(0).uniform(0, seconds, int(N_RANDOM * fraction))
        kinds = {
            "change of the disk": [{"n_changes": _} for _ in changes],
            "random moment": [{"delay": _} for _ in delays],
        }
        for kind, cases in kinds.items():
            failed = different = 0
            for case in cases:
                shutil.rmtree(out, ignore_errors=True)
                run_and_kill(config, **case)
                try:
                    run(config)
                except Exception as error:
                    print(case, error)
                    failed += 1
                else:
                    different += take_hashes(out) != expected
            yield f"killed at a {kind}, n_jobs {n_jobs}", len(cases), failed, different


def call(*args):
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, "-q", *map(str, args)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def try_interrupts(path, fraction):
    """Interrupts of `make`, from which all observations have to come back."""
    hess = Path(os.environ.get("GAMMAPY_DATA", "")) / "hess-dl3-dr1"
    if not hess.exists():
        return
    table = DataStore.from_dir(hess).obs_table
    targets = query_obs_table(table, "TARGET_TAG == 'pks2155_flare'")["OBS_ID"][:2]
    out = path / "make"
    args = ["make", "--datastore", hess, "--outdir", out, "--overwrite"]
    args += ["--target-obs", ",".join(map(str, targets)), "--n-sets", 2]
    args += ["--off-query", "TARGET_NAME == 'Off data'"]
    start = time.perf_counter()
    assert call(*args).wait() == 0
    seconds = time.perf_counter() - start
    expected = (out / "plan.ecsv").read_bytes()
    delays = np.linspace(0.2, 0.9, int(N_INTERRUPTS * fraction)) * seconds
    lost = wrong = 0
    for delay in delays:
        shutil.rmtree(out)
        process = call(*args)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        text = process.communicate()[1]
        # before Python has begun, or when it ends
        is_outside = process.returncode == -signal.SIGINT
        is_told = process.returncode == 130 and text.strip() == "Aborted."
        wrong += not (is_told or is_outside or process.returncode == 0)
        assert call(*args).wait() == 0
        lost += (out / "plan.ecsv").read_bytes() != expected
    yield "interrupted while gzip files are read", len(delays), wrong, lost


def try_meetings(path, fraction):
    """Two runs into one folder, of which one has to give the result."""
    out, expected = path / "out", {}
    for seed in (0, 7):
        shutil.rmtree(out, ignore_errors=True)
        make_config(path, seed=seed).write(path / f"{seed}.yaml", overwrite=True)
        start = time.perf_counter()
        assert call("run", path / f"{seed}.yaml").wait() == 0
        seconds = time.perf_counter() - start
        expected[seed] = take_hashes(out)
    for seeds in ((0, 0), (0, 7)):
        offsets = np.linspace(0, seconds, max(int(N_OFFSETS * fraction), 2))
        failed = mixed = 0
        for offset in offsets:
            shutil.rmtree(out)
            runs = []
            for seed in seeds:
                runs.append(call("run", path / f"{seed}.yaml"))
                time.sleep(offset if len(runs) == 1 else 0)
            errors = [_.communicate()[1] for _ in runs]
            codes = [_.returncode for _ in runs]
            failed += 0 not in codes
            failed += any(_ and "is in use by" not in _ for _ in errors)
            # with other seeds, the second may follow when the first has ended
            mixed += take_hashes(out) not in [expected[_] for _ in seeds]
        yield f"two runs, seeds {seeds}", len(offsets), failed, mixed


def measure(path, fraction=1.0):
    """Rows of the table: what was done, how often, errors, and wrong results."""
    zenith = "40 deg", "50 deg"
    simulate_datastore(path / "targets", 2, targets=FIELD, zenith=zenith)
    simulate_datastore(path / "off", 8, first_obs_id=101, zenith=zenith)
    for function in (try_kills, try_interrupts, try_meetings):
        yield from function(path, fraction)


if __name__ == "__main__":
    print(f"{'':50s} {'runs':>6s} {'errors':>6s} {'wrong':>6s}")
    with tempfile.TemporaryDirectory() as folder:
        for name, *numbers in measure(Path(folder), *map(float, sys.argv[1:])):
            print(f"{name:50s}" + "".join(f" {_:6d}" for _ in numbers), flush=True)
