"""Rates of templates: the shape, what it lacks, norms of runs, smoothing, and nodes."""

from functools import partial

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from gammapy.data import DataStore
from gammapy.datasets import MapDataset
from gammapy.irf import Background2D
from gammapy.maps import MapAxis, WcsGeom
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic.data.datastore import write_background
from gammapy_mimic.data.meta_tables import stack_dataset
from gammapy_mimic.data.template_irfs import NEFF_ENERGIES, make_template_columns
from gammapy_mimic.simulate.irfs import energy_threshold
from gammapy_mimic.template import TemplateBins
from gammapy_mimic.template import make_template as template_of_observations
from gammapy_mimic.template.nodes import make_nodes
from gammapy_mimic.template.norms import fit_norms
from gammapy_mimic.template.poisson import fit_log_linear
from gammapy_mimic.template.posterior import fit_posterior
from gammapy_mimic.template.rate import add_slope, estimate_rate
from gammapy_mimic.template.smoothing import check_smooth, smooth_ratio

from .helpers import replace
from .template_toys import compare_rings, get_rate, make_runs, make_template

METHODS = ["gauss", "poly", "spline"]
slow = pytest.mark.slow
EDGES = np.geomspace(0.422, 100, 20)  # in the safe range


def draw(expected, seed):
    rng = np.random.default_rng(seed)
    return [rng.poisson(_) for _ in expected]


# --------------------------------------------------------------------------- closure


@pytest.mark.parametrize("smooth", [None, *METHODS])
@pytest.mark.parametrize("width", [0.8, 1.2])
@pytest.mark.parametrize("dimension", ["2d", pytest.param("3d", marks=slow)])
def test_noise_free_counts_give_the_rate(dimension, width, smooth):
    bins, expected, exposures = make_runs(dimension, 1e6, width=width)
    template = make_template(bins, expected, exposures, smooth=smooth)
    truth = partial(get_rate, width=width)
    assert_allclose(compare_rings(template, truth, EDGES), 1, atol=0.002)


@pytest.mark.parametrize(
    "smooth", [None, "gauss", *(pytest.param(_, marks=slow) for _ in METHODS[1:])]
)
@pytest.mark.parametrize("n_events", [500, 2000, 7000, 30_000])
@pytest.mark.parametrize("dimension", ["2d", pytest.param("3d", marks=slow)])
def test_few_counts_do_not_bend_a_template(dimension, n_events, smooth):
    """Empty bins were raised and rescaled: -14% for 500 events, -8% for 2000 (3D)."""
    width = 0.8
    bins, expected, exposures = make_runs(dimension, n_events, width=width)
    truth = partial(get_rate, width=width)
    ratios = []
    for seed in range(30 if dimension == "2d" else 8):
        template = make_template(bins, draw(expected, seed), exposures, smooth=smooth)
        assert np.all(template.data > 0)
        ratios.append(compare_rings(template, truth, EDGES))
    ratios = np.array(ratios)
    error = ratios.std(axis=0, ddof=1) / np.sqrt(len(ratios))
    allowed = 0.025 if n_events < 7000 else 0.015
    assert np.all(np.abs(ratios.mean(axis=0) - 1) < np.maximum(allowed, 2.5 * error))


@pytest.mark.parametrize("dimension", ["2d", pytest.param("3d", marks=slow)])
def test_a_run_may_leave_at_its_threshold(dimension):
    """The rates of two zenith angles made a step of 20% where one has its threshold."""
    zeniths = 25, 40
    bins, expected, exposures = make_runs(dimension, 1e6, zeniths, width=1.2)
    template = make_template(bins, expected, exposures)
    edges = bins.energy_edges
    low, high = (edges[edges >= energy_threshold(_)][0] for _ in zeniths)

    def truth(energy, offset):
        rate = get_rate(energy, offset, zenith=33, width=1.2)
        return rate / np.minimum(energy / energy_threshold(33), 1) ** 4

    below, above = (
        compare_rings(template, truth, np.geomspace(*_, 6), np.array([0, 2]))
        for _ in ((low, high), (high, 50))
    )
    assert_allclose(below / above, 1, atol=0.01)


