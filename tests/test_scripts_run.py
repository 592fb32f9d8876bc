import logging
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from astropy.table import Table
from gammapy.analysis import AnalysisConfig
from gammapy.data import DataStore
from pydantic import ValidationError

from gammapy_mimic.analysis import MimicAnalysisConfig
from gammapy_mimic.analysis.datasets import read_datasets
from gammapy_mimic.scripts.main import main

from .test_pipeline import NAMES, make_config
from .test_scripts import assert_fails, run


@pytest.fixture(autouse=True)
def close_log_files():
    root = logging.getLogger()
    handlers = list(root.handlers)
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers


@pytest.fixture
def config(tmp_path, stores):
    return make_config(tmp_path, stores)


@pytest.fixture
def data(config):
    """What is in the file of the configuration."""
    return yaml.safe_load(config.to_yaml())


def write(path, data):
    path.write_text(yaml.safe_dump(data))
    return path


def change(data, key, value):
    *sections, name = key.split(".")
    for section in sections:
        data = data[section]
    data[name] = value


def test_run_and_run_again(tmp_path, config, capsys):
    path = tmp_path / "config.yaml"
    config.write(path)
    assert run("run", path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:8] == [
        "Plan: 2 mimic sets, 1 exclusion regions",
        "Mimic set 1: written",
        "Mimic set 2: written",
        "datasets: 1 written",
        "datasets_mimic_1: 1 written",
        "datasets_mimic_2: 1 written",
        "systematics: written",
        f"report: open {tmp_path / 'out/report.html'}",
    ]
    assert sorted(os.listdir(tmp_path / "out")) == [".steps", *NAMES]

    assert run("run", path, "--n-jobs", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [_.split(": ")[1] for _ in lines[:8]] == ["up to date"] * 8
    assert lines[8].startswith("Plan: An OFF observation is in 1 set at most.")
    assert lines[9].split()[:3] == ["name", "mean", "mean_err"]
    assert run("run", path, "--force", "all") == 0
    assert "up to date" not in capsys.readouterr().out


def test_questionable_observations(tmp_path, config, capsys):
    config.mimic.off.obs_ids = [101]
    config.mimic.n_sets = 1
    config.write(tmp_path / "config.yaml")
    assert run("run", tmp_path / "config.yaml") == 0
    lines = capsys.readouterr().out.splitlines()
    table = Table.read(tmp_path / "out/questionable.ecsv")
    assert lines[-1] == f"Questionable: OBS_ID {table['OBS_ID'][0]}, no_mimic"
    assert table["REASON"].tolist() == ["no_mimic"]


def test_large_kl(tmp_path, config, capsys):
    config.mimic.selection.kl_max = 1e-9
    config.observations.obs_ids = [2]
    config.mimic.off.obs_ids = [105]
    config.mimic.n_sets = 1
    config.write(tmp_path / "config.yaml")
    assert run("run", tmp_path / "config.yaml") == 1
    assert "or set mimic.selection.kl_max higher, or to null" in capsys.readouterr().err
    table = Table.read(tmp_path / "out/questionable.ecsv")
    assert table["REASON"].tolist() == ["large_kl"]
    # made, to be looked at
    assert DataStore.from_dir(tmp_path / "out/mimic_1").obs_ids.tolist() == [2]
    config.mimic.selection.kl_max = None
    config.write(tmp_path / "config.yaml", overwrite=True)
    assert run("run", tmp_path / "config.yaml") == 0


@pytest.mark.slow
def test_questionable_pair_is_left_out(tmp_path, config, capsys):
    """Its mimic is made, but is in none of the datasets."""
    config.mimic.n_sets = 1
    config.write(tmp_path / "config.yaml")
    assert run("run", tmp_path / "config.yaml") == 0
    plan = Table.read(tmp_path / "out/plan.ecsv")
    obs_ids = plan["OBS_ID"].tolist()
    plan["STATUS"] = ["large_kl", *["ok"] * (len(obs_ids) - 1)]
    plan.write(tmp_path / "out/plan.ecsv", overwrite=True)
    assert run("run", tmp_path / "config.yaml") == 0
    assert f"Questionable: OBS_ID {obs_ids[0]}, large_kl" in capsys.readouterr().out
    store = DataStore.from_dir(tmp_path / "out/mimic_1")
    assert store.obs_ids.tolist() == obs_ids
    (dataset,) = read_datasets(tmp_path / "out/datasets_mimic_1")
    assert dataset.meta_table["OBS_ID"].ravel().tolist() == obs_ids[1:]


def test_without_the_section(tmp_path, config, capsys):
    config.mimic = None
    config.write(tmp_path / "config.yaml")
    assert run("run", tmp_path / "config.yaml") == 0
    out = capsys.readouterr().out
    assert "No section mimic" in out
    assert sorted(os.listdir(tmp_path / "out")) == [".steps", "datasets"]


def test_init_for_gammapy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("init") == 0
    assert run("init", "plain.yaml", "--gammapy") == 0
    with pytest.raises(ValidationError, match="Extra inputs"):
        AnalysisConfig.read("config.yaml")
    plain = AnalysisConfig.read("plain.yaml").model_dump()
    ours = MimicAnalysisConfig.read("config.yaml").model_dump()
    assert plain == {name: _ for name, _ in ours.items() if name != "mimic"}
    assert MimicAnalysisConfig.read("plain.yaml").mimic is None


def test_init(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("init") == 0
    assert "gammapy-mimic run config.yaml" in capsys.readouterr().out
    text = (tmp_path / "config.yaml").read_text()
    assert text.count("# ") > 20
    assert MimicAnalysisConfig.read("config.yaml").mimic.n_sets == 5
    assert_fails(capsys, tmp_path / "x", "config.yaml exists", "init")
    assert run("init", "--overwrite") == 0
    assert run("init", "other.yaml") == 0
    assert (tmp_path / "other.yaml").read_text() == text


CODE = "from gammapy_mimic.scripts.main import main; main()"
STORE = "/no/store"
CONE = {"frame": "icrs", "lon": "0 deg", "lat": "80 deg", "radius": "1 deg"}
ERRORS = [
    ("datasets.stak", True, "datasets.stak: unknown key. Did you mean 'stack'"),
    (
        "datasets.geom.axes.energy.min",
        "0.5 deg",
        "axes.energy.min: Invalid unit for",
    ),
    (
        "datasets.geom.axes.energy.min",
        "0.5 foo",
        "energy.min: 'foo' did not parse",
    ),
    ("mimic.exclusion.radius", "0.3 TeV", "mimic.exclusion.radius: "),
    ("mimic.background", "none", "mimic.background: Input should be 'off', 'target'"),
    ("mimic.selection.criteria", {"airmas": 1}, "Did you mean 'airmass'"),
    (
        "observations.datastore",
        STORE,
        f"observations.datastore: Datastore not found: {STORE}",
    ),
    ("observations.obs_ids", [1, 77], "observations: obs_ids [77] are not in /"),
    (
        "observations.obs_file",
        STORE,
        f"obs_file: there is no file {STORE}",
    ),
    ("observations.obs_cone", CONE, "observations: no observation is selected"),
    ("observations.obs_cone.lon", "3 deg", "observations.obs_cone: needs all of frame"),
    ("observations.obs_time.stop", "2005-01-01", "obs_time: needs both start and stop"),
    ("observations.required_irf", ["rad_max"], "obs_time and required_irf"),
    (
        "mimic.off.datastore",
        STORE,
        "mimic.off.datastore: There is no datas",
    ),
    ("mimic.off.obs_ids", [101, 77], "mimic.off.obs_ids: OBS_ID [77] are not in /"),
    ("mimic.off.query", "", "mimic.off.query: must not be empty"),
    ("mimic.off.query", "FOO == 1", "mimic.off.query: Cannot evaluate 'FOO == 1'"),
    ("mimic.off.query", "OBS_ID < 0", "mimic.off.query: No observation of 8 satisfies"),
    (
        "mimic.exclusion.regions",
        "/no.reg",
        "mimic.exclusion: '/no.reg' is neither RA,DEC,RADIUS or NAME",
    ),
    (
        "mimic.exclusion.catalogs",
        ["foo"],
        "mimic.exclusion: 'foo' is neither a",
    ),
    ("datasets.background.exclusion", "/no.fits", "datasets.background: "),
    (
        "datasets.background.parameters",
        {"foo": 1},
        "FoVBackgroundMaker has no parameter 'foo'",
    ),
    (
        "datasets.safe_mask.parameters",
        {"foo": 1},
        "SafeMaskMaker has no parameter 'foo'",
    ),
    (
        "datasets.geom.wcs.skydir.frame",
        None,
        "geom.wcs.skydir: must be frame, lon and lat",
    ),
    ("datasets.type", "1d", "datasets.on_region: a 1d analysis needs frame, lon, lat"),
    ("general.n_jobs", 0, "general.n_jobs: must be at least 1, got 0"),
    ("general.log.level", "loud", "general.log: Unknown level: 'LOUD'"),
]


@pytest.mark.parametrize(("key", "value", "match"), ERRORS)
def test_errors_name_the_key(tmp_path, data, capsys, key, value, match):
    change(data, key, value)
    path = write(tmp_path / "config.yaml", data)
    assert_fails(capsys, tmp_path / "out", match, "run", path)


def test_scramble_without_sources(tmp_path, data, capsys):
    change(data, "mimic.scramble", {"method": "fill"})
    change(data, "mimic.exclusion.regions", None)
    path = write(tmp_path / "config.yaml", data)
    match = "mimic.scramble: there is no source to hide in the fields. Set mimic.excl"
    assert_fails(capsys, tmp_path / "out", match, "run", path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a: [1\nb: 2", "config.yaml is not valid YAML"),
        ("- a", "config.yaml must have keys such as 'observations:'"),
        ("mimic: {n_sets: 0}", "config.yaml, line 1: mimic.n_sets: "),
        ("", "is empty. Write one: gammapy-mimic init"),
        ("mimic: {}", "datasets.on_region: a 1d analysis needs"),
    ],
)
def test_files_that_are_not_valid(tmp_path, capsys, text, match):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert_fails(capsys, tmp_path / "out", match, "run", path)


def test_missing_file(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    match = f"There is no configuration file {path}"
    assert_fails(capsys, tmp_path / "out", match, "run", path)


def test_outdir_that_is_a_file(tmp_path, config, capsys):
    (tmp_path / "out").write_text("mine")
    config.write(tmp_path / "config.yaml")
    match = f"general.outdir: {tmp_path / 'out'} is not a folder"
    assert_fails(capsys, tmp_path / "out", match, "run", tmp_path / "config.yaml")


def test_results_that_no_run_has_made(tmp_path, config, capsys):
    config.mimic = None
    config.write(tmp_path / "config.yaml")
    (tmp_path / "out/datasets").mkdir(parents=True)
    (tmp_path / "out/datasets/mine.txt").write_text("mine")
    assert run("run", tmp_path / "config.yaml") == 1
    assert "is not from an earlier run" in capsys.readouterr().err
    assert (tmp_path / "out/datasets/mine.txt").read_text() == "mine"


def test_spectra_without_background_regions(tmp_path, config, capsys):
    config = config.update("""
datasets:
  type: 1d
  on_region: {frame: icrs, lon: 329.7 deg, lat: -29.7 deg, radius: 0.1 deg}
  background: {method: reflected}
observations: {obs_ids: [1]}
mimic: null
""")
    config.datasets.background.exclusion = None
    config.write(tmp_path / "config.yaml")
    assert run("run", tmp_path / "config.yaml") == 1
    assert "There is no reflected region outside" in capsys.readouterr().err


def test_debug_shows_the_cause(tmp_path, data):
    change(data, "observations.datastore", STORE)
    path = write(tmp_path / "config.yaml", data)
    with pytest.raises(ValueError, match="Datastore not found") as info:
        main(["--debug", "run", str(path)])
    assert isinstance(info.value.__cause__, FileNotFoundError)


@pytest.mark.slow
def test_observations_without_irf_are_skipped(tmp_path, config, stores, capsys):
    """As Gammapy does: with a warning, and the rest is used."""
    table = stores["targets"].hdu_table
    drop = (table["OBS_ID"] == 2) & (table["HDU_TYPE"] == "bkg")
    path = tmp_path / "targets"
    shutil.copytree(table.base_dir, path)
    table[~drop].write(path / "hdu-index.fits.gz", overwrite=True)
    config.observations.datastore = path
    config.mimic.n_sets = 1
    config.write(tmp_path / "config.yaml")
    result = subprocess.run(
        [sys.executable, "-c", CODE, "run", str(tmp_path / "config.yaml")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Required HDUs ['bkg'] not found in observation 2" in result.stderr
    assert DataStore.from_dir(tmp_path / "out/mimic_1").obs_ids.tolist() == [1]


def test_logging(tmp_path, config):
    """The configuration tells how to log, if it does."""
    config.mimic = None
    config.general.log = {"level": "info", "filename": str(tmp_path / "log.txt")}
    config.write(tmp_path / "config.yaml")
    assert run("run", tmp_path / "config.yaml") == 0
    text = (tmp_path / "log.txt").read_text()
    assert "Computing dataset for observation 1" in text
    assert "DEBUG" not in text

    config.general.log.filename = tmp_path / "quiet.txt"
    config.write(tmp_path / "config.yaml", overwrite=True)
    assert run("-q", "run", tmp_path / "config.yaml", "--force", "all") == 0
    assert not (tmp_path / "quiet.txt").exists()
