"""Counts in independent apertures, by OFF observation and mimic set. Arrays only."""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

__all__ = [
    "NO_RUN",
    "ApertureCounts",
    "Deviations",
    "get_delta",
    "get_deviations",
    "get_information",
    "get_share",
    "keep_result",
]

NO_RUN = -1
"""Number of the run of a row that has none."""


@dataclasses.dataclass(frozen=True, eq=False)
class ApertureCounts:
    """Counts and prediction in independent apertures.

    An aperture without prediction (of ON/OFF data: without ``alpha``) is left out, with
    its counts.

    Parameters
    ----------
    counts : `~numpy.ndarray`
        Counts. Shape (n_runs, n_sets, n_apertures), a row for each observation of a
        set, 0 where it has fewer. A shape (n_sets, n_apertures) is for stacked sets,
        whose observations are not known.
    background : `~numpy.ndarray` or None, optional
        Predicted counts, where the prediction is a model. Same shape.
    counts_off, alpha : `~numpy.ndarray` or None, optional
        OFF counts and the ratio of exposures that they are multiplied by, where the
        background is measured. Same shape.
    runs : `~numpy.ndarray` or None, optional
        Names of the OFF observations. Shape (n_runs, n_sets), or (n_runs,) if a row is
        of the same one in all sets. Names that repeat are one: give nights for errors
        by night. Rows of zeros may have any name. Default is that all rows differ.

    Raises
    ------
    ValueError
        If the shapes differ, if numbers are negative or not finite, or if there is not
        one background.
    """

    counts: np.ndarray
    background: np.ndarray | None = None
    counts_off: np.ndarray | None = None
    alpha: np.ndarray | None = None
    runs: np.ndarray | None = None
    has_runs: bool = dataclasses.field(init=False)
    results: dict = dataclasses.field(init=False, repr=False, default_factory=dict)

    def __post_init__(self):
        measured = self.counts_off is not None and self.alpha is not None
        if measured == (self.background is not None):
            raise ValueError("Give either 'background', or 'counts_off' and 'alpha'.")
        shape = np.shape(self.counts)
        if len(shape) not in (2, 3):
            raise ValueError(
                "'counts' must have the shape (n_runs, n_sets, n_apertures), or "
                f"(n_sets, n_apertures) for stacked sets, got {shape}"
            )
        set_field = object.__setattr__
        set_field(self, "has_runs", len(shape) == 3)
        names = ("counts_off", "alpha") if measured else ("background",)
        for name in ("counts", *names):
            values = np.asarray(getattr(self, name), dtype=float)
            if values.shape != shape:
                raise ValueError(
                    f"'{name}' must have the shape of 'counts', {shape}, got "
                    f"{values.shape}"
                )
            valid = np.isfinite(values) & (values >= 0)
            if not valid.all():
                raise ValueError(
                    f"'{name}' must be finite and not negative, got {values[~valid][0]}"
                )
            set_field(self, name, values if self.has_runs else values[np.newaxis])
        valid = (self.alpha if measured else self.background) > 0
        for name in ("counts", *names):
            set_field(self, name, np.where(valid, getattr(self, name), 0))
        set_field(self, "runs", self._number_runs())

    def _number_runs(self):
        """Numbers of the runs, in the order of their names. Shape (n_runs, n_sets)."""
        shape = self.counts.shape[:2]
        runs = np.arange(shape[0]) if self.runs is None else np.asarray(self.runs)
        if runs.shape not in (shape, shape[:1]):
            raise ValueError(
                f"'runs' must have {shape[0]} names, one for each run of 'counts', or "
                f"the shape {shape}, got {runs.shape}"
            )
        numbers = np.unique(runs, return_inverse=True)[1]
        return np.broadcast_to(numbers.reshape(len(runs), -1), shape)

    def select(self, where):
        """Get a part of the apertures.

        Parameters
        ----------
        where : `~numpy.ndarray` of bool
            Which. Shape (n_apertures,).

        Returns
        -------
        counts : `ApertureCounts`
            Counts.
        """
        return self._change(lambda values: values[..., where], self.runs)

    def join_sets(self):
        """Take each aperture of each set as one of its own.

        Returns
        -------
        counts : `ApertureCounts`
            Counts of one set, with n_sets x n_apertures apertures.
        """
        only = np.eye(self.counts.shape[1])[..., np.newaxis]

        def join(values):
            # apertures of a set are not seen by the runs of another
            rows = values[:, :, np.newaxis] * only if self.has_runs else values
            return rows.reshape(-1, 1, values.shape[1] * values.shape[2])

        return self._change(join, self.runs.reshape(-1, 1) if self.has_runs else None)

    def _change(self, change, runs):
        """Change all arrays."""
        names = ("counts", "background", "counts_off", "alpha")
        arrays = {name: getattr(self, name) for name in names}
        arrays = {
            # stacked sets are given without the axis of runs
            name: change(values) if self.has_runs else change(values)[0]
            for name, values in arrays.items()
            if values is not None
        }
        return ApertureCounts(**arrays, runs=runs)

    @property
    def n_clusters(self):
        """Number of OFF observations (or nights), of which each is independent."""
        return int(self.runs.max()) + 1

    @property
    def n_runs(self):
        """Effective number of independent runs, NaN if they are not known."""
        if not self.has_runs:
            return np.nan
        information = self.add_clusters(get_information(self).sum(axis=2)).sum(axis=1)
        total = np.sum(information**2)
        return float(information.sum() ** 2 / total) if total > 0 else 0.0

    def add_clusters(self, values):
        """Add what belongs to the same run.

        Parameters
        ----------
        values : `~numpy.ndarray`
            Values. Shape (n_runs, n_sets).

        Returns
        -------
        sums : `~numpy.ndarray`
            Sums. Shape (n_clusters, n_sets).
        """
        sums = np.zeros((self.n_clusters, values.shape[1]))
        np.add.at(sums, (self.runs, np.arange(values.shape[1])), values)
        return sums

    @functools.cached_property
    def _rows(self):
        """Row of each run among the different ones of its set, and what these are."""
        rows, clusters = np.empty_like(self.runs), np.full_like(self.runs, NO_RUN)
        for idx, runs in enumerate(self.runs.T):
            names, rows[:, idx] = np.unique(runs, return_inverse=True)
            clusters[: len(names), idx] = names
        if np.all(clusters != NO_RUN):
            # the usual case
            return None, self.runs
        return rows, clusters[: rows.max() + 1]

    @property
    def clusters(self):
        """Numbers of the different runs of each set, `NO_RUN` where it has fewer.

        Shape (n_rows, n_sets).
        """
        return self._rows[1]

    def merge_runs(self, values):
        """Add what belongs to the same run of a set.

        Parameters
        ----------
        values : `~numpy.ndarray`
            Values. Shape (n_runs, n_sets, n_apertures).

        Returns
        -------
        sums : `~numpy.ndarray`
            Sums for each of the `clusters`. Shape (n_rows, n_sets, n_apertures).
        """
        rows, clusters = self._rows
        if rows is None:
            return values
        sums = np.zeros((*clusters.shape, values.shape[2]))
        for row, value in zip(rows, values, strict=True):
            sums[row, np.arange(len(value))] += value
        return sums


