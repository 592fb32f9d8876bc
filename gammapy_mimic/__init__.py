"""Background systematics from data without a source, as a Gammapy plugin."""

from .makers import KLBackgroundSelector, MimicMaker, ScrambleMaker
from .version import __version__

__all__ = ["KLBackgroundSelector", "MimicMaker", "ScrambleMaker", "__version__"]
