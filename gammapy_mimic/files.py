"""Write files completely or not at all."""

import contextlib
import os

from gammapy.utils.scripts import make_path

__all__ = ["replace_file"]


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
