import os
from pathlib import Path

import astropy.units as u
import matplotlib.image
import numpy as np
import pytest
from astropy.table import Table
from astropy.time import Time
from gammapy.data import DataStore, Observation
from gammapy.datasets import MapDataset

from gammapy_mimic.analysis.datasets import read_datasets
from gammapy_mimic.data import write_datastore, write_observation
from gammapy_mimic.data.datastore import DatastoreWriter
from gammapy_mimic.estimators import MimicSystematics
from gammapy_mimic.makers import reduce_fov_background
from gammapy_mimic.scripts.main import COMMANDS, cli, main
from gammapy_mimic.scripts.options import KeyValue
from gammapy_mimic.selection import MimicPlan, OffIndex

from .test_io import truncate


@pytest.fixture(scope="module")
def store(tmp_path_factory, stores):
    """A store with targets, OFF observations and one more of the target's field."""
    path = tmp_path_factory.mktemp("cli") / "store"
    observations = [*stores["targets"].get_observations()[:2]]
    observations += [*stores["off"].get_observations()]
    write_datastore(observations, path, irfs="copy")
    return path


def run(*args):
    """Run the command, and give its exit code."""
    try:
        main([str(_) for _ in args])
    except SystemExit as error:
        return error.code or 0
    return 0


ANY_ZENITH = ("-c", "airmass=null", "-c", "zenith=null", "-c", "rate=null")


def make_args(store, outdir, *args):
    selection = ("--target-obs", "1,2", "--off-query", "OBS_ID > 100")
    return (
        "make",
        "--datastore",
        store,
        *selection,
        *ANY_ZENITH,
        "--n-sets",
        "2",
        "--no-reduce",
        "--outdir",
        outdir,
        *args,
    )


def assert_fails(capsys, outdir, match, *args, code=1):
    """One clear line, an exit code, nothing written."""
    before = sorted(outdir.parent.rglob("*"))
    assert run(*args) == code
    error = capsys.readouterr().err
    lines = [_ for _ in error.splitlines() if _.startswith("Error: ")]
    assert len(lines) == 1
    assert match in lines[0]
    assert "Traceback" not in error
    assert sorted(outdir.parent.rglob("*")) == before


def test_make(tmp_path, store, capsys):
    assert run(*make_args(store, tmp_path / "out")) == 0
    names = [".steps", "config.yaml", "exclusion.reg", "kl", "mimic_1", "mimic_2"]
    names += ["plan.ecsv", "questionable.ecsv"]
    assert sorted(os.listdir(tmp_path / "out")) == names
    plan = MimicPlan.read(tmp_path / "out/plan.ecsv")
    assert plan.seed == 0
    for mimic_set in (1, 2):
        table = DataStore.from_dir(tmp_path / f"out/mimic_{mimic_set}").obs_table
        partners = dict(zip(table["OBS_ID"], table["MIM_OBS"], strict=True))
        assert partners == plan.partners(mimic_set)
    assert len(Table.read(tmp_path / "out/questionable.ecsv")) == 0
    assert "Mimic set 2: written" in capsys.readouterr().out


@pytest.mark.slow
def test_make_twice_gives_the_same(tmp_path, store):
    for name, jobs in (("a", 1), ("b", 2)):
        assert run(*make_args(store, tmp_path / name, "--n-jobs", jobs)) == 0
    for name in ("mimic_1", "mimic_2"):
        tables = [
            DataStore.from_dir(tmp_path / _ / name).obs(1).events.table for _ in "ab"
        ]
        for column in ("RA", "DEC", "ENERGY"):
            np.testing.assert_array_equal(tables[0][column], tables[1][column])


@pytest.fixture(scope="module")
def reduced(tmp_path_factory, store):
    """Folder of two reduced sets."""
    out = tmp_path_factory.mktemp("reduced") / "out"
    args = ("--reduce", "--correlation-radius", "0.3 deg")
    assert run(*make_args(store, out, *args)) == 0
    return out


def read_significance(out):
    table = MimicSystematics.read(out / "systematics.fits").select("significance")
    return {row["name"]: row for row in table}


@pytest.mark.slow
def test_reduce(reduced):
    significance = read_significance(reduced)
    assert list(significance) == ["mimic_1", "mimic_2", "all", "target"]
    assert all(abs(row["width"] - 1) < 0.3 for row in significance.values())
    report = (reduced / "report.html").read_text(encoding="utf-8")
    assert "Background systematics" in report


