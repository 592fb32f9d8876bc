"""``gammapy-mimic scramble``: hide sources in an observation, from file to file."""

import contextlib

import click
import matplotlib.pyplot as plt

from ..data.datastore import write_observation
from ..data.observation import get_hdu
from ..scramble.check import ScrambleCheck
from ..utils.files import replace_file
from ..visualization import plot_scramble
from .convert import check_field, check_output, read_observation
from .options import scramble_options
from .output import tell

__all__ = ["scramble"]


@click.command()
@click.argument("path", metavar="IN", type=click.Path(exists=True, dir_okay=False))
@click.argument("out", type=click.Path(dir_okay=False))
@scramble_options
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False),
    help="File for a picture of the events before and after, such as check.png.",
)
def scramble(path, out, scrambler, overwrite, plot):
    """Hide sources of the observation IN in its own background, and write it to OUT.

    IN is a DL3 file with events and GTI, as a rule with IRFs. Weak sources are spread
    over an annulus (--method annulus), bright ones are replaced by copies of other
    events (fill); azimuth gives all events a new azimuth, and needs no --region.
    """
    if scrambler is None:
        raise click.UsageError("Give --region, or --method azimuth for all events.")
    check_output(out, path)
    observation = read_observation(path)
    check_field(scrambler, observation)
    scrambled = scrambler.make_observation(observation)
    if get_hdu(scrambled, "events") is get_hdu(observation, "events"):
        raise ValueError(f"{path} has no events, nothing was scrambled.")
    # both files or none
    with contextlib.ExitStack() as stack:
        if plot is not None:
            temporary = stack.enter_context(replace_file(plot, overwrite))
            check = ScrambleCheck.create(scrambler, observation, scrambled)
            figure = plot_scramble(check)
            figure.savefig(temporary, dpi=120)
            plt.close(figure)
        write_observation(scrambled, out, overwrite=overwrite)
    table = scrambled.events.table
    moved, removed, n_regions = (
        table.meta[_] for _ in ("SCR_NEVT", "SCR_NREM", "SCR_NREG")
    )
    regions = "region" if n_regions == 1 else "regions"
    tell(
        f"Wrote {out}: {len(table)} events, of which {moved} have a new position; "
        f"{removed} were removed. {n_regions} {regions} in the field of view."
    )
    if scrambler.method == "fill":
        phi, width = (table.meta[_] for _ in ("SCR_PHI", "SCR_SIG"))
        tell(
            f"With an FoV background the significance of the region, {phi:.1%} of all "
            f"events, has the width {width:.2f}."
        )
    if plot is not None:
        tell(f"Wrote {plot}")
