"""Write files and folders completely or not at all, and replace only what is ours.

Both are written in a folder beside their place, with a random name, and moved when they
are complete. It is locked: one of a process that was killed is told from one in use,
and removed by the next that writes there. A folder that was written so has a list of
what is in it: it is replaced or removed only as long as there is nothing else in it.
Links are never replaced or followed.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from gammapy.utils.scripts import make_path

from .locks import acquire, release

__all__ = [
    "OVERWRITE",
    "add_files",
    "check_file",
    "check_folder",
    "check_own",
    "explain_unset",
    "find_leftovers",
    "make_checksum",
    "remove_leftovers",
    "remove_own",
    "replace_file",
    "replace_folder",
]

FILES_LIST = ".gammapy-mimic-files"
WORK_NAME = re.compile(r"\.(.+)-[a-z0-9_]{8}")
OVERWRITE = "overwrite it (--overwrite, in Python overwrite=True)"
"""Way out of errors of what is there already."""

DISK_ERRORS = {"EACCES", "EDQUOT", "EFBIG", "ENOSPC", "EPERM", "EROFS"}


@contextlib.contextmanager
def replace_file(path, overwrite=False):
    """Give a name to write to, and put the file in place when that went well.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        File.
    overwrite : bool, optional
        Whether to replace an existing file. Default is False.

    Yields
    ------
    temporary : `~pathlib.Path`
        File of the same name in another folder.

    Raises
    ------
    FileExistsError
        If the file exists and may not be replaced, or is a link or a folder.
    FileNotFoundError
        If there is no folder to write it to.
    """
    path = make_path(path)
    _check_file(path, overwrite)
    with _work_beside(path) as folder:
        yield folder / path.name
        # again, as it may have come meanwhile
        _check_file(path, overwrite)
        (folder / path.name).replace(path)


@contextlib.contextmanager
def replace_folder(path):
    """Give a folder to fill, and put it in place when that went well.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Folder. One that was written by this function is replaced.

    Yields
    ------
    temporary : `~pathlib.Path`
        New folder.

    Raises
    ------
    FileExistsError
        If something else is there, see `check_own`.
    """
    path = make_path(path)
    _check_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _work_beside(path) as folder:
        new, old = folder / path.name, folder / f"{path.name}-old"
        new.mkdir()
        yield new
        _write_list(new, _find_entries(new))
        # again, as it may have come meanwhile
        _check_folder(path)
        try:
            if path.exists():
                path.rename(old)
            new.rename(path)
        # also when the user interrupts
        except BaseException:
            if old.exists() and not path.exists():
                old.rename(path)
            raise


def add_files(path, names):
    """Say that files are to be added to a folder that `replace_folder` wrote.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Folder.
    names : list of str
        Names of the files.
    """
    path = make_path(path)
    _write_list(path, _read_list(path) | set(names))


def explain_unset(path):
    """Say which environment variable is not set, where that may be why a path is not.

    Parameters
    ----------
    path : `~pathlib.Path`
        Path that is not there.

    Returns
    -------
    text : str
        Sentence after a blank, "" if it has another cause.
    """
    names = re.findall(r"\$\{?(\w+)", str(path))
    # what the shell makes of "$GAMMAPY_DATA/name" if it is not set
    is_at_root = path.is_absolute() and not Path(*path.parts[:2]).exists()
    if not names and is_at_root and not os.environ.get("GAMMAPY_DATA"):
        names = ["GAMMAPY_DATA"]
    return "".join(f" The environment variable {_} is not set." for _ in names)


def check_file(path):
    """Raise an error if something else than a file is where one may be read.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        File. It need not be there.

    Raises
    ------
    OSError
        If it is a folder, a pipe or a link to nothing.
    """
    path = make_path(path)
    if os.path.lexists(path) and not path.is_file():
        raise OSError(f"{path} is not a file. Replace it by a file, or remove it.")


def check_folder(path):
    """Raise an error if there is no folder at a path, and none can be made.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Folder. It need not be there.

    Raises
    ------
    FileExistsError
        If it, or what it would be in, is a file, a pipe or a link to nothing.
    """
    path = make_path(path)
    there = next((_ for _ in (path, *path.parents) if os.path.lexists(_)), path)
    if os.path.lexists(there) and not there.is_dir():
        is_link = there.is_symlink() and not there.exists()
        what = "a link to nothing" if is_link else "not a folder"
        raise FileExistsError(
            f"{there} is {what}. Choose another folder, or remove it yourself."
        )


def check_own(path):
    """Raise an error if a path may not be replaced or removed.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        File, or folder that `replace_folder` wrote. It need not be there.

    Raises
    ------
    FileExistsError
        If it is a link, neither a file nor a folder, or a folder with anything that was
        not written with it.
    """
    path = make_path(path)
    if path.is_symlink():
        raise FileExistsError(
            f"{path} is a link, which is neither replaced nor followed. Give the file "
            "or folder itself, or choose another name."
        )
    if path.is_dir():
        known = _read_list(path)
        foreign = [
            name
            for name in _find_entries(path)
            if name not in known or (path / name).is_symlink()
        ]
        if foreign:
            raise FileExistsError(
                f"{path / foreign[0]} was not written with {path} by gammapy-mimic, "
                "and would be removed with it. Move it, or choose another folder."
            )
    elif path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is not a file. Choose another name.")


def remove_own(path):
    """Remove a file, or a folder that `replace_folder` wrote, if it is there.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        File or folder.

    Raises
    ------
    FileExistsError
        As `check_own`.
    """
    path = make_path(path)
    check_own(path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def find_leftovers(folder):
    """Find for what there are folders to write in, of this or of another process.

    Parameters
    ----------
    folder : `~pathlib.Path`
        Folder. It need not be there.

    Returns
    -------
    names : list of str
        Names of the files and folders that were to be written.
    """
    entries = sorted(os.listdir(folder)) if folder.is_dir() else []
    matches = [WORK_NAME.fullmatch(_) for _ in entries]
    return list(dict.fromkeys(_[1] for _ in matches if _))


def remove_leftovers(path):
    """Remove what is left beside a path by a process that was killed.

    What it was about to replace is put back. What another process is writing stays, and
    so does all where files cannot be locked.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        File or folder that was to be written.
    """
    path = make_path(path)
    entries = os.listdir(path.parent) if path.parent.is_dir() else []
    for folder in (path.parent / _ for _ in entries if _is_work_of(path.name, _)):
        # gone, or in use
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            _remove_leftover(folder, path)


def _is_work_of(name, entry):
    match = WORK_NAME.fullmatch(entry)
    return match is not None and match[1] == name


def _remove_leftover(folder, path):
    if folder.is_symlink() or not folder.is_dir():
        return
    old = folder / f"{path.name}-old"
    expected = {FILES_LIST, path.name, old.name}
    # a file may be written by something that writes as we do
    names = {_ for _ in os.listdir(folder) if not _is_work_of(path.name, _)}
    # the list is there before anything else, and removed last
    if not names <= expected or (names and FILES_LIST not in names):
        return
    lock = acquire(folder / FILES_LIST)
    try:
        if lock.is_locked:
            if old.exists() and not os.path.lexists(path):
                old.rename(path)
            _remove_work(folder)
    finally:
        release(lock)


@contextlib.contextmanager
def _work_beside(path):
    """Give a new folder, and remove it in the end. Errors of the disk name the path."""
    remove_leftovers(path)
    folder = lock = None
    try:
        while lock is None:
            # on the same disk, so that it is moved at once, and not copied
            folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
            # another process may take it for a leftover as long as it is not locked
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                lock = acquire(folder / FILES_LIST)
        yield folder
    except OSError as error:
        # of the file that is written, not of one that is read
        name = error.filename
        parts = [] if name is None else [Path(name), *Path(name).parents]
        beside = [_.name for _ in parts if _.parent == path.parent]
        is_own = name is None or any(_is_work_of(path.name, _) for _ in beside)
        codes = {getattr(_, "errno", None) for _ in (error, error.__context__)}
        codes = {errno.errorcode.get(_) for _ in codes}
        if is_own and codes & DISK_ERRORS:
            reason = error.strerror or str(error)
            raise OSError(f"{path} cannot be written: {reason}") from error
        raise
    finally:
        if lock is not None:
            _remove_work(folder)
            release(lock)


def _remove_work(folder):
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != FILES_LIST:
            path.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _check_file(path, overwrite):
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"{path} exists. Choose another name, or {OVERWRITE}.")
    if path.is_dir() and not path.is_symlink():
        raise FileExistsError(f"{path} is a folder. Choose another name.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent}. Make it first.")
    check_own(path)


def _check_folder(path):
    if path.is_file() and not path.is_symlink():
        raise FileExistsError(f"{path} is a file. Choose another name.")
    check_own(path)


def _find_entries(folder):
    """Relative paths of all that is in a folder, apart from its list."""
    entries = []
    for root, folders, files in os.walk(folder):
        entries += [
            (Path(root) / name).relative_to(folder).as_posix()
            for name in (*folders, *files)
        ]
    return sorted(_ for _ in entries if _ != FILES_LIST)


def _write_list(folder, entries):
    (folder / FILES_LIST).write_text(json.dumps(sorted(entries), indent=1))


def _read_list(folder):
    """Set of what was written with a folder, empty if that is not known."""
    try:
        entries = json.loads((folder / FILES_LIST).read_text())
        return {_ for _ in entries if isinstance(_, str)}
    # anybody can write a file of that name
    except (OSError, TypeError, ValueError, RecursionError):
        return set()


def make_checksum(*parts):
    """Make a text that changes when one of the inputs of a ranking does.

    Parameters
    ----------
    *parts : object
        What can be written as text.

    Returns
    -------
    checksum : str
        Hexadecimal digits.
    """
    text = json.dumps([str(_) for _ in parts])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
