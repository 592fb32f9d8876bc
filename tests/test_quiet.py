"""Options without a value that makes sense, and what is printed with ``--quiet``."""

import pytest

from .test_pipeline import make_config
from .test_scripts import make_args, run


@pytest.mark.parametrize("option", ["--n-sets", "--n-targets", "--n-off"])
def test_demo_of_nothing(tmp_path, capsys, option):
    """It simulated for seconds, and then told of pydantic."""
    assert run("demo", "--outdir", tmp_path / "demo", option, "0") == 2
    assert f"Invalid value for '{option}': 0 is not in" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("text", ["", " ", ","])
def test_run_of_no_sets(tmp_path, stores, capsys, text):
    """It did nothing, as if all were done."""
    config = make_config(tmp_path, stores)
    config.write(tmp_path / "config.yaml")
    assert run("run", tmp_path / "config.yaml", "--sets", text) == 2
    assert "Invalid value for '--sets': it is empty" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_make_of_no_targets(capsys):
    args = ["--target-obs", "", "--off-obs", "1", "--outdir", "out"]
    assert run("make", "--datastore", "store", *args) == 2
    assert "Invalid value for '--target-obs': it is empty" in capsys.readouterr().err


@pytest.mark.parametrize("args", [[], ["--quiet"]])
def test_steps_of_a_run(stores, tmp_path, capsys, args):
    """They were printed all the same."""
    store = stores["off"].hdu_table.base_dir
    make = make_args(store, tmp_path / "out", "--kl-max", "none")
    make = [_ if _ != "1,2" else "101,102" for _ in make]
    assert run(*args, *make) == 0
    printed = capsys.readouterr().out
    assert ("Mimic set 1: written" in printed) == (not args)
    assert ("Plan: " in printed) == (not args)
    assert bool(printed) == (not args)
    assert (tmp_path / "out/mimic_1").is_dir()


@pytest.mark.parametrize("args", [[], ["--quiet"]])
def test_file_that_is_written(tmp_path, capsys, args):
    assert run(*args, "init", tmp_path / "config.yaml") == 0
    assert ("Wrote" in capsys.readouterr().out) == (not args)
