"""The observation table of an index, complete and as FITS keeps it."""

import logging

import astropy.units as u
import numpy as np
from astropy.table import Column, Table
from gammapy.data import ObservationTable

from ..data.columns import split_missing
from ..data.cut import CUT_TOLERANCE
from ..data.events import get_seconds, get_time_ref, read_column
from ..data.headers import META_KEYS, OBS_TABLE_COLUMNS, make_obs_table
from ..data.obs_ids import shorten, to_obs_ids
from ..data.readers import read_header

__all__ = [
    "FILE_COLUMNS",
    "add_columns",
    "has_unknown",
    "make_broken_table",
    "make_index_table",
    "report_broken",
    "to_native",
    "to_plain_table",
]

log = logging.getLogger(__name__)

FILE_COLUMNS = ("FILE_SIZE", "FILE_TIME", "FILE_HDUS")
"""Columns that tell whether files have changed."""

FILLED_COLUMNS = ("ONTIME", "LIVETIME", "DEADC", "TSTART", "TSTOP", "ALT_PNT", "AZ_PNT")
"""Columns whose unknown values are taken from GTI and header of the events."""


def to_native(values):
    """Copy an array in the byte order of this machine."""
    return np.array(values, dtype=values.dtype.newbyteorder("="))


def to_plain_table(table):
    """Copy of a table that FITS keeps as it is: no masks, no bytes, all in ASCII.

    Without columns of times and coordinates, which are none of the GADF format.
    """
    plain = ObservationTable()
    for name, column in table.columns.items():
        if not isinstance(column, Column | u.Quantity):
            continue
        values, mask = split_missing(column)
        kind = values.dtype.kind
        if kind == "U":
            values = np.char.encode(values, "ascii", "backslashreplace")
            values = np.char.rstrip(np.char.decode(values, "ascii"))
            values = np.where(mask, "", values)
        elif mask.any():
            values = np.where(mask, False if kind == "b" else np.nan, values)
        elif kind in "iu":
            # of one width, as the checksum is one of bytes
            values = values.astype(np.int64)
        plain[name] = Column(to_native(values), unit=column.unit)
    plain.meta.update((key, table.meta[key]) for key in META_KEYS if key in table.meta)
    return plain


def add_columns(table, rows, versions):
    """Add the columns of an index to the observation table of its rows."""
    ranges = np.array([_.energy_range for _ in rows], dtype=float).reshape(-1, 2)
    for name, values in zip(("ENERGY_MIN", "ENERGY_MAX"), ranges.T, strict=True):
        table[name] = Column(values, unit="TeV")
    table["EVENT_COUNT"] = np.array([_.n_events for _ in rows], dtype=np.int64)
    table["GOOD_TIME"] = Column([_.good_time for _ in rows], unit="s", dtype=float)
    versions = np.array(versions, dtype=np.int64).reshape(-1, len(FILE_COLUMNS))
    for name, values in zip(FILE_COLUMNS, versions.T, strict=True):
        table[name] = values


def make_broken_table(broken):
    """Make the table of what cannot be used, from reasons by OBS_ID."""
    obs_ids = sorted(broken)
    reasons = np.array([broken[_] for _ in obs_ids], dtype=str)
    table = Table({"OBS_ID": np.array(obs_ids, dtype=int), "REASON": reasons})
    return Table(to_plain_table(table))


def report_broken(broken, n_obs, is_shard=False):
    """Say how many cannot be used, an error if these are all that there are."""
    if not broken:
        return
    obs_id, reason = min(broken.items())
    if len(broken) == n_obs and not is_shard:
        raise ValueError(
            f"None of {n_obs} observations can be used. OBS_ID {obs_id}: {reason}"
        )
    # what is left out is said also to who wants no warnings
    log.error(
        f"{len(broken)} of {n_obs} observations cannot be used, see 'broken' of the "
        f"index. OBS_ID {obs_id}: {reason}"
    )


def has_unknown(obs_table):
    """Whether an observation table has values that are unknown, or there is none."""
    return obs_table is None or bool(_get_unknown_mask(obs_table).any())


