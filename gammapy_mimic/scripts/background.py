"""``gammapy-mimic background``: background templates into a datastore."""

import click
import matplotlib.pyplot as plt
from gammapy.utils.pbar import progress_bar
from gammapy.utils.scripts import make_path

from ..analysis.core import MimicAnalysis
from ..data.datastore import select_datastore, write_background
from ..makers import KLBackgroundSelector
from ..template import make_group_labels, make_templates
from ..utils.files import add_files, check_folder
from ..utils.locks import hold
from ..visualization import (
    plot_background,
    plot_background_image,
    plot_background_spectrum,
)
from .figures import save_figure
from .inputs import config_options
from .options import IntList, KeyValue

__all__ = ["background"]


@click.command()
@config_options
@click.option(
    "--dimension",
    type=click.Choice(KLBackgroundSelector.available_backgrounds),
    default="2d",
    help="Rate by energy and offset, or by energy and FoV position.",
)
@click.option(
    "--smooth",
    type=click.Choice(["gauss", "poly", "spline"]),
    help="Smoothing of the templates.",
)
@click.option("--time-request", help="Livetime of a template, such as '10 h'.")
@click.option(
    "--from-obs",
    type=IntList(),
    help="OFF observations of one template for all, instead of the selected ones.",
)
@click.option(
    "--group",
    "groups",
    type=KeyValue(),
    multiple=True,
    help="One template a group of OFF observations, e.g. ZEN_PNT='[0, 30, 49, 90]'.",
)
@click.option("--outdir", required=True, help="Folder of the new datastore.")
@click.option("--overwrite", is_flag=True, help="Replace the store of an earlier run.")
def background(
    config,
    dimension,
    smooth,
    time_request,
    from_obs,
    groups,
    outdir,
    overwrite,
):
    """Make background templates, and a datastore of the targets that has them.

    By default each target gets a template of its own, from the OFF observations that
    are most alike. All but the backgrounds is linked to the original files.
    """
    if from_obs and groups:
        raise click.UsageError("Give either --from-obs or --group.")
    template = {"dimension": dimension, "smooth": smooth, "time_request": time_request}
    data = {"mimic": {"template": template}}
    config = config.update(type(config).from_dict(data, "options"))
    outdir = make_path(outdir).absolute()
    check_folder(outdir)
    # store and figures of one run
    with hold(outdir.with_name(f".{outdir.name}-lock"), outdir):
        analysis = MimicAnalysis(config)
        analysis.get_observations()
        _write_templates(analysis, from_obs, groups, outdir, overwrite)


def _write_templates(analysis, from_obs, groups, outdir, overwrite):
    targets = select_datastore(analysis.datastore, analysis.observations.ids)
    if groups:
        groups = {name.upper(): edges for name, edges in groups}
        templates, labels = _make_groups(analysis, targets.obs_table, groups)
    elif from_obs:
        bkg = analysis.selector.make_background(
            analysis.observations[0], obs_ids=from_obs
        )
        templates = {"all": bkg}
        labels = {_.obs_id: "all" for _ in analysis.observations}
    else:
        templates = {
            _.obs_id: analysis.selector.make_background(_)
            for _ in progress_bar(analysis.observations, desc="Make backgrounds")
        }
        labels = {obs_id: obs_id for obs_id in templates}
    write_background(targets, outdir, templates, labels, overwrite)
    click.echo(
        f"Wrote {outdir}: {len(templates)} backgrounds of {len(labels)} observations"
    )
    figures = {f"background_{label}.png": bkg for label, bkg in templates.items()}
    add_files(outdir, figures)
    for name, bkg in figures.items():
        figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
        plot_background(bkg, ax=axes[0])
        plot_background_spectrum(bkg, ax=axes[1])
        plot_background_image(bkg, ax=axes[2])
        figure.suptitle(f"{bkg.meta['N_OBS']} OFF observations")
        save_figure(figure, outdir / name)


def _make_groups(analysis, table, groups):
    config, off = analysis.config, analysis.factory.off_datastore
    obs_ids = off.obs_table["OBS_ID"].tolist()
    broken = analysis.factory.check_partners(obs_ids)
    off = select_datastore(off, [obs_id for obs_id in obs_ids if obs_id not in broken])
    templates = make_templates(
        off.get_observations(required_irf="all-optional"),
        off.obs_table,
        groups,
        dimension=config.mimic.template.dimension,
        exclusion_regions=list(analysis.exclusion_regions),
        smooth=config.mimic.template.smooth,
    )
    labels = dict(
        zip(table["OBS_ID"].tolist(), make_group_labels(table, groups), strict=True)
    )
    missing = [obs_id for obs_id, label in labels.items() if label not in templates]
    if missing:
        raise ValueError(
            f"There is no OFF observation in the group of OBS_ID {missing}. "
            "Change the groups or the selection."
        )
    return templates, {obs_id: int(label) for obs_id, label in labels.items()}
