"""Spurious flux through the target's IRFs, and flux points with its error."""

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.table import Table
from gammapy.datasets import Datasets
from gammapy.estimators import FluxPoints, FluxPointsEstimator
from gammapy.modeling.models import GaussianSpatialModel
from numpy.testing import assert_allclose

from gammapy_mimic.estimators import MimicSystematicsEstimator, average_flux
from gammapy_mimic.estimators.flux import SpuriousFlux, describe_flux, measure_flux
from gammapy_mimic.visualization import plot_flux

from .source_toys import EDGES, POSITION, make_mimic, make_source

BANDS = EDGES[[0, 1, 3]]


def run(mimic_exposure=5e9, delta=0.0, has_target=True, n_sets=4, **options):
    """The target has twice the exposure of mimics, and a source."""
    rng = np.random.default_rng(0)
    sets = [make_mimic(rng, mimic_exposure, delta) for _ in range(n_sets)]
    (target,) = make_mimic(rng, 1e10)
    target.models = [make_source()]
    # a convolution may be a bit below 0
    target.counts.data += rng.poisson(np.maximum(target.npred_signal().data, 0))
    target.models = None
    estimator = MimicSystematicsEstimator(
        position=POSITION, energy_edges=BANDS, radii=None, **options
    )
    return estimator.run(sets, Datasets([target]) if has_target else None), target


@pytest.fixture(scope="module")
def with_target():
    return run(delta=0.2)


@pytest.mark.slow
def test_flux_is_that_through_the_exposure_of_the_target(with_target):
    """Regression: the exposure was that of the OFF observations."""
    result, _ = with_target
    fluxes = result.tables["flux"]
    assert fluxes["name"].tolist()[-3:] == ["target"] * 3
    mimics = fluxes[fluxes["name"] != "target"]
    same = run(mimic_exposure=1e10, delta=0.2)[0].tables["flux"]
    own = run(delta=0.2, has_target=False)[0].tables["flux"]
    assert "target" not in own["name"]
    assert_allclose(mimics["flux"], same["flux"][: len(mimics)], rtol=1e-6)
    assert_allclose(mimics["flux"], own["flux"] / 2, rtol=1e-3)
    assert mimics["flux"][0] > 3 * mimics["flux_err"][0]


def test_flux_of_the_target(with_target):
    result, _ = with_target
    row = result.select("flux", name="target")[0]
    truth = make_source().spectral_model.integral(*EDGES[[0, -1]])
    value, error = (u.Quantity(row[_], truth.unit) for _ in ("flux", "flux_err"))
    # a power law of index 2 for one of 2.5
    assert abs(value - truth) < 3 * error + 0.1 * truth
    means = result.select("spurious_flux")
    assert means["n_sets"].tolist() == [4]


@pytest.mark.slow
def test_flux_is_that_of_the_shape_of_the_source(with_target):
    """An extended source takes more of a background that is too low, and is noisier."""
    shape = GaussianSpatialModel(lon_0=POSITION.ra, lat_0=POSITION.dec, sigma="0.1 deg")
    extended = run(delta=0.2, spatial_model=shape)[0].select("spurious_flux")
    point = with_target[0].select("spurious_flux")
    # areas of a shape and the point spread function
    ratio = (0.1**2 + 0.05**2) / 0.05**2
    assert_allclose(extended["mean"] / point["mean"], ratio, rtol=0.2)
    noise = extended["statistical_err"] / point["statistical_err"]
    assert_allclose(noise, np.sqrt(ratio), rtol=0.1)
    assert not shape.sigma.frozen


def test_flux_is_that_of_a_fit_to_the_whole_map():
    """What is far from the source says nothing of it."""
    (dataset,) = make_mimic(np.random.default_rng(0), 1e10, 0.1, n_pixels=61)
    options = POSITION, EDGES[[0, 3]], make_source().spectral_model
    found = measure_flux({"mimic_1": dataset}, *options)
    dataset.models = [make_source()]
    estimator = FluxPointsEstimator(
        energy_edges=EDGES[[0, 3]], source="source", reoptimize=False
    )
    expected = estimator.run([dataset]).to_table(sed_type="flux")
    for name in ("flux", "flux_err", "sqrt_ts"):
        assert_allclose(found[name], expected[name], rtol=1e-3)


