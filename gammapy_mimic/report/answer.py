"""The answer in three lines, and what limits it. All rules of wording are here."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from ..data.meta_tables import describe_losses, read_losses
from ..data.obs_ids import shorten
from ..estimators.tables import format_value, get_name
from ..estimators.verdict import EXCESS, Verdict
from ..selection.ranked_plan import describe_unlike
from ..visualization.common import format_band, format_name

__all__ = ["Answer", "describe_pairs", "make_answer"]

RATIO_MAX = 1.25
"""Ratio of the backgrounds of mimics and target, or its inverse, from which it is said.
"""

FEW_SETS = 2
"""Number of mimic sets that are named one by one."""

LEFT_OUT = {
    "large_kl": "Left out, as none is like it",
    "no_mimic": "Left out, as there is no partner",
}
"""What is done with a target, by the reason why it is questionable."""

ENOUGH = "position with enough background counts"
WORDS = {
    Verdict.NO_EXCESS: f"There is no excess to be explained (below {EXCESS} sigma)",
    Verdict.EXPLAINED: "The background explains it",
    Verdict.TOO_FEW: "There are too few mimics to tell",
    Verdict.MAY_EXPLAIN: "The background may explain it",
    Verdict.UNLIKELY: "The background is unlikely to explain it, but not excluded",
    Verdict.NOT_EXPLAINED: "The background, as far as mimics show it, does not "
    "explain it",
}


class Answer(NamedTuple):
    """What the mimics have shown, in words.

    Attributes
    ----------
    question : str
        Question.
    lines : list of str
        Three lines: what the target has, what mimics have, what follows.
    findings : list of str
        What else was found.
    limits : list of str
        What limits the answer.
    """

    question: str
    lines: list
    findings: list
    limits: list


def make_answer(result, plan=None):
    """Say in words what a result says, see `~gammapy_mimic.estimators.Judgement`.

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
    judgement = result.judgement
    answers = {"position": _answer_position, "maximum": _answer_maximum}
    if judgement.excess is None:
        question, lines = _answer_systematic(result)
    else:
        question, lines = answers[judgement.question](result, judgement.excess)
    return Answer(
        question,
        lines,
        findings=_describe_findings(result, judgement),
        limits=_describe_limits(result, judgement, plan),
    )


def _answer_position(result, excess):
    row, number = result.select("position")[0], excess.number
    place = "in the on region"
    if result.position is not None:
        position = result.position.icrs
        place = f"at RA {position.ra.deg:.3f} deg, Dec {position.dec.deg:+.3f} deg"
    question = f"Is there an excess {place} that the background does not explain?"
    if excess.verdict is Verdict.NOT_MEASURED:
        first = f"The target has no significance {place}: it is masked or has no data."
        return question, [first, *_answer_systematic(result)[1][:2]]
    first = (
        f"The target has {excess.significance:.1f} sigma {place} ({format_band(row)})."
    )
    where, kind = "there and at the same offset", "positions"
    sets = _count_sets(len(result.names))
    what = f"{sets}, {number} positions without common events"
    if not result.maps:
        where, kind, what = "there", "sets", sets
    # one value has no width to compare with
    if number < 2 or not np.isfinite(excess.mean):
        second = (
            f"Of the mimics there are {number} {kind} with enough background to "
            "compare with."
        )
        return question, [first, second, f"{WORDS[excess.verdict]}."]
    second = (
        f"Mimics, which hold no source, have {where} a mean of "
        f"{excess.mean:.2f} and a width of {excess.spread:.2f} "
        f"({what}; noise alone has 0 and 1). "
        f"{_state_systematic(result)}"
    )
    calibrated = format_value(row["calibrated"], row["calibrated_err"], ".1f")
    third = (
        f"{WORDS[excess.verdict]}: {_describe_p_value(excess, kind)}; the calibrated "
        f"significance, for a Gaussian of this mean and width, is {calibrated}."
    )
    if excess.verdict is Verdict.NO_EXCESS:
        third = f"{WORDS[excess.verdict]}: the calibrated significance is {calibrated}."
    return question, [first, second, third]


