"""ExclusionRegions, its catalogues, its picture and its command."""

import itertools
import os
import pickle
import time

import astropy.units as u
import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from gammapy.datasets import MapDataset
from gammapy.makers import (
    FoVBackgroundMaker,
    MapDatasetMaker,
    ReflectedRegionsBackgroundMaker,
    RingBackgroundMaker,
)
from gammapy.maps import Map, MapAxis, RegionGeom, WcsGeom
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion, EllipseSkyRegion, PolygonSkyRegion

from gammapy_mimic import KLBackgroundSelector, ScrambleMaker
from gammapy_mimic.exclusion import ExclusionRegions, check_regions
from gammapy_mimic.visualization import plot_exclusion_regions

from .helpers import find_data
from .test_scripts import assert_fails, run

CENTER = SkyCoord(83.63, 22.01, unit="deg")


@pytest.fixture
def catalogs():
    """The catalogues of Gammapy that are the default, and the survey of H.E.S.S."""
    for name in ("2HWC.ecsv", "3HWC.ecsv", "hgps_catalog_v1.fits.gz"):
        find_data("catalogs", name)
    find_data("catalogs", "gammacat", "gammacat.fits.gz")


@pytest.fixture
def stars():
    """The star catalogue of the VERITAS data release."""
    return find_data("veritas", "crab-point-like-ED", "Hipparcos_MAG8_1997.dat")


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    monkeypatch.setenv("GAMMAPY_DATA", str(tmp_path / "nowhere"))


def make_circle(lon, lat, radius, **meta):
    return CircleSkyRegion(SkyCoord(lon, lat, unit="deg"), radius * u.deg, meta=meta)


def make_table(*rows, names=("name", "ra", "dec", "extension")):
    return Table(rows=rows, names=names[: len(rows[0])])


def from_tables(*tables, position=CENTER, radius="180 deg", **options):
    options = {"point_radius": "0.3 deg"} | options
    return ExclusionRegions.from_catalogs(position, radius, tables, **options)


def get_circles(regions):
    """Right ascension, declination and radius, in deg. Shape (n, 3)."""
    table = regions.to_table()
    return np.transpose([table["ra"], table["dec"], table["radius"]])


def covers(regions, lon, lat, radius):
    """Whether some circle covers another one, to rounding."""
    position = SkyCoord(lon, lat, unit="deg")
    return any(
        _.center.separation(position).deg + radius < _.radius.to_value("deg") + 1e-9
        for _ in regions
    )


class TestSequence:
    def test_contents(self):
        circles = [make_circle(10, 20, 0.3), make_circle(30, 40, 0.5)]
        regions = ExclusionRegions(circles, ["a", "b"], ["x", "y"])
        assert len(regions) == 2
        assert list(regions) == circles
        assert regions[-1] == circles[1]
        assert regions[1:].names == ["b"]
        assert regions[np.array([True, False])].origins == ["x"]
        assert regions[np.array([1, 0])].names == ["b", "a"]
        assert pickle.loads(pickle.dumps(regions)).names == ["a", "b"]
        assert "30.000 40.000" in str(regions)
        assert "2 regions" in repr(regions)

    def test_empty(self, tmp_path):
        regions = ExclusionRegions()
        assert len(regions) == 0
        assert len(regions.to_table()) == 0
        assert regions.to_table()["ra"].unit == "deg"
        assert "0 regions" in str(regions)
        assert regions.to_mask(WcsGeom.create(width=1)).data.all()
        assert regions.is_touching(CENTER, "3 deg").shape == (1, 0)
        regions.write(tmp_path / "empty.reg")
        assert len(ExclusionRegions.read(tmp_path / "empty.reg")) == 0

    def test_union_is_divided(self):
        union = make_circle(10, 20, 0.3) | make_circle(30, 40, 0.5)
        regions = ExclusionRegions([union], ["pair"], ["me"])
        assert regions.names == ["pair", "pair"]
        assert regions.origins == ["me", "me"]

    def test_takes_an_iterator(self):
        assert len(ExclusionRegions(make_circle(_, 0, 1) for _ in range(3))) == 3

    @pytest.mark.parametrize("regions", ["a.reg", make_circle(1, 2, 3)])
    def test_not_a_list(self, regions):
        with pytest.raises(TypeError, match="must be a list of SkyRegion"):
            ExclusionRegions(regions)

    def test_not_a_region(self):
        with pytest.raises(ValueError, match="Invalid exclusion region: 5"):
            ExclusionRegions([5])

    def test_names_of_regions(self):
        assert ExclusionRegions([make_circle(1, 2, 3, text="a")]).names == ["a"]

    def test_number_of_names(self):
        with pytest.raises(ValueError, match="There are 2 names of 1 regions"):
            ExclusionRegions([make_circle(1, 2, 3)], names=["a", "b"])

    def test_where_a_list_of_regions_is_asked_for(self, stores):
        regions = ExclusionRegions([make_circle(329.7, -30.2, 0.3)])
        assert check_regions(regions) == list(regions)
        assert ScrambleMaker(regions, random_state=0).regions == list(regions)
        off = stores["off"]
        criteria = {"airmass": None}
        tables = [
            KLBackgroundSelector(off, criteria, exclusion_regions=_).rank(
                stores["targets"].obs(1)
            )
            for _ in (regions, list(regions))
        ]
        assert_array_equal(tables[0]["KL_CORR"], tables[1]["KL_CORR"])


