"""Regions of the estimator that are not whole on the map."""

import types

import astropy.units as u
import numpy as np
import pytest
from gammapy.maps import WcsGeom
from regions import (
    CircleSkyRegion,
    PointSkyRegion,
    PolygonSkyRegion,
    RectangleSkyRegion,
)

from gammapy_mimic.estimators.background_tables import make_regions

from .test_systematics import CENTER

GEOM = WcsGeom.create(skydir=CENTER, width=(4, 3), binsz=0.1, proj="TAN")
COMPARISON = types.SimpleNamespace(geom=GEOM, pixel_size=0.1)
EAST = CENTER.directional_offset_by(90 * u.deg, 2 * u.deg)
NORTH = CENTER.directional_offset_by(0 * u.deg, 1.5 * u.deg)


@pytest.mark.parametrize(
    ("region", "percent"),
    [
        (CircleSkyRegion(EAST, 0.5 * u.deg), (45, 55)),
        (CircleSkyRegion(NORTH, 0.5 * u.deg), (45, 55)),
        (CircleSkyRegion(EAST, 0.5 * u.deg) | CircleSkyRegion(CENTER, 1 * u.deg), 10),
        (RectangleSkyRegion(CENTER, 5 * u.deg, 2 * u.deg), 20),
        (CircleSkyRegion(CENTER, 50 * u.deg), (80, 100)),
    ],
)
def test_region_that_is_off_the_map_in_part(region, percent):
    with pytest.raises(ValueError, match="is off the map. Use a larger map") as error:
        make_regions(COMPARISON, [CircleSkyRegion(CENTER, 0.5 * u.deg), region])
    low, high = percent if isinstance(percent, tuple) else (percent - 2, percent + 2)
    assert low < float(str(error.value).split("%")[0]) < high
    assert ", ".join(str(region).splitlines()) in str(error.value)


def test_region_that_reaches_the_edge():
    corners = GEOM.get_coord(mode="edges").skycoord[[0, 0, -1, -1], [0, -1, -1, 0]]
    regions = [
        RectangleSkyRegion(CENTER, 4 * u.deg, 3 * u.deg),
        PolygonSkyRegion(corners),
        CircleSkyRegion(CENTER, 1.5 * u.deg),
        PointSkyRegion(CENTER),
    ]
    apertures = make_regions(COMPARISON, regions)
    number = [np.count_nonzero(_.labels == 0) for _ in apertures]
    assert number[:2] == [1200, 1200]
    assert number[3] > 0


def test_region_that_is_elsewhere():
    far = CENTER.directional_offset_by(0 * u.deg, 150 * u.deg)
    for position in (EAST.directional_offset_by(90 * u.deg, 1 * u.deg), far):
        with pytest.raises(ValueError, match="is not on the map, or holds no center"):
            make_regions(COMPARISON, [CircleSkyRegion(position, 0.5 * u.deg)])
