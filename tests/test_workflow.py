import subprocess
import sys

import numpy as np
import pytest
from gammapy.datasets import MapDataset
from gammapy.workflow import WORKFLOW_STEP_REGISTRY, Workflow
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig, workflow
from gammapy_mimic.analysis.config import MimicWorkflowConfig

from .test_pipeline import make_config

TAGS = ["mimic-plan", "mimic-observations", "mimic-datasets", "mimic-systematics"]
STEPS = ["observations", "mimic-plan", "mimic-observations", "datasets"]
STEPS += ["mimic-datasets"]


@pytest.fixture(autouse=True)
def registry():
    """The registry of Gammapy, put back as it was."""
    before = list(WORKFLOW_STEP_REGISTRY)
    workflow.register()
    yield
    WORKFLOW_STEP_REGISTRY[:] = before


@pytest.fixture
def analysis_config(tmp_path, stores):
    return make_config(tmp_path, stores)


@pytest.fixture
def config(analysis_config):
    return MimicWorkflowConfig(**analysis_config.model_dump())


@pytest.mark.slow
def test_not_registered_at_import():
    code = (
        "from gammapy.workflow import WORKFLOW_STEP_REGISTRY as registry\n"
        "import gammapy_mimic.analysis.workflow as workflow\n"
        "import gammapy_mimic.analysis.core\n"
        "assert not [_ for _ in registry if 'mimic' in _.tag]\n"
        "workflow.register()\n"
        "workflow.register()\n"
        f"assert [_.tag for _ in registry if 'mimic' in _.tag] == {TAGS}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("background", ["off", "template"])
def test_steps(config, background):
    """Steps one by one, and what an analysis of the same configuration makes."""
    config.mimic.background = background
    analysis = MimicAnalysis(MimicAnalysisConfig(**_without_steps(config)))
    analysis.get_datasets()
    analysis.get_mimic_datasets()

    steps = Workflow(config)
    steps.run(STEPS)

    assert str(steps.plan.table) == str(analysis.plan.table)
    assert list(steps.mimic_observations) == [1, 2]
    pairs = [(steps.datasets, analysis.datasets)]
    pairs += [(steps.mimic_datasets[_], analysis.mimic_datasets[_]) for _ in (1, 2)]
    for datasets, expected in pairs:
        assert len(datasets) == len(expected) == 1
        for name in ("counts", "background"):
            maps = [getattr(_[0], name).data for _ in (datasets, expected)]
            assert_array_equal(*maps)


@pytest.mark.slow
@pytest.mark.parametrize("stack", [False, True])
def test_systematics_know_the_plan(config, stack):
    """The table of distances, or why it is not there, as that of an analysis."""
    config.datasets.stack = stack
    config.mimic.systematics.correlation_radius = "0.2 deg"
    config.mimic.systematics.min_background = 1
    steps = Workflow(config)
    steps.run([*STEPS, "mimic-systematics"])
    if stack:
        assert "of 2 pairs, whose distances" in steps.systematics.missing["distance"]
        return
    table = steps.systematics.select("distance")
    assert table["n_pairs"].sum() == len(steps.plan.table) == 4
    expected = np.mean(steps.plan.table["DISTANCE"])
    assert_allclose(np.average(table["distance"], weights=table["n_pairs"]), expected)


@pytest.mark.slow
def test_ring_that_gammapy_would_stack(config):
    config.datasets.background.method = "ring"
    config.datasets.background.parameters = {"r_in": "0.5 deg", "width": "0.4 deg"}
    config.datasets.geom.axes.energy.nbins = 1
    config.datasets.stack = True
    with pytest.raises(ValueError, match="datasets.stack: Gammapy stacks datasets"):
        Workflow(config).run(STEPS)
    config.datasets.stack = False
    steps = Workflow(config)
    steps.run(STEPS)
    assert {_.stat_type for _ in steps.mimic_datasets[1]} == {"wstat"}


def skip_masked(stack):
    """Stack as the version after Gammapy 2.1, which skips what is masked completely."""

    def skip_or_stack(stacked, other, **kwargs):
        if other.mask_safe.data.any():
            stack(stacked, other, **kwargs)

    return skip_or_stack


@pytest.mark.slow
@pytest.mark.parametrize("skips", [False, True])
def test_masked_completely(config, caplog, monkeypatch, skips):
    if skips:
        monkeypatch.setattr(MapDataset, "stack", skip_masked(MapDataset.stack))
    config.datasets.background = {"method": None}
    config.datasets.safe_mask.methods = ["offset-max"]
    config.datasets.safe_mask.parameters = {"offset_max": "0.01 deg"}
    steps = Workflow(config)
    steps.run(STEPS)
    assert "of mimic set 2 is masked completely" in caplog.text
    for mimic_set, datasets in steps.mimic_datasets.items():
        table, partners = datasets[0].meta_table, steps.plan.partners(mimic_set)
        assert np.ravel(table["OBS_ID"]).tolist() == [1, 2]
        assert np.ravel(table["OFF_OBS_ID"]).tolist() == [partners[1], partners[2]]


def _without_steps(config):
    data = config.model_dump()
    for name in ("steps", "overwrite"):
        del data["general"][name]
    return data


def test_steps_of_the_configuration(config, tmp_path):
    config.general.steps = STEPS[:2]
    config.general.overwrite = [True, True]
    config.write(tmp_path / "config.yaml")
    steps = Workflow(MimicWorkflowConfig.read(tmp_path / "config.yaml"))
    steps.run()
    assert steps.plan.sets == [1, 2]
    assert [_.tag for _ in steps.steps] == STEPS[:2]


def test_other_observations_are_used(config):
    steps = Workflow(config)
    steps.run(STEPS[:2])
    steps.observations = steps.observations[:1]
    steps.run(["mimic-plan", "mimic-observations"])
    assert set(steps.plan.table["OBS_ID"]) == {1}
    assert steps.mimic_observations[1].ids == ["1"]


@pytest.mark.parametrize(
    ("tags", "match"),
    [
        (["mimic-observations"], "'mimic-observations' needs the step 'mimic-plan'"),
        (["mimic-datasets"], "'mimic-datasets' needs the step 'mimic-observations'"),
    ],
)
def test_steps_in_wrong_order(config, tags, match):
    steps = Workflow(config)
    steps.run(["observations"])
    with pytest.raises(RuntimeError, match=match):
        steps.run(tags)


def test_without_observations(config):
    with pytest.raises(ValueError, match="no observation is selected"):
        Workflow(config).run(["mimic-plan"])


def test_without_the_section(config):
    config.mimic = None
    with pytest.raises(ValueError, match="no section 'mimic'"):
        Workflow(config).run(STEPS[:2])
