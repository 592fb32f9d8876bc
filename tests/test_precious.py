"""What is not ours stays, whatever a record, an index, a plan or a name says."""
# ruff: noqa: F401, F811, PT012, SIM117

import hashlib
import json
import logging
import multiprocessing
import os
import pathlib
import shutil
import signal
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from gammapy.data import DataStore
from gammapy.datasets import Datasets
from gammapy.maps import WcsGeom

from gammapy_mimic.analysis.datasets import write_datasets
from gammapy_mimic.data import write_datastore
from gammapy_mimic.exclusion import ExclusionRegions
from gammapy_mimic.makers import KLBackgroundSelector
from gammapy_mimic.selection import MimicPlan, OffIndex
from gammapy_mimic.utils import files
from gammapy_mimic.utils.files import remove_leftovers, replace_file, replace_folder
from gammapy_mimic.utils.records import StepRecords

from .helpers import make_reference
from .test_pipeline import (
    again,
    config,
    finished,
    get_out,
    run,
)
from .test_scripts import make_args, store
from .test_scripts import run as run_command


def take_hashes(path):
    """Hash of every file of a folder, and where each link leads."""
    hashes = {}
    for root, folders, names in os.walk(path):
        for name in (*folders, *names):
            file = os.path.join(root, name)
            if os.path.islink(file):
                hashes[file] = os.readlink(file)
            elif os.path.isfile(file):
                with open(file, "rb") as handle:
                    hashes[file] = hashlib.sha256(handle.read()).hexdigest()
            else:
                hashes[file] = "folder"
    return hashes


def make_precious(path):
    """Folder of a user."""
    path.mkdir(parents=True)
    (path / "thesis.tex").write_text("42")
    (path / "data").mkdir()
    (path / "data/events.fits").write_text("photons")
    return path


def write_record(out, name, outputs):
    path = out / ".steps" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"checksum": "1", "outputs": outputs}))


@pytest.fixture
def out(tmp_path):
    """Outdir beside and with files of a user."""
    for name in ("precious", "out/precious", "out/mimic_1_published", "out/Mimic_3"):
        make_precious(tmp_path / name)
    (tmp_path / "out/notes.txt").write_text("mine")
    return tmp_path / "out"


RECORDS = [
    ("mimic_3", ["../precious"]),
    ("mimic_3", ["../../precious"]),
    ("mimic_3", ["precious"]),
    ("mimic_3", ["notes.txt"]),
    ("mimic_3", ["mimic_3", "precious"]),
    ("mimic_3", ["mimic_3/../precious"]),
    ("mimic_3", ["./precious"]),
    ("mimic_3", [""]),
    ("mimic_3", ["."]),
    ("mimic_3", [".."]),
    ("mimic_3", ["/"]),
    ("mimic_3", ["ABSOLUTE"]),
    ("mimic_3", ["mimic_1_published"]),
    ("mimic_3", ["Mimic_3"]),
    ("mimic_3", ["mimic_3\0"]),
    ("mimic_3", "precious"),
    ("mimic_3", {"precious": 1}),
    ("mimic_3", [["precious"]]),
    ("mimic_3", None),
    ("mimic_3", [1]),
    ("plan", ["plan.ecsv", "precious"]),
    ("plan", ["notes.txt"]),
    ("precious", ["precious"]),
    ("mimic_1_published", ["mimic_1_published"]),
    ("Mimic_3", ["Mimic_3"]),
    ("mimic_03", ["precious"]),
    ("mimic_٣", ["precious"]),
    ("datasets_mimic_1", ["mimic_1_published"]),
    ("..", ["precious"]),
]


@pytest.mark.parametrize(("name", "outputs"), RECORDS)
def test_record_of_something_else(out, name, outputs):
    if outputs == ["ABSOLUTE"]:
        outputs = [str(out.parent / "precious")]
    write_record(out, name, outputs)
    before = take_hashes(out.parent)
    records = StepRecords(out)
    assert records.names == []
    records.remove(name)
    assert not records.is_done(name, "1")
    assert take_hashes(out.parent) == before


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "\xff", "[" * 100_000])
def test_damaged_record(out, text, caplog):
    write_record(out, "mimic_3", ["mimic_3"])
    (out / ".steps/mimic_3.json").write_bytes(text.encode("latin-1"))
    make_precious(out / "mimic_3")
    before = take_hashes(out.parent)
    records = StepRecords(out)
    records.remove("mimic_3")
    assert "mimic_3.json is damaged and not used" in caplog.text
    with pytest.raises(FileExistsError, match="mimic_3 is not from an earlier run"):
        records.check(["mimic_3"])
    assert take_hashes(out.parent) == before


