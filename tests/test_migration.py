"""Every row of the page for those who come from elsewhere does what it says."""

import ast
import re
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import yaml
from astropy.coordinates import SkyCoord
from gammapy.modeling.models import (
    GaussianSpatialModel,
    Models,
    PowerLawSpectralModel,
    SkyModel,
)

from gammapy_mimic.analysis import MimicAnalysisConfig
from gammapy_mimic.data import write_datastore
from gammapy_mimic.simulate import simulate_observations

from .helpers import find_data
from .test_scripts import run

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "howto" / "migration.rst").read_text("utf-8")
STARS = "$GAMMAPY_DATA/veritas/crab-point-like-ED/Hipparcos_MAG8_1997.dat"
NOT_NEEDED = {
    "in_dir",
    "max_runs",
    "missing_runs",
    "n_tels",
    "obs-index.fits.gz",
    "source_name",
    "use_runlist",
}
"""First names of the rows that have nothing to run."""


def read_rows():
    """First name of each row of the tables, and what is to be run of it."""
    for text in re.findall(r"\.\. list-table::\n.*?(?=\n\S|\Z)", PAGE, flags=re.DOTALL):
        rows = re.split(r"\n   \* - ", text)[2:]
        for row in rows:
            left, right = " ".join(row.split()).split(" - ", 1)
            name = re.search(r"`(.+?)`", left)
            lines = re.findall(r"``(.+?)``", right)
            yield (name.group(1) if name else left), lines


ROWS = list(read_rows())
KEYS = [line for _, lines in ROWS for line in lines if re.match(r"[a-z_.]+: ", line)]
COMMANDS = [line for _, lines in ROWS for line in lines if line.startswith("gammapy-m")]
BLOCKS = {
    kind: re.findall(rf"code-block:: {kind}\n\n((?:   .*\n|\n)+)", PAGE)
    for kind in ("python", "yaml")
}


def test_all_rows_are_found():
    assert len(ROWS) > 90
    assert len(KEYS) > 50
    assert {name for name, lines in ROWS if not lines} == NOT_NEEDED
    assert len(BLOCKS["python"]) == 3


def get_value(config, path):
    for name in path:
        assert name in config.model_fields_set, path
        config = getattr(config, name)
    return config


@pytest.mark.parametrize("line", KEYS)
def test_key(line):
    """It is one of the configuration, and its value is taken."""
    path, value = line.split(": ", 1)
    data, path = yaml.safe_load(f"value: {value}")["value"], path.split(".")
    nested = data
    for name in reversed(path):
        nested = {name: nested}
    config = MimicAnalysisConfig.from_dict(nested)
    found = get_value(config, path)
    if isinstance(data, dict) and hasattr(found, "model_fields_set"):
        assert found.model_fields_set == {*data}
    again = MimicAnalysisConfig.from_yaml(config.to_yaml())
    assert get_value(again, path) == found


def translate(text):
    """Have a page's text in the test's folder, with a smaller and quicker example."""
    text = text.replace("/data/store", "store").replace("0.02 deg", "0.1 deg")
    text = text.replace("binsz=0.02", "binsz=0.1").replace("n_sets: 5", "n_sets: 2")
    text = text.replace("time_request: 10 h", "time_request: 1 h")
    text = text.replace(", 64082, 64083]", "]")
    # the simulation has no such columns, and its observations are years apart
    return re.sub(r"\n +(nsb|n_tels|time_difference): .*", "", text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder in which the page has been followed, and its names."""
    for name in (STARS.partition("/")[2], "catalogs/3HWC.ecsv"):
        find_data(*name.split("/"))
    folder = tmp_path_factory.mktemp("migration")
    crab = SkyCoord(83.6333, 22.0133, unit="deg")
    spectrum = PowerLawSpectralModel(index=2.5, amplitude="3.5e-11 cm-2 s-1 TeV-1")
    shape = GaussianSpatialModel(
        lon_0=crab.ra, lat_0=crab.dec, sigma="0.02 deg", frame="icrs"
    )
    source = SkyModel(spectrum, shape, name="crab")
    options = {"zenith": ("44 deg", "54 deg")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(plt, "show", lambda: None)
        targets = simulate_observations(
            2, targets={"Crab": crab}, first_obs_id=64080, sources=[source], **options
        )
        off = simulate_observations(16, first_obs_id=70001, **options)
        write_datastore([*targets, *off], "store", irfs="copy")
        Models([SkyModel(spectrum, name="crab")]).write("models.yaml")
        Path("runlist.txt").write_text("64080\n64081\n")
        for name, obs_id in {"TARGET": 64080, "OFF": 70001}.items():
            path = next(Path("store").rglob(f"*{obs_id}.fits*"))
            Path(f"{name}.fits").write_bytes(path.read_bytes())
        Path("config.yaml").write_text(translate(BLOCKS["yaml"][1]))
        names = {}
        for block in BLOCKS["python"]:
            # a block of the page has the margin of its directive
            exec(translate(re.sub(r"^   ", "", block, flags=re.MULTILINE)), names)
        plt.close("all")
    return folder, names


@pytest.fixture
def names(folder, monkeypatch):
    monkeypatch.chdir(folder[0])
    return folder[1]


@pytest.mark.slow
def test_target_and_mimics_have_off_counts(names):
    """The ring of one configuration."""
    analysis = names["analysis"]
    sets = {"target": analysis.datasets, **analysis.mimic_datasets}
    assert {name: [_.tag for _ in datasets] for name, datasets in sets.items()} == {
        "target": ["MapDatasetOnOff"],
        1: ["MapDatasetOnOff"],
        2: ["MapDatasetOnOff"],
    }
    assert {*names["result"].names} == {"mimic_1", "mimic_2"}


def execute(line, names):
    """Run a command, or a line of Python."""
    code = translate(line)
    if line in COMMANDS:
        if run(*shlex.split(code)[1:]):
            raise ValueError("The command failed.")
        return
    mode = "eval" if isinstance(ast.parse(code).body[0], ast.Expr) else "exec"
    exec(compile(code, line, mode), names)


@pytest.mark.slow
def test_commands_and_lines(names):
    """One after the other, as some need what others have written."""
    failed = []
    for line in dict.fromkeys(_ for _, lines in ROWS for _ in lines if _ not in KEYS):
        try:
            execute(line, names)
        except Exception as error:
            failed.append(f"{line}: {error!r}")
        plt.close("all")
    assert not failed, "\n".join(failed)
