"""The page of the report: what it is made of, and how it is written."""

import datetime
import itertools
import platform
from importlib import metadata

import jinja2
import numpy as np
import yaml
from gammapy.utils.scripts import make_path

from ..data.obs_ids import NO_PARTNER
from ..exclusion.core import ExclusionRegions
from ..selection.plan import MimicPlan
from ..template.fair import summarise_templates
from ..utils.files import replace_file, replace_folder
from ..version import __version__
from .answer import describe_exclusion, describe_pairs, make_answer
from .column_descriptions import describe_columns
from .facts import describe_flux, make_facts, make_sets_table
from .figures import make_figures, plot_plan, plot_templates, write_figures
from .tables import make_table

__all__ = ["make_report"]

PACKAGES = ("gammapy", "astropy", "numpy", "scipy", "regions", "matplotlib")
QUESTIONABLE = ("no_mimic", "large_kl")
PLAN_FORMATS = {
    **dict.fromkeys(("OBS_ID", "MIMIC_SET", "OFF_OBS_ID", "STATUS")),
    "DISTANCE": ".2f",
    "DELTA_ZENITH": "z.1f",
    **dict.fromkeys(("RATE_RATIO", "LIVETIME_RATIO"), ".2f"),
    "ENERGY_MIN": ".3g",
    **dict.fromkeys(("CUT_START", "CUT_STOP"), ".0f"),
    "KL_CORR": "z.4f",
    "P_VALUE": ".2g",
    "DELTA_RMS": ".3f",
}
"""Columns of a plan that say why a pair is one, in the order in which they are read,
and so short that they fit on a page."""
MAX_OBJECTS = 3  # that are named in the title
# what users give, such as titles and names of objects, is text and no HTML
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("gammapy_mimic.report", "."),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def make_report(
    result,
    path,
    plan=None,
    config=None,
    title=None,
    obs_table=None,
    exclusion_regions=(),
    templates=None,
    template_table=None,
    pictures=False,
    overwrite=False,
):
    """Write the report of a result: one HTML file that needs no other.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    path : str or `~pathlib.Path`
        File.
    plan : `~gammapy_mimic.selection.MimicPlan`, optional
        Plan. Also a table or file, as for `~gammapy_mimic.selection.MimicPlan.create`.
        Default is not known.
    config : `~gammapy_mimic.analysis.MimicAnalysisConfig` or str, optional
        Configuration, or its YAML text. Default is not known.
    title : str, optional
        Title. Default has the names of the targets, if they are known.
    obs_table : `~astropy.table.Table`, optional
        Table of the target observations, of which ``OBS_ID`` and ``OBJECT`` are used.
        Default is not known.
    exclusion_regions : list of `~regions.SkyRegion`, optional
        Sources in the fields of targets and OFF observations. Default is none.
    templates : dict of `~gammapy.irf.BackgroundIRF`, optional
        Background templates by their labels. Default is none.
    template_table : `~astropy.table.Table`, optional
        What the templates of targets and mimics are made of, see
        `~gammapy_mimic.KLBackgroundSelector.make_template_table`. Default is not known.
    pictures : bool, optional
        Whether to write each picture as PNG and PDF, too, to a folder beside the file:
        ``report_files`` for ``report.html``. Default is False.
    overwrite : bool, optional
        Whether to replace an existing file or folder. Default is False.

    Raises
    ------
    FileExistsError
        If the file or folder exists and may not be replaced, or there is anything in
        the folder that was not written with it.
    """
    path = make_path(path)
    folder = path.with_name(f"{path.stem}_files")
    if pictures and folder.exists() and not overwrite:
        raise FileExistsError(f"{folder} exists. Choose another name, or overwrite it.")
    with replace_file(path, overwrite) as temporary:
        plan = None if plan is None else MimicPlan.create(plan)
        regions = exclusion_regions
        if not isinstance(regions, ExclusionRegions):
            regions = ExclusionRegions(regions)
        if not (config is None or isinstance(config, str)):
            config = config.to_yaml()
        # regions of OFF fields are elsewhere on the sky
        on_map = is_on_map(result, regions)
        figures = make_figures(result, regions[np.nonzero(on_map)[0]])
        if plan is not None:
            figures["plan"] = plot_plan(plan)
        if templates:
            figures["templates"] = plot_templates(templates)
        objects = {}
        if obs_table is not None and "OBJECT" in obs_table.colnames:
            rows = obs_table.iterrows("OBS_ID", "OBJECT")
            objects = {int(obs_id): str(name) for obs_id, name in rows}
        versions = {"gammapy-mimic": __version__}
        versions |= {name: metadata.version(name) for name in PACKAGES}
        now = datetime.datetime.now(datetime.UTC)
        page = ENVIRONMENT.get_template("report.html").render(
            title=title or _make_title(objects),
            date=f"{now:%Y-%m-%d %H:%M} UTC",
            answer=make_answer(result, plan),
            paper=result.to_text("paper").partition("\n\n"),
            facts=make_facts(result, plan),
            flux=describe_flux(result),
            result=result,
            figures=figures,
            tables=_make_tables(result, plan, objects, regions, on_map, template_table),
            plan=plan,
            pairs=None if plan is None else describe_pairs(plan),
            mimic=get_mimic_section(config),
            config=config,
            estimator=_get_parameters(result),
            versions=versions | {"Python": platform.python_version()},
        )
        temporary.write_text(page, encoding="utf-8")
        if pictures:
            with replace_folder(folder) as new:
                write_figures(itertools.chain(*figures.values()), new)


