"""Runs that are killed, and what they leave on the disk."""

import json
import logging
import multiprocessing
import os
import pathlib
import pickle
import re
import shutil
import signal
import sys
import tempfile
import warnings

import yaml
from astropy.io import fits

from gammapy_mimic.scripts.main import main

FORK = multiprocessing.get_context("fork")
CHANGES = [(pathlib.Path, _) for _ in ("rename", "replace", "rmdir", "unlink")]
CHANGES += [(shutil, "rmtree")]
"""Functions that rename, replace or remove something."""

CREATED = re.compile(rb"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d\.\d+| \d\d:\d\d UTC)")
"""Dates of a report and of its configuration."""

DATES = ("CREATED", "DATE", "CHECKSUM", "DATASUM")


def take_snapshot(path):
    """Content of all files, apart from dates and the place where they are."""
    files = sorted(_ for _ in path.rglob("*") if _.is_file())
    return {str(_.relative_to(path)): read_content(_) for _ in files}


def read_content(path):
    if path.name.endswith((".fits", ".fits.gz")):
        with fits.open(path, memmap=False) as hdu_list:
            return [
                (
                    [str(_) for _ in hdu.header.cards if _.keyword not in DATES],
                    None if hdu.data is None else hdu.data.tobytes(),
                )
                for hdu in hdu_list
            ]
    if path.parent.name == ".steps":
        record = json.loads(path.read_text())
        # the configuration has the date of the run, and files have times
        record.get("written", {}).pop("config.yaml", None)
        return {**record, "files": sorted(record.get("files", []))}
    if path.suffix == ".yaml":
        data = yaml.safe_load(path.read_text())
        for key in ("metadata", "checksum"):
            data.pop(key, None)
        return data
    content = path.read_bytes()
    return CREATED.sub(b"", content) if path.suffix == ".html" else content


def is_same(content, other):
    """Whether contents are the same to the bit."""
    return pickle.dumps(content) == pickle.dumps(other)


def run_and_kill(work, n_changes=None, delay=None):
    """Call a function in a process that is killed with SIGKILL, or not at all.

    Parameters
    ----------
    work : callable
        Function. It may start processes, which are not killed.
    n_changes : int, optional
        Number of changes on the disk before the one at which it is killed.
    delay : float, optional
        Time after which it is killed, in s.

    Returns
    -------
    n_changes : int
        Number of changes that were made.
    is_killed : bool
        Whether it was killed before it had ended.
    """
    counter = FORK.RawValue("i", 0)

    def watch(owner, name, main):
        function = getattr(owner, name)

        def watched(*args, **kwargs):
            # no lock, as who is killed would not give it back
            if counter.value == n_changes:
                os.kill(main, signal.SIGKILL)
            counter.value += 1
            return function(*args, **kwargs)

        setattr(owner, name, watched)

    def watched_work():
        for owner, name in CHANGES:
            watch(owner, name, os.getpid())
        work()

    process = FORK.Process(target=watched_work)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        process.start()
    process.join(delay)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return counter.value, process.exitcode != 0


def call_command(*args):
    """Call ``gammapy-mimic --quiet`` in a process of its own.

    Parameters
    ----------
    *args : object
        Arguments.

    Returns
    -------
    code : int
        Exit code.
    text : str
        What it has written to standard error.
    """
    with tempfile.TemporaryFile("w+") as file:

        def work():
            # not to what collects the output of a test
            logging.getLogger().handlers.clear()
            sys.stderr = file
            with open(os.devnull, "w") as sys.stdout:
                main(["--quiet", *map(str, args)])

        process = FORK.Process(target=work)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            process.start()
        process.join()
        file.seek(0)
        return process.exitcode, file.read()
