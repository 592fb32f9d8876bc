"""The command ``gammapy-mimic``, to which the other files add theirs."""

import logging
import sys
from importlib import import_module

import click

from ..utils.interrupts import note_interrupts
from ..version import __version__

__all__ = ["cli", "main"]

COMMANDS = {
    "background": "Make background templates, and a datastore of the targets that has "
    "them.",
    "convert": "Make the mimic of the observation TARGET from OFF, and write it to "
    "OUT.",
    "demo": "Simulate two excesses, of which one is real, and see which one mimics "
    "explain.",
    "exclusions": "List the regions of known sources and bright stars that touch a "
    "field of view.",
    "index": "Count the events of all observations of the datastore STORE, once.",
    "index-merge": "Merge the shards PARTS of an index.",
    "init": "Write a commented configuration to the file CONFIG.",
    "make": "Make mimic sets of target observations from OFF observations.",
    "rank": "Rank OFF observations by the divergence of their background from targets.",
    "report": "Write the report of the analysis in the folder OUTDIR.",
    "run": "Run the analysis of the file CONFIG into its folder general.outdir.",
    "scramble": "Hide sources of the observation IN in its own background, and write "
    "it to OUT.",
}
"""Names of the commands, each in a module of its name, and what they do."""


class Commands(click.Group):
    """Commands that are loaded when they are called, as Gammapy takes seconds."""

    def list_commands(self, ctx):
        """Names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx, cmd_name):
        """Load a command, None if there is no such."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        return getattr(import_module(f".{name}", __package__), name)

    def format_commands(self, ctx, formatter):
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__, "-V", "--version")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--parallel-backend",
    type=click.Choice(["multiprocessing", "ray"]),
    help="What runs the processes, of this machine, or with ray of a cluster.",
)
@click.option("-q", "--quiet", is_flag=True, help="Errors alone.")
def cli(debug, parallel_backend, quiet):
    """Measure background systematics with data that contain no source."""
    # not needed for the help
    import matplotlib as mpl
    from gammapy.utils import parallel, pbar

    from ..utils import progress

    level = logging.DEBUG if debug else logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("gammapy_mimic").setLevel(level)
    pbar.SHOW_PROGRESS_BAR = has_bars = not quiet and sys.stderr.isatty()
    level = logging.WARNING if quiet or has_bars else logging.INFO
    logging.getLogger(progress.__name__).setLevel(level)
    if parallel_backend is not None:
        parallel.BACKEND_DEFAULT = parallel_backend
    mpl.use("agg")


def main(args=None):
    """Run the command, and turn an error into one line and an exit code.

    Parameters
    ----------
    args : list of str, optional
        Arguments. Default are those of the process.
    """
    args = sys.argv[1:] if args is None else args
    error = None
    with note_interrupts() as interrupts:
        try:
            cli.main(args=args, prog_name="gammapy-mimic", standalone_mode=False)
        except click.Abort as abort:
            # click makes it of an interrupt, and of a compressed file that is cut
            error = abort.__context__ or KeyboardInterrupt()
        except (KeyboardInterrupt, Exception) as raised:
            error = raised
    # whatever it was turned into on its way
    if interrupts or isinstance(error, KeyboardInterrupt):
        click.echo("Aborted.", err=True)
        sys.exit(130)
    if isinstance(error, click.ClickException):
        error.show()
        sys.exit(error.exit_code)
    if isinstance(error, click.exceptions.Exit):
        sys.exit(error.exit_code)
    if error is not None:
        if "--debug" in args:
            raise error
        text = str(error).strip() or type(error).__name__
        # which observation a process was busy with
        text = "; ".join([text, *getattr(error, "__notes__", [])])
        click.echo(f"Error: {' '.join(text.split())}", err=True)
        sys.exit(1)
