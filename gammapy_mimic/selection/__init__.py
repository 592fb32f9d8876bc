"""Which OFF observation may stand in for which target."""

from .criteria import MatchCriteria
from .index import OffIndex
from .plan import MimicPlan

__all__ = ["MatchCriteria", "MimicPlan", "OffIndex"]