@pytest.mark.slow
def test_reduced_maps_are_those_of_the_function(reduced):
    """The one that the README shows, of one geometry for all fields."""
    store = DataStore.from_dir(reduced / "mimic_1")
    options = {"energy_range": ("0.5 TeV", "20 TeV"), "offset_max": "2 deg"}
    expected = reduce_fov_background(store.get_observations(), **options)
    dataset = MapDataset.create(expected.counts.geom)
    for part in read_datasets(reduced / "datasets_mimic_1"):
        dataset.stack(part)
    assert dataset.counts.data.sum() > 1000
    np.testing.assert_array_equal(dataset.counts.data, expected.counts.data)
    np.testing.assert_allclose(
        dataset.npred_background().data, expected.npred_background().data, rtol=1e-6
    )


@pytest.mark.slow
def test_run_goes_on_with_the_configuration_of_make(tmp_path, store, reduced, capsys):
    """And the other way round: they are one front end."""
    out = tmp_path / "out"
    args = make_args(store, out, "--correlation-radius", "0.3 deg")
    assert run(*args) == 0
    assert not (out / "datasets").exists()
    assert run("run", out / "config.yaml") == 0
    text = capsys.readouterr().out
    assert "Plan: up to date\nMimic set 1: up to date" in text
    for ours, theirs in zip(
        read_significance(out).values(),
        read_significance(reduced).values(),
        strict=True,
    ):
        assert ours["width"] == theirs["width"]
    assert run(*args, "--overwrite", "--reduce") == 0
    assert "report: up to date" in capsys.readouterr().out


@pytest.mark.slow
def test_reduce_sets_of_different_targets(tmp_path, store):
    """Of one geometry, that of all targets, where a set lacks one of them."""
    out = tmp_path / "out"
    args = make_args(store, out, "--correlation-radius", "0.3 deg")
    assert run(*args) == 0
    plan = Table.read(out / "plan.ecsv")
    lacks = (plan["OBS_ID"] == 1) & (plan["MIMIC_SET"] == 2)
    plan[~lacks].write(out / "plan.ecsv", overwrite=True)
    assert run(*args, "--overwrite", "--reduce") == 0
    centers = [
        dataset.counts.geom.wcs.wcs.crval.tolist()
        for name in ("datasets", "datasets_mimic_1", "datasets_mimic_2")
        for dataset in read_datasets(out / name)
    ]
    assert len(centers) > 3
    assert centers == [centers[0]] * len(centers)
    assert all(np.isfinite(row["width"]) for row in read_significance(out).values())


@pytest.mark.slow
def test_one_set_has_no_systematics(tmp_path, store, capsys):
    out = tmp_path / "out"
    assert run(*make_args(store, out, "--n-sets", 1, "--reduce")) == 0
    assert "systematics: not estimated, needs two" in capsys.readouterr().out
    assert (out / "datasets_mimic_1").is_dir()


def test_overwrite_replaces_earlier_results_and_nothing_else(tmp_path, store, capsys):
    outdir = tmp_path / "out"
    assert run(*make_args(store, outdir)) == 0
    (outdir / "notes.txt").write_text("mine")

    assert_fails(capsys, outdir, "not empty", *make_args(store, outdir))
    assert run(*make_args(store, outdir, "--overwrite", "--n-sets", 1)) == 0

    assert not (outdir / "mimic_2").exists()
    assert (outdir / "notes.txt").read_text() == "mine"


def test_questionable(tmp_path, stores, capsys, caplog):
    """A target without partner is told of, on screen and in a table."""
    observations = [*stores["targets"].get_observations()[:2]]
    observations += [*stores["off"].get_observations()]
    start = observations[0].tstart
    short = Time([start, start + 100 * u.s])
    observations[0] = observations[0].select_time(short)
    write_datastore(observations, tmp_path / "store", irfs="copy")

    args = make_args(tmp_path / "store", tmp_path / "out")
    assert run(*args, "--livetime", "whole") == 0

    assert "Questionable: OBS_ID 1, no_mimic" in capsys.readouterr().out
    assert "'livetime'" in caplog.text
    table = Table.read(tmp_path / "out/questionable.ecsv")
    assert table["OBS_ID"].tolist() == [1]
    assert DataStore.from_dir(tmp_path / "out/mimic_1").obs_ids.tolist() == [2]


