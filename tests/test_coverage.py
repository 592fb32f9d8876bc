"""Bins without a prediction of the background, and what they cost."""

import logging

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from gammapy.datasets import MapDataset, SpectrumDataset
from gammapy.makers import (
    FoVBackgroundMaker,
    MapDatasetMaker,
    ReflectedRegionsBackgroundMaker,
    RingBackgroundMaker,
    SafeMaskMaker,
    SpectrumDatasetMaker,
)
from gammapy.maps import Map, MapAxis, RegionGeom, WcsGeom
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic.data.meta_tables import find_losses, warn_of_losses
from gammapy_mimic.data.prediction import get_predicted_mask
from gammapy_mimic.makers import (
    CoverageMaker,
    CoveredSafeMaskMaker,
    ImageMaker,
    reduce_observations,
)
from gammapy_mimic.makers.coverage import add_coverage

from .helpers import make_reference

CENTER = SkyCoord(83.6, 22, unit="deg")
N_BINS = 3


def make_dataset(background=1.0, n_bins=N_BINS, obs_id=7):
    """Flat dataset with one count in each bin, and a background by energy."""
    axis = MapAxis.from_energy_bounds("1 TeV", "8 TeV", nbin=n_bins)
    geom = WcsGeom.create(skydir=CENTER, width=3, binsz=0.1, axes=[axis])
    data = np.broadcast_to(np.reshape(background, (-1, 1, 1)), geom.data_shape)
    return MapDataset(
        counts=Map.from_geom(geom, data=1.0),
        background=Map.from_geom(geom, data=data.copy()),
        mask_safe=Map.from_geom(geom, data=True, dtype=bool),
        meta_table=Table({"OBS_ID": [obs_id]}),
        name=f"obs_{obs_id}",
    )


def run(makers, dataset, observation=None):
    for maker in makers:
        dataset = maker.run(dataset, observation)
    return dataset


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf])
def test_bins_without_background_are_masked_and_counted(value):
    dataset = make_dataset([value, 1, 1])
    dataset = CoveredSafeMaskMaker([]).run(dataset)
    assert_array_equal(dataset.mask_safe.data.any(axis=(1, 2)), [False, True, True])
    (loss,) = find_losses([dataset.meta_table])
    assert loss.obs_id == 7
    assert loss.counts == 900
    assert_allclose(loss.fraction, 1 / 3)
    assert loss.bins == "1 to 2 TeV"
    assert loss.cause == "background"
    assert np.isfinite(dataset.background.data).all()


def test_nothing_is_lost():
    """The mask is Gammapy's, and there is nothing to say."""
    dataset = CoveredSafeMaskMaker([]).run(make_dataset())
    expected = SafeMaskMaker([]).run(make_dataset())
    assert_array_equal(dataset.mask_safe.data, expected.mask_safe.data)
    assert find_losses([dataset.meta_table]) == []
    assert dataset.meta_table["LOST_CAUSE"].tolist() == [""]


def test_less_than_a_percent_is_not_named():
    dataset = make_dataset()
    dataset.background.data[0, 0, :20] = np.nan
    dataset = CoveredSafeMaskMaker([]).run(dataset)
    assert find_losses([dataset.meta_table]) == []
    (loss,) = find_losses([dataset.meta_table], minimum=0)
    assert loss.counts == 20
    assert loss.bins == "0.7% of the bins"


def test_nan_does_not_spread_by_the_ring():
    """A convolution with one NaN would be NaN nearly everywhere."""
    makers = [
        SafeMaskMaker([]),
        ImageMaker(),
        RingBackgroundMaker("0.3 deg", "0.3 deg"),
    ]
    dataset = make_dataset([np.nan, 1, 1])
    result = run(add_coverage(makers), dataset)
    assert np.isfinite(result.background.data).all()
    assert result.mask_safe.data.all()
    assert_allclose(result.counts.data, 2)
    assert_allclose(result.background.data, 2, rtol=1e-6)
    # the image has the losses of the bins it was made of
    (loss,) = find_losses([result.meta_table])
    assert (loss.counts, loss.bins) == (900, "1 to 2 TeV")


def test_ring_that_is_excluded():
    makers = [SafeMaskMaker([]), RingBackgroundMaker("0.1 deg", "0.1 deg")]
    dataset = make_dataset()
    geom = dataset.counts.geom
    inside = geom.separation(CENTER) < 0.8 * u.deg
    makers[1].exclusion_mask = Map.from_geom(
        geom, data=np.broadcast_to(~inside, geom.data_shape)
    )
    result = run(add_coverage(makers), dataset)
    (loss,) = find_losses([result.meta_table])
    assert loss.cause == "RingBackgroundMaker"
    assert loss.counts == (~result.mask_safe.data).sum() > 0
    assert get_predicted_mask(result)[result.mask_safe.data].all()


