"""A part of the good time of an observation: events and good time intervals alike."""

import copy

import astropy.units as u
import numpy as np
from gammapy.data import GTI, ObservationFilter

from .checks import get_intervals
from .events import EDGE_TOLERANCE, get_seconds, is_in_good_time, replace_table
from .headers import derive_header
from .observation import (
    get_gti,
    get_hdu,
    get_livetime_fraction,
    load_events_file,
    replace_parts,
)

__all__ = ["CUT_TOLERANCE", "check_cut", "cut_observation"]

CUT_TOLERANCE = 1.0
"""In s, by which a part may reach beyond the good time: tables have rounded times."""


def check_cut(start, stop, good_time=np.nan):
    """Raise an error if this is no part of a good time.

    Parameters
    ----------
    start, stop : float
        Begin and end of the part, in s of good time. Both NaN: all of it.
    good_time : float, optional
        Good time, in s. Default is that it is not known.

    Raises
    ------
    ValueError
        If only one of both is given, the part begins before 0, has no length, or ends
        more than `CUT_TOLERANCE` beyond the good time. Names ``CUT_START`` or
        ``CUT_STOP``, the columns of a plan.
    """
    if np.isnan(start) and np.isnan(stop):
        return
    way_out = "Change it, or set CUT_START and CUT_STOP to nan for the whole."
    if np.isnan(start) or np.isnan(stop):
        name = "CUT_START" if np.isnan(start) else "CUT_STOP"
        raise ValueError(f"{name}: nan, but the other end is given. {way_out}")
    if start < 0:
        raise ValueError(f"CUT_START: {start:.10g} s is negative. {way_out}")
    if not start < stop < np.inf:
        raise ValueError(
            f"CUT_STOP: {stop:.10g} s is not after CUT_START, {start:.10g} s. {way_out}"
        )
    # what is not known (NaN) compares as False
    if start >= good_time or stop > good_time + CUT_TOLERANCE:
        name, value = ("CUT_STOP", stop) if start < good_time else ("CUT_START", start)
        raise ValueError(
            f"{name}: {value:.10g} s is beyond the good time of the OFF observation, "
            f"{good_time:.10g} s. {way_out}"
        )


def cut_observation(observation, start, stop):
    """Cut an observation to a part of its good time.

    The part ends before ``stop``: of two parts that follow each other, each event is in
    one. Only the last part has the end of the good time, where edges are included.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation. Not changed, and its IRFs are not read.
    start, stop : float
        Begin and end of the part, in s of good time: seconds from the start of the
        first good time interval, without the gaps between intervals, of what a filter
        in time leaves.

    Returns
    -------
    observation : `~gammapy.data.Observation`
        Events and GTI of the part. Times, ONTIME and LIVETIME in the header of the
        events follow from it. Filters of events stay filters; one in time is applied.

    Raises
    ------
    ValueError
        As `check_cut`, or if there are no events, or no GTI.
    """
    # what is read is not kept by the one that was given
    observation = copy.copy(observation)
    if get_hdu(observation, "events") is None:
        raise ValueError(f"OBS_ID {observation.obs_id} has no events to cut.")
    load_events_file(observation)
    fraction = get_livetime_fraction(observation)
    filters = observation.obs_filter
    # others are for those who use the events, which may be scrambled first
    observation.obs_filter = ObservationFilter(
        filters.time_filter, inverted_time=filters.inverted_time
    )
    gti = get_gti(observation)
    order = np.argsort(gti.time_start)
    gti = GTI(gti.table[order], reference_time=gti.time_ref)
    begin, end = get_intervals(gti, gti.time_start[0])
    duration = end - begin
    before = np.cumsum(duration) - duration
    check_cut(start, stop, duration.sum())
    # in each interval, from its begin
    low, high = (
        _snap(np.clip(_ - before, 0, duration), duration) for _ in (start, stop)
    )
    kept = high > low
    if not kept.any():
        raise ValueError(
            f"CUT_STOP: there is no good time from {start:.10g} to {stop:.10g} s."
        )
    events = _select_part(observation, gti, begin, end, low, high)
    gti = GTI.create(
        gti.time_start[kept] + low[kept] * u.s,
        gti.time_stop[kept] - (duration - high)[kept] * u.s,
        reference_time=gti.time_ref,
    )
    events.table.meta |= derive_header(events.table.meta, gti, fraction)
    observation.obs_filter = ObservationFilter(
        event_filters=copy.deepcopy(filters.event_filters)
    )
    return replace_parts(observation, {}, events=events, gti=gti)


def _snap(seconds, duration):
    """Take for the begin or end of an interval what differs by no more than rounding.

    Alike for the end of one part and the begin of the next.
    """
    seconds = np.where(seconds <= EDGE_TOLERANCE, 0, seconds)
    return np.where(duration - seconds <= EDGE_TOLERANCE, duration, seconds)


def _select_part(observation, gti, begin, end, low, high):
    """Select the events of a part, in s from the first interval."""
    events = observation.events
    seconds = get_seconds(events.time, gti.time_start[0])
    idx = np.clip(np.searchsorted(begin, seconds, side="right") - 1, 0, None)
    duration = (end - begin)[idx]
    since = np.clip(seconds - begin[idx], 0, duration)
    is_in_part = (low[idx] <= since) & (low[idx] < high[idx])
    # the end of an interval is a good time
    is_in_part &= (since < high[idx]) | (high[idx] == duration)
    is_in_part &= is_in_good_time(seconds, begin, end)
    # an invalid time is for the check of the observation to find
    is_in_part |= ~np.isfinite(seconds)
    return replace_table(events, events.table[is_in_part])
