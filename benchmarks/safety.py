"""Runs that are killed, interrupted, started into one folder, or given bad inputs.

Run with ``python benchmarks/safety.py``, or with a number as the fraction of the cases
to try, such as 0.1. A small simulated analysis is killed at each change on the disk and
at random moments, with one process and with two; interrupted while it reads the gzip
files of H.E.S.S. DL3 DR1 (where they are in ``$GAMMAPY_DATA``); started twice into one
folder; and given files, index tables, configurations, plans and command lines that make
no sense. Laws of plans and of geometry are tried on drawn examples. The table has what
must not happen, and how often it did.
"""

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from gammapy.data import DataStore

# what is shared with the tests
sys.path.insert(0, str(Path(__file__).parents[1]))

from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.analysis.pipeline import run_pipeline
from gammapy_mimic.data import query_obs_table
from gammapy_mimic.simulate import make_irfs, simulate_datastore
from tests import faults
from tests.laws import LAWS
from tests.runs import (
    call_command,
    is_same,
    read_content,
    run_and_kill,
    take_snapshot,
)
from tests.test_nonsense import BAD

N_RANDOM, N_INTERRUPTS, N_OFFSETS, N_EXAMPLES = 50, 40, 10, 10_000
MAIN = "from gammapy_mimic.scripts.main import main; main()"
FIELD = {"target": SkyCoord(83.63, 22.01, unit="deg")}
CONFIG = """
general: {{outdir: {path}/out, n_jobs: {n_jobs}, log: {{level: error}}}}
observations: {{datastore: {targets}, obs_ids: {obs_ids}}}
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
mimic:
  off: {{datastore: {off}}}
  selection: {{criteria: {{livetime: null, airmass: null, galactic_latitude: null}}}}
  n_sets: {n_sets}
  random_state: {seed}
"""
DEFAULTS = {"targets": "targets", "off": "off", "obs_ids": [], "n_sets": 2}
DEFAULTS |= {"n_jobs": 1, "seed": 0}


def write_config(path, name="config.yaml", **options):
    """Write a configuration. Paths of stores are relative to the folder."""
    options = DEFAULTS | options
    for key in ("targets", "off"):
        options[key] = path / options[key]
    (path / name).write_text(CONFIG.format(path=path, **options))
    return path / name


def run(path):
    analysis = MimicAnalysis(MimicAnalysisConfig.read(path))
    run_pipeline(analysis, report=lambda text: None)


# ----------------------------------------------------------------------------- kills


def read_results(out):
    """Contents by result, without records and what is being written."""
    return {
        path.name: take_snapshot(path) if path.is_dir() else read_content(path)
        for path in out.glob("[!.]*")
    }


def try_kills(path, fraction):
    """Kill runs, and look at what they leave and at what the next run makes of it."""
    out, expected = path / "out", {}
    for n_jobs in (1, 2):
        work = partial(run, write_config(path, n_jobs=n_jobs))
        shutil.rmtree(out, ignore_errors=True)
        start = time.perf_counter()
        n_all, _ = run_and_kill(work)
        seconds = time.perf_counter() - start
        expected[n_jobs] = read_results(out), take_snapshot(out)
        changes = [{"n_changes": _} for _ in range(n_all)[:: round(1 / fraction)]]
        delays = np.random.default_rng(0).uniform(0, seconds, int(N_RANDOM * fraction))
        kinds = {
            "each change on the disk": changes,
            "a random moment": [{"delay": _} for _ in delays],
        }
        for kind, cases in kinds.items():
            found = Counter()
            for case in cases:
                kill(work, out, case)
                found += look_at(out, work, *expected[n_jobs])
            names = ["half-written", "not resumed", "left over", "other result"]
            yield f"killed at {kind}, n_jobs {n_jobs}", len(cases), names, found
    snapshots = [results for results, _ in expected.values()]
    # the configuration has the number of jobs
    for name in ("mimic_1", "mimic_2"):
        for snapshot in snapshots:
            del snapshot[name]["config.yaml"]
    one, two = snapshots
    names = {*one, *two} - {"report.html"}
    different = sum(not is_same(one.get(_), two.get(_)) for _ in names)
    yield "not killed, n_jobs 1 and 2", 2, ["other result"], {"other result": different}


