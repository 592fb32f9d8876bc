"""Bins of templates that were asked for, and several templates of one reading."""

import copy

import astropy.units as u
import numpy as np
import pytest
from gammapy.data import Observation
from gammapy.datasets import MapDataset
from gammapy.irf import Background2D
from gammapy.makers import MapDatasetMaker
from gammapy.maps import MapAxis, WcsGeom
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic.template import (
    make_group_counts,
    make_template,
    make_template_counts,
    make_templates,
)

from .helpers import replace

ENERGY_AXIS = MapAxis.from_energy_bounds("0.1 TeV", "100 TeV", nbin=15)


@pytest.fixture
def observation(stores):
    return stores["off"].obs(101)


def set_safe_range(observation, low, high):
    aeff = copy.deepcopy(observation.aeff)
    aeff.meta |= {"LO_THRES": low, "HI_THRES": high}
    return replace(observation, aeff=aeff)


def predict(observation, bkg, edges):
    """Counts as Gammapy predicts them in bins of energy. Shape (n_energy, n, n)."""
    geom = WcsGeom.create(
        skydir=observation.pointing.fixed_icrs,
        width=4,
        binsz=0.2,
        axes=[MapAxis.from_energy_edges(edges * u.TeV)],
    )
    observation = replace(observation, bkg=bkg)
    dataset = MapDatasetMaker(selection=["background"]).run(
        MapDataset.create(geom, name="test"), observation
    )
    return dataset.background.data


@pytest.mark.slow
@pytest.mark.parametrize("dimension", ["2d", "3d"])
# the edges of bins are 0.63, 1, 1.58, and 15.8, 25.1, 39.8 TeV
@pytest.mark.parametrize("low", [0.66, 0.95, 1.0])
@pytest.mark.parametrize("high", [17.0, 24.0])
def test_kept_bins_do_not_change_the_prediction(
    observation, dimension, low, high, caplog
):
    observation = set_safe_range(observation, low, high)
    options = {"dimension": dimension, "energy_axis": ENERGY_AXIS}
    cut = make_template(observation, **options)
    assert "the others left out" in caplog.text
    kept = make_template(observation, keep_empty=True, **options)
    assert "the others 0" in caplog.text
    assert cut.axes["energy"].nbin < 12
    assert_allclose(kept.axes["energy"].edges, ENERGY_AXIS.edges)
    assert kept.meta == cut.meta

    # same values where there were some, one more on either side, 0 beyond
    start = np.searchsorted(ENERGY_AXIS.edges, cut.axes["energy"].edges[0] * 0.999)
    stop = start + cut.axes["energy"].nbin
    assert_array_equal(kept.data[start:stop], cut.data)
    assert np.all(kept.data[start - 1] > 0)
    assert np.all(kept.data[stop] > 0)
    assert not kept.data[: start - 1].any()
    assert not kept.data[stop + 1 :].any()

    edges = np.geomspace(low, high, 20)
    expected = predict(observation, cut, edges)
    assert expected.sum() > 100
    assert_allclose(predict(observation, kept, edges), expected, rtol=1e-6)


def test_kept_bins_at_the_ends_of_the_axis(observation):
    observation = set_safe_range(observation, 0, 0)
    cut, kept = (make_template(observation, keep_empty=_) for _ in (False, True))
    assert_array_equal(kept.data, cut.data)
    # one bin beyond the safe range, and none beyond that
    axis = MapAxis.from_energy_edges([0.5, 1, 2, 4] * u.TeV)
    observation = set_safe_range(observation, 0.8, 3)
    cut, kept = (
        make_template(observation, energy_axis=axis, keep_empty=_)
        for _ in (False, True)
    )
    assert_array_equal(kept.data, cut.data)


def test_kept_bins_are_written_and_read(observation, tmp_path):
    observation = set_safe_range(observation, 1, 10)
    kept = make_template(observation, energy_axis=ENERGY_AXIS, keep_empty=True)
    kept.write(tmp_path / "bkg.fits")
    read = Background2D.read(tmp_path / "bkg.fits", hdu="BACKGROUND")
    assert_allclose(read.data, kept.data)
    assert_allclose(read.axes["energy"].edges, ENERGY_AXIS.edges)


@pytest.mark.slow
def test_raw_and_smooth_of_one_reading(stores):
    observations = stores["off"].get_observations([101, 102])
    counts = make_template_counts(observations, "3d", energy_axis=ENERGY_AXIS)
    for smooth in (None, "gauss", "poly"):
        options = {"energy_axis": ENERGY_AXIS, "smooth": smooth}
        expected = make_template(observations, "3d", **options)
        assert_array_equal(counts.to_irf(smooth).data, expected.data)


def test_counts_of_groups(stores):
    store, groups = stores["off"], {"ZEN_PNT": [0, 30, 60]}
    args = store.get_observations(), store.obs_table, groups
    templates = make_templates(*args, smooth="gauss", keep_empty=True)
    counts = make_group_counts(*args)
    assert list(counts) == list(templates)
    for label, template in templates.items():
        expected = counts[label].to_irf("gauss", keep_empty=True)
        assert_array_equal(template.data, expected.data)
        assert template.axes["energy"].nbin == 24
        assert template.meta["GROUP"] == f"ZEN_PNT {30 * label} to {30 * label + 30}"


def test_option_is_checked_before_anything_is_read(stores, monkeypatch):
    def fail(self):
        raise AssertionError

    monkeypatch.setattr(Observation, "gti", property(fail))
    store = stores["off"]
    with pytest.raises(ValueError, match="smooth must be"):
        make_template(store.obs(101), smooth="mean")
    with pytest.raises(ValueError, match="smooth must be"):
        make_templates(
            store.get_observations(),
            store.obs_table,
            {"ZEN_PNT": [0, 90]},
            smooth="mean",
        )
