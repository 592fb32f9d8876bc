"""What the demo promises, as it stands and with other random numbers."""

import re
import time

import numpy as np
import pytest
from astropy import units as u

from gammapy_mimic.estimators import MimicSystematics
from gammapy_mimic.estimators.verdict import Verdict, judge_region
from gammapy_mimic.report import make_answer, select_regions
from gammapy_mimic.scripts.demo import FLAW, OFFSET, PLACES, RADIUS, make_source

from .test_readme import README
from .test_scripts import run

FLUX_UNIT = u.Unit("cm-2 s-1")


def run_demo(folder, *args):
    """Rows of the two regions by name, and the result."""
    assert run("demo", "--outdir", folder, *args) == 0
    result = MimicSystematics.read(folder / "systematics.fits")
    return {row["region"]: row for row in select_regions(result)}, result


def test_flaw_is_in_the_region():
    """By how much the background is too low there: from the truth, without events."""
    x, y = np.meshgrid(*2 * [np.linspace(-0.4, 0.4, 81)])
    inside = np.hypot(x, y) < RADIUS.to_value("deg")
    excess = {
        name: np.mean(FLAW.evaluate(lon + x[inside], lat + y[inside])) - 1
        for name, (lon, lat) in {"west": (OFFSET, 0), "north": (0, OFFSET)}.items()
    }
    assert 0.3 < excess["west"] < 0.4
    # the spot is too far away
    assert abs(excess["north"]) < 0.02


@pytest.mark.slow
def test_demo_as_it_stands(tmp_path, capsys):
    start = time.process_time()
    rows, result = run_demo(tmp_path / "demo")
    # less on a machine that has nothing else to do
    assert time.process_time() - start < 60
    source, flaw = rows["north"], rows["west"]
    assert min(source["significance"], flaw["significance"]) > 4.5
    assert source["calibrated"] > 3.5
    assert flaw["calibrated"] < 2
    assert judge_region(source).verdict in (Verdict.UNLIKELY, Verdict.NOT_EXPLAINED)

    # the flux of the source is its own, that of the flaw is nearly all of the flaw
    truth = make_source().spectral_model.integral(0.4 * u.TeV, 20 * u.TeV)
    truth = truth.to_value(FLUX_UNIT)
    assert abs(source["target_flux"] - truth) < 3 * source["target_flux_err"]
    assert abs(source["spurious_flux"]) < 3 * source["spurious_flux_err"]
    rest = flaw["target_flux"] - flaw["spurious_flux"]
    assert abs(rest) < 3 * np.hypot(flaw["target_flux_err"], flaw["spurious_flux_err"])
    assert flaw["spurious_flux"] > 5 * flaw["spurious_flux_err"]

    # three lines at the end, which the README shows
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert lines[0].startswith("report: open ")
    block = re.search(r"```\n(Region north.*?)\n```", README, re.S)[1]
    assert " ".join(lines[1:]) == " ".join(block.split())

    answer = make_answer(result)
    assert answer.question == (
        "Do the regions in question hold more than their background?"
    )
    assert [_.split(",")[0] for _ in answer.regions] == ["Region north", "Region west"]
    assert "The background explains it: " in answer.regions[1]
    assert "is wrong by" in answer.regions[1]
    # nothing that is not so
    findings = " ".join(answer.findings)
    assert "see the bias map" in findings
    assert "Such a shift" not in findings
    assert "leaks out" not in findings
    report = (tmp_path / "demo/report.html").read_text(encoding="utf-8")
    assert all(text.partition(": ")[2] in report for text in answer.regions)
    size = sum(_.stat().st_size for _ in (tmp_path / "demo").rglob("*") if _.is_file())
    assert size < 60e6
    assert len(PLACES) == 2
