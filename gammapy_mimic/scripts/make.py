"""``gammapy-mimic make``: from a DL3 datastore to mimic datastores."""

import contextlib
import logging
from pathlib import Path

import click
import matplotlib.pyplot as plt
from astropy.table import Table
from gammapy.data import DataStore

from ..analysis import reduce_fov_background
from ..criteria import MatchCriteria
from ..estimators import (
    make_significance_table,
    measure_significance,
    stack_significance,
)
from ..io import find_broken_files, open_datastore, remove_datastore, write_datastore
from ..makers import MimicMaker
from ..plan import MimicPlan
from ..query import query_obs_table
from ..visualization import plot_significance, plot_significance_distributions
from .options import (
    IntList,
    KeyValue,
    alignment_option,
    background_option,
    n_jobs_option,
    n_sets_option,
    random_state_option,
    time_option,
)

__all__ = ["make", "make_mimic_sets", "reduce_mimic_sets"]

log = logging.getLogger(__name__)


@click.command()
@click.option(
    "--datastore", required=True, help="Folder of the DL3 datastore with the targets."
)
@click.option("--off-datastore", help="Folder with the OFF observations, if another.")
@click.option("--target-obs", type=IntList(), help="Target observations.")
@click.option("--target-query", help="Expression that selects the targets.")
@click.option("--off-obs", type=IntList(), help="OFF observations.")
@click.option("--off-query", help="Expression that selects the OFF observations.")
@click.option(
    "--criterion",
    "-c",
    "criteria",
    type=KeyValue(),
    multiple=True,
    help="What OFF and target must share, such as azimuth='45 deg' or livetime=0.2.",
)
@n_sets_option
@click.option(
    "--randomise/--best-first",
    default=True,
    show_default=True,
    help="Draw among the ten best partners, or take the best.",
)
@random_state_option
@alignment_option
@time_option
@background_option
@click.option(
    "--irfs",
    type=click.Choice(["link", "copy"]),
    default="link",
    show_default=True,
    help="Link the IRFs of the OFF observations, or copy them.",
)
@click.option("--outdir", required=True, help="Folder for the result.")
@click.option("--overwrite", is_flag=True, help="Replace results of an earlier run.")
@click.option("--strict", is_flag=True, help="Stop at a broken file, do not skip it.")
@n_jobs_option
@click.option("--reduce", is_flag=True, help="Draw significance maps of the sets.")
@click.option(
    "--energy-range",
    nargs=2,
    default=("0.5 TeV", "20 TeV"),
    show_default=True,
    help="Energy range of the maps.",
)
@click.option(
    "--correlation-radius",
    default="0.1 deg",
    show_default=True,
    help="Correlation radius of the maps.",
)
@click.option(
    "--offset-max", default="2 deg", show_default=True, help="Largest offset used."
)
def make(
    datastore,
    off_datastore,
    target_obs,
    target_query,
    off_obs,
    off_query,
    criteria,
    n_sets,
    randomise,
    random_state,
    alignment,
    time,
    background,
    irfs,
    outdir,
    overwrite,
    strict,
    n_jobs,
    reduce,
    **reduce_options,
):
    """Make mimic sets of target observations from OFF observations.

    Queries are expressions in the columns of the observation index, for instance
    "TARGET_NAME == 'Off data'".
    """
    criteria = MatchCriteria.create(dict(criteria))
    outdir = _check_outdir(outdir, overwrite)
    target_store = open_datastore(datastore)
    off_store = open_datastore(off_datastore) if off_datastore else target_store
    targets = _select(target_store, "target", target_obs, target_query)
    off = _select(off_store, "off", off_obs, off_query)
    targets = _skip_broken(target_store, targets, n_jobs, strict)
    off = _skip_broken(off_store, off, n_jobs, strict)
    plan = MimicPlan.from_obs_tables(
        targets, off, criteria, n_sets, randomise, random_state=random_state
    )
    observations = target_store.get_observations(
        targets["OBS_ID"], required_irf="all-optional"
    )
    maker_options = {"alignment": alignment, "time": time, "background": background}
    make_mimic_sets(
        observations,
        off_store,
        plan,
        outdir,
        irfs=irfs,
        overwrite=overwrite,
        n_jobs=n_jobs,
        **maker_options,
    )
    if reduce:
        reduce_mimic_sets(plan, outdir, n_jobs=n_jobs, **reduce_options)


