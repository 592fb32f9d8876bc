"""One HTML file that says what the mimics of an analysis have shown."""

from .answer import Answer, make_answer
from .page import make_report
from .regions import describe_regions, select_regions, summarise_region

__all__ = [
    "Answer",
    "describe_regions",
    "make_answer",
    "make_report",
    "select_regions",
    "summarise_region",
]
