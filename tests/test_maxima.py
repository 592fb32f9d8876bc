"""Largest significance of a map, against random maps."""

import astropy.units as u
import numpy as np
import pytest
from gammapy.datasets import MapDataset
from gammapy.estimators import ExcessMapEstimator
from gammapy.maps import Map, MapAxis, WcsGeom
from numpy.testing import assert_allclose, assert_equal
from scipy import stats

from gammapy_mimic.estimators.maxima import (
    CircleSum,
    GammaField,
    Search,
    check_exceedances,
    get_maximum_p_value,
    simulate_random_maps,
)

from .maxima_toys import make_prediction, simulate_maxima

PREDICTION, KERNEL, WHERE = make_prediction(40, 3)


def test_maximum_is_that_of_the_excess_map_estimator():
    """Of the same counts, with a mask."""
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=1)
    geom = WcsGeom.create(npix=40, binsz=0.02, axes=[axis])
    dataset = MapDataset.create(geom, energy_axis_true=axis.copy(name="energy_true"))
    dataset.background = Map.from_geom(geom, data=PREDICTION[np.newaxis])
    counts = np.random.default_rng(0).poisson(PREDICTION)
    dataset.counts = Map.from_geom(geom, data=counts[np.newaxis].astype(float))
    safe = np.ones((1, 40, 40), dtype=bool)
    safe[:, :, :12] = False
    dataset.mask_safe = Map.from_geom(geom, data=safe)
    estimator = ExcessMapEstimator(
        0.06 * u.deg, selection_optional=[], energy_edges=axis.edges
    )
    expected = estimator.run(dataset)["sqrt_ts"].data[0]
    add = CircleSum((40, 40), KERNEL)
    mu = add(PREDICTION * safe[0]).astype(float)
    where = WHERE & safe[0]
    expected = expected[where & (mu >= 10)]
    search = Search(mu, np.zeros((40, 40)), where, 10)
    maximum, n_above = search(np.rint(add(counts * safe[0])))
    assert_allclose(maximum, np.max(expected), atol=1e-4)
    assert n_above == np.sum(expected > 2)


def test_maximum_below_the_level_of_candidates():
    """A map of few positions, none of which is above 2 sigma."""
    search = Search(np.full((2, 2), 20.0), np.zeros((2, 2)), True, 10)
    maximum, n_above = search(np.array([[20, 21], [18, 22]], dtype=np.float32))
    assert_allclose(maximum, 0.4405, atol=1e-3)
    assert n_above == 0
    nothing = Search(np.full((2, 2), 20.0), np.zeros((2, 2)), True, 30)
    assert nothing(np.ones((2, 2), np.float32)) == (-np.inf, 0)


@pytest.mark.parametrize("scale", [0.5, 2.0, 6.0])
def test_field_has_its_spread_in_circles(scale):
    """And the mean 1, and is never negative."""
    field = GammaField((40, 40), KERNEL, scale)
    f = np.repeat([0.05, 0.2], 400)
    values = field.draw(f, np.random.default_rng(0))
    assert values.min() >= 0
    means = CircleSum((40, 40), KERNEL)(values)[:, 4:-4:4, 4:-4:4] / KERNEL.sum()
    means = means.reshape(2, -1)
    assert_allclose(means.mean(axis=1), 1, atol=0.02)
    assert_allclose(means.std(axis=1), [0.05, 0.2], rtol=0.06)


@pytest.mark.parametrize("options", [{}, {"f": 0.1, "scale": 2.0}, {"alpha": 0.2}])
def test_p_values_are_uniform(options):
    """Of targets that other code has drawn."""
    data = PREDICTION, KERNEL, WHERE
    maxima, _ = simulate_maxima(*data, 500, **options)
    random = simulate_random_maps(*data, n_maps=1500, **options)
    p_values = np.array([get_maximum_p_value(_, random.maximum)[0] for _ in maxima])
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    for x in (0.1, 0.03):
        error = np.sqrt(x * (1 - x) * (1 / 500 + 1 / 1500))
        assert abs(np.mean(p_values < x) - x) < 2.5 * error


def test_fitted_norm():
    """Of large circles it takes much of the largest significance."""
    data = make_prediction(30, 8, 100)
    maxima, _ = simulate_maxima(*data, 500, is_normalised=True)
    everywhere = np.ones((30, 30), dtype=bool)
    results = []
    for region in (everywhere, None):
        random = simulate_random_maps(*data, norm_region=region, n_maps=1500).maximum
        p_values = [get_maximum_p_value(_, random).p_value for _ in maxima]
        results.append(stats.kstest(p_values, "uniform").pvalue)
    assert results[0] > 0.01
    assert results[1] < 1e-3


