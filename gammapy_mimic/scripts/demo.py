"""``gammapy-mimic demo``: the main job on simulated data."""

import click

__all__ = ["demo"]


@click.command()
def demo():
    """Run."""
