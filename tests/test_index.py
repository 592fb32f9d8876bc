import copy
import gzip
import itertools
import logging
import os
import shutil

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import FK4, SkyCoord
from astropy.io import fits
from astropy.table import Column, Table, vstack
from astropy.wcs import WCS
from gammapy.data import DataStore, EventList, Observations
from gammapy.maps import MapAxis
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from regions import (
    CircleAnnulusSkyRegion,
    CircleSkyRegion,
    EllipseAnnulusSkyRegion,
    EllipseSkyRegion,
    PointSkyRegion,
    PolygonSkyRegion,
    RectangleAnnulusSkyRegion,
    RectangleSkyRegion,
    RegionMeta,
)
from scipy.integrate import quad

from gammapy_mimic.data import find_broken_files
from gammapy_mimic.exclusion.sky_regions import (
    check_regions,
    find_inside,
    make_exclusion,
)
from gammapy_mimic.selection import OffIndex
from gammapy_mimic.selection import binning as binning_module
from gammapy_mimic.selection import index as index_module
from gammapy_mimic.selection.binning import (
    ENERGY_AXIS,
    OFFSET_AXIS,
    FoVBinning,
    count_in_bins,
)
from gammapy_mimic.selection.divergence import compare_counts
from gammapy_mimic.utils.coordinates import (
    get_offset,
    local_axes,
    make_ring,
    to_vectors,
)

from .helpers import find_runs, need_runs, replace

WAY_OUT = "Mend it, or leave it out with the criterion exclude_obs_ids."

FRACTION_ERROR = 1e-3


def position(lon, lat, frame="icrs"):
    return SkyCoord(lon, lat, unit="deg", frame=frame)


def circle(lon, lat, radius, frame="icrs"):
    return CircleSkyRegion(position(lon, lat, frame), radius * u.deg)


def make_regions(center):
    """A region of each shape around a position."""
    angle = 30 * u.deg
    near = [center.directional_offset_by(x * u.deg, 0.5 * u.deg) for x in (0, 80, 250)]
    frame = center.frame.name
    vertices = SkyCoord([_.transform_to(frame) for _ in near])
    small, middle, large = (0.3, 0.6, 0.9) * u.deg
    return {
        "circle": CircleSkyRegion(center, small),
        "annulus": CircleAnnulusSkyRegion(center, small, middle),
        "ellipse": EllipseSkyRegion(center, middle, large, angle),
        "ellipse_annulus": EllipseAnnulusSkyRegion(
            center, small, middle, middle, large, angle
        ),
        "rectangle": RectangleSkyRegion(center, small, large, angle),
        "rectangle_annulus": RectangleAnnulusSkyRegion(
            center, small, middle, middle, large, angle
        ),
        "polygon": PolygonSkyRegion(vertices),
    }


def draw_in_cone(center, radius, size, rng):
    """Positions spread evenly over the solid angle of a cone, with their weight."""
    cos = rng.uniform(np.cos(np.radians(radius)), 1, size)
    angle = rng.uniform(0, 360, size) * u.deg
    return center.directional_offset_by(angle, np.degrees(np.arccos(cos)) * u.deg)


def circle_fraction(separation, radius, edges):
    """Solid angle of rings outside a circle, by integration over the offset."""
    separation, radius, edges = (np.radians(_) for _ in (separation, radius, edges))

    def inside(offset):
        if separation == 0:
            return float(offset < radius)
        cos = np.cos(radius) - np.cos(offset) * np.cos(separation)
        cos /= np.sin(offset) * np.sin(separation)
        return np.arccos(np.clip(cos, -1, 1)) / np.pi * np.sin(offset)

    fractions = []
    tangents = abs(separation - radius), separation + radius
    for low, high in itertools.pairwise(edges):
        points = [_ for _ in tangents if low < _ < high] or None
        area = quad(inside, low, high, points=points, epsabs=1e-9)[0]
        if separation == 0:
            area = np.cos(low) - np.cos(np.clip(radius, low, high))
        fractions.append(1 - area / (np.cos(low) - np.cos(high)))
    return np.array(fractions)


def count_independently(observation, binning, regions):
    """Counts by Gammapy and astropy, for circles."""
    events = observation.events
    keep = np.ones(len(events.table), dtype=bool)
    for region in regions:
        keep &= events.radec.separation(region.center) >= region.radius
    offset = events.radec.separation(observation.pointing.fixed_icrs).deg
    bins = binning.energy_edges, binning.offset_edges
    return np.histogram2d(events.energy.to_value("TeV")[keep], offset[keep], bins)[0]


@pytest.fixture(scope="module")
def store(stores):
    return stores["off"]


@pytest.fixture(scope="module")
def regions(store):
    """Circles in all, at the edge of some and far from all fields of view."""
    row = store.obs_table[0]
    center = position(row["RA_PNT"], row["DEC_PNT"])
    places = [(0, 0.0, 0.3), (90, 1.5, 0.4), (200, 2.5, 0.5), (300, 40.0, 2.0)]
    return [
        CircleSkyRegion(center.directional_offset_by(a * u.deg, x * u.deg), r * u.deg)
        for a, x, r in places
    ]


@pytest.fixture(scope="module")
def index(store, regions):
    return OffIndex.create(store, exclusion_regions=regions)


@pytest.fixture
def own_store(store, tmp_path):
    """A copy of the store that a test may damage."""
    path = tmp_path / "store"
    shutil.copytree(store.hdu_table.base_dir, path)
    return DataStore.from_dir(path)


def events_path(datastore, obs_id):
    return datastore.hdu_table.hdu_location(obs_id, "events").path()


def change_events(datastore, obs_id, change):
    path = events_path(datastore, obs_id)
    with fits.open(path, memmap=False) as hdu_list:
        change(hdu_list["EVENTS"])
        hdu_list.writeto(path, overwrite=True)


def assert_same(index, other):
    assert index.checksum == other.checksum
    assert_array_equal(index.counts, other.counts)
    assert_array_equal(index.fraction, other.fraction)
    assert_array_equal(index.aeff, other.aeff)
    assert index.table.colnames == other.table.colnames
    assert index.table.meta == other.table.meta
    for name in index.table.colnames:
        assert_array_equal(index.table[name], other.table[name])
        assert index.table[name].unit == other.table[name].unit
        assert index.table[name].dtype.kind == other.table[name].dtype.kind
    assert index.broken.colnames == other.broken.colnames == ["OBS_ID", "REASON"]
    assert list(index.broken["OBS_ID"]) == list(other.broken["OBS_ID"])
    assert list(index.broken["REASON"]) == list(other.broken["REASON"])


