"""What the meta tables of datasets tell: kept when datasets are stacked, and read.

A meta table has a row for a dataset, and once it is stacked the values of all side by
side.
"""

import copy
import logging
from collections import defaultdict
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.table import Table
from gammapy.irf import EDispKernelMap

from .headers import to_float
from .obs_ids import NO_PARTNER

__all__ = [
    "Loss",
    "describe_loss",
    "describe_losses",
    "find_losses",
    "get_reason",
    "make_range_columns",
    "make_range_keys",
    "read_losses",
    "stack_dataset",
    "warn_of_losses",
]

log = logging.getLogger(__name__)

RANGE_KEYS = {"ENERGY_MIN": "MIM_EMIN", "ENERGY_MAX": "MIM_EMAX"}
"""Columns of the meta table of a mimic that tell the energy range which is safe for
target and OFF observation, where it tests the target; and keys of its header, in TeV.
"""

FILL_VALUES = {"b": False, "i": NO_PARTNER, "u": NO_PARTNER, "f": np.nan}
"""Values for a column that a meta table does not have, by the kind of the column."""

LOST_MAX = 0.01
"""Part of the counts of an observation that may get lost without being named."""

NO_LOSS = {"LOST_COUNTS": 0, "LOST_FRACTION": 0.0, "LOST_BINS": "", "LOST_CAUSE": ""}
"""Columns of the meta table of a dataset, with their values where nothing is lost."""

UNTESTED, UNMATCHED = "mimics", "target"
"""`Loss.cause` of counts of the target that a mimic set does not test, and of counts of
a set that the target has nothing to compare with."""

UNMATCHED_TEXTS = {
    UNTESTED: "{fraction:.0%} of the target's counts ({counts}) are not tested, in "
    "{bins}",
    UNMATCHED: "{fraction:.0%} of its counts ({counts}) are where the target has none, "
    "in {bins}",
}
UNMATCHED_MAX = 0.1
"""Part of the counts that target and mimics may not share without a warning."""