class TestBadInput:
    def test_no_datastore(self, tmp_path, capsys):
        args = make_args(tmp_path / "nowhere", tmp_path / "out")
        assert_fails(capsys, tmp_path / "out", "Datastore not found", *args)

    def test_unknown_obs_id(self, tmp_path, store, capsys):
        args = make_args(store, tmp_path / "out", "--target-obs", "1,77")
        assert_fails(capsys, tmp_path / "out", "obs_ids [77] are not in", *args)

    def test_not_a_list(self, tmp_path, store, capsys):
        args = make_args(store, tmp_path / "out", "--target-obs", "1,x")
        assert_fails(capsys, tmp_path / "out", "list of integers", *args, code=2)

    def test_query(self, tmp_path, store, capsys):
        for query, match in {
            "TARGET == 1": "there is no column 'TARGET'",
            "OBS_ID > 1000": "No observation of 10 satisfies",
        }.items():
            args = make_args(store, tmp_path / "out", "--off-query", query)
            assert_fails(capsys, tmp_path / "out", match, *args)

    def test_both_selections(self, tmp_path, store, capsys):
        args = make_args(store, tmp_path / "out", "--off-obs", "101")
        assert_fails(capsys, tmp_path / "out", "either --off-obs", *args, code=2)

    def test_off_are_the_targets(self, tmp_path, store, capsys):
        args = make_args(store, tmp_path / "out", "--off-query", "OBS_ID < 3")
        assert_fails(capsys, tmp_path / "out", "same_object", *args)

    def test_no_candidate(self, tmp_path, store, capsys):
        args = make_args(store, tmp_path / "out", "-c", "elevation=[1 deg, 2 deg]")
        assert_fails(capsys, tmp_path / "out", "'elevation': 16 of 16", *args)

    def test_misspelt_criterion(self, tmp_path, store, capsys):
        args = make_args(store, tmp_path / "out", "-c", "airmas=1")
        assert_fails(capsys, tmp_path / "out", "Did you mean 'airmass'", *args)

    def test_outdir_is_a_file(self, tmp_path, store, capsys):
        (tmp_path / "out").write_text("")
        args = make_args(store, tmp_path / "out")
        assert_fails(capsys, tmp_path / "out", "out is not a folder", *args)

    def test_failure_after_the_first_file(self, tmp_path, store, capsys, monkeypatch):
        calls = []
        write = DatastoreWriter.write

        def fail(*args):
            calls.append(args)
            if len(calls) == 2:
                raise OSError("no space left on device")
            return write(*args)

        monkeypatch.setattr(DatastoreWriter, "write", fail)
        outdir = tmp_path / "out"
        assert run(*make_args(store, outdir)) == 1
        assert "no space left" in capsys.readouterr().err
        assert not list(outdir.glob("mimic_*"))
        monkeypatch.undo()
        assert run(*make_args(store, outdir, "--overwrite")) == 0
        text = capsys.readouterr().out
        assert "Plan: up to date\nMimic set 1: written" in text

    def test_debug_shows_the_traceback(self, tmp_path, store):
        args = make_args(tmp_path / "nowhere", tmp_path / "out")
        with pytest.raises(ValueError, match="Datastore not found"):
            run("--debug", *args)

    def test_truncated_file(self, tmp_path, stores, capsys, caplog):
        """It is left out and told of, unless --strict."""
        observations = [*stores["targets"].get_observations()[:1]]
        observations += [*stores["off"].get_observations()[:2]]
        source = tmp_path / "store"
        write_datastore(observations, source, irfs="copy")
        truncate(source / "data/obs_id_000102.fits")
        outdir = tmp_path / "out"
        args = make_args(source, outdir, "--target-obs", "1")

        assert_fails(capsys, outdir, "OBS_ID 102 cannot be read", *args, "--strict")
        assert run(*args) == 0
        assert "OBS_ID 102" in caplog.text
        plan = MimicPlan.read(outdir / "plan.ecsv")
        assert 102 not in plan.table["OFF_OBS_ID"]


@pytest.fixture(scope="module")
def files(tmp_path_factory, stores):
    path = tmp_path_factory.mktemp("files")
    write_observation(stores["targets"].obs(1), path / "target.fits")
    write_observation(stores["off"].obs(101), path / "off.fits.gz")
    return path / "target.fits", path / "off.fits.gz"


def make_selection(store, *args):
    selection = ("--target-obs", "1,2", "--off-query", "OBS_ID > 100")
    return "--datastore", store, *selection, *ANY_ZENITH, *args


