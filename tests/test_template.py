"""Templates against truth, laws of their parts, and bad input."""

import copy
import functools
import logging

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle, SkyCoord
from astropy.coordinates.erfa_astrom import ErfaAstromInterpolator, erfa_astrom
from astropy.table import Table
from gammapy.data import FixedPointingInfo, ObservationFilter
from gammapy.datasets import MapDataset
from gammapy.irf import Background2D, Background3D, FoVAlignment
from gammapy.makers import MapDatasetMaker
from gammapy.maps import MapAxis, WcsGeom
from gammapy.modeling.models import (
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from gammapy.utils.fits import HDULocation
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion, PointSkyRegion, RectangleSkyRegion

from gammapy_mimic.data.observation import get_hdu
from gammapy_mimic.simulate import (
    make_irfs,
    simulate_observation,
    simulate_observations,
)
from gammapy_mimic.template import (
    TemplateBins,
    TemplateCounts,
    describe_group,
    make_group_labels,
    make_template,
    make_templates,
    select_livetime,
)

from .helpers import cut_gti, need_runs, remove_location, replace, replace_events

UNIT = "s-1 TeV-1 sr-1"
RADIUS = 0.4 * u.deg
N_OBS = 8

# one field after the other
TRUTHS = {
    "2d": {"background": "2d"},
    "3d radec": {"gradient": 0.15},
    "3d altaz": {"fov_alignment": "ALTAZ", "gradient": 0.15},
}
# offset of the source, which is MC_ID 1, 2, 3
SOURCES = {"random": None, "same offset": 0.8, "half outside": 2.9}
METHODS = ["gauss", "poly", "spline"]


def make_truth(name, **kwargs):
    return make_irfs("30 deg", **{"rate": 12, **TRUTHS[name], **kwargs})


def select_events(observation, mc_ids):
    table = observation.events.table
    return replace_events(observation, table[np.isin(table["MC_ID"], mc_ids)])


@functools.cache
def simulate_fields(name):
    """Observations with a source of each kind, and the positions of the sources."""
    rng = np.random.default_rng(7)
    irfs = make_truth(name)
    fields = simulate_observations(
        4 * N_OBS, irfs=make_truth("2d", rate=1e-4), ontime="1 s", random_state=3
    )
    spectrum = PowerLawSpectralModel(index=2.2, amplitude="6e-10 cm-2 s-1 TeV-1")
    observations, positions = [], {kind: [] for kind in SOURCES}
    for field in fields[::4]:
        pointing, models = field.pointing.fixed_icrs, []
        for kind, offset in SOURCES.items():
            offset = rng.uniform(0.3, 2) if offset is None else offset
            angle = rng.uniform(0, 360) * u.deg
            position = pointing.directional_offset_by(angle, offset * u.deg)
            positions[kind].append(position)
            spatial = PointSpatialModel(
                lon_0=position.ra, lat_0=position.dec, frame="icrs"
            )
            models.append(SkyModel(spectrum, spatial, name=kind.replace(" ", "-")))
        observation = simulate_observation(
            field.obs_id,
            pointing,
            field.tstart,
            irfs=irfs,
            sources=models,
            random_state=5,
        )
        observations.append(observation)
    return observations, positions


def get_fields(name, kind):
    """Observations with one source each, and the regions around the sources."""
    observations, positions = simulate_fields(name)
    mc_id = 1 + list(SOURCES).index(kind)
    observations = [select_events(_, [0, mc_id]) for _ in observations]
    return observations, [CircleSkyRegion(_, RADIUS) for _ in positions[kind]]


def get_axes(irf):
    """Axes at whose nodes the truth can be compared, with enough bins for a chi2."""
    if irf.has_offset_axis:
        axes = [irf.axes["energy"].upsample(2), irf.axes["offset"].upsample(3)]
    else:
        axes = list(irf.axes)
    return {f"{axis.name}_axis": axis for axis in axes}


def evaluate_truth(irf, axes):
    """Rate of the truth at the nodes, as MapDatasetMaker evaluates it."""
    if irf.has_offset_axis:
        irf = irf.pad(1, mode="edge", axis_name="offset")
    return irf.evaluate(**axes.get_coord()).to_value(UNIT)


def get_counts(observations, regions, alignment="RADEC", **axes):
    axes = {name.removesuffix("_axis"): axis for name, axis in axes.items()}
    dimension = "2d" if "offset" in axes else "3d"
    bins = TemplateBins.create(dimension, regions, **axes)
    parts = [TemplateCounts.from_observation(_, bins, alignment) for _ in observations]
    return functools.reduce(TemplateCounts.__add__, parts)


def get_pull(template, truth, counts):
    """Deviation from the truth over the error of the counts of a bin."""
    expected_rate = evaluate_truth(truth, template.axes)
    edges = template.axes["energy"].edges.to_value("TeV")
    start = np.argmin(np.abs(counts.bins.energy_edges - edges[0]))
    exposure = counts.exposure[start : start + len(edges) - 1]
    exposure = (exposure * np.diff(edges)[:, np.newaxis]).reshape(expected_rate.shape)
    # the rate is one per observation time
    expected = expected_rate * exposure / template.meta["DEADC"]
    valid = expected > 20
    pull = np.log(template.data / expected_rate) * np.sqrt(expected)
    return pull[valid]


def predict(observation, bkg, energy_edges=None, radius=2.6):
    """Counts that Gammapy predicts, by energy, in the FoV.

    Gammapy takes a power law between the edges of energy bins, hence fine ones.
    """
    energy_edges = np.geomspace(0.7, 60, 25) if energy_edges is None else energy_edges
    observation = replace(observation, bkg=copy.deepcopy(bkg))
    axis = MapAxis.from_energy_edges(energy_edges * u.TeV)
    pointing = observation.pointing.fixed_icrs
    geom = WcsGeom.create(skydir=pointing, width=5.4, binsz=0.1, axes=[axis])
    maker = MapDatasetMaker(["background"], fov_rotation_step=0.5 * u.deg)
    background = maker.run(MapDataset.create(geom), observation).background
    inside = geom.separation(pointing) < radius * u.deg
    return np.sum(background.data * inside, axis=(1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("name", TRUTHS)
def test_template_is_the_truth_within_statistics(name, kind):
    observations, regions = get_fields(name, kind)
    truth, axes = observations[0].bkg, get_axes(observations[0].bkg)
    alignment = truth.fov_alignment.value
    counts = get_counts(observations, regions, alignment, **axes)
    template = counts.to_irf()

    pull = get_pull(template, truth, counts)
    assert len(pull) > 550
    # more precise than the counts of each bin alone
    assert np.mean(pull**2) < 0.4
    assert abs(pull.mean()) < 0.12

    predicted, expected = (
        predict(observations[1], _).reshape(6, 4).sum(axis=1) for _ in (template, truth)
    )
    assert_allclose(predicted.sum(), expected.sum(), rtol=0.005)
    n_events = expected * template.meta["N_OBS"]
    assert np.all(np.abs(predicted / expected - 1) < 3.5 / np.sqrt(n_events) + 0.002)

    if name != "2d" and kind == "random":
        mirrored = copy.deepcopy(template)
        mirrored.data = mirrored.data[:, ::-1]
        assert np.mean(get_pull(mirrored, truth, counts) ** 2) > 2


slow_altaz = pytest.param("3d altaz", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["2d", slow_altaz])
@pytest.mark.slow
def test_exposure_by_kept_over_all_events_instead_of_solid_angle(name):
    """That returns the counts of the source in full."""
    observations, regions = get_fields(name, "same offset")
    truth = observations[0].bkg
    axes = get_axes(truth)
    alignment = truth.fov_alignment.value
    everything = get_counts(observations, [], alignment, **axes)
    template = make_template(
        observations,
        "2d" if name == "2d" else "3d",
        **axes,
        exclusion_regions=regions,
        fov_alignment=alignment,
    )
    predicted, expected = (
        predict(observations[0], bkg).sum() for bkg in (template, truth)
    )
    assert_allclose(predicted, expected, rtol=0.005)
    # what the wrong exposure gives
    assert predict(observations[0], everything.to_irf()).sum() > 1.1 * expected

    # without the source it is the same template, but for the tail of the PSF
    only_background = [select_events(_, [0]) for _ in observations]
    other = get_counts(only_background, regions, alignment, **axes).to_irf()
    assert_allclose(predict(observations[0], other).sum(), predicted, rtol=0.002)


@pytest.mark.slow
def test_unmasked_solid_angle_of_a_ring_is_that_of_geometry():
    observation = simulate_fields("2d")[0][0]
    center = observation.pointing.fixed_icrs.directional_offset_by(
        40 * u.deg, 1 * u.deg
    )
    region = CircleSkyRegion(center, 0.5 * u.deg)
    axis = MapAxis.from_edges([0, 0.4, 0.5, 1.5, 2], unit="deg", name="offset")
    counts = get_counts([observation], [region], offset_axis=axis)

    unmasked = counts.exposure[20] / counts.livetime[20]
    circle = 2 * np.pi * (1 - np.cos(np.radians(0.5)))
    rings = -2 * np.pi * np.diff(np.cos(np.radians([0, 0.4, 0.5, 1.5, 2])))
    assert_allclose(unmasked[[0, 1, 3]], rings[[0, 1, 3]])
    assert_allclose(unmasked[2], rings[2] - circle, rtol=1e-3)
    assert_allclose(counts.livetime[20], 28 * 60 * 0.9)


@pytest.mark.slow
def test_field_rotation_turns_events_and_mask():
    """Against the frames of Gammapy, and fractions against random positions."""
    observation = simulate_fields("3d altaz")[0][2]
    pointing = observation.pointing.fixed_icrs
    region = RectangleSkyRegion(
        pointing.directional_offset_by(70 * u.deg, 1.6 * u.deg),
        1.4 * u.deg,
        0.5 * u.deg,
        Angle(30, "deg"),
    )
    fov_axis = MapAxis.from_bounds(-2.4, 2.4, 8, unit="deg", name="fov_lon")
    axes = {"fov_lon_axis": fov_axis, "fov_lat_axis": fov_axis.copy(name="fov_lat")}
    one_bin = MapAxis.from_energy_bounds("0.6 TeV", "80 TeV", nbin=1)
    axes["energy_axis"] = one_bin

    for alignment in FoVAlignment.ALTAZ, FoVAlignment.RADEC:
        counts = get_counts([observation], [], alignment.value, **axes)
        events = observation.events.select_energy([0.6, 80] * u.TeV)
        time = events.time if alignment is FoVAlignment.ALTAZ else events.time[0]
        with erfa_astrom.set(ErfaAstromInterpolator(300 * u.s)):
            frame = observation.get_fov_frame(time, alignment)
            fov = events.radec.transform_to(frame)
        expected, _, _ = np.histogram2d(
            fov.fov_lon.deg, fov.fov_lat.deg, [fov_axis.edges.value] * 2
        )
        # an event at an edge may be on the other side
        assert_allclose(counts.counts.reshape(8, 8), expected, atol=2)

    # random positions at random times
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-2.4, 2.4, (2, 40_000))
    time = observation.tstart + rng.uniform(0, 28, 40_000) * u.min
    with erfa_astrom.set(ErfaAstromInterpolator(300 * u.s)):
        frame = observation.get_fov_frame(time, FoVAlignment.ALTAZ)
        sky = SkyCoord(lon, lat, unit="deg", frame=frame).icrs
    geom = WcsGeom.create(skydir=region.center, binsz=0.01, width=4)
    masked = region.contains(sky, geom.wcs)
    bins = [fov_axis.edges.value] * 2
    all_counts = np.histogram2d(lon, lat, bins)[0]
    expected = np.histogram2d(lon[masked], lat[masked], bins)[0] / all_counts

    counts = get_counts([observation], [region], "ALTAZ", **axes)
    full = counts.livetime[0] * counts.bins.solid_angle
    fraction = 1 - (counts.exposure[0] / full).reshape(8, 8)
    error = np.sqrt(fraction.clip(1e-3) * (1 - fraction).clip(1e-3) / all_counts)
    assert_allclose(fraction, expected, atol=5 * error.max())
    assert np.count_nonzero((fraction > 0.02) & (fraction < 0.98)) >= 5
    assert fraction.max() < 0.99  # it moves through the bins


@pytest.mark.slow
@pytest.mark.parametrize("n_energy", [7, 12, 24])
def test_wide_bins_are_not_biased(n_energy):
    """The value at the centre of a bin is not its mean rate."""
    observations, regions = get_fields("2d", "random")
    truth = observations[0].bkg
    low, high = observations[0].aeff.meta["LO_THRES"], 100
    axes = {
        "energy_axis": MapAxis.from_energy_bounds(low, high, n_energy, unit="TeV"),
        "offset_axis": MapAxis.from_bounds(0, 3, 8, unit="deg", name="offset"),
    }
    template = make_template(observations, exclusion_regions=regions, **axes)
    edges = np.geomspace(low * 1.001, 60, 100)
    predicted, expected = (
        predict(observations[0], _, edges).sum() for _ in (template, truth)
    )
    assert_allclose(predicted, expected, rtol=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_smooth_template_predicts_the_truth(method):
    observations, regions = get_fields("3d radec", "random")
    truth = observations[0].bkg
    template = make_template(
        observations, "3d", exclusion_regions=regions, smooth=method, **get_axes(truth)
    )
    predicted, expected = (predict(observations[0], _).sum() for _ in (template, truth))
    assert_allclose(predicted, expected, rtol=0.015 if method == "gauss" else 0.005)


@pytest.mark.slow
def test_few_counts_do_not_make_holes():
    """Gammapy interpolates the log, which a single empty bin turns into a hole."""
    irfs = make_truth("3d radec", rate=0.3)
    field = simulate_fields("3d radec")[0][0]
    pointing, tstart = field.pointing.fixed_icrs, field.tstart
    observations = [
        simulate_observation(_, pointing, tstart, irfs=irfs) for _ in range(20)
    ]
    template = make_template(observations, "3d", **get_axes(irfs["bkg"]))
    assert np.all(template.data > 0)
    assert_allclose(template.axes["energy"].edges[-1].to_value("TeV"), 100)

    predicted, expected = (
        predict(observations[0], _, radius=2.4).reshape(6, 4).sum(axis=1)
        for _ in (template, irfs["bkg"])
    )
    n_events = expected * len(observations)
    assert np.all(np.abs(predicted / expected - 1) < 3 / np.sqrt(n_events) + 0.05)


@pytest.mark.slow
def test_template_is_read_back_by_gammapy(tmp_path):
    observations, regions = get_fields("3d altaz", "random")
    regions = regions[:3]
    for dimension, cls in {"2d": Background2D, "3d": Background3D}.items():
        bkg = make_template(observations, dimension, exclusion_regions=regions)
        assert isinstance(bkg, cls)
        assert bkg.unit == u.Unit(UNIT)
        bkg.write(tmp_path / f"{dimension}.fits")
        other = cls.read(tmp_path / f"{dimension}.fits")

        assert_array_equal(other.data, bkg.data)
        assert other.unit == bkg.unit
        assert other.fov_alignment == bkg.fov_alignment
        for axis, read in zip(bkg.axes, other.axes, strict=True):
            assert_allclose(read.edges.to_value(axis.unit), axis.edges.value)
            assert_allclose(read.center.to_value(axis.unit), axis.center.value)
        obs_ids = [str(_.obs_id) for _ in observations]
        for meta in bkg.meta, other.meta:
            assert meta["OBS_IDS"].split(",") == obs_ids
            assert meta["N_OBS"] == N_OBS
            assert_allclose(meta["ONTIME"], N_OBS * 28 * 60)
            assert_allclose(meta["LIVETIME"], N_OBS * 28 * 60 * 0.9)
        assert_allclose(predict(observations[0], other), predict(observations[0], bkg))
    assert bkg.fov_alignment == FoVAlignment.ALTAZ  # "auto"


@pytest.mark.slow
def test_parts_can_be_added_in_any_order():
    observations, regions = get_fields("3d altaz", "random")
    axes = get_axes(observations[0].bkg)
    parts = [get_counts([_], regions, "ALTAZ", **axes) for _ in observations[:3]]
    forward = (parts[0] + parts[1] + parts[2]).to_irf()
    backward = (parts[2] + parts[1] + parts[0]).to_irf()
    assert_allclose(forward.data, backward.data)
    together = make_template(observations[:3], "3d", exclusion_regions=regions, **axes)
    assert_array_equal(together.data, forward.data)

    with pytest.raises(ValueError, match="would be counted twice"):
        parts[0] + parts[0]
    other = get_counts(observations[1:2], regions, "RADEC", **axes)
    with pytest.raises(ValueError, match="same bins"):
        parts[0] + other


@pytest.mark.slow
def test_single_observation_with_its_own_source(caplog):
    """The source hides a part of the FoV, which is filled with the same offset."""
    observations, regions = get_fields("3d radec", "same offset")
    observation = observations[4]
    events = observation.events.table.copy()
    fov_axis = MapAxis.from_bounds(-2.4, 2.4, 16, unit="deg", name="fov_lon")
    axes = {
        "energy_axis": MapAxis.from_energy_edges([0.6, 1, 2, 10] * u.TeV),
        "fov_lon_axis": fov_axis,
        "fov_lat_axis": fov_axis.copy(name="fov_lat"),
    }
    template = make_template(observation, "3d", exclusion_regions=regions[4:5], **axes)

    assert_array_equal(observation.events.table["RA"], events["RA"])
    messages = [_.message for _ in caplog.records if _.levelno == logging.WARNING]
    assert len(messages) == 1
    # 0.8 deg away, a circle of 0.8 deg hides up to 4 bins of 0.3 deg
    assert "of 768 bins, 95% or more masked" in messages[0]
    assert "fov_lon" in messages[0]

    counts = get_counts([observation], regions[4:5], **axes)
    masked = (counts.exposure[0] == 0).reshape(16, 16)
    assert 1 <= masked.sum() <= 4
    truth = evaluate_truth(observation.bkg, template.axes)
    filled = template.data[:, masked] / truth[:, masked]
    assert_allclose(filled[:2], 1, atol=0.25)


@pytest.mark.slow
def test_offset_without_exposure_is_interpolated(caplog):
    observations, _ = get_fields("2d", "random")
    regions = [
        CircleSkyRegion(_.pointing.fixed_icrs, 0.5 * u.deg) for _ in observations
    ]
    observations = [select_events(_, [0]) for _ in observations]
    template = make_template(observations, exclusion_regions=regions)
    truth = evaluate_truth(observations[0].bkg, template.axes)
    assert_allclose(template.data[1:4, :2], truth[1:4, :2], rtol=0.2)
    assert "36 of 190 bins" in caplog.text
    assert "offset 0 to 0.5 deg" in caplog.text


def change_threshold(observation, low, high=100):
    aeff = copy.deepcopy(observation.aeff)
    aeff.meta.update(LO_THRES=low, HI_THRES=high)
    return replace(observation, aeff=aeff)


@pytest.mark.slow
def test_only_energies_in_the_safe_range_count(caplog):
    observations = [select_events(_, [0]) for _ in simulate_fields("2d")[0]]
    truth = observations[0].bkg
    observations = [
        *(change_threshold(_, 0.75) for _ in observations[:5]),
        *(change_threshold(_, 2.5, 25) for _ in observations[5:]),
    ]
    # the widths are uneven, too
    edges = np.array([0.5, 0.7, 1, 2, 3, 10, 20, 40])
    axes = {
        "energy_axis": MapAxis.from_energy_edges(edges * u.TeV),
        "offset_axis": MapAxis.from_bounds(0, 3, 10, unit="deg", name="offset"),
    }
    counts = get_counts(observations, [], **axes)
    # a bin that a threshold divides is not used
    n_obs = np.array([0, 0, 5, 5, 8, 8, 5])
    assert_allclose(counts.livetime, n_obs * 28 * 60 * 0.9)
    assert_array_equal(counts.counts.sum(axis=1) > 0, n_obs > 0)

    template = make_template(observations, **axes)
    assert "2 of 7 energy bins, in the safe range of no observation" in caplog.text
    assert_allclose(template.axes["energy"].edges.value, edges[1:])
    fine = [0.75, *np.geomspace(1, 2, 9), *np.geomspace(2, 40, 25)[1:]]
    predicted, expected = (predict(observations[0], _, fine) for _ in (template, truth))
    error = 1 / np.sqrt(expected[1:].sum() * 5)
    assert_allclose(predicted[1:].sum(), expected[1:].sum(), rtol=3 * error)
    error = 1 / np.sqrt(expected[1:9].sum() * 5)
    assert_allclose(predicted[1:9].sum(), expected[1:9].sum(), rtol=3 * error)
    # extrapolated to the threshold
    assert_allclose(predicted[0], expected[0], rtol=0.05)

    caplog.clear()
    make_template(observations)
    assert caplog.text == ""


def test_no_thresholds_at_all():
    observation = replace(simulate_fields("2d")[0][0], aeff=None)
    assert np.all(get_counts([observation], []).livetime > 0)
    observation = change_threshold(simulate_fields("2d")[0][0], 0, 0)
    assert np.all(get_counts([observation], []).livetime > 0)


def test_exposure_is_the_livetime_of_the_good_time():
    observation = select_events(simulate_fields("2d")[0][0], [0])
    counts = get_counts([cut_gti(observation, [0, 15], [10, 24])], [])
    everything = get_counts([observation], [])

    assert_allclose(counts.livetime.max(), 19 * 60 * 0.9)
    assert_allclose(counts.meta["LIVETIME"], 19 * 60 * 0.9)
    n_all, n_good = (_.counts.sum() for _ in (everything, counts))
    assert_allclose(n_good / n_all, 19 / 28, rtol=0.02)

    part = copy.copy(observation)
    part.obs_filter = ObservationFilter(
        time_filter=observation.tstart + [5, 15] * u.min
    )
    counts = get_counts([part], [])
    assert_allclose(counts.livetime.max(), 10 * 60 * 0.9)
    assert_allclose(counts.counts.sum() / n_all, 10 / 28, rtol=0.02)


def test_observation_without_events_in_the_bins_is_named(caplog):
    observation = select_events(simulate_fields("2d")[0][0], [])
    get_counts([observation], [])
    get_counts([observation], [], "ALTAZ", fov_lon_axis=None)
    assert caplog.text.count(f"OBS_ID {observation.obs_id} has no events") == 2


GROUPS = {"ZEN_PNT": [0, 30, 49, 90]}


def make_table(**columns):
    n_rows = len(next(iter(columns.values())))
    return Table({"OBS_ID": np.arange(n_rows) + 1, **columns})


def test_group_labels(caplog):
    table = make_table(ZEN_PNT=[0, 29.9, 30, 48, 49, 89] * u.deg)
    assert_array_equal(make_group_labels(table, GROUPS), [0, 0, 1, 1, 2, 2])
    edges = [0, 0.5, 1.6] * u.rad
    labels = make_group_labels(table, {"ZEN_PNT": edges})
    assert_array_equal(labels, [0, 1, 1, 1, 1, 1])
    assert describe_group(GROUPS, 1) == "ZEN_PNT 30 to 49"
    assert caplog.text == ""

    table["MUONEFF"] = [0.5, 0.6, 0.9, 0.5, np.nan, 2]
    groups = GROUPS | {"MUONEFF": [0, 0.7, 1]}
    assert_array_equal(make_group_labels(table, groups), [0, 0, 3, 2, -1, -1])
    assert "2 of 6 observations are in no group" in caplog.text
    assert "OBS_ID 5, 6." in caplog.text
    assert describe_group(groups, 3) == "ZEN_PNT 30 to 49, MUONEFF 0.7 to 1"


def test_groups_of_azimuth_are_wrapped():
    table = make_table(AZ_PNT=[0, 89, 90, 269, 270, 359.9, -45.0] * u.deg)
    labels = make_group_labels(table, {"AZ_PNT": [-90, 90, 270]})
    assert_array_equal(labels, [0, 0, 1, 1, 0, 0, 0])


@pytest.mark.parametrize(
    ("groups", "match"),
    [
        ({}, "groups is empty"),
        ({"ZENITH": [0, 90]}, "no column 'ZENITH'"),
        ({"OBJECT": [0, 90]}, "'OBJECT' has no numbers"),
        ({"ZEN_PNT": [0]}, "2 or more finite numbers that increase"),
        ({"ZEN_PNT": [30, 0]}, "2 or more finite numbers that increase"),
    ],
)
def test_bad_groups(groups, match):
    table = make_table(ZEN_PNT=[10, 20] * u.deg, OBJECT=["Crab", "Vela"])
    with pytest.raises(ValueError, match=match):
        make_group_labels(table, groups)


@pytest.mark.slow
def test_one_template_for_each_group(caplog):
    observations = simulate_fields("2d")[0][:4]
    table = make_table(ZEN_PNT=[10, 40, 50, 20, 95] * u.deg)
    table["OBS_ID"] = [_.obs_id for _ in observations] + [999]
    templates = make_templates(observations, table, GROUPS, smooth="poly")

    assert list(templates) == [0, 1, 2]
    assert templates[0].meta["GROUP"] == "ZEN_PNT 0 to 30"
    obs_ids = [observations[_].obs_id for _ in (0, 3)]
    assert templates[0].meta["OBS_IDS"] == ",".join(map(str, obs_ids))
    expected = make_template([observations[_] for _ in (0, 3)], smooth="poly")
    assert_array_equal(templates[0].data, expected.data)

    with pytest.raises(ValueError, match="None of the 4 observations is in a group"):
        make_templates(observations, table, {"ZEN_PNT": [0, 1]})
    with pytest.raises(ValueError, match="is not in the observation table"):
        make_templates(observations, table[1:], GROUPS)


def test_select_livetime(caplog):
    livetimes = [0.5, 0.5, 0.25, 1] * u.h
    assert select_livetime(livetimes, None) == 4
    assert select_livetime(livetimes, "30 min") == 1
    assert select_livetime(livetimes, 31 * u.min) == 2
    assert select_livetime(livetimes, "2.25 h") == 4
    assert select_livetime([0.1] * 10 * u.h, "1 h") == 10
    assert caplog.text == ""
    assert select_livetime(livetimes, "3 h") == 4
    assert "time_request is 3.00 h, but there are 2.25 h in 4" in caplog.text

    with pytest.raises(ValueError, match="must be positive, got 0 h"):
        select_livetime(livetimes, "0 h")
    with pytest.raises(ValueError, match="no observations"):
        select_livetime([] * u.h, "1 h")


ENERGY_AXIS = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2)
ENERGY_TRUE = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2, name="energy_true")
OFFSET_AXIS = MapAxis.from_bounds(0, 2, 4, unit="deg", name="offset")
POINT = PointSkyRegion(SkyCoord(0, 0, unit="deg"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dimension": "1d"}, "dimension must be one of .*, got '1d'"),
        ({"smooth": "median"}, "smooth must be None or one of .*, got 'median'"),
        ({"smooth": "poly", "smooth_options": {"sigma": 1}}, "no option .'sigma'"),
        (
            {"smooth_options": {"sigma": 1}},
            r"smooth=None has no option \['sigma'\], choose",
        ),
        ({"fov_alignment": "REVERSE"}, "fov_alignment must be .*, got 'REVERSE'"),
        ({"energy_axis": ENERGY_TRUE}, "must have the name 'energy'"),
        ({"energy_axis": OFFSET_AXIS}, "must have the name 'energy', got 'offset'"),
        ({"energy_axis": OFFSET_AXIS.copy(name="energy")}, "unit like 'TeV'"),
        ({"dimension": "3d", "offset_axis": OFFSET_AXIS}, "not 'offset'"),
        ({"fov_lon_axis": OFFSET_AXIS}, "not 'fov_lon'"),
        (
            {"offset_axis": MapAxis.from_bounds(-1, 2, 4, unit="deg", name="offset")},
            "must lie between 0 and 90 deg, got -1 to 2 deg",
        ),
        ({"exclusion_regions": [POINT]}, "Invalid exclusion region"),
    ],
)
def test_bad_options(options, match):
    observations = simulate_fields("2d")[0]
    with pytest.raises(ValueError, match=match):
        make_template(observations, **options)


def test_bad_observations():
    observation = simulate_fields("2d")[0][0]
    with pytest.raises(ValueError, match="There are no observations"):
        make_template([])
    with pytest.raises(ValueError, match="would be counted twice"):
        make_template([observation, observation])

    no_location = remove_location(observation)
    with pytest.raises(ValueError, match="no observatory location"):
        make_template(no_location, "3d", fov_alignment="ALTAZ")
    assert make_template(no_location, "3d").meta["N_OBS"] == 1

    altaz = observation.get_pointing_altaz(observation.tmid)
    drift = replace(observation, pointing=FixedPointingInfo(fixed_altaz=altaz))
    with pytest.raises(ValueError, match=f"OBS_ID {drift.obs_id} .* DRIFT"):
        make_template(drift)


def test_nothing_to_make_a_template_of():
    observation = simulate_fields("2d")[0][0]
    low = MapAxis.from_energy_bounds("0.01 TeV", "0.2 TeV", nbin=3)
    with pytest.raises(ValueError, match=r"No bin has exposure between 0.01 and 0.2"):
        make_template(observation, energy_axis=low)
    whole = CircleSkyRegion(observation.pointing.fixed_icrs, 4 * u.deg)
    with pytest.raises(ValueError, match="No bin has exposure"):
        make_template(observation, exclusion_regions=[whole])
    with pytest.raises(ValueError, match="no events between 0.1 and 100 TeV"):
        make_template(select_events(observation, []))


@pytest.mark.slow
@pytest.mark.parametrize("dimension", ["2d", "3d"])
def test_hess_off_runs(hess_store, dimension):
    """Against the background IRFs that come with the runs."""
    obs_ids = need_runs(hess_store, "offdata")
    observations = hess_store.get_observations(obs_ids, required_irf=["aeff", "bkg"])
    # found since in the fields, or close to them
    sources = SkyCoord(
        [225.7, 201.37, 11.89, 64.22], [-41.9, -43.02, -25.29, 1.09], unit="deg"
    )
    template = make_template(
        observations,
        dimension,
        exclusion_regions=[CircleSkyRegion(_, RADIUS) for _ in sources],
        fov_alignment="ALTAZ",
    )
    assert template.meta["N_OBS"] == 45
    assert np.all(template.data > 0)
    # nothing is kept
    assert all(isinstance(get_hdu(_, "events"), HDULocation) for _ in observations)

    edges = np.geomspace(0.6, 20, 13)
    runs = observations[::6]
    predicted, expected = (
        sum(predict(run, bkg or run.bkg, edges, radius=2).sum() for run in runs)
        for bkg in (template, None)
    )
    assert_allclose(predicted, expected, rtol=0.2)
