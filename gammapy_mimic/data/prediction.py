"""Where a dataset has a prediction of its background."""

import numpy as np

__all__ = ["get_predicted_mask", "get_safe_mask"]


def get_safe_mask(dataset):
    """Get the safe mask of a dataset.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset`
        Dataset.

    Returns
    -------
    mask : `~numpy.ndarray` of bool
        Copy of ``mask_safe``, all True for none. Shape of the counts.
    """
    if dataset.mask_safe is None:
        return np.ones(dataset.counts.data.shape, dtype=bool)
    return dataset.mask_safe.data.astype(bool)


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
            mask &= np.isfinite(map_.data) & (map_.data > 0)
    return mask