def to_link(path, target):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("what", ["folder", "link", "file in it", "link in it", "copy"])
def test_record_of_what_a_user_has_put_there(out, what):
    """The name is that of the step, but not all of it was made by one."""
    path = out / "mimic_3"
    if what == "folder":
        make_precious(path)
    elif what == "link":
        path.symlink_to(out.parent / "precious")
    else:
        with replace_folder(path) as folder:
            (folder / "events.fits").write_text("ours")
    if what == "file in it":
        (path / "thesis.tex").write_text("42")
    elif what == "link in it":
        to_link(path / "events.fits", out / "notes.txt")
    elif what == "copy":
        shutil.copytree(out / "precious", path / "precious")
    write_record(out, "mimic_3", ["mimic_3"])
    before = take_hashes(out.parent)
    records = StepRecords(out)
    match = "is a link, which is" if what == "link" else "was not written with"
    for function in (records.check, lambda names: records.remove(*names)):
        with pytest.raises(FileExistsError, match=match):
            function(["mimic_3"])
    with (
        pytest.raises(FileExistsError, match=match),
        records.step("mimic_3", "1", ["mimic_3"]),
    ):
        pass
    with pytest.raises(FileExistsError, match=match), replace_folder(path):
        pass
    assert take_hashes(out.parent) == before


@pytest.mark.parametrize("kind", ["link", "file"])
def test_folder_of_the_records(out, kind):
    if kind == "link":
        write_record(out.parent / "other", "mimic_3", ["mimic_3"])
        (out / ".steps").symlink_to(out.parent / "other/.steps")
    else:
        (out / ".steps").write_text("mine")
    before = take_hashes(out.parent)
    with pytest.raises(FileExistsError, match="steps is not a folder"):
        StepRecords(out)
    assert take_hashes(out.parent) == before


def test_step_cannot_make_something_else(out):
    with pytest.raises(ValueError, match="The step 'mimic_3' cannot make"):
        StepRecords(out).claim("mimic_3", ["precious"])
    with pytest.raises(ValueError, match="The step 'precious' cannot make"):
        StepRecords(out).claim("precious")


def test_own_results_are_removed(out):
    records = StepRecords(out)
    before = take_hashes(out.parent)
    with records.step("mimic_3", "1"), replace_folder(out / "mimic_3") as folder:
        (folder / "data").mkdir()
        (folder / "data/events.fits").write_text("ours")
    assert records.names == ["mimic_3"]
    assert records.is_done("mimic_3", "1")
    records.remove("mimic_3")
    assert records.names == []
    after = take_hashes(out.parent)
    assert after.pop(str(out / ".steps")) == "folder"
    assert after == before


LEFTOVERS = [
    ".{}-123",
    ".{}-123-old",
    ".123-{}",
    ".{}-abcdefgh",
    ".{}-abcd_123",
    ".{}-",
]


@pytest.mark.parametrize("name", LEFTOVERS)
@pytest.mark.parametrize("kind", ["folder", "file", "link", "link to a leftover"])
def test_names_like_those_of_leftovers(out, name, kind):
    path = out / name.format("mimic_3")
    if kind == "folder":
        make_precious(path)
    elif kind == "file":
        path.write_text("mine")
    else:
        if kind == "link to a leftover":
            (out.parent / "precious" / files.FILES_LIST).touch()
            (out.parent / "precious/thesis.tex").rename(out.parent / "precious/mimic_3")
            shutil.rmtree(out.parent / "precious/data")
        path.symlink_to(out.parent / "precious")
    before = take_hashes(out.parent)
    remove_leftovers(out / "mimic_3")
    assert take_hashes(out.parent) == before


