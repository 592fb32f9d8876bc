"""ScrambleMaker, and the numeric kernels below it."""

import copy
import itertools

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import vstack
from astropy.time import Time
from gammapy.data import EventList, FixedPointingInfo
from gammapy.datasets import MapDataset
from gammapy.irf import FoVAlignment
from gammapy.makers import MapDatasetMaker
from gammapy.maps import MapAxis, WcsGeom
from gammapy.modeling.models import (
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from gammapy.stats import CashCountsStatistic
from gammapy.utils.coordinates import FoVICRSFrame
from numpy.testing import assert_allclose, assert_array_equal
from regions import (
    CircleAnnulusSkyRegion,
    CircleSkyRegion,
    EllipseSkyRegion,
    PolygonSkyRegion,
    RectangleSkyRegion,
)
from scipy.stats import chi2, kstest

from gammapy_mimic import KLBackgroundSelector, MimicMaker
from gammapy_mimic.data.observation import get_hdu
from gammapy_mimic.exclusion import ExclusionRegions
from gammapy_mimic.exclusion.sky_regions import is_excluded, make_exclusion
from gammapy_mimic.makers import ScrambleMaker
from gammapy_mimic.scramble.annuli import is_in_annulus, merge_intervals
from gammapy_mimic.scramble.coverage import get_fov_radius, measure_coverage
from gammapy_mimic.scramble.draw import draw_annulus, draw_fill
from gammapy_mimic.scramble.estimate import OutsideEvents, make_bands
from gammapy_mimic.scramble.extrapolation import extrapolate_background
from gammapy_mimic.scramble.fov_columns import turn_fov_columns
from gammapy_mimic.simulate import make_irfs, simulate_observation
from gammapy_mimic.utils.coordinates import (
    get_ring_area,
    local_axes,
    move_radec,
    to_vectors,
)

from .helpers import make_reference, need_runs, replace, replace_events
from .test_mimic import ObservationMakerContract

EDGES = np.geomspace(0.5, 50, 9)
BANDS = np.array([0.5, 0.64, 0.95, np.inf])  # with about the same number of events
FOV_RADIUS = 3.0
ORIGIN = SkyCoord(0, 0, unit="deg")


def make_fov_exclusion(offset, radius, angle=0):
    """Circle at an offset and a position angle, all in deg, in the frame of the FoV."""
    center = ORIGIN.directional_offset_by(angle * u.deg, offset * u.deg)
    exclusion = make_exclusion(CircleSkyRegion(center, radius * u.deg))
    return exclusion._replace(axes=exclusion.axes @ local_axes(0, 0).T)


def make_coverage(*circles):
    return measure_coverage([make_fov_exclusion(*_) for _ in circles], FOV_RADIUS)


def get_variance(energy):
    """Mean square of the acceptance in each direction, wider at high energy."""
    return 1.3**2 * (1 + 0.3 * np.log(energy))


def draw_field(rng, mean=8000):
    """Offset, azimuth and energy of the events of a field without source."""
    n = rng.poisson(mean)
    energy = 0.5 * rng.uniform(size=n) ** (-1 / 1.7)
    offset = np.sqrt(rng.exponential(2 * get_variance(energy)))
    seen = offset < FOV_RADIUS
    azimuth = rng.uniform(-np.pi, np.pi, n)
    return offset[seen], azimuth[seen], energy[seen]


def expected_in(coverage, mean=8000, n_steps=400):
    """Expected events of `draw_field` in all regions, in each of BANDS."""
    expected = []
    for band in itertools.pairwise(1 - (BANDS / 0.5) ** -1.7):
        steps = band[0] + np.diff(band) * (np.arange(n_steps) + 0.5) / n_steps
        variance = get_variance(0.5 * (1 - steps) ** (-1 / 1.7))
        cumulative = 1 - np.exp(-(coverage.edges[:, None] ** 2) / 2 / variance)
        in_bins = np.diff(cumulative, axis=0).mean(axis=1) * np.diff(band)
        expected.append(mean * np.sum(in_bins * coverage.fraction))
    return np.array(expected)


def add_source(field, coverage, n_source, rng):
    """Add events that are uniform in the regions, and say which events are inside."""
    offset, azimuth, energy = field
    points = rng.integers(coverage.points.shape[1], size=n_source)
    offset = np.append(offset, coverage.points[0, points])
    azimuth = np.append(azimuth, coverage.points[1, points])
    energy = np.append(energy, rng.uniform(1, 5, n_source))
    return offset, energy, coverage.is_inside(offset, azimuth)


class TestCoverage:
    @pytest.mark.parametrize("circle", [(0.5, 0.3), (0, 0.3), (1.5, 0.05), (0.2, 0.3)])
    def test_solid_angle_of_a_circle(self, circle):
        coverage = make_coverage(circle)
        rings = 2 * np.pi * np.diff(-np.cos(np.radians(coverage.edges)))
        expected = 2 * np.pi * (1 - np.cos(np.radians(circle[1])))
        assert_allclose(np.sum(rings * coverage.fraction), expected, rtol=2e-3)

    def test_fraction_is_that_of_the_circle_at_each_offset(self):
        coverage = make_coverage((0.5, 0.3))
        r = (coverage.edges[1:] + coverage.edges[:-1]) / 2
        cos = (r**2 + 0.5**2 - 0.3**2) / (2 * r * 0.5)
        expected = np.arccos(cos.clip(-1, 1)) / np.pi
        inner = (r > 0.25) & (r < 0.75)
        assert_allclose(coverage.fraction[inner], expected[inner], atol=0.005)
        assert_array_equal(coverage.fraction[(r < 0.19) | (r > 0.81)], 0)

    def test_overlapping_regions_count_once(self):
        one, two = make_coverage((0.5, 0.3)), make_coverage((0.5, 0.3), (0.5, 0.3))
        assert_allclose(two.fraction, one.fraction)
        assert_allclose(two.region_fraction.sum(axis=0), 2 * one.fraction)


def fill_fields(coverage, strength, n_fields, mean, seed):
    """Counts after "fill" in all regions. Shape (n_fields, n_bands)."""
    rng = np.random.default_rng(seed)
    n_source = strength * expected_in(coverage, mean).sum()
    counts = []
    for _ in range(n_fields):
        field = draw_field(rng, mean)
        field = add_source(field, coverage, rng.poisson(n_source), rng)
        idx, offset, azimuth = draw_fill(*field, coverage, EDGES, rng)
        assert not field[2][idx].any()
        assert coverage.is_inside(offset, azimuth).all()
        counts.append(np.histogram(field[1][idx], BANDS)[0])
    return np.array(counts)


def assert_mean(counts, expected):
    """The mean is the expected one within 1% and three standard errors."""
    error = counts.std(axis=0, ddof=1) / np.sqrt(len(counts))
    difference = abs(counts.mean(axis=0) - expected)
    assert np.all(difference < 3 * error)
    assert np.all(difference < 0.01 * expected)


def assert_poisson_variance(counts):
    dof = len(counts) - 1
    distribution = chi2(dof)
    stat = dof * counts.var(axis=0, ddof=1) / counts.mean(axis=0)
    assert np.all(distribution.cdf(stat) > 1e-3)
    assert np.all(distribution.sf(stat) > 1e-3)


def assert_no_significance(counts, expected):
    """Against the true background.

    A background from the same offsets alone is correlated with the copies, see
    `gammapy_mimic.scramble`.
    """
    sqrt_ts = CashCountsStatistic(counts, expected).sqrt_ts
    assert abs(sqrt_ts.mean()) < 0.1
    assert abs(sqrt_ts.std() - 1) < 0.1


class TestFill:
    @pytest.mark.slow
    @pytest.mark.parametrize("strength", [0, 0.5, 1, 5])
    @pytest.mark.parametrize(
        ("offset", "mean"), [(0.2, 14e3), (0.5, 14e3), (1.5, 23e3)]
    )
    def test_as_a_field_without_source(self, offset, mean, strength):
        """In each band 100,000 counts, three standard errors are 1%."""
        coverage = make_coverage((offset, 0.3))
        expected = expected_in(coverage, mean)
        seed = int(10 * (offset + strength))
        counts = fill_fields(coverage, strength, 1000, mean, seed)
        assert counts.sum(axis=0).min() > 9e4
        assert_mean(counts, expected)
        assert_poisson_variance(counts)
        assert_poisson_variance(counts.sum(axis=1))
        assert_no_significance(counts.sum(axis=1), expected.sum())

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("circles", "mean"),
        [
            ([(0, 0.3)], 2e4),  # at the camera centre
            ([(0.2, 0.5)], 8e3),  # that holds the camera centre
            ([(0.5, 0.3), (0.5, 0.2, 180)], 1.2e4),  # two in one annulus
            ([(0.5, 0.3), (0.7, 0.3, 30)], 1.2e4),  # that overlap
            ([(2.7, 0.5)], 4e4),  # over the edge of the FoV
        ],
        ids=str,
    )
    def test_other_regions(self, circles, mean):
        coverage = make_coverage(*circles)
        counts = fill_fields(coverage, 1, 800, mean, seed=0)
        assert_mean(counts, expected_in(coverage, mean))
        total = counts.sum(axis=1)
        assert abs(total.var() / total.mean() - 1) < 0.25

    @pytest.mark.parametrize(
        "circles", [[(0, 0.3)], [(0.2, 0.3)], [(0.5, 0.3)], [(1.5, 0.3), (1, 0.3, 90)]]
    )
    def test_what_is_inside_plays_no_part(self, circles):
        """The same to the bit, whatever the strength of the source."""
        coverage = make_coverage(*circles)
        field = draw_field(np.random.default_rng(0))
        results = []
        for n_source in (0, 100, 2000):
            data = add_source(field, coverage, n_source, np.random.default_rng(1))
            results.append(draw_fill(*data, coverage, EDGES, np.random.default_rng(2)))
        for result in results[1:]:
            assert_array_equal(result, results[0])

    def test_offsets_and_energies_are_those_of_the_field_without_source(self):
        coverage = make_coverage((0.5, 0.3))
        rng = np.random.default_rng(2)
        before, after = [], []
        for _ in range(60):
            offset, azimuth, energy = draw_field(rng)
            is_inside = coverage.is_inside(offset, azimuth)
            before.append([offset[is_inside], energy[is_inside]])
            idx, new_offset, _ = draw_fill(
                offset, energy, is_inside, coverage, EDGES, rng
            )
            after.append([new_offset, energy[idx]])
        edges = [[0.2, 0.4, 0.6, 0.8], BANDS]
        before, after = (
            np.histogram2d(*np.concatenate(_, axis=1), edges)[0]
            for _ in (before, after)
        )
        assert np.sum((before - after) ** 2 / (before + after)) < chi2.isf(0.001, 9)

    def test_copies_fill_the_region_evenly(self):
        coverage = make_coverage((0.5, 0.3))
        rng = np.random.default_rng(3)
        distance = []
        for _ in range(50):
            offset, azimuth, energy = draw_field(rng)
            is_inside = coverage.is_inside(offset, azimuth)
            _, r, phi = draw_fill(offset, energy, is_inside, coverage, EDGES, rng)
            distance.append(np.hypot(r * np.sin(phi), r * np.cos(phi) - 0.5))
        distance = np.concatenate(distance)
        assert distance.max() < 0.3001
        # the gradient of the acceptance is odd in the region, to first order
        assert kstest((distance / 0.3) ** 2, "uniform").pvalue > 1e-3

    @pytest.mark.slow
    def test_crowded_offsets_are_extrapolated_with_a_warning(self, caplog):
        """Twelve regions leave next to nothing between 0.8 and 1.2 deg."""
        coverage = make_coverage(*[(1, 0.3, angle) for angle in range(0, 360, 30)])
        assert coverage.fraction.max() > 0.99
        counts = fill_fields(coverage, 2, 400, 8000, seed=4)
        assert_mean(counts, expected_in(coverage))
        total = counts.sum(axis=1)
        # more than Poisson, as the acceptance is extrapolated
        assert total.var() / total.mean() < 1.5
        assert "wider annulus" in caplog.text

    def test_nothing_is_left(self):
        coverage = make_coverage((0, 3.5))
        offset, azimuth, energy = draw_field(np.random.default_rng(0), 100)
        is_inside = coverage.is_inside(offset, azimuth)
        with pytest.raises(ValueError, match="nothing is left"):
            draw_fill(
                offset, energy, is_inside, coverage, EDGES, np.random.default_rng(0)
            )


