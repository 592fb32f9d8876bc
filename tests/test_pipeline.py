import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings

import pytest
from astropy.io import fits
from astropy.table import Table
from gammapy.data import DataStore
from gammapy.datasets import Datasets
from gammapy.maps import Map
from gammapy.utils import parallel
from numpy.testing import assert_allclose
from regions import Regions

from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.analysis.pipeline import run_pipeline
from gammapy_mimic.scripts.main import main
from gammapy_mimic.selection import MimicPlan
from gammapy_mimic.utils.files import FILES_LIST

from .runs import is_same, run_and_kill, take_snapshot

CONFIG = """
observations: {obs_ids: [1, 2]}
datasets:
  type: 3d
  stack: true
  map_selection: [counts, background]
  geom:
    wcs:
      skydir: {frame: icrs, lon: 329.7 deg, lat: -30.2 deg}
      width: {width: 4 deg, height: 4 deg}
      binsize: 0.2 deg
      binsize_irf: 1 deg
    selection: {offset_max: 2 deg}
    axes:
      energy: {min: 1 TeV, max: 10 TeV, nbins: 1}
      energy_true: {min: 0.5 TeV, max: 20 TeV, nbins: 3}
  background: {method: fov_background, exclusion: EXCLUSION}
  safe_mask: {methods: [offset-max], parameters: {offset_max: 2 deg}}
mimic:
  selection: {criteria: {airmass: null, zenith: null, rate: null}}
  exclusion: {regions: REGIONS}
  n_sets: 2
"""
STEPS = ["plan", "mimic_1", "mimic_2", "datasets", "datasets_mimic_1"]
STEPS += ["datasets_mimic_2", "systematics", "report"]
NAMES = ["datasets", "datasets_mimic_1", "datasets_mimic_2", "exclusion.reg", "kl"]
NAMES += ["mimic_1", "mimic_2", "plan.ecsv", "questionable.ecsv", "systematics.fits"]
NAMES.insert(NAMES.index("questionable.ecsv") + 1, "report.html")


def make_config(folder, stores):
    """Configuration with its files in a folder, and the results in another in it."""
    if not (folder / "mask.fits").exists():
        (folder / "sources.reg").write_text("icrs\ncircle(329.9,-30.2,0.3)\n")
        mask = Map.create(skydir=(329.7, -30.2), width=4, binsz=0.5, dtype=bool)
        mask.data[...] = True
        mask.write(folder / "mask.fits")
    config = MimicAnalysisConfig.from_yaml(
        CONFIG.replace("REGIONS", str(folder / "sources.reg")).replace(
            "EXCLUSION", str(folder / "mask.fits")
        )
    )
    config.general.outdir = str(folder / "out")
    config.observations.datastore = stores["targets"].hdu_table.base_dir
    config.mimic.off.datastore = stores["off"].hdu_table.base_dir
    return config


@pytest.fixture
def config(tmp_path, stores):
    return make_config(tmp_path, stores)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, stores):
    """Folder of a run from start to end."""
    folder = tmp_path_factory.mktemp("finished")
    run(make_config(folder, stores))
    return folder


@pytest.fixture
def again(tmp_path, finished, stores):
    """Configuration of a finished run, a copy that may be changed."""
    for name in ("out", "mask.fits", "sources.reg"):
        copy = shutil.copytree if (finished / name).is_dir() else shutil.copy2
        copy(finished / name, tmp_path / name)
    config = make_config(tmp_path, stores)
    # its path is part of the configuration of the datasets
    config.datasets.background.exclusion = finished / "mask.fits"
    return config


def run(config, **kwargs):
    """Run, and give the steps that were not skipped."""
    lines = []
    run_pipeline(MimicAnalysis(config), report=lines.append, **kwargs)
    done = []
    for line in lines:
        name, state = line.split(": ")
        name = name.replace("Mimic set ", "mimic_").replace("Plan", "plan")
        if state != "up to date" and not state.startswith("not "):
            done.append(name)
    return done


def get_out(config):
    return pathlib.Path(config.general.outdir)


def assert_same_results(path, expected):
    """Same files with the same content, and nothing left over."""
    snapshot, other = take_snapshot(path), take_snapshot(expected)
    assert list(snapshot) == list(other)
    # they name the folder of the mask
    skipped = re.compile(
        r"mimic_\d/config.yaml|.steps/(datasets|systematics|report).*|report.html"
    )
    names = [_ for _ in snapshot if not skipped.fullmatch(_)]
    assert [_ for _ in names if not is_same(snapshot[_], other[_])] == []


