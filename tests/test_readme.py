"""What the README shows must run as printed."""

import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_python_snippets_run_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    snippets = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(snippets) == 3
    for snippet in snippets:
        exec(snippet, namespace)
    assert "width" in capsys.readouterr().out
    chain = namespace["chain"]
    assert chain.makers[1].tag == "MimicMaker"
    assert list(namespace["analysis"].mimic_datasets) == [1, 2]


def test_commands_are_those_of_the_package():
    assert "python -m pip install . && gammapy-mimic demo" in README
    assert 'python -m pip install ".[test]" && python -m pytest' in README
    for name in re.findall(r"\(((?:docs|examples)/[^)]+)\)", README):
        assert (ROOT / name).exists()


def test_import_without_optional_packages():
    code = "import sys; sys.modules['ray'] = None; import gammapy_mimic"
    subprocess.check_call([sys.executable, "-W", "error", "-c", code])


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=str)
def test_examples_run_without_real_data(path, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("GAMMAPY_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    exec(compile(path.read_text(), path, "exec"), {"__name__": "__main__"})
    assert plt.get_fignums()
    plt.close("all")
