"""Run an analysis into a folder, step by step, so that a second run goes on.

Each step has a record in the folder ``.steps``: a hash of what its result depends on.
A step is skipped if the hash is the same and its result is there. The record is removed
before a step begins and written when its result is complete, so that a run can be
killed at any moment.
"""

import contextlib
import functools
import logging

import numpy as np
from gammapy import __version__ as gammapy_version
from gammapy.data import DataStore
from gammapy.utils.scripts import make_path

from ..data.meta_tables import warn_of_losses
from ..data.obs_ids import to_obs_ids
from ..estimators import MimicSystematics
from ..estimators.result_fits import RESULT_VERSION
from ..exclusion.sky_regions import regions_to_text
from ..makers.mimic_sets import write_mimic_sets
from ..report import make_report
from ..selection.plan import MimicPlan
from ..utils.files import make_checksum, replace_folder
from ..utils.records import StepRecords
from ..version import __version__
from .config_text import naming_key
from .datasets import read_datasets, write_datasets
from .factory import check_observations

__all__ = ["get_step_names", "read_results", "run_pipeline"]

log = logging.getLogger(__name__)

N_TEMPLATES = 3  # in the report


def run_pipeline(analysis, force=False, report=log.info):
    """Run all steps of an analysis, or those that are not done.

    The folder ``general.outdir`` gets

    - ``plan.ecsv``, ``questionable.ecsv`` (targets without a good partner), the ranking
      of each target in ``kl`` and ``exclusion.reg``
    - ``mimic_1``, ``mimic_2`` and so on: the datastores, each with ``config.yaml``
    - ``datasets`` and ``datasets_mimic_1`` and so on: the datasets of the targets and
      of the mimics
    - ``systematics.fits``, the result of
      `~gammapy_mimic.estimators.MimicSystematicsEstimator`, and ``report.html``

    An edited ``plan.ecsv`` is used as it is, as long as nothing changes that it was
    made from. Then it is kept under another name.

    Parameters
    ----------
    analysis : `~gammapy_mimic.analysis.MimicAnalysis`
        Analysis.
    force : bool, optional
        Whether to do finished steps again. Default is False.
    report : callable, optional
        Called with a text for each step. Default is to log it.

    Raises
    ------
    FileExistsError
        If the result of a step would replace something that no run has made.
    """
    pipeline = _Pipeline(analysis, force, report)
    if analysis.config.mimic is None:
        pipeline.check_steps(["datasets"])
        report("No section mimic: datasets of the target observations alone")
    else:
        pipeline.run_plan()
        pipeline.run_mimic_observations()
    pipeline.run_datasets()
    if analysis.config.mimic is not None:
        pipeline.run_systematics()


def get_step_names(mimic, sets):
    """Names of the steps of a run with mimics.

    Parameters
    ----------
    mimic : `~gammapy_mimic.analysis.config.MimicConfig`
        Section ``mimic`` of the configuration.
    sets : list of int
        Mimic sets.

    Returns
    -------
    names : list of str
        Names, as in `~gammapy_mimic.utils.records.StepRecords`.
    """
    names = ["plan", "datasets", *(f"datasets_mimic_{_}" for _ in sets)]
    if mimic.write_datastore:
        names += [f"mimic_{_}" for _ in sets]
    return names + ["systematics", "report"] * (len(sets) > 1)


def read_results(path, plan):
    """Read the datasets that a run has written.

    Parameters
    ----------
    path : `~pathlib.Path`
        Folder.
    plan : `~gammapy_mimic.selection.MimicPlan` or None
        Plan, None for a run without mimics.

    Returns
    -------
    datasets : `~gammapy.datasets.Datasets`
        Datasets of the targets.
    mimic_datasets : dict of `~gammapy.datasets.Datasets`
        Datasets by mimic set.
    """
    sets = plan.sets if plan else []
    mimic_datasets = {_: read_datasets(path / f"datasets_mimic_{_}") for _ in sets}
    return read_datasets(path / "datasets"), mimic_datasets