@pytest.mark.parametrize("is_folder", [True, False])
@pytest.mark.parametrize("has_old", [True, False])
def test_real_leftovers(out, monkeypatch, is_folder, has_old):
    """Of a killed process: removed, and what was moved away is put back."""
    path = out / "mimic_3"
    write = replace_folder if is_folder else replace_file
    if has_old and is_folder:
        with write(path) as temporary:
            (temporary / "old.txt").write_text("old")
    before = take_hashes(out.parent)
    monkeypatch.setattr(files, "_remove_work", lambda folder: None)
    with pytest.raises(OSError, match="killed"), write(path) as temporary:
        if is_folder and has_old:
            path.rename(temporary.parent / "mimic_3-old")
        raise OSError("killed")
    assert take_hashes(out.parent) != before
    monkeypatch.undo()
    remove_leftovers(path)
    assert take_hashes(out.parent) == before


TARGETS = {"folder": make_precious, "fifo": os.mkfifo, "link": None, "dangling": None}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("overwrite", [True, False])
def test_replace_file(out, kind, overwrite):
    path = out / "plan.ecsv"
    if TARGETS[kind] is None:
        name = {"link": "notes.txt", "dangling": "nowhere"}[kind]
        path.symlink_to(out / name)
    else:
        TARGETS[kind](path)
    before = take_hashes(out.parent)
    regions = ExclusionRegions()
    plan = MimicPlan(Table({"OBS_ID": [1], "OFF_OBS_ID": [2]}))
    for write in (regions.write, plan.write, plan.write_questionable):
        with pytest.raises(FileExistsError, match=r"plan\.ecsv (exists|is)"):
            write(path, overwrite=overwrite)
    assert take_hashes(out.parent) == before


def test_file_that_appears_meanwhile(out):
    with pytest.raises(FileExistsError, match="exists"):
        with replace_file(out / "new.txt") as temporary:
            temporary.write_text("ours")
            (out / "new.txt").write_text("mine")
    assert (out / "new.txt").read_text() == "mine"
    with pytest.raises(FileExistsError, match="new/data was not written with"):
        with replace_folder(out / "new"):
            make_precious(out / "new")
    assert (out / "new/thesis.tex").read_text() == "42"
    assert not [_ for _ in os.listdir(out) if _.startswith(".new")]


def test_folders_of_results(out, stores):
    """A dataset or datastore is not written in place of a folder of a user."""
    datasets = Datasets([make_reference(stores["off"].obs(101), name="test")])
    observations = stores["off"].get_observations([101])
    (out / "link").symlink_to(out / "precious")
    before = take_hashes(out.parent)
    for name, match in {
        "precious": "was not written with",
        "link": "is a link",
        "notes.txt": "is a file",
    }.items():
        with pytest.raises(FileExistsError, match=match):
            write_datasets(datasets, out / name)
        with pytest.raises(OSError, match="not a datastore|is a link|Not a dir"):
            write_datastore(observations, out / name, overwrite=True)
    assert take_hashes(out.parent) == before
    write_datastore(observations, out / "new")
    (out / "new/thesis.tex").write_text("42")
    before = take_hashes(out.parent)
    with pytest.raises(FileExistsError, match="thesis.tex was not written with"):
        write_datastore(observations, out / "new", overwrite=True)
    assert take_hashes(out.parent) == before


# ---------------------------------------------------------------------------- index


@pytest.fixture(scope="module")
def index(stores):
    return OffIndex.create(stores["off"])


FOREIGN = [
    "my.reg",
    "table.fits",
    "map.fits",
    "image.fits",
    "empty",
    "keys.fits",
    "link",
]


def make_foreign(path, index):
    if path.name == "table.fits":
        Table({"x": [1]}, meta={"CREATOR": "gammapy-mimic"}).write(path)
    elif path.name == "map.fits":
        WcsGeom.create(npix=3).region_mask("icrs;circle(0, 0, 1)").write(path)
    elif path.name == "image.fits":
        fits.PrimaryHDU(np.ones((3, 3))).writeto(path)
    elif path.name == "keys.fits":
        header = fits.Header({"IDX_VERS": 1, "CREATOR": "somebody"})
        fits.PrimaryHDU(header=header).writeto(path)
    elif path.name == "link":
        index.write(path.with_name("linked.fits"))
        path.symlink_to(path.with_name("linked.fits"))
    else:
        path.write_text("icrs\ncircle(1,2,3)\n" if path.name == "my.reg" else "")


