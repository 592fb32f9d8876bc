"""Binary tables of FITS files: the bytes that astropy writes, in less time.

Astropy formats all cards of each header anew, and asks for its configuration at each.
Here it formats a card, and the columns of a layout, once; what is left is to join the
bytes of headers and columns.
"""

import functools
import io
import logging
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from astropy.io.fits.connect import REMOVE_KEYWORDS, is_column_keyword
from astropy.table import Column, Table

__all__ = ["TableHDU", "make_primary_bytes", "select_known", "to_hdu_bytes"]

log = logging.getLogger(__name__)

BLOCK_SIZE = 2880

ROWS_CARD = 4
"""Which card of a header tells the number of rows."""

COMMENTARY = {"": "", "comments": "COMMENT", "COMMENT": "COMMENT", "HISTORY": "HISTORY"}
"""Keys of a header that stand behind all others, and their names in a file."""

PLAIN_TYPES = {"u1", "i2", "i4", "i8", "f4", "f8"}
"""Types that a file holds as they are in memory, but for the order of bytes."""


class TableHDU(NamedTuple):
    """Table on its way to a file."""

    name: str
    """Name of the HDU."""
    data: Table
    """Columns, without ``meta``."""
    header: dict
    """What the header tells beside the columns. A tuple is a value and its comment, a
    list has several cards of one key. See `select_known`."""

    def to_bytes(self):
        """Make header and data as they are in a file.

        Returns
        -------
        content : bytes
            Blocks of the HDU, equal to those that astropy writes.
        """
        columns = self.data.columns.values()
        is_plain = all(map(_is_plain, columns))
        cards, data = (_join_columns if is_plain else _convert_columns)(self.data)
        text = "".join([*cards, *_make_cards(self.header), f"{'END':80}"])
        return _pad(text.encode("ascii"), b" ") + _pad(data, b"\0")


def select_known(header):
    """Select what FITS knows of a header. What is left out is warned of.

    Parameters
    ----------
    header : dict
        Values by key.

    Returns
    -------
    header : dict
        Those that can be written.
    """
    return {k: value for k, value in header.items() if any(_make_cards({k: value}))}


def to_hdu_bytes(hdu):
    """Make header and data of an HDU of astropy that is not the first of its file."""
    file = io.BytesIO()
    hdu.writeto(file, output_verify="ignore")
    # astropy writes one without data before it
    return file.getvalue()[BLOCK_SIZE:]


@functools.cache
def make_primary_bytes():
    """Make the HDU that files of tables begin with."""
    file = io.BytesIO()
    fits.PrimaryHDU().writeto(file)
    return file.getvalue()


def _pad(content, fill):
    return content + fill * (-len(content) % BLOCK_SIZE)


def _is_plain(column):
    """Whether a column holds numbers or text as a file does, but for their encoding."""
    is_text = column.dtype.kind == "U" and column.dtype.itemsize > 0
    is_number = column.dtype.str[1:] in PLAIN_TYPES
    return type(column) is Column and (is_text or is_number)


def _join_columns(table):
    """Cards and data of columns that need no more than another encoding."""
    columns = table.columns.values()
    layout = [(_.name, _.dtype, _.shape[1:], _.unit, _.format) for _ in columns]
    cards, comment, dtype = _make_layout(tuple(layout))
    rows = np.empty(len(table), dtype)
    for name in dtype.names:
        rows[name] = table[name]
    cards = list(cards)
    cards[ROWS_CARD] = str(fits.Card("NAXIS2", len(rows), comment))
    return cards, rows.tobytes()


@functools.lru_cache
def _make_layout(layout):
    """Cards of columns, comment of the card of the rows, and type of the rows."""
    columns = [
        Column(np.empty((0, *shape), dtype), name, unit=unit, format=format_)
        for name, dtype, shape, unit, format_ in layout
    ]
    header = fits.BinTableHDU(Table(columns)).header
    fields = [
        # a character of text has 4 bytes in memory
        (name, f"S{d.itemsize // 4}" if d.kind == "U" else d.newbyteorder(">"), shape)
        for name, d, shape, *_ in layout
    ]
    cards = tuple(str(_) for _ in header.cards)
    return cards, header.comments["NAXIS2"], np.dtype(fields)


def _convert_columns(table):
    """Cards and data of any columns, such as text and truth values, by astropy."""
    hdu = fits.BinTableHDU(table)
    content = to_hdu_bytes(hdu)
    return [str(_) for _ in hdu.header.cards], content[len(hdu.header.tostring()) :]


def _make_cards(header):
    """Cards of a header, comments last."""
    cards, commentary = [], []
    for key, value in header.items():
        part = commentary if key in COMMENTARY else cards
        for item in value if isinstance(value, list) else [value]:
            is_kept = isinstance(item, Hashable)
            make = _make_card if is_kept else _make_card.__wrapped__
            # 0.0 and -0.0 are equal, as are 1 and True
            part.append(make(key, item, repr(item)))
    return cards + commentary


@functools.lru_cache(maxsize=10_000)
def _make_card(key, value, _):
    """Text of a card, or of several if it is long. Empty if FITS does not know such.

    The last argument tells values apart that are equal.
    """
    header = fits.Header()
    try:
        if is_column_keyword(key.upper()) or key.upper() in REMOVE_KEYWORDS:
            raise ValueError("FITS reserves this key.")
        header[COMMENTARY.get(key, key)] = value
    except ValueError as error:
        log.warning(f"{key} is left out of a header: {error}")
    text = header.tostring(sep="", endcard=False, padding=False)
    # one without key and text is blank
    return text if text.strip() else ""
