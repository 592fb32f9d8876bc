"""Where observations are found: in files, in memory, or why neither."""

import astropy.units as u
import pytest
from astropy.table import vstack
from gammapy.data import DataStore, Observations

from gammapy_mimic.data.readers import NO_FILE, find_sources, get_file_version
from gammapy_mimic.selection import OffIndex

from .helpers import replace


def get_ids(*sources):
    return [sorted(_) for _ in sources]


def test_each_observation_has_one_place(stores):
    off = stores["off"]
    observations = Observations(
        [
            off.obs(101),
            off.obs(102).copy(in_memory=True),
            off.obs(103).select_time([off.obs(103).tstart, off.obs(103).tstop]),
            replace(off.obs(104), events=None),
        ]
    )
    files, held, broken = find_sources(observations)
    assert get_ids(files, held) == [[101], [102, 103]]
    assert broken == {104: "no events"}
    assert held[102] is observations[1]


def test_indices_of_a_store(stores):
    off = stores["off"]
    hdu_table = off.hdu_table[off.hdu_table["OBS_ID"] != 101]
    events = (hdu_table["OBS_ID"] == 102) & (hdu_table["HDU_TYPE"] == "events")
    store = DataStore(hdu_table[~events], off.obs_table[:-1])
    files, held, broken = find_sources(store)
    assert get_ids(files, held, broken) == [
        [103, 104, 105, 106, 107],
        [],
        [101, 102, 108],
    ]
    store.obs_table = None
    files, _, broken = find_sources(store)
    assert get_ids(files, broken) == [[103, 104, 105, 106, 107, 108], [102]]


def test_repeated_obs_id(stores):
    off = stores["off"]
    twice = Observations(
        [off.obs(101), off.obs(102), off.obs(101).copy(in_memory=True)]
    )
    with pytest.raises(ValueError, match=r"OBS_ID \[101\] are there more than once"):
        find_sources(twice)
    double = DataStore(off.hdu_table)
    double.obs_table = vstack([off.obs_table, off.obs_table[:1]])
    with pytest.raises(ValueError, match=r"\[101\] are more than once in the obs"):
        find_sources(double)


def test_version_of_a_file_that_is_gone(stores):
    source = find_sources(stores["off"])[0][101]
    version = get_file_version(source)
    assert version[0] > 0
    gone = source._replace(events=source.events._replace(path="gone.fits"))
    assert get_file_version(gone) == NO_FILE


def test_one_index_of_files_and_memory(stores):
    """Files, memory and filters count alike, and what is broken is said once."""
    off = stores["off"]
    expected = OffIndex.create(off.get_observations([101, 102, 103]))
    mixed = [off.obs(103).copy(in_memory=True), off.obs(101), off.obs(102)]
    start = mixed[1].tstart
    mixed[1] = mixed[1].select_time([start - 1 * u.h, start + 9 * u.h])
    index = OffIndex.create([*mixed, replace(off.obs(104), events=None)])
    assert index.counts.tolist() == expected.counts.tolist()
    assert index.table["OBJECT"].tolist() == expected.table["OBJECT"].tolist()
    assert dict(index.broken.iterrows())[104].startswith("no events. Mend it")
    is_file = [index.table["FILE_SIZE"][idx] > 0 for idx in range(3)]
    assert is_file == [False, True, False]
