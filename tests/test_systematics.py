import contextlib
import itertools
import re
from functools import partial

import astropy.units as u
import numpy as np
import pytest
from astropy.convolution import Tophat2DKernel
from astropy.coordinates import SkyCoord
from astropy.table import Table
from gammapy.data import DataStore
from gammapy.datasets import (
    Datasets,
    MapDataset,
    SpectrumDataset,
    SpectrumDatasetOnOff,
)
from gammapy.estimators import ExcessMapEstimator
from gammapy.irf import EDispKernelMap, PSFMap
from gammapy.makers import (
    DatasetsMaker,
    FoVBackgroundMaker,
    MapDatasetMaker,
    RingBackgroundMaker,
    SafeMaskMaker,
)
from gammapy.maps import Map, MapAxis, RegionGeom, RegionNDMap, WcsGeom
from gammapy.modeling import Fit
from gammapy.modeling.models import FoVBackgroundModel, PowerLawNormSpectralModel
from gammapy.stats import WStatCountsStatistic
from numpy.testing import assert_allclose
from scipy import stats
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from gammapy_mimic import MimicMaker
from gammapy_mimic.data import write_datastore
from gammapy_mimic.estimators import (
    MimicSystematics,
    MimicSystematicsEstimator,
    make_bias_map,
    systematics,
)
from gammapy_mimic.estimators.checks import get_off_obs_ids, get_repetition
from gammapy_mimic.estimators.maximum import tabulate_maximum
from gammapy_mimic.estimators.measurement import (
    measure_maps,
    measure_offset,
    snap_energy_edges,
)
from gammapy_mimic.makers import get_center
from gammapy_mimic.simulate import make_irfs, simulate_observations

CENTER = SkyCoord(83.6, -22, unit="deg")
N_EVENTS = 100_000  # of a set: 20 observations of 5000
EDGES = [1, 2.154, 10] * u.TeV
GRADIENT = 0.025  # per deg, 10% over a field of view of 4 deg
TILT = 0.05


# Observations whose true background is known


def make_geom(n_energies=1, binsz=0.05):
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=n_energies)
    return WcsGeom.create(skydir=CENTER, width=5, binsz=binsz, proj="TAN", axes=[axis])


def get_fov(geom, pointing):
    """Position to the east and north of a pointing, in deg."""
    position = geom.to_image().get_coord().skycoord
    lon, lat = pointing.spherical_offsets_to(position.icrs)
    return lon.deg, lat.deg


class Field:
    """Expected background of the observations of a set, one for each pointing."""

    def __init__(self, n_obs=4, n_energies=1, binsz=0.05, n_events=N_EVENTS):
        self.geom = make_geom(n_energies, binsz)
        angles = np.arange(n_obs) * 360 / n_obs * u.deg
        self.pointings = [CENTER.directional_offset_by(_, 0.5 * u.deg) for _ in angles]
        edges = self.geom.axes["energy"].edges.value
        spectrum = -np.diff(edges**-1.7)[:, np.newaxis, np.newaxis]
        self.fov = [get_fov(self.geom, _) for _ in self.pointings]
        self.background = []
        for lon, lat in self.fov:
            offset = np.hypot(lon, lat)
            values = spectrum * np.exp(-(offset**2) / 2 / 1.3**2) * (offset < 2)
            self.background.append(values * n_events / n_obs / values.sum())

    def get_truth(self, idx, gradient=0, tilt=0, norm=1):
        """Background of an observation that its model does not know."""
        energy = self.geom.axes["energy"].center.value[:, np.newaxis, np.newaxis]
        systematic = norm * (1 + gradient * self.fov[idx][0]) * energy**-tilt
        return self.background[idx] * systematic

    def simulate(self, rng, off_obs_id=0, maker=None, **systematic):
        """Datasets of one set, with the FoV background."""
        datasets = []
        for idx in range(len(self.pointings)):
            counts = rng.poisson(self.get_truth(idx, **systematic))
            datasets.append(self.make_dataset(idx, counts, off_obs_id + idx, maker))
        return Datasets(datasets)

    def make_dataset(self, idx, counts, off_obs_id=0, maker=None):
        background, pointing = self.background[idx], self.pointings[idx]
        dataset = MapDataset(
            counts=Map.from_geom(self.geom, data=counts.astype(float)),
            background=Map.from_geom(self.geom, data=background),
            mask_safe=Map.from_geom(self.geom, data=background > 0),
            meta_table=Table(
                {
                    "OBS_ID": [idx],
                    "RA_PNT": [pointing.ra.deg],
                    "DEC_PNT": [pointing.dec.deg],
                    "OFF_OBS_ID": [off_obs_id],
                }
            ),
            name=f"obs_{idx}_{off_obs_id}",
        )
        if maker is not None:
            return maker.run(dataset)
        model = FoVBackgroundModel(dataset_name=dataset.name)
        scale = counts.sum() / background.sum()
        model.spectral_model.norm.value = scale
        model.spectral_model.norm.error = scale / np.sqrt(counts.sum())
        dataset.models = [model]
        return dataset

    def stack(self, counts, is_true=False, **systematic):
        """One dataset of a set, from the counts of its observations."""
        total = 0
        for idx, (values, background) in enumerate(
            zip(counts, self.background, strict=True)
        ):
            truth = self.get_truth(idx, **systematic)
            total += truth if is_true else background * values.sum() / background.sum()
        pointings = SkyCoord(self.pointings)
        return MapDataset(
            counts=Map.from_geom(self.geom, data=sum(counts).astype(float)),
            background=Map.from_geom(self.geom, data=total),
            mask_safe=Map.from_geom(self.geom, data=total > 0),
            meta_table=Table(
                {"RA_PNT": pointings.ra.deg, "DEC_PNT": pointings.dec.deg}
            ),
        )

    def simulate_stacked(self, rng, **systematic):
        counts = [
            rng.poisson(self.get_truth(idx, **systematic))
            for idx in range(len(self.pointings))
        ]
        return Datasets([self.stack(counts)])


