"""What a run has made is read back as it was written, or not at all."""
# ruff: noqa: F401, F811, PT012

import pytest
from astropy.table import Table

from gammapy_mimic.analysis import MimicAnalysis
from gammapy_mimic.analysis.pipeline import run_pipeline
from gammapy_mimic.utils.records import StepRecords

from .test_pipeline import (
    again,
    assert_same_results,
    config,
    finished,
    get_out,
    run,
    touch,
)

FILES = {
    "mimic_1": ("mimic_1/data/obs_id_000001.fits", "datasets_mimic_1"),
    "datasets_mimic_2": ("datasets_mimic_2/datasets.yaml", "systematics"),
    "datasets": ("datasets/datasets.yaml", "systematics"),
    "systematics": ("systematics.fits", "report"),
}
"""Files of steps, and the steps that read them."""


def run_and_change(config, name, change, force):
    """Run, and change something as soon as it is said that a step is there."""

    def report(line):
        if line.startswith(f"{name}: ".replace("mimic_1: ", "Mimic set 1: ")):
            change()

    run_pipeline(MimicAnalysis(config), force=[force], report=report)


def remove(path):
    path.unlink()


SLOW = [
    pytest.param(name, change, marks=pytest.mark.slow)
    for name in FILES
    for change in (touch, remove)
    if (name, change) not in (("systematics", touch), ("mimic_1", remove))
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change"), [("systematics", touch), ("mimic_1", remove), *SLOW]
)
def test_changed_before_it_is_read(again, finished, name, change):
    file, reader = FILES[name]
    path = get_out(again) / file
    match = f"{path} was changed by something else .*. Run it again"
    with pytest.raises(OSError, match=match):
        run_and_change(again, name, lambda: change(path), reader)
    done = run(again)
    # the report that was there stays the one of the result that is made again
    assert {name, reader} - {"report"} <= {*done}
    assert_same_results(get_out(again), finished / "out")


def write_step(records, names):
    with records.step("datasets", "1", ["datasets"]):
        (records.path / "datasets").mkdir()
        for name in names:
            (records.path / "datasets" / name).write_text(name)


@pytest.mark.parametrize("is_wrong", [True, False])
def test_changed_while_it_is_read(tmp_path, is_wrong):
    """Also where that is why it cannot be read."""
    records = StepRecords(tmp_path)
    with records.lock():
        write_step(records, ["a", "b"])
        with records.reading(["datasets"]):
            pass
        with (
            pytest.raises(OSError, match="datasets/b was changed"),
            records.reading(["datasets"]),
        ):
            touch(tmp_path / "datasets/b")
            if is_wrong:
                raise ValueError("it is no dataset")


def test_added_file_is_a_change(tmp_path):
    records = StepRecords(tmp_path)
    with records.lock():
        write_step(records, ["a"])
        (tmp_path / "datasets/c").write_text("c")
        match = "datasets/c was changed"
        with pytest.raises(OSError, match=match), records.reading(["datasets"]):
            pass


@pytest.mark.slow
def test_plan_that_is_edited_while_a_run_uses_it(again):
    """The report is of the plan that the run has read, and is made again."""
    path = get_out(again) / "plan.ecsv"

    def edit():
        table = Table.read(path)
        table["KL_CORR"][0] = 0.5
        table.write(path, overwrite=True)

    run_and_change(again, "datasets", edit, "report")
    assert run(again) == ["report"]
    assert run(again) == []


@pytest.mark.slow
def test_results_are_read_under_the_lock(again, monkeypatch):
    """No other run can change them before."""
    seen = []
    analysis = MimicAnalysis(again)
    out = get_out(again)

    def is_locked():
        return (out / ".steps/lock").exists()

    original = MimicAnalysis.__setattr__

    def watch(self, name, value):
        if name in ("datasets", "mimic_datasets", "systematics") and value:
            seen.append((name, is_locked()))
        original(self, name, value)

    monkeypatch.setattr(MimicAnalysis, "__setattr__", watch)
    analysis.run()
    assert sorted(seen) == [
        ("datasets", True),
        ("mimic_datasets", True),
        ("systematics", True),
    ]
    assert analysis.systematics.select("significance") is not None
