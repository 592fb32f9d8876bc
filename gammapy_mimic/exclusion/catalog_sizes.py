"""What the columns of catalogues say of the size of a source, by their names."""

import re
from typing import NamedTuple

import numpy as np

__all__ = ["Size", "find_size", "is_no_size"]

# of a component, as in r39_b or morph_sigma2
_COMPONENT = r"(?:_?[a-d1-4])?"
_SIGMA = re.compile(
    r"(?:extension|extent|ext|size|(?:(?:morph|spatial|source|model|gauss|gaussian|intrinsic)_)?sigma|gauss(?:ian)?_(?:size|width)|"
    r"(?:size|ext|extension)_(?:maj|min|major|minor)|"
    r"(?:model_|source_)?(?:semi_?)?(?:major|minor|maj|min)(?:_?axis)?)" + _COMPONENT
)
_CONTAINMENT = re.compile(
    r"(?:(?:size|ext|extension|extent|radius|theta|r)_?r?_?)"
    r"(39|50|68|70|80|90|95|99)" + _COMPONENT
)
_WIDTH = re.compile(r"(?:\w+_)?(fwhm|hwhm)(?:_?(?:maj|min|major|minor))?" + _COMPONENT)
_EDGE = re.compile(
    r"(?:(?:spec\d?|test|source|src|disk|disc|shell|outer|ext|extension|morph|spatial|model)"
    r"_radius|"
    r"(?:radius|r)_(?:out|outer|disk|disc|shell)|"
    r"(?:disk|disc|shell)_size)" + _COMPONENT
)
_DIAMETER = re.compile(r"(?:\w+_)?diam(?:eter)?" + _COMPONENT)
_NO_SIZE = re.compile(
    r"(?:.*_)?(?:err|errn|errp|e|unc|error|ul|ll|lim|limit|upper|lower|min|max|sep|"
    r"conf|pos|psf|offset|dist|distance)(?:_.*)?|conf.*|pos.*|.*err.*|.*(?:_ts|^ts)"
)


# of an axis, where min is no minimum
_AXIS = re.compile(
    r"(?:(?:size|ext|extension)_|(?:model_|source_)?(?:semi_?)?)"
    r"(?:maj|min|major|minor)(?:_?axis)?" + _COMPONENT
)


class Size(NamedTuple):
    """Meaning of a column of sizes."""

    kind: str
    """"sigma" (width of a Gaussian), "edge" (of a disk or shell) or "radius" (of the
    region itself)."""
    factor: float
    """What the values are multiplied with."""


def find_size(name):
    """Find the meaning of a column of sizes.

    The radius that holds the fraction f of a Gaussian of the width sigma is
    ``sqrt(-2 ln(1 - f))`` sigma: 1.51 for r68, 2.45 for r95; r39 is sigma itself. FWHM
    is 2.355 sigma. Of several axes or components the largest counts.

    Parameters
    ----------
    name : str
        Name of the column, in any case.

    Returns
    -------
    size : `Size` or None
        Meaning. None if it is not known, or is that of an error or a limit.
    """
    name = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if name == "radius":
        return Size("radius", 1)
    if is_no_size(name) and not _AXIS.fullmatch(name):
        return None
    if _SIGMA.fullmatch(name):
        return Size("sigma", 1)
    if match := _CONTAINMENT.fullmatch(name):
        fraction = int(match[1]) / 100
        return Size("sigma", 1 if match[1] == "39" else _to_sigma(fraction))
    if match := _WIDTH.fullmatch(name):
        return Size("sigma", _to_sigma(0.5) / (2 if match[1] == "fwhm" else 1))
    if _EDGE.fullmatch(name):
        return Size("edge", 1)
    return Size("edge", 0.5) if _DIAMETER.fullmatch(name) else None


def is_no_size(name):
    """Whether the name of a column is that of an error, a limit or a distance."""
    return _NO_SIZE.fullmatch(name.lower().strip("_")) is not None


def _to_sigma(fraction):
    """Width of a Gaussian over the radius that holds a fraction of it."""
    return 1 / np.sqrt(-2 * np.log1p(-fraction))
