"""Conditions choose the partners of targets, divergence vetoes."""

import importlib
import logging
import pathlib
import sys

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic.estimators.checks import leave_out_questionable
from gammapy_mimic.selection import MatchCriteria, MimicPlan
from gammapy_mimic.selection.candidates import get_log_odds
from gammapy_mimic.selection.conditions import Conditions, get_scatter
from gammapy_mimic.selection.divergence import compare_counts
from gammapy_mimic.selection.ranking import KL_MAX, rank_observations
from gammapy_mimic.selection.veto import find_refused, get_noise, pool_divergences

from .helpers import ANY_CONDITIONS, assign, make_obs_table

RNG = np.random.default_rng


def make_table(n_obs=50, seed=0, **columns):
    rng = RNG(seed)
    table = {
        "OBS_ID": np.arange(n_obs) + 1,
        "RA_PNT": np.linspace(0, 350, n_obs) * u.deg,
        "DEC_PNT": np.full(n_obs, -30.0) * u.deg,
        "ALT_PNT": rng.uniform(55, 65, n_obs) * u.deg,
        "AZ_PNT": rng.uniform(0, 360, n_obs) * u.deg,
        "LIVETIME": np.full(n_obs, 1600.0) * u.s,
        "MUONEFF": rng.normal(0.8, 0.05, n_obs),
        "PRESSURE": rng.normal(800, 5, n_obs),
    }
    return make_obs_table(table | columns)


def get_distances(table, **criteria):
    conditions = Conditions.from_obs_table(table)
    return MatchCriteria(**criteria).get_distances(conditions[0], conditions)


@pytest.fixture(scope="module")
def plans():
    """The benchmark, which makes archives of known truth."""
    path = pathlib.Path(__file__).parents[1] / "benchmarks"
    sys.path.insert(0, str(path))
    level = logging.getLogger("gammapy_mimic").level
    logging.getLogger("gammapy_mimic").setLevel(logging.ERROR)
    yield importlib.import_module("plans")
    logging.getLogger("gammapy_mimic").setLevel(level)
    sys.path.remove(str(path))


