"""Records of the steps that are finished in a folder, and of what they made there.

Only what a record says is replaced or removed, if it is inside the folder, under the
name that the step gives it, and if nothing was put into it
(`gammapy_mimic.utils.files`).
"""

import contextlib
import json
import logging
import os
import re
import shutil

from gammapy.utils.scripts import make_path

from .files import check_own, remove_leftovers, remove_own, replace_file

__all__ = ["StepRecords"]

log = logging.getLogger(__name__)

FOLDER = ".steps"
OUTPUTS = {
    "config": ("config.yaml",),
    "datasets": ("datasets",),
    "off": ("off",),
    "plan": ("plan.ecsv", "questionable.ecsv", "kl", "exclusion.reg"),
    "rank": ("kl_matrix.png",),
    "report": ("report.html",),
    "systematics": ("systematics.fits",),
    "targets": ("targets",),
}
NUMBERED_OUTPUTS = {
    "datasets_mimic": ("datasets_mimic_{}",),
    "kl": ("kl_{}.ecsv", "kl_{}.png"),
    "mimic": ("mimic_{}",),
}
"""Files and folders by step, and by step of a mimic set or observation."""


class StepRecords:
    """Records of the steps that are finished in a folder.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Folder of the results.
    force : bool, optional
        Whether to take no step as finished. Default is False.

    Raises
    ------
    FileExistsError
        If something else has the name of the folder of the records.
    """

    def __init__(self, path, force=False):
        self.path = make_path(path)
        self.force = force
        self._is_new = not self.path.exists()
        folder = self.path / FOLDER
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise FileExistsError(
                f"{folder} is not a folder. Choose another outdir, or remove it "
                "yourself."
            )

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
            Whether that is the same as before, and the result is there.
        """
        if self.force:
            return False
        record = self._read(name)
        outputs = record.get("outputs", [])
        is_there = all((self.path / _).exists() for _ in outputs)
        return record.get("checksum") == checksum and is_there

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
            known = self._read(name).get("outputs", [])
            for path in (self.path / _ for _ in _get_outputs(name)):
                if os.path.lexists(path) and path.name not in known:
                    raise FileExistsError(
                        f"{path} is not from an earlier run and would be replaced. "
                        "Choose another outdir, or remove it yourself."
                    )
                check_own(path)

    @contextlib.contextmanager
    def step(self, name, checksum, outputs=None):
        """Record a step, when its block has ended without an error.

        After an error, nothing is left of a step that has made nothing.

        Parameters
        ----------
        name, checksum
            As for `is_done`.
        outputs : list of str, optional
            Files and folders that the step makes. Default are all that it may make.

        Raises
        ------
        FileExistsError
            As `check`.
        """
        self.check([name])
        self.remove_leftovers([name])
        self.claim(name, None, outputs)
        try:
            yield
        except BaseException:
            made = (self.path / output for output in _get_outputs(name))
            if not any(os.path.lexists(path) for path in made):
                self._get_path(name).unlink()
                # not a folder that is not empty, or that the user has made
                with contextlib.suppress(OSError):
                    (self.path / FOLDER).rmdir()
                    if self._is_new:
                        self.path.rmdir()
            raise
        self.claim(name, checksum, outputs)

    def claim(self, name, checksum=None, outputs=None):
        """Write the record of a step, see `step`."""
        outputs = _get_outputs(name) if outputs is None else outputs
        if not outputs or not set(outputs) <= set(_get_outputs(name)):
            raise ValueError(f"The step {name!r} cannot make {outputs}.")
        path = self._get_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path, overwrite=True) as temporary:
            record = {"checksum": checksum, "outputs": list(outputs)}
            temporary.write_text(json.dumps(record, indent=1))

    def remove_leftovers(self, names):
        """Remove what was left by a process that was killed.

        Parameters
        ----------
        names : list of str
            Names of the steps.
        """
        for name in names:
            remove_leftovers(self._get_path(name))
            for output in _get_outputs(name):
                remove_leftovers(self.path / output)
                remove_leftovers(self.path / FOLDER / output)

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
        paths = [self.path / _ for _ in self._read(name).get("outputs", [])]
        for path in paths:
            check_own(path)
        if paths:
            self.remove_leftovers([name])
            for path in paths:
                remove_own(path)
            self._get_path(name).unlink()

    def write_editable(self, name, write):
        """Write a file that the user may edit, see `keep_edited`.

        Parameters
        ----------
        name : str
            Name of the file.
        write : callable
            Writes to a path, with ``overwrite=True``.
        """
        made = self.path / FOLDER / name
        write(made, overwrite=True)
        with replace_file(self.path / name, overwrite=True) as temporary:
            shutil.copyfile(made, temporary)

    def keep_edited(self, name):
        """Give another name to a file that was edited since it was written.

        Parameters
        ----------
        name : str
            Name of the file.

        Returns
        -------
        kept : `~pathlib.Path` or None
            Its new path, None if it was not edited.
        """
        path, made = self.path / name, self.path / FOLDER / name
        if not path.exists():
            return None
        if made.exists() and path.read_bytes() == made.read_bytes():
            return None
        time = int(path.stat().st_mtime)
        kept = path.with_stem(f"{path.stem}_edited_{time}")
        while os.path.lexists(kept):
            time += 1
            kept = path.with_stem(f"{path.stem}_edited_{time}")
        path.rename(kept)
        return kept

    @property
    def names(self):
        """Names of all steps that have a valid record (list of str)."""
        names = sorted(_.stem for _ in (self.path / FOLDER).glob("[!.]*.json"))
        return [_ for _ in names if _get_outputs(_) and self._read(_)]

    def _get_path(self, name):
        return self.path / FOLDER / f"{name}.json"

    def _read(self, name):
        """Read a record, empty if there is none that is valid."""
        path = self._get_path(name)
        if not os.path.lexists(path):
            return {}
        try:
            record = json.loads(path.read_text()) if not path.is_symlink() else {}
            outputs = record["outputs"]
            if isinstance(outputs, list) and set(outputs) <= set(_get_outputs(name)):
                return record
        except (KeyError, OSError, TypeError, ValueError, RecursionError):
            pass
        log.warning(f"The record {path} is damaged and not used.")
        return {}


def _get_outputs(name):
    """Files and folders that a step may make, none for an unknown one."""
    if name in OUTPUTS:
        return OUTPUTS[name]
    match = re.fullmatch(r"([a-z_]+)_(0|[1-9][0-9]{0,18})", name)
    if match is None:
        return ()
    return tuple(_.format(match[2]) for _ in NUMBERED_OUTPUTS.get(match[1], ()))
