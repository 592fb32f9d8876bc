"""Errors and progress of a data reduction are of observations, not of blocks."""

import re

import pytest
from gammapy.datasets import MapDataset
from gammapy.makers import MapDatasetMaker
from gammapy.makers.core import Maker
from gammapy.maps import MapAxis, WcsGeom

from gammapy_mimic.makers import reduce_observations
from gammapy_mimic.utils import progress
from gammapy_mimic.utils.parallel import run_parallel

from .test_parallel import Source, fail


class FailingMaker(Maker):
    """Fails for one observation."""

    tag = "FailingMaker"

    def run(self, dataset, observation=None):
        if observation.obs_id == 103:
            raise ValueError("no good within 0.103 deg")
        return dataset


def reduce(observations, *makers, **options):
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=1)
    geom = WcsGeom.create(skydir=(330, -30), width=4, binsz=0.5, axes=[axis])
    reference = MapDataset.create(geom, name="stacked")
    makers = [MapDatasetMaker(selection=["counts"]), *makers]
    return reduce_observations(reference, observations, makers, **options)


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("stack", [False, True])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_observation_of_a_block_is_named(stores, stack, n_jobs):
    observations = stores["off"].get_observations([101, 102, 103, 104])
    with pytest.raises(ValueError, match="no good") as caught:
        reduce(observations, FailingMaker(), stack=stack, n_jobs=n_jobs)
    assert caught.value.__notes__ == ["OBS_ID 103"]


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        ("not within 0.1 deg", False),
        ("the 1 bin is empty", False),
        ("OBS_ID 11 has none", False),
        ("OBS_ID 5 has none within 1 deg", False),
        ("OBS_ID 1 has none", True),
        ("OBS_ID 1: none", True),
        ("OBS_ID 5, 1 and 7 more have none", True),
        ("OBS_ID [5, 1] have none", True),
    ],
)
def test_small_number(text, is_named):
    """1 is in 0.1 deg."""
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        run_parallel(fail, [(Source(1), text)], n_jobs=1)
    assert getattr(caught.value, "__notes__", []) == ([] if is_named else ["OBS_ID 1"])


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("stack", [False, True])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_one_line_of_observations(stores, monkeypatch, stack, n_jobs):
    """It had a line for each part of the stacked blocks, whose number it told."""
    monkeypatch.setattr("gammapy_mimic.makers.reduction.BLOCK_SIZE", 2)
    monkeypatch.setattr("gammapy_mimic.makers.reduction.N_WAITING", 1)
    counts, messages = [], []

    class Bar:
        def update(self, number):
            counts.append(number)

        def close(self):
            pass

    def make_bar(inputs, desc):
        messages.append((desc, len(inputs)))
        return Bar()

    monkeypatch.setattr(progress.pbar, "progress_bar", make_bar)
    observations = stores["off"].get_observations([101, 102, 103, 104, 105])
    reduce(observations, stack=stack, n_jobs=n_jobs)
    assert messages == [("Data reduction", 5)]
    assert counts == ([2, 2, 1] if stack else [1] * 5)