def _answer_maximum(result, excess):
    row, number = result.select("maximum")[0], excess.number
    question = "Does the map of the target hold more than its background?"
    if excess.verdict is Verdict.NOT_MEASURED:
        first = f"The target's map has no {ENOUGH}."
        return question, [first, *_answer_systematic(result)[1][:2]]
    first = (
        f"The largest significance of the target's map is {excess.significance:.1f} "
        f"sigma ({format_band(row)}{describe_exclusion(result)})."
    )
    if number < 2:
        verb = "one has" if number else "none has"
        second = f"Of the mimic sets, {verb} a {ENOUGH} to compare with."
        return question, [first, second, f"{WORDS[excess.verdict]}."]
    second = (
        f"Mimics, which hold no source, have {excess.mean:.1f} ± {excess.spread:.1f} "
        f"(mean and standard deviation of "
        f"{_count_sets(number)}). {_state_systematic(result)}"
    )
    third = f"{WORDS[excess.verdict]}: {_describe_p_value(excess, 'sets')}"
    if excess.verdict is Verdict.NOT_EXPLAINED:
        third += (
            f", but it is {excess.distance:.0f} standard deviations of the sets above "
            "their mean, which the tail of a Gaussian does not reach"
        )
    return question, [first, second, f"{third}."]


def describe_exclusion(result):
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
    if result.source_free is None:
        return ""
    radius = result.correlation_radius.deg
    return f", outside of the excluded sources, grown by {radius} deg"


def _answer_systematic(result):
    row = result.select("systematics", offset_band="all")[0]
    question = "How large is the systematic error of the background?"
    if not np.isfinite(row["mean"]):
        lines = [f"Mimics have no {ENOUGH}.", _state_systematic(result)]
        return question, [*lines, "Use more observations, or wider bands."]
    first = (
        f"Mimics, which hold no source, have significances of the mean "
        f"{format_value(row['mean'], row['mean_err'], '.3f')} and the width "
        f"{format_value(row['width'], row['width_err'], '.3f')} "
        f"({format_band(row)}; noise alone has 0 and 1)."
    )
    second = _state_systematic(result)
    rows = [_ for _ in result.tables["systematics"] if np.isfinite(_["f_ul"])]
    if not rows:
        return question, [first, second, "There are too few positions for a limit."]
    # where the background is known worst
    largest = max(rows, key=lambda _: _["f_ul"])
    offset = format_band(largest, "offset", "deg")
    third = (
        f"The weakest limit on it, by energy and offset, is {largest['f_ul']:.1%} "
        f"({', '.join(filter(None, [format_band(largest), offset]))})."
    )
    return question, [first, second, third]


def _state_systematic(result):
    """Fractional systematic error, or its upper limit, at all energies."""
    row = result.select("systematics", offset_band="all")[0]
    text = "The systematic error of the background"
    if row["is_measured"]:
        return f"{text} is {row['f']:.1%} ± {row['f_err']:.1%}."
    if not np.isfinite(row["f_ul"]):
        return f"{text} cannot be given, for lack of positions or sets."
    return f"{text} is below {row['f_ul']:.1%} (95% confidence)."


def _describe_p_value(excess, what):
    n_larger, number = excess.n_larger, excess.number
    p_value = f"p = {excess.p_value:.2g}"
    if n_larger:
        verb = "is" if n_larger == 1 else "are"
        return f"{n_larger} of {number} {what} {verb} as large, {p_value}"
    return (
        f"none of {number} {what} is as large, {p_value}, which is the smallest that "
        "so many can give"
    )


def _count_sets(n_sets):
    return f"{n_sets} mimic sets" if n_sets > 1 else "1 mimic set"


def _describe_findings(result, judgement):
    """Means that differ from 0, the bias map, and what sets the target apart."""
    findings = []
    for band in judgement.biased:
        row = result.select("systematics", band, offset_band="all")[0]
        # too much background makes counts look too few
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
    if judgement.has_source:
        row = result.select("maximum")[0]
        reason = (
            "there is more than the excluded sources"
            if result.source_free is not None
            else "no sources are excluded, so that the comparison is with sources"
        )
        findings.append(
            f"The target's map reaches {row['significance']:.1f} sigma, mimics "
            f"{row['mimic_mean']:.1f}: {reason}."
        )
    # not of mimics, hence of what only the target has gone through
    if judgement.shift:
        (target,) = result.select("significance", name="target")["mean"]
        findings.append(
            f"The mean significance of the target's map is {target:+.2f}, that of "
            f"mimics {target - judgement.shift:+.2f}. Such a shift is one of the "
            "target's background as a whole, which mimics do not have: is a source "
            "counted as background, or the exclusion not given to the background maker?"
        )
    return findings


