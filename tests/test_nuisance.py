"""The measured error of the background as a model and penalty of Gammapy's fit."""

import itertools
import logging

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from gammapy.datasets import (
    Datasets,
    MapDataset,
    MapDatasetOnOff,
    SpectrumDataset,
)
from gammapy.estimators import FluxPointsEstimator
from gammapy.irf import EDispKernelMap
from gammapy.makers import FoVBackgroundMaker
from gammapy.maps import Map, MapAxis, RegionGeom, WcsGeom
from gammapy.modeling import Fit
from gammapy.modeling.models import (
    FoVBackgroundModel,
    Models,
    PiecewiseNormSpectralModel,
    PowerLawSpectralModel,
    SkyModel,
)
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic.estimators import MimicSystematics, MimicSystematicsEstimator
from gammapy_mimic.estimators.counting import BandCounts
from gammapy_mimic.estimators.covariance_table import tabulate_covariance
from gammapy_mimic.estimators.measurement import get_bands
from gammapy_mimic.report import make_report

from .band_toys import (
    BACKGROUND,
    EDGES,
    ENERGY,
    INDEX,
    N_BANDS,
    N_BINS,
    draw_mimics,
    fit_spectrum,
    get_node_prior,
    get_spectrum,
    measure,
)

CENTER = SkyCoord(83.6, -22, unit="deg")
POSITION = CENTER.directional_offset_by(0 * u.deg, 0.5 * u.deg)
AXIS = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=6)
GEOM = WcsGeom.create(skydir=CENTER, width=2, binsz=0.1, axes=[AXIS])
BANDS = AXIS.edges[::2]
SPECTRUM = 20 * -np.diff(AXIS.edges.value**-1.7)[:, np.newaxis, np.newaxis]


def make_dataset(rng, off_obs_id=0, norm=1.0, name=None):
    background = SPECTRUM * np.ones(GEOM.data_shape)
    columns = {"OBS_ID": [1], "OFF_OBS_ID": [off_obs_id]}
    columns |= {"RA_PNT": [CENTER.ra.deg], "DEC_PNT": [CENTER.dec.deg]}
    return MapDataset(
        counts=Map.from_geom(GEOM, data=rng.poisson(norm * background).astype(float)),
        background=Map.from_geom(GEOM, data=background),
        mask_safe=Map.from_geom(GEOM, data=True, dtype=bool),
        meta_table=Table(columns),
        name=name,
    )


def make_sets(rng, n_sets=4, n_obs=3, spread=0.2):
    """Sets of observations whose background differs from the prediction."""
    sets = []
    for idx in range(n_sets):
        norms = 1.1 + spread * rng.normal(size=n_obs)
        sets.append(
            Datasets(
                [
                    make_dataset(rng, 10 * idx + number, norm, f"obs_{idx}_{number}")
                    for number, norm in enumerate(norms)
                ]
            )
        )
    return sets


@pytest.fixture(scope="module")
def sets():
    return make_sets(np.random.default_rng(0))


def make_estimator(**options):
    options = {"energy_edges": BANDS, "radii": None} | options
    return MimicSystematicsEstimator("0.2 deg", **options)


@pytest.fixture(scope="module")
def result(sets):
    return make_estimator(position=POSITION).run(sets)


@pytest.fixture
def dataset():
    return make_dataset(np.random.default_rng(9), name="target")


# The table


def test_covariance(result):
    """That of one more target: spread and the error of the bias, by band."""
    table = result.to_table("covariance")
    assert table["band"].tolist() == ["0", "1", "2"]
    assert_allclose(table["e_min"].quantity, BANDS[:-1])
    covariance = result.covariance
    assert covariance.shape == (3, 3)
    assert_allclose(covariance, covariance.T)
    assert_allclose(np.sqrt(np.diag(covariance)), table["error"])
    assert np.all(table["error"] > table["spread"])
    # three observations have a third of the variance
    assert_allclose(table["spread"], 0.2 / np.sqrt(3), rtol=0.6)
    correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert 0.7 < correlation < 1
    assert np.all(np.abs(table["delta"] - 0.1) < 4 * table["delta_err"])
    # one node a band, at the mean energy of the background
    log_energy = np.log(AXIS.center.value).reshape(3, 2)
    expected = np.average(log_energy, weights=SPECTRUM.reshape(3, 2), axis=1)
    assert_allclose(np.log(table["energy"]), expected)
    assert_allclose(np.sum(table["interpolation"], axis=1), 1)


