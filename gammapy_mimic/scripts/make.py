"""``gammapy-mimic make``: from a DL3 datastore to mimic datastores."""

import contextlib
from pathlib import Path

import click
import matplotlib.pyplot as plt
from gammapy.data import DataStore, Observations

from ..estimators import MimicSystematicsEstimator
from ..makers.mimic_sets import write_mimic_sets
from ..makers.reduction import reduce_fov_background
from ..selection.plan import MimicPlan
from ..utils.files import replace_file
from ..utils.records import StepRecords
from ..visualization import plot_significance, plot_significance_distribution
from .figures import save_figure
from .inputs import input_options, make_selector, selector_options
from .options import (
    alignment_option,
    background_option,
    n_sets_option,
    random_state_option,
    time_option,
)

__all__ = ["make", "make_mimic_sets", "reduce_mimic_sets"]

COLUMNS = ["name", "mean", "mean_err", "expected_mean", "width", "width_err"]
COLUMNS += ["n_independent"]  # of significance.ecsv


@click.command()
@input_options
@selector_options
@click.option(
    "--ranking",
    type=click.Choice(["kl", "airmass"]),
    default="kl",
    help="Rank by the divergence of the events, or read none and rank by airmass.",
)
@n_sets_option
@click.option(
    "--randomise/--best-first",
    default=True,
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
    help="Link the IRFs of the OFF observations, or copy them.",
)
@click.option("--outdir", required=True, help="Folder for the result.")
@click.option("--overwrite", is_flag=True, help="Replace results of an earlier run.")
@click.option("--reduce", is_flag=True, help="Draw significance maps of the sets.")
@click.option(
    "--energy-range",
    nargs=2,
    default=("0.5 TeV", "20 TeV"),
    help="Energy range of the maps.",
)
@click.option(
    "--correlation-radius",
    default="0.1 deg",
    help="Correlation radius of the maps.",
)
@click.option("--offset-max", default="2 deg", help="Largest offset used.")
def make(
    read_inputs,
    selector_options,
    index_path,
    ranking,
    n_sets,
    randomise,
    random_state,
    alignment,
    time,
    background,
    irfs,
    outdir,
    overwrite,
    n_jobs,
    reduce,
    **reduce_options,
):
    """Make mimic sets of target observations from OFF observations.

    Queries are expressions in the columns of the observation index, for instance
    "TARGET_NAME == 'Off data'". Exclude the sources of the targets, too: their events
    would make all OFF observations look different.
    """
    outdir = _check_outdir(outdir, overwrite)
    _check_results(outdir, range(1, n_sets + 1), reduce)
    inputs = read_inputs()
    observations = inputs.observations
    options = {
        "n_sets": n_sets,
        "randomise": randomise,
        "random_state": random_state,
    }
    if ranking == "kl":
        selector = make_selector(inputs.off_store, selector_options, index_path, n_jobs)
        plan = selector.make_plan(observations, n_jobs=n_jobs, **options)
    else:
        tables = inputs.target_store.obs_table, inputs.off_store.obs_table
        plan = MimicPlan.from_obs_tables(
            *tables, selector_options["criteria"], **options
        )
    make_mimic_sets(
        observations,
        inputs.off_store,
        plan,
        outdir,
        irfs=irfs,
        overwrite=overwrite,
        n_jobs=n_jobs,
        alignment=alignment,
        time=time,
        background=background,
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
    plan : `~gammapy_mimic.selection.MimicPlan`
        Plan.
    outdir : `~pathlib.Path`
        Folder for ``plan.ecsv``, ``questionable.ecsv`` and ``mimic_1``, ``mimic_2``...
        They are put in place when all are complete. Then those of an earlier call go
        that are not made again.
    irfs : {"link", "copy"}, optional
        Whether to link or to copy the IRFs. Default is "link".
    overwrite : bool, optional
        Whether to replace earlier results. Default is False.
    n_jobs : int, optional
        Number of processes. Default is 1.
    **kw : dict
        Options of `~gammapy_mimic.MimicMaker`.

    Raises
    ------
    FileExistsError
        If something is in the way that no earlier call has made.
    ValueError
        If the plan has no sets.
    """
    if not plan.sets:
        raise ValueError("The plan has no mimic sets.")
    records = _check_results(outdir, plan.sets)
    names = ["make", *(f"mimic_{_}" for _ in plan.sets)]
    records.remove_leftovers(names)

    def claim(folders):
        for name in names:
            records.claim(name)

    is_new = not outdir.exists()
    outdir.mkdir(parents=True, exist_ok=True)
    if overwrite:
        kept = records.keep_edited("plan.ecsv")
        if kept is not None:
            click.echo(f"Your edited plan is {kept.name}")
    try:
        with contextlib.ExitStack() as stack:
            for name, write in {
                "plan.ecsv": plan.write,
                "questionable.ecsv": plan.write_questionable,
            }.items():
                write(stack.enter_context(replace_file(outdir / name, overwrite)))
            paths = write_mimic_sets(
                observations,
                off_store,
                plan,
                outdir,
                irfs=irfs,
                overwrite=overwrite,
                n_jobs=n_jobs,
                finish=claim,
                **kw,
            )
    except BaseException:
        if is_new and not any(outdir.iterdir()):
            outdir.rmdir()
        raise
    records.write_editable("plan.ecsv", plan.write)
    for mimic_set, path in paths.items():
        click.echo(f"Wrote {path}: {len(plan.partners(mimic_set))} observations")
    for name in set(records.names) - set(names):
        # the figures are those of the earlier sets
        if name.startswith(("mimic_", "significance")):
            records.remove(name)

    for obs_id, reason in plan.questionable:
        click.echo(f"Questionable: OBS_ID {obs_id}, {reason}")


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
    plan : `~gammapy_mimic.selection.MimicPlan`
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
    records = _check_results(outdir, plan.sets, reduce=True)
    sets = {
        mimic_set: DataStore.from_dir(outdir / f"mimic_{mimic_set}").get_observations(
            required_irf="all-optional"
        )
        for mimic_set in plan.sets
    }
    # one geometry, whichever targets have a partner
    fields = {_.obs_id: _ for observations in sets.values() for _ in observations}
    datasets = {
        mimic_set: reduce_fov_background(
            observations,
            fields=Observations(list(fields.values())),
            energy_range=energy_range,
            offset_max=offset_max,
            n_jobs=n_jobs,
        )
        for mimic_set, observations in sets.items()
    }
    estimator = MimicSystematicsEstimator(correlation_radius, n_jobs=n_jobs)
    result = estimator.run(datasets, plan=plan)
    for mimic_set, name in zip(plan.sets, result.names, strict=True):
        figure = plot_significance(result, [name], title=name)
        with records.step(f"significance_{mimic_set}", None):
            save_figure(figure, outdir / f"significance_{mimic_set}.png")

    figure, ax = plt.subplots(figsize=(7, 5), layout="constrained")
    plot_significance_distribution(result, ["all", *result.names], ax=ax)
    table = result.select("significance")[COLUMNS]
    table.rename_columns(COLUMNS, [_.replace("_err", "_error") for _ in COLUMNS])
    for name in table.colnames[1:]:
        table[name].info.format = ".0f" if name == "n_independent" else ".3f"
    with records.step("significance", None):
        save_figure(figure, outdir / "significance.png")
        with replace_file(outdir / "significance.ecsv", overwrite=True) as temporary:
            table.write(temporary)
    click.echo("\n".join(table.pformat()))
    return table


def _check_outdir(outdir, overwrite):
    outdir = Path(outdir)
    if outdir.exists() and not outdir.is_dir():
        raise FileExistsError(f"{outdir} is a file. Choose another --outdir.")
    if outdir.exists() and any(outdir.iterdir()) and not overwrite:
        raise FileExistsError(
            f"{outdir} is not empty. Choose another --outdir, or use --overwrite."
        )
    return outdir


def _check_results(outdir, sets, reduce=False):
    """Give the records of a folder, an error if something else is in the way."""
    records = StepRecords(outdir)
    names = ["make", *(f"mimic_{_}" for _ in sets)]
    if reduce:
        names += ["significance", *(f"significance_{_}" for _ in sets)]
    records.check({*names, *records.names})
    return records
