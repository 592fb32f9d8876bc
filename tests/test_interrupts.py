"""Ctrl-C is never taken for a broken file, nor a broken file for Ctrl-C."""
# ruff: noqa: PT012

import contextlib
import gzip
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import numpy as np
import pytest
from astropy.table import Table
from gammapy.data import DataStore

from gammapy_mimic.data import find_broken_files
from gammapy_mimic.scripts import main as main_module
from gammapy_mimic.scripts.main import main
from gammapy_mimic.selection import OffIndex
from gammapy_mimic.utils.interrupts import delay_interrupts, note_interrupts
from gammapy_mimic.utils.parallel import run_parallel

N_TRIES = 5


@pytest.fixture(autouse=True)
def take_interrupts():
    """As a command does that was not started in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def interrupt(delay):
    """Send SIGINT after a while, and wait until it was sent."""

    def send():
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            thread.join()
            time.sleep(0)


@pytest.fixture(scope="module")
def packed(stores, tmp_path_factory):
    """Store whose events are in gzip files that take some time to read."""
    path = tmp_path_factory.mktemp("packed")
    store = stores["off"]
    rng = np.random.default_rng(0)
    rows = []
    for obs_id in store.obs_ids[:3]:
        observation = store.obs(obs_id)
        table = observation.events.table
        table = table[np.sort(rng.integers(len(table), size=60_000))]
        observation = observation.copy(
            in_memory=True, events=type(observation.events)(table)
        )
        name = f"obs_{obs_id}.fits.gz"
        observation.write(path / name, include_irfs=False)
        rows += [
            (obs_id, hdu, hdu, ".", name, hdu.upper(), 0, 0)
            for hdu in ("events", "gti")
        ]
    names = ["OBS_ID", "HDU_TYPE", "HDU_CLASS", "FILE_DIR", "FILE_NAME", "HDU_NAME"]
    names += ["SIZE", "N"]
    table = Table(rows=rows, names=names, meta={"EXTNAME": "HDU_INDEX"})
    table.write(path / "hdu-index.fits.gz")
    table = store.obs_table[:3]
    table.write(path / "obs-index.fits.gz")
    return DataStore.from_dir(path)


READERS = {
    "check": lambda store: len(find_broken_files(store, store.obs_ids)),
    "index": lambda store: len(OffIndex.create(store).broken),
}


@pytest.mark.parametrize("name", READERS)
def test_interrupt_while_gzip_files_are_read(packed, name):
    read = READERS[name]
    start = time.perf_counter()
    assert read(packed) == 0
    seconds = time.perf_counter() - start
    results = []
    for delay in np.linspace(0.05, 0.7, N_TRIES) * seconds:
        # one that comes between the end of reading and that of the sender is too late
        with contextlib.suppress(KeyboardInterrupt), interrupt(delay):
            try:
                results.append(read(packed))
            except KeyboardInterrupt:
                results.append("interrupted")
    # a machine that is busy may be done before
    assert set(results) <= {"interrupted", 0}
    assert results.count("interrupted") > N_TRIES / 2


def test_interrupt_waits_for_the_end_but_a_second_one_does_not():
    done = []
    with pytest.raises(KeyboardInterrupt), delay_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        done.append(1)
        raise OSError("CRC check failed")
    with pytest.raises(KeyboardInterrupt), delay_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        done.append(2)
        os.kill(os.getpid(), signal.SIGINT)
        done.append(3)
    assert done == [1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def interrupt_both(parent, number):
    """As a terminal does, which interrupts all processes of a command."""
    for process in (os.getpid(), parent) if number == 1 else ():
        os.kill(process, signal.SIGINT)
    time.sleep(0.1)
    return number


PROCESSES = """
import os, signal, sys
from gammapy_mimic.utils.parallel import run_parallel
from tests.test_interrupts import interrupt_both