class TestDistance:
    def test_formula(self):
        """By the limit of a criterion, or the robust scatter of the archive."""
        table = make_table()
        airmass = 1 / np.sin(table["ALT_PNT"].quantity)
        azimuth = np.abs((table["AZ_PNT"] - table["AZ_PNT"][0] + 180) % 360 - 180)
        terms = [
            (airmass - airmass[0]) / 0.15,
            (table["ALT_PNT"] - table["ALT_PNT"][0]) / 15,
            azimuth / get_scatter(np.array(table["AZ_PNT"]), "azimuth"),
            (table["MUONEFF"] / table["MUONEFF"][0] - 1) / 0.3,
        ]
        expected = np.sqrt(np.sum(np.square(terms), axis=0))
        assert_allclose(get_distances(table), expected)

    def test_weights_and_columns(self):
        table = make_table()
        no_others = dict.fromkeys(("airmass", "zenith", "azimuth"), 0)
        weights = no_others | {"muon_efficiency": 0}
        assert not get_distances(table, weights=weights).any()
        column = {"PRESSURE": {"max_difference": 10, "weight": 4}}
        expected = 2 * np.abs(table["PRESSURE"] - table["PRESSURE"][0]) / 10
        assert_allclose(get_distances(table, weights=weights, columns=column), expected)
        relative = {"PRESSURE": {"max_difference": 0.01, "relative": True}}
        expected = np.abs(table["PRESSURE"] / table["PRESSURE"][0] - 1) / 0.01
        distances = get_distances(table, weights=weights, columns=relative)
        assert_allclose(distances, expected)
        scatter = get_scatter(np.array(table["PRESSURE"]))
        expected = np.abs(table["PRESSURE"] - table["PRESSURE"][0]) / scatter
        distances = get_distances(table, weights=weights, columns={"PRESSURE": {}})
        assert_allclose(distances, expected)

    def test_limit_of_a_column(self):
        table = make_table()
        conditions = Conditions.from_obs_table(table)
        criteria = MatchCriteria(columns={"PRESSURE": {"max_difference": 3}})
        rejected = criteria.reject(conditions[0], conditions)["PRESSURE"]
        expected = np.abs(table["PRESSURE"] - table["PRESSURE"][0]) > 3
        assert 0 < expected.sum() < len(table)
        assert_array_equal(rejected, expected)
        criteria = MatchCriteria(columns={"NONE": {"max_difference": 3}})
        assert criteria.check_columns(conditions) == {"NONE"}

    def test_trigger_rates_count_where_there_are_some(self):
        table = make_table()
        known = make_table(ZTRGRATE=np.linspace(200, 300, 50) * u.Hz)
        more = get_distances(known) ** 2 - get_distances(table) ** 2
        expected = np.arange(50) / 50 / (get_scatter(np.linspace(0, 50, 50)) / 100)
        assert_allclose(more, (expected * 50 / 49) ** 2 / 4, rtol=0.1, atol=1e-9)

    def test_unknown_is_as_far_as_a_scale(self):
        table = make_table()
        rows, known = np.arange(50), table["MUONEFF"]
        other = make_table(MUONEFF=np.where(rows == 3, np.nan, known))
        weights = dict.fromkeys(("airmass", "zenith", "azimuth"), 0)
        assert_allclose(get_distances(other, weights=weights)[3], 1)
        # of the target: it does not count
        other = make_table(MUONEFF=np.where(rows == 0, np.nan, known))
        assert not get_distances(other, weights=weights).any()

    def test_scatter(self):
        rng = RNG(0)
        assert_allclose(get_scatter(rng.normal(3, 2, 100_000)), 2, rtol=0.02)
        azimuth = rng.normal(355, 10, 100_000) % 360
        assert_allclose(get_scatter(azimuth, "azimuth"), 10, rtol=0.02)
        assert np.isnan(get_scatter(np.full(3, np.nan)))

    @pytest.mark.parametrize(
        ("criteria", "match"),
        [
            ({"columns": {"X": {"max": 1}}}, "columns must be .*'max': 1"),
            ({"columns": {"X": {"max_difference": -1}}}, "columns must be .*: -1"),
            ({"columns": {"X": {"weight": np.nan}}}, "columns must be .*: nan"),
            ({"columns": {"X": {"relative": 1}}}, "columns must be .*'relative': 1"),
            ({"columns": [1]}, "columns must be"),
            ({"weights": {"airmas": 1}}, "weights must be .*airmass.*'airmas': 1"),
            ({"weights": {"airmass": True}}, "weights must be .*True"),
            ({"rate": 1}, "rate must be a factor above 1, or null .* got 1"),
        ],
    )
    def test_nonsense(self, criteria, match):
        with pytest.raises(ValueError, match=match):
            MatchCriteria.create(criteria)

    def test_limits_that_go_with_that_of_the_airmass(self):
        assert MatchCriteria().zenith.deg == 15
        assert MatchCriteria().rate == 2
        assert MatchCriteria(airmass=None).zenith is None
        assert MatchCriteria(airmass=None).rate is None
        assert MatchCriteria(airmass=None, zenith="9 deg").zenith.deg == 9

    def test_zenith_limits_where_the_airmass_does_not(self):
        """Near zenith, 0.15 of airmass lets 30 deg pass."""
        table = make_table(2, ALT_PNT=[90.0, 62.0] * u.deg)
        conditions = Conditions.from_obs_table(table)
        rejected = MatchCriteria().reject(conditions[0], conditions)
        assert rejected["zenith"][1]
        assert not rejected["airmass"][1]


class TestDraw:
    def test_odds(self):
        """One target draws by the odds of the distances."""
        distance = np.array([[0.0, 1.0, 2.0, 3.0]])
        partners = [
            assign(
                distance, [1], 1, log_odds=get_log_odds(distance), random_state=seed
            )[0, 0]
            for seed in range(4000)
        ]
        share = np.bincount(partners, minlength=4) / 4000
        expected = np.exp(-(np.arange(4) ** 2) / 2)
        expected /= expected.sum()
        assert np.all(np.abs(share - expected) < 4 * np.sqrt(expected / 4000))

    def test_odds_of_those_far_away(self):
        """They are those of the distances beyond the nearest, and not a tie."""
        distance = np.array([[30.0, 30.02, 31.0]])
        log_odds = get_log_odds(distance)
        partners = [
            assign(distance, [1], 1, log_odds=log_odds, random_state=seed)
            for seed in range(1000)
        ]
        share = np.bincount(np.ravel(partners), minlength=3) / 1000
        expected = np.exp(-(30.02**2 - 30**2) / 2)
        assert abs(share[1] / share[0] - expected) < 0.15
        assert share[2] == 0

    def test_rate_limits(self, plans):
        """Told for all that are compared, and limited to a factor of two."""
        rng, shape = RNG(0), plans.make_shape()
        n_events = np.geomspace(1000, 9000, 9)
        counts = rng.poisson(n_events[:, np.newaxis, np.newaxis] * shape)
        off = plans.make_index(counts, np.full(9, 25.0))
        target = plans.draw(rng, shape, 3000, 1, first=100)
        table = rank_observations(target, off, plans.CRITERIA)
        table.sort("OFF_OBS_ID")
        assert_allclose(table["RATE_RATIO"], n_events / 3000, rtol=0.1)
        is_rate = np.array(table["REASONS"]) == "rate"
        assert_array_equal(is_rate, np.abs(np.log(table["RATE_RATIO"])) > np.log(2))
        assert table["STATUS"][is_rate].tolist() == ["rejected"] * is_rate.sum()

    def test_rate_where_a_part_is_masked(self, plans):
        """The ratio is that of what both see."""
        rng, shape = RNG(1), plans.make_shape()
        off = plans.draw(rng, shape, 20_000, 20, has_exclusion=True)
        target = plans.draw(rng, shape, 20_000, 1, first=100, has_exclusion=True)
        ratio = rank_observations(target, off, plans.CRITERIA)["RATE_RATIO"]
        assert np.all(np.abs(ratio - 1) < 5 / np.sqrt(10_000))

    @pytest.mark.parametrize(
        ("randomise", "rate"),
        [
            (False, 2.0),
            pytest.param(True, 2.0, marks=pytest.mark.slow),
            pytest.param(True, None, marks=pytest.mark.slow),
            pytest.param(False, None, marks=pytest.mark.slow),
        ],
    )
    def test_rate_is_not_that_of_fluctuations(self, plans, randomise, rate):
        """Total counts do not follow those of the target, of one rate for all."""
        mean, error = plans.measure_total(120, 45, randomise=randomise, rate=rate)
        assert abs(mean) < 3 * error
        assert error < 0.1

    def test_unknown_muon_efficiency(self, caplog):
        """Of one target of two, it is not compared, and told."""
        caplog.set_level(logging.WARNING, logger="gammapy_mimic")
        targets = make_table(2, MUONEFF=[0.8, -1.0])
        off = make_table(30, seed=1)
        off["OBS_ID"] += 100
        off["DEC_PNT"] = 40 * u.deg
        plan = MimicPlan.from_obs_tables(targets, off, n_sets=1)
        assert len(plan.partners(1)) == 2
        assert "OBS_ID 2 has no value for 'muon_efficiency'" in caplog.text
        with pytest.raises(ValueError, match="OBS_ID 2 has no value for 'muon_eff"):
            MimicPlan.from_obs_tables(targets, off, {"strict": True})