@pytest.mark.parametrize("name", FOREIGN)
def test_index_is_not_written_over_something_else(out, stores, index, name):
    path = out / name
    make_foreign(path, index)
    before = take_hashes(out.parent)
    match = "is a link" if name == "link" else f"{path} is not an index of observations"
    selector = KLBackgroundSelector(stores["off"])
    with pytest.raises(FileExistsError, match=match):
        selector.make_index(path)
    with pytest.raises(FileExistsError, match=match):
        index.write(path, overwrite=True)
    assert take_hashes(out.parent) == before


@pytest.mark.parametrize("how", ["truncated", "version", "content"])
def test_damaged_index_is_made_anew(out, stores, index, how, caplog):
    path = out / "index.fits"
    index.write(path)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:10_000])
    elif how == "version":
        fits.setval(path, "IDX_VERS", value=99)
    else:
        fits.setval(path, "IDX_HASH", value="0")
    selector = KLBackgroundSelector(stores["off"])
    selector.make_index(path)
    assert "anew" in caplog.text
    assert OffIndex.read(path).checksum == index.checksum


def test_ranking_is_not_written_over_something_else(out, stores):
    Table({"x": [1]}).write(out / "kl_1.ecsv")
    before = take_hashes(out.parent)
    selector = KLBackgroundSelector(stores["off"], criteria={"airmass": None})
    with pytest.raises(FileExistsError, match="kl_1.ecsv is not a ranking"):
        selector.rank(stores["targets"].obs(1), out / "kl_1.ecsv")
    assert take_hashes(out.parent) == before


# ---------------------------------------------------------------------------- run


def keep_results(path):
    """All that is there, to be compared after a run that failed."""
    return {file: _ for file, _ in take_hashes(path).items() if ".steps" not in file}


@pytest.mark.parametrize(
    "name", ["report.html", "datasets_mimic_2", "systematics.fits", "mimic_2", "kl"]
)
def test_all_in_the_way_is_found_first(config, name):
    """Nothing is written, not even by the steps before."""
    make_precious(get_out(config) / name)
    before = take_hashes(get_out(config))
    with pytest.raises(FileExistsError, match=f"{name} is not from an earlier run"):
        run(config)
    assert take_hashes(get_out(config)) == before


def test_index_in_the_way_is_found_first(config, tmp_path):
    config.mimic.off.index = tmp_path / "my.reg"
    config.mimic.off.index.write_text("icrs\ncircle(1,2,3)\n")
    before = keep_results(tmp_path)
    with pytest.raises(FileExistsError, match=r"my\.reg is not an index"):
        run(config)
    assert keep_results(tmp_path) == before
    assert not get_out(config).exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kl", "mimic_2", "plan.ecsv", "report.html"])
def test_link_in_place_of_a_result(again, tmp_path, name):
    to_link(get_out(again) / name, make_precious(tmp_path / "precious"))
    before = take_hashes(tmp_path)
    again.mimic.random_state = 5
    with pytest.raises(FileExistsError, match=f"{name} is a link"):
        run(again)
    assert take_hashes(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize("n_sets", [1, 2])
def test_file_in_a_result(again, n_sets):
    """Of a set that is made again, or removed."""
    (get_out(again) / "mimic_2/notes.txt").write_text("mine")
    before = take_hashes(get_out(again))
    again.mimic.n_sets, again.mimic.random_state = n_sets, 5
    with pytest.raises(FileExistsError, match="notes.txt was not written with"):
        run(again)
    assert take_hashes(get_out(again)) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda table: table[:0], "plan.ecsv: the plan has no rows"),
        (lambda table: table[table["MIMIC_SET"] == -1], "plan.ecsv: the plan has no"),
        ("MIMIC_SET", "plan.ecsv: row 3, MIMIC_SET: -1 is not valid"),
    ],
)
def test_plan_without_sets(again, edit, match):
    path = get_out(again) / "plan.ecsv"
    table = Table.read(path)
    if edit == "MIMIC_SET":
        table["MIMIC_SET"][table["MIMIC_SET"] == 2] = -1
    else:
        table = edit(table)
    table.write(path, overwrite=True)
    before = take_hashes(get_out(again))
    with pytest.raises(ValueError, match=match):
        run(again)
    assert take_hashes(get_out(again)) == before