signal.signal(signal.SIGINT, {handler})
inputs = [(os.getpid(), number) for number in range(4)]
try:
    print(run_parallel(interrupt_both, inputs, n_jobs=2))
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("signal.SIG_IGN", "[0, 1, 2, 3]"),
        ("signal.default_int_handler", "interrupted"),
    ],
)
def test_processes_that_are_interrupted(handler, expected):
    """No task is lost, and the process that started them gets the interrupt."""
    result = subprocess.run(
        [sys.executable, "-c", PROCESSES.format(handler=handler)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout.strip() == expected, result.stderr


@pytest.mark.parametrize("error", [OSError("CRC check failed"), None])
def test_command_that_is_interrupted(monkeypatch, capsys, error):
    """Whatever the interrupt was turned into."""

    def work(**kwargs):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        if error is not None:
            raise error

    monkeypatch.setattr(main_module.cli, "main", work)
    with pytest.raises(SystemExit) as caught:
        main(["run", "config.yaml"])
    assert caught.value.code == 130
    assert capsys.readouterr().err == "Aborted.\n"


def read_all(path):
    with gzip.open(path) as file:
        return file.read()


def test_compressed_file_that_is_cut_is_no_interrupt(tmp_path, monkeypatch, capsys):
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(b"events" * 1000)[:-5])
    command = click.Command("cut", callback=lambda: read_all(path))
    monkeypatch.setattr(main_module.Commands, "get_command", lambda *args: command)
    with pytest.raises(SystemExit) as caught:
        main(["cut"])
    assert caught.value.code == 1
    assert "Error: Compressed file ended before" in capsys.readouterr().err


LOST = """
import os, signal
from gammapy_mimic.utils.interrupts import note_interrupts
from gammapy_mimic.utils.parallel import run_parallel

def interrupt():
    if not sent:
        sent.append(1)
        os.kill(os.getpid(), signal.SIGINT)

sent = []
signal.signal(signal.SIGINT, signal.default_int_handler)
os.register_at_fork(after_in_parent=interrupt)
with note_interrupts():
    try:
        print(run_parallel(abs, [(1,), (2,)], n_jobs=2))
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.slow
def test_interrupt_while_a_process_is_started():
    """What is raised there is lost: Python prints it, and goes on."""
    result = subprocess.run(
        [sys.executable, "-c", LOST],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.stdout.strip(), result.stderr) == ("interrupted", "")


class Loses:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)


def test_interrupt_that_is_lost(capsys):
    with pytest.raises(KeyboardInterrupt), note_interrupts() as received:
        Loses()
        received.append("here")
        run_parallel(received.append, [("too far",)], n_jobs=1)
    assert received[1:] == ["here"]
    assert capsys.readouterr().err == ""
    # an interrupt is one of the block in which it came
    assert run_parallel(abs, [(-1,)], n_jobs=1) == [1]


def get_handler(number):
    return signal.getsignal(signal.SIGINT)


@pytest.mark.parametrize("backend", [None, "multiprocessing"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_processes_of_a_pool_ignore_interrupts(backend):
    """That of the terminal, which the process that started them gets, too."""
    inputs = [(1,), (2,)]
    handlers = run_parallel(get_handler, inputs, n_jobs=2, parallel_backend=backend)
    assert handlers == [signal.SIG_IGN] * 2


KILLED = """
import os, signal, time
from gammapy_mimic.utils.parallel import run_parallel

def work(number):
    # at once, so that two lines are not mixed
    os.write(1, f"{os.getpid()}\\n".encode())
    open(str(number), "w").close()
    if number == 1:
        # the other one has begun, too
        while not os.path.exists("0"):
            time.sleep(0.01)
        os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)

run_parallel(work, [(0,), (1,)], n_jobs=2)
"""


def test_processes_end_with_that_which_started_them(tmp_path):
    """Also if it is killed. They waited for ever, and held its output open."""
    process = subprocess.run(
        [sys.executable, "-c", KILLED],
        capture_output=True,
        text=True,
        timeout=25,
        cwd=tmp_path,
    )
    assert process.returncode == -signal.SIGKILL
    assert len(process.stdout.split()) == 2
