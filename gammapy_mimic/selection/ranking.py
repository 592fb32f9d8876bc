"""Rank OFF observations by how alike their background is to that of a target."""

import astropy.units as u
import numpy as np
from astropy.table import Table

from ..data.irfs import is_in_safe_range
from ..utils.coordinates import from_polar, get_ring_area, to_fov_lon_lat
from .divergence import CountsComparison, compare_counts, kl_divergence
from .veto import N_SIGMA, find_refused

__all__ = [
    "KL_MAX",
    "P_VALUE_MIN",
    "RANKINGS",
    "compare_observations",
    "compare_predictions",
    "find_status",
    "get_common_masks",
    "get_seen_mask",
    "predict_counts",
    "rank_observations",
]

KL_MAX = 0.00125
"""Default for the largest divergence of a good pair: shapes that differ by 5% rms.

That of pairs of OFF runs of H.E.S.S. DL3 DR1 which the default criteria match is 0.0005
on average, shapes that differ by 3.3% rms."""

P_VALUE_MIN = 0.05
"""P-value below which the difference of a pair is not put down to chance."""

RANKINGS = ("conditions", "kl")
"""What puts candidates in order: DISTANCE or KL_CORR."""

MIN_COVERING = (4, 5)
"""Part of the candidates that must cover the common bins, as a fraction."""

FORMATS = {
    **dict.fromkeys(("DISTANCE", "RATE_RATIO", "LIVETIME_RATIO"), (None, ".2f")),
    **dict.fromkeys(("KL_DIV", "KL_CORR", "P_VALUE", "DELTA_RMS"), (None, ".4f")),
    "DELTA_ZENITH": ("deg", ".2f"),
    "ENERGY_MIN": ("TeV", ".3g"),
    **dict.fromkeys(("ONTIME", "LIVETIME"), ("s", ".2f")),
}
"""Unit and format of columns of a ranking."""

FIELD_COUNTS = 10
"""Expected counts in a ring from which none is taken as the end of a field of view.
Chance gives none with a probability of 5e-5."""

N_BLOCK = 16_384
"""Bins of candidates that are compared at once: what they need fits into the cache."""

N_BITS = 31
"""Criteria of which one number tells all, with room for a number of each candidate."""

RANGE = ("ENERGY_MIN", "ENERGY_MAX")
"""Columns of an index with the safe range of energies."""


def get_seen_mask(counts, fraction, total=None):
    """Get the rings of offset that observations see: open, and in the field of view.

    A field of view ends after the last ring with events, if more would be expected in
    the next: `FIELD_COUNTS`, by the ratio of that ring to all further in, in all
    observations together. Where fewer are expected, none may be chance, and the ring
    counts as seen. So does a ring in whose middle a field ends: its counts then tell.

    Parameters
    ----------
    counts : `~numpy.ndarray`
        Counts of each observation in rings, of all energies. Shape (n_obs, n_offset).
    fraction : `~numpy.ndarray`
        Part of each ring that is not masked. Same shape.
    total : `~numpy.ndarray`, optional
        Counts of all observations together, if these are a part of them. Shape
        (n_offset,). Default is the sum of ``counts``.

    Returns
    -------
    seen : `~numpy.ndarray` of bool
        Whether a ring is seen. Same shape as ``counts``.
    """
    total = counts.sum(axis=0) if total is None else total
    further_in, total_in = (np.cumsum(_, axis=-1) - _ for _ in (counts, total))
    ratio = np.divide(total, total_in, out=np.zeros(len(total)), where=total_in > 0)
    is_last = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1] == 0
    ends = is_last & (further_in * ratio * fraction >= FIELD_COUNTS)
    return (fraction > 0) & ~np.logical_or.accumulate(ends, axis=1)


