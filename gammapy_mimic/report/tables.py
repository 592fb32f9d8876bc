"""Tables of the report: cells with a text to read and a value to sort by."""

from typing import NamedTuple

import numpy as np

__all__ = ["Cell", "Column", "ReportTable", "make_table"]

DIGITS = 4
MAX_ROWS = 12  # of a table that is shown at once
MAX_TEXT = 40  # characters in one line
DETAILS = {
    *("f_squared", "f_squared_err", "f_other_ul", "total_other_ul", "norm_share"),
    *("template_err", "n_apertures", "mean_ul", "spread", "statistical_err"),
    *("expected_mean", "width_err", "mean_err", "distance_band", "n_independent"),
}
"""Columns that are not printed, for which a page of paper is too narrow."""

DATATYPES = {"f": "float64", "i": "int64", "u": "int64", "b": "bool"}


class Column(NamedTuple):
    """Column of a table.

    Attributes
    ----------
    name : str
        Name, as in the table it is from.
    unit : str
        Unit, "" for none.
    description : str
        What it is, "" for nothing to be explained.
    datatype : str
        Type in an ECSV file.
    """

    name: str
    unit: str
    description: str
    datatype: str

    @property
    def is_number(self):
        """Whether it has numbers (bool)."""
        return self.datatype in ("float64", "int64")

    @property
    def is_detail(self):
        """Whether it is left out on paper (bool)."""
        return self.name in DETAILS


class Cell(NamedTuple):
    """Cell of a table.

    Attributes
    ----------
    text : str
        What is shown.
    value : str
        What is sorted by: the number in full precision, or the text.
    column : `Column`
        Column.
    """

    text: str
    value: str
    column: Column

    @property
    def css(self):
        """Classes of the element (str)."""
        classes = {
            "number": self.column.is_number,
            "text": not self.column.is_number and len(self.text) > MAX_TEXT,
            "detail": self.column.is_detail,
        }
        return " ".join(name for name, is_one in classes.items() if is_one)


class ReportTable(NamedTuple):
    """Table of the report.

    Attributes
    ----------
    name : str
        Name, the id of the HTML element.
    caption : str
        What it shows.
    columns : list of `Column`
        Columns.
    rows : list of list of `Cell`
        Rows.
    marked : list of bool
        Whether each row is marked.
    """

    name: str
    caption: str
    columns: list
    rows: list
    marked: list

    @property
    def is_long(self):
        """Whether it is folded (bool)."""
        return len(self.rows) > MAX_ROWS


def make_table(table, name, caption, descriptions=None, marked=None):
    """Make a table of the report.

    Columns without any value are left out, and those of arrays.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table.
    name : str
        Name, the id of the HTML element.
    caption : str
        What it shows.
    descriptions : dict of str, optional
        What a column is, by its name. Default is nothing to be explained.
    marked : list of bool, optional
        Whether each row is marked, which puts it first. Default is none.

    Returns
    -------
    table : `ReportTable`
        Table.
    """
    descriptions = {} if descriptions is None else descriptions
    marked = np.zeros(len(table), bool) if marked is None else np.array(marked, bool)
    order = np.argsort(~marked, kind="stable")
    columns = []
    for key, column in table.columns.items():
        kind = column.dtype.kind
        if column.ndim > 1:
            continue
        # what nothing is known of takes place, and says nothing
        if kind == "f" and not np.isfinite(np.ma.filled(column, np.nan)).any():
            continue
        unit = str(column.unit or "").replace("1 / (s cm2)", "cm-2 s-1")
        unit = unit.replace("1 / (cm2 s)", "cm-2 s-1")
        description = descriptions.get(key, "")
        datatype = DATATYPES.get(kind, "string")
        columns.append(Column(key, unit, description, datatype))
    return ReportTable(
        name=name,
        caption=caption,
        columns=columns,
        rows=[[_make_cell(table, _, idx) for _ in columns] for idx in order],
        marked=marked[order].tolist(),
    )


def _make_cell(table, column, idx):
    values = table[column.name]
    value, kind = values[idx], values.dtype.kind
    if kind in "iuf" and (np.ma.is_masked(value) or not np.isfinite(value)):
        return Cell("–", "", column)  # noqa: RUF001
    if kind == "f":
        spec = values.info.format or f".{DIGITS}g"
        return Cell(format(float(value), spec.lstrip("%")), repr(float(value)), column)
    text = ("yes" if value else "no") if kind == "b" else str(value)
    return Cell(text, text, column)
