"""Verdicts in words."""

from ..estimators.verdict import EXCESS, Verdict

__all__ = ["WORDS"]

WORDS = {
    Verdict.NO_EXCESS: f"There is no excess to be explained (below {EXCESS} sigma)",
    Verdict.EXPLAINED: "The background explains it",
    Verdict.TOO_FEW: "There are too few mimics to tell",
    Verdict.MAY_EXPLAIN: "The background may explain it",
    Verdict.UNLIKELY: "The background is unlikely to explain it, but not excluded",
    Verdict.TOO_LARGE: "It is too large for the background to explain it",
    Verdict.NOT_EXPLAINED: "The background, as far as mimics show it, does not "
    "explain it",
}