def test_circles_are_those_of_the_position():
    """Without, they are those of the whole field."""
    sets = make_sets(np.random.default_rng(2), spread=0.0)
    outer = GEOM.to_image().separation(CENTER).deg > 0.8
    for dataset in itertools.chain(*sets):
        dataset.background.data[:, outer] *= 2
    biases = [
        make_estimator(position=_).run(sets).to_table("covariance")["delta"]
        for _ in (POSITION, None)
    ]
    assert_allclose(biases[0], 0.1, atol=0.04)
    assert np.all(biases[1] < -0.1)


def test_round_trip(result, tmp_path):
    result.write(tmp_path / "result.fits")
    again = MimicSystematics.read(tmp_path / "result.fits")
    assert_array_equal(again.covariance, result.covariance)
    for name in ("interpolation", "energy", "band"):
        tables = [_.to_table("covariance")[name] for _ in (again, result)]
        assert_array_equal(*tables)


@pytest.mark.slow
def test_report_has_the_errors(result, tmp_path):
    path = tmp_path / "report.html"
    make_report(result, path)
    html = path.read_text(encoding="utf-8")
    assert "Error of the background that a fit takes into account" in html
    assert "interpolation" not in html


@pytest.mark.parametrize(
    ("n_obs", "options", "reason"),
    [
        (3, {"energy_edges": None}, r"is one, .* mimic.systematics.energy_edges"),
        (1, {}, r"here are 0: in the band 0 there are 2\.0 independent OFF"),
    ],
)
def test_not_measured(n_obs, options, reason):
    """An error says why."""
    sets = make_sets(np.random.default_rng(1), n_sets=2, n_obs=n_obs)
    result = make_estimator(**options).run(sets)
    assert "covariance" not in result.tables
    with pytest.raises(ValueError, match=reason):
        _ = result.covariance
    with pytest.raises(ValueError, match=reason):
        result.make_penalty([])


# Model and penalty


def test_mean_norm_of_a_band_is_that_of_mimics(result, dataset):
    """Its mean is 1 plus the bias, and its covariance the one that was measured."""
    model = result.to_background_model(dataset.to_spectrum_dataset(make_region()))
    assert isinstance(model, FoVBackgroundModel)
    assert isinstance(model.spectral_model, PiecewiseNormSpectralModel)
    table = result.to_table("covariance")
    assert_allclose(model.spectral_model.energy, table["energy"].quantity)
    (penalty,) = result.make_penalty([model])
    rng = np.random.default_rng(0)
    # small errors, as the logarithm is taken as linear
    mean, scale = penalty.mean, 0.01
    norms = rng.multivariate_normal(mean, scale**2 * penalty.covariance.data, 4000)
    energy, weights = AXIS.center, SPECTRUM.reshape(3, 2)
    weights = weights / weights.sum(axis=1, keepdims=True)
    values = np.array([model.spectral_model.evaluate(energy, *_) for _ in norms])
    bands = np.sum(values.reshape(-1, 3, 2) * weights, axis=2)
    assert_allclose(bands.mean(axis=0), 1 + table["delta"], rtol=3e-3)
    expected = result.covariance
    assert_allclose(np.cov(bands.T) / scale**2, expected, atol=0.1 * np.max(expected))
    assert_allclose(penalty.mean, model.spectral_model.norms)


def make_region(radius="0.2 deg"):
    return CircleSkyRegion(POSITION, u.Quantity(radius))


