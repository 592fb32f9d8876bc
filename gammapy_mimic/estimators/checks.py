"""What is wrong with the datasets that an estimator is given."""

import copy
import itertools
import logging
from collections import Counter
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from gammapy.maps import Map

from ..data.lazy_datasets import LazyDatasets
from ..data.meta_tables import LOST_MAX, UNMATCHED, UNTESTED, Loss, find_losses
from ..data.obs_ids import NO_PARTNER, shorten
from ..data.prediction import (
    describe_bins,
    find_missing_bins,
    get_predicted_mask,
    get_safe_mask,
)
from ..selection.plan import MimicPlan
from .measurement import ALL
from .tables import TARGET, get_name

__all__ = [
    "check_datasets",
    "get_off_obs_ids",
    "get_repetition",
    "leave_out_questionable",
    "mask_unpredicted",
    "tabulate_losses",
    "to_sets",
]

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
        If there are no sets, or one has the name of something else, or one that FITS
        does not keep.
    """
    if not isinstance(mimic_datasets, dict):
        mimic_datasets = dict(enumerate(mimic_datasets, start=1))
    names = [get_name(_) for _ in mimic_datasets]
    if not names or len({*names, ALL, TARGET}) < len(names) + 2:
        raise ValueError(
            f"There must be one mimic set or more, with names of their own, and not "
            f"{ALL!r} or {TARGET!r}. Got {names}."
        )
    changed = [name for name in names if not name or name != name.strip()]
    if changed:
        raise ValueError(
            "Names of mimic sets must not be empty, begin or end with spaces, which "
            f"FITS does not keep. Got {changed}."
        )
    if len(names) == 1:
        log.warning(
            "There is one mimic set: errors from the scatter between sets are not "
            "known. Make more, better five."
        )
    if len(names) == 2:
        log.warning("Two mimic sets give poor errors. Make more, better five.")
    return {
        name: LazyDatasets.create(values) for name, values in mimic_datasets.items()
    }


def check_datasets(groups):
    """Raise an error for datasets that cannot be compared.

    Parameters
    ----------
    groups : dict of `~gammapy.datasets.Datasets`
        Datasets of each mimic set and of the target.

    Raises
    ------
    ValueError
        If a group is empty, a dataset has no background, or classes differ.
    """
    for name, group in groups.items():
        if not len(group):
            raise ValueError(f"{name} has no datasets.")
    names = set()
    for dataset in LazyDatasets.join(groups.values()):
        names.add(type(dataset).__name__)
        if dataset.stat_type != "wstat" and dataset.background is None:
            raise ValueError(f"The dataset {dataset.name} has no background.")
        if dataset.stat_type == "wstat" and dataset.counts_off is None:
            raise ValueError(f"The dataset {dataset.name} has no OFF counts.")
    if len(names) > 1:
        raise ValueError(
            f"The datasets are of different classes, {sorted(names)}. Reduce targets "
            "and mimics with the same configuration."
        )


def mask_unpredicted(datasets):
    """Leave out the bins of datasets that have no prediction of the background.

    Parameters
    ----------
    datasets : `~gammapy_mimic.data.lazy_datasets.LazyDatasets`
        Datasets. Not changed.

    Returns
    -------
    datasets : `~gammapy_mimic.data.lazy_datasets.LazyDatasets`
        The same, or copies with a tighter ``mask_safe``, with a warning. All have one.
    """
    items = []
    for dataset, item in zip(datasets, datasets.items, strict=True):
        n_lost = np.count_nonzero(get_safe_mask(dataset) > get_predicted_mask(dataset))
        if n_lost:
            log.warning(
                f"{n_lost} bins of the dataset {dataset.name!r} have no prediction of "
                "the background, and are left out."
            )
        # Gammapy would stack nothing of a dataset that has no mask
        is_whole = not n_lost and dataset.mask_safe is not None
        items.append(item if is_whole else MaskedDataset(LazyDatasets([item])))
    return LazyDatasets(items)


class MaskedDataset(NamedTuple):
    """Dataset without the bins that have no prediction of the background."""

    datasets: LazyDatasets

    def load(self):
        """Make the dataset."""
        # a shallow copy, as all but two maps stay
        dataset = copy.copy(self.datasets[0])
        geom, background = dataset.counts.geom, dataset.background
        predicted = get_predicted_mask(dataset)
        mask = get_safe_mask(dataset) & predicted
        dataset.mask_safe = Map.from_geom(geom, data=mask)
        if dataset.stat_type != "wstat":
            # the correlation with a circle spreads NaN to all pixels around
            data = np.where(predicted, background.data, 0)
            dataset.background = Map.from_geom(geom, data=data)
        return dataset


def get_off_obs_ids(sets, plan=None):
    """Get the OFF observations that the datasets of mimic sets were made of.

    Parameters
    ----------
    sets : dict of `~gammapy.datasets.Datasets`
        Datasets by mimic set.
    plan : `~gammapy_mimic.selection.MimicPlan`, optional
        Plan, or what makes one, with the same names of mimic sets. Default is none: the
        meta tables tell.

    Returns
    -------
    off_obs_ids : list of list of int
        OFF observations of each dataset, those of the first set first: one for each of
        its observations, -1 where there is no partner. Empty where they are not known.

    Raises
    ------
    ValueError
        If the plan has no such set, or a dataset does not tell its observations.
    """
    plan = None if plan is None else MimicPlan.create(plan)
    column = "OFF_OBS_ID" if plan is None else "OBS_ID"
    off_obs_ids = []
    for name, datasets in sets.items():
        partners = None if plan is None else plan.partners(name)
        for dataset in datasets:
            table = dataset.meta_table
            names = [] if table is None else table.colnames
            # stacking fills in -1 for what does not know its set
            is_mixed = "MIMIC_SET" in names and NO_PARTNER in table["MIMIC_SET"]
            if column not in names or is_mixed:
                if plan is not None:
                    raise ValueError(
                        f"The dataset {dataset.name!r} has no meta_table with OBS_ID, "
                        "which tells its partner in the plan."
                    )
                off_obs_ids.append([])
                continue
            values = [int(_) for _ in np.ravel(table[column])]
            if partners is not None:
                values = [partners.get(_, NO_PARTNER) for _ in values]
            off_obs_ids.append(values)
    return off_obs_ids


def leave_out_questionable(sets, plan=None):
    """Leave out the datasets of mimics whose OFF observation is not like the target.

    Parameters
    ----------
    sets : dict of `~gammapy.datasets.Datasets`
        Datasets by mimic set.
    plan : `~gammapy_mimic.selection.MimicPlan`, optional
        Plan, or what makes one. Default is none: nothing is left out.

    Returns
    -------
    sets : dict of `~gammapy.datasets.Datasets`
        Those that are made of other observations than those with the status "large_kl".
        If they are stacked with others they stay, with a warning.

    Raises
    ------
    ValueError
        If nothing is left of a set.
    """
    if plan is None:
        return sets
    plan, result, stacked = MimicPlan.create(plan), {}, set()
    for name, datasets in sets.items():
        trusted = plan.partners(name, questionable=False)
        poor = set(plan.partners(name)) - set(trusted)
        kept = []
        for idx, dataset in enumerate(datasets):
            table = dataset.meta_table
            is_known = table is not None and "OBS_ID" in table.colnames
            obs_ids = {*map(int, np.ravel(table["OBS_ID"]))} if is_known else set()
            if obs_ids - poor or not obs_ids:
                kept.append(idx)
                stacked |= obs_ids & poor
        result[name] = datasets.take(kept)
        if not kept:
            raise ValueError(
                f"Mimic set {name}: all OFF observations differ too much from their "
                "targets, STATUS large_kl. Exclude the sources of the targets, or make "
                "the plan with a larger kl_max, or None."
            )
    if stacked:
        log.warning(
            f"OBS_ID {shorten(sorted(stacked))}: the OFF observation differs by too "
            "much, STATUS large_kl, and is stacked with others. Stack without it."
        )
    return result


def get_repetition(off_obs_ids):
    """Get the mean number of times that an OFF observation is there.

    Parameters
    ----------
    off_obs_ids : list of list of int
        OFF observations of `get_off_obs_ids`.

    Returns
    -------
    repetition : float
        Mean over all observations that have a partner, 1 if none is known.
    """
    counts = Counter(itertools.chain(*off_obs_ids))
    # those without a partner are many, and not one that is used often
    counts.pop(NO_PARTNER, None)
    numbers = np.array(list(counts.values()))
    if not len(numbers):
        return 1.0
    # by event: an observation that is there n times has n times the events
    return float(np.sum(numbers**2) / np.sum(numbers))


def tabulate_losses(groups, stacked):
    """Tabulate what is lost for lack of a prediction, and what sets do not share.

    Parameters
    ----------
    groups : dict of `~gammapy.datasets.Datasets`
        Datasets of each mimic set and of the target, by name.
    stacked : dict of `~gammapy.datasets.MapDataset` or of `~gammapy.datasets.Datasets`
        The same, stacked, or spectra.

    Returns
    -------
    table : `~astropy.table.Table` or None
        Losses with the ``name`` of the set, see `~gammapy_mimic.data.meta_tables.Loss`.
        None if there are none.
    """
    rows = [
        {"name": name} | loss._asdict()
        for name, values in groups.items()
        for loss in (
            *find_losses([_.meta_table for _ in values]),
            *_find_unmatched(name, stacked),
        )
    ]
    return Table(rows) if rows else None


def _find_unmatched(name, stacked):
    """Find what a mimic set does not test of the target, and what tests nothing."""
    if name == TARGET or TARGET not in stacked:
        return []
    target, mimics = (LazyDatasets.create(stacked[_]) for _ in (TARGET, name))
    # spectra may be binned each in its own way
    if len({_.counts.data.shape for _ in (*target, *mimics)}) > 1:
        return []
    losses = []
    for cause, *groups in ((UNTESTED, target, mimics), (UNMATCHED, mimics, target)):
        counts, mask, is_missing = find_missing_bins(*groups)
        n_missing, n_all = (float(counts[_].sum()) for _ in (is_missing, mask))
        if n_missing > LOST_MAX * n_all:
            bins = describe_bins(target[0].counts.geom, mask, is_missing)
            fraction = n_missing / n_all
            losses.append(Loss(NO_PARTNER, int(n_missing), fraction, bins, cause))
    return losses
