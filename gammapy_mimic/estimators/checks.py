"""What is wrong with the datasets that an estimator is given."""

import logging
from collections import Counter

import numpy as np
from gammapy.datasets import Datasets

from ..plan import NO_PARTNER

__all__ = ["check_datasets", "get_repetition", "to_sets"]

log = logging.getLogger(__name__)


def to_sets(mimic_datasets):
    """Make a dictionary of datasets by mimic set.

    Parameters
    ----------
    mimic_datasets : list or dict of `~gammapy.datasets.Datasets`
        Datasets of each mimic set.

    Returns
    -------
    sets : dict of `~gammapy.datasets.Datasets`
        Datasets by mimic set, numbered from 1 if they have no name.

    Raises
    ------
    ValueError
        If there are fewer than two sets.
    """
    if not isinstance(mimic_datasets, dict):
        mimic_datasets = dict(enumerate(mimic_datasets, start=1))
    if len(mimic_datasets) < 2:
        raise ValueError(
            f"Errors come from the scatter between mimic sets, and there is "
            f"{len(mimic_datasets)}. Make at least two, better five."
        )
    if len(mimic_datasets) == 2:
        log.warning("Two mimic sets give poor errors. Make more, better five.")
    return {name: Datasets(values) for name, values in mimic_datasets.items()}


def check_datasets(groups):
    """Raise an error for datasets that cannot be compared.

    Parameters
    ----------
    groups : list of `~gammapy.datasets.Datasets`
        Datasets of each mimic set and of the target.

    Raises
    ------
    ValueError
        If a group is empty, a dataset has no background, or classes differ.
    """
    if not all(len(_) for _ in groups):
        numbers = [len(_) for _ in groups]
        raise ValueError(f"A mimic set, or the target, has no datasets: {numbers}.")
    for dataset in (_ for group in groups for _ in group):
        if dataset.stat_type == "cash" and dataset.background is None:
            raise ValueError(f"The dataset {dataset.name} has no background.")
        if dataset.stat_type == "wstat" and dataset.counts_off is None:
            raise ValueError(f"The dataset {dataset.name} has no OFF counts.")
    names = {type(dataset).__name__ for group in groups for dataset in group}
    if len(names) > 1:
        raise ValueError(
            f"The datasets are of different classes, {sorted(names)}. Reduce targets "
            "and mimics with the same configuration."
        )


def get_repetition(datasets):
    """Get the mean number of times that an OFF observation is there.

    Parameters
    ----------
    datasets : list of `~gammapy.datasets.Dataset`
        Datasets of all mimic sets.

    Returns
    -------
    repetition : float
        Mean over all observations that have a partner, 1 if none is known.
    """
    tables = [_.meta_table for _ in datasets]
    if any(_ is None or "OFF_OBS_ID" not in _.colnames for _ in tables):
        return 1.0
    counts = Counter(int(_) for table in tables for _ in np.ravel(table["OFF_OBS_ID"]))
    # those without a partner are many, and not one that is used often
    counts.pop(NO_PARTNER, None)
    numbers = np.array(list(counts.values()))
    if not len(numbers):
        return 1.0
    return float(np.sum(numbers**2) / np.sum(numbers))
