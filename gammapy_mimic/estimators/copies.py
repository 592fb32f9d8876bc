"""Copies of datasets of which a part is another one."""

import numpy as np
from gammapy.datasets import MapDataset

from ..data.prediction import get_safe_mask

__all__ = ["check_background_model", "replace_parts"]

PARTS = (
    "counts",
    "exposure",
    "background",
    "psf",
    "edisp",
    "mask_safe",
    "mask_fit",
    "gti",
    "meta_table",
    "meta",
    "stat_type",
)


def check_background_model(dataset):
    """Raise an error for what is no dataset with a background that has a model.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset`
        Dataset.

    Raises
    ------
    TypeError
        If it is no dataset of maps or a spectrum, such as several.
    ValueError
        If the background is measured, not there, or not a number in a safe bin.
    """
    if not isinstance(dataset, MapDataset):
        raise TypeError(
            "A dataset of maps or a spectrum is needed, got "
            f"{type(dataset).__name__}. Errors are those of one dataset: for several "
            "take gammapy_mimic.estimators.stack_datasets(datasets)."
        )
    # a background that is measured in the field has its errors already in it
    if dataset.stat_type == "wstat" or dataset.background is None:
        raise ValueError(
            f"The dataset {dataset.name} has no background model: one of OFF counts "
            "has a likelihood without. Use a FoV background, or the tables of the "
            "result."
        )
    n_bad = np.sum(~np.isfinite(dataset.background.data) & get_safe_mask(dataset))
    if n_bad:
        raise ValueError(
            f"The background of the dataset {dataset.name} is not a number in {n_bad} "
            "safe bins. Leave them out of mask_safe, or make the background again."
        )


def replace_parts(dataset, **parts):
    """Make a dataset with some other parts.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset`
        Dataset with a background model. Not changed.
    **parts : dict
        Arguments of `~gammapy.datasets.MapDataset`, also ``models``. All others are
        copies, but the models, which are the same objects.

    Returns
    -------
    dataset : `~gammapy.datasets.MapDataset`
        Dataset of the same name.
    """
    # a copy alone keeps the prediction of the old background in its cache
    copied = dataset.copy(name=dataset.name)
    kept = {name: getattr(copied, name) for name in PARTS}
    kept |= {"models": dataset.models, "name": dataset.name}
    return type(dataset)(**kept | parts)