class TestKernels:
    @pytest.mark.slow
    @given(
        lon=st.floats(0, 360),
        lat=st.floats(-90, 90),
        angle=st.floats(0, 360),
        offset=st.floats(1e-6, 179),
    )
    @settings(max_examples=50, deadline=None)
    def test_offset_is_separation(self, lon, lat, angle, offset):
        center = position(lon, lat)
        other = center.directional_offset_by(angle * u.deg, offset * u.deg)
        frame = local_axes(lon, lat)
        vector = frame @ to_vectors(other.ra.deg, other.dec.deg)
        assert_allclose(get_offset(vector), center.separation(other).deg, atol=1e-12)
        assert_allclose(frame @ frame.T, np.eye(3), atol=1e-14)

    def test_local_axes_point_east_and_north(self):
        vector = local_axes(350, -40) @ to_vectors([350.1, 350], [-40, -39.9])
        east, north, _ = vector
        assert east[0] > 0
        assert_allclose(north[1], np.sin(np.radians(0.1)))
        assert_allclose(east[1], 0, atol=1e-15)

    def test_ring_fills_solid_angle_evenly(self):
        x, y, z = make_ring(1.0, 2.0)
        cos_min, cos_max = np.cos(np.radians([1, 2]))
        assert cos_max < z.min() < z.max() < cos_min
        assert_allclose(z.mean(), (cos_min + cos_max) / 2, rtol=1e-12)
        angle = np.histogram(np.arctan2(y, x), np.linspace(-np.pi, np.pi, 21))[0]
        assert_allclose(angle, len(z) / 20, atol=5)

    def test_bins_hold_their_lower_edge(self):
        energy = [0.9, 1, 1.9, 2, 3.9, 4, 5]
        counts = count_in_bins(energy, np.ones(7), [1, 2, 4], [0, 1, 2])
        assert_array_equal(counts, [[0, 2], [0, 2]])


class TestRegions:
    def compile(self, region):
        return make_exclusion(check_regions([region])[0])

    def contains(self, region, positions):
        vectors = to_vectors(positions.icrs.ra.deg, positions.icrs.dec.deg)
        inside = np.zeros(len(positions), dtype=bool)
        inside[find_inside(vectors, self.compile(region))] = True
        return inside

    @pytest.mark.parametrize("frame", ["icrs", "galactic", "fk5"])
    @pytest.mark.parametrize("place", [(0.05, -30), (120, 0), (77, 89.8), (10, -90)])
    def test_same_as_regions(self, frame, place):
        # a WCS of another projection, for which they are the same near the centre
        center = position(*place, frame)
        positions = draw_in_cone(center, 1.2, 3000, np.random.default_rng(0))
        axes = ("RA---STG", "DEC--STG")
        if frame == "galactic":
            axes = ("GLON-STG", "GLAT-STG")
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.crval = axes, place
        wcs.wcs.cdelt, wcs.wcs.lonpole = (-0.02, 0.02), 180
        for name, region in make_regions(center).items():
            inside = self.contains(region, positions)
            n_different = np.sum(inside != region.contains(positions, wcs))
            assert n_different <= 2, name
            assert 100 < inside.sum() < 2000, name

    @pytest.mark.parametrize("radius", [1e-3, 0.3, 20, 120])
    def test_circle_is_that_of_the_sphere(self, radius):
        center = position(359.9, 85)
        positions = draw_in_cone(center, min(2 * radius, 180), 2000, np.random)
        inside = self.contains(circle(359.9, 85, radius), positions)
        assert_array_equal(inside, center.separation(positions).deg < radius)

    def test_edges_of_polygon_are_great_circles(self):
        vertices = position([350, 30, 20, 355], [-20, -25, 20, 15])
        rng = np.random.default_rng(0)
        positions = draw_in_cone(position(7, 0), 50, 5000, rng)
        corners = vertices.cartesian.xyz.value.T
        normals = np.cross(corners, np.roll(corners, -1, axis=0))
        # anticlockwise: to the left of all edges
        expected = np.all(normals @ positions.cartesian.xyz.value > 0, axis=0)
        inside = self.contains(PolygonSkyRegion(vertices), positions)
        assert_array_equal(inside, expected)
        assert 500 < inside.sum() < 4000

    def test_bounding_circle_holds_region(self):
        for name, region in make_regions(position(12, 60)).items():
            exclusion = self.compile(region)
            positions = draw_in_cone(position(12, 60), 3, 5000, np.random)
            inside = self.contains(region, positions)
            vectors = to_vectors(positions.ra.deg, positions.dec.deg)
            separation = np.arccos(exclusion.axes[2] @ vectors[:, inside])
            assert separation.max() < exclusion.radius < np.radians(1), name

    def test_union(self):
        parts = [circle(10, 0, 0.3), circle(10.4, 0, 0.3), circle(11, 0, 0.2)]
        binning = FoVBinning.create(exclusion_regions=[parts[0] | parts[1] | parts[2]])
        assert binning.exclusion_regions == parts

    def test_meta_does_not_matter(self):
        region = circle(10, 0, 0.3)
        region.meta["label"] = "Crab"
        assert FoVBinning.create(exclusion_regions=[region]).exclusion_regions[0] == (
            circle(10, 0, 0.3)
        )

    @pytest.mark.parametrize(
        ("regions", "error", "match"),
        [
            (circle(1, 2, 3), TypeError, "must be a list of SkyRegion"),
            ("circle.reg", TypeError, "must be a list of SkyRegion, got 'circle.reg'"),
            ([position(1, 2)], ValueError, "Invalid exclusion region: <SkyCoord"),
            ([PointSkyRegion(position(1, 2))], ValueError, "from .*'PolygonSkyRegion'"),
            ([circle(1, 2, 3) & circle(2, 2, 3)], ValueError, "is not a union"),
            ([circle(1, 2, 3, FK4())], ValueError, "has the frame 'fk4'.*J2000"),
        ],
    )
    def test_invalid(self, regions, error, match):
        with pytest.raises(error, match=match):
            FoVBinning.create(exclusion_regions=regions)

    def test_sky_around_a_region(self):
        region = circle(1, 2, 3)
        region.meta = RegionMeta({"include": False})
        with pytest.raises(ValueError, match="include=False"):
            FoVBinning.create(exclusion_regions=[region])

    def test_huge_polygon(self):
        region = PolygonSkyRegion(position([0, 100, 200, 300], [-10, 10, -10, 10]))
        with pytest.raises(ValueError, match="reaches 129 deg .*less than 80 deg"):
            FoVBinning.create(exclusion_regions=[region])


