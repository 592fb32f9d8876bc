"""Who goes into a template: without bias, and alike for targets and for mimics."""

import importlib
import logging
import pathlib
import sys
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from gammapy.data import Observations
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector, MimicMaker
from gammapy_mimic.makers.mimic_sets import write_mimic_sets
from gammapy_mimic.selection import MimicPlan, OffIndex
from gammapy_mimic.selection.ranking import rank_observations
from gammapy_mimic.simulate import simulate_datastore
from gammapy_mimic.template import TemplateBins, TemplateCounts, make_template
from gammapy_mimic.template.fair import explain_missing, summarise_templates
from gammapy_mimic.template.target import get_halves, merge_parts

# many observations, each with few events
CRITERIA = {"rate": None}
ZENITH = {"zenith": ("26 deg", "34 deg"), "ontime": "4 min"}
N_TARGETS, N_OFF = 4, 24


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """OFF observations, four of each of six fields."""
    return simulate_datastore(tmp_path_factory.mktemp("off"), N_OFF, **ZENITH)


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    field = {"target": SkyCoord(80, -45, unit="deg")}
    path = tmp_path_factory.mktemp("targets")
    options = {"targets": field, "first_obs_id": 1001, **ZENITH}
    return simulate_datastore(path, N_TARGETS, **options).get_observations()


@pytest.fixture(scope="module")
def index(store):
    return OffIndex.create(store)


@pytest.fixture
def selector(store, index):
    return KLBackgroundSelector(store, CRITERIA, index=index)


@pytest.fixture(scope="module")
def plan(store, index, targets):
    return KLBackgroundSelector(store, CRITERIA, index=index).make_plan(targets, 3)


@pytest.fixture
def benchmark():
    """Toys of the choice, on counts of known truth."""
    path = pathlib.Path(__file__).parents[1] / "benchmarks"
    sys.path.insert(0, str(path))
    log = logging.getLogger("gammapy_mimic")
    level = log.level
    log.setLevel(logging.ERROR)
    yield importlib.import_module("templates_choice")
    log.setLevel(level)
    sys.path.remove(str(path))


def get_obs_ids(bkg):
    return [int(_) for _ in bkg.meta["OBS_IDS"].split(",")]


def find_field(store, obs_id):
    """OFF observations of the field of one of them."""
    table = store.obs_table
    name = table["OBJECT"][table["OBS_ID"] == obs_id][0]
    return set(table["OBS_ID"][table["OBJECT"] == name].tolist())


def make_all(selector, plan, targets):
    """Templates by target and mimic set, 0 for that of the target."""
    made = {}
    for target in targets:
        made[int(target.obs_id), 0] = selector.make_observation(target).bkg
        for mimic_set in plan.sets:
            maker = MimicMaker(selector.off_observations, plan, mimic_set)
            maker.background = selector
            made[int(target.obs_id), mimic_set] = maker.make_observation(target).bkg
    return made


class TestHalves:
    """Each event is in one of two halves, the same wherever they are needed."""

    def test_add_up(self, store):
        bins, observation = TemplateBins.create("2d"), store.obs(3)
        halves = [
            TemplateCounts.from_observation(observation, bins, half=half)
            for half in (0, 1)
        ]
        whole = TemplateCounts.from_observation(observation, bins)
        assert_array_equal(sum(_.counts for _ in halves), whole.counts)
        n_events = [_.counts.sum() for _ in halves]
        assert abs(np.diff(n_events)[0]) < 4 * np.sqrt(whole.counts.sum())
        for half in halves:
            for name in ("exposure", "livetime"):
                assert_allclose(getattr(half, name), getattr(whole, name) / 2)
            for name in ("ONTIME", "LIVETIME"):
                assert_allclose(half.meta[name], whole.meta[name] / 2)

    def test_differ_between_observations(self, index):
        share = index.half_counts.sum(axis=(1, 2)) / index.counts.sum(axis=(1, 2))
        assert len(np.unique(share)) == len(index)
        error = 0.5 / np.sqrt(index.counts.sum())
        assert abs(index.half_counts.sum() / index.counts.sum() - 0.5) < 4 * error

    def test_of_index_and_template(self, store):
        """Also with exclusion regions, which take events away."""
        row = store.obs_table[2]
        center = SkyCoord(row["RA_OBJ"], row["DEC_OBJ"], unit="deg")
        regions = [CircleSkyRegion(center, 0.4 * u.deg)]
        pool = store.get_observations([3, 4])
        index = OffIndex.create(pool, exclusion_regions=regions)
        axes = {"energy": index.energy_axis, "offset": index.offset_axis}
        bins = TemplateBins.create("2d", regions, **axes)
        for half in (0, 1):
            part = TemplateCounts.from_observation(pool[0], bins, half=half)
            counts = part.counts
            expected = index.get_half(half).counts[0]
            covered = counts.any(axis=1)
            assert covered.sum() > 3
            assert_array_equal(counts[covered], expected[covered])

    def test_wherever_they_are_read(self, store, index):
        """From files or memory, in any order, by any number of processes."""
        observations = [store.obs(_).copy(in_memory=True) for _ in (8, 5, 7)]
        held = OffIndex.create(Observations(observations))
        assert_array_equal(held.half_counts, index.select([5, 7, 8]).half_counts)
        part = OffIndex.create(store.get_observations([7, 5]), n_jobs=2)
        assert_array_equal(part.half_counts, index.select([5, 7]).half_counts)

    def test_are_kept_in_the_file_of_the_index(self, index, tmp_path):
        index.write(tmp_path / "index.fits")
        again = OffIndex.read(tmp_path / "index.fits")
        assert_array_equal(again.half_counts, index.half_counts)
        assert again.checksum == index.checksum

    def test_times_are_those_of_half(self, index):
        half = index.get_half(1)
        assert_array_equal(half.counts, index.counts - index.half_counts)
        for name in ("LIVETIME", "ONTIME", "GOOD_TIME"):
            assert_allclose(half.table[name], index.table[name] / 2)
        with pytest.raises(ValueError, match="does not know the counts of half"):
            half.get_half(0)


