"""Pictures of the report, as PNG inside of the page, and as files."""

import base64
import io
import struct
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as MatplotlibFigure

from ..data.template_irfs import NEFF_ENERGIES, average_counts
from ..estimators.measurement import ALL
from ..visualization import (
    plot_background,
    plot_background_spectrum,
    plot_bias_map,
    plot_flux,
    plot_maximum,
    plot_significance_distribution,
    plot_significance_map,
    plot_systematics,
)
from ..visualization.common import format_band
from .answer import describe_exclusion

__all__ = ["Figure", "make_figures", "plot_plan", "plot_templates", "write_figures"]

INCH = 96  # pixels of a page
SHARPNESS = 1.5  # pixels of a picture by those of the page
WIDTH = 11.5  # inches of the page
SINGLE_WIDTH = 8.0  # of a plot on its own
HEIGHT = 4.0  # inches of a plot
FORMATS = ("png", "pdf")  # of files
MAX_MAPS = 9
MAX_BANDS = 6
MAX_SIZE = 6.5  # inches of the height of a map
MAX_COLUMNS = 4  # of the maps by energy
MAX_TARGETS = 40
SHOWN_ENERGIES = (1, 10)  # TeV, of effective counts
# captions that are the same for all results
SYSTEMATICS = (
    "Points are the bias of the background, counts of mimics over prediction minus 1, "
    "with its error. Boxes are the spread between {}, beyond that of counts; dashed "
    "ones are its upper limit (95%), where none is seen. The pale frame is that of all "
    "energies together."
)
CIRCLES, SPECTRA = "circles of the correlation radius", "observations"
SCALES = (
    "The same for circles of other radii, of which large ones average small errors."
)
DISTANCE = (
    "The same for pairs of OFF observation and target whose conditions differ by as "
    "much as the x axis says, in units of the limits of the criteria or of the scatter "
    "of the conditions: what it costs that there is no nearer OFF observation."
)
FLUX = (
    "Flux of a source that is fitted {} to each mimic set, where there is none, with "
    "its statistical error, through the effective area of the target. The bars are "
    "mean and standard deviation of the sets. A flux of the target (star; an arrow "
    "with its number, if it is far above) that is not well above them may be one of "
    "the background."
)
STYLE = {
    "font.family": "sans-serif",
    # that of the text of the page
    "font.size": 12,
    "axes.titlesize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "mathtext.default": "regular",
}


class Figure(NamedTuple):
    """Picture of the report.

    Attributes
    ----------
    name : str
        Name, the id of the HTML element.
    uri : str
        Picture as a data URI.
    width : int
        Width in pixels of the screen.
    height : int
        Height in pixels of the screen.
    alt : str
        What the picture is, for who cannot see it.
    caption : str
        What was done, and how to read it.
    drawing : `~matplotlib.figure.Figure`
        Picture to be written to files.
    """

    name: str
    uri: str
    width: int
    height: int
    alt: str
    caption: str
    drawing: MatplotlibFigure


@mpl.rc_context(STYLE)
def make_figures(result, exclusion_regions=()):
    """Draw the pictures of a result.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    exclusion_regions : list of `~regions.SkyRegion`, optional
        Sources of the target. Default is none.

    Returns
    -------
    figures : dict of list of `Figure`
        Pictures by section.
    """
    figures = {}
    has_offset = len(set(result.tables["systematics"]["offset_band"])) > 1
    captions = {"scales": ("radius", SCALES), "distance": ("distance", DISTANCE)}
    # what was not measured has no picture
    if np.isfinite(result.tables["systematics"]["delta"]).any():
        figure, axes = _make_grid(1 + has_offset, 2, HEIGHT)
        plot_systematics(result, axes[0])
        if has_offset:
            plot_systematics(result, axes[1], by="offset")
        alt = "Bias and spread of the background by energy"
        alt += " and by offset" * has_offset
        caption = SYSTEMATICS.format(CIRCLES if result.maps else SPECTRA)
        figures["systematics"] = [_save(figure, "systematics", alt, caption)]
    for name, (by, caption) in captions.items():
        table = result.tables.get(name)
        # those of the distance are drawn for all energies
        if (
            table is not None
            and np.isfinite(table["delta"][table["band"] == ALL]).any()
        ):
            figure, axes = _make_grid(1, 1, HEIGHT)
            plot_systematics(result, axes[0], by=by)
            alt = f"Systematic error of the background by {by}"
            figures[name] = [_save(figure, name, alt, caption)]
    if result.maps:
        figures["maps"] = _plot_maps(result, exclusion_regions)
        figures["distributions"] = _plot_distributions(result)
        if "maximum" in result.tables:
            figures["maximum"] = _plot_maximum(result)
    if result.bias is not None:
        figures["bias"] = [_plot_bias(result.bias)]
    means = result.tables.get("spurious_flux")
    if means is not None and np.isfinite(means["mean"]).any():
        figure, axes = _make_grid(1, 1, HEIGHT)
        plot_flux(result, axes[0])
        alt = "Flux of mimic sets and of the target by energy"
        where = "at the position in question" if result.maps else "in the on region"
        figures["flux"] = [_save(figure, "flux", alt, FLUX.format(where))]
    return figures


