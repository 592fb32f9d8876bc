"""Observations and datastores: read, checked and written."""

from .datastore import (
    find_broken_files,
    open_datastore,
    select_datastore,
    write_background,
    write_datastore,
    write_observation,
)
from .query import query_obs_table

__all__ = [
    "find_broken_files",
    "open_datastore",
    "query_obs_table",
    "select_datastore",
    "write_background",
    "write_datastore",
    "write_observation",
]
