"""One bar a step on a terminal, one line elsewhere, nothing if it shall be quiet."""

import logging
import time

import pytest
from gammapy.utils import pbar

from gammapy_mimic.scripts.main import main
from gammapy_mimic.utils import progress
from gammapy_mimic.utils.parallel import run_parallel
from gammapy_mimic.utils.progress import show_progress, track


@pytest.fixture
def with_bars(monkeypatch):
    monkeypatch.setattr(pbar, "SHOW_PROGRESS_BAR", True)


def wait(number):
    time.sleep(0.3 if number == 0 else 0)
    # a step inside of a step
    return [*track([number], "inner")]


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Using `tqdm")
def test_bar_of_what_is_done(with_bars, capsys, n_jobs):
    """It counted what was begun: with processes it was full at once."""
    run_parallel(wait, [(_,) for _ in range(4)], n_jobs, task_name="outer")
    bars = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert any("0/4" in _ for _ in bars)
    assert "outer: 100%" in bars[-1]
    assert "4/4" in bars[-1]
    assert "/s]" in bars[-1]
    assert not any("inner" in _ for _ in bars)
    assert pbar.SHOW_PROGRESS_BAR


def test_bar_after_an_error(with_bars, capsys):
    """The next step has its own again."""
    with pytest.raises(ZeroDivisionError), show_progress([1, 2], "first"):
        _ = 1 / 0
    assert [*track([1, 2], "second")] == [1, 2]
    assert "second: 100%" in capsys.readouterr().err


@pytest.fixture
def lines():
    """What is said of progress."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    progress.log.addHandler(handler)
    progress.log.setLevel(logging.INFO)
    yield lambda: messages
    progress.log.removeHandler(handler)


def test_one_line_without_a_terminal(lines, capsys):
    run_parallel(wait, [(0,), (1,)], n_jobs=1, task_name="outer")
    (line,) = lines()
    assert line.startswith("outer: 2 in 0.")
    assert line.endswith(" a second")
    assert capsys.readouterr().err == ""


def test_no_line_of_nothing(lines):
    assert [*track([], "nothing")] == []
    assert [*track([1], "")] == [1]
    assert lines() == []


@pytest.mark.parametrize("args", [[], ["--quiet"]])
def test_lines_of_a_command(stores, tmp_path, capsys, lines, args):
    store, out = str(stores["off"].hdu_table.base_dir), str(tmp_path / "off.idx")
    main([*args, "index", store, "--out", out])
    assert len(lines()) == (not args)
    assert all("Index observations: 8 in" in _ for _ in lines())
