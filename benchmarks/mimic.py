"""Speed of mimic observations against plain Gammapy.

Run with ``python benchmarks/mimic.py``. Uses the H.E.S.S. DL3 DR1 data of
``$GAMMAPY_DATA`` where they are, else simulated data. Ratios within one run can be
compared, times of different machines cannot.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord, SkyOffsetFrame
from astropy.table import Table
from gammapy.data import DataStore, EventList
from gammapy.datasets import MapDataset
from gammapy.makers import (
    DatasetsMaker,
    FoVBackgroundMaker,
    MapDatasetMaker,
    SafeMaskMaker,
)
from gammapy.maps import MapAxis, WcsGeom

from gammapy_mimic import MimicMaker
from gammapy_mimic.data import query_obs_table, write_datastore
from gammapy_mimic.makers import get_center
from gammapy_mimic.selection import MimicPlan
from gammapy_mimic.simulate import simulate_datastore
from gammapy_mimic.utils.coordinates import rotate_fov

N_REPEAT = 5


def measure(function, *others):
    """Median seconds of functions that are called in turn."""
    functions = (function, *others)
    times = np.zeros((N_REPEAT + 1, len(functions)))
    for row in times:
        for idx, call in enumerate(functions):
            start = time.perf_counter()
            call()
            row[idx] = time.perf_counter() - start
    return np.median(times[1:], axis=0)


def open_store(path):
    hess = Path(os.environ.get("GAMMAPY_DATA", "")) / "hess-dl3-dr1"
    if hess.exists():
        store = DataStore.from_dir(hess)
        table = store.obs_table
        targets = query_obs_table(table, "TARGET_TAG == 'pks2155_flare'")
        return store, targets, query_obs_table(table, "TARGET_NAME == 'Off data'")
    position = SkyCoord(329.7, -30.2, unit="deg")
    fields = {"target": position}
    fields |= {f"off {_}": SkyCoord(20.0 * _, -20, unit="deg") for _ in range(11)}
    store = simulate_datastore(path / "store", 48, targets=fields)
    return store, store.obs_table[:4], store.obs_table[4:]


def mimic_with_gammapy(store, target_id, off_id):
    """The way without this package: a deep copy, and frames of astropy."""
    target, off = store.obs(target_id), store.obs(off_id)
    table = off.events.table.copy()
    field = off.events.radec.transform_to(
        SkyOffsetFrame(origin=off.pointing.fixed_icrs)
    )
    new_frame = SkyOffsetFrame(origin=target.pointing.fixed_icrs)
    radec = SkyCoord(field.lon, field.lat, frame=new_frame).icrs
    table["RA"], table["DEC"] = radec.ra, radec.dec
    table["TIME"] = off.events.time + (target.tstart - off.tstart)
    return off.copy(
        in_memory=True,
        obs_id=target_id,
        pointing=target.pointing,
        events=EventList(table, off.events.meta),
    )


def compare_observations(store, plan, path):
    pairs = plan.partners(1)

    def make():
        maker = MimicMaker(store, plan)
        return [maker.make_observation(store.obs(_)) for _ in pairs]

    def write():
        write_datastore(make(), path / "mimic", overwrite=True)

    def make_plain():
        return [mimic_with_gammapy(store, *pair) for pair in pairs.items()]

    def write_plain():
        for observation in make_plain():
            observation.write(path / "plain.fits.gz", overwrite=True)

    made = 1e3 * measure(make, make_plain) / len(pairs)
    written = 1e3 * measure(write, write_plain) / len(pairs)
    return [
        ("mimic observation [ms]", *made),
        ("written, linked IRFs [ms]", *written),
    ]


def compare_chains(store, plan, targets):
    observations = store.get_observations(targets["OBS_ID"])
    axis = MapAxis.from_energy_bounds("0.5 TeV", "20 TeV", nbin=10)
    true_axis = MapAxis.from_energy_bounds(
        "0.3 TeV", "40 TeV", nbin=15, name="energy_true"
    )
    geom = WcsGeom.create(
        skydir=get_center(observations), width=5, binsz=0.02, axes=[axis]
    )

    def reduce(maker):
        makers = [
            maker,
            SafeMaskMaker(["aeff-default", "offset-max"], offset_max="2 deg"),
            FoVBackgroundMaker(),
        ]
        reference = MapDataset.create(geom, energy_axis_true=true_axis)
        return DatasetsMaker(makers).run(reference, observations)

    maker = MimicMaker(store, plan, dataset_maker=MapDatasetMaker())
    mimic, plain = measure(lambda: reduce(maker), lambda: reduce(MapDatasetMaker()))
    return [(f"chain of {len(observations)} observations [s]", mimic, plain)]


def compare_rotation():
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(82, 86, 10_000), rng.uniform(20, 24, 10_000)
    origin, new_origin = SkyCoord(84, 22, unit="deg"), SkyCoord(200, -60, unit="deg")

    def rotate():
        rotate_fov(ra, dec, (84, 22), (200, -60))

    def transform():
        frame = SkyOffsetFrame(origin=origin)
        field = SkyCoord(ra, dec, unit="deg").transform_to(frame)
        new_frame = SkyOffsetFrame(origin=new_origin)
        return SkyCoord(field.lon, field.lat, frame=new_frame).icrs

    own, plain = measure(rotate, transform)
    return [("rotation of 10,000 events [ms]", 1e3 * own, 1e3 * plain)]


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        store, targets, off = open_store(path)
        plan = MimicPlan.from_obs_tables(targets, off, n_sets=1)
        rows = compare_rotation()
        rows += compare_observations(store, plan, path)
        rows += compare_chains(store, plan, targets)
    table = Table(rows=rows, names=["what", "gammapy-mimic", "plain Gammapy"])
    table["ratio"] = table["plain Gammapy"] / table["gammapy-mimic"]
    for name in table.colnames[1:]:
        table[name].info.format = ".2f"
    print(f"{store.hdu_table.base_dir.name}, median of {N_REPEAT} runs")
    table.pprint(max_width=-1)


if __name__ == "__main__":
    main()
