"""Speed of the index and of templates, over that of reading the events.

Run with ``python benchmarks/selector.py``, which needs the H.E.S.S. DL3 DR1 data of
``$GAMMAPY_DATA``. Rankings and plans of large archives are in ``archives.py``.
"""

import logging
import os
import time
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack
from gammapy.data import DataStore
from regions import CircleSkyRegion

from gammapy_mimic.data import query_obs_table
from gammapy_mimic.selection import OffIndex
from gammapy_mimic.template import make_template

N_REPEAT = 3


def measure(*functions):
    """Median seconds of functions that are called in turn."""
    times = np.zeros((N_REPEAT + 1, len(functions)))
    for row in times:
        for idx, call in enumerate(functions):
            start = time.perf_counter()
            call()
            row[idx] = time.perf_counter() - start
    return np.median(times[1:], axis=0)


def compare_files(store):
    table = query_obs_table(store.obs_table, "TARGET_NAME == 'Off data'")
    off = store.get_observations(table["OBS_ID"])
    circles = [
        CircleSkyRegion(SkyCoord(ra, dec, unit="deg"), 0.3 * u.deg)
        for ra, dec in zip(table["RA_OBJ"], table["DEC_OBJ"], strict=True)
    ]

    def read():
        return [_.events for _ in off]

    def index():
        return OffIndex.create(off, exclusion_regions=circles)

    def make_2d():
        return make_template(off, exclusion_regions=circles)

    def make_3d():
        return make_template(
            off, "3d", exclusion_regions=circles, fov_alignment="ALTAZ"
        )

    seconds, *others = measure(read, index, make_2d)
    names = ["index", "2D template"]
    rows = [(f"read the events of {len(off)} H.E.S.S. runs [s]", seconds)]
    rows += [
        (f"{name} of them, over reading", value / seconds)
        for name, value in zip(names, others, strict=True)
    ]
    start = time.perf_counter()
    make_3d()
    rows.append(("3D template, ALTAZ, of them [s]", time.perf_counter() - start))
    return rows


def main():
    logging.getLogger("gammapy_mimic").setLevel(logging.ERROR)
    hess = Path(os.environ.get("GAMMAPY_DATA", "")) / "hess-dl3-dr1"
    rows = compare_files(DataStore.from_dir(hess))
    table = vstack([Table(rows=[row], names=["what", "value"]) for row in rows])
    table["value"].info.format = ".2f"
    table["what"].info.format = "<60s"
    table.pprint(max_width=-1, max_lines=-1)


if __name__ == "__main__":
    main()