class TestTables:
    @pytest.mark.parametrize(
        ("lon", "lat"),
        [
            ("ra", "dec"),
            ("RA", "DEC"),
            ("RAJ2000", "DEJ2000"),
            ("RAJ2000", "DECJ2000"),
            ("_RAJ2000", "_DEJ2000"),
            ("RA_ICRS", "DE_ICRS"),
            ("ra_deg", "dec_deg"),
        ],
    )
    def test_column_names(self, lon, lat):
        regions = from_tables(Table({lon: [10.0], lat: [-20.0]}))
        assert_allclose(get_circles(regions), [[10, -20, 0.3]])
        assert regions.names == [""]
        assert regions.origins == ["table"]

    def test_text_columns_are_no_positions(self):
        """VizieR gives sexagesimal RAJ2000 beside _RAJ2000 in deg."""
        columns = {"RAJ2000": ["00 40 00"], "DEJ2000": ["-20 00 00"]}
        columns |= {"_RAJ2000": [10.0], "_DEJ2000": [-20.0]}
        regions = from_tables(Table(columns))
        assert_allclose(get_circles(regions), [[10, -20, 0.3]])

    def test_units(self):
        table = QTable({"ra": [600] * u.arcmin, "dec": [-0.1] * u.rad})
        table["extension"] = [360] * u.arcsec
        regions = from_tables(table, extension_factor=4)
        assert_allclose(get_circles(regions), [[10, np.degrees(-0.1), 0.5]])

    def test_galactic(self):
        position = SkyCoord(10, 20, unit="deg").galactic
        table = Table({"GLON": [position.l.deg], "GLAT": [position.b.deg]})
        assert_allclose(get_circles(from_tables(table)), [[10, 20, 0.3]])

    def test_radius_is_taken_as_it_is(self):
        first = from_tables(make_table(("a", 10, 20, 0.1), ("b", 30, 40, np.nan)))
        again = from_tables(first.to_table())
        assert_allclose(get_circles(again), get_circles(first))
        assert again.names == first.names

    def test_point_source_without_extension(self):
        table = make_table(("a", 10.0, 20.0, np.nan), ("b", 30.0, 40.0, 0.0))
        regions = from_tables(table, point_radius=0.2 * u.deg)
        assert_allclose(get_circles(regions)[:, 2], 0.2)

    def test_extended_source(self):
        """The same part of a Gaussian is held as of a point source."""
        rng = np.random.default_rng(0)
        regions = from_tables(make_table(("a", 10.0, 20.0, 0.4)))
        radius = get_circles(regions)[0, 2]
        assert_allclose(radius, np.hypot(0.3, 3 * 0.4))
        x, y = 0.1 * rng.normal(size=(2, 100_000))
        contained = np.mean(np.hypot(x, y) < 0.3)
        assert_allclose(contained, 1 - np.exp(-4.5), atol=0.002)
        x, y = x + 0.4 * rng.normal(size=x.shape), y + 0.4 * rng.normal(size=x.shape)
        assert_allclose(np.mean(np.hypot(x, y) < radius), contained, atol=0.002)

    def test_rows_without_position(self, caplog):
        table = make_table(("a", 10.0, 20.0), ("lost", np.nan, 20.0))
        masked = Table(table, masked=True)
        masked["ra"].mask[0] = True
        assert from_tables(table).names == ["a"]
        assert "table without position: ['lost']" in caplog.text
        assert len(from_tables(masked)) == 0

    def test_names_of_numbers(self):
        table = Table({"_HIP": [26451], "ra": [84.4], "dec": [21.1]})
        assert from_tables(table).names == ["HIP 26451"]

    @pytest.mark.parametrize("ending", ["ecsv", "fits", "csv", "dat"])
    def test_files(self, tmp_path, ending):
        path = tmp_path / f"mine.{ending}"
        table = make_table(("a b", 10.0, 20.0, 0.1))
        table.write(path, format="ascii.ecsv" if ending == "dat" else None)
        regions = from_tables(path)
        assert regions.names == ["a b"]
        assert regions.origins == ["mine"]
        assert_allclose(get_circles(regions), [[10, 20, np.hypot(0.3, 0.3)]])
        assert len(ExclusionRegions.from_catalogs(CENTER, "180 deg", str(path))) == 1

    def test_unknown_units_elsewhere_do_not_matter(self, tmp_path):
        path = tmp_path / "mine.fits"
        table = Table({"ra": [10.0], "dec": [20.0], "flux": [1.0]})
        table["flux"].unit = u.Unit("Crab", parse_strict="silent")
        with pytest.warns(u.UnitsWarning):
            table.write(path)
        assert len(from_tables(path)) == 1

    def test_input_is_not_changed(self):
        table = QTable({"ra": [10] * u.deg, "dec": [20] * u.deg, "name": ["a"]})
        copy = table.copy()
        from_tables(table)
        assert (table == copy).all()

    def test_no_sources(self):
        table = make_table(("a", 10.0, 20.0))
        assert len(from_tables(table[:0])) == 0
        assert len(from_tables(table, radius="3 deg")) == 0
        assert len(from_tables()) == 0