def simulate_sets(field, seed, n_sets=5, **options):
    """Sets of single observations, no OFF observation twice."""
    rng = np.random.default_rng(seed)
    return [
        field.simulate(rng, off_obs_id=100 * (idx + 1), **options)
        for idx in range(n_sets)
    ]


def simulate_stacked(field, seed, n_sets=5, **options):
    rng = np.random.default_rng(seed)
    return [field.simulate_stacked(rng, **options) for _ in range(n_sets)]


def draw_random_field(field, rng, radius):
    """Draw a Gaussian random field, as smooth as the correlation circle is wide.

    Its mean square in the circle, with the weights of many counts, is 1.
    """
    background = field.background[0][0]
    n_pixels = radius / np.mean(field.geom.pixel_scales.deg)
    noise = rng.normal(size=background.shape)
    noise = gaussian_filter(noise, n_pixels, mode="wrap")
    kernel = Tophat2DKernel(n_pixels).array
    inside, excess = (
        fftconvolve(_, kernel, mode="same") for _ in (background, background * noise)
    )
    valid = inside > 1e-3 * inside.max()
    inside, excess = inside[valid], excess[valid]
    excess = excess - inside * np.sum(excess) / np.sum(inside)
    return noise * np.sqrt(np.sum(inside**2) / np.sum(excess**2))


def simulate_random_sets(field, rng, fraction, radius, n_sets=5, is_same=False):
    """Sets of one observation with a systematic error of the scale of the circle."""
    noise, sets = None, []
    for idx in range(n_sets):
        if noise is None or not is_same:
            noise = draw_random_field(field, rng, radius)
        truth = field.background[0] * np.maximum(1 + fraction * noise, 0)
        sets.append(Datasets([field.make_dataset(0, rng.poisson(truth), idx)]))
    return sets


def get_total(result, name="systematics"):
    """Row of all energies and all offsets."""
    return result.select(name)[0]


# Closure: what was planted is found


@pytest.fixture(scope="module")
def no_systematic():
    """Results of 40 seeds, of 5 sets and a target of 100,000 events."""
    with few_random_maps():
        return make_results_of_no_systematic()


@contextlib.contextmanager
def few_random_maps(n_maps=200):
    """Compare the largest significance of targets with few maps, as time allows."""
    with pytest.MonkeyPatch.context() as patch:
        function = partial(tabulate_maximum, n_maps=n_maps)
        patch.setattr(systematics, "tabulate_maximum", function)
        yield


def make_results_of_no_systematic():
    field, results = Field(), []
    positions = {
        "0.1 deg": CENTER.directional_offset_by(30 * u.deg, 1.5 * u.deg),
        "0.2 deg": CENTER,
    }
    for seed in range(40):
        *sets, target = simulate_stacked(field, seed, n_sets=6)
        for radius, position in positions.items():
            estimator = MimicSystematicsEstimator(radius, position=position, radii=None)
            results.append((radius, estimator.run(sets, target)))
    return {key: [_ for name, _ in results if name == key] for key in positions}


@pytest.mark.slow
@pytest.mark.parametrize("radius", ["0.1 deg", "0.2 deg"])
def test_no_systematic(no_systematic, radius):
    """The square of f is 0 on average, and its limits hold."""
    rows = [get_total(_) for _ in no_systematic[radius]]
    values = np.array([row["f_squared"] for row in rows])
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    # an interval of 68% begins above 0 by chance in 16%
    assert np.mean([row["f_lo"] > 0 for row in rows]) < 0.35
    # of counts alone, errors are those of the scatter
    errors = [row["f_squared_err"] for row in rows]
    assert_allclose(np.mean(errors), np.std(values), rtol=0.3)
    limit = {"0.1 deg": 0.017, "0.2 deg": 0.0135}[radius]
    assert np.median([row["f_ul"] for row in rows]) < limit


@pytest.mark.slow
@pytest.mark.parametrize("radius", ["0.1 deg", "0.2 deg"])
def test_calibrated_significance_is_a_unit_normal(no_systematic, radius):
    rows = [get_total(_, "position") for _ in no_systematic[radius]]
    assert stats.kstest([row["calibrated"] for row in rows], "norm").pvalue > 0.01
    rng = np.random.default_rng(0)
    # the p-value has steps of 1 / (1 + n)
    p_values = [row["p_value"] - rng.uniform() / (1 + row["n_sample"]) for row in rows]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    # noise alone, with a spread that is 0 or above
    width = np.array([row["mimic_width"] for row in rows])
    assert np.all(width >= 0.99)
    assert np.mean(width) < 1.1
    # and it is never larger than it was
    for row in rows:
        assert row["calibrated"] <= max(row["significance"], 0)


