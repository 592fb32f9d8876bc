"""Steps for `gammapy.workflow` that make mimics.

They are there after a call of `register`:

>>> from gammapy.workflow import Workflow
>>> from gammapy_mimic import workflow
>>> from gammapy_mimic.analysis.config import MimicWorkflowConfig
>>> workflow.register()
>>> config = MimicWorkflowConfig.read("config.yaml")  # doctest: +SKIP
>>> steps = ["observations", "mimic-plan", "mimic-observations", "datasets"]
>>> steps += ["mimic-datasets", "mimic-systematics"]
>>> Workflow(config).run(steps)  # doctest: +SKIP
"""

import copy

from astropy.table import Table
from gammapy.workflow import WORKFLOW_STEP_REGISTRY
from gammapy.workflow.steps import DatasetsWorkflowStep, WorkflowStepBase

from ..data.obs_ids import get_obs_id
from .datasets import add_partners, select_trusted
from .factory import MakerFactory

__all__ = [
    "MimicDatasetsWorkflowStep",
    "MimicObservationsWorkflowStep",
    "MimicPlanWorkflowStep",
    "MimicSystematicsWorkflowStep",
    "register",
]


class _MimicWorkflowStep(WorkflowStepBase):
    """Step whose result becomes an attribute of the workflow."""

    def run(self, inputs, **kwargs):
        """Run the step, see `~gammapy.workflow.steps.WorkflowStepBase.run`."""
        outputs = super().run(inputs, **kwargs)
        for name in self.outputs_names:
            setattr(self.inputs, name, self.outputs[name].data)
        return outputs

    @property
    def factory(self):
        """Makers for the observations of the workflow (`MakerFactory`)."""
        if self.config.mimic is not None and self.config.mimic.target_query is not None:
            raise ValueError(
                "mimic.target_query: the observations of a workflow are selected by "
                "its own step. Use observations.obs_ids, or MimicAnalysis."
            )
        factory = getattr(self.inputs, "mimic_factory", None)
        if factory is None or factory.observations is not self.inputs.observations:
            factory = MakerFactory(self.config, self.inputs.observations)
            self.inputs.mimic_factory = factory
        return factory

    def _require(self, name, step):
        value = getattr(self.inputs, name, None)
        if value is None:
            raise RuntimeError(f"The step {self.tag!r} needs the step {step!r} first.")
        return value


class MimicPlanWorkflowStep(_MimicWorkflowStep):
    """Pair the observations of the workflow with OFF observations.

    Sets ``workflow.plan``.
    """

    tag = "mimic-plan"
    outputs_names = ("plan",)

    def _run(self):
        self.outputs["plan"].data = self.factory.make_plan()


class MimicObservationsWorkflowStep(_MimicWorkflowStep):
    """Make the mimic observations.

    Sets ``workflow.mimic_observations``, a dict of `~gammapy.data.Observations` by
    mimic set. With ``background: template`` the step "datasets" has to come after it,
    as ``workflow.observations`` get templates, too.
    """

    tag = "mimic-observations"
    outputs_names = ("mimic_observations",)

    def _run(self):
        plan = self._require("plan", "mimic-plan")
        factory = self.factory
        self.outputs["mimic_observations"].data = {
            mimic_set: factory.make_mimic_observations(plan, mimic_set)
            for mimic_set in plan.sets
        }
        targets = factory.make_target_observations(plan)
        if targets is not factory.observations:
            self.inputs.observations = targets


class MimicDatasetsWorkflowStep(_MimicWorkflowStep):
    """Reduce the mimic observations by Gammapy's step "datasets".

    Sets ``workflow.mimic_datasets``, a dict of `~gammapy.datasets.Datasets` by mimic
    set. Datasets that are masked completely are named, with a warning.
    """

    tag = "mimic-datasets"
    outputs_names = ("mimic_datasets",)

    def _run(self):
        config = self.config.datasets
        if config.background.method == "ring" and config.stack:
            raise ValueError(
                "datasets.stack: Gammapy stacks datasets with OFF counts to one "
                "without, which forgets their noise. Set it to false for a ring "
                "background, or use MimicAnalysis."
            )
        mimic_observations = self._require("mimic_observations", "mimic-observations")
        self.outputs["mimic_datasets"].data = {
            mimic_set: self._reduce(observations, mimic_set)
            for mimic_set, observations in mimic_observations.items()
        }

    def _reduce(self, observations, mimic_set):
        observations = select_trusted(observations, self.inputs.plan, mimic_set)
        workflow = copy.copy(self.inputs)
        workflow.observations = observations
        DatasetsWorkflowStep(self.config, log=self.log).run(workflow)
        for dataset in workflow.datasets:
            if dataset.meta_table is None:
                # later versions of Gammapy stack no row of what is masked completely
                obs_ids = [get_obs_id(_) for _ in observations]
                dataset.meta_table = Table({"OBS_ID": [obs_ids]})
        add_partners(workflow.datasets, self.inputs.plan, mimic_set, observations)
        for dataset in workflow.datasets:
            if not dataset.mask_safe.data.any():
                self.log.warning(
                    f"The dataset {dataset.name} of mimic set {mimic_set} is masked "
                    "completely. MimicAnalysis tells by what."
                )
        return workflow.datasets


class MimicSystematicsWorkflowStep(_MimicWorkflowStep):
    """Estimate the systematic error of the background.

    Sets ``workflow.systematics``, a `~gammapy_mimic.estimators.MimicSystematics`.
    """

    tag = "mimic-systematics"
    outputs_names = ("systematics",)

    def _run(self):
        mimic_datasets = self._require("mimic_datasets", "mimic-datasets")
        datasets = self._require("datasets", "datasets")
        plan = self._require("plan", "mimic-plan")
        estimator = self.factory.make_systematics_estimator()
        self.outputs["systematics"].data = estimator.run(
            mimic_datasets, datasets, plan=plan
        )


STEPS = (
    MimicPlanWorkflowStep,
    MimicObservationsWorkflowStep,
    MimicDatasetsWorkflowStep,
    MimicSystematicsWorkflowStep,
)


def register():
    """Make the steps known to `gammapy.workflow`. A second call changes nothing."""
    for step in STEPS:
        if step not in WORKFLOW_STEP_REGISTRY:
            WORKFLOW_STEP_REGISTRY.append(step)