def test_flux_may_be_left_out():
    rng = np.random.default_rng(0)
    sets, target = [make_mimic(rng, 1e10) for _ in range(3)], make_mimic(rng, 1e10)
    estimator = MimicSystematicsEstimator(position=POSITION, radii=None, flux=False)
    result = estimator.run(sets, target)
    assert {"position", "flux"} & result.tables.keys() == {"position"}
    with pytest.raises(ValueError, match="no table 'flux': it was not asked for"):
        result.to_table("flux")
    with pytest.raises(ValueError, match="flux must be True or False, got 'no'"):
        estimator.flux = "no"


@pytest.mark.slow
def test_flux_of_mimics_is_that_where_the_target_is_safe():
    rng = np.random.default_rng(0)
    sets = [make_mimic(rng, 1e10) for _ in range(3)]
    (target,) = make_mimic(rng, 1e10)
    target.mask_safe.data[0] = False
    options = {"position": POSITION, "energy_edges": BANDS, "radii": None}
    result = MimicSystematicsEstimator(**options).run(sets, [target])
    rows = result.select("flux", band=None, name="mimic_1")
    assert not rows["flux"][0] > 0
    assert_allclose(rows["flux_err"][1], rows["flux_err"][1])
    assert np.isfinite(rows["flux"][1])


@pytest.mark.slow
def test_flux_points_with_systematic_errors(with_target, tmp_path):
    result, target = with_target
    target = target.copy(name="target")
    target.models = [make_source()]
    options = {"source": "source", "selection_optional": ["ul"], "reoptimize": False}
    for edges, band in ((BANDS, slice(0, 2)), (EDGES[[0, 3]], slice(2, 3))):
        estimator = FluxPointsEstimator(energy_edges=edges, **options)
        points = estimator.run([target])
        table = result.to_flux_table(points)
        assert_allclose(table["flux"], points.to_table(sed_type="flux")["flux"])
        expected = result.tables["spurious_flux"][band]
        for name in ("sys_errn", "sys_errp", "sys_ul"):
            assert_allclose(table[f"flux_{name}"].quantity, expected[name].quantity)
            assert np.all(table[f"flux_{name}"] > 0)
        for suffix in ("fits", "ecsv"):
            path = tmp_path / f"points_{len(table)}.{suffix}"
            table.write(path)
            again = Table.read(path)
            assert again.colnames == table.colnames
            assert_allclose(
                again["flux_sys_ul"].quantity, table["flux_sys_ul"].quantity
            )
            read = FluxPoints.read(path, reference_model=make_source().spectral_model)
            assert_allclose(read.flux.quantity, points.flux.quantity)
            assert_allclose(read.flux_err.quantity, points.flux_err.quantity)
    # a background that is too low makes a flux, so that the true one is lower
    assert table["flux_sys_errn"][0] > 2 * table["flux_sys_errp"][0]
    points = FluxPointsEstimator(energy_edges=EDGES, **options).run([target])
    with pytest.raises(ValueError, match=r"flux from 2.154 to 4.642 TeV, only 1 to 2"):
        result.to_flux_table(points)
    with pytest.raises(ValueError, match="exposure of the OFF observations. Give the"):
        run(has_target=False)[0].to_flux_table(points)


def test_limit_is_one():
    """Regression: a mean of -1.45 with an error of 0.30 and the limit -0.59.

    Three sets, each with an error of 1.34 by counts, agree by chance.
    """
    flux, error = -1.45 + np.array([-0.52, 0, 0.52]), np.full(3, 1.34)
    result = describe_flux(flux, error)
    assert_allclose([result.mean, result.statistical_err], [-1.45, 1.34])
    assert_allclose(result.mean_err, 1.34 / np.sqrt(3))
    assert_allclose(result.mean_ul, 1.645 * 1.34 / np.sqrt(3), rtol=1e-3)
    assert result.spread == 0
    assert result.sys_errp > 1.45 > result.sys_errn > 0
    assert result.sys_ul > result.mean_ul
    # events that are in three sets are no three of them
    shared = describe_flux(flux, error, repetition=3)
    assert_allclose(shared.mean_err, 1.34)
    assert np.isnan(shared.sys_ul)


