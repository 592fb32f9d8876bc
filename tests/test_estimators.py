from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from gammapy.data import Observations
from gammapy.datasets import MapDataset
from gammapy.makers import DatasetsMaker, MapDatasetMaker, SafeMaskMaker
from gammapy.maps import Map, MapAxis, WcsGeom
from numpy.testing import assert_allclose

from gammapy_mimic import MimicMaker
from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.makers import get_center, reduce_fov_background
from gammapy_mimic.selection import MimicPlan
from gammapy_mimic.simulate import make_irfs, simulate_observations
from gammapy_mimic.visualization import (
    plot_significance,
    plot_significance_distribution,
    plot_significance_map,
)


def make_dataset(background, seed=None, width=4):
    """Dataset with a flat background in each pixel, and counts drawn from it."""
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=1)
    geom = WcsGeom.create(skydir=(0, 0), width=width, binsz=0.05, axes=[axis])
    counts = np.random.default_rng(seed).poisson(background, geom.data_shape)
    return MapDataset(
        counts=Map.from_geom(geom, data=counts.astype(float)),
        background=Map.from_geom(geom, data=background * np.ones(geom.data_shape)),
        mask_safe=Map.from_geom(geom, data=True, dtype=bool),
        name="flat",
    )


def measure(*datasets, radius="0.1 deg"):
    """Result of datasets, each a mimic set."""
    return MimicSystematicsEstimator(radius).run(list(datasets))


def get_row(result, name="all"):
    return result.select("significance", name=name)[0]


@pytest.mark.slow
@pytest.mark.parametrize("background", [2.0, 20.0])
def test_errors_and_bias_over_many_seeds(background):
    """Mean and width scatter by their errors, around -1 / (6 sqrt(N_b)) and 1."""
    datasets = [make_dataset(background, seed) for seed in range(100)]
    table = measure(*datasets).tables["significance"]
    *rows, total = table
    mean, width = (np.array([row[_] for row in rows]) for _ in ("mean", "width"))

    error = np.mean([row["mean_err"] for row in rows])
    assert_allclose(np.std(mean), error, rtol=0.25)
    expected = np.mean([row["expected_mean"] for row in rows])
    assert abs(np.mean(mean) - expected) < 3 * error / 10 + 0.002
    assert_allclose(total["mean_err"], error / 10, rtol=0.05)

    error = np.mean([row["width_err"] for row in rows])
    assert_allclose(np.std(width), error, rtol=0.25)
    assert abs(np.mean(width) - 1) < 3 * error / 10 + 0.005


def test_expected_mean():
    row = get_row(measure(make_dataset(10.0, 0), radius="0.2 deg"))
    # circles of 0.2 deg hold 49 pixels of 0.05 deg
    assert_allclose(row["expected_mean"], -1 / (6 * np.sqrt(490)), rtol=0.05)
    assert_allclose(row["n_independent"], 16 / (np.pi * 0.04), rtol=0.05)


def test_too_little_background(caplog):
    row = get_row(measure(make_dataset(0.1, 0)))
    assert "mimic_1, all: no position has 10 background counts" in caplog.text
    assert np.isnan([row["mean"], row["width"], row["expected_mean"]]).all()


def test_source_is_seen():
    dataset = make_dataset(10.0, 0)
    dataset.counts.data[0, 40, 40] += 100
    result = measure(dataset)
    significance = result.maps["mimic_1"].get_image().data
    peak = np.unravel_index(np.nanargmax(significance), significance.shape)
    # the circle of 0.1 deg holds the source from two pixels away
    assert np.hypot(peak[0] - 40, peak[1] - 40) <= 2
    assert np.max(result.get_significance()) > 7


def test_all_sets_together():
    """Positions of all sets, taken as independent."""
    result = measure(make_dataset(10.0, 0), make_dataset(10.0, 1))
    assert result.tables["significance"]["name"].tolist() == [
        "mimic_1",
        "mimic_2",
        "all",
    ]
    values = np.concatenate([result.get_significance(_) for _ in result.names])
    total = get_row(result)
    assert_allclose([total["mean"], total["width"]], [np.mean(values), np.std(values)])
    for name in ("n_positions", "n_independent", "n_above_3", "n_below_3"):
        parts = [get_row(result, _)[name] for _ in result.names]
        assert_allclose(total[name], sum(parts))
    assert_allclose(total["mean_err"], total["width"] / total["n_independent"] ** 0.5)
    assert total["n_above_3"] == np.sum(values > 3)