def _get_parameters(result):
    """Parameters of the estimator that the result knows."""
    parameters = {
        "min_background": result.min_background,
        "version": result.version,
    }
    if result.maps:
        parameters["correlation_radius"] = f"{result.correlation_radius.deg} deg"
    if result.position is not None:
        position = result.position.icrs
        parameters["position"] = f"{position.ra.deg} deg, {position.dec.deg} deg"
    return parameters


def _make_title(objects):
    names = sorted({_.strip() for _ in objects.values()} - {""})
    if len(names) > MAX_OBJECTS:
        names = [*names[:MAX_OBJECTS], "others"]
    return ": ".join(filter(None, ["Background systematics", ", ".join(names)]))


def _make_tables(result, plan, objects, regions, on_map, template_table):
    what = "the positions" if result.maps else "the observations"
    where = describe_exclusion(result)
    target = f"; of the target{where.removeprefix(',')}" if where else ""
    captions = {
        "position": f"The {'position' if result.maps else 'on region'} in question, by "
        "energy.",
        "maximum": f"Largest significance of {what}, by energy{where}.",
        "significance": f"Significance of {what} of each set, by energy{target}.",
        "systematics": "Systematic error of the background, by energy and offset.",
        "scales": "Systematic error of the background in circles of several radii.",
        "distance": "Systematic error of the background by the distance of OFF "
        "observation and target.",
        "regions": "Systematic error of the background in the regions in question.",
        "sets": "What the mimic sets are, and the target.",
        "time": "Independent OFF time, and that of the target.",
        "flux": "Flux of a source that is fitted in each mimic set and in the target.",
        "spurious_flux": "Spurious flux: mean and scatter of the mimic sets, and the "
        "flux of the target with its systematic error.",
        "normalisation": "Spread of the FoV normalisation between OFF observations.",
        "covariance": "Error of the background that a fit takes into account, by "
        "energy.",
        "losses": "Counts without a prediction, and those that sets and target do not "
        "share.",
    }
    tables = {
        name: make_table(
            _hide_no_partner(table),
            f"table-{name}",
            captions.get(name, f"Table {name} of the result."),
            describe_columns(name, bool(result.maps)),
        )
        for name, table in _select_tables(result, plan).items()
    }
    if plan is not None:
        table = _hide_no_partner(plan.table[list(PLAN_FORMATS)])
        for name, spec in PLAN_FORMATS.items():
            table[name].info.format = spec
        if objects:
            names = [objects.get(int(_), "") for _ in table["OBS_ID"]]
            table.add_column(names, index=1, name="OBJECT")
        tables["plan_summary"] = make_table(
            plan.make_summary().to_table(),
            "table-plan-summary",
            "What the mimic sets are worth.",
            describe_columns("plan_summary"),
        )
        tables["plan"] = make_table(
            table,
            "table-plan",
            "Pairs of target and OFF observation, questionable ones first.",
            describe_columns("plan"),
            np.isin(plan.table["STATUS"], QUESTIONABLE),
        )
    if template_table is not None:
        tables["templates"] = make_table(
            summarise_templates(template_table),
            "table-templates",
            "Number of OFF observations in the templates of targets and of mimics.",
            describe_columns("templates"),
        )
    if len(regions):
        table, caption = regions.to_table(), "Exclusion regions."
        if result.maps:
            table["on the map"] = on_map
            caption = "Exclusion regions, those on the map of the target first."
        tables["exclusion_regions"] = make_table(
            table[np.argsort(~on_map, kind="stable")],
            "table-exclusion-regions",
            caption,
            describe_columns("exclusion_regions"),
        )
    return tables


def _select_tables(result, plan):
    """Select the tables of the result that say something."""
    tables = {**result.tables, "sets": make_sets_table(result, plan)}
    if not result.maps:
        # of single observations, where the question is that of all together
        tables.pop("maximum", None)
        if not np.isfinite(tables["significance"]["mean"]).any():
            del tables["significance"]
    return tables


def _hide_no_partner(table):
    """Copy of a table with a dash for an OBS_ID that is none, rather than -1."""
    table = table.copy()
    for name in {"OFF_OBS_ID", "obs_id"} & set(table.colnames):
        table[name] = np.ma.masked_equal(table[name], NO_PARTNER)
    return table


def is_on_map(result, regions):
    """Whether regions touch the map of the target.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    regions : `~gammapy_mimic.exclusion.ExclusionRegions`
        Regions.

    Returns
    -------
    is_on_map : `~numpy.ndarray` of bool
        Whether a circle around each one touches that around the map. All for spectra,
        which have no map.
    """
    if not len(regions) or not result.maps:
        return np.ones(len(regions), dtype=bool)
    geom = next(iter(result.maps.values())).total.geom
    # the circle through the corners: rather a region too many
    radius = np.hypot(*geom.width.ravel()) / 2
    return regions.is_touching(geom.center_skydir.icrs, radius)[0]


def get_mimic_section(config):
    """Get what the configuration says of mimics.

    Parameters
    ----------
    config : str or None
        YAML text.

    Returns
    -------
    section : dict
        Section ``mimic``, empty if there is none.
    """
    data = yaml.safe_load(config) if config else None
    return (data.get("mimic") if isinstance(data, dict) else None) or {}