def compare_rates(expected, exposures, bins, reference, **options):
    """Rate of a template over that of a reference, by energy."""
    args = [(bins, _, exposures) for _ in (expected, reference)]
    rates = [make_template(*_, **options).data.sum(axis=1) for _ in args]
    return rates[0] / rates[1]


@pytest.mark.parametrize(
    ("factors", "ranges"),
    [
        ([1, 2], [(0.4, 10), (0.4, 100)]),
        ([1.3, 1, 1, 0.7], [(0.4, 24), (0.4, 42), (0.4, 75), (0.4, 100)]),
        ([1, 3], [(0.4, 100), (1, 100)]),
        # one without any event
        ([1, 0, 1], [(0.4, 100), (0.8, 100), (0.4, 100)]),
    ],
)
def test_runs_count_by_their_livetime(factors, ranges):
    """Whatever the energies of their safe ranges are, and how bright they are."""
    zeniths = (20,) * len(ranges)
    bins, expected, exposures = make_runs("2d", 1e6, zeniths, ranges=ranges, width=1)
    bright = [_ * factor for _, factor in zip(expected, factors, strict=True)]
    ratio = compare_rates(bright, exposures, bins, expected)
    assert_allclose(ratio[1:-1], np.mean(factors), rtol=0.01)


@pytest.mark.parametrize("ranges", [[(0.4, 100), (10, 100)], [(0.4, 3.1), (3.2, 100)]])
def test_norms_of_equal_runs_add_no_noise(ranges):
    bins, expected, exposures = make_runs("2d", 3000, (20, 20), ranges=ranges, width=1)
    ratios = [
        compare_rates(draw(expected, seed), exposures, bins, expected)[1:10]
        for seed in range(20)
    ]
    assert_allclose(np.mean(ratios, axis=0), 1, atol=0.06)
    assert np.std(ratios, axis=0).mean() < 0.09


def test_a_bright_run_with_a_lower_threshold():
    """The tilts of the others, of few events, are not taken down to its energies."""
    ranges = [(0.4, 100)] + [(2, 100)] * 9
    bins, expected, exposures = make_runs("2d", 3000, (20,) * 10, ranges=ranges)
    factors = [100, *[1] * 9]
    bright = [_ * factor for _, factor in zip(expected, factors, strict=True)]
    scale = 3000 / np.sum(bright)
    bright = [scale * _ for _ in bright]
    ratios = [
        compare_rates(draw(bright, seed), exposures, bins, expected)[1:12]
        for seed in range(12)
    ]
    ratios = np.array(ratios) / (scale * np.mean(factors))
    assert_allclose(ratios.mean(axis=0), 1, atol=0.08)


def test_runs_without_common_energies_are_told(caplog):
    ranges = [(0.4, 3.1), (3.2, 100)]
    bins, expected, exposures = make_runs("2d", 3000, (20, 20), ranges=ranges)
    make_template(bins, expected, exposures)
    assert "2 groups, of [1, 1] observations" in caplog.text


@pytest.mark.parametrize(
    "smooth",
    [None, "poly", *(pytest.param(_, marks=slow) for _ in ("gauss", "spline"))],
)
def test_energies_with_few_counts_are_not_raised(smooth):
    """The sum of one event at an energy was taken for the rate, none was not."""
    bins, expected, exposures = make_runs("2d", 500, width=1)
    ratios = [
        compare_rates(draw(expected, seed), exposures, bins, expected, smooth=smooth)
        for seed in range(40)
    ]
    # 3.2 to 18 TeV
    high = np.array(ratios)[:, 8:14]
    error = high.mean(axis=1).std(ddof=1) / np.sqrt(len(ratios))
    assert abs(high.mean() - 1) < max(3 * error, 0.05)


@pytest.mark.parametrize("smooth", [None, *METHODS])
@pytest.mark.parametrize("n_bins", [(1, 1), (1, 4), (3, 1)])
def test_axes_of_one_bin(n_bins, smooth):
    axes = {
        name: MapAxis.from_bounds(-2, 2, n, unit="deg", name=name)
        for name, n in zip(("fov_lon", "fov_lat"), n_bins, strict=True)
    }
    bins, expected, exposures = make_runs("3d", 3000, axes=axes, width=1)
    template = make_template(bins, draw(expected, 1), exposures, smooth=smooth)
    assert np.all(np.isfinite(template.data))
    assert np.all(template.data > 0)


