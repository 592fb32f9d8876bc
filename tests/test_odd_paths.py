"""Folders, links to nothing and pipes where a file or a folder is to be."""

import os

import pytest

from gammapy_mimic.scripts.main import main

KINDS = {
    "dangling": lambda path: path.symlink_to("nowhere"),
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "file": lambda path: path.write_text("mine"),
    "loop": lambda path: path.symlink_to(path.name),
}
SOURCES = ["--datastore", "none", "--target-obs", "1", "--off-obs", "2", "--outdir"]
COMMANDS = {
    "rank": ["rank", *SOURCES],
    "make": ["make", *SOURCES],
    "make over": ["make", "--overwrite", *SOURCES],
    "background": ["background", *SOURCES],
    "demo": ["demo", "--outdir"],
}


def run(capsys, *args):
    """What a command says of its error."""
    with pytest.raises(SystemExit) as caught:
        main([*map(str, args)])
    assert caught.value.code in (1, 2)
    said = " ".join(capsys.readouterr().err.split())
    assert "Errno" not in said
    return said


@pytest.mark.parametrize("kind", [_ for _ in KINDS if _ != "folder"])
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("below", ["", "deep/er"])
def test_folder_of_results(tmp_path, capsys, kind, command, below):
    path = tmp_path / "out"
    KINDS[kind](path)
    said = run(capsys, *COMMANDS[command], path / below)
    what = "a link to nothing" if kind in ("dangling", "loop") else "not a folder"
    assert f"{path} is {what}. Choose another" in said
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", ["dangling", "pipe", "file"])
def test_folder_of_results_in_a_configuration(tmp_path, capsys, kind):
    KINDS[kind](tmp_path / "out")
    config = tmp_path / "config.yaml"
    config.write_text(f"general: {{outdir: {tmp_path / 'out'}}}\nmimic: {{}}")
    said = run(capsys, "run", config)
    assert f"general.outdir: {tmp_path / 'out'} is " in said
    assert "Choose another" in said


@pytest.mark.parametrize("kind", ["dangling", "pipe", "folder", "loop"])
def test_configuration(tmp_path, capsys, kind):
    path = tmp_path / "config.yaml"
    KINDS[kind](path)
    assert f"{path} is not a file" in run(capsys, "run", path)
    if kind == "folder":
        assert f"{path} is not a file" in run(capsys, "run", f"{path}/")


@pytest.mark.parametrize("kind", ["dangling", "pipe", "folder", "loop"])
@pytest.mark.parametrize("name", ["systematics.fits", "config.yaml", "plan.ecsv"])
def test_report(tmp_path, capsys, name, kind, result_file):
    if name != "systematics.fits":
        (tmp_path / "systematics.fits").symlink_to(result_file)
    KINDS[kind](tmp_path / name)
    said = run(capsys, "report", tmp_path)
    assert (
        f"{tmp_path / name} is not a file. Replace it by a file, or remove it" in said
    )


@pytest.fixture(scope="module")
def result_file(tmp_path_factory):
    """A file that is there, and read after the others."""
    path = tmp_path_factory.mktemp("result") / "systematics.fits"
    path.write_text("none")
    return path


@pytest.mark.parametrize("kind", ["dangling", "folder", "loop"])
@pytest.mark.parametrize(
    "option", ["--exclude", "--index", "--datastore", "--off-datastore"]
)
def test_inputs(tmp_path, capsys, option, kind):
    path = tmp_path / "given"
    KINDS[kind](path)
    options = {"--target-obs": "1", "--off-obs": "2", "--datastore": "none"}
    options |= {option: str(path)}
    said = run(capsys, "rank", *(_ for pair in options.items() for _ in pair))
    assert "given" in said or option in ("--index", "--off-datastore")


@pytest.mark.parametrize("kind", ["dangling", "folder", "loop", "pipe"])
def test_outputs(tmp_path, capsys, kind):
    path = tmp_path / "given"
    KINDS[kind](path)
    position = ("--position", "83,22", "--regions", "83,22,1", "--catalog", "none")
    for command in (
        ("init", path),
        ("init", path, "--overwrite"),
        ("exclusions", *position, "--out", path),
        ("scramble", path, tmp_path / "out.fits", "--method", "azimuth"),
        ("convert", path, path, tmp_path / "out.fits"),
    ):
        assert str(path) in run(capsys, *command)
    assert not (tmp_path / "out.fits").exists()
