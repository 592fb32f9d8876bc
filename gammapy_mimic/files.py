"""Write files and folders completely or not at all."""

import contextlib
import os
import re
import shutil

from gammapy.utils.scripts import make_path

__all__ = ["remove_leftovers", "replace_file", "replace_folder"]


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
        File beside it, with the same ending.

    Raises
    ------
    FileExistsError
        If the file exists and may not be replaced.
    """
    path = make_path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Choose another name, or overwrite it.")
    # with the same ending, which tells the format and whether to compress
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replace_folder(path):
    """Give a folder to fill, and put it in place when that went well.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Folder. What it has is replaced.

    Yields
    ------
    temporary : `~pathlib.Path`
        New folder beside it.
    """
    path = make_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_name(f".{path.name}-{os.getpid()}")
    old = folder.with_name(f"{folder.name}-old")
    folder.mkdir()
    try:
        yield folder
        if path.exists():
            path.rename(old)
        folder.rename(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(path):
    """Remove what is left beside a path by a process that was killed.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        File or folder that was to be written.
    """
    path = make_path(path)
    name = re.escape(path.name)
    for leftover in path.parent.glob(f".*{path.name}*"):
        if re.fullmatch(rf"\.{name}-\d+(-old)?", leftover.name):
            shutil.rmtree(leftover)
        elif re.fullmatch(rf"\.\d+-{name}", leftover.name):
            leftover.unlink()
