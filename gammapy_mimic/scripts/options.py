"""Options that several commands share."""

import functools

import astropy.units as u
import click
import numpy as np
import yaml
from gammapy.utils.scripts import make_path

from ..analysis.config_text import load_yaml
from ..exclusion.core import ExclusionRegions
from ..makers import MimicMaker, ScrambleMaker
from ..selection.cuts import LIVETIMES
from ..utils.angles import to_angle

__all__ = [
    "AngleText",
    "EnergyText",
    "IntList",
    "KeyValue",
    "PositiveOrNone",
    "Region",
    "RegionText",
    "alignment_option",
    "background_option",
    "livetime_option",
    "n_jobs_option",
    "n_sets_option",
    "random_state_option",
    "scramble_options",
    "time_option",
]


class IntList(click.ParamType):
    """Integers separated by commas."""

    name = "ID,ID,..."

    def convert(self, value, param, ctx):
        """Convert the text of an argument."""
        if not isinstance(value, str):
            return value
        try:
            numbers = [int(_) for _ in value.split(",") if _.strip()]
        except ValueError:
            self.fail(f"{value!r} is not a list of integers like 20275,20282", param)
        if not numbers:
            self.fail("it is empty, give integers like 20275,20282", param)
        return numbers


class KeyValue(click.ParamType):
    """A name and a YAML value, with an equals sign between."""

    name = "NAME=VALUE"

    def convert(self, value, param, ctx):
        """Convert the text of an argument."""
        if not isinstance(value, str):
            return value
        name, separator, text = value.partition("=")
        name, text = name.strip().replace("-", "_"), text.strip()
        if not (separator and name):
            self.fail(f"{value!r} is not of the form NAME=VALUE", param)
        what = "must be a number, a text or a list in YAML, such as '[a, b]'"
        try:
            if not text:
                raise yaml.MarkedYAMLError(problem="nothing is there, none is null")
            return name, load_yaml(text)[1]
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or "not valid YAML"
            self.fail(f"{name}: {what}, got {text!r} ({problem})", param)


class PositiveOrNone(click.FloatRange):
    """A positive number, or "none"."""

    name = "NUMBER|none"

    def __init__(self):
        super().__init__(min=0, min_open=True)

    def convert(self, value, param, ctx):
        """Convert the text of an argument."""
        if isinstance(value, str) and value.strip().lower() in ("none", "null"):
            return None
        return super().convert(value, param, ctx)


class Region(click.ParamType):
    """A circle around a position or a source, in deg or with units, or a ds9 file."""

    name = "RA,DEC,RADIUS|NAME,RADIUS|FILE"

    def convert(self, value, param, ctx):
        """Convert the text of an argument to a list of regions."""
        if not isinstance(value, str):
            return value
        try:
            regions = list(ExclusionRegions.from_text(value))
        except (FileNotFoundError, ValueError) as error:
            self.fail(str(error), param)
        if not regions:
            self.fail(f"there is no region in {value!r}", param)
        return regions


class RegionText(Region):
    """The text of a `Region`, for a configuration."""

    def convert(self, value, param, ctx):
        """Check the text of an argument."""
        super().convert(value, param, ctx)
        path = make_path(value)
        return str(path.absolute()) if path.is_file() else value


class AngleText(click.ParamType):
    """The text of an angle, for a configuration."""

    name = "ANGLE"

    def convert(self, value, param, ctx):
        """Check the text of an argument."""
        try:
            to_angle(value)
        except ValueError as error:
            self.fail(str(error), param)
        return value


class EnergyText(click.ParamType):
    """The text of an energy, for a configuration."""

    name = "ENERGY"

    def convert(self, value, param, ctx):
        """Check the text of an argument."""
        try:
            is_good = 0 < u.Quantity(value).to_value("TeV") < np.inf
        except (TypeError, ValueError, u.UnitsError):
            is_good = False
        if not is_good:
            self.fail(f"must be an energy such as '0.5 TeV', got {value!r}", param)
        return value


def _choice_option(name, choices, default, text):
    return click.option(name, type=click.Choice(choices), default=default, help=text)


def _integer_option(name, default, text, minimum=1):
    number = click.IntRange(min=minimum)
    return click.option(name, type=number, default=default, help=text)


alignment_option = _choice_option(
    "--alignment",
    MimicMaker.available_alignments,
    "auto",
    "What camera positions are aligned with; auto: as the OFF background says.",
)
background_option = _choice_option(
    "--background",
    MimicMaker.available_backgrounds,
    "off",
    "Whose background IRF the mimic has.",
)
livetime_option = _choice_option(
    "--livetime",
    LIVETIMES,
    "cut",
    "Cut OFF observations that are longer than their target, or use all whole.",
)
time_option = _choice_option(
    "--time",
    MimicMaker.available_times,
    "target",
    "Whose start time events and GTI have.",
)
n_jobs_option = _integer_option("--n-jobs", 1, "Number of processes.")
n_sets_option = _integer_option("--n-sets", 5, "Number of mimic sets.")
random_state_option = _integer_option(
    "--random-state", 0, "Seed of the random numbers.", minimum=0
)


def scramble_options(function):
    """Add the options of `ScrambleMaker`, and pass it on, None without a region."""

    @click.option(
        "--region",
        "regions",
        type=Region(),
        multiple=True,
        help="Source to hide, where it is on the sky, in deg. Repeatable.",
    )
    @click.option(
        "--method",
        type=click.Choice(ScrambleMaker.available_methods),
        help="How the sources are hidden.  [default: annulus]",
    )
    @click.option(
        "--width", help="Half width of the annuli. Default is the radius of a region."
    )
    @random_state_option
    @functools.wraps(function)
    def command(regions, method, width, random_state, **kwargs):
        regions = [region for part in regions for region in part]
        if width and method not in (None, "annulus"):
            raise click.UsageError("--width is for --method annulus.")
        scrambler = None
        if regions or method == "azimuth":
            options = {"method": method or "annulus", "width": width}
            scrambler = ScrambleMaker(
                regions or None, random_state=random_state, **options
            )
        elif method or width:
            raise click.UsageError("Give --region, to say what is to be hidden.")
        return function(scrambler=scrambler, **kwargs)

    return command
