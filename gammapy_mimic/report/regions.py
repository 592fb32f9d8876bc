"""What the regions in question have, in words."""

import numpy as np

from ..estimators.measurement import ALL
from ..estimators.verdict import Verdict, judge_region
from .words import WORDS

__all__ = ["describe_regions", "select_regions", "summarise_region"]

EXPLAINED = (Verdict.EXPLAINED, Verdict.MAY_EXPLAIN)


def describe_regions(result):
    """Say of each region what the target has there, and how much of it is background.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.

    Returns
    -------
    texts : list of str
        A text for each region at all energies, of which the verdict is up to the first
        colon. Empty without regions, or without a target.
    """
    return [_describe_region(row) for row in select_regions(result)]


def select_regions(result):
    """Select what the target has in each region at all energies.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.

    Returns
    -------
    rows : `~astropy.table.Table` or list
        Rows of the table "regions". Empty without regions, or without a target.
    """
    table = result.tables.get("regions")
    if table is None or "calibrated" not in table.colnames:
        return []
    return table[table["band"] == ALL]


def summarise_region(row):
    """Say in one line whether the background explains what the target has in a region.

    Parameters
    ----------
    row : `~astropy.table.Row`
        Row of the table "regions", with a target.

    Returns
    -------
    text : str
        Text.
    """
    excess = judge_region(row)
    text = (
        f"Region {row['region']}: {excess.significance:.1f} sigma, calibrated "
        f"{excess.calibrated:.1f}. {WORDS[excess.verdict]}"
    )
    if excess.verdict in EXPLAINED and _has_fluxes(row):
        flux, spurious = _format_fluxes(row)
        text += f": its flux of {flux} cm-2 s-1 is wrong by {spurious}"
    return f"{text}."


def _describe_region(row):
    excess, name = judge_region(row), f"Region {row['region']}"
    if excess.verdict is Verdict.NOT_MEASURED:
        return f"{name} has no data: the target has no significance there."
    words = WORDS[excess.verdict]
    text = f"{name}, {excess.significance:.1f} sigma. {words}: "
    if np.isfinite(excess.calibrated):
        text += (
            f"the calibrated significance is {excess.calibrated:.1f} "
            f"(p = {excess.p_value:.2g})."
        )
    else:
        text += f"{row['text']}."
    has_bias = np.isfinite(row["delta"])
    if has_bias:
        text += (
            f" Mimics, which hold no source, have {row['delta']:+z.1%} ± "
            f"{row['delta_err']:.1%} of the background there."
        )
    if has_bias and _has_fluxes(row):
        text += f" {_describe_flux(row)}"
    return text


def _has_fluxes(row):
    """Whether fluxes are known, which they are not without exposure."""
    names = ("target_flux", "spurious_flux")
    return all(_ in row.colnames and np.isfinite(row[_]) for _ in names)


def _describe_flux(row):
    """Say by how much the flux of the target is wrong."""
    flux, spurious = _format_fluxes(row)
    return (
        f"The flux of the target in the region, {flux} cm-2 s-1, is wrong by "
        f"{spurious} cm-2 s-1."
    )


def _format_fluxes(row):
    """Flux of the target, and that of the bias."""
    names = ("target_flux", "spurious_flux")
    return [format_flux(row[name], row[f"{name}_err"]) for name in names]


def format_flux(value, error):
    """Format a flux with its error.

    Parameters
    ----------
    value, error : float
        Flux and its error.

    Returns
    -------
    text : str
        Such as "(1.2 ± 0.3)e-12".
    """
    if not (np.isfinite(value) and np.isfinite(error)):
        return "not known"
    largest = max(abs(value), error)
    exponent = int(np.floor(np.log10(largest))) if largest > 0 else 0
    value, error = (_ / 10.0**exponent for _ in (value, error))
    return f"({value:z.1f} ± {error:.1f})e{exponent}"