class TestMerge:
    def test_duplicates(self):
        first = Table({"name": ["Crab"], "ra": [83.60], "dec": [22.0]})
        second = Table({"name": ["J0534"], "ra": [83.70], "dec": [22.0]})
        second.meta["name"] = "other"
        second["extension"] = 0.05
        regions = from_tables(first, second)
        assert regions.names == ["Crab"]
        assert regions.origins == ["table, other"]
        assert covers(regions, 83.60, 22, 0.3)
        assert covers(regions, 83.70, 22, np.hypot(0.3, 0.15))
        # no larger than it has to be
        distance = 0.1 * np.cos(np.radians(22))
        assert_allclose(
            regions[0].radius.deg, (distance + 0.3 + np.hypot(0.3, 0.15)) / 2, rtol=1e-4
        )

    def test_circle_inside_is_swallowed(self):
        big, small = make_table(("big", 10.0, 20.0, 0.5)), make_table(("a", 10.1, 20.0))
        regions = from_tables(big, small)
        assert_allclose(regions[0].radius.deg, np.hypot(0.3, 1.5))
        assert len(from_tables(big, make_table(("a", 10.5, 20.0)))) == 2

    def test_equal_entries_stay_as_they_are(self):
        table = make_table(("a", 10.0, 20.0, 0.2))
        once, twice = from_tables(table), from_tables(table, table, table)
        assert_allclose(get_circles(twice), get_circles(once), rtol=1e-12)

    def test_across_right_ascension_zero(self):
        regions = from_tables(
            make_table(("a", 359.99, 5.0)), make_table(("b", 0.03, 5.0))
        )
        assert len(regions) == 1
        assert_allclose(regions[0].center.ra.deg, 0.01, atol=1e-9)
        assert_allclose(regions[0].radius.deg, 0.32, atol=1e-3)

    def test_at_the_pole(self):
        """At declination 89.95, 180 deg in right ascension are 0.1 deg of the sky."""
        regions = from_tables(
            make_table(("a", 0.0, 89.95)), make_table(("b", 180.0, 89.95))
        )
        assert len(regions) == 1
        assert_allclose(regions[0].center.dec.deg, 90, atol=1e-6)
        assert_allclose(regions[0].radius.deg, 0.35, atol=1e-9)

    def test_same_name(self):
        """Twice the separation makes one source of two entries of one name."""
        first = make_table(("a", 10.0, 0.0))
        assert len(from_tables(first, make_table(("a", 10.2, 0.0)))) == 1
        assert len(from_tables(first, make_table(("b", 10.2, 0.0)))) == 2
        assert len(from_tables(first, make_table(("a", 10.4, 0.0)))) == 2
        nameless = Table({"ra": [10.0, 10.2], "dec": [0.0, 0.0]})
        assert len(from_tables(nameless)) == 2

    def test_sources_of_one_catalogue_keep_their_names(self):
        table = make_table(("a", 10.0, 20.0), ("b", 10.1, 20.0), ("a", 10.05, 20.0))
        other = make_table(("c", 10.0, 20.0))
        other.meta["name"] = "other"
        assert from_tables(table, other).names == ["a / b"]

    @settings(max_examples=20)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_order_does_not_matter(self, seed):
        rng = np.random.default_rng(seed)
        tables = [
            Table(
                {
                    "name": rng.choice(["a", "b", ""], 6),
                    "ra": rng.uniform(359, 361, 6) % 360,
                    "dec": rng.uniform(-0.5, 0.5, 6),
                    "extension": rng.choice([0, 0.1, 0.3], 6),
                }
            )
            for _ in range(3)
        ]
        expected = from_tables(*tables)
        for order in itertools.permutations(tables):
            regions = from_tables(*order)
            assert_array_equal(get_circles(regions), get_circles(expected))
        for row in itertools.chain(*tables):
            radius = np.hypot(0.3, 3 * row["extension"])
            assert covers(expected, row["ra"], row["dec"], radius)