class TestFraction:
    nothing = np.zeros((3, 1))

    def fraction(self, regions, pointing, offset_axis=None):
        binning = FoVBinning.create(None, offset_axis, regions)
        return binning.count(*self.nothing, pointing, np.zeros(1, int))[2]

    @given(
        separation=st.just(0.0) | st.floats(0.01, 3),
        angle=st.floats(0, 360),
        radius=st.sampled_from([0.1, 0.3, 1]),
        dec=st.floats(-90, 90),
    )
    @settings(max_examples=40, deadline=None)
    def test_of_circle(self, separation, angle, radius, dec):
        pointing = position(83.6, dec)
        center = pointing.directional_offset_by(angle * u.deg, separation * u.deg)
        separation = pointing.separation(center).deg
        region = CircleSkyRegion(center, radius * u.deg)
        expected = circle_fraction(separation, radius, OFFSET_AXIS.edges.value)
        fraction = self.fraction([region], (83.6, dec))
        assert_allclose(fraction, expected, atol=FRACTION_ERROR)

    @pytest.mark.parametrize("separation", [2.31, 2.5, 2.79])
    def test_circle_half_outside(self, separation):
        axis = MapAxis.from_edges([0, 2, 2.5], unit="deg", name="offset")
        fraction = self.fraction([circle(separation, 0, 0.3)], (0, 0), axis)
        expected = circle_fraction(separation, 0.3, axis.edges.value)
        assert fraction[0] == 1
        assert fraction[1] < 1
        assert_allclose(fraction, expected, atol=FRACTION_ERROR)

    def test_narrow_bins(self):
        axis = MapAxis.from_bounds(0, 3, 30, unit="deg", name="offset")
        fraction = self.fraction([circle(0.5, 0, 0.3)], (0, 0), axis)
        expected = circle_fraction(0.5, 0.3, axis.edges.value)
        assert_allclose(fraction, expected, atol=FRACTION_ERROR)

    @pytest.mark.parametrize("name", make_regions(position(0, 0)))
    @pytest.mark.parametrize("place", [(266, -29, "icrs"), (30, 89, "galactic")])
    def test_of_any_shape(self, name, place):
        # Monte Carlo, with the same answer for events and for the fraction
        center = position(*place)
        pointing = center.directional_offset_by(1 * u.rad, 0.7 * u.deg).icrs
        regions = [make_regions(center)[name], CircleSkyRegion(pointing, 0.2 * u.deg)]
        binning = FoVBinning.create(exclusion_regions=regions)
        events = draw_in_cone(pointing, 2.5, 200_000, np.random.default_rng(1))
        events = events.ra.deg, events.dec.deg, np.ones(len(events))
        pointing = pointing.ra.deg, pointing.dec.deg
        args = *events, pointing, np.zeros(len(events[0]), int)
        counts, half_counts, fraction = binning.count(*args)
        assert_array_equal(half_counts, counts)
        total, *_ = FoVBinning.create().count(*args)
        counts, total = counts.sum(axis=0), total.sum(axis=0)
        error = np.sqrt(fraction * (1 - fraction) / total)
        assert_allclose(counts / total, fraction, atol=4 * error.max() + 5e-4)
        assert fraction.min() < 0.95

    def test_overlap_counts_once(self):
        one = self.fraction([circle(1, 0, 0.4)], (0, 0))
        assert_array_equal(self.fraction([circle(1, 0, 0.4)] * 2, (0, 0)), one)
        inner = [circle(1, 0, 0.4), circle(1.1, 0, 0.2)]
        assert_array_equal(self.fraction(inner, (0, 0)), one)

    def test_everything_excluded(self):
        assert_array_equal(self.fraction([circle(0, 0, 9)], (1, 1)), np.zeros(6))

    def test_far_regions_are_not_looked_at(self, monkeypatch):
        monkeypatch.setattr(binning_module, "is_excluded", None)
        regions = [circle(x, 20, 1) for x in range(0, 360, 5)]
        assert_array_equal(self.fraction(regions, (10, -10)), np.ones(6))

    def test_same_for_all_pointings(self):
        # rotating everything changes nothing: no distortion, no poles, no RA wrap
        def fraction(lon, lat):
            pointing = position(lon, lat)
            place = pointing.directional_offset_by(50 * u.deg, 1.2 * u.deg)
            angle = place.position_angle(pointing)
            region = EllipseSkyRegion(place, 0.5 * u.deg, 1 * u.deg, angle)
            return self.fraction([region], (lon, lat))

        expected = fraction(180, 0)
        assert expected.min() < 0.95
        for lon, lat in [(359.9, 10), (0, -89.5), (12, 90), (300, 88)]:
            assert_allclose(fraction(lon, lat), expected, atol=FRACTION_ERROR)


