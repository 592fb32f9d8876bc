"""Run an analysis into a folder, step by step, so that a second run goes on.

Each step has a record in the folder ``.steps``: a hash of what its result depends on
(`gammapy_mimic.analysis.checksums`). A step is skipped if the hash is the same and its
result is there. The record is removed before a step begins and written when its result
is complete, so that a run can be killed at any moment.
"""

import contextlib
import functools
import logging

import numpy as np
from astropy.table import Table
from gammapy.utils.scripts import make_path

from ..data.datastore import find_broken_files, open_datastore, select_datastore
from ..data.meta_tables import warn_of_losses
from ..data.obs_ids import shorten, to_obs_ids
from ..data.template_irfs import get_template
from ..makers.mimic_sets import write_mimic_sets
from ..selection.plan import MimicPlan
from ..template.fair import explain_missing
from ..utils.files import check_folder, make_checksum, replace_file, replace_folder
from ..utils.records import StepRecords
from .checksums import StepChecksums
from .config_text import prefix_errors
from .datasets import open_datasets, read_datasets, write_datasets
from .factory import check_observations, get_links
from .irf_checks import check_irfs

__all__ = ["get_step_names", "run_pipeline"]

log = logging.getLogger(__name__)

N_TEMPLATES = 3  # in the report


def run_pipeline(
    analysis,
    force=(),
    reduce=True,
    write_config=False,
    read=False,
    sets=None,
    report=log.info,
):
    """Run all steps of an analysis, or those that are not done.

    The folder ``general.outdir`` gets

    - ``plan.ecsv``, ``questionable.ecsv`` (targets without a good partner), the ranking
      of each target in ``kl`` (none if no events are read), ``exclusion.reg``
    - with templates as background, ``templates.ecsv``: the OFF observations of those of
      the targets and of all mimics
    - ``mimic_1``, ``mimic_2`` and so on: the datastores, each with ``config.yaml``
    - ``datasets`` and ``datasets_mimic_1`` and so on: the datasets of the targets and
      of the mimics
    - ``systematics.fits``, the result of
      `~gammapy_mimic.estimators.MimicSystematicsEstimator`, and ``report.html``

    An edited ``plan.ecsv`` is used as it is, as long as nothing changes that it was
    made from. Then it is kept under another name. Files of results that are missing or
    have another size or time are made again. No other run can use the folder meanwhile.

    Parameters
    ----------
    analysis : `~gammapy_mimic.analysis.MimicAnalysis`
        Analysis. Gets the plan, and the systematic error if its report is written.
    force : list of str, optional
        Names of finished steps to do again, "all" for all. Default is none.
    reduce : bool, optional
        Whether datasets, systematics and report follow the mimic sets. Default is True.
    write_config : bool, optional
        Whether ``config.yaml`` is written, too, to be edited and run again. Default is
        False.
    read : bool, optional
        Whether the analysis gets the systematic error in any case, and the datasets if
        they are kept. Default is False.
    sets : list of int, optional
        Mimic sets: their stores and datasets are made and nothing that follows, nor
        are those of others touched. Runs of different sets can use the folder at the
        same time, and one without this option goes on from what they have made.
        Default are all.
    report : callable, optional
        Called with a text for each step. Default is to log it.

    Returns
    -------
    significance : `~astropy.table.Table` or None
        Table "significance" of `~gammapy_mimic.estimators.MimicSystematics`, None if
        nothing is estimated.

    Raises
    ------
    FileExistsError
        If the result of a step would replace something that no run has made.
    BlockingIOError
        If another run uses the folder.
    OSError
        If something else changes a result before it is read by the next step.
    ValueError
        If there is no step of a name in ``force``, or no such mimic set.
    """
    path = make_path(analysis.config.general.outdir)
    with prefix_errors("general.outdir"):
        check_folder(path)
    records = StepRecords(path, force)
    if sets is not None:
        _run_sets(analysis, records, sets, report)
        return None
    significance = None
    with records.lock():
        records.check_parts()
        pipeline = _Pipeline(analysis, records, report)
        if analysis.config.mimic is None:
            records.check(["datasets"])
            report("No section mimic: datasets of the target observations alone")
            pipeline.run_datasets()
        else:
            plan = pipeline.run_plan(reduce, write_config)
            plan = analysis.plan = pipeline.run_templates(plan)
            observations = pipeline.run_mimic_observations(plan)
            if reduce:
                significance = pipeline.run_results(plan, observations, read)
            else:
                pipeline.remove_stale(plan)
        if read and pipeline.kept != "none":
            with pipeline.open_datasets(read_datasets) as results:
                analysis.datasets, analysis.mimic_datasets = results
    return significance