def test_edited_plan_keeps_what_has_its_name(again):
    """Also if the record does not know what was written."""
    out = get_out(again)
    path = out / "plan.ecsv"
    stamp = int(path.stat().st_mtime)
    (out / f"plan_edited_{stamp}.ecsv").write_text("precious")
    content = path.read_bytes()
    record = json.loads((out / ".steps/plan.json").read_text())
    record["written"] = {}
    (out / ".steps/plan.json").write_text(json.dumps(record))
    again.mimic.n_sets = 1
    run(again)
    assert (out / f"plan_edited_{stamp}.ecsv").read_text() == "precious"
    assert (out / f"plan_edited_{stamp + 1}.ecsv").read_bytes() == content


@pytest.mark.parametrize("mode", ["w", "a", None])
def test_log_is_not_written_into_something_else(config, tmp_path, capsys, mode):
    (tmp_path / "log.txt").write_text("precious")
    (tmp_path / "link.txt").symlink_to(tmp_path / "nowhere")
    for name in ("log.txt", "link.txt"):
        config.general.log = {"filename": str(tmp_path / name), "filemode": mode}
        config.write(tmp_path / "config.yaml", overwrite=True)
        before = take_hashes(tmp_path)
        assert run_command("run", tmp_path / "config.yaml") == 1
        assert f"general.log: filename: {tmp_path / name} is not a log" in (
            capsys.readouterr().err
        )
        assert take_hashes(tmp_path) == before


@pytest.mark.parametrize(("mode", "n_lines"), [("w", 2), ("a", 3), (None, 3)])
def test_log_goes_on(config, tmp_path, monkeypatch, mode, n_lines):
    root = logging.getLogger()
    config.general.log = {"filename": str(tmp_path / "log.txt"), "filemode": mode}
    for _ in range(2):
        monkeypatch.setattr(root, "handlers", [])
        config.set_logging()
        root.warning("written")
        for handler in root.handlers:
            handler.close()
    assert len((tmp_path / "log.txt").read_text().splitlines()) == n_lines


# ---------------------------------------------------------------------------- make


@pytest.fixture
def made(tmp_path, store):
    """Folder of `make`, with a copy of a set and files of a user."""
    out = tmp_path / "out"
    assert run_command(*make_args(store, out)) == 0
    shutil.copytree(out / "mimic_1", out / "mimic_1_published")
    shutil.copytree(out / "mimic_1", out / "mimic_7")
    make_precious(out / "mimic_thesis")
    return out


@pytest.mark.slow
def test_make_removes_its_own_sets_only(made, store):
    names = ("mimic_1_published", "mimic_7", "mimic_thesis")
    before = [take_hashes(made / _) for _ in names]
    args = make_args(store, made, "--overwrite", "--n-sets", 1, "--random-state", 1)
    assert run_command(*args) == 0
    assert [take_hashes(made / _) for _ in names] == before
    assert not (made / "mimic_2").exists()
    plan = MimicPlan.read(made / "plan.ecsv")
    table = DataStore.from_dir(made / "mimic_1").obs_table
    partners = dict(zip(table["OBS_ID"], table["MIM_OBS"], strict=True))
    assert (plan.sets, plan.partners(1)) == ([1], partners)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n_sets", "match"),
    [
        ("mimic_7", 7, "mimic_7 is not from an earlier run"),
        ("mimic_2/notes.txt", 1, "notes.txt was not written with"),
        ("mimic_2/notes.txt", 2, "notes.txt was not written with"),
        ("report.html", 2, "report.html is not from an earlier run"),
        ("datasets_mimic_2", 2, "datasets_mimic_2 is not from an earlier run"),
    ],
)
def test_make_checks_before_it_starts(made, store, capsys, name, n_sets, match):
    if name != "mimic_7":
        (made / name).write_text("mine")
    before = take_hashes(made)
    args = make_args(store, made, "--overwrite", "--n-sets", n_sets, "--reduce")
    assert run_command(*args) == 1
    assert match in capsys.readouterr().err
    assert take_hashes(made) == before