class TestField:
    """Which regions are returned."""

    @pytest.mark.parametrize(("offset", "n"), [(3.29, 1), (3.31, 0)])
    @pytest.mark.parametrize("frame", ["icrs", "galactic", "fk5"])
    @pytest.mark.parametrize(
        "center",
        [CENTER, SkyCoord(359.99, 0, unit="deg"), SkyCoord(10, 89.5, unit="deg")],
        ids=["crab", "wrap", "pole"],
    )
    def test_overlap(self, center, frame, offset, n):
        source = center.directional_offset_by(40 * u.deg, offset * u.deg)
        table = make_table(("a", source.ra.deg, source.dec.deg))
        position = center.transform_to(frame)
        assert len(from_tables(table, position=position, radius=3 * u.deg)) == n

    def test_several_fields(self):
        table = make_table(("a", 10.0, 20.0), ("b", 50.0, 20.0), ("c", 90.0, 20.0))
        pointings = SkyCoord([[91], [11]], [[20], [21]], unit="deg")
        regions = from_tables(table, position=pointings, radius="2 deg")
        assert regions.names == ["a", "c"]
        touching = regions.is_touching(pointings, "2 deg")
        assert_array_equal(touching, [[False, True], [True, False]])

    def test_does_not_depend_on_the_field(self):
        """A duplicate that reaches into the field brings the whole region."""
        first, second = make_table(("a", 10.0, 0.0)), make_table(("b", 10.1, 0.0))
        everywhere = from_tables(first, second)
        position = SkyCoord(11.395, 0, unit="deg")
        there = from_tables(first, second, position=position, radius="1 deg")
        assert_array_equal(get_circles(there), get_circles(everywhere))

    def test_touching_is_separation(self):
        rng = np.random.default_rng(0)
        lon, lat = (
            rng.uniform(0, 360, 300),
            np.degrees(np.arcsin(rng.uniform(-1, 1, 300))),
        )
        positions = SkyCoord(lon, lat, unit="deg")
        radii = rng.uniform(0.3, 40, 100)
        centers = zip(positions[:100].galactic, radii * u.deg, strict=True)
        circles = [CircleSkyRegion(*_) for _ in centers]
        touching = ExclusionRegions(circles).is_touching(positions[100:], "2.5 deg")
        separation = positions[100:, np.newaxis].separation(positions[:100]).deg
        assert_array_equal(touching, separation <= radii + 2.5)

    def test_speed(self):
        """60 sources against 1000 pointings take less than 2 s."""
        rng = np.random.default_rng(0)
        regions = ExclusionRegions(
            [make_circle(_, 20, 0.5) for _ in np.linspace(0, 359, 60)]
        )
        pointings = SkyCoord(*rng.uniform(0, 60, (2, 1000)), unit="deg")
        start = time.perf_counter()
        assert regions.is_touching(pointings, "2.5 deg").shape == (1000, 60)
        assert time.perf_counter() - start < 2


class TestStars:
    table = Table(
        {
            "HIP": [1, 2, 3],
            "_RAJ2000": [83.0, 84.0, 120.0],
            "_DEJ2000": [22.0, 22.0, 22.0],
            "Vmag": [3.0, 6.5, 1.0],
        }
    )

    def test_bright_and_near(self):
        options = {"stars": self.table, "position": CENTER, "radius": "3 deg"}
        regions = from_tables(**options, star_radius="0.25 deg")
        assert regions.names == ["HIP 1"]
        assert_allclose(regions[0].radius.deg, 0.25)
        assert from_tables(**options, magnitude_max=7).names == ["HIP 1", "HIP 2"]
        assert from_tables(**options, magnitude_max=-1).names == []

    def test_stars_are_not_merged(self):
        stars = self.table.copy()
        stars["_RAJ2000"] = 83.0
        regions = from_tables(make_table(("a", 83.0, 22.0)), stars=stars)
        assert regions.names == ["a", "HIP 1", "HIP 3"]
        assert_allclose(get_circles(regions)[:, 2], 0.3)

    def test_no_magnitude(self):
        table = self.table["HIP", "_RAJ2000", "_DEJ2000"]
        with pytest.raises(ValueError, match=r"has no magnitude: its columns are \['H"):
            from_tables(stars=table)

    @pytest.mark.slow
    def test_hipparcos(self, stars):
        """Zeta Tauri, of magnitude 3.0, is 1.1 deg from the Crab nebula."""
        regions = from_tables(radius="1.5 deg", stars=stars, magnitude_max=4)
        assert regions.names == ["HIP 26451"]
        assert regions.origins == ["Hipparcos_MAG8_1997"]
        assert_allclose(get_circles(regions), [[84.411, 21.143, 0.3]], atol=1e-3)
        assert len(from_tables(stars=stars)) == 5041


class TestDrawn:
    """Regions of the user."""

    def test_stay_as_they_are(self):
        near = make_circle(10, 20, 0.5, text="mine"), make_circle(10.1, 20, 0.5)
        ellipse = EllipseSkyRegion(CENTER, 1 * u.deg, 2 * u.deg)
        regions = from_tables(make_table(("a", 9.0, 20.0)), regions=[*near, ellipse])
        assert regions.names == ["mine", "", "", "a"]
        assert_allclose(get_circles(regions)[:2, 2], 0.5)
        assert isinstance(regions[2], EllipseSkyRegion)

    def test_swallow_what_is_inside(self):
        table = make_table(("in", 10.1, 20.0), ("out", 10.4, 20.0))
        regions = from_tables(table, regions=make_circle(10, 20, 0.5))
        assert regions.names == ["in", "out"]
        assert regions.origins == ["table", "table"]
        assert_allclose(get_circles(regions)[:, 2], [0.5, 0.3])

    def test_own_file_changes_nothing(self, tmp_path):
        tables = make_table(("a", 10.0, 20.0, 0.1)), make_table(("b", 10.1, 20.0))
        first = from_tables(*tables, stars=TestStars.table)
        first.write(tmp_path / "a.reg")
        for regions in (tmp_path / "a.reg", [str(tmp_path / "a.reg")], first):
            again = from_tables(*tables, stars=TestStars.table, regions=regions)
            assert_allclose(get_circles(again), get_circles(first), rtol=1e-12)
            assert again.names == first.names
            assert again.origins == first.origins

    def test_only_those_in_the_field(self):
        polygon = PolygonSkyRegion(SkyCoord([83, 84, 84], [22, 22, 23], unit="deg"))
        regions = from_tables(regions=[polygon, make_circle(10, 20, 1)], radius="2 deg")
        assert list(regions) == [polygon]


