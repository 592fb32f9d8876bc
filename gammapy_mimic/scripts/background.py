"""``gammapy-mimic background``: background templates into a datastore."""

import logging

import click
import matplotlib.pyplot as plt
from gammapy.utils.scripts import make_path

from ..analysis.core import MimicAnalysis
from ..analysis.factory import make_template_axes
from ..data.datastore import select_datastore, write_background
from ..data.obs_ids import get_obs_id, shorten
from ..data.observation import get_livetime_fraction
from ..exclusion.core import ExclusionRegions
from ..makers import KLBackgroundSelector
from ..template import (
    describe_group,
    make_group_counts,
    make_group_labels,
    make_group_table,
    make_own_counts,
)
from ..template.own import OWN_METHODS
from ..utils.files import add_files, check_folder
from ..utils.locks import hold
from ..utils.progress import track
from ..visualization import (
    plot_background,
    plot_background_image,
    plot_background_spectrum,
)
from .figures import save_figure
from .inputs import config_options
from .options import AngleText, EnergyText, IntList, KeyValue
from .output import tell

__all__ = ["background"]

log = logging.getLogger(__name__)

N_BINS = click.IntRange(min=1)


@click.command()
@config_options
@click.option(
    "--dimension",
    type=click.Choice(KLBackgroundSelector.available_backgrounds),
    help="Rate by energy and offset, or by energy and FoV position.  [default: 2d]",
)
@click.option(
    "--energy-axis",
    type=(EnergyText(), EnergyText(), N_BINS),
    metavar="MIN MAX NBINS",
    help="Bins in energy.  [default: '0.1 TeV' '100 TeV' 24]",
)
@click.option(
    "--offset-axis",
    type=(AngleText(), N_BINS),
    metavar="MAX NBINS",
    help="Bins in offset, of 2d.  [default: '2.5 deg' 10]",
)
@click.option(
    "--fov-axis",
    type=(AngleText(), N_BINS),
    metavar="MAX NBINS",
    help="Bins from -MAX to MAX, of 3d.  [default: '2.5 deg' 20]",
)
@click.option(
    "--keep-empty",
    is_flag=True,
    help="Keep energy bins without exposure, in which the rate is 0.",
)
@click.option(
    "--smooth",
    type=click.Choice(["gauss", "poly", "spline"]),
    help="Smoothing of the templates.",
)
@click.option(
    "--raw",
    is_flag=True,
    help="Write raw templates beside the smooth ones, as data/background_*_raw.fits.",
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
@click.option(
    "--from-run",
    type=click.Choice(list(OWN_METHODS)),
    help="Templates of the events of the targets themselves, outside --exclude: of the "
    "ring (2d), of the position, or of the opposite one (3d).",
)
@click.option(
    "--angle",
    "angles",
    type=AngleText(),
    multiple=True,
    help="By which the position is turned with --from-run rotated. Repeatable.  "
    "[default: 180 deg]",
)
@click.option("--outdir", required=True, help="Folder of the new datastore.")
@click.option("--overwrite", is_flag=True, help="Replace the store of an earlier run.")
def background(
    config,
    from_obs,
    groups,
    from_run,
    angles,
    raw,
    outdir,
    overwrite,
    **template,
):
    """Make background templates, and a datastore of the targets that has them.

    By default each target gets a template of its own, from the OFF observations that
    are most alike. All but the backgrounds is linked to the original files.

    Without an archive, --from-run makes them of the targets themselves. What is not
    excluded is then in its own background.
    """
    names = [name.upper() for name, _ in groups]
    if len(set(names)) < len(names):
        raise click.UsageError(f"--group has a column twice: {', '.join(names)}.")
    groups = {name.upper(): edges for name, edges in groups}
    _check_options(from_obs, groups, from_run, angles, raw, template)
    if from_run:
        template["dimension"] = OWN_METHODS[from_run]
    config = _add_template(config, obs_ids=from_obs or [], **template)
    outdir = make_path(outdir).absolute()
    check_folder(outdir)
    # store and figures of one run
    with hold(outdir.with_name(f".{outdir.name}-lock"), outdir):
        analysis = MimicAnalysis(config)
        analysis.get_observations()
        if groups:
            counts, labels = _count_groups(analysis, groups)
        elif from_obs:
            counts, labels = _count_given(analysis)
        elif from_run:
            counts, labels = _count_own(analysis, from_run, angles), None
        else:
            counts, labels = _count_selected(analysis), None
        _write_templates(analysis, counts, labels, groups, raw, outdir, overwrite)


def _check_options(from_obs, groups, from_run, angles, raw, template):
    """Raise an error for options that do not go together."""
    sources = {"--from-obs": from_obs, "--group": groups, "--from-run": from_run}
    given = [name for name, value in sources.items() if value]
    if len(given) > 1:
        raise click.UsageError(f"Give either {' or '.join(given)}.")
    if angles and from_run != "rotated":
        raise click.UsageError("--angle is for --from-run rotated.")
    if raw and template["smooth"] is None:
        raise click.UsageError("--raw is for --smooth: templates are raw without it.")
    if given and template["time_request"] is not None:
        raise click.UsageError(f"--time-request is not for {given[0]}.")
    if from_run and template["dimension"] not in (None, OWN_METHODS[from_run]):
        dimension = OWN_METHODS[from_run]
        raise click.UsageError(f"--from-run {from_run} is {dimension}.")


def _add_template(config, dimension, energy_axis, offset_axis, fov_axis, **options):
    """Add the section of the templates to the configuration."""
    axes = {
        "energy_axis": (("min", "max", "nbins"), energy_axis),
        "offset_axis": (("max", "nbins"), offset_axis),
        "fov_axis": (("max", "nbins"), fov_axis),
    }
    options |= {
        name: dict(zip(keys, values, strict=True))
        for name, (keys, values) in axes.items()
        if values
    }
    template = options | {"dimension": dimension or "2d"}
    data = {"mimic": {"template": template}}
    return config.update(type(config).from_dict(data, "options"))


def _count_selected(analysis):
    """Count OFF observations that are most alike, for each target."""
    for observation in track(analysis.observations, "Make backgrounds"):
        yield observation.obs_id, analysis.selector.make_template_counts(observation)


def _count_own(analysis, method, angles):
    """Count the events of each target itself."""
    config = analysis.config.mimic
    options = _get_axes(config.template)
    if angles:
        options["angles"] = angles
    # those of the factory are of the OFF fields, too, of which there are none
    texts = config.exclusion.regions
    regions = [region for _ in texts for region in ExclusionRegions.from_text(_)]
    options["exclusion_regions"] = regions
    for observation in track(analysis.observations, "Make backgrounds"):
        yield observation.obs_id, make_own_counts(observation, method, **options)


def _count_given(analysis):
    """Count the same OFF observations for all. Counts, and labels by target."""
    obs_ids = [get_obs_id(_) for _ in analysis.observations]
    shared = sorted({*obs_ids} & {*analysis.config.mimic.template.obs_ids})
    if shared:
        raise ValueError(
            f"--from-obs: OBS_ID {shared} are targets, whose events would be in their "
            "own background. Leave them out."
        )
    counts = analysis.selector.make_template_counts(analysis.observations[0])
    return [("all", counts)], dict.fromkeys(obs_ids, "all")


def _count_groups(analysis, groups):
    """Count the OFF observations of each group. Counts, and labels by target."""
    off = analysis.factory.off_datastore
    obs_ids = off.obs_table["OBS_ID"].tolist()
    broken = analysis.factory.check_partners(obs_ids)
    off = select_datastore(off, [obs_id for obs_id in obs_ids if obs_id not in broken])
    template = analysis.config.mimic.template
    counts = make_group_counts(
        off.get_observations(required_irf="all-optional"),
        off.obs_table,
        groups,
        dimension=template.dimension,
        exclusion_regions=list(analysis.exclusion_regions),
        n_jobs=analysis.config.general.n_jobs,
        **_get_axes(template),
    )
    table = _select_targets(analysis).obs_table
    labels = make_group_labels(table, groups).tolist()
    labels = dict(zip(table["OBS_ID"].tolist(), labels, strict=True))
    missing = [obs_id for obs_id, label in labels.items() if label not in counts]
    if missing:
        raise ValueError(
            f"There is no OFF observation in the group of OBS_ID {missing}. "
            "Change the groups or the selection."
        )
    shared = sorted({*labels} & {*off.obs_table["OBS_ID"].tolist()})
    if shared:
        log.warning(
            f"The events of OBS_ID {shorten(shared)} are in the template of their own "
            "group, which hides what is looked for. Leave them out of the OFF "
            "observations."
        )
    return counts.items(), labels


def _get_axes(template):
    return {f"{_.name}_axis": _ for _ in make_template_axes(template)}


def _select_targets(analysis):
    return select_datastore(analysis.datastore, analysis.observations.ids)


def _write_templates(analysis, counts, labels, groups, raw, outdir, overwrite):
    """Make templates of counts by label, and write them and figures."""
    config = analysis.config.mimic.template
    smooths = [config.smooth, None] if raw else [config.smooth]
    fractions = {}
    # those of several targets have a mean dead time, and are converted for each
    if labels is None:
        fractions = {_.obs_id: get_livetime_fraction(_) for _ in analysis.observations}
    templates, others, table = {}, {}, None
    for label, part in counts:
        options = fractions.get(label), config.keep_empty
        irfs = [part.to_irf(smooth, None, *options) for smooth in smooths]
        if groups:
            for irf in irfs:
                irf.meta["GROUP"] = describe_group(groups, label)
        templates[label] = irfs[0]
        if raw:
            others[f"background_{label}_raw"] = irfs[1]
    if groups:
        obs_table = analysis.factory.off_datastore.obs_table
        table = make_group_table(obs_table, groups, templates)
    write_background(
        _select_targets(analysis),
        outdir,
        templates,
        labels,
        overwrite,
        groups=table,
        others=others,
    )
    n_obs = len(templates if labels is None else labels)
    tell(f"Wrote {outdir}: {len(templates)} backgrounds of {n_obs} observations")
    figures = {f"background_{label}": irf for label, irf in templates.items()} | others
    add_files(outdir, [f"{name}.png" for name in figures])
    for name, irf in figures.items():
        save_figure(_plot(irf, name), outdir / f"{name}.png")


def _plot(bkg, name):
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    plot_background(bkg, ax=axes[0])
    plot_background_spectrum(bkg, ax=axes[1])
    plot_background_image(bkg, ax=axes[2])
    obs_ids = f"OBS_ID {shorten(bkg.meta['OBS_IDS'].split(','))}"
    parts = name, bkg.meta.get("GROUP"), obs_ids
    figure.suptitle(", ".join(part for part in parts if part))
    return figure
