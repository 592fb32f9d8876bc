"""Digits in a text are an OBS_ID everywhere, all other text is one error."""

import copy
from functools import partial

import astropy.units as u
import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from gammapy.data import DataStore, Observations
from gammapy.datasets import Datasets, MapDataset
from numpy.testing import assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector, MimicMaker, ScrambleMaker
from gammapy_mimic.analysis.config import OffConfig
from gammapy_mimic.analysis.datasets import add_partners
from gammapy_mimic.data import write_datastore
from gammapy_mimic.data.obs_ids import to_obs_id, to_obs_ids
from gammapy_mimic.selection import MatchCriteria, MimicPlan, OffIndex
from gammapy_mimic.simulate import make_irfs, simulate_observations
from gammapy_mimic.template import make_template

from .helpers import ANY_CONDITIONS

CRITERIA = {**ANY_CONDITIONS, "galactic_latitude": None}
TEXT = ["1", "0001", b"0001", " 1 ", np.str_("01"), np.bytes_(b"1")]
NUMBERS = [1, 1.0, np.int32(1), np.uint8(1), np.float32(1), np.array(1), np.array([1])]
WRONG = ["one", "", "1.5", "1e0", "0x1", 1.5, -1, "-1", True, np.True_, None, np.nan]
WRONG += [10**20, "9" * 30, float("inf")]


@pytest.fixture(scope="module")
def observations():
    return simulate_observations(7, irfs=partial(make_irfs, rate=0.1), random_state=7)


@pytest.fixture(scope="module")
def renamed(observations):
    result = []
    for observation in observations:
        result.append(copy.copy(observation))
        result[-1].obs_id = f"{observation.obs_id:04d}"
    return Observations(result)


@pytest.mark.parametrize("value", TEXT + NUMBERS)
def test_valid(value):
    assert to_obs_id(value) == 1
    assert type(to_obs_id(value)) is int


@pytest.mark.parametrize("value", [*WRONG, np.ma.masked, np.array([1, 2])])
def test_not_valid(value):
    with pytest.raises(ValueError, match="OBS_ID .* is not valid: an integer"):
        to_obs_id(value)


def test_lists():
    expected = [1, 20]
    for item in (
        [1, "0020"],
        (np.int16(1), 20.0),
        np.array(["1", "20"]),
        {1: 0, 20: 0},
    ):
        assert to_obs_ids(item).tolist() == expected
    masked = MaskedColumn([1, 2], mask=[False, True])
    assert to_obs_ids(masked, -1).tolist() == [1, -1]
    with pytest.raises(ValueError, match="not valid"):
        to_obs_ids(masked)
    assert to_obs_ids([]).dtype == int
    with pytest.raises(ValueError, match="a list of OBS_ID is needed"):
        to_obs_ids("12")


@pytest.mark.parametrize(
    "plan",
    [
        {"0001": "0005"},
        {1: "5"},
        {np.int64(1): np.int32(5)},
        {1.0: 5.0},
        Table({"OBS_ID": ["0001"], "OFF_OBS_ID": ["0005"]}),
        Table({"OBS_ID": [b"1"], "OFF_OBS_ID": [5.0]}),
    ],
)
def test_plan(plan, renamed, tmp_path):
    plan = MimicPlan.create(plan)
    assert plan.partners(1) == {1: 5}
    plan.write(tmp_path / "plan.ecsv")
    assert MimicPlan.read(tmp_path / "plan.ecsv").partners(1) == {1: 5}
    mimic = MimicMaker(renamed, plan).make_observation(renamed[0])
    assert mimic.obs_id == mimic.events.table.meta["OBS_ID"] == 1
    assert mimic.events.table.meta["MIM_OBS"] == 5
    assert mimic.meta.obs_info.obs_id == 1


@pytest.mark.parametrize("value", ["five", 5.5, True, -2, None])
def test_plan_with_another(value):
    with pytest.raises(ValueError, match=f"OBS_ID {value!r} is not valid"):
        MimicPlan.create({1: value})
    with pytest.raises(ValueError, match="is not valid"):
        MimicPlan.create({value: 1})


def test_plan_without_partner():
    for value in (-1, "-1", -1.0):
        assert MimicPlan.create({1: value}).questionable == [(1, "no_mimic")]


