"""Planted errors of a background, from datasets to tables."""

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose

from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.estimators.apertures import make_grid

from .sets_toys import BINSZ, RADII, SetsToy, measure_position, measure_toy


def test_truth_of_a_tilt_is_a_bias_of_each_band():
    toy = SetsToy(tilt=0.1, n_energies=2)
    errors = toy.draw_errors(np.random.default_rng(0))
    deltas = []
    for band in range(2):
        delta, square = toy.get_truth(errors, 0.2, band)
        assert square < 1e-20
        deltas.append(delta)
    # the softer spectrum has the counts at low energies
    assert deltas[1] < -0.05 < 0.005 < deltas[0] < 0.05
    assert_allclose(toy.get_truth(errors, 0.2)[0], 0, atol=1e-12)


def test_truth_of_a_field_is_that_of_its_circles():
    toy = SetsToy(0.1, 0.3)
    errors = toy.draw_errors(np.random.default_rng(0))
    grid = make_grid(toy.shape, BINSZ, 0.5)
    background = grid.add(toy.field.background[0][0])
    inside = background > 0.3 * background.max()
    mean = grid.add(np.ones(toy.shape))
    circles = (grid.add(errors) / mean)[inside]
    _, square = toy.get_truth(errors, 0.5)
    assert_allclose(np.sqrt(square), np.std(circles), rtol=0.25)
    # larger circles average more of it
    squares = [toy.get_truth(errors, _)[1] for _ in RADII.value]
    assert 0.1**2 > squares[0] > squares[1] > squares[2] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"spread": 0.1}, {"tilt": 0.1, "n_energies": 3}, {"is_fitted": False}],
)
def test_planted_errors_are_found(options):
    toy = SetsToy(**options)
    edges = toy.field.geom.axes["energy"].edges
    for seed in range(2):
        for row in measure_toy(toy, [seed, 0], energy_edges=edges):
            difference = row["f_squared"] - row["true_f_squared"]
            assert abs(difference) < 4 * row["f_squared_err"]
            assert abs(row["delta_pull"]) < 4
            assert row["f_ul"] > 0.8 * np.sqrt(row["true_f_squared"])
            assert row["total_ul"] >= row["f_ul"] * 0.9


@pytest.mark.slow
def test_position_with_nothing_is_nothing():
    toy = SetsToy(0.1)
    rows = [measure_position(toy, [seed, 0]) for seed in range(3)]
    assert np.mean([row["mimic_width"] for row in rows]) > 2
    for row in rows:
        assert abs(row["calibrated"]) < 3
        assert row["calibrated"] <= max(row["significance"], 0)
        assert row["n_effective"] < 5 * toy.n_obs


def test_scales_are_the_systematics_of_their_radius():
    """Regression: circles had no neighbours, and another field too low a limit."""
    toy = SetsToy(0.1, 0.5, n_off=10, n_obs=4)
    rng = np.random.default_rng(0)
    sets = toy.draw(rng, toy.draw_errors(rng))
    result = MimicSystematicsEstimator("0.2 deg", radii=[0.2] * u.deg).run(sets)
    (scale,), (row,) = result.tables["scales"], result.tables["systematics"]
    for name in ("f", "f_ul", "f_other_ul", "total_other_ul", "n_apertures"):
        assert_allclose(scale[name], row[name])