class TestCreate:
    def test_counts(self, store, regions, index):
        binning = index.binning
        for idx, obs_id in enumerate(index.obs_ids):
            observation = store.obs(obs_id)
            expected = count_independently(observation, binning, regions)
            assert_array_equal(index.counts[idx], expected)
        assert index.counts.sum() > 10_000

    def test_all_events_in_range_are_counted(self, store):
        energy_axis = MapAxis.from_energy_bounds("1 GeV", "1 PeV", nbin=3)
        offset_axis = MapAxis.from_bounds(0, 90, 2, unit="deg", name="offset")
        index = OffIndex.create(store, energy_axis, offset_axis)
        assert_array_equal(index.counts.sum(axis=(1, 2)), index.table["EVENT_COUNT"])

    def test_regions_change_only_their_bins(self, store, index):
        full = OffIndex.create(store)
        assert_array_equal(full.fraction, np.ones_like(full.fraction))
        touched = index.fraction < 1
        assert 0 < touched.sum() < touched.size
        expected = np.where(touched[:, np.newaxis], index.counts, full.counts)
        assert_array_equal(index.counts, expected)
        removed = (full.counts - index.counts).sum(axis=1)
        assert np.all(removed[index.fraction < 0.99] > 0)
        # the background goes smoothly over the regions
        expected = full.counts.sum(axis=1) * (1 - index.fraction)
        assert_allclose(removed.sum(), expected.sum(), rtol=0.1)

    def test_table(self, store, index):
        assert_array_equal(index.obs_ids, store.obs_table["OBS_ID"])
        for name in store.obs_table.colnames:
            assert_array_equal(index.table[name], store.obs_table[name])
            assert index.table[name].unit == store.obs_table[name].unit
        for idx, obs_id in enumerate(index.obs_ids):
            meta = store.obs(obs_id).aeff.meta
            assert index.table["ENERGY_MIN"][idx] == meta["LO_THRES"]
            assert index.table["ENERGY_MAX"][idx] == meta["HI_THRES"]
        assert index.table["ENERGY_MIN"].unit == "TeV"

    def test_conditions(self, store, index):
        conditions = index.conditions
        assert_array_equal(conditions.obs_id, index.obs_ids)
        assert_allclose(conditions.livetime, store.obs_table["LIVETIME"])
        assert conditions.mjd.min() > 50_000

    def test_defaults(self, index):
        assert index.energy_axis == ENERGY_AXIS
        assert index.offset_axis == OFFSET_AXIS
        assert index.counts.shape == (8, 8, 6)
        assert len(index) == 8
        assert index.counts.dtype == np.int32
        assert len(index.broken) == 0
        assert "observations      : 8" in str(index)
        assert "offset            : 6 bins, 0 to 2.5 deg" in str(index)

    def test_counts_cannot_be_changed(self, index):
        with pytest.raises(ValueError, match="read-only"):
            index.counts[0] = 0

    def test_axes_in_other_units(self, store, index):
        energy_axis = MapAxis.from_energy_edges(ENERGY_AXIS.edges.to("GeV"))
        offset_axis = MapAxis.from_edges(OFFSET_AXIS.edges.to("rad"), name="offset")
        other = OffIndex.create(store, energy_axis, offset_axis)
        assert other.energy_axis.unit == "TeV"
        assert other.offset_axis.unit == "deg"
        assert_array_equal(other.counts, OffIndex.create(store).counts)

    def test_events_in_other_units(self, own_store):
        def change(hdu):
            hdu.data["ENERGY"] *= 1000
            hdu.columns["ENERGY"].unit = "GeV"

        expected = OffIndex.create(own_store)
        change_events(own_store, 101, change)
        assert_array_equal(OffIndex.create(own_store).counts, expected.counts)

    def test_order_and_kind_do_not_matter(self, store, regions, index):
        ids = list(index.obs_ids)
        lazy = store.get_observations(ids[::-1])
        in_memory = Observations([_.copy(in_memory=True) for _ in lazy])
        filed = OffIndex.create(lazy, exclusion_regions=regions)
        held = OffIndex.create(in_memory, exclusion_regions=regions)
        for other in (filed, held):
            assert_array_equal(other.counts, index.counts)
            assert_array_equal(other.fraction, index.fraction)
            assert list(other.table["OBS_ID"]) == ids
            assert set(index.table.colnames) == set(other.table.colnames)
            for name in ("OBJECT", "LIVETIME", "EVENT_COUNT", "ENERGY_MIN", "ZEN_PNT"):
                assert_array_equal(other.table[name], index.table[name])
                assert other.table[name].unit == index.table[name].unit
        assert filed.checksum == held.checksum

    def test_without_obs_table(self, store, index, regions):
        plain = DataStore(store.hdu_table)
        other = OffIndex.create(plain, exclusion_regions=regions)
        assert_array_equal(other.counts, index.counts)
        assert_array_equal(other.table["RA_PNT"], index.table["RA_PNT"])
        assert_same(other.update(plain), other)

    def test_jobs_do_not_matter(self, store, regions, index):
        others = [*regions, *make_regions(regions[0].center).values()]
        expected = OffIndex.create(store, exclusion_regions=others)
        parallel = OffIndex.create(store, exclusion_regions=others, n_jobs=2)
        assert_same(parallel, expected)
        assert parallel.checksum != index.checksum

    def test_files_are_opened_once(self, store, monkeypatch):
        opened = []
        monkeypatch.setattr(
            index_module.fits, "open", spy(index_module.fits.open, opened)
        )
        OffIndex.create(store)
        assert len(opened) == len(set(opened)) == 8

    def test_damaged_effective_area_is_unknown(self, own_store):
        expected = OffIndex.create(own_store)
        location = own_store.hdu_table.hdu_location(101, "aeff")
        with fits.open(location.path()) as hdu_list:
            start = hdu_list[location.hdu_name].fileinfo()["datLoc"]
        content = location.path().read_bytes()
        location.path().write_bytes(content[:start] + b"?" * (len(content) - start))
        index = OffIndex.create(own_store)
        assert np.isnan(index.aeff[0]).all()
        assert_array_equal(index.aeff[1:], expected.aeff[1:])
        assert_array_equal(index.counts, expected.counts)

    def test_filtered_observation(self, store):
        observation = store.obs(101)
        start = observation.tstart
        times = [start, start + 10 * u.min]
        part = observation.select_time(times)
        index = OffIndex.create(Observations([part]))
        expected = count_independently(part, index.binning, [])
        assert_array_equal(index.counts[0], expected)
        assert_allclose(index.table["ONTIME"].quantity[0], 10 * u.min)
        assert_allclose(index.table["LIVETIME"].quantity[0], 9 * u.min)
        full = OffIndex.create(Observations([observation]))
        assert index.counts.sum() < 0.5 * full.counts.sum()

    def test_masked_column(self, store):
        table = store.obs_table.copy()
        for name, value in {"N": 1, "X": 2.5, "TEXT": "a b"}.items():
            table[name] = np.ma.array([value] * 8, mask=[True] + [False] * 7)
        index = OffIndex.create(DataStore(store.hdu_table, table))
        assert_array_equal(index.table["N"], [np.nan] + [1] * 7)
        assert_array_equal(index.table["X"], [np.nan] + [2.5] * 7)
        assert list(index.table["TEXT"]) == [""] + ["a b"] * 7

    def test_effective_area_without_safe_range(self, own_store):
        path = events_path(own_store, 101)
        with fits.open(path, memmap=False) as hdu_list:
            location = own_store.hdu_table.hdu_location(101, "aeff")
            header = hdu_list[location.hdu_name].header
            del header["LO_THRES"]
            header["HI_THRES"] = -1
            hdu_list.writeto(path, overwrite=True)
        table = OffIndex.create(own_store).table
        assert table["ENERGY_MIN"][0] == 0
        assert table["ENERGY_MAX"][0] == np.inf
        assert np.all(table["ENERGY_MIN"][1:] > 0)

    def test_no_effective_area(self, store):
        hdu_table = store.hdu_table[store.hdu_table["HDU_TYPE"] != "aeff"]
        table = OffIndex.create(DataStore(hdu_table, store.obs_table)).table
        assert_array_equal(table["ENERGY_MIN"], np.zeros(8))
        assert_array_equal(table["ENERGY_MAX"], np.full(8, np.inf))

    def test_effective_area_in_memory(self, store):
        observation = store.obs(101)
        aeff = copy.deepcopy(observation.aeff)
        aeff.meta["LO_THRES"] = 7.5
        observation = replace(observation, aeff=aeff)
        index = OffIndex.create(Observations([observation]))
        assert index.table["ENERGY_MIN"][0] == 7.5

    def test_effective_area_in_another_file(self, own_store, index, regions):
        table = own_store.hdu_table
        rows = table["HDU_TYPE"] == "aeff"
        table["FILE_NAME"] = table["FILE_NAME"].astype("S40")
        for row in np.nonzero(rows)[0]:
            path = table.location_info(row).path()
            shutil.copy(path, path.with_name(f"irf-{path.name}"))
            table["FILE_NAME"][row] = f"irf-{path.name}"
        other = OffIndex.create(own_store, exclusion_regions=regions)
        assert other.checksum == index.checksum
        assert np.all(other.table["FILE_SIZE"] == 2 * index.table["FILE_SIZE"])

    def test_comparing_needs_no_more(self, store, regions, index):
        # the way of divergence.compare_counts
        fraction = index.fraction[:, np.newaxis]
        result = compare_counts(index.counts[0], index.counts, fraction[0], fraction)
        assert_allclose(result.kl_div[0], 0, atol=1e-12)
        assert np.all(np.isfinite(result.kl_corr))

    @pytest.mark.parametrize(
        ("axes", "error", "match"),
        [
            ({"energy_axis": OFFSET_AXIS}, ValueError, "name 'energy', got 'offset'"),
            ({"offset_axis": ENERGY_AXIS}, ValueError, "name 'offset', got 'energy'"),
            ({"energy_axis": [1, 2]}, TypeError, "must be a MapAxis, got \\[1, 2\\]"),
            (
                {"energy_axis": MapAxis([1, 2], unit="deg", name="energy")},
                ValueError,
                "energy_axis must have a unit like TeV, got 'deg'",
            ),
            (
                {"offset_axis": MapAxis([0, 1], name="offset")},
                ValueError,
                "offset_axis must have a unit like deg, got ''",
            ),
            (
                {"offset_axis": MapAxis([-1, 1], unit="deg", name="offset")},
                ValueError,
                "not negative, got \\[-1.  1.\\] deg",
            ),
            (
                {"offset_axis": MapAxis([1, 0], unit="deg", name="offset")},
                ValueError,
                "rising edges",
            ),
            (
                {"offset_axis": MapAxis([0, 100], unit="deg", name="offset")},
                ValueError,
                "below 90 deg, got 100.0 deg",
            ),
        ],
    )
    def test_invalid_axes(self, store, axes, error, match):
        with pytest.raises(error, match=match):
            OffIndex.create(store, **axes)

    def test_invalid_observations(self, store):
        with pytest.raises(TypeError, match="must be a DataStore .* got str"):
            OffIndex.create("store")
        with pytest.raises(ValueError, match="no observations"):
            OffIndex.create(Observations())
        twice = Observations([store.obs(101), store.obs(102), store.obs(101)])
        with pytest.raises(ValueError, match=r"OBS_ID \[101\] are there more than"):
            OffIndex.create(twice)
        double = DataStore(store.hdu_table)
        double.obs_table = vstack([store.obs_table, store.obs_table[2:3]])
        with pytest.raises(ValueError, match=r"OBS_ID \[103\] are more than once"):
            OffIndex.create(double)