def _run_sets(analysis, records, sets, report):
    """Make some of the mimic sets, beside runs that make others."""
    if analysis.config.mimic is None:
        raise ValueError("there are no mimic sets without a section mimic.")
    with contextlib.ExitStack() as stack:
        # one run makes the plan, and others wait for it
        with records.lock(waits=True):
            pipeline = _Pipeline(analysis, records, report, sets)
            plan = pipeline.run_plan(reduce=True, write_config=False)
            plan = analysis.plan = pipeline.run_templates(plan)
            missing = sorted({*sets} - {*plan.sets})
            if missing:
                raise ValueError(
                    f"there are no mimic sets {missing}. Choose from {plan.sets}."
                )
            stack.enter_context(records.lock_parts(sets))
        observations = pipeline.run_mimic_observations(plan)
        pipeline.run_datasets(plan, observations)


def get_step_names(mimic, sets, reduce=True, write_config=False):
    """Names of the steps of a run with mimics.

    Parameters
    ----------
    mimic : `~gammapy_mimic.analysis.config.MimicConfig`
        Section ``mimic`` of the configuration.
    sets : list of int
        Mimic sets.
    reduce, write_config : bool, optional
        As for `run_pipeline`.

    Returns
    -------
    names : list of str
        Names, as in `~gammapy_mimic.utils.records.StepRecords`.
    """
    names = ["plan"] + ["config"] * write_config
    names += ["templates"] * mimic.selects_templates
    if mimic.write_datastore:
        names += [f"mimic_{mimic_set}" for mimic_set in sets]
    if reduce:
        names += ["datasets", *(f"datasets_mimic_{mimic_set}" for mimic_set in sets)]
        names += ["systematics", "report"] * (len(sets) > 1)
    return names


