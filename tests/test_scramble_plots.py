"""ScrambleCheck, and the plots that draw it."""

import copy
from functools import partial

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.coordinates import Angle, SkyCoord
from gammapy.modeling.models import (
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from gammapy.utils.coordinates import FoVICRSFrame
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion, EllipseSkyRegion, PolygonSkyRegion
from scipy.stats import chisquare

from gammapy_mimic import ScrambleMaker
from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.scramble.check import CheckedEvents, ScrambleCheck
from gammapy_mimic.simulate import make_irfs, simulate_observations
from gammapy_mimic.visualization import (
    plot_scramble,
    plot_scramble_azimuth,
    plot_scramble_energy,
    plot_scramble_events,
    plot_scramble_offset,
    plot_significance,
)

from .test_estimators import make_dataset

SOURCE = SkyCoord(83.63, -22.01, unit="deg")
REGION = CircleSkyRegion(SOURCE, 0.3 * u.deg)


def simulate(n_obs, **kwargs):
    """Observations with a bright source 0.5 deg from the pointing."""
    spectrum = PowerLawSpectralModel(index=2.5, amplitude="4e-11 cm-2 s-1 TeV-1")
    source = SkyModel(spectrum, PointSpatialModel.from_position(SOURCE))
    irfs = partial(make_irfs, background="2d")
    options = {"targets": {"source": SOURCE}, "sources": [source], "irfs": irfs}
    return simulate_observations(n_obs, **options | kwargs)


@pytest.fixture(scope="module")
def observations():
    return simulate(4)


def make_check(observation, method="fill", regions=(REGION,), seed=0, **kwargs):
    maker = ScrambleMaker(regions, method=method, random_state=seed)
    return ScrambleCheck.create(maker, observation, **kwargs)


@pytest.fixture(scope="module")
def checks(observations):
    methods = "annulus", "fill", "azimuth"
    return {method: make_check(observations[2], method) for method in methods}


class TestCheck:
    def test_checks_can_be_compared(self, observations, checks):
        assert checks["fill"] == checks["fill"]
        assert checks["fill"] != make_check(observations[2], "fill")

    def test_positions_are_those_of_gammapy(self, observations):
        observation = observations[0]
        events = CheckedEvents.create(observation)
        frame = FoVICRSFrame(origin=observation.pointing.fixed_icrs)
        radec, pointing = observation.events.radec, observation.pointing.fixed_icrs
        expected = radec.transform_to(frame)
        assert_allclose(events.fov_lon, expected.fov_lon.deg, atol=1e-9)
        assert_allclose(events.fov_lat, expected.fov_lat.deg, atol=1e-9)
        assert_allclose(events.offset, pointing.separation(radec).deg, atol=1e-9)
        angle = Angle(events.azimuth - pointing.position_angle(radec).deg, "deg")
        assert np.all(abs(angle.wrap_at("180d").deg) < 1e-9)

    @pytest.mark.parametrize("method", ["annulus", "fill"])
    def test_difference_of_the_images_is_that_of_the_events(self, checks, method):
        check = checks[method]
        number = len(check.after.energy) - len(check.before.energy)
        assert check.image.difference.sum() == number
        assert (number == 0) == (method == "annulus")

    @pytest.mark.parametrize("method", ["annulus", "azimuth"])
    def test_events_stay_in_the_annulus_with_their_energy(self, checks, method):
        check = checks[method]
        assert_array_equal(check.energy.before, check.energy.after)
        assert check.energy.before.sum() == check.before.is_in(check.intervals).sum()
        assert check.azimuth.before.sum() == check.azimuth.after.sum()
        # the source is seen before, and not after
        assert chisquare(check.azimuth.before).pvalue < 1e-9
        assert chisquare(check.azimuth.after).pvalue > 1e-3

    def test_only_annuli_are_changed(self, checks):
        check = checks["annulus"]
        ((low, high),) = check.intervals
        assert_allclose([low, high], [0.2, 0.8], atol=1e-6)
        edges = check.offset.edges
        other = (edges[1:] < low) | (edges[:-1] > high)
        assert_array_equal(check.offset.before[other], check.offset.after[other])
        assert_allclose(check.offset.expected[other], check.offset.before[other])

    def test_intervals_of_fill_are_the_offsets_of_the_region(self, checks):
        ((low, high),) = checks["fill"].intervals
        assert_allclose([low, high], [0.2, 0.8], atol=0.03)

    @pytest.mark.parametrize("name", ["offset", "energy"])
    def test_fill_is_as_expected(self, checks, name):
        distribution = getattr(checks["fill"], name)
        # copies are drawn from the events that the expectation is made of
        difference = distribution.after - distribution.expected
        assert np.all(abs(difference) < 5 * distribution.expected_error + 1)
        excess = distribution.before - distribution.expected
        assert excess.sum() > 5 * np.sqrt(distribution.expected.sum())

    @pytest.mark.slow
    def test_expectation_is_unbiased(self):
        """It is the background, known from MC_ID, in the ring of the source."""
        expected, variance, true = 0, 0, 0
        for observation in simulate(24, random_state=1):
            check = make_check(observation)
            is_background = np.asarray(observation.events.table["MC_ID"]) == 0
            offset = check.before.offset[is_background]
            true += np.histogram(offset, check.offset.edges[2:9])[0]
            expected += check.offset.expected[2:8]
            variance += check.offset.expected_error[2:8] ** 2
        pull = (expected - true) / np.sqrt(variance)
        assert np.all(abs(pull) < 3)
        assert abs(expected.sum() - true.sum()) < 3 * np.sqrt(variance.sum())

    def test_no_expectation_where_regions_cover_all(self, observations):
        center = observations[0].pointing.fixed_icrs
        check = make_check(
            observations[0], regions=[CircleSkyRegion(center, 0.25 * u.deg)]
        )
        assert_array_equal(np.isnan(check.offset.expected[:3]), True)
        assert np.all(np.isfinite(check.offset.expected[3:]))
        assert np.all(np.isnan(check.energy.expected))

    def test_without_regions_all_is_expected(self, observations):
        check = make_check(observations[0], "azimuth", regions=None)
        assert_array_equal(check.offset.expected, check.offset.before)
        assert not check.image.mask.any()
        assert len(check.region_azimuths) == 0

    @pytest.mark.parametrize("shape", ["circle", "ellipse", "polygon"])
    def test_mask_of_any_shape(self, observations, shape):
        """It has the solid angle and the place of the region: east is to the left."""
        pointing = observations[0].pointing.fixed_icrs
        center = pointing.directional_offset_by(70 * u.deg, 0.8 * u.deg)
        angles = np.arange(5) * 72 * u.deg
        regions = {
            "circle": CircleSkyRegion(center, 0.3 * u.deg),
            "ellipse": EllipseSkyRegion(center, 1 * u.deg, 0.4 * u.deg, 30 * u.deg),
            "polygon": PolygonSkyRegion(
                center.directional_offset_by(angles, 0.4 * u.deg)
            ),
        }
        area = {
            "circle": np.pi * 0.3**2,
            "ellipse": np.pi * 0.5 * 0.2,
            "polygon": 2.5 * 0.4**2 * np.sin(np.radians(72)),
        }
        image = make_check(observations[0], regions=[regions[shape]]).image
        pixel = np.diff(image.mask_axis)[0]
        assert_allclose(image.mask.sum() * pixel**2, area[shape], rtol=0.02)
        lat, lon = (image.mask_axis[_].mean() for _ in np.nonzero(image.mask))
        expected = center.transform_to(FoVICRSFrame(origin=pointing))
        assert_allclose(lon, expected.fov_lon.deg, atol=0.01)
        assert_allclose(lat, expected.fov_lat.deg, atol=0.01)
        assert lon < -0.5

    def test_region_azimuth(self, observations):
        """The distribution begins on the other side."""
        for observation in observations:
            check = make_check(observation)
            pointing = observation.pointing.fixed_icrs
            angle = pointing.position_angle(SOURCE).wrap_at("360d").deg
            difference = Angle(check.region_azimuths - angle, "deg").wrap_at("180d")
            assert_allclose(difference.deg, 0, atol=1e-6)
            peak = check.azimuth.edges[np.argmax(check.azimuth.before)]
            assert 60 < peak - check.azimuth.edges[0] < 300

    def test_scrambled_observation_is_used(self, observations):
        maker = ScrambleMaker([REGION], method="fill", random_state=0)
        scrambled = maker.make_observation(observations[0])
        other = ScrambleMaker([REGION], method="fill", random_state=1)
        check = ScrambleCheck.create(other, observations[0], scrambled)
        assert_array_equal(check.after.energy, scrambled.events.energy.to_value("TeV"))

    def test_bins(self, observations):
        check = make_check(observations[0], binsz="3 arcmin")
        assert_allclose(np.diff(check.image.edges), 0.05)
        assert_allclose(np.diff(check.offset.edges), 0.05)
        assert_allclose(check.image.edges, -check.image.edges[::-1])

    def test_observation_is_not_changed(self, observations):
        observation = copy.deepcopy(observations[0])
        make_check(observation)
        before = observations[0].events.table
        assert observation.events.table.colnames == before.colnames
        assert observation.events.table.meta == before.meta

    def test_nothing_to_scramble(self, observations):
        far = CircleSkyRegion(SkyCoord(10, 20, unit="deg"), 0.3 * u.deg)
        with pytest.raises(ValueError, match="no region in its field of view"):
            make_check(observations[0], regions=[far])


@pytest.fixture
def ax():
    _, ax = plt.subplots()
    yield ax
    plt.close("all")


class TestPlots:
    @pytest.mark.parametrize("when", ["before", "after", "difference"])
    def test_events(self, checks, observations, ax, when):
        check = checks["annulus"]
        assert plot_scramble_events(check, when, ax=ax) is ax
        assert ax.get_xlabel() == "fov_lon [deg]"
        assert ax.get_ylabel() == "fov_lat [deg]"
        assert ax.get_title() == when.capitalize()
        mesh, contour = ax.collections
        data = getattr(check.image, when)
        assert_array_equal(mesh.get_array().reshape(data.shape), data)
        assert_allclose(contour.get_edgecolor()[0, :3], to_rgb("red"))
        # the outline of the region, 0.3 deg around its centre
        frame = FoVICRSFrame(origin=observations[2].pointing.fixed_icrs)
        center = SOURCE.transform_to(frame)
        x, y = contour.get_paths()[0].vertices.T
        radius = np.hypot(x - center.fov_lon.deg, y - center.fov_lat.deg)
        assert_allclose(radius, 0.3, atol=0.02)
        assert_allclose([_.radius for _ in ax.patches], check.intervals[0])

    def test_fill_has_no_annulus(self, checks, ax):
        plot_scramble_events(checks["fill"], ax=ax)
        assert len(ax.patches) == 0
        assert ax.get_title() == "Difference"

    def test_unknown_image(self, checks, ax):
        with pytest.raises(ValueError, match="'now'. Choose from .'before', 'after'"):
            plot_scramble_events(checks["fill"], "now", ax=ax)

    @pytest.mark.parametrize(
        ("plot", "label", "n_lines"),
        [
            (plot_scramble_offset, "Offset [deg]", 3),
            (plot_scramble_azimuth, "Azimuth from north to east [deg]", 2),
            (plot_scramble_energy, "Energy [TeV]", 3),
        ],
    )
    @pytest.mark.parametrize("method", ["annulus", "fill", "azimuth"])
    def test_distributions(self, checks, ax, plot, label, n_lines, method):
        assert plot(checks[method], ax=ax) is ax
        assert ax.get_xlabel() == label
        assert ax.get_ylabel() == "Events"
        labels = [_.get_text() for _ in ax.get_legend().get_texts()]
        expected = {"before", "after", "expected without source"}
        assert set(labels) <= expected
        assert len(labels) == n_lines

    def test_default_axes(self, checks):
        for plot in (plot_scramble_offset, plot_scramble_events):
            _, ax = plt.subplots()
            assert plot(checks["fill"]) is ax
        plt.close("all")

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["annulus", "fill", "azimuth"])
    def test_six_panels(self, checks, method):
        figure = plot_scramble(checks[method])
        titles = [_.get_title() for _ in figure.axes]
        assert titles[:3] == ["Before", "After", "Difference"]
        assert len(figure.axes) == 9  # three of them are colour bars
        assert method in figure.get_suptitle()
        figure.draw_without_rendering()
        plt.close(figure)

    def test_regions_in_several_places(self, observations):
        """Two annuli, one region at the centre of the camera."""
        regions = [
            CircleSkyRegion(observations[0].pointing.fixed_icrs, 0.2 * u.deg),
            CircleSkyRegion(
                observations[0].pointing.fixed_icrs.directional_offset_by(
                    200 * u.deg, 1.5 * u.deg
                ),
                0.2 * u.deg,
            ),
        ]
        check = make_check(observations[0], "annulus", regions=regions)
        assert check.intervals.shape == (2, 2)
        figure = plot_scramble(check)
        assert "0.00 to 0.20, 1.30 to 1.70 deg" in figure.axes[4].get_title()
        figure.draw_without_rendering()
        plt.close(figure)

    @pytest.mark.slow
    @pytest.mark.parametrize("names", ["ab", "abc"])
    def test_significance(self, names):
        datasets = {
            name: make_dataset(10.0, seed, width=2) for seed, name in enumerate(names)
        }
        result = MimicSystematicsEstimator().run(datasets)
        center = CircleSkyRegion(SkyCoord(0, 0, unit="deg"), 0.3 * u.deg)
        figure = plot_significance(result, regions=[center])
        titles = [_.get_title() for _ in figure.axes if _.get_title()]
        assert titles == [*names.upper(), "1 to 10 TeV"]
        labels = [_.get_text() for _ in figure.axes[2 * len(names)].get_legend().texts]
        values = result.get_significance("a")
        text = f"A: width {values.std():.2f}, at most {values.max():.1f}"
        assert labels[0] == text
        assert len(figure.axes[0].patches) == 1
        figure.draw_without_rendering()
        plt.close(figure)
