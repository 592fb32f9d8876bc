"""Runs that meet, stop and go on."""
# ruff: noqa: F401, F811

import contextlib
import multiprocessing
import os
import pathlib
import resource
import runpy
import shutil
import signal
import socket
import time
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from gammapy.data import DataStore

from gammapy_mimic.analysis import MimicAnalysis
from gammapy_mimic.analysis.pipeline import run_pipeline
from gammapy_mimic.selection import MimicPlan
from gammapy_mimic.utils import locks
from gammapy_mimic.utils.files import replace_file, replace_folder
from gammapy_mimic.utils.records import StepRecords

from .faults import PLAN_WORDS
from .test_pipeline import (
    again,
    assert_same_results,
    config,
    edit_plan,
    finished,
    get_out,
    run,
    touch,
)
from .test_scripts import run as run_command
from .test_scripts import store

FORK = multiprocessing.get_context("fork")


def start(function):
    """Start a function in a process of its own, and wait until it has begun.

    It gets a function to call when it has.
    """
    begun = FORK.Event()
    process = FORK.Process(target=function, args=(begun.set,))
    with warnings.catch_warnings(action="ignore"):
        process.start()
    assert begun.wait(10)
    return process


@contextlib.contextmanager
def other_run(out):
    """Another run in a folder."""

    def work(begin):
        with StepRecords(out).lock():
            begin()
            time.sleep(60)

    process = start(work)
    yield process
    process.kill()
    process.join()


# ----------------------------------------------------------------------------- locks


def test_second_run_says_who_is_there(config, tmp_path, capsys):
    out = get_out(config)
    with other_run(out) as process:
        match = f"out is in use by process {process.pid} on {socket.gethostname()}, s"
        with pytest.raises(BlockingIOError, match=match):
            run(config)
        assert run_command("demo", "--outdir", out) == 1
        assert match in capsys.readouterr().err
    with StepRecords(out).lock():
        pass
    assert list(out.iterdir()) == []


def test_commands_with_an_outdir_are_refused(store, tmp_path, capsys):
    """At once, before anything is read."""
    selection = ("--target-obs", "1,2", "--off-query", "OBS_ID > 100")
    args = ("--datastore", store, *selection, "--outdir", tmp_path)
    with other_run(tmp_path):
        for name in ("make", "rank"):
            assert run_command(name, *args) == 1
            assert f"{tmp_path} is in use by process" in capsys.readouterr().err
    lock = locks.acquire(tmp_path.with_name(f".{tmp_path.name}-lock"))
    assert run_command("background", *args) == 1
    assert f"{tmp_path} is in use by" in capsys.readouterr().err
    locks.release(lock)


def test_lock_goes_with_the_process(tmp_path):
    """Not with one that it has started."""

    def work(begin):
        with StepRecords(tmp_path).lock():
            start(lambda begin: (begin(), time.sleep(2)))
            begin()
            time.sleep(60)

    process = start(work)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / ".steps/lock").exists()
    with StepRecords(tmp_path).lock(), StepRecords(tmp_path).lock():
        assert str(os.getpid()) in (tmp_path / ".steps/lock").read_text()
    assert list(tmp_path.iterdir()) == []


