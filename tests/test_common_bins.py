"""All candidates of a target are compared in one common set of bins."""

import itertools

import astropy.units as u
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal

from gammapy_mimic import KLBackgroundSelector
from gammapy_mimic.selection import MatchCriteria, OffIndex
from gammapy_mimic.selection.binning import FoVBinning
from gammapy_mimic.selection.ranking import (
    get_common_masks,
    get_seen_mask,
    rank_observations,
)

from .helpers import make_obs_table, need_runs

BINNING = FoVBinning.create()
N_ENERGY, N_OFFSET = BINNING.shape
EDGES = BINNING.energy_edges
CRITERIA = MatchCriteria(
    livetime=None, airmass=None, galactic_latitude=None, field_radius="0.1 deg"
)


def make_shape(width=1.0):
    """Steep spectrum times a radial profile, with the solid angle of the rings."""
    energy = -np.diff(EDGES**-1.7)
    offset = (BINNING.offset_edges[1:] + BINNING.offset_edges[:-1]) / 2
    rings = offset * np.exp(-(offset**2) / 2 / (1.3 * width) ** 2)
    shape = energy[:, np.newaxis] * rings
    return shape / shape.sum()


def make_index(counts, energy_min=0.0, energy_max=np.inf, fraction=1.0, first=1):
    counts = np.asarray(counts, dtype=np.int32)
    n_obs = len(counts)
    table = make_obs_table(
        {
            "OBS_ID": first + np.arange(n_obs),
            "RA_PNT": 3.0 * np.arange(n_obs) + first,
            "DEC_PNT": np.full(n_obs, -20.0),
            "ENERGY_MIN": np.broadcast_to(energy_min, n_obs) * u.TeV,
            "ENERGY_MAX": np.broadcast_to(energy_max, n_obs) * u.TeV,
            "FILE_SIZE": np.full(n_obs, -1),
            "FILE_TIME": np.full(n_obs, -1),
        }
    )
    fraction = np.broadcast_to(fraction, (n_obs, N_OFFSET)).astype(float)
    return OffIndex(table, counts, fraction, BINNING)


def make_candidates(rng, n_obs, n_events=3000, shape=None, **options):
    shape = make_shape() if shape is None else shape
    return make_index(rng.poisson(n_events * shape, (n_obs, *shape.shape)), **options)


def rank(target, off):
    table = rank_observations(target, off, CRITERIA)
    table.sort("OFF_OBS_ID")
    return table


def make_target(rng, **options):
    return make_candidates(rng, 1, first=1000, **options)


# Who covers less does not win


def test_candidates_with_fewer_counts_do_not_win():
    """20 of 60, of one shape, with a high threshold: they took 70% of the best ten."""
    rng = np.random.default_rng(0)
    energy_min = np.where(np.arange(60) % 3 == 0, EDGES[3], 0)
    numbers = []
    for _ in range(40):
        off = make_candidates(rng, 60, energy_min=energy_min)
        table = rank_observations(make_target(rng), off, CRITERIA)
        assert set(table["REASONS"]) == {""}
        numbers.append(np.sum((table["OFF_OBS_ID"][:10] - 1) % 3 == 0))
    # a third, with the error of 400 draws
    assert abs(np.mean(numbers) / 10 - 1 / 3) < 3 * np.sqrt(2 / 9 / 400)


def test_candidates_with_a_narrow_field_do_not_win():
    """Nor those without the outer ring. A few of them are rejected, many not."""
    rng = np.random.default_rng(1)
    narrow = make_shape() * (np.arange(N_OFFSET) < N_OFFSET - 1)
    for number, is_rejected in ((6, True), (20, False)):
        wide = make_candidates(rng, 60 - number).counts
        off = np.concatenate([make_candidates(rng, number, shape=narrow).counts, wide])
        table = rank(make_target(rng), make_index(off))
        reasons = table["REASONS"].tolist()
        expected = ["threshold"] * number if is_rejected else [""] * number
        assert reasons[:number] == expected
        assert set(reasons[number:]) == {""}
        assert np.all(np.isnan(table["KL_CORR"][:number])) == is_rejected


def test_rejected_for_the_threshold():
    rng = np.random.default_rng(2)
    energy_min = np.where(np.arange(10) < 2, EDGES[5], 0)
    off = make_candidates(rng, 10, energy_min=energy_min)
    table = rank(make_target(rng), off)
    assert table["STATUS"].tolist()[:2] == ["rejected"] * 2
    assert table["REASONS"].tolist() == ["threshold"] * 2 + [""] * 8
    assert np.all(np.isnan(table["KL_CORR"][:2]))
    assert np.all(np.isfinite(table["KL_CORR"][2:]))


