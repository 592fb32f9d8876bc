"""Makers: functions from observation to observation, and links of a maker chain."""

from .core import ObservationMaker
from .coverage import CoverageMaker, CoveredSafeMaskMaker
from .mimic import MimicMaker
from .mimic_sets import write_mimic_sets
from .reduction import (
    ImageMaker,
    get_center,
    reduce_fov_background,
    reduce_observations,
)
from .scramble import ScrambleMaker
from .selector import KLBackgroundSelector

__all__ = [
    "CoverageMaker",
    "CoveredSafeMaskMaker",
    "ImageMaker",
    "KLBackgroundSelector",
    "MimicMaker",
    "ObservationMaker",
    "ScrambleMaker",
    "get_center",
    "reduce_fov_background",
    "reduce_observations",
    "write_mimic_sets",
]