@pytest.mark.parametrize("slope", [-1.5, 0, 0.2])
def test_extrapolated_weights_are_what_is_hidden(slope):
    """Events of a density exp(b x) outside stand for those at hidden offsets."""
    coverage = make_coverage((0, 0.4))
    x = ((coverage.edges[1:] + coverage.edges[:-1]) / 2) ** 2
    area = get_ring_area(coverage.edges[:-1], coverage.edges[1:])
    density = area * np.exp(slope * x)
    density *= 40000 / density.sum()
    is_hidden = coverage.fraction > 0.5
    counts = np.random.default_rng(0).poisson(np.where(is_hidden, 0, density))
    offset = np.repeat(np.sqrt(x), counts)
    is_inside = np.zeros(len(offset), dtype=bool)
    outside = OutsideEvents.create(offset, np.ones(len(offset)), is_inside, coverage)
    weight, profile = extrapolate_background(
        coverage, np.where(is_hidden, area, 0), 1.0 * ~is_hidden, outside, []
    )
    expected = density[is_hidden].sum()
    # an error of the slope adds to that of the counts in the window
    error = np.sqrt(np.sum(weight**2))
    assert abs(weight.sum() - expected) < 3 * error
    assert error < 0.1 * expected
    assert_allclose(profile.sum(axis=1), 1)
    assert not profile[:, ~is_hidden].any()