@pytest.mark.slow
def test_maximum_of_no_systematic(no_systematic):
    """The norm takes something from it, which makes p-values larger, if anything."""
    p_values = [get_total(_, "maximum")["p_value"] for _ in no_systematic["0.1 deg"]]
    assert stats.kstest(p_values, "uniform", alternative="greater").pvalue > 0.01
    assert 0.35 < np.mean(p_values) < 0.7


@pytest.mark.slow
@pytest.mark.parametrize("is_same", [False, True])
@pytest.mark.parametrize("fraction", [0.02, 0.05, 0.1])
def test_systematic_of_the_scale_of_pixels(fraction, is_same):
    """Found within 20%, be it that of the instrument or another one in each set."""
    field = Field(n_obs=1)
    estimator = MimicSystematicsEstimator("0.1 deg")
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        sets = simulate_random_sets(field, rng, fraction, 0.1, is_same=is_same)
        found.append(get_total(estimator.run(sets))["f"])
    assert_allclose(np.mean(found), fraction, rtol=0.2)
    assert_allclose(found, fraction, rtol=0.2 if fraction > 0.02 else 0.5)


def fit_gradient(bias, band):
    """Fit a plane to the ratio: change to the east and to the north, per deg."""
    edges = bias.position_edges.value
    center = (edges[1:] + edges[:-1]) / 2
    lat, lon = np.meshgrid(center, center, indexing="ij")
    valid = (bias.error[band] > 0) & (np.hypot(lat, lon) < 1.6)
    weights = 1 / bias.error[band][valid]
    plane = np.stack([np.ones(valid.sum()), lon[valid], lat[valid]], axis=1)
    values = bias.ratio[band][valid] * weights
    result = np.linalg.lstsq(plane * weights[:, np.newaxis], values, rcond=None)[0]
    return result[1:] / result[0]


@pytest.mark.slow
def test_gradient_and_tilt():
    """The bias map has both, and its correction takes both away."""
    field = Field(n_energies=3)
    options = {"gradient": GRADIENT, "tilt": TILT}
    estimator = MimicSystematicsEstimator("0.1 deg", EDGES)
    gradients, tilts = [], []
    for seed in range(3):
        result = estimator.run(simulate_sets(field, seed, **options))
        assert result.bias.p_value < 1e-10
        gradients.append([fit_gradient(result.bias, _) for _ in range(2)])
        center = result.bias.position_edges.size // 2
        tilts.append(result.bias.ratio[:, center, center])
    mean = np.mean(gradients, axis=(0, 1))
    assert_allclose(mean, [GRADIENT, 0], atol=0.2 * GRADIENT)

    truth = field.get_truth(0, **options).sum(axis=(1, 2))
    truth /= field.background[0].sum(axis=(1, 2)) * truth.sum() / N_EVENTS * 4
    low, high = np.mean(tilts, axis=0)
    expected = field.background[0].sum(axis=(1, 2))
    expected = np.average(truth[1:], weights=expected[1:]) / truth[0]
    assert_allclose(high / low - 1, expected - 1, rtol=0.2)

    # other observations than those of the map
    sets = simulate_sets(field, 100, **options)
    corrected = [
        Datasets([result.apply_bias_correction(_).dataset for _ in values])
        for values in sets
    ]
    before, after = (estimator.run(_).tables["systematics"] for _ in (sets, corrected))
    assert before["width"][-1] > 1.02
    assert_allclose(after["width"], 1, atol=0.03)
    assert before["mean"][0] > 0.08
    assert_allclose(after["mean"], 0, atol=0.07)


@pytest.mark.slow
def test_bias_of_no_systematic():
    """P-values are uniform, also if observations are used more than once."""
    field = Field()
    p_values, widths = [], []
    for seed in range(60):
        sets = simulate_sets(field, seed, n_sets=2)
        if seed % 2:
            sets.append(sets[0])
        datasets = list(itertools.chain(*sets))
        repetition = get_repetition(get_off_obs_ids({1: datasets}))
        assert_allclose(repetition, 5 / 3 if seed % 2 else 1)
        bias = make_bias_map(datasets, [1, 10] * u.TeV, repetition=repetition)
        p_values.append(bias.p_value)
        widths.append(np.std(bias.significance[bias.error > 0]))
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert_allclose(np.mean(widths), 1, atol=0.05)


@pytest.mark.slow
def test_source_of_5_sigma():
    """Calibrated, it is what an analysis with the true background finds, or less.

    What it loses is what mimics do not know, hence less where more circles tell.
    """
    field = Field()
    options = {"gradient": GRADIENT}
    losses = []
    for position in (CENTER, CENTER.directional_offset_by(30 * u.deg, 1.5 * u.deg)):
        x, y = (
            int(_) for _ in np.squeeze(field.geom.to_image().coord_to_idx(position))
        )
        estimator = MimicSystematicsEstimator(position=position, radii=None)
        losses.append([])
        for seed in range(8):
            rng = np.random.default_rng(seed)
            sets = [field.simulate_stacked(rng, **options) for _ in range(5)]
            counts = [rng.poisson(field.get_truth(_, **options)) for _ in range(4)]
            n_background = 13 * sum(field.background)[0, y, x]
            counts[0][0, y, x] += rng.poisson(5 * np.sqrt(n_background) + 4)
            with few_random_maps(2):
                result = estimator.run(sets, [field.stack(counts)])
            row = get_total(result, "position")
            true = field.stack(counts, is_true=True, **options)
            edges = field.geom.axes["energy"].edges[[0, -1]]
            estimator_true = ExcessMapEstimator("0.1 deg", energy_edges=edges)
            maps = estimator_true.run(true)
            value = maps["sqrt_ts"].data[0, y, x]
            assert 3 < value < 8
            assert row["calibrated"] <= row["significance"]
            assert_allclose(row["significance"], value, atol=0.5)
            losses[-1].append(value - row["calibrated"])
    center, outside = np.mean(losses, axis=1)
    # five sets have four degrees of freedom, and circles one less than they are
    assert 0 < outside < center < 1.5