class TestMask:
    @pytest.mark.parametrize("frame", ["icrs", "galactic"])
    @pytest.mark.parametrize("proj", ["TAN", "CAR"])
    def test_is_separation(self, proj, frame):
        rng = np.random.default_rng(0)
        geom = WcsGeom.create(
            skydir=CENTER, width=(8, 6), binsz=0.05, proj=proj, frame=frame
        )
        positions = CENTER.directional_offset_by(
            rng.uniform(0, 360, 9) * u.deg, rng.uniform(0, 5, 9) * u.deg
        )
        radii = rng.uniform(0.2, 1.5, 9)
        circles = [
            CircleSkyRegion(*_) for _ in zip(positions, radii * u.deg, strict=True)
        ]
        mask = ExclusionRegions(circles).to_mask(geom)
        pixels = geom.get_coord().skycoord[..., np.newaxis]
        assert mask.data.dtype == bool
        assert_array_equal(
            mask.data, np.all(pixels.separation(positions).deg > radii, axis=-1)
        )
        assert 0.2 < mask.data.mean() < 0.9

    def test_energy_axis(self):
        axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", 3)
        geom = WcsGeom.create(skydir=CENTER, width=4, binsz=0.1, axes=[axis])
        regions = ExclusionRegions([CircleSkyRegion(CENTER, 1 * u.deg)])
        mask = regions.to_mask(geom)
        assert mask.geom == geom
        assert mask.is_mask
        for image in mask.data:
            assert_array_equal(image, regions.to_mask(geom.to_image()).data)

    def test_all_sky(self):
        """Pixels outside of the sky are kept."""
        geom = WcsGeom.create(binsz=1, proj="AIT")
        region = make_circle(359.99, 89.5, 20)
        mask = ExclusionRegions([region]).to_mask(geom)
        coord = geom.get_coord()
        on_sky = np.isfinite(coord.lon)
        assert mask.data[~on_sky].all()
        separation = coord.skycoord[on_sky].separation(region.center).deg
        assert_array_equal(mask.data[on_sky], separation > 20)

    def test_not_wcs(self):
        with pytest.raises(TypeError, match="must be a WcsGeom, got RegionGeom"):
            ExclusionRegions().to_mask(RegionGeom(make_circle(1, 2, 3)))

    def test_in_makers(self, stores):
        """The makers of Gammapy leave out just these pixels."""
        observation = stores["targets"].obs(1)
        pointing = observation.get_pointing_icrs(observation.tmid)
        axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", 2, name="energy")
        axis_true = MapAxis.from_energy_bounds(
            "0.5 TeV", "20 TeV", 2, name="energy_true"
        )
        geom = WcsGeom.create(skydir=pointing, width=3, binsz=0.05, axes=[axis])
        regions = ExclusionRegions([CircleSkyRegion(pointing, 0.5 * u.deg)])
        empty = MapDataset.create(geom, energy_axis_true=axis_true)
        dataset = MapDatasetMaker().run(empty, observation)

        wide = WcsGeom.create(skydir=pointing, width=6, binsz=0.05)
        mask = regions.to_mask(wide)
        maker = FoVBackgroundMaker(method="scale", exclusion_mask=mask)
        assert_array_equal(
            maker.make_exclusion_mask(dataset).data, regions.to_mask(geom).data
        )
        maker.run(dataset.copy(name="a"), observation)
        ring = RingBackgroundMaker("0.7 deg", "0.3 deg", exclusion_mask=mask)
        flat = dataset.to_image(name="b")
        assert np.isfinite(ring.run(flat).counts_off.data).all()
        assert ReflectedRegionsBackgroundMaker(exclusion_mask=mask).exclusion_mask


class TestFile:
    def test_round_trip(self, tmp_path):
        ellipse = EllipseSkyRegion(CENTER.galactic, 1 * u.deg, 2 * u.deg, 20 * u.deg)
        regions = ExclusionRegions(
            [make_circle(359.99, -89.5, 0.123456789012345), ellipse],
            ["LS I +61 303, a=b; 'x' # é", ""],
            ["gamma-cat, hgps", ""],
        )
        path = tmp_path / "a.reg"
        regions.write(path)
        again = ExclusionRegions.read(path)
        assert again.names == regions.names
        assert again.origins == ["gamma-cat, hgps", "a.reg"]
        assert_allclose(get_circles(again), get_circles(regions), rtol=1e-14)
        assert again[1].center.frame.name == "galactic"
        assert os.listdir(tmp_path) == ["a.reg"]

    def test_braces(self, tmp_path):
        regions = ExclusionRegions([make_circle(1, 2, 3)], ["a {b}\nc"], ["{x}"])
        regions.write(tmp_path / "a.reg")
        again = ExclusionRegions.read(tmp_path / "a.reg")
        assert again.names == ["a (b) c"]
        assert again.origins == ["(x)"]

    def test_overwrite(self, tmp_path):
        path = tmp_path / "a.reg"
        path.write_text("mine")
        with pytest.raises(FileExistsError, match="exists"):
            ExclusionRegions().write(path)
        assert path.read_text() == "mine"
        ExclusionRegions().write(path, overwrite=True)
        assert len(ExclusionRegions.read(path)) == 0

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="There is no region file"):
            ExclusionRegions.read(tmp_path / "a.reg")

    @pytest.mark.parametrize(
        "content",
        [
            b"hello world\n",
            b"icrs\ncircle(1,2,0.3)\nfoo(1,2)\n",
            b"image\ncircle(1,2,3)\n",
            b"icrs\n-circle(1,2,0.3)\n",
            b"\x00\xff\xfe",
        ],
    )
    def test_not_regions(self, tmp_path, content):
        """What cannot be read would not be excluded."""
        path = tmp_path / "a.reg"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"Cannot read regions from .*a\.reg"):
            ExclusionRegions.read(path)


