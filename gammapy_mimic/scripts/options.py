"""Options that several commands share."""

import click
import yaml

from ..makers import MimicMaker

__all__ = [
    "IntList",
    "KeyValue",
    "alignment_option",
    "background_option",
    "n_jobs_option",
    "n_sets_option",
    "random_state_option",
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
            return [int(_) for _ in value.split(",") if _.strip()]
        except ValueError:
            self.fail(f"{value!r} is not a list of integers like 20275,20282", param)


class KeyValue(click.ParamType):
    """A name and a YAML value, with an equals sign between."""

    name = "NAME=VALUE"

    def convert(self, value, param, ctx):
        """Convert the text of an argument."""
        if not isinstance(value, str):
            return value
        name, separator, text = value.partition("=")
        if not separator:
            self.fail(f"{value!r} is not of the form NAME=VALUE", param)
        try:
            return name.strip().replace("-", "_"), yaml.safe_load(text)
        except yaml.YAMLError as error:
            self.fail(f"{text!r} is not a value: {error}", param)


alignment_option = click.option(
    "--alignment",
    type=click.Choice(MimicMaker.available_alignments),
    default="auto",
    show_default=True,
    help="What camera positions are aligned with; auto: as the OFF background says.",
)
background_option = click.option(
    "--background",
    type=click.Choice(MimicMaker.available_backgrounds),
    default="off",
    show_default=True,
    help="Whose background IRF the mimic has.",
)
time_option = click.option(
    "--time",
    type=click.Choice(MimicMaker.available_times),
    default="target",
    show_default=True,
    help="Whose start time events and GTI have.",
)
n_jobs_option = click.option(
    "--n-jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of processes.",
)
n_sets_option = click.option(
    "--n-sets",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Number of mimic sets.",
)
random_state_option = click.option(
    "--random-state",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the draw of partners.",
)