def keep_result(function):
    """Keep the result of a function with the counts that it is of.

    Several tables are made of the same counts.

    Parameters
    ----------
    function : callable
        Function of `ApertureCounts`.

    Returns
    -------
    function : callable
        Function that is called once for the same counts.
    """

    @functools.wraps(function)
    def get_result(counts):
        if function not in counts.results:
            counts.results[function] = function(counts)
        return counts.results[function]

    return get_result


class Deviations(NamedTuple):
    r"""Deviations of counts from a prediction that is scaled to the set.

    A true background that is larger than the scaled prediction by the fraction x makes
    the expectation of a deviation :math:`m x`. Arrays (n_runs, n_sets, n_apertures).

    Attributes
    ----------
    value : `~numpy.ndarray`
        Deviation: :math:`n - b (1 + \delta)`, or :math:`n_{on} - t \pi` of ON/OFF data.
    lever : `~numpy.ndarray`
        m, which is the variance of the deviation by counts as well:
        :math:`b (1 + \delta)`, or :math:`t \pi (1 - \pi)`.
    noise : `~numpy.ndarray`
        Unbiased estimate of that variance, linear in the counts: :math:`n`, or
        :math:`n_{on} (1 - 2 \pi) + t \pi^2`.
    excess_lever : `~numpy.ndarray`
        What the square of the lever has too much, as the lever is of counts.
    """

    value: np.ndarray
    lever: np.ndarray
    noise: np.ndarray
    excess_lever: np.ndarray


