"""Samples that share events: counted by hand, and in toys."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from numpy.testing import assert_allclose

from gammapy_mimic import MimicMaker
from gammapy_mimic.estimators.sharing import (
    get_circle_overlap,
    get_effective_number,
    get_event_weights,
    get_shared_events,
    get_weighted_p_value,
)
from gammapy_mimic.estimators.statistics import VARIANCE_FRACTION, get_p_value

from .test_real_data import make_plan


def place(off_obs_ids, position):
    """Positions of samples that are the same in all fields of view."""
    return np.broadcast_to(position, (*np.shape(off_obs_ids), 2)).astype(float)


def test_overlap_of_circles():
    """By the area that points tell, and by its moments over the plane."""
    points = np.random.default_rng(0).uniform(-1, 1, (200_000, 2))
    points = points[np.hypot(*points.T) < 1]
    for distance in (0, 0.5, 1.3, 2):
        inside = np.hypot(points[:, 0] - distance, points[:, 1]) < 1
        assert_allclose(get_circle_overlap(distance, 1), np.mean(inside), atol=5e-3)
    assert get_circle_overlap(9, 1) == 0
    distance = (np.arange(2000) + 0.5) / 1000
    for power, fraction in ((1, 1), (2, VARIANCE_FRACTION)):
        area = np.sum(distance * get_circle_overlap(distance, 1) ** power) * 2 / 1000
        assert_allclose(area, fraction, rtol=1e-3)


def test_sets_of_the_same_runs_are_one():
    off_obs_ids = [[1, 2, 3], [3, 1, 2], [2, 3, 1]]
    correlation = get_shared_events(off_obs_ids, place(off_obs_ids, (0.5, 0)), 0.1)
    assert_allclose(correlation, 1)
    weights = get_event_weights(correlation)
    assert_allclose(weights, 1 / 3)
    assert_allclose(get_effective_number(weights, correlation), 1)


def test_shared_runs_by_hand():
    """One of two runs in common; nothing; and targets without a partner."""
    off_obs_ids = [[1, 2], [1, 3], [4, 5], [-1, -1], [2, -1]]
    positions = place(off_obs_ids, (0.5, 0))
    correlation = get_shared_events(off_obs_ids, positions, 0.1)
    expected = np.diag([1.0, 1, 1, 0, 1])
    expected[0, 1] = expected[1, 0] = 0.5
    expected[0, 4] = expected[4, 0] = np.sqrt(0.5)
    assert_allclose(correlation, expected)
    weights = get_event_weights(correlation)
    assert_allclose(weights[[2, 3]], [1, 0])
    # a run that is cut shorter has fewer events in common
    counts = np.array([[3, 1], [1, 1], [1, 1], [1, 1], [1, 1]])
    correlation = get_shared_events(off_obs_ids, positions, 0.1, counts)
    assert_allclose(correlation[0, 1], 1 / np.sqrt(4 * 2))


def test_same_place_in_the_field_of_view():
    """Pointings differ, and so do the events of one run at one position on the sky."""
    off_obs_ids = np.array([[1], [1], [1]])
    pointing = np.array([[0, 0.5], [0, -0.5], [0, -0.5]])
    sky = np.array([[0, 0], [0, 0], [0, -1.0]])
    positions = (sky - pointing)[:, np.newaxis]
    correlation = get_shared_events(off_obs_ids, positions, 0.1)
    # the third position has in its field the place of the first one
    assert_allclose(correlation, [[1, 0, 1], [0, 1, 0], [1, 0, 1]])


@pytest.mark.parametrize("power", [1, 2])
def test_effective_number_is_that_of_the_scatter(power):
    """Of the mean, and of the variance around 0, of correlated Gaussian samples."""
    rng = np.random.default_rng(0)
    off_obs_ids = np.array([rng.permutation(12)[:8] for _ in range(5)])
    positions = place(off_obs_ids, (0.5, 0))
    correlation = get_shared_events(off_obs_ids, positions, 0.1)
    weights = get_event_weights(correlation)
    values = rng.multivariate_normal(np.zeros(5), correlation, 40_000) ** power
    means = values @ weights / np.sum(weights)
    number = get_effective_number(weights, correlation, power)
    # squares have the variance 2
    assert_allclose(np.var(means) * number, power, rtol=0.05)
    assert 1 < number < 5


def test_samples_that_share_nothing():
    sample = np.array([1, 2, 3, 4, np.nan])
    correlation = np.eye(5)
    p_value, n_larger, number = get_weighted_p_value(3.0, sample, correlation)
    assert_allclose([p_value, n_larger, number], [3 / 5, 2, 4])
    assert p_value == get_p_value(3.0, sample)
    # copies change nothing
    twice = np.kron(np.ones((2, 2)), correlation)
    copies = get_weighted_p_value(3.0, np.tile(sample, 2), twice)
    assert_allclose(copies, (p_value, n_larger, number))
    assert np.isnan(get_weighted_p_value(np.nan, sample, correlation)[0])
    assert np.isnan(get_weighted_p_value(1.0, [np.nan], np.eye(1))[0])


def simulate_shared(n_runs, n_toys, n_sets=5, n_targets=15, n_positions=20):
    """Draw targets, and mimics of few OFF runs, and get p-values of a position.

    Returns
    -------
    plain, weighted, number : `~numpy.ndarray`
        P-values of samples taken as independent and by the events that they share, and
        effective numbers of samples. Shape (n_toys,).
    """
    rng = np.random.default_rng(0)
    runs = np.array([rng.permutation(n_runs)[:n_targets] for _ in range(n_sets)])
    angle = 2 * np.pi * np.arange(n_positions) / n_positions
    positions = np.tile(np.transpose([np.cos(angle), np.sin(angle)]), (n_sets, 1))
    positions = np.repeat(positions[:, np.newaxis], n_targets, axis=1)
    off_obs_ids = np.repeat(runs, n_positions, axis=0)
    correlation = get_shared_events(off_obs_ids, positions, 0.1)
    results = []
    for _ in range(n_toys):
        counts = rng.poisson(5, (n_runs, n_positions))
        sample = np.ravel(counts[runs].sum(axis=1)).astype(float)
        value = rng.poisson(5 * n_targets) + rng.uniform(-0.5, 0.5)
        # no ties
        sample += rng.uniform(-0.5, 0.5, sample.shape)
        p_value, _, number = get_weighted_p_value(value, sample, correlation)
        results.append((get_p_value(value, sample), p_value, number))
    return np.transpose(results)


def test_p_value_of_shared_events():
    """Too small without the weights."""
    plain, weighted, number = simulate_shared(16, 1000, n_positions=4)
    assert 3.5 < number[0] < 6
    assert np.mean(plain < 0.06) > 0.09
    for x in (0.2, 0.3, 0.5):
        assert np.mean(weighted < x) < x + 2 * np.sqrt(x * (1 - x) / 1000)


def get_plane(position, frame):
    """Coordinates in deg in the plane around the origin of a frame. Shape (n, 2)."""
    position = position.transform_to(frame)
    return np.transpose([position.lon.wrap_at("180d").deg, position.lat.deg])


@pytest.mark.slow
def test_hess_shared_events(hess_store):
    """Two sets of MSH 15-52: as many common events as the OFF runs say.

    The target was observed at four pointings. Where a run stands for observations of
    different pointing, its events are at different positions on the sky.
    """
    plan, observations = make_plan(hess_store, "msh1552", n_sets=2)
    pointings = SkyCoord([_.pointing.fixed_icrs for _ in observations])
    frame = SkyCoord(228.5, -59.16, unit="deg").skyoffset_frame()
    axis = np.arange(-0.9, 1, 0.3)
    grid = np.reshape(np.meshgrid(axis, axis), (2, -1)).T
    off_obs_ids, events = [], []
    for mimic_set in plan.sets:
        partners = plan.partners(mimic_set)
        off_obs_ids.append([partners[_.obs_id] for _ in observations])
        found = [set() for _ in grid]
        maker = MimicMaker(hess_store, plan, mimic_set)
        for mimic in maker.make_observations(observations):
            table = mimic.events.table
            where = SkyCoord(
                *(np.asarray(table[_], float) for _ in ("RA", "DEC")), unit="deg"
            )
            where = get_plane(where, frame)
            for position, names in zip(grid, found, strict=True):
                near = np.hypot(*(where - position).T) < 0.1
                names |= {(partners[mimic.obs_id], _) for _ in table["EVENT_ID"][near]}
        events += found
    correlation = get_shared_events(
        np.repeat(off_obs_ids, len(grid), axis=0),
        np.tile(grid, (2, 1))[:, np.newaxis] - get_plane(pointings, frame),
        0.1,
    )
    common = np.array(
        [[len(a & b) / np.sqrt(len(a) * len(b)) for b in events] for a in events]
    )
    between = np.s_[: len(grid), len(grid) :]
    assert_allclose(
        common[between].sum(axis=1).mean(),
        correlation[between].sum(axis=1).mean(),
        rtol=0.05,
    )
    assert (
        np.corrcoef(np.ravel(common[between]), np.ravel(correlation[between]))[0, 1]
        > 0.98
    )
    weights = get_event_weights(correlation)
    number = get_effective_number(weights, correlation)
    assert_allclose(get_effective_number(weights, common), number, rtol=0.03)
    assert len(grid) < number < 1.7 * len(grid)


def test_arguments():
    with pytest.raises(ValueError, match=r"must have the shape \(1, 2, 2\)"):
        get_shared_events([[1, 2]], np.zeros((1, 2)), 0.1)
    with pytest.raises(ValueError, match="radius must be above 0 deg, got 0"):
        get_shared_events([[1, 2]], np.zeros((1, 2, 2)), 0)