REASONS = {
    UNTESTED: "Of these the mimics tell nothing. If they are below the threshold of "
    "the OFF observations, choose a higher lowest energy, or OFF observations of a "
    "lower threshold.",
    UNMATCHED: "The numbers of mimics include them. If they are below the threshold of "
    "the target, choose a higher lowest energy.",
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

    A field for each column of the meta table. Also counts that a mimic set and the
    target do not share.
    """

    obs_id: int
    """Observation ID, ``OBS_ID``. -1 for what set and target do not share."""
    counts: int
    """Lost counts, ``LOST_COUNTS``."""
    fraction: float
    """Their part of those that the safe mask keeps, 1 where the dataset is masked
    completely, ``LOST_FRACTION``."""
    bins: str
    """Energies, or part of the bins, that they are from, ``LOST_BINS``."""
    cause: str
    """What has no prediction there, or masks all: "background" for the IRF or template,
    the tag of a background maker, or methods of the safe mask, ``LOST_CAUSE``. "mimics"
    for what a set does not test, "target" for what of it tests nothing."""

    @property
    def is_told(self):
        """Whether it is worth a sentence (bool). Others stand in the table alone."""
        return self.cause not in UNMATCHED_TEXTS or self.fraction > UNMATCHED_MAX


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
            columns = [_to_plain_array(table[name]).tolist() for name in names]
            losses += [Loss(*row) for row in zip(*columns, strict=True)]
    return [_ for _ in losses if _.fraction > minimum]


def read_losses(table):
    """Read the table of losses of a result.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table with the column ``name`` and the fields of `Loss`.

    Returns
    -------
    losses : list of tuple
        Names of sets, or of the target, and `Loss`.
    """
    rows = table.iterrows("name", *Loss._fields)
    return [(str(name), Loss(*values)) for name, *values in rows]


def warn_of_losses(groups):
    """Log what observations have lost: a warning for each cause.

    An observation that is masked completely has a warning of its own.

    Parameters
    ----------
    groups : dict of list of `~astropy.table.Table`
        Meta tables of datasets by the name of their group, such as "mimic set 1".
    """
    losses = [
        (name, loss) for name, tables in groups.items() for loss in find_losses(tables)
    ]
    # what is lost whole is not to hide among the first few of a cause
    masked = [[_] for _ in losses if _[1].fraction == 1]
    for group in (*masked, [_ for _ in losses if _[1].fraction < 1]):
        for text in describe_losses(group):
            log.warning(text)


def describe_losses(losses):
    """Describe what observations have lost, and why: one text for each cause.

    Parameters
    ----------
    losses : list of tuple
        Names of groups, such as "mimic set 1", and `Loss`.

    Returns
    -------
    texts : list of str
        Texts, which name the first few observations.
    """
    by_cause = defaultdict(list)
    for name, loss in losses:
        by_cause[loss.cause].append(f"{name}, {describe_loss(loss)}")
    texts = []
    for cause, named in by_cause.items():
        n_more = len(named) - MAX_NAMED
        more = f"; and {n_more} more observations" if n_more > 0 else ""
        texts.append(f"{'; '.join(named[:MAX_NAMED])}{more}. {get_reason(cause)}")
    return texts


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
    if loss.cause in UNMATCHED_TEXTS:
        return UNMATCHED_TEXTS[loss.cause].format(**loss._asdict())
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


def make_range_keys(energy_range):
    """Make the keys of the header of a mimic that tell its range of energy.

    Parameters
    ----------
    energy_range : tuple of float
        Range in TeV, with 0 and infinity for what is not known.

    Returns
    -------
    keys : dict of float
        Those of `RANGE_KEYS` that are known.
    """
    pairs = zip(RANGE_KEYS.values(), energy_range, strict=True)
    return {key: value for key, value in pairs if 0 < value < np.inf}


def make_range_columns(header):
    """Make the columns of a meta table that tell the range of energy of a mimic.

    Parameters
    ----------
    header : dict-like
        Header of the events of a mimic, or any other for none.

    Returns
    -------
    columns : dict of `~astropy.units.Quantity`
        Energies by column, see `RANGE_KEYS`. NaN where they are not known.
    """
    return {name: to_float(header.get(key)) * u.TeV for name, key in RANGE_KEYS.items()}


def _cut_response(dataset):
    """Dataset with an energy dispersion to safe energies only, if it is of maps.

    Gammapy 2.1 interpolates the safe mask for it, and takes what is 0 but for rounding
    as safe: stacked, a bin just below a threshold has the exposure of all datasets.
    """
    edisp, mask = dataset.edisp, dataset.mask_safe
    if mask is None or mask.geom.is_region or not isinstance(edisp, EDispKernelMap):
        return dataset
    # neither the dataset nor its kernel is changed
    dataset, edisp = copy.copy(dataset), copy.copy(edisp)
    edisp.edisp_map = edisp.edisp_map * mask.data.any(axis=(1, 2))[:, None, None]
    dataset.edisp = edisp
    return dataset


def stack_dataset(stacked, dataset):
    """Stack a dataset to another one, with all columns of their meta tables.

    Gammapy drops the columns that the first one does not have, and fails for those that
    the second one does not have. A dataset that is masked completely adds to nothing
    but the meta table: Gammapy 2.1 takes its good time intervals, later ones do not.

    Parameters
    ----------
    stacked : `~gammapy.datasets.Dataset`
        Dataset. Changed in place. The value of a column that one of the two does not
        have is -1, NaN or "none".
    dataset : `~gammapy.datasets.Dataset`
        Dataset to add. Not changed.
    """
    tables = [_.meta_table for _ in (stacked, dataset) if _.meta_table is not None]
    # out of Gammapy's sight, which would stack it
    stacked.meta_table = None
    if dataset.mask_safe is None or dataset.mask_safe.data.any():
        stacked.stack(_cut_response(dataset))
    if len(tables) < 2:
        stacked.meta_table = tables[0].copy() if tables else None
        return
    # one row, with the values side by side, as Gammapy joins them
    lengths = [np.size(table[table.colnames[0]]) for table in tables]
    columns = {
        # an observation may have several values, by energy
        name: (table[name], np.size(table[name]) // length)
        for table, length in zip(tables, lengths, strict=True)
        for name in table.colnames
    }
    joined = Table()
    for name, (column, size) in columns.items():
        parts = [
            _to_plain_array(table[name])
            if name in table.colnames
            else np.full(length * size, _get_fill_value(column, "none"))
            for table, length in zip(tables, lengths, strict=True)
        ]
        joined[name] = np.concatenate(parts)[np.newaxis]
        joined[name].unit = column.unit
    stacked.meta_table = joined


def _to_plain_array(column):
    """Values as a plain array. A text that is masked is one that was empty on disk."""
    return np.ravel(np.ma.filled(np.ma.asarray(column), _get_fill_value(column, "")))


def _get_fill_value(column, text):
    """Value for none, by the kind of a column."""
    return FILL_VALUES.get(column.dtype.kind, text)
