"""What a new user of the command line meets in the first hour."""

import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from astropy.coordinates import name_resolve

from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.exclusion import ExclusionRegions, find_position
from gammapy_mimic.exclusion.names import is_name
from gammapy_mimic.scripts.init import init
from gammapy_mimic.scripts.main import cli
from gammapy_mimic.selection import MatchCriteria, MimicPlan
from gammapy_mimic.version import __version__

from .helpers import find_data
from .test_scripts import run


@pytest.fixture
def say(capsys):
    """What a command says, with its exit code."""

    def say(*args):
        code = run(*args)
        out, err = capsys.readouterr()
        return code, " ".join(f"{out} {err}".split())

    return say


@pytest.fixture
def paths(stores):
    return {name: str(store.hdu_table.base_dir) for name, store in stores.items()}


@pytest.fixture(scope="module")
def catalogs():
    return find_data("catalogs", "gammacat", "gammacat.fits.gz")


@pytest.fixture
def no_resolver():
    """A name resolver that cannot be reached."""
    with name_resolve.sesame_url.set(["http://127.0.0.1:9/"]):
        yield


def test_version(say):
    assert say("-V") == say("--version") == (0, f"gammapy-mimic, version {__version__}")


class TestOffDatastore:
    def test_alone_means_all_of_it(self, say, paths, tmp_path):
        options = ("--datastore", paths["targets"], "--target-obs", "1")
        options += ("--off-datastore", paths["off"])
        options += ("-c", "airmass=null", "--kl-max", "none", "--no-reduce")
        code, text = say("make", *options, "--outdir", tmp_path / "out")
        assert code == 0, text
        partners = MimicPlan.read(tmp_path / "out/plan.ecsv").table["OFF_OBS_ID"]
        assert {*partners} <= {*range(101, 109)}

    def test_without_it(self, say, paths, tmp_path):
        options = ("--datastore", paths["targets"], "--target-obs", "1")
        code, text = say("make", *options, "--outdir", tmp_path / "out")
        assert code == 2
        assert "--off-obs or --off-query, or --off-datastore for all of it" in text


def test_overwrite_is_an_option(say, tmp_path):
    (tmp_path / "config.yaml").write_text("mine")
    code, text = say("init", tmp_path / "config.yaml")
    assert code == 1
    assert "Choose another name, or overwrite it (--overwrite, in Python over" in text
    for command in map(str, cli.list_commands(None)):
        options = [
            _ for part in cli.get_command(None, command).params for _ in part.opts
        ]
        # every other command replaces only what is its own
        assert ("--overwrite" in options) == (command not in ("demo", "run", "rank"))


def test_help_lists_all_criteria(say):
    code, text = say("make", "--help")
    assert code == 0
    for name in MatchCriteria.__dataclass_fields__:
        assert name in text.replace(" ", "")


@pytest.mark.parametrize(
    ("store", "name"),
    [
        ("$GAMMAPY_DATA/hess-dl3-dr1", "GAMMAPY_DATA"),
        # what the shell makes of it
        ("/hess-dl3-dr1", "GAMMAPY_DATA"),
        ("${MY_ARCHIVE}/store", "MY_ARCHIVE"),
    ],
)
def test_variable_that_is_not_set(say, monkeypatch, tmp_path, store, name):
    monkeypatch.delenv("GAMMAPY_DATA", raising=False)
    monkeypatch.delenv("MY_ARCHIVE", raising=False)
    options = ("--target-obs", "1", "--off-obs", "2", "--outdir", tmp_path / "out")
    code, text = say("make", "--datastore", store, *options)
    assert code == 1
    assert f". The environment variable {name} is not set." in text


def test_variable_that_is_not_the_cause(say, monkeypatch, tmp_path):
    monkeypatch.delenv("GAMMAPY_DATA", raising=False)
    options = ("--target-obs", "1", "--off-obs", "2", "--outdir", tmp_path / "out")
    code, text = say("make", "--datastore", tmp_path / "none", *options)
    assert code == 1
    assert text.endswith(f"Datastore not found: {tmp_path / 'none'}.")


class TestMissingFolder:
    @pytest.mark.parametrize("command", ["init", "convert", "scramble", "index"])
    def test_is_named(self, say, tmp_path, paths, command):
        out = tmp_path / "none" / "out.fits"
        target = f"{paths['targets']}/data/obs_id_000001.fits"
        off = f"{paths['off']}/data/obs_id_000101.fits"
        args = {
            "init": [out],
            "convert": [target, off, out],
            "scramble": [off, out, "--method", "azimuth"],
            "index": [paths["off"], "--out", out],
        }
        code, text = say(command, *args[command])
        assert code == 1
        assert f"There is no folder {out.parent}. Make it first." in text

    def test_of_results_is_made(self, say, paths, tmp_path):
        options = ("--datastore", paths["targets"], "--target-obs", "1")
        options += ("--off-datastore", paths["off"], "--kl-max", "none", "--no-reduce")
        outdir = tmp_path / "deep" / "er"
        code, _ = say("make", *options, "-c", "airmass=null", "--outdir", outdir)
        assert code == 0
        assert (outdir / "plan.ecsv").is_file()