def spy(function, calls):
    """A function that does the same and notes its first argument."""

    def spied(first, *args, **kwargs):
        calls.append(str(first))
        return function(first, *args, **kwargs)

    return spied


class TestBroken:
    def test_reasons(self, own_store, store, regions, caplog):
        def truncate(path):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 10])

        def remove_pointing(hdu):
            del hdu.header["RA_PNT"]

        truncate(events_path(own_store, 101))
        events_path(own_store, 102).unlink()
        change_events(own_store, 103, lambda _: _.data["ENERGY"].__setitem__(0, np.nan))
        change_events(own_store, 104, lambda _: setattr(_, "name", "NONSENSE"))
        change_events(own_store, 105, lambda _: _.header.update(OBS_MODE="DRIFT"))
        change_events(own_store, 106, remove_pointing)
        events_path(own_store, 107).write_text("not a FITS file")

        index = OffIndex.create(own_store, exclusion_regions=regions)
        assert list(index.obs_ids) == [108]
        assert list(index.broken["OBS_ID"]) == list(range(101, 108))
        reasons = dict(index.broken.iterrows())
        expected = {
            101: "obs_id_000101.fits: .*",
            102: "obs_id_000102.fits: there is no such file",
            103: "1 events without a valid ENERGY",
            104: "Extension 'EVENTS' not found",
            105: "DRIFT mode",
            106: "header of the events has no RA_PNT",
            107: "obs_id_000107.fits: ",
        }
        for obs_id, reason in expected.items():
            with pytest.raises(ValueError, match=reason):
                raise ValueError(reasons[obs_id])

        assert "7 of 8 observations cannot be used" in caplog.text
        expected = OffIndex.create(store, exclusion_regions=regions).select([108])
        assert_array_equal(index.counts, expected.counts)
        assert index.checksum == expected.checksum

    @pytest.mark.slow
    def test_every_place_of_truncation(self, own_store):
        # what was read is whole, or there is a reason
        path = events_path(own_store, 101)
        content = path.read_bytes()
        expected = OffIndex.create(own_store).counts[0]
        found = set()
        for size in np.linspace(0, len(content), 40).astype(int):
            path.write_bytes(content[:size])
            index = OffIndex.create(own_store)
            found.add(101 in index.obs_ids)
            if 101 in index.obs_ids:
                assert_array_equal(index.counts[0], expected)
            else:
                assert index.broken["OBS_ID"] == [101]
        assert found == {True, False}

    def test_truncated_gzip(self, own_store):
        path = events_path(own_store, 101)
        path.write_bytes(gzip.compress(path.read_bytes())[:10_000])
        assert list(OffIndex.create(own_store).broken["OBS_ID"]) == [101]

    @pytest.mark.filterwarnings("ignore")
    def test_damage_never_stops_the_others(self, own_store):
        # cards that cannot be parsed, columns without a name, and so on
        path = events_path(own_store, 101)
        content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        observations = own_store.get_observations([101, 102])
        reasons = set()
        for seed in range(20):
            rng, damaged = np.random.default_rng(seed), content.copy()
            damaged[rng.integers(0, 9000, 20)] = rng.integers(32, 127, 20)
            path.write_bytes(damaged.tobytes())
            index = OffIndex.create(observations)
            assert 102 in index.obs_ids
            reasons |= set(index.broken["REASON"])
        assert len(reasons) > 5

    def test_indices_that_do_not_fit(self, store):
        hdu_table = store.hdu_table.copy()
        hdu_table = hdu_table[hdu_table["OBS_ID"] != 101]
        events = (hdu_table["OBS_ID"] == 102) & (hdu_table["HDU_TYPE"] == "events")
        index = OffIndex.create(DataStore(hdu_table[~events], store.obs_table[:-1]))
        assert dict(index.broken.iterrows()) == {
            101: f"not in the HDU index. {WAY_OUT}",
            102: f"no events in the HDU index. {WAY_OUT}",
            108: f"not in the observation index. {WAY_OUT}",
        }
        assert list(index.obs_ids) == [103, 104, 105, 106, 107]

    def test_no_events(self, own_store):
        change_events(own_store, 101, lambda _: setattr(_, "data", _.data[:0]))
        observation = replace(own_store.obs(103), events=None)
        index = OffIndex.create(own_store)
        reason = index.broken["REASON"][0]
        assert reason.endswith(f"obs_id_000101.fits: no events. {WAY_OUT}")
        # the same of files alone
        assert find_broken_files(own_store, [101]) == {101: reason}
        others = Observations([own_store.obs(102), observation])
        index = OffIndex.create(others)
        assert dict(index.broken.iterrows()) == {103: f"no events. {WAY_OUT}"}

    def test_events_without_unit(self, own_store):
        def change(hdu):
            hdu.columns["RA"].unit = None

        # that which GADF prescribes
        expected = OffIndex.create(own_store)
        change_events(own_store, 101, change)
        index = OffIndex.create(own_store)
        assert len(index.broken) == 0
        assert_array_equal(index.counts, expected.counts)

    def test_in_memory(self, store):
        broken = store.obs(101).copy(in_memory=True)
        broken.events.table["DEC"][:3] = np.nan
        index = OffIndex.create(Observations([broken, store.obs(102)]))
        reason = dict(index.broken.iterrows())[101]
        assert reason.startswith("3 events without a valid DEC (-90 to 90 deg)")

    def test_all(self, own_store):
        for obs_id in own_store.obs_ids:
            events_path(own_store, obs_id).unlink()
        match = "None of 8 observations can be used. OBS_ID 101: .*no such file"
        with pytest.raises(ValueError, match=match):
            OffIndex.create(own_store)

    def test_path_that_is_not_ascii(self, store, tmp_path):
        path = tmp_path / "öff"
        shutil.copytree(store.hdu_table.base_dir, path)
        datastore = DataStore.from_dir(path)
        events_path(datastore, 103).unlink()
        index = OffIndex.create(datastore)
        assert len(index) == 7
        index.write(path / "index.fits")
        assert_same(OffIndex.read(path / "index.fits"), index)


