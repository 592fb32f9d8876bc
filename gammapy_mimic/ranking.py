"""Rank OFF observations by how alike their background is to that of a target."""

import hashlib
import json

import astropy.units as u
import numpy as np
from astropy.table import Table

from .divergence import compare_counts, kl_divergence

__all__ = [
    "KL_MAX",
    "P_VALUE_MIN",
    "compare_observations",
    "compare_predictions",
    "find_status",
    "make_checksum",
    "predict_counts",
    "rank_observations",
    "select_common_range",
]

KL_MAX = 0.02
"""Default for the largest KL_CORR of a good pair: shapes that differ by 20% rms.

Of the 829 pairs of OFF runs of H.E.S.S. DL3 DR1 that the default criteria match, 99%
are below 0.017 and all below 0.024; of all 1980 pairs, 10% are above 0.02."""

P_VALUE_MIN = 0.05
"""P-value below which the difference of a pair is not put down to chance."""

ENERGY_TOLERANCE = 1e-5


def select_common_range(edges, energy_min, energy_max):
    """Select the energy bins inside the safe ranges of a target and of candidates.

    Parameters
    ----------
    edges : `~numpy.ndarray`
        Edges of the energy bins. Shape (n_energy + 1,).
    energy_min, energy_max : `~numpy.ndarray`
        Range common to the target and each candidate, in the unit of the edges.
        Shape (n_candidates,).

    Returns
    -------
    selected : `~numpy.ndarray` of bool
        Whether a bin is inside. Shape (n_candidates, n_energy).
    """
    above = edges[:-1] >= energy_min[:, np.newaxis] * (1 - ENERGY_TOLERANCE)
    below = edges[1:] <= energy_max[:, np.newaxis] * (1 + ENERGY_TOLERANCE)
    return above & below


def compare_observations(target, off):
    """Compare the counts of a target with those of OFF observations.

    Only the energy bins in the safe range of both count, and only the part of each
    ring of offset that no exclusion region covers.

    Parameters
    ----------
    target : `~gammapy_mimic.index.OffIndex`
        Index with the target as its only row.
    off : `~gammapy_mimic.index.OffIndex`
        Index of the OFF observations, with the same bins.

    Returns
    -------
    comparison : `~gammapy_mimic.divergence.CountsComparison`
        Comparison with each OFF observation.
    """
    ranges = [
        np.asarray(_.table[name], dtype=float)
        for name in ("ENERGY_MIN", "ENERGY_MAX")
        for _ in (target, off)
    ]
    selected = select_common_range(
        off.energy_axis.edges.value,
        np.maximum(ranges[0], ranges[1]),
        np.minimum(ranges[2], ranges[3]),
    )[:, :, np.newaxis]
    return compare_counts(
        target.counts[0],
        off.counts,
        fraction=target.fraction[:, np.newaxis] * selected,
        fraction_off=off.fraction[:, np.newaxis] * selected,
    )


def compare_predictions(predicted, predicted_off):
    """Compare the counts that background IRFs predict. They have no noise.

    Parameters
    ----------
    predicted : `~numpy.ndarray`
        Predicted counts of the target, in any unit. Shape (n_bins,).
    predicted_off : `~numpy.ndarray`
        Predicted counts of the candidates. Shape (n_candidates, n_bins). NaN for a
        candidate that is not to be compared.

    Returns
    -------
    kl_div : `~numpy.ndarray`
        Divergence of the target from each candidate. Shape (n_candidates,).
    """
    kl_div = np.full(len(predicted_off), np.nan)
    shape = predicted / predicted.sum()
    total = predicted_off.sum(axis=1)
    usable = total > 0
    shapes = predicted_off[usable] / total[usable, np.newaxis]
    kl_div[usable] = kl_divergence(shape, shapes, axis=1)
    return kl_div


def predict_counts(bkg, energy_axis, offset_axis, n_offsets=5, n_angles=36):
    """Predict the counts of a background IRF in rings of offset.

    Parameters
    ----------
    bkg : `~gammapy.irf.Background2D` or `~gammapy.irf.Background3D`
        Background rate.
    energy_axis, offset_axis : `~gammapy.maps.MapAxis`
        Axes.
    n_offsets, n_angles : int, optional
        Points in a ring, along the offset and around. Default is 5 and 36.

    Returns
    -------
    counts : `~numpy.ndarray`
        Counts in a second. Shape (n_energy, n_offset).
    """
    fine_axis = offset_axis.upsample(n_offsets)
    offset = fine_axis.center[:, np.newaxis]
    if bkg.has_offset_axis:
        position = {"offset": offset}
    else:
        angle = np.linspace(0, 2 * np.pi, n_angles, endpoint=False) * u.rad
        lon = np.arctan2(np.sin(offset) * np.cos(angle), np.cos(offset))
        lat = np.arcsin(np.sin(offset) * np.sin(angle))
        position = {"fov_lon": lon, "fov_lat": lat}
    energy = energy_axis.edges[:, np.newaxis, np.newaxis]
    rate = bkg.integrate_log_log(energy=energy, axis_name="energy", **position)
    rate = np.nan_to_num(rate.to_value("s-1 sr-1")).mean(axis=2)
    solid_angle = 2 * np.pi * -np.diff(np.cos(fine_axis.edges))
    counts = (rate * solid_angle.value).reshape(energy_axis.nbin, -1, n_offsets)
    return counts.sum(axis=2)


