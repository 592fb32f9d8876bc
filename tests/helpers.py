"""What several test modules need."""

import copy
import os
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from gammapy.data import (
    GTI,
    EventList,
    Observation,
    ObservationMetaData,
    ObservationTable,
)
from gammapy.datasets import MapDataset
from gammapy.maps import MapAxis, WcsGeom

from gammapy_mimic.data.observation import IRF_NAMES, get_hdu
from gammapy_mimic.selection.assignment import assign_partners
from gammapy_mimic.selection.candidates import Candidates

HESS_RUNS = {
    "crab": [23523, 23526, 23559, 23592],
    "msh1552": [
        *(20136, 20137, 20151, 20282, 20283, 20301, 20302, 20303, 20322, 20323),
        *(20324, 20325, 20343, 20344, 20345, 20346, 20365, 20366, 20367, 20368),
    ],
    "offdata": [
        *(20275, 20339, 20561, 20734, 20915, 21613, 21753, 21807, 21824, 21851),
        *(22022, 22593, 22997, 23040, 23077, 23143, 23246, 23573, 23635, 23651),
        *(23736, 25345, 25443, 25511, 26077, 26791, 26827, 26850, 26964, 27044),
        *(27121, 27939, 27987, 28341, 28967, 28981, 29024, 29072, 29118, 29177),
        *(29433, 29487, 29526, 29556, 29683),
    ],
    "pks2155_flare": list(range(33787, 33802)),
}
"""Runs of H.E.S.S. DL3 DR1 that tests use, by their TARGET_TAG."""


ANY_CONDITIONS = dict.fromkeys(
    ("livetime", "airmass", "zenith", "muon_efficiency", "rate")
)
"""Criteria of partners that were observed under whatever conditions."""


def find_data(*names):
    """Find a file or folder of $GAMMAPY_DATA by the parts of its path, or skip."""
    path = Path(os.environ.get("GAMMAPY_DATA", ""), *names)
    if "GAMMAPY_DATA" not in os.environ or not path.exists():
        pytest.skip(f"needs {'/'.join(names)} in $GAMMAPY_DATA")
    return path


def find_runs(store):
    """Find the runs of a datastore whose files are there."""
    locations = {
        obs_id: store.hdu_table.hdu_location(obs_id, hdu_type="events")
        for obs_id in store.obs_ids
    }
    return [_ for _, location in locations.items() if location.path().exists()]


def need_runs(store, *runs):
    """Give the OBS_IDs of runs, or skip the test where the datastore lacks some.

    Runs are OBS_IDs, or names in `HESS_RUNS`.
    """
    obs_ids = [obs_id for run in runs for obs_id in HESS_RUNS.get(run, [run])]
    missing = sorted(set(obs_ids) - set(find_runs(store)))
    if missing:
        names = ", ".join(map(str, missing[:5])) + ", ..." * (len(missing) > 5)
        pytest.skip(f"needs {len(missing)} more runs in $GAMMAPY_DATA: {names}")
    return obs_ids


def select_runs(store, name):
    """Rows of the observation table of all runs of a name in `HESS_RUNS`, or skip."""
    return store.obs_table[np.isin(store.obs_table["OBS_ID"], need_runs(store, name))]


def make_reference(observation, **kwargs):
    energy_axis = MapAxis.from_energy_bounds("0.5 TeV", "20 TeV", nbin=3)
    true_axis = MapAxis.from_energy_bounds(
        "0.3 TeV", "30 TeV", nbin=4, name="energy_true"
    )
    geom = WcsGeom.create(
        skydir=observation.target_radec, width=5, binsz=0.2, axes=[energy_axis]
    )
    return MapDataset.create(geom, energy_axis_true=true_axis, **kwargs)


def make_obs_table(columns):
    """Make an observation table of a dict of columns."""
    table = ObservationTable()
    for name, values in columns.items():
        table[name] = values
    return table


