"""Sources and stars to leave out."""

from .core import ExclusionRegions
from .names import find_position
from .sky_regions import check_regions

__all__ = ["ExclusionRegions", "check_regions", "find_position"]
