"""The option of a smoothing method, as selector and configuration have it."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from gammapy_mimic import KLBackgroundSelector
from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.template import make_template

from .helpers import ANY_CONDITIONS

OBS_IDS = [101, 103, 104, 106]


@pytest.fixture(scope="module")
def target(stores):
    return stores["targets"].obs(1)


def make_selector(stores, **options):
    options = {"kl_max": None, "template_obs_ids": OBS_IDS, "smooth": "gauss"} | options
    return KLBackgroundSelector(stores["off"], ANY_CONDITIONS, **options)


def test_template_has_the_option(stores, target):
    wide = make_selector(stores, smooth_options={"sigma": "1 deg"})
    bkg = wide.make_background(target)
    observations = stores["off"].get_observations(OBS_IDS)
    expected = make_template(
        observations,
        smooth="gauss",
        smooth_options={"sigma": "1 deg"},
        livetime_fraction=1 - target.observation_dead_time_fraction,
    )
    assert_array_equal(bkg.data, expected.data)
    narrow = make_selector(stores).make_background(target)
    assert not np.allclose(bkg.data, narrow.data, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"smooth_options": {"degree": 4}}, "no option .'degree'., but 'sigma'"),
        ({"smooth_options": {"sigma": "20 deg"}}, "sigma.*20"),
        ({"smooth": None, "smooth_options": {"sigma": "1 deg"}}, "smooth=None has no"),
        ({"smooth_options": 3}, "must be a dict"),
    ],
)
def test_bad_options(stores, options, match):
    with pytest.raises(ValueError, match=match):
        make_selector(stores, **options)


def test_method_that_has_another_option(stores):
    selector = make_selector(stores, smooth_options={"sigma": "1 deg"})
    with pytest.raises(ValueError, match="no option .'sigma'., but 'degree'"):
        selector.smooth = "poly"
    assert selector.smooth == "gauss"


def test_configuration(stores):
    config = MimicAnalysisConfig.from_yaml(
        "mimic: {template: {smooth: gauss, smooth_options: {sigma: 0.3 deg}}}"
    )
    config.observations.datastore = stores["targets"].hdu_table.base_dir
    config.mimic.off.datastore = stores["off"].hdu_table.base_dir
    selector = MimicAnalysis(config).selector
    assert selector.smooth_options == {"sigma": "0.3 deg"}
    assert MimicAnalysisConfig.from_yaml(config.to_yaml()).mimic == config.mimic


def test_bad_value_has_key_and_line():
    text = "mimic:\n  template:\n    {smooth: poly, smooth_options: {sigma: 1 deg}}\n"
    match = "line 3: mimic.template.smooth_options.*no option .'sigma'., but 'degree'"
    with pytest.raises(ValueError, match=match):
        MimicAnalysisConfig.from_yaml(text)
