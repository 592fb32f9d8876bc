"""What mimic sets say about the background of a target."""

from .significance import (
    SignificanceDistribution,
    make_significance_table,
    measure_significance,
    stack_significance,
)

__all__ = [
    "SignificanceDistribution",
    "make_significance_table",
    "measure_significance",
    "stack_significance",
]
