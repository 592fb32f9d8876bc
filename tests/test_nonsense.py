"""Values of a configuration that make no sense are errors that name key and bounds."""

import time

import numpy as np
import pytest
import yaml
from astropy.coordinates import SkyCoord

from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.analysis.config import MimicWorkflowConfig
from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.exclusion import ExclusionRegions
from gammapy_mimic.makers import reduce_fov_background
from gammapy_mimic.scripts.main import main
from gammapy_mimic.selection import MatchCriteria
from gammapy_mimic.utils.angles import to_angle

CENTER = SkyCoord(0, 0, unit="deg")
GEOM = "datasets: {geom: "
AXES = GEOM + "{axes: {energy: "

BAD = [
    (GEOM + "{wcs: {binsize: 1 m}}}", "wcs.binsize: must be an angle .* got '1 m'"),
    (GEOM + "{wcs: {binsize: 0 deg}}}", "wcs.binsize: must be above 0 and at most 10"),
    (GEOM + "{wcs: {binsize: -1 deg}}}", "wcs.binsize: must be above 0 .* got -1"),
    (GEOM + "{wcs: {binsize: nan deg}}}", "wcs.binsize: must be "),
    (GEOM + "{wcs: {width: {width: 400 deg}}}}", "width.width: must be above 0"),
    (
        "datasets: {type: 3d, geom: {wcs: {binsize: 0.01 arcsec}}}",
        "width: must be at most",
    ),
    (GEOM + "{selection: {offset_max: -1 deg}}}", "offset_max: must be above 0"),
    (AXES + "{min: 5 TeV, max: 1 TeV}}}}", "energy.max: must be above min, .* 5.0 TeV"),
    (AXES + "{min: -1 TeV}}}}", "energy.min: must be positive and finite, got -1"),
    (AXES + "{max: inf TeV}}}}", "energy.max: must be positive and finite, got inf"),
    (AXES + "{nbins: 0}}}}", "energy.nbins: must be from 1 to 10000, got 0"),
    ("datasets: {on_region: {radius: 1 m}}", "on_region.radius: must be an angle"),
    ("observations: {obs_cone: {radius: 1 m}}", "obs_cone.radius: must be an angle"),
    ("general: {n_jobs: 0}", "general.n_jobs: must be at least 1, got 0"),
    ("mimic: {exclusion: {radius: 1 m}}", "radius: must be an angle .* got '1 m'"),
    ("mimic: {exclusion: {radius: '1'}}", "radius: must be an angle with its unit"),
    ("mimic: {exclusion: {star_radius: 50 deg}}", "star_radius: .* at most 10 deg"),
    ("mimic: {exclusion: {magnitude_max: .nan}}", "magnitude_max: .* finite"),
    ("mimic: {scramble: {width: 1 m}}", "scramble.width: must be an angle"),
    ("mimic: {selection: {kl_max: .inf}}", "kl_max: .* finite"),
    ("mimic: {selection: {kl_max: .nan}}", "kl_max: "),
    ("mimic: {template: {time_request: inf h}}", "time_request: must be a positive"),
    ("mimic: {n_sets: 1000000}", "n_sets: .* less than or equal to 1000"),
    ("mimic: {systematics: {correlation_radius: 1 m}}", "must be an angle"),
    ("mimic: {systematics: {correlation_radius: 1000 deg}}", "at most 10 deg"),
    ("mimic: {systematics: {correlation_radius: '1'}}", "must be an angle"),
    ("mimic: {systematics: {min_background: .inf}}", "min_background: .* finite"),
    ("mimic: {systematics: {offset_edges: [0 m, 1 m]}}", "offset_edges: must be an an"),
    ("mimic: {systematics: {offset_edges: [-1 deg, 1 deg]}}", "must not be negative"),
    ("mimic: {systematics: {energy_edges: [1 TeV, inf TeV]}}", "energy_edges: must be"),
    (
        "mimic: {systematics: {position: {frame: icrs, lon: 1 m, lat: 0 deg}}}",
        "lon: mus",
    ),
]


@pytest.mark.parametrize(("text", "match"), BAD)
def test_named_with_key_and_line(text, match):
    for config in (MimicAnalysisConfig, MimicWorkflowConfig):
        with pytest.raises(ValueError, match=f"^configuration, line 1: .*{match}"):
            config.from_yaml(text)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("datasets.geom.wcs.binsize", "0 deg", "wcs.binsize: must be above 0"),
        ("datasets.geom.axes.energy.nbins", 0, "energy.nbins: must be from 1"),
        ("datasets.geom.selection.offset_max", "-1 deg", "offset_max: must be above"),
    ],
)
def test_set_in_python(key, value, match):
    """Gammapy takes them, a run does not."""
    config = MimicAnalysisConfig()
    section, name = config, key.split(".")[-1]
    for part in key.split(".")[:-1]:
        section = getattr(section, part)
    setattr(section, name, value)
    with pytest.raises(ValueError, match=f"^datasets.geom.*{match}"):
        MimicAnalysis(config).check_makers()


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (BOMB, "alias .a: write the value itself"),
        ("mimic: &a\n  off: *a\n", "alias .a"),
        ("mimic: " + "[" * 3000 + "]" * 3000, "more than 30 levels"),
        ("mimic: " + "{a: " * 3000 + "1" + "}" * 3000, "more than 30 levels"),
    ],
)
def test_texts_that_have_no_end(tmp_path, text, match, capsys):
    assert len(BOMB) < 450
    start = time.monotonic()
    with pytest.raises(ValueError, match=match):
        MimicAnalysisConfig.from_yaml(text)
    assert time.monotonic() - start < 1
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SystemExit):
        main(["run", str(tmp_path / "config.yaml")])
    assert str(tmp_path / "config.yaml") in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "# nothing\n\n"])
def test_empty_file(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path} is empty. Write one: gammapy-mimic"):
        MimicAnalysisConfig.read(path)


def test_anchors_without_alias_are_fine():
    text = "mimic: &section {n_sets: 3}"
    assert MimicAnalysisConfig.from_yaml(text).mimic.n_sets == 3
    assert yaml.safe_load(text)["mimic"]["n_sets"] == 3


@pytest.mark.parametrize("value", ["1 m", "1m", "3 s", "1", 1, "1 TeV", "x", None, [1]])
def test_no_angle(value):
    with pytest.raises(ValueError, match="must be an angle with its unit"):
        to_angle(value)


@pytest.mark.parametrize(
    ("text", "unit", "deg"),
    [
        ("0.1 deg", None, 0.1),
        ("6 arcmin", None, 0.1),
        ("6'", None, 0.1),
        ("5d20m", None, 16 / 3),
        ("5h20m0s", None, 80),
        ("1 rad", None, 180 / np.pi),
        ("3", "deg", 3),
        ("60 arcmin", "deg", 1),
    ],
)
def test_angle(text, unit, deg):
    assert to_angle(text, unit).deg == pytest.approx(deg, rel=1e-12)


def test_length_as_an_angle():
    """In Python and on the command line, too."""
    for make in (
        lambda: MimicSystematicsEstimator("1 m"),
        lambda: ExclusionRegions.from_catalogs(SkyCoord(0, 0, unit="deg"), "1 m"),
        lambda: ExclusionRegions.from_text("10,20,1 m"),
        lambda: MatchCriteria(azimuth="1 m"),
        lambda: MatchCriteria(elevation=["1 m", "50 deg"]),
        lambda: reduce_fov_background(None, center=CENTER, width="1 m"),
    ):
        with pytest.raises(ValueError, match="1 m"):
            make()