class TestVeto:
    @pytest.mark.parametrize(("n", "m", "ring"), [(5000, 5000, 0), (9000, 3000, 0.4)])
    def test_noise(self, plans, n, m, ring):
        """What all candidates of a target share, and what each has of its own."""
        rng, shape, other = RNG(2), plans.make_shape(), plans.make_shape(ring=ring)
        other /= other.sum()
        values = []
        for _ in range(150):
            off = rng.poisson(m * shape, (40, *shape.shape))
            comparison = compare_counts(rng.poisson(n * other), off)
            values.append(comparison.kl_corr)
        noise = get_noise(comparison.kl_std, comparison.n, comparison.m)
        mean, own = np.mean(values), np.var(values, axis=1, ddof=1).mean()
        common = np.var(np.mean(values, axis=1)) - own / 40
        assert_allclose(noise.get_own(mean).mean(), own, rtol=0.15)
        assert_allclose(noise.get_common(mean).mean(), common, rtol=0.4)

    def test_candidates_of_one_shape_get_one_value(self):
        """Nearly: what noise alone made is shrunk to a seventh, 0.13 measured."""
        noise = get_noise(np.full(60, 0.002), np.full(60, 5000), np.full(60, 5000))
        ratios = []
        for seed in range(30):
            kl_corr = RNG(seed).normal(0.004, np.sqrt(noise.get_own(0.004)))
            pooled, _ = pool_divergences(kl_corr, noise)
            ratios.append(np.std(pooled) / np.std(kl_corr))
            assert_allclose(np.mean(pooled), np.mean(kl_corr), rtol=0.05)
        assert np.mean(ratios) < 0.2

    def test_two_shapes_keep_two_values(self):
        noise = get_noise(np.full(60, 0.001), np.full(60, 9000), np.full(60, 9000))
        truth = np.where(np.arange(60) < 20, 0.0, 0.01)
        kl_corr = RNG(4).normal(truth, np.sqrt(noise.get_own(truth)))
        pooled, _ = pool_divergences(kl_corr, noise)
        assert np.all(np.abs(pooled - truth) < 0.002)

    @pytest.mark.slow
    @pytest.mark.parametrize("n_pool", [1, 2, 3, 10])
    def test_few_candidates_of_one_shape_are_not_refused(self, plans, n_pool):
        """Of 600 targets each; 12.9% of them with one candidate, without its noise."""
        shape, refused = plans.make_shape(), []
        for seed in range(600):
            rng = RNG([seed, n_pool])
            off = rng.poisson(500 * shape, (n_pool, *shape.shape))
            comparison = compare_counts(rng.poisson(1000 * shape), off)
            accepted = np.ones(n_pool, dtype=bool)
            refused.append(find_refused(comparison, accepted, KL_MAX).all())
        assert np.mean(refused) < 0.01

    def test_order_does_not_matter(self):
        rng = RNG(5)
        noise = get_noise(np.full(300, 0.002), np.full(300, 500), np.full(300, 500))
        kl_corr = rng.normal(0, 0.01, 300)
        order = rng.permutation(300)
        pooled, _ = pool_divergences(kl_corr, noise)
        assert_allclose(pool_divergences(kl_corr[order], noise)[0], pooled[order])

    def test_target_unlike_the_archive(self, plans, caplog):
        """The nearest is kept, is questionable, and the target is named."""
        rng, shape = RNG(6), plans.make_shape()
        off = plans.draw(rng, shape, 20_000, 30)
        target = plans.draw(rng, plans.make_shape(ring=0.5), 20_000, 1, first=100)
        logging.getLogger("gammapy_mimic").setLevel(logging.WARNING)
        plan = plans.make_plan(target, off)
        logging.getLogger("gammapy_mimic").setLevel(logging.ERROR)
        nearest = rank_observations(target, off, plans.CRITERIA)[0]
        assert set(plan.table["OFF_OBS_ID"]) == {nearest["OFF_OBS_ID"]}
        assert plan.questionable == [(100, "large_kl")]
        assert plan.unlike == [100]
        assert plan.partners(1)
        assert not plan.partners(1, questionable=False)
        assert "1 of 1 targets are unlike the archive, OBS_ID 100" in caplog.text

    def test_others_of_a_target_are_refused(self, plans):
        rng = RNG(7)
        shapes = np.repeat([plans.make_shape(), plans.make_shape(1.2)], 10, axis=0)
        off = plans.draw(rng, shapes, 20_000, 20)
        target = plans.draw(rng, plans.make_shape(), 20_000, 1, first=100)
        plan = plans.make_plan(target, off)
        assert np.all(plan.table["OFF_OBS_ID"] <= 10)
        table = rank_observations(target, off, plans.CRITERIA)
        assert_array_equal(table["STATUS"] == "large_kl", table["OFF_OBS_ID"] > 10)
        # without the veto all are drawn
        plan = plans.make_plan(target, off, kl_max=None)
        assert np.any(plan.table["OFF_OBS_ID"] > 10)


