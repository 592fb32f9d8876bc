"""One HTML file that says what the mimics of an analysis have shown."""

from .answer import Answer, make_answer
from .page import make_report

__all__ = ["Answer", "make_answer", "make_report"]
