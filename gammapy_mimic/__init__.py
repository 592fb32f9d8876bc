"""Background systematics from data without a source, as a Gammapy plugin."""

from .makers import MimicMaker
from .version import __version__

__all__ = ["MimicMaker", "__version__"]
