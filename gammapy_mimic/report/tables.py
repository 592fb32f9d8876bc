"""Tables of the report: cells with a text to read and a value to sort by."""

from typing import NamedTuple

import numpy as np

__all__ = ["Cell", "Column", "ReportTable", "make_table"]

DIGITS = 4


class Cell(NamedTuple):
    """Cell of a table.

    Attributes
    ----------
    text : str
        What is shown.
    value : str
        What is sorted by: the number in full precision, or the text.
    is_number : bool
        Whether it is a number.
    """

    text: str
    value: str
    is_number: bool


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
    is_number : bool
        Whether it has numbers.
    """

    name: str
    unit: str
    description: str
    is_number: bool


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
        columns.append(Column(key, unit, description, is_number=kind in "iuf"))
    return ReportTable(
        name=name,
        caption=caption,
        columns=columns,
        rows=[[_make_cell(table[_.name], idx) for _ in columns] for idx in order],
        marked=marked[order].tolist(),
    )


def _make_cell(column, idx):
    value = column[idx]
    kind = column.dtype.kind
    if kind in "iuf" and (np.ma.is_masked(value) or not np.isfinite(value)):
        return Cell("–", "", True)  # noqa: RUF001
    if kind == "f":
        spec = column.info.format or f".{DIGITS}g"
        return Cell(format(float(value), spec.lstrip("%")), repr(float(value)), True)
    text = ("yes" if value else "no") if kind == "b" else str(value)
    return Cell(text, text, kind in "iu")
