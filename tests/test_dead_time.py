"""Events come in the livetime, background IRFs are rates per observation time."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time
from gammapy.data import DataStore, ObservationFilter, Observations
from gammapy.datasets import MapDataset
from gammapy.makers import MapDatasetMaker
from gammapy.maps import MapAxis, WcsGeom
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic import KLBackgroundSelector, MimicMaker
from gammapy_mimic.data import write_background, write_datastore
from gammapy_mimic.data.irfs import convert_dead_time
from gammapy_mimic.data.observation import get_hdu, get_livetime_fraction
from gammapy_mimic.simulate import make_irfs, simulate_observation
from gammapy_mimic.template import TemplateBins, TemplateCounts, make_template

from .helpers import ANY_CONDITIONS

DEAD_TIMES = 0.05, 0.4
TIME = Time("2015-03-01T00:00")
CRITERIA = {**ANY_CONDITIONS, "galactic_latitude": None}


def simulate(obs_id, deadtime_fraction, **kwargs):
    """Fields that are apart, at one zenith angle."""
    pointing = SkyCoord(120 + 8 * (obs_id % 10), -20, unit="deg")
    return simulate_observation(
        obs_id,
        pointing,
        TIME,
        deadtime_fraction=deadtime_fraction,
        irfs=make_irfs("30 deg", background="2d"),
        **kwargs,
    )


@pytest.fixture(scope="module")
def observations():
    """Two targets of little and much dead time, and OFF observations of 5%."""
    targets = [simulate(obs_id, _) for obs_id, _ in enumerate(DEAD_TIMES, start=1)]
    off = [simulate(obs_id, DEAD_TIMES[0]) for obs_id in range(3, 7)]
    return targets, Observations(off)


def make_dataset(observation):
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", 2)
    geom = WcsGeom.create(
        skydir=observation.pointing.fixed_icrs, width=3, binsz=0.1, axes=[axis]
    )
    maker = MapDatasetMaker(selection=["counts", "background"])
    return maker.run(MapDataset.create(geom), observation)


def test_simulation_has_dead_time(observations):
    """Events follow the livetime, and the background of the observation says so."""
    live = [1 - _ for _ in DEAD_TIMES]
    rates = [_.bkg.data for _ in observations[0]]
    assert_allclose(rates[1] / rates[0], live[1] / live[0])
    n_events = [len(_.events.table) for _ in observations[0]]
    expected = live[1] / live[0]
    assert_allclose(n_events[1] / n_events[0], expected, atol=4 * n_events[1] ** -0.5)
    for observation in observations[0]:
        dataset = make_dataset(observation)
        counts, background = dataset.counts.data.sum(), dataset.background.data.sum()
        assert abs(counts - background) < 4 * np.sqrt(background)


def count_without_noise(observation, bins):
    """Counts of a template with the mean numbers of events."""
    counts = TemplateCounts.from_observation(observation, bins)
    energy = bins.energy_edges[:, np.newaxis] * bins.axes["energy"].unit
    offset = bins.axes["offset"].center
    rate = observation.bkg.integrate_log_log(
        energy=energy, offset=offset, axis_name="energy"
    )
    ontime = observation.observation_time_duration
    expected = (rate * ontime).to_value("sr-1") * bins.solid_angle
    counts.counts = expected * (counts.livetime > 0)[:, np.newaxis]
    # so many that no bin is sparse
    for name in ("counts", "livetimes"):
        setattr(counts, name, 1e6 * getattr(counts, name))
    return counts


@pytest.mark.parametrize("dead_time", DEAD_TIMES)
@pytest.mark.parametrize("off_dead_time", DEAD_TIMES)
def test_closure_without_noise(dead_time, off_dead_time):
    """A template of one dead time, for a target of another one."""
    target, off = simulate(1, dead_time), simulate(2, off_dead_time)
    bins = TemplateBins.create("2d")
    same = count_without_noise(target, bins).to_irf()
    bkg = count_without_noise(off, bins).to_irf(
        livetime_fraction=get_livetime_fraction(target)
    )
    assert_allclose(bkg.data, same.data, rtol=2e-3)
    assert_allclose(bkg.meta["DEADC"], 1 - dead_time)
    # against the truth, where bins are not those at the threshold or the edge
    energy, offset = [2, 5] * bkg.axes["energy"].unit, [0.6, 1.1] * bkg.axes[1].unit
    rates = [
        _.evaluate(energy=energy[:, np.newaxis], offset=offset).to_value(
            "s-1 TeV-1 sr-1"
        )
        for _ in (bkg, target.bkg)
    ]
    assert_allclose(*rates, rtol=2e-2)


def test_selector_makes_templates_for_the_target(observations):
    """And a chain applies them: the same rate of counts in the livetime."""
    targets, off = observations
    selector = KLBackgroundSelector(off, criteria=CRITERIA)
    templates = [selector.make_background(_, obs_ids=[3, 4, 5, 6]) for _ in targets]
    ratio = (1 - DEAD_TIMES[1]) / (1 - DEAD_TIMES[0])
    assert_allclose(templates[1].data, templates[0].data * ratio)
    for target in targets:
        dataset = make_dataset(selector.make_observation(target))
        counts, background = dataset.counts.data.sum(), dataset.background.data.sum()
        assert abs(counts - background) < 4 * np.sqrt(1.25 * background)


def test_mimics_have_the_dead_time_of_their_events(observations):
    """Background of the target, or a template: for the events of the mimic."""
    targets, off = observations
    selector = KLBackgroundSelector(off, criteria=CRITERIA)
    for background in ("off", "target", selector):
        maker = MimicMaker(off, {2: 3}, background=background)
        mimic = maker.make_observation(targets[1])
        assert_allclose(get_livetime_fraction(mimic), 0.95)
        header = mimic.events.table.meta
        assert_allclose([header["DEADC"], header["LIVETIME"] / header["ONTIME"]], 0.95)
        dataset = make_dataset(mimic)
        counts, expected = dataset.counts.data.sum(), dataset.background.data.sum()
        assert abs(counts - expected) < 4 * np.sqrt(1.34 * expected)


def test_background_of_the_target_stays_unread(observations, tmp_path):
    targets, off = observations
    write_datastore(Observations([targets[0], *off]), tmp_path / "s", irfs="copy")
    store = DataStore.from_dir(tmp_path / "s")
    maker = MimicMaker(store, {1: 3}, background="target")
    observation = store.obs(1)
    mimic = maker.make_observation(observation)
    assert get_hdu(mimic, "bkg") is get_hdu(observation, "bkg")


def test_filter_in_phase():
    """Gammapy multiplies the background with all of the observation time."""
    observation = simulate(1, 0.2)
    parameter = {"parameter": "PHASE", "band": (0, 0.25)}
    observation.obs_filter = ObservationFilter(
        event_filters=[{"type": "custom", "opts": parameter}]
    )
    assert_allclose(get_livetime_fraction(observation), 0.8 * 0.25)


def test_conversion():
    bkg = make_template(simulate(1, 0.4))
    assert_allclose(bkg.meta["DEADC"], 0.6)
    data = bkg.data.copy()
    other = convert_dead_time(bkg, 0.9)
    assert_allclose(other.data, 1.5 * data)
    assert_allclose(other.meta["DEADC"], 0.9)
    assert_array_equal(bkg.data, data)
    assert_allclose(convert_dead_time(other, 0.6).data, data)
    # who does not tell is not converted
    del bkg.meta["DEADC"]
    assert convert_dead_time(bkg, 0.9) is bkg


def test_one_template_for_observations_in_a_datastore(observations, tmp_path):
    targets, off = observations
    write_datastore(Observations(targets), tmp_path / "targets", irfs="copy")
    store = DataStore.from_dir(tmp_path / "targets")
    bkg = make_template(off)
    write_background(store, tmp_path / "new", {"all": bkg}, {1: "all", 2: "all"})
    new = DataStore.from_dir(tmp_path / "new")
    for obs_id, dead_time in enumerate(DEAD_TIMES, start=1):
        written = new.obs(obs_id, required_irf="all-optional").bkg
        expected = bkg.data * (1 - dead_time) / bkg.meta["DEADC"]
        assert_allclose(written.quantity.to_value(bkg.unit), expected, rtol=1e-6)