def _format_bands(result):
    """Texts of the bands of energy by their names."""
    return {_.band: format_band(_._asdict()) for _ in result.bands}


def _plot_maps(result, regions):
    """Draw the maps of all energies, and those of the bands below each other."""
    labels = _format_bands(result)
    *bands, total = labels
    # the target first, then the sets in their order
    names = sorted(result.maps, key=lambda _: _ != "target")
    shown = names[:MAX_MAPS]
    left_out = f" The first {len(shown)} of {len(names)} maps." * (names != shown)
    text = (
        f"Significance of the counts in a circle of {result.correlation_radius.deg} "
        f"deg around each pixel against the prediction, {labels[total]}, of the target "
        f"and of mimic sets, with the same colours from -5 to 5.{left_out}"
    )
    if len(regions) and "target" in names:
        text += " Outlines are exclusion regions."
    if result.position is not None:
        text += " The cross is the position in question."
    cells = [(name, total) for name in shown]
    figure = _draw_maps(result, cells, _choose_columns(len(cells)), regions)
    figures = [_save(figure, "maps", f"Significance maps of {', '.join(shown)}", text)]
    if bands:
        shown = names[:MAX_COLUMNS]
        cells = [(name, band) for band in bands[:MAX_BANDS] for name in shown]
        figure = _draw_maps(result, cells, len(shown), regions)
        # the last axes are those of the colour bar
        for ax, (_, band) in zip(figure.axes, cells, strict=False):
            ax.set_title(f"{ax.get_title()}\n{labels[band]}", fontsize="small")
        left_out = f" of the first {len(shown)} maps" * (names != shown)
        text = f"The same{left_out} in bands of energy, the lowest at the top."
        alt = f"Significance maps by energy of {', '.join(shown)}"
        figures.append(_save(figure, "maps-energy", alt, text))
    return figures


def _choose_columns(number):
    """Choose the number of columns of a grid, so that its last row is the fullest."""
    if number <= 3:
        return number
    choices = (3, 2) if number <= 6 else (3, 4)
    return min(choices, key=lambda n_columns: -number % n_columns)


