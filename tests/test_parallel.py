"""Processes of this machine and of ray: one result, and errors that name the cause."""

import subprocess
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

import pytest
from gammapy.utils import parallel
from numpy.testing import assert_array_equal

from gammapy_mimic.scripts.main import main
from gammapy_mimic.template import make_template_counts
from gammapy_mimic.utils.parallel import run_parallel


class Source(NamedTuple):
    obs_id: int


def fail(source, text):
    raise ValueError(text)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
class TestErrors:
    """Nobody knew which of thousands of observations an error was of."""

    def test_observation_is_named(self, n_jobs):
        inputs = [(Source(_), "no good") for _ in (4711, 4712)]
        with pytest.raises(ValueError, match="no good") as caught:
            run_parallel(fail, inputs, n_jobs)
        text = "".join(traceback.format_exception(caught.value))
        assert "OBS_ID 4711" in text
        # where it was raised, though in another process
        assert "in fail" in text

    def test_observation_is_named_once(self, n_jobs):
        inputs = [(Source(_), f"OBS_ID {_} is no good") for _ in (4711, 4712)]
        with pytest.raises(ValueError, match="no good") as caught:
            run_parallel(fail, inputs, n_jobs)
        assert not hasattr(caught.value, "__notes__")


def test_command_names_the_observation(monkeypatch, capsys):
    from gammapy_mimic.scripts import main as module

    def work(**kwargs):
        run_parallel(fail, [(Source(4711), "no good")], n_jobs=1)

    monkeypatch.setattr(module.cli, "main", work)
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().err == "Error: no good; OBS_ID 4711\n"


@pytest.mark.parametrize("n_inputs", [0, 1, 63, 64, 65, 200])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_results_are_in_order(n_inputs):
    inputs = [(_, 2) for _ in range(n_inputs)]
    assert run_parallel(pow, inputs, n_jobs=2) == [_**2 for _ in range(n_inputs)]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_templates_are_the_same(stores):
    observations = stores["off"].get_observations([101, 102, 103])
    one, two = (make_template_counts(observations, n_jobs=_) for _ in (1, 2))
    for name in ("counts", "spectra", "livetimes", "areas", "moments"):
        assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.meta == two.meta


BACKENDS = """
import sys, traceback
from pathlib import Path
import numpy as np
from gammapy.data import DataStore
from gammapy_mimic import KLBackgroundSelector, MimicMaker
from gammapy_mimic.makers import write_mimic_sets
from gammapy_mimic.selection import OffIndex
from gammapy_mimic.template import make_template_counts
from gammapy_mimic.utils.parallel import run_parallel
from tests.test_parallel import Source, fail

targets, off = (DataStore.from_dir(_) for _ in sys.argv[1:3])
observations, results = targets.get_observations(), []
for backend in ("multiprocessing", "ray"):
    options = {"n_jobs": 2, "parallel_backend": backend}
    index = OffIndex.create(off, **options)
    plan = KLBackgroundSelector(off, index=index).make_plan(observations, n_sets=2)
    out = Path(sys.argv[3]) / backend
    paths = write_mimic_sets(observations, off, plan, out, **options)
    made = MimicMaker(off, plan).make_observations(observations, **options)
    stores = [DataStore.from_dir(_) for _ in paths.values()]
    files = {
        (number, obs_id): store.obs(obs_id).events.table["RA"]
        for number, store in enumerate(stores) for obs_id in store.obs_ids
    }
    template = make_template_counts(off.get_observations()[:3], **options)
    try:
        run_parallel(fail, [(Source(4711), "no good")] * 2, **options)
    except ValueError as error:
        text = "".join(traceback.format_exception(error))
    assert "OBS_ID 4711" in text, text
    results.append([
        index.checksum,
        {key: np.asarray(_).tobytes() for key, _ in files.items()},
        [np.asarray(_.events.table["RA"]).tobytes() for _ in made],
        [getattr(template, _).tobytes() for _ in ("counts", "areas", "moments")],
    ])
assert results[0] == results[1]
print("equal")
"""


@pytest.mark.slow
def test_ray_gives_the_same(stores, tmp_path):
    """In a process of its own, as ray leaves threads and files open."""
    pytest.importorskip("ray")
    paths = [str(stores[_].hdu_table.base_dir) for _ in ("targets", "off")]
    process = subprocess.run(
        [sys.executable, "-c", BACKENDS, *paths, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout.splitlines()[-1:] == ["equal"], process.stderr


def test_command_takes_the_backend(stores, tmp_path, monkeypatch, capsys):
    """What is not there is not replaced by something else."""
    monkeypatch.setattr(parallel, "BACKEND_DEFAULT", parallel.BACKEND_DEFAULT)
    monkeypatch.setitem(sys.modules, "ray", None)
    store = str(stores["off"].hdu_table.base_dir)
    args = ["--parallel-backend", "ray", "index", store]
    with pytest.raises(SystemExit):
        main([*args, "--out", str(tmp_path / "off.idx"), "--n-jobs", "2"])
    assert "gammapy-mimic[ray]" in capsys.readouterr().err
