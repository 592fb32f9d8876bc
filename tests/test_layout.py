"""The order of the packages: imports point downwards, never up."""

import ast
from pathlib import Path

import gammapy_mimic

ROOT = Path(gammapy_mimic.__file__).parent
ORDER = (
    "scripts",
    "analysis",
    "makers",
    "report",
    "estimators",
    "template",
    "scramble",
    "selection",
    "visualization",
    "simulate",
    "exclusion",
    "data",
    "utils",
)


def find_imports(path):
    """Modules of the package that a file imports, also inside of functions."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = package[: len(package) - node.level + 1]
            parts += node.module.split(".") if node.module else []
            names = [] if parts else [_.name for _ in node.names]
            yield from ([name] for name in names) if names else [parts]
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [getattr(node, "module", None), *(_.name for _ in node.names)]
            assert not any((_ or "").startswith("gammapy_mimic") for _ in names), path


def get_arrows():
    """Packages that import from each other, with a file that does."""
    for path in sorted(ROOT.rglob("*.py")):
        package, *rest = path.relative_to(ROOT).parts
        if rest:
            for parts in find_imports(path):
                if parts[0] not in (package, "version"):
                    yield path, package, parts[0]


def test_every_module_has_a_package():
    folders = {_.name for _ in ROOT.iterdir() if _.is_dir() and _.name != "__pycache__"}
    assert folders == set(ORDER)
    assert {_.name for _ in ROOT.glob("*.py")} == {"__init__.py", "version.py"}


def test_imports_point_downwards():
    arrows = list(get_arrows())
    assert len({arrow[1:] for arrow in arrows}) > 30
    assert [
        f"{path.relative_to(ROOT)} imports {other}"
        for path, package, other in arrows
        if ORDER.index(other) < ORDER.index(package)
    ] == []


def test_packages_give_what_they_list():
    for name in ORDER:
        module = __import__(f"gammapy_mimic.{name}", fromlist=["*"])
        listed = getattr(module, "__all__", [])
        assert [_ for _ in listed if not hasattr(module, _)] == []