class TestAnnulus:
    def draw(self, annuli, circles, n_source=0, seed=0):
        coverage = make_coverage(*circles)
        rng = np.random.default_rng(seed)
        offset, energy, is_inside = add_source(draw_field(rng), coverage, n_source, rng)
        result = draw_annulus(offset, energy, is_inside, annuli, coverage, EDGES, rng)
        return (offset, energy, is_inside, coverage), result

    def test_annulus_is_not_a_difference_of_squares(self):
        """|r^2 - d^2| < w^2 would be 0.4 to 0.583 deg, not 0.2 to 0.8 deg."""
        offset = np.array([0.19, 0.21, 0.3, 0.6, 0.79, 0.81])
        assert_array_equal(is_in_annulus(offset, 0.5, 0.3), [0, 1, 1, 1, 1, 0])
        (offset, *_), (idx, *_) = self.draw([(0.5, 0.3)], [(0.5, 0.3)])
        assert_array_equal(idx, np.nonzero((offset > 0.2) & (offset < 0.8))[0])

    def test_radii_are_drawn_over_all_of_the_annulus(self):
        """Not over half of it."""
        _, (_, offset, _) = self.draw([(0.5, 0.3)], [(0.5, 0.3)])
        assert np.all(is_in_annulus(offset, 0.5, 0.3))
        counts = np.histogram(offset, [0.2, 0.35, 0.5, 0.65, 0.8])[0]
        assert np.all(counts > 0.1 * len(offset))
        assert offset.min() < 0.22
        assert offset.max() > 0.78

    def test_each_source_has_its_own_region_left_out(self):
        """Not one source's mask for all: a second source leaves no bump."""
        circles = [(0.5, 0.3), (0.5, 0.1, 180)]
        rng = np.random.default_rng(0)
        coverage = make_coverage(*circles)
        bright, dark = [], []
        for n_source, result in ((0, dark), (1000, bright)):
            for _ in range(20):
                field = draw_field(rng)
                offset, energy, is_inside = add_source(field, coverage, n_source, rng)
                _, new, _ = draw_annulus(
                    offset, energy, is_inside, [(0.5, 0.3)], coverage, EDGES, rng
                )
                result.append(np.histogram(new, [0.2, 0.4, 0.6, 0.8])[0] / len(new))
        difference = np.mean(bright, axis=0) - np.mean(dark, axis=0)
        error = np.hypot(np.std(bright, axis=0), np.std(dark, axis=0)) / np.sqrt(20)
        assert np.all(abs(difference) < 3.5 * error)

    @pytest.mark.slow
    def test_azimuth_is_uniform(self):
        p_values = []
        for seed in range(100):
            _, (_, _, azimuth) = self.draw([(0.5, 0.3)], [(0.5, 0.3)], 100, seed)
            cumulative = azimuth / (2 * np.pi) + 0.5
            p_values.append(kstest(cumulative, "uniform").pvalue)
        assert kstest(p_values, "uniform").pvalue > 1e-3

    @pytest.mark.slow
    @pytest.mark.parametrize("circle", [(0.2, 0.3), (0.5, 0.3), (1.5, 0.3), (0, 0.3)])
    def test_joint_distribution_of_offset_and_energy(self, circle):
        d, width = circle[0], 0.3
        edges = [np.linspace(max(d - width, 0), d + width, 5), BANDS]
        before, after = [], []
        for seed in range(100):
            data, (idx, new, _) = self.draw([(d, width)], [circle], 0, seed)
            before.append(np.histogram2d(data[0][idx], data[1][idx], edges)[0])
            after.append(np.histogram2d(new, data[1][idx], edges)[0])
        difference = np.mean(after, axis=0) - np.mean(before, axis=0)
        error = np.std(np.subtract(after, before), axis=0) / 10
        assert np.all(abs(difference) < 4 * error)
        # the energy of each event stays
        assert_allclose(difference.sum(axis=0), 0, atol=1e-9)

    @pytest.mark.slow
    def test_excess_falls_to_the_share_of_the_area(self):
        excess, n_source = [], 300
        for seed in range(60):
            totals = []
            for n in (0, n_source):
                data, (_, offset, azimuth) = self.draw(
                    [(0.5, 0.3)], [(0.5, 0.3)], n, seed
                )
                totals.append(data[-1].is_inside(offset, azimuth).sum())
            excess.append(totals[1] - totals[0])
        # 0.3^2 / (0.8^2 - 0.2^2), with a little more acceptance at the centre
        share = 0.15 * n_source
        error = np.std(excess) / np.sqrt(len(excess))
        assert abs(np.mean(excess) - share) < 4 * error
        assert error < 0.05 * n_source

    def test_overlapping_annuli_are_one(self):
        assert_allclose(
            merge_intervals([(0.6, 1.2), (0.2, 0.8), (2, 3)]), [(0.2, 1.2), (2, 3)]
        )
        annuli = [(0.5, 0.3), (0.9, 0.3)]
        data, (idx, new, _) = self.draw(annuli, [(0.5, 0.3), (0.9, 0.3, 90)])
        assert_array_equal(idx, np.nonzero((data[0] > 0.2) & (data[0] < 1.2))[0])
        assert len(np.unique(idx)) == len(idx)
        assert new.max() > 1.15

    def test_nothing_is_left(self):
        with pytest.raises(ValueError, match="nothing is left"):
            self.draw([(0, 3.5)], [(0, 3.5)])


