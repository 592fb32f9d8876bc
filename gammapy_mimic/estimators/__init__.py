"""What mimic sets say about the background of a target."""

from .bias import BiasMap, CorrectedDataset, make_bias_map
from .flux import average_flux, measure_flux
from .normalisation import make_prior, measure_normalisation
from .result import MimicSystematics
from .significance import (
    SignificanceDistribution,
    make_significance_table,
    measure_significance,
    stack_significance,
)
from .systematics import MimicSystematicsEstimator

__all__ = [
    "BiasMap",
    "CorrectedDataset",
    "MimicSystematics",
    "MimicSystematicsEstimator",
    "SignificanceDistribution",
    "average_flux",
    "make_bias_map",
    "make_prior",
    "make_significance_table",
    "measure_flux",
    "measure_normalisation",
    "measure_significance",
    "stack_significance",
]