def kill(work, out, case):
    """Kill a run, for sure."""
    is_killed = False
    while not is_killed:
        shutil.rmtree(out, ignore_errors=True)
        _, is_killed = run_and_kill(work, **case)
        # the machine was faster than before
        if "delay" in case:
            case = {"delay": 0.8 * case["delay"]}


def look_at(out, work, results, snapshot):
    """What is wrong with what a killed run left, and with that of the next run."""
    found, left = Counter(), read_results(out)
    found["half-written"] = sum(
        not is_same(content, results.get(name)) for name, content in left.items()
    )
    try:
        work()
    except Exception as error:
        print(error)
        found["not resumed"] += 1
        return found
    again = take_snapshot(out)
    found["left over"] = len({*os.listdir(out)} - {*results, ".steps"})
    found["left over"] += len({*again} - {*snapshot})
    found["other result"] = not is_same(again, snapshot)
    return found


# ------------------------------------------------------------------------ interrupts


def start_command(*args):
    """Start a command as a terminal does, which interrupts all of its processes."""
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, "-q", *map(str, args)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def try_interrupts(path, fraction):
    """Interrupt `make` while it reads, of which all observations have to come back."""
    hess = Path(os.environ.get("GAMMAPY_DATA", "")) / "hess-dl3-dr1"
    if not hess.exists():
        return
    table = DataStore.from_dir(hess).obs_table
    targets = query_obs_table(table, "TARGET_TAG == 'pks2155_flare'")["OBS_ID"][:2]
    out, found = path / "make", Counter()
    args = ["make", "--datastore", hess, "--outdir", out, "--overwrite"]
    args += ["--target-obs", ",".join(map(str, targets)), "--n-sets", 2]
    args += ["--off-query", "TARGET_NAME == 'Off data'"]
    delays = np.linspace(0, 0.9, int(N_INTERRUPTS * fraction))
    expected, plan = {}, "plan.ecsv"
    for idx, delay in enumerate(delays):
        n_jobs = 1 + idx % 2
        command = [*args, "--n-jobs", n_jobs]
        if n_jobs not in expected:
            shutil.rmtree(out, ignore_errors=True)
            process, begin = start_and_wait(command, out)
            assert process.wait() == 0
            expected[n_jobs] = take_snapshot(out), time.perf_counter() - begin
        snapshot, seconds = expected[n_jobs]
        code, text = interrupt(command, out, delay * seconds)
        # a process that had just been started may have said that it was stopped
        if code != 130 or text.split()[-1:] != ["Aborted."]:
            print(delay, n_jobs, code, text)
            found["not aborted"] += 1
        found["not resumed"] += start_command(*command).wait() != 0
        again = take_snapshot(out)
        found["lost"] += not is_same(again[plan], snapshot[plan])
        found["other result"] += not is_same(again, snapshot)
    names = ["not aborted", "not resumed", "lost", "other result"]
    yield "interrupted while gzip files are read", len(delays), names, found


def start_and_wait(args, out):
    """Start a command, and wait until it has begun to read. The time of that."""
    process = start_command(*args)
    while not (out / ".steps/lock").exists() and process.poll() is None:
        time.sleep(0.01)
    return process, time.perf_counter()


def interrupt(args, out, delay):
    """Interrupt a command after a time. Its exit code, and what it has said."""
    while True:
        shutil.rmtree(out, ignore_errors=True)
        process, _ = start_and_wait(args, out)
        time.sleep(delay)
        # before it has ended
        if (out / ".steps/lock").exists():
            os.killpg(process.pid, signal.SIGINT)
        text = process.communicate()[1]
        if process.returncode != 0:
            return process.returncode, text
        delay *= 0.9


# -------------------------------------------------------------------------- meetings