@pytest.mark.parametrize("dimension", ["2d", pytest.param("3d", marks=slow)])
@pytest.mark.parametrize("n_events", [1, 3])
def test_a_few_events_make_no_peaks(dimension, n_events):
    bins, expected, exposures = make_runs(dimension, 1e6, width=1)
    counts = np.zeros(expected[0].shape)
    rng = np.random.default_rng(2)
    flat = rng.choice(counts.size, n_events, p=(expected[0] / 1e6).ravel())
    np.add.at(counts.ravel(), flat, 1)
    template = make_template(bins, [counts], exposures)
    truth = make_template(bins, expected, exposures)
    ratio = template.data / truth.data * 1e6 / n_events
    assert np.quantile(ratio, 0.9) < 30


@pytest.mark.parametrize(
    ("method", "options", "match"),
    [
        ("gauss", {"sigma": "-1 deg"}, "sigma must be an angle .* got '-1 deg'"),
        ("gauss", {"sigma": "nan deg"}, "sigma must be an angle .* got 'nan deg'"),
        ("gauss", {"sigma": 0.2}, "sigma must be an angle .* got 0.2"),
        ("gauss", {"sigma": "1 TeV"}, "sigma must be an angle .* got '1 TeV'"),
        (
            "poly",
            {"degree": 2.5},
            "degree must be .* from 1 to 10, got 2.5",
        ),
        ("poly", {"degree": 30}, "degree must be a whole number .* got 30"),
        ("spline", {"n_intervals": 0}, "n_intervals must be a whole number .* got 0"),
        ("gauss", "sigma", "smooth_options must be a dict, .* got 'sigma'"),
        (None, {"sigma": "1 deg"}, "smooth=None has no option .'sigma'.*choose from"),
    ],
)
def test_bad_options_of_smoothing(method, options, match):
    with pytest.raises(ValueError, match=match):
        check_smooth(method, options)


def test_holes_in_all_runs_have_the_mean_shape():
    """A region that all runs mask is neither empty nor a peak."""
    bins = TemplateBins.create("3d")
    hole = np.hypot(*(bins.position - np.array([[0.9], [0.4]]))) < 0.5
    mask = hole.astype(float)
    bins, expected, exposures = make_runs("3d", 2e4, (20,) * 3, [mask] * 3, width=1)
    template = make_template(bins, draw(expected, 1), exposures)
    _, full, _ = make_runs("3d", 2e4, width=1)
    truth = full[0].sum(axis=0).reshape(20, 20)
    edges = template.axes["energy"].edges.to_value("TeV")
    start = np.argmin(np.abs(bins.energy_edges - edges[0])) + 1
    widths = np.diff(bins.energy_edges)[start:]
    found = np.einsum("e,exy->xy", widths, template.data[1:])
    ratio = (found * bins.solid_angle.reshape(20, 20) / truth).ravel()
    near = (bins.offset < 1.5) & ~hole
    assert_allclose(ratio[hole].mean() / ratio[near].mean(), 1, atol=0.03)
    assert np.ptp(ratio[hole]) < 0.15 * ratio[near].mean()


@pytest.mark.parametrize("dimension", ["2d", pytest.param("3d", marks=slow)])
def test_a_source_that_is_excluded_in_all_wobbles(dimension):
    """Counts and solid angle are cut alike: its place is that of any other."""
    bins = TemplateBins.create(dimension)
    angles = np.arange(4) * np.pi / 2
    if bins.is_3d:
        places = 0.7 * np.array([np.cos(angles), np.sin(angles)])
        masks = [np.hypot(*(bins.position - _[:, np.newaxis])) < 0.4 for _ in places.T]
    else:
        # a quarter of the rings
        masks = [0.25 * (np.abs(bins.offset - 0.7) < 0.4)] * 4
    masks = [_.astype(float) for _ in masks]
    bins, expected, exposures = make_runs(dimension, 3e4, (20,) * 4, masks, width=1.0)
    # one is twice as bright
    expected[0] = 2 * expected[0]
    full = make_runs(dimension, 3e4, (20,), width=1.0)[1][0]
    where = np.any(masks, axis=0)
    ratios = []
    for seed in range(8 if dimension == "2d" else 4):
        template = make_template(bins, draw(expected, seed), exposures)
        edges = template.axes["energy"].edges.to_value("TeV")
        start = np.argmin(np.abs(bins.energy_edges - edges[0])) + 4
        rate = template.data[4:].reshape(-1, where.size) * bins.solid_angle
        rate = rate * bins.energy_width[start:]
        truth = full[start:]
        near = (bins.offset < 1.5) & ~where
        ratios.append(
            rate[:, where].sum()
            / truth[:, where].sum()
            / (rate[:, near].sum() / truth[:, near].sum())
        )
    error = np.std(ratios, ddof=1) / np.sqrt(len(ratios))
    assert abs(np.mean(ratios) - 1) < max(2.5 * error, 0.01)