def get_information(counts):
    r"""Variance of the counts in each aperture, if there is no bias.

    Parameters
    ----------
    counts : `ApertureCounts`
        Counts.

    Returns
    -------
    information : `~numpy.ndarray`
        The prediction b, or :math:`t \pi (1 - \pi)` with :math:`t = n_{on} + n_{off}`
        and :math:`\pi = \alpha / (1 + \alpha)`. Shape (n_runs, n_sets, n_apertures).
    """
    if counts.background is not None:
        return counts.background
    t = counts.counts + counts.counts_off
    return t * counts.alpha / (1 + counts.alpha) ** 2


def get_delta(counts):
    r"""Excess and prediction whose sums make :math:`\delta`.

    :math:`\delta` is counts over prediction minus 1: the ratio of the sums of

    .. math:: n - b \quad\text{and}\quad b, \qquad\text{or of}\qquad
        \frac{n_{on} - \alpha n_{off}}{1 + \alpha}
        \quad\text{and}\quad \frac{\alpha n_{off}}{1 + \alpha}

    for ON/OFF data, with the weights of Mantel & Haenszel (1959, JNCI 22, 719), which
    do not depend on counts and are the best ones where :math:`\delta` is small.

    Parameters
    ----------
    counts : `ApertureCounts`
        Counts.

    Returns
    -------
    excess, prediction : `~numpy.ndarray`
        Shape (n_runs, n_sets, n_apertures).
    """
    if counts.background is not None:
        return counts.counts - counts.background, counts.background
    weight = 1 / (1 + counts.alpha)
    prediction = weight * counts.alpha * counts.counts_off
    return weight * counts.counts - prediction, prediction


def get_deviations(counts):
    r"""Deviations of the counts from the prediction, scaled to each set.

    For ON/OFF data they are conditional on :math:`t = n_{on} + n_{off}`, of which
    :math:`n_{on}` is binomial with :math:`\pi = a / (1 + a)`,
    :math:`a = \alpha (1 + \delta)`.

    Parameters
    ----------
    counts : `ApertureCounts`
        Counts.

    Returns
    -------
    deviations : `Deviations`
        Deviations, 0 in sets without counts or prediction.
    """
    excess, prediction = (_.sum(axis=(0, 2)) for _ in get_delta(counts))
    nothing = np.full_like(excess, -1)
    delta = np.divide(excess, prediction, out=nothing, where=prediction > 0)
    # without prediction there is no scale either
    used = ((delta > -1) & (prediction > 0))[:, np.newaxis]
    n, scale = np.where(used, counts.counts, 0), 1 + delta[:, np.newaxis]
    if counts.background is not None:
        lever = counts.background * scale
        share = get_share(lever.sum(axis=0))
        # (p N)^2 is p^2 N too large, on average
        excess_lever = share**2 * n.sum(axis=-1, keepdims=True)
        return Deviations(n - lever, lever, n, excess_lever)
    ratio = counts.alpha * scale
    pi = ratio / (1 + ratio)
    t = np.where(used, counts.counts + counts.counts_off, 0)
    lever = t * pi * (1 - pi)
    noise = n * (1 - 2 * pi) + t * pi**2
    return Deviations(n - t * pi, lever, noise, t * (pi * (1 - pi)) ** 2)


def get_share(lever):
    """Share of each aperture in the fit of its set.

    Parameters
    ----------
    lever : `~numpy.ndarray`
        Levers. Shape (..., n_apertures).

    Returns
    -------
    share : `~numpy.ndarray`
        Same shape. The sum over the last axis is 1, or 0.
    """
    total = lever.sum(axis=-1, keepdims=True)
    return np.divide(lever, total, out=np.zeros_like(lever), where=total > 0)
