"""Background systematics from data without a source, as a Gammapy plugin."""

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .makers import KLBackgroundSelector, MimicMaker, ScrambleMaker

__all__ = ["KLBackgroundSelector", "MimicMaker", "ScrambleMaker", "__version__"]


def __getattr__(name: str) -> Any:
    # the command line is there at once, Gammapy takes seconds to load
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import makers

    return getattr(makers, name)
