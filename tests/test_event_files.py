"""Files of observations are those that astropy writes of Gammapy's tables."""

import copy
import gzip
import re

import astropy
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table
from gammapy.data import DataStore, EventList, Observation
from numpy.testing import assert_array_equal
from packaging.version import Version

from gammapy_mimic import MimicMaker
from gammapy_mimic.data import write_datastore, write_observation
from gammapy_mimic.data.events import (
    TIME_KEYS,
    get_seconds,
    get_time_ref,
    read_column,
    read_event_list,
)
from gammapy_mimic.data.headers import derive_header
from gammapy_mimic.data.observation import get_livetime_fraction
from gammapy_mimic.makers import write_mimic_sets
from gammapy_mimic.selection import MimicPlan

from .helpers import cut_gti, need_runs, replace_events, to_old_hess

CARDS_OF_COLUMNS_FIRST = Version(astropy.__version__) >= Version("7")
"""Before, astropy had them in another place of a header."""


def write_with_astropy(observation, path):
    """The plain way: Gammapy makes tables of events and GTI, and astropy HDUs."""
    events, gti = observation.events, observation.gti
    header = events.table.meta
    header = header | derive_header(header, gti, get_livetime_fraction(observation))
    table = events.table.copy(copy_data=False)
    table.meta = header
    for name in ("RA", "DEC"):
        table[name] = Column(read_column(table, name, "deg"), unit="deg")
    events_hdu = EventList(table, copy.deepcopy(events.meta)).to_table_hdu()
    optional = observation.meta.optional or {}
    for key in ("CREATOR", "HDUVERS"):
        if key in optional or key in header:
            events_hdu.header[key] = optional.get(key, header.get(key))
    events_hdu.header["OBS_ID"] = int(observation.obs_id)
    pointing = observation.pointing.to_fits_header()
    keys = {key: pointing[key] for key in pointing if key != "OBS_MODE"}
    events_hdu.header.update(keys)
    events_hdu.header.setdefault("OBS_MODE", pointing["OBS_MODE"])
    gti_hdu = gti.to_table_hdu()
    if abs(get_seconds(gti.time_ref, get_time_ref(header))) < 1e-6:
        gti_hdu.header.update({key: events_hdu.header[key] for key in TIME_KEYS})
    gti_hdu.header.update(HDUCLASS="GADF", HDUVERS="0.3", HDUCLAS1="GTI", TIMEUNIT="s")
    fits.HDUList([fits.PrimaryHDU(), events_hdu, gti_hdu]).writeto(path)


def read_content(path):
    """Bytes of a file, without the time at which it was made."""
    content = path.read_bytes()
    return re.sub(rb"CREATED = '[^']*", lambda found: b"0" * len(found[0]), content)


def check(observation, path):
    """Compare the file in a datastore with that of the plain way."""
    write_with_astropy(observation, path / "plain.fits")
    write_datastore([observation], path / "store")
    (written,) = (path / "store/data").iterdir()
    # IRFs that are in memory follow
    expected = read_content(path / "plain.fits")
    found = read_content(written)[: len(expected)]
    if not CARDS_OF_COLUMNS_FIRST:
        found, expected = (
            sorted(re.findall(b"(?s).{80}", _)) for _ in (found, expected)
        )
    assert found == expected


@pytest.fixture(scope="module")
def mimic(stores):
    return MimicMaker(stores["off"], {1: 101}).make_observation(
        stores["targets"].obs(1)
    )


def test_simulated(stores, tmp_path):
    check(stores["off"].obs(101), tmp_path)


def test_mimic(mimic, tmp_path):
    check(mimic, tmp_path)


def test_several_good_times(stores, tmp_path):
    check(cut_gti(stores["off"].obs(101)), tmp_path)


def test_header_of_an_old_file(stores, tmp_path):
    check(to_old_hess(stores["2d"].obs(401).copy(in_memory=True)), tmp_path)


def test_hess(hess_store, tmp_path):
    target, off = need_runs(hess_store, 33787, 20275)
    check(hess_store.obs(off), tmp_path)
    (tmp_path / "mimic").mkdir()
    maker = MimicMaker(hess_store, {target: off})
    check(maker.make_observation(hess_store.obs(target)), tmp_path / "mimic")


def test_veritas(veritas_store, tmp_path):
    (obs_id, *_) = veritas_store.obs_ids
    check(veritas_store.obs(obs_id, required_irf="point-like"), tmp_path)


