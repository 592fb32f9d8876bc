"""Bins and OFF observations of templates, as selector and configuration have them."""

import astropy.units as u
import numpy as np
import pytest
from gammapy.maps import MapAxis
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic import KLBackgroundSelector, MimicMaker
from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.makers.core import NotTreatedError
from gammapy_mimic.selection import MimicPlan
from gammapy_mimic.template import make_template

from .helpers import ANY_CONDITIONS

ENERGY_AXIS = MapAxis.from_energy_bounds("0.2 TeV", "50 TeV", nbin=10)
OFFSET_AXIS = MapAxis.from_bounds(0, 2, 5, unit="deg", name="offset")
FOV_AXES = [
    MapAxis.from_bounds(-2, 2, 6, unit="deg", name=name)
    for name in ("fov_lon", "fov_lat")
]
OBS_IDS = [101, 103, 104, 106]


@pytest.fixture(scope="module")
def target(stores):
    return stores["targets"].obs(1)


def make_selector(stores, **options):
    return KLBackgroundSelector(stores["off"], ANY_CONDITIONS, kl_max=None, **options)


class TestSelector:
    @pytest.mark.parametrize(
        ("background", "axes"),
        [("2d", [ENERGY_AXIS, OFFSET_AXIS]), ("3d", [ENERGY_AXIS, *FOV_AXES])],
    )
    def test_axes_and_empty_bins(self, stores, target, background, axes):
        selector = make_selector(
            stores, background=background, template_axes=axes, keep_empty=True
        )
        bkg = selector.make_background(target, obs_ids=[101])
        assert [_.name for _ in bkg.axes] == [_.name for _ in axes]
        for axis, expected in zip(bkg.axes, axes, strict=True):
            assert_allclose(axis.edges, expected.edges)
        selector.keep_empty = False
        bkg = selector.make_background(target, obs_ids=[101])
        assert bkg.axes["energy"].nbin < 10

    @pytest.mark.parametrize(
        ("options", "error", "match"),
        [
            ({"template_axes": ENERGY_AXIS}, TypeError, "list of MapAxis"),
            ({"template_axes": [1]}, TypeError, "list of MapAxis, got"),
            ({"template_axes": 2 * [ENERGY_AXIS]}, ValueError, "a name twice"),
            ({"template_axes": FOV_AXES}, ValueError, "'2d' has the axes .* 'fov_lon'"),
            ({"template_obs_ids": []}, ValueError, "template_obs_ids is empty"),
            ({"template_obs_ids": ["a"]}, ValueError, "'a'"),
            ({"keep_empty": "no"}, ValueError, "keep_empty.*'no'"),
        ],
    )
    def test_bad_options(self, stores, options, error, match):
        with pytest.raises(error, match=match):
            make_selector(stores, **options)

    def test_dimension_and_axes_are_checked_together(self, stores):
        selector = make_selector(stores, template_axes=[OFFSET_AXIS])
        with pytest.raises(ValueError, match="'3d' has the axes .* 'offset'"):
            selector.background = "3d"
        assert selector.background == "2d"

    def test_counts_are_those_of_the_template(self, stores, target):
        selector = make_selector(stores, smooth="gauss", template_obs_ids=OBS_IDS)
        counts = selector.make_template_counts(target)
        bkg = selector.make_background(target)
        fraction = bkg.meta["DEADC"]
        smooth = counts.to_irf("gauss", livetime_fraction=fraction)
        assert_array_equal(smooth.data, bkg.data)
        assert not np.allclose(counts.to_irf().data, bkg.data)

    def test_given_observations(self, stores, target):
        selector = make_selector(stores, template_obs_ids=OBS_IDS)
        bkg = selector.make_observation(target).bkg
        assert bkg.meta["OBS_IDS"] == "101,103,104,106"
        bkg = selector.make_background(target, exclude=[103])
        assert bkg.meta["OBS_IDS"] == "101,104,106"
        bkg = selector.make_background(target, exclude=["103"], obs_ids=[103, 105])
        assert bkg.meta["OBS_IDS"] == "105"
        with pytest.raises(NotTreatedError, match=r"All of \[101, 103, 104, 106\]"):
            selector.make_background(target, exclude=OBS_IDS)

    def test_target_is_not_in_its_own_template(self, stores):
        selector = make_selector(stores, template_obs_ids=OBS_IDS)
        bkg = selector.make_background(stores["off"].obs(104))
        assert bkg.meta["OBS_IDS"] == "101,103,106"

    def test_mimics_have_nothing_of_their_set(self, stores):
        plan = MimicPlan.create({1: 101, 2: 103, 3: 105})
        selector = make_selector(stores, template_obs_ids=OBS_IDS)
        maker = MimicMaker(stores["off"], plan, background=selector)
        mimics = maker.make_observations(stores["targets"].get_observations())
        assert [_.bkg.meta["OBS_IDS"] for _ in mimics] == 3 * ["104,106"]


CONFIG = """
observations: {{datastore: {targets}}}
mimic:
  off: {{datastore: {off}}}
  selection: {{criteria: {criteria}, kl_max: null}}
  background: template
  template: {template}
"""


def make_analysis(stores, template):
    text = CONFIG.format(
        targets=stores["targets"].hdu_table.base_dir,
        off=stores["off"].hdu_table.base_dir,
        criteria=dict.fromkeys(ANY_CONDITIONS, "null"),
        template=template,
    )
    analysis = MimicAnalysis(MimicAnalysisConfig.from_yaml(text.replace("'", "")))
    analysis.get_observations()
    return analysis


