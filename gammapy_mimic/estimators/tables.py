"""Tables of the significance of mimic sets, and of a target against them."""

import dataclasses
import itertools

import astropy.units as u
import numpy as np
from astropy.table import Table

from .measurement import Measurement
from .significance import VARIANCE_FRACTION
from .statistics import (
    average_sets,
    average_systematic,
    count_larger,
    fit_systematic,
    get_p_value,
    to_fraction,
)

__all__ = [
    "Comparison",
    "format_value",
    "make_table",
    "tabulate_maximum",
    "tabulate_position",
    "tabulate_significance",
    "tabulate_systematics",
]

TAIL = 3  # significance beyond which positions are counted


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Measurements of mimic sets and of the target.

    Attributes
    ----------
    mimics : dict of `~gammapy_mimic.estimators.measurement.Measurement`
        Measurements by mimic set.
    target : `~gammapy_mimic.estimators.measurement.Measurement` or None
        Measurement of the target.
    bands : list of tuple of `~astropy.units.Quantity`
        Bands of energy.
    min_background : float
        Effective background counts that a position must have.
    blank : `~numpy.ndarray` or bool
        Positions whose circle holds no known source of the target, see `find_blank`.
    radius, pixel_size : float
        Radius in which counts are added, and distance of positions, in deg. 0 for
        spectra.
    """

    mimics: dict
    target: Measurement | None
    bands: list
    min_background: float = 10
    blank: np.ndarray | bool = True
    radius: float = 0.0
    pixel_size: float = 0.0

    @property
    def overlap(self):
        """Number of positions in which an event is counted."""
        if self.pixel_size == 0:
            return 1.0
        return max(np.pi * (self.radius / self.pixel_size) ** 2, 1.0)

    def is_valid(self, measurement, idx):
        """Positions with enough background in a band."""
        valid = np.isfinite(measurement.significance[idx])
        return valid & (measurement.background[idx] >= self.min_background)


def tabulate_significance(comparison):
    """Describe the distribution of each set, and of the target where it is blank.

    Parameters
    ----------
    comparison : `Comparison`
        Measurements.

    Returns
    -------
    table : `~astropy.table.Table`
        Mean, width and tails by band.
    """
    rows = []
    for idx, band in enumerate(comparison.bands):
        for name, measurement in comparison.mimics.items():
            valid = comparison.is_valid(measurement, idx)
            name = f"mimic_{name}"
            rows.append({"name": name} | _describe(band, measurement, idx, valid))
        if comparison.target is not None:
            valid = comparison.is_valid(comparison.target, idx) & comparison.blank
            row = _describe(band, comparison.target, idx, valid)
            rows.append({"name": "target"} | row)
    return make_table(rows)


def _describe(band, measurement, idx, valid):
    """Mean, width and tails of a distribution."""
    values = measurement.significance[idx][valid]
    functions = {
        "mean": np.mean,
        "width": lambda values: np.std(values) if len(values) > 1 else np.nan,
        "minimum": np.min,
        "maximum": np.max,
        f"above_{TAIL}": lambda values: np.mean(values > TAIL),
        f"below_{TAIL}": lambda values: np.mean(values < -TAIL),
    }
    row = {"e_min": band[0], "e_max": band[1]}
    for name, function in functions.items():
        row[name] = float(function(values)) if len(values) else np.nan
    background = measurement.background[idx][valid]
    row["n_background"] = float(np.mean(background)) if len(values) else np.nan
    return row | {"n_positions": len(values)}


def tabulate_systematics(comparison, offset_edges=None):
    """Tabulate the systematic error by band of energy and of offset.

    Parameters
    ----------
    comparison : `Comparison`
        Measurements.
    offset_edges : `~astropy.units.Quantity`, optional
        Edges of bands of offset. Default is none.

    Returns
    -------
    table : `~astropy.table.Table`
        Mean, width, tails and systematic error with their errors from the scatter of
        sets. Means and widths of sets are weighted by their numbers of positions, which
        all are the same multiple of those of independent positions, and the systematic
        error by its Fisher information.
    """
    offset_bands = [None]
    if offset_edges is not None:
        offset_bands += list(itertools.pairwise(offset_edges))
    rows = []
    for idx, band in enumerate(comparison.bands):
        for offset_band in offset_bands:
            rows.append(_average(comparison, idx, band, offset_band))
    return make_table(rows)


def _average(comparison, idx, band, offset_band):
    """Averages over sets in a band of energy and of offset."""
    rows, f_squared, backgrounds = [], [], []
    for measurement in comparison.mimics.values():
        valid = comparison.is_valid(measurement, idx)
        if offset_band is not None:
            valid &= measurement.offset >= offset_band[0]
            valid &= measurement.offset < offset_band[1]
        rows.append(_describe(band, measurement, idx, valid))
        values, background = (
            _[idx][valid] for _ in (measurement.significance, measurement.background)
        )
        f_squared.append(fit_systematic(values, background, comparison.overlap))
        backgrounds.append(background)
    low, high = (np.nan, np.nan) * u.deg if offset_band is None else offset_band
    result = {"e_min": band[0], "e_max": band[1]}
    result |= {"offset_min": low.to("deg"), "offset_max": high.to("deg")}
    for name in ("mean", "width", f"above_{TAIL}", f"below_{TAIL}"):
        estimate = _average_rows(rows, name)
        result |= {name: estimate.value, f"{name}_err": estimate.error}
    square = average_systematic(f_squared, backgrounds)
    fraction = to_fraction(square)
    background = _average_rows(rows, "n_background")
    return result | {
        "f": fraction.value,
        "f_err": fraction.error,
        "f_ul": fraction.upper_limit,
        "f_squared": square.value,
        "f_squared_err": square.error,
        "n_background": background.value,
    }


def _average_rows(rows, name):
    """Average a column of `_describe` over sets, weighted by their positions."""
    weights = [row["n_positions"] for row in rows]
    return average_sets([row[name] for row in rows], weights)


def tabulate_maximum(comparison):
    """Compare the largest significance of the target with those of mimics.

    All are those of positions where the target is blank: outside of its known sources,
    grown by the correlation radius.

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
        value, *largest = (
            _find_largest(comparison, measurement, idx)
            for measurement in (comparison.target, *comparison.mimics.values())
        )
        estimate = average_sets(largest)
        n_larger, n_sets = count_larger(value, largest)
        rows.append(
            {
                "e_min": band[0],
                "e_max": band[1],
                "significance": value,
                "mimic_mean": estimate.value,
                "mimic_std": float(estimate.error * np.sqrt(n_sets)),
                "n_larger": n_larger,
                "n_sets": n_sets,
                "p_value": get_p_value(value, largest),
            }
        )
    return make_table(rows)


def _find_largest(comparison, measurement, idx):
    """Largest significance where the target is blank, NaN if there is none."""
    valid = comparison.is_valid(measurement, idx) & comparison.blank
    values = measurement.significance[idx][valid]
    return float(np.max(values)) if len(values) else np.nan


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
        row = {"e_min": band[0], "e_max": band[1], "significance": float(value)}
        row |= _calibrate(value, values, comparison.overlap)
        n_larger, n_sample = count_larger(value, sample)
        row |= {"n_larger": n_larger, "n_sample": n_sample}
        rows.append(row | {"p_value": get_p_value(value, sample)})
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


def _calibrate(value, values, overlap):
    """Mean and width of mimics, and the significance in units of it."""
    n_independent = len(values) / overlap
    mean = width = calibrated = error = np.nan
    if n_independent > 1:
        mean = np.mean(values)
        width = np.std(values) * np.sqrt(n_independent / (n_independent - 1))
        calibrated = (value - mean) / width
        fraction = 1 if overlap == 1 else VARIANCE_FRACTION
        variance = 1 + calibrated**2 * fraction / 2
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
