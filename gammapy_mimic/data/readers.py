"""Where observations are, and their events and conditions, read in one go."""

import copy
import os
import zlib
from typing import NamedTuple

import numpy as np
from gammapy.data import DataStore
from gammapy.utils.fits import HDULocation
from gammapy.utils.scripts import make_path

from .checks import check_header, check_observation
from .columns import to_str
from .events import read_column, read_gti
from .files import open_fits
from .headers import (
    META_KEYS,
    OBS_TABLE_COLUMNS,
    derive_header,
    derive_times,
    get_header_deadc,
    get_header_pointing,
    has_value,
    to_float,
)
from .irfs import get_safe_range, parse_safe_range
from .obs_ids import get_obs_id, to_obs_ids
from .observation import (
    get_fixed_pointing,
    get_hdu,
    get_livetime_fraction,
    load_events_file,
    select_good_events,
)

NO_FILE = (-1, -1, -1)


class Location(NamedTuple):
    """Where an HDU is."""

    path: str
    hdu: str


class FileSource(NamedTuple):
    """Where to read an observation: small, to be sent to other processes."""

    obs_id: int
    events: Location
    aeff: Location | None
    gti: Location | None


def find_sources(observations):
    """Find where observations are.

    Parameters
    ----------
    observations : `~gammapy.data.DataStore` or `~gammapy.data.Observations`
        Observations.

    Returns
    -------
    files : dict of `FileSource`
        Where to read those that are on disk, by OBS_ID.
    held : dict of `~gammapy.data.Observation`
        Those that are in memory or have a filter, by OBS_ID.
    broken : dict of str
        Why the others cannot be read, by OBS_ID.

    Raises
    ------
    ValueError
        If an OBS_ID is there twice, or there are no observations.
    """
    is_store = isinstance(observations, DataStore)
    sources = (_find_in_store if is_store else _find_in_observations)(observations)
    if not any(sources):
        raise ValueError("There are no observations to index.")
    return sources


def _find_in_observations(observations):
    obs_ids = [get_obs_id(_) for _ in observations]
    _check_repeated(obs_ids, "are there more than once.")
    files, held, broken = {}, {}, {}
    for obs_id, observation in zip(obs_ids, observations, strict=True):
        hdus = [get_hdu(observation, name) for name in ("events", "aeff", "gti")]
        obs_filter = observation.obs_filter
        is_filtered = obs_filter.time_filter is not None or obs_filter.event_filters
        if hdus[0] is None:
            broken[obs_id] = "no events"
        elif is_filtered or not all(isinstance(_, HDULocation | None) for _ in hdus):
            held[obs_id] = observation
        else:
            files[obs_id] = FileSource(obs_id, *(_ and _to_location(_) for _ in hdus))
    return files, held, broken


def _find_in_store(datastore):
    table = datastore.hdu_table
    names = ("HDU_TYPE", "HDU_CLASS", "FILE_DIR", "FILE_NAME", "HDU_NAME")
    columns = [np.char.strip(to_str(np.asarray(table[_]))).tolist() for _ in names]
    obs_ids, base_dir = to_obs_ids(table["OBS_ID"]).tolist(), table.base_dir.as_posix()
    by_type = {"events": {}, "aeff": {}, "gti": {}}
    # in one pass: Gammapy goes through the table for each observation
    for obs_id, hdu_type, hdu_class, *place in zip(obs_ids, *columns, strict=True):
        # as Gammapy, take the first if there are several
        if hdu_type in by_type and obs_id not in by_type[hdu_type]:
            location = HDULocation(hdu_class, base_dir, *place)
            by_type[hdu_type][obs_id] = _to_location(location)
    events, aeff, gti = by_type.values()
    files = {i: FileSource(i, _, aeff.get(i), gti.get(i)) for i, _ in events.items()}
    present = set(obs_ids)
    broken = dict.fromkeys(present - set(files), "no events in the HDU index")
    if datastore.obs_table is not None:
        indexed = to_obs_ids(datastore.obs_table["OBS_ID"]).tolist()
        _check_repeated(indexed, "are more than once in the observation index.")
        missing = present - set(indexed)
        broken |= dict.fromkeys(missing, "not in the observation index")
        broken |= dict.fromkeys(set(indexed) - present, "not in the HDU index")
    return {i: _ for i, _ in files.items() if i not in broken}, {}, broken


def _check_repeated(obs_ids, what):
    obs_ids, n = np.unique(obs_ids, return_counts=True)
    if np.any(n > 1):
        raise ValueError(f"OBS_ID {obs_ids[n > 1].tolist()} {what}")


def _to_location(location):
    path = location.path()
    if not path.exists():
        # Gammapy leaves out the folder of the index, and so would the reason
        path = make_path(location.base_dir) / location.file_dir / location.file_name
    return Location(str(path), location.hdu_name)


def get_file_version(source):
    """Get what tells a changed file: its size and time (in ns), and a hash of names.

    Of several files the sum of the sizes and the latest time. `NO_FILE` if one is gone.
    """
    try:
        locations = source.events, source.aeff, source.gti
        paths = {location.path for location in locations if location is not None}
        stats = [os.stat(path) for path in paths]
    except OSError:
        return NO_FILE
    # not where they are: an archive can be moved
    places = [_ and (os.path.basename(_.path), _.hdu) for _ in locations]
    size, time = sum(_.st_size for _ in stats), max(_.st_mtime_ns for _ in stats)
    return size, time, zlib.crc32(str(places).encode())


