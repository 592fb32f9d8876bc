"""Rankings of targets: criteria, background IRFs, files, and the plan made of them."""

import numpy as np
import pytest
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic.selection import MatchCriteria, OffIndex
from gammapy_mimic.selection.indexed_pool import IndexedPool
from gammapy_mimic.selection.ranked_plan import PAIR_COLUMNS, make_ranked_plan
from gammapy_mimic.selection.ranker import (
    Failure,
    Ranker,
    describe_failure,
    read_ranking,
    write_ranking,
)
from gammapy_mimic.selection.ranking import rank_observations

from .helpers import ANY_CONDITIONS

WIDE = MatchCriteria(**ANY_CONDITIONS)


@pytest.fixture(scope="module")
def index(stores):
    return OffIndex.create(stores["off"])


@pytest.fixture
def pool(stores, index):
    return IndexedPool(stores["off"], index)


@pytest.fixture(scope="module")
def targets(stores):
    return stores["targets"].get_observations()


class TestRank:
    def test_is_the_ranking_of_arrays(self, pool, targets, index):
        table = Ranker(pool, WIDE, kl_max=0.1).rank(targets[1])
        expected = rank_observations(pool.index_targets([targets[1]]), index, WIDE, 0.1)
        assert table.meta["OBS_ID"] == 2
        assert table.colnames == expected.colnames
        for name in expected.colnames:
            assert_array_equal(table[name], expected[name])

    @pytest.mark.parametrize("distribution", ["counts", "irf"])
    def test_all_are_ranked_as_one(self, pool, targets, distribution):
        ranker = Ranker(pool, WIDE, distribution=distribution)
        tables = list(ranker.rank_all(list(targets)[::-1]))
        assert [_.meta["OBS_ID"] for _ in tables] == [1, 2, 3]
        for target, table in zip(targets, tables, strict=True):
            one = ranker.rank(target)
            assert one.meta == table.meta
            assert_array_equal(one["KL_CORR"], table["KL_CORR"])

    @pytest.mark.parametrize("distribution", ["counts", "irf"])
    def test_criteria_are_applied_once(self, pool, targets, monkeypatch, distribution):
        calls, original = [], MatchCriteria.reject

        def reject(self, target, *args):
            calls.append(int(target.obs_id))
            return original(self, target, *args)

        monkeypatch.setattr(MatchCriteria, "reject", reject)
        criteria = MatchCriteria(airmass=None, exclude_obs_ids=[103, 104])
        ranker = Ranker(pool, criteria, distribution=distribution)
        table = ranker.rank(targets[0])
        assert calls == [1]
        rejected = table["OFF_OBS_ID"][table["REASONS"] == "exclude_obs_ids"]
        assert sorted(rejected) == [103, 104]
        list(ranker.rank_all(targets))
        assert calls == [1, 1, 2, 3]

    def test_irfs_of_what_is_rejected_do_not_matter(self, stores, pool, targets):
        """Neither to the numbers nor to the checksum, and they are not read."""
        criteria = MatchCriteria(airmass=None, exclude_obs_ids=[103])
        expected = Ranker(pool, criteria, distribution="irf").rank(targets[0])
        off = [_.copy(in_memory=True) for _ in stores["off"].get_observations()]
        off[2].bkg = None
        other = Ranker(IndexedPool(off, pool.index), criteria, distribution="irf")
        table = other.rank(targets[0])
        assert_allclose(table["KL_CORR"], expected["KL_CORR"])
        before = table.meta["CHECKSUM"]
        off[2].bkg = off[3].bkg
        assert other.rank(targets[0]).meta["CHECKSUM"] == before
        off[3].bkg = None
        assert other.rank(targets[0]).meta["CHECKSUM"] != before


