from importlib.resources import files
from pathlib import Path

import astropy.units as u
import pytest
import yaml
from gammapy.analysis import Analysis, AnalysisConfig
from gammapy.workflow import WorkflowConfig

from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.analysis.config import MimicConfig, MimicWorkflowConfig

FULL = """
general: {outdir: results, n_jobs: 2, log: {level: debug}}
observations:
  datastore: $GAMMAPY_DATA/hess-dl3-dr1
  obs_ids: [23523, 23526]
  obs_cone: {frame: icrs, lon: 83.6 deg, lat: 22 deg, radius: 5 deg}
  obs_time: {start: '2004-01-01', stop: '2005-01-01'}
  required_irf: [aeff, edisp]
datasets:
  type: 3d
  stack: no
  geom:
    wcs:
      skydir: {frame: galactic, lon: 10 deg, lat: -2 deg}
      width: {width: 3 deg, height: 2 deg}
      binsize: 0.05 deg
    selection: {offset_max: 2 deg}
    axes:
      energy: {min: 300 GeV, max: 10 TeV, nbins: 3}
      energy_true: {min: 0.1 TeV, max: 20 TeV, nbins: 5}
  background: {method: ring, exclusion: mask.fits, parameters: {r_in: 0.5 deg}}
  safe_mask: {methods: [offset-max], parameters: {offset_max: 2 deg}}
  on_region: {frame: icrs, lon: 83.6 deg, lat: 22 deg, radius: 0.1 deg}
  containment_correction: yes
fit: {fit_range: {min: 1 TeV, max: 10 TeV}}
flux_points: {source: crab, parameters: {reoptimize: off}}
excess_map: {correlation_radius: 0.2 deg}
light_curve: {energy_edges: {min: 1 TeV, max: 10 TeV, nbins: 1}}
mimic:
  off:
    datastore: $GAMMAPY_DATA/hess-dl3-dr1
    obs_ids: [20275, 20282]
    query: TARGET_NAME == 'Off data'
    index: index.fits
  selection:
    distribution: irf
    kl_max: 0.1
    criteria: {airmass: null, livetime: 0.2, strict: on}
    randomise: off
  exclusion: {catalogs: [gamma-cat, hgps], regions: my.reg, radius: 20 arcmin}
  scramble: {method: annulus, width: 0.2 deg}
  n_sets: 7
  alignment: radec
  time: off
  background: off
  template: {dimension: 3d, smooth: gauss, time_request: 10 h}
  random_state: 3
  write_datastore: off
"""


@pytest.fixture
def config():
    return MimicAnalysisConfig.from_yaml(FULL)


def test_types_and_units(config):
    mimic = config.mimic
    assert mimic.off.obs_ids == [20275, 20282]
    assert mimic.selection.criteria == {"airmass": None, "livetime": 0.2, "strict": 1}
    assert mimic.selection.randomise is False
    assert mimic.exclusion.radius == 20 * u.arcmin
    assert mimic.scramble.width == 0.2 * u.deg
    assert config.datasets.geom.axes.energy.min == 300 * u.GeV


def test_off_is_a_word_in_its_own_section():
    config = MimicAnalysisConfig.from_yaml("mimic: {off: {datastore: off}}")
    assert config.mimic.off.datastore == Path("off")


def test_off_is_a_word_in_the_section_only(config):
    """YAML 1.1 reads off as False."""
    assert config.mimic.off.query == "TARGET_NAME == 'Off data'"
    assert (config.mimic.background, config.mimic.time) == ("off", "off")
    assert config.mimic.write_datastore is False
    assert config.datasets.stack is False
    assert config.datasets.containment_correction is True
    assert config.flux_points.parameters == {"reoptimize": False}


def test_defaults():
    assert MimicAnalysisConfig().mimic is None
    mimic = MimicAnalysisConfig.from_yaml("mimic: {}").mimic
    assert mimic == MimicConfig()
    assert (mimic.n_sets, mimic.background, mimic.scramble) == (5, "off", None)


