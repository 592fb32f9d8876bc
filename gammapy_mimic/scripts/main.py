"""The command ``gammapy-mimic``, to which the other files add theirs."""

import logging
import sys

import click
import matplotlib as mpl
from gammapy.utils import pbar

from ..version import __version__
from .background import background
from .convert import convert
from .demo import demo
from .exclusions import exclusions
from .make import make
from .rank import rank
from .report import report
from .run import init, run
from .scramble import scramble

__all__ = ["cli", "main"]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bars, no warnings.")
def cli(debug, quiet):
    """Measure background systematics with data that contain no source."""
    level = logging.DEBUG if debug else logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("gammapy_mimic").setLevel(level)
    pbar.SHOW_PROGRESS_BAR = not quiet and sys.stderr.isatty()
    mpl.use("agg")


COMMANDS = (
    background,
    convert,
    demo,
    exclusions,
    init,
    make,
    rank,
    report,
    run,
    scramble,
)
for command in COMMANDS:
    cli.add_command(command)


def main(args=None):
    """Run the command, and turn an error into one line and an exit code.

    Parameters
    ----------
    args : list of str, optional
        Arguments. Default are those of the process.
    """
    args = sys.argv[1:] if args is None else args
    try:
        cli.main(args=args, prog_name="gammapy-mimic", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Aborted.", err=True)
        sys.exit(130)
    except Exception as error:
        if "--debug" in args:
            raise
        text = str(error).strip() or type(error).__name__
        click.echo(f"Error: {' '.join(text.split())}", err=True)
        sys.exit(1)
