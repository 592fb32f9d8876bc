import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.table import Table
from gammapy.data import ObservationTable
from numpy.testing import assert_allclose

from gammapy_mimic.selection import MimicPlan
from gammapy_mimic.utils.random import random_generator

from .helpers import assign

RNG = np.random.default_rng


def make_tables(n_targets=4, n_off=30, random_state=0):
    rng = RNG(random_state)
    size = n_targets + n_off
    table = ObservationTable()
    table["OBS_ID"] = 100 + np.arange(size)
    table["RA_PNT"] = 10.0 * np.arange(size) % 360
    table["DEC_PNT"] = rng.uniform(-80, -60, size)
    table["OBJECT"] = [f"field {_}" for _ in range(size)]
    table["ALT_PNT"] = rng.uniform(60, 80, size)
    table["LIVETIME"] = rng.uniform(1590, 1610, size)
    return table[:n_targets], table[n_targets:]


NO_LATITUDE = {"galactic_latitude": None, "zenith": None}


def test_randomise_draws_among_the_best():
    cost = RNG(0).uniform(size=(2, 100))
    partners = assign(cost, [1, 2], n_sets=5, n_best=10)
    rank = np.argsort(np.argsort(cost, axis=1), axis=1)
    assert np.all(rank[np.arange(2), partners] < 10)


def test_no_pair_is_repeated_and_reuse_is_even():
    cost = RNG(0).uniform(size=(4, 20))
    partners = assign(cost, [1, 2, 3, 4], n_sets=5, n_best=20)
    assert len({(i, j) for row in partners for i, j in enumerate(row)}) == 20
    assert np.bincount(partners.ravel()).tolist() == [1] * 20


def test_best_first():
    cost = np.array([[0.1, 0.2, 0.3], [0.1, 0.5, 0.3]])
    partners = assign(cost, [1, 2], n_sets=1, randomise=False)
    assert partners.tolist() == [[1, 0]]


def test_partners_do_not_depend_on_the_order():
    targets, off = make_tables()
    plan = MimicPlan.from_obs_tables(targets, off, NO_LATITUDE)
    shuffled = MimicPlan.from_obs_tables(targets[::-1], off[::-1], NO_LATITUDE)
    for name in ("OBS_ID", "MIMIC_SET", "OFF_OBS_ID", "DELTA_ZENITH"):
        assert plan.table[name].tolist() == shuffled.table[name].tolist()


def test_random_state():
    targets, off = make_tables()
    plans = [
        MimicPlan.from_obs_tables(targets, off, NO_LATITUDE, random_state=_)
        for _ in (0, 0, 1)
    ]
    partners = [_.table["OFF_OBS_ID"].tolist() for _ in plans]
    assert partners[0] == partners[1] != partners[2]
    assert plans[2].seed == 1


def test_random_generators_are_independent():
    values = {
        random_generator(*args).integers(2**62)
        for args in [(0, "a", 1, 1), (1, "a", 1, 1), (0, "b", 1, 1), (0, "a", 2, 1)]
    }
    assert len(values) == 4


def test_columns():
    targets, off = make_tables()
    plan = MimicPlan.from_obs_tables(targets, off, NO_LATITUDE, n_sets=2)
    off.add_index("OBS_ID")
    for row in plan.table:
        partner = off.loc[row["OFF_OBS_ID"]]
        target = targets[targets["OBS_ID"] == row["OBS_ID"]][0]
        assert_allclose(row["DELTA_ZENITH"], target["ALT_PNT"] - partner["ALT_PNT"])
        ratio = partner["LIVETIME"] / target["LIVETIME"]
        assert_allclose(row["LIVETIME_RATIO"], ratio)
    assert plan.table["DELTA_ZENITH"].unit == "deg"
    assert plan.sets == [1, 2]
    assert plan.off_obs_ids(1) == sorted(plan.partners(1).values())


def test_target_without_candidate(caplog):
    targets, off = make_tables()
    targets["LIVETIME"][1] = 10_000

    plan = MimicPlan.from_obs_tables(targets, off, NO_LATITUDE, n_sets=2)

    assert plan.questionable == [(101, "no_mimic")]
    assert 101 not in plan.partners(1)
    assert "OBS_ID 101" in caplog.text
    assert "'livetime': 30 of 30" in caplog.text