def make_fov_maker():
    model = PowerLawNormSpectralModel(reference="2 TeV")
    model.tilt.frozen = False
    return FoVBackgroundMaker(method="fit", spectral_model=model)


@pytest.mark.slow
def test_prior_of_a_tilt():
    """Mean and spread of the tilt, in a prior that a fit uses."""
    field = Field(n_obs=20, n_energies=5, binsz=0.2)
    maker = make_fov_maker()
    sets = simulate_sets(field, 0, n_sets=3, tilt=TILT, maker=maker)
    result = MimicSystematicsEstimator("0.3 deg").run(sets)
    prior = result.to_prior("tilt")
    assert_allclose(prior.mu.value, TILT, rtol=0.2)
    assert prior.sigma.value < 0.5 * TILT

    dataset = field.simulate(np.random.default_rng(9), maker=maker)[0]
    tilt = dataset.background_model.spectral_model.tilt
    Fit().run(dataset)
    error = tilt.error
    tilt.prior = prior
    Fit().run(dataset)
    assert tilt.error < error
    expected = 1 / np.sqrt(error**-2 + prior.sigma.value**-2)
    assert_allclose(tilt.error, expected, rtol=0.05)


def test_prior_of_the_normalisation():
    """The spread between observations is the sigma of the prior."""
    field = Field(n_obs=20)
    rng = np.random.default_rng(3)
    sets = []
    for number in range(5):
        norms = rng.normal(1.1, 0.05, size=20)
        datasets = [
            field.make_dataset(
                idx, rng.poisson(field.get_truth(idx, norm=norm)), 100 * number + idx
            )
            for idx, norm in enumerate(norms)
        ]
        sets.append(Datasets(datasets))
    prior = MimicSystematicsEstimator().run(sets).to_prior()
    assert_allclose(prior.mu.value, 1.1, atol=0.02)
    assert_allclose(prior.sigma.value, 0.05, rtol=0.2)


def test_no_spread():
    result = MimicSystematicsEstimator().run(simulate_sets(Field(), 1))
    row = result.to_table("normalisation")[0]
    assert row["spread_ul"] < 0.02
    prior = result.to_prior()
    assert row["mean_err"] < prior.sigma.value < 0.02
    with pytest.raises(ValueError, match="'tilt' was not measured, choose from"):
        result.to_prior("tilt")


def make_store_with_gradient(path, n_obs, first_obs_id, gradient=0):
    """Datastore whose events have a gradient that the background IRFs do not have."""
    options = {"zenith": ("15 deg", "25 deg"), "first_obs_id": first_obs_id}
    irfs = partial(make_irfs, rate=4, gradient=gradient)
    field = (
        {"target": SkyCoord(329.7, -30.2, unit="deg")} if first_obs_id == 1 else None
    )
    observations = simulate_observations(n_obs, field, irfs=irfs, **options)
    for observation in observations:
        zenith = observation.events.table.meta["ZEN_PNT"] * u.deg
        observation.bkg = make_irfs(zenith, rate=4)["bkg"]
    write_datastore(observations, path, irfs="copy")
    return DataStore.from_dir(path).get_observations()


@pytest.mark.slow
def test_gradient_through_datastores(tmp_path):
    """Events of OFF data have a gradient that their background IRFs do not have."""
    n_sets, gradient = 3, 0.05
    targets = make_store_with_gradient(tmp_path / "targets", 4, 1)
    off = make_store_with_gradient(tmp_path / "off", 4 * n_sets, 101, gradient)
    axis = MapAxis.from_energy_bounds("0.5 TeV", "20 TeV", nbin=2)
    geom = WcsGeom.create(
        skydir=get_center(targets), width=5, binsz=0.05, proj="TAN", axes=[axis]
    )
    makers = DatasetsMaker(
        [
            MapDatasetMaker(["counts", "background"]),
            SafeMaskMaker(["aeff-default", "offset-max"], offset_max="2 deg"),
            FoVBackgroundMaker(method="scale"),
        ],
        stack_datasets=False,
    )
    sets = []
    for idx in range(n_sets):
        plan = {1 + _: 101 + 4 * idx + _ for _ in range(4)}
        mimics = MimicMaker(off, plan).make_observations(targets)
        sets.append(makers.run(MapDataset.create(geom), mimics))
    estimator = MimicSystematicsEstimator("0.2 deg")
    result = estimator.run(sets)
    assert get_total(result)["width"] > 1.15
    assert result.bias.p_value < 1e-10
    # the longitude of Gammapy is to the west
    east, north = fit_gradient(result.bias, 0)
    assert_allclose(east, -gradient, rtol=0.2)
    assert abs(north) < 0.2 * gradient

    corrected = [
        Datasets([result.apply_bias_correction(_).dataset for _ in values])
        for values in sets
    ]
    assert_allclose(get_total(estimator.run(corrected))["width"], 1, atol=0.04)