class TestKernels:
    def test_bands_hold_enough_events(self):
        energy = np.geomspace(0.1, 100, 500)
        edges = make_bands(energy, EDGES)
        assert set(edges) <= set(EDGES)
        assert np.bincount(np.digitize(energy, edges)).min() >= 50
        assert len(make_bands(energy[:20], EDGES)) == 0

    def test_fov_radius_without_stray_events(self):
        offset = draw_field(np.random.default_rng(0))[0]
        stray = np.append(offset, [25, 58])
        assert get_fov_radius(offset) == offset.max()
        assert 2.9 < get_fov_radius(stray) < 4.5

    @pytest.mark.parametrize("sign", [1, -1])
    @pytest.mark.parametrize("projection", [np.positive, np.tan])
    def test_fov_columns_in_a_turning_frame(self, sign, projection):
        rng = np.random.default_rng(0)
        offset, azimuth, _ = draw_field(rng, 2000)
        turn = np.linspace(0, 0.3, len(offset))

        def camera(offset, azimuth, turn):
            r = np.degrees(projection(np.radians(offset)))
            return sign * r * np.sin(azimuth + turn), r * np.cos(azimuth + turn)

        x, y = camera(offset, azimuth, turn)
        idx = rng.permutation(len(offset))[:500]
        new = offset[idx][::-1], rng.uniform(-np.pi, np.pi, 500)
        result = turn_fov_columns(x, y, (offset, azimuth), new, idx)
        assert_allclose(result, camera(*new, turn[idx]), atol=2e-3)
        times = np.arange(len(offset)), idx + 0.2
        result = turn_fov_columns(x, y, (offset, azimuth), new, idx, *times)
        assert_allclose(result, camera(*new, turn[idx]), atol=2e-3)

    def test_fov_columns_that_do_not_fit(self):
        offset, azimuth, _ = draw_field(np.random.default_rng(0), 2000)
        x, y = np.random.default_rng(1).normal(size=(2, len(offset)))
        new = offset, azimuth
        args = x, y, new, new, np.arange(len(offset))
        assert turn_fov_columns(*args) is None


def simulate(pointing, sources=(), **kwargs):
    tstart = Time("2015-03-01T22:00:00")
    return simulate_observation(1, pointing, tstart, sources=sources, **kwargs)


def make_source(position, flux="1e-11 cm-2 s-1 TeV-1"):
    return SkyModel(
        PowerLawSpectralModel(amplitude=flux, index=2.5),
        PointSpatialModel(lon_0=position.ra, lat_0=position.dec, frame="icrs"),
    )


POINTING = SkyCoord(150, -30, unit="deg")
POSITION = POINTING.directional_offset_by(40 * u.deg, 0.5 * u.deg)
REGION = CircleSkyRegion(POSITION, 0.3 * u.deg)


@pytest.fixture(scope="module")
def observation():
    return simulate(POINTING, [make_source(POSITION)])


@pytest.fixture(scope="module")
def targets(stores):
    return stores["targets"].get_observations()


def get_fov(observation):
    pointing = observation.pointing.fixed_icrs
    radec = observation.events.radec
    return radec.separation(pointing).deg, radec


def region_contains(observation, region):
    """Whether events are in a circle."""
    radec = [observation.events.table[name].value for name in ("RA", "DEC")]
    center = to_vectors(region.center.ra.deg, region.center.dec.deg)
    return center @ to_vectors(*radec) > np.cos(region.radius.to_value("rad"))


def count_in(observation, region):
    return np.sum(region_contains(observation, region))


