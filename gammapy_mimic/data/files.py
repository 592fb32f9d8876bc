"""Which files are read: regular ones, in folders that the user named."""

import contextlib
import gzip
import io
import os
import warnings
from pathlib import Path
from urllib.parse import quote, unquote

from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from gammapy.utils.scripts import make_path

__all__ = [
    "check_links",
    "check_regular",
    "make_link_keys",
    "open_fits",
    "read_fits_header",
    "set_links",
]

CREATOR = "gammapy-mimic"
LINK_KEY = "LINK{}"
"""Keys in the HDU index of our stores: folders it links to, relative to the store."""


LINKS = "links"

GZIP_MAGIC = b"\x1f\x8b"
"""First bytes of a compressed file, whatever its name."""


class Links(tuple):
    """Folders that the user named, which no file can hold."""


class KeptGzipFile(gzip.GzipFile):
    """A compressed file that keeps what was read, so that going back is no new start.

    Astropy goes back to the data of each HDU.
    """

    def __init__(self, path):
        super().__init__(path, "rb")
        self._kept, self._position = bytearray(), 0

    def read(self, size=-1):
        """Read some bytes, or all that are left if the size is negative."""
        stop = None if size < 0 else self._position + size
        missing = -1 if size < 0 else max(stop - len(self._kept), 0)
        self._kept += super().read(missing)
        content = bytes(self._kept[self._position : stop])
        self._position += len(content)
        return content

    def seek(self, offset, whence=io.SEEK_SET):
        """Set the position, from the start or from where it is."""
        self._position = offset + (self._position if whence == io.SEEK_CUR else 0)
        return self._position

    def tell(self):
        """Get the position."""
        return self._position


@contextlib.contextmanager
def open_fits(path):
    """Open a FITS file, an error if it is cut or not a file: all are opened so."""
    check_regular(path)
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.filterwarnings("error", message="File may have been truncated")
        if _is_gzip(path):
            path = stack.enter_context(KeptGzipFile(path))
        try:
            yield stack.enter_context(fits.open(path, memmap=False))
        # astropy does no more than warn
        except AstropyUserWarning as warning:
            name = getattr(path, "name", path)
            raise OSError(f"{name}: {warning}") from None


def _is_gzip(path):
    with open(path, "rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def read_fits_header(path, hdu):
    """Read the header of an HDU of a FITS file, opened by `open_fits`."""
    with open_fits(path) as hdu_list:
        return hdu_list[hdu].header


def check_regular(path):
    """Raise an error if there is something else than a file, which could never end."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"{path} is not a regular file. Replace it by a file.")


def make_link_keys(folders, path):
    """Make the keys of an HDU index that tell which folders it links to.

    Parameters
    ----------
    folders : iterable of str
        Folders.
    path : `~pathlib.Path`
        Folder of the store.

    Returns
    -------
    keys : dict of str
        Relative paths in ASCII.
    """
    paths = [os.path.relpath(_, path) for _ in sorted(set(folders))]
    return {LINK_KEY.format(i): quote(_) for i, _ in enumerate(paths, start=1)}


def set_links(datastore, links):
    """Note to which other folders the index of a datastore may lead.

    Parameters
    ----------
    datastore : `~gammapy.data.DataStore`
        Datastore. Those of a part of its rows have the same links.
    links : list of str or `~pathlib.Path`
        Folders.
    """
    datastore.hdu_table.meta[LINKS] = Links(map(str, links))


def check_links(datastore):
    """Raise an error if a row of the index leads to a folder that nobody named.

    Allowed are the folder of the store, those of `set_links`, and for a store that this
    package wrote the folders that it was linked to. Links of the file system are
    followed. Of a store that has no folder, the user named all files.

    Parameters
    ----------
    datastore : `~gammapy.data.DataStore`
        Datastore.

    Raises
    ------
    ValueError
        If a row leads out of the allowed folders.
    OSError
        If it leads to something else than a file.
    """
    table = datastore.hdu_table
    base, keys = table.base_dir, table.meta
    if "BASE_DIR" not in keys:
        return
    # the index itself cannot name any
    links = keys[LINKS] if isinstance(keys.get(LINKS), Links) else ()
    if str(keys.get("CREATOR", "")).startswith(CREATOR):
        own = [LINK_KEY.format(i) for i in range(1, len(table) + 1)]
        links = [*links, *(base / unquote(keys[_]) for _ in own if _ in keys)]
    allowed = [Path(os.path.realpath(make_path(_))) for _ in (base, *links)]
    columns = (table[_].tolist() for _ in ("FILE_DIR", "FILE_NAME"))
    rows = {}
    for row, place in enumerate(zip(*columns, strict=True), start=1):
        rows.setdefault(place, row)
    for (file_dir, file_name), row in rows.items():
        path = base / make_path(file_dir.strip()) / file_name.strip()
        if not path.exists():
            # Gammapy looks in the working folder, too
            other = make_path(file_dir.strip()) / file_name.strip()
            path = other if other.exists() else path
        real = Path(os.path.realpath(path))
        if not any(real.is_relative_to(_) for _ in allowed):
            raise ValueError(
                f"Row {row} of the HDU index in {base} leads out of that folder, to "
                f"{real}. If that is right, name its folder in links: mimic.links of a "
                "configuration, or gammapy_mimic.data.open_datastore(folder, "
                "links=[...])."
            )
        check_regular(real)