def test_lock_of_another_host_is_not_taken_over(tmp_path):
    (tmp_path / ".steps").mkdir()
    path = tmp_path / ".steps/lock"
    path.write_text("elsewhere 7 2024-01-01T00:00:00")
    match = "in use by process 7 on elsewhere, .* remove .*steps/lock, or"
    with pytest.raises(BlockingIOError, match=match), StepRecords(tmp_path).lock():
        pass
    assert path.read_text() == "elsewhere 7 2024-01-01T00:00:00"
    path.unlink()
    path.symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(OSError, match="symbolic"), StepRecords(tmp_path).lock():
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_without_locks_of_the_operating_system(tmp_path, monkeypatch):
    """A lock file stays where a run was killed, and what it has left stays, too."""
    monkeypatch.setattr(locks, "fcntl", None)
    with StepRecords(tmp_path).lock():
        pass
    assert list(tmp_path.iterdir()) == []
    with other_run(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    match = f"process {process.pid} .* as far as can be seen from here. If that has"
    with pytest.raises(BlockingIOError, match=match), StepRecords(tmp_path).lock():
        pass


@pytest.mark.parametrize("is_folder", [True, False])
def test_leftovers(tmp_path, is_folder):
    """They go when the process that made them is dead, wherever they are."""
    path = tmp_path / ("mimic_9" if is_folder else "kl_12.ecsv")

    def work(begin):
        with (replace_folder if is_folder else replace_file)(path) as temporary:
            if is_folder:
                (temporary / "events.fits").write_text("events")
            begin()
            time.sleep(60)

    process = start(work)
    (left,) = tmp_path.iterdir()
    with StepRecords(tmp_path).lock():
        assert left.exists()
    process.terminate()
    process.join()
    with StepRecords(tmp_path).lock():
        assert not left.exists()
    assert list(tmp_path.iterdir()) == []


def test_writing_removes_leftovers(tmp_path):
    path = tmp_path / "index.fits"

    def work(begin):
        with replace_file(path):
            begin()
            time.sleep(60)

    process = start(work)
    process.kill()
    process.join()
    assert len(list(tmp_path.iterdir())) == 1
    with replace_file(path) as temporary:
        temporary.write_text("new")
    assert list(tmp_path.iterdir()) == [path]


# ----------------------------------------------------------------------------- edits


def write_text(out, text):
    """Step that makes a file that can be edited."""
    records = StepRecords(out)
    with records.lock(), records.step("config", text):
        records.write_editable("config", "config.yaml", lambda _: _.write_text(text))


@pytest.mark.parametrize("n_changes", range(4))
@pytest.mark.parametrize("is_edited", [True, False])
def test_killed_while_a_file_is_written_that_can_be_edited(
    tmp_path, n_changes, is_edited
):
    """No edit is invented, and none is lost."""
    write_text(tmp_path, "first")

    def work(begin):
        begin()
        done, replace = [], pathlib.Path.replace

        def watched(*args):
            if len(done) == n_changes:
                os.kill(os.getpid(), signal.SIGKILL)
            done.append(args)
            return replace(*args)

        pathlib.Path.replace = watched
        write_text(tmp_path, "second")

    process = start(work)
    process.join()
    # record, record, file, record
    assert process.exitcode == -signal.SIGKILL
    text = (tmp_path / "config.yaml").read_text()
    assert text == ("second" if n_changes == 3 else "first")
    if is_edited:
        (tmp_path / "config.yaml").write_text("mine")
    write_text(tmp_path, "third")
    kept = [_.read_text() for _ in tmp_path.glob("config_edited_*")]
    assert kept == ["mine"] * is_edited
    assert (tmp_path / "config.yaml").read_text() == "third"
    names = {_.name for _ in tmp_path.rglob("*") if "edited" not in _.name}
    assert names == {"config.yaml", ".steps", "config.json"}


@pytest.mark.parametrize(("column", "value"), PLAN_WORDS)
def test_row_of_a_plan_that_is_not_valid(tmp_path, column, value):
    path = tmp_path / "plan.ecsv"
    plan = MimicPlan(Table({"OBS_ID": [1, 2], "OFF_OBS_ID": [101, 102]}))
    plan.write(path)
    lines = path.read_text().splitlines()
    words = lines[-1].split()
    words[plan.table.colnames.index(column)] = value
    path.write_text("\n".join([*lines[:-1], " ".join(words)]))
    with pytest.raises(ValueError, match=f"^row 2, {column}: "):
        MimicPlan.read(path, obs_ids=[1, 2], off_obs_ids=[101, 102])


@pytest.mark.slow
def test_missing_rows_are_said(again):
    path = get_out(again) / "plan.ecsv"
    table = Table.read(path)
    table[(table["MIMIC_SET"] == 1) | (table["OBS_ID"] == 1)].write(
        path, overwrite=True
    )
    lines = []
    run_pipeline(MimicAnalysis(again), report=lines.append)
    assert lines[1] == "Mimic set 2: no row in the plan for OBS_ID 2"
    assert DataStore.from_dir(get_out(again) / "mimic_2").obs_ids.tolist() == [1]


# ------------------------------------------------------------------------ up to date


@pytest.mark.slow
def test_files_are_looked_at(again, finished):
    out = get_out(again)
    events = sorted((out / "mimic_1/data").iterdir())[0]
    events.unlink()
    dataset = out / "datasets_mimic_2/datasets.yaml"
    dataset.write_text(dataset.read_text()[:20])
    assert run(again) == ["mimic_1", "datasets_mimic_2"]
    (out / "kl/kl_1.ecsv").unlink()
    touch(out / "systematics.fits")
    assert run(again) == ["plan", "systematics"]
    assert run(again) == []
    assert_same_results(out, finished / "out")


@pytest.mark.slow
def test_edited_plan_stays_if_a_ranking_is_made_again(again):
    edit_plan(again)
    content = (get_out(again) / "plan.ecsv").read_bytes()
    run(again)
    (get_out(again) / "kl/kl_1.ecsv").unlink()
    assert run(again) == ["plan"]
    assert (get_out(again) / "plan.ecsv").read_bytes() == content


@pytest.mark.slow
def test_force_a_step(again):
    assert run(again, force=["mimic_1", "report"]) == ["mimic_1", "report"]
    match = "no step 'mimic_3' to do again. Choose from all, datasets, datasets_mimic_1"
    with pytest.raises(ValueError, match=match):
        run(again, force=["mimic_3"])


@pytest.mark.slow
def test_order_of_the_targets_does_not_matter(again):
    again.observations.obs_ids = again.observations.obs_ids[::-1]
    assert run(again) == []


@pytest.mark.slow
def test_file_that_was_left_out_is_looked_at_again(again, tmp_path):
    """Nothing but its content tells that it was repaired."""
    shutil.copytree(again.mimic.off.datastore, tmp_path / "off")
    again.mimic.off.datastore = tmp_path / "off"
    again.mimic.n_sets = 1
    table = DataStore.from_dir(tmp_path / "off").hdu_table
    path = table.location_info(0).path()
    content, stat = path.read_bytes(), path.stat()

    def write(text):
        path.write_bytes(text)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    with fits.open(path) as hdu_list:
        idx = hdu_list["EVENTS"]._data_offset
    write(content[: idx + 100] + b"\xff" * (len(content) - idx - 100))
    run(again)
    nothing = ["mimic.n_sets is 1"]
    assert run(again) == nothing
    write(content)
    assert "plan" in run(again)
    assert run(again) == nothing


# ------------------------------------------------------------------------------ disk


def test_no_permission_names_the_file():
    plan = MimicPlan(Table({"OBS_ID": [1], "OFF_OBS_ID": [2]}))
    with pytest.raises(OSError, match="/proc/plan.ecsv|/proc/.plan.ecsv"):
        plan.write("/proc/plan.ecsv")


@pytest.mark.parametrize("is_fits", [True, False])
def test_full_disk_names_the_file(tmp_path, is_fits):
    path = tmp_path / ("table.fits" if is_fits else "plan.ecsv")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def write():
        with replace_file(path) as temporary:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            if is_fits:
                fits.PrimaryHDU(np.zeros(10_000)).writeto(temporary)
            else:
                temporary.write_text("text" * 1000)

    try:
        with pytest.raises(OSError, match=f"^{path} cannot be written: .*too large"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_benchmark(tmp_path):
    path = pathlib.Path(__file__).parents[1] / "benchmarks/safety.py"
    with warnings.catch_warnings(action="ignore"):
        rows = list(runpy.run_path(str(path))["measure"](tmp_path, 0.1))
    assert [(name, found) for name, _, found in rows if any(found.values())] == []
