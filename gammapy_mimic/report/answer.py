"""The answer in three lines, and what limits it. All rules of wording are here."""

import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from ..data.meta_tables import Loss, describe_losses
from ..estimators.statistics import get_prediction_p_value
from ..estimators.tables import format_value
from ..visualization.systematics import (
    format_band,
    format_name,
    is_measured,
    select_total,
)

__all__ = ["Answer", "make_answer"]

EXCESS = 3  # significance of an excess that has to be explained
P_VALUE = 0.05  # above it the background explains an excess
DETECTION = 5  # standard deviations above the mean of mimics that it does not explain
P_VALUE_FAR = 5e-4  # of Student's t, below which so few mimics can say so
FEW_SETS = 5  # below it, errors from the scatter of sets are poor
FEW_POSITIONS = 20  # below it, the width of mimics is poor
SHIFT = 0.3  # difference of means from which two distributions differ
N_ERRORS = 3  # number of standard errors from which a mean differs from 0

ENOUGH = "position with enough background counts"
NO_EXCESS = f"There is no excess to be explained (below {EXCESS} sigma)"
EXPLAINED = "The background explains it"
TOO_FEW = "There are too few mimics to tell"
MAY_EXPLAIN = "The background may explain it"
UNLIKELY = "The background is unlikely to explain it, but not excluded"
NOT_EXPLAINED = "The background, as far as mimics show it, does not explain it"


class Answer(NamedTuple):
    """What the mimics have shown, in words."""

    question: str
    """Question."""
    lines: list
    """Three lines: what the target has, what mimics have, what follows."""
    findings: list
    """What else was found."""
    limits: list
    """What limits the answer."""


def make_answer(result, plan=None):
    r"""Answer what a result says about the target, or about the background.

    With a position, the answer is about an excess there, otherwise about the largest
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

    Without a target, the answer is about the systematic error alone, which counts as
    measured if its square is above 0 with 95% confidence.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    plan : `~gammapy_mimic.selection.MimicPlan`, optional
        Plan. Default is not known.

    Returns
    -------
    answer : `Answer`
        Answer.
    """
    if "position" in result.tables:
        question, lines = _answer_position(result)
    elif "maximum" in result.tables:
        question, lines = _answer_maximum(result)
    else:
        question, lines = _answer_systematic(result)
    return Answer(
        question,
        lines,
        findings=_find_bias(result) + _find_difference(result),
        limits=_find_limits(result, plan),
    )


def get_position(result):
    """Position of the question.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.

    Returns
    -------
    position : tuple of float or None
        Right ascension and declination in deg. None if there is none.
    """
    text = str(result.meta.get("position", ""))
    numbers = re.findall(r"[-+]?\d[\d.]*(?:e[-+]?\d+)?", text)
    return tuple(map(float, numbers)) if len(numbers) == 2 else None


def _answer_position(result):
    row = result.tables["position"][-1]
    value, n_sample = row["significance"], int(row["n_sample"])
    position = get_position(result)
    place = "in the on region"
    if position is not None:
        place = f"at RA {position[0]:.3f} deg, Dec {position[1]:+.3f} deg"
    question = f"Is there an excess {place} that the background does not explain?"
    if not np.isfinite(value):
        first = f"The target has no significance {place}: it is masked or has no data."
        return question, [first, *_answer_systematic(result)[1][:2]]
    first = f"The target has {value:.1f} sigma {place} ({format_band(row)})."
    where, kind = "there and at the same offset", "positions"
    what = f"{_count(result.n_sets)}, {n_sample} positions without common events"
    if not result.maps:
        where, kind, what = "there", "sets", _count(result.n_sets)
    second = (
        f"Mimics, which hold no source, have {where} a mean of "
        f"{row['mimic_mean']:.2f} and a width of {row['mimic_width']:.2f} "
        f"({what}; noise alone has 0 and 1). "
        f"{_describe_systematic(result)}"
    )
    if n_sample < 2 or not np.isfinite(row["mimic_mean"]):
        second = (
            f"Of the mimics there are {n_sample} {kind} with enough background to "
            "compare with."
        )
        return question, [first, second, f"{TOO_FEW}."]
    calibrated = format_value(row["calibrated"], row["calibrated_err"], ".1f")
    verdict = _find_verdict(row, n_sample, row["mimic_width"])
    if verdict == NO_EXCESS:
        third = f"{verdict}: the calibrated significance is {calibrated}."
        return question, [first, second, third]
    third = (
        f"{verdict}: {_describe_p_value(row, n_sample, kind)}; the calibrated "
        f"significance, for a Gaussian of this mean and width, is {calibrated}."
    )
    return question, [first, second, third]


