"""Real data, where $GAMMAPY_DATA has them: H.E.S.S. DL3 DR1 and VERITAS."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from gammapy.data import DataStore
from gammapy.datasets import MapDataset
from gammapy.irf import FoVAlignment
from gammapy.makers import DatasetsMaker, MapDatasetMaker, SafeMaskMaker
from gammapy.maps import MapAxis, WcsGeom
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector, MimicMaker
from gammapy_mimic.data import find_broken_files, write_datastore
from gammapy_mimic.data.events import is_in_gti
from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.makers import reduce_fov_background
from gammapy_mimic.selection import MimicPlan

from .helpers import need_runs, select_runs
from .test_readme_table import get_criteria, get_widths


def make_plan(store, tag, **kwargs):
    targets, off = (select_runs(store, _) for _ in (tag, "offdata"))
    plan = MimicPlan.from_obs_tables(targets, off, **kwargs)
    return plan, store.get_observations(targets["OBS_ID"])


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["random", "conditions"])
@pytest.mark.parametrize(
    ("tag", "n_mimics"), [("pks2155_flare", 15), ("msh1552", 20)], ids=str
)
def test_hess_significance_of_five_sets(hess_store, tag, n_mimics, choice):
    """FoV background, 0.1 deg correlation, 0.5-20 TeV, partners without events."""
    plan, observations = make_plan(hess_store, tag, criteria=get_criteria(choice))
    datasets = []
    for mimic_set in plan.sets:
        mimics = MimicMaker(hess_store, plan, mimic_set).make_observations(observations)
        assert len(mimics) == n_mimics
        dataset = reduce_fov_background(mimics, energy_range=("0.5 TeV", "20 TeV"))
        datasets.append(dataset)
    result = MimicSystematicsEstimator().run(datasets, plan=plan)
    *rows, total = result.tables["significance"]
    assert len(rows) == 5
    for row in rows:
        difference = row["mean"] - row["expected_mean"]
        assert abs(difference) < 3 * row["mean_err"] < 0.15
        # of 20 sets, the largest
        assert abs(row["width"] - 1) < 3.5 * row["width_err"] < 0.08
    width = f"{total['width']:.3f} ± {total['width_err']:.3f}"
    assert width == get_widths()[tag][choice]


def test_hess_partners(hess_store):
    """Azimuth cuts leave partners for fewer runs, as the criteria say."""
    plan, _ = make_plan(hess_store, "msh1552", n_sets=1)
    # also for the run of half the usual time
    assert plan.questionable == []
    assert 20137 in plan.cuts(1)
    whole, _ = make_plan(hess_store, "msh1552", n_sets=1, livetime="whole")
    assert whole.questionable == [(20137, "no_mimic")]
    options = {"n_sets": 1, "criteria": {"azimuth": "45 deg"}}
    for tag, n_partners in {"pks2155_flare": 10, "msh1552": 6}.items():
        plan, _ = make_plan(hess_store, tag, **options)
        assert len(plan.partners(1)) == n_partners


def test_hess_default_plan(hess_store):
    """All runs of MSH 15-52 have a partner in all sets that is not refused."""
    targets, off = (select_runs(hess_store, _) for _ in ("msh1552", "offdata"))
    source = CircleSkyRegion(SkyCoord(228.529, -59.157, unit="deg"), 0.4 * u.deg)
    off = hess_store.get_observations(off["OBS_ID"])
    selector = KLBackgroundSelector(off, exclusion_regions=[source])
    plan = selector.make_plan(hess_store.get_observations(targets["OBS_ID"]))
    assert plan.sets == [1, 2, 3, 4, 5]
    obs_ids = sorted(targets["OBS_ID"])
    for mimic_set in plan.sets:
        assert sorted(plan.partners(mimic_set, questionable=False)) == obs_ids
    assert len(obs_ids) == 20
    assert plan.unlike == []


def get_offset(observation):
    """Offsets in deg of events that count, in float64 also where a file has float32."""
    events = observation.events
    table = events.table[is_in_gti(events.time, observation.gti)]
    radec = [np.asarray(table[name], dtype=float) for name in ("RA", "DEC")]
    pointing = observation.pointing.fixed_icrs
    return SkyCoord(*radec, unit="deg").separation(pointing).deg


@pytest.mark.slow
def test_hess_events_far_off_axis(hess_store):
    """Some events lie tens of degrees off axis. They keep their offset, too."""
    plan, observations = make_plan(hess_store, "msh1552", n_sets=2)
    largest = 0
    for mimic_set in plan.sets:
        maker = MimicMaker(hess_store, plan, mimic_set)
        for target in observations:
            if not maker.can_make(target):
                continue
            offsets = [
                get_offset(_)
                for _ in (
                    maker.get_off_observation(target),
                    maker.make_observation(target),
                )
            ]
            assert_allclose(*offsets, atol=1e-9)
            largest = max(largest, offsets[0].max())
    assert largest > 30


@pytest.mark.parametrize("irfs", ["link", "copy"])
def test_hess_store(hess_store, tmp_path, irfs):
    """The same maps from disk, with the longitude that Gammapy reverses."""
    need_runs(hess_store, 20136, 20734)
    target = hess_store.obs(20136)
    mimic = MimicMaker(hess_store, {20136: 20734}).make_observation(target)
    write_datastore([mimic], tmp_path / "store", irfs=irfs)
    store = DataStore.from_dir(tmp_path / "store")
    again = store.obs(20136)

    assert find_broken_files(store, [20136]) == {}
    assert again.bkg.fov_alignment is FoVAlignment.REVERSE_LON_RADEC
    axis = MapAxis.from_energy_bounds("0.5 TeV", "20 TeV", nbin=3)
    true_axis = MapAxis.from_energy_bounds(
        "0.3 TeV", "30 TeV", nbin=4, name="energy_true"
    )
    geom = WcsGeom.create(
        skydir=target.target_radec, width=4, binsz=0.1, axes=[axis], proj="TAN"
    )
    reference = MapDataset.create(geom, energy_axis_true=true_axis)
    result, expected = (MapDatasetMaker().run(reference, _) for _ in (again, mimic))
    for name in ("counts", "exposure", "background"):
        assert_allclose(
            getattr(result, name).data, getattr(expected, name).data, rtol=1e-9
        )
    assert_array_equal(result.psf.psf_map.data, expected.psf.psf_map.data)
    assert_array_equal(result.edisp.edisp_map.data, expected.edisp.edisp_map.data)


def test_veritas_without_background(veritas_store, tmp_path, caplog):
    """Point-like IRFs, no background, times in UTC, Xoff and Yoff."""
    need_runs(veritas_store, 64080, 64083)
    target = veritas_store.obs(64080, required_irf="point-like")
    off = veritas_store.obs(64083, required_irf="point-like")
    maker = MimicMaker(veritas_store, {64080: 64083})
    mimic = maker.make_observation(target)

    assert_array_equal(mimic.events.table["Xoff"], off.events.table["Xoff"])
    assert {"ALT", "AZ"} <= set(mimic.events.table.colnames)
    assert mimic.tstart.scale == "utc"
    assert abs(mimic.tstart - target.tstart) < 1 * u.us
    assert mimic.events.table.meta["DATE-OBS"][:19] == "2012-10-13T10:52:08"
    assert mimic.events.table.meta["NSBLEVEL"] == off.events.table.meta["NSBLEVEL"]

    write_datastore([mimic], tmp_path / "store")
    again = DataStore.from_dir(tmp_path / "store").obs(64080, required_irf="point-like")
    # of the OFF observation, as all IRFs
    assert_array_equal(again.rad_max.quantity, off.rad_max.quantity)
    assert again.rad_max.quantity.unit == "deg"
    assert_array_equal(again.events.table["RA"], mimic.events.table["RA"])

    axis = MapAxis.from_energy_bounds("0.5 TeV", "20 TeV", nbin=2)
    true_axis = MapAxis.from_energy_bounds(
        "0.3 TeV", "30 TeV", nbin=3, name="energy_true"
    )
    geom = WcsGeom.create(skydir=target.target_radec, width=3, binsz=0.1, axes=[axis])
    reference = MapDataset.create(geom, energy_axis_true=true_axis)
    makers = [
        MapDatasetMaker(selection=["counts", "exposure", "edisp"]),
        maker,
        SafeMaskMaker(methods=["offset-max"], offset_max=1.5 * u.deg),
    ]
    dataset = DatasetsMaker(makers, stack_datasets=False).run(reference, [target])[0]
    offset = off.events.radec.separation(off.pointing.fixed_icrs)
    energy = off.events.energy
    selected = (offset < 1.3 * u.deg) & (energy > 0.5 * u.TeV) & (energy < 20 * u.TeV)
    assert dataset.counts.data.sum() >= selected.sum() > 20
    assert np.all(np.isfinite(dataset.exposure.data))
