"""Records of the steps that are finished in a folder, and of what they made there.

Only what a record says is replaced or removed, if it is inside the folder, under the
name that the step gives it, and if nothing was put into it
(`gammapy_mimic.utils.files`).
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import time

from gammapy.utils.scripts import make_path

from .files import check_own, find_leftovers, remove_leftovers, remove_own, replace_file
from .locks import hold

__all__ = ["StepRecords"]

log = logging.getLogger(__name__)

FOLDER, LOCK = ".steps", "lock"
WAIT = 0.5  # s, after which a lock is tried again
OUTPUTS = {
    "config": ("config.yaml",),
    "datasets": ("datasets",),
    "off": ("off",),
    "plan": ("plan.ecsv", "questionable.ecsv", "kl", "exclusion.reg"),
    "rank": ("kl_matrix.png",),
    "regions": ("regions.reg",),
    "report": ("report.html", "report_files"),
    "systematics": ("systematics.fits",),
    "targets": ("targets",),
    "templates": ("templates.ecsv",),
}
NUMBERED_OUTPUTS = {
    "datasets_mimic": ("datasets_mimic_{}",),
    "kl": ("kl_{}.ecsv", "kl_{}.png"),
    "mimic": ("mimic_{}",),
}
"""Files and folders by step, and by step of a mimic set or observation."""

EDITABLE = {"config.yaml", "plan.ecsv"}
"""Files that a user may change."""


class StepRecords:
    """Records of the steps that are finished in a folder.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Folder of the results.
    force : list of str, optional
        Names of the steps not to take as finished, "all" for all. Default is none.

    Raises
    ------
    FileExistsError
        If something else has the name of the folder of the records.
    """

    def __init__(self, path, force=()):
        self.path = make_path(path)
        self.force = set(force)
        self._is_new = not self.path.exists()
        folder = self.path / FOLDER
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise FileExistsError(
                f"{folder} is not a folder. Choose another outdir, or remove it "
                "yourself."
            )

    @contextlib.contextmanager
    def lock(self, waits=False):
        """Keep other runs out of the folder, and tidy up after a killed one.

        Folders without any content are removed in the end.

        Parameters
        ----------
        waits : bool, optional
            Whether to wait for the end of another run. Default is False.

        Raises
        ------
        BlockingIOError
            If another run is in the folder, and is not waited for.
        """
        folder = self.path / FOLDER
        try:
            with self._hold(LOCK, waits):
                for name in find_leftovers(self.path):
                    if _is_output(name):
                        remove_leftovers(self.path / name)
                for name in find_leftovers(folder):
                    if _get_outputs(name.removesuffix(".json")):
                        remove_leftovers(folder / name)
                yield
        finally:
            # not a folder that is not empty, or that the user has made
            with contextlib.suppress(OSError):
                folder.rmdir()
                if self._is_new:
                    self.path.rmdir()

    @contextlib.contextmanager
    def _hold(self, name, waits):
        while True:
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(hold(self.path / FOLDER / name, self.path))
                except BlockingIOError as error:
                    if not waits:
                        raise
                    log.info(f"Waiting: {error}")
                else:
                    yield
                    return
            time.sleep(WAIT)

    @contextlib.contextmanager
    def lock_parts(self, numbers):
        """Keep other runs out of some mimic sets, also when `lock` is given back.

        Parameters
        ----------
        numbers : list of int
            Mimic sets.

        Raises
        ------
        BlockingIOError
            If another run makes one of them.
        """
        with contextlib.ExitStack() as stack:
            for number in numbers:
                path = self.path / FOLDER / f"{LOCK}_{number}"
                stack.enter_context(hold(path, f"Mimic set {number} of {self.path}"))
            yield

    def check_parts(self):
        """Raise an error if another run makes a mimic set, see `lock_parts`.

        Raises
        ------
        BlockingIOError
            If there is one.
        """
        for path in sorted((self.path / FOLDER).glob(f"{LOCK}_*")):
            number = path.name.removeprefix(f"{LOCK}_")
            if number.isdecimal():
                with self.lock_parts([number]):
                    pass

    @property
    def is_empty(self):
        """Whether there is nothing in the folder, apart from the lock (bool)."""
        folder = self.path / FOLDER
        names = {
            *os.listdir(self.path),
            *(os.listdir(folder) if folder.is_dir() else ()),
        }
        return names <= {FOLDER, LOCK}

    def is_done(self, name, checksum):
        """Whether a step is finished.

        Parameters
        ----------
        name : str
            Name of the step.
        checksum : str
            Hash of what its result depends on.

        Returns
        -------
        is_done : bool
            Whether that is the same as before, and the files of the result are there,
            with the same sizes and times.
        """
        if not self.is_same(name, checksum):
            return False
        record = self.read(name)
        return record.get("files") == self._list_files(record["outputs"])

    @contextlib.contextmanager
    def reading(self, names):
        """Read what steps have made, which nothing else may change meanwhile.

        Parameters
        ----------
        names : list of str
            Names of the steps, which are finished.

        Raises
        ------
        OSError
            If a file is not there, or has another size or time than when its step had
            finished, before or after the block, whatever the block raised.
        """
        self._check_unchanged(names)
        try:
            yield
        finally:
            # what was changed may be why it could not be read
            self._check_unchanged(names)

    def _check_unchanged(self, names):
        for record in map(self.read, names):
            known = record.get("files", {})
            files = self._list_files(record.get("outputs", []))
            for file in sorted({*known, *files}):
                # None is one that may be edited
                if known.get(file, 0) != files.get(file, 0):
                    raise OSError(
                        f"{self.path / file} was changed by something else since it "
                        "was written by this run. Run it again, and it is made anew."
                    )

    def is_same(self, name, checksum):
        """Whether a step would do again what it has done, see `is_done`."""
        is_forced = bool(self.force & {name, "all"})
        return not is_forced and self.read(name).get("checksum") == checksum

    def _list_files(self, outputs):
        """Size and time (ns) of files, None for those that may be edited."""
        files = {}
        for output in outputs:
            path = self.path / output
            for file in path.rglob("*") if path.is_dir() else [path]:
                if file.is_file() and not file.is_dir():
                    stat = file.stat()
                    is_edited = file.name in EDITABLE and file.parent == self.path
                    files[file.relative_to(self.path).as_posix()] = (
                        None if is_edited else [stat.st_size, stat.st_mtime_ns]
                    )
        return files

    def check(self, names):
        """Raise an error if steps would replace something that is not theirs.

        Parameters
        ----------
        names : list of str
            Names of the steps.

        Raises
        ------
        FileExistsError
            If what a step makes is there and not from an earlier run, is a link, or
            holds other files.
        """
        for name in names:
            known = self.read(name).get("outputs", [])
            for path in (self.path / _ for _ in _get_outputs(name)):
                if os.path.lexists(path) and path.name not in known:
                    raise FileExistsError(
                        f"{path} is not from an earlier run and would be replaced. "
                        "Choose another outdir, or remove it yourself."
                    )
                check_own(path)

    @contextlib.contextmanager
    def step(self, name, checksum=None, outputs=None):
        """Record a step, when its block has ended without an error.

        After an error, nothing is left of a step that has made nothing.

        Parameters
        ----------
        name : str
            Name of the step.
        checksum : str, optional
            As for `is_done`. Default is none, for a step that is never finished.
        outputs : list of str, optional
            Files and folders that the step makes. Default are all that it may make.

        Yields
        ------
        record : dict
            Gets more to be recorded, maybe another checksum.

        Raises
        ------
        FileExistsError
            As `check`.
        """
        self.check([name])
        if outputs is not None:
            # of other settings, and nobody's once they are not recorded any more
            for output in set(self.read(name).get("outputs", [])) - set(outputs):
                check_own(self.path / output)
                remove_own(self.path / output)
        self.claim(name, outputs)
        notes = {"checksum": checksum}
        try:
            yield notes
        except BaseException:
            made = (self.path / output for output in _get_outputs(name))
            if not any(os.path.lexists(path) for path in made):
                self._get_path(name).unlink()
            raise
        record = {**self.read(name), **notes}
        record["written"] = {key: _[-1:] for key, _ in record["written"].items()}
        self._write(name, {**record, "files": self._list_files(record["outputs"])})

    def claim(self, name, outputs=None):
        """Say that a step is about to make something, see `step`."""
        outputs = _get_outputs(name) if outputs is None else outputs
        if not outputs or not set(outputs) <= set(_get_outputs(name)):
            raise ValueError(f"The step {name!r} cannot make {outputs}.")
        written = self.read(name).get("written", {})
        self._write(name, {"outputs": list(outputs), "written": written})

    def _write(self, name, record):
        path = self._get_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path, overwrite=True) as temporary:
            temporary.write_text(json.dumps(record, indent=1))

    def remove(self, name):
        """Remove the record of a step, and what it made.

        Parameters
        ----------
        name : str
            Name of the step. Nothing is removed if it has no valid record.

        Raises
        ------
        FileExistsError
            If that has become a link, or other files are in it.
        """
        paths = [self.path / _ for _ in self.read(name).get("outputs", [])]
        for path in paths:
            check_own(path)
        if paths:
            for path in paths:
                remove_own(path)
            self._get_path(name).unlink()

    def write_editable(self, step, name, write):
        """Write a file that the user may edit. One that was edited is kept.

        The record knows the file before it is there, and the one before until the step
        is finished: at any moment, all else was edited.

        Parameters
        ----------
        step : str
            Name of the step, which is in progress.
        name : str
            Name of the file.
        write : callable
            Writes to a path.

        Returns
        -------
        kept : `~pathlib.Path` or None
            Where the edited one is, None if there was none.
        """
        path = self.path / name
        with replace_file(path, overwrite=True) as temporary:
            write(temporary)
            record = self.read(step)
            hashes = [*record["written"].get(name, []), _hash(temporary)]
            self._write(step, {**record, "written": {name: hashes}})
            kept = None
            if self.is_edited(step, name):
                time, stem = int(path.stat().st_mtime), f"{path.stem}_edited"
                while os.path.lexists(kept := path.with_stem(f"{stem}_{time}")):
                    time += 1
                path.rename(kept)
        return kept

    def is_edited(self, step, name):
        """Whether a file is there, and not as it was written by a step."""
        path, written = self.path / name, self.read(step).get("written", {})
        return path.exists() and _hash(path) not in written.get(name, [])

    @property
    def names(self):
        """Names of all steps that have a valid record (list of str)."""
        names = sorted(_.stem for _ in (self.path / FOLDER).glob("[!.]*.json"))
        return [_ for _ in names if _get_outputs(_) and self.read(_)]

    def _get_path(self, name):
        return self.path / FOLDER / f"{name}.json"

    def read(self, name):
        """Read the record of a step, empty if there is none that is valid (dict)."""
        path = self._get_path(name)
        if not os.path.lexists(path):
            return {}
        try:
            record = json.loads(path.read_text()) if not path.is_symlink() else {}
            outputs, written = record["outputs"], record.setdefault("written", {})
            is_valid = all(isinstance(_, list) for _ in (outputs, *written.values()))
            if is_valid and set(outputs) <= set(_get_outputs(name)):
                return record
        except (
            AttributeError,
            KeyError,
            OSError,
            TypeError,
            ValueError,
            RecursionError,
        ):
            pass
        log.warning(f"The record {path} is damaged and not used.")
        return {}


def _hash(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_output(name):
    """Whether a step may make a file or folder of a name."""
    number = re.search(r"\d+", name)
    pattern = name if number is None else name.replace(number[0], "{}", 1)
    return any(pattern in names for names in NUMBERED_OUTPUTS.values()) or any(
        name in names for names in OUTPUTS.values()
    )


def _get_outputs(name):
    """Files and folders that a step may make, none for an unknown one."""
    if name in OUTPUTS:
        return OUTPUTS[name]
    match = re.fullmatch(r"([a-z_]+)_(0|[1-9][0-9]{0,18})", name)
    if match is None:
        return ()
    return tuple(_.format(match[2]) for _ in NUMBERED_OUTPUTS.get(match[1], ()))
