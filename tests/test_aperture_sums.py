"""Sums in apertures and over runs: fast ways give what the plain ones do."""

import itertools

import astropy.units as u
import numpy as np
import pytest
from gammapy.datasets import MapDataset
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic.estimators import MimicSystematicsEstimator, spread, systematics
from gammapy_mimic.estimators.aperture_counts import ApertureCounts
from gammapy_mimic.estimators.apertures import (
    OUTSIDE,
    Apertures,
    ApertureSums,
    make_grid,
    make_region,
)
from gammapy_mimic.estimators.band_covariance import measure_band_covariance
from gammapy_mimic.estimators.bias_spread import measure_bias_spread
from gammapy_mimic.estimators.counting import count_maps
from gammapy_mimic.estimators.spread import _add_pairs, measure_spread

from .counts_toys import LAT, LON, POSITIONS, Toy
from .test_systematics import EDGES, Field, simulate_sets

SHAPE, SIZE = (80, 100), 0.05
KINDS = [
    *(make_grid(SHAPE, SIZE, _) for _ in (0.02, 0.1, 0.3, 1.0)),
    make_region(np.indices(SHAPE)[0] > 60, SIZE),
    # the second has no pixel
    Apertures(np.where(np.eye(*SHAPE, dtype=bool), 2, OUTSIDE), np.zeros((3, 2)), SIZE),
]
WHOLE = slice(None), slice(None)
PART = slice(10, 50), slice(30, 100)


def add_masked(values, apertures, place=WHOLE):
    """Sums by the mask of each aperture."""
    labels = apertures.labels[place]
    masks = [labels == idx for idx in range(len(apertures.pixels))]
    return np.transpose([values[..., _].sum(axis=-1) for _ in masks])


# Apertures


@pytest.mark.parametrize("place", [WHOLE, PART, (slice(3, 4), slice(7, 8))])
def test_sums_are_those_of_masks(place):
    values = np.random.default_rng(0).poisson(3, (2, *SHAPE))[(..., *place)]
    sums = ApertureSums(KINDS)
    found = sums.add(values, place)
    assert found.shape == (2, sum(len(_.pixels) for _ in KINDS))
    for apertures, part in zip(KINDS, sums.parts, strict=True):
        expected = add_masked(values, apertures, place)
        assert_array_equal(found[:, part], expected)


def test_sums_of_one_kind():
    values = np.random.default_rng(0).random((3, 2, *SHAPE))
    found = KINDS[1].add(values)
    assert found.shape == (3, 2, len(KINDS[1].pixels))
    assert_allclose(found[1], add_masked(values[1], KINDS[1]), rtol=1e-13)
    assert_array_equal(KINDS[-1].add(values)[..., :2], 0)


def test_pixels_outside_of_apertures_can_be_anything():
    grid = KINDS[1]
    values = np.where(grid.labels == OUTSIDE, np.nan, 1.0)
    assert_array_equal(grid.add(values), np.bincount(grid.labels[grid.labels >= 0]))


def test_a_dataset_is_taken_once(monkeypatch):
    """Its prediction was evaluated three times."""
    sets = dict(zip("ab", simulate_sets(Field(3, 3), 0, n_sets=2), strict=True))
    called = []
    original = MapDataset.npred_background

    def evaluate(self):
        called.append(self.name)
        return original(self)

    monkeypatch.setattr(MapDataset, "npred_background", evaluate)
    geom = sets["a"][0].counts.geom.to_image()
    grids = [make_grid(geom.data_shape, 0.05, _) for _ in (0.1, 0.3)]
    count_maps(sets, [1, 2, 3, 2, 3, 4], geom, grids, EDGES)
    assert sorted(called) == sorted(_.name for one in sets.values() for _ in one)


# Runs


def pack(counts):
    """The same counts, with a row for each run of a set instead of each run."""
    used = counts.background.any(axis=2)
    n_rows = used.sum(axis=0).max()
    runs = np.zeros((n_rows, used.shape[1]), dtype=int)
    arrays = np.zeros((2, *runs.shape, counts.counts.shape[2]))
    for idx, known in enumerate(map(np.flatnonzero, used.T)):
        n = len(known)
        # rows of nothing have the name of another one
        runs[:, idx] = known[0]
        runs[:n, idx] = known
        arrays[:, :n, idx] = counts.counts[known, idx], counts.background[known, idx]
    return ApertureCounts(*arrays, runs=runs)


def draw(seed=0, **options):
    toy, rng = Toy(0.05, scale=0.3, **options), np.random.default_rng(seed)
    return toy.draw(rng, toy.draw_field(rng))


def flatten(result):
    return np.hstack([_[:5] if isinstance(_, tuple) else np.ravel(_) for _ in result])


