"""The figure of the largest significances has the positions of the table."""

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from gammapy.datasets import Datasets
from numpy.testing import assert_allclose
from regions import CircleSkyRegion

from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.report.figures import make_figures
from gammapy_mimic.visualization import plot_maximum

from .test_systematics_faults import CENTER, make_dataset, make_geom, make_mask

HOLE = SkyCoord(CENTER.ra, CENTER.dec + 0.8 * u.deg)
GEOM = make_geom(width=2.5)


def make_set(seed, mask_safe=None):
    """A set with a hot spot where the target has a source, or a hole."""
    dataset = make_dataset(np.random.default_rng(seed), geom=GEOM)
    for position in (CENTER, HOLE):
        spot = CircleSkyRegion(position, 0.15 * u.deg)
        hot = dataset.counts.geom.region_mask([spot]).data
        dataset.counts.data[hot] += 5 * dataset.counts.data.mean()
    dataset.mask_safe = mask_safe
    return Datasets([dataset])


@pytest.fixture(scope="module")
def result():
    hole = [CircleSkyRegion(HOLE, 0.6 * u.deg)]
    target = make_set(9, GEOM.region_mask(hole, inside=False))
    estimator = MimicSystematicsEstimator("0.1 deg", exclusion_mask=make_mask(GEOM))
    return estimator.run([make_set(_) for _ in range(3)], target)


def get_points(ax):
    return {line.get_label(): line.get_xdata() for line in ax.lines}


def test_points_are_those_of_the_table(result):
    """Those of mimics were of all positions, also of the excluded sources."""
    _, ax = plt.subplots()
    points = get_points(plot_maximum(result, ax=ax))
    (row,) = result.tables["maximum"]
    mimics = points["mimic sets"]
    expected = row["mimic_max"], row["mimic_mean"]
    assert_allclose([np.max(mimics), np.mean(mimics)], expected)
    assert_allclose(points["target"], row["significance"])
    everywhere = result.select("significance", name="mimic_1")["maximum"][0]
    assert mimics.max() < everywhere / 2


def test_caption_is_of_both(result):
    (figure,) = make_figures(result)["maximum"]
    assert "both outside of the excluded sources" in figure.caption


def test_mimics_alone_have_all_positions():
    sets = [make_set(_) for _ in range(3)]
    alone = MimicSystematicsEstimator("0.1 deg").run(sets)
    _, ax = plt.subplots()
    points = get_points(plot_maximum(alone, ax=ax))
    table = alone.tables["significance"]
    expected = table["maximum"][np.isin(table["name"], alone.names)]
    assert_allclose(points["mimic sets"], expected)