def make_index_table(obs_table, rows, sources):
    """Make the observation table of rows, with what files tell and it does not.

    Parameters
    ----------
    obs_table : `~gammapy.data.ObservationTable` or None
        Observation table, if there is one.
    rows : dict
        Rows of the index by OBS_ID, rising, with the ``good_time`` and ``header``.
    sources : dict of `~gammapy_mimic.data.readers.FileSource`
        Files to read the header of a row from that has none.

    Returns
    -------
    table : `~gammapy.data.ObservationTable`
        Table as FITS keeps it.
    """
    if obs_table is None:
        table = _make_obs_table(rows, sources)
    else:
        table = _complete_obs_table(obs_table, rows, sources)
        _limit_to_good_time(table, np.array([_.good_time for _ in rows.values()]))
    return to_plain_table(table)


def _make_obs_table(rows, sources):
    """Observation table from headers, reading those of rows that were known."""
    if not rows:
        table = ObservationTable()
        table["OBS_ID"] = np.zeros(0, dtype=int)
        return table
    headers = [row.header or read_header(sources[i]) for i, row in rows.items()]
    headers = [_ | {"OBS_ID": i} for i, _ in zip(rows, headers, strict=True)]
    return make_obs_table(headers)


def _complete_obs_table(table, rows, sources):
    """Select rows, and fill what they do not tell from the files of the events."""
    obs_ids, wanted = to_obs_ids(table["OBS_ID"]), np.array([*rows], dtype=int)
    order = np.argsort(obs_ids)
    # without the index of Gammapy's select_obs_id, which breaks in another order
    with table.index_mode("discard_on_copy"):
        table = table[order[np.searchsorted(obs_ids, wanted, sorter=order)]]
    table["OBS_ID"] = wanted
    unknown = _get_unknown_mask(table)
    if not unknown.any():
        return table
    known = _read_filled(table)
    rows = {obs_id: rows[obs_id] for obs_id in table["OBS_ID"][unknown].tolist()}
    found = _make_obs_table(rows, sources)
    for name, values in known.items():
        if name not in found.colnames or np.isfinite(values).all():
            continue
        new = read_column(found, name, OBS_TABLE_COLUMNS[name])
        # the table and the files may count time from different dates
        if name in ("TSTART", "TSTOP") and "MJDREFI" in table.meta:
            new = new + get_seconds(get_time_ref(found.meta), get_time_ref(table.meta))
        values[unknown] = np.where(np.isfinite(values[unknown]), values[unknown], new)
        table[name] = Column(values, unit=OBS_TABLE_COLUMNS[name])
    table.meta = {**found.meta, **table.meta}
    return table


def _limit_to_good_time(table, good_time):
    """Take the time of the GTI, in s, where the table tells more of it."""
    known = _read_filled(table)
    ontime, livetime, deadc = (known[_] for _ in ("ONTIME", "LIVETIME", "DEADC"))
    excess = np.fmax(ontime, livetime) - good_time
    is_too_long = excess > CUT_TOLERANCE
    if not is_too_long.any():
        return
    fraction = np.where(deadc <= 1, deadc, livetime / ontime)
    times = {"ONTIME": good_time, "LIVETIME": fraction * good_time}
    for name, values in times.items():
        values = np.where(is_too_long, values, known[name])
        table[name] = Column(values, unit="s")
    obs_ids = table["OBS_ID"][is_too_long].tolist()
    log.warning(
        f"The observation table has more time than the GTI of {len(obs_ids)} "
        f"observations, up to {np.nanmax(excess):.0f} s, OBS_ID {shorten(obs_ids)}. "
        "ONTIME is taken from the GTI, and LIVETIME follows from it."
    )


def _read_filled(table):
    """Read the columns that may have to be filled, NaN where a value is unknown."""
    columns = {}
    for name in (*FILLED_COLUMNS, "ZEN_PNT"):
        columns[name] = values = np.full(len(table), np.nan)
        if name in table.colnames:
            values[:] = read_column(table, name, OBS_TABLE_COLUMNS[name])
        # of these 0 and less stand for none
        if name in ("ONTIME", "LIVETIME", "DEADC"):
            values[~(values > 0)] = np.nan
    altitude, zenith = columns["ALT_PNT"], columns.pop("ZEN_PNT")
    columns["ALT_PNT"] = np.where(np.isfinite(altitude), altitude, 90 - zenith)
    return columns


def _get_unknown_mask(table):
    """Whether rows have a value that is unknown. Shape (n_rows,)."""
    return ~np.isfinite(list(_read_filled(table).values())).all(axis=0)