def reduce_with_irf(observations, geom):
    """Stack with the background IRF as it is, without normalisation to the counts."""
    makers = [
        MapDatasetMaker(["counts", "background"]),
        SafeMaskMaker(["aeff-default", "offset-max"], offset_max="2 deg"),
    ]
    return DatasetsMaker(makers).run(MapDataset.create(geom), observations)[0]


@pytest.mark.slow
def test_mimics_of_a_true_background():
    """100 mimic sets whose background IRF is the truth: width 1, mean -1/(6 sqrt N).

    Sets share no event, so that the errors are those of 100 independent sets.
    """
    n_sets = 100
    irfs = partial(make_irfs, background="2d", rate=4)
    field = {"target": SkyCoord(329.7, -30.2, unit="deg")}
    options = {"zenith": ("15 deg", "25 deg"), "irfs": irfs}
    targets = simulate_observations(2, targets=field, **options)
    off = simulate_observations(2 * n_sets, first_obs_id=101, **options)
    plan_table = MimicPlan.create({1: 101, 2: 102}).table
    axis = MapAxis.from_energy_bounds("0.5 TeV", "20 TeV", nbin=3)
    geom = WcsGeom.create(
        skydir=get_center(targets), width=5, binsz=0.05, proj="TAN", axes=[axis]
    )

    datasets = []
    for idx in range(n_sets):
        plan_table["OFF_OBS_ID"] = [101 + 2 * idx, 102 + 2 * idx]
        pool = Observations([off[2 * idx], off[2 * idx + 1]])
        mimics = MimicMaker(pool, plan_table).make_observations(targets)
        datasets.append(reduce_with_irf(mimics, geom))
    total = get_row(measure(*datasets))

    # errors of mean and width: 0.005 and 0.002
    assert total["mean_err"] < 0.006
    assert total["width_err"] < 0.003
    assert abs(total["width"] - 1) < 0.02
    assert abs(total["mean"] - total["expected_mean"]) < 0.02


def test_fov_background(stores):
    observations = stores["off"].get_observations([101, 102])
    dataset = reduce_fov_background(observations)
    assert_allclose(dataset.background.data.sum(), dataset.counts.data.sum(), rtol=1e-5)
    assert dataset.counts.data.sum() > 1000
    # the map holds every event up to the largest offset
    assert not dataset.mask_safe.data[:, [0, -1]].any()
    assert not dataset.mask_safe.data[:, :, [0, -1]].any()

    parallel = reduce_fov_background(observations, n_jobs=2)
    assert_allclose(parallel.background.data, dataset.background.data)


def test_center_of_fields_on_both_sides_of_the_ra_wrap():
    target = SkyCoord(0.1, -30, unit="deg")
    observations = simulate_observations(4, targets={"a": target})
    assert get_center(observations).separation(target).deg < 0.01


def test_geometry_of_the_fields(stores):
    """Sets of one geometry, also where a target has no partner in one of them."""
    fields = stores["off"].get_observations([101, 102])
    one, both = (
        reduce_fov_background(fields[:_], fields=fields, energy_bins=2, binsz="0.2 deg")
        for _ in (1, 2)
    )
    assert one.counts.geom == both.counts.geom


def test_plots():
    result = measure(make_dataset(10.0, 0), make_dataset(10.0, 1))
    assert plot_significance_map(result).get_title() == "Mimic set 1"
    plt.close("all")
    _, ax = plt.subplots()
    assert plot_significance_distribution(result, ["mimic_2"], ax=ax) is ax
    labels = [_.get_text() for _ in ax.get_legend().get_texts()]
    assert f"width {get_row(result, 'mimic_2')['width']:.3f}" in labels[0]
    _, ax = plt.subplots()
    plot_significance_distribution(result, ["all", *result.names], ax=ax)
    assert len(ax.get_legend().get_texts()) == 5
    largest = get_row(result, "mimic_1")["maximum"]
    assert f"at most {largest:.1f}" in ax.get_legend().get_texts()[2].get_text()
    figure = plot_significance(result, ["mimic_1"], title="one")
    assert len(figure.axes) == 3
    figure = plot_significance(result)
    titles = [_.get_title() for _ in figure.axes if _.get_title()]
    assert titles == ["Mimic set 1", "Mimic set 2", "1 to 10 TeV"]
    figure.draw_without_rendering()
    plt.close("all")
