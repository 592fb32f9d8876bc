"""Options of plans, and criteria that cannot act, are told by name."""

import itertools

import numpy as np
import pytest
from astropy.table import Table
from gammapy.data import Observations

from gammapy_mimic import KLBackgroundSelector, MimicMaker
from gammapy_mimic.selection import MatchCriteria, MimicPlan
from gammapy_mimic.selection.conditions import Conditions

from .helpers import ANY_CONDITIONS
from .test_plan import NO_LATITUDE, make_tables

NO_INTEGERS = [-1, 1.5, 2.0, "3", True, np.nan, [1]]


@pytest.fixture(scope="module")
def selector(stores):
    return KLBackgroundSelector(stores["off"], criteria=ANY_CONDITIONS, kl_max=None)


@pytest.fixture(scope="module")
def targets(stores):
    return stores["targets"].get_observations()


class TestOptions:
    """Before anything is read, which may take hours."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *itertools.product(("n_sets", "n_best", "random_state"), NO_INTEGERS),
            *[("n_sets", 0), ("n_best", 0), ("n_sets", None), ("random_state", None)],
        ],
    )
    def test_integers(self, stores, name, value):
        match = f"{name} must be an integer of {int(name != 'random_state')} or more"
        new = KLBackgroundSelector(stores["off"])
        with pytest.raises(ValueError, match=match):
            new.make_plan(stores["targets"].get_observations(), **{name: value})
        assert new._pool._index is None
        with pytest.raises(ValueError, match=match):
            MimicPlan.from_obs_tables(*make_tables(), NO_LATITUDE, **{name: value})

    def test_the_value_is_told_as_it_was_given(self, selector, targets):
        with pytest.raises(ValueError, match=r"n_best must be .*, got 0$"):
            selector.make_plan(targets, n_best=0)

    @pytest.mark.parametrize("value", [0, -1, np.nan, "0.1", True, [0.1, 0.2]])
    def test_kl_max(self, stores, value):
        with pytest.raises(ValueError, match="kl_max must be a positive number, or"):
            KLBackgroundSelector(stores["off"], kl_max=value)

    @pytest.mark.parametrize("value", [1, np.float32(0.1), np.inf, None])
    def test_valid_kl_max(self, stores, value):
        assert KLBackgroundSelector(stores["off"], kl_max=value).kl_max == value


class TestTargets:
    def test_one_list_or_store(self, selector, stores, targets):
        expected = selector.make_plan(targets, n_sets=2).table
        for observations in (stores["targets"], list(targets)):
            plan = selector.make_plan(observations, n_sets=2)
            assert plan.table["OFF_OBS_ID"].tolist() == expected["OFF_OBS_ID"].tolist()
        one = selector.make_plan(targets[0], n_sets=2).table
        several = selector.make_plan(targets[:1], n_sets=2).table
        assert one["OFF_OBS_ID"].tolist() == several["OFF_OBS_ID"].tolist()

    @pytest.mark.parametrize("observations", [3, "targets", [1, 2], None])
    def test_something_else(self, selector, observations):
        with pytest.raises(TypeError, match="^observations must be a DataStore or Obs"):
            selector.make_plan(observations)

    def test_none(self, selector):
        with pytest.raises(ValueError, match="observations has no observations"):
            selector.make_plan(Observations())

    @pytest.mark.parametrize("livetime", [0.0, -1.0])
    def test_livetime_that_is_not_known(self, livetime):
        """0 stands for none: what is not known is used whole."""
        targets, off = make_tables()
        targets["LIVETIME"][1] = livetime
        criteria = NO_LATITUDE | {"livetime": None}
        rows = MimicPlan.from_obs_tables(targets, off, criteria, n_sets=1).table
        assert np.all(rows["OFF_OBS_ID"] > 0)
        assert np.isnan(rows["LIVETIME_RATIO"]).tolist() == [False, True, False, False]
        assert np.isnan(rows["CUT_START"][1])


class TestWaysOut:
    @pytest.mark.parametrize(("length", "choice"), [(0.1, "cut"), (10, "whole")])
    def test_livetime(self, length, choice):
        """Of those that are too short, and of those that are too long."""
        targets, off = make_tables()
        off["LIVETIME"] *= length
        match = "most is 'livetime'.*a larger one accepts.*use livetime='cut'"
        with pytest.raises(ValueError, match=match):
            MimicPlan.from_obs_tables(targets, off, NO_LATITUDE, livetime=choice)


def read_conditions(*names):
    """Conditions of a target and of OFF observations, which have these columns."""
    tables = make_tables(n_targets=1)
    for table, columns in zip(tables, names, strict=True):
        for name in columns:
            table[name] = np.linspace(1, 2, len(table))
    return [Conditions.from_obs_table(_) for _ in tables]


class TestColumns:
    @pytest.mark.parametrize("names", [("", "A"), ("A", ""), ("", "")])
    def test_column_that_is_only_weighted(self, names, caplog):
        conditions = read_conditions(*names)
        criteria = MatchCriteria(columns={"A": {"weight": 2}})
        assert "A" in criteria.check_columns(*conditions)
        assert "for ['A']" in caplog.text

    def test_column_without_weight_or_limit(self, caplog):
        """It would do nothing anyway."""
        criteria = MatchCriteria(columns={"A": {"weight": 0}})
        assert criteria.check_columns(*read_conditions("", "")) == {"muon_efficiency"}
        assert caplog.text == ""

    @pytest.mark.parametrize("column", [{"weight": 2}, {"max_difference": 1}])
    def test_strict(self, column):
        conditions = read_conditions("A", "")
        criteria = MatchCriteria(columns={"A": column}, nsb=1, strict=True)
        with pytest.raises(ValueError, match="No column in the obs") as error:
            criteria.check_columns(*conditions)
        assert "Set ['nsb'] to None." in str(error.value)
        assert "Leave ['A'] out of columns." in str(error.value)

    def test_criterion_that_is_only_weighted(self, caplog):
        conditions = read_conditions("", "")
        criteria = MatchCriteria(weights={"nsb": 2, "azimuth": 0})
        assert criteria.check_columns(*conditions) == {"nsb", "muon_efficiency"}
        assert "for ['nsb']" in caplog.text
        strict = MatchCriteria(weights={"nsb": 2}, strict=True)
        with pytest.raises(ValueError, match=r"Leave \['nsb'\] out of weights.$"):
            strict.check_columns(*conditions)


def test_a_part_without_events(stores, targets):
    off = stores["off"].obs(101)
    seconds = off.events.time - off.gti.time_start[0]
    seconds = np.sort(seconds.to_value("s"))
    gap = np.argmax(np.diff(seconds))
    start, stop = seconds[gap] + 1e-3, seconds[gap + 1] - 1e-3
    columns = {"CUT_START": [start], "CUT_STOP": [stop]}
    plan = MimicPlan(Table({"OBS_ID": [1], "OFF_OBS_ID": [101], **columns}))
    match = "OBS_ID 1 in mimic set 1 .*OFF_OBS_ID 101: .* CUT_START, .* no events"
    with pytest.raises(ValueError, match=match):
        MimicMaker(stores["off"], plan).make_observation(targets[0])