def read_file(source):
    """Read an observation, opening each of its files once.

    Parameters
    ----------
    source : `FileSource`
        Where it is.

    Returns
    -------
    events : `~gammapy_mimic.data.checks.GoodEvents`
        Events.
    pointing : tuple of float
        RA and Dec, in deg.
    energy_range : tuple of float
        Safe range, in TeV.
    aeff : `~astropy.io.fits.FITS_rec` or None
        Effective area, as it is in the file.
    header : tuple
        Header of the events and GTI, for `get_conditions`.
    """
    with open_fits(source.events.path) as hdu_list:
        events, header, gti = read_events(source, hdu_list)
        energy_range, aeff = _read_aeff(source, hdu_list)
    return events, get_header_pointing(header), energy_range, aeff, (header, gti)


def _read_aeff(source, hdu_list):
    """Safe energy range and table of the effective area."""
    location = source.aeff
    if location is None:
        return parse_safe_range({}), None
    if location.path == source.events.path:
        hdu = hdu_list[location.hdu]
        return parse_safe_range(hdu.header), hdu.data
    with open_fits(location.path) as others:
        hdu = others[location.hdu]
        return parse_safe_range(hdu.header), hdu.data


def read_events(source, hdu_list):
    """Check an observation, and read the events that count from its open file.

    Parameters
    ----------
    source : `FileSource`
        Where the observation is.
    hdu_list : `~astropy.io.fits.HDUList`
        File of its events.

    Returns
    -------
    events : `~gammapy_mimic.data.checks.GoodEvents`
        Events.
    header : `~astropy.io.fits.Header`
        Header of the events.
    gti : tuple of `~numpy.ndarray` or None
        Start and stop of the good time, in s from the reference time of the events.

    Raises
    ------
    ValueError
        If something is missing, or makes no sense.
    """
    hdu = hdu_list[source.events.hdu]
    header = hdu.header
    values = check_header(header, source.obs_id)
    if source.gti is None:
        raise ValueError("no GTI in the HDU index")
    gti, time = _read_gti(source, hdu_list, header), None
    # without times all events count, as there is nothing to cut them by
    if "TIME" in hdu.columns.names:
        time = read_column(hdu.data, "TIME", "s", header.get("TIMEUNIT", "s"))
    return check_observation(hdu.data, values, time, gti), header, gti


def _read_gti(source, hdu_list, header):
    """Good time intervals, in s from the reference time of the events, or None."""
    if source.gti is None:
        return None
    if source.gti.path == source.events.path:
        if source.gti.hdu not in hdu_list:
            raise ValueError(f"no GTI in the file, no HDU {source.gti.hdu!r}")
        return read_gti(hdu_list[source.gti.hdu], header)
    with open_fits(source.gti.path) as others:
        return read_gti(others[source.gti.hdu], header)


def read_header(source):
    """Read the conditions of an observation, without its events."""
    with open_fits(source.events.path) as hdu_list:
        header = hdu_list[source.events.hdu].header
        return get_conditions(header, _read_gti(source, hdu_list, header))


def get_conditions(header, gti):
    """Get what an observation table needs of a file."""
    keys = {*OBS_TABLE_COLUMNS, *META_KEYS} & set(header)
    conditions = {key: header[key] for key in keys}
    # what the header says of times may be that of a run before it was cut
    if gti is not None and gti[0].size:
        conditions |= derive_times(*gti, get_header_deadc(header))
    return {key: _ for key, _ in conditions.items() if has_value(_)}


def get_good_time(header, gti):
    """Get the good time of what `read_file` or `read_held` has read.

    Parameters
    ----------
    header : dict-like
        Header of the events.
    gti : tuple of `~numpy.ndarray` or None
        Start and stop, in s. None if the header follows from the GTI.

    Returns
    -------
    good_time : float
        Sum of the GTI, in s, to a microsecond. NaN if it is not known.
    """
    if gti is None:
        return to_float(header.get("ONTIME"))
    start, stop = gti
    return round(float(np.sum(stop - start)), 6) if start.size else np.nan


def read_held(observation):
    """As `read_file`, of an observation in memory or with a filter.

    The header holds what follows from the GTI already.
    """
    # the pool does not keep what is read
    observation = copy.copy(observation)
    load_events_file(observation)
    gti = None if get_hdu(observation, "gti") is None else observation.gti
    table = observation.events.table
    events = select_good_events(observation, observation.events, gti)
    pointing = get_fixed_pointing(observation)
    pointing = float(pointing.ra.deg), float(pointing.dec.deg)
    header = {**table.meta, "RA_PNT": pointing[0], "DEC_PNT": pointing[1]}
    if gti is not None:
        header |= derive_header(header, gti, get_livetime_fraction(observation))
    aeff = None if get_hdu(observation, "aeff") is None else observation.aeff.to_table()
    return events, pointing, get_safe_range(observation), aeff, (header, None)
