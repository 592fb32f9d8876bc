"""Makers: functions from observation to observation, and links of a maker chain."""

from .core import ObservationMaker
from .mimic import MimicMaker
from .selector import KLBackgroundSelector

__all__ = ["KLBackgroundSelector", "MimicMaker", "ObservationMaker"]