class ScrambleContract(ObservationMakerContract):
    method = None

    @pytest.fixture
    def maker(self, targets):
        regions = [CircleSkyRegion(targets[0].target_radec, 0.3 * u.deg)]
        return ScrambleMaker(regions, self.method, random_state=3)

    def test_irfs_stay_unread(self, maker, stores):
        target = stores["targets"].obs(1)
        made = maker.make_observation(target)
        assert made is not target
        for observation in (made, target):
            for name in ("aeff", "edisp", "psf", "bkg"):
                assert "000001" in get_hdu(observation, name).file_name

    def test_same_seed_same_bits(self, observation):
        tables = [
            ScrambleMaker([REGION], self.method, random_state=seed)
            .make_observation(observation)
            .events.table
            for seed in (5, 5, 6)
        ]
        assert_array_equal(tables[0]["RA"], tables[1]["RA"])
        assert_array_equal(tables[0]["TIME"].mjd, tables[1]["TIME"].mjd)
        assert not np.array_equal(tables[0]["RA"], tables[2]["RA"])

    def test_seed_is_drawn_once_and_recorded(self, observation):
        """Unseeded random numbers."""
        maker, other = (
            ScrambleMaker([REGION], self.method, random_state=None) for _ in range(2)
        )
        assert maker.random_state != other.random_state
        made = maker.make_observation(observation).events.table
        seed = made.meta["SCR_SEED"]
        again = ScrambleMaker([REGION], self.method, random_state=seed)
        again = again.make_observation(observation).events.table
        assert_array_equal(again["RA"], made["RA"])

    def test_no_region_in_the_fov(self, observation):
        far = [
            CircleSkyRegion(POINTING.directional_offset_by(0 * u.deg, _), 0.3 * u.deg)
            for _ in (5 * u.deg, 60 * u.deg, 180 * u.deg)
        ]
        maker = ScrambleMaker(far, self.method)
        made = maker.make_observation(observation)
        assert made is not observation
        assert made.__dict__ == observation.__dict__
        table = maker.make_meta_table(observation)
        assert table["SCR_NREG"][0] == table["SCR_NEVT"][0] == 0

    def test_region_that_stays_outside_of_the_fov(self, observation):
        """A region is not one of the FoV because a circle around it is."""
        radius = get_fov_radius(get_fov(observation)[0]) + 0.05
        center = POINTING.directional_offset_by(0 * u.deg, radius * u.deg)
        flat = EllipseSkyRegion(center, 0.8 * u.deg, 0.02 * u.deg)
        maker = ScrambleMaker([REGION, flat], self.method)
        assert len(maker.find_regions(observation)) == 1
        made, expected = (
            _.make_observation(observation).events.table
            for _ in (maker, ScrambleMaker([REGION], self.method))
        )
        for name in ("RA", "DEC", "ENERGY"):
            assert_array_equal(made[name], expected[name])

    def test_header_and_meta(self, observation):
        maker = ScrambleMaker([REGION], self.method, random_state=4)
        made = maker.make_observation(observation)
        expected = {"SCR_METH": self.method, "SCR_NREG": 1, "SCR_SEED": 4}
        for key, value in expected.items():
            assert made.events.table.meta[key] == value
            assert made.meta.optional[key] == value
        before, after = (np.asarray(_.events.table["RA"]) for _ in (observation, made))
        n_moved = np.sum(~np.isin(after, before))
        assert made.events.table.meta["SCR_NEVT"] == n_moved > 0
        assert "circle(150.3" in made.events.table.meta["SCR_R001"]
        assert made.obs_id == observation.obs_id
        assert "SCR_METH" not in observation.events.table.meta

        maker.dataset_maker = MapDatasetMaker()
        dataset = maker.run(make_reference(observation), observation)
        assert dataset.meta_table["SCR_METH"][0] == self.method
        assert dataset.meta_table["SCR_NEVT"][0] == n_moved

    def test_columns(self, observation):
        observation = copy.deepcopy(observation)
        table = observation.events.table
        frame = FoVICRSFrame(origin=observation.pointing.fixed_icrs)
        fov = observation.events.radec.transform_to(frame)
        # GADF: DETX has the opposite sign of fov_lon
        table["DETX"], table["DETY"] = -fov.fov_lon, fov.fov_lat
        table["THETA"] = observation.events.radec.separation(
            observation.pointing.fixed_icrs
        )
        for name in ("GLON", "GLAT", "PHI"):
            table[name] = np.zeros(len(table)) * u.deg
        table["RA"] = table["RA"].astype("f4")
        maker = ScrambleMaker([REGION], self.method, random_state=1)
        made = maker.make_observation(observation)
        result = made.events.table
        assert not {"GLON", "GLAT", "PHI"} & set(result.colnames)
        assert result["RA"].dtype == result["DEC"].dtype == np.dtype("f8")
        fov = made.events.radec.transform_to(frame)
        # an event 0.1 deg from the centre, with RA in float32
        assert_allclose(result["DETX"], -fov.fov_lon.deg, atol=5e-4)
        assert_allclose(result["DETY"], fov.fov_lat.deg, atol=5e-4)
        assert_allclose(result["THETA"], get_fov(made)[0], atol=1e-4)
        assert np.all(np.diff(result["TIME"].mjd) >= 0)
        assert len(np.unique(result["EVENT_ID"])) == len(result)

    def test_write_and_read(self, observation, tmp_path):
        maker = ScrambleMaker([REGION], self.method, random_state=1)
        made = maker.make_observation(observation)
        made.write(tmp_path / "events.fits")
        table = EventList.read(tmp_path / "events.fits").table
        assert table.meta["SCR_SEED"] == 1
        assert_array_equal(table["RA"], made.events.table["RA"])

    def test_after_mimic_maker_in_a_chain(self, maker, stores, targets):
        mimic = MimicMaker(stores["off"], {1: 101, 2: 106, 3: 103})
        dataset = MapDatasetMaker().run(make_reference(targets[0]), targets[0])
        dataset = mimic.run(dataset, targets[0])
        with pytest.raises(ValueError, match=r"MimicMaker\(scramble=...\)"):
            maker.run(dataset, targets[0])

    @pytest.mark.parametrize("radec", [(359.99, -20), (20, -89.5), (20, 89.5)])
    def test_ra_wrap_and_pole(self, radec):
        pointing = SkyCoord(*radec, unit="deg")
        position = pointing.directional_offset_by(120 * u.deg, 0.6 * u.deg)
        field = simulate(SkyCoord(150, -30, unit="deg"))
        origin = POINTING
        table = field.events.table
        table["RA"], table["DEC"] = (
            _ * u.deg for _ in move_radec(table["RA"], table["DEC"], origin, pointing)
        )
        field = replace(field, pointing=FixedPointingInfo(fixed_icrs=pointing))
        region = CircleSkyRegion(position, 0.3 * u.deg)
        made = ScrambleMaker([region], self.method, random_state=1).make_observation(
            field
        )
        n_before, n_after = count_in(field, region), count_in(made, region)
        assert abs(n_after - n_before) < 5 * np.sqrt(n_before)
        ra = made.events.table["RA"]
        assert np.all((ra >= 0) & (ra < 360))
        offset = get_fov(made)[0]
        assert abs(offset.max() - get_fov(field)[0].max()) < 1e-9

    @pytest.mark.parametrize(
        "circles",
        [
            [(0, 0.3)],  # at the camera centre
            [(0.2, 0.5)],  # that holds the camera centre
            [(0.5, 0.3), (0.5, 0.3, 180)],  # two in one annulus
            [(2.6, 0.5)],  # over the edge of the FoV
        ],
        ids=str,
    )
    def test_regions_of_all_kinds(self, circles):
        regions = [
            CircleSkyRegion(
                POINTING.directional_offset_by(angle * u.deg, offset * u.deg),
                radius * u.deg,
            )
            for offset, radius, angle in [(*_, 0)[:3] for _ in circles]
        ]
        field = simulate(POINTING)
        maker = ScrambleMaker(regions, self.method, random_state=2)
        made = maker.make_observation(field)
        assert made.events.table.meta["SCR_NREG"] == len(maker.find_regions(field))
        for region in regions:
            n_before, n_after = count_in(field, region), count_in(made, region)
            assert n_before > 10
            assert abs(n_after - n_before) < 4 * np.sqrt(2 * n_before)
        if self.method != "fill":
            assert len(made.events.table) == len(field.events.table)

    def test_find_regions_and_annuli(self, observation):
        far = CircleSkyRegion(SkyCoord(0, 0, unit="deg"), 1 * u.deg)
        maker = ScrambleMaker([far, REGION], self.method)
        for _ in (observation, maker.make_observation(observation)):
            (region,) = maker.find_regions(_)
            assert region is maker.regions[1]
            annuli = maker.find_annuli(_)
            if self.method == "annulus":
                (annulus,) = annuli
                assert_allclose([_.deg for _ in annulus], [0.5, 0.3])
            else:
                assert annuli == []
        maker = ScrambleMaker([far], self.method)
        assert maker.find_regions(observation) == maker.find_annuli(observation) == []

    def test_mimic_sets_have_random_numbers_of_their_own(self, observation):
        maker = ScrambleMaker([REGION], self.method, random_state=5)
        tables = [
            maker.make_observation(observation, mimic_set).events.table
            for mimic_set in (0, 1, 2, 1)
        ]
        assert_array_equal(tables[1]["RA"], tables[3]["RA"])
        for first, second in itertools.combinations(tables[:3], 2):
            assert not np.array_equal(first["RA"], second["RA"])

    def test_selector_takes_the_same_regions(self, stores, targets):
        regions = [CircleSkyRegion(targets[0].target_radec, 0.3 * u.deg)]
        selector = KLBackgroundSelector(stores["off"], exclusion_regions=regions)
        maker = ScrambleMaker(regions, self.method)
        assert selector.exclusion_regions[0] is regions[0]
        assert len(maker.find_regions(targets[0])) == 1
        assert len(selector.rank(targets[0])) == 8

    def test_invalid_events(self, observation):
        observation = copy.deepcopy(observation)
        observation.events.table["RA"][7] = np.nan
        maker = ScrambleMaker([REGION], self.method)
        with pytest.raises(
            ValueError, match="OBS_ID 1 has 1 events without a valid RA"
        ):
            maker.make_observation(observation)

    def test_no_events(self, observation):
        observation = replace(observation, events=None)
        maker = ScrambleMaker([REGION], self.method)
        with pytest.raises(ValueError, match="OBS_ID 1 has no events"):
            maker.make_observation(observation)