def get_common_masks(weights, energies, rings, off_energies, off_rings, accepted):
    """Get the bins in which all candidates of a target are compared.

    All in the same ones: with fewer counts a candidate seems more alike, by chance. The
    bins are neighbouring energies times neighbouring rings of the target. Of all such
    choices that four fifths of the candidates cover completely (rounded up: all, if
    they are fewer than five), it is the one with most of the target's counts; then the
    one that more candidates cover, with more bins, at lower energies and offsets.
    If no choice has so many, it is one that as many as possible cover.

    Candidates that share no bin with the target do not count. Neither the order nor the
    counts of candidates matter.

    Parameters
    ----------
    weights : `~numpy.ndarray`
        Counts of the target. Shape (n_energy, n_offset).
    energies, rings : `~numpy.ndarray` of bool
        Energy bins in the target's safe range, and rings that it sees. Shapes
        (n_energy,) and (n_offset,).
    off_energies, off_rings : `~numpy.ndarray` of bool
        The same of the candidates. Shapes (n_off, n_energy) and (n_off, n_offset).
    accepted : `~numpy.ndarray` of bool
        Which candidates the criteria accept; if none, all count. Shape (n_off,).

    Returns
    -------
    bins : `~numpy.ndarray` of bool
        Common bins, two or more, or none if there are no counts in common. Shape
        (n_energy, n_offset).
    covers : `~numpy.ndarray` of bool
        Whether a candidate covers all of them. Shape (n_off,).
    """
    off_energies, off_rings = off_energies & energies, off_rings & rings
    shares = off_energies.any(axis=1) & off_rings.any(axis=1)
    counting = shares & accepted if np.any(shares & accepted) else shares
    choices, covering = [], []
    for own, off in ((energies, off_energies), (rings, off_rings)):
        # all runs of neighbours, of shape (n_runs, n_bins)
        idx = np.flatnonzero(own)
        first, last = (idx[_][:, np.newaxis] for _ in np.triu_indices(len(idx)))
        bins = np.arange(len(own))
        choices.append(own & (bins >= first) & (bins <= last))
        is_missing = choices[-1].astype(float) @ ~off[counting].T
        covering.append((is_missing == 0).astype(float))
    number = covering[0] @ covering[1].T
    counts = choices[0] @ weights @ choices[1].T
    n_bins = np.outer(*(_.sum(axis=1) for _ in choices))

    part, whole = MIN_COVERING
    enough = -(-np.sum(counting) * part // whole)
    valid = (number > 0) & (counts > 0) & (n_bins > 1)
    if not valid.any():
        return np.zeros(weights.shape, dtype=bool), np.zeros(len(shares), dtype=bool)
    keys = [-np.arange(valid.size), n_bins, number, counts, np.minimum(number, enough)]
    order = np.lexsort([_.ravel() for _ in (*keys, valid)])
    selected = np.unravel_index(order[-1], valid.shape)
    energies, rings = (_[idx] for _, idx in zip(choices, selected, strict=True))
    covers = np.all(off_energies >= energies, axis=1)
    return np.outer(energies, rings), covers & np.all(off_rings >= rings, axis=1)


def compare_observations(target, off, bins, covers):
    """Compare the counts of a target with those of OFF observations.

    Only the part of each ring of offset counts that no exclusion region covers. They
    are compared in blocks, so that memory does not grow with the archive.

    Parameters
    ----------
    target : `~gammapy_mimic.selection.OffIndex`
        Index with the target as its only row.
    off : `~gammapy_mimic.selection.OffIndex`
        Index of the OFF observations, with the same bins.
    bins, covers : `~numpy.ndarray` of bool
        Common bins, and the candidates that cover them, see `get_common_masks`.

    Returns
    -------
    comparison : `~gammapy_mimic.selection.divergence.CountsComparison`
        Comparison with each OFF observation. NaN for those that do not cover the bins,
        and for a target without counts.
    """
    blank, none = np.full((6, len(off)), np.nan), np.zeros((2, len(off)))
    comparison = CountsComparison(*blank, *none)
    rows, n_block = np.flatnonzero(covers), max(N_BLOCK // bins.size, 1)
    if not target.counts.any():
        return comparison
    for block in np.split(rows, np.arange(n_block, len(rows), n_block)):
        compared = compare_counts(
            target.counts[0],
            off.counts[block],
            fraction=target.fraction[:, np.newaxis] * bins,
            fraction_off=off.fraction[block][:, np.newaxis] * bins,
        )
        for values, found in zip(comparison, compared, strict=True):
            values[block] = found
    return comparison


def compare_predictions(predicted, predicted_off, bins, covers):
    """Compare the counts that background IRFs predict. They have no noise.

    Parameters
    ----------
    predicted : `~numpy.ndarray`
        Predicted counts of the target in a time. Shape (n_energy, n_offset).
    predicted_off : `~numpy.ndarray`
        The same of the candidates. Shape (n_off, n_energy, n_offset).
    bins, covers : `~numpy.ndarray` of bool
        Common bins, and the candidates that cover them, see `get_common_masks`.

    Returns
    -------
    comparison : `~gammapy_mimic.selection.divergence.CountsComparison`
        Comparison with each OFF observation, without a p-value, as if counts were
        infinite. NaN for those that do not cover the bins, or predict nothing there.
    """
    own, off = predicted[bins], predicted_off[:, bins]
    total = np.where(covers, off.sum(axis=1), np.nan)
    usable = total > 0
    kl_div, ratio = np.full((2, len(off)), np.nan)
    if usable.any():
        shapes = off[usable] / total[usable, np.newaxis]
        kl_div[usable] = kl_divergence(own / own.sum(), shapes, axis=1)
        ratio[usable] = total[usable] / own.sum()
    delta_rms = np.sqrt(2 * np.maximum(kl_div, 0))
    blank, many = np.full(len(off), np.nan), np.full(len(off), np.inf)
    noise = np.zeros(len(off))
    return CountsComparison(
        kl_div, kl_div, blank, delta_rms, noise, ratio, n=many, m=many
    )


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
    edges, offset = (
        _.to_value("deg") for _ in (fine_axis.edges, fine_axis.center[:, np.newaxis])
    )
    if bkg.has_offset_axis:
        position = {"offset": offset * u.deg}
    else:
        azimuth = np.linspace(0, 2 * np.pi, n_angles, endpoint=False)
        lon, lat = to_fov_lon_lat(from_polar(offset, azimuth))
        position = {"fov_lon": lon * u.deg, "fov_lat": lat * u.deg}
    energy = energy_axis.edges[:, np.newaxis, np.newaxis]
    rate = bkg.integrate_log_log(energy=energy, axis_name="energy", **position)
    rate = np.nan_to_num(rate.to_value("s-1 sr-1")).mean(axis=2)
    counts = rate * get_ring_area(edges[:-1], edges[1:])
    counts = counts.reshape(energy_axis.nbin, -1, n_offsets)
    return counts.sum(axis=2)


def rank_observations(
    target,
    off,
    criteria,
    kl_max=KL_MAX,
    predicted=None,
    rejected=None,
    ranking="conditions",
):
    """Rank OFF observations, best first, with the reasons of every rejection.

    Parameters
    ----------
    target : `~gammapy_mimic.selection.OffIndex`
        Index with the target as its only row.
    off : `~gammapy_mimic.selection.OffIndex`
        Index of the OFF observations, with the same bins.
    criteria : `~gammapy_mimic.selection.MatchCriteria`
        Conditions to share.
    kl_max : float, optional
        Largest KL_CORR of a good pair, None if it may have any. Default is `KL_MAX`.
    predicted : tuple of `~numpy.ndarray`, optional
        Counts that the background IRFs predict, which are compared instead: of the
        target, shape (n_energy, n_offset), and of the candidates, shape
        (n_off, n_energy, n_offset), NaN for those that the criteria reject.
    rejected : dict of `~numpy.ndarray`, optional
        What the criteria reject, if it is known. Default is to ask them.
    ranking : {"conditions", "kl"}, optional
        Whether candidates come in the order of ``DISTANCE`` or of ``KL_CORR``.
        Default is "conditions".

    Returns
    -------
    table : `~astropy.table.Table`
        ``OFF_OBS_ID``, ``DISTANCE`` (that of the conditions), ``KL_DIV``, ``KL_CORR``,
        ``P_VALUE``, ``DELTA_RMS``, ``RATE_RATIO`` (events per livetime in the common
        bins, outside all exclusion regions), ``LIVETIME_RATIO``, ``DELTA_ZENITH``,
        ``ENERGY_MIN`` (the higher of both thresholds), ``ONTIME`` (the good time) and
        ``LIVETIME`` (both OFF), ``STATUS`` (see `find_status`, or "rejected") and
        ``REASONS``, the criteria that reject. For what they accept, it is "threshold"
        if a candidate does not cover the bins in which all are compared
        (`get_common_masks`): its safe energies or its field of view are too narrow, or
        an exclusion region masks a ring. It is "no_common_counts" if there are no
        counts to compare, "rate" if there are too many or too few, and "effective_area"
        if that is too large or small. What is accepted comes first, with "large_kl" at
        its end. What the conditions reject is not compared: its divergences and
        ``RATE_RATIO`` are NaN, unless the rates of all are their own scale
        (`~gammapy_mimic.selection.MatchCriteria.needs_all_rates`).
    """
    conditions, off_conditions = target.conditions[0], off.conditions
    if rejected is None:
        skip = criteria.check_columns(target.conditions, off_conditions)
        rejected = criteria.reject(conditions, off_conditions, skip)
    rejected = dict(rejected)
    accepted = ~np.any(list(rejected.values()), axis=0)
    needs_all = criteria.needs_all_rates
    bins, covers = _make_common_masks(target, off, accepted, predicted, needs_all)
    livetime_ratio = _compare(np.divide, off_conditions, conditions, "livetime")
    if predicted is None:
        shapes = compare_observations(target, off, bins, covers)
        # counts of livetimes that may differ, as predictions are not
        rate_ratio = shapes.ratio / livetime_ratio
        variances = (1 / np.maximum(_, 1) for _ in (shapes.n, shapes.m))
        rate_noise = N_SIGMA * np.sqrt(sum(variances))
    else:
        shapes = compare_predictions(predicted[0], predicted[1], bins, covers)
        rate_ratio, rate_noise = shapes.ratio, 0
    rejected["threshold"] = accepted & ~covers & bins.any()
    is_blank = np.isnan(shapes.kl_corr) & ~rejected["threshold"]
    rejected["no_common_counts"] = accepted & is_blank
    log_ratios = {
        "rate": _get_excess(np.log(rate_ratio), rate_noise),
        "effective_area": off_conditions.get_area_ratios(conditions, bins.any(axis=1)),
    }
    for name, mask in criteria.reject_ratios(log_ratios).items():
        rejected[name] = accepted & mask
    distance = criteria.get_distances(conditions, off_conditions, log_ratios)
    is_rejected = np.any(list(rejected.values()), axis=0)
    is_refused = find_refused(shapes, ~is_rejected, kl_max)
    status = find_status(shapes.p_value, is_refused, predicted is None)
    is_large = status == "large_kl"
    status[is_rejected] = "rejected"
    key = distance if ranking == "conditions" else shapes.kl_corr
    order = np.lexsort((off.obs_ids, key, is_large, is_rejected))
    columns = {
        "OFF_OBS_ID": off.obs_ids,
        "DISTANCE": distance,
        "KL_DIV": shapes.kl_div,
        "KL_CORR": shapes.kl_corr,
        "P_VALUE": shapes.p_value,
        "DELTA_RMS": shapes.delta_rms,
        "RATE_RATIO": rate_ratio,
        "LIVETIME_RATIO": livetime_ratio,
        "DELTA_ZENITH": -_compare(np.subtract, off_conditions, conditions, "elevation"),
        "ENERGY_MIN": np.maximum(
            off.table["ENERGY_MIN"], target.table["ENERGY_MIN"][0]
        ),
        "ONTIME": off.ontime,
        "LIVETIME": _get(off_conditions, "livetime"),
        "STATUS": status,
    }
    table = Table({name: np.asarray(_)[order] for name, _ in columns.items()})
    table["REASONS"] = _describe_reasons(rejected, order)
    for name, (unit, text) in FORMATS.items():
        table[name].unit, table[name].info.format = unit, text
    return table


def _get_excess(values, noise):
    """Get what of values is beyond noise, of either sign: noise must not choose."""
    return np.sign(values) * np.maximum(np.abs(values) - noise, 0)


def _make_common_masks(target, off, accepted, predicted, needs_all):
    """Get the common bins of a target and its candidates, see `get_common_masks`.

    What is not accepted covers nothing, unless all are needed.
    """
    is_needed = accepted | needs_all
    if not is_needed.any():
        return np.zeros(off.binning.shape, dtype=bool), is_needed
    rows = np.flatnonzero(is_needed)
    weights, own, others = _find_seen(target, off, rows, predicted)
    shares = [np.any(_ & seen, axis=1) for _, seen in zip(others, own, strict=True)]
    if not np.all(shares, axis=0).any():
        # the bins of others tell that it is the threshold which rejects
        rows = np.arange(len(off))
        weights, own, others = _find_seen(target, off, rows, predicted)
    covers = np.zeros(len(off), dtype=bool)
    bins, covers[rows] = get_common_masks(weights, *own, *others, accepted[rows])
    return bins, covers & is_needed


def _find_seen(target, off, rows, predicted):
    """Find the energies and rings that a target and some of its candidates see.

    With the weights of the bins, as `get_common_masks` takes them.
    """
    edges = off.energy_axis.edges.value
    energies, off_energies = (
        is_in_safe_range(edges, *(np.asarray(_.table[name])[idx] for name in RANGE))
        for _, idx in ((target, 0), (off, rows))
    )
    if predicted is None:
        weights = target.counts[0]
        counts = np.concatenate([target.ring_counts, off.ring_counts[rows]])
        fraction = np.concatenate([target.fraction, off.fraction[rows]])
        total = target.ring_total + off.ring_total
        seen = get_seen_mask(counts, fraction, total)
    else:
        # what an IRF does not predict, its observation does not cover
        weights = predicted[0]
        values = np.concatenate([weights[np.newaxis], predicted[1][rows]])
        predicts, seen = values.sum(axis=2) > 0, values.sum(axis=1) > 0
        energies, off_energies = energies & predicts[0], off_energies & predicts[1:]
    return weights, (energies, seen[0]), (off_energies, seen[1:])


def find_status(p_value, is_refused, is_noisy=True):
    """Judge pairs by their divergence and by its significance.

    Parameters
    ----------
    p_value : `~numpy.ndarray`
        Probability of a larger divergence by chance. Shape (n,).
    is_refused : `~numpy.ndarray` of bool
        Whether the divergence is too large, by more than chance, see
        `~gammapy_mimic.selection.veto.find_refused`. Shape (n,).
    is_noisy : bool, optional
        Whether the divergence is that of counts. Default is True. What has no noise,
        and no p-value, is "ok" or "large_kl".

    Returns
    -------
    status : `~numpy.ndarray` of str
        "large_kl" for what is refused. Else "differs" if the p-value is below
        `P_VALUE_MIN`, "ok" if not, and "undecided" if there are too few counts for one.
        Shape (n,).
    """
    unknown = "undecided" if is_noisy else "ok"
    status = np.full(len(p_value), unknown, dtype="U10")
    status[p_value >= P_VALUE_MIN] = "ok"
    status[p_value < P_VALUE_MIN] = "differs"
    status[is_refused] = "large_kl"
    return status


def _describe_reasons(rejected, rows):
    """Names of the criteria that reject, such as "airmass, rate". Shape (n_rows,)."""
    names, masks = np.array(list(rejected)), np.array(list(rejected.values()))
    # one number a candidate, as a search for equal columns takes ten times as long
    keys = np.zeros(len(rows), dtype=int)
    for part in np.split(masks, np.arange(N_BITS, len(masks), N_BITS)):
        keys = keys << len(part) | (1 << np.arange(len(part))) @ part
        _, first, keys = np.unique(keys, return_index=True, return_inverse=True)
    return np.array([", ".join(names[_]) for _ in masks.T[first]])[keys[rows]]


def _get(conditions, name):
    values = getattr(conditions, name)
    return np.full(len(conditions), np.nan) if values is None else values


def _compare(function, off, target, name):
    if getattr(target, name) is None:
        return np.full(len(off), np.nan)
    return function(_get(off, name), getattr(target, name))
