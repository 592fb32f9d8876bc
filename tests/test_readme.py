"""What the README shows must run as printed."""

import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from .helpers import need_runs, read_axes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_python_snippets_run_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    simulated = [_ for _ in SNIPPETS if "$GAMMAPY_DATA" not in _]
    assert len(simulated) == len(SNIPPETS) - 1 == 3
    for snippet in simulated:
        exec(snippet, namespace)
    assert "width" in capsys.readouterr().out
    chain = namespace["chain"]
    assert chain.makers[1].tag == "MimicMaker"
    assert list(namespace["analysis"].mimic_datasets) == [1, 2]


def test_first_result_on_real_data(hess_store):
    """Ten lines, the same on the front page, that make a map of noise in seconds."""
    need_runs(hess_store, "pks2155_flare", "offdata")
    (snippet,) = [_ for _ in SNIPPETS if "$GAMMAPY_DATA" in _]
    lines = [_ for _ in snippet.splitlines() if _ and "import" not in _]
    assert len(lines) <= 10
    page = (ROOT / "docs/index.rst").read_text()
    assert textwrap.indent(snippet, "   ") in page
    namespace, start = {}, time.process_time()
    exec(snippet, namespace)
    assert time.process_time() - start < 15
    significance = namespace["maps"]["sqrt_ts"].data
    significance = significance[np.isfinite(significance)]
    assert len(significance) > 5000
    assert abs(significance.mean()) < 0.2
    assert significance.std() == pytest.approx(1, abs=0.1)
    assert read_axes(plt.gca())[1]


def test_commands_are_those_of_the_package():
    assert "python -m pip install . && gammapy-mimic demo" in README
    assert 'python -m pip install ".[test]" && python -m pytest' in README
    for name in re.findall(r"\(((?:docs|examples)/[^)]+)\)", README):
        assert (ROOT / name).exists()


def test_import_without_optional_packages():
    code = "import sys; sys.modules['ray'] = None; import gammapy_mimic"
    subprocess.check_call([sys.executable, "-W", "error", "-c", code])


MAP = ["Declination", r"Significance [$\sigma$]"]  # with its colour bar
DENSITY = r"Probability density [$1/\sigma$]"
SCRAMBLE = [*["fov_lat [deg]"] * 3, *["Events"] * 5, "Events after - before"]
FIGURES = {
    "plot_analysis_config": [[*4 * MAP, DENSITY], [DENSITY]],
    "plot_background_template": [
        2 * ["Background rate [s-1 TeV-1 sr-1]"],
        ["Counts / predicted background"],
    ],
    "plot_fit": [["Flux / true flux", "", "", ""]],
    "plot_maker_chain": [[*3 * MAP, DENSITY]],
    "plot_mimic_observations": [
        ["Target OBS_ID", "Zenith angle, OFF - target [deg]"],
        [*2 * MAP, DENSITY],
    ],
    "plot_reflected_spectrum": [["Excess counts", "Significance"]],
    "plot_ring_background": [[*2 * MAP, DENSITY]],
    "plot_scramble_crab": [SCRAMBLE, SCRAMBLE, [*3 * MAP, DENSITY]],
    "plot_systematics": [["Declination", DENSITY], 2 * ["Counts / prediction - 1 [%]"]],
}
"""Figures that the examples show, by the labels of their axes."""


def check_figures(expected):
    """Every axes of every open figure is the one expected, and shows something."""
    figures = [plt.figure(_) for _ in plt.get_fignums()]
    labels = [[ax.get_ylabel() for ax in figure.axes] for figure in figures]
    assert labels == expected
    for figure in figures:
        for ax in figure.axes:
            assert read_axes(ax)[1], f"nothing is drawn in {ax.get_ylabel()}"


def test_all_examples_are_checked():
    assert {_.stem for _ in (ROOT / "examples").glob("*.py")} == set(FIGURES)


@pytest.mark.parametrize(
    ("label", "value", "match"),
    [("Rate", 1, "Rate"), ("Counts", np.nan, "nothing is drawn in Counts")],
)
def test_other_and_empty_figures_are_found(label, value, match):
    _, ax = plt.subplots()
    ax.plot([0, 1], [value, value])
    ax.set_ylabel(label)
    with pytest.raises(AssertionError, match=match):
        check_figures([["Counts"]])
    plt.close("all")


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_examples_run_without_real_data(name, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("GAMMAPY_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.get_fignums()))
    path = ROOT / "examples" / f"{name}.py"
    exec(compile(path.read_text(), path, "exec"), {"__name__": "__main__"})
    assert shown == [plt.get_fignums()]
    check_figures(FIGURES[name])
    plt.close("all")


def test_examples_say_what_they_take():
    text = (ROOT / "examples/README.rst").read_text()
    assert set(re.findall(r"^(plot_\w+) +\d+$", text, re.M)) == set(FIGURES)
