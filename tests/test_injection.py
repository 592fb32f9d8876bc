"""A source that is planted in mimics is recovered, with the error of the background."""

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.table import Table
from gammapy.datasets import Datasets
from gammapy.modeling.models import PowerLawSpectralModel, SkyModel
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.estimators.flux import describe_flux

from .source_toys import (
    EDGES,
    RADIUS,
    make_asimov,
    make_mimic,
    make_source,
    recover_spectrum,
)

AMPLITUDE = 1e-11 * u.Unit("cm-2 s-1 TeV-1")
TRUTH = make_source(amplitude=AMPLITUDE).spectral_model.integral(*EDGES[[0, -1]])


def inject(delta=0.0, model=None, n_sets=6, seed=0, n_energies=3, **options):
    """Plant a source in sets whose background is higher by a part delta."""
    rng = np.random.default_rng(seed)
    sets = [make_mimic(rng, 5e9, delta, off_obs_id=_) for _ in range(1, n_sets + 1)]
    target = make_mimic(rng, 1e10)
    estimator = MimicSystematicsEstimator(RADIUS, radii=None)
    model = make_source(amplitude=AMPLITUDE, is_free=True) if model is None else model
    return estimator.inject(sets, model, target, **options)


@pytest.mark.slow
@pytest.mark.parametrize("delta", [0.0, 0.05])
def test_source_is_recovered(delta):
    """Within two standard errors of the truth and what the planted bias makes of it."""
    table = inject(delta)
    assert table["name"].tolist()[-1] == "all"
    assert_allclose(table["flux_true"].quantity.to_value(TRUTH.unit), TRUTH.value)
    assert_allclose(table["index_true"], 2.5)
    flux, index = recover_spectrum(make_asimov(1e10, delta, AMPLITUDE))
    if delta == 0:
        assert_allclose([flux / TRUTH, index], [1, 2.5], rtol=2e-3)
    else:
        assert flux > 1.02 * TRUTH
    row = table[-1]
    assert abs(row["flux"] - flux.value) < 2 * row["flux_err"]
    assert abs(row["index"] - index) < 2 * row["index_err"]
    # errors are those of the sets
    errors = table["flux_err"][:-1]
    expected = describe_flux(table["flux"].data[:-1], errors.data)
    assert_allclose(row["flux_err"], expected.mean_err)
    assert np.all(table["calibrated"] <= table["significance"])
    assert np.all(table["significance"] > 5)


@pytest.mark.slow
def test_flux_of_five_sigma():
    """With as much of the source, the calibrated significance is 5 on average."""
    flux = inject()["flux_5_sigma"].quantity[0]
    scale = (flux / TRUTH).to_value("")
    # six mimics say little about five sigma
    assert 1 < scale < 10
    model = make_source(amplitude=scale * AMPLITUDE)
    tables = [inject(model=model, random_state=_) for _ in range(2)]
    values = np.array([table["calibrated"][:-1] for table in tables])
    # each with an error of about 1, or less as the background is not well known
    assert abs(np.mean(values) - 5) < 3 / np.sqrt(values.size)
    assert_allclose(tables[0]["flux_5_sigma"].quantity / flux, 1, rtol=1e-6)


def test_few_sets_do_not_tell():
    """Two sets calibrate nothing."""
    table = inject(n_sets=2, plan=None)
    assert np.isnan(table["flux_5_sigma"]).all()
    assert np.isfinite(table["flux"]).all()


@pytest.mark.slow
def test_seed():
    first, again, other = (inject(random_state=_, n_sets=3) for _ in (1, 1, 2))
    assert_array_equal(first["flux"], again["flux"])
    assert np.all(first["flux"] != other["flux"])


def test_nothing_is_changed():
    rng = np.random.default_rng(0)
    sets = [make_mimic(rng, 1e10, off_obs_id=_) for _ in range(1, 4)]
    target, model = make_mimic(rng, 1e10), make_source()
    before = [_[0].counts.data.copy() for _ in (*sets, target)]
    estimator = MimicSystematicsEstimator(RADIUS, radii=None)
    estimator.inject(sets, model, target)
    assert estimator.position is None
    for counts, values in zip(before, (*sets, target), strict=True):
        assert_array_equal(values[0].counts.data, counts)
        assert values[0].models is None
    assert model.spectral_model.amplitude.error == 0


