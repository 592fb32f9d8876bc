"""Which observations make up a template."""

import logging

import astropy.units as u
import numpy as np
from astropy.table import Table

from ..data.events import read_column
from ..data.headers import OBS_TABLE_COLUMNS
from ..data.obs_ids import shorten

__all__ = [
    "count_livetime",
    "describe_group",
    "make_group_labels",
    "make_group_table",
    "select_livetime",
]

log = logging.getLogger(__name__)

WRAPPED_COLUMNS = ("AZ_PNT", "RA_PNT", "GLON_PNT", "RA_OBJ")


def make_group_labels(obs_table, groups):
    """Make the label of the group that each observation belongs to.

    Parameters
    ----------
    obs_table : `~astropy.table.Table`
        Observation table.
    groups : dict of list
        Bin edges by column, such as ``{"ZEN_PNT": [0, 30, 49, 90]}``, as
        `~astropy.units.Quantity`, or as numbers in the unit that GADF prescribes (deg,
        s) or, of another column, its own. The lower edge belongs to a bin.
        With several columns there is a group for each combination. Azimuths and
        right ascensions are wrapped at 360 deg: ``{"AZ_PNT": [-90, 90, 270]}`` is
        north and south.

    Returns
    -------
    labels : `~numpy.ndarray` of int
        From 0, the last column changing first. -1 for a row outside all groups, which
        gives a warning. Shape (n_rows,).

    Raises
    ------
    ValueError
        If a column is missing or has no numbers, or the edges do not increase.
    """
    if not groups:
        raise ValueError("groups is empty, give bin edges by column.")
    indices, shape = [], []
    for name, edges in groups.items():
        if name not in obs_table.colnames:
            raise ValueError(
                f"There is no column {name!r}, choose from {obs_table.colnames}."
            )
        column = obs_table[name]
        if column.dtype.kind not in "iuf":
            raise ValueError(f"Column {name!r} has no numbers, but {column.dtype}.")
        unit = _get_unit(obs_table, name)
        edges = _check_edges(name, edges, unit)
        values = read_column(obs_table, name, unit)
        if name in WRAPPED_COLUMNS:
            values = edges[0] + (values - edges[0]) % 360
        idx = np.searchsorted(edges, values, side="right") - 1
        inside = (values >= edges[0]) & (values < edges[-1])  # not NaN
        indices.append(np.where(inside, idx, -1))
        shape.append(len(edges) - 1)

    outside = np.min(indices, axis=0) < 0
    labels = np.ravel_multi_index(np.maximum(indices, 0), shape)
    if outside.any():
        rows = obs_table["OBS_ID"][outside] if "OBS_ID" in obs_table.colnames else []
        log.warning(
            f"{outside.sum()} of {len(outside)} observations are in no group of "
            f"{groups}: OBS_ID {shorten(rows)}."
        )
    return np.where(outside, -1, labels)


def _get_unit(obs_table, name):
    """Get the unit of the edges of groups."""
    # not that of the column first: an archive in rad would be cut at 30 rad
    return OBS_TABLE_COLUMNS.get(name) or str(obs_table[name].unit or "")


def _check_edges(name, edges, unit):
    """Array of the edges in a unit, an error if they make no bins."""
    is_list = isinstance(edges, list | tuple | np.ndarray)
    is_valid = is_list and not any(isinstance(_, bool | str | None) for _ in edges)
    try:
        values = u.Quantity(edges).to_value(unit) if hasattr(edges, "unit") else edges
        values = np.asarray(values, dtype=float) if is_valid else np.zeros(0)
        is_valid = values.ndim == 1 and len(values) > 1 and np.isfinite(values).all()
    except (TypeError, ValueError):
        is_valid = False
    if not is_valid or not np.all(np.diff(values) > 0):
        raise ValueError(
            f"The edges of {name!r} must be a list of 2 or more finite numbers that "
            f"increase, such as [0, 30, 60], in {unit or 'the unit of the column'}, "
            f"got {edges!r}."
        )
    return values