def test_all_that_is_written(finished, stores):
    out = finished / "out"
    assert sorted(os.listdir(out)) == [".steps", *NAMES]
    plan = MimicPlan.read(out / "plan.ecsv")
    assert plan.sets == [1, 2]
    assert len(Table.read(out / "questionable.ecsv")) == len(plan.questionable) == 0
    assert len(Regions.read(out / "exclusion.reg")) == 1
    assert sorted(os.listdir(out / "kl")) == [FILES_LIST, "kl_1.ecsv", "kl_2.ecsv"]
    expected = make_config(finished, stores)
    for mimic_set in plan.sets:
        path = out / f"mimic_{mimic_set}"
        table = DataStore.from_dir(path).obs_table
        partners = dict(zip(table["OBS_ID"], table["MIM_OBS"], strict=True))
        assert partners == plan.partners(mimic_set)
        config = MimicAnalysisConfig.read(path / "config.yaml")
        assert config == expected
    for name in ("datasets", "datasets_mimic_1", "datasets_mimic_2"):
        (dataset,) = Datasets.read(out / name / "datasets.yaml")
        assert dataset.counts.data.sum() > 100


def test_run_gives_what_the_steps_give(again):
    """Also where nothing is left to do."""
    analysis = MimicAnalysis(again)
    analysis.run()
    other = MimicAnalysis(again)
    other.get_datasets()
    other.get_mimic_datasets()
    assert str(analysis.plan.table) == str(other.plan.table)
    pairs = [(analysis.datasets, other.datasets)]
    pairs += [(analysis.mimic_datasets[_], other.mimic_datasets[_]) for _ in (1, 2)]
    for datasets, expected in pairs:
        assert datasets.names == expected.names
        for name in ("counts", "background"):
            maps = [getattr(_[0], name).data for _ in (datasets, expected)]
            # float32 of the maps on disk, and of times of mimics on disk
            assert_allclose(*maps, rtol=1e-6)
        assert datasets[0].counts.data.sum() == expected[0].counts.data.sum()


def test_second_run_does_nothing(again):
    before = take_times(get_out(again))
    assert run(again) == []
    # neither the place of the results, nor how they are made, is part of them
    again.general.n_jobs = 2
    again.general.log.level = "error"
    assert run(again) == []
    assert take_times(get_out(again)) == before


def take_times(path):
    """Times of all that is in a folder, but for that of the lock."""
    names = [_ for _ in path.rglob("*") if _.name != ".steps"]
    return {_: _.stat().st_mtime_ns for _ in names}


@pytest.mark.slow
def test_templates_are_in_the_report(again):
    """Whether the mimics are on disk, in memory, or neither; of any first set."""
    again.mimic.background = "template"
    path = get_out(again) / "report.html"
    run(again)
    edit_plan_sets(again, shift=1)
    for write_datastore in (True, False):
        again.mimic.write_datastore = write_datastore
        run(again)
        path.unlink()
        assert run(again) == ["report"]
        text = path.read_text()
        assert text.count('<figure id="figure-template-') == 2
        assert 'id="table-templates"' in text
        assert "mimic set 2" in text


def edit_plan_sets(config, shift):
    """Give other numbers to the sets of a plan."""
    path = get_out(config) / "plan.ecsv"
    table = Table.read(path)
    table["MIMIC_SET"] += shift
    table.write(path, overwrite=True)


@pytest.mark.slow
def test_force(again, finished):
    assert run(again, force=["all"]) == STEPS
    assert_same_results(get_out(again), finished / "out")