def test_fitted_norm_is_not_lost(result, dataset):
    """It is multiplied into the background before its model is replaced."""
    background = dataset.background.data.copy()
    source = SkyModel(PowerLawSpectralModel(), name="source")
    dataset = FoVBackgroundMaker(method="scale").run(dataset)
    dataset.background_model.spectral_model.norm.value = 1.3
    dataset.background_model.spectral_model.tilt.value = 0.1
    dataset.models = [source, dataset.background_model]
    predicted = dataset.npred_background().data.copy()
    with pytest.raises(ValueError, match=r"target was .*result\.prepare_dataset"):
        result.to_background_model(dataset)
    prepared = result.prepare_dataset(dataset)
    assert prepared.models.names == ["source"]
    assert prepared.name == "target"
    assert_allclose(prepared.background.data, predicted)
    assert_array_equal(dataset.background.data, background)
    assert dataset.models.names == ["source", "target-bkg"]
    prepared.mask_fit = GEOM.region_mask([make_region()])
    model = result.to_background_model(prepared)
    prepared.models = [model]
    norm = model.spectral_model(AXIS.center).value[:, np.newaxis, np.newaxis]
    assert_allclose(prepared.npred_background().data, predicted * norm)


def test_whole_field_would_fix_the_norms(result, dataset, caplog):
    result.to_background_model(dataset)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "counts of 32 circles of 0.2 deg" in record.getMessage()
    caplog.clear()
    dataset.mask_fit = GEOM.region_mask([make_region()])
    result.to_background_model(dataset)
    result.to_background_model(dataset.to_spectrum_dataset(make_region()))
    assert not caplog.records


def test_measured_background_has_no_model(result, dataset):
    ones = Map.from_geom(GEOM, data=1.0)
    on_off = MapDatasetOnOff.from_map_dataset(dataset, ones, ones, counts_off=ones)
    for method in (result.to_background_model, result.prepare_dataset):
        with pytest.raises(ValueError, match="has no background model: one of OFF"):
            method(on_off)


def test_models_of_others_have_no_penalty(result, dataset):
    other = FoVBackgroundModel(dataset.name)
    with pytest.raises(ValueError, match="None of the models has the energies"):
        result.make_penalty([other])


def test_datasets_that_share_the_error(result, dataset):
    """One spectral model of several datasets has one penalty."""
    region = make_region()
    parts = [dataset.to_spectrum_dataset(region, name=_) for _ in "ab"]
    first = result.to_background_model(parts[0])
    second = FoVBackgroundModel("b", first.spectral_model)
    assert len(result.make_penalty([first, second])) == 1
    other = result.to_background_model(parts[1])
    assert len(result.make_penalty([first, other])) == 2


# In a fit


@pytest.fixture(scope="module")
def spectrum():
    """Spectrum, the result that it is fitted with, and the same as arrays."""
    rng = np.random.default_rng(0)
    band_counts = draw_mimics(rng, "norm", 0.05)
    bands = get_bands(EDGES[::N_BINS] * u.TeV)
    counts = [BandCounts(_, np.zeros(_.counts.shape[1:])) for _ in band_counts]
    table = tabulate_covariance(bands, [*counts, counts[0]], ENERGY * u.TeV, BACKGROUND)
    result = MimicSystematics({"covariance": table}, 0.1 * u.deg, 10)
    axis = MapAxis.from_energy_edges(EDGES * u.TeV)
    true = axis.copy(name="energy_true")
    geom = RegionGeom.create(None, axes=[axis])
    dataset = SpectrumDataset.create(geom, energy_axis_true=true, name="spectrum")
    values = rng.poisson(get_spectrum(1, INDEX)[0] + 1.05 * BACKGROUND).astype(float)
    dataset.counts.data[:, 0, 0] = values
    dataset.background.data[:, 0, 0] = BACKGROUND
    dataset.mask_safe.data[...] = True
    dataset.edisp = EDispKernelMap.from_diagonal_response(axis, true)
    # counts of an amplitude of 1
    power_law = PowerLawSpectralModel(index=INDEX, amplitude="1 cm-2 s-1 TeV-1")
    flux = power_law.integral(axis.edges[:-1], axis.edges[1:])
    exposure = get_spectrum(1, INDEX)[0] / flux
    dataset.exposure.quantity = exposure[:, np.newaxis, np.newaxis]
    return dataset, result, values, measure(band_counts)