def test_only_common_bins_matter():
    """What candidates have outside of the common bins does not change the ranking."""
    rng = np.random.default_rng(3)
    energy_min = np.where(np.arange(9) % 3 == 0, EDGES[2], 0)
    off = make_candidates(rng, 9, energy_min=energy_min)
    target = make_target(rng)
    expected = rank(target, off)
    changed = off.counts.copy()
    changed[1, :2] *= 7
    again = rank(target, make_index(changed, energy_min))
    assert_array_equal(again["KL_CORR"], expected["KL_CORR"])


def test_rejected_candidates_do_not_decide():
    """Those that the criteria reject, however little they cover."""
    rng = np.random.default_rng(4)
    off = make_candidates(rng, 12, energy_min=np.where(np.arange(12) < 8, EDGES[4], 0))
    criteria = MatchCriteria(
        livetime=None,
        airmass=None,
        galactic_latitude=None,
        field_radius="0.1 deg",
        exclude_obs_ids=range(1, 9),
    )
    target = make_target(rng)
    table = rank_observations(target, off, criteria)
    table.sort("OFF_OBS_ID")
    alone = rank(target, off.select(range(9, 13)))
    assert_array_equal(table["KL_CORR"][8:], alone["KL_CORR"])
    assert set(table["REASONS"][:8]) == {"exclude_obs_ids"}


@pytest.mark.parametrize("n_obs", [1, 2, 3, 4])
def test_few_candidates(n_obs):
    """None of fewer than five is rejected, and the bins are those that all cover."""
    rng = np.random.default_rng(5)
    energy_min = EDGES[np.arange(n_obs)]
    table = rank(make_target(rng), make_candidates(rng, n_obs, energy_min=energy_min))
    assert set(table["REASONS"]) == {""}
    assert np.all(np.isfinite(table["KL_CORR"]))


def test_nothing_in_common():
    rng = np.random.default_rng(6)
    off = make_candidates(rng, 3, energy_min=EDGES[5])
    target = make_target(rng, energy_max=EDGES[4])
    assert set(rank(target, off)["REASONS"]) == {"no_common_counts"}
    # one that shares nothing with the target does not spoil the others
    off = make_candidates(rng, 3, energy_min=[EDGES[5], 0, 0])
    table = rank(target, off)
    assert table["REASONS"].tolist() == ["threshold", "", ""]
    # two that share nothing with each other
    off = make_candidates(
        rng, 2, energy_min=[0, EDGES[3]], energy_max=[EDGES[3], EDGES[8]]
    )
    table = rank(make_target(rng), off)
    assert table["REASONS"].tolist() == ["", "threshold"]


def test_masked_rings():
    """A ring that an exclusion region masks is not covered; a part of it is."""
    rng = np.random.default_rng(7)
    fraction = np.ones((10, N_OFFSET))
    fraction[0, 0], fraction[1, 0], fraction[2, 0] = 0, 0, 0.1
    off = make_candidates(rng, 10)
    counts = np.rint(off.counts * fraction[:, np.newaxis]).astype(int)
    table = rank(make_target(rng), make_index(counts, fraction=fraction))
    assert table["REASONS"].tolist() == ["threshold"] * 2 + [""] * 8
    # masked in the target, it is nobody's
    target = make_target(rng, fraction=np.arange(N_OFFSET) > 0)
    table = rank(target, make_index(counts, fraction=fraction))
    assert set(table["REASONS"]) == {""}


# Laws of the choice


def cover(n_bins):
    """Neighbouring bins, or none."""
    edge = st.integers(0, n_bins)
    return st.tuples(edge, edge).map(
        lambda _: (np.arange(n_bins) >= min(_)) & (np.arange(n_bins) < max(_))
    )


@st.composite
def covers(draw, n_energy=4, n_offset=3):
    number = draw(st.integers(1, 12))
    off = draw(
        st.lists(
            st.tuples(cover(n_energy), cover(n_offset)),
            min_size=number,
            max_size=number,
        )
    )
    return {
        "weights": draw(arrays(int, (n_energy, n_offset), elements=st.integers(0, 9))),
        "energies": draw(cover(n_energy)),
        "rings": draw(arrays(bool, n_offset)),
        "off_energies": np.array([_[0] for _ in off]),
        "off_rings": np.array([_[1] for _ in off]),
        "accepted": draw(arrays(bool, number)),
    }


def find(values):
    return get_common_masks(**values)