def _describe_limits(result, judgement, plan):
    n_sets = len(result.names)
    text = f"Errors are from the scatter of {n_sets} mimic sets"
    limits = [f"{text}, which is few." if judgement.few_sets else f"{text}."]
    if n_sets == 1:
        limits = ["There is one mimic set: the scatter between sets is not known."]
    if "losses" in result.tables:
        losses = read_losses(result.tables["losses"])
        limits += describe_losses(
            [(format_name(name), loss) for name, loss in losses if loss.is_told]
        )
    limits += _describe_rates(result, plan)
    if judgement.question == "position":
        limits += [
            "The position is taken as chosen beforehand. For one that was found where "
            "the significance is largest, compare the largest significances.",
            "Beyond the largest value of mimics, the calibrated significance assumes "
            "that their distribution is Gaussian. Its error is that of their mean and "
            "width.",
        ]
    if judgement.few_positions:
        kind = "positions" if result.maps else "sets"
        number = judgement.excess.number
        limits.append(f"There are only {number} {kind} of mimics to compare with.")
    summary = None if plan is None else plan.make_summary()
    n_shared = 0 if plan is None else sum(_ > 1 for _ in plan.reuse.values())
    if n_shared and not summary.is_independent:
        limits.append(
            f"{n_shared} of {len(plan.reuse)} OFF observations are in more than one "
            "set. The sets are not independent, and errors are too small."
        )
    if summary is not None and summary.warning:
        limits.append(summary.warning)
    if plan is not None and plan.questionable:
        n_questionable = len({obs_id for obs_id, _ in plan.questionable})
        limits.append(
            f"{n_questionable} of {len(set(plan.table['OBS_ID']))} targets are left "
            "out of at least one set: they have no partner, or none that is like them."
        )
    if plan is not None and plan.unlike:
        limits.append(describe_unlike(plan))
    return limits + [f"Missing: {name}. {why}" for name, why in result.missing.items()]


def describe_pairs(plan):
    """Say what status the pairs of a plan have, and which targets are left out.

    Parameters
    ----------
    plan : `~gammapy_mimic.selection.MimicPlan`
        Plan.

    Returns
    -------
    text : str
        Sentences.
    """
    counts = Counter(plan.table["STATUS"].tolist())
    pairs = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    texts = [f"Pairs: {pairs}."]
    for reason, what in LEFT_OUT.items():
        obs_ids = [obs_id for obs_id, why in plan.questionable if why == reason]
        if obs_ids:
            texts.append(f"{what}: OBS_ID {shorten(obs_ids)} ({reason}).")
    if not plan.questionable:
        texts.append("No target is left out.")
    return " ".join(texts)


def _describe_rates(result, plan):
    """Say where mimics have another background than the target.

    By the rates of the plan; or, if these are not known or alike, by the counts.
    """
    rows = result.select("significance")
    counts = dict(rows.iterrows("name", "background_ratio"))
    ratios = {"background counts": {name: counts[name] for name in result.names}}
    if plan is not None:
        ratios = {"rate of events": _get_rates(plan)} | ratios
    for what, values in ratios.items():
        # NaN is not known
        other = {
            name: value
            for name, value in values.items()
            if value > RATIO_MAX or value < 1 / RATIO_MAX
        }
        if other:
            return [
                f"{_list_some(other)} of the target's {what}. The fractional "
                "systematic error is that of both, but the significance of mimics is "
                "that of their own counts: with fewer they show less of it."
            ]
    return []


def _get_rates(plan):
    """Rate of the events of OFF observations over that of targets, by set."""
    table = plan.table[np.isfinite(plan.table["RATE_RATIO"])]
    values = {_: table["RATE_RATIO"][table["MIMIC_SET"] == _] for _ in plan.sets}
    return {get_name(_): np.mean(value) for _, value in values.items() if len(value)}


def _list_some(values):
    """List which set has what fraction, or between what they are if they are many."""
    if len(values) > FEW_SETS:
        limits = min(values.values()), max(values.values())
        # without repetition, where both are the same percentage
        limits = dict.fromkeys(f"{_:.0%}" for _ in limits)
        return f"{len(values)} mimic sets have {' to '.join(limits)}"
    return ", ".join(f"{format_name(name)} has {_:.0%}" for name, _ in values.items())