def test_no_candidate_at_all():
    targets, off = make_tables()
    targets["LIVETIME"] = 10_000
    with pytest.raises(ValueError, match="'livetime': 120 of 120"):
        MimicPlan.from_obs_tables(targets, off)


def test_off_observations_are_the_targets():
    targets, _ = make_tables(n_targets=1)
    with pytest.raises(ValueError, match="'same_observation'"):
        MimicPlan.from_obs_tables(targets, targets)


def test_no_airmass(caplog):
    targets, off = make_tables()
    targets.remove_column("ALT_PNT")
    MimicPlan.from_obs_tables(targets, off, {"galactic_latitude": None})
    assert "No column in the observation table for ['airmass', 'zenith']" in caplog.text


def test_repeated_pairs_are_told(caplog):
    targets, off = make_tables(n_targets=1, n_off=2)
    MimicPlan.from_obs_tables(targets, off, NO_LATITUDE, n_sets=3)
    assert "more than one mimic set" in caplog.text


@pytest.mark.parametrize("suffix", ["ecsv", "fits"])
def test_write_and_read(tmp_path, suffix, caplog):
    targets, off = make_tables()
    targets["LIVETIME"][1] = 10_000
    plan = MimicPlan.from_obs_tables(targets, off, NO_LATITUDE, random_state=7)
    path = tmp_path / f"plan.{suffix}"

    plan.write(path)
    again = MimicPlan.create(path)

    for name in plan.table.colnames:
        np.testing.assert_array_equal(again.table[name], plan.table[name])
        assert again.table[name].dtype.kind == plan.table[name].dtype.kind
    assert again.seed == 7
    assert again.questionable == plan.questionable
    with pytest.raises(OSError, match="exists"):
        plan.write(path)
    plan.write(path, overwrite=True)


def test_create_from_dict_and_table():
    plan = MimicPlan.create({1: 11, 2: 12})
    assert plan.partners(1) == {1: 11, 2: 12}
    assert plan.seed is None
    table = Table({"OBS_ID": [1, 1], "OFF_OBS_ID": [11, 12], "MIMIC_SET": [1, 2]})
    assert MimicPlan.create(table).partners(2) == {1: 12}
    assert MimicPlan.create(plan) is plan


def test_plan_row_without_partner():
    plan = MimicPlan.create({1: 11, 2: -1})
    assert plan.partners(1) == {1: 11}
    assert plan.questionable == [(2, "no_mimic")]


@pytest.mark.parametrize(
    ("pairs", "match"),
    [
        ({1: 1}, r"OBS_ID \[1\].*mimic itself"),
        ({1: 11, 2: 11}, "OFF_OBS_ID 11 is used more than once in mimic set 1"),
        (Table({"OBS_ID": [1]}), "no column.*OFF_OBS_ID"),
        (
            Table({"OBS_ID": [1, 1], "OFF_OBS_ID": [11, 12]}),
            "OBS_ID 1 has more than one partner",
        ),
    ],
)
def test_invalid_plan(pairs, match):
    with pytest.raises(ValueError, match=match):
        MimicPlan.create(pairs)


def test_unknown_set():
    with pytest.raises(ValueError, match=r"no mimic set 3.*\[1\]"):
        MimicPlan.create({1: 11}).partners(3)


def test_invalid_number_of_sets():
    with pytest.raises(ValueError, match="n_sets must be .* of 1 or more, got 0"):
        assign(np.ones((1, 1)), [1], n_sets=0)


def test_plot():
    targets, off = make_tables()
    plan = MimicPlan.from_obs_tables(targets, off, NO_LATITUDE, n_sets=2)
    _, ax = plt.subplots()
    assert plan.plot(ax=ax) is ax
    texts = [_.get_text() for _ in ax.texts]
    assert texts == [str(_) for _ in plan.table["OFF_OBS_ID"]]
    plt.close(ax.figure)