def test_results_are_those_of_the_integers(observations, renamed):
    made = []
    for pool in (observations, renamed):
        selector = KLBackgroundSelector(pool[3:], CRITERIA, time_request="1 h")
        plan = selector.make_plan(pool[:2], n_sets=1)
        maker = MimicMaker(pool[3:], plan, background=selector)
        mimics = maker.make_observations(pool[:2])
        made.append((plan, mimics, selector.index))
    (plan, mimics, index), (other_plan, others, other_index) = made
    assert plan.partners(1) == other_plan.partners(1)
    assert index.obs_ids.tolist() == other_index.obs_ids.tolist()
    for mimic, other in zip(mimics, others, strict=True):
        assert_array_equal(mimic.events.table["RA"], other.events.table["RA"])
        assert_array_equal(mimic.bkg.data, other.bkg.data)


def test_seeds(observations, renamed):
    pointing = observations[0].pointing.fixed_icrs
    maker = ScrambleMaker([CircleSkyRegion(pointing, 0.3 * u.deg)])
    tables = [
        maker.make_observation(_[0]).events.table for _ in (observations, renamed)
    ]
    assert_array_equal(tables[0]["RA"], tables[1]["RA"])


def test_store_and_templates(renamed, tmp_path):
    write_datastore(renamed[:2], tmp_path / "x")
    store = DataStore.from_dir(tmp_path / "x")
    assert store.obs_table["OBS_ID"].tolist() == [1, 2]
    assert store.obs(1).events.table.meta["OBS_ID"] == 1
    assert make_template(renamed[:2]).meta["OBS_IDS"] == "1,2"
    selector = KLBackgroundSelector(renamed, CRITERIA)
    bkg = selector.make_background(renamed[0], obs_ids=["0005", 6.0])
    assert bkg.meta["OBS_IDS"] == "5,6"
    selected = selector.select(renamed[0], exclude=["0005"])["OFF_OBS_ID"]
    assert 5 not in selected
    index = OffIndex.create(renamed)
    assert index.select(["0003", 2]).obs_ids.tolist() == [2, 3]


def test_store_with_text(observations, tmp_path):
    write_datastore(observations[:6], tmp_path / "x")
    store = DataStore.from_dir(tmp_path / "x")
    for table in (store.hdu_table, store.obs_table):
        table["OBS_ID"] = [f"{_:04d}" for _ in table["OBS_ID"]]
    index = OffIndex.create(store)
    assert index.obs_ids.tolist() == [1, 2, 3, 4, 5, 6]
    mimic = MimicMaker(store, {1: 5}).make_observation(observations[0])
    assert len(mimic.events.table) == len(observations[4].events.table)


def test_same_number_twice(observations, renamed):
    twice = Observations([observations[0], renamed[0]])
    with pytest.raises(ValueError, match=r"OBS_ID \[1\] are there more than once"):
        OffIndex.create(twice)
    with pytest.raises(ValueError, match="more than one partner"):
        MimicPlan.create({1: 5, "0001": 6})


def test_another_text_in_memory(observations, tmp_path):
    run = copy.copy(observations[0])
    run.obs_id = "run one"
    pool = Observations([run, *observations[4:]])
    selector = KLBackgroundSelector(pool, CRITERIA)
    region = CircleSkyRegion(
        run.pointing.fixed_icrs, 0.3 * run.pointing.fixed_icrs.ra.unit
    )
    for call in (
        lambda: OffIndex.create(pool),
        lambda: selector.make_plan(pool[:1], n_sets=1),
        lambda: MimicMaker(pool, {1: 5}).make_observation(run),
        lambda: ScrambleMaker([region]).make_observation(run),
        lambda: write_datastore(pool, tmp_path / "x"),
        lambda: make_template([run]),
    ):
        with pytest.raises(ValueError, match="OBS_ID 'run one' is not valid"):
            call()


def test_configuration_and_criteria():
    assert OffConfig(obs_ids=["0001", 2, 3.0]).obs_ids == [1, 2, 3]
    assert MatchCriteria(exclude_obs_ids=["0001", 2]).exclude_obs_ids == (1, 2)
    for value in (5.5, True, "five", -1):
        with pytest.raises(ValueError, match="is not valid"):
            OffConfig(obs_ids=[value])
        with pytest.raises(ValueError, match="must be a list of OBS_IDs"):
            MatchCriteria(exclude_obs_ids=[value])
    with pytest.raises(ValueError, match="must be a list of OBS_IDs"):
        MatchCriteria(exclude_obs_ids="12")


def test_meta_tables():
    dataset = MapDataset(name="x", meta_table=Table({"OBS_ID": ["0001"]}))
    add_partners(Datasets([dataset]), {"0001": "0005"}, 1)
    assert dataset.meta_table["OFF_OBS_ID"].tolist() == [5]
