"""Spread of the FoV normalisation: what sets share counts once."""

import numpy as np
import pytest
from astropy.table import Table
from gammapy.datasets import Datasets, MapDataset
from gammapy.maps import Map, MapAxis, WcsGeom
from gammapy.modeling.models import FoVBackgroundModel
from numpy.testing import assert_allclose

from gammapy_mimic.estimators import (
    MimicSystematics,
    MimicSystematicsEstimator,
    make_prior,
    measure_normalisation,
)

ERROR = 0.03
SPREAD = 0.02
AXIS = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=1)
GEOM = WcsGeom.create(width=1, binsz=0.5, axes=[AXIS])


def make_dataset(norm, off_obs_id=None, obs_id=0):
    """Dataset whose norm was fitted, of an OFF observation that may be unknown."""
    meta = {"OBS_ID": [obs_id]}
    if off_obs_id is not None:
        meta["OFF_OBS_ID"] = [off_obs_id]
    background = Map.from_geom(GEOM, data=100.0)
    dataset = MapDataset(
        counts=background * norm,
        background=background,
        mask_safe=Map.from_geom(GEOM, data=True, dtype=bool),
        meta_table=Table(meta),
    )
    model = FoVBackgroundModel(dataset_name=dataset.name)
    model.spectral_model.norm.value, model.spectral_model.norm.error = norm, ERROR
    dataset.models = [model]
    return dataset


def make_set(norms, off_obs_ids):
    pairs = zip(norms, off_obs_ids, strict=True)
    return [make_dataset(*pair, obs_id=idx) for idx, pair in enumerate(pairs)]


def draw_norms(rng, n_runs):
    return rng.normal(1.1, np.hypot(SPREAD, ERROR), n_runs)


def test_same_runs_in_several_sets():
    """Sets of the same OFF observations know no more than one of them."""
    norms, runs = draw_norms(np.random.default_rng(0), 20), np.arange(20)
    shuffled = np.random.default_rng(1).permutation(20)
    groups = [make_set(norms[_], runs[_]) for _ in (runs, shuffled, runs[::-1])]
    # two halves, which share nothing, are what one set is
    halves = [make_set(norms[_], runs[_]) for _ in (runs[:10], runs[10:])]
    (once,) = measure_normalisation(dict(enumerate(halves)))
    (more,) = measure_normalisation(dict(enumerate(groups)))
    for name in once.colnames[2:]:
        assert_allclose(more[name], once[name], rtol=1e-6, err_msg=name)
    assert more["mean_err"] > 0.9 * np.std(norms, ddof=1) / np.sqrt(20)
    assert (once["n"], more["n"]) == (20, 60)


@pytest.mark.slow
@pytest.mark.parametrize("n_runs", [18, 25, 45])
def test_errors_of_shared_runs(n_runs):
    """The scatter of the mean is its error; a prior holds 68% of other values."""
    rng = np.random.default_rng(n_runs)
    sets = {_: make_set(np.ones(15), np.zeros(15)) for _ in range(5)}
    rows, covered, below = [], [], []
    for _ in range(150):
        norms = draw_norms(rng, n_runs)
        for datasets in sets.values():
            # none twice in a set, and the same ones in many
            runs = rng.choice(n_runs, 15, replace=False)
            for dataset, run in zip(datasets, runs, strict=True):
                dataset.background_model.spectral_model.norm.value = norms[run]
                dataset.meta_table["OFF_OBS_ID"] = run
        table = measure_normalisation(sets)
        prior = make_prior(table)
        rows.append(table[0])
        other = rng.normal(1.1, SPREAD)
        covered.append(abs(other - prior.mu.value) < prior.sigma.value)
        below.append(table["spread_ul"][0] > SPREAD)
    ratio = np.std([_["mean"] for _ in rows]) / np.mean([_["mean_err"] for _ in rows])
    assert 0.85 < ratio < 1.15
    # three standard errors of 150 toys
    assert_allclose(np.mean(covered), 0.68, atol=0.115)
    assert np.mean(below) > 0.95 - 0.055


def test_the_plan_tells_the_runs():
    """Also where the meta tables do not."""
    norms = draw_norms(np.random.default_rng(2), 6)
    datasets = {
        number: Datasets(
            [make_dataset(norm, obs_id=idx) for idx, norm in enumerate(norms)]
        )
        for number in (1, 2, 3)
    }
    rows = [(idx, number, 100 + idx) for number in datasets for idx in range(6)]
    plan = Table(rows=rows, names=["OBS_ID", "MIMIC_SET", "OFF_OBS_ID"])
    estimator = MimicSystematicsEstimator("1 deg")
    (row,) = estimator.run(datasets, plan=plan).to_table("normalisation")
    assert (row["n"], row["n_runs"]) == (18, 6)
    expected = measure_normalisation({1: make_set(norms, range(6))})
    assert_allclose(row["mean_err"], expected["mean_err"][0], rtol=1e-6)


@pytest.mark.parametrize("off_obs_id", [None, -1])
def test_unknown_runs(off_obs_id, caplog):
    """Each value is one of its own, and it is said."""
    norms = draw_norms(np.random.default_rng(3), 6)
    sets = {_: make_set(norms, [off_obs_id] * 6) for _ in (1, 2)}
    (row,) = measure_normalisation(sets)
    assert (row["n"], row["n_runs"]) == (12, 12)
    assert "The OFF observations of 12 values of the norm are not known" in caplog.text


def test_stacked_observations():
    """A stack has no norm of a single observation."""
    norms = draw_norms(np.random.default_rng(4), 5)
    datasets = make_set(norms, range(5))
    stacked = make_dataset(5.0)
    stacked.meta_table = Table({"OBS_ID": [[1, 2]], "OFF_OBS_ID": [[1, 2]]})
    (row,) = measure_normalisation({1: [*datasets, stacked]})
    (expected,) = measure_normalisation({1: datasets})
    assert (row["n"], row["mean"]) == (5, expected["mean"])
    with pytest.raises(ValueError, match="no fitted background models of single"):
        measure_normalisation({1: [stacked], 2: [stacked]})


def test_too_few_runs():
    sets = {_: make_set([1.0, 1.1], [7, 8]) for _ in (1, 2, 3)}
    with pytest.raises(ValueError, match="there are 2 different observations, fewer"):
        measure_normalisation(sets)


def test_prior_of_a_result_that_was_written(tmp_path):
    norms = draw_norms(np.random.default_rng(5), 8)
    sets = [Datasets(make_set(norms, range(8))) for _ in range(3)]
    result = MimicSystematicsEstimator("1 deg").run(sets)
    result.write(tmp_path / "result.fits")
    prior, expected = (
        _.to_prior() for _ in (MimicSystematics.read(tmp_path / "result.fits"), result)
    )
    assert (prior.mu.value, prior.sigma.value) == (
        expected.mu.value,
        expected.sigma.value,
    )