@pytest.mark.slow
@pytest.mark.parametrize("is_same", [True, False])
def test_sets_share_events_of_the_same_place_only(is_same):
    """An OFF observation of another pointing has other events at the position."""
    rng = np.random.default_rng(0)
    sets = []
    for number in range(4):
        (dataset,) = make_mimic(rng, 1e10, off_obs_id=1000)
        (other,) = make_mimic(rng, 1e10, off_obs_id=2000 + number, obs_id=2)
        if not is_same:
            dataset.meta_table["DEC_PNT"] += 0.5 * number
        sets.append(Datasets([dataset, other]))
    estimator = MimicSystematicsEstimator("0.1 deg", position=POSITION, radii=None)
    (row,) = estimator.run(sets).tables["spurious_flux"]
    noise = np.fmax(row["std"], row["statistical_err"])
    # half of the events are in all four sets
    repetition = 2.5 if is_same else 1
    assert_allclose(row["mean_err"], noise * np.sqrt(repetition / 4), rtol=0.02)


def test_few_sets():
    one = describe_flux(np.array([1.0, np.nan]), np.array([0.5, 0.5]))
    assert_allclose([one.mean, one.mean_err], [1, 0.5])
    assert np.isnan([one.std, one.spread, one.sys_errn, one.sys_ul]).all()
    assert np.isnan(describe_flux(np.array([np.nan]), np.array([1.0]))).all()


@pytest.mark.slow
@pytest.mark.parametrize("n_sets", [3, 5, 10])
@pytest.mark.parametrize("mean", [0, 1])
@pytest.mark.parametrize("spread", [0, 0.5, 1, 2])
def test_errors_cover(n_sets, mean, spread):
    """The flux of another one is below the limit in 95%, and in the errors in 63%."""
    rng, n_toys = np.random.default_rng(0), 2000
    shape = n_toys, n_sets
    truth = mean + spread * rng.normal(size=shape)
    values = truth + rng.normal(size=shape)
    results = [describe_flux(_, np.ones(n_sets)) for _ in values]
    results = SpuriousFlux(*np.transpose(results))
    other = mean + spread * rng.normal(size=n_toys)
    assert np.mean(other < results.sys_ul) > 0.94
    assert np.mean(mean < results.mean_ul) > 0.93
    inside = (other > -results.sys_errp) & (other < results.sys_errn)
    assert np.mean(inside) > 0.6
    assert np.all(results.mean_ul > 0)


def test_target_is_not_averaged(with_target):
    result, _ = with_target
    table = result.tables["flux"]
    expected = average_flux(table[table["name"] != "target"])
    averaged = average_flux(table)
    assert_allclose(averaged["mean"], expected["mean"])
    assert averaged["n_sets"].tolist() == [4, 4, 4]


@pytest.mark.parametrize("factor", [1, 1e3])
def test_plot_has_the_target(with_target, factor):
    """As a star, or as an arrow with the number if it is far above."""
    result, _ = with_target
    table = result.tables["flux"].copy()
    is_target = table["name"] == "target"
    table["flux"][is_target] *= factor
    changed = type(result)(
        result.tables | {"flux": table}, result.correlation_radius, 10
    )
    _, ax = plt.subplots()
    plot_flux(changed, ax=ax)
    labels = [_.get_text() for _ in ax.get_legend().get_texts()]
    assert labels.count("target") == 1
    texts = [_.get_text() for _ in ax.texts]
    expected = [f"{_:.2g}" for _ in table["flux"][is_target]]
    assert texts == (expected if factor > 1 else [])
    plt.close()
