"""Errors of a background of rings, whose OFF counts are those of the same map."""

import astropy.units as u
import numpy as np
import pytest
from gammapy.datasets import Datasets
from gammapy.makers import RingBackgroundMaker

from gammapy_mimic.estimators import MimicSystematicsEstimator

from .test_systematics import Field, simulate_sets

N_TOYS = 10
OFFSETS = ("all", "0", "1")


def simulate_rings(field, seed):
    maker = RingBackgroundMaker(r_in="0.5 deg", width="0.3 deg")
    return [
        Datasets([maker.run(_) for _ in datasets])
        for datasets in simulate_sets(field, seed)
    ]


@pytest.fixture(scope="module")
def pulls():
    """Bias of noise alone over its error, by band of offset. Shape (n_toys,)."""
    field = Field(n_obs=4, n_events=60000, binsz=0.1)
    options = {"offset_edges": [0, 0.7, 2] * u.deg, "radii": None}
    estimator = MimicSystematicsEstimator("0.2 deg", **options)
    pulls = {name: [] for name in OFFSETS}
    for seed in range(N_TOYS):
        result = estimator.run(simulate_rings(field, seed))
        for name, values in pulls.items():
            row = result.select("systematics", offset_band=name)[0]
            values.append(row["delta"] / row["delta_err"])
    return pulls


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFSETS)
def test_error_of_the_bias_of_rings(pulls, name):
    """All circles of a map agree with their rings, which are the other circles."""
    scatter = np.sqrt(np.mean(np.square(pulls[name])))
    assert 0.4 < scatter < 1.5


def test_rings_that_are_stacked():
    """Without runs there is no scatter that tells how much of the noise is common."""
    field = Field(n_obs=1, n_events=60000, binsz=0.1)
    sets = simulate_rings(field, 0)
    for datasets in sets:
        datasets[0].meta_table.remove_column("OFF_OBS_ID")
    result = MimicSystematicsEstimator("0.2 deg", radii=None).run(sets)
    (row,) = result.select("systematics")
    assert row["norm_share"] == 0
    assert row["delta_err"] > 1 / np.sqrt(row["n_counts"])