class TestBadInput:
    table = make_table(("a", 10.0, 20.0, 0.1))

    @pytest.mark.parametrize("position", [None, "Crab", (83, 22)])
    def test_position(self, position):
        with pytest.raises(TypeError, match="position must be a SkyCoord"):
            from_tables(self.table, position=position)

    def test_position_without_value(self):
        with pytest.raises(ValueError, match="not finite"):
            from_tables(self.table, position=SkyCoord(np.nan, 2, unit="deg"))
        with pytest.raises(ValueError, match="position is empty"):
            from_tables(self.table, position=SkyCoord([], [], unit="deg"))

    @pytest.mark.parametrize("name", ["radius", "point_radius", "star_radius"])
    @pytest.mark.parametrize(
        "value", [None, 3, "3", "3 TeV", "-1 deg", 0 * u.deg, "nan deg", [1, 2] * u.deg]
    )
    def test_angles(self, name, value):
        options = {"stars": TestStars.table, name: value}
        with pytest.raises(ValueError, match=f"^{name} must be"):
            from_tables(self.table, **options)

    @pytest.mark.parametrize("name", ["extension_factor", "magnitude_max"])
    @pytest.mark.parametrize("value", [None, "3", np.nan])
    def test_numbers(self, name, value):
        options = {"stars": TestStars.table, name: value}
        with pytest.raises(ValueError, match=f"^{name} must be a number"):
            from_tables(self.table, **options)

    def test_negative_factor(self):
        with pytest.raises(ValueError, match="not below 0, got -1"):
            from_tables(self.table, extension_factor=-1)

    @pytest.mark.parametrize(
        ("columns", "match"),
        [
            ({"ra": [1.0], "y": [2.0]}, r"has no position: its columns are \['ra'"),
            ({"ra": ["one"], "dec": ["two"]}, "of numbers in deg"),
            ({"ra": [1.0], "dec": [91.0]}, "'dec' of table has the value 91 deg"),
            ({"ra": [1.0] * u.m, "dec": [2.0]}, "'ra' of table has the unit 'm'"),
            ({"ra": [1.0], "dec": [2.0], "extension": [-0.1]}, "the value -0.1 deg"),
            ({"ra": [1.0], "dec": [2.0], "extension": [60.0]}, "Check the unit"),
            ({"ra": [1.0], "dec": [2.0], "radius": [-3.0]}, "'radius' of table has"),
            ({"ra": [1.0], "dec": [2.0], "radius": [300.0]}, "Check the unit"),
        ],
    )
    def test_tables(self, columns, match):
        with pytest.raises(ValueError, match=match):
            from_tables(Table(columns))

    def test_unknown_unit(self):
        table = Table({"ra": [1.0], "dec": [2.0]})
        table["ra"].unit = u.Unit("degz", parse_strict="silent")
        with pytest.raises(ValueError, match="has the unit 'degz'"):
            from_tables(table)

    def test_unknown_catalogue(self):
        match = r"'tevcat' is neither a catalogue that is known, \['gamma-cat', 'hgps'"
        with pytest.raises(FileNotFoundError, match=match):
            from_tables(self.table, "tevcat")

    def test_broken_file(self, tmp_path):
        for name in ("a.fits", "a.ecsv", "a.dat"):
            (tmp_path / name).write_bytes(b"\x00\xff nothing")
            with pytest.raises(ValueError, match=f"{name} is not a table that can be"):
                from_tables(tmp_path / name)

    def test_missing_catalogue(self, no_data):
        match = (
            r"'hgps' is not in .*no file .*hgps_catalog.*`gammapy download datasets`"
        )
        with pytest.raises(FileNotFoundError, match=match):
            from_tables("hgps")
        with pytest.raises(FileNotFoundError, match="gamma-cat"):
            ExclusionRegions.from_catalogs(CENTER, "3 deg")

    def test_no_gammapy_data(self, monkeypatch):
        monkeypatch.delenv("GAMMAPY_DATA", raising=False)
        with pytest.raises(
            FileNotFoundError, match=r"not in \$GAMMAPY_DATA: it is not set"
        ):
            from_tables("3hwc")

    def test_missing_catalogue_among_several(self, no_data, caplog):
        assert from_tables(self.table, "3hwc").names == ["a"]
        assert "Skipped a catalogue. The catalogue '3hwc' is not in" in caplog.text

    def test_broken_catalogue(self, monkeypatch, tmp_path):
        monkeypatch.setenv("GAMMAPY_DATA", str(tmp_path))
        (tmp_path / "catalogs").mkdir()
        (tmp_path / "catalogs/3HWC.ecsv").write_text("nothing")
        with pytest.raises(ValueError, match="'3hwc' cannot be read"):
            from_tables(self.table, "3hwc")


