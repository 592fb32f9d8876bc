"""What mimic sets say about the background of a target."""

from .bias import BiasMap, CorrectedDataset, make_bias_map
from .flux import average_flux, measure_flux
from .maps import BandMaps
from .measurement import Band
from .normalisation import make_prior, measure_normalisation
from .result import MimicSystematics
from .systematics import MimicSystematicsEstimator
from .verdict import Excess, Judgement, Verdict

__all__ = [
    "Band",
    "BandMaps",
    "BiasMap",
    "CorrectedDataset",
    "Excess",
    "Judgement",
    "MimicSystematics",
    "MimicSystematicsEstimator",
    "Verdict",
    "average_flux",
    "make_bias_map",
    "make_prior",
    "measure_flux",
    "measure_normalisation",
]