class TestMakerAnnulus(ScrambleContract):
    method = "annulus"

    def test_events_outside_stay_to_the_bit(self, observation):
        made = ScrambleMaker([REGION], random_state=1).make_observation(observation)
        before, after = observation.events.table, made.events.table
        offset = get_fov(observation)[0]
        outside = (offset < 0.2) | (offset > 0.8)
        for name in before.colnames:
            assert_array_equal(after[name][outside], before[name][outside])
        for name in ("ENERGY", "TIME", "EVENT_ID", "MC_ID"):
            assert_array_equal(after[name], before[name])
        assert np.all(after["RA"][~outside] != before["RA"][~outside])
        new = get_fov(made)[0][~outside]
        assert 0.2 < new.min() < new.max() < 0.8

    def test_width(self, observation):
        maker = ScrambleMaker([REGION], width="0.4 deg", random_state=1)
        made = maker.make_observation(observation)
        offset = get_fov(observation)[0]
        n_moved = np.sum((offset > 0.1) & (offset < 0.9))
        assert made.events.table.meta["SCR_NEVT"] == n_moved
        assert made.events.table.meta["SCR_WID"] == 0.4

    def test_width_smaller_than_the_region(self, observation, caplog):
        ScrambleMaker([REGION], width=0.1 * u.deg).make_observation(observation)
        assert "outside of the annuli of half width 0.1 deg" in caplog.text

    def test_one_warning_of_a_wider_annulus(self, caplog):
        region = CircleSkyRegion(POINTING, 0.3 * u.deg)
        ScrambleMaker([region], random_state=0).make_observation(simulate(POINTING))
        assert [_.message.count("wider annulus") for _ in caplog.records] == [1]

    def test_warning_of_a_bright_source(self, observation, caplog):
        ScrambleMaker([REGION]).make_observation(observation)
        assert "sigma above" in caplog.text
        caplog.clear()
        ScrambleMaker([REGION]).make_observation(simulate(POINTING))
        assert not caplog.records


class TestMakerFill(ScrambleContract):
    method = "fill"

    def test_source_is_replaced(self, observation):
        made = ScrambleMaker([REGION], "fill", random_state=1).make_observation(
            observation
        )
        free = simulate(POINTING)
        n_source, n_free = count_in(observation, REGION), count_in(free, REGION)
        assert n_source > n_free + 10 * np.sqrt(n_free)
        assert abs(count_in(made, REGION) - n_free) < 5 * np.sqrt(n_free)
        header = made.events.table.meta
        assert header["SCR_NREM"] == n_source
        assert header["SCR_NEVT"] == count_in(made, REGION)

    def test_events_outside_stay_to_the_bit(self, observation):
        made = ScrambleMaker([REGION], "fill", random_state=1).make_observation(
            observation
        )
        before, after = observation.events.table, made.events.table
        outside = get_fov(observation)[1].separation(POSITION).deg > 0.3
        old = np.isin(after["EVENT_ID"], before["EVENT_ID"])
        for name in before.colnames:
            assert_array_equal(after[name][old], before[name][outside])

    def test_times_are_uniform_in_the_gti(self, observation):
        made = ScrambleMaker([REGION], "fill", random_state=1).make_observation(
            observation
        )
        table = made.events.table
        new = table["EVENT_ID"] > observation.events.table["EVENT_ID"].max()
        gti = made.gti
        seconds = (table["TIME"][new] - gti.time_start[0]).to_value("s")
        assert kstest(seconds / gti.time_sum.to_value("s"), "uniform").pvalue > 1e-3

    def test_no_gti(self, observation):
        observation = replace(observation, gti=None)
        with pytest.raises(ValueError, match="OBS_ID 1 has no GTI"):
            ScrambleMaker([REGION], "fill").make_observation(observation)

    @pytest.mark.parametrize(
        "region",
        [
            EllipseSkyRegion(POSITION, 0.6 * u.deg, 0.3 * u.deg, 30 * u.deg),
            RectangleSkyRegion(POSITION, 0.6 * u.deg, 0.3 * u.deg, 30 * u.deg),
            CircleAnnulusSkyRegion(POSITION, 0.1 * u.deg, 0.3 * u.deg),
            PolygonSkyRegion(
                SkyCoord([150.1, 150.6, 150.3], [-29.9, -29.8, -29.2], unit="deg")
            ),
        ],
    )
    @pytest.mark.parametrize("method", ["fill", "annulus"])
    def test_any_region(self, region, method):
        field = simulate(POINTING)
        maker = ScrambleMaker([region], method, random_state=1)
        made = maker.make_observation(field)
        counts = []
        for observation in (field, made):
            table = observation.events.table
            vectors = to_vectors(table["RA"].value, table["DEC"].value)
            counts.append(is_excluded(vectors, [make_exclusion(region)]).sum())
        assert counts[0] > 20
        assert abs(counts[1] - counts[0]) < 5 * np.sqrt(counts[0])

    def test_everything_is_covered(self, observation):
        region = CircleSkyRegion(POINTING, 8 * u.deg)
        with pytest.raises(ValueError, match="OBS_ID 1: .*nothing is left"):
            ScrambleMaker([region], "fill").make_observation(observation)


