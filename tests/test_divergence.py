"""Laws of the divergences: unbiased, calibrated, symmetric, blind to masked bins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import rel_entr
from scipy.stats import binom

from gammapy_mimic.selection.divergence import (
    CountsComparison,
    compare_counts,
    deviance_moments,
    kl_divergence,
)

N_BINS = 48
N_PAIRS = 2000


def steep_shape(index=2.7):
    """A power law in 8 bins of energy, a Gauss function in 6 bins of offset."""
    energy = np.geomspace(1, 30, 9)
    offset = np.linspace(0, 2.5, 7)
    shape = np.outer(
        -np.diff(energy ** (1 - index)), -np.diff(np.exp(-(offset**2) / 2 / 1.2**2))
    )
    return shape.ravel() / shape.sum()


def random_fraction(rng):
    """Unmasked fractions, a tenth of them zero."""
    return rng.uniform(0.3, 1, N_BINS) * (rng.random(N_BINS) > 0.1)


def draw_counts(rng, size, shape, draw):
    shape = shape / shape.sum()
    if draw == "multinomial":
        return rng.multinomial(size, shape)
    return rng.poisson(size * shape)


def compare_pairs(seed, sizes, masked=False, draw="poisson", shapes=None):
    """Independent pairs, one call each, as one comparison."""
    rng = np.random.default_rng(seed)
    shape, shape_off = (steep_shape(),) * 2 if shapes is None else shapes
    pairs = []
    for _ in range(N_PAIRS):
        a, b = (random_fraction(rng) if masked else np.ones(N_BINS) for _ in range(2))
        n = draw_counts(rng, sizes[0], a * shape, draw)
        m = draw_counts(rng, sizes[1], b * shape_off, draw)
        pairs.append(compare_counts(n, m[np.newaxis], a, b))
    return CountsComparison(*(np.concatenate(_) for _ in zip(*pairs, strict=True)))


@pytest.fixture(scope="module")
def candidates():
    """A target, 60 candidates and their fractions."""
    rng = np.random.default_rng(1)
    a = random_fraction(rng)
    b = np.array([random_fraction(rng) for _ in range(60)])
    sizes = rng.integers(300, 9000, size=(60, 1))
    return {
        "counts": rng.poisson(1000 * a * steep_shape()),
        "counts_off": rng.poisson(sizes * b * steep_shape(2.5)),
        "fraction": a,
        "fraction_off": b,
    }


def assert_equal_comparison(actual, desired, **kwargs):
    for name, value in desired._asdict().items():
        assert_allclose(getattr(actual, name), value, err_msg=name, **kwargs)


# The classical divergence


def distributions(size=6):
    values = arrays(float, size, elements=st.floats(1e-3, 1))
    return values.map(lambda _: _ / _.sum())


@given(distributions(), distributions())
def test_kl_divergence_is_not_negative(p, q):
    assert kl_divergence(p, q) >= 0
    assert kl_divergence(p, p) == 0
    assert_allclose(kl_divergence(p, q), np.sum(p * np.log(p / q)), atol=1e-12)


def test_kl_divergence_known_values():
    assert_allclose(kl_divergence([0.5, 0.5], [0.25, 0.75]), np.log(4 / 3) / 2)
    # two Poisson distributions: lam ln(lam / mu) - lam + mu
    k = np.arange(100)
    log_factorial = np.cumsum(np.log(np.maximum(k, 1)))
    p, q = (np.exp(k * np.log(_) - _ - log_factorial) for _ in (5, 7))
    assert_allclose(kl_divergence(p, q), 5 * np.log(5 / 7) + 2, rtol=1e-9)


def test_kl_divergence_of_empty_bins():
    assert_allclose(kl_divergence([0, 1], [0.5, 0.5]), np.log(2))
    assert_allclose(kl_divergence([0, 1, 0], [0, 0.5, 0.5]), np.log(2))
    assert kl_divergence([0.5, 0.5], [0, 1]) == np.inf


def test_kl_divergence_along_an_axis():
    p = np.array([0.2, 0.3, 0.5])
    q = np.random.default_rng(0).dirichlet(np.ones(3), size=5)
    assert_allclose(kl_divergence(p, q, axis=1), [kl_divergence(p, _) for _ in q])


@pytest.mark.parametrize(
    ("p", "q", "match"),
    [
        ([0.5, 0.6], [0.5, 0.5], r"'p' must be normalised to a sum of 1, got 1\.1"),
        ([0.5, 0.5], [2, 3], r"'q' must be normalised to a sum of 1, got 5\.0"),
        ([1.5, -0.5], [0.5, 0.5], r"'p' must be finite and not below zero, got -0\.5"),
        ([0.5, 0.5], [np.nan, 1], "'q' must be finite and not below zero, got nan"),
        ([0.5, 0.5], [0.5, 0.2, 0.3], "shape mismatch"),
    ],
)
def test_kl_divergence_errors(p, q, match):
    with pytest.raises(ValueError, match=match):
        kl_divergence(p, q)


# Noise


def exact_moments(t, pi):
    n = np.arange(t + 1)
    g = 2 * (rel_entr(n, t * pi) + rel_entr(t - n, t * (1 - pi)))
    probability = binom.pmf(n, t, pi)
    mean = probability @ g
    return mean, probability @ (g - mean) ** 2


@pytest.mark.parametrize(
    ("t", "atol"),
    [
        *((_, (3e-4, 1e-3)) for _ in (1, 2, 3, 7, 20, 59, 60, 100, 127)),
        *((_, (2.5e-3, 0.015)) for _ in (128, 129, 200, 1000, 20000)),
    ],
)
def test_moments_are_those_of_the_binomial(t, atol):
    small = np.concatenate([[1e-6, 1e-4, 1e-3], np.geomspace(0.003, 0.5, 60)])
    pi = np.concatenate([small, 1 - small])
    exact = np.transpose([exact_moments(t, _) for _ in pi])
    moments = deviance_moments(np.full(pi.shape, t), pi)

    assert_allclose(moments[0], exact[0], rtol=0, atol=atol[0])
    assert_allclose(moments[1], exact[1], rtol=0, atol=atol[1])


def test_moments_without_noise_or_with_many_counts():
    assert_array_equal(deviance_moments(np.array(0), np.array(0.3)), 0)
    assert_array_equal(deviance_moments(np.array([9, 900]), np.zeros(2)), 0)
    assert_array_equal(deviance_moments(np.array([9, 900]), np.ones(2)), 0)
    many = deviance_moments(np.array(10**8), np.array(0.5))
    assert_allclose(many, (1, 2), rtol=1e-4)


def assert_unbiased(comparison):
    kl_corr = comparison.kl_corr
    error = np.std(kl_corr) / np.sqrt(len(kl_corr))
    assert abs(np.mean(kl_corr)) < 3 * error
    assert 0.04 < np.mean(comparison.p_value < 0.05) < 0.065


@pytest.mark.slow
@pytest.mark.parametrize("draw", ["poisson", "multinomial"])
@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
@pytest.mark.parametrize(
    "sizes", [(200, 200), (500, 5000), (2000, 2000), (8000, 8000)], ids=str
)
def test_equal_shapes_have_no_divergence(sizes, masked, draw):
    assert_unbiased(compare_pairs(3, sizes, masked, draw))


@pytest.mark.parametrize("sizes", [(200, 20000), (20000, 200)], ids=str)
def test_many_counts_of_one_sample_do_not_make_a_bin_gaussian(sizes):
    assert_unbiased(compare_pairs(4, sizes))


def test_kl_with_a_floor_is_mostly_noise():
    """Normalised counts with a 1e-9 floor: 0.26 from noise alone at 500 events."""
    rng = np.random.default_rng(5)
    p, q = (
        rng.multinomial(500, steep_shape(), size=N_PAIRS) / 500 + 1e-9 for _ in "pq"
    )
    assert np.mean(rel_entr(p, q).sum(axis=1)) > 0.2

    comparison = compare_pairs(5, (500, 500), draw="multinomial")
    assert abs(np.mean(comparison.kl_corr)) < 0.003
    assert np.mean(comparison.kl_div) < 0.1


# Real differences


@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
def test_rms_difference_of_ten_percent_is_measured(masked):
    # about 10% in each bin, hence for any mask; zero on average, as the norm is fitted
    shape = steep_shape()
    difference = np.where(np.arange(N_BINS) % 2, 1.0, -1.0)
    difference -= difference @ shape
    difference *= 0.1 / np.sqrt(difference**2 @ shape)
    shapes = shape * (1 + difference / 2), shape * (1 - difference / 2)
    comparison = compare_pairs(6, (8000, 8000), masked, shapes=shapes)

    assert 0.09 < np.mean(comparison.delta_rms) < 0.11
    assert 0.09 < np.sqrt(2 * np.mean(comparison.kl_corr)) < 0.11
    assert np.mean(comparison.p_value < 0.05) > 0.8


def test_exclusions_are_not_a_difference_of_shape():
    rng = np.random.default_rng(7)
    counts = 1e6 * steep_shape()
    a, b = rng.uniform(0.1, 1, (2, N_BINS))
    comparison = compare_counts(np.rint(a * counts), [np.rint(b * counts)], a, b)
    assert comparison.kl_div < 1e-5
    assert comparison.delta_rms < 1e-3
    assert comparison.p_value > 0.99


# Symmetries


def test_exchange_of_target_and_candidate(candidates):
    comparison = compare_counts(**candidates)
    for i, counts_off in enumerate(candidates["counts_off"]):
        exchanged = compare_counts(
            counts_off,
            candidates["counts"][np.newaxis],
            candidates["fraction_off"][i],
            candidates["fraction"],
        )
        assert_allclose(exchanged.kl_corr, comparison.kl_corr[i], rtol=1e-9)
        assert_allclose(exchanged.p_value, comparison.p_value[i], rtol=1e-9)
        assert (exchanged.n, exchanged.m) == (comparison.m[i], comparison.n[i])


def test_order_of_candidates_does_not_matter(candidates):
    order = np.random.default_rng(8).permutation(60)
    comparison = compare_counts(**candidates)
    shuffled = {
        **candidates,
        "counts_off": candidates["counts_off"][order],
        "fraction_off": candidates["fraction_off"][order],
    }
    desired = CountsComparison(*(_[order] for _ in comparison))
    assert_equal_comparison(compare_counts(**shuffled), desired, rtol=1e-12)


def test_all_candidates_at_once_as_one_by_one(candidates):
    target = candidates["counts"], candidates["fraction"]
    single = [
        compare_counts(target[0], m[np.newaxis], target[1], b)
        for m, b in zip(
            candidates["counts_off"], candidates["fraction_off"], strict=True
        )
    ]
    desired = CountsComparison(*(np.concatenate(_) for _ in zip(*single, strict=True)))
    assert_equal_comparison(compare_counts(**candidates), desired, rtol=1e-9)


def test_bins_in_any_shape_and_order(candidates):
    comparison = compare_counts(**candidates)
    box = {k: v.reshape(*v.shape[:-1], 8, 6) for k, v in candidates.items()}
    assert_equal_comparison(compare_counts(**box), comparison, rtol=1e-12)
    mirrored = {k: v[..., ::-1] for k, v in candidates.items()}
    assert_equal_comparison(compare_counts(**mirrored), comparison, rtol=1e-9)


def test_only_the_ratio_of_the_fractions_matters(candidates):
    comparison = compare_counts(**candidates)
    scaled = compare_counts(**{**candidates, "fraction": candidates["fraction"] / 3})
    assert_allclose(scaled.kl_corr, comparison.kl_corr, rtol=1e-9)
    assert_allclose(scaled.p_value, comparison.p_value, rtol=1e-9)


def test_counts_in_masked_bins_do_not_matter(candidates):
    comparison = compare_counts(**candidates)
    masked_off = candidates["fraction_off"] == 0
    masked = candidates["fraction"] == 0
    assert masked.any()
    assert masked_off.any()
    other = {
        **candidates,
        "counts": candidates["counts"] + 1000 * masked,
        "counts_off": candidates["counts_off"] + 1000 * (masked | masked_off),
    }
    assert_equal_comparison(compare_counts(**other), comparison, rtol=1e-12)

    compared = ~(masked | masked_off)
    assert_array_equal(comparison.n, (compared * candidates["counts"]).sum(axis=1))
    assert_array_equal(comparison.m, (compared * candidates["counts_off"]).sum(axis=1))


# Nothing to compare


def test_candidates_without_information_are_nan(candidates):
    counts_off = candidates["counts_off"][:4].copy()
    counts_off[0] = 0
    fraction_off = np.ones((4, N_BINS))
    fraction_off[1] = 0
    fraction_off[2, 1:] = 0
    comparison = compare_counts(candidates["counts"], counts_off, 1, fraction_off)

    for name in ("kl_div", "kl_corr", "p_value", "delta_rms"):
        isnan = np.isnan(getattr(comparison, name))
        assert_array_equal(isnan, [True, True, True, False], err_msg=name)
    assert_array_equal(comparison.m[:2], 0)
    alone = compare_counts(candidates["counts"], counts_off[3:])
    assert alone.kl_corr[0] == comparison.kl_corr[3]


def test_no_candidates():
    comparison = compare_counts(np.ones(5), np.ones((0, 5)))
    assert all(_.shape == (0,) for _ in comparison)


def test_too_few_counts_for_a_p_value():
    comparison = compare_counts([1, 0], [[1, 0]])
    assert np.isnan(comparison.p_value[0])
    assert np.isfinite(comparison.kl_corr[0])


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"counts": [0, 0, 0]}, "'counts' of the target are 0 in all bins"),
        ({"counts": [1, -2, 0]}, "'counts' must be counts.* got -2"),
        ({"counts": [1, np.nan, 0]}, "'counts' must be counts.* got nan"),
        ({"counts_off": [[1, 0.3, 0]]}, r"'counts_off' must be counts.* got 0\.3"),
        ({"counts_off": [[1, np.inf, 0]]}, "'counts_off' must be counts.* got inf"),
        ({"counts_off": [1, 2, 3]}, r"shape \(n_candidates, 3\), got \(3,\)"),
        ({"counts_off": [[1, 2]]}, r"shape \(n_candidates, 3\), got \(1, 2\)"),
        ({"fraction": [1, 1.2, 0]}, r"'fraction' must be between 0 and 1, got 1\.2"),
        ({"fraction": [1, 1]}, r"'fraction' has the shape \(2,\).* \(1, 3\)"),
        ({"fraction_off": [[1, 1, -0.1]]}, r"'fraction_off' must be .* got -0\.1"),
        ({"fraction_off": np.nan}, "'fraction_off' must be .* got nan"),
    ],
)
def test_compare_counts_errors(kwargs, match):
    with pytest.raises(ValueError, match=match):
        compare_counts(**{"counts": [1, 2, 3], "counts_off": [[2, 2, 2]]} | kwargs)