class TestMakers:
    """Errors of Gammapy's makers name the key."""

    @pytest.mark.parametrize(
        ("section", "match"),
        [
            (
                "background: {method: ring, parameters: {method: scale}}",
                "datasets.background.parameters: RingBackgroundMaker has no parameter "
                "'method'. Choose from r_in, width, exclusion_mask.",
            ),
            (
                "background: {method: reflected, parameters: {r_in: 1 deg}}",
                "ReflectedRegionsBackgroundMaker has no parameter 'r_in'",
            ),
            (
                "safe_mask: {methods: [offset-max], parameters: {offset: 1 deg}}",
                "datasets.safe_mask.parameters: SafeMaskMaker has no parameter "
                "'offset'. Choose from aeff_percent",
            ),
        ],
    )
    def test_parameter(self, section, match):
        config = MimicAnalysisConfig.from_yaml(f"datasets:\n  type: 3d\n  {section}")
        with pytest.raises(ValueError, match=re.escape(match)):
            MimicAnalysis(config).check_makers()

    def test_ring_in_several_bins(self):
        config = MimicAnalysisConfig.from_yaml("""
        datasets:
          type: 3d
          geom: {axes: {energy: {min: 1 TeV, max: 10 TeV, nbins: 5}}}
          background: {method: ring, parameters: {r_in: 0.5 deg, width: 0.2 deg}}
        """)
        match = r"datasets\.geom\.axes\.energy\.nbins: must be 1 .*'ring', got 5"
        with pytest.raises(ValueError, match=match):
            MimicAnalysis(config).check_makers()


@pytest.mark.parametrize("kl_max", ["none", 0.1])
def test_criterion_that_rejects_all(say, paths, tmp_path, kl_max):
    """Which, how many each would let in, and the line to write, which does."""
    options = ["--datastore", paths["targets"], "--target-obs", "1"]
    options += ["--off-datastore", paths["off"], "--outdir", tmp_path / "out"]
    options += ["--kl-max", kl_max, "--n-sets", 1, "--no-reduce"]
    options += ["-c", "airmass=null", "-c", "elevation=[89 deg, 90 deg]"]
    code, text = say("make", *options)
    assert code == 1
    assert "The criterion that removed most is 'elevation': 8 of 8 candidates." in text
    found = re.search(r"There would be (\d+) without elevation: write criteria: ", text)
    number = int(found[1])
    (line,) = re.findall(r"on the command line -c (elevation=null)\.", text)[:1]
    code, text = say("make", *options, "-c", line)
    assert code == 0, text
    assert 0 < number <= 8


def test_no_criterion_alone(say, paths, tmp_path):
    options = ["--datastore", paths["targets"], "--target-obs", "1"]
    options += ["--off-datastore", paths["off"], "--outdir", tmp_path / "out"]
    options += ["--kl-max", "none", "-c", "airmass=null"]
    options += ["-c", "elevation=[89 deg, 90 deg]", "-c", "galactic_latitude=90 deg"]
    code, text = say("make", *options)
    assert code == 1
    assert "No criterion alone keeps candidates out: lift several." in text


def test_make_keeps_datasets_of_single_observations(say, paths, tmp_path):
    """As `init` does: stacked, a report has no bias map, nor errors of shared runs."""
    options = ["--datastore", paths["targets"], "--target-obs", "1"]
    options += ["--off-datastore", paths["off"], "--outdir", tmp_path / "out"]
    options += ["--kl-max", "none", "-c", "airmass=null", "--n-sets", 1, "--no-reduce"]
    code, text = say("make", *options)
    assert code == 0, text
    config = MimicAnalysisConfig.read(tmp_path / "out" / "config.yaml")
    assert config.datasets.stack is False


def test_one_set_has_no_report(say, paths, tmp_path):
    """As is said before anything is made."""
    options = ["--datastore", paths["targets"], "--target-obs", "1"]
    options += ["--off-datastore", paths["off"], "--outdir", tmp_path / "out"]
    options += ["--kl-max", "none", "-c", "airmass=null", "--n-sets", 1]
    code, text = say("make", *options)
    assert code == 0, text
    assert text.startswith("mimic.n_sets is 1: there will be no systematics and no rep")


def write_config(folder):
    """Write the configuration of ``init``."""
    path = folder / "config.yaml"
    init.main([str(path)], standalone_mode=False)
    return path


