"""The answer in three lines, and what limits it. All rules of wording are here."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from ..data.meta_tables import describe_losses, read_losses
from ..data.obs_ids import shorten
from ..estimators.maximum import has_more_in_mimics
from ..estimators.tables import format_interval, format_value
from ..estimators.verdict import Verdict
from ..selection.ranked_plan import describe_unlike
from ..visualization.common import format_band, format_name
from .facts import get_rate_ratios
from .regions import describe_regions
from .words import WORDS

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


class Answer(NamedTuple):
    """What the mimics have shown, in words.

    Attributes
    ----------
    question : str
        Question.
    lines : list of str
        Three lines: what the target has, what mimics have, what follows.
    regions : list of str
        A text for each region in question.
    findings : list of str
        What else was found.
    limits : list of str
        What limits the answer.
    """

    question: str
    lines: list
    regions: list
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
    regions = describe_regions(result)
    if regions and judgement.question == "maximum":
        question = "Do the regions in question hold more than their background?"
    return Answer(
        question,
        lines,
        regions,
        findings=_describe_findings(result, judgement),
        limits=_describe_limits(result, judgement, plan),
    )


def _answer_position(result, excess):
    row = result.select("position")[0]
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
    if not np.isfinite(excess.calibrated):
        reason = row["text"].split(": ", 1)[-1]
        second = f"Mimics cannot calibrate it: {reason}."
        third = WORDS[excess.verdict]
        if excess.verdict is Verdict.TOO_LARGE:
            third += f": {_state_factor(excess)}"
        return question, [first, second, f"{third}."]
    where, kind = "at the same offset", "positions"
    if row["n_places"] == 1:
        # pointings are not known, or no other circle has this offset
        where, kind = "at the position" if result.maps else "in the on region", "sets"
    second = (
        f"Background alone, as mimics show it {where}, has a mean of "
        f"{excess.mean:.2f} and a width of {excess.spread:.2f} for as many counts. "
        f"{_state_systematic(result)}"
    )
    third = (
        f"{WORDS[excess.verdict]}: the calibrated significance is "
        f"{excess.calibrated:.1f} (p = {excess.p_value:.2g})"
    )
    exact = (excess.significance - excess.mean) / excess.spread
    if exact > excess.calibrated + 1 > 1:
        third += f", and {exact:.1f} if mean and width were known exactly"
    if excess.n_larger and excess.verdict is not Verdict.NO_EXCESS:
        verb = "is" if excess.n_larger == 1 else "are"
        third += f"; {excess.n_larger} of {excess.number} {kind} {verb} as large"
    if excess.verdict is Verdict.TOO_LARGE:
        third += f"; but {_state_factor(excess)}"
    return question, [first, second, f"{third}."]


def _state_factor(excess):
    """How wrong the background would have to be."""
    return (
        f"the background would have to be {excess.background_factor:.1f} times its "
        "prediction to leave 3 sigma, and no mimic has an excess like it"
    )


def _answer_maximum(result, excess):
    row = result.select("maximum")[0]
    question = "Does the map of the target hold more than its background?"
    if excess.verdict is Verdict.NOT_MEASURED:
        first = f"The target's map has no {ENOUGH}."
        return question, [first, *_answer_systematic(result)[1][:2]]
    first = (
        f"The largest significance of the target's map is {excess.significance:.1f} "
        f"sigma ({format_band(row)}{describe_exclusion(result)})."
    )
    texts = [_describe_mimic_maxima(row)]
    if np.isfinite(row["random_mean"]):
        kind = "the spread of mimics" if row["has_spread"] else "noise alone"
        texts.append(f"Random maps of {kind} have {row['random_mean']:.1f} on average.")
    second = " ".join([*texts, _state_systematic(result)])
    return question, [first, second, f"{WORDS[excess.verdict]}: {row['text']}."]


def _describe_mimic_maxima(row):
    """Largest significances of mimic sets, and what there is of them."""
    number = int(row["n_sets"])
    if number < 2:
        verb = "one has" if number else "none has"
        return f"Of the mimic sets, {verb} a {ENOUGH} to compare with."
    return (
        f"Mimics, which hold no source, have {row['mimic_mean']:.1f} ± "
        f"{row['mimic_std']:.1f} (mean and standard deviation of "
        f"{_count_sets(number)}, the largest {row['mimic_max']:.1f})."
    )


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
    first = _state_systematic(result)
    if not np.isfinite(row["delta"]):
        return question, [first, "Use more observations, or wider bands."]
    second = (
        f"Significances of mimics have the mean "
        f"{format_value(row['mean'], row['mean_err'], '.3f')} and the width "
        f"{format_value(row['width'], row['width_err'], '.3f')}"
    )
    if np.isfinite(row["expected_mean"]):
        second += f" (noise alone has {row['expected_mean']:.3f} and 1)"
    second += "."
    rows = [_ for _ in result.tables["systematics"] if np.isfinite(_["total"])]
    if len(result.tables["systematics"]) == 1:
        return question, [first, second, "There is one band of energy and of offset."]
    if not rows:
        return question, [first, second, "There are too few counts for a spread."]
    # where the background is known worst
    largest = max(rows, key=lambda _: _["total_ul"])
    where = format_band(largest), format_band(largest, "offset", "deg")
    third = (
        f"It is known worst at {', '.join(filter(None, where))}: "
        f"{format_interval(largest, 'total')}."
    )
    return question, [first, second, third]


def _state_systematic(result):
    """Bias and spread at all energies, together."""
    row = result.select("systematics", offset_band="all")[0]
    scale = f", in circles of {result.correlation_radius.deg:g} deg"
    if not result.maps:
        scale = ""
    text = f"The systematic error of the background ({format_band(row)}{scale})"
    if not np.isfinite(row["delta"]):
        return f"{text} is {format_interval(row, 'total')}."
    bias = f"a bias of {row['delta']:+z.1%} ± {row['delta_err']:.1%}"
    if not np.isfinite(row["total"]):
        return f"{text} has {bias}; its spread is {format_interval(row, 'f')}."
    return (
        f"{text} is {format_interval(row, 'total')}: {bias}, and a spread "
        f"{'of ' * bool(row['f_lo'] > 0)}{format_interval(row, 'f')}."
        f"{_state_by_energy(result)}"
    )


def _state_by_energy(result):
    """Total of each band, which a norm that is fitted to all energies hides."""
    rows = result.select("systematics", band=None, offset_band="all")
    bands = [_ for _ in rows if _["band"] != "all"]
    if not bands:
        return ""
    texts = [f"{format_band(_)}: {_format_total(_)}" for _ in bands]
    return f" By energy: {'; '.join(texts)}."


def _format_total(row):
    """Total in short, or that it is not measurable."""
    if not np.isfinite(row["total"]):
        return "not measurable"
    if row["total_lo"] > 0:
        return f"{row['total']:.1%}"
    return f"below {row['total_ul']:.1%}"


def _count_sets(n_sets):
    return f"{n_sets} mimic sets" if n_sets > 1 else "1 mimic set"


def _describe_findings(result, judgement):
    """Means that differ from 0, the bias map, and what sets the target apart."""
    findings = []
    for band in judgement.biased:
        row = result.select("systematics", band, offset_band="all")[0]
        # fewer counts than predicted are of a prediction that is too high
        sense = "high" if row["delta"] < 0 else "low"
        findings.append(
            f"{format_band(row)}: counts of mimics over prediction are "
            f"{1 + row['delta']:.3f} ± {row['delta_err']:.3f}, so that the prediction "
            f"is too {sense}."
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
    if judgement.leak:
        row = result.select("significance", name="target")[0]
        findings.append(
            f"The target's map{describe_exclusion(result)} has a width of "
            f"{format_value(row['width'], row['width_err'], '.3f')}, that of mimics is "
            f"{row['width'] - judgement.leak:.3f}: a source leaks out of what is "
            "excluded, or there is one more. Exclude more around the sources."
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
    limits = []
    if n_sets == 1:
        limits.append("There is one mimic set: the scatter between sets is not known.")
    elif judgement.few_sets:
        limits.append(f"{n_sets} mimic sets are few: five or more are better.")
    row = result.select("systematics", offset_band="all")[0]
    if np.isnan(row["n_runs"]):
        limits.append(
            "Datasets are stacked, or their OFF observations are not known: errors are "
            "those of counts, as if sets shared no OFF observation."
        )
    elif np.isfinite(row["delta"]):
        limits.append(
            f"Errors are from {row['n_runs']:.1f} effective OFF observations, of which "
            "each counts once, in however many sets it is."
        )
    if "losses" in result.tables:
        losses = read_losses(result.tables["losses"])
        limits += describe_losses(
            [(format_name(name), loss) for name, loss in losses if loss.is_told]
        )
    limits += _describe_rates(result, plan)
    if judgement.question == "position":
        chosen = "The position is taken as chosen beforehand."
        if result.maps:
            chosen += (
                " For one that was found where the significance is largest, compare "
                "the largest significances."
            )
        limits += [
            chosen,
            "The calibrated significance takes the error of the background as "
            "Gaussian, and that of the target as one of those of mimics there.",
        ]
    if judgement.question == "maximum":
        limits += _describe_check(result.select("maximum")[0])
    summary = None if plan is None else plan.make_summary()
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
    limits.append(
        "Mimics test the background only: not the effective area, the point spread "
        "function, the energy scale, nor what the target's sky has and OFF fields "
        "have not, such as stars and diffuse emission."
    )
    missing = result.missing.items()
    if not result.maps:
        # spectra have no norm in the field of view
        missing = [_ for _ in missing if _[0] != "normalisation"]
    return limits + [f"Missing: {name}. {why}" for name, why in missing]


def _describe_check(row):
    """Say where mimics do not bear out the random maps of the largest significance."""
    if not has_more_in_mimics(row):
        return []
    return [
        f"Mimic sets have {row['n_above']:.3g} positions above 2 sigma, random maps "
        f"{row['n_above_expected']:.3g} (p = {row['n_above_p_value']:.1g}): mimics "
        "hold structures that random maps have not, and the p-value of the largest "
        "significance is too small."
    ]


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
        ratios = {"rate of events": get_rate_ratios(plan)} | ratios
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


def _list_some(values):
    """List which set has what fraction, or between what they are if they are many."""
    if len(values) > FEW_SETS:
        limits = min(values.values()), max(values.values())
        # without repetition, where both are the same percentage
        limits = dict.fromkeys(f"{_:.0%}" for _ in limits)
        return f"{len(values)} mimic sets have {' to '.join(limits)}"
    return ", ".join(f"{format_name(name)} has {_:.0%}" for name, _ in values.items())
