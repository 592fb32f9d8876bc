"""What users give to what carries the error of a background into a fit."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from gammapy.datasets import Datasets
from gammapy.makers import FoVBackgroundMaker
from gammapy.modeling.models import Models
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic.analysis.nights import find_nights
from gammapy_mimic.estimators import MimicSystematicsEstimator, stack_datasets
from gammapy_mimic.estimators.counting import get_runs
from gammapy_mimic.estimators.flux import measure_flux
from gammapy_mimic.report.answer import make_answer

from .source_toys import (
    AMPLITUDE_UNIT,
    EDGES,
    POSITION,
    RADIUS,
    make_mimic,
    make_source,
    make_toy_dataset,
    make_toy_result,
)
from .test_nuisance import GEOM, make_dataset, make_estimator, make_region, make_sets
from .test_nuisance import POSITION as PLACE
from .test_stacked_response import count_signal
from .test_stacked_response import make_dataset as make_masked_dataset


@pytest.fixture(scope="module")
def result():
    estimator = make_estimator(position=PLACE)
    return estimator.run(make_sets(np.random.default_rng(0)))


@pytest.fixture
def dataset():
    return make_dataset(np.random.default_rng(9), name="target")


METHODS = ("to_weights", "make_low_high", "prepare_dataset", "to_background_model")


# Numbers


@pytest.mark.parametrize(
    "values",
    [5 * u.percent, [5, 5, 5] * u.percent, Table({"f": [0.05] * 3})["f"]],
)
def test_errors_with_a_unit(values):
    """Regression: 5 percent was 5."""
    result, dataset = make_toy_result(0.05, 0.05), make_toy_dataset()
    weights = [result.to_weights(dataset, _).mask_fit.data for _ in (values, None)]
    assert_allclose(*weights)
    low, high = result.make_low_high(dataset, values)
    assert_allclose(low.background.data, 0.95 * dataset.background.data, rtol=1e-6)
    assert_allclose(high.background.data, 1.05 * dataset.background.data, rtol=1e-6)


@pytest.mark.parametrize("values", [3 * u.TeV, [None, 1, 2], object()])
def test_errors_that_are_no_numbers(values):
    result, dataset = make_toy_result(0.05), make_toy_dataset()
    with pytest.raises(ValueError, match="'f' must be a number, 0 or more, .* got"):
        result.to_weights(dataset, values)


def test_weights_by_the_name_of_the_covariance():
    """A band that it has left out has the total error."""
    result, dataset = make_toy_result(0.02, [0.1, 0.2, 0.3, 0.4]), make_toy_dataset()
    with pytest.raises(ValueError, match="There is no table 'covariance'"):
        result.to_weights(dataset, "error")
    result.tables["covariance"] = Table({"band": ["0", "1"], "error": [0.05, 0.06]})
    expected = result.to_weights(dataset, [0.05, 0.06, 0.3])
    weighted = result.to_weights(dataset, "error")
    assert_array_equal(weighted.mask_fit.data, expected.mask_fit.data)
    low, _ = result.make_low_high(dataset, "error")
    assert_allclose(low.background.data[2] / dataset.background.data[2], 0.7)
    with pytest.raises(ValueError, match=r"Choose from \['f', 'error'\]"):
        result.to_weights(dataset, "errors")


# Datasets


@pytest.mark.parametrize("name", METHODS)
def test_several_datasets(result, dataset, name):
    with pytest.raises(TypeError, match="got Datasets.*one dataset.*stack_datasets"):
        getattr(result, name)(Datasets([dataset]))


@pytest.mark.parametrize("name", METHODS)
def test_a_background_that_is_no_number(result, dataset, name):
    """Where it is not safe it does not matter, and where it is there is an error."""
    dataset.mask_fit = GEOM.region_mask([make_region()])
    dataset.background.data[0] = np.nan
    dataset.mask_safe.data[0] = False
    getattr(result, name)(dataset)
    dataset.background.data[1, 3, 4] = np.nan
    with pytest.raises(ValueError, match="target is not a number in 1 safe bin"):
        getattr(result, name)(dataset)


def test_lines_that_are_run_again(result, dataset):
    """Regression: the bias was multiplied into the background, and came again."""
    spectrum = dataset.to_spectrum_dataset(make_region(), name="spectrum")
    model = result.to_background_model(spectrum)
    expected = model.spectral_model.norms.copy()
    models = Models([model])
    models.set_penalties(result.make_penalty(models))
    Datasets([spectrum]).models = models
    # as a fit
    model.spectral_model.parameters[0].value = 1.3
    again = result.to_background_model(spectrum)
    assert again is not model
    assert_array_equal(again.spectral_model.norms, expected)
    prepared = result.prepare_dataset(spectrum)
    assert not prepared.models
    assert_array_equal(prepared.background.data, spectrum.background.data)


def test_stacking_of_parts():
    """One dataset holds all cutouts, with the response that each of them has."""
    parts = [make_masked_dataset(_) for _ in (1, 5)]
    parts[0].counts.data += 1
    parts[1] = parts[1].cutout(parts[1].counts.geom.center_skydir, "0.7 deg", name="b")
    whole = stack_datasets(Datasets([parts[0], make_masked_dataset(5)]))
    stacked = stack_datasets(Datasets(parts))
    assert stacked.counts.geom == parts[0].counts.geom
    assert_allclose(stacked.counts.data, parts[0].counts.data * parts[0].mask_safe.data)
    assert_allclose(count_signal(stacked), count_signal(whole), rtol=1e-5)
    assert stack_datasets(parts[:1]) is parts[0]
    with pytest.raises(ValueError, match="no datasets to be stacked"):
        stack_datasets(Datasets())


def test_stacking_of_datasets_without_a_mask():
    """All of them is safe."""
    parts = [make_toy_dataset().copy(name=_) for _ in "ab"]
    for part in parts:
        part.mask_safe = None
    stacked = stack_datasets(parts)
    assert_allclose(stacked.counts.data, 2 * parts[0].counts.data)
    assert parts[0].mask_safe is None


@pytest.mark.parametrize("n_targets", [1, 2])
def test_datasets_with_weights(result, n_targets):
    """Regression: a mask of numbers was an error. Its pixels count in full."""
    rng = np.random.default_rng(1)
    sets, targets = make_sets(rng, 3, 2), make_sets(rng, 1, n_targets)[0]
    # the norm is fitted, which is found in the counts
    maker = FoVBackgroundMaker(method="scale")
    for dataset in targets:
        maker.run(dataset)
    regions = [make_region()]
    estimator = make_estimator(regions=regions, flux=False, energy_edges=None)
    results = []
    for convert in (lambda _: _, result.to_weights):
        mimics = [Datasets([convert(_) for _ in values]) for values in sets]
        found = estimator.run(mimics, Datasets([convert(_) for _ in targets]))
        results.append(found)
    assert results[0].missing.keys() == results[1].missing.keys()
    for name in ("significance", "systematics", "regions", "maximum"):
        rows = [_.to_table(name) for _ in results]
        for column in rows[0].colnames:
            if rows[0][column].dtype.kind == "f":
                assert_allclose(*(_[column] for _ in rows), rtol=1e-6)


def test_gammapy_loses_more(result, dataset):
    """As the documentation says. If this fails, Gammapy keeps them: say so there."""
    assert result.to_weights(dataset).cutout(PLACE, "1 deg").stat_type == "cash"
    spectrum = dataset.to_spectrum_dataset(make_region(), name="spectrum")
    models = Models([result.to_background_model(spectrum)])
    models.set_penalties(result.make_penalty(models))
    models.parameters[0].value = 2
    datasets = Datasets([spectrum])
    datasets.models = models
    with_penalty = Datasets.stat_sum(datasets)
    spectrum.models = models
    assert Datasets([spectrum]).stat_sum() < with_penalty - 1


def test_spectrum_of_the_lines_has_the_counts_of_the_map():
    """Without a containment correction, the source has too many."""
    dataset = make_toy_dataset(n_pixels=51, binsz=0.01)
    region = CircleSkyRegion(POSITION, RADIUS)
    source = make_source(amplitude=1e-11 * AMPLITUDE_UNIT)
    dataset.models = [source]
    inside = dataset.counts.geom.region_mask([region]).data
    expected = np.sum(dataset.npred_signal().data * inside, axis=(1, 2))
    ratios = []
    for correction in (True, False):
        options = {"containment_correction": correction, "name": "spectrum"}
        spectrum = dataset.to_spectrum_dataset(region, **options)
        spectrum.models = [source.copy(name="source")]
        ratios.append(spectrum.npred_signal().data.squeeze() / expected)
    assert_allclose(ratios[0], 1, rtol=0.02)
    assert_allclose(ratios[1], 1 / (1 - np.exp(-2)), rtol=0.02)


# Injection


def test_injection_needs_a_target():
    sets = [make_mimic(np.random.default_rng(0), 1e10) for _ in range(3)]
    with pytest.raises(ValueError, match="datasets of the target are needed"):
        MimicSystematicsEstimator(RADIUS).inject(sets, make_source(), None)


@pytest.fixture
def toys():
    rng = np.random.default_rng(0)
    sets = [make_mimic(rng, 5e9, off_obs_id=_) for _ in range(1, 5)]
    return sets, make_mimic(rng, 1e10)


def test_source_without_counts(toys):
    """Regression: what was planted was nothing, and the truth was recovered."""
    sets, target = toys
    target[0].psf.psf_map.data[...] = 0
    source = make_source(amplitude=1e-11 * AMPLITUDE_UNIT)
    with pytest.raises(ValueError, match="predicts no counts in the dataset obs_1_"):
        MimicSystematicsEstimator(RADIUS).inject(sets, source, target)
    with pytest.raises(ValueError, match="predicts no counts in the dataset obs_1_"):
        measure_flux({"mimic_1": sets[0][0]}, POSITION, EDGES, target=target[0])


def test_fit_that_does_not_succeed(toys):
    """A set that is masked at the source recovers nothing."""
    sets, target = toys
    separation = sets[0][0].counts.geom.to_image().separation(POSITION)
    sets[0][0].mask_safe.data[:, separation.deg < 0.35] = False
    source = make_source(amplitude=1e-11 * AMPLITUDE_UNIT, is_free=True)
    table = MimicSystematicsEstimator(RADIUS).inject(sets, source, target)
    names = ["flux", "flux_err", "index", "index_err"]
    for name in names:
        assert np.isnan(table[name][0])
        assert np.isfinite(table[name][1:]).all()
    assert_allclose(table["flux"][-1], np.mean(table["flux"][1:-1]))


@pytest.mark.parametrize("seed", [3, 4])
def test_error_of_a_negative_flux(seed):
    """Regression: with a prediction next to 0, it was a small part of a count."""
    dataset = make_toy_dataset((1.5, 0.4, 0.1), n_pixels=21)
    counts = np.random.default_rng(seed).poisson(dataset.background.data)
    dataset.counts.data = counts.astype(float)
    source = make_source(amplitude=1e-14 * AMPLITUDE_UNIT)
    options = POSITION, EDGES[[0, 3]], source.spectral_model
    (row,) = measure_flux({"mimic_1": dataset}, *options)
    dataset.models = [source]
    # counts of a flux of 1
    flux = source.spectral_model.integral(*EDGES[[0, 3]])
    counts = dataset.npred_signal().data.sum() / flux.value
    assert row["flux"] < 0
    assert 1 < row["flux_err"] * counts < 3


# Nights, names and words


@pytest.mark.parametrize("value", ["nan", "None", "N/A", "--", " NULL", np.nan, -1])
def test_what_is_no_night(value):
    """Regression: such values were the name of one night of all that have none."""
    column = ["a", "b", value] if isinstance(value, str) else [1, 2, value]
    table = Table({"OBS_ID": [1, 2, 3], "NIGHT": column})
    with pytest.raises(ValueError, match=r"OBS_ID \[3\] have no value in the column"):
        find_nights(table, "NIGHT")
    with pytest.raises(ValueError, match="no night of the OFF observations 3"):
        get_runs([[1], [3]], {1: 20, 3: value})


@pytest.mark.parametrize("value", [None, np.ma.masked, "", " "])
def test_night_that_is_empty(value):
    with pytest.raises(ValueError, match="no night of the OFF observations 3"):
        get_runs([[1], [3]], {1: "a", 3: value})
    assert get_runs([[1], [3]], {1: "a", 3: 0}) == ["a", "0"]


def test_covariance_of_one_band():
    estimator = make_estimator(energy_edges=None)
    result = estimator.run(make_sets(np.random.default_rng(1), n_obs=2))
    reason = result.missing["covariance"]
    assert (
        "here is one, that of all energies. Give energy_edges, in a configuration"
        in reason
    )
    with pytest.raises(ValueError, match=r"energy_edges\. Choose from"):
        _ = result.covariance
    one = make_estimator().run(make_sets(np.random.default_rng(1), 2, 1))
    with pytest.raises(ValueError, match=r"here are 0: .*[^.]\. Choose from"):
        _ = one.covariance


def test_reason_is_said_once():
    result = make_toy_result(np.nan, np.nan, reason="there are few counts")
    table = result.tables["systematics"]
    table["offset_min"] = table["delta"] = table["delta_err"] = np.nan
    for line in str(result).splitlines():
        assert line.count("there are few counts") <= 1
    assert "10 TeV: not measurable: there are few counts; bias not known" in str(result)


def test_answer_has_one_reason():
    estimator = make_estimator(position=PLACE, flux=False, energy_edges=None)
    sets = make_sets(np.random.default_rng(1), n_sets=1, n_obs=1)
    target = make_sets(np.random.default_rng(2), n_sets=1, n_obs=1)[0]
    lines = make_answer(estimator.run(sets, target)).lines
    (line,) = (_ for _ in lines if "cannot calibrate" in _)
    assert line.startswith("Mimics cannot calibrate it: the mimics are worth 1.0 ")


def test_regions_of_one_name():
    """Each row has a name of its own."""
    labels = ["shell", "shell", "", "2", "shell"]
    regions = [
        CircleSkyRegion(PLACE, 0.2 * u.deg, meta={"label": _} if _ else {})
        for _ in labels
    ]
    sets = make_sets(np.random.default_rng(1), n_obs=2)
    result = make_estimator(regions=regions, energy_edges=None).run(sets)
    names = result.to_table("regions")["region"].tolist()
    assert names == ["shell", "shell (2)", "2", "2 (2)", "shell (3)"]


def test_position_that_is_not_on_the_map():
    position = PLACE.directional_offset_by(0 * u.deg, 3 * u.deg)
    estimator = make_estimator(position=position)
    with pytest.raises(ValueError, match=r"RA 83\.600 deg, Dec -18\.500 deg is not on"):
        estimator.run(make_sets(np.random.default_rng(1), n_obs=2))


def test_plan_without_a_finite_distance():
    sets = make_sets(np.random.default_rng(1), n_obs=1)
    rows = [(1, 10 * idx, idx + 1) for idx in range(len(sets))]
    plan = Table(rows=rows, names=["OBS_ID", "OFF_OBS_ID", "MIMIC_SET"])
    plan["DISTANCE"] = np.inf
    result = make_estimator(energy_edges=None).run(sets, plan=plan)
    with pytest.raises(ValueError, match="the plan has no finite DISTANCE"):
        result.to_table("distance")
    plan["DISTANCE"] = 0.1
    result = make_estimator(energy_edges=None).run(sets, plan=plan)
    # too few pairs for two bins make one
    assert result.select("distance")["n_pairs"].tolist() == [4]