def _find_verdict(row, number, spread):
    """Say whether the background explains an excess, see `make_answer`.

    ``spread`` is the standard deviation of the ``number`` values of mimics.
    """
    value, n_larger = row["significance"], row["n_larger"]
    if value < EXCESS:
        return NO_EXCESS
    if not n_larger and _is_far(row, number, spread):
        return NOT_EXPLAINED
    if row["p_value"] > P_VALUE:
        return EXPLAINED if n_larger else TOO_FEW
    is_unlikely = value - row["mimic_mean"] >= EXCESS * spread
    return UNLIKELY if is_unlikely else MAY_EXPLAIN


def _is_far(row, number, spread):
    """Whether an excess is far beyond the scatter of mimics, few as they may be."""
    value, mean = row["significance"], row["mimic_mean"]
    # mimics whose width is below that of noise do not make an excess larger
    is_large = value >= DETECTION and value - mean >= max(EXCESS, DETECTION * spread)
    return is_large and (
        get_prediction_p_value(value, mean, spread, number) < P_VALUE_FAR
    )


def _answer_maximum(result):
    row = result.tables["maximum"][-1]
    value, n_sets = row["significance"], int(row["n_sets"])
    question = "Does the map of the target hold more than its background?"
    if not np.isfinite(value):
        first = f"The target's map has no {ENOUGH}."
        return question, [first, *_answer_systematic(result)[1][:2]]
    first = (
        f"The largest significance of the target's map is {value:.1f} sigma "
        f"({format_band(row)}{describe_blank(result)})."
    )
    if n_sets < 2:
        number = "one has" if n_sets else "none has"
        second = f"Of the mimic sets, {number} a {ENOUGH} to compare with."
        return question, [first, second, f"{TOO_FEW}."]
    second = (
        f"Mimics, which hold no source, have {row['mimic_mean']:.1f} ± "
        f"{row['mimic_std']:.1f} (mean and standard deviation of "
        f"{_count(n_sets)}). {_describe_systematic(result)}"
    )
    verdict = _find_verdict(row, n_sets, row["mimic_std"])
    third = f"{verdict}: {_describe_p_value(row, n_sets, 'sets')}."
    if verdict == NOT_EXPLAINED:
        distance = (value - row["mimic_mean"]) / row["mimic_std"]
        third = (
            f"{third[:-1]}, but it is {distance:.0f} standard deviations of the sets "
            "above their mean, which the tail of a Gaussian does not reach."
        )
    return question, [first, second, third]


def describe_blank(result):
    """Say what is left out of the target's map.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.

    Returns
    -------
    text : str
        Part of a sentence, after a comma. "" if nothing is.
    """
    if result.blank is None:
        return ""
    radius = result.meta.get("correlation_radius")
    return f", outside of the excluded sources, grown by {radius}"


def _answer_systematic(result):
    row = select_total(result)
    question = "How large is the systematic error of the background?"
    if not np.isfinite(row["mean"]):
        lines = [f"Mimics have no {ENOUGH}.", _describe_systematic(result)]
        return question, [*lines, "Use more observations, or wider bands."]
    first = (
        f"Mimics, which hold no source, have significances of the mean "
        f"{format_value(row['mean'], row['mean_err'], '.3f')} and the width "
        f"{format_value(row['width'], row['width_err'], '.3f')} "
        f"({format_band(row)}; noise alone has 0 and 1)."
    )
    second = _describe_systematic(result)
    rows = [_ for _ in result.tables["systematics"] if np.isfinite(_["f_ul"])]
    if not rows:
        return question, [first, second, "There are too few positions for a limit."]
    largest = max(rows, key=lambda _: _["f_ul"])
    offset = format_band(largest, "offset", "deg")
    third = (
        f"The weakest limit on it, by energy and offset, is {largest['f_ul']:.1%} "
        f"({', '.join(filter(None, [format_band(largest), offset]))})."
    )
    return question, [first, second, third]


def _describe_systematic(result):
    """Fractional systematic error, or its upper limit, at all energies."""
    row = select_total(result)
    text = "The systematic error of the background"
    if is_measured(row):
        return f"{text} is {row['f']:.1%} ± {row['f_err']:.1%}."
    if not np.isfinite(row["f_ul"]):
        return f"{text} cannot be given, for lack of positions or sets."
    return f"{text} is below {row['f_ul']:.1%} (95% confidence)."


