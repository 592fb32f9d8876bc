"""``gammapy-mimic index-merge``: the index of an archive, from its shards."""

import click

from ..selection import OffIndex
from .output import tell

__all__ = ["index_merge"]


@click.command()
@click.argument("parts", nargs=-1, required=True)
@click.option("--out", required=True, help="File to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing index.")
def index_merge(parts, out, overwrite):
    """Merge the shards PARTS of an index.

    All that index --shard writes, in any order: the result is that of one made at once.
    """
    made = OffIndex.merge(parts)
    made.write(out, overwrite)
    tell(
        f"Wrote the index of {len(made)} observations of {len(parts)} shards, "
        f"{len(made.broken)} others are broken, to {out}"
    )