@pytest.mark.parametrize("cls", [MimicAnalysisConfig, MimicWorkflowConfig])
@pytest.mark.parametrize("text", [FULL, "mimic: {}", "{}"])
def test_round_trip(tmp_path, cls, text):
    config = cls.from_yaml(text)
    config.write(tmp_path / "config.yaml")
    for again in (
        cls.read(tmp_path / "config.yaml"),
        cls.from_yaml(config.to_yaml()),
        cls().update(config),
        cls().update(config.to_yaml()),
    ):
        assert type(again) is cls
        assert again == config


def test_write_does_not_replace(tmp_path, config):
    config.write(tmp_path / "config.yaml")
    with pytest.raises(OSError, match="exists already"):
        config.write(tmp_path / "config.yaml")
    config.write(tmp_path / "config.yaml", overwrite=True)


@pytest.mark.parametrize(
    ("cls", "plain"),
    [(MimicAnalysisConfig, AnalysisConfig), (MimicWorkflowConfig, WorkflowConfig)],
)
def test_without_mimic_gammapy_reads_it(tmp_path, config, cls, plain):
    data = config.model_dump(exclude={"mimic"})
    config = cls(**data)
    config.write(tmp_path / "config.yaml")
    assert plain.read(tmp_path / "config.yaml") == plain(**data)


def test_readable(config):
    text = str(config)
    assert text.startswith("MimicAnalysisConfig\n")
    assert "n_sets: 7" in text
    assert "'off':" in text


def test_update_with_text(config):
    new = config.update("mimic: {n_sets: 2, off: {query: OBS_ID > 3}}")
    assert type(new) is MimicAnalysisConfig
    assert (new.mimic.n_sets, new.mimic.off.query) == (2, "OBS_ID > 3")
    assert new.mimic.off.obs_ids == [20275, 20282]
    assert new.datasets == config.datasets
    assert config.mimic.n_sets == 7


def test_update_with_a_text_that_says_the_default(config):
    text = "datasets: {stack: true}\nmimic: {n_sets: 5, scramble: null}"
    new = config.update(text)
    assert new.datasets.stack is True
    assert new.mimic.n_sets == 5
    assert new.mimic.scramble is None
    assert config.update("mimic: null").mimic is None


def test_update_with_a_configuration(config):
    other = MimicAnalysisConfig()
    other.mimic = {"n_sets": 2}
    other.general.n_jobs = 3
    new = config.update(other)
    assert (new.mimic.n_sets, new.mimic.random_state) == (2, 3)
    assert (new.general.n_jobs, new.general.outdir) == (3, "results")
    assert config.update(AnalysisConfig()) == config


@pytest.mark.parametrize("value", [None, 3, {"general": {}}])
def test_update_with_something_else(config, value):
    with pytest.raises(TypeError, match="YAML text or a configuration"):
        config.update(value)


