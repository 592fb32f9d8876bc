"""The pages of the documentation: their blocks run as they are written."""

import fcntl
import os
import re
import shlex
import shutil
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import yaml

from gammapy_mimic.analysis import MimicAnalysisConfig
from gammapy_mimic.scripts.main import cli
from gammapy_mimic.selection import MatchCriteria

from .helpers import find_data
from .test_scripts import run

DOCS = Path(__file__).parents[1] / "docs"
MADE = {"_build", "gallery", "api"}
"""Folders of what Sphinx makes."""

PAGES = {
    path.relative_to(DOCS).with_suffix("").as_posix(): path.read_text("utf-8")
    for path in sorted(DOCS.rglob("*.rst"))
    if not MADE & set(path.relative_to(DOCS).parts)
}
ELSEWHERE = {"index", "howto/migration", "development/maintainers"}
"""Pages whose blocks other tests run."""

BLOCK = re.compile(
    r"^( *)\.\. code-block:: (\w+)\n(?:\1   :.*\n)*\n((?:\1   .*\n| *\n)+)",
    re.MULTILINE,
)
DEMO = "gammapy-mimic-demo"


def read_blocks(name, kind):
    """Read the blocks of a page, as (line of the page, text)."""
    for match in BLOCK.finditer(PAGES[name]):
        if match[2] == kind:
            line = PAGES[name].count("\n", 0, match.start(3)) + 1
            yield line, textwrap.dedent(match[3])


def read_literals(name):
    """Read all that is shown as it is, whatever it is."""
    for match in BLOCK.finditer(PAGES[name]):
        yield textwrap.dedent(match[3])
    for match in re.finditer(r"::\n\n((?:   .*\n|\n)+)", PAGES[name]):
        yield textwrap.dedent(match[1])


WITH_BLOCKS = [_ for _ in PAGES if _ not in ELSEWHERE and any(read_blocks(_, "python"))]


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """Make what ``gammapy-mimic demo`` leaves behind, a small one for all workers."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with open(folder / "demo.lock", "w") as file, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(file, fcntl.LOCK_EX)
        patch.chdir(folder)
        if not (folder / DEMO / "report.html").exists():
            sizes = ("--n-targets", 3, "--n-off", 12, "--n-sets", 3)
            assert run("demo", *sizes) == 0
    return folder / DEMO


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_python_blocks_run(name, demo, tmp_path, monkeypatch):
    """In the order of the page, in one namespace, in a folder with the demo."""
    shutil.copytree(demo, tmp_path / DEMO)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", plt.close)
    names = {"__name__": "__main__"}
    for line, block in read_blocks(name, "python"):
        if "$GAMMAPY_DATA" in block:
            find_data("hess-dl3-dr1")
        # an error tells the line of the page
        code = compile("\n" * (line - 1) + block, DOCS / f"{name}.rst", "exec")
        exec(code, names)


def test_pages_begin_with_a_set_up():
    """Nothing is used on a page that it does not import or make: they run alone."""
    assert len(WITH_BLOCKS) >= 12
    for name in WITH_BLOCKS:
        _, first = next(read_blocks(name, "python"))
        assert re.match(r"(from|import) ", first), name


def complete(text):
    """Make a part of a configuration one of maps, if it does not say of what."""
    if "type:" in text:
        return text
    if "datasets:\n" in text:
        return text.replace("datasets:\n", "datasets:\n  type: 3d\n")
    return "datasets: {type: 3d}\n" + text


@pytest.mark.parametrize("name", [_ for _ in PAGES if _ != "howto/migration"])
def test_configurations_are_valid(name):
    for _, block in read_blocks(name, "yaml"):
        criteria = yaml.safe_load(block).get("criteria")
        if criteria:
            MatchCriteria(**criteria)
        else:
            MimicAnalysisConfig.from_yaml(complete(block))


def find_commands(text):
    lines = re.sub(r" *\\\n *", " ", text).splitlines()
    for line in lines:
        line = line.strip().removeprefix("$ ").removesuffix("&")
        if line.startswith("gammapy-mimic "):
            yield shlex.split(line, comments=True)[1:]


COMMANDS = [
    (name, words)
    for name in PAGES
    for text in read_literals(name)
    for words in find_commands(text)
]


@pytest.mark.parametrize(("name", "words"), COMMANDS)
def test_commands_have_these_options(name, words):
    command, options = None, set()
    for word in words:
        if command is None and word in cli.list_commands(None):
            command = cli.get_command(None, word)
        elif re.match("--?[a-z]", word):
            options.add(word.partition("=")[0])
    assert command is not None or options == {"-V"}, f"{name}: {words}"
    parts = [_ for group in (cli, command) if group for _ in group.params]
    known = {_ for part in parts for _ in part.opts}
    assert options <= known, name
