"""``gammapy-mimic run``: the whole analysis from a configuration."""

import logging

import click
from gammapy.analysis.config import LogConfig

from ..analysis.config import MimicAnalysisConfig, start_logging
from ..analysis.config_text import naming_key
from ..analysis.core import MimicAnalysis
from ..analysis.pipeline import run_pipeline

__all__ = ["run"]


@click.command()
@click.argument("config")
@click.option("--force", is_flag=True, help="Do finished steps again.")
@click.option("--n-jobs", type=click.IntRange(min=1), help="Number of processes.")
def run(config, force, n_jobs):
    """Run the analysis of the file CONFIG into its folder general.outdir.

    Makes the plan, the mimic sets and the datasets of targets and mimics. A second run
    skips the steps whose result would be the same.
    """
    settings = MimicAnalysisConfig.read(config)
    if n_jobs is not None:
        settings.general.n_jobs = n_jobs
    _set_logging(settings.general.log)
    analysis = MimicAnalysis(settings)
    run_pipeline(analysis, force=force, report=click.echo)
    questionable = analysis.plan.questionable if analysis.plan else []
    if questionable:
        click.echo("Questionable observations:")
    for obs_id, reason in questionable:
        click.echo(f"  OBS_ID {obs_id}: {reason}")


def _set_logging(config):
    """Log as the configuration says, if it does. ``--quiet`` and ``--debug`` win."""
    options = click.get_current_context().find_root().params
    if config == LogConfig() or options["quiet"] or options["debug"]:
        return
    with naming_key("general.log"):
        start_logging(config)
    logging.getLogger("gammapy_mimic").setLevel(logging.NOTSET)