# What cannot be measured is told


@pytest.fixture(scope="module")
def small():
    """Three sets and a target of few events, with 3 bins of energy."""
    field = Field(n_energies=3, binsz=0.1, n_events=50_000)
    *sets, target = simulate_sets(field, 5, n_sets=4)
    return field, sets, target


def test_number_of_sets(small, caplog):
    _, sets, _ = small
    for names in ([], ["all", "b"], ["target"], [1, "mimic_1"]):
        datasets = dict(zip(names, sets, strict=False))
        with pytest.raises(ValueError, match=r"with names of their own, .*Got \["):
            MimicSystematicsEstimator().run(datasets)
    MimicSystematicsEstimator("0.2 deg").run(sets)
    assert not caplog.records
    result = MimicSystematicsEstimator("0.2 deg").run(sets[:2])
    assert "Two mimic sets give poor errors" in caplog.text
    assert np.isfinite(get_total(result)["f_squared_err"])


def test_datasets_that_cannot_be_compared(small):
    _, sets, target = small
    estimator = MimicSystematicsEstimator("0.2 deg")
    with pytest.raises(ValueError, match="has no datasets"):
        estimator.run([*sets, []])
    other = Field(n_energies=3, binsz=0.2).simulate(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"obs_0_0 differ in pixels, bins of energy"):
        estimator.run(sets, other)
    other = Field(n_energies=2, binsz=0.1).simulate(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"Reduce all with the same configuration"):
        estimator.run(sets, other)
    empty = target[0].copy(name="empty")
    empty.background = None
    with pytest.raises(ValueError, match="The dataset empty has no background"):
        estimator.run([*sets, [empty]])
    spectrum = make_spectrum(np.random.default_rng(0), 0)
    with pytest.raises(ValueError, match="of different classes"):
        estimator.run([*sets, [spectrum]])


@pytest.mark.slow
def test_bright_source(small, caplog):
    field, sets, target = small
    target = target.copy()
    source = target[0].copy(name="source")
    source.counts.data[0, 20, 22] += 300
    mask = Map.from_geom(field.geom.to_image(), data=True, dtype=bool)
    mask.data[14:27, 16:29] = False

    result = MimicSystematicsEstimator("0.2 deg").run(sets, [source])
    assert "The target's map is not blank" in caplog.text
    assert get_total(result, "maximum")["significance"] > 10
    caplog.clear()
    estimator = MimicSystematicsEstimator("0.2 deg", exclusion_mask=mask)
    result = estimator.run(sets, [source])
    assert "The target's map is not blank" not in caplog.text
    row = get_total(result, "maximum")
    assert row["significance"] < 6
    # a mask with energy is that of all energies
    axes = field.geom.axes
    mask_3d = Map.from_geom(field.geom, data=mask.data & np.ones((3, 1, 1), bool))
    assert mask_3d.geom.axes == axes
    estimator = MimicSystematicsEstimator("0.2 deg", exclusion_mask=mask_3d)
    assert (
        get_total(estimator.run(sets, [source]), "maximum")["p_value"]
        == (row["p_value"])
    )


def test_energy_edges_that_are_not_those_of_bins(small, caplog):
    _, sets, _ = small
    result = MimicSystematicsEstimator("0.2 deg", [1, 2, 10] * u.TeV).run(sets)
    assert "not edges of bins of the datasets" in caplog.text
    for name in ("systematics", "significance"):
        edges = result.tables[name]["e_max"][0]
        assert_allclose(edges, 2.15443469)
    assert_allclose(result.bias.energy_edges.value, [1, 2.15443469, 10])

    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=3)
    with pytest.raises(ValueError, match="finer than the bins"):
        snap_energy_edges([1, 1.1, 10] * u.TeV, axis)
    caplog.clear()
    assert_allclose(snap_energy_edges([1000, 4641.6] * u.GeV, axis)[1].value, 4.641589)
    assert not caplog.records


def test_position_outside_of_the_map(small):
    _, sets, target = small
    position = SkyCoord(90, 0, unit="deg")
    estimator = MimicSystematicsEstimator("0.2 deg", position=position)
    with pytest.raises(
        ValueError, match=r"RA 90\.000 deg, Dec 0\.000 deg is not on the map"
    ):
        estimator.run(sets, target)


def test_no_pointing(small):
    """Everything but what needs the field of view."""
    _, sets, _ = small
    stacked = [Datasets([_.stack_reduce(name="stacked")]) for _ in sets]
    result = MimicSystematicsEstimator("0.2 deg").run(stacked)
    assert result.bias is None
    with pytest.raises(ValueError, match="has 4 pointings"):
        result.apply_bias_correction(stacked[0][0])
    for values in stacked:
        values[0].meta_table = None
    estimator = MimicSystematicsEstimator("0.2 deg", offset_edges=[0, 1] * u.deg)
    result = estimator.run(stacked)
    assert len(result.to_table()) == 1
    with pytest.raises(ValueError, match="no table 'normalisation': There are no fit"):
        result.to_table("normalisation")
    with pytest.raises(ValueError, match="no table 'position': it was not asked for"):
        result.to_table("position")


# The correction


@pytest.fixture(scope="module")
def biased():
    field = Field(n_energies=3, binsz=0.1)
    return field, make_bias_map(
        list(itertools.chain(*simulate_sets(field, 0, gradient=0.1))), EDGES
    )


