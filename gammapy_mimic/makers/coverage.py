"""Counts that a background has no prediction for: left out, and said to be.

Gammapy masks bins without background in silence. An observation can lose most of its
counts that way, and a mimic set most of its observations, where the IRF, the template
or the acceptance of a ring does not cover the dataset.
"""

import inspect
import logging
from collections import defaultdict
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from gammapy.makers import (
    AdaptiveRingBackgroundMaker,
    FoVBackgroundMaker,
    PhaseBackgroundMaker,
    ReflectedRegionsBackgroundMaker,
    RingBackgroundMaker,
    SafeMaskMaker,
)
from gammapy.makers.core import Maker
from gammapy.maps import Map

__all__ = [
    "CoverageMaker",
    "CoveredSafeMaskMaker",
    "Loss",
    "add_coverage",
    "describe_loss",
    "find_losses",
    "find_predicted",
    "get_reason",
    "warn_of_losses",
]

log = logging.getLogger(__name__)

BACKGROUND_MAKERS = (
    AdaptiveRingBackgroundMaker,
    FoVBackgroundMaker,
    PhaseBackgroundMaker,
    ReflectedRegionsBackgroundMaker,
    RingBackgroundMaker,
)

LOST_MAX = 0.01
"""Part of the counts of an observation that may get lost without being named."""

NO_LOSS = {"LOST_COUNTS": 0, "LOST_FRACTION": 0.0, "LOST_BINS": "", "LOST_CAUSE": ""}
"""Columns of the meta table of a dataset, with their values where nothing is lost."""

REASONS = {
    "background": "The background IRF, or the template, does not reach over these "
    "bins. Choose a higher lowest energy, finer bins, or the safe mask 'aeff-default'.",
    "RingBackgroundMaker": "Exclusion regions cover the whole ring there. Choose a "
    "wider ring, or smaller regions.",
    "AdaptiveRingBackgroundMaker": "Exclusion regions cover the whole ring there. "
    "Choose a larger r_out_max, or smaller regions.",
    "ReflectedRegionsBackgroundMaker": "There is no reflected region outside of the "
    "exclusion mask.",
    "FoVBackgroundMaker": "There are too few counts outside of the exclusion mask to "
    "normalise the background.",
}
"""Why there is no prediction, and the way out, by `Loss.cause`."""

SAFE_MASK = (
    "The safe mask {!r} leaves no bin. Choose finer bins of energy, other methods, or "
    "other parameters of it."
)
MAX_NAMED = 5  # observations in the text of one cause


class Loss(NamedTuple):
    """Counts of an observation that its safe mask keeps, but that have no prediction.

    A field for each column of the meta table.
    """

    obs_id: int
    """Observation ID, ``OBS_ID``."""
    counts: int
    """Lost counts, ``LOST_COUNTS``."""
    fraction: float
    """Their part of those that the safe mask keeps, 1 where the dataset is masked
    completely, ``LOST_FRACTION``."""
    bins: str
    """Energies, or part of the bins, that they are from, ``LOST_BINS``."""
    cause: str
    """What has no prediction there, or masks all: "background" for the IRF or template,
    the tag of a background maker, or methods of the safe mask, ``LOST_CAUSE``."""


def find_predicted(dataset):
    """Find the bins that have a prediction of the background.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.MapDatasetOnOff`
        Dataset with a background, or with acceptances.

    Returns
    -------
    predicted : `~numpy.ndarray` of bool
        True where the background, or with OFF counts each acceptance, is a positive
        number. Shape of the counts. All True for a dataset without background.
    """
    maps = [dataset.background]
    if dataset.stat_type == "wstat":
        maps = [dataset.acceptance, dataset.acceptance_off]
    predicted = np.ones(dataset.counts.data.shape, dtype=bool)
    for map_ in maps:
        if map_ is not None:
            predicted &= np.isfinite(map_.data) & (map_.data > 0)
    return predicted