def test_assignment_is_checked(config):
    with pytest.raises(ValueError, match="greater than 0"):
        config.mimic.n_sets = 0
    with pytest.raises(ValueError, match="no attribute 'backgroud'"):
        config.mimic.backgroud = "off"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("mimic:\n  n_sets: 0", "line 2: mimic.n_sets: .* greater than 0, got 0"),
        ("mimic:\n\n  nsets: 3", "line 3: mimic.nsets: unknown key. Did you mean 'n_s"),
        ("mimics: {}", "line 1: mimics: unknown key. Did you mean 'mimic'"),
        ("mimic: {off: {foo: 1}}", "mimic.off.foo: unknown key. Choose from .'datas"),
        ("mimic: off", "line 1: mimic: Input should be a valid dictionary"),
        ("mimic:\n  off: off", "line 2: mimic.off: .*got 'off'"),
        ("mimic: {background: no}", "mimic.background: Input should be 'off', 'targ"),
        ("mimic: {alignment: sky}", "Input should be 'auto', 'radec' or 'altaz'"),
        ("mimic: {exclusion: {radius: 0.3 TeV}}", "mimic.exclusion.radius: .*'0.3 TeV"),
        ("mimic: {exclusion: {radius: 0.3}}", "mimic.exclusion.radius: .* its unit"),
        ("mimic: {exclusion: {radius: 0 deg}}", "exclusion.radius: must be positive"),
        ("mimic: {scramble: {width: -1 deg}}", "mimic.scramble.width: must be posit"),
        ("mimic: {scramble: {method: hide}}", "mimic.scramble.method: .*'fill'"),
        ("mimic: {template: {time_request: 3}}", "template.time_request: .* string"),
        ("mimic: {template: {time_request: 3 m}}", "such as '10 h', got '3 m'"),
        (
            "mimic:\n  selection:\n    criteria: {airmas: 1}",
            "line 3: mimic.selection.criteria: .* Did you mean 'airmass'",
        ),
        (
            "datasets:\n  geom:\n    axes:\n      energy: {min: 0.5 deg}",
            "line 4: datasets.geom.axes.energy.min: Invalid unit .*got '0.5 deg'",
        ),
        (
            "datasets: {geom: {axes: {energy: {min: 0.5 foo}}}}",
            "datasets.geom.axes.energy.min: 'foo' did not parse as unit",
        ),
        ("observations: {obs_ids: [1, two]}", "observations.obs_ids.1: .*got 'two'"),
        ("general:\n", "general: Input should be a valid dictionary"),
        ("- a", "must have keys such as 'observations:'"),
        ("mimic", "must have keys such as"),
        ("1: 2", "1: keywords must be strings"),
        ("a: [1\nb: 2", "not valid YAML: .*line 2"),
        ("mimic: {}\nmimic: {n_sets: 2}", "key 'mimic' is there twice.*line 2"),
        ("? [a, b]\n: 3", "not valid YAML: .*unhashable"),
    ],
)
def test_errors_name_key_and_line(tmp_path, text, match):
    with pytest.raises(ValueError, match=f"(?s)^configuration.*{match}"):
        MimicAnalysisConfig.from_yaml(text)
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"(?s)^{path}.*{match}"):
        MimicAnalysisConfig.read(path)


def test_all_problems_are_named():
    with pytest.raises(ValueError, match="(?s)n_sets.*random_state"):
        MimicAnalysisConfig.from_yaml("mimic: {n_sets: 0, random_state: -1}")


def test_line_of_a_key_in_an_alias():
    text = "datasets:\n  geom: {selection: &a {foo: 1 deg}}\n"
    with pytest.raises(ValueError, match=r"line 2: datasets.geom.selection.foo"):
        MimicAnalysisConfig.from_yaml(text)


def test_file_that_cannot_be_read(tmp_path):
    path = tmp_path / "config.yaml"
    with pytest.raises(FileNotFoundError, match=f"no configuration file {path}"):
        MimicAnalysisConfig.read(path)
    path.write_bytes(b"mimic: \xff\xfe")
    with pytest.raises(ValueError, match=f"{path} is not a text file"):
        MimicAnalysisConfig.read(path)


def test_environment_variables(monkeypatch):
    monkeypatch.setenv("MY_DATA", "/data")
    text = "mimic: {off: {datastore: $MY_DATA/off, index: $MY_DATA/index.fits}}"
    off = MimicAnalysisConfig.from_yaml(text).mimic.off
    assert [str(off.datastore), str(off.index)] == ["/data/off", "/data/index.fits"]


def test_configuration_of_an_analysis(config):
    plain = AnalysisConfig(**config.model_dump(exclude={"mimic"}))
    for value in (plain, plain.model_dump(), config, config.model_dump()):
        analysis = MimicAnalysis(value)
        assert isinstance(analysis.config, MimicAnalysisConfig)
        assert analysis.config.datasets == config.datasets
    assert analysis.config.mimic == config.mimic
    analysis.update_config("mimic: {n_sets: 2}")
    assert analysis.config.mimic.n_sets == 2
    # Gammapy's analysis takes it as well, and does without mimics
    assert Analysis(config).config is config
    with pytest.raises(TypeError, match="must be a dict or MimicAnalysisConfig, got 3"):
        MimicAnalysis(3)


def test_commented_configuration():
    """That of gammapy-mimic init has every key of the section, maybe as a comment."""
    text = files("gammapy_mimic.scripts").joinpath("config.yaml").read_text()
    config = MimicAnalysisConfig.from_yaml(text)
    assert config.mimic.off.query == "TARGET_NAME == 'Off data'"
    section = text[text.index("\nmimic:") :]
    for name in yaml.safe_load(MimicConfig().model_dump_json()):
        assert f" {name}:" in section
