"""``gammapy-mimic convert``: one pair, from file to file."""

import click
from gammapy.data import Observation, Observations

from ..io import write_observation
from ..makers import MimicMaker
from .options import alignment_option, background_option, time_option

__all__ = ["convert"]


@click.command()
@click.argument("target", type=click.Path(exists=True, dir_okay=False))
@click.argument("off", type=click.Path(exists=True, dir_okay=False))
@click.argument("out", type=click.Path(dir_okay=False))
@background_option
@alignment_option
@time_option
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def convert(target, off, out, background, alignment, time, overwrite):
    """Make the mimic of the observation TARGET from OFF, and write it to OUT.

    TARGET and OFF are DL3 files with events and GTI, as a rule with IRFs.
    """
    target_observation, off_observation = map(_read, (target, off))
    maker = MimicMaker(
        Observations([off_observation]),
        {target_observation.obs_id: off_observation.obs_id},
        alignment=alignment,
        time=time,
        background=background,
    )
    mimic = maker.make_observation(target_observation)
    write_observation(mimic, out, overwrite=overwrite)
    click.echo(
        f"Wrote {out}: {len(mimic.events.table)} events of OBS_ID "
        f"{off_observation.obs_id} at the pointing of {target_observation.obs_id}."
    )


def _read(path):
    try:
        return Observation.read(path)
    # a damaged file makes astropy raise nearly anything
    except Exception as error:
        raise OSError(f"Cannot read an observation from {path}: {error}") from error