def test_make_in_a_folder_of_another(tmp_path, store, capsys):
    """Also a plan of a user, or stores that were made elsewhere."""
    out = make_precious(tmp_path / "out")
    (out / "plan.ecsv").write_text("my plan")
    before = take_hashes(out)
    assert run_command(*make_args(store, out, "--overwrite")) == 1
    assert "plan.ecsv is not from an earlier run" in capsys.readouterr().err
    assert take_hashes(out) == before


@pytest.mark.slow
def test_make_that_fails_keeps_all_stores(made, store, monkeypatch):
    """While all is written, and when the first store is complete. Then it goes on."""
    stores = [_ for _ in made.iterdir() if _.is_dir() and _.name[0] != "."]
    before = [take_hashes(_) for _ in stores]
    args = make_args(store, made, "--overwrite", "--random-state", 1)
    for name in ("DatastoreWriter.finish", "DatastoreWriter.add"):
        with monkeypatch.context() as context:
            context.setattr(f"gammapy_mimic.data.datastore.{name}", _fail)
            assert run_command(*args) == 1
        assert [take_hashes(_) for _ in stores if _.name != "kl"] == [
            hashes
            for path, hashes in zip(stores, before, strict=True)
            if path.name != "kl"
        ]
    assert run_command(*args) == 0
    plan = MimicPlan.read(made / "plan.ecsv")
    table = DataStore.from_dir(made / "mimic_1").obs_table
    partners = dict(zip(table["OBS_ID"], table["MIM_OBS"], strict=True))
    assert (plan.seed, plan.partners(1)) == (1, partners)


def _fail(*args):
    raise OSError("disk full")


@pytest.mark.slow
@pytest.mark.parametrize("n_changes", [3, 5, 7])
def test_killed_make(made, store, n_changes):
    """While the stores are put in place: a second run repairs all."""
    args = make_args(store, made, "--overwrite", "--random-state", 1, "--n-sets", 1)
    process = multiprocessing.get_context("fork").Process(
        target=run_until, args=(n_changes, args)
    )
    with warnings.catch_warnings(action="ignore"):
        process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list(made.glob(".*"))) > 1
    assert run_command(*args) == 0
    assert list(made.glob(".*")) == [made / ".steps"]
    assert not (made / "mimic_2").exists()
    partners = MimicPlan.read(made / "plan.ecsv").partners(1)
    table = DataStore.from_dir(made / "mimic_1").obs_table
    assert dict(zip(table["OBS_ID"], table["MIM_OBS"], strict=True)) == partners


def run_until(n_changes, args):
    """Run a command, and die when so many files or folders were put in place."""
    done = []

    def watch(name):
        function = getattr(pathlib.Path, name)

        def watched(*args):
            if len(done) == n_changes:
                os.kill(os.getpid(), signal.SIGKILL)
            done.append(args)
            return function(*args)

        setattr(pathlib.Path, name, watched)

    watch("rename")
    watch("replace")
    run_command(*args)


def test_demo_in_a_folder_of_another(tmp_path, stores, capsys):
    """Datastores and a configuration that no demo has made."""
    write_datastore(stores["off"].get_observations([101]), tmp_path / "off")
    for name in ("off", "config.yaml"):
        before = take_hashes(tmp_path)
        assert run_command("demo", "--outdir", tmp_path) == 1
        assert f"{name} is not from an earlier run" in capsys.readouterr().err
        assert take_hashes(tmp_path) == before
        shutil.rmtree(tmp_path / "off", ignore_errors=True)
        (tmp_path / "config.yaml").write_text("mine")


def test_rank_in_a_folder_of_another(tmp_path, store, capsys):
    (tmp_path / "kl_2.png").write_text("mine")
    selection = ("--target-obs", "1,2", "--off-query", "OBS_ID > 100")
    args = ("--datastore", store, *selection, "--outdir", tmp_path)
    assert run_command("rank", *args) == 1
    assert "kl_2.png is not from an earlier run" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["kl_2.png"]
