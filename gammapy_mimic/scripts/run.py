"""``gammapy-mimic run``: the whole analysis from a configuration."""

import logging

import click
from gammapy.analysis.config import LogConfig

from ..analysis.config import MimicAnalysisConfig, start_logging
from ..analysis.config_text import prefix_errors
from ..analysis.core import MimicAnalysis
from ..analysis.pipeline import run_pipeline
from ..estimators.measurement import ALL
from .options import IntList
from .output import tell

__all__ = ["run", "run_analysis"]

COLUMNS = ["name", "mean", "mean_err", "expected_mean", "width", "width_err"]
"""Columns of the significance that are printed."""


@click.command()
@click.argument("config")
@click.option(
    "--force",
    metavar="STEP",
    multiple=True,
    help="Do a finished step again, 'all' for all. Repeatable.",
)
@click.option("--n-jobs", type=click.IntRange(min=1), help="Number of processes.")
@click.option(
    "--sets",
    type=IntList(),
    help="Make these mimic sets alone, such as 3,4, beside runs that make others. A "
    "run without this option goes on from them.",
)
def run(config, force, n_jobs, sets):
    """Run the analysis of the file CONFIG into its folder general.outdir.

    Makes the plan, the mimic sets and the datasets of targets and mimics. A second run
    skips the steps whose result is there, and would be the same.
    """
    settings = MimicAnalysisConfig.read(config)
    if n_jobs is not None:
        settings.general.n_jobs = n_jobs
    options, log = click.get_current_context().find_root().params, settings.general.log
    # what the command line says wins
    if log != LogConfig() and not (options["quiet"] or options["debug"]):
        with prefix_errors("general.log"):
            start_logging(log)
        logging.getLogger("gammapy_mimic").setLevel(logging.NOTSET)
    run_analysis(settings, force=force, sets=sets)


def run_analysis(config, **options):
    """Run an analysis, and print its steps and what it has found.

    Parameters
    ----------
    config : `~gammapy_mimic.analysis.MimicAnalysisConfig`
        Configuration.
    **options : dict
        Options of `~gammapy_mimic.analysis.pipeline.run_pipeline`.
    """
    analysis = MimicAnalysis(config)
    significance = run_pipeline(analysis, report=tell, **options)
    if analysis.plan:
        tell(f"Plan: {analysis.plan.make_summary()}")
    questionable = analysis.plan.questionable if analysis.plan else []
    for obs_id, reason in questionable:
        tell(f"Questionable: OBS_ID {obs_id}, {reason}")
    if significance is not None:
        table = significance[significance["band"] == ALL][COLUMNS]
        for name in COLUMNS[1:]:
            table[name].info.format = ".3f"
        tell("\n".join(table.pformat(max_width=-1)))
