"""Put the events of a table at new positions."""

import logging
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.table import Column

from ..data.events import get_seconds, read_column
from ..utils.coordinates import (
    from_polar,
    get_azimuth,
    get_offset,
    to_lon_lat,
    to_vectors,
)
from .fov_columns import turn_fov_columns

__all__ = ["FoVEvents", "fill_table", "move_events"]

log = logging.getLogger(__name__)

FOV_COLUMNS = (("DETX", "DETY"), ("Xoff", "Yoff"))


class FoVEvents(NamedTuple):
    """Events, seen from the camera centre."""

    frame: np.ndarray
    """Unit vectors to the east, north and centre of the FoV. Shape (3, 3)."""
    vectors: np.ndarray
    """Directions of the events, in this frame. Shape (3, n)."""
    offset: np.ndarray
    """Offsets, in deg. Shape (n,)."""
    energy: np.ndarray
    """Energies, in TeV. Shape (n,)."""

    @classmethod
    def create(cls, ra, dec, energy, frame):
        """See events from a frame, for positions (ICRS) in deg."""
        vectors = frame @ to_vectors(ra, dec)
        return cls(frame, vectors, get_offset(vectors), energy)


def move_events(table, fov, moved):
    """Put events at new positions, at their times.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Events. Not changed.
    fov : `FoVEvents`
        The same events, in the field of view. Shape (n,).
    moved : tuple of `~numpy.ndarray`
        Indices of the events that are moved, their new offsets, in deg, and azimuths,
        in rad. Shape (m,).

    Returns
    -------
    table : `~astropy.table.Table`
        Events in the same order.
    """
    result = table.copy()
    _set_positions(result, moved[0], table, fov, moved)
    return result


def fill_table(table, fov, moved, is_removed, gti, rng):
    """Remove events, and add copies of others at new positions and times.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Events. Not changed.
    fov : `FoVEvents`
        The same events, in the field of view. Shape (n,).
    moved : tuple of `~numpy.ndarray`
        Indices of the events that are copied, offsets, in deg, and azimuths, in rad,
        of the copies. Shape (m,).
    is_removed : `~numpy.ndarray` of bool
        Whether events are removed. Shape (n,).
    gti : `~gammapy.data.GTI`
        Good time intervals, in which the times of the copies are uniform.
    rng : `~numpy.random.Generator`
        Random generator.

    Returns
    -------
    table : `~astropy.table.Table`
        Events in the order of time. The copies have new EVENT_ID.
    """
    copied, kept = moved[0], np.nonzero(~is_removed)[0]
    begin = gti.time_start[0]
    seconds, start, stop = (
        get_seconds(time, begin)
        for time in (table["TIME"], gti.time_start, gti.time_stop)
    )
    # uniform in the intervals, laid end to end
    edges = np.concatenate([[0], np.cumsum(stop - start)])
    draw = rng.uniform(0, edges[-1], len(copied))
    idx = np.searchsorted(edges, draw, side="right") - 1
    idx = idx.clip(0, len(start) - 1)
    new_seconds = start[idx] + draw - edges[idx]

    order = np.argsort(np.concatenate([seconds[kept], new_seconds]), kind="stable")
    result = table[np.concatenate([kept, copied])[order]]
    rows = np.empty_like(order)
    rows[order] = np.arange(len(order))
    rows = rows[len(kept) :]
    result["TIME"][rows] = begin + new_seconds * u.s
    if "EVENT_ID" in table.colnames:
        result["EVENT_ID"][rows] = np.max(table["EVENT_ID"]) + 1 + np.arange(len(rows))
    _set_positions(result, rows, table, fov, moved, seconds, new_seconds)
    return result


def _set_positions(result, rows, table, fov, moved, *seconds):
    """Set all that depends on the position in the FoV, in rows of the result.

    ``seconds`` are the times of the events of the table, and the new times of the rows.
    """
    idx, offset, azimuth = moved
    radec = to_lon_lat(fov.frame.T @ from_polar(offset, azimuth))
    for name, values in zip(("RA", "DEC"), radec, strict=True):
        _set_column(result, name, rows, values)
    if "THETA" in table.colnames:
        _set_column(result, "THETA", rows, offset)
    for names in FOV_COLUMNS:
        if not set(names) <= set(table.colnames):
            continue
        # angles in deg, others in their own unit, such as cm
        units = {u.Unit(table[name].unit or "deg") for name in names}
        is_angle = all(unit.is_equivalent("deg") for unit in units)
        unit = "deg" if is_angle or len(units) > 1 else str(units.pop())
        x, y = (read_column(table, name, unit) for name in names)
        old = fov.offset, get_azimuth(fov.vectors)
        turned = turn_fov_columns(x, y, old, (offset, azimuth), idx, *seconds)
        if turned is None:
            log.warning(
                f"The columns {names} do not fit RA and DEC of the events. Left out."
            )
            result.remove_columns(names)
            continue
        for name, values in zip(names, turned, strict=True):
            _set_column(result, name, rows, values, unit)
    if "PHI" in result.colnames:
        result.remove_column("PHI")


def _set_column(table, name, rows, values, unit="deg"):
    """Set values, as float64 in a unit that the column has from now on."""
    new = read_column(table, name, unit)
    new[rows] = values
    table[name] = Column(new, unit=unit, description=table[name].info.description)
