"""Tables of the significance of mimic sets, and of a target against them."""

import dataclasses
import itertools
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.table import Table

from .measurement import ALL
from .statistics import (
    VARIANCE_FRACTION,
    average_sets,
    average_systematic,
    count_larger,
    fit_systematic,
    get_expected_mean,
    get_p_value,
    to_fraction,
)

__all__ = [
    "TARGET",
    "Comparison",
    "Sample",
    "format_value",
    "get_name",
    "make_table",
    "tabulate_maximum",
    "tabulate_position",
    "tabulate_significance",
    "tabulate_systematics",
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
    """

    measurements: dict
    bands: list
    min_background: float = 10
    source_free: np.ndarray | bool = True
    radius: float = 0.0
    pixel_size: float = 0.0
    area: np.ndarray | float = 0.0

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
        positions, and take the sets as independent. ``background_ratio`` is NaN without
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
            row |= _describe_sample(sample, comparison.variance_fraction)
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


def _describe_sample(sample, variance_fraction=1):
    """Mean, width and tails of a distribution, NaN without positions."""
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


def tabulate_systematics(comparison, offset_edges=None):
    """Tabulate the systematic error by band of energy and of offset.

    Parameters
    ----------
    comparison : `Comparison`
        Measurements.
    offset_edges : `~astropy.units.Quantity`, optional
        Edges of bands of offset. Default is none. Not used where no offset is known.

    Returns
    -------
    table : `~astropy.table.Table`
        Mean, width, tails and systematic error with their errors from the scatter of
        sets. Means and widths of sets are weighted by their numbers of positions, which
        all are the same multiple of those of independent positions, and the systematic
        error by its Fisher information.
    """
    offset_bands = {ALL: (np.nan, np.nan) * u.deg}
    has_offset = all(_.offset is not None for _ in comparison.mimics.values())
    if offset_edges is not None and has_offset:
        pairs = itertools.pairwise(offset_edges.to("deg"))
        offset_bands |= {str(idx): u.Quantity(_) for idx, _ in enumerate(pairs)}
    rows = []
    for idx, band in enumerate(comparison.bands):
        for name, (low, high) in offset_bands.items():
            row = band._asdict() | {"offset_band": name}
            row |= {"offset_min": low, "offset_max": high}
            rows.append(row | _average(comparison, idx, low, high))
    return make_table(rows)


def _average(comparison, idx, offset_min, offset_max):
    """Averages over sets in a band of energy and of offset, NaN for all offsets."""
    samples = []
    for measurement in comparison.mimics.values():
        where = True
        if np.isfinite(offset_min):
            where = measurement.offset >= offset_min
            where &= measurement.offset < offset_max
        samples.append(comparison.get_sample(measurement, idx, where))
    rows = [_describe_sample(_) for _ in samples]
    result = {}
    for name in ("mean", "width", f"above_{TAIL}", f"below_{TAIL}"):
        result |= _average_rows(rows, name).to_row(name)
    f_squared = [
        fit_systematic(sample.significance, sample.background, comparison.overlap)
        for sample in samples
    ]
    square = average_systematic(f_squared, [_.background for _ in samples])
    result |= to_fraction(square).to_row("f", limit=True)
    result |= square.to_row("f_squared") | {"is_measured": square.is_positive}
    return result | {"n_background": _average_rows(rows, "n_background").value}


def _average_rows(rows, name):
    """Average a column of `_describe_sample`, or the fraction of its counts."""
    weights = np.array([row["n_positions"] for row in rows])
    if name in rows[0]:
        return average_sets([row[name] for row in rows], weights)
    counts = np.array([row[f"n_{name}"] for row in rows])
    return average_sets(counts / np.maximum(weights, 1), weights)


def tabulate_maximum(comparison):
    """Compare the largest significance of the target with those of mimics.

    All are those of positions outside of the target's known sources, grown by the
    correlation radius.

    Parameters
    ----------
    comparison : `Comparison`
        Measurements, with a target.

    Returns
    -------
    table : `~astropy.table.Table`
        Largest significance, mean and standard deviation of that of mimics, how many of
        how many sets have one as large, and the empirical p-value, by band
        (look-elsewhere effect). NaN without a position that has enough background.
    """
    rows = []
    for idx, band in enumerate(comparison.bands):
        samples = (
            comparison.get_sample(measurement, idx, comparison.source_free)
            for measurement in (comparison.target, *comparison.mimics.values())
        )
        value, *largest = (_apply_or_nan(np.max, _.significance) for _ in samples)
        estimate = average_sets(largest)
        rank = _rank_value(value, largest, "n_sets")
        std = float(estimate.error * np.sqrt(rank["n_sets"]))
        row = band._asdict() | {"significance": value}
        rows.append(row | {"mimic_mean": estimate.value, "mimic_std": std} | rank)
    return make_table(rows)


def _rank_value(value, sample, name):
    """How many values of a sample are as large, and the p-value."""
    n_larger, number = count_larger(value, sample)
    p_value = get_p_value(value, sample)
    return {"n_larger": n_larger, name: number, "p_value": p_value}


def tabulate_position(comparison, pixel=None):
    """Compare the significance of the target at a position with that of mimics.

    Mimics are taken there and at all positions of the same offset, within the
    correlation radius. Their mean and width are those of all such pixels, the p-value
    that of positions without common events.

    Parameters
    ----------
    comparison : `Comparison`
        Measurements, with a target.
    pixel : tuple of int, optional
        Indices of the position on the maps. None for spectra.

    Returns
    -------
    table : `~astropy.table.Table`
        Significance, its calibrated value with the error from mean and width, and the
        empirical p-value from ``n_larger`` of ``n_sample`` values that are as large, by
        band. NaN where the position has no significance. Approximation: for few
        positions the calibrated value follows Student's t distribution, rather than a
        Gaussian.
    """
    rows = []
    for idx, band in enumerate(comparison.bands):
        if pixel is None:
            value = comparison.target.total[idx]
            sample = np.array([_.total[idx] for _ in comparison.mimics.values()])
            values = sample = sample[np.isfinite(sample)]
        else:
            value = comparison.target.significance[idx][pixel]
            values, sample = _get_samples(comparison, idx, pixel)
        row = band._asdict() | {"significance": float(value)}
        row |= _calibrate(value, values, comparison)
        rows.append(row | _rank_value(value, sample, "n_sample"))
    return make_table(rows)


def _get_samples(comparison, idx, pixel):
    """Significances of mimics at the same offset: all, and those without overlap."""
    step = max(int(np.ceil(2 * comparison.radius / comparison.pixel_size)), 1)
    shape = comparison.target.significance.shape[1:]
    is_apart = np.zeros(shape, dtype=bool)
    is_apart[pixel[0] % step :: step, pixel[1] % step :: step] = True
    values, sample = [], []
    for measurement in comparison.mimics.values():
        valid = comparison.is_valid(measurement, idx)
        if measurement.offset is not None:
            distance = measurement.offset - measurement.offset[pixel]
            valid &= np.abs(distance.to_value("deg")) < comparison.radius
        values.append(measurement.significance[idx][valid])
        sample.append(measurement.significance[idx][valid & is_apart])
    return np.concatenate(values), np.concatenate(sample)


def _calibrate(value, values, comparison):
    """Mean and width of mimics, and the significance in units of it."""
    n_independent = len(values) / comparison.overlap
    mean = width = calibrated = error = np.nan
    if n_independent > 1:
        mean = np.mean(values)
        width = np.std(values) * np.sqrt(n_independent / (n_independent - 1))
        calibrated = (value - mean) / width
        variance = 1 + calibrated**2 * comparison.variance_fraction / 2
        error = np.sqrt(variance / (n_independent - 1))
    return {
        "mimic_mean": float(mean),
        "mimic_width": float(width),
        "calibrated": float(calibrated),
        "calibrated_err": float(error),
    }


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