def find_losses(meta_tables, minimum=LOST_MAX):
    """Find the observations that have lost counts.

    Parameters
    ----------
    meta_tables : list of `~astropy.table.Table`
        Meta tables of datasets, stacked or not.
    minimum : float, optional
        Part of the counts that may be lost. Default is 1%.

    Returns
    -------
    losses : list of `Loss`
        Observations that have lost more, in the order of the tables.
    """
    names = ("OBS_ID", *NO_LOSS)
    losses = []
    for table in meta_tables:
        if table is not None and set(names) <= set(table.colnames):
            columns = [np.ravel(table[name]).tolist() for name in names]
            losses += [Loss(*row) for row in zip(*columns, strict=True)]
    return [_ for _ in losses if _.fraction > minimum]


def warn_of_losses(groups):
    """Log what observations have lost: a warning for each cause.

    An observation that is masked completely has a warning of its own.

    Parameters
    ----------
    groups : dict of list of `~astropy.table.Table`
        Meta tables of datasets by the name of their group, such as "mimic set 1".
    """
    by_cause = defaultdict(list)
    for name, meta_tables in groups.items():
        for loss in find_losses(meta_tables):
            text = f"{name}, {describe_loss(loss)}"
            if loss.fraction == 1:
                log.warning(f"{text}. {get_reason(loss.cause)}")
            else:
                by_cause[loss.cause].append(text)
    for cause, texts in by_cause.items():
        n_more = len(texts) - MAX_NAMED
        more = f"; and {n_more} more observations" if n_more > 0 else ""
        log.warning(f"{'; '.join(texts[:MAX_NAMED])}{more}. {get_reason(cause)}")


def describe_loss(loss):
    """Describe what an observation has lost, such as "OBS_ID 1: 5% of its counts".

    Parameters
    ----------
    loss : `Loss`
        Loss.

    Returns
    -------
    text : str
        Text.
    """
    if loss.fraction == 1:
        where = f" in {loss.bins}" if loss.bins else ""
        return f"OBS_ID {loss.obs_id}: all is masked, {loss.counts} counts{where}"
    return (
        f"OBS_ID {loss.obs_id}: {loss.fraction:.0%} of its counts ({loss.counts}) have "
        f"no prediction of the background, in {loss.bins}"
    )


def get_reason(cause):
    """Get why counts are lost, and the way out.

    Parameters
    ----------
    cause : str
        `Loss.cause`.

    Returns
    -------
    reason : str
        Sentences.
    """
    return REASONS.get(cause) or SAFE_MASK.format(cause)


def add_coverage(makers):
    """Let the makers of a chain note the counts that have no prediction.

    Parameters
    ----------
    makers : list of `~gammapy.makers.Maker`
        Makers of a `~gammapy.makers.DatasetsMaker`.

    Returns
    -------
    makers : list of `~gammapy.makers.Maker`
        Safe mask makers are `CoveredSafeMaskMaker`, makers of a background after them
        are in a `CoverageMaker`.
    """
    return [_add_coverage(maker) for maker in makers]


def _add_coverage(maker):
    if type(maker) is SafeMaskMaker:
        return CoveredSafeMaskMaker.from_maker(maker)
    if isinstance(maker, BACKGROUND_MAKERS):
        return CoverageMaker(maker)
    return maker


class CoveredSafeMaskMaker(SafeMaskMaker):
    """Safe mask that notes the counts which it leaves out for lack of a prediction.

    Mask and parameters are those of `~gammapy.makers.SafeMaskMaker`. The background is
    set to 0 where it is not a number, so that sums are numbers. The meta table gets the
    columns of `Loss`.
    """

    tag = "CoveredSafeMaskMaker"

    @classmethod
    def from_maker(cls, maker):
        """Create from a safe mask maker.

        Parameters
        ----------
        maker : `~gammapy.makers.SafeMaskMaker`
            Maker.

        Returns
        -------
        maker : `CoveredSafeMaskMaker`
            Maker with the same parameters.
        """
        names = inspect.signature(SafeMaskMaker).parameters
        return cls(**{name: getattr(maker, name) for name in names})

    @staticmethod
    def make_mask_bkg_invalid(dataset):
        """Mask nothing: bins without background are found by `run`, and counted."""
        return np.ones(dataset.counts.data.shape, dtype=bool)

    def run(self, dataset, observation=None):
        """Make the safe mask.

        Parameters
        ----------
        dataset : `~gammapy.datasets.MapDataset`
            Dataset.
        observation : `~gammapy.data.Observation`, optional
            Observation.

        Returns
        -------
        dataset : `~gammapy.datasets.MapDataset`
            Dataset with the mask.
        """
        before = _get_mask(dataset)
        dataset = super().run(dataset, observation)
        after = _get_mask(dataset)
        _set_finite(dataset)
        if before.any() and not after.any():
            _note_loss(dataset, before, after, self._find_cause(dataset, observation))
            return dataset
        return _mask_unpredicted(dataset, after, "background")

    def _find_cause(self, dataset, observation):
        """Name the methods that mask all, or else all methods."""
        alone = {}
        for method in sorted(self.methods):
            maker = self.from_maker(self)
            maker.methods = {method}
            copied = dataset.copy()
            copied.mask_safe = None
            alone[method] = SafeMaskMaker.run(maker, copied, observation).mask_safe
        methods = [name for name, mask in alone.items() if not mask.data.any()]
        return ", ".join(methods or alone)