def make_mimic_sets(
    observations, off_store, plan, outdir, irfs="link", overwrite=False, n_jobs=1, **kw
):
    """Write the plan and one datastore for each of its sets.

    Parameters
    ----------
    observations : `~gammapy.data.Observations`
        Target observations.
    off_store : `~gammapy.data.DataStore`
        OFF observations.
    plan : `~gammapy_mimic.plan.MimicPlan`
        Plan.
    outdir : `~pathlib.Path`
        Folder for ``plan.ecsv``, ``questionable.ecsv`` and ``mimic_1``, ``mimic_2``...
    irfs : {"link", "copy"}, optional
        Whether to link or to copy the IRFs. Default is "link".
    overwrite : bool, optional
        Whether to replace earlier results. Default is False.
    n_jobs : int, optional
        Number of processes. Default is 1.
    **kw : dict
        Options of `~gammapy_mimic.MimicMaker`.
    """
    with _remove_on_error(outdir) as written:
        for mimic_set in plan.sets:
            maker = MimicMaker(off_store, plan, mimic_set=mimic_set, **kw)
            treated = [_ for _ in observations if maker.can_make(_)]
            mimics = maker.make_observations(treated, n_jobs=n_jobs)
            path = outdir / f"mimic_{mimic_set}"
            is_new = not path.exists()
            write_datastore(mimics, path, irfs=irfs, overwrite=overwrite)
            click.echo(f"Wrote {path}: {len(mimics)} observations")
            if is_new:
                written.append(path)
    for path in _get_other_sets(outdir, plan.sets):
        remove_datastore(path)

    plan.write(outdir / "plan.ecsv", overwrite=overwrite)
    questionable = Table(
        rows=plan.questionable or None, names=["OBS_ID", "REASON"], dtype=[int, "U10"]
    )
    questionable.write(outdir / "questionable.ecsv", overwrite=overwrite)
    for obs_id, reason in plan.questionable:
        click.echo(f"Questionable: OBS_ID {obs_id}, {reason}")


@contextlib.contextmanager
def _remove_on_error(outdir):
    """Take the stores back that were written before something went wrong."""
    is_new = not outdir.exists()
    outdir.mkdir(parents=True, exist_ok=True)
    written = []
    try:
        yield written
    except BaseException:
        for path in written:
            remove_datastore(path)
        if is_new:
            outdir.rmdir()
        raise


def reduce_mimic_sets(
    plan,
    outdir,
    energy_range=("0.5 TeV", "20 TeV"),
    correlation_radius="0.1 deg",
    offset_max="2 deg",
    n_jobs=1,
):
    """Draw the significance maps of mimic sets and their distributions.

    Parameters
    ----------
    plan : `~gammapy_mimic.plan.MimicPlan`
        Plan.
    outdir : `~pathlib.Path`
        Folder with the sets. Gets ``significance_1.png``..., ``significance.png`` and
        ``significance.ecsv``.
    energy_range : tuple of str, optional
        Energy range. Default is 0.5 to 20 TeV.
    correlation_radius, offset_max : str, optional
        Correlation radius, and largest offset of events. Default is 0.1 and 2 deg.
    n_jobs : int, optional
        Number of processes. Default is 1.

    Returns
    -------
    table : `~astropy.table.Table`
        Mean and width of every set and of all.
    """
    distributions = []
    for mimic_set in plan.sets:
        name = f"mimic_{mimic_set}"
        observations = DataStore.from_dir(outdir / name).get_observations(
            required_irf="all-optional"
        )
        dataset = reduce_fov_background(
            observations,
            energy_range=energy_range,
            offset_max=offset_max,
            n_jobs=n_jobs,
        )
        significance, distribution = measure_significance(
            dataset, correlation_radius, name=name
        )
        distributions.append(distribution)
        figure = plot_significance(significance, distribution, title=name)
        _save(figure, outdir / f"significance_{mimic_set}.png")

    total = stack_significance(distributions)
    figure, ax = plt.subplots(figsize=(7, 5), layout="constrained")
    plot_significance_distributions(distributions, total, ax=ax)
    ax.set_title(f"{len(distributions)} mimic sets")
    _save(figure, outdir / "significance.png")

    table = make_significance_table([*distributions, total])
    table.write(outdir / "significance.ecsv", overwrite=True)
    click.echo("\n".join(table.pformat()))
    return table


def _save(figure, path):
    figure.savefig(path, dpi=120)
    plt.close(figure)
    click.echo(f"Wrote {path}")


def _check_outdir(outdir, overwrite):
    outdir = Path(outdir)
    if outdir.exists() and not outdir.is_dir():
        raise FileExistsError(f"{outdir} is a file. Choose another --outdir.")
    if outdir.exists() and any(outdir.iterdir()) and not overwrite:
        raise FileExistsError(
            f"{outdir} is not empty. Choose another --outdir, or use --overwrite."
        )
    return outdir


def _get_other_sets(outdir, sets):
    names = {f"mimic_{_}" for _ in sets}
    return [_ for _ in outdir.glob("mimic_*") if _.is_dir() and _.name not in names]


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


def _skip_broken(store, table, n_jobs, strict):
    """Leave out the observations whose files cannot be read."""
    broken = find_broken_files(store, table["OBS_ID"], n_jobs=n_jobs)
    for obs_id, reason in broken.items():
        message = f"OBS_ID {obs_id} cannot be read: {reason}"
        if strict:
            raise OSError(message)
        click.echo(f"Skipped: {message}", err=True)
    keep = [obs_id not in broken for obs_id in table["OBS_ID"]]
    if not any(keep):
        raise OSError(f"None of {len(table)} observations can be read.")
    return table[keep]
