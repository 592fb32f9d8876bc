"""One definition of an event that counts, and columns in any unit."""

import shutil
from functools import partial

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from astropy.time import Time
from gammapy.data import GTI, DataStore, Observations
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic import MimicMaker, ScrambleMaker
from gammapy_mimic.data import find_broken_files, write_datastore
from gammapy_mimic.data.events import (
    is_in_good_time,
    is_in_gti,
    read_column,
)
from gammapy_mimic.data.observation import select_good_events
from gammapy_mimic.scramble.check import ScrambleCheck
from gammapy_mimic.selection import OffIndex
from gammapy_mimic.simulate import make_irfs, simulate_datastore
from gammapy_mimic.template import TemplateBins, TemplateCounts

from .helpers import cut_gti, replace, replace_events

METHODS = ("annulus", "fill", "azimuth")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("events") / "store"
    irfs = partial(make_irfs, rate=0.1)
    return simulate_datastore(path, 6, irfs=irfs, random_state=1)


@pytest.fixture
def target(store):
    return store.obs(1)


@pytest.fixture
def off(store):
    return store.obs(5).copy(in_memory=True)


def convert(observation, **units):
    """The same observation, with columns in other units or types."""
    table = observation.events.table.copy()
    for name, unit in units.items():
        table[name] = table[name].quantity.to(unit)
    return replace_events(observation, table)


def make_region(observation):
    center = observation.pointing.fixed_icrs.directional_offset_by(0 * u.deg, 1 * u.deg)
    return CircleSkyRegion(center, 0.4 * u.deg)


def count_template(observation):
    # from which no event is left out
    bins = TemplateBins.create("2d", ())
    return TemplateCounts.from_observation(observation, bins).counts


UNITS = [
    {"RA": "rad", "DEC": "rad"},
    {"RA": "arcmin", "DEC": "arcmin"},
    {"RA": "hourangle", "DEC": "arcsec"},
    {"DEC": "rad"},
    {"ENERGY": "GeV"},
    {"ENERGY": "erg"},
]