class TestRank:
    @pytest.mark.slow
    def test_rank(self, tmp_path, store, capsys):
        outdir = tmp_path / "kl"
        args = ("rank", *make_selection(store), "--outdir", outdir, "--n-rows", 3)
        assert run(*args) == 0
        text = capsys.readouterr().out
        assert "OBS_ID 1: 8 of 8 OFF observations match" in text
        table = Table.read(outdir / "kl_1.ecsv")
        assert f"{table['OFF_OBS_ID'][0]}" in text
        is_good = table["STATUS"] != "large_kl"
        assert np.all(np.diff(table["DISTANCE"][is_good]) >= 0)
        for name in ("kl_matrix.png", "kl_1.png", "kl_2.png"):
            assert np.std(matplotlib.image.imread(outdir / name)) > 0.03

        time = (outdir / "kl_1.ecsv").stat().st_mtime_ns
        assert run(*args) == 0
        assert (outdir / "kl_1.ecsv").stat().st_mtime_ns == time
        assert run(*args, "-c", "livetime=0.5") == 0
        assert (outdir / "kl_1.ecsv").stat().st_mtime_ns > time

    def test_index_file(self, tmp_path, store, caplog):
        """It is made, read, made anew for other regions, or if it is damaged."""
        path = tmp_path / "index.fits"
        args = ("rank", *make_selection(store), "--index", path)
        assert run(*args) == 0
        content = path.read_bytes()
        assert run(*args) == 0
        assert "anew" not in caplog.text
        assert run(*args, "--exclude", "329.7,-30.2,0.5") == 0
        assert "exclusion_regions are not those" in caplog.text
        path.write_bytes(content[:3000])
        assert run(*args) == 0
        assert "cannot be read as an index" in caplog.text
        caplog.clear()
        assert run(*args) == 0
        assert "anew" not in caplog.text

    def test_region_file(self, tmp_path, store, capsys):
        path = tmp_path / "my.reg"
        path.write_text("icrs\ncircle(329.7d, -30.2d, 0.3d)\n")
        index = tmp_path / "index.fits"
        args = ("--exclude", path, "--index", index)
        assert run("rank", *make_selection(store), *args) == 0
        (region,) = OffIndex.read(index).exclusion_regions
        assert abs(region.center.icrs.ra.deg - 329.7) < 1e-9
        assert abs(region.radius.to_value("deg") - 0.3) < 1e-9

    @pytest.mark.parametrize(
        ("args", "match"),
        [
            (
                ("--exclude", "nowhere.reg"),
                "neither RA,DEC,RADIUS or NAME",
            ),
            (("--exclude", "1,2,3 TeV"), "is not RA,DEC,RADIUS"),
            (("--kl-max", "-1"), "kl-max"),
            (("--distribution", "flux"), "flux"),
        ],
    )
    def test_bad_input(self, tmp_path, store, capsys, args, match):
        args = ("rank", *make_selection(store), *args)
        assert_fails(capsys, tmp_path / "x", match, *args, code=2)


class TestBackground:
    @pytest.mark.slow
    def test_selected(self, tmp_path, store, capsys):
        outdir = tmp_path / "store"
        options = ("--outdir", outdir, "--time-request", "1 h", "--kl-max", "0.5")
        args = ("background", *make_selection(store), *options)
        assert run(*args, "--smooth", "gauss") == 0
        assert "2 backgrounds of 2 observations" in capsys.readouterr().out
        result = DataStore.from_dir(outdir)
        for obs_id in (1, 2):
            observation = result.obs(obs_id)
            assert observation.bkg.tag == "bkg_2d"
            assert observation.bkg.meta["N_OBS"] == 3
            assert len(observation.events.table) > 1000
            image = matplotlib.image.imread(outdir / f"background_{obs_id}.png")
            assert np.std(image) > 0.05
        assert run(*args) == 1
        assert run(*args, "--overwrite") == 0

    @pytest.mark.slow
    def test_groups_and_3d(self, tmp_path, store, capsys):
        outdir = tmp_path / "store"
        options = ("--outdir", outdir, "--dimension", "3d")
        args = ("background", *make_selection(store), *options)
        assert run(*args, "--group", "zen_pnt=[0, 90]") == 0
        result = DataStore.from_dir(outdir)
        bkg = result.hdu_table[result.hdu_table["HDU_TYPE"] == "bkg"]
        assert len(set(bkg["FILE_NAME"])) == 1
        assert result.obs(1).bkg.tag == "bkg_3d"
        assert result.obs(1).bkg.meta["N_OBS"] == 8

    def test_explicit_list(self, tmp_path, store, capsys):
        outdir = tmp_path / "store"
        args = ("background", *make_selection(store), "--outdir", outdir)
        assert run(*args, "--from-obs", "101,103") == 0
        result = DataStore.from_dir(outdir)
        assert result.obs(2).bkg.meta["OBS_IDS"] == "101,103"

    def test_bad_input(self, tmp_path, store, capsys):
        outdir = tmp_path / "store"
        args = ("background", *make_selection(store), "--outdir", outdir)
        for extra, match, code in (
            (("--group", "NOT_THERE=[0, 1]"), "NOT_THERE", 1),
            (("--group", "zen_pnt=[80, 90]"), "group", 1),
            (("--group", "zen_pnt=[0, 9]", "--from-obs", "101"), "either", 2),
            (("--from-obs", "999"), "999", 1),
            (("-c", "elevation=[1 deg, 2 deg]"), "no good OFF observation", 1),
        ):
            assert_fails(capsys, outdir, match, *args, *extra, code=code)