class _Pipeline:
    """Steps of one run, of all mimic sets or of some."""

    def __init__(self, analysis, records, report, sets=None):
        self.analysis, self.sets = analysis, sets
        self.config = analysis.config
        self.report = report
        self.records, self.path = records, records.path
        names = {"datasets"}
        if self.config.mimic is not None:
            sets = range(1, self.config.mimic.n_sets + 1)
            # also sets of a plan that was edited
            names |= {*get_step_names(self.config.mimic, sets), *records.names}
        unknown = sorted(records.force - names - {"all"})
        if unknown:
            raise ValueError(
                f"there is no step {unknown[0]!r} to do again. Choose from "
                f"{', '.join(['all', *sorted(names)])}."
            )
        analysis.check_makers()
        analysis.whole_files = records.read("plan").get("whole_files", [])
        analysis.get_observations()
        check_observations(analysis.observations)
        self.checksums = StepChecksums(analysis)

    @property
    def kept(self):
        """Which datasets are kept: "all", "stacked" or "none" (str)."""
        config = self.config
        kept = "all" if config.mimic is None else config.mimic.write_datasets
        # there are no others
        return "all" if kept == "stacked" and config.datasets.stack else kept

    def _get_sets(self, plan):
        """Mimic sets of this run."""
        return plan.sets if self.sets is None else [*self.sets]

    def run_plan(self, reduce, write_config):
        """Make the plan, the rankings and the exclusion regions, and read the plan."""
        if reduce:
            # hours before they are reduced
            self._check_irfs()
            if self.config.mimic.n_sets == 1:
                self.report(
                    "mimic.n_sets is 1: there will be no systematics and no report, "
                    "which need two sets or more"
                )
            else:
                self.analysis.check_systematics()
        options = {"reduce": reduce, "write_config": write_config}
        left_out = self.records.read("plan").get("left_out", [])
        checksum = self._get_plan_checksum(left_out)
        is_done = self.records.is_done("plan", checksum)
        if not is_done:
            # runs that make other sets have begun with the plan that is there
            self.records.check_parts()
            # all that is in the way shows before anything is written
            self._check_steps(range(1, self.config.mimic.n_sets + 1), **options)
            self._write_plan(keeps_edited=self.records.is_same("plan", checksum))
        else:
            self.report("Plan: up to date")
        path = self.path / "plan.ecsv"
        with prefix_errors(path):
            plan = self._read_plan(path)
        if is_done:
            # as when it was made; it may have been edited since
            plan.warn_of_sharing()
        if self.sets is None:
            self._check_steps(plan.sets, **options)
        if write_config:
            with self.records.step("config"):
                self._write_editable("config", "config.yaml", self.config.write)
        return plan

    def _check_irfs(self):
        analysis = self.analysis
        obs_ids = to_obs_ids([_.obs_id for _ in analysis.observations])
        targets = select_datastore(analysis.datastore, obs_ids)
        check_irfs(self.config, targets, analysis.factory.off_datastore)

    def _check_steps(self, sets, **options):
        """Check the steps of these sets, and those of which results will be removed."""
        names = get_step_names(self.config.mimic, sets, **options)
        self.records.check({*names, *self.records.names})

    def _get_plan_checksum(self, left_out):
        """Hash of what the plan depends on, also that some files are broken."""
        broken = []
        if left_out:
            off = self.analysis.factory.off_datastore
            n_jobs = self.config.general.n_jobs
            broken = sorted(find_broken_files(off, left_out, n_jobs))
        return make_checksum(self.checksums.plan, broken)

    def _read_plan(self, path):
        """Read the plan, which may have been edited."""
        obs_ids = to_obs_ids([_.obs_id for _ in self.analysis.observations])
        off_obs_ids = to_obs_ids(self.analysis.factory.off_datastore.obs_ids)
        plan = MimicPlan.read(path, obs_ids, off_obs_ids)
        if self.records.is_edited("plan", "plan.ecsv"):
            # partners that were chosen by hand
            broken = self.analysis.factory.check_partners({*plan.reuse})
            if broken:
                raise ValueError(
                    f"OFF_OBS_ID {sorted(broken)} cannot be read. Choose other "
                    "partners, or remove the rows."
                )
        if not plan.sets:
            raise ValueError(
                "the plan has no rows. Add pairs, or remove the file to have it made "
                "anew."
            )
        for mimic_set in plan.sets:
            if not plan.partners(mimic_set):
                raise ValueError(
                    f"no target has a partner in mimic set {mimic_set}. Choose "
                    "partners, or remove the rows of the set."
                )
            rows = plan.table[plan.table["MIMIC_SET"] == mimic_set]
            missing = sorted({*obs_ids.tolist()} - {*rows["OBS_ID"].tolist()})
            if missing:
                self.report(
                    f"Mimic set {mimic_set}: no row in the plan for OBS_ID "
                    f"{shorten(missing)}"
                )
        return plan

    def _write_plan(self, keeps_edited):
        outputs = ["plan.ecsv", "questionable.ecsv", "exclusion.reg"]
        ranks = self.config.mimic.selection.reads_events
        factory = self.analysis.factory
        keeps_edited = keeps_edited and self.records.is_edited("plan", "plan.ecsv")
        with self.records.step("plan", outputs=outputs + ["kl"] * ranks) as record:
            with contextlib.ExitStack() as stack:
                folder = self.path / "kl"
                kl_path = stack.enter_context(replace_folder(folder)) if ranks else None
                plan = factory.make_plan(kl_path)
            regions = factory.exclusion_regions
            regions.write(self.path / "exclusion.reg", overwrite=True)
            plan.write_questionable(self.path / "questionable.ecsv", overwrite=True)
            if not keeps_edited:
                self._write_editable("plan", "plan.ecsv", plan.write)
            record["left_out"] = factory.left_out
            record["whole_files"] = self.analysis.whole_files
            record["checksum"] = self._get_plan_checksum(factory.left_out)
        self.report(
            f"Plan: {len(plan.sets)} mimic sets, {len(regions)} exclusion regions"
        )

    def _write_editable(self, step, name, write):
        kept = self.records.write_editable(step, name, write)
        if kept is not None:
            self.report(f"{name}: made anew, your edited one is {kept.name}")

    def run_templates(self, plan):
        """Find what templates are made of, hours before they are.

        Returns
        -------
        plan : `~gammapy_mimic.selection.MimicPlan`
            Plan without the sets in which no mimic can have a template.
        """
        if not self.config.mimic.selects_templates:
            self.records.remove("templates")
            return plan
        checksum = self.checksums.get_templates(plan)
        if self.records.is_done("templates", checksum):
            self.report("templates: up to date")
        else:
            self.records.check_parts()
            with self.records.step("templates", checksum):
                table = self.analysis.factory.make_template_table(plan)
                path = self.path / "templates.ecsv"
                with replace_file(path, overwrite=True) as temporary:
                    table.write(temporary)
            n_templates = np.count_nonzero(table["N_OBS"])
            self.report(f"templates: {n_templates} of {len(table)} planned")
        table = self._read_templates()
        missing = explain_missing(table)
        if missing:
            log.warning(missing)
        made = np.unique(table["MIMIC_SET"][table["N_OBS"] > 0])
        refused = np.setdiff1d(plan.sets, made)
        if len(refused) == 0:
            return plan
        if len(refused) == len(plan.sets):
            raise ValueError(f"mimic.background: no mimic has a template. {missing}")
        log.error(f"Left out: mimic sets {refused.tolist()}, without any template.")
        return MimicPlan(plan.table[~np.isin(plan.table["MIMIC_SET"], refused)])

    def _read_templates(self):
        """Read what templates are made of, None if nothing is selected for them."""
        if not self.config.mimic.selects_templates:
            return None
        with self.records.reading(["templates"]):
            return Table.read(self.path / "templates.ecsv")

    def run_mimic_observations(self, plan):
        """Write the mimic sets as datastores.

        Returns
        -------
        observations : dict of callable
            Gives the `~gammapy.data.Observations` that are on disk, by mimic set.
        """
        sets = self._get_sets(plan) if self.config.mimic.write_datastore else []
        self._remove_others("mimic_", sets)
        checksums = {_: self.checksums.get_mimic(plan, _) for _ in sets}
        todo = [_ for _ in sets if not self.records.is_done(f"mimic_{_}", checksums[_])]
        with contextlib.ExitStack() as stack:
            for mimic_set in todo:
                name = f"mimic_{mimic_set}"
                step = self.records.step(name, checksums[mimic_set], [name])
                stack.enter_context(step)
            if todo:
                self._write_mimic_sets(plan, todo)
        for mimic_set in sets:
            state = "written" if mimic_set in todo else "up to date"
            self.report(f"Mimic set {mimic_set}: {state}")
        return {_: functools.partial(self._open_mimics, _) for _ in sets}

    def _open_mimics(self, mimic_set):
        path = self.path / f"mimic_{mimic_set}"
        store = open_datastore(path, get_links(self.config))
        return store.get_observations(required_irf="all-optional")

    def _write_mimic_sets(self, plan, sets):
        def add_configs(folders):
            for folder in folders:
                self.config.write(folder / "config.yaml")

        factory = self.analysis.factory
        write_mimic_sets(
            self.analysis.observations,
            factory.off_datastore,
            plan,
            self.path,
            sets=sets,
            irfs=self.config.mimic.irfs,
            overwrite=True,
            n_jobs=self.config.general.n_jobs,
            finish=add_configs,
            **factory.maker_options,
        )

    def run_results(self, plan, observations, read):
        """Make datasets, and what follows from them, and leave those that are kept.

        Returns
        -------
        significance : `~astropy.table.Table` or None
            See `run_systematics`.
        """
        checksums = self._get_dataset_checksums(plan)
        if not self._is_condensed(plan, checksums):
            self.run_datasets(plan, observations)
        significance = self.run_systematics(plan, observations, read)
        if self.kept != "all":
            self._condense_datasets(checksums)
        return significance

    def _get_dataset_checksums(self, plan):
        """Hashes of the datasets by step."""
        sets = {f"datasets_mimic_{_}": _ for _ in plan.sets}
        return {
            name: self.checksums.get_datasets(plan, mimic_set)
            for name, mimic_set in ({"datasets": None} | sets).items()
        }

    def _is_condensed(self, plan, checksums):
        """Whether all that datasets are made for is there."""
        if self.kept == "all" or any(
            {_, "all"} & self.records.force for _ in checksums
        ):
            return False
        if len(plan.sets) > 1:
            checksum = self.checksums.get_systematics(plan)
            if not self.records.is_done("systematics", checksum):
                return False
        return self.kept == "none" or all(
            self.records.is_done(name, make_checksum(checksum, "stacked"))
            for name, checksum in checksums.items()
        )

    def _condense_datasets(self, checksums):
        """Stack or remove datasets, when nothing needs them any more."""
        from ..estimators.stacking import stack_datasets

        for name, checksum in checksums.items():
            stacked_checksum, state = make_checksum(checksum, "stacked"), "not kept"
            if self.kept == "none":
                self.records.remove(name)
            elif self.records.is_same(name, stacked_checksum):
                state = "up to date"
            else:
                state = "stacked"
                with self.records.reading([name]):
                    stacked = stack_datasets(open_datasets(self.path / name))
                with self.records.step(name, stacked_checksum, [name]):
                    write_datasets([stacked], self.path / name)
            self.report(f"{name}: {state}")

    def run_datasets(self, plan=None, observations=None):
        """Reduce targets and mimics, and write their datasets."""
        made = {}
        if self.sets is None:
            made["target"] = self._run_datasets("datasets", plan)
        if plan is not None:
            self._remove_others("datasets_mimic_", plan.sets)
        for mimic_set in self._get_sets(plan) if plan else []:
            made[f"mimic set {mimic_set}"] = self._run_datasets(
                f"datasets_mimic_{mimic_set}", plan, mimic_set, observations
            )
        # of all sets at once, so that a cause is named once
        warn_of_losses(made)

    def _run_datasets(self, name, plan, mimic_set=None, mimics=None):
        """Reduce, and return the meta tables. Empty if the datasets are there."""
        checksum = self.checksums.get_datasets(plan, mimic_set)
        if self.records.is_done(name, checksum):
            self.report(f"{name}: up to date")
            return []
        is_on_disk = mimic_set is not None and mimic_set in mimics
        with (
            self.records.step(name, checksum, [name]),
            self.records.reading([f"mimic_{mimic_set}"] * is_on_disk),
        ):
            if self.config.mimic is None:
                observations = self.analysis.observations
            elif mimic_set is None:
                observations = self.analysis.factory.make_target_observations(plan)
            elif is_on_disk:
                observations = mimics[mimic_set]()
            else:
                factory = self.analysis.factory
                observations = factory.make_mimic_observations(plan, mimic_set)
            entries = self.analysis.reduce(
                observations, plan, mimic_set, self.path / name
            )
        self.report(f"{name}: {len(entries)} written")
        return [_.meta_table for _ in entries]

    @contextlib.contextmanager
    def open_datasets(self, open_=open_datasets):
        """Open the datasets of the targets, and those of mimics by mimic set.

        Nothing else may change them in the block.
        """
        plan = self.analysis.plan
        names = {_: f"datasets_mimic_{_}" for _ in plan.sets} if plan else {}
        with self.records.reading(["datasets", *names.values()]):
            yield (
                open_(self.path / "datasets"),
                {key: open_(self.path / name) for key, name in names.items()},
            )

    def remove_stale(self, plan):
        """Remove datasets and what follows from them if they are of other settings."""
        checksums = self._get_dataset_checksums(plan)
        if self.kept == "stacked":
            checksums = {
                key: make_checksum(_, "stacked") for key, _ in checksums.items()
            }
        if len(plan.sets) > 1:
            checksums["systematics"] = self.checksums.get_systematics(plan)
        done = {_ for _ in checksums if self.records.is_done(_, checksums[_])}
        if "systematics" in done:
            done.add("report")
        for name in set(self.records.names) - done:
            if name.startswith(("datasets", "systematics", "report")):
                self.records.remove(name)

    def run_systematics(self, plan, observations, read):
        """Estimate the systematic error of the background, and write the report.

        Returns
        -------
        significance : `~astropy.table.Table` or None
            Table of the significance. None if there are less than two sets.
        """
        self.analysis.systematics = None
        if len(plan.sets) < 2:
            for name in ("systematics", "report"):
                self.records.remove(name)
            self.report("systematics: not estimated, needs two mimic sets")
            return None
        checksum = self.checksums.get_systematics(plan)
        path = self.path / "systematics.fits"
        if self.records.is_done("systematics", checksum):
            self.report("systematics: up to date")
        else:
            with (
                self.records.step("systematics", checksum, [path.name]),
                self.open_datasets() as (datasets, mimic_datasets),
            ):
                estimator = self.analysis.factory.make_systematics_estimator()
                result = estimator.run(mimic_datasets, datasets, plan=plan)
                result.write(path, overwrite=True)
            self.report("systematics: written")
        # the plan that was read, as the file may be edited meanwhile
        rows = plan.table.as_array().tolist()
        options = rows, plan.seed, self.config.mimic.pictures
        report_checksum = make_checksum(checksum, *options)
        has_report = self.records.is_done("report", report_checksum)
        from ..estimators.result_fits import read_result_table

        # as a run from start to end has it, to the bit
        with self.records.reading(["systematics"]):
            significance = read_result_table(path, "significance")
            if read or not has_report:
                from ..estimators import MimicSystematics

                self.analysis.systematics = MimicSystematics.read(path)
        if has_report:
            self.report("report: up to date")
        else:
            self._write_report(plan, observations, report_checksum)
        return significance

    def _write_report(self, plan, observations, checksum):
        from ..report import make_report

        path, pictures = self.path / "report.html", self.config.mimic.pictures
        table = self.analysis.datastore.obs_table
        is_target = np.isin(table["OBS_ID"], self.analysis.observations.ids)
        outputs = [path.name, "report_files"] if pictures else [path.name]
        with self.records.step("report", checksum, outputs):
            make_report(
                self.analysis.systematics,
                path,
                plan=plan,
                config=self.config,
                obs_table=table[is_target],
                exclusion_regions=self.analysis.exclusion_regions,
                templates=self._get_templates(plan, observations),
                template_table=self._read_templates(),
                pictures=pictures,
                overwrite=True,
            )
        self.report(f"report: open {path}")

    def _get_templates(self, plan, observations):
        """Get the templates of some mimics of the first set, for the report."""
        if self.config.mimic.background != "template":
            return None
        mimic_set = plan.sets[0]
        if mimic_set in observations:
            mimics = observations[mimic_set]()
        else:
            # not on disk
            maker = self.analysis.factory.make_maker(plan, mimic_set)
            treated = [_ for _ in self.analysis.observations if maker.can_make(_)]
            mimics = maker.make_observations(treated[:N_TEMPLATES])
        with self.records.reading([f"mimic_{mimic_set}"] * (mimic_set in observations)):
            return {
                f"OBS_ID {_.obs_id}, mimic set {mimic_set}": get_template(_)
                for _ in mimics[:N_TEMPLATES]
            }

    def _remove_others(self, prefix, sets):
        """Remove the sets of an earlier run with another plan, or without stores."""
        if self.sets is not None:
            return
        wanted = {f"{prefix}{mimic_set}" for mimic_set in sets}
        for name in self.records.names:
            if name.startswith(prefix) and name not in wanted:
                self.records.remove(name)
