"""What a result says: a verdict on the target, and what is wrong with it."""

import enum
from typing import NamedTuple

import numpy as np

from .measurement import ALL
from .statistics import get_prediction_p_value
from .tables import TARGET

__all__ = ["Excess", "Judgement", "Verdict", "judge"]

EXCESS = 3  # significance of an excess that has to be explained
P_VALUE = 0.05  # above it the background explains an excess
DETECTION = 5  # standard deviations above the mean of mimics that it does not explain
P_VALUE_FAR = 5e-4  # of Student's t, below which so few mimics can say so
FEW_SETS = 5  # below it, errors from the scatter of sets are poor
FEW_POSITIONS = 20  # below it, the width of mimics is poor
SHIFT = 0.3  # difference of means from which two distributions differ
N_ERRORS = 3  # number of standard errors from which a mean differs from 0
MEAN = 0.1  # mean up to which it may be that of the test statistic itself


class Verdict(enum.Enum):
    """Whether the background explains what the target has, see `judge`."""

    NOT_MEASURED = "not measured"
    NO_EXCESS = "no excess"
    EXPLAINED = "explained"
    TOO_FEW = "too few mimics"
    MAY_EXPLAIN = "may explain it"
    UNLIKELY = "unlikely"
    NOT_EXPLAINED = "not explained"


class Excess(NamedTuple):
    """Significance of the target at all energies, and what mimics have in its place.

    Attributes
    ----------
    verdict : `Verdict`
        Verdict.
    significance : float
        Significance, NaN if it was not measured.
    mean, spread : float
        Mean and standard deviation of the values of mimics.
    n_larger, number : int
        Number of values that are as large, and of all.
    p_value : float
        Empirical p-value.
    """

    verdict: Verdict
    significance: float
    mean: float
    spread: float
    n_larger: int
    number: int
    p_value: float

    @property
    def distance(self):
        """Standard deviations of mimics above their mean."""
        return (self.significance - self.mean) / self.spread


class Judgement(NamedTuple):
    """What a result says.

    Attributes
    ----------
    question : {"position", "maximum", "systematics"}
        Table that has the answer. "systematics" without a target.
    excess : `Excess` or None
        Excess in question, None without a target.
    biased : list of str
        Bands of energy where the mean of mimics is not 0.
    has_source : bool
        Whether the target's map has more than it should outside of known sources.
    shift : float
        Mean of the target less that of mimics, 0 if they are alike or there is none.
    few_sets : bool
        Whether errors from the scatter of sets are poor.
    few_positions : bool
        Whether mean and width of mimics at the position are poor.
    """

    question: str
    excess: Excess | None
    biased: list
    has_source: bool
    shift: float
    few_sets: bool
    few_positions: bool


def judge(result):
    r"""Judge what a result says about the target, or about the background.

    With a position, the verdict is about an excess there, otherwise about the largest
    significance of the target's map. Mimics have n values: at positions without common
    events, or the largest of each set. Below 3 sigma there is nothing to be explained.
    Otherwise the verdict follows the empirical p-value, (1 + k) / (1 + n) for k values
    that are as large:

    - p above 0.05: the background explains it. If no value is as large, and n so small
      that p could not be below 0.05 (n < 19), there are too few mimics to tell.
    - p up to 0.05: the background is unlikely to explain it if it is 3 or more standard
      deviations of the mimics above their mean, otherwise it may.

    So "unlikely" is said of a target that is nothing but background in 5% of the cases
    at most, whatever the distribution.

    The background does not explain what no mimic reaches, and what is 5 sigma or more,
    3 sigma and 5 standard deviations above the mean of mimics, and beyond one more draw
    from their Gaussian: p < 0.0005 by Student's t distribution, see
    `~gammapy_mimic.estimators.statistics.get_prediction_p_value` (9.4 standard
    deviations for 5 sets, 5 for 10). This is the one verdict that assumes something: a
    tail that is not much longer than that of the mimics seen. Of a target that is
    nothing but background it is said, with 5 sets, in less than 0.01% of the cases if
    the sets hold noise (largest of 500 positions), in 0.15% if the width of their
    significance is 5, and in 0.3% and 1% for a Gumbel and an exponential distribution
    of any scale; but in 6% if one set in ten has a source of 10 sigma in an OFF field.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.

    Returns
    -------
    judgement : `Judgement`
        Judgement.
    """
    question, excess = "systematics", None
    if "position" in result.tables:
        question = "position"
        excess = _judge(result, question, "mimic_width", "n_sample")
    elif "maximum" in result.tables:
        question = "maximum"
        excess = _judge(result, question, "mimic_std", "n_sets")
    has_source, shift = False, 0.0
    # for spectra, the comparison is the question itself
    if result.maps and "maximum" in result.tables:
        row = result.select("maximum")[0]
        above = row["significance"] - row["mimic_mean"]
        # false where one of the two is NaN
        has_source = bool(row["significance"] > 2 * EXCESS and above > EXCESS)
        (target,) = result.select("significance", name=TARGET)["mean"]
        (mimics,) = result.select("systematics", offset_band=ALL)["mean"]
        difference = float(target - mimics)
        shift = difference if abs(difference) > SHIFT else 0.0
    # of the means over all offsets
    rows = result.select("systematics", band=None, offset_band=ALL)
    biased = [_ for _ in rows if abs(_["mean"]) > max(N_ERRORS * _["mean_err"], MEAN)]
    return Judgement(
        question=question,
        excess=excess,
        biased=[str(row["band"]) for row in biased],
        has_source=has_source,
        shift=shift,
        few_sets=len(result.names) < FEW_SETS,
        few_positions=question == "position" and excess.number < FEW_POSITIONS,
    )


def _judge(result, table, spread, number):
    """Judge an excess, from columns of a table."""
    row = result.select(table)[0]
    values = [float(row[_]) for _ in ("significance", "mimic_mean", spread)]
    n_larger = 0 if np.isnan(row["n_larger"]) else int(row["n_larger"])
    excess = Excess(None, *values, n_larger, int(row[number]), float(row["p_value"]))
    return excess._replace(verdict=_find_verdict(excess))


def _find_verdict(excess):
    _, value, mean, spread, n_larger, number, p_value = excess
    if not np.isfinite(value):
        return Verdict.NOT_MEASURED
    if number < 2 or not np.isfinite(mean):
        return Verdict.TOO_FEW
    if value < EXCESS:
        return Verdict.NO_EXCESS
    # far beyond the scatter of mimics, few as they may be: those whose width is below
    # that of noise do not make an excess larger
    is_far = value >= DETECTION and value - mean >= max(EXCESS, DETECTION * spread)
    is_far = is_far and not n_larger
    if is_far and get_prediction_p_value(value, mean, spread, number) < P_VALUE_FAR:
        return Verdict.NOT_EXPLAINED
    if p_value > P_VALUE:
        return Verdict.EXPLAINED if n_larger else Verdict.TOO_FEW
    is_unlikely = value - mean >= EXCESS * spread
    return Verdict.UNLIKELY if is_unlikely else Verdict.MAY_EXPLAIN
