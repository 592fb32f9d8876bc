"""Mimics from one configuration, beside an analysis of Gammapy."""

from .config import MimicAnalysisConfig
from .core import MimicAnalysis

__all__ = ["MimicAnalysis", "MimicAnalysisConfig"]