class CoverageMaker(Maker):
    """Maker of a background that notes the counts which it has no prediction for.

    These are masked. The meta table gets the columns of `Loss`.

    Parameters
    ----------
    maker : `~gammapy.makers.Maker`
        Maker, such as `~gammapy.makers.RingBackgroundMaker`.
    """

    tag = "CoverageMaker"

    def __init__(self, maker):
        self.maker = maker

    def run(self, dataset, observation=None):
        """Make the background.

        Parameters
        ----------
        dataset : `~gammapy.datasets.MapDataset`
            Dataset.
        observation : `~gammapy.data.Observation`, optional
            Observation.

        Returns
        -------
        dataset : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.MapDatasetOnOff`
            Dataset with the background. One without OFF counts is masked.
        """
        before = _get_mask(dataset)
        dataset = self.maker.run(dataset, observation)
        if dataset.stat_type == "wstat" and dataset.counts_off is None:
            dataset.counts_off = Map.from_geom(dataset.counts.geom)
        return _mask_unpredicted(dataset, before, self.maker.tag)


def _get_mask(dataset):
    """Copy of the safe mask as an array, all True for none."""
    if dataset.mask_safe is None:
        return np.ones(dataset.counts.data.shape, dtype=bool)
    return dataset.mask_safe.data.astype(bool)


def _mask_unpredicted(dataset, before, cause):
    """Mask what has no prediction, and note what is lost of the mask before."""
    after = _get_mask(dataset) & find_predicted(dataset)
    dataset.mask_safe = Map.from_geom(dataset.counts.geom, data=after)
    _note_loss(dataset, before, after, cause)
    return dataset


def _set_finite(dataset):
    """Replace NaN of the background, which would spread by sums and convolutions."""
    if dataset.stat_type == "cash" and dataset.background is not None:
        background = dataset.background
        if not np.isfinite(background.data).all():
            data = np.nan_to_num(background.data, posinf=0, neginf=0)
            dataset.background = background.copy(data=data)


def _note_loss(dataset, before, after, cause):
    """Write to the meta table what is lost from one mask to the next."""
    table = Table() if dataset.meta_table is None else dataset.meta_table.copy()
    for name, value in NO_LOSS.items():
        if name not in table.colnames:
            table[name] = [value]
    lost = before & ~after
    if lost.any():
        counts = dataset.counts.data
        n_lost, n_before = counts[lost].sum(), counts[before].sum()
        fraction = n_lost / n_before if n_before and after.any() else 1 - after.any()
        kept = (1 - table["LOST_FRACTION"][0]) * (1 - fraction)
        table["LOST_COUNTS"] = [int(table["LOST_COUNTS"][0] + n_lost)]
        table["LOST_FRACTION"] = [float(1 - kept)]
        # two causes are rare: the later one has what the first has left
        if n_lost or not after.any():
            table["LOST_BINS"] = [_describe_bins(dataset, before, lost)]
            table["LOST_CAUSE"] = [cause]
    dataset.meta_table = table


def _describe_bins(dataset, before, lost):
    """Energies that are lost completely, and the part of the other bins."""
    axes = tuple(range(1, lost.ndim))
    is_full = lost.any(axis=axes) & ~(before & ~lost).any(axis=axes)
    edges = dataset.counts.geom.axes["energy"].edges.to_value("TeV")
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
