"""Makers: functions from observation to observation, and links of a maker chain."""

from .core import ObservationMaker
from .mimic import MimicMaker
from .scramble import ScrambleMaker
from .selector import KLBackgroundSelector

__all__ = ["KLBackgroundSelector", "MimicMaker", "ObservationMaker", "ScrambleMaker"]
