"""Width of the significance of a region that was filled."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time
from gammapy.makers import MapDatasetMaker
from gammapy.stats import CashCountsStatistic
from numpy.testing import assert_allclose
from regions import CircleSkyRegion

from gammapy_mimic import ScrambleMaker
from gammapy_mimic.scramble import get_significance_width
from gammapy_mimic.scramble.draw import draw_fill
from gammapy_mimic.scramble.significance import measure_fill
from gammapy_mimic.simulate import simulate_observation

from .helpers import make_reference
from .test_scramble import EDGES, draw_field, make_coverage

N_TOTAL, N_FIELDS = 20_000, 20_000
POINTING = SkyCoord(150, -30, unit="deg")


def measure_width(filled, others, phi):
    """Width with an FoV background that is normalised to all counts, and its error."""
    sqrt_ts = CashCountsStatistic(filled, phi * (filled + others)).sqrt_ts
    return sqrt_ts.std(), sqrt_ts.std() / np.sqrt(2 * len(sqrt_ts))


@pytest.mark.parametrize("phi", [0.05, 0.1, 0.25])
def test_known_values(phi):
    assert_allclose(get_significance_width(phi, phi / (1 - phi)), 1 - phi)
    assert_allclose(get_significance_width(phi) ** 2, (1 - phi) * (1 - 2 * phi))
    assert get_significance_width(phi, 3) > 1
    assert get_significance_width(0) == 1


def test_arrays():
    widths = get_significance_width([0.05, 0.1, 0.25], [0, 0.3, 3])
    assert_allclose(widths, [0.924662, 0.981326, 1.436141], atol=1e-6)


@pytest.mark.parametrize("phi", [0.05, 0.25])
@pytest.mark.parametrize("a", [None, 0.4, 2])
def test_poisson_numbers_about_an_estimate(phi, a):
    """Estimated from all other counts (None), or some of them."""
    rng = np.random.default_rng(0)
    a = phi / (1 - phi) if a is None else a
    n_used = phi * N_TOTAL / a
    used = rng.poisson(n_used, N_FIELDS)
    rest = rng.poisson(max((1 - phi) * N_TOTAL - n_used, 0), N_FIELDS)
    width, error = measure_width(rng.poisson(a * used), used + rest, phi)
    assert abs(width - get_significance_width(phi, a)) < 3.5 * error
    assert error < 0.02


@pytest.mark.parametrize("share", [0.12, 0.4, 1])
def test_copies(share):
    """The same for copies of few events and of all others."""
    rng = np.random.default_rng(0)
    phi = 0.1
    used = rng.poisson(phi * N_TOTAL / share, N_FIELDS)
    rest = rng.poisson((1 - phi - phi / share) * N_TOTAL, N_FIELDS)
    width, error = measure_width(rng.binomial(used, share), used + rest, phi)
    assert abs(width - get_significance_width(phi)) < 3.5 * error


@pytest.mark.parametrize("circle", [(0.7, 0.6), (1.0, 0.9)], ids=str)
def test_width_of_filled_fields(circle):
    """Of regions with 10 and 18% of all events: 0.85 and 0.72."""
    coverage = make_coverage(circle)
    rng = np.random.default_rng(0)
    numbers, parts = [], []
    for _ in range(600):
        offset, azimuth, energy = draw_field(rng, 1500)
        is_inside = coverage.is_inside(offset, azimuth)
        moved = draw_fill(offset, energy, is_inside, coverage, EDGES, rng)
        numbers.append([len(moved[0]), np.sum(~is_inside)])
        parts.append(measure_fill(moved, numbers[-1][1], coverage.exclusions))
    filled, others = np.transpose(numbers)
    phi, a = np.mean(parts, axis=0)
    assert a == 0
    assert_allclose(phi, filled.sum() / np.sum(numbers), rtol=0.01)
    width, error = measure_width(filled, others, phi)
    assert abs(width - get_significance_width(phi, a)) < 3 * error
    # a region of which nothing is filled
    assert width < np.sqrt(1 - phi) - 3 * error


def test_largest_region_and_repeated_copies():
    coverage = make_coverage((0.5, 0.3), (1.5, 0.3))
    idx = np.array([7, 7, 8, 9, 9])
    moved = idx, np.array([0.5, 0.5, 0.5, 1.5, 1.5]), np.zeros(5)
    assert_allclose(measure_fill(moved, 25, coverage.exclusions), (0.1, 5 / 3 - 1))
    nothing = np.empty(0, dtype=int), np.empty(0), np.empty(0)
    assert measure_fill(nothing, 25, coverage.exclusions) == (0, 0)


@pytest.mark.parametrize("phi_a", [(-0.1, 0), (1, 0), (0.1, -1), (0.6, 0), (np.nan, 0)])
def test_invalid(phi_a):
    with pytest.raises(ValueError, match=f"^phi must be .* got phi={phi_a[0]}"):
        get_significance_width(*phi_a)


def test_maker_says_the_width(caplog):
    observation = simulate_observation(1, POINTING, Time("2015-03-01T22:00:00"))
    region = CircleSkyRegion(
        POINTING.directional_offset_by(0 * u.deg, 0.7 * u.deg), 0.6 * u.deg
    )
    maker = ScrambleMaker([region], "fill", dataset_maker=MapDatasetMaker())
    caplog.set_level("INFO", logger="gammapy_mimic")
    made = maker.make_observation(observation)
    header = made.events.table.meta
    assert_allclose(header["SCR_PHI"], header["SCR_NEVT"] / len(made.events.table))
    assert_allclose(header["SCR_SIG"], get_significance_width(header["SCR_PHI"]))
    assert f"width {header['SCR_SIG']:.2f} (phi {header['SCR_PHI']:.3f}" in caplog.text
    row = maker.run(make_reference(observation), observation).meta_table[0]
    assert row["SCR_SIG"] == header["SCR_SIG"] < 0.95
    columns = maker.make_columns(None)
    assert (columns["SCR_PHI"], columns["SCR_SIG"]) == (0, 1)
    assert "SCR_SIG" not in ScrambleMaker([region]).make_columns(None)
