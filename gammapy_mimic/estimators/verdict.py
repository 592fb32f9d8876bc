"""What a result says: a verdict on the target, and what is wrong with it."""

import enum
from typing import NamedTuple

import numpy as np

from .calibration import MIN_SETS
from .maximum import N_MAPS, has_more_in_mimics
from .measurement import ALL
from .position import EXCESS
from .tables import TARGET

__all__ = ["Excess", "Judgement", "Verdict", "judge", "judge_region"]

P_VALUE = 0.05  # above it the background explains an excess
P_VALUE_UNLIKELY = 0.01  # of random maps, above it the background may explain a maximum
LIKELY = 1.645  # the same for a calibrated significance
DETECTION = 5  # significance of what it does not explain
FACTOR = 2  # background over its prediction, that no systematic error reaches
FEW_SETS = 5  # below it, errors from the scatter of sets are poor
SHIFT = 0.3  # difference of means from which two distributions differ
N_ERRORS = 3  # number of standard errors from which a mean differs from 0


class Verdict(enum.Enum):
    """Whether the background explains what the target has, see `judge`."""

    NOT_MEASURED = "not measured"
    NO_EXCESS = "no excess"
    EXPLAINED = "explained"
    TOO_FEW = "too few mimics"
    MAY_EXPLAIN = "may explain it"
    UNLIKELY = "unlikely"
    TOO_LARGE = "too large"
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
        Number of values that are as large, and of all: of mimics at a position, of
        random maps for a maximum.
    p_value : float
        P-value of the calibrated significance, or of the largest one.
    calibrated : float
        Calibrated significance of a position, NaN for the largest one.
    background_factor : float
        Background over its prediction that would leave 3 sigma of an excess at a
        position, NaN for the largest one.
    """

    verdict: Verdict
    significance: float
    mean: float
    spread: float
    n_larger: int
    number: int
    p_value: float
    calibrated: float = np.nan
    background_factor: float = np.nan

    @property
    def is_too_large(self):
        """Whether no systematic error of a background is as large (bool).

        As large as the prediction itself, where no mimic shows anything like it.
        """
        is_beyond = self.background_factor > FACTOR and self.significance >= DETECTION
        # the width is not known without enough mimics
        is_wide = self.significance - self.mean < DETECTION * self.spread
        return bool(is_beyond and not is_wide and not self.n_larger)


class Judgement(NamedTuple):
    """What a result says.

    Attributes
    ----------
    question : {"position", "maximum", "systematics"}
        Table that has the answer. "systematics" without a target.
    excess : `Excess` or None
        Excess in question, None without a target.
    biased : list of str
        Bands of energy where counts and prediction of mimics differ by more than 3
        standard errors.
    has_source : bool
        Whether the target's map has more than it should outside of known sources.
    shift : float
        Mean of the target less that of mimics, 0 if they are alike or there is none.
    leak : float
        Width of the target's distribution outside of its known sources less that of
        mimics, 0 if it is not larger by 3 standard errors: a source reaches farther
        than what is excluded.
    few_sets : bool
        Whether errors from the scatter of sets are poor.
    """

    question: str
    excess: Excess | None
    biased: list
    has_source: bool
    shift: float
    leak: float
    few_sets: bool


def judge(result):
    r"""Judge what a result says about the target, or about the background.

    With a position, the verdict is about an excess there, otherwise about the largest
    significance of the target's map. Below 3 sigma there is nothing to be explained.

    A position is judged by its calibrated significance, see
    `~gammapy_mimic.estimators.position.calibrate`, which is never above the raw one:

    - not measurable: there are too few mimics to tell;
    - below 1.645 (p > 0.05): the background explains it;
    - below 3, or a mimic is as large at this offset: the background may explain it;
    - below 5 it is unlikely to do so, and from 5 on it does not.

    An excess of 5 sigma that leaves 3 sigma over twice the prediction is too large,
    whatever mimics are too few to tell: unless one is as large, or the width of mimics,
    taken as exact, leaves less than 5 sigma of it.

    Background alone has a calibrated significance above 3 in at most 0.2% of the cases.

    The largest significance is judged by its p-value, (1 + k) / (1 + n) for k of n
    random maps that have one as large: maps of random maps of the background, with the
    mean error and the spread that mimics have, see
    `~gammapy_mimic.estimators.maximum.tabulate_maximum`:

    - p above 0.05: the background explains it, be it with noise alone. Otherwise there
      are too few mimics to tell, if the spread of the background was not measured, or
      there are fewer than 3 sets.
    - p above 0.01, or a mimic set has one as large: the background may explain it.
    - p up to 0.01: the background is unlikely to explain it.
    - None of 10,000 random maps has one as large (p below 3e-4 with 95% confidence),
      which is 5 sigma or more: the background, as far as mimics show it, does not
      explain it. It is not known how far below p is, which more maps would tell.

    If mimics have more positions above 2 sigma than random maps (with 99% confidence),
    p is too small, and the verdict of the last two is one step weaker. So "unlikely" is
    said of a target that is nothing but background in 1% of the cases at most, if its
    background is like that of the mimics. What assumes something is the tail: that of a
    random field on the scale of the circle. A source in an OFF field has another, which
    is why no mimic set may have a maximum as large.

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
        excess = _judge_position(result.select(question)[0])
    elif "maximum" in result.tables:
        question = "maximum"
        excess = _judge_maximum(result.select(question)[0])
    has_source, shift, leak = False, 0.0, 0.0
    # for spectra, the comparison is the question itself
    if result.maps and "maximum" in result.tables:
        row = result.select("maximum")[0]
        above = row["significance"] - row["mimic_mean"]
        # false where one of the two is NaN
        has_source = bool(row["significance"] > 2 * EXCESS and above > EXCESS)
        target = result.select("significance", name=TARGET)[0]
        mimics = result.select("systematics", offset_band=ALL)[0]
        # at the same positions, as what is excluded may be where mimics have most
        sample = result.get_significance(is_source_free=True)
        mean, width = (_(sample) if len(sample) else np.nan for _ in (np.mean, np.std))
        difference = float(target["mean"] - mean)
        shift = difference if abs(difference) > SHIFT else 0.0
        wider = float(target["width"] - width)
        error = np.hypot(target["width_err"], np.nan_to_num(mimics["width_err"]))
        leak = wider if wider > N_ERRORS * error else 0.0
    # over all offsets
    rows = result.select("systematics", band=None, offset_band=ALL)
    biased = [_ for _ in rows if abs(_["delta"]) > N_ERRORS * _["delta_err"]]
    return Judgement(
        question=question,
        excess=excess,
        biased=[str(row["band"]) for row in biased],
        has_source=has_source,
        shift=shift,
        leak=leak,
        few_sets=len(result.names) < FEW_SETS,
    )


