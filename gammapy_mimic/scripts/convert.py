"""``gammapy-mimic convert``: one pair, from file to file."""

from pathlib import Path

import click
from gammapy.data import Observation, Observations
from gammapy.irf.io import load_irf_dict_from_file
from gammapy.utils.fits import HDULocation

from ..data.datastore import write_observation
from ..data.files import open_fits
from ..data.observation import describe_error, get_fixed_pointing, load_events_file
from ..makers import MimicMaker
from .options import (
    alignment_option,
    background_option,
    scramble_options,
    time_option,
)
from .output import tell

FILE_PARTS = {
    "events": "EVENTS",
    "gti": "GTI",
    "pointing": "EVENTS",
    "meta": "EVENTS",
}
"""HDUs of a file, by the class of what Gammapy reads from it."""

__all__ = ["check_field", "check_output", "convert", "read_observation"]


@click.command()
@click.argument("target", type=click.Path(exists=True, dir_okay=False))
@click.argument("off", type=click.Path(exists=True, dir_okay=False))
@click.argument("out", type=click.Path(dir_okay=False))
@background_option
@alignment_option
@time_option
@scramble_options
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def convert(target, off, out, background, alignment, time, scrambler, overwrite):
    """Make the mimic of the observation TARGET from OFF, and write it to OUT.

    TARGET and OFF are DL3 files with events and GTI, as a rule with IRFs. A source in
    the field of OFF is hidden in its background with --region, before the events are
    moved: at its own position on the sky, not at that of the target.
    """
    check_output(out, target, off)
    target_observation, off_observation = map(read_observation, (target, off))
    if scrambler is not None:
        check_field(scrambler, off_observation)
    maker = MimicMaker(
        Observations([off_observation]),
        {target_observation.obs_id: off_observation.obs_id},
        alignment=alignment,
        time=time,
        background=background,
        scramble=scrambler,
    )
    mimic = maker.make_observation(target_observation)
    write_observation(mimic, out, overwrite=overwrite)
    tell(
        f"Wrote {out}: {len(mimic.events.table)} events of OBS_ID "
        f"{off_observation.obs_id} at the pointing of {target_observation.obs_id}."
    )


def read_observation(path):
    """Read an observation from a file.

    Parameters
    ----------
    path : str
        File.

    Returns
    -------
    observation : `~gammapy.data.Observation`
        Observation.

    Raises
    ------
    OSError
        If there is no observation in the file.
    """
    place = Path(path)
    parts = {
        name: HDULocation(name, str(place.parent), "", place.name, hdu_name)
        for name, hdu_name in FILE_PARTS.items()
    }
    try:
        with open_fits(path) as hdu_list:
            obs_id = hdu_list["EVENTS"].header.get("OBS_ID", 0)
        irfs = load_irf_dict_from_file(path)
        observation = Observation(obs_id=obs_id, **irfs, **parts)
        # completes what Gammapy would miss
        load_events_file(observation)
        return observation
    # a damaged file makes astropy raise nearly anything
    except Exception as error:
        text = describe_error(error, path)
        raise OSError(f"Cannot read an observation, {text}.") from error


def check_output(out, *inputs):
    """Raise an error if a file would be replaced that is read.

    Parameters
    ----------
    out, *inputs : str
        Files.

    Raises
    ------
    FileExistsError
        If the output is one of the inputs.
    """
    if Path(out).exists() and any(Path(out).samefile(_) for _ in inputs):
        raise FileExistsError(f"{out} is an input. Choose another name for the result.")


def check_field(scrambler, observation):
    """Raise an error if a maker has no region in the field of view.

    Parameters
    ----------
    scrambler : `~gammapy_mimic.ScrambleMaker`
        Maker.
    observation : `~gammapy.data.Observation`
        Observation.

    Raises
    ------
    ValueError
        If there are regions, but none in the field of view.
    """
    if scrambler.regions is not None and not scrambler.find_regions(observation):
        pointing = get_fixed_pointing(observation).icrs.to_string(precision=3)
        raise ValueError(
            f"No region is in the field of view of OBS_ID {observation.obs_id}, which "
            f"points to RA, DEC {pointing} deg. There is nothing to scramble."
        )