N_TELS = 4

COLUMNS = {
    "int16": lambda n: Column(np.arange(n, dtype="i2"), unit="adu", format="5d"),
    "vector": lambda n: Column(np.arange(2.0 * n).reshape(n, 2), unit="m"),
    "big endian": lambda n: Column(np.arange(n, dtype=">f4")),
    "truth": lambda n: Column(np.arange(n) % 2 == 0),
    "telescopes": lambda n: Column(np.arange(N_TELS * n).reshape(n, N_TELS) % 3 == 0),
    "text": lambda n: Column([f"event {_}" for _ in range(n)]),
    "bytes": lambda n: Column([b"a", b"bc"] * (n // 2) + [b""] * (n % 2)),
    "unsigned": lambda n: Column(np.arange(n, dtype="u4")),
    "masked float": lambda n: MaskedColumn(np.arange(1.0 * n), mask=np.arange(n) < 5),
    "masked int": lambda n: MaskedColumn(np.arange(n), mask=np.arange(n) < 5),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_column(mimic, tmp_path, name):
    table = mimic.events.table.copy()
    table["EXTRA"] = COLUMNS[name](len(table))
    check(replace_events(mimic, table), tmp_path)


def test_no_events_between_files_with_some(mimic, tmp_path):
    table = mimic.events.table
    for n, folder in ((3, "a"), (0, "b"), (1, "c")):
        (tmp_path / folder).mkdir()
        check(replace_events(mimic, table[:n]), tmp_path / folder)


HEADERS = {
    "comments": {"comments": ["one", "two " * 40], "HISTORY": ["three"], "LAST": 1},
    "long": {"LONGTEXT": "word " * 40, "HDUDOC": "https://" + "a" * 70},
    "quote": {"OBSERVER": "O'Neill"},
    "zero": {"A": 0.0, "B": -0.0, "C": 0, "D": False, "E": 1.0, "F": 1, "G": True},
    "numpy": {"A": np.float32(0.1), "B": np.int16(5), "C": np.bool_(True)},
    "nothing": {"A": None, "B": fits.card.Undefined(), "C": ""},
    "lower case": {"observer": "me"},
    "comment": {"A": (1.5, "what it is")},
    "twice": {"EXTVER": [1, 2]},
    "name": {"EXTNAME": "OTHER"},
}


@pytest.mark.parametrize("name", HEADERS)
def test_header(mimic, tmp_path, name):
    table = mimic.events.table.copy()
    table.meta |= HEADERS[name]
    check(replace_events(mimic, table), tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("NAXIS1", 3, "NAXIS1 is left out of a header: FITS reserves this key"),
        ("TTYPE1", "RA", "TTYPE1 is left out"),
        ("SEEING", float("nan"), "SEEING is left out of a header: .* nan"),
        ("OBSERVER", "Müller", "OBSERVER is left out of a header: .*ASCII"),
        ("ANYTHING", {"a": 1}, "ANYTHING is left out of a header: Illegal value"),
    ],
)
def test_what_fits_does_not_know_is_left_out(
    mimic, tmp_path, caplog, key, value, match
):
    table = mimic.events.table.copy()
    table.meta[key] = value
    write_datastore([replace_events(mimic, table)], tmp_path / "store")
    (message,) = {_.message for _ in caplog.records if key in _.message}
    assert re.match(match, message)
    (path,) = (tmp_path / "store/data").iterdir()
    assert fits.getheader(path, "EVENTS").get(key) != value


def test_single_file_has_the_same_tables(mimic, tmp_path):
    write_datastore([mimic], tmp_path / "store", irfs="copy")
    (path,) = (tmp_path / "store/data").iterdir()
    write_observation(mimic, tmp_path / "mimic.fits")
    assert read_content(path) == read_content(tmp_path / "mimic.fits")
    write_observation(mimic, tmp_path / "mimic.fits.gz")
    with fits.open(path) as expected, fits.open(tmp_path / "mimic.fits.gz") as result:
        assert [_.name for _ in result] == [_.name for _ in expected]
        assert_array_equal(result["EVENTS"].data, expected["EVENTS"].data)


def test_index(stores, tmp_path):
    """The index tables are those that astropy writes, too."""
    observations = stores["off"].get_observations([101, 102])
    write_datastore(observations, tmp_path / "store")
    for name in ("hdu-index.fits.gz", "obs-index.fits.gz"):
        path = tmp_path / "store" / name
        Table.read(path).write(tmp_path / "plain.fits", overwrite=True)
        content = gzip.decompress(path.read_bytes())
        assert content == (tmp_path / "plain.fits").read_bytes()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("OBJECT", None, ""),
        ("OBJECT", fits.card.Undefined(), ""),
        ("OBJECT", "Müller", ""),
        ("N_TELS", None, -1),
    ],
)
def test_index_of_a_header_that_lacks_a_value(stores, tmp_path, name, value, expected):
    first, second = stores["off"].get_observations([101, 102])
    table = second.events.table.copy()
    table.meta[name] = value
    observations = [first, replace_events(second, table)]
    write_datastore(observations, tmp_path / "store")
    table = DataStore.from_dir(tmp_path / "store").obs_table
    assert table[name].tolist() == [first.events.table.meta[name], expected]