ENERGY_EDGES = np.geomspace(0.3, 30, 21)  # TeV, of bins in which the IRF is integrated
ENERGY_BANDS = ENERGY_EDGES[[0, 2, 5, 20]]


@pytest.fixture(scope="module")
def fields():
    """Two hundred observations without source, with three times the background."""

    def make_bright_irfs(zenith):
        irfs = make_irfs(zenith)
        irfs["bkg"].quantity = 3 * irfs["bkg"].quantity
        return irfs

    tstart = Time("2015-03-01T22:00:00")
    return [
        simulate_observation(obs_id, POINTING, tstart, irfs=make_bright_irfs)
        for obs_id in range(1, 201)
    ]


def integrate_background(observation, region):
    """Expected background of an observation in a region. Shape (n_bands,)."""
    axis = MapAxis.from_energy_edges(ENERGY_EDGES * u.TeV)
    geom = WcsGeom.create(skydir=region.center, width=0.8, binsz=0.01, axes=[axis])
    dataset = MapDatasetMaker(selection=["background"]).run(
        MapDataset.create(geom), observation
    )
    weights = geom.to_image().region_weights([region], oversampling_factor=5).data
    expected = (dataset.background.data * weights).sum(axis=(1, 2))
    return np.histogram(ENERGY_EDGES[:-1], ENERGY_BANDS, weights=expected)[0]


def add_uniform_source(observation, region, n_source, rng):
    """Add events in a region, with energies and times of others."""
    events = observation.events
    copies = events.table[rng.integers(len(events.table), size=n_source)]
    radius = region.radius * np.sqrt(rng.uniform(size=n_source))
    angle = rng.uniform(0, 360, n_source) * u.deg
    radec = region.center.directional_offset_by(angle, radius)
    copies["RA"], copies["DEC"] = radec.ra, radec.dec
    table = vstack([events.table, copies], metadata_conflicts="silent")
    return replace_events(observation, table)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.2, 0.5, 1.5])
def test_fill_of_200_observations(fields, offset):
    """Sources of 0 to 5 times the background, against the background of the IRF."""
    center = POINTING.directional_offset_by(40 * u.deg, offset * u.deg)
    region = CircleSkyRegion(center, 0.3 * u.deg)
    expected = integrate_background(fields[0], region)
    maker = ScrambleMaker([region], method="fill", random_state=0)
    rng = np.random.default_rng(0)
    counts = []
    for field, strength in zip(fields, itertools.cycle([0, 0.5, 1, 5]), strict=False):
        n_source = rng.poisson(strength * expected.sum())
        made = maker.make_observation(add_uniform_source(field, region, n_source, rng))
        energy = made.events.energy[region_contains(made, region)]
        counts.append(np.histogram(energy, ENERGY_BANDS * u.TeV)[0])
        before, after = field.events.table, made.events.table
        stays = ~region_contains(field, region)
        old = after["EVENT_ID"] <= before["EVENT_ID"].max()
        assert_array_equal(after["RA"][old], before["RA"][stays])

    counts = np.array(counts)
    difference = abs(counts.mean(axis=0) - expected)
    assert np.all(difference < 3 * np.sqrt(expected / len(counts)))
    total = counts.sum(axis=1, keepdims=True)
    assert_mean(total, expected.sum())
    assert_poisson_variance(counts)
    assert_no_significance(total, expected.sum())


class TestMakerAzimuth(ScrambleContract):
    method = "azimuth"

    def test_radial_profile_is_the_same(self, observation):
        made = ScrambleMaker(None, "azimuth", random_state=1).make_observation(
            observation
        )
        edges = np.linspace(0, 4, 41)
        profiles = [np.histogram(get_fov(_)[0], edges)[0] for _ in (observation, made)]
        assert_array_equal(*profiles)
        assert_allclose(get_fov(made)[0], get_fov(observation)[0], atol=1e-9)
        for name in ("ENERGY", "TIME", "EVENT_ID"):
            assert_array_equal(made.events.table[name], observation.events.table[name])


