"""What is loaded by the package and by its commands."""

import subprocess
import sys

import pytest

import gammapy_mimic

CODE = """
import sys
from gammapy_mimic.scripts.main import main
try:
    main({args})
except SystemExit as error:
    assert not error.code
print(sorted(sys.modules))
"""
HEAVY = ("estimators", "report", "simulate")


def get_modules(code):
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return set(eval(output.splitlines()[-1]))


def test_import_loads_no_gammapy():
    modules = get_modules("import sys, gammapy_mimic; print(sorted(sys.modules))")
    assert "gammapy_mimic" in modules
    assert not {"astropy", "gammapy", "matplotlib", "numpy"} & modules


def test_help_loads_no_gammapy():
    modules = get_modules(CODE.format(args=["--help"]))
    assert not {"astropy", "gammapy", "matplotlib", "numpy"} & modules


@pytest.mark.parametrize(
    "command",
    [
        "rank",
        pytest.param("convert", marks=pytest.mark.slow),
        pytest.param("exclusions", marks=pytest.mark.slow),
        pytest.param("init", marks=pytest.mark.slow),
    ],
)
def test_commands_load_what_they_need(command):
    modules = get_modules(CODE.format(args=[command, "--help"]))
    assert f"gammapy_mimic.scripts.{command}" in modules
    assert [_ for _ in HEAVY if f"gammapy_mimic.{_}" in modules] == []


@pytest.mark.parametrize("command", ["convert", "init"])
@pytest.mark.slow
def test_plots_are_for_commands_that_plot(command):
    modules = get_modules(CODE.format(args=[command, "--help"]))
    assert "gammapy_mimic.visualization" not in modules


def test_unknown_name():
    name = "MimicMakr"
    with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
        getattr(gammapy_mimic, name)
