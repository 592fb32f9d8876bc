"""Filled regions follow a gradient of the background."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic import ScrambleMaker
from gammapy_mimic.scramble.check import ScrambleCheck
from gammapy_mimic.scramble.draw import draw_fill
from gammapy_mimic.scramble.estimate import OutsideEvents
from gammapy_mimic.scramble.gradient import tilt_coverage
from gammapy_mimic.simulate import simulate_observation
from gammapy_mimic.utils.coordinates import from_polar

from .helpers import replace_events
from .test_scramble import EDGES, draw_field, make_coverage

ANGLE = 40.0  # deg, of the gradient
LINKS = {"linear": lambda gx: 1 + gx, "exponential": np.exp}
ASKEW = {(1, 0.3, ANGLE): 0.2, (0.5, 0.3, ANGLE): 0.4, (1, 0.3, ANGLE + 90): 0.4}
POINTING = SkyCoord(150, -30, unit="deg")


def get_xy(offset, azimuth):
    return offset * np.array([np.sin(azimuth), np.cos(azimuth)])


def draw_tilted(rng, mean, gradient, link="linear"):
    """Field of which events are kept with a probability that has a gradient."""
    offset, azimuth, energy = draw_field(rng, 3 * mean)
    gx = gradient * offset * np.cos(azimuth - np.radians(ANGLE))
    # exp(0.4 * 2.75) is 3
    kept = 3 * rng.uniform(size=len(offset)) < LINKS[link](gx)
    return offset[kept], azimuth[kept], energy[kept]


def fill(field, coverage, seed=0, follow=True):
    offset, azimuth, energy = field
    is_inside = coverage.is_inside(offset, azimuth)
    args = offset, energy, is_inside, coverage, EDGES, np.random.default_rng(seed)
    return draw_fill(*args, from_polar(offset, azimuth) if follow else None)


def sum_along(offset, azimuth, coverage, angle=ANGLE):
    """Sum of the positions along the gradient, from the centre of the region."""
    axis = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    xy = get_xy(offset, azimuth) - get_xy(*coverage.points).mean(axis=1)[:, np.newaxis]
    return np.sum(axis @ xy)


@pytest.mark.slow
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("circle", ASKEW, ids=str)
def test_planted_gradient_is_followed(circle, link):
    """In number, to 1% and 3 standard errors; more than 10% without following."""
    coverage, gradient = make_coverage(circle), ASKEW[circle]
    rng = np.random.default_rng(1)
    counts = []
    for seed in range(40):
        field = draw_tilted(rng, 40_000, gradient, link)
        inside = coverage.is_inside(*field[:2]).sum()
        after = [fill(field, coverage, seed, _)[0].size for _ in (True, False)]
        counts.append([inside, *after])
    counts = np.array(counts)
    expected, filled, symmetric = counts.mean(axis=0)
    error = np.std(counts[:, 1] - counts[:, 0]) / np.sqrt(len(counts))
    assert abs(filled - expected) < 3 * error + 0.01 * expected
    assert error < 0.01 * expected
    if circle[2] == ANGLE:
        assert symmetric < 0.9 * expected


@pytest.mark.parametrize("circle", [(0, 0.4), (0.7, 0.5, ANGLE)], ids=str)
def test_positions_in_the_region_follow(circle):
    """Also at the camera centre, where the numbers are the same."""
    coverage = make_coverage(circle)
    rng = np.random.default_rng(2)
    sums = []
    for seed in range(30):
        field = draw_tilted(rng, 20_000, 0.4)
        is_inside = coverage.is_inside(*field[:2])
        inside = [_[is_inside] for _ in field[:2]]
        after = [fill(field, coverage, seed, _)[1:] for _ in (True, False)]
        sums.append([sum_along(*_, coverage) / len(_[0]) for _ in (inside, *after)])
    expected, filled, symmetric = np.mean(sums, axis=0)
    error = np.std(np.diff(sums, axis=1)[:, 0]) / np.sqrt(len(sums))
    assert abs(filled - expected) < 3.5 * error
    assert abs(symmetric - expected) > 5 * error


@pytest.mark.parametrize(
    "mean", [100, 1000, pytest.param(10_000, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("circle", [(0.2, 0.3), (1.5, 0.5)], ids=str)
def test_no_gradient_is_as_before(circle, mean):
    """To the bit but for one field in 1000, so that it adds no noise."""
    coverage = make_coverage(circle)
    rng = np.random.default_rng(3)
    counts = []
    for seed in range(100):
        field = draw_field(rng, mean)
        results = [fill(field, coverage, seed, _) for _ in (True, False)]
        counts.append([len(_[0]) for _ in results])
        if counts[-1][0] == counts[-1][1]:
            assert_array_equal(*results)
    counts = np.array(counts)
    assert np.mean(counts[:, 0] != counts[:, 1]) <= 0.02
    filled, symmetric = counts.var(axis=0)
    assert filled < 1.01 * symmetric
    assert abs(np.diff(counts.mean(axis=0))) < 0.01 * counts.mean()


def test_few_events_have_no_gradient():
    coverage = make_coverage((0.5, 0.3, ANGLE))
    field = draw_tilted(np.random.default_rng(4), 60, 0.4)
    assert_array_equal(fill(field, coverage), fill(field, coverage, follow=False))


@pytest.mark.parametrize("n_events", [0, 1, 500])
@pytest.mark.parametrize("spread", [0, 2])
def test_extreme_fields(n_events, spread):
    """Never negative, and no more than all of an offset is covered."""
    coverage = make_coverage((0.5, 0.3), (1.2, 0.2, 180))
    offset = np.random.default_rng(0).uniform(0, 2, n_events)
    azimuth = np.linspace(1 - spread, 1 + spread, n_events)
    is_inside = coverage.is_inside(offset, azimuth)
    outside = OutsideEvents.create(offset, offset, is_inside, coverage)
    tilted = tilt_coverage(coverage, outside, from_polar(offset, azimuth))
    assert tilted.fraction.min() >= 0
    assert tilted.fraction.max() <= 1
    assert tilted.density.min() > 0
    assert_array_equal(tilted.fraction > 0, coverage.fraction > 0)


def test_source_in_a_region_is_no_gradient():
    coverage = make_coverage((0.5, 0.3))
    field = draw_field(np.random.default_rng(0))
    source = 0.5 * np.ones(5000), np.zeros(5000), np.ones(5000)
    bright = [np.append(*_) for _ in zip(field, source, strict=True)]
    assert_array_equal(fill(bright, coverage), fill(field, coverage))


def test_source_at_the_same_offset_is_no_gradient(caplog):
    """It would raise the number in a region on its side by a quarter."""
    coverage = make_coverage((0.5, 0.3))
    field = draw_field(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    source = rng.normal(0.5, 0.1, 800), rng.normal(1.5, 0.1, 800), np.ones(800)
    bright = [np.append(*_) for _ in zip(field, source, strict=True)]
    expected = fill(bright, coverage, follow=False)
    assert_array_equal(fill(bright, coverage), expected)
    assert "crowded at one azimuth" in caplog.text


@pytest.fixture(scope="module")
def askew():
    """Observation with a gradient of 40% per deg to the north-east."""
    time = Time("2015-03-01T22:00:00")
    observation = simulate_observation(1, POINTING, time)
    table = observation.events.table
    radec = observation.events.radec
    angle = POINTING.position_angle(radec).deg - ANGLE
    gx = 0.4 * POINTING.separation(radec).deg * np.cos(np.radians(angle))
    kept = 3 * np.random.default_rng(0).uniform(size=len(table)) < 1 + gx
    return replace_events(observation, table[kept])


@pytest.mark.parametrize("side", [0, 180])
def test_maker_follows_with_the_sign_of_the_sky(askew, side, caplog):
    center = POINTING.directional_offset_by((ANGLE + side) * u.deg, 1.2 * u.deg)
    region = CircleSkyRegion(center, 0.6 * u.deg)
    before = np.sum(askew.events.radec.separation(center) < region.radius)
    caplog.set_level("INFO", logger="gammapy_mimic.scramble")
    after = []
    for seed in range(10):
        maker = ScrambleMaker([region], "fill", random_state=seed)
        made = maker.make_observation(askew)
        after.append(made.events.table.meta["SCR_NEVT"])
    assert abs(np.mean(after) - before) < 3.5 * np.sqrt(before)
    assert "has a gradient of" in caplog.text
    # the pictures show what the maker did
    energy = ScrambleCheck.create(maker, askew, made).energy
    assert_allclose(energy.after.sum(), energy.expected.sum(), rtol=0.1)