class TestFiles:
    def test_round_trip(self, pool, targets, tmp_path):
        table = Ranker(pool, WIDE).rank(targets[0])
        path, checksum = tmp_path / "new" / "kl.ecsv", table.meta["CHECKSUM"]
        assert read_ranking(path, checksum) is None
        write_ranking(table, path)
        again = read_ranking(path, checksum)
        assert again.meta == table.meta
        for name in table.colnames:
            assert_array_equal(again[name], table[name])
        assert read_ranking(path, "other") is None
        write_ranking(table[:1], path)
        assert len(read_ranking(path, checksum)) == 1

    def test_something_else(self, tmp_path):
        Table({"x": [1]}).write(tmp_path / "kl.ecsv")
        with pytest.raises(FileExistsError, match="kl.ecsv is not a ranking"):
            read_ranking(tmp_path / "kl.ecsv", "x")

    def test_folder(self, pool, targets, tmp_path):
        ranker = Ranker(pool, WIDE)
        tables = list(ranker.rank_all(targets, tmp_path))
        names = sorted(_.name for _ in tmp_path.iterdir())
        assert names == ["kl_1.ecsv", "kl_2.ecsv", "kl_3.ecsv"]
        again = ranker.rank(targets[1], tmp_path / "kl_2.ecsv")
        assert_array_equal(again["KL_CORR"], tables[1]["KL_CORR"])


def make_ranking(obs_id, kl_corr, status, reasons=""):
    table = Table({"OFF_OBS_ID": [11, 12], "KL_CORR": kl_corr})
    table["STATUS"] = np.full(2, status, dtype="U10")
    table["REASONS"] = reasons
    for name in set(PAIR_COLUMNS) - set(table.colnames):
        table[name] = np.array(kl_corr) * 2
    table.meta["OBS_ID"] = obs_id
    return table


class TestPlan:
    def test_best_partner_in_any_order_of_rows(self):
        tables = [
            make_ranking(1, [0.1, 0.2], ["ok", "ok"]),
            make_ranking(2, [0.4, 0.1], ["ok", "ok"])[::-1],
        ]
        order = [_["OFF_OBS_ID"].tolist() for _ in tables]
        plan = make_ranked_plan(iter(tables), n_sets=1, randomise=False)
        assert plan.partners(1) == {1: 11, 2: 12}
        assert plan.table["KL_DIV"].tolist() == [0.2, 0.2]
        assert [_["OFF_OBS_ID"].tolist() for _ in tables] == order

    def test_large_kl_only_if_there_is_no_other(self):
        tables = [make_ranking(1, [0.1, 0.2], ["large_kl", "undecided"])]
        plan = make_ranked_plan(tables, n_sets=2, randomise=False)
        assert [plan.partners(_) for _ in plan.sets] == [{1: 12}, {1: 12}]
        tables[0]["STATUS"][1] = "rejected"
        plan = make_ranked_plan(tables, n_sets=1)
        assert plan.questionable == [(1, "large_kl")]

    def test_unknown_divergence_comes_last(self):
        tables = [make_ranking(1, [np.nan, 0.2], ["undecided", "ok"])]
        plan = make_ranked_plan(tables, n_sets=1, randomise=False)
        assert plan.partners(1) == {1: 12}

    def test_target_without_candidate(self, caplog):
        tables = [
            make_ranking(1, [0.1, 0.2], ["ok", "ok"]),
            make_ranking(2, [0.4, 0.1], "rejected", ["azimuth", "azimuth, nsb"]),
        ]
        plan = make_ranked_plan(tables, n_sets=1)
        assert plan.questionable == [(2, "no_mimic")]
        assert "No OFF observation matches OBS_ID 2" in caplog.text
        with pytest.raises(ValueError, match="any of the 1 targets.*'azimuth': 2 of 2"):
            make_ranked_plan(tables[1:])


def test_failure_is_described():
    rejected = make_ranking(1, [0.1, 0.2], "rejected", ["nsb", "azimuth, nsb"])
    text = describe_failure([Failure.create(rejected)])
    assert text == (
        "The criterion that removed most is 'nsb': 2 of 2 candidates. There would be 1 "
        "without nsb: write criteria: {nsb: null}, on the command line -c nsb=null."
    )
    bad = make_ranking(2, [0.4, 0.3], "large_kl")
    text = describe_failure([*map(Failure.create, (rejected, bad))])
    assert "2 of 4 pairs of a target and an OFF observation. There" in text
    assert "There would be 1 without nsb: " in text
    assert text.endswith("The best KL_CORR of the others is 0.3.")
    assert "'nothing': 0 of 2" in describe_failure([Failure.create(bad)])