class _Pipeline:
    """Steps of one run."""

    def __init__(self, analysis, force, report):
        self.analysis = analysis
        self.config = analysis.config
        self.report = report
        self.path = make_path(self.config.general.outdir)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"general.outdir: {self.path} is not a folder.")
        self.records = StepRecords(self.path, force)
        analysis.check_makers()
        analysis.get_observations()
        check_observations(analysis.observations)

    def run_plan(self):
        """Make the plan, the rankings and the exclusion regions."""
        checksum = self._plan_checksum
        if self.records.is_done("plan", checksum):
            self.report("Plan: up to date")
        else:
            # all that is in the way shows before anything is written
            self._check_all_steps(range(1, self.config.mimic.n_sets + 1))
            kept = self.records.keep_edited("plan.ecsv")
            if kept is not None:
                self.report(f"Plan: made anew, your edited one is {kept.name}")
            outputs = ["plan.ecsv", "questionable.ecsv", "kl", "exclusion.reg"]
            with self.records.step("plan", checksum, outputs):
                self._write_plan()
        path = self.path / "plan.ecsv"
        with naming_key(path):
            self.analysis.plan = MimicPlan.read(path)
            self._check_plan()
        self._check_all_steps(self.analysis.plan.sets)

    def check_steps(self, names):
        """Raise an error if something is in the way, and tidy up after a killed run."""
        self.records.check(names)
        self.records.remove_leftovers(names)

    def _check_all_steps(self, sets):
        """Check the steps of these sets, and those of which results will be removed."""
        names = get_step_names(self.config.mimic, sets)
        self.check_steps({*names, *self.records.names})

    def _check_plan(self):
        """Raise an error for sets without mimics, of a plan that was edited."""
        plan, obs_ids = self.analysis.plan, self.analysis.observations.ids
        if not plan.sets:
            raise ValueError(
                "the plan has no rows. Add pairs, or remove the file to have it made "
                "anew."
            )
        if min(plan.sets) < 1:
            raise ValueError(f"mimic sets count from 1, got {min(plan.sets)}.")
        for mimic_set in plan.sets:
            if not {str(_) for _ in plan.partners(mimic_set)} & set(obs_ids):
                raise ValueError(
                    f"no target has a partner in mimic set {mimic_set}. Choose "
                    "partners, or remove the rows of the set."
                )

    def _write_plan(self):
        with replace_folder(self.path / "kl") as folder:
            self.analysis.get_plan(folder)
        plan, regions = self.analysis.plan, self.analysis.exclusion_regions
        regions.write(self.path / "exclusion.reg", overwrite=True)
        plan.write_questionable(self.path / "questionable.ecsv", overwrite=True)
        self.records.write_editable("plan.ecsv", plan.write)
        self.report(
            f"Plan: {len(plan.sets)} mimic sets, {len(regions)} exclusion regions"
        )

    def run_mimic_observations(self):
        """Write the mimic sets as datastores, and open them."""
        sets = self.analysis.plan.sets if self.config.mimic.write_datastore else []
        self._remove_others("mimic_", sets)
        checksums = self._mimic_checksums
        todo = [_ for _ in sets if not self.records.is_done(f"mimic_{_}", checksums[_])]
        with contextlib.ExitStack() as stack:
            for _ in todo:
                name = f"mimic_{_}"
                step = self.records.step(name, checksums[_], [name])
                stack.enter_context(step)
            if todo:
                self._write_mimic_sets(todo)
        for mimic_set in sets:
            state = "written" if mimic_set in todo else "up to date"
            self.report(f"Mimic set {mimic_set}: {state}")
            path = self.path / f"mimic_{mimic_set}"
            observations = DataStore.from_dir(path).get_observations(
                required_irf="all-optional"
            )
            self.analysis.mimic_observations[mimic_set] = observations

    def _write_mimic_sets(self, sets):
        factory = self.analysis.factory
        write_mimic_sets(
            self.analysis.observations,
            factory.off_datastore,
            self.analysis.plan,
            self.path,
            sets=sets,
            overwrite=True,
            n_jobs=self.config.general.n_jobs,
            finish=self._write_configs,
            **factory.maker_options,
        )

    def _write_configs(self, folders):
        for folder in folders:
            self.config.write(folder / "config.yaml")

    def run_datasets(self):
        """Reduce targets and mimics, and write their datasets."""
        made = {
            "target": self._run_datasets(
                "datasets", self._target_checksum, self._get_targets
            )
        }
        if self.config.mimic is None:
            return
        self._remove_others("datasets_mimic_", self.analysis.plan.sets)
        for mimic_set in self.analysis.plan.sets:
            made[f"mimic set {mimic_set}"] = self._run_datasets(
                f"datasets_mimic_{mimic_set}",
                self._mimic_checksums[mimic_set],
                functools.partial(self._get_mimics, mimic_set),
                mimic_set,
            )
        # of all sets at once, so that a cause is named once
        warn_of_losses(made)

    def _run_datasets(
        self, name, observations_checksum, get_observations, mimic_set=None
    ):
        """Reduce, and return the meta tables. None if the datasets are there."""
        checksum = self._get_datasets_checksum(observations_checksum)
        if self.records.is_done(name, checksum):
            self.report(f"{name}: up to date")
            return []
        with self.records.step(name, checksum, [name]):
            datasets = self.analysis.reduce(get_observations(), mimic_set)
            write_datasets(datasets, self.path / name)
        self.report(f"{name}: {len(datasets)} written")
        return [_.meta_table for _ in datasets]

    def run_systematics(self):
        """Estimate the systematic error of the background, and write the report."""
        sets = self.analysis.plan.sets
        if len(sets) < 2:
            for name in ("systematics", "report"):
                self.records.remove(name)
            self.report("systematics: not estimated, needs two mimic sets")
            return
        self._run_systematics(self._systematics_checksum)
        self._run_report(self._systematics_checksum)

    def _run_systematics(self, checksum):
        if self.records.is_done("systematics", checksum):
            self.report("systematics: up to date")
            return
        path = self.path / "systematics.fits"
        with self.records.step("systematics", checksum, [path.name]):
            results = read_results(self.path, self.analysis.plan)
            self.analysis.datasets, self.analysis.mimic_datasets = results
            self.analysis.get_systematics()
            self.analysis.systematics.write(path, overwrite=True)
        self.report("systematics: written")

    def _run_report(self, systematics_checksum):
        plan_text = (self.path / "plan.ecsv").read_text()
        checksum = make_checksum(systematics_checksum, plan_text)
        if self.records.is_done("report", checksum):
            self.report("report: up to date")
            return
        path = self.path / "report.html"
        table = self.analysis.datastore.obs_table
        with self.records.step("report", checksum, [path.name]):
            make_report(
                MimicSystematics.read(self.path / "systematics.fits"),
                path,
                plan=self.analysis.plan,
                config=self.config,
                obs_table=table[np.isin(table["OBS_ID"], self._obs_ids)],
                exclusion_regions=self.analysis.exclusion_regions,
                templates=self._get_templates(),
                overwrite=True,
            )
        self.report(f"report: open {path}")

    def _get_templates(self):
        """Get the templates of some mimics of the first set, for the report."""
        if self.config.mimic.background != "template":
            return None
        mimic_set = self.analysis.plan.sets[0]
        observations = self.analysis.mimic_observations.get(mimic_set)
        if observations is None:
            # not on disk, and made by none of the steps of this run
            factory, plan = self.analysis.factory, self.analysis.plan
            maker = factory.make_maker(plan, mimic_set)
            treated = [_ for _ in self.analysis.observations if maker.can_make(_)]
            observations = maker.make_observations(treated[:N_TEMPLATES])
        return {
            f"OBS_ID {_.obs_id}, mimic set {mimic_set}": _.bkg
            for _ in observations[:N_TEMPLATES]
        }

    def _get_datasets_checksum(self, observations_checksum):
        return make_checksum(
            observations_checksum,
            gammapy_version,
            self.config.datasets.model_dump_json(),
            _stamp(self.config.datasets.background.exclusion),
            self._background_regions,
        )

    @property
    def _background_regions(self):
        """Regions that the background maker leaves out, as text."""
        mimic = self.config.mimic
        if mimic is None or not mimic.exclusion.background:
            return None
        return regions_to_text(list(self.analysis.exclusion_regions))

    def _get_targets(self):
        if self.config.mimic is None:
            return self.analysis.observations
        return self.analysis.factory.make_target_observations()

    def _get_mimics(self, mimic_set):
        if mimic_set in self.analysis.mimic_observations:
            return self.analysis.mimic_observations[mimic_set]
        plan = self.analysis.plan
        return self.analysis.factory.make_mimic_observations(plan, mimic_set)

    def _remove_others(self, prefix, sets):
        """Remove the sets of an earlier run with another plan."""
        wanted = {f"{prefix}{_}" for _ in sets}
        for name in self.records.names:
            if name.startswith(prefix) and name not in wanted:
                self.records.remove(name)

    @property
    def _obs_ids(self):
        return [_.obs_id for _ in self.analysis.observations]

    @functools.cached_property
    def _observations_checksum(self):
        """Hash of the target observations as they are on disk."""
        return make_checksum(
            self._obs_ids,
            self.config.observations.obs_time.model_dump_json(),
            _stamp_datastore(self.analysis.datastore, self._obs_ids),
            __version__,
        )

    @functools.cached_property
    def _target_checksum(self):
        """Hash of the target observations, and of their templates."""
        template = None
        if self.config.mimic and self.config.mimic.background == "template":
            template = self._template_checksum
        return make_checksum(self._observations_checksum, template)

    @functools.cached_property
    def _off_checksum(self):
        """Hash of the OFF observations, and of how they are compared."""
        datastore = self.analysis.factory.off_datastore
        table = datastore.obs_table
        return make_checksum(
            self.config.mimic.selection.model_dump_json(exclude={"randomise"}),
            regions_to_text(list(self.analysis.exclusion_regions)),
            # the index of the store has the conditions that are matched
            [(name, table[name].tolist()) for name in table.colnames],
            _stamp_datastore(datastore, datastore.obs_ids),
        )

    @functools.cached_property
    def _template_checksum(self):
        config = self.config.mimic.template
        return make_checksum(self._off_checksum, config.model_dump_json())

    @functools.cached_property
    def _plan_checksum(self):
        config, regions = self.config.mimic, self.analysis.exclusion_regions
        return make_checksum(
            self._observations_checksum,
            self._off_checksum,
            regions.names,
            regions.origins,
            config.n_sets,
            config.random_state,
            config.selection.randomise,
        )

    @functools.cached_property
    def _mimic_checksums(self):
        """Hash of each mimic set. All steps need it, and it looks at all files."""
        return {_: self._get_mimic_checksum(_) for _ in self.analysis.plan.sets}

    def _get_mimic_checksum(self, mimic_set):
        """Hash of what the mimic observations of a set depend on."""
        config = self.config.mimic
        plan, datastore = self.analysis.plan, self.analysis.factory.off_datastore
        partners = plan.partners(mimic_set)
        scramble = config.scramble and (
            config.scramble.model_dump_json(),
            config.random_state,
            regions_to_text(list(self.analysis.exclusion_regions)),
        )
        return make_checksum(
            self._observations_checksum,
            partners,
            plan.seed,
            _stamp_datastore(datastore, list(partners.values())),
            config.alignment,
            config.time,
            config.background,
            self._template_checksum if config.background == "template" else None,
            scramble,
        )

    @functools.cached_property
    def _systematics_checksum(self):
        mimic_checksums = self._mimic_checksums.values()
        return make_checksum(
            self._get_datasets_checksum(self._target_checksum),
            [self._get_datasets_checksum(_) for _ in mimic_checksums],
            self.config.mimic.systematics.model_dump_json(),
            regions_to_text(list(self.analysis.exclusion_regions)),
            RESULT_VERSION,
        )


def _stamp(path):
    """Size and time of a file, None for none."""
    if path is None or not make_path(path).exists():
        return None
    stat = make_path(path).stat()
    return stat.st_size, stat.st_mtime_ns


def _stamp_datastore(datastore, obs_ids):
    """Files of observations, with their sizes and times."""
    table = datastore.hdu_table
    rows = np.nonzero(np.isin(to_obs_ids(table["OBS_ID"]), to_obs_ids(obs_ids)))[0]
    hdus = [(name, table[name][rows].tolist()) for name in table.colnames]
    paths = sorted({table.location_info(idx).path() for idx in rows})
    return hdus, [(str(_), _stamp(_)) for _ in paths]