def try_meetings(path, fraction):
    """Start two runs into one folder, of which one has to give the result."""
    out, expected, configs = path / "out", {}, {}
    for seed in (0, 7):
        shutil.rmtree(out, ignore_errors=True)
        configs[seed] = write_config(path, f"{seed}.yaml", seed=seed)
        start = time.perf_counter()
        assert start_command("run", configs[seed]).wait() == 0
        seconds = time.perf_counter() - start
        expected[seed] = take_snapshot(out)
    for seeds in ((0, 0), (0, 7)):
        offsets = np.linspace(0, seconds, max(int(N_OFFSETS * fraction), 2))
        found = Counter()
        for offset in offsets:
            shutil.rmtree(out)
            runs = []
            for seed in seeds:
                runs.append(start_command("run", configs[seed]))
                time.sleep(offset if len(runs) == 1 else 0)
            errors = [_.communicate()[1] for _ in runs]
            found["no result"] += 0 not in [_.returncode for _ in runs]
            found["other error"] += any(_ and "is in use by" not in _ for _ in errors)
            # with other seeds, the second may follow when the first has ended
            snapshot = take_snapshot(out)
            found["mixed"] += not any(is_same(snapshot, expected[_]) for _ in seeds)
        names = ["no result", "other error", "mixed"]
        yield f"two runs into one folder, seeds {seeds}", len(offsets), names, found


# ------------------------------------------------------------------------ bad inputs


class Inputs:
    """Tries bad inputs, and counts what is not named.

    Parameters
    ----------
    path : `~pathlib.Path`
        Folder to work in.
    fraction : float
        Part of the cases to try.
    """

    def __init__(self, path, fraction):
        self.path, self.step = path, round(1 / fraction)
        irfs = partial(make_irfs, rate=0.05)
        simulate_datastore(path / "two", 2, irfs=irfs, targets=FIELD)
        self.off = simulate_datastore(path / "four", 4, irfs=irfs, first_obs_id=3)

    def choose(self, cases):
        return list(cases)[:: self.step]

    def clear(self):
        for name in ("out", "bad"):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def check(self, case, args, match, code=1):
        """What is wrong with the answer of a command to a bad input."""
        result, text = call_command(*args)
        found = Counter()
        found["traceback"] = "Traceback" in text
        found["silent"] = code != 0 and result == 0
        is_named = result in ({code} if code == 0 else {1, 2}) and bool(
            re.search(match, " ".join(text.split()))
        )
        found["not named"] = not (is_named or found["silent"] or found["traceback"])
        if +found:
            print(case, "|", match, "|", result, text[-1000:], flush=True)
        return +found

    def write_config(self, **options):
        defaults = {"targets": "two", "off": "four", "n_sets": 1}
        return write_config(self.path, **defaults | options)

    def spoil(self, fault):
        """Copy the OFF store, of which one observation gets a fault."""
        self.clear()
        if fault in faults.FAULTS:
            change, match = faults.FAULTS[fault]
            faults.spoil(self.off, self.path / "bad", change)
        elif fault in faults.NEEDED:
            match = fault
            faults.spoil(self.off, self.path / "bad", faults.NEEDED[fault])
        else:
            match = faults.BROKEN
            shutil.copytree(self.off.hdu_table.base_dir, self.path / "bad")
            faults.FILE_FAULTS[fault](self.path / "bad" / match)
        return match

    def try_files(self):
        """An observation as a target, in the pool, and as a partner by hand."""
        names = [*faults.FAULTS, *faults.NEEDED, *faults.FILE_FAULTS]
        found = {"target": Counter(), "in the pool": Counter(), "partner": Counter()}
        cases = self.choose(names)
        for fault in cases:
            match = self.spoil(fault)
            config = self.write_config(targets="bad", obs_ids=[5])
            found["target"] += self.check(fault, ["run", config], match)
            self.clear()
            self.spoil(fault)
            config = self.write_config(off="bad")
            found["in the pool"] += self.check(fault, ["run", config], match, code=0)
            plan = self.path / "out/plan.ecsv"
            lines = plan.read_text().splitlines()
            found["in the pool"]["silent"] += " 5 " in "".join(lines[-2:])
            lines = faults.set_word("OFF_OBS_ID", "5")(lines)
            plan.write_text("\n".join([*lines, ""]))
            found["partner"] += self.check(fault, ["run", config], match)
        for name, counts in found.items():
            yield f"files, {name}", len(cases), counts

    def try_index_tables(self):
        cases = self.choose(faults.STORE_FAULTS.items())
        found = Counter()
        for name, (change, match) in cases:
            self.clear()
            shutil.copytree(self.off.hdu_table.base_dir, self.path / "bad")
            change(self.path / "bad")
            args = ["run", self.write_config(off="bad")]
            found += self.check(name, args, match.format(path=self.path / "bad"))
        yield "index tables", len(cases), found

    def try_configurations(self):
        cases, found = self.choose(BAD), Counter()
        for text, match in cases:
            self.clear()
            path = self.path / "bad.yaml"
            path.write_text(text)
            match = f"{path}, line 1: .*{match}"
            found += self.check(text, ["run", path], match)
        yield "configurations", len(cases), found

    def try_plans(self):
        cases, found = self.choose(faults.PLAN_FAULTS.items()), Counter()
        self.clear()
        config, plan = self.write_config(), self.path / "out/plan.ecsv"
        assert call_command("run", config) == (0, "")
        lines = plan.read_text().splitlines()
        for name, (change, match) in cases:
            plan.write_text("\n".join([*change(lines), ""]))
            found += self.check(name, ["run", config], match)
        yield "plans", len(cases), found

    def try_commands(self):
        self.clear()
        data = [self.path / _ / "data" for _ in ("two", "four")]
        names = {
            "config": self.write_config(),
            "off": self.path / "four",
            "new": self.path / "new",
            "other": self.path / "other",
            "target": data[0] / "obs_id_000001.fits",
            "partner": data[1] / "obs_id_000005.fits",
        }
        cases, found = self.choose(faults.COMMAND_FAULTS.items()), Counter()
        for text, match in cases:
            args = [_.format(**names) for _ in text.split()]
            found += self.check(text, args, match.format(**names))
            made = [_ for _ in ("new", "other") if (self.path / _).exists()]
            found["silent"] += len(made)
        yield "command lines", len(cases), found


