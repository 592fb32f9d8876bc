"""``gammapy-mimic index``: the index of an archive, or a shard of it."""

import itertools

import click

from ..data.datastore import open_datastore
from ..selection import OffIndex
from ..selection.shards import parse_shard
from ..utils.files import replace_file
from .options import Region, n_jobs_option
from .output import tell

__all__ = ["Shard", "index"]


class Shard(click.ParamType):
    """One shard of many, as K/N."""

    name = "K/N"

    def convert(self, value, param, ctx):
        """Convert the text of an argument to both numbers."""
        try:
            return parse_shard(value)
        except ValueError as error:
            self.fail(str(error), param)


@click.command()
@click.argument("store")
@click.option("--out", required=True, help="File to write.")
@click.option("--shard", type=Shard(), help="Read the K-th of N parts of the archive.")
@click.option(
    "--exclude",
    "regions",
    type=Region(),
    multiple=True,
    help="Source in any of the fields, whose events are not counted. Repeatable.",
)
@n_jobs_option
@click.option("--overwrite", is_flag=True, help="Replace an existing index.")
def index(store, out, shard, regions, n_jobs, overwrite):
    """Count the events of all observations of the datastore STORE, once.

    Commands and configurations take the file as the index of OFF observations. With
    --shard, as in a batch system, index-merge makes it of the parts.
    """
    if overwrite:
        OffIndex.check_own(out)
    regions = list(itertools.chain.from_iterable(regions))
    options = {"exclusion_regions": regions, "n_jobs": n_jobs, "shard": shard}
    # first the file, as the events may take hours
    with replace_file(out, overwrite) as temporary:
        made = OffIndex.create(open_datastore(store), **options)
        made.write(temporary)
    what = "index" if shard is None else "shard {} of {}".format(*shard)
    tell(
        f"Wrote the {what} of {len(made)} observations, {len(made.broken)} others are "
        f"broken, to {out}"
    )
