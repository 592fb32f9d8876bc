"""Templates of an observation for itself: against the truth, and laws."""

import itertools

import astropy.units as u
import numpy as np
import pytest
from gammapy.modeling.models import PointSpatialModel, PowerLawSpectralModel, SkyModel
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic.simulate import (
    make_irfs,
    simulate_observation,
    simulate_observations,
)
from gammapy_mimic.template import (
    make_own_counts,
    make_own_template,
    make_template,
    make_template_counts,
)
from gammapy_mimic.template.own import OWN_METHODS

from .helpers import replace_events

UNIT = "s-1 TeV-1 sr-1"
EVEN = ["0 deg", "90 deg", "180 deg", "270 deg"]
SOURCE_OFFSET = 0.8
RINGS = [0, 0.5, 1, 1.5, 2]


@pytest.fixture(
    scope="module", params=["RADEC", pytest.param("ALTAZ", marks=pytest.mark.slow)]
)
def truth(request):
    return make_irfs("30 deg", rate=15, gradient=0.2, fov_alignment=request.param)


@pytest.fixture(scope="module")
def field(truth):
    """An observation with a source to the east, and the region around it."""
    field = simulate_observations(1, ontime="1 s", random_state=3)[0]
    pointing = field.pointing.fixed_icrs
    position = pointing.directional_offset_by(90 * u.deg, SOURCE_OFFSET * u.deg)
    spatial = PointSpatialModel(lon_0=position.ra, lat_0=position.dec, frame="icrs")
    spectrum = PowerLawSpectralModel(index=2.2, amplitude="5e-10 cm-2 s-1 TeV-1")
    observation = simulate_observation(
        1,
        pointing,
        field.tstart,
        irfs=truth,
        sources=[SkyModel(spectrum, spatial, name="source")],
        random_state=5,
    )
    return observation, CircleSkyRegion(position, 0.4 * u.deg)


def remove_source(observation):
    table = observation.events.table
    return replace_events(observation, table[table["MC_ID"] == 0])


def predict(irf, energy=(1, 10) * u.TeV):
    """Rate in a band of energy at positions of a fine grid. Shape (n, n)."""
    lon, lat = np.meshgrid(*2 * [np.linspace(-2, 2, 41)], indexing="ij") * u.deg
    edges = np.geomspace(*energy, 13)
    shape = (-1, 1, 1)
    if irf.has_offset_axis:
        irf = irf.pad(1, mode="edge", axis_name="offset")
        coords = {"offset": np.hypot(lon, lat)}
    else:
        coords = {"fov_lon": lon, "fov_lat": lat}
    rate = irf.integrate_log_log(
        energy=edges.reshape(shape), axis_name="energy", **coords
    )
    return lon.value, lat.value, rate.sum(axis=0).to_value("s-1 sr-1")


def get_ratios(template, truth, select=lambda lon, lat: True):
    """Rates in rings over those of the truth, where the rings are selected."""
    lon, lat, rate = predict(template)
    expected = predict(truth)[2]
    offset = np.hypot(lon, lat)
    rings = [
        (offset >= low) & (offset < high) & select(lon, lat)
        for low, high in itertools.pairwise(RINGS)
    ]
    return np.array([rate[_].sum() / expected[_].sum() for _ in rings])


@pytest.mark.parametrize("is_there", [False, True], ids=["no source", "excluded"])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("radial", {}),
        ("masked", {}),
        ("rotated", {}),
        ("rotated", {"angles": EVEN}),
    ],
    ids=["radial", "masked", "rotated", "all around"],
)
def test_rings_are_those_of_the_truth(field, truth, is_there, method, options):
    observation, region = field
    if is_there:
        options = {**options, "exclusion_regions": [region]}
    else:
        observation = remove_source(observation)
    template = make_own_template(observation, method, **options)
    ratios = get_ratios(template, truth["bkg"])
    assert np.all(np.abs(ratios - 1) < 3 / np.sqrt(count_rings(observation)))


def count_rings(observation):
    """Count background events from 1 to 10 TeV in rings."""
    table = observation.events.table
    offset = observation.events.radec.separation(observation.pointing.fixed_icrs)
    is_used = (table["MC_ID"] == 0) & (table["ENERGY"] > 1) & (table["ENERGY"] < 10)
    return np.histogram(offset.deg[is_used], RINGS)[0]


def get_slope(irf):
    """Gradient of a rate along the FoV longitude, relative per deg."""
    lon, lat, rate = predict(irf)
    inside = np.hypot(lon, lat) < 1.5
    return np.polyfit(lon[inside], np.log(rate[inside]), 1)[0]


@pytest.mark.parametrize(
    ("method", "angles", "factor"),
    [
        ("radial", None, 0),
        ("masked", None, 1),
        ("rotated", None, -1),
        ("rotated", ["0 deg"], 1),
        ("rotated", EVEN, 0),
    ],
)
def test_gradient_is_what_the_method_says(field, truth, method, angles, factor):
    observation, region = field
    options = {"angles": angles, "exclusion_regions": [region]}
    template = make_own_template(observation, method, smooth="gauss", **options)
    expected = factor * get_slope(truth["bkg"])
    assert_allclose(get_slope(template), expected, atol=0.03)


