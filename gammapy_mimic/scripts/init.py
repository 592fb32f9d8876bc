"""``gammapy-mimic init``: a configuration to begin with."""

from importlib.resources import files

import click

from ..utils.files import replace_file
from .output import tell

__all__ = ["init"]

GAMMAPY_HEADER = """\
# Configuration of gammapy.analysis.AnalysisConfig. With a section "mimic", it is one of
# gammapy-mimic. As it stands, it is of the H.E.S.S. observations of MSH 15-52.
"""


@click.command()
@click.argument("config", default="config.yaml")
@click.option("--gammapy", is_flag=True, help="Without mimics, for Gammapy's Analysis.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def init(config, gammapy, overwrite):
    """Write a commented configuration to the file CONFIG."""
    text = files("gammapy_mimic.scripts").joinpath("config.yaml").read_text()
    if gammapy:
        _, *sections = text.partition("\nmimic:\n")[0].partition("\ngeneral:")
        text = "".join([GAMMAPY_HEADER, *sections])
    with replace_file(config, overwrite) as temporary:
        temporary.write_text(text)
    tell(f"Wrote {config}. Edit it, then: gammapy-mimic run {config}")