def _describe_p_value(row, number, what):
    n_larger, p_value = int(row["n_larger"]), f"p = {row['p_value']:.2g}"
    if n_larger:
        verb = "is" if n_larger == 1 else "are"
        return f"{n_larger} of {number} {what} {verb} as large, {p_value}"
    return (
        f"none of {number} {what} is as large, {p_value}, which is the smallest that "
        "so many can give"
    )


def _count(n_sets):
    return f"{n_sets} mimic sets" if n_sets > 1 else "1 mimic set"


def _find_bias(result):
    """Means of mimics that differ from 0, and the bias map."""
    findings = []
    table = result.tables["systematics"]
    for row in table[~np.isfinite(table["offset_min"])]:
        # a biased mean of a few percent is that of the test statistic itself
        if abs(row["mean"]) > max(N_ERRORS * row["mean_err"], 0.1):
            sense = "high" if row["mean"] < 0 else "low"
            findings.append(
                f"{format_band(row)}: mimics have a mean of {row['mean']:+.2f} ± "
                f"{row['mean_err']:.2f}, so that the prediction is too {sense}."
            )
    if result.bias is not None and result.bias.is_significant:
        findings.append(
            "Counts and prediction differ over the field of view by more than chance "
            f"(p = {result.bias.p_value:.1g}), see the bias map."
        )
    return findings


def _find_difference(result):
    """Differences between the target and mimics."""
    # for spectra, the comparison is the question itself
    if "maximum" not in result.tables or not result.maps:
        return []
    findings = []
    row = result.tables["maximum"][-1]
    # false where one of the two is NaN
    if row["significance"] > 2 * EXCESS and row["significance"] > (
        row["mimic_mean"] + EXCESS
    ):
        reason = (
            "there is more than the excluded sources"
            if result.blank is not None
            else "no sources are excluded, so that the comparison is with sources"
        )
        findings.append(
            f"The target's map reaches {row['significance']:.1f} sigma, mimics "
            f"{row['mimic_mean']:.1f}: {reason}."
        )
    table = result.tables["significance"]
    (target,) = table[table["name"] == "target"][-1:]
    total = select_total(result)
    shift = target["mean"] - total["mean"]
    if abs(shift) > SHIFT:
        findings.append(
            f"The mean significance of the target's map is {target['mean']:+.2f}, that "
            f"of mimics {total['mean']:+.2f}. Such a shift is one of the target's "
            "background as a whole, which mimics do not have: is a source counted as "
            "background, or the exclusion not given to the background maker?"
        )
    return findings


def _find_limits(result, plan):
    limits = []
    n_sets = result.n_sets
    text = f"Errors are from the scatter of {_count(n_sets)}"
    limits.append(f"{text}, which is few." if n_sets < FEW_SETS else f"{text}.")
    limits += _find_losses(result)
    limits += _find_position_limits(result)
    if plan is not None:
        limits += _find_plan_limits(plan)
    limits += [
        f"Missing: {name.removeprefix('no_')}. {reason}"
        for name, reason in result.meta.items()
        if name.startswith("no_")
    ]
    return limits


def _find_losses(result):
    """Say what observations have lost, once for each cause."""
    if "losses" not in result.tables:
        return []
    rows = result.tables["losses"].iterrows("name", *Loss._fields)
    return describe_losses([(format_name(name), Loss(*_)) for name, *_ in rows])


def _find_position_limits(result):
    if "position" not in result.tables:
        return []
    limits = [
        "The position is taken as chosen beforehand. For one that was found where the "
        "significance is largest, compare the largest significances.",
        "Beyond the largest value of mimics, the calibrated significance assumes that "
        "their distribution is Gaussian. Its error is that of their mean and width.",
    ]
    n_sample = int(result.tables["position"][-1]["n_sample"])
    if n_sample < FEW_POSITIONS:
        kind = "positions" if result.maps else "sets"
        limits.append(f"There are only {n_sample} {kind} of mimics to compare with.")
    return limits


def _find_plan_limits(plan):
    limits = []
    numbers = Counter(
        off for mimic_set in plan.sets for off in plan.off_obs_ids(mimic_set)
    )
    n_shared = sum(number > 1 for number in numbers.values())
    if n_shared:
        limits.append(
            f"{n_shared} of {len(numbers)} OFF observations are in more than one set. "
            "The sets are not independent, and errors are too small."
        )
    n_questionable = len({obs_id for obs_id, _ in plan.questionable})
    if n_questionable:
        n_targets = len(np.unique(plan.table["OBS_ID"]))
        limits.append(
            f"{n_questionable} of {n_targets} targets have no partner, or a poor one, "
            "in at least one set."
        )
    return limits
