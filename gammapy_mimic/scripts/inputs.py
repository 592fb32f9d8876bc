"""What the commands that work on datastores share: which observations, how compared."""

import functools
from typing import NamedTuple

import click
from astropy.table import Table
from gammapy.data import DataStore

from ..data.datastore import find_broken_files, open_datastore, select_datastore
from ..data.query import query_obs_table
from ..makers import KLBackgroundSelector
from ..selection.criteria import MatchCriteria
from ..selection.ranking import KL_MAX
from .options import IntList, KeyValue, Region, n_jobs_option

__all__ = ["Inputs", "input_options", "make_selector", "selector_options"]


class Inputs(NamedTuple):
    """Target and OFF observations."""

    target_store: DataStore
    """Target observations."""
    off_store: DataStore
    """OFF observations."""

    @property
    def observations(self):
        """Target observations (`~gammapy.data.Observations`)."""
        return self.target_store.get_observations(
            self.target_store.obs_table["OBS_ID"], required_irf="all-optional"
        )


def input_options(function):
    """Add the options that select observations, and pass `Inputs` on."""

    @click.option("--datastore", required=True, help="Folder of the DL3 datastore.")
    @click.option("--off-datastore", help="Folder of the OFF observations, if another.")
    @click.option("--target-obs", type=IntList(), help="Target observations.")
    @click.option("--target-query", help="Expression that selects the targets.")
    @click.option("--off-obs", type=IntList(), help="OFF observations.")
    @click.option("--off-query", help="Expression that selects the OFF observations.")
    @click.option("--strict", is_flag=True, help="Stop at a broken file.")
    @n_jobs_option
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
        **kwargs,
    ):
        def read():
            target_store = open_datastore(datastore)
            off_store = open_datastore(off_datastore) if off_datastore else target_store
            targets = _select(target_store, "target", target_obs, target_query)
            off = _select(off_store, "off", off_obs, off_query)
            return Inputs(
                _skip_broken(target_store, targets, n_jobs, strict),
                _skip_broken(off_store, off, n_jobs, strict),
            )

        return function(read_inputs=read, n_jobs=n_jobs, **kwargs)

    return command


def selector_options(function):
    """Add the options of the KL selection, and pass them on in one dict."""

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
        "exclusion_regions",
        type=Region(),
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
    def command(criteria, exclusion_regions, distribution, kl_max, index, **kwargs):
        options = {
            "criteria": MatchCriteria.create(dict(criteria)),
            "exclusion_regions": [_ for part in exclusion_regions for _ in part],
            "distribution": distribution,
            "kl_max": kl_max,
        }
        return function(selector_options=options, index_path=index, **kwargs)

    return command


def make_selector(off_store, selector_options, index_path=None, n_jobs=1, **kwargs):
    """Make a selector with its index, read from a file as far as that is valid.

    Parameters
    ----------
    off_store : `~gammapy.data.DataStore`
        OFF observations.
    selector_options : dict
        Options of `~gammapy_mimic.KLBackgroundSelector`.
    index_path : str, optional
        File of the index. It is brought up to date. Default is None.
    n_jobs : int, optional
        Number of processes. Default is 1.
    **kwargs : dict
        More options of the selector.

    Returns
    -------
    selector : `~gammapy_mimic.KLBackgroundSelector`
        Selector.
    """
    selector = KLBackgroundSelector(off_store, **selector_options, **kwargs)
    selector.make_index(index_path, n_jobs=n_jobs)
    return selector


def _select(store, kind, obs_ids, query):
    """Select rows of the observation table by OBS_ID or by an expression."""
    if (obs_ids is None) == (query is None):
        raise click.UsageError(f"Give either --{kind}-obs or --{kind}-query.")
    if query is not None:
        return query_obs_table(store.obs_table, query)
    if not obs_ids:
        raise click.UsageError(f"--{kind}-obs is empty.")
    unknown = sorted(set(obs_ids) - set(store.obs_table["OBS_ID"].tolist()))
    if unknown:
        raise click.UsageError(
            f"--{kind}-obs: OBS_ID {unknown} are not in {store.hdu_table.base_dir}."
        )
    return store.obs_table.select_obs_id(sorted(set(obs_ids)))


def _skip_broken(store, table: Table, n_jobs, strict):
    """Leave out the observations whose files cannot be read."""
    broken = find_broken_files(store, table["OBS_ID"], n_jobs=n_jobs)
    for obs_id, reason in broken.items():
        message = f"OBS_ID {obs_id} cannot be read: {reason}"
        if strict:
            raise OSError(message)
        click.echo(f"Skipped: {message}", err=True)
    obs_ids = [_ for _ in table["OBS_ID"] if _ not in broken]
    if not obs_ids:
        raise OSError(f"None of {len(table)} observations can be read.")
    return select_datastore(store, obs_ids)