@pytest.mark.parametrize("n_events", [500, 30_000])
@pytest.mark.parametrize("smooth", [None, "gauss"])
def test_effective_counts_tell_the_precision(smooth, n_events):
    bins, (expected,), ((livetime, area),) = make_runs("2d", n_events, width=1)
    used = livetime > 0
    exposure = np.outer(livetime, area) * bins.energy_width
    bins = bins.slice_energy(np.flatnonzero(used)[0], len(used))
    moment = np.zeros((1, *expected[used].shape))
    pulls = []
    for seed in range(30):
        counts = draw([expected[used]], seed)[0]
        rate, ratio, variance = estimate_rate(
            counts, exposure[used], moment, bins, smooth
        )
        deviation = np.log(rate * ratio * exposure[used] / expected[used])
        weights = expected[used] * (bins.offset < 2.2)
        pulls.append(np.average(deviation**2 / variance, weights=weights))
    assert 0.5 < np.mean(pulls) < 1.3


# ------------------------------------------------------------------------------ parts


def test_log_linear_fit_keeps_the_sum_and_finds_the_width():
    rng = np.random.default_rng(5)
    terms, groups = rng.normal(size=(4000, 40)), np.repeat([0, 1], 20)
    coefficients = np.r_[rng.normal(0, 0.3, 20), np.zeros(20)]
    expected = rng.uniform(1, 5, 4000)
    counts = rng.poisson(expected * np.exp(terms @ coefficients))
    fit = fit_log_linear(counts, expected, terms, groups)
    assert_allclose((expected * np.exp(fit.log_factor)).sum(), counts.sum(), rtol=1e-6)
    found = np.linalg.lstsq(terms, fit.log_factor, rcond=None)[0]
    error = np.sqrt(np.diag(fit.covariance))[1:]
    assert np.mean(((found - coefficients)[:20] / error[:20]) ** 2) < 2
    # what is not there is held at zero
    assert np.abs(found[20:]).max() < 0.5 * error[:20].mean()


@given(
    counts=arrays(int, (4, 10), elements=st.integers(0, 1000)),
    expected=arrays(float, (4, 10), elements=st.sampled_from([0, 0.1, 1, 30])),
)
def test_posterior_keeps_the_sum_and_the_sign(counts, expected):
    counts = counts * (expected > 0)
    if not counts.any():
        return
    posterior = fit_posterior(counts, expected)
    assert np.all(posterior.ratio > 0)
    assert_allclose((posterior.ratio * expected).sum(), counts.sum())
    assert np.all(posterior.add_to(np.full(counts.shape, 0.1)) > 0)


def test_posterior_takes_what_the_counts_tell():
    rng = np.random.default_rng(3)
    expected = np.full(5000, 20.0)
    same = fit_posterior(rng.poisson(expected), expected)
    assert np.std(same.ratio) < 0.05
    truth = rng.gamma(1 / 0.3**2, 0.3**2, 5000)
    found = fit_posterior(rng.poisson(expected * truth), expected)
    assert_allclose(np.mean((found.ratio - truth) ** 2), 1 / (20 + 1 / 0.09), rtol=0.1)
    assert_allclose(found.variance.mean(), 1 / (20 + 1 / 0.09), rtol=0.1)


