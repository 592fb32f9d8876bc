"""Significance maps of mimic sets, and how wide their distribution is."""

import dataclasses

import numpy as np
from astropy.coordinates import Angle
from astropy.table import Table
from gammapy.estimators import ExcessMapEstimator
from scipy.stats import norm

from .measurement import has_rings

__all__ = [
    "SignificanceDistribution",
    "make_significance_table",
    "measure_significance",
    "stack_significance",
]

# For circles of one radius the correlation of two positions is the overlap rho of the
# circles. The integral of rho over the plane is the area of a circle (variance of the
# mean), that of rho^2 is this fraction of it (variance of the width).
VARIANCE_FRACTION = 0.4596


@dataclasses.dataclass(frozen=True)
class SignificanceDistribution:
    """Distribution of the significance over the positions of a map.

    Attributes
    ----------
    name : str
        Name, as a rule of the mimic set.
    values : `~numpy.ndarray`
        Significance at each pixel. Shape (n_pixels,).
    n_independent : float
        Area of the pixels over the area of the correlation circle.
    expected_mean : float
        Mean of a background that is known exactly, the average of -1 / (6 sqrt(N_b)):
        the bias of the signed root of the Cash statistic at N_b background counts.
    """

    name: str
    values: np.ndarray
    n_independent: float
    expected_mean: float

    @property
    def mean(self):
        """Mean of the Gaussian that fits best."""
        return float(norm.fit(self.values)[0])

    @property
    def width(self):
        """Width of the Gaussian that fits best."""
        return float(norm.fit(self.values)[1])

    @property
    def mean_error(self):
        """Statistical error of the mean, with the correlation of the pixels."""
        return self.width / np.sqrt(self.n_independent)

    @property
    def width_error(self):
        """Statistical error of the width, with the correlation of the pixels."""
        return self.mean_error * np.sqrt(VARIANCE_FRACTION / 2)

    def __str__(self):
        return (
            f"{self.name}: mean {self.mean:+.3f} ± {self.mean_error:.3f}, "
            f"width {self.width:.3f} ± {self.width_error:.3f}"
        )


def measure_significance(
    dataset, correlation_radius="0.1 deg", min_background=10, name=None
):
    """Compute the significance map of a dataset, and its distribution.

    The significance is the signed root of the test statistic of the counts against
    the background in a circle, see `~gammapy.estimators.ExcessMapEstimator`. OFF counts
    of a ring are those of many pixels, and not added up once more.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.MapDatasetOnOff`
        Dataset with counts and background. Bins outside ``mask_safe`` do not count.
    correlation_radius : `~astropy.coordinates.Angle` or str, optional
        Radius of the circle. Default is 0.1 deg.
    min_background : float, optional
        Background counts in the circle below which a position is left out of the
        distribution. Default is 10.
    name : str, optional
        Name of the distribution. Default is that of the dataset.

    Returns
    -------
    significance : `~gammapy.maps.WcsNDMap`
        Significance map, NaN where it is not defined.
    distribution : `SignificanceDistribution`
        Distribution over the pixels.

    Raises
    ------
    ValueError
        If there is no position with enough background.
    """
    radius = Angle(correlation_radius)
    estimator = ExcessMapEstimator(
        correlation_radius=radius,
        selection_optional=[],
        sum_over_energy_groups=True,
        correlate_off=not has_rings(dataset),
    )
    # positions without OFF counts
    with np.errstate(invalid="ignore", divide="ignore"):
        maps = estimator.run(dataset)
    significance = maps["sqrt_ts"].sum_over_axes(keepdims=False)
    background = maps["npred_background"].sum_over_axes(keepdims=False)

    valid = np.isfinite(significance.data) & (background.data >= min_background)
    if not valid.any():
        raise ValueError(
            f"{dataset.name} has no position with {min_background} background counts "
            f"inside {radius}. Use a larger correlation radius or more observations."
        )
    area = significance.geom.solid_angle()[valid].sum().to_value("deg2")
    distribution = SignificanceDistribution(
        name=dataset.name if name is None else name,
        values=significance.data[valid],
        n_independent=float(area / (np.pi * radius.deg**2)),
        expected_mean=float(np.mean(-1 / (6 * np.sqrt(background.data[valid])))),
    )
    return significance, distribution


def stack_significance(distributions, name="all"):
    """Put distributions together, taking them as independent.

    Parameters
    ----------
    distributions : list of `SignificanceDistribution`
        Distributions.
    name : str, optional
        Name of the result. Default is "all".

    Returns
    -------
    distribution : `SignificanceDistribution`
        Distribution of all pixels.
    """
    sizes = [len(_.values) for _ in distributions]
    return SignificanceDistribution(
        name=name,
        values=np.concatenate([_.values for _ in distributions]),
        n_independent=float(sum(_.n_independent for _ in distributions)),
        expected_mean=float(
            np.average([_.expected_mean for _ in distributions], weights=sizes)
        ),
    )


def make_significance_table(distributions):
    """Tabulate distributions.

    Parameters
    ----------
    distributions : list of `SignificanceDistribution`
        Distributions.

    Returns
    -------
    table : `~astropy.table.Table`
        Name, mean and width with their errors, expected mean, number of independent
        positions.
    """
    table = Table()
    for name in (
        "name",
        "mean",
        "mean_error",
        "expected_mean",
        "width",
        "width_error",
        "n_independent",
    ):
        table[name] = [getattr(_, name) for _ in distributions]
        if name != "name":
            table[name].info.format = ".0f" if name == "n_independent" else ".3f"
    return table
