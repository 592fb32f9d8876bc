"""Background systematics from data without a source, as a Gammapy plugin."""

from .makers import KLBackgroundSelector, MimicMaker
from .version import __version__

__all__ = ["KLBackgroundSelector", "MimicMaker", "__version__"]
