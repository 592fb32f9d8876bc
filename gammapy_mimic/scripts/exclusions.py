"""``gammapy-mimic exclusions``: regions around known sources and bright stars."""

import os

import astropy.units as u
import click
import matplotlib.pyplot as plt
from astropy.coordinates import SkyCoord
from gammapy.maps import Map
from gammapy.utils.scripts import make_path

from ..data.datastore import open_datastore
from ..exclusion.catalogs import CATALOGS
from ..exclusion.core import ExclusionRegions
from ..exclusion.names import find_position, is_name
from ..utils.angles import to_angle
from ..utils.files import replace_file
from ..visualization import plot_exclusion_regions
from .output import tell

__all__ = ["exclusions"]


class Position(click.ParamType):
    """A position as RA,DEC, in deg or with units, or the name of a source."""

    name = "RA,DEC|NAME"

    def convert(self, value, param, ctx):
        """Convert the text of an argument."""
        if not isinstance(value, str):
            return value
        parts = value.split(",")
        try:
            if len(parts) == 1 and is_name(value):
                return find_position(value)
            lon, lat = (to_angle(part, unit="deg") for part in parts)
            return SkyCoord(lon, lat)
        except (ValueError, u.UnitsError) as error:
            self.fail(f"{value!r} is not RA,DEC or NAME: {error}", param)


@click.command()
@click.option("--position", type=Position(), required=True, help="Centre of the field.")
@click.option("--radius", default="3 deg", help="Of the field.")
@click.option(
    "--catalog",
    "catalogs",
    multiple=True,
    default=CATALOGS,
    metavar="TAG|FILE",
    help="Catalogue of Gammapy, or a table of sources. Repeatable.",
)
@click.option(
    "--point-radius",
    default="0.4 deg",
    help="Radius around a point source.",
)
@click.option(
    "--extension-factor",
    type=float,
    default=3,
    help="Number of Gaussian widths of a source that are held.",
)
@click.option("--stars", help="Table of stars.")
@click.option(
    "--magnitude-max",
    type=float,
    default=6,
    help="Magnitude of the faintest star.",
)
@click.option("--star-radius", default="0.3 deg", help="Radius around a star.")
@click.option(
    "--regions", multiple=True, help="Region file (ds9) to add to. Repeatable."
)
@click.option("--out", help="Region file (ds9) to write.")
@click.option("--plot", help="File of a picture, with the counts of --datastore.")
@click.option("--datastore", help="Folder of the DL3 datastore, for the picture.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def exclusions(position, radius, out, plot, datastore, overwrite, **options):
    """List the regions of known sources and bright stars that touch a field of view.

    With --out, writes them to a file, which --exclude of other commands takes.
    """
    if (plot is None) != (datastore is None):
        raise click.UsageError("Give both of --plot and --datastore, or neither.")
    paths = [make_path(_) for _ in (out, plot) if _ is not None]
    for path in paths:
        if os.path.lexists(path) and not overwrite:
            raise FileExistsError(f"{path} exists. Choose another, or use --overwrite.")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"There is no folder {path.parent}.")
    regions = ExclusionRegions.from_catalogs(position, radius, **options)
    if plot is not None:
        # of the observations that point into the field
        store, radius = open_datastore(datastore), to_angle(radius)
        separation = store.obs_table.pointing_radec.separation(position)
        obs_ids = store.obs_table["OBS_ID"][separation < radius]
        if not len(obs_ids):
            raise ValueError(
                f"No observation of {datastore} points to within {radius} of "
                f"{position.to_string()}. Leave out --plot, or choose another "
                "--datastore."
            )
        counts = Map.create(skydir=position, width=2 * radius.deg, binsz=0.02)
        for obs_id in obs_ids:
            counts.fill_events(store.obs(obs_id, required_irf=[]).events)
        figure = plt.figure(figsize=(8, 7), layout="constrained")
        ax = figure.add_subplot(projection=counts.geom.wcs)
        plot_exclusion_regions(regions, counts, ax=ax)
        with replace_file(plot, overwrite) as temporary:
            figure.savefig(temporary, dpi=120)
        plt.close(figure)
    if out is not None:
        regions.write(out, overwrite=overwrite)
    click.echo(regions)
    for path in paths:
        tell(f"Wrote {path}")
