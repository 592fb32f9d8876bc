"""Table of the covariance of a background between bands of energy."""

import astropy.units as u
import numpy as np

from .band_covariance import measure_band_covariance
from .bias_spread import find_reason
from .measurement import ALL
from .tables import make_table

__all__ = ["get_interpolation", "get_node_prior", "tabulate_covariance"]

MIN_BANDS = 2
MIN_SETS = 3


def tabulate_covariance(
    bands, counts, energy, spectrum, has_places=True, target_variances=None
):
    """Tabulate the error of a background by band of energy, with its covariance.

    Bands that cannot be measured are left out.

    Parameters
    ----------
    bands : list of `~gammapy_mimic.estimators.Band`
        Bands of energy.
    counts : list of `~gammapy_mimic.estimators.counting.BandCounts`
        Counts of mimics in each of them.
    energy : `~astropy.units.Quantity`
        Energy of the bins. Shape (n_bins,).
    spectrum : `~numpy.ndarray`
        Prediction of the background in the bins. Same shape.
    has_places : bool, optional
        See `~gammapy_mimic.estimators.band_covariance.measure_band_covariance`. Default
        is True.
    target_variances : `~numpy.ndarray`, optional
        Relative variance of the target's prediction by the counts of its template.
        Shape (n_bands,). Default is that of the mimics.

    Returns
    -------
    table : `~astropy.table.Table`
        Columns of the band, its mean ``energy`` (of the logarithm, weighted with the
        background), bias ``delta`` and its error, ``spread``, the standard deviation of
        targets, ``error``, that of one more target around the measured bias, ``dof``,
        the degrees of freedom of the spread, ``template_err``, the noise of the
        target's template, which is in ``error``, not in ``spread``. A row of
        ``covariance`` belongs to ``error``, and a row of ``interpolation`` has what the
        norm at the energy of each of the bands is in the mean norm of this one. Both
        have the shape (n_bands,).

    Raises
    ------
    ValueError
        If fewer than two bands can be measured.
    """
    if target_variances is None:
        target_variances = [_.template_variance for _ in counts]
    rows = zip(bands, counts, target_variances, strict=True)
    singles = [_ for _ in rows if _[0].band != ALL]
    reasons = {band.band: _find_reason(one) for band, one, _ in singles}
    measured = [_ for _ in singles if not reasons[_[0].band]]
    if len(measured) < MIN_BANDS:
        # without a full stop, as reasons have none
        number = f"here are {len(measured)}"
        texts = [f"in the band {name} {_}" for name, _ in reasons.items() if _]
        what = f"{number}: {'; '.join(texts)}"
        if not singles:
            way_out = "energy_edges, in a configuration mimic.systematics.energy_edges"
            what = f"here is one, that of all energies. Give {way_out}"
        raise ValueError(f"A covariance is that of two or more bands of energy, {what}")
    bands, counts, target_variances = zip(*measured, strict=True)
    values = energy.to_value("TeV")
    index = _find_bands(values, bands)
    inside = (index >= 0) & (spectrum > 0)
    index, values, weights = index[inside], np.log(values[inside]), spectrum[inside]
    log_energy = np.bincount(index, weights * values) / np.bincount(index, weights)
    result = measure_band_covariance(
        [_.counts for _ in counts],
        log_energy,
        [_.norm_share for _ in counts],
        [_.template_variance for _ in counts],
        has_places,
        target_variances,
    )
    interpolation = get_interpolation(log_energy, np.exp(values), index, weights)
    rows = []
    for idx, (band, _, variance) in enumerate(measured):
        row = band._asdict() | {"energy": np.exp(log_energy[idx]) * u.TeV}
        row |= {"delta": result.delta[idx], "delta_err": result.delta_err[idx]}
        row["spread"] = np.sqrt(result.spread[idx, idx])
        row["error"] = np.sqrt(result.covariance[idx, idx])
        row["template_err"] = np.sqrt(variance)
        row |= {"dof": result.dof, "covariance": result.covariance[idx]}
        rows.append(row | {"interpolation": interpolation[idx]})
    return make_table(rows)


def _find_reason(counts):
    """Why a band cannot be measured. Empty if it can."""
    n_sets = counts.counts.counts.shape[1]
    if not counts.counts.has_runs and n_sets < MIN_SETS:
        return (
            f"there are {n_sets} mimic sets whose OFF observations are not known, "
            f"fewer than {MIN_SETS}"
        )
    return find_reason(counts.counts)


def _find_bands(energy, bands):
    """Index of the band of each energy in TeV, -1 for none."""
    index = np.full(len(energy), -1)
    for idx, band in enumerate(bands):
        low, high = (_.to_value("TeV") for _ in (band.e_min, band.e_max))
        index[(energy >= low) & (energy < high)] = idx
    return index


def get_interpolation(log_nodes, energy, index, weights):
    """Get the mean norms of bands, as a matrix that acts on the norms at nodes.

    `~gammapy.modeling.models.PiecewiseNormSpectralModel` interpolates the logarithm of
    the norm in that of energy, and is constant beyond the outer nodes. Approximation:
    norms near 1, so that the logarithm is linear.

    Parameters
    ----------
    log_nodes : `~numpy.ndarray`
        Logarithm of the energies of the nodes, one in each band. Shape (n_bands,).
    energy : `~numpy.ndarray`
        Energies of the bins, in the unit of the nodes. Shape (n_bins,).
    index : `~numpy.ndarray` of int
        Band of each bin. Same shape.
    weights : `~numpy.ndarray`
        Counts of the background in the bins. Same shape.

    Returns
    -------
    matrix : `~numpy.ndarray`
        Part of each node in the mean norm of each band. Shape (n_bands, n_bands), with
        rows that add up to 1.
    """
    nodes = np.eye(len(log_nodes))
    parts = [np.interp(np.log(energy), log_nodes, node) for node in nodes]
    sums = [np.bincount(index, weights * part) for part in parts]
    return np.transpose(sums) / np.bincount(index, weights)[:, np.newaxis]


def get_node_prior(table):
    """Get what mimics say of the norms at the energies of the bands.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table of `tabulate_covariance`.

    Returns
    -------
    mean : `~numpy.ndarray`
        Mean of the norms. Shape (n_bands,).
    covariance : `~numpy.ndarray`
        Their covariance: :math:`A^{-1} C A^{-T}`, with the interpolation A. Shape
        (n_bands, n_bands).
    """
    inverse = np.linalg.inv(table["interpolation"])
    covariance = inverse @ np.asarray(table["covariance"]) @ inverse.T
    return 1 + inverse @ np.asarray(table["delta"]), (covariance + covariance.T) / 2
