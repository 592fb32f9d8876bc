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
from gammapy_mimic.estimators import (
    SignificanceDistribution,
    make_significance_table,
    measure_significance,
    stack_significance,
)
from gammapy_mimic.makers import get_center, reduce_fov_background
from gammapy_mimic.selection import MimicPlan
from gammapy_mimic.simulate import make_irfs, simulate_observations
from gammapy_mimic.visualization import (
    plot_significance,
    plot_significance_distribution,
    plot_significance_distributions,
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


@pytest.mark.slow
@pytest.mark.parametrize("background", [2.0, 20.0])
def test_errors_and_bias_over_many_seeds(background):
    """Mean and width scatter by their errors, around -1 / (6 sqrt(N_b)) and 1."""
    distributions = [
        measure_significance(make_dataset(background, seed))[1] for seed in range(100)
    ]
    mean = np.array([_.mean for _ in distributions])
    width = np.array([_.width for _ in distributions])

    error = np.mean([_.mean_error for _ in distributions])
    assert_allclose(np.std(mean), error, rtol=0.25)
    expected = np.mean([_.expected_mean for _ in distributions])
    assert abs(np.mean(mean) - expected) < 3 * error / 10 + 0.002

    error = np.mean([_.width_error for _ in distributions])
    assert_allclose(np.std(width), error, rtol=0.25)
    assert abs(np.mean(width) - 1) < 3 * error / 10 + 0.005


def test_expected_mean():
    _, distribution = measure_significance(make_dataset(10.0, 0), "0.2 deg")
    # circles of 0.2 deg hold 49 pixels of 0.05 deg
    assert_allclose(distribution.expected_mean, -1 / (6 * np.sqrt(490)), rtol=0.05)
    assert_allclose(distribution.n_independent, 16 / (np.pi * 0.04), rtol=0.05)


def test_too_little_background():
    with pytest.raises(ValueError, match=r"flat has no position with 10 background"):
        measure_significance(make_dataset(0.1, 0))


def test_source_is_seen():
    dataset = make_dataset(10.0, 0)
    dataset.counts.data[0, 40, 40] += 100
    significance, distribution = measure_significance(dataset)
    peak = np.unravel_index(np.nanargmax(significance.data), significance.data.shape)
    # the circle of 0.1 deg holds the source from two pixels away
    assert np.hypot(peak[0] - 40, peak[1] - 40) <= 2
    assert np.max(distribution.values) > 7


def test_stack():
    parts = [
        SignificanceDistribution("a", np.array([1.0, 2.0]), 1.5, -0.1),
        SignificanceDistribution("b", np.array([3.0, 4.0, 5.0, 6.0]), 2.5, -0.4),
    ]
    total = stack_significance(parts)
    assert total.mean == 3.5
    assert total.n_independent == 4
    assert_allclose(total.expected_mean, -0.3)
    table = make_significance_table([*parts, total])
    assert table["name"].tolist() == ["a", "b", "all"]
    assert "mean +3.500" in str(total)


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

    distributions = []
    for idx in range(n_sets):
        plan_table["OFF_OBS_ID"] = [101 + 2 * idx, 102 + 2 * idx]
        pool = Observations([off[2 * idx], off[2 * idx + 1]])
        mimics = MimicMaker(pool, plan_table).make_observations(targets)
        dataset = reduce_with_irf(mimics, geom)
        distributions.append(measure_significance(dataset)[1])
    total = stack_significance(distributions)

    # errors of mean and width: 0.005 and 0.002
    assert total.mean_error < 0.006
    assert total.width_error < 0.003
    assert abs(total.width - 1) < 0.02
    assert abs(total.mean - total.expected_mean) < 0.02


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


def test_plots():
    significance, distribution = measure_significance(make_dataset(10.0, 0))
    assert plot_significance_map(significance).get_title() == ""
    plt.close("all")
    _, ax = plt.subplots()
    assert plot_significance_distribution(distribution, ax=ax) is ax
    labels = [_.get_text() for _ in ax.get_legend().get_texts()]
    assert f"width {distribution.width:.3f}" in labels[0]
    _, ax = plt.subplots()
    total = stack_significance([distribution, distribution])
    plot_significance_distributions([distribution, distribution], total, ax=ax)
    assert len(ax.get_legend().get_texts()) == 4
    figure = plot_significance(significance, distribution, title="one")
    assert len(figure.axes) == 3
    plt.close("all")
