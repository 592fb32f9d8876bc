"""Where a dataset has a prediction of its background, and which bins others lack."""

import numpy as np

__all__ = [
    "describe_bins",
    "find_missing_bins",
    "get_predicted_mask",
    "get_safe_mask",
]


def get_safe_mask(dataset):
    """Get the safe mask of a dataset.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset`
        Dataset.

    Returns
    -------
    mask : `~numpy.ndarray` of bool
        Data of ``mask_safe``, not a copy, all True for none. Shape of the counts.
    """
    if dataset.mask_safe is None:
        return np.ones(dataset.counts.data.shape, dtype=bool)
    return dataset.mask_safe.data.astype(bool, copy=False)


def get_predicted_mask(dataset):
    """Get where a dataset has a prediction of the background.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.MapDatasetOnOff`
        Dataset with a background, or with acceptances.

    Returns
    -------
    mask : `~numpy.ndarray` of bool
        True where the background, or with OFF counts each acceptance, is a positive
        number. Shape of the counts. All True for a dataset without background.
    """
    maps = [dataset.background]
    if dataset.stat_type == "wstat":
        maps = [dataset.acceptance, dataset.acceptance_off]
    mask = np.ones(dataset.counts.data.shape, dtype=bool)
    for map_ in maps:
        if map_ is not None:
            mask &= (map_.data > 0) & (map_.data < np.inf)
    return mask


def find_missing_bins(datasets, others):
    """Find the bins of a group of datasets that another group does not have.

    There, none of the others has a prediction of the background, or they have no event
    of that energy, at any position.

    Parameters
    ----------
    datasets, others : list of `~gammapy.datasets.MapDataset`
        Datasets of one geometry, such as those of the target and of a mimic set.

    Returns
    -------
    counts : `~numpy.ndarray`
        Counts of the first group. Shape of the counts.
    mask : `~numpy.ndarray` of bool
        Bins that are safe for it.
    is_missing : `~numpy.ndarray` of bool
        Those of them that the others do not have.
    """
    mask = np.any([get_safe_mask(_) for _ in datasets], axis=0)
    counts = np.sum([_.counts.data * get_safe_mask(_) for _ in datasets], axis=0)
    has_prediction, has_event = np.zeros_like(mask), np.zeros_like(mask)
    for dataset in others:
        safe = get_safe_mask(dataset)
        has_prediction |= safe & get_predicted_mask(dataset)
        has_event |= safe & (dataset.counts.data > 0)
        if dataset.stat_type == "wstat":
            has_event |= safe & (dataset.counts_off.data > 0)
    axes = tuple(range(1, mask.ndim))
    has_event = has_event.any(axis=axes, keepdims=True)
    return counts, mask, mask & ~(has_prediction & has_event)


def describe_bins(geom, before, lost):
    """Describe bins: energies that are lost completely, and the part of the others.

    Parameters
    ----------
    geom : `~gammapy.maps.Geom`
        Geometry, with an energy axis.
    before : `~numpy.ndarray` of bool
        Bins that were there. Shape of the geometry.
    lost : `~numpy.ndarray` of bool
        Those of them that are lost. Same shape.

    Returns
    -------
    text : str
        Text, "" if nothing is lost.
    """
    axes = tuple(range(1, lost.ndim))
    is_full = lost.any(axis=axes) & ~(before & ~lost).any(axis=axes)
    edges = geom.axes["energy"].edges.to_value("TeV")
    steps = np.flatnonzero(np.diff(np.r_[False, is_full, False]))
    parts = [
        f"{edges[start]:.3g} to {edges[stop]:.3g} TeV"
        for start, stop in steps.reshape(-1, 2)
    ]
    n_other = lost[~is_full].sum()
    if n_other:
        fraction = n_other / before[~is_full].sum()
        parts.append(f"{fraction:.1%} of the {'other ' if parts else ''}bins")
    return ", ".join(parts)