class TestInit:
    def test_defaults(self, tmp_path):
        config = MimicAnalysisConfig.read(write_config(tmp_path))
        assert config.datasets.stack is False
        assert config.mimic.n_sets == 5
        assert config.mimic.exclusion.radius.deg == 0.4

    def test_radius_of_the_code_is_that_of_the_file(self, tmp_path):
        radius = MimicAnalysisConfig.from_yaml("mimic: {}").mimic.exclusion.radius
        assert radius.deg == 0.4


class Resolver(BaseHTTPRequestHandler):
    """A name resolver that knows one source."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if "my" in self.path.lower():
            self.wfile.write(b"# my source\n%J 83.5 +22.5 = 05:34:00 +22:30:00\n")

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture
def resolver():
    server = HTTPServer(("127.0.0.1", 0), Resolver)
    Thread(target=server.serve_forever, daemon=True).start()
    with name_resolve.sesame_url.set([f"http://127.0.0.1:{server.server_port}/"]):
        yield
    server.shutdown()
    server.server_close()


class TestNames:
    @pytest.mark.parametrize(
        ("name", "ra", "dec"),
        [
            ("Crab nebula", 83.633, 22.014),
            ("crabNEBULA", 83.633, 22.014),
            ("M 87", 187.706, 12.391),
            ("SN1572", 6.34, 64.141),
            ("HESS J1825-137", 276.554, -13.58),
            ("3HWC J0534+220", 83.628, 22.024),
            ("Vela X", 128.287, -45.19),
        ],
    )
    def test_of_catalogs(self, catalogs, no_resolver, name, ra, dec):
        """In two of them, or as one of several names of a source; no network."""
        position = find_position(name)
        assert position.ra.deg == pytest.approx(ra, abs=0.05)
        assert position.dec.deg == pytest.approx(dec, abs=0.05)

    def test_of_a_resolver(self, resolver):
        position = find_position("my source")
        assert (position.ra.deg, position.dec.deg) == (83.5, 22.5)

    @pytest.mark.parametrize(
        ("name", "near"), [("Crab", "Crab nebula"), ("Crab nebola", "Crab nebula")]
    )
    def test_near_names(self, catalogs, no_resolver, name, near):
        """A name that is part of another, and one that is misspelt."""
        match = f"There are near names: .*'{near}'.* Give one, or RA,DEC"
        with pytest.raises(ValueError, match=match):
            find_position(name)

    def test_unknown(self, no_resolver):
        match = "There is no source 'Nowhere 1' in .*no name resolver .*Give RA,DEC"
        with pytest.raises(ValueError, match=match):
            find_position("Nowhere 1")

    @pytest.mark.parametrize("text", ["83", "83.6 deg", "5h34m", "-30:00:00", ""])
    def test_angles_are_no_names(self, text):
        assert not is_name(text)

    def test_region(self, resolver):
        regions = ExclusionRegions.from_text("my source, 0.4 deg")
        assert regions.names == ["my source"]
        assert regions[0].radius.deg == 0.4
        assert regions[0].center.ra.deg == 83.5
        with pytest.raises(ValueError, match="'my source,x' is not NAME,RADIUS"):
            ExclusionRegions.from_text("my source,x")

    def test_of_the_configuration(self, resolver):
        data = (
            "mimic: {systematics: {regions: ['my source,0.4']}}\ndatasets: {type: 3d}"
        )
        config = MimicAnalysisConfig.from_yaml(data)
        assert config.mimic.systematics.regions == ["my source,0.4"]

    def test_position_of_a_field(self, say, catalogs, no_resolver):
        by_name = say("exclusions", "--position", "Crab nebula", "--radius", "1 deg")
        options = ("--position", "83.6331,22.0145", "--radius", "1 deg")
        assert by_name == say("exclusions", *options)
        assert by_name[0] == 0
        assert "Crab" in by_name[1]
        code, text = say("exclusions", "--position", "Nowhere 1")
        assert code == 2
        assert "is not RA,DEC or NAME: There is no source 'Nowhere 1'" in text


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param("bash", marks=SLOW),
        pytest.param("zsh", marks=SLOW),
        pytest.param("fish", marks=SLOW),
    ],
)
def test_completion(shell, monkeypatch):
    """As the page of the command line has it."""
    code = "from gammapy_mimic.scripts.main import main; main()"
    monkeypatch.setenv("_GAMMAPY_MIMIC_COMPLETE", f"{shell}_source")
    args = [sys.executable, "-c", code]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert "gammapy-mimic" in done.stdout
    monkeypatch.setenv("_GAMMAPY_MIMIC_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "gammapy-mimic ex")
    monkeypatch.setenv("COMP_CWORD", "1" if shell != "fish" else "ex")
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert "exclusions" in done.stdout