class TestWrite:
    @pytest.mark.parametrize("name", ["index.fits", "index.fits.gz"])
    def test_round_trip(self, own_store, regions, tmp_path, name):
        regions = [
            *regions,
            *make_regions(position(1.23456789, 1 / 3)).values(),
            *make_regions(position(100 / 3, -89, "galactic")).values(),
        ]
        events_path(own_store, 103).unlink()
        energy_axis = MapAxis.from_energy_bounds("0.7 TeV", "33 TeV", nbin=7)
        index = OffIndex.create(
            own_store, energy_axis=energy_axis, exclusion_regions=regions
        )
        index.write(tmp_path / name)
        other = OffIndex.read(tmp_path / name)
        assert_same(other, index)
        assert other.energy_axis == energy_axis
        assert_array_equal(other.binning.energy_edges, index.binning.energy_edges)
        assert len(other.exclusion_regions) == len(regions)
        assert_array_equal(other.conditions.mjd, index.conditions.mjd)
        assert other.counts.dtype == index.counts.dtype
        assert os.listdir(tmp_path).count(name) == 1
        # once more, and used
        other.write(tmp_path / name, overwrite=True)
        assert_same(OffIndex.read(tmp_path / name).update(own_store), index)

    def test_without_regions(self, store, tmp_path):
        index = OffIndex.create(store)
        index.write(tmp_path / "index.fits")
        assert_same(OffIndex.read(tmp_path / "index.fits"), index)

    def test_strange_columns(self, store, tmp_path):
        table = store.obs_table.copy()
        table["FLAG"] = np.arange(8) > 3
        table["EMPTY"] = [""] * 8
        table["MISSING"] = np.full(8, np.nan, dtype=np.float32) * u.m
        table["SMALL"] = np.arange(8, dtype=np.uint16)
        table["OBJECT"] = Column([f"Größe {_}  " for _ in range(8)])
        table["PAIR"] = np.arange(16).reshape(8, 2) / 3
        table.meta["A VERY LONG KEYWORD OF THE META"] = {"nested": [1, 2]}
        index = OffIndex.create(DataStore(store.hdu_table, table))
        index.write(tmp_path / "index.fits")
        assert_same(OffIndex.read(tmp_path / "index.fits"), index)
        assert index.table["OBJECT"][3] == "Gr\\xf6\\xdfe 3"

    def test_is_not_overwritten(self, index, tmp_path):
        path = tmp_path / "index.fits"
        path.write_text("precious")
        with pytest.raises(FileExistsError, match="index.fits exists. Choose"):
            index.write(path)
        with pytest.raises(FileExistsError, match="index.fits is not an index"):
            index.write(path, overwrite=True)
        assert path.read_text() == "precious"
        path.unlink()
        index.write(path)
        index.write(path, overwrite=True)
        assert_same(OffIndex.read(path), index)

    def test_is_complete_or_not_there(self, index, tmp_path, monkeypatch):
        def fail(self, path, **kwargs):
            path.write_text("half")
            raise OSError("disk full")

        index.write(tmp_path / "index.fits")
        monkeypatch.setattr(fits.HDUList, "writeto", fail)
        with pytest.raises(OSError, match="disk full"):
            index.write(tmp_path / "index.fits", overwrite=True)
        assert os.listdir(tmp_path) == ["index.fits"]
        assert_same(OffIndex.read(tmp_path / "index.fits"), index)

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no index .* in .*/index.fits"):
            OffIndex.read(tmp_path / "index.fits")

    def test_other_files(self, store, tmp_path):
        match = "cannot be read as an index of observations: .* Create it anew."
        (tmp_path / "text.fits").write_text("not an index")
        (tmp_path / "empty.fits").write_text("")
        Table({"x": [1, 2]}).write(tmp_path / "table.fits")
        for name in ("text", "empty", "table"):
            with pytest.raises(ValueError, match=match):
                OffIndex.read(tmp_path / f"{name}.fits")
        with pytest.raises(ValueError, match="another kind of file"):
            OffIndex.read(events_path(store, 101))

    def test_other_version(self, index, tmp_path):
        index.write(tmp_path / "index.fits")
        fits.setval(tmp_path / "index.fits", "IDX_VERS", value=99)
        with pytest.raises(ValueError, match="version 99 of the format, this is"):
            OffIndex.read(tmp_path / "index.fits")

    def test_damaged(self, index, tmp_path):
        path = tmp_path / "index.fits"
        index.write(path)
        content = path.read_bytes()
        for size in (3000, len(content) // 2, len(content) - 5000):
            path.write_bytes(content[:size])
            with pytest.raises(ValueError, match="cannot be read as an index"):
                OffIndex.read(path)
        path.write_bytes(content)
        with fits.open(path, memmap=False) as hdu_list:
            hdu_list["COUNTS"].data[0, 0, 0] += 1
            hdu_list.writeto(path, overwrite=True)
        with pytest.raises(ValueError, match="content does not fit its checksum"):
            OffIndex.read(path)


class TestUpdate:
    @pytest.fixture
    def reads(self, monkeypatch):
        calls = []
        original = index_module.read_file

        def read_file(source):
            calls.append(int(source.events.path[-11:-5]))
            return original(source)

        monkeypatch.setattr(index_module, "read_file", read_file)
        return calls

    def test_nothing_changed(self, own_store, regions, reads):
        index = OffIndex.create(own_store, exclusion_regions=regions)
        assert sorted(reads) == list(own_store.obs_ids)
        reads.clear()
        assert_same(index.update(own_store), index)
        assert reads == []

    def test_same_as_create(self, own_store, regions, reads, tmp_path):
        hdu_table, obs_table = own_store.hdu_table, own_store.obs_table

        def some(obs_ids):
            rows = [np.isin(_["OBS_ID"], obs_ids) for _ in (hdu_table, obs_table)]
            return DataStore(hdu_table[rows[0]], obs_table[rows[1]])

        # 103 is broken, 104 changes, 101 goes, 107 and 108 are new
        path = events_path(own_store, 103)
        content = path.read_bytes()
        path.unlink()
        old = OffIndex.create(some(range(101, 107)), exclusion_regions=regions)
        assert list(old.broken["OBS_ID"]) == [103]
        path.write_bytes(content)
        change_events(own_store, 104, lambda _: setattr(_, "data", _.data[:-500]))
        now = some(range(102, 109))
        old.write(tmp_path / "index.fits")
        old = OffIndex.read(tmp_path / "index.fits")
        reads.clear()
        new = old.update(now)
        assert sorted(reads) == [103, 104, 107, 108]
        assert_same(new, OffIndex.create(now, exclusion_regions=regions))
        assert_same(old.update(now, n_jobs=2), new)
        # the old one is still what it was
        assert list(old.obs_ids) == [101, 102, 104, 105, 106]

    def test_file_that_breaks(self, own_store, reads):
        index = OffIndex.create(own_store)
        events_path(own_store, 105).unlink()
        reads.clear()
        index = index.update(own_store)
        assert reads == [105]
        assert list(index.broken["OBS_ID"]) == [105]
        assert 105 not in index.obs_ids

    def test_touched_file(self, own_store, reads):
        index = OffIndex.create(own_store)
        os.utime(events_path(own_store, 102), (0, 0))
        reads.clear()
        new = index.update(own_store)
        assert reads == [102]
        # nothing that counts has changed
        assert new.checksum == index.checksum

    def test_conditions_are_taken_anew(self, own_store, reads):
        index = OffIndex.create(own_store)
        own_store.obs_table["NSBLEVEL"] = np.arange(8.0)
        reads.clear()
        new = index.update(own_store)
        assert reads == []
        assert_array_equal(new.conditions.nsb, np.arange(8))
        assert new.checksum != index.checksum
        assert_same(new, OffIndex.create(own_store))

    def test_observations(self, own_store, reads):
        observations = own_store.get_observations([101, 102, 103])
        index = OffIndex.create(observations)
        held = own_store.obs(104).copy(in_memory=True)
        observations.append(held)
        reads.clear()
        new = index.update(observations)
        assert reads == []
        assert_same(new, OffIndex.create(observations))
        # what is in memory can have changed
        held.events.table.remove_rows(slice(0, 1000))
        assert new.update(observations).counts.sum() < new.counts.sum()


class TestSelect:
    def test_rows(self, index):
        part = index.select([105, 102, 105])
        assert list(part.obs_ids) == [102, 105]
        assert_array_equal(part.counts, index.counts[[1, 4]])
        assert_array_equal(part.fraction, index.fraction[[1, 4]])
        assert part.binning is index.binning
        assert list(part.conditions.obs_id) == [102, 105]

    def test_all(self, index):
        assert_same(index.select(index.obs_ids), index)

    def test_not_there(self, own_store, index):
        with pytest.raises(ValueError, match="1 of 2 .* OBS_ID 7: it was not among"):
            index.select([101, 7])
        with pytest.raises(ValueError, match="no observations to select"):
            index.select([])
        events_path(own_store, 103).unlink()
        with pytest.raises(ValueError, match="OBS_ID 103: .*there is no such file"):
            OffIndex.create(own_store).select([103])


class TestChecksum:
    def make(self, **changes):
        values = {
            "obs_ids": [1, 2],
            "counts": np.arange(12, dtype=np.int32).reshape(2, 2, 3),
            "fraction": np.linspace(0, 1, 6).reshape(2, 3),
            "aeff": np.array([[1, 2], [3, np.nan]], dtype=np.float32),
            "half_counts": np.arange(12, dtype=np.int32).reshape(2, 2, 3) // 2,
            "regions": [circle(83.6, 22, 0.3)],
            "edges": [1.0, 2.0, 4.0],
            "name": "Crab",
            "size": 5,
        } | changes
        table = Table({"OBS_ID": values["obs_ids"], "OBJECT": [values["name"]] * 2})
        table["FILE_SIZE"] = values["size"]
        edges = np.array(values["edges"]), np.arange(4.0)
        binning = FoVBinning(*edges, values["regions"])
        arrays = values["counts"], values["fraction"]
        others = {name: values[name] for name in ("aeff", "half_counts")}
        return OffIndex(table, *arrays, binning, **others).checksum

    def test_is_the_same_everywhere(self):
        # a constant: it may not depend on the process, the machine or the day
        expected = "0f07b1e21ce0d61e1da423439f5efe6fdea2155b477a0128203372394b58962f"
        assert self.make() == expected
        assert self.make(size=6) == expected
        assert self.make(name=np.array("Crab", dtype="U20")) == expected
        assert self.make(counts=np.arange(12, dtype=">i4").reshape(2, 2, 3)) == expected

    @pytest.mark.parametrize(
        "change",
        [
            {"obs_ids": [1, 3]},
            {"counts": np.ones((2, 2, 3), dtype=np.int32)},
            {"half_counts": np.zeros((2, 2, 3), dtype=np.int32)},
            {"fraction": np.ones((2, 3))},
            {"aeff": np.ones((2, 2), dtype=np.float32)},
            {"regions": []},
            {"regions": [circle(83.6, 22, 0.3000000001)]},
            {"edges": [1.0, 2.0, 4.1]},
            {"name": "Vela"},
        ],
    )
    def test_changes(self, change):
        assert self.make(**change) != self.make()


class TestRealData:
    def test_hess(self, hess_store, tmp_path):
        need_runs(hess_store, 20136, 23523, 33787)
        regions = [
            circle(83.633, 22.014, 0.3),
            circle(329.717, -30.226, 0.3),
            EllipseSkyRegion(position(228.5, -59.15), 0.5 * u.deg, 1 * u.deg),
        ]
        index = OffIndex.create(hess_store, exclusion_regions=regions)
        assert sorted(index.obs_ids) == sorted(find_runs(hess_store))
        assert len(index) + len(index.broken) == len(hess_store.obs_table)
        # the observation index has them rounded to three digits
        table = index.table
        assert_allclose(table["ENERGY_MIN"], table["SAFE_ENERGY_LO"], rtol=1e-3)
        for obs_id in (20136, 23523, 33787):
            observation = hess_store.obs(obs_id)
            row = list(index.obs_ids).index(obs_id)
            # float32 positions, rounded by another way
            expected = count_independently(observation, index.binning, regions[:2])
            if obs_id != 20136:
                # less the few events after the last second of the GTI
                assert index.counts[row].sum() >= expected.sum() - 10
            assert np.all(index.counts[row] <= expected)
            assert index.fraction[row].min() < 1
        index.write(tmp_path / "index.fits")
        assert_same(OffIndex.read(tmp_path / "index.fits").update(hess_store), index)

    def test_veritas(self, veritas_store):
        index = OffIndex.create(veritas_store)
        assert sorted(index.obs_ids) == sorted(find_runs(veritas_store))
        assert len(index) > 0
        assert_array_equal(index.table["ENERGY_MIN"], np.full(len(index), 0.01))
        observation = veritas_store.obs(index.obs_ids[0], required_irf="point-like")
        expected = count_independently(observation, index.binning, [])
        assert_array_equal(index.counts[0], expected)

    def test_source_is_cut_from_both_sides(self, hess_store):
        # the Crab in the field: the same shape as OFF only where it is masked
        crab = [circle(83.633, 22.014, 0.4)]
        obs_ids = need_runs(hess_store, 23523, 23559, 20275, 20282)
        observations = hess_store.get_observations(obs_ids)
        p_values = {}
        for name, regions in {"open": [], "masked": crab}.items():
            index = OffIndex.create(observations, exclusion_regions=regions)
            off, target = index.select([20275, 20282]), index.select([23523])
            result = compare_counts(
                target.counts[0],
                off.counts,
                target.fraction[0],
                off.fraction[:, np.newaxis],
            )
            p_values[name] = result.kl_corr
        assert np.all(p_values["masked"] < p_values["open"])


def test_events_are_read_as_by_gammapy(store):
    source = index_module.find_sources(store)[0][101]
    (_, ra, dec, energy), pointing, *_ = index_module.read_file(source)
    events = EventList.read(source.events.path)
    assert_array_equal(ra, events.table["RA"].quantity.to_value("deg"))
    assert_array_equal(dec, events.table["DEC"].quantity.to_value("deg"))
    assert_array_equal(energy, events.energy.to_value("TeV"))
    expected = store.obs(101).pointing.fixed_icrs
    assert_allclose(pointing, (expected.ra.deg, expected.dec.deg), rtol=1e-15)


def test_tables_are_searched_once(store, monkeypatch):
    # the time for one observation may not grow with their number
    calls = []
    table = store.hdu_table
    monkeypatch.setattr(type(table), "hdu_location", spy(table.hdu_location, calls))
    monkeypatch.setattr(type(table), "row_idx", spy(table.row_idx, calls))
    OffIndex.create(store)
    assert calls == []


def test_broken_files_are_reported_once(own_store, caplog):
    for obs_id in (101, 102):
        events_path(own_store, obs_id).unlink()
    with caplog.at_level(logging.WARNING):
        OffIndex.create(own_store)
    assert len(caplog.records) == 1