def find_by_hand(values):
    """Largest counts of the target in what enough candidates cover."""
    own = np.outer(values["energies"], values["rings"])
    off = [
        np.outer(*_) & own
        for _ in zip(values["off_energies"], values["off_rings"], strict=True)
    ]
    shares = np.array([np.any(_) for _ in off])
    counting = shares & values["accepted"]
    if not counting.any():
        counting = shares
    best, enough = (0, 0), -(-4 * np.sum(counting) // 5)
    energies, rings = (np.nonzero(values[_])[0] for _ in ("energies", "rings"))
    for rows, columns in itertools.product(
        itertools.combinations_with_replacement(range(len(energies)), 2),
        itertools.combinations_with_replacement(range(len(rings)), 2),
    ):
        bins = np.zeros_like(own)
        selected = energies[rows[0] : rows[1] + 1], rings[columns[0] : columns[1] + 1]
        bins[np.ix_(*selected)] = True
        number = sum(
            np.all(_ >= bins) for _, keep in zip(off, counting, strict=True) if keep
        )
        counts = values["weights"][bins].sum()
        if number and counts and bins.sum() > 1:
            best = max(best, (min(number, enough), counts))
    return best, counting, off


@given(covers())
def test_common_bins(values):
    bins, covered = find(values)
    best, counting, off = find_by_hand(values)
    assert_array_equal(covered, [bins.any() and np.all(_ >= bins) for _ in off])
    number = np.sum(covered & counting)
    enough = -(-4 * np.sum(counting) // 5)
    found = min(number, enough), values["weights"][bins].sum()
    assert found == best
    assert bins.sum() != 1


@given(covers(), st.randoms(use_true_random=False))
def test_order_of_candidates_does_not_matter(values, random):
    order = list(range(len(values["accepted"])))
    random.shuffle(order)
    shuffled = dict(values)
    for name in ("off_energies", "off_rings", "accepted"):
        shuffled[name] = values[name][order]
    bins, covered = find(values)
    again, covered_again = find(shuffled)
    assert_array_equal(again, bins)
    assert_array_equal(covered_again, covered[order])


@given(covers(), st.integers(0, 11), cover(4))
def test_covering_less_is_no_gain(values, idx, less):
    """Who covers less is rejected, or all are compared in the same, other bins."""
    idx = idx % len(values["accepted"])
    changed = dict(values)
    changed["off_energies"] = values["off_energies"].copy()
    changed["off_energies"][idx] &= less
    before, covered_before = find(values)
    after, covered_after = find(changed)
    if np.array_equal(before, after):
        assert covered_after[idx] <= covered_before[idx]
        others = np.arange(len(covered_before)) != idx
        assert_array_equal(covered_after[others], covered_before[others])


# Rings in the field of view


def test_rings_beyond_the_field():
    counts = np.array(
        [
            [100, 200, 100, 50],
            [100, 200, 100, 0],  # 12.5% of 400 are expected
            [100, 200, 0, 0],
            [10, 20, 10, 0],  # 5 are expected: chance
            [100, 0, 100, 50],  # a gap is no end
            [0, 0, 0, 0],
        ]
    )
    seen = get_seen_mask(counts, np.ones(counts.shape))
    expected = np.ones(counts.shape, dtype=bool)
    expected[1, 3] = expected[2, 2:] = False
    assert_array_equal(seen, expected)
    # a mask takes counts, but is no end either
    fraction = np.ones(counts.shape)
    fraction[1, 3] = 0.1
    fraction[0, 0] = 0
    expected[1, 3], expected[0, 0] = True, False
    assert_array_equal(get_seen_mask(counts, fraction), expected)


def test_empty_rings_of_few_events_are_seen():
    """Chance does not reject: 2000 events, of which two are expected in the last."""
    rng = np.random.default_rng(8)
    counts = rng.poisson([800, 800, 400, 2], (500, 4))
    assert np.mean(counts[:, -1] == 0) > 0.1
    assert get_seen_mask(counts, np.ones(counts.shape)).all()


# Background IRFs


def test_background_irfs_in_the_common_safe_range(hess_store):
    """Of 23526 the median was 0.0284, and 4 of 7 candidates were "large_kl"."""
    need_runs(hess_store, 23526)
    pool = hess_store.get_observations(need_runs(hess_store, "offdata"))
    selector = KLBackgroundSelector(pool, distribution="irf")
    table = selector.rank(hess_store.obs(23526))
    kept = table[table["STATUS"] != "rejected"]
    assert np.median(kept["KL_CORR"]) < 0.005
    # the same bins as for counts, hence the same candidates
    table.sort("OFF_OBS_ID")
    counts = KLBackgroundSelector(pool, index=selector.index)
    expected = counts.rank(hess_store.obs(23526))
    expected.sort("OFF_OBS_ID")
    assert table["REASONS"].tolist() == expected["REASONS"].tolist()