class TestClosure:
    """Mimics scatter about the truth by their noise, as nothing chose their noise."""

    def test_chosen_by_conditions(self, plans):
        mean, error = plans.measure_closure(45, 60)
        assert abs(mean - 1) < 3 * error
        assert error < 0.06

    def test_chosen_by_divergence(self, plans):
        """The benchmark sees what it is for: mimics that are too good."""
        mean, error = plans.measure_closure(45, 40, ranking="kl", n_best=10)
        assert mean < 1 - 2 * error

    @pytest.mark.slow
    @pytest.mark.parametrize("n_pool", [45, 500])
    @pytest.mark.parametrize("has_exclusion", [False, True])
    def test_pools(self, plans, n_pool, has_exclusion):
        mean, error = plans.measure_closure(n_pool, 200, has_exclusion=has_exclusion)
        assert abs(mean - 1) < max(0.05, 2.5 * error)

    @pytest.mark.slow
    @pytest.mark.parametrize("n_events", [5000, 20_000])
    @pytest.mark.parametrize("n_pool", [45, 500])
    def test_target_with_a_ring(self, plans, n_events, n_pool):
        mean, error = plans.measure_closure(n_pool, 300, n_events, ring=0.3)
        assert abs(mean - 1) < max(0.05, 2.5 * error)

    def test_classes(self, plans):
        """The veto finds the class, which conditions follow in part only."""
        assert plans.measure_classes(30, 20_000, kl_max=None)[0] < 0.45
        assert plans.measure_classes(30, 20_000)[0] > 0.85

    @pytest.mark.slow
    def test_datastores(self, plans, tmp_path):
        store = plans.simulate_off(tmp_path / "off", 45)
        mean, error = plans.measure_store(store, tmp_path / "targets", 15)
        assert abs(mean - 1) < max(0.05, 2.5 * error)


def test_no_limits_at_all():
    table = make_table(LIVETIME=np.linspace(100, 9000, 50) * u.s)
    conditions = Conditions.from_obs_table(table)
    criteria = MatchCriteria(**ANY_CONDITIONS, galactic_latitude=None)
    rejected = criteria.reject(conditions[0], conditions)
    assert np.sum([mask.sum() for mask in rejected.values()]) == 2


def test_nothing_is_left_out_without_a_plan():
    assert leave_out_questionable({1: []}) == {1: []}


def test_plan_with_all_questionable():
    table = MimicPlan.create({1: 11, 2: 12}).table
    table["STATUS"] = ["ok", "large_kl"]
    plan = MimicPlan(table)
    assert plan.partners(1) == {1: 11, 2: 12}
    assert plan.partners(1, questionable=False) == {1: 11}
