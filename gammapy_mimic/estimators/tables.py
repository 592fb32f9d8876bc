"""Tables of the significance of mimic sets, and of a target against them."""

import dataclasses
import itertools
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.table import Table

from ..data.prediction import get_safe_mask
from .measurement import ALL
from .statistics import (
    VARIANCE_FRACTION,
    get_expected_mean,
)

__all__ = [
    "TARGET",
    "Comparison",
    "Sample",
    "describe_sample",
    "format_interval",
    "format_value",
    "get_name",
    "make_table",
    "tabulate_sets",
    "tabulate_significance",
    "tabulate_time",
]

TARGET = "target"  # name of the target, beside those of the mimic sets
TAIL = 3  # significance beyond which positions are counted


def get_name(mimic_set):
    """Get the name of a mimic set in tables and maps.

    Parameters
    ----------
    mimic_set : int or str
        Number, or name.

    Returns
    -------
    name : str
        Such as "mimic_1" for a number, else the name.
    """
    return mimic_set if isinstance(mimic_set, str) else f"mimic_{mimic_set}"


class Sample(NamedTuple):
    """Positions with enough background. Arrays of shape (n_positions,).

    Attributes
    ----------
    significance : `~numpy.ndarray`
        Significance.
    background : `~numpy.ndarray`
        Effective background counts.
    alpha : `~numpy.ndarray`
        Ratio of exposures.
    independent : `~numpy.ndarray`
        Number of independent positions that each counts for, 1 at most.
    """

    significance: np.ndarray
    background: np.ndarray
    alpha: np.ndarray
    independent: np.ndarray

    @classmethod
    def join(cls, samples):
        """Put samples together.

        Parameters
        ----------
        samples : list of `Sample`
            Samples.

        Returns
        -------
        sample : `Sample`
            All positions.
        """
        return cls(*(np.concatenate(_) for _ in zip(*samples, strict=True)))


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Measurements of mimic sets and of the target.

    Attributes
    ----------
    measurements : dict of `~gammapy_mimic.estimators.measurement.Measurement`
        Measurements by name: those of mimic sets, and of the target.
    bands : list of `~gammapy_mimic.estimators.Band`
        Bands of energy.
    min_background : float
        Effective background counts that a position must have.
    source_free : `~numpy.ndarray` or bool
        Positions whose circle holds no known source of the target, see
        `get_source_free_mask`.
    radius, pixel_size : float
        Radius in which counts are added, and distance of positions, in deg. 0 for
        spectra.
    area : `~numpy.ndarray` or float
        Solid angle of each position, in deg2. 0 for spectra.
    repetition : float
        Mean number of times that an OFF observation is in the mimic sets.
    """

    measurements: dict
    bands: list
    min_background: float = 10
    source_free: np.ndarray | bool = True
    radius: float = 0.0
    pixel_size: float = 0.0
    area: np.ndarray | float = 0.0
    repetition: float = 1.0

    @property
    def mimics(self):
        """Measurements of mimic sets by name."""
        return {name: _ for name, _ in self.measurements.items() if name != TARGET}

    @property
    def target(self):
        """Measurement of the target, None if there is none."""
        return self.measurements.get(TARGET)

    @property
    def geom(self):
        """Geometry of the maps, None for spectra."""
        return next(iter(self.measurements.values())).geom

    @property
    def overlap(self):
        """Number of positions in which an event is counted."""
        if self.pixel_size == 0:
            return 1.0
        return max(np.pi * (self.radius / self.pixel_size) ** 2, 1.0)

    @property
    def independent(self):
        """Number of independent positions that each counts for."""
        if self.pixel_size == 0:
            return 1.0
        return np.minimum(self.area / (np.pi * self.radius**2), 1)

    @property
    def variance_fraction(self):
        """Variance of a width by that of as many independent positions."""
        return 1 if self.overlap == 1 else VARIANCE_FRACTION

    def is_valid(self, measurement, idx):
        """Positions with enough background in a band."""
        valid = np.isfinite(measurement.significance[idx])
        return valid & (measurement.background[idx] >= self.min_background)

    def get_sample(self, measurement, idx, where=True):
        """Get the positions with enough background in a band.

        Parameters
        ----------
        measurement : `~gammapy_mimic.estimators.measurement.Measurement`
            Measurement.
        idx : int
            Index of the band.
        where : `~numpy.ndarray` of bool, optional
            Positions to take. Default is all.

        Returns
        -------
        sample : `Sample`
            Positions.
        """
        valid = self.is_valid(measurement, idx) & where
        values = [getattr(measurement, _)[idx] for _ in Sample._fields[:3]]
        values.append(np.broadcast_to(self.independent, valid.shape))
        return Sample(*(_[valid] for _ in values))


def tabulate_significance(comparison):
    """Describe the distribution of each set, of all, and of the target.

    That of the target is of the positions without known source.

    Parameters
    ----------
    comparison : `Comparison`
        Measurements.

    Returns
    -------
    table : `~astropy.table.Table`
        Mean, width and tails by band. Errors are statistical, with the correlation of
        positions, and those of all sets count
        what they share once. ``background_ratio`` is NaN without
        a target.
    """
    rows = []
    for idx, band in enumerate(comparison.bands):
        samples = {
            name: comparison.get_sample(measurement, idx)
            for name, measurement in comparison.mimics.items()
        }
        samples[ALL] = Sample.join(list(samples.values()))
        if comparison.target is not None:
            samples[TARGET] = comparison.get_sample(
                comparison.target, idx, comparison.source_free
            )
        ratios = _compare_backgrounds(comparison, idx)
        for name, sample in samples.items():
            row = {"name": name} | band._asdict()
            row |= describe_sample(sample, comparison.variance_fraction)
            if name == ALL:
                # what sets share counts once
                for error in ("mean_err", "width_err"):
                    row[error] *= np.sqrt(comparison.repetition)
            rows.append(row | {"background_ratio": ratios[name]})
    return make_table(rows)


def _compare_backgrounds(comparison, idx):
    """Background counts over those of the target, by name, NaN without a target.

    At the positions where the target has enough background and no known source.
    """
    measurements, target = comparison.measurements, comparison.target
    sums = dict.fromkeys([*measurements, ALL], np.nan)
    if target is None:
        return sums
    where = True
    # spectra are not of the same observations
    if comparison.geom is not None:
        where = comparison.is_valid(target, idx) & comparison.source_free
    for name, measurement in measurements.items():
        sums[name] = np.nansum(measurement.background[idx], where=where)
    sums[ALL] = np.mean([sums[name] for name in comparison.mimics])
    if not sums[TARGET] > 0:
        return dict.fromkeys(sums, np.nan)
    return {name: float(value / sums[TARGET]) for name, value in sums.items()}


def describe_sample(sample, variance_fraction=1):
    """Describe a distribution of significances, as columns of a table.

    Parameters
    ----------
    sample : `Sample`
        Positions.
    variance_fraction : float, optional
        See `Comparison`. Default is 1.

    Returns
    -------
    row : dict
        Mean, width with their statistical errors, and tails, NaN without positions.
    """
    values, background, alpha, independent = sample
    n_independent = float(np.sum(independent))
    width = float(np.std(values)) if len(values) > 1 else np.nan
    mean_err = float(width / np.sqrt(n_independent))
    return {
        "mean": _apply_or_nan(np.mean, values),
        "mean_err": mean_err,
        "expected_mean": _apply_or_nan(np.mean, get_expected_mean(background, alpha)),
        "width": width,
        "width_err": mean_err * float(np.sqrt(variance_fraction / 2)),
        "minimum": _apply_or_nan(np.min, values),
        "maximum": _apply_or_nan(np.max, values),
        f"n_above_{TAIL}": int(np.sum(values > TAIL)),
        f"n_below_{TAIL}": int(np.sum(values < -TAIL)),
        "n_background": _apply_or_nan(np.mean, background),
        "n_positions": len(values),
        "n_independent": n_independent,
    }


def _apply_or_nan(function, values):
    return float(function(values)) if len(values) else np.nan


def tabulate_sets(groups, comparison):
    """Tabulate how long each set and the target are, and at which energies.

    Parameters
    ----------
    groups : dict of `~gammapy.datasets.Datasets`
        Datasets of each mimic set, and of the target.
    comparison : `Comparison`
        Measurements.

    Returns
    -------
    table : `~astropy.table.Table`
        By name: number of datasets, good ``time``, edges of the energies that are safe
        in any of them (``e_min``, ``e_max``), and the energy from which they are in all
        (``e_min_all``); NaN if there is none. ``background_ratio`` is that of all
        energies, see `tabulate_significance`.
    """
    total = [_.band for _ in comparison.bands].index(ALL)
    ratios = _compare_backgrounds(comparison, total)
    rows = []
    for name, datasets in groups.items():
        edges = datasets[0].counts.geom.axes["energy"].edges.to_value("TeV")
        # of each dataset, the bins of energy that are safe anywhere
        safe = np.array([np.any(get_safe_mask(_), axis=(1, 2)) for _ in datasets])
        row = {"name": name, "n_datasets": len(datasets)}
        row["time"] = (sum(map(_get_time, datasets)) or np.nan) * u.h
        used = np.flatnonzero(safe.any(axis=0))
        common = np.flatnonzero(safe.all(axis=0))
        row["e_min"] = (edges[used[0]] if len(used) else np.nan) * u.TeV
        row["e_min_all"] = (edges[common[0]] if len(common) else np.nan) * u.TeV
        row["e_max"] = (edges[used[-1] + 1] if len(used) else np.nan) * u.TeV
        rows.append(row | {"background_ratio": ratios[name]})
    return make_table(rows)


def tabulate_time(groups, runs):
    """Tabulate how long target and OFF observations are.

    Parameters
    ----------
    groups : dict of `~gammapy.datasets.Datasets`
        Datasets of each mimic set, and of the target.
    runs : list of int or None
        OFF observation of each dataset of the mimic sets, None if not known.

    Returns
    -------
    table : `~astropy.table.Table`
        A row with ``target_time``, ``off_time``, of which an OFF observation that
        several sets have counts once, and their number ``n_off``. NaN and 0 for what is
        not known.
    """
    times = {}
    mimics = itertools.chain(*(groups[_] for _ in groups if _ != TARGET))
    for dataset, run in zip(mimics, runs or [], strict=False):
        # sets may have different parts of an observation
        times[run] = max(times.get(run, 0), _get_time(dataset))
    target = [_get_time(_) for _ in groups.get(TARGET, [])]
    row = {
        "target_time": (sum(target) or np.nan) * u.h,
        "off_time": (sum(times.values()) or np.nan) * u.h,
        "n_off": len(times),
    }
    return make_table([row])


def _get_time(dataset):
    """Good time in hours, 0 if it is not known."""
    return 0.0 if dataset.gti is None else dataset.gti.time_sum.to_value("h")


def make_table(rows):
    """Make a table of rows, with a format for numbers.

    Parameters
    ----------
    rows : list of dict
        Rows.

    Returns
    -------
    table : `~astropy.table.Table`
        Table.
    """
    table = Table()
    for name, value in rows[0].items():
        values = [row[name] for row in rows]
        is_quantity = isinstance(value, u.Quantity)
        table[name] = u.Quantity(values) if is_quantity else values
        if table[name].dtype.kind == "f":
            table[name].info.format = ".4g"
    return table


def format_value(value, error, spec):
    """Format a value with its error, in words where they are not known.

    Parameters
    ----------
    value, error : float
        Value and error, NaN if it is not known.
    spec : str
        Format of a number, such as ".3f".

    Returns
    -------
    text : str
        Text.
    """
    if not np.isfinite(value):
        return "not known"
    if not np.isfinite(error):
        return f"{value:{spec}} (error not known)"
    return f"{value:{spec}} ± {error:{spec}}"


def format_interval(row, name, spec=".1%"):
    """Format a value that is not negative: with its interval, its limit, or in words.

    Parameters
    ----------
    row : `~astropy.table.Row` or dict
        Row with the value ``name``, its interval (68%) ``name_lo`` to ``name_hi``, its
        upper limit (95%) ``name_ul``, and the ``reason`` why it is not measured.
    name : str
        Name, such as "f" or "total".
    spec : str, optional
        Format of a number. Default is ".1%".

    Returns
    -------
    text : str
        Text.
    """
    if not np.isfinite(row[name]):
        reason = str(row["reason"])
        return f"not measurable: {reason}" if reason else "not known"
    if row[f"{name}_lo"] > 0:
        low, high = (format(row[f"{name}_{_}"], spec) for _ in ("lo", "hi"))
        return f"{row[name]:{spec}} ({low.rstrip('%')} to {high}, 68% confidence)"
    return f"below {row[f'{name}_ul']:{spec}} (95% confidence)"