def try_inputs(path, fraction):
    """Give inputs that make no sense, of which each has to be an error with a name."""
    path = path / "inputs"
    path.mkdir()
    inputs = Inputs(path, fraction)
    names = ["traceback", "silent", "not named"]
    for function in (
        inputs.try_files,
        inputs.try_index_tables,
        inputs.try_configurations,
        inputs.try_plans,
        inputs.try_commands,
    ):
        for name, n_cases, found in function():
            yield f"bad inputs: {name}", n_cases, names, found


# ------------------------------------------------------------------------------ laws


def try_laws(path, fraction):
    """Try laws on drawn examples."""
    # of plans that have a target without partner
    logging.disable(logging.WARNING)
    try:
        for name, attempt in LAWS.items():
            number = int(N_EXAMPLES * fraction / len(LAWS))
            found = Counter()
            try:
                number = attempt(number)
            except Exception as error:
                print(error)
                found["broken"] = 1
            yield f"law of {name}", number, ["broken"], found
    finally:
        logging.disable(logging.NOTSET)


def measure(path, fraction=1.0):
    """Rows of the table: what was done, how often, what must not be, and its number."""
    # a process that was started in the background of a shell ignores interrupts
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    zenith = "40 deg", "50 deg"
    simulate_datastore(path / "targets", 2, targets=FIELD, zenith=zenith)
    simulate_datastore(path / "off", 8, first_obs_id=101, zenith=zenith)
    for function in (try_laws, try_inputs, try_meetings, try_interrupts, try_kills):
        for name, n_cases, names, found in function(path, fraction):
            yield name, n_cases, {key: found[key] for key in names}
    signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, n_cases, found in measure(Path(folder), *map(float, sys.argv[1:])):
            text = ", ".join(f"{number} {key}" for key, number in found.items())
            print(f"{name:45s} {n_cases:6d}  {text}", flush=True)
