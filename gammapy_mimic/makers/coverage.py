"""Counts that a background has no prediction for: left out, and said to be.

Gammapy masks bins without background in silence. An observation can lose most of its
counts that way, and a mimic set most of its observations, where the IRF, the template
or the acceptance of a ring does not cover the dataset.
"""

import inspect

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

from ..data.meta_tables import NO_LOSS
from ..data.prediction import describe_bins, get_predicted_mask, get_safe_mask

__all__ = [
    "CoverageMaker",
    "CoveredSafeMaskMaker",
    "add_coverage",
]

BACKGROUND_MAKERS = (
    AdaptiveRingBackgroundMaker,
    FoVBackgroundMaker,
    PhaseBackgroundMaker,
    ReflectedRegionsBackgroundMaker,
    RingBackgroundMaker,
)


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
        are in a `CoverageMaker`. Without a safe mask, so is the maker of the maps.
    """
    covered = list(makers)
    for idx, maker in enumerate(makers):
        # a subclass may make another mask, which is to stay
        if type(maker) is SafeMaskMaker:
            covered[idx] = CoveredSafeMaskMaker.from_maker(maker)
        elif isinstance(maker, BACKGROUND_MAKERS):
            covered[idx] = CoverageMaker(maker)
    if not any(isinstance(maker, CoveredSafeMaskMaker) for maker in covered):
        covered[0] = CoverageMaker(covered[0], "background")
    return covered


class CoveredSafeMaskMaker(SafeMaskMaker):
    """Safe mask that notes the counts which it leaves out for lack of a prediction.

    Mask and parameters are those of `~gammapy.makers.SafeMaskMaker`. The background is
    set to 0 where it is not a number, so that sums are numbers. The meta table gets the
    columns of `~gammapy_mimic.data.meta_tables.Loss`.
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
        before = get_safe_mask(dataset).copy()
        dataset = super().run(dataset, observation)
        after = get_safe_mask(dataset)
        _set_finite(dataset)
        if before.any() and not after.any():
            # the methods that mask all when they are alone, or else all of them
            causes = []
            for method in sorted(self.methods):
                maker = self.from_maker(self)
                maker.methods = {method}
                copied = dataset.copy()
                copied.mask_safe = None
                alone = SafeMaskMaker.run(maker, copied, observation).mask_safe
                if not alone.data.any():
                    causes.append(method)
            cause = ", ".join(causes or sorted(self.methods))
            _note_loss(dataset, before, after, cause)
            return dataset
        return _tighten_mask(dataset, after, "background")


class CoverageMaker(Maker):
    """Maker of a background that notes the counts which it has no prediction for.

    These are masked. The meta table gets the columns of
    `~gammapy_mimic.data.meta_tables.Loss`.

    Parameters
    ----------
    maker : `~gammapy.makers.Maker`
        Maker, such as `~gammapy.makers.RingBackgroundMaker`.
    cause : str, optional
        What has no prediction, for the meta table. Default is the tag of the maker.
    """

    tag = "CoverageMaker"

    def __init__(self, maker, cause=None):
        self.maker = maker
        self.cause = maker.tag if cause is None else cause

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
        before = get_safe_mask(dataset).copy()
        dataset = self.maker.run(dataset, observation)
        # so Gammapy leaves it where there is no room for a reflected region
        if dataset.stat_type == "wstat" and dataset.counts_off is None:
            dataset.counts_off = Map.from_geom(dataset.counts.geom)
        _set_finite(dataset)
        return _tighten_mask(dataset, before, self.cause)


def _tighten_mask(dataset, before, cause):
    """Mask what has no prediction, and note what is lost of the mask before."""
    after = get_safe_mask(dataset) & get_predicted_mask(dataset)
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
        # a part of what the makers before have left
        kept = (1 - table["LOST_FRACTION"][0]) * (1 - fraction)
        table["LOST_COUNTS"] = [int(table["LOST_COUNTS"][0] + n_lost)]
        table["LOST_FRACTION"] = [float(1 - kept)]
        # two causes are rare: the later one has what the first has left
        if n_lost or not after.any():
            table["LOST_BINS"] = [describe_bins(dataset.counts.geom, before, lost)]
            table["LOST_CAUSE"] = [cause]
    dataset.meta_table = table
