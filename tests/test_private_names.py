"""Tests reach objects of Gammapy by public names, see `helpers.replace`."""

import ast
from pathlib import Path

import pytest


def find_targets(tree):
    """Find what is assigned to, deleted, or changed by ``setattr`` and ``update``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Subscript):
            if not isinstance(node.ctx, ast.Load):
                yield node
        elif isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            if function.endswith("__dict__.update"):
                yield node.func
            elif function == "setattr" and isinstance(node.args[1], ast.Constant):
                yield ast.Attribute(node.args[0], node.args[1].value)


def find_private_assignments(text):
    """Lines that set a private attribute of an object that is not their own."""
    return [
        ast.unparse(target)
        for target in find_targets(ast.parse(text))
        for part in ast.walk(target)
        if isinstance(part, ast.Attribute)
        if part.attr.startswith("_") and ast.unparse(part.value) not in ("self", "cls")
    ]


@pytest.mark.parametrize(
    "line",
    [
        "observation._events = None",
        "a = observation._gti = None",
        "observation.x, observation._meta = 1, 2",
        "del observation._bkg",
        "del observation.__dict__['aeff']",
        "observation.__dict__['_gti'] = None",
        "observation.__dict__.update({'_gti': None})",
        "observations[0]._meta.location = None",
        "setattr(observation, '_gti', None)",
    ],
)
def test_what_is_found(line):
    assert len(find_private_assignments(line)) == 1


def test_what_is_left_alone():
    text = """
self._events = events
observation.events = observation._events
observation = replace(observation, events=None)
setattr(observation, "aeff", None)
before = dict(observation.__dict__)
"""
    assert find_private_assignments(text) == []


def test_no_test_sets_a_private_attribute():
    paths = sorted(Path(__file__).parent.glob("*.py"))
    assert Path(__file__) in paths
    found = {_.name: find_private_assignments(_.read_text()) for _ in paths}
    assert {name: lines for name, lines in found.items() if lines} == {}
