"""Flux points with the systematic error of the background."""

import numpy as np

from .measurement import EDGE_TOLERANCE
from .tables import TARGET

__all__ = ["join_flux"]

COLUMNS = ("sys_errn", "sys_errp", "sys_ul")


def join_flux(flux_points, fluxes, spurious_flux):
    """Add the systematic error of the background to flux points.

    Parameters
    ----------
    flux_points : `~gammapy.estimators.FluxPoints`
        Flux points of the target.
    fluxes, spurious_flux : `~astropy.table.Table`
        Tables "flux" and "spurious_flux" of a result.

    Returns
    -------
    table : `~astropy.table.Table`
        Flux points, with the columns ``flux_sys_errn``, ``flux_sys_errp`` and
        ``flux_sys_ul``.

    Raises
    ------
    ValueError
        If the fluxes are not those through the target's IRFs, or if there is no such
        band of energy.
    """
    if TARGET not in fluxes["name"]:
        raise ValueError(
            "The spurious flux is that through the exposure of the OFF observations. "
            "Give the datasets of the target to MimicSystematicsEstimator.run."
        )
    table = flux_points.to_table(sed_type="flux")
    edges, bands = (
        np.transpose([_[name].quantity.to_value("TeV") for name in ("e_min", "e_max")])
        for _ in (table, spurious_flux)
    )
    rows = [_find_band(_, bands) for _ in edges]
    for name in COLUMNS:
        values = spurious_flux[name].quantity[rows]
        table[f"flux_{name}"] = values.to(table["flux"].unit)
    return table


def _find_band(edges, bands):
    """Index of the band with these edges in TeV."""
    distance = np.abs(np.log(bands / edges)).max(axis=1)
    idx = np.argmin(distance)
    if distance[idx] > EDGE_TOLERANCE:
        known = ", ".join(f"{low:.4g} to {high:.4g}" for low, high in bands)
        low, high = edges
        raise ValueError(
            f"There is no systematic error of the flux from {low:.4g} to {high:.4g} "
            f"TeV, only {known} TeV. Give the edges of the flux points as energy_edges "
            "of MimicSystematicsEstimator."
        )
    return idx
