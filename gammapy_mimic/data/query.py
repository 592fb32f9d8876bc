"""Select observations by an expression in the columns of the observation index.

The expression is parsed by `ast`, and what is in a white list of nodes is computed here
on arrays. Nothing in it is ever called or looked up outside of the table.
"""

import ast
import difflib
import operator
import re
import warnings
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.table import Column

from .columns import split_missing
from .obs_ids import to_obs_ids

__all__ = ["query_obs_table"]

LENGTH_MAX = 100_000
DEPTH_MAX = 60
INT_MAX = 2**63

COMPARISONS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
NEGATIVE = (ast.NotEq, ast.NotIn, ast.IsNot)
ARITHMETIC = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}
BITS = {ast.BitAnd: np.logical_and, ast.BitOr: np.logical_or}
WORDS = {ast.And: np.logical_and, ast.Or: np.logical_or}
CONSTRUCTS = {
    ast.Call: "a function call",
    ast.Attribute: "an attribute",
    ast.Subscript: "an index",
    ast.Lambda: "a function",
    ast.IfExp: "a condition with if",
    ast.List: "a list that is not on the right of in",
    ast.Tuple: "a list that is not on the right of in",
}
KINDS = {"b": "truth", "i": "number", "u": "number", "f": "number", "U": "text"}
# text, a quoted name, or a character that would need a closer look
TOKEN = re.compile(
    r"'(?:[^'\\]|\\.)*'" r'|"(?:[^"\\]|\\.)*"' r"|`[^`]*`|[@#{}()\[\]]", re.ASCII
)


def query_obs_table(table, query):
    """Select the rows of an observation table for which an expression is true.

    The expression has the look of one for `pandas.DataFrame.query`:

    - names of columns, in backticks if they are no identifiers (```DATE-OBS```);
      numbers; text in single or double quotes; ``True`` and ``False``
    - ``== != < <= > >=``, also chained (``10 < ZEN_PNT <= 40``)
    - ``in`` and ``not in`` with a list (``OBS_ID in [20136, 20137]``); ``==`` and
      ``!=`` with a list mean the same
    - ``and``, ``or``, ``not`` and parentheses, or ``&``, ``|``, ``~`` with each
      comparison in parentheses
    - ``+ - * / // % **``, computed in double precision
    - a column of truth values on its own

    A masked value, a NaN and an empty text are missing. A comparison with one is false,
    but ``!=`` and ``not in`` are true. ``NSBLEVEL == None`` finds the missing values,
    ``NSBLEVEL != None`` the others; for text, ``== ''`` does it as well. Texts are
    compared without the spaces around them, character by character, so that dates as
    ``"2004-01-31"`` are in order.

    Parameters
    ----------
    table : `~gammapy.data.ObservationTable`
        Observation table.
    query : str
        Expression, such as ``"TARGET_NAME == 'Off data' and ZEN_PNT < 40"``. Angles and
        times are in the units of their columns.

    Returns
    -------
    table : `~gammapy.data.ObservationTable`
        Selected rows.

    Raises
    ------
    ValueError
        If the expression is not valid, or no row is selected.
    """
    if not isinstance(query, str):
        raise ValueError(f"A query must be text, got {query!r}.")
    # one line, so that a place in it is one number
    text = re.sub(r"\s", " ", query).strip()
    try:
        rows = _Evaluator(table, text).evaluate()
    except _QueryError as error:
        raise ValueError(
            f"Cannot evaluate {_shorten(text)!r}: {error}. Columns are "
            f"{', '.join(table.colnames)}."
        ) from error
    if not rows.any():
        raise ValueError(f"No observation of {len(table)} satisfies {_shorten(text)!r}")
    return table[rows]


class _QueryError(ValueError):
    """What is wrong with an expression, and where."""


class _Operand(NamedTuple):
    """Values of a part of the expression: one a row, or a single one."""

    values: object
    """Array, or a bool, int, float or str. None for the constant None."""
    is_missing: object
    """Where they are missing: array of bool, or False."""
    kind: str
    """What they are: "number", "text", "truth" or "None"."""


