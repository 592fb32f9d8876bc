"""What the commands that work on datastores share: a configuration of their options."""

import functools

import click

from ..analysis.config import MimicAnalysisConfig
from ..analysis.core import MimicAnalysis
from ..makers import KLBackgroundSelector
from ..selection.criteria import MatchCriteria
from ..selection.ranking import KL_MAX
from .options import IntList, KeyValue, RegionText, n_jobs_option

__all__ = ["config_options", "make_analysis"]


def config_options(function):
    """Add the options that select and compare observations, and pass a config on."""

    @click.option("--datastore", required=True, help="Folder of the DL3 datastore.")
    @click.option("--off-datastore", help="Folder of the OFF observations, if another.")
    @click.option("--target-obs", type=IntList(), help="Target observations.")
    @click.option("--target-query", help="Expression that selects the targets.")
    @click.option("--off-obs", type=IntList(), help="OFF observations.")
    @click.option("--off-query", help="Expression that selects the OFF observations.")
    @click.option("--strict", is_flag=True, help="Stop at a broken file.")
    @n_jobs_option
    @click.option(
        "--criterion",
        "-c",
        "criteria",
        type=KeyValue(),
        multiple=True,
        help="What OFF and target must share, e.g. azimuth='45 deg' or livetime=0.2.",
    )
    @click.option(
        "--exclude",
        type=RegionText(),
        multiple=True,
        help="Source to leave out, in deg; also of the targets. Repeatable.",
    )
    @click.option(
        "--distribution",
        type=click.Choice(KLBackgroundSelector.available_distributions),
        default="counts",
        help="Compare events, or background IRFs.",
    )
    @click.option(
        "--kl-max",
        type=click.FloatRange(min=0, min_open=True),
        default=KL_MAX,
        help="Largest KL_CORR of a good pair.",
    )
    @click.option("--index", help="File with the index of the OFF observations.")
    @functools.wraps(function)
    def command(
        datastore,
        off_datastore,
        target_obs,
        target_query,
        off_obs,
        off_query,
        strict,
        n_jobs,
        criteria,
        exclude,
        distribution,
        kl_max,
        index,
        **kwargs,
    ):
        _check_selection("target", target_obs, target_query)
        _check_selection("off", off_obs, off_query)
        MatchCriteria.create(dict(criteria))
        off = {"datastore": off_datastore, "query": off_query, "index": index}
        selection = {"distribution": distribution, "kl_max": kl_max}
        mimic = {
            "target_query": target_query,
            "strict": strict,
            "off": off | {"obs_ids": off_obs or []},
            "selection": selection | {"criteria": dict(criteria)},
            "exclusion": {"regions": list(exclude)},
        }
        config = MimicAnalysisConfig(
            general={"n_jobs": n_jobs},
            observations={
                "datastore": datastore,
                "obs_ids": target_obs or [],
                "required_irf": [],
            },
            mimic=mimic,
        )
        return function(config=config, **kwargs)

    return command


def make_analysis(config):
    """Make an analysis with its observations, without those that are broken.

    Parameters
    ----------
    config : `~gammapy_mimic.analysis.MimicAnalysisConfig`
        Configuration.

    Returns
    -------
    analysis : `~gammapy_mimic.analysis.MimicAnalysis`
        Analysis.
    """
    analysis = MimicAnalysis(config)
    analysis.get_observations()
    analysis.skip_broken()
    return analysis


def _check_selection(kind, obs_ids, query):
    if (obs_ids is None) == (query is None):
        raise click.UsageError(f"Give either --{kind}-obs or --{kind}-query.")
    if query is None and not obs_ids:
        raise click.UsageError(f"--{kind}-obs is empty.")