@pytest.mark.usefixtures("catalogs")
class TestGammapyCatalogs:
    def test_crab(self):
        regions = ExclusionRegions.from_catalogs(CENTER, "0.1 deg")
        assert regions.names == ["Crab nebula"]
        assert regions.origins == ["gamma-cat, 3hwc, 2hwc"]
        assert_allclose(get_circles(regions), [[83.63, 22.02, 0.405]], atol=0.002)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("tag", "n"), [("gamma-cat", 162), ("hgps", 78), ("3hwc", 65), ("2hwc", 40)]
    )
    def test_every_source_is_held(self, tag, n):
        """At the position that Gammapy gives it, which has single precision."""
        from gammapy.catalog import CATALOG_REGISTRY

        catalog = CATALOG_REGISTRY.get_cls(tag)()
        assert len(catalog.table) == n
        regions = from_tables(tag)
        for position in catalog.positions:
            assert covers(regions, position.ra.deg, position.dec.deg, 0.3 - 1e-5)

    @pytest.mark.parametrize(
        ("tag", "lon", "lat", "radius"),
        [
            # Gaussian: sigma 0.23106614 deg
            ("hgps", 208.96227, -64.50992, np.hypot(0.3, 3 * 0.23106614)),
            # shell: outer radius 1 deg
            ("hgps", 133.0, -46.37, 1.3),
            # upper limit of the size only
            ("hgps", 154.74777, -58.931763, 0.3),
            # elongated: 0.3 deg x 0.24 deg; both of its positions
            ("gamma-cat", 1.65, 72.783, np.hypot(0.3, 0.9)),
            ("gamma-cat", 1.6083333, 72.98361, np.hypot(0.3, 0.9)),
            # shell, with positions 0.9 deg from each other
            ("gamma-cat", 94.51125, 22.66, 0.6),
            ("gamma-cat", 94.22, 23.55, 0.6),
            # search radius 1 deg
            ("3hwc", 269.297, -24.092, 1.3),
            # second radius of 2 deg
            ("2hwc", 97.998, 16.997, 2.3),
        ],
    )
    def test_radius(self, tag, lon, lat, radius):
        position = SkyCoord(lon, lat, unit="deg")
        regions = from_tables(tag, position=position, radius="0.01 deg")
        # the columns have single precision
        assert covers(regions, lon, lat, radius - 1e-5)
        assert not covers(regions, lon, lat, radius + 0.12)

    def test_order_does_not_matter(self):
        tags = "gamma-cat", "hgps", "3hwc", "2hwc"
        expected = get_circles(from_tables(*tags))
        for order in (tags[::-1], (*tags[2:], *tags[:2])):
            assert_array_equal(get_circles(from_tables(*order)), expected)

    def test_spelling(self):
        """As a config may have it."""
        assert from_tables("gammacat").names == from_tables("gamma-cat").names


class TestPlot:
    def make_counts(self, axes=None):
        counts = Map.create(skydir=CENTER, width=(6, 4), binsz=0.05, axes=axes)
        counts.data = np.random.default_rng(0).poisson(1, counts.data.shape)
        return counts

    @pytest.fixture(autouse=True)
    def close(self):
        yield
        plt.close("all")

    def test_outlines_are_those_of_the_mask(self):
        """Also of large circles at high declination, which are no circles there."""
        counts = Map.create(skydir=(20, 80), width=(60, 10), binsz=0.1, proj="CAR")
        regions = ExclusionRegions(
            [
                make_circle(20, 80, 3),
                EllipseSkyRegion(SkyCoord(0, 81, unit="deg"), 2 * u.deg, 1 * u.deg),
            ]
        )
        ax = plot_exclusion_regions(regions, counts)
        path = ax.patches[0].get_path()
        y, x = np.indices(counts.data.shape)
        inside = path.contains_points(np.transpose([x.ravel(), y.ravel()]))
        mask = regions[:1].to_mask(counts.geom).data.ravel()
        assert np.mean(inside == mask) < 0.001
        assert len(ax.patches) == 2

    def test_names(self):
        axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", 2)
        counts = self.make_counts([axis])
        corners = [(81.0, 23.9), (86.3, 23.9), (81.0, 20.1), (86.3, 20.1), (83.6, 22)]
        regions = ExclusionRegions(
            [make_circle(*_, 0.3) for _ in [*corners, (83.6, 22.01), (70, 0)]],
            [f"A source with a long name {_}" for _ in range(7)],
        )
        ax = plot_exclusion_regions(regions, counts)
        ax.figure.canvas.draw()
        frame = ax.get_window_extent()
        boxes = [_.get_window_extent() for _ in ax.texts]
        assert len(boxes) == 6
        for box in boxes:
            assert frame.x0 <= box.x0 < box.x1 <= frame.x1
            assert frame.y0 <= box.y0 < box.y1 <= frame.y1
        for first, second in itertools.combinations(boxes, 2):
            assert not first.overlaps(second)
        assert_allclose(ax.get_xlim(), (-0.5, counts.data.shape[-1] - 0.5))

    def test_list_and_axes(self):
        counts = self.make_counts()
        figure = plt.figure()
        ax = figure.add_subplot(projection=counts.geom.wcs)
        circles = [CircleSkyRegion(CENTER, 1 * u.deg)]
        assert plot_exclusion_regions(circles, counts, ax=ax, smooth=None) is ax
        assert_array_equal(ax.images[0].get_array(), counts.data)
        assert not ax.texts