def make_group_table(obs_table, groups, templates):
    """Make a table of all groups.

    Parameters
    ----------
    obs_table, groups
        As for `make_group_labels`.
    templates : dict of `~gammapy.irf.BackgroundIRF`
        Templates by label.

    Returns
    -------
    table : `~astropy.table.Table`
        Columns GROUP_ID, the label, the bounds of each column, such as ZEN_PNT_MIN and
        ZEN_PNT_MAX, and N_OBS and LIVETIME of the template: 0 where there is none.
    """
    edges = {}
    for name, values in groups.items():
        unit = _get_unit(obs_table, name)
        edges[name] = u.Quantity(_check_edges(name, values, unit), unit)
    shape = [len(_) - 1 for _ in edges.values()]
    table = Table({"GROUP_ID": np.arange(np.prod(shape))})
    indices = np.unravel_index(table["GROUP_ID"], shape)
    for (name, values), idx in zip(edges.items(), indices, strict=True):
        table[f"{name}_MIN"], table[f"{name}_MAX"] = values[idx], values[idx + 1]
    nothing = {"N_OBS": 0, "LIVETIME": 0.0}
    found = [
        templates[_].meta if _ in templates else nothing for _ in table["GROUP_ID"]
    ]
    table["N_OBS"] = [_["N_OBS"] for _ in found]
    table["LIVETIME"] = [_["LIVETIME"] for _ in found] * u.s
    return table


def describe_group(groups, label):
    """Describe the group that a label stands for.

    Parameters
    ----------
    groups : dict of list
        Groups, as for `make_group_labels`.
    label : int
        Label, not -1.

    Returns
    -------
    description : str
        Such as "ZEN_PNT 30 to 49".
    """
    shape = [len(edges) - 1 for edges in groups.values()]
    indices = np.unravel_index(label, shape)
    parts = [
        f"{name} {edges[idx]} to {edges[idx + 1]}"
        for (name, edges), idx in zip(groups.items(), indices, strict=True)
    ]
    return ", ".join(parts)


def select_livetime(livetimes, time_request):
    """Find how many observations, best first, have the livetime asked for.

    Parameters
    ----------
    livetimes : `~astropy.units.Quantity`
        Livetimes, best observation first. Shape (n,).
    time_request : `~astropy.units.Quantity` or str or None
        Livetime asked for. None is all.

    Returns
    -------
    n_obs : int
        Number of observations, the last of which reaches the livetime asked for. All,
        with a warning, if they do not reach it.

    Raises
    ------
    ValueError
        If there are none, one is not known (NaN), or the livetime asked for is not
        positive.
    """
    livetimes = u.Quantity(livetimes).to("h")
    if time_request is not None and not np.all(np.isfinite(livetimes)):
        raise ValueError("time_request needs all livetimes, but some are not known.")
    if livetimes.size == 0:
        raise ValueError("There are no observations to select from.")
    if time_request is None:
        return livetimes.size
    request = u.Quantity(time_request).to("h")
    if not request > 0:
        raise ValueError(f"time_request must be positive, got {time_request}.")

    n_obs = count_livetime(livetimes, request)
    if n_obs > livetimes.size:
        log.warning(
            f"time_request is {request:.2f}, but there are {livetimes.sum():.2f} in "
            f"{livetimes.size} observations. Using all."
        )
    return min(n_obs, livetimes.size)


def count_livetime(livetimes, time_request):
    """Count the observations that have the livetime asked for, together.

    Parameters
    ----------
    livetimes : `~astropy.units.Quantity`
        Livetimes, best observation first. Shape (n,).
    time_request : `~astropy.units.Quantity`
        Livetime asked for.

    Returns
    -------
    n_obs : int
        Number of observations, n + 1 if they do not have it.
    """
    total = np.cumsum(u.Quantity(livetimes))
    # the sum of the livetimes may miss the request by rounding
    return int(np.sum(total < time_request * (1 - 1e-9))) + 1