class TestConfig:
    @pytest.mark.parametrize(
        ("dimension", "axis", "shape"),
        [
            ("2d", "offset_axis", (10, 5)),
            ("3d", "fov_axis", (10, 6, 6)),
        ],
    )
    def test_axes(self, stores, target, dimension, axis, shape):
        n_bins = shape[1]
        analysis = make_analysis(
            stores,
            f"{{dimension: {dimension}, energy_axis: {{min: 0.2 TeV, max: 50 TeV, "
            f"nbins: 10}}, {axis}: {{max: 2 deg, nbins: {n_bins}}}, keep_empty: true}}",
        )
        selector = analysis.factory.selector
        bkg = selector.make_background(target, obs_ids=[101])
        options = {f"{_.name}_axis": _ for _ in (OFFSET_AXIS, *FOV_AXES)}
        names = [f"{name}_axis" for name in bkg.axes.names[1:]]
        expected = make_template(
            stores["off"].obs(101),
            dimension,
            energy_axis=ENERGY_AXIS,
            livetime_fraction=bkg.meta["DEADC"],
            keep_empty=True,
            **{name: options[name] for name in names},
        )
        assert bkg.data.shape == shape
        assert_allclose(bkg.data, expected.data)
        for axis, other in zip(bkg.axes, expected.axes, strict=True):
            assert_allclose(axis.edges, other.edges)

    def test_defaults(self, stores):
        selector = make_analysis(stores, "{}").factory.selector
        assert selector.template_axes is None
        assert selector.template_obs_ids is None
        assert selector.keep_empty is False

    def test_given_observations(self, stores):
        analysis = make_analysis(stores, f"{{obs_ids: {OBS_IDS}}}")
        plan = MimicPlan.create({1: 101, 2: 103, 3: 105})
        mimics = analysis.factory.make_mimic_observations(plan, 1)
        assert [_.bkg.meta["OBS_IDS"] for _ in mimics] == 3 * ["104,106"]
        targets = analysis.factory.make_target_observations()
        assert [_.bkg.meta["OBS_IDS"] for _ in targets] == 3 * ["101,103,104,106"]

    def test_given_observations_are_off_observations(self, stores):
        analysis = make_analysis(stores, "{obs_ids: [101, 999]}")
        match = r"mimic.template.obs_ids: OBS_ID \[999\] are not OFF observations"
        with pytest.raises(ValueError, match=match):
            _ = analysis.factory.selector

    @pytest.mark.parametrize(
        ("template", "match"),
        [
            ("offset_axis: {max: 2 deg}", "offset_axis: must be all of max, nbins, or"),
            ("energy_axis: {nbins: 5}", "energy_axis: must be all of min, max, nbins"),
            ("fov_axis: {max: 2 deg, nbins: 9}", "fov_axis: must be left .*sion: 3d"),
            (
                "{dimension: 3d, offset_axis: {max: 2 deg, nbins: 9}}",
                "offset_axis: must be left out, as it is for dimension: 2d",
            ),
            (
                "energy_axis: {min: 0 TeV, max: 9 TeV, nbins: 4}",
                "energy_axis.min: must be positive and finite, got 0.0 TeV",
            ),
            (
                "energy_axis: {min: 2 TeV, max: 1 TeV, nbins: 4}",
                "energy_axis.max: must be above min",
            ),
            (
                "energy_axis: {min: 1 TeV, max: 2 TeV, nbins: 0}",
                "energy_axis.nbins: must be from 1 to 10000, got 0",
            ),
            ("energy_axis: {min: 1 deg}", "energy_axis.min: Invalid unit"),
            (
                "offset_axis: {max: 30 deg, nbins: 4}",
                "offset_axis.max: must be positive and at most 10 deg, got '30 deg'",
            ),
            ("offset_axis: {max: 2 m}", "offset_axis.max: must be an angle .*'2 m'"),
            ("offset_axis: {nbins: 501}", "offset_axis.nbins: .* 500, got 501"),
            ("offset_axis: {bins: 5}", "offset_axis.bins: unknown key. Did you mean"),
            ("obs_ids: [one]", "obs_ids.*'one'"),
            ("keep_empty: maybe", "keep_empty: .*'maybe'"),
            (
                "{obs_ids: [101], time_request: 2 h}",
                "time_request: must be left out, as there are obs_ids",
            ),
        ],
    )
    def test_bad_values_have_key_and_line(self, template, match):
        template = template if template.startswith("{") else f"{{{template}}}"
        text = f"mimic:\n  n_sets: 2\n  template:\n    {template}\n"
        with pytest.raises(ValueError, match=match) as error:
            MimicAnalysisConfig.from_yaml(text)
        assert "line 4: mimic.template." in str(error.value)
        assert len(str(error.value).splitlines()) == 1

    def test_units(self):
        config = MimicAnalysisConfig.from_yaml(
            "mimic: {template: {energy_axis: {min: 200 GeV, max: 50 TeV, nbins: 10}}}"
        )
        assert u.Quantity(config.mimic.template.energy_axis.min) == 0.2 * u.TeV
        again = MimicAnalysisConfig.from_yaml(config.to_yaml())
        assert again.mimic.template == config.mimic.template