class TestCrossFitting:
    """With the ranking "kl", what is chosen by one half is filled from the other."""

    @pytest.fixture
    def selector(self, store, index):
        options = {"ranking": "kl", "time_request": "18 min", "index": index}
        return KLBackgroundSelector(store, CRITERIA, **options)

    def test_template(self, selector, store, index, targets):
        bkg, selected = (
            make(targets[0]) for make in (selector.make_background, selector.select)
        )
        obs_ids = selected["OFF_OBS_ID"].tolist()
        assert len({*obs_ids}) == len(obs_ids) == bkg.meta["N_OBS"]
        assert get_obs_ids(bkg) == obs_ids
        assert {*selected["HALF"].tolist()} <= {-1, 0, 1}
        # five in each half, of 3.6 min livetime
        n_halves = np.where(selected["HALF"] < 0, 2, 1)
        assert n_halves.sum() == 10
        livetime = index.table["LIVETIME"][np.searchsorted(index.obs_ids, obs_ids)]
        assert_allclose(selected["LIVETIME"], livetime * n_halves / 2)
        assert_allclose(bkg.meta["LIVETIME"], selected["LIVETIME"].sum(), rtol=1e-6)
        assert_allclose(bkg.meta["ONTIME"], selected["ONTIME"].sum(), rtol=1e-6)
        expected = make_template(
            store.get_observations(obs_ids),
            halves=get_halves(selected),
            livetime_fraction=bkg.meta["DEADC"],
        )
        assert_array_equal(bkg.data, expected.data)

    def test_chosen_by_the_other_half(self, selector, index, targets):
        target = selector._pool.index_targets([targets[0]])
        chosen = {}
        for half in (0, 1):
            table = rank_observations(
                target, index.get_half(half), selector.criteria, ranking="kl"
            )
            chosen[1 - half] = set(table["OFF_OBS_ID"][:5].tolist())
        selected = selector.select(targets[0])
        for half, obs_ids in chosen.items():
            is_half = np.isin(selected["HALF"], (-1, half))
            assert set(selected["OFF_OBS_ID"][is_half].tolist()) == obs_ids

    def test_merge(self):
        rows = [
            {"OFF_OBS_ID": obs_id, "KL_CORR": kl, "ONTIME": 20.0, "LIVETIME": 10.0}
            for obs_id, kl in ((1, 0.1), (2, 0.3), (1, 0.2), (3, 0.0))
        ]
        table = merge_parts({0: Table(rows[:2]), 1: Table(rows[2:])})
        assert table["OFF_OBS_ID"].tolist() == [3, 1, 2]
        assert table["HALF"].tolist() == [1, -1, 0]
        assert table["LIVETIME"].tolist() == [5, 10, 5]
        assert table["ONTIME"].tolist() == [10, 20, 10]
        assert get_halves(table) == {3: 1, 2: 0}

    def test_predictions_are_not_halved(self, selector, targets):
        """Background IRFs know nothing of the events."""
        selector.distribution = "irf"
        assert set(selector.select(targets[0])["HALF"]) == {-1}

    @pytest.mark.slow
    @pytest.mark.parametrize("ranking", ["conditions", "kl"])
    def test_nothing_is_absorbed(self, benchmark, ranking):
        """Neither the target's fluctuations, nor an excess in a ring of it."""
        result = benchmark.measure_choice(45, 60, ring=0.1, ranking=ranking)
        chi2, error, survives, survives_error, _ = result
        assert abs(chi2 - 1) < 4 * error
        assert abs(survives - 1) < 4 * survives_error
        assert survives_error < 0.025

    @pytest.mark.slow
    def test_without_halves_much_is(self, benchmark):
        """The toy sees it."""
        _, _, survives, error, _ = benchmark.measure_choice(
            45, 60, ring=0.1, ranking="kl", crosses=False
        )
        assert survives < 1 - 4 * error

    @pytest.mark.slow
    @pytest.mark.parametrize("n_pool", [45, 500])
    @pytest.mark.parametrize("ring", [0.0, 0.3])
    @pytest.mark.parametrize("has_exclusion", [False, True])
    def test_chi2(self, benchmark, n_pool, ring, has_exclusion):
        options = {"ring": ring, "has_exclusion": has_exclusion}
        chi2, error, *_ = benchmark.measure_choice(n_pool, 200, ranking="kl", **options)
        assert abs(chi2 - 1) < 4 * error


