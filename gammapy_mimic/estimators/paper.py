"""What a paper prints of a result: a paragraph, and a table."""

import numpy as np

from .tables import format_interval

__all__ = ["make_paper_text"]

NORM_SHARE = 0.5
"""Share of the counts that the prediction follows, from which it is said."""

N_ERRORS = 3
"""Number of errors from which a flux is one."""

HEADINGS = ("Energy [TeV]", "Bias [%]", "Spread [%]", "Total [%]", "95% limit [%]")


def make_paper_text(result):
    """Write the paragraph and the table that a paper prints.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.

    Returns
    -------
    text : str
        Text, and a table of bias, spread and total by energy in columns of fixed width.
    """
    sentences = [
        *_describe_method(result),
        *_describe_error(result),
        *_describe_target(result),
        *_describe_flux(result),
    ]
    return "\n".join([" ".join(sentences), "", *_make_table(result), ""])


def _describe_method(result):
    row = result.select("systematics", offset_band="all")[0]
    number = len(result.names)
    sets = f"{number} mimic sets" if number > 1 else "one mimic set"
    text = (
        f"The systematic error of the background was measured with {sets} of OFF "
        "observations, which were moved into the field of view of the target and "
        f"analysed in the same way (gammapy-mimic {result.version})."
    )
    yield text
    if "time" in result.tables:
        time = result.tables["time"][0]
        if np.isfinite(time["off_time"]):
            number, hours = time["n_off"], time["off_time"]
            text = f"They hold {hours:.1f} h of {number} OFF observations"
            if np.isfinite(time["target_time"]):
                text += f", for {time['target_time']:.1f} h of the target"
            if np.isfinite(row["n_runs"]):
                text += f", and are worth {row['n_runs']:.1f} independent observations"
            yield f"{text}."


def _describe_error(result):
    row = result.select("systematics", offset_band="all")[0]
    where = "in the on region"
    if result.maps:
        where = f"in circles of {result.correlation_radius.deg:g} deg"
    band = f"between {row['e_min']:.3g} and {row['e_max']:.3g} TeV"
    if not np.isfinite(row["delta"]):
        yield f"It is {format_interval(row, 'total')}."
        return
    yield (
        f"{where.capitalize()}, {band}, counts over prediction are "
        f"{1 + row['delta']:.3f} ± {row['delta_err']:.3f}."
    )
    if row["norm_share"] > NORM_SHARE:
        share = f"{row['norm_share']:.0%}"
        yield (
            "The prediction follows the counts of the field of view, of which these "
            f"are {share}, so that they agree for the most part by construction."
        )
    if np.isnan(row["n_runs"]):
        yield "Errors are of counts alone: OFF observations are stacked or not known."
    if not np.isfinite(row["f"]):
        yield f"Their spread beyond that of counts is {format_interval(row, 'f')}."
        return
    yield (
        f"Their spread beyond that of counts is {format_interval(row, 'f')}, and the "
        f"total systematic error {format_interval(row, 'total')}."
    )
    bands = result.select("systematics", band=None, offset_band="all")
    bands = [_ for _ in bands if _["band"] != "all" and np.isfinite(_["total"])]
    if bands:
        worst = max(bands, key=lambda _: _["total_ul"])
        yield (
            "It depends on energy, see the table, and is largest between "
            f"{worst['e_min']:.3g} and {worst['e_max']:.3g} TeV: "
            f"{format_interval(worst, 'total')}."
        )
    if np.isfinite(row["total_other_ul"]):
        limit = f"{row['total_other_ul']:.1%} (95% confidence)"
        yield f"For another field, the total of all energies is below {limit}."


def _describe_target(result):
    if "position" in result.tables:
        row = result.select("position")[0]
        if np.isfinite(row["calibrated"]):
            yield (
                f"With it, the significance of {row['significance']:.1f} at the "
                f"position of the source is {row['calibrated']:.1f}."
            )
        elif np.isfinite(row["significance"]):
            yield (
                f"The significance of {row['significance']:.1f} at the position of the "
                f"source is {row['text']}."
            )


def _describe_flux(result):
    if "spurious_flux" not in result.tables:
        return
    row = result.select("spurious_flux")[0]
    flux, low, high = (row[_] for _ in ("target_flux", "sys_errn", "sys_errp"))
    # of nothing there is no part
    if flux > N_ERRORS * row["target_flux_err"] and np.isfinite(low):
        yield (
            "Of the flux of the source in this band, the systematic error by the "
            f"background is -{low / flux:.1%} and +{high / flux:.1%}."
        )


def _make_table(result):
    """Lines of the table by energy."""
    rows = [HEADINGS]
    for row in result.select("systematics", band=None, offset_band="all"):
        cells = [f"{row['e_min']:.3g} - {row['e_max']:.3g}"]
        if np.isfinite(row["delta"]):
            cells.append(f"{100 * row['delta']:+z.1f} ± {100 * row['delta_err']:.1f}")
        else:
            cells.append("-")
        cells += [_format_percent(row, name) for name in ("f", "total")]
        limit = row["total_ul"]
        cells.append(f"{100 * limit:.1f}" if np.isfinite(limit) else "-")
        rows.append(cells)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    rule = "  ".join("-" * width for width in widths)
    return [_.rstrip() for _ in (lines[0], rule, *lines[1:])]


def _format_percent(row, name):
    """Value with its interval, or limit, in percent."""
    if not np.isfinite(row[name]):
        return "not measurable"
    value, low, high, limit = (
        100 * row[f"{name}{_}"] for _ in ("", "_lo", "_hi", "_ul")
    )
    if low > 0:
        return f"{value:.1f} ({low:.1f} - {high:.1f})"
    return f"< {limit:.1f}"