class TestUnits:
    @pytest.mark.parametrize("units", UNITS)
    @pytest.mark.parametrize("alignment", ["radec", "altaz"])
    def test_mimic(self, off, target, units, alignment):
        mimics = [
            MimicMaker(Observations([_]), {1: 5}, alignment=alignment).make_observation(
                target
            )
            for _ in (off, convert(off, **units))
        ]
        radec = [_.events.radec for _ in mimics]
        assert radec[0].separation(radec[1]).max() < 1e-9 * u.deg
        table = mimics[1].events.table
        assert table["RA"].unit == table["DEC"].unit == "deg"
        assert table["RA"].dtype == table["DEC"].dtype == float
        energies = [_.events.energy.to_value("TeV") for _ in mimics]
        assert_allclose(*energies)

    @pytest.mark.parametrize("units", UNITS)
    @pytest.mark.parametrize("method", METHODS)
    def test_scramble(self, off, units, method):
        maker = ScrambleMaker([make_region(off)], method, random_state=0)
        results = [maker.make_observation(_) for _ in (off, convert(off, **units))]
        expected, table = (_.events.table for _ in results)
        assert len(table) == len(expected)
        assert table.meta["SCR_NEVT"] == expected.meta["SCR_NEVT"] > 0
        radec = [_.events.radec for _ in results]
        assert np.median(radec[0].separation(radec[1])) < 1e-9 * u.deg
        assert table["RA"].unit == "deg"

    @pytest.mark.parametrize("units", UNITS)
    def test_index_and_template(self, off, units):
        pools = [off, convert(off, **units)]
        counts = [OffIndex.create(Observations([_])).counts for _ in pools]
        # a value at the edge of a bin may be rounded to the other side
        assert np.abs(counts[0] - counts[1]).sum() <= 2
        counts = [count_template(_) for _ in pools]
        assert np.abs(counts[0] - counts[1]).sum() <= 2

    @pytest.mark.parametrize("unit", ["rad", "arcmin"])
    def test_columns_of_the_field_of_view(self, off, unit):
        frame = off.pointing.fixed_icrs.skyoffset_frame()
        position = off.events.radec.transform_to(frame)
        table = off.events.table
        table["DETX"] = -position.lon.wrap_at("180d").to("deg")
        table["DETY"] = position.lat.to("deg")
        table["THETA"] = off.events.offset.to("deg")
        maker = ScrambleMaker([make_region(off)], "azimuth", random_state=0)
        expected = maker.make_observation(off).events.table
        names = ("DETX", "DETY", "THETA")
        other = convert(off, **dict.fromkeys(names, unit))
        result = maker.make_observation(other).events.table
        for name in names:
            assert result[name].unit == "deg"
            assert_allclose(result[name], expected[name], atol=1e-9)

    def test_float32(self, off, target):
        table = off.events.table
        for name in ("RA", "DEC"):
            unit = table[name].unit
            table[name] = table[name].astype(np.float32)
            table[name].unit = unit
        mimic = MimicMaker(Observations([off]), {1: 5}).make_observation(target)
        separations = []
        for observation in (off, mimic):
            table = observation.events.table
            ra, dec = (np.asarray(table[name], dtype=float) for name in ("RA", "DEC"))
            radec = SkyCoord(ra, dec, unit="deg")
            separations.append(radec.separation(observation.pointing.fixed_icrs).deg)
        assert_allclose(*separations, atol=1e-9)

    def test_no_unit_is_that_of_gadf(self, store, target, tmp_path):
        expected = MimicMaker(store, {1: 5}).make_observation(target)
        pool = self.change(store, tmp_path, None)
        mimic = MimicMaker(pool, {1: 5}).make_observation(target)
        assert_array_equal(mimic.events.table["RA"], expected.events.table["RA"])
        index = OffIndex.create(pool)
        assert_array_equal(index.counts, OffIndex.create(store).counts)

    def test_other_unit_is_an_error(self, store, target, tmp_path):
        pool = self.change(store, tmp_path, "s")
        match = "RA with the unit 's'"
        assert match in dict(OffIndex.create(pool).broken.iterrows())[5]
        assert match in find_broken_files(pool, [5])[5]
        with pytest.raises(ValueError, match="OBS_ID 5.*RA"):
            MimicMaker(pool, {1: 5}).make_observation(target)

    @staticmethod
    def change(store, path, unit):
        """Change the unit of RA in a copy of a store."""
        shutil.copytree(store.hdu_table.base_dir, path / "copy")
        changed = DataStore.from_dir(path / "copy")
        location = changed.hdu_table.hdu_location(5, hdu_type="events").path()
        with fits.open(location, memmap=False) as hdu_list:
            hdu_list["EVENTS"].columns["RA"].unit = unit
            hdu_list.writeto(location, overwrite=True)
        return changed


