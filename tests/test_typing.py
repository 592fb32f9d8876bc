"""The types of what users call, which mypy checks in `.ci/run`."""

import inspect
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import get_type_hints

import pytest

from gammapy_mimic import KLBackgroundSelector, MimicMaker, ScrambleMaker
from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.estimators import MimicSystematics, MimicSystematicsEstimator
from gammapy_mimic.makers import ObservationMaker
from gammapy_mimic.selection import MimicPlan, OffIndex

ROOT = Path(__file__).parents[1]
TYPED = [
    KLBackgroundSelector,
    MimicAnalysis,
    MimicAnalysisConfig,
    MimicMaker,
    MimicPlan,
    MimicSystematics,
    MimicSystematicsEstimator,
    ObservationMaker,
    OffIndex,
    ScrambleMaker,
]


def is_own(value):
    return getattr(value, "__module__", "").startswith("gammapy_mimic")


def find_public_functions(cls):
    """Functions of a class, and of those of ours that it is derived from."""
    for base in filter(is_own, cls.__mro__):
        for name, value in vars(base).items():
            if name == "__init__" or not name.startswith("_"):
                value = getattr(value, "__func__", value)
                value = getattr(value, "fget", getattr(value, "func", value))
                if inspect.isfunction(value) and is_own(value):
                    yield f"{base.__name__}.{name}", value


@pytest.mark.parametrize("cls", TYPED)
def test_what_users_call_has_types(cls):
    functions = dict(find_public_functions(cls))
    assert functions
    for name, function in functions.items():
        # those that are written as text must be there, too
        hints = get_type_hints(function)
        missing = {*inspect.signature(function).parameters, "return"} - {*hints}
        assert missing <= {"self", "cls"}, f"{name} has no type of {sorted(missing)}"


def test_types_are_checked_and_shipped():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    sources = {
        Path(inspect.getsourcefile(base)).resolve().relative_to(ROOT).as_posix()
        for cls in TYPED
        for base in filter(is_own, cls.__mro__)
    }
    assert sources | {"gammapy_mimic/__init__.py"} == {*config["files"]}
    assert files("gammapy_mimic").joinpath("py.typed").is_file()