def test_correction_carries_its_error(biased):
    field, bias = biased
    dataset = field.simulate(np.random.default_rng(1), gradient=0.1)[0]
    before = dataset.npred().data.copy()  # fills the cache of Gammapy
    corrected = bias.apply(dataset)
    assert_allclose(dataset.npred().data, before)
    ratio = corrected.dataset.background.data[:, 25, 10:40]
    ratio = ratio / dataset.background.data[:, 25, 10:40]
    expected = 1 + 0.1 * field.fov[0][0][25, 10:40]
    assert_allclose(ratio, np.broadcast_to(expected, ratio.shape), atol=0.05)
    # regression: the prediction was that of the old background
    npred = corrected.dataset.npred().data[:, 25, 10:40]
    assert_allclose(npred / before[:, 25, 10:40], ratio)
    assert corrected.dataset.name == dataset.name
    assert corrected.dataset.models.names == dataset.models.names

    error = corrected.error.data[:, 25, 20:30]
    assert np.all((error > 0.002) & (error < 0.03))


def test_correction_of_a_stacked_dataset(biased):
    """By the mean ratio over its pointings, which are symmetric here."""
    field, bias = biased
    stacked = field.simulate_stacked(np.random.default_rng(1))[0]
    corrected = bias.apply(stacked).dataset
    lon = get_fov(field.geom, CENTER)[0][25, 15:35]
    ratio = corrected.background.data[0, 25, 15:35]
    ratio /= stacked.background.data[0, 25, 15:35]
    assert_allclose(ratio, 1 + 0.1 * lon, atol=0.04)


def test_correction_is_refused(small, biased):
    _, sets, _ = small
    _, bias = biased
    result = MimicSystematicsEstimator("0.2 deg").run(sets)
    assert not result.bias.is_significant
    with pytest.raises(ValueError, match=r"map is not significant \(p = 0\.\d"):
        result.apply_bias_correction(sets[0][0])
    forced = result.apply_bias_correction(sets[0][0], force=True).dataset
    before, after = (_.background.data for _ in (sets[0][0], forced))
    factor = after[before > 0] / before[before > 0]
    low, high = (_(result.bias.ratio) for _ in (np.min, np.max))
    assert low <= factor.min() < 1 < factor.max() <= high

    dataset = sets[0][0].copy(name="new")
    dataset.meta_table = None
    with pytest.raises(ValueError, match="new has no RA_PNT and DEC_PNT"):
        bias.apply(dataset)
    dataset.background = None
    with pytest.raises(ValueError, match="new has no background model"):
        bias.apply(dataset)


# ON and OFF counts


@pytest.mark.slow
def test_ring():
    """OFF counts are those of the ring, not added up over the circle as well."""
    field = Field(n_obs=1, n_events=50_000)
    maker = RingBackgroundMaker(r_in="0.5 deg", width="0.3 deg")
    estimator = MimicSystematicsEstimator("0.1 deg", position=CENTER)
    values, calibrated = [], []
    for seed in range(6):
        *sets, target = (
            Datasets([maker.run(_) for _ in values])
            for values in simulate_sets(field, seed, n_sets=4)
        )
        result = estimator.run(sets, target)
        values.append(get_total(result)["f_squared"])
        calibrated.append(get_total(result, "position")["calibrated"])
    assert "no fitted background models" in result.missing["normalisation"]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(6)
    assert np.max(np.abs(calibrated)) < 3.5
    # the area of the circle over that of the ring
    measurement = measure_maps(sets[0][0], EDGES[[0, -1]], estimator.correlation_radius)
    ring = np.pi * (0.8**2 - 0.5**2)
    alpha = 0.0325 / ring
    background = 13 * field.background[0][0, 50, 50]
    expected = background / (1 + alpha)
    assert_allclose(measurement.background[0, 50, 50], expected, rtol=0.1)
    with pytest.raises(ValueError, match="has no background model: one of OFF"):
        result.apply_bias_correction(target[0], force=True)


def make_spectrum(rng, idx, n_bins=4, n_on=40.0, alpha=0.25, has_exposure=True):
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=n_bins)
    axis_true = MapAxis.from_energy_bounds(
        "1 TeV", "10 TeV", nbin=8, name="energy_true"
    )
    geom = RegionGeom.create("icrs;circle(83.6, -22, 0.1)", axes=[axis])
    mask = np.ones(n_bins, dtype=bool)
    mask[0] = idx % 2
    pointing = CENTER.directional_offset_by(0 * u.deg, (0.5 + 0.5 * (idx % 2)) * u.deg)
    dataset = SpectrumDatasetOnOff(
        counts=RegionNDMap.from_geom(geom, data=rng.poisson(n_on, n_bins)),
        counts_off=RegionNDMap.from_geom(geom, data=rng.poisson(n_on / alpha, n_bins)),
        acceptance=RegionNDMap.from_geom(geom, data=1.0),
        acceptance_off=RegionNDMap.from_geom(geom, data=1 / alpha),
        mask_safe=RegionNDMap.from_geom(geom, data=mask),
        meta_table=Table(
            {
                "OBS_ID": [idx],
                "RA_PNT": [pointing.ra.deg],
                "DEC_PNT": [pointing.dec.deg],
            }
        ),
        name=f"spectrum_{idx}",
    )
    if has_exposure:
        geom_true = geom.to_image().to_cube([axis_true])
        dataset.exposure = RegionNDMap.from_geom(geom_true, data=1e10, unit="m2 s")
        dataset.edisp = EDispKernelMap.from_diagonal_response(
            axis, axis_true, geom=geom.to_image()
        )
        dataset.edisp.exposure_map.data[...] = 1e10
    return dataset