@pytest.mark.parametrize("options", [{}, {"run_spread": 0.3}, {"strength_spread": 1.0}])
def test_rows_of_sets_are_those_of_runs(options):
    counts = draw(**options)
    packed = pack(counts)
    assert len(packed.counts) < len(counts.counts)
    assert packed.n_clusters == counts.n_clusters
    assert_allclose(packed.n_runs, counts.n_runs)
    results = [
        flatten(measure_bias_spread(_, 0.003, 1e4, POSITIONS)) for _ in (counts, packed)
    ]
    assert_allclose(results[1], results[0], rtol=1e-9)
    joined = [flatten(measure_bias_spread(_.join_sets())) for _ in (counts, packed)]
    assert_allclose(joined[1], joined[0], rtol=1e-9)
    covariance = [
        measure_band_covariance([_, _], np.array([0.0, 1.0])).covariance
        for _ in (counts, packed)
    ]
    assert_allclose(covariance[1], covariance[0], rtol=1e-9)


def test_names_that_repeat_are_one():
    """Halves of a run are the run, also where a set has them in other rows."""
    counts = draw()
    halves = [np.repeat(_ / 2, 2, axis=0) for _ in (counts.counts, counts.background)]
    n = len(counts.counts)
    halves = ApertureCounts(*halves, runs=np.repeat(np.arange(n), 2))
    results = [flatten(measure_bias_spread(_)) for _ in (counts, halves)]
    assert_allclose(results[1], results[0], rtol=1e-9)


def test_runs_have_one_of_two_shapes():
    ones = np.ones((4, 2, 3))
    with pytest.raises(ValueError, match=r"or the shape \(4, 2\), got \(2, 4\)"):
        ApertureCounts(ones, ones, runs=np.ones((2, 4)))


def test_counts_are_measured_once(monkeypatch):
    """Tables of the same counts, with and without template and positions, share it."""
    called = []
    original = spread._get_runs
    monkeypatch.setattr(spread, "_get_runs", lambda _: called.append(_) or original(_))
    counts = draw()
    plain, with_template = (measure_spread(counts, n)[0] for n in (np.inf, 1e4))
    _, noise = measure_spread(counts, positions=POSITIONS)
    assert called == [counts]
    assert with_template == pytest.approx(plain - 1e-4)
    assert noise.n_apertures < measure_spread(counts)[1].n_apertures
    measure_spread(draw(1))
    assert len(called) == 2


# Pairs


def add_pairs(positions, columns):
    """Sums over pairs, one after the other."""
    pairs = np.array([*itertools.combinations(range(len(positions)), 2)]).T
    distance = np.hypot(*(positions[pairs[0]] - positions[pairs[1]]).T)
    idx = np.rint(distance / distance.min()).astype(int)
    return distance.min(), [
        np.bincount(idx, _[pairs[0]] * _[pairs[1]]) for _ in columns
    ]


GRID = make_grid((60, 70), SIZE, 0.12).positions


@pytest.mark.parametrize(
    "positions",
    [
        GRID,
        POSITIONS,
        # with gaps, in a row, and two
        GRID[np.hypot(*(GRID - GRID.mean(axis=0)).T) > 1.2],
        POSITIONS[np.isin(np.arange(225) % 15, (0, 2, 5, 11)) & (LAT < 0)],
        POSITIONS[LON > 1.35],
        GRID[[3, 50]],
    ],
)
def test_sums_over_pairs(positions):
    columns = np.random.default_rng(0).normal(size=(2, len(positions)))
    width, expected = add_pairs(positions, columns)
    found_width, found = _add_pairs(positions, columns)
    assert found_width == pytest.approx(width, rel=1e-9)
    assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_positions_of_no_grid():
    positions = np.random.default_rng(0).normal(size=(225, 2))
    with pytest.raises(ValueError, match="must be those of a regular grid"):
        measure_bias_spread(draw(), positions=positions)


def test_radius_that_is_there_twice_is_counted_once(monkeypatch):
    radii = []
    original = systematics.make_grids

    def make(comparison, values):
        radii.append(values.to_value("deg").tolist())
        return original(comparison, values)

    monkeypatch.setattr(systematics, "make_grids", make)
    sets = simulate_sets(Field(3, 2), 0, n_sets=3)
    result = MimicSystematicsEstimator("0.1 deg", radii=[0.1, 0.3] * u.deg).run(sets)
    assert radii == [[0.1, 0.3]]
    scales, row = result.tables["scales"], result.select("systematics")[0]
    same = scales[(scales["radius"] == 0.1) & (scales["band"] == row["band"])][0]
    assert same["f_squared"] == row["f_squared"]