def rank_observations(target, off, criteria, kl_max=KL_MAX, kl_irf=None, skip=()):
    """Rank OFF observations, best first, with the reasons of every rejection.

    Parameters
    ----------
    target : `~gammapy_mimic.index.OffIndex`
        Index with the target as its only row.
    off : `~gammapy_mimic.index.OffIndex`
        Index of the OFF observations, with the same bins.
    criteria : `~gammapy_mimic.criteria.MatchCriteria`
        Conditions to share.
    kl_max : float, optional
        Largest KL_CORR of a good pair. Default is `KL_MAX`.
    kl_irf : `~numpy.ndarray`, optional
        Divergences of the background IRFs, by which to rank instead. Shape (n_off,).
    skip : set of str, optional
        Criteria that are not applied. Default is none.

    Returns
    -------
    table : `~astropy.table.Table`
        ``OFF_OBS_ID``, ``KL_DIV``, ``KL_CORR``, ``P_VALUE``, ``DELTA_RMS``,
        ``LIVETIME_RATIO``, ``DELTA_ZENITH``, ``LIVETIME`` (OFF), ``STATUS`` ("ok",
        "undecided", "large_kl" or "rejected") and ``REASONS``, the criteria that
        reject, or "no_common_counts" if the safe energy ranges, or what the exclusion
        regions leave, have no counts in common. What is accepted comes first, by
        KL_CORR.
    """
    conditions, off_conditions = target.conditions[0], off.conditions
    rejected = criteria.reject(conditions, off_conditions, skip)
    if kl_irf is None:
        comparison = compare_observations(target, off)
        kl_div, kl_corr = comparison.kl_div, comparison.kl_corr
        p_value = comparison.p_value
        rejected["no_common_counts"] = np.isnan(kl_corr)
    else:
        kl_div = kl_corr = kl_irf
        p_value = np.full(len(off), np.nan)
    is_rejected = np.any(list(rejected.values()), axis=0)

    table = Table(
        {
            "OFF_OBS_ID": off.obs_ids,
            "KL_DIV": kl_div,
            "KL_CORR": kl_corr,
            "P_VALUE": p_value,
            "DELTA_RMS": np.sqrt(2 * np.maximum(kl_corr, 0)),
            "LIVETIME_RATIO": _compare(
                np.divide, off_conditions, conditions, "livetime"
            ),
            "DELTA_ZENITH": -_compare(
                np.subtract, off_conditions, conditions, "elevation"
            ),
            "LIVETIME": _get(off_conditions, "livetime"),
            "STATUS": find_status(kl_corr, p_value, kl_max, is_noisy=kl_irf is None),
            "REASONS": _join_reasons(rejected),
        }
    )
    table["STATUS"][is_rejected] = "rejected"
    table["DELTA_ZENITH"].unit, table["LIVETIME"].unit = "deg", "s"
    for name in ("KL_DIV", "KL_CORR", "P_VALUE", "DELTA_RMS"):
        table[name].info.format = ".4f"
    for name in ("LIVETIME_RATIO", "DELTA_ZENITH", "LIVETIME"):
        table[name].info.format = ".2f"
    order = np.lexsort((table["OFF_OBS_ID"], kl_corr, is_rejected))
    return table[order]


def find_status(kl_corr, p_value, kl_max, is_noisy=True):
    """Judge pairs by their divergence and by its significance.

    A pair whose shapes seem to differ by more than allowed, but by no more than chance
    can do, is "undecided": there are too few events to tell.

    Parameters
    ----------
    kl_corr, p_value : `~numpy.ndarray`
        Divergence, and the probability of a larger one by chance. Shape (n,).
    kl_max : float
        Largest divergence of a good pair.
    is_noisy : bool, optional
        Whether the divergence is that of counts. Default is True.

    Returns
    -------
    status : `~numpy.ndarray` of str
        "ok", "large_kl" or "undecided". Shape (n,).
    """
    status = np.full(len(kl_corr), "undecided")
    status[kl_corr <= kl_max] = "ok"
    is_large = kl_corr > kl_max
    status[is_large & (p_value < P_VALUE_MIN) if is_noisy else is_large] = "large_kl"
    return status


def make_checksum(*parts):
    """Make a text that changes when one of the inputs of a ranking does.

    Parameters
    ----------
    *parts : object
        What can be written as text.

    Returns
    -------
    checksum : str
        Hexadecimal digits.
    """
    text = json.dumps([str(_) for _ in parts])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _get(conditions, name):
    values = getattr(conditions, name)
    return np.full(len(conditions), np.nan) if values is None else values


def _compare(function, off, target, name):
    if getattr(target, name) is None:
        return np.full(len(off), np.nan)
    return function(_get(off, name), getattr(target, name))


def _join_reasons(rejected):
    """Names of what rejects each candidate, as a text."""
    names, masks = np.array(list(rejected)), np.array(list(rejected.values()))
    patterns, idx = np.unique(masks, axis=1, return_inverse=True)
    return np.array([", ".join(names[column]) for column in patterns.T])[idx.ravel()]