def make_datasets(dataset, result, with_penalty=True):
    """Datasets with a source, and the model of the background."""
    dataset = dataset.copy(name=dataset.name)
    power_law = PowerLawSpectralModel(index=INDEX, amplitude="1 cm-2 s-1 TeV-1")
    models = Models([SkyModel(power_law, name="source")])
    models.append(result.to_background_model(dataset))
    if with_penalty:
        models.set_penalties(result.make_penalty(models))
    datasets = Datasets([dataset])
    datasets.models = models
    return datasets


def test_fit_is_that_of_the_toys(spectrum):
    """Gammapy finds what the toys find, whose intervals hold the truth."""
    dataset, result, counts, measured = spectrum
    datasets = make_datasets(dataset, result)
    Fit().run(datasets)
    values, errors = fit_spectrum(counts, get_node_prior(measured))
    model = datasets.models["source"].spectral_model
    fitted = [model.amplitude, model.index]
    assert_allclose([_.value for _ in fitted], values, rtol=2e-3)
    # of the curvature itself, not of its expectation
    assert_allclose([_.error for _ in fitted], errors, rtol=0.08)
    _, without = fit_spectrum(counts)
    assert errors[0] > 1.5 * without[0]
    norms = datasets.models["spectrum-bkg"].spectral_model.norms
    assert len(norms) == N_BANDS
    assert_allclose(norms[0], 1.05, atol=0.04)


def get_penalty(datasets):
    """What models add to the statistic of counts."""
    # a copy of the list has no penalties
    return Datasets.stat_sum(datasets) - Datasets([*datasets]).stat_sum()


def test_what_gammapy_loses(spectrum, tmp_path):
    """Where penalties are kept, and where they must be made again. Docs say so."""
    dataset, result, *_ = spectrum
    datasets = make_datasets(dataset, result)
    datasets.models["spectrum-bkg"].spectral_model.parameters[0].value = 1.5
    assert get_penalty(datasets) > 1
    lost = {"copy of models": Datasets([dataset.copy(name="spectrum")])}
    lost["copy of models"].models = datasets.models.copy()
    # a part has no models at all, and FluxPointsEstimator gives it such a copy
    assert not datasets.slice_by_energy(EDGES[2] * u.TeV, EDGES[8] * u.TeV).models
    lost["list"] = Datasets(list(datasets))
    datasets.models.write(tmp_path / "models.yaml")
    models = Models.read(tmp_path / "models.yaml")
    lost["file"] = Datasets([dataset.copy(name="spectrum")])
    lost["file"].models = models
    for name, values in lost.items():
        assert get_penalty(values) == 0, name
    # and the way out
    models.set_penalties(result.make_penalty(models))
    lost["file"].models = models
    assert_allclose(get_penalty(lost["file"]), get_penalty(datasets))


def test_flux_points_have_no_penalty(spectrum):
    """Their background is that of the fit, and their errors are those of counts."""
    dataset, result, *_ = spectrum
    datasets = make_datasets(dataset, result)
    edges = EDGES[:5:4] * u.TeV
    options = {"source": "source", "selection_optional": None}
    points = FluxPointsEstimator(edges, **options).run(datasets)
    signal = get_spectrum(1, INDEX)[0][:4].sum()
    by_counts = np.sqrt(dataset.counts.data[:4].sum()) / signal
    systematic = result.to_table("covariance")["error"][0] * BACKGROUND[:4].sum()
    assert points.norm_err.data.squeeze() < 1.2 * by_counts < 0.5 * systematic / signal