DATASETS = ["datasets", "datasets_mimic_1", "datasets_mimic_2", "systematics", "report"]
MIMICS = ["mimic_1", "mimic_2", "datasets_mimic_1", "datasets_mimic_2"]
MIMICS += ["systematics", "report"]
THIRD = ["plan", "mimic_3", "datasets_mimic_3"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("datasets: {geom: {wcs: {binsize: 0.4 deg}}}", DATASETS),
        ("datasets: {stack: false}", DATASETS),
        ("datasets: {background: {parameters: {method: fit}}}", DATASETS),
        ("mimic: {n_sets: 1}", ["plan"]),
        ("mimic: {n_sets: 3}", [*THIRD, "systematics", "report"]),
        ("mimic: {background: target}", MIMICS),
        ("mimic: {background: template}", ["templates", *MIMICS, "datasets"]),
        ("mimic: {time: off}", MIMICS),
        ("mimic: {alignment: radec}", MIMICS),
        ("mimic: {scramble: {method: annulus}}", MIMICS),
        # of a background that is not made
        ("mimic: {template: {dimension: 3d}}", []),
        # of an exclusion without point sources
        ("mimic: {exclusion: {radius: 1 deg}}", []),
        # the same OFF observations and targets
        ("mimic: {off: {query: OBS_ID > 100}}", []),
        ("observations: {required_irf: [aeff, edisp]}", []),
        # other KL_CORR are bad, the pairs are good
        ("mimic: {selection: {kl_max: 0.03}}", ["plan"]),
        ("mimic: {write_datastore: false}", []),
        ("mimic: {systematics: {min_background: 5}}", ["systematics", "report"]),
        ("mimic: null", []),
        ("fit: {fit_range: {min: 1 TeV}}", []),
    ],
)
def test_change_makes_again_what_it_touches(again, text, steps):
    done = run(again.update(text))
    others = ["templates", "mimic_3", "datasets_mimic_3"]
    expected = [_ for _ in [*STEPS, *others] if _ in steps]
    # what is said each time
    remarks = {"mimic: null": ["No section mimic"]}
    remarks["mimic: {n_sets: 1}"] = ["mimic.n_sets is 1"]
    remarks = remarks.get(text, [])
    assert sorted(done) == sorted(expected + remarks)
    assert run(again.update(text)) == remarks


@pytest.mark.slow
def test_pictures_come_and_go(again):
    folder = get_out(again) / "report_files"
    again.mimic.pictures = True
    assert run(again) == ["report"]
    assert {_.suffix for _ in folder.glob("[!.]*")} == {".png", ".pdf"}
    assert run(again) == []
    again.mimic.pictures = False
    assert run(again) == ["report"]
    assert not folder.exists()


@pytest.mark.slow
def test_random_state(again):
    """Sets are made again, as the seed is in their header."""
    again.mimic.random_state = 5
    assert run(again) == STEPS[:3] + STEPS[4:]
    assert MimicPlan.read(get_out(again) / "plan.ecsv").seed == 5


def test_fewer_sets_and_no_stores(again):
    out = get_out(again)
    again.mimic.n_sets = 1
    run(again)
    assert sorted(os.listdir(out)) == [
        ".steps",
        *(_ for _ in NAMES if not _.endswith(("_2", ".fits", ".html"))),
    ]
    again.mimic.write_datastore = False
    assert run(again) == ["mimic.n_sets is 1"]
    assert not (out / "mimic_1").exists()


@pytest.mark.slow
def test_without_stores(again, finished):
    again.mimic.write_datastore = False
    shutil.rmtree(get_out(again))
    assert run(again) == ["plan", *DATASETS]
    for name in DATASETS[:3]:
        paths = [_ / name for _ in (get_out(again), finished / "out")]
        assert is_same(*(take_snapshot(_) for _ in paths))


def test_without_the_section(config, finished):
    config.mimic = None
    assert run(config) == ["No section mimic", "datasets"]
    out = get_out(config)
    assert sorted(os.listdir(out)) == [".steps", "datasets"]
    paths = [_ / "datasets" for _ in (out, finished / "out")]
    assert is_same(*(take_snapshot(_) for _ in paths))


def touch(path):
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


@pytest.mark.slow
def test_changed_mask(again, tmp_path):
    again.datasets.background.exclusion = tmp_path / "mask.fits"
    assert run(again) == DATASETS
    touch(tmp_path / "mask.fits")
    assert run(again) == DATASETS


@pytest.mark.slow
def test_changed_regions(again, tmp_path):
    path = tmp_path / "sources.reg"
    assert run(again) == []
    touch(path)
    assert run(again) == []
    path.write_text("icrs\ncircle(329.9,-30.2,0.6)\n")
    # the same pairs: without scrambling, regions do not matter to mimics
    assert set(run(again)) <= {"plan", *MIMICS}
    (region,) = Regions.read(get_out(again) / "exclusion.reg")
    assert_allclose(region.radius.to_value("deg"), 0.6)
    again.mimic.scramble = {}
    assert run(again) == MIMICS
    path.write_text("icrs\ncircle(329.9,-30.2,0.5)\n")
    assert set(run(again)) >= set(MIMICS)


@pytest.mark.slow
def test_changed_catalog(again, tmp_path):
    path = tmp_path / "catalog.ecsv"
    again.mimic.exclusion.catalogs = [str(path)]
    table = Table({"ra": [329.0], "dec": [-30.0], "name": ["one"]})
    table.write(path)
    assert "plan" in run(again)
    table["ra"] = 330.0
    table.write(path, overwrite=True)
    assert "plan" in run(again)
    table["name"] = ["two"]
    table.write(path, overwrite=True)
    assert run(again) == ["plan"]
    assert "two" in (get_out(again) / "exclusion.reg").read_text()