def test_norms_and_tilts_of_runs():
    energy = np.geomspace(0.3, 50, 20)
    norms, tilts = np.array([0.7, 1.4, 1.0]), np.array([0.1, -0.1, 0])
    livetime = np.ones((3, 20))
    livetime[1, :4] = 0
    livetime[2, :8] = 0
    area = np.ones((3, 6))
    area[0, :2] = 0.2
    factor = norms[:, np.newaxis] * energy ** tilts[:, np.newaxis]
    spectrum, shape = 1e6 * energy**-1.7, np.linspace(2, 1, 6)
    spectra = factor * livetime * spectrum * (area @ shape)[:, np.newaxis]
    positions = ((factor * livetime * spectrum).sum(axis=1) @ area) * shape
    found = fit_norms(spectra, positions, livetime, area, np.log(energy))
    assert_allclose(found.mean(axis=0), 1)
    assert_allclose(found, factor / factor.mean(axis=0), rtol=0.01)


def test_norms_do_not_matter_where_runs_have_one_exposure():
    spectra = np.random.default_rng(1).poisson(10, (4, 5))
    livetime = np.outer([1, 2, 3, 4], np.ones(5))
    norms = fit_norms(
        spectra, spectra.sum(axis=1), livetime, np.ones((4, 4)), np.arange(5)
    )
    assert np.all(norms == 1)


def test_nodes_have_the_integral_of_the_mean_rate():
    """With Gammapy's own interpolation and integration, in very wide bins."""
    energy_axis = MapAxis.from_energy_bounds("1 TeV", "100 TeV", nbin=4)
    offset_axis = MapAxis.from_bounds(0, 2.5, 5, unit="deg", name="offset")
    bins = TemplateBins([energy_axis, offset_axis])
    low, high = bins.energy_edges[:-1], bins.energy_edges[1:]
    spectrum = (low**-1.7 - high**-1.7) / 1.7 / (high - low)
    edges = np.radians(bins.position_edges[0])
    width = np.radians(1.3)
    profile = -np.diff(np.exp(-(edges**2) / 2 / width**2)) * width**2 * 2 * np.pi
    rate = np.outer(spectrum, profile / bins.solid_angle)
    exposure = 1e8 * bins.energy_width * bins.solid_angle

    nodes = make_nodes(rate, np.ones(rate.shape), exposure, bins.axes)
    bkg = Background2D(bins.axes, nodes, unit="s-1 TeV-1 sr-1")
    fine = np.geomspace(1, 100, 401)[:, np.newaxis] * u.TeV
    offset = (np.arange(1000) + 0.5) / 1000 * 2.5
    # as MapDatasetMaker does
    total = bkg.pad(1, mode="edge", axis_name="offset").integrate_log_log(
        axis_name="energy", energy=fine, offset=offset[np.newaxis] * u.deg
    )
    ring = 2 * np.pi * np.sin(np.radians(offset)) * np.radians(2.5 / 1000)
    total = total.to_value("s-1 sr-1") * ring
    # beyond the last centre it goes on flat
    total = total.reshape(4, 100, 5, 200).sum(axis=(1, 3))[:, :4]
    wanted = (rate * bins.energy_width * bins.solid_angle)[:, :4]
    assert_allclose(total, wanted, rtol=0.01)
    # the spectrum is a power law, of which the mean is above the value at the centre
    assert np.all(rate.sum(axis=1) > 1.05 * nodes.sum(axis=1))


def test_partly_masked_bin_has_the_mean_rate_of_the_whole():
    """The part that is left is not at the centre of the bin."""
    edges = np.linspace(0, 3, 7)

    def integrate(low, high):
        return (np.exp(-0.8 * low) - np.exp(-0.8 * high)) / 0.8

    exposure = np.full((2, 6), 0.5)
    counts = np.array([integrate(edges[:-1], edges[1:])] * 2)
    rate = counts / exposure
    moment = np.zeros((1, 2, 6))
    # one half of a bin is masked
    exposure[0, 3], counts[0, 3], moment[0, 0, 3] = 0.25, integrate(1.5, 1.75), -1 / 32
    assert counts[0, 3] / exposure[0, 3] > 1.09 * rate[0, 3]
    weighted = add_slope(exposure, moment, rate, [edges])
    assert_allclose(counts / weighted, rate, rtol=0.01)


# -------------------------------------------------------------------------- smoothing