def test_losses_add_up():
    """Counts that two makers have no prediction for."""
    makers = [SafeMaskMaker([]), FoVBackgroundMaker(method="scale", min_counts=1e6)]
    result = run(add_coverage(makers), make_dataset([0, 1, 1]))
    assert not result.mask_safe.data.any()
    (loss,) = find_losses([result.meta_table])
    assert loss.fraction == 1
    assert loss.counts == 2700
    assert loss.cause == "FoVBackgroundMaker"


def test_the_second_loss_is_of_what_the_first_has_left():
    dataset = CoveredSafeMaskMaker([]).run(make_dataset([0, 1, 1]))
    (loss,) = find_losses([dataset.meta_table])
    assert_allclose([loss.counts, loss.fraction], [900, 1 / 3])
    dataset.background.data[1] = 0
    dataset = CoveredSafeMaskMaker([]).run(dataset)
    (loss,) = find_losses([dataset.meta_table])
    assert_allclose([loss.counts, loss.fraction], [1800, 2 / 3])


def test_who_masks_all(stores):
    observation = stores["targets"].get_observations()[0]
    axis = MapAxis.from_energy_bounds("0.1 TeV", "20 TeV", nbin=1)
    geom = WcsGeom.create(
        skydir=observation.target_radec, width=2, binsz=0.2, axes=[axis]
    )
    maker = MapDatasetMaker(selection=["counts", "background"])
    safe = SafeMaskMaker(["aeff-default", "offset-max"], offset_max="2 deg")
    dataset = run(add_coverage([maker, safe]), MapDataset.create(geom), observation)
    (loss,) = find_losses([dataset.meta_table])
    assert loss.cause == "aeff-default"
    assert loss.fraction == 1


def test_no_reflected_region(stores):
    """An observation without OFF region stays, masked, and does not vanish."""
    observation = stores["targets"].get_observations()[0]
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2)
    axis_true = MapAxis.from_energy_bounds("0.5 TeV", "20 TeV", 3, name="energy_true")
    center = observation.pointing.fixed_icrs
    region = f"icrs;circle({center.ra.deg}, {center.dec.deg}, 0.3)"
    geom = RegionGeom.create(region, axes=[axis])
    makers = [
        SpectrumDatasetMaker(selection=["counts"]),
        ReflectedRegionsBackgroundMaker(),
        SafeMaskMaker(["aeff-default"]),
    ]
    reference = SpectrumDataset.create(geom, energy_axis_true=axis_true)
    (dataset,) = reduce_observations(reference, [observation], makers, stack=False)
    assert not dataset.mask_safe.data.any()
    (loss,) = find_losses([dataset.meta_table])
    assert loss.cause == "ReflectedRegionsBackgroundMaker"


def test_once_for_a_cause(caplog):
    datasets = [
        CoveredSafeMaskMaker([]).run(make_dataset([0, 1, 1], obs_id=obs_id))
        for obs_id in range(25)
    ]
    datasets.append(CoveredSafeMaskMaker([]).run(make_dataset(0, obs_id=25)))
    tables = [_.meta_table for _ in datasets]
    with caplog.at_level(logging.WARNING):
        warn_of_losses({"target": tables[:20], "mimic set 1": tables[20:]})
    masked, lost = [_.getMessage() for _ in caplog.records]
    assert "mimic set 1, OBS_ID 25: all is masked" in masked
    assert "target, OBS_ID 0: 33% of its counts (900)" in lost
    assert "1 to 2 TeV; target, OBS_ID 1" in lost
    assert "and 20 more observations. The background IRF" in lost


def test_stacked_datasets_know_what_was_lost(stores):
    observations = stores["targets"].get_observations()
    reference = make_reference(observations[0], name="stacked")
    maker = MapDatasetMaker(selection=["counts", "background"])
    # the sum is not changed by what is noted
    makers = [maker, SafeMaskMaker(["offset-max"], offset_max="2 deg")]
    (stacked,) = reduce_observations(reference, observations, makers)
    singles = reduce_observations(reference, observations, makers, stack=False)
    assert stacked.name == "stacked"
    names = [f"LOST_{_}" for _ in ("COUNTS", "FRACTION", "BINS", "CAUSE")]
    for name in names:
        values = [_.meta_table[name][0] for _ in singles]
        assert np.ravel(stacked.meta_table[name]).tolist() == values
    assert_allclose(
        stacked.counts.data.sum(),
        sum((_.counts.data * _.mask_safe.data).sum() for _ in singles),
    )


def test_maker_that_is_wrapped():
    ring = RingBackgroundMaker("0.1 deg", "0.1 deg")
    safe = SafeMaskMaker(["offset-max"], offset_max="1.5 deg", aeff_percent=3)
    covered, wrapped = add_coverage([safe, ring])
    assert isinstance(wrapped, CoverageMaker)
    assert wrapped.maker is ring
    # a chain asks the safe mask maker for the width of its cutouts
    assert isinstance(covered, SafeMaskMaker)
    assert covered.offset_max == safe.offset_max
    assert covered.aeff_percent == 3
    assert add_coverage([covered, wrapped]) == [covered, wrapped]