def make_spectra(seed, n_sets=5, n_obs=4, **options):
    rng = np.random.default_rng(seed)
    return [
        Datasets([make_spectrum(rng, idx, **options) for idx in range(n_obs)])
        for _ in range(n_sets)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("is_stacked", [False, True])
def test_spectra(is_stacked):
    *sets, target = make_spectra(0, n_sets=4)
    if is_stacked:
        *sets, target = (
            Datasets([_.stack_reduce(name="stacked")]) for _ in (*sets, target)
        )
    edges = [1, 3.162, 10] * u.TeV
    estimator = MimicSystematicsEstimator(energy_edges=edges)
    result = estimator.run(sets, target)
    assert not result.maps
    assert result.bias is None
    table = result.tables["significance"]
    numbers = table["n_positions"][table["name"] != "all"]
    assert set(numbers) == {1 if is_stacked else 4}

    # the significance of all spectra together, with mask_safe, by hand
    position = result.tables["position"]
    counts = np.zeros(3)
    for dataset in target:
        mask = dataset.mask_safe.data
        for idx, name in enumerate(("counts", "counts_off", "background")):
            counts[idx] += np.sum(getattr(dataset, name).data[:2] * mask[:2])
    n_on, n_off, background = counts
    expected = WStatCountsStatistic(n_on, n_off, background / n_off).sqrt_ts
    assert_allclose(position["significance"][0], expected)
    assert position["n_sample"].tolist() == [3, 3, 3]
    flux = result.tables["flux"]
    flux = flux[flux["name"] != "target"]
    assert len(flux) == 9
    assert_allclose(flux["e_max"][:3], [3.162278, 10, 10], rtol=1e-6)
    assert np.all(np.abs(flux["sqrt_ts"]) < 4)


@pytest.mark.slow
def test_systematic_of_spectra():
    """Of 10% of the background of each observation, within 20%."""
    rng = np.random.default_rng(0)
    sets = [
        Datasets(
            [
                make_spectrum(
                    rng, idx, n_bins=1, n_on=400, alpha=0.1, has_exposure=False
                )
                for idx in range(1, 81, 2)
            ]
        )
        for _ in range(5)
    ]
    estimator = MimicSystematicsEstimator(offset_edges=[0, 0.7, 1.2] * u.deg)
    table = estimator.run(sets).tables["systematics"]
    assert table["f_ul"][0] < 0.03
    assert np.isnan(table["f"][1]) or table["f"][1] == 0
    assert_allclose(table["f_squared"][2], table["f_squared"][0])
    for dataset in itertools.chain(*sets):
        truth = 400 * (1 + 0.1 * rng.normal())
        dataset.counts.data[:] = rng.poisson(truth)
    result = estimator.run(sets)
    assert_allclose(get_total(result)["f"], 0.1, rtol=0.2)
    assert "has no exposure" in result.missing["flux"]


def test_spectra_without_off_counts():
    spectrum = SpectrumDataset.create(RegionGeom.create(None, axes=make_geom().axes))
    spectrum.background = spectrum.counts.copy()
    with pytest.raises(TypeError, match="Spectra must be a SpectrumDatasetOnOff"):
        MimicSystematicsEstimator().run([[spectrum]] * 3)


# The spurious flux, and the result as a whole


def add_exposure(dataset):
    """Add an exposure of 1e10 m2 s, and perfect energies, to a dataset."""
    geom = dataset.counts.geom
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=6, name="energy_true")
    dataset.exposure = Map.from_geom(
        geom.to_image().to_cube([axis]), data=1e10, unit="m2 s"
    )
    # those of the whole sky have two pixels, of which stacking takes none
    image = geom.to_image()
    dataset.edisp = EDispKernelMap.from_diagonal_response(
        geom.axes["energy"], axis, geom=image
    )
    dataset.psf = PSFMap.from_gauss(axis, sigma="0.1 deg", geom=image)
    # what is stacked is weighted with it
    for irf in (dataset.edisp, dataset.psf):
        irf.exposure_map.data[...] = 1e10
    return dataset


@pytest.fixture(scope="module")
def full():
    """Result with everything, of stacked sets."""
    field = Field(n_energies=3, binsz=0.1, n_events=50_000)
    *sets, target = simulate_stacked(field, 2, n_sets=4)
    for values in sets:
        add_exposure(values[0])
    add_exposure(target[0])
    estimator = MimicSystematicsEstimator(
        "0.2 deg", EDGES, position=CENTER, offset_edges=[0, 1, 2] * u.deg
    )
    return estimator, sets, target, estimator.run(sets, target)