@pytest.mark.slow
def test_changed_off_file(again, tmp_path):
    shutil.copytree(again.mimic.off.datastore, tmp_path / "off")
    again.mimic.off.datastore = tmp_path / "off"
    assert run(again) == STEPS[:3] + STEPS[4:]
    plan = MimicPlan.read(get_out(again) / "plan.ecsv")
    (off_obs_id, *_) = set(plan.off_obs_ids(2)) - set(plan.off_obs_ids(1))
    row = DataStore.from_dir(tmp_path / "off").hdu_table
    idx = row["OBS_ID"].tolist().index(off_obs_id)
    touch(row.location_info(idx).path())
    assert run(again) == [
        "plan",
        "mimic_2",
        "datasets_mimic_2",
        "systematics",
        "report",
    ]


@pytest.mark.slow
def test_changed_conditions_of_off_observations(again, tmp_path):
    """They are matched by the index table of the store."""
    shutil.copytree(again.mimic.off.datastore, tmp_path / "off")
    again.mimic.off.datastore = tmp_path / "off"
    run(again)
    path = tmp_path / "off/obs-index.fits.gz"
    with fits.open(path) as hdu_list:
        hdu_list[1].data["LIVETIME"][0] /= 3
        hdu_list.writeto(tmp_path / "new.fits.gz")
    (tmp_path / "new.fits.gz").replace(path)
    assert run(again)[0] == "plan"
    assert 101 not in MimicPlan.read(get_out(again) / "plan.ecsv").table["OFF_OBS_ID"]


def edit_plan(config, mimic_set=2, obs_id=1, off_obs_id=None):
    path = get_out(config) / "plan.ecsv"
    table = Table.read(path)
    row = (table["MIMIC_SET"] == mimic_set) & (table["OBS_ID"] == obs_id)
    if off_obs_id is None:
        used = set(table["OFF_OBS_ID"][table["MIMIC_SET"] == mimic_set])
        off_obs_id = min(set(range(101, 109)) - used)
    table["OFF_OBS_ID"][row] = off_obs_id
    table.write(path, overwrite=True)
    return off_obs_id


@pytest.mark.slow
def test_edited_plan(again):
    off_obs_id = edit_plan(again)
    assert run(again) == ["mimic_2", "datasets_mimic_2", "systematics", "report"]
    store = DataStore.from_dir(get_out(again) / "mimic_2")
    assert store.obs(1).events.table.meta["MIM_OBS"] == off_obs_id
    # what the plan is not made from does not make it anew
    again.mimic.background = "template"
    steps = ["templates", *MIMICS[:2], *DATASETS]
    assert run(again) == steps
    plan = MimicPlan.read(get_out(again) / "plan.ecsv")
    assert plan.partners(2)[1] == off_obs_id
    assert edit_plan(again, off_obs_id=-1) == -1
    # templates of one set are of the size of those of the others
    assert run(again) == steps
    assert DataStore.from_dir(get_out(again) / "mimic_2").obs_ids.tolist() == [2]


@pytest.mark.slow
def test_edited_part(again):
    """A set is made again if it uses another part of an OFF observation."""
    path = get_out(again) / "plan.ecsv"
    table = Table.read(path)
    row = (table["MIMIC_SET"] == 2) & (table["OBS_ID"] == 1)
    table["CUT_START"][row], table["CUT_STOP"][row] = 100, 700
    table.write(path, overwrite=True)
    assert run(again) == ["mimic_2", "datasets_mimic_2", "systematics", "report"]
    header = DataStore.from_dir(get_out(again) / "mimic_2").obs(1).events.table.meta
    assert (header["MIM_TSTA"], header["ONTIME"]) == (100, 600)

    table["CUT_STOP"][row] = 50
    table.write(path, overwrite=True)
    match = r"plan.ecsv: row 3, CUT_STOP: 50 s is not after CUT_START, 100 s"
    with pytest.raises(ValueError, match=match):
        run(again)


@pytest.mark.slow
def test_sets_that_share_are_told_in_each_run(again, caplog):
    """Also of a plan that was edited."""
    path = get_out(again) / "plan.ecsv"
    table = Table.read(path)
    first, second = (table["MIMIC_SET"] == _ for _ in (1, 2))
    for name in ("OFF_OBS_ID", "CUT_START", "CUT_STOP"):
        table[name][second] = table[name][first]
    table.write(path, overwrite=True)
    for _ in range(2):
        caplog.clear()
        run(again)
        (text,) = [_.message for _ in caplog.records if "share" in _.message]
        assert "Mimic sets 1 and 2 share 100% of their OFF livetime" in text


