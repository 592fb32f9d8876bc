"""A dataset with its background down and up by the systematic error."""

import numpy as np

from .band_errors import find_bands, get_band_errors
from .copies import check_background_model, replace_parts

__all__ = ["make_low_high"]


def make_low_high(result, dataset, total=None):
    """Make a pair of datasets with the background down and up.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    dataset : `~gammapy.datasets.MapDataset`
        Dataset with a background model. Not changed.
    total : float, `~numpy.ndarray` or str, optional
        Relative error, see `~gammapy_mimic.estimators.band_errors.get_band_errors`.
        Default is the measured one.

    Returns
    -------
    low, high : `~gammapy.datasets.MapDataset`
        Datasets.

    Raises
    ------
    ValueError
        If the dataset has no background model, or if the error was not measured or is
        not valid.
    """
    check_background_model(dataset)
    axis = dataset.background.geom.axes["energy"]
    errors = get_band_errors(result, "total", total)[find_bands(result, axis)]
    errors = errors[:, np.newaxis, np.newaxis]
    # counts are not negative
    factors = np.maximum(1 - errors, 0), 1 + errors
    return tuple(
        replace_parts(dataset, background=dataset.background * _) for _ in factors
    )
