"""Speed of scrambling.

Run with ``python benchmarks/scramble.py``. Uses simulated data. Shares within one run
can be compared, times of different machines cannot.
"""

import time

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.time import Time
from gammapy.utils.coordinates import FoVICRSFrame
from regions import CircleSkyRegion

from gammapy_mimic import ScrambleMaker
from gammapy_mimic.exclusion import ExclusionRegions
from gammapy_mimic.simulate import make_irfs, simulate_observation

N_REPEAT = 15
N_EVENTS = 100_000
POINTING = SkyCoord(150, -30, unit="deg")
TSTART = Time("2015-03-01T22:00:00")


def measure(*functions):
    """Median milliseconds of functions that are called in turn."""
    times = np.zeros((N_REPEAT + 1, len(functions)))
    for row in times:
        for idx, call in enumerate(functions):
            start = time.perf_counter()
            call()
            row[idx] = 1e3 * (time.perf_counter() - start)
    return np.median(times[1:], axis=0)


def make_observation():
    """Make an observation in memory, with the FoV columns of H.E.S.S."""
    n_events = len(simulate_observation(1, POINTING, TSTART).events.table)

    def make_bright_irfs(zenith):
        irfs = make_irfs(zenith)
        irfs["bkg"].quantity = irfs["bkg"].quantity * (N_EVENTS / n_events)
        return irfs

    observation = simulate_observation(1, POINTING, TSTART, irfs=make_bright_irfs)
    table = observation.events.table
    fov = observation.events.radec.transform_to(FoVICRSFrame(origin=POINTING))
    table["DETX"], table["DETY"] = -fov.fov_lon, fov.fov_lat
    return observation


def make_regions():
    """Make two regions, whose annuli do not overlap."""
    centers = [
        POINTING.directional_offset_by(angle * u.deg, offset * u.deg)
        for angle, offset in ((40, 0.5), (200, 1.5))
    ]
    return [CircleSkyRegion(_, 0.3 * u.deg) for _ in centers]


def time_methods():
    """Time of each method, and of its parts: one row a method."""
    observation, regions = make_observation(), make_regions()
    rows = []
    for method in ScrambleMaker.available_methods:
        maker = ScrambleMaker(regions, method, random_state=0)
        field = maker._find_field(observation)

        def make(maker=maker):
            maker.make_observation(observation)

        def find_field(maker=maker):
            maker._find_field(observation)

        def draw(maker=maker, field=field):
            maker._draw_positions(field, np.random.default_rng(0))
            if maker.method == "annulus":
                maker._check_annuli(field, 1)

        total, finding, drawing = measure(make, find_field, draw)
        parts = finding, drawing, total - finding - drawing
        rows.append((method, total, *parts))
    return rows


def time_exclusions(n_regions=60, n_pointings=1000):
    """Time to find which regions touch which fields of view, in ms."""
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(0, 360, n_regions), rng.uniform(-5, 5, n_regions)
    centers = SkyCoord(lon, lat, unit="deg", frame="galactic")
    regions = ExclusionRegions([CircleSkyRegion(_, 0.3 * u.deg) for _ in centers])
    lon, lat = rng.uniform(0, 360, n_pointings), rng.uniform(-5, 5, n_pointings)
    pointings = SkyCoord(lon, lat, unit="deg", frame="galactic").icrs
    (total,) = measure(lambda: regions.is_touching(pointings, "2.5 deg"))
    return f"{n_regions} regions, {n_pointings} fields of view: {total:.1f} ms"


def main():
    names = ["method", "total", "field of view", "draw", "table"]
    table = Table(rows=time_methods(), names=names)
    for name in names[1:]:
        table[name].info.format = ".1f"
    print(f"Two regions, {N_EVENTS} events. Median of {N_REPEAT} runs [ms]")
    table.pprint(max_width=-1)
    print(time_exclusions())


if __name__ == "__main__":
    main()