class TestBadInput:
    @pytest.mark.parametrize(
        ("kwargs", "match"),
        [
            ({"method": "anulus"}, "Invalid method: 'anulus'. Choose from"),
            ({"regions": REGION}, "^regions must be a list of SkyRegion"),
            ({"regions": ["x"]}, "Invalid region: 'x'"),
            ({"width": 0.3}, "width must be an angle .* such as '0.3 deg', got 0.3"),
            ({"width": "3 m"}, "width must be an angle .*, got '3 m'"),
            ({"width": "-0.3 deg"}, "width must be an angle above 0 .* got '-0.3 deg'"),
            ({"width": [1, 2] * u.deg}, "width must be an angle above 0"),
            ({"random_state": -1}, "random_state must be .* of 0 or more, got -1"),
            ({"random_state": 1.5}, "random_state must be .* of 0 or more, got 1.5"),
            ({"energy_axis": [1, 2]}, r"energy_axis must be a MapAxis, got \[1, 2\]"),
            (
                {"energy_axis": MapAxis.from_bounds(1, 2, 1, unit="deg", name="rad")},
                "energy_axis must have the name 'energy', got 'rad'",
            ),
        ],
    )
    def test_init(self, kwargs, match):
        with pytest.raises((ValueError, TypeError), match=match):
            ScrambleMaker(**{"regions": [REGION], **kwargs})

    @pytest.mark.parametrize("method", ["annulus", "fill"])
    @pytest.mark.parametrize(
        "regions",
        [None, [], (), ExclusionRegions([]), SkyCoord([], [], unit="deg")],
        ids=["none", "list", "tuple", "exclusion regions", "positions"],
    )
    def test_nothing_to_hide(self, regions, method):
        """With no region the sources of a field would stay in it, and nothing said."""
        radius = 0.3 * u.deg if isinstance(regions, SkyCoord) else None
        match = f"(?s)^regions .* method='{method}'.*Give a region, or .*'azimuth'"
        with pytest.raises(ValueError, match=match):
            ScrambleMaker(regions, method, radius=radius)
        # in whatever order they are set
        maker = ScrambleMaker(regions, "azimuth", radius=radius)
        with pytest.raises(ValueError, match=match):
            maker.method = method
        assert maker.method == "azimuth"

    def test_list_that_is_emptied(self, observation):
        maker = ScrambleMaker([REGION])
        with pytest.raises(ValueError, match=r"^regions .*, got \[\]"):
            maker.regions = []
        assert maker.regions == [REGION]
        maker.regions.clear()
        with pytest.raises(ValueError, match=r"^regions .*, got \[\]"):
            maker.make_observation(observation)

    def test_all_events_or_none(self, observation):
        """An empty list is not None: azimuths of fields without a region stay."""
        made = ScrambleMaker([], "azimuth").make_observation(observation)
        assert made.__dict__ == observation.__dict__


class TestRealData:
    def test_hess_crab(self, hess_store):
        observation = hess_store.obs(*need_runs(hess_store, 23523))
        crab = SkyCoord(83.6333, 22.0145, unit="deg")
        region = CircleSkyRegion(crab, 0.3 * u.deg)
        made = ScrambleMaker([region], "fill", random_state=0).make_observation(
            observation
        )
        opposite = CircleSkyRegion(SkyCoord(83.6333, 21.0144, unit="deg"), 0.3 * u.deg)
        n_off = count_in(observation, opposite)
        assert count_in(observation, region) > 1.4 * n_off
        assert abs(count_in(made, region) - n_off) < 5 * np.sqrt(n_off)

    @pytest.mark.parametrize("method", ["annulus", "fill", "azimuth"])
    def test_veritas_camera_columns(self, veritas_store, method):
        """Xoff and Yoff are ALTAZ coordinates, in a tangential projection."""
        need_runs(veritas_store, 64080)
        observation = veritas_store.obs(64080, required_irf="all-optional")
        crab = SkyCoord(83.6333, 22.0145, unit="deg")
        maker = ScrambleMaker([CircleSkyRegion(crab, 0.3 * u.deg)], method)
        made = maker.make_observation(observation)
        frame = made.get_fov_frame(made.events.time, FoVAlignment.ALTAZ)
        fov = made.events.radec.transform_to(frame)
        table = made.events.table
        # ALTAZ of astropy and of the VERITAS software differ by 0.16 deg in angle
        assert_allclose(table["Xoff"], fov.fov_lon.deg, atol=0.01)
        assert_allclose(table["Yoff"], fov.fov_lat.deg, atol=0.01)

    @pytest.mark.parametrize("method", ["annulus", "fill"])
    @pytest.mark.parametrize(
        ("off_id", "position", "radius"),
        [
            (29556, (64.22, 1.09), 0.2),  # 1ES 0414+009
            (20734, (225.6, -41.9), 0.3),  # SN 1006
        ],
    )
    def test_hess_source_found_later(
        self, hess_store, off_id, position, radius, method
    ):
        """Hidden in an OFF run that stands in for PKS 2155-304."""
        need_runs(hess_store, 33787, off_id)
        target, off = hess_store.obs(33787), hess_store.obs(off_id)
        position = SkyCoord(*position, unit="deg")
        region = CircleSkyRegion(position, radius * u.deg)
        scrambler = ScrambleMaker([region], method, random_state=0)
        options = [hess_store, {33787: off_id}]
        plain = MimicMaker(*options).make_observation(target)
        made = MimicMaker(*options, scramble=scrambler).make_observation(target)

        pointings = [_.pointing.fixed_icrs for _ in (off, target)]
        ra, dec = move_radec(position.ra.deg, position.dec.deg, *pointings)
        center = SkyCoord(ra, dec, unit="deg")
        moved_region = CircleSkyRegion(center, region.radius)
        header = made.events.table.meta
        assert header["SCR_METH"] == method
        assert header["SCR_NREG"] == 1
        assert header["MIM_OBS"] == off_id

        # same offset, other azimuths that do not overlap with the region
        offset = center.separation(pointings[1])
        angle = pointings[1].position_angle(center)
        others = [
            CircleSkyRegion(
                pointings[1].directional_offset_by(_, offset), region.radius
            )
            for _ in angle + [110, 180, 250] * u.deg
        ]
        mean = np.mean([count_in(plain, _) for _ in others])
        error = np.sqrt(mean * 4 / 3)
        assert mean > 20
        assert abs(count_in(made, moved_region) - mean) < 4 * error

        kept = np.isin(made.events.table["EVENT_ID"], plain.events.table["EVENT_ID"])
        offset_plain = get_fov(plain)[0]
        if method == "fill":
            stays = ~region_contains(plain, moved_region)
            after = made.events.table[kept]
            before = plain.events.table[stays]
        else:
            stays = abs(offset_plain - offset.deg) > radius + 1e-6
            before, after = (_.events.table[stays] for _ in (plain, made))
        for name in ("EVENT_ID", "RA", "DEC", "ENERGY"):
            assert_array_equal(after[name], before[name])