class _Evaluator(ast.NodeVisitor):
    """Evaluate an expression on a table."""

    def __init__(self, table, text):
        self.table = table
        self.text = text
        self.depth = 0

    def evaluate(self):
        """Boolean array, True for the selected rows."""
        if len(self.text) > LENGTH_MAX:
            raise _QueryError(f"it has more than {LENGTH_MAX} characters")
        depth = 0
        for match in TOKEN.finditer(self.text):
            token, start = match.group(), match.start()
            depth += (token in "([") - (token in ")]")
            if token in "@#{}":
                self._fail_at(start, f"{token!r} is not part of a query")
            # before the parser, which a deep nest can crash
            if depth > DEPTH_MAX:
                self._fail_at(start, "it is nested too deeply")
        # for the parser, names in backticks are identifiers of the same length
        self.code = TOKEN.sub(
            lambda match: "_" * len(match[0]) if match[0][0] == "`" else match[0],
            self.text,
        )
        try:
            # Python warns of what it takes for slips, such as "1in [1]"
            with warnings.catch_warnings(action="ignore"):
                node = ast.parse(self.code, mode="eval").body
        except SyntaxError as error:
            # at the end of what is not complete, Python has 0
            place = min(error.offset or len(self.text) + 1, len(self.text) + 1)
            hint = " (write == to compare)" if self.text[place - 1 :][:1] == "=" else ""
            raise _QueryError(f"{error.msg}{hint}, at character {place}") from error
        except (MemoryError, RecursionError) as error:
            raise _QueryError("it is nested too deeply") from error
        except ValueError as error:
            raise _QueryError(str(error)) from error
        # as in pandas, 1 / 0 is infinite and 0 / 0 is missing
        with np.errstate(all="ignore"):
            values = self._get_truth(node)
        # an expression without a column has one value for all rows
        return np.broadcast_to(values, len(self.table))

    def _fail_at(self, start, message, stop=None):
        part = "" if stop is None else f" ({_shorten(self.text[start:stop])})"
        raise _QueryError(f"{message}, at character {start + 1}{part}")

    def _fail(self, node, message):
        start, stop = self._get_span(node)
        self._fail_at(start, message, stop)

    def _get_span(self, node):
        """First and last character of a node; `ast` counts bytes."""
        code, ends = self.code.encode(), (node.col_offset, node.end_col_offset)
        return tuple(len(code[:end].decode()) for end in ends)

    def _get_text(self, node):
        return self.text[slice(*self._get_span(node))]

    def visit(self, node):
        """Evaluate a node, `_Operand`."""
        # before Python's own limit, whose error has no place
        if self.depth == DEPTH_MAX:
            self._fail(node, "it is nested too deeply; for many values, use in [...]")
        self.depth += 1
        try:
            return super().visit(node)
        finally:
            self.depth -= 1

    def generic_visit(self, node):
        """Refuse what is not in the white list."""
        what = CONSTRUCTS.get(type(node), type(node).__name__)
        self._fail(node, f"{what} is not part of a query")

    def visit_Name(self, node):
        """Values of a column."""
        name = self._get_text(node).strip("`")
        if name not in self.table.colnames:
            close = difflib.get_close_matches(name, self.table.colnames, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            self._fail(node, f"there is no column {name!r}{hint}")
        column, unusable = self.table[name], f"the column {name!r} cannot be used, it"
        if not isinstance(column, Column | u.Quantity):
            self._fail(node, f"{unusable} is a {type(column).__name__}")
        if column.ndim != 1:
            self._fail(node, f"{unusable} has {column.ndim} dimensions")
        values, is_missing = split_missing(column.value)
        if name == "OBS_ID" and values.dtype.kind == "U":
            # digits are that integer, as everywhere
            values = to_obs_ids(values)
        if values.dtype.kind == "U":
            # FITS pads text with spaces, and has no mask for it
            values = np.where(is_missing, "", np.char.strip(values))
            is_missing = values == ""
        elif values.dtype.kind == "f":
            is_missing = is_missing | np.isnan(values)
        elif values.dtype.kind not in KINDS:
            self._fail(node, f"{unusable} has the type {values.dtype}")
        return _Operand(values, is_missing, KINDS[values.dtype.kind])

    def visit_Constant(self, node):
        """Take a number, text, truth value or None."""
        value = node.value
        kinds = {bool: "truth", int: "number", float: "number", str: "text"}
        if value is None:
            return _Operand(None, False, "None")
        if type(value) not in kinds:
            self._fail(node, f"{type(value).__name__} is not part of a query")
        # beyond int64, numpy compares as float64, in which different IDs are equal
        if isinstance(value, int) and abs(value) >= INT_MAX:
            self._fail(node, "the number is too large")
        return _Operand(value, False, kinds[type(value)])

    def visit_UnaryOp(self, node):
        """Signs, not and ~."""
        if isinstance(node.op, ast.Not | ast.Invert):
            self._check_bits(node.operand)
            values = self._get_truth(node.operand)
            return _Operand(np.logical_not(values), False, "truth")
        operand = self._get_number(node.operand)
        values = operand.values
        # minus an unsigned integer wraps around
        if isinstance(values, np.ndarray):
            values = _to_float(operand)
        return _to_number(-values if isinstance(node.op, ast.USub) else values)

    def visit_BinOp(self, node):
        """Arithmetic, & and |."""
        if type(node.op) in BITS:
            values = [self._get_truth(_) for _ in (node.left, node.right)]
            return _Operand(BITS[type(node.op)](*values), False, "truth")
        if type(node.op) not in ARITHMETIC:
            self._fail(node, f"{type(node.op).__name__} is not part of a query")
        operands = [self._get_number(_) for _ in (node.left, node.right)]
        values = ARITHMETIC[type(node.op)](*(_to_float(_) for _ in operands))
        return _to_number(values if np.ndim(values) else float(values))

    def visit_BoolOp(self, node):
        """Join by and, or by or."""
        for value in node.values:
            self._check_bits(value)
        values = self._get_truth(node.values[0])
        for value in node.values[1:]:
            values = WORDS[type(node.op)](values, self._get_truth(value))
        return _Operand(values, False, "truth")

    def visit_Compare(self, node):
        """Compare, also in a chain."""
        values, left = True, node.left
        self._check_bits(left)
        for op, right in zip(node.ops, node.comparators, strict=True):
            self._check_bits(right)
            values = np.logical_and(values, self._compare_nodes(left, op, right))
            left = right
        return _Operand(values, False, "truth")

    def _check_bits(self, node):
        """Refuse & and | where pandas and Python take the parts differently."""
        if not (isinstance(node, ast.BinOp) and type(node.op) in BITS):
            return
        start, stop = self._get_span(node)
        before, after = self.text[:start].rstrip(), self.text[stop:].lstrip()
        if not (before.endswith("(") and after.startswith(")")):
            self._fail(
                node, "put the parts of & and | in parentheses, or write and, or"
            )

    def _compare_nodes(self, left, op, right):
        """Compare two nodes, array of bool or bool."""
        is_list = isinstance(right, ast.List | ast.Tuple)
        if isinstance(op, ast.In | ast.NotIn) and not is_list:
            self._fail(right, "in needs a list such as OBS_ID in [1, 2]")
        first = self.visit(left)
        if is_list and isinstance(op, ast.In | ast.NotIn | ast.Eq | ast.NotEq):
            values = self._is_in_list(left, first, right)
            return ~values if isinstance(op, NEGATIVE) else values
        second = self.visit(right)
        for one, other in ((first, second), (second, first)):
            if not _stands_for_missing(other, one):
                continue
            if isinstance(op, ast.Eq | ast.Is):
                return one.is_missing
            if isinstance(op, ast.NotEq | ast.IsNot):
                return np.logical_not(one.is_missing)
        if type(op) not in COMPARISONS:
            self._fail(right, "is and is not are for None, write == or !=")
        self._check_kinds(left, first, right, second)
        values = COMPARISONS[type(op)](first.values, second.values)
        is_missing = np.logical_or(first.is_missing, second.is_missing)
        return np.where(is_missing, isinstance(op, NEGATIVE), values)

    def _is_in_list(self, left, operand, node):
        """Whether values are in a list, array of bool or bool."""
        wanted, is_missing_wanted = [], False
        for element in node.elts:
            item = self.visit(element)
            if np.ndim(item.values):
                self._fail(element, "a list must have values, not columns")
            if _stands_for_missing(item, operand):
                is_missing_wanted = True
            else:
                self._check_kinds(left, operand, element, item)
                wanted.append(item.values)
        values = np.asarray(operand.values)
        # as a comparison, in the precision of the column
        wanted = np.array(
            wanted, dtype=values.dtype if values.dtype.kind == "f" else None
        )
        found = np.isin(values, wanted) if len(wanted) else np.zeros(values.shape, bool)
        found &= np.logical_not(operand.is_missing)
        return found | operand.is_missing if is_missing_wanted else found

    def _check_kinds(self, left, first, right, second):
        kinds = {first.kind, second.kind}
        if len(kinds) == 2 and kinds != {"number", "truth"}:
            parts = [
                f"{_shorten(self._get_text(node))} ({operand.kind})"
                for node, operand in ((left, first), (right, second))
            ]
            self._fail_at(
                self._get_span(left)[0], f"cannot compare {' with '.join(parts)}"
            )

    def _get_truth(self, node):
        operand = self.visit(node)
        if operand.kind != "truth":
            hint = "; put the parts of & and | in parentheses"
            hint = hint if {"&", "|"} & set(self.text) else ""
            self._fail(node, f"{operand.kind} where true or false is needed{hint}")
        return np.logical_and(operand.values, np.logical_not(operand.is_missing))

    def _get_number(self, node):
        operand = self.visit(node)
        if operand.kind != "number":
            self._fail(node, f"{operand.kind} where a number is needed")
        return operand


def _stands_for_missing(operand, other):
    """Whether it is a constant that stands for a missing value of the other."""
    is_text = operand.kind == other.kind == "text"
    is_empty = is_text and isinstance(operand.values, str) and not operand.values
    return (operand.kind == "None" or is_empty) and np.ndim(other.values) > 0


def _to_float(operand):
    """Double precision, in which nothing wraps around; NaN where missing."""
    values = np.asarray(operand.values, dtype=float)
    return np.where(operand.is_missing, np.nan, values)


def _to_number(values):
    return _Operand(values, np.isnan(values), "number")


def _shorten(text):
    return text if len(text) <= 80 else f"{text[:60]} ... {text[-15:]}"
