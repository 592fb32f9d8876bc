"""What several test modules need."""

import copy

from gammapy.data import ObservationMetaData, ObservationTable
from gammapy.datasets import MapDataset
from gammapy.maps import MapAxis, WcsGeom


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
    observation.events.table.meta.update(old)
    observation._meta = ObservationMetaData.from_header(observation.events.table.meta)
    return observation