@pytest.mark.parametrize("irfs", ["link", "copy"])
def test_mimic_sets_do_not_depend_on_n_jobs(stores, tmp_path, irfs):
    plan = MimicPlan.create({1: 101, 2: 106, 3: 103})
    observations = stores["targets"].get_observations()
    contents = []
    for n_jobs in (1, 2):
        outdir = tmp_path / f"{n_jobs}"
        args = observations, stores["off"], plan, outdir
        write_mimic_sets(*args, irfs=irfs, n_jobs=n_jobs)
        paths = sorted((outdir / "mimic_1/data").iterdir())
        contents.append({_.name: read_content(_) for _ in paths})
    assert contents[0] == contents[1]


def test_a_link_to_an_hdu_that_is_not_there(stores, tmp_path):
    table = stores["off"].hdu_table.copy()
    names = table["HDU_NAME"].tolist()
    table["HDU_NAME"] = [_.replace("PSF", "NONE") for _ in names]
    observations = DataStore(table).get_observations([101, 102], required_irf=[])
    match = "is not written: Gammapy cannot read the psf of OBS_ID 102 .* 'NONE_2D"
    with pytest.raises(ValueError, match=match):
        write_datastore(observations, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_observation_is_unchanged(mimic, tmp_path):
    before = copy.deepcopy(mimic)
    write_datastore([mimic], tmp_path / "store")
    assert mimic.events.table.meta == before.events.table.meta
    assert mimic.events.table.colnames == before.events.table.colnames
    assert mimic.events.meta == before.events.meta


# ------------------------------------------------------------------- event lists read


def check_read(location):
    """Compare an event list with that of Gammapy."""
    observation = Observation(obs_id=1, events=location)
    with fits.open(location.path()) as hdu_list:
        cards = [(_.keyword, _.value) for _ in hdu_list["EVENTS"].header.cards]
        result = read_event_list(hdu_list["EVENTS"], cards)
    expected = observation.events
    assert list(result.table.meta.items()) == list(expected.table.meta.items())
    assert result.table.colnames == expected.table.colnames
    for name in result.table.colnames:
        column, other = result.table[name], expected.table[name]
        assert type(column) is type(other)
        if name == "TIME":
            assert_array_equal(column.jd1, other.jd1)
            assert_array_equal(column.jd2, other.jd2)
            assert (column.scale, column.format) == (other.scale, other.format)
            continue
        assert (column.dtype, column.unit) == (other.dtype, other.unit)
        assert column.format == other.format
        assert_array_equal(column, other)
        assert_array_equal(np.ma.getmaskarray(column), np.ma.getmaskarray(other))
    result.meta.creation = expected.meta.creation
    assert result.meta == expected.meta


def test_read_hess(hess_store):
    (obs_id,) = need_runs(hess_store, 20275)
    check_read(hess_store.hdu_table.hdu_location(obs_id, hdu_type="events"))


def test_read_veritas(veritas_store):
    obs_id = veritas_store.obs_ids[0]
    check_read(veritas_store.hdu_table.hdu_location(obs_id, hdu_type="events"))


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("header", ["comments", "twice"])
def test_read(mimic, tmp_path, name, header):
    table = mimic.events.table.copy()
    table["EXTRA"] = COLUMNS[name](len(table))
    table["GLON"] = Column(np.arange(1.0 * len(table)), unit="deg")
    table.meta |= HEADERS[header]
    write_datastore([replace_events(mimic, table)], tmp_path / "store")
    store = DataStore.from_dir(tmp_path / "store")
    check_read(store.hdu_table.hdu_location(1, hdu_type="events"))
