"""What the commands that work on datastores share: a configuration of their options."""

import dataclasses
import functools
import inspect

import click
from gammapy.utils.scripts import make_path

from ..analysis.config import MimicAnalysisConfig
from ..makers import KLBackgroundSelector
from ..selection.criteria import MatchCriteria
from ..selection.ranking import KL_MAX
from .options import IntList, KeyValue, PositiveOrNone, RegionText, n_jobs_option

__all__ = ["config_options"]

CRITERIA = [field.name for field in dataclasses.fields(MatchCriteria)]
OPTIONS = (
    click.option("--datastore", required=True, help="Folder of the DL3 datastore."),
    click.option(
        "--off-datastore",
        help="Folder of the OFF observations, if another: all of it, or what --off-obs "
        "or --off-query selects.",
    ),
    click.option("--target-obs", type=IntList(), help="Target observations."),
    click.option("--target-query", help="Expression that selects the targets."),
    click.option("--off-obs", type=IntList(), help="OFF observations."),
    click.option("--off-query", help="Expression that selects the OFF observations."),
    click.option("--strict", is_flag=True, help="Stop at a broken file."),
    n_jobs_option,
    click.option(
        "--criterion",
        "-c",
        "criteria",
        type=KeyValue(),
        multiple=True,
        help="What OFF and target must share, e.g. azimuth='45 deg' or livetime=0.2; "
        f"null for no limit. NAME is one of {', '.join(CRITERIA)}. Repeatable.",
    ),
    click.option(
        "--exclude",
        type=RegionText(),
        multiple=True,
        help="Source that is left out where observations are compared, such as that "
        "of the targets; numbers in deg. Repeatable.",
    ),
    click.option(
        "--distribution",
        type=click.Choice(KLBackgroundSelector.available_distributions),
        default="counts",
        help="Compare events, or background IRFs.",
    ),
    click.option(
        "--kl-max",
        type=PositiveOrNone(),
        default=KL_MAX,
        help="Largest KL_CORR of a good pair; none: any, and no events are read.",
    ),
    click.option(
        "--ranking",
        type=click.Choice(KLBackgroundSelector.available_rankings),
        default="conditions",
        help="Order by the distance of conditions, or by the divergence of the events.",
    ),
    click.option("--index", help="File with the index of the OFF observations."),
)
"""What selects and compares observations."""


def config_options(function):
    """Add the options that select and compare observations, and pass a config on.

    With an option ``from_run``, no OFF observations are needed.
    """
    names = inspect.signature(_make_config).parameters

    @functools.wraps(function)
    def command(**values):
        _check_selections(**values)
        config = _make_config(**{name: values.pop(name) for name in names})
        return function(config=config, **values)

    for option in reversed(OPTIONS):
        command = option(command)
    return command


def _check_selections(
    target_obs, target_query, off_obs, off_query, off_datastore, from_run=None, **_
):
    """Raise an error if it is not said which observations are meant."""
    selections = {"target": (target_obs, target_query), "off": (off_obs, off_query)}
    has_off = (off_obs, off_query, off_datastore) != (None, None, None)
    if from_run is not None and has_off:
        raise click.UsageError("--from-run has no OFF observations: leave them out.")
    for kind, (obs_ids, query) in selections.items():
        is_all = kind == "off" and (off_datastore or from_run) is not None
        if (obs_ids is None) == (query is None) and not (obs_ids is None and is_all):
            others = ", or --off-datastore for all of it" * (kind == "off")
            raise click.UsageError(
                f"Give either --{kind}-obs or --{kind}-query{others}."
            )


def _make_config(
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
    ranking,
    index,
):
    MatchCriteria.create(dict(criteria))
    # the configuration that is written can be run from another folder
    datastore, off_datastore, index = (
        path and make_path(path).absolute()
        for path in (datastore, off_datastore, index)
    )
    off = {"datastore": off_datastore, "query": off_query, "index": index}
    selection = {"distribution": distribution, "kl_max": kl_max, "ranking": ranking}
    observations = {"datastore": datastore, "obs_ids": target_obs or []}
    mimic = {
        "target_query": target_query,
        "strict": strict,
        "off": off | {"obs_ids": off_obs or []},
        "selection": selection | {"criteria": dict(criteria)},
        "exclusion": {"regions": list(exclude)},
    }
    # an IRF that is missing shows where it is needed
    observations |= {"required_irf": []}
    sections = {"observations": observations, "mimic": mimic}
    return MimicAnalysisConfig.from_dict(
        sections | {"general": {"n_jobs": n_jobs}}, "options"
    )