def _draw_maps(result, cells, n_columns, regions):
    """Draw a grid of maps with one colour bar. Cells are names and bands."""
    n_rows = -(-len(cells) // n_columns)
    geom = next(iter(result.maps.values())).total.geom
    height, width = geom.data_shape[-2:]
    # inches: of labels and the colour bar, between maps, of a map, and of its labels
    left, right, gap, title, bottom = 0.95, 0.95, 0.15, 0.6, 0.75
    # one map of the whole width does not fit on a screen
    room = (WIDTH - left - right - (n_columns - 1) * gap) / n_columns
    size = np.array([1, height / width]) * min(room, MAX_SIZE * width / height)
    step = size + np.array([gap, title + bottom])
    page = np.array([left + n_columns * step[0] + right - gap, n_rows * step[1]])
    figure = MatplotlibFigure(figsize=page)
    for idx, (name, band) in enumerate(cells):
        row, column = divmod(idx, n_columns)
        corner = left + column * step[0], (n_rows - row - 1) * step[1] + bottom
        place = [*corner / page, *size / page]
        ax = figure.add_axes(place, projection=geom.wcs)
        plot_significance_map(
            *(result, name, band, ax),
            regions=regions if name == "target" else [],
            position=result.position,
        )
        _label_sky(ax, left=column == 0)
    corner = left + n_columns * step[0], bottom
    bar = 0.2, page[1] - bottom - title
    cax = figure.add_axes([*corner / page, *bar / page])
    label = r"Significance [$\sigma$]"
    figure.colorbar(ax.images[0], cax=cax, label=label, extend="both")
    return figure


def _label_sky(ax, left):
    """Label the axes of the sky, the latitude only of the first map of a row."""
    longitude, latitude = ax.coords
    longitude.set_ticks(number=3)
    latitude.set_ticks(number=5)
    labels = {"ra": "Right ascension [h m]", "dec": "Declination [deg]"}
    labels |= {"glon": "Galactic longitude [deg]", "glat": "Galactic latitude [deg]"}
    for coord, shown, fallback in (
        (longitude, True, "Longitude [deg]"),
        (latitude, left, "Latitude [deg]"),
    ):
        name = next((_ for _ in labels if _ in str(coord.default_label).lower()), None)
        coord.set_auto_axislabel(False)
        coord.set_axislabel(labels.get(name, fallback) if shown else "")
        coord.set_ticklabel_visible(shown)


def _plot_distributions(result):
    """Draw distributions of the bands with a position. None if there is no such."""
    *bands, total = _format_bands(result)
    # all energies first
    shown = [
        band for band in (total, *bands) if len(result.get_significance(band=band))
    ][:MAX_BANDS]
    if not shown:
        return []
    figure, axes = _make_grid(len(shown), _choose_columns(len(shown)), HEIGHT)
    for band, ax in zip(shown, axes, strict=True):
        plot_significance_distribution(result, band=band, ax=ax)
    text = (
        f"Distribution of the significance over the pixels of the maps with at least "
        f"{result.min_background:g} background counts: all mimics "
        f"({result.get_significance().size} pixels in {_format_bands(result)[total]})"
    )
    if "target" in result.maps:
        where = describe_exclusion(result).removeprefix(",")
        size = result.get_significance("target").size
        text += f" and the target{where} ({size} pixels)"
    text += (
        ". The solid line is the Gaussian with mean and width of all mimics. Values "
        "beyond 10 are in the last bin."
    )
    left_out = [_ for _ in bands if _ not in shown][:MAX_BANDS]
    if left_out:
        edges = ", ".join(_format_bands(result)[_] for _ in left_out)
        text += f" Not shown: {edges}."
    return [_save(figure, "distributions", "Significance distributions", text)]


def _plot_maximum(result):
    """Draw the largest significances, nothing if there is none."""
    if not np.isfinite(result.tables["significance"]["maximum"]).any():
        return []
    figure, axes = _make_grid(1, 1, 1.9 + 0.5 * len(result.bands))
    plot_maximum(result, axes[0])
    where = describe_exclusion(result).replace(",", ", both", 1)
    text = (
        "Largest significance on the map of each mimic set and of the target"
        f"{where}. It has the trials of all positions of the map "
        "in it. An arrow at the right is a value beyond the axis."
    )
    return [_save(figure, "maximum", "Largest significance by energy", text)]


def _plot_bias(bias):
    n_bands = min(len(bias.ratio), MAX_BANDS)
    figure, axes = _make_grid(2 * n_bands, 2, 4.6)
    for band in range(n_bands):
        plot_bias_map(bias, band, axes[2 * band])
        plot_bias_map(bias, band, axes[2 * band + 1], quantity="significance")
    verb = "differ" if bias.is_significant else "do not differ"
    judgement = f"Both {verb} by more than chance: p = {bias.p_value:.2g}."
    if np.isnan(bias.p_value):
        judgement = "No bin has enough background to say whether they differ."
    text = (
        "Counts of all mimics over their prediction in coordinates of the field of "
        "view, both smoothed (left), and the difference from 1 over its statistical "
        f"error (right). {judgement}"
    )
    return _save(figure, "bias", "Bias of the background in the field of view", text)


@mpl.rc_context(STYLE)
def plot_plan(plan):
    """Draw the plan.

    Parameters
    ----------
    plan : `~gammapy_mimic.selection.MimicPlan`
        Plan.

    Returns
    -------
    figures : list of `Figure`
        One picture, none for a plan that is too large to be read.
    """
    n_targets = len(np.unique(plan.table["OBS_ID"]))
    if n_targets > MAX_TARGETS or len(plan.sets) > MAX_TARGETS // 2:
        return []
    width = np.clip(2.5 + 0.9 * len(plan.sets), SINGLE_WIDTH, WIDTH)
    figure, axes = _make_grid(1, 1, 1.4 + 0.3 * max(n_targets, 7), width)
    plan.plot(axes[0])
    text = (
        "OFF observation of each target in each mimic set. The colour is the "
        "difference of the zenith angles, on which the shape of the background depends."
    )
    return [_save(figure, "plan", "OFF observations by target and mimic set", text)]


def _describe_precision(bkg):
    """Sentence about the effective counts of a template, empty if it has none."""
    counts = average_counts(bkg)
    known = [
        f"{counts[idx]:.0f} at {energy} TeV"
        for energy in SHOWN_ENERGIES
        if counts[idx := np.argmin(np.abs(np.log(NEFF_ENERGIES / energy)))] > 0
    ]
    return f" Effective counts of a bin: {', '.join(known)}." if known else ""


@mpl.rc_context(STYLE)
def plot_templates(templates):
    """Draw background templates.

    Parameters
    ----------
    templates : dict of `~gammapy.irf.BackgroundIRF`
        Template by its label.

    Returns
    -------
    figures : list of `Figure`
        Pictures.
    """
    figures = []
    for number, (label, bkg) in enumerate(templates.items(), start=1):
        figure, axes = _make_grid(2, 2, HEIGHT)
        plot_background(bkg, axes[0])
        plot_background_spectrum(bkg, axes[1])
        text = f"Background template {label}: rates by offset and by energy."
        text += _describe_precision(bkg)
        alt = f"Background template {label}"
        figures.append(_save(figure, f"template-{number}", alt, text))
    return figures


def _make_grid(number, n_columns, height, width=None):
    """Figure with a number of axes, of the width of the page if they are several."""
    # not by pyplot, which would keep the figures, and may ask for a display
    n_columns = min(n_columns, number)
    n_rows = -(-number // n_columns)
    if width is None:
        width = WIDTH if n_columns > 1 else SINGLE_WIDTH
    figure = MatplotlibFigure(figsize=(width, n_rows * height), layout="constrained")
    axes = [figure.add_subplot(n_rows, n_columns, idx + 1) for idx in range(number)]
    return figure, axes


def _save(figure, name, alt, caption):
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    _write(figure, buffer, "png")
    content = buffer.getvalue()
    # the head of a PNG file
    size = struct.unpack(">II", content[16:24])
    width, height = (round(_ / SHARPNESS) for _ in size)
    data = base64.b64encode(content).decode("ascii")
    uri = f"data:image/png;base64,{data}"
    return Figure(name, uri, width, height, alt, caption, figure)


def _write(figure, file, kind):
    # without version and date, so that equal pictures are equal bytes
    unsaid = {"png": ("Software",), "pdf": ("Creator", "Producer", "CreationDate")}
    options = {"dpi": SHARPNESS * INCH, "bbox_inches": "tight"}
    figure.savefig(file, format=kind, metadata=dict.fromkeys(unsaid[kind]), **options)


@mpl.rc_context(STYLE)
def write_figures(figures, folder):
    """Write each picture as PNG and as PDF, under its name.

    Parameters
    ----------
    figures : list of `Figure`
        Pictures.
    folder : `~pathlib.Path`
        Folder, which exists.
    """
    for figure in figures:
        for kind in FORMATS:
            _write(figure.drawing, folder / f"{figure.name}.{kind}", kind)