def make_smooth_input(dimension="2d"):
    bins = TemplateBins.create(dimension)
    sigma = np.linspace(1.1, 1.4, 24)[:, np.newaxis]
    shape = np.exp(-(bins.offset**2) / 2 / sigma**2) * bins.solid_angle
    return bins, shape / shape.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("dimension", ["2d", pytest.param("3d", marks=slow)])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_expected_stays_whatever_the_exposure(method, dimension):
    bins, shape = make_smooth_input(dimension)
    exposure = np.random.default_rng(1).uniform(0.1, 1, shape.shape)
    exposure[:, 3] = 0
    expected = 500 * shape * exposure
    ratio = smooth_ratio(expected, expected, bins.position, method).ratio
    assert_allclose(ratio, 1, rtol=1e-3)


@pytest.mark.parametrize("method", METHODS)
@given(
    counts=arrays(int, (4, 10), elements=st.integers(0, 1000)),
    expected=arrays(float, (4, 10), elements=st.sampled_from([0, 0.1, 1, 30])),
)
def test_smoothing_keeps_the_sum_and_the_sign(method, counts, expected):
    counts = counts * (expected > 0)
    if not counts.any():
        return
    position = np.linspace(0.1, 2.4, 10)[np.newaxis]
    ratio = smooth_ratio(counts, expected, position, method).ratio
    assert np.all(ratio > 0)
    assert np.all(np.isfinite(ratio))
    assert_allclose((ratio * expected).sum(), counts.sum())


@pytest.mark.parametrize("dimension", ["2d", pytest.param("3d", marks=slow)])
@pytest.mark.parametrize("method", METHODS)
def test_smoothing_brings_few_counts_closer_to_the_truth(method, dimension):
    bins, shape = make_smooth_input(dimension)
    n_counts = 200 if dimension == "2d" else 2000
    truth = 1 + 0.2 * np.sin(bins.position[0] * 2)
    expected = shape * n_counts
    counts = np.random.default_rng(2).poisson(expected * truth)
    smooth = smooth_ratio(counts, expected, bins.position, method).ratio * expected
    rms, rms_smooth = (np.std(_ - truth * expected) for _ in (counts, smooth))
    assert rms_smooth < (0.8 if dimension == "2d" else 0.5) * rms


# ------------------------------------------------------------------- effective counts


@pytest.mark.parametrize("dimension", ["2d", "3d"])
def test_effective_counts_are_written_and_read(stores, tmp_path, dimension):
    off = stores["off"].get_observations([101, 102])
    template = template_of_observations(off, dimension)
    assert template.neff.shape == template.data.shape
    assert np.all(template.neff > 0)
    template.write(tmp_path / "template.fits")
    read = type(template).read(tmp_path / "template.fits", hdu="BACKGROUND")
    assert_allclose(read.neff, template.neff)
    write_background(stores["targets"], tmp_path / "store", {1: template})
    observation = DataStore.from_dir(tmp_path / "store").obs(1, ["bkg"])
    counts = make_template_columns(observation)["BKG_NEFF"]
    # Gammapy reads the rate, for the dead time of the target, and not them
    ratio = observation.bkg.data / template.data
    assert_allclose(ratio, ratio.flat[0])
    in_memory = make_template_columns(replace(observation, bkg=template))
    assert_allclose(counts, in_memory["BKG_NEFF"])
    edges = template.axes["energy"].edges.to_value("TeV")
    inside = (edges[0] < NEFF_ENERGIES) & (edges[-1] > NEFF_ENERGIES)
    assert_array_equal(counts > 0, inside)
    for other in (stores["off"].obs(101), None):
        columns = make_template_columns(other)
        assert columns["BKG_N_OBS"] == 0
        assert np.all(np.isnan(columns["BKG_NEFF"]))


def test_effective_counts_of_stacked_datasets():
    counts = np.arange(48.0).reshape(2, 24)
    tables = [
        Table({"OBS_ID": [1], "BKG_NEFF": counts[:1]}),
        Table({"OBS_ID": [2], "BKG_NEFF": counts[1:]}),
        Table({"OBS_ID": [3]}),
    ]
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=1)
    geom = WcsGeom.create(npix=1, axes=[axis])
    stacked, *others = (MapDataset.create(geom, meta_table=_) for _ in tables)
    for dataset in others:
        stack_dataset(stacked, dataset)
    table = stacked.meta_table
    assert table["OBS_ID"][0].tolist() == [1, 2, 3]
    found = np.reshape(table["BKG_NEFF"], (3, -1))
    assert_array_equal(found[:2], counts)
    assert np.all(np.isnan(found[2]))