def get_rate_around(irf, azimuth):
    """Rate at the offset of the source, at an azimuth, over that of its neighbours."""
    lon, lat, rate = predict(irf)
    angle = np.radians(azimuth)
    x, y = -SOURCE_OFFSET * np.sin(angle), SOURCE_OFFSET * np.cos(angle)
    distance = np.hypot(lon - x, lat - y)
    return rate[distance < 0.15].mean() / rate[(distance > 0.5) & (distance < 1)].mean()


@pytest.mark.parametrize("truth", ["RADEC"], indirect=True)
@pytest.mark.slow
def test_source_that_is_not_excluded_is_in_it(field, truth):
    observation, region = field
    expected = get_rate_around(truth["bkg"], 90)
    found = {
        method: get_rate_around(make_own_template(observation, method), 90)
        for method in OWN_METHODS
    }
    # all of it, or its share of the ring
    assert found["masked"] - expected > 3 * (found["radial"] - expected) > 0
    # where the source is the rate is that of the other side, and the reverse
    rotated = make_own_template(observation, "rotated")
    assert abs(get_rate_around(rotated, 90) / expected - 1) < 0.2
    assert get_rate_around(rotated, 270) > 1.5 * expected
    excluded = make_own_template(observation, "rotated", exclusion_regions=[region])
    # on the other side it is the mean of the ring, which has no gradient
    for azimuth, tolerance in ((90, 0.2), (270, 0.4)):
        assert abs(get_rate_around(excluded, azimuth) / expected - 1) < tolerance


class TestCounts:
    def test_turned_counts_are_those_of_the_other_side(self, field):
        observation, region = field
        options = {"exclusion_regions": [region]}
        plain = make_own_counts(observation, "masked", **options)
        turned = make_own_counts(observation, "rotated", **options)
        # of a symmetric grid, the bin on the other side is the last
        assert_array_equal(turned.counts, plain.counts[:, ::-1])
        exposure = plain.exposure[:, ::-1]
        assert_allclose(turned.exposure, exposure, atol=1e-9 * exposure.max())
        assert turned.meta == plain.meta

    @pytest.mark.parametrize("truth", ["RADEC"], indirect=True)
    def test_sense_of_the_angle(self, field):
        observation, _ = field
        source = observation.events.table["MC_ID"] == 1
        observation = replace_events(observation, observation.events.table[source])
        for angle, azimuth in (("0 deg", 90), ("90 deg", 0), ("-90 deg", 180)):
            counts = make_own_counts(observation, "rotated", angles=[angle])
            total = counts.counts.sum(axis=0)
            position = counts.bins.position @ total / total.sum()
            azimuth = np.radians(azimuth)
            expected = SOURCE_OFFSET * np.array([-np.sin(azimuth), np.cos(azimuth)])
            assert_allclose(position, expected, atol=0.1)

    def test_all_around_is_the_sum(self, field):
        observation, region = field
        options = {"exclusion_regions": [region]}
        total = make_own_counts(observation, "rotated", angles=EVEN, **options)
        parts = [
            make_own_counts(observation, "rotated", angles=[_], **options) for _ in EVEN
        ]
        for name in ("counts", "exposure", "moments"):
            expected = sum(getattr(_, name) for _ in parts) / len(parts)
            assert_allclose(getattr(total, name), expected)
        assert total.meta == parts[0].meta

    def test_other_methods_are_templates_of_one_observation(self, field):
        observation, region = field
        for method, dimension in OWN_METHODS.items():
            if method == "rotated":
                continue
            options = {"exclusion_regions": [region], "smooth": "gauss"}
            irf = make_own_template(observation, method, **options)
            expected = make_template(observation, dimension, **options)
            assert_array_equal(irf.data, expected.data)
            assert irf.meta == expected.meta

    def test_observation_is_not_changed(self, stores):
        observation = stores["targets"].obs(1)
        before = set(observation.__dict__)
        make_own_template(observation, "rotated", angles=EVEN)
        assert set(observation.__dict__) == before


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"method": "mean"},
            r"method must be one of \['radial', 'masked', 'rotated'\]",
        ),
        ({"angles": ["90 deg"]}, "angles are for method=\"rotated\", not 'radial'"),
        ({"method": "rotated", "angles": []}, "must be a list of angles"),
        ({"method": "rotated", "angles": "90 deg"}, "must be a list of angles"),
        (
            {"method": "rotated", "angles": ["90 m"]},
            "angles must be an angle .* got '90 m'",
        ),
        ({"method": "rotated", "angles": ["-90 deg", "270 deg"]}, "same angle twice"),
        ({"method": "radial", "fov_lon_axis": 1}, "not 'fov_lon'"),
    ],
)
def test_bad_options(stores, options, match):
    with pytest.raises(ValueError, match=match):
        make_own_template(stores["targets"].obs(1), **options)


def test_angle_of_counts(field):
    observation, _ = field
    with pytest.raises(ValueError, match="an angle from -360 to 360 deg"):
        make_template_counts(observation, angle="400 deg")