def test_a_spread_that_is_there_makes_maxima_larger():
    """So does a mean error, and one value of each for every map."""
    maxima = [
        np.mean(simulate_random_maps(PREDICTION, KERNEL, n_maps=200, **_).maximum)
        for _ in ({}, {"f": 0.2}, {"delta": 0.2}, {"f": np.full(200, 0.2)})
    ]
    assert maxima[0] + 0.5 < min(maxima[1:])
    assert maxima[1] == maxima[3]


def test_tail_of_a_measured_spread():
    """Few of many spreads may be larger than a field can have."""
    f = np.where(np.arange(40) < 10, 500.0, 0.0)
    maxima = simulate_random_maps(PREDICTION, KERNEL, f=f, n_maps=40).maximum
    assert maxima[:10].min() > maxima[10:].max()


def test_same_seed_same_maps():
    maps = [
        simulate_random_maps(PREDICTION, KERNEL, n_maps=40, random_state=_)
        for _ in (0, 0, 1)
    ]
    assert_equal(maps[0], maps[1])
    assert np.mean(maps[0].maximum == maps[2].maximum) < 0.5


def test_no_more_maps_than_needed():
    """The p-value of a target that is not rare is that of all maps, within 10%."""
    every = simulate_random_maps(PREDICTION, KERNEL, n_maps=2000)
    value = np.quantile(every.maximum, 0.5)
    few = simulate_random_maps(PREDICTION, KERNEL, n_maps=2000, value=value)
    assert 150 < len(few.maximum) < 250
    assert_equal(few.maximum, every.maximum[: len(few.maximum)])
    p_value, n_larger, *_ = get_maximum_p_value(value, few.maximum)
    assert n_larger == 99
    assert_allclose(p_value, 0.5, rtol=0.2)
    rare = simulate_random_maps(PREDICTION, KERNEL, n_maps=100, value=20)
    assert len(rare.maximum) == 100


def test_p_value_in_words():
    maxima = np.arange(1000) / 1000
    assert get_maximum_p_value(0.99, maxima) == (
        11 / 1001,
        10,
        1000,
        "p = 0.011 (10 of 1000 random maps)",
    )
    p_value, _, _, text = get_maximum_p_value(2, maxima)
    assert p_value == 1 / 1001
    assert text.startswith("p below 0.003 (95% confidence; none of 1000")
    assert get_maximum_p_value(np.nan, maxima).text == "not measured"
    with pytest.raises(ValueError, match="no random map"):
        get_maximum_p_value(1, [])
    with pytest.raises(ValueError, match="no random map"):
        get_maximum_p_value(1, np.full(5, -np.inf))


def test_exceedances():
    """Of mimics that are like random maps, and of others with a spread of 20%."""
    random = simulate_random_maps(PREDICTION, KERNEL, WHERE, n_maps=1500)
    p_values = []
    for seed in range(60):
        _, n_above = simulate_maxima(PREDICTION, KERNEL, WHERE, 5, random_state=seed)
        p_values.append(check_exceedances(n_above, random.n_above).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    _, n_above = simulate_maxima(PREDICTION, KERNEL, WHERE, 5, f=0.2)
    check = check_exceedances(n_above, random.n_above)
    assert check.observed > 1.5 * check.expected
    assert check.p_value < 0.001
    assert f"{check.observed:.1f} positions above 2 sigma" in check.text
    # sets that share events tell less
    assert check_exceedances(n_above, random.n_above, 1.5).p_value > check.p_value
    with pytest.raises(ValueError, match="needs a mimic set and two random maps"):
        check_exceedances([], random.n_above)


def test_arguments():
    with pytest.raises(ValueError, match="must be finite and not negative"):
        simulate_random_maps(-PREDICTION, KERNEL)
    with pytest.raises(ValueError, match=r"odd shape, got \(4, 4\)"):
        simulate_random_maps(PREDICTION, np.ones((4, 4)))
    with pytest.raises(ValueError, match="must not be negative, got -0.1"):
        simulate_random_maps(PREDICTION, KERNEL, f=-0.1)
    with pytest.raises(ValueError, match="3 values of delta for 10 random maps"):
        simulate_random_maps(PREDICTION, KERNEL, delta=np.zeros(3), n_maps=10)
    with pytest.raises(ValueError, match="Leave out norm_region"):
        simulate_random_maps(PREDICTION, KERNEL, alpha=0.1, norm_region=WHERE)
    with pytest.raises(ValueError, match="too large for a random field"):
        simulate_random_maps(PREDICTION, KERNEL, f=500.0)
