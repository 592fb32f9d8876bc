"""``gammapy-mimic init``: a configuration to begin with."""

from importlib.resources import files

import click

from ..utils.files import replace_file

__all__ = ["init"]


@click.command()
@click.argument("config", default="config.yaml")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def init(config, overwrite):
    """Write a commented configuration to the file CONFIG."""
    text = files("gammapy_mimic.scripts").joinpath("config.yaml").read_text()
    with replace_file(config, overwrite) as temporary:
        temporary.write_text(text)
    click.echo(f"Wrote {config}. Edit it, then: gammapy-mimic run {config}")
