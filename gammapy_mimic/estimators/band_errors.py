"""What a result says about the background in each bin of energy of a dataset."""

import astropy.units as u
import numpy as np

from .measurement import ALL

__all__ = ["find_bands", "get_band_errors"]

COLUMNS = [f"{_}{end}" for _ in ("f", "total") for end in ("", "_lo", "_hi", "_ul")]
ERROR = "error"  # of the table "covariance"


def get_band_errors(result, column, values=None):
    """Get a relative error of the background by band of energy.

    A band in which it is not measured has that of all energies.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    column : {"f", "total"}
        Column of the table "systematics".
    values : float, `~astropy.units.Quantity`, `~numpy.ndarray` or str, optional
        Errors to be taken in its place, one or one for each band, such as 0.05 or
        ``5 * u.percent``, or the name of another column, such as "f_ul". That of the
        table "covariance" is "error", with "total" for bands that it has left out.
        Default is none.

    Returns
    -------
    errors : `~numpy.ndarray`
        Errors. Shape (n_bands,), without the band of all energies unless it is alone.

    Raises
    ------
    ValueError
        If it is not measured at all, or the given values are not valid.
    """
    n_bands = len(_get_single_bands(result))
    if values is None or isinstance(values, str):
        rows = result.select("systematics", band=None, offset_band=ALL)
        name = values or column
        known = [_ for _ in COLUMNS if _.startswith(column) and _ in rows.colnames]
        known.append(ERROR)
        if name not in known:
            raise ValueError(f"Invalid {column}: {name!r}. Choose from {known}.")
        errors = np.array(rows["total" if name == ERROR else name], dtype=float)
        if name == ERROR:
            table = result.to_table("covariance")
            errors[np.isin(rows["band"], table["band"])] = table["error"]
        errors = np.where(np.isfinite(errors), errors, errors[-1])[:n_bands]
        if not np.isfinite(errors).all():
            raise ValueError(
                f"{name!r} was not measured: {rows['reason'][-1]}. Give "
                f"{column}=..., such as the upper limit of a wider band."
            )
        return errors
    try:
        errors = u.Quantity(values).to_value("")
    except (TypeError, ValueError):
        errors = np.array(np.nan)
    if errors.shape not in ((), (n_bands,)) or not np.all(
        (errors >= 0) & (errors < np.inf)
    ):
        raise ValueError(
            f"{column!r} must be a number, 0 or more, such as 0.05 or 5 * u.percent, "
            f"or one for each of the {n_bands} bands of energy, got {values!r}."
        )
    return np.broadcast_to(errors, n_bands)


def find_bands(result, axis):
    """Find the band of energy of each bin, or the nearest one.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    axis : `~gammapy.maps.MapAxis`
        Energy axis of a dataset.

    Returns
    -------
    indices : `~numpy.ndarray` of int
        Indices of `get_band_errors`. Shape (n_bins,).
    """
    edges = [_.e_max.to_value("TeV") for _ in _get_single_bands(result)[:-1]]
    return np.digitize(axis.center.to_value("TeV"), edges)


def _get_single_bands(result):
    """Bands of energy without that of all energies, unless it is the only one."""
    return result.bands[:-1] or result.bands