def _judge_position(row):
    """Judge a position by its calibrated significance."""
    number, n_larger = (np.nan_to_num(row[_]) for _ in ("n_sample", "n_larger"))
    excess = Excess(
        verdict=None,
        significance=float(row["significance"]),
        mean=float(row["mimic_mean"]),
        spread=float(row["mimic_width"]),
        # samples that share events are effective numbers
        n_larger=int(np.ceil(n_larger - 1e-6)),
        number=int(np.rint(number)),
        p_value=float(row["calibrated_p_value"]),
        calibrated=float(row["calibrated"]),
        background_factor=float(row["background_factor"]),
    )
    return excess._replace(verdict=_find_position_verdict(excess))


def judge_region(row):
    """Judge an excess in a region by its calibrated significance, see `judge`.

    Parameters
    ----------
    row : `~astropy.table.Row`
        Row of the table "regions", with a target.

    Returns
    -------
    excess : `Excess`
        Excess. Values of mimics are not counted.
    """
    excess = Excess(
        verdict=None,
        significance=float(row["significance"]),
        mean=float(row["mimic_mean"]),
        spread=float(row["mimic_width"]),
        n_larger=0,
        number=0,
        p_value=float(row["calibrated_p_value"]),
        calibrated=float(row["calibrated"]),
    )
    return excess._replace(verdict=_find_position_verdict(excess))


def _find_position_verdict(excess):
    calibrated = excess.calibrated
    if not np.isfinite(excess.significance):
        return Verdict.NOT_MEASURED
    if excess.significance < EXCESS:
        return Verdict.NO_EXCESS
    if calibrated >= DETECTION and not excess.n_larger:
        return Verdict.NOT_EXPLAINED
    if excess.is_too_large:
        return Verdict.TOO_LARGE
    if not np.isfinite(calibrated):
        return Verdict.TOO_FEW
    if calibrated < LIKELY:
        return Verdict.EXPLAINED
    # the tail of mimics is longer than that of a Gaussian
    if calibrated < EXCESS or excess.n_larger:
        return Verdict.MAY_EXPLAIN
    return Verdict.UNLIKELY


def _judge_maximum(row):
    """Judge the largest significance by random maps."""
    excess = Excess(
        verdict=None,
        significance=float(row["significance"]),
        mean=float(row["mimic_mean"]),
        spread=float(row["mimic_std"]),
        n_larger=int(np.nan_to_num(row["n_larger"])),
        number=int(row["n_maps"]),
        p_value=float(row["p_value"]),
    )
    return excess._replace(verdict=_find_verdict_of_maximum(excess, row))


def _find_verdict_of_maximum(excess, row):
    value = excess.significance
    if not np.isfinite(value):
        return Verdict.NOT_MEASURED
    if value < EXCESS:
        return Verdict.NO_EXCESS
    if excess.p_value > P_VALUE:
        return Verdict.EXPLAINED
    is_measured = row["has_spread"] and row["n_sets"] >= MIN_SETS
    if not is_measured or np.isnan(excess.p_value):
        return Verdict.TOO_FEW
    if excess.p_value > P_VALUE_UNLIKELY or row["mimic_max"] >= value:
        return Verdict.MAY_EXPLAIN
    is_beyond = excess.n_larger == 0 and excess.number >= N_MAPS and value >= DETECTION
    verdicts = [Verdict.MAY_EXPLAIN, Verdict.UNLIKELY, Verdict.NOT_EXPLAINED]
    return verdicts[1 + is_beyond - has_more_in_mimics(row)]