class TestCommand:
    args = ("exclusions", "--position", "83.63,22.01")

    @pytest.fixture
    def catalog(self, tmp_path):
        path = tmp_path / "mine.ecsv"
        make_table(("Crab", 83.63, 22.01, 0.1), ("far", 10.0, 0.0, 0.0)).write(path)
        return path

    def test_regions(self, tmp_path, catalog, capsys):
        path = tmp_path / "out.reg"
        assert run(*self.args, "--catalog", catalog, "--out", path) == 0
        output = capsys.readouterr().out
        assert "Crab" in output
        assert "far" not in output
        assert "Wrote" in output
        assert ExclusionRegions.read(path).names == ["Crab"]

    def test_options(self, tmp_path, catalog, capsys):
        TestStars.table.write(tmp_path / "stars.ecsv")
        ExclusionRegions([make_circle(84, 23, 0.2)], ["drawn"]).write(
            tmp_path / "in.reg"
        )
        args = ("--radius", "100 deg", "--point-radius", "0.4 deg")
        args += ("--extension-factor", 0, "--stars", tmp_path / "stars.ecsv")
        args += ("--magnitude-max", 2, "--star-radius", "0.1 deg")
        args += ("--regions", tmp_path / "in.reg", "--out", tmp_path / "out.reg")
        assert run(*self.args, "--catalog", catalog, *args) == 0
        regions = ExclusionRegions.read(tmp_path / "out.reg")
        assert regions.names == ["drawn", "far", "Crab", "HIP 3"]
        assert_allclose(get_circles(regions)[:, 2], [0.2, 0.4, 0.4, 0.1])

    def test_plot(self, tmp_path, stores, catalog):
        target = ("exclusions", "--position", "329.7,-30.2", "--catalog", catalog)
        path = tmp_path / "a.png"
        folder = stores["targets"].hdu_table.base_dir
        assert run(*target, "--plot", path, "--datastore", folder) == 0
        image = matplotlib.image.imread(path)
        assert min(image.shape[:2]) > 300
        assert np.std(image) > 0.05

    def test_defaults(self, catalogs, capsys):
        assert run(*self.args) == 0
        assert "gamma-cat, 3hwc, 2hwc" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("args", "match", "code"),
        [
            (("--position", "83"), "is not RA,DEC", 2),
            (("--position", "83,95"), "is not RA,DEC", 2),
            (("--radius", "3"), "radius must be an angle", 1),
            (("--magnitude-max", "bright"), "--magnitude-max", 2),
            (("--stars", "nowhere.dat"), "nowhere.dat", 1),
            (("--regions", "nowhere.reg"), "nor a region file", 1),
            (("--catalog", "tevcat"), "'hgps'", 1),
            (("--plot", "a.png"), "both of --plot and --datastore", 2),
            (("--plot", "a.png", "--datastore", "nowhere"), "no datastore", 1),
        ],
    )
    def test_bad_input(self, tmp_path, catalog, capsys, monkeypatch, args, match, code):
        monkeypatch.chdir(tmp_path)
        args = (*self.args, "--catalog", catalog, "--out", tmp_path / "out.reg", *args)
        assert_fails(capsys, tmp_path / "out.reg", match, *args, code=code)

    def test_nothing_is_replaced(self, tmp_path, catalog, capsys):
        path = tmp_path / "out.reg"
        path.write_text("mine")
        args = (*self.args, "--catalog", catalog, "--out", path)
        assert_fails(capsys, path, "exists", *args)
        assert path.read_text() == "mine"
        assert run(*args, "--overwrite") == 0
        assert len(ExclusionRegions.read(path)) == 1

    def test_no_folder(self, tmp_path, catalog, capsys):
        path = tmp_path / "nowhere/out.reg"
        args = (*self.args, "--catalog", catalog, "--out", path)
        assert_fails(capsys, tmp_path / "nowhere", "no folder", *args)

    def test_no_observation(self, tmp_path, stores, catalog, capsys):
        folder = stores["targets"].hdu_table.base_dir
        args = ("--catalog", catalog, "--plot", tmp_path / "a.png")
        args = (*self.args, *args, "--datastore", folder)
        assert_fails(capsys, tmp_path / "a.png", "No observation of", *args)

    def test_missing_catalogue(self, tmp_path, no_data, capsys):
        args = (*self.args, "--catalog", "hgps")
        assert_fails(capsys, tmp_path / "x", "gammapy download datasets", *args)
