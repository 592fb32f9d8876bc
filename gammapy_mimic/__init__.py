"""Background systematics from data without a source, as a Gammapy plugin."""

from .version import __version__

__all__ = ["KLBackgroundSelector", "MimicMaker", "ScrambleMaker", "__version__"]


def __getattr__(name):
    # the command line is there at once, Gammapy takes seconds to load
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import makers

    return getattr(makers, name)