@pytest.mark.parametrize(
    ("off_obs_ids", "match"),
    [
        ([999], "OBS_ID 999 is not among the OFF observations"),
        ([1], r"plan.ecsv: row 3, OFF_OBS_ID: OBS_ID 1 is not among the OFF"),
        ([-1, -1], "plan.ecsv: no target has a partner in mimic set 2"),
    ],
)
def test_plan_that_was_edited_badly(again, off_obs_ids, match):
    for obs_id, off_obs_id in enumerate(off_obs_ids, start=1):
        edit_plan(again, obs_id=obs_id, off_obs_id=off_obs_id)
    before = take_snapshot(get_out(again) / "mimic_2")
    with pytest.raises(ValueError, match=match):
        run(again)
    assert is_same(take_snapshot(get_out(again) / "mimic_2"), before)


def test_edited_plan_is_kept(again):
    """Under another name, when the plan is made anew."""
    path = get_out(again) / "plan.ecsv"
    plan = MimicPlan.read(path)
    plan.table["STATUS"][0] = "large_kl"
    plan.write(path, overwrite=True)
    content = path.read_bytes()
    again.mimic.n_sets = 1

    run_pipeline(MimicAnalysis(again), report=lambda text: None)

    (kept,) = get_out(again).glob("plan_edited_*.ecsv")
    assert kept.read_bytes() == content
    assert MimicPlan.read(path).sets == [1]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_removed_result_is_made_again(again, finished, name):
    path = get_out(again) / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    name = name.removesuffix(".fits").removesuffix(".html")
    own = "mimic" in name or name in ("datasets", "systematics", "report")
    assert run(again) == [name if own else "plan"]
    assert_same_results(get_out(again), finished / "out")


@pytest.mark.parametrize("name", ["datasets", "mimic_2", "plan.ecsv", "kl"])
def test_what_no_run_has_made_is_not_replaced(config, name):
    path = get_out(config) / name
    path.mkdir(parents=True)
    (path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=f"{path} is not from an earlier run"):
        run(config)
    assert (path / "mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_files_of_the_user_stay(config):
    out = get_out(config)
    names = [".venv-3", ".mimic_1", "mimic_7", "datasets_mimic_9", ".steps-1", "old"]
    for name in names:
        (out / name).mkdir(parents=True)
        (out / name / "mine.txt").write_text("mine")
    for _ in range(2):
        config.mimic.n_sets -= _
        run(config)
        for name in names:
            assert (out / name / "mine.txt").read_text() == "mine"


def test_environment_variable_in_outdir(config, monkeypatch):
    monkeypatch.setenv("MY_RESULTS", config.general.outdir)
    config.general.outdir = "$MY_RESULTS/a"
    config.mimic = None
    run(config)
    assert (pathlib.Path(os.environ["MY_RESULTS"]) / "a/datasets").is_dir()


@pytest.mark.slow
def test_same_for_any_number_of_jobs(config, finished):
    config.general.n_jobs = 2
    assert run(config) == STEPS
    assert_same_results(get_out(config), finished / "out")


@pytest.mark.slow
def test_same_with_ray(config, monkeypatch):
    ray = pytest.importorskip("ray")
    config.mimic.n_sets = 1
    # that is made in another test
    config.mimic.off.index = get_out(config).parent / "index.fits"
    run(config)
    expected = get_out(config).rename(get_out(config).with_name("expected"))
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setattr(parallel, "BACKEND_DEFAULT", "ray")
    config.general.n_jobs = 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(config)
        ray.shutdown()
    assert_same_results(get_out(config), expected)


@pytest.mark.slow
def test_killed_while_results_are_replaced(again):
    """What was there is there, or is made again."""
    out = get_out(again)
    run(again, force=["all"])
    expected = take_snapshot(out)
    changed = again.update("mimic: {background: target}")
    for n_changes in (3, 8, 13):
        assert run_and_kill(lambda: run(changed), n_changes) == (n_changes, True)
        run(again)
        assert is_same(take_snapshot(out), expected)


@pytest.mark.slow
def test_killed_command(tmp_path, config, finished):
    config.write(tmp_path / "config.yaml")
    code = "from gammapy_mimic.scripts.main import main; main()"
    args = [sys.executable, "-c", code, "run", str(tmp_path / "config.yaml")]
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if list(tmp_path.glob("out/.mimic_1-*")):
            break
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert main(["run", str(tmp_path / "config.yaml")]) is None
    assert_same_results(get_out(config), finished / "out")
    assert not [_ for _ in os.listdir(tmp_path / "out") if re.search(r"-\d+", _)]
