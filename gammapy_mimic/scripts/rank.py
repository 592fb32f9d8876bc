"""``gammapy-mimic rank``: which OFF observations are most alike."""

import click
import matplotlib.pyplot as plt
import numpy as np

from ..analysis.core import MimicAnalysis
from ..utils.files import check_folder
from ..utils.records import StepRecords
from ..visualization import plot_kl_matrix, plot_ranking
from .figures import save_figure
from .inputs import config_options

__all__ = ["rank"]


@click.command()
@config_options
@click.option("--outdir", help="Folder for the tables and plots.")
@click.option("--n-rows", default=10, help="Rows of each table on screen.")
def rank(config, outdir, n_rows):
    """Rank OFF observations by the divergence of their background from targets.

    Prints a table for each target. With --outdir, writes all rows as kl_OBS_ID.ecsv,
    the matrix of all pairs, and the ranking against airmass and date. A table whose
    inputs have not changed is read, not made again.
    """
    analysis = MimicAnalysis(config)
    if outdir is None:
        analysis.get_observations()
        _rank(analysis, n_rows)
        return
    check_folder(outdir)
    records = StepRecords(outdir)
    with records.lock():
        analysis.get_observations()
        names = ["rank", *(f"kl_{obs_id}" for obs_id in analysis.observations.ids)]
        records.check(names)
        for name in names:
            records.claim(name)
        tables = _rank(analysis, n_rows, records.path)
        figure, ax = plt.subplots(figsize=(12, 5), layout="constrained")
        plot_kl_matrix(tables, ax=ax, kl_max=analysis.selector.kl_max)
        save_figure(figure, records.path / "kl_matrix.png")

        conditions = analysis.selector.index.conditions
        for table in tables:
            rows = np.searchsorted(conditions.obs_id, table["OFF_OBS_ID"])
            figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
            if conditions.airmass is not None:
                plot_ranking(table, conditions.airmass[rows], "Airmass", ax=axes[0])
            if conditions.mjd is not None:
                plot_ranking(table, conditions.mjd[rows], "Date (MJD)", ax=axes[1])
            save_figure(figure, records.path / f"kl_{table.meta['OBS_ID']}.png")


def _rank(analysis, n_rows, outdir=None):
    selector, tables = analysis.selector, []
    for observation in analysis.observations:
        obs_id = observation.obs_id
        path = None if outdir is None else outdir / f"kl_{obs_id}.ecsv"
        table = selector.rank(observation, path)
        tables.append(table)
        accepted = table["STATUS"] != "rejected"
        click.echo(
            f"\nOBS_ID {obs_id}: {accepted.sum()} of {len(table)} OFF observations "
            "match the criteria"
        )
        click.echo("\n".join(table[:n_rows].pformat(max_width=-1)))
    return tables