class TestConvert:
    @pytest.mark.parametrize("background", ["off", "target"])
    def test_convert(self, tmp_path, files, capsys, background):
        out = tmp_path / "out.fits"
        assert run("convert", *files, out, "--background", background) == 0
        target, off, mimic = map(Observation.read, (*files, out))
        assert mimic.obs_id == 1
        assert len(mimic.events.table) == len(off.events.table)
        assert mimic.events.table.meta["MIM_OBS"] == 101
        expected = {"off": off, "target": target}[background]
        np.testing.assert_array_equal(mimic.bkg.data, expected.bkg.data)
        assert f"{len(off.events.table)} events" in capsys.readouterr().out

    def test_existing_file(self, tmp_path, files, capsys):
        out = tmp_path / "out.fits"
        out.write_text("mine")
        assert_fails(capsys, tmp_path / "x", "exists", "convert", *files, out)
        assert out.read_text() == "mine"
        assert run("convert", *files, out, "--overwrite") == 0
        assert Observation.read(out).obs_id == 1

    def test_off_equal_to_target(self, tmp_path, files, capsys):
        out = tmp_path / "out.fits"
        args = ("convert", files[0], files[0], out)
        assert_fails(capsys, out, "cannot mimic itself", *args)

    def test_truncated_file(self, tmp_path, files, capsys):
        path = tmp_path / "broken.fits.gz"
        path.write_bytes(Path(files[1]).read_bytes())
        truncate(path, 0.3)
        out = tmp_path / "out.fits"
        assert_fails(capsys, out, "broken.fits.gz", "convert", files[0], path, out)

    def test_missing_file(self, tmp_path, files, capsys):
        args = ("convert", files[0], tmp_path / "no.fits", tmp_path / "out.fits")
        assert_fails(capsys, tmp_path / "out.fits", "does not exist", *args, code=2)


@pytest.mark.slow
def test_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    args = ("demo", "--n-targets", 3, "--n-off", 12, "--n-sets", 2)
    for _ in range(2):  # a second demo in the same folder is fine
        assert run(*args) == 0
        output = capsys.readouterr().out
    assert "Mimic set 2: written" in output
    assert "Background systematics" in Path("gammapy-mimic-demo/report.html").read_text(
        encoding="utf-8"
    )
    assert run("run", "gammapy-mimic-demo/config.yaml") == 0
    assert "report: up to date" in capsys.readouterr().out
    assert run("demo", "--n-targets", 1, "--n-off", 4, "--n-sets", 1) == 0
    assert "Region" not in capsys.readouterr().out


def test_help_and_version(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    for name, short_help in COMMANDS.items():
        assert name in text
        command = cli.get_command(None, name)
        assert command.get_short_help_str(limit=100) == short_help
        assert run(name, "--help") == 0
        assert "Usage" in capsys.readouterr().out
    assert run("--version") == 0
    assert run("no-such-command") == 2


def test_criteria_are_yaml():
    convert = KeyValue().convert
    assert convert("time-difference=30 d", None, None) == ("time_difference", "30 d")
    assert convert("livetime=0.2", None, None) == ("livetime", 0.2)
    assert convert("exclude_obs_ids=[1, 2]", None, None)[1] == [1, 2]
    assert convert("airmass=null", None, None)[1] is None
