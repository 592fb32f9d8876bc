"""Copies of datasets of which a part is another one."""

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
    """Raise an error for a dataset whose background is measured, or not there.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset`
        Dataset.

    Raises
    ------
    ValueError
        If it has no background model.
    """
    # a background that is measured in the field has its errors already in it
    if dataset.stat_type == "wstat" or dataset.background is None:
        raise ValueError(
            f"The dataset {dataset.name} has no background model to be corrected."
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