def to_old_hess(observation):
    """Make it look like an old H.E.S.S. file, whose longitude Gammapy reverses."""
    observation = copy.deepcopy(observation)
    old = {"CREATOR": "SASH FITS::EventListWriter", "HDUVERS": "0.2"}
    header = observation.events.table.meta
    header.update(old)
    return replace(observation, meta=ObservationMetaData.from_header(header))


def replace(observation, **parts):
    """Make an observation with some other parts; what is on disk is not read.

    Parts are arguments of `~gammapy.data.Observation`. The observation stays as it is.
    """
    kept = {name: get_hdu(observation, name) for name in ("events", "gti", *IRF_NAMES)}
    # Gammapy has none where the header lacks a key
    meta = observation.meta or ObservationMetaData()
    kept |= {
        "obs_id": observation.obs_id,
        "meta": meta.model_copy(),
        "pointing": observation.pointing,
        "location": observation.meta and observation.observatory_earth_location,
        "obs_filter": observation.obs_filter.copy(),
    }
    return Observation(**kept | parts)


def replace_events(observation, table):
    """Make an observation with another table of events, of the same header."""
    return replace(observation, events=EventList(table, observation.events.meta))


def remove_location(observation):
    """Make an observation that does not say where it was taken."""
    meta = observation.meta.model_copy(update={"location": None})
    return replace(observation, location=None, meta=meta)


def cut_gti(observation, starts=(0, 15), stops=(5, 22)):
    """Make an observation of good time with gaps, in minutes from its start."""
    gti = observation.gti
    begin = (gti.time_start[0] - gti.time_ref).to("s")
    start, stop = (begin + list(_) * u.min for _ in (starts, stops))
    return replace(observation, gti=GTI.create(start, stop, gti.time_ref))


def read_axes(ax):
    """All that is drawn in axes: words, and the numbers of what has any."""
    words = [ax.get_title(), ax.get_xlabel(), ax.get_ylabel()]
    words += [_.get_text() for _ in ax.texts]
    points = [_.get_xydata() for _ in ax.lines]
    points += [_.get_path().vertices for _ in ax.patches]
    points += [path.vertices for _ in ax.collections for path in _.get_paths()]
    values = [_.get_array() for _ in (*ax.images, *ax.collections)]
    values = [np.ma.filled(_.astype(float), np.nan) for _ in values if _ is not None]
    arrays = [_[np.isfinite(_).all(axis=1)] for _ in points]
    arrays += [_[np.isfinite(_)] for _ in values]
    return words, [_ for _ in arrays if _.size]


def make_candidates(cost, obs_ids, off_obs_ids=None, log_odds=None):
    """Candidates of targets from a matrix of costs, inf where one is rejected."""
    off_obs_ids = np.arange(cost.shape[1]) if off_obs_ids is None else off_obs_ids
    order, candidates = np.argsort(off_obs_ids), []
    for idx, obs_id in enumerate(obs_ids):
        rows = order[cost[idx, order] < np.inf]
        odds = None if log_odds is None else log_odds[idx, rows]
        values = off_obs_ids[rows], cost[idx, rows], odds
        candidates.append(Candidates(int(obs_id), *values))
    return candidates


def assign(cost, obs_ids, n_sets=5, log_odds=None, **options):
    """Column of each target in each set, from a matrix of costs, -1 for none."""
    candidates, off = make_candidates(cost, obs_ids, log_odds=log_odds), cost.shape[1]
    options |= {"n_sets": n_sets, "n_targets": len(obs_ids)}
    kept, partners = assign_partners(candidates, np.arange(off), **options)
    return get_partners(kept, partners)


def get_partners(kept, partners):
    """OFF observation of each target in each set, -1 for none."""
    rows = [
        np.append(_.off_obs_ids, -1)[row]
        for _, row in zip(kept, partners.T, strict=True)
    ]
    return np.transpose(rows)