@pytest.mark.slow
def test_spurious_flux(full):
    """The flux of a source that is not there is 0 within its error, by band."""
    *_, result = full
    table = result.to_table("flux")
    names = ["mimic_1", "mimic_2", "mimic_3"]
    assert table["name"].tolist()[::3] == [*names, "target"]
    table = table[table["name"] != "target"]
    edges = [2.15443469, 10, 10]
    assert_allclose(table["e_max"].quantity.to_value("TeV"), edges * 3)
    mean = result.to_table("spurious_flux")
    assert_allclose(mean["e_max"].quantity.to_value("TeV"), edges)
    assert mean["n_sets"].tolist() == [3, 3, 3]
    assert mean["mean"].unit == table["flux"].unit
    first = table["flux"][::3]
    assert_allclose(mean["mean"][0], np.mean(first))
    # sets may agree by chance
    error = max(np.std(first, ddof=1), mean["statistical_err"][0]) / np.sqrt(3)
    assert_allclose(mean["mean_err"][0], error)
    assert_allclose(mean["std"][0], np.std(first, ddof=1))
    assert np.all(np.abs(mean["mean"]) < 4 * mean["statistical_err"])
    assert np.all(mean["flux_ul"] > mean["mean"])


@pytest.mark.slow
def test_flux_of_single_observations():
    """Regression: the norm of the FoV background was lost in sets of one dataset."""
    field = Field(n_obs=1, binsz=0.1, n_events=50_000)
    sets = simulate_sets(field, 0, n_sets=3, norm=2)
    for values in sets:
        add_exposure(values[0])
    result = MimicSystematicsEstimator("0.2 deg", position=CENTER).run(sets)
    assert np.all(np.abs(result.tables["flux"]["sqrt_ts"]) < 4)
    assert_allclose(get_total(result)["width"], 1, atol=0.1)


def test_no_exposure(small):
    _, sets, _ = small
    result = MimicSystematicsEstimator("0.2 deg", position=CENTER).run(sets)
    with pytest.raises(ValueError, match="no table 'flux': The dataset .* no exposure"):
        result.to_table("flux")


def test_round_trip(full, tmp_path):
    *_, result = full
    path = tmp_path / "result.fits"
    result.write(path)
    again = MimicSystematics.read(path)
    assert str(again) == str(result)
    assert again.names == ["mimic_1", "mimic_2", "mimic_3"]
    assert again.missing == result.missing
    assert again.version == result.version
    assert again.correlation_radius == result.correlation_radius
    assert again.min_background == result.min_background
    assert again.position == result.position
    assert again.bands == result.bands
    assert again.tables.keys() == result.tables.keys()
    for name, table in result.tables.items():
        assert again.tables[name].colnames == table.colnames
        for column in table.colnames:
            units = again.tables[name][column].unit, table[column].unit
            assert len({str(_ or "") for _ in units}) == 1
            np.testing.assert_array_equal(again.tables[name][column], table[column])
    for kind in ("maps", "background"):
        before, after = (getattr(_, kind) for _ in (result, again))
        assert list(after) == list(before) == [*result.names, "target"]
        for name, part in itertools.product(before, ("bands", "total")):
            one, other = (getattr(_[name], part) for _ in (before, after))
            np.testing.assert_array_equal(other.data, one.data)
            assert_allclose(other.geom.axes[0].edges, one.geom.axes[0].edges)
            assert other.geom.wcs.wcs.compare(one.geom.wcs.wcs, tolerance=1e-9)
    with pytest.raises(OSError, match=r"result\.fits"):
        result.write(path)
    with pytest.raises(FileNotFoundError):
        MimicSystematics.read(tmp_path / "no.fits")


def test_round_trip_of_the_bias_map(small, tmp_path):
    _, sets, _ = small
    result = MimicSystematicsEstimator("0.2 deg", EDGES).run(sets)
    result.write(tmp_path / "result.fits")
    again = MimicSystematics.read(tmp_path / "result.fits").bias
    np.testing.assert_array_equal(again.ratio, result.bias.ratio)
    np.testing.assert_array_equal(again.error, result.bias.error)
    assert_allclose(again.energy_edges, result.bias.energy_edges)
    assert_allclose(again.position_edges, result.bias.position_edges)
    assert again.p_value == result.bias.p_value


def test_text(full):
    *_, result = full
    text = str(result)
    assert text.startswith("MimicSystematics\n----------------\n")
    assert re.search(r"1 to 2.15 TeV, 0 to 1 deg: .*; bias .* ± .*, spread ", text)
    assert "sigma (raw" in text or "not measurable" in text


@pytest.mark.slow
def test_number_of_jobs_does_not_matter(full):
    _, sets, target, result = full
    options = {"position": CENTER, "offset_edges": [0, 1, 2] * u.deg}
    parallel = MimicSystematicsEstimator("0.2 deg", EDGES, n_jobs=2, **options)
    other = parallel.run(sets, target)
    for name, table in result.tables.items():
        for column in table.colnames:
            np.testing.assert_array_equal(other.tables[name][column], table[column])
    for name, maps in result.maps.items():
        np.testing.assert_array_equal(other.maps[name].bands.data, maps.bands.data)


@pytest.mark.slow
def test_inputs_stay_as_they_are(full):
    estimator, sets, target, result = full
    counts = sets[0][0].counts.data.copy()
    again = estimator.run(dict(enumerate(sets, start=1)), target)
    assert str(again) == str(result)
    np.testing.assert_array_equal(sets[0][0].counts.data, counts)
    assert not sets[0][0].models


def test_offset():
    pointings = SkyCoord([83.6, 83.6], [-22, -21], unit="deg")
    position = SkyCoord([[83.6], [84.6]], [[-22], [-22]], unit="deg")
    expected = [[np.mean(_.separation(pointings).deg)] for _ in position[:, 0]]
    assert_allclose(measure_offset(position, pointings).to_value("deg"), expected)