def test_invalid_injections():
    estimator, rng = MimicSystematicsEstimator(RADIUS), np.random.default_rng(0)
    sets, target = [make_mimic(rng, 1e10) for _ in range(3)], make_mimic(rng, 1e10)
    spectrum = SkyModel(PowerLawSpectralModel(), name="spectrum")
    with pytest.raises(ValueError, match="model spectrum has no position"):
        estimator.inject(sets, spectrum, target)
    model = make_source()
    model.spatial_model.lon_0.value += 5
    with pytest.raises(ValueError, match="is not on the map"):
        estimator.inject(sets, model, target)
    for values in (*sets, target):
        values[0].exposure = None
    with pytest.raises(ValueError, match="target has no exposure, which a flux needs"):
        estimator.inject(sets, make_source(), target)


# Error against distance


def make_pairs(deltas, n_sets=3, rng=None):
    """Sets of one dataset for each error of the background, and their plan."""
    rng = np.random.default_rng(0) if rng is None else rng
    sets, rows = {}, []
    for mimic_set in range(1, n_sets + 1):
        values = Datasets()
        for obs_id, delta in enumerate(deltas, start=1):
            off = 1000 * mimic_set + obs_id
            (dataset,) = make_mimic(rng, 1e10, delta, off, obs_id, 25)
            values.append(dataset)
            rows.append((obs_id, mimic_set, off, abs(delta) * 10))
        sets[mimic_set] = values
    names = ["OBS_ID", "MIMIC_SET", "OFF_OBS_ID", "DISTANCE"]
    return sets, Table(rows=rows, names=names)


def test_error_grows_with_distance(tmp_path):
    deltas = [0, 0, 0, 0, 0.1, 0.1, 0.1, 0.1, 0.3, 0.3, 0.3, 0.3]
    sets, plan = make_pairs(deltas)
    estimator = MimicSystematicsEstimator(RADIUS, radii=None, energy_edges=EDGES)
    result = estimator.run(sets, plan=plan)
    table = result.select("distance")
    assert table["n_pairs"].sum() == len(plan)
    assert table["n_pairs"].min() >= 6
    assert len(table) == 5
    assert_allclose(table["distance"][[0, -1]], [0, 3], atol=0.5)
    assert np.all(table["distance_min"] <= table["distance"])
    assert np.all(table["distance_max"] >= table["distance"])
    pure = table["distance_min"] == table["distance_max"]
    pulls = (table["delta"] - table["distance"] / 10) / table["delta_err"]
    assert pure.sum() >= 3
    assert np.all(np.abs(pulls[pure]) < 3.5)
    # by energy, too, and in the file and the plot
    rows = result.select("distance", band=0, distance_band=0)
    assert len(rows) == 1
    result.write(tmp_path / "result.fits")
    again = type(result).read(tmp_path / "result.fits")
    assert_allclose(again.select("distance")["delta"], table["delta"])
    ax = again.plot_systematics(by="distance")
    assert ax.get_xlabel().startswith("Distance")
    assert ax.get_xscale() == "linear"
    labels = [_.get_text() for _ in ax.get_legend().get_texts()]
    assert labels == ["1 to 10 TeV"]
    plt.close()


def test_few_observations_are_in_few_bins():
    """Bins of the same observations tell nothing apart, and have no errors."""
    sets, plan = make_pairs([0, 0.1, 0.2, 0.3], n_sets=4)
    plan["OFF_OBS_ID"] = 1000 + plan["OBS_ID"]
    result = MimicSystematicsEstimator(RADIUS, radii=None).run(sets, plan=plan)
    table = result.select("distance")
    assert table["n_pairs"].tolist() == [16]
    assert np.isfinite(table["delta_err"]).all()


def test_without_a_distance():
    sets, plan = make_pairs([0, 0, 0])
    estimator = MimicSystematicsEstimator(RADIUS, radii=None)
    result = estimator.run(sets)
    assert "distance" not in result.tables.keys() | result.missing.keys()
    plan.remove_column("DISTANCE")
    result = estimator.run(sets, plan=plan)
    assert "no finite DISTANCE" in result.missing["distance"]


def test_stacked_pairs_have_no_distance():
    sets, plan = make_pairs([0, 0.1, 0.2])
    stacked = {}
    for name, values in sets.items():
        stacked[name] = Datasets([values.stack_reduce(name=f"stacked_{name}")])
    result = MimicSystematicsEstimator(RADIUS, radii=None).run(stacked, plan=plan)
    assert "stacked_1 is of 3 pairs, whose" in result.missing["distance"]