class TestFairness:
    """One rule, pools of one size, and no own field."""

    @pytest.mark.parametrize("ranking", ["conditions", "kl"])
    @pytest.mark.parametrize("time_request", [None, "16 min"])
    def test_laws(self, selector, plan, targets, store, ranking, time_request):
        selector.ranking, selector.time_request = ranking, time_request
        selector.plan = plan
        table = selector.make_template_table(targets)
        for target in targets:
            family = table[table["OBS_ID"] == int(target.obs_id)]
            assert family["MIMIC_SET"].tolist() == [0, *plan.sets]
            n_left = family["N_LEFT"].min()
            assert n_left >= 3
            if ranking == "conditions":
                # five of 3.6 min livetime
                assert set(family["N_OBS"]) == {n_left if time_request is None else 5}
            for row in family[1:]:
                used = {int(_) for _ in row["OFF_OBS_IDS"].split(",")}
                mimic_set = int(row["MIMIC_SET"])
                partner = plan.partners(mimic_set)[int(target.obs_id)]
                assert not used & find_field(store, partner)
                assert not used & set(plan.off_obs_ids(mimic_set))

    @pytest.mark.slow
    def test_made_as_planned(self, selector, plan, targets):
        """Whatever the order and the number of processes."""
        selector.plan, selector.time_request = plan, "12 min"
        table = selector.make_template_table(targets)
        expected = {
            (int(row["OBS_ID"]), row["MIMIC_SET"]): row["OFF_OBS_IDS"] for row in table
        }
        for key, bkg in make_all(selector, plan, targets[2::-2]).items():
            assert bkg.meta["OBS_IDS"] == expected[key]
        maker = MimicMaker(selector.off_observations, plan, 2, background=selector)
        for observation in maker.make_observations(targets, n_jobs=2):
            obs_ids = observation.bkg.meta["OBS_IDS"]
            assert obs_ids == expected[int(observation.obs_id), 2]

    def test_for_the_conditions_of_the_events(self, selector, plan, targets, index):
        """Of the OFF observation, whatever those of the target are."""
        family = selector._get_fair(plan).find(targets[0])
        partner = plan.partners(2)[int(targets[0].obs_id)]
        ranking = rank_observations(index.select([partner]), index, selector.criteria)
        expected = dict(zip(ranking["OFF_OBS_ID"], ranking["DISTANCE"], strict=True))
        selected = family.select(2)
        for obs_id, distance in selected.iterrows("OFF_OBS_ID", "DISTANCE"):
            assert distance == expected[obs_id]
        assert np.all(np.diff(selected["DISTANCE"]) >= 0)

    @pytest.mark.parametrize(
        "change", [{"same_object": False}, {"same_field": False, "same_object": False}]
    )
    def test_own_field_by_its_pointing(self, selector, plan, targets, store, change):
        """Also if observations of one object, or of one field, may be partners."""
        selector.criteria, selector.plan = {**CRITERIA, **change}, plan
        for row in selector.make_template_table(targets):
            if row["MIMIC_SET"]:
                partner = plan.partners(row["MIMIC_SET"])[row["OBS_ID"]]
                used = {int(_) for _ in row["OFF_OBS_IDS"].split(",")}
                assert not used & find_field(store, partner)

    def test_field_of_the_target(self, store, index):
        """What is looked for in the target is in no template of its mimics."""
        target = store.obs(1).copy(in_memory=True, obs_id="77")
        target.events.table.meta["OBS_ID"] = 77
        plan = MimicPlan.create({77: 24})
        selector = KLBackgroundSelector(store, CRITERIA, index=index)
        family = selector._get_fair(plan).find(target)
        for mimic_set in (None, 1):
            used = set(family.select(mimic_set)["OFF_OBS_ID"].tolist())
            assert not used & find_field(store, 1)

    def test_too_few_are_an_error_that_names_the_ways_out(self, store, index, targets):
        """Of a set whose partners leave less than three, in a pool of six fields."""
        part = index.select([1, 5, 9, 13, 17, 21])
        selector = KLBackgroundSelector(store, CRITERIA, index=part)
        partners = {1001: 1, 1002: 5, 1003: 9, 1004: 13}
        table = Table({"OBS_ID": [*partners], "OFF_OBS_ID": [*partners.values()]})
        plan = MimicPlan(table)
        maker = MimicMaker(store, plan, background=selector)
        match = (
            "No template for mimic set 1, OBS_ID 1001: it needs 3 OFF observations to "
            "choose from, and there are 2. Use fewer targets.* more OFF .* wider"
        )
        with pytest.raises(ValueError, match=match):
            maker.make_observation(targets[0])
        assert len(maker.make_observations(targets)) == 0
        fewer = MimicPlan.create({1001: 1})
        maker.plan = fewer
        assert maker.make_observation(targets[0]).bkg.meta["N_OBS"] == 5

    @pytest.mark.slow
    def test_other_sets_are_made(self, store, index, targets, tmp_path, caplog):
        """A set that leaves too few makes no template of another one smaller."""
        part = index.select([1, 5, 9, 13, 17, 21])
        selector = KLBackgroundSelector(store, CRITERIA, index=part)
        rows = [(1001, 1, 1), (1002, 1, 5), (1003, 1, 9), (1004, 1, 13), (1001, 2, 1)]
        plan = MimicPlan(Table(rows=rows, names=["OBS_ID", "MIMIC_SET", "OFF_OBS_ID"]))
        selector.plan = plan
        table = selector.make_template_table(targets)
        assert table["N_OBS"][table["MIMIC_SET"] == 1].tolist() == [0] * 4
        (own, mimic) = table["N_OBS"][
            (table["OBS_ID"] == 1001) & (table["MIMIC_SET"] != 1)
        ]
        assert own == mimic == 5
        assert "OBS_ID 1001 (set 1, 2 left)" in explain_missing(table)
        summary = summarise_templates(table)
        assert summary["n_missing"].tolist() == [0, 4, 0]
        args = targets, store, plan, tmp_path
        paths = write_mimic_sets(*args, sets=[2], background=selector)
        assert list(paths) == [2]
        with pytest.raises(ValueError, match="No mimic of mimic set 1 can be made"):
            write_mimic_sets(*args, sets=[1], background=selector)
        assert "Left out" in caplog.text

    def test_selector_of_another_plan(self, selector, plan, store):
        selector.plan = {1001: 4}
        with pytest.raises(ValueError, match="plan of the selector is another one"):
            MimicMaker(store, plan, background=selector)
        selector.plan = plan
        MimicMaker(store, plan, background=selector)

    def test_table_needs_a_plan(self, selector, targets):
        with pytest.raises(ValueError, match="the selector has none. Set its plan"):
            selector.make_template_table(targets)

    def test_exclude_is_free(self, selector, plan, targets):
        """Who names observations to leave out gets all others."""
        free = selector.select(targets[0], exclude=[3])["OFF_OBS_ID"].tolist()
        selector.plan = plan
        assert selector.select(targets[0], exclude=[3])["OFF_OBS_ID"].tolist() == free

    def test_columns(self, selector, plan, targets):
        selector.plan, selector.time_request = plan, "12 min"
        made = selector.make_observation(targets[0])
        columns = selector.make_columns(made)
        assert columns["BKG_N_OBS"] == len(columns["BKG_OBS_IDS"].split(",")) == 4
        assert_allclose(columns["BKG_LIVETIME"].to_value("min"), 4 * 3.6, rtol=1e-3)
        assert selector.make_columns(None)["BKG_N_OBS"] == 0

    @pytest.mark.slow
    def test_alike(self, benchmark):
        """In their error, and in the difference of the airmass."""
        results, n_own = benchmark.measure_fairness(20, 200)
        assert n_own == 0
        assert_allclose(*results[:, :, 2].T)
        for idx, limit in ((0, 0.05), (1, 0.1)):
            ratio, error = benchmark.get_ratio(results[:, :, idx])
            assert abs(ratio - 1) < limit + 3 * error


def test_targets_are_ranked_without_their_files(benchmark):
    """A template of a mimic needs no more than the index."""
    rng = np.random.default_rng(0)
    off, *_ = benchmark.draw_archive(rng, 40)
    targets, *_ = benchmark.draw_archive(rng, 1, first=10**6)
    plan = MimicPlan.create({10**6: 7})
    ranker = benchmark.Ranker(benchmark.CountsPool(off, targets), benchmark.CRITERIA)
    family = benchmark.FairTemplates(ranker, plan).find(SimpleNamespace(obs_id=10**6))
    assert 7 not in family.select(1)["OFF_OBS_ID"]
