"""An index in shards, which are made by themselves and merged."""

import re

import numpy as np
from astropy.table import Column
from gammapy.data import ObservationTable

from ..data.events import TIME_KEYS
from ..data.obs_ids import shorten
from ..exclusion.sky_regions import regions_to_text

__all__ = ["check_shards", "merge_tables", "parse_shard", "take_shard"]

BLANKS = {"U": "", "i": -1, "b": False}
"""What stands for an unknown value in a column of this kind, NaN in others."""


def parse_shard(shard):
    """Read which shard of how many is meant.

    Parameters
    ----------
    shard : str or tuple of int
        Number of the shard, from 1, and number of all: ``"3/100"`` or ``(3, 100)``.

    Returns
    -------
    number, n_shards : int
        Both numbers.

    Raises
    ------
    ValueError
        If there is no such shard.
    """
    text = shard if isinstance(shard, str) else "/".join(map(str, shard))
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    number, n_shards = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= n_shards:
        raise ValueError(
            "A shard must be K/N, such as 3/100, with K from 1 to the number N of all "
            f"shards, got {shard!r}"
        )
    return number, n_shards


def take_shard(obs_ids, shard):
    """Select the observations of a shard.

    Parameters
    ----------
    obs_ids : `~numpy.ndarray` of int
        Observations of the archive, rising. Shape (n_obs,).
    shard : str or tuple of int
        See `parse_shard`.

    Returns
    -------
    obs_ids : `~numpy.ndarray` of int
        Every N-th of them, as neighbours may be alike in size. None in a shard beyond
        the number of observations.
    """
    number, n_shards = parse_shard(shard)
    return obs_ids[number - 1 :: n_shards]


def check_shards(shards):
    """Raise an error if indices are not all shards of one archive, each once.

    Parameters
    ----------
    shards : dict of `~gammapy_mimic.selection.OffIndex`
        Shards, by what they are called in an error.

    Raises
    ------
    ValueError
        If one is no shard, or one of other observations, bins or regions, or an
        observation is in two of them or in none. Names the OBS_IDs.
    """
    (first, reference), *others = shards.items()
    for name, index in shards.items():
        if index.archive is None:
            raise ValueError(f"{name} is an index of its own, and no shard.")
    for name, index in others:
        different = np.setxor1d(index.archive, reference.archive).tolist()
        if different:
            raise ValueError(
                f"{name} and {first} are shards of two archives: only one of them has "
                f"OBS_ID {shorten(different)}. Make both anew."
            )
        if _describe_bins(index) != _describe_bins(reference):
            raise ValueError(
                f"{name} and {first} have different bins or exclusion regions. Make "
                "both anew with the same ones."
            )
    obs_ids = [_.obs_ids for _ in shards.values()]
    obs_ids += [np.asarray(_.broken["OBS_ID"]) for _ in shards.values()]
    found, numbers = np.unique(np.concatenate(obs_ids), return_counts=True)
    repeated = found[numbers > 1].tolist()
    if repeated:
        raise ValueError(
            f"OBS_ID {shorten(repeated)}: in more than one of {len(shards)} shards. "
            "Give each shard once."
        )
    missing = np.setdiff1d(reference.archive, found).tolist()
    if missing:
        raise ValueError(
            f"OBS_ID {shorten(missing)}: in none of {len(shards)} shards, so that "
            f"{len(missing)} of {len(reference.archive)} observations are missing. "
            "Give all shards."
        )


def merge_tables(tables):
    """Merge observation tables of shards, as if they had been made at once.

    Parameters
    ----------
    tables : list of `~gammapy.data.ObservationTable`
        Tables without masks. One without rows has no columns that count.

    Returns
    -------
    table : `~gammapy.data.ObservationTable`
        Rows of all, in their order.

    Raises
    ------
    ValueError
        If they count time from different dates.
    """
    tables = [_ for _ in tables if len(_)]
    times = {tuple(_.meta.get(key) for key in TIME_KEYS) for _ in tables}
    if len(times) > 1:
        raise ValueError(
            f"The shards count time from different dates: {sorted(times)}. Make the "
            "index at once, or a datastore with an observation table."
        )
    merged = ObservationTable()
    # in the order of the most complete one
    by_size = sorted(tables, key=lambda table: -len(table.colnames))
    for name in dict.fromkeys(name for table in by_size for name in table.colnames):
        columns = [_[name] for _ in tables if name in _.colnames]
        blank = BLANKS.get(columns[0].dtype.kind, np.nan)
        values = [
            np.asarray(_[name]) if name in _.colnames else np.full(len(_), blank)
            for _ in tables
        ]
        merged[name] = Column(np.concatenate(values), unit=columns[0].unit)
    for table in reversed(tables):
        merged.meta.update(table.meta)
    return merged


def _describe_bins(index):
    binning = index.binning
    edges = binning.energy_edges.tolist(), binning.offset_edges.tolist()
    return *edges, regions_to_text(binning.exclusion_regions)