class TestGoodTime:
    @pytest.mark.parametrize("is_on_disk", [True, False])
    def test_all_count_the_same(self, store, target, tmp_path, is_on_disk):
        observation = cut_gti(store.obs(5))
        if is_on_disk:
            write_datastore([observation], tmp_path / "cut")
            observation = DataStore.from_dir(tmp_path / "cut").obs(5)
        events, gti = observation.events, observation.gti
        edges = zip(gti.time_start, gti.time_stop, strict=True)
        is_good = np.any([(events.time > a) & (events.time < b) for a, b in edges], 0)
        n_good = is_good.sum()
        assert 0 < n_good < len(is_good)

        pool = Observations([observation])
        index = OffIndex.create(pool, *make_axes())
        assert index.table["EVENT_COUNT"].tolist() == [n_good]
        assert index.counts.sum() == n_good
        mimic = MimicMaker(pool, {1: 5}).make_observation(target)
        assert_array_equal(mimic.events.energy, events.energy[is_good])
        check = ScrambleCheck.create(ScrambleMaker([make_region(mimic)]), mimic)
        assert len(check.before.offset) == n_good
        for method in METHODS:
            maker = ScrambleMaker([make_region(observation)], method)
            time = maker.make_observation(observation).events.time
            assert is_in_gti(time, gti).all()
            if method != "fill":
                assert len(time) == n_good

    def test_counts_fit_the_prediction(self, store):
        whole, part = store.obs(5), cut_gti(store.obs(5))
        counts = [count_template(_).sum() for _ in (whole, part)]
        expected = counts[0] * 12 / 28
        assert abs(counts[1] - expected) < 4 * np.sqrt(expected)

    def test_no_event_in_the_good_time(self, store, target):
        off = cut_gti(store.obs(5), [40], [50])
        match = "OBS_ID 5 has no event of .* in the good time"
        with pytest.raises(ValueError, match=match):
            MimicMaker(Observations([off]), {1: 5}).make_observation(target)
        index = OffIndex.create(Observations([off, store.obs(6)]))
        assert "in the good time" in dict(index.broken.iterrows())[5]

    def test_invalid_event_outside_does_not_matter(self, off, target):
        off.events.table["RA"][-1] = np.nan
        part = cut_gti(off)
        assert len(OffIndex.create(Observations([part]))) == 1
        MimicMaker(Observations([part]), {1: 5}).make_observation(target)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("RA", np.inf), ("DEC", -99.0), ("ENERGY", 0.0), ("ENERGY", -1.0)],
    )
    def test_invalid_event_inside(self, off, target, name, value):
        off.events.table[name][1] = value
        match = f"OBS_ID 5 has 1 events without a valid {name}"
        with pytest.raises(ValueError, match=match):
            MimicMaker(Observations([off]), {1: 5}).make_observation(target)
        with pytest.raises(ValueError, match=match):
            count_template(off)
        with pytest.raises(ValueError, match=match):
            ScrambleMaker([make_region(off)]).make_observation(off)
        with pytest.raises(ValueError, match=f"1 events without a valid {name}"):
            OffIndex.create(Observations([off]))

    def test_index_of_before_is_made_anew(self, store, tmp_path):
        path = tmp_path / "index.fits"
        OffIndex.create(store).write(path)
        with fits.open(path, mode="update") as hdu_list:
            hdu_list[0].header["IDX_VERS"] = 1
        with pytest.raises(ValueError, match="version 1"):
            OffIndex.read(path)

    def test_gti_of_the_index_has_its_own_reference_time(self, store, tmp_path):
        observation = cut_gti(store.obs(5))
        gti, reference = observation.gti, Time("2004-01-01", scale="utc")
        n_good = select_good_events(observation, observation.events, gti).is_good.sum()
        gti = GTI.create(gti.time_start, gti.time_stop, reference)
        observation = replace(observation, gti=gti)
        write_datastore([observation], tmp_path / "x")
        written = DataStore.from_dir(tmp_path / "x")
        assert OffIndex.create(written).table["EVENT_COUNT"].tolist() == [n_good]


def make_axes():
    from gammapy.maps import MapAxis

    energy = MapAxis.from_energy_bounds("1 GeV", "1 PeV", nbin=3)
    return energy, MapAxis.from_edges([0, 10], unit="deg", name="offset")


@pytest.mark.parametrize("seed", range(5))
def test_kernel_agrees_with_a_loop(seed):
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 100, 7)
    stop = start + rng.uniform(0, 20, 7)  # they overlap, and are in no order
    time = rng.uniform(-10, 130, 500)
    expected = [np.any((start <= _) & (_ <= stop)) for _ in time]
    assert_array_equal(is_in_good_time(time, start, stop), expected)


def test_edges_and_empty():
    edges = np.array([0.0, 5.0, 5.0 + 1e-8, 5.1])
    result = is_in_good_time(edges, np.array([0.0]), np.array([5.0]))
    assert result.tolist() == [True, True, True, False]
    assert is_in_good_time(np.array([np.nan]), np.zeros(1), np.ones(1)).tolist() == [
        False
    ]
    assert not is_in_good_time(edges, np.zeros(0), np.zeros(0)).any()


def test_read_column():
    table = Table({"a": [60.0, 120.0] * u.arcmin, "b": [1, 2], "c": ["x", "y"]})
    table["d"] = MaskedColumn([1.0, 2.0], mask=[False, True], unit="m")
    assert_allclose(read_column(table, "a", "deg"), [1, 2])
    assert_allclose(read_column(table, "b", "deg"), [1, 2])
    assert_allclose(read_column(table, "d", "cm"), [100, np.nan])
    assert_allclose(read_column(table, "d"), [1, np.nan])
    with pytest.raises(ValueError, match="c without numbers"):
        read_column(table, "c", "deg")
    with pytest.raises(ValueError, match="d with the unit 'm', .* to 'deg'"):
        read_column(table, "d", "deg")
