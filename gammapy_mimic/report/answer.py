"""The answer in three lines, and what limits it. All rules of wording are here."""

import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from ..visualization.systematics import (
    format_band,
    is_measured,
    select_total,
)

__all__ = ["Answer", "make_answer"]

EXCESS = 3  # significance of an excess that has to be explained
P_VALUE = 0.05  # smallest probability with which the background explains an excess
DETECTION = 5  # calibrated significance of one that it does not explain
FEW_SETS = 5  # below it, errors from the scatter of sets are poor
FEW_POSITIONS = 20  # below it, the width of mimics is poor
SHIFT = 0.3  # difference of means from which two distributions differ
N_ERRORS = 3  # number of standard errors from which a mean differs from 0

NO_VALUE = -90  # the estimator gives less as the largest of no values
ENOUGH = "position with enough background counts"
NO_EXCESS = f"There is no excess to be explained (below {EXCESS} sigma)"
EXPLAINED = "The background explains it"
TOO_FEW = "There are too few mimics to tell"
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


def make_answer(result, plan=None, has_exclusion=False):
    r"""Answer what a result says about the target, or about the background.

    With a position, the answer is about an excess there:

    - Below 3 sigma there is nothing to be explained.
    - If mimics have values as large, and the empirical p-value is above 0.05, the
      background explains it.
    - With fewer than 20 positions, mimics cannot tell.
    - Otherwise the calibrated significance decides, which is that of the target minus
      the mean of mimics over their width, or that of the target if it is smaller. From
      5 on the background does not explain it, from 3 on that is unlikely, below 3 it
      may.

    The p-value is (1 + k) / (1 + n) for k of n values of mimics that are as large. If
    none is, it is a limit from the number of positions.

    Without a position, the answer compares the largest significance of the target's map
    with those of the mimic sets. Below 3 sigma there is nothing to be explained, and if
    a set has one as large the background explains it. With fewer than 5 sets, mimics
    cannot tell otherwise. With more, the background does not explain a value that is 3
    sigma and 5 standard deviations of the sets above their mean.

    Without a target, the answer is about the systematic error alone, which counts as
    measured if its square is above 0 with 95% confidence.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    plan : `~gammapy_mimic.plan.MimicPlan`, optional
        Plan. Default is not known.
    has_exclusion : bool, optional
        Whether sources of the target are excluded. Default is False.

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
        findings=_find_bias(result) + _find_difference(result, has_exclusion),
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
    if n_sample < 2:
        second = (
            f"Of the mimics there are {n_sample} {kind} with enough background to "
            "compare with."
        )
        third = f"{TOO_FEW}."
        return question, [first, second, third]
    if value < EXCESS:
        third = f"{NO_EXCESS}: the calibrated significance is {_calibrated(row)}."
        return question, [first, second, third]
    return question, [first, second, _judge(row, n_sample, kind)]


def _judge(row, n_sample, what):
    """Say whether the background explains an excess at a position."""
    # mimics whose width is below that of noise do not make an excess larger
    smaller = min(row["calibrated"], row["significance"])
    if row["p_value"] > P_VALUE and _count_larger(row, n_sample):
        verdict = EXPLAINED
    elif n_sample < FEW_POSITIONS:
        verdict = TOO_FEW
    elif smaller >= DETECTION:
        verdict = NOT_EXPLAINED
    elif smaller >= EXCESS:
        verdict = UNLIKELY
    else:
        verdict = "The background may explain it"
    return (
        f"{verdict}: {_describe_p_value(row, n_sample, what)}; the calibrated "
        f"significance, for a Gaussian of this mean and width, is {_calibrated(row)}."
    )


def _calibrated(row):
    return f"{row['calibrated']:.1f} ± {row['calibrated_err']:.1f}"


def _answer_maximum(result):
    row = result.tables["maximum"][-1]
    value, n_sets = row["significance"], int(row["n_sets"])
    question = "Does the map of the target hold more than its background?"
    if value < NO_VALUE:
        first = f"The target's map has no {ENOUGH}."
        return question, [first, *_answer_systematic(result)[1][:2]]
    first = (
        f"The largest significance of the target's map is {value:.1f} sigma "
        f"({format_band(row)})."
    )
    second = (
        f"Mimics, which hold no source, have {row['mimic_mean']:.1f} ± "
        f"{row['mimic_std']:.1f} (mean and standard deviation of "
        f"{_count(n_sets)}). {_describe_systematic(result)}"
    )
    n_larger = _count_larger(row, n_sets)
    distance = value - row["mimic_mean"]
    if value < EXCESS:
        verdict = NO_EXCESS
    elif n_larger:
        verdict = EXPLAINED
    elif n_sets < FEW_SETS:
        verdict = TOO_FEW
    elif distance >= max(EXCESS, DETECTION * row["mimic_std"]):
        verdict = NOT_EXPLAINED
    else:
        verdict = UNLIKELY
    third = f"{verdict}: {_describe_p_value(row, n_sets, 'sets')}."
    return question, [first, second, third]


def _answer_systematic(result):
    row = select_total(result)
    question = "How large is the systematic error of the background?"
    if not np.isfinite(row["mean"]):
        lines = [f"Mimics have no {ENOUGH}.", _describe_systematic(result)]
        return question, [*lines, "Use more observations, or wider bands."]
    first = (
        f"Mimics, which hold no source, have significances of the mean "
        f"{row['mean']:.3f} ± {row['mean_err']:.3f} and the width {row['width']:.3f} ± "
        f"{row['width_err']:.3f} ({format_band(row)}; noise alone has 0 and 1)."
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


def _count_larger(row, number):
    """Count the values of mimics that are as large, from the p-value."""
    return round(row["p_value"] * (1 + number)) - 1


def _describe_p_value(row, number, what):
    n_larger = _count_larger(row, number)
    if n_larger:
        verb = "is" if n_larger == 1 else "are"
        p_value = f"p = {row['p_value']:.2g}"
        return f"{n_larger} of {number} {what} {verb} as large, {p_value}"
    return (
        f"none of {number} {what} is as large, p = {row['p_value']:.2g}, which is the "
        "smallest that so many can give"
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


def _find_difference(result, has_exclusion):
    """Differences between the target and mimics."""
    # for spectra, the comparison is the question itself
    if "maximum" not in result.tables or not result.maps:
        return []
    findings = []
    row = result.tables["maximum"][-1]
    if row["significance"] > max(2 * EXCESS, row["mimic_mean"] + EXCESS):
        reason = (
            "there is more than the excluded sources"
            if has_exclusion
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
    limits += _find_position_limits(result)
    if plan is not None:
        limits += _find_plan_limits(plan)
    limits += [
        f"Missing: {name.removeprefix('no_')}. {reason}"
        for name, reason in result.meta.items()
        if name.startswith("no_")
    ]
    return limits


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
