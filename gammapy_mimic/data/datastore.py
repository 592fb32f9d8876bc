"""Write observations: single files and whole DL3 datastores."""

import contextlib
import copy
import gzip
import os
import warnings
import zlib
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from astropy.table import Column, Table
from astropy.utils.exceptions import AstropyUserWarning
from gammapy import __version__ as gammapy_version
from gammapy.data import DataStore, EventListMetaData, HDUIndexTable
from gammapy.irf import FoVAlignment
from gammapy.irf.io import IRF_DL3_HDU_SPECIFICATION
from gammapy.maps import MapAxis
from gammapy.utils.fits import HDULocation
from gammapy.utils.scripts import make_path
from gammapy.utils.time import time_ref_to_dict

from ..utils.files import (
    OVERWRITE,
    check_own,
    explain_unset,
    replace_file,
    replace_folder,
)
from ..utils.parallel import run_parallel
from ..utils.progress import track
from ..version import __version__
from .checks import add_way_out
from .columns import to_str
from .events import (
    TIME_KEYS,
    get_exact_seconds,
    get_seconds,
    get_time_ref,
    is_in_good_time,
    read_column,
    read_gti,
)
from .files import (
    CREATOR,
    check_links,
    check_regular,
    make_link_keys,
    open_fits,
    read_fits_header,
    set_links,
)
from .headers import ALIGNMENT_KEYS, INDEX_HEADER, derive_header, make_obs_table
from .irfs import convert_dead_time
from .obs_ids import get_obs_id, to_obs_ids
from .observation import (
    IRF_NAMES,
    describe_error,
    get_gti,
    get_hdu,
    get_livetime_fraction,
    has_hdu,
    load_events_file,
)
from .readers import find_sources, read_events
from .tables import TableHDU, make_primary_bytes, select_known, to_hdu_bytes

__all__ = [
    "DatastoreWriter",
    "find_broken_files",
    "find_hdu_types",
    "open_datastore",
    "select_datastore",
    "write_background",
    "write_datastore",
    "write_observation",
]

DATA_DIR = "data"
GROUPS_FILE = "groups.fits"

GAMMAPY = f"Gammapy {gammapy_version}"
"""What Gammapy writes as creator."""


def write_datastore(observations, path, irfs="link", overwrite=False):
    """Write observations as a DL3 datastore that Gammapy reads.

    The store has one events file an observation, ``obs-index.fits.gz`` and
    ``hdu-index.fits.gz``. It is written beside its place and moved there when it is
    complete: an interrupted run leaves the store that was there, or none.

    Parameters
    ----------
    observations : iterable of `~gammapy.data.Observation`
        Observations. Taken one after the other, so that a generator need not hold
        more than one in memory.
    path : str or `~pathlib.Path`
        Folder of the store.
    irfs : {"link", "copy"}, optional
        "link" lets the index point at the files that hold the IRFs, by relative path;
        IRFs in memory are written. "copy" writes all IRFs, for a store that can be
        moved on its own. Default is "link".
    overwrite : bool, optional
        Whether to replace a store that this function wrote. Default is False.

    Raises
    ------
    ValueError
        If there are no observations, two have one OBS_ID, an option is not valid, or
        an IRF would be linked in the store that is replaced.
    FileExistsError
        If the folder has content and may not be replaced.
    """
    with DatastoreWriter.open(path, irfs, overwrite) as writer:
        if hasattr(observations, "__len__"):
            observations = track(observations, "Write datastore")
        for observation in observations:
            writer.add(writer.write(observation))


class WrittenObservation(NamedTuple):
    """What the index of a datastore says of an observation."""

    header: dict
    """Header of the event list, with ``EVENT_COUNT``."""
    rows: list
    """Rows of the HDU index."""


class DatastoreWriter:
    """Writer of a datastore in the making, see `DatastoreWriter.open`."""

    def __init__(self, folder, path, irfs):
        self.folder = folder
        self.path = path
        self.irfs = irfs
        self._written = {}

    @classmethod
    @contextlib.contextmanager
    def open(cls, path, irfs="link", overwrite=False, checked=None):
        """Give a writer, and put the store in place when the block went well.

        Parameters
        ----------
        path, irfs, overwrite
            As for `write_datastore`.
        checked : set, optional
            Kinds of IRFs, with their folders, that Gammapy could read of another store.
            Those that this one links to are not read again, others are read and added.
            Default is none.

        Yields
        ------
        writer : `DatastoreWriter`
            Writer.
        """
        if irfs not in ("link", "copy"):
            raise ValueError(f"Invalid irfs: {irfs!r}. Choose from ('link', 'copy').")
        path = _resolve(path)
        with _replace_datastore(path, overwrite, checked) as folder:
            writer = cls(folder, path, irfs)
            yield writer
            writer.finish()

    def write(self, observation):
        """Write the file of an observation, also in another process.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Observation.

        Returns
        -------
        written : `WrittenObservation`
            What to `add` to the index.

        Raises
        ------
        ValueError
            If the OBS_ID is there.
        """
        obs_id = get_obs_id(observation)
        if obs_id in self._written:
            raise ValueError(f"OBS_ID {obs_id} is there more than once.")
        file_name = f"obs_id_{obs_id:06d}.fits"
        tables, irfs, links = _make_hdus(observation, copy_irfs=self.irfs == "copy")
        (self.folder / DATA_DIR / file_name).write_bytes(_join_hdus(tables, irfs))
        events, gti = tables
        unit = events.header.get("TIMEUNIT", "s")
        time = read_column(events.data, "TIME", "s", unit)
        is_good = is_in_good_time(time, *read_gti(gti, events.header))
        rows = [
            *_index_written(obs_id, file_name, [*tables, *irfs]),
            *_index_links(obs_id, links, self.path),
        ]
        header = {**events.header, "EVENT_COUNT": int(is_good.sum())}
        return WrittenObservation(header, rows)

    def add(self, written):
        """Add a written observation to the index.

        Parameters
        ----------
        written : `WrittenObservation`
            What `write` returned.
        """
        self._written[written.header["OBS_ID"]] = written

    def finish(self):
        """Write the index, after which the store is complete."""
        if (self.folder / DataStore.DEFAULT_OBS_TABLE).exists():
            return
        if not self._written:
            raise ValueError("There are no observations to write.")
        written = self._written.values()
        rows = [row for item in written for row in item.rows]
        hdu_table = _make_hdu_table(rows, self.path)
        _write_index(hdu_table, self.folder / DataStore.DEFAULT_HDU_TABLE)
        # last: `finish` takes a store that has it for complete
        obs_table = make_obs_table([_.header for _ in written])
        _write_index(obs_table, self.folder / DataStore.DEFAULT_OBS_TABLE)


def _write_index(table, path):
    """Write a table of numbers and text, compressed."""
    hdu = TableHDU(path.name, Table(dict(table.columns), copy=False), table.meta)
    with gzip.open(path, "wb") as file:
        file.write(make_primary_bytes() + hdu.to_bytes())


def write_observation(observation, path, overwrite=False):
    """Write an observation with all its IRFs to one file.

    Background IRFs are written as GADF knows them: Gammapy's REVERSE_LON_RADEC is
    turned into RADEC, unless the header makes Gammapy reverse it when reading.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation.
    path : str or `~pathlib.Path`
        File.
    overwrite : bool, optional
        Whether to replace an existing file. Default is False.

    Raises
    ------
    FileExistsError
        If the file exists and may not be replaced.
    """
    with replace_file(path, overwrite) as temporary:
        tables, irfs, _ = _make_hdus(observation, copy_irfs=True)
        # which knows names of compressed files
        with fits.HDUList.fromstring(_join_hdus(tables, irfs)) as hdu_list:
            hdu_list.writeto(temporary)


@contextlib.contextmanager
def _replace_datastore(path, overwrite, checked=None):
    """Give a folder to fill, and put it in place of the path when that went well."""
    is_new = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if not is_new and not overwrite:
        raise FileExistsError(
            f"{path} is not empty. Choose another folder, or {OVERWRITE}."
        )
    index = path / DataStore.DEFAULT_HDU_TABLE
    creator = read_fits_header(index, 1).get("CREATOR", "") if index.exists() else ""
    # what is replaced is deleted, and may hold the only copy of an archive
    if not is_new and not creator.startswith(CREATOR):
        raise FileExistsError(
            f"{path} is not a datastore written by {CREATOR} and will not be "
            "overwritten. Choose another folder, or remove it yourself."
        )
    with replace_folder(path) as folder:
        (folder / DATA_DIR).mkdir()
        yield folder
        _check_written(folder, path, set() if checked is None else checked)


def _check_written(folder, path, checked):
    """Read all of one observation of each kind, of a store on its way to a path."""
    table = HDUIndexTable.read(folder / DataStore.DEFAULT_HDU_TABLE)
    # links are relative to where the store will be
    table["FILE_DIR"] = [
        str(folder / _) if _ == DATA_DIR else os.path.normpath(path / _)
        for _ in table["FILE_DIR"].tolist()
    ]
    obs_ids, names = table["OBS_ID"].tolist(), ("HDU_CLASS", "HDU_NAME")
    kinds = {}
    for obs_id, *kind in zip(obs_ids, *(table[_] for _ in names), strict=True):
        kinds.setdefault(obs_id, []).append(tuple(kind))
    kinds = {tuple(kind): obs_id for obs_id, kind in kinds.items()}
    store, known = DataStore(table), frozenset(checked)
    for obs_id in kinds.values():
        observation = store.obs(obs_id, [], require_events=False)
        for name in ("events", "gti", *IRF_NAMES):
            location = get_hdu(observation, name)
            if location is not None:
                # those that are written are alike in all stores
                is_own = location.file_dir == str(folder / DATA_DIR)
                file_dir = DATA_DIR if is_own else location.file_dir
                kind = location.hdu_class, location.hdu_name, file_dir
                if kind not in known:
                    _check_part(observation, name, path)
                    checked.add(kind)


def _check_part(observation, name, path):
    """Raise an error if Gammapy cannot read a part of an observation."""
    location = get_hdu(observation, name)
    try:
        # Gammapy gives None, too, for one of another class than an index guesses
        if getattr(observation, name) is None:
            with open_fits(location.path()) as hdu_list:
                hdu_list[location.hdu_name]
    # Gammapy raises nearly anything
    except Exception as error:
        raise ValueError(
            f"{path} is not written: Gammapy cannot read the {name} of OBS_ID "
            f"{observation.obs_id} back, from {location.path()}: "
            f"{describe_error(error)}."
        ) from error


def _resolve(path):
    """Absolute path of a store, whose index has relative paths."""
    path = make_path(path)
    # resolved, a link would be followed to a folder that nobody named
    if path.is_symlink():
        check_own(path)
    return path.resolve()


def _make_hdus(observation, copy_irfs):
    """Tables of an observation, HDUs of IRFs, and where those are that are linked."""
    # errors name the key that is missing; what is read is not kept
    observation = copy.copy(observation)
    load_events_file(observation)
    events = _make_events_hdu(observation)
    tables = [events, _make_gti_hdu(observation.gti, events.header)]
    irfs, links = [], {}
    for name in IRF_NAMES:
        location = get_hdu(observation, name)
        if isinstance(location, HDULocation) and not copy_irfs:
            links[name] = location
        elif location is not None:
            irfs.append(_make_irf_hdu(observation, name, events.header))
    return tables, irfs, links


def _join_hdus(tables, irfs):
    """Content of a file."""
    parts = [*(_.to_bytes() for _ in tables), *map(to_hdu_bytes, irfs)]
    return b"".join([make_primary_bytes(), *parts])


def _make_events_hdu(observation):
    if get_hdu(observation, "events") is None:
        raise ValueError(f"OBS_ID {observation.obs_id} has no events to write.")
    events, gti = observation.events, get_gti(observation)
    header = events.table.meta
    header = header | derive_header(header, gti, get_livetime_fraction(observation))
    columns = dict(events.table.columns)
    for name in ("RA", "DEC"):
        # FITS has no unit such as hourangle
        columns[name] = Column(read_column(events.table, name, "deg"), unit="deg")
    del columns["TIME"]
    columns["TIME"] = _make_times(events.time, get_time_ref(header))
    _set_name(header, "EVENTS")
    # Gammapy writes its own name, but reads the background by the one that was there:
    # that of old H.E.S.S. files is mirrored
    optional = {key: header[key] for key in ALIGNMENT_KEYS if key in header}
    optional |= observation.meta.optional or {}
    header |= _make_creation_keys(events.meta)
    header |= {key: optional[key] for key in ALIGNMENT_KEYS if key in optional}
    header["OBS_ID"] = get_obs_id(observation)
    pointing = observation.pointing.to_fits_header()
    # Gammapy knows two modes, the header of the events may tell more, such as WOBBLE
    header |= {key: pointing[key] for key in pointing if key != "OBS_MODE"}
    header.setdefault("OBS_MODE", pointing["OBS_MODE"])
    return TableHDU("EVENTS", Table(columns, copy=False), select_known(header))


def _make_gti_hdu(gti, events_header):
    header = _make_creation_keys(EventListMetaData())
    header |= time_ref_to_dict(gti.time_ref, scale=gti.time_ref.scale)
    _set_name(header, "GTI")
    # it is rounded to 1e-7 s
    if abs(get_seconds(gti.time_ref, get_time_ref(events_header))) < 1e-6:
        header |= {key: events_header[key] for key in TIME_KEYS}
    header |= {"HDUCLASS": "GADF", "HDUVERS": "0.3", "HDUCLAS1": "GTI", "TIMEUNIT": "s"}
    times = {"START": gti.time_start, "STOP": gti.time_stop}
    columns = {name: _make_times(_, gti.time_ref) for name, _ in times.items()}
    return TableHDU("GTI", Table(columns, copy=False), header)


def _make_creation_keys(meta):
    """Make the keys that Gammapy writes of the metadata of events, as of now."""
    # its times take longer than all other cards
    now = datetime.now(UTC).replace(tzinfo=None)
    keys = {
        "EV_CLASS": meta.event_class,
        "CREATOR": meta.creation.creator if meta.creation else GAMMAPY,
        "CREATED": now.isoformat(sep=" ", timespec="milliseconds"),
        "ORIGIN": meta.creation.origin if meta.creation else None,
    }
    return {key: value for key, value in keys.items() if value is not None}


def _set_name(header, name):
    header["EXTNAME"] = name if "EXTNAME" in header else (name, "extension name")


def _make_times(time, reference):
    return Column(get_exact_seconds(time, reference), unit="s")


def _make_irf_hdu(observation, name, header):
    """HDU of an IRF: a copy of that on disk, with Gammapy's standard name, or new."""
    location = get_hdu(observation, name)
    if isinstance(location, HDULocation):
        with open_fits(location.path()) as hdu_list:
            hdu = hdu_list[location.hdu_name].copy()
            hdu.data  # noqa: B018, read it while the file is open
        hdu.name = IRF_DL3_HDU_SPECIFICATION[location.hdu_class]["extname"]
        # some archives leave out its prefix, and tell the class in the index alone
        hdu.header["HDUCLAS4"] = location.hdu_class.upper()
        return hdu
    irf = getattr(observation, name)
    if not hasattr(irf, "to_table_hdu"):
        raise ValueError(
            f"The {name} of OBS_ID {observation.obs_id} is a {type(irf).__name__}, "
            "which the DL3 format does not know."
        )
    if name == "bkg":
        irf = _to_gadf_alignment(irf, header)
    return irf.to_table_hdu()


def _to_gadf_alignment(bkg, header):
    """Turn the background such that Gammapy reads it back with the same sense."""
    is_reversed = bkg.fov_alignment is FoVAlignment.REVERSE_LON_RADEC
    reads_reversed = _reads_reversed(header)
    if bkg.has_offset_axis or not (is_reversed or reads_reversed):
        return bkg
    if bkg.fov_alignment is FoVAlignment.ALTAZ:
        raise ValueError(
            "Gammapy takes the background of observations with CREATOR "
            f"{header['CREATOR']!r} and HDUVERS '0.2' as aligned with RADEC, it cannot "
            "be aligned with ALTAZ."
        )
    axes, data = list(bkg.axes), bkg.data
    options = {"neff": bkg.neff} if hasattr(bkg, "neff") else {}
    if is_reversed != reads_reversed:
        idx = bkg.axes.index("fov_lon")
        axes[idx] = MapAxis.from_edges(
            -axes[idx].edges[::-1], name="fov_lon", interp=axes[idx].interp
        )
        data = np.flip(data, axis=idx)
        options = {key: np.flip(value, axis=idx) for key, value in options.items()}
    return type(bkg)(
        axes=axes,
        data=data,
        unit=bkg.unit,
        meta=copy.deepcopy(bkg.meta),
        is_pointlike=bkg.is_pointlike,
        fov_alignment=FoVAlignment.RADEC,
        **options,
    )


def _reads_reversed(header):
    """Whether `gammapy.data.Observation` reverses the background that it reads."""
    creator, version = header.get("CREATOR"), header.get("HDUVERS")
    return creator == "SASH FITS::EventListWriter" and version == "0.2"


def _index_written(obs_id, file_name, hdus):
    """Rows of the HDU index for the HDUs of a file."""
    for hdu in hdus:
        hdu_class = {"EVENTS": "events", "GTI": "gti"}.get(hdu.name)
        if hdu_class is None:
            hdu_class = hdu.header["HDUCLAS4"].lower()
        yield {
            "OBS_ID": obs_id,
            "HDU_TYPE": "rad_max"
            if "rad_max" in hdu_class
            else hdu_class.split("_")[0],
            "HDU_CLASS": hdu_class,
            "FILE_DIR": DATA_DIR,
            "FILE_NAME": file_name,
            "HDU_NAME": hdu.name,
        }


def _index_links(obs_id, locations, path):
    """Rows of the index of a store at a path for HDUs of other files, by their type."""
    places = {}
    for name, location in locations.items():
        key = location.path(), location.base_dir
        # nearly always of one file, and links of the file system take time to follow
        if key not in places:
            places[key] = _find_place(obs_id, *key, path)
        link, file_dir, file_name = places[key]
        yield {
            "LINK": link,
            "OBS_ID": obs_id,
            "HDU_TYPE": name,
            "HDU_CLASS": location.hdu_class,
            "FILE_DIR": file_dir,
            "FILE_NAME": file_name,
            "HDU_NAME": location.hdu_name,
        }


def _find_place(obs_id, file, base_dir, path):
    """Folder that a store at a path links to, and where a file is from there."""
    source, root = file.resolve(), make_path(base_dir).resolve()
    if source.is_relative_to(path):
        raise ValueError(
            f"The IRFs of OBS_ID {obs_id} are in {path}, which is to be replaced. "
            "Write to another folder."
        )
    link = root if source.is_relative_to(root) else source.parent
    return str(link), os.path.relpath(source.parent, path), source.name


def _make_hdu_table(rows, path):
    """HDU index of a store at a path, with the folders that it links to."""
    links = {row["LINK"] for row in rows if "LINK" in row}
    rows = [{key: row[key] for key in row if key != "LINK"} for row in rows]
    table = HDUIndexTable(rows=rows)
    table.meta.update(make_link_keys(links, path))
    table.meta.update(INDEX_HEADER, HDUCLAS2="HDU", EXTNAME="HDU_INDEX")
    table.meta["CREATOR"] = f"{CREATOR} {__version__}"
    return table


def write_background(
    datastore,
    path,
    templates,
    labels=None,
    overwrite=False,
    groups=None,
    others=None,
):
    """Write a datastore whose observations have other backgrounds.

    Only the backgrounds are written, one file each, and one for each dead time that
    the observations of a template have: a template that tells its own (DEADC) is
    converted. The index points at the original files for all else, by relative path.
    Written like `write_datastore`.

    Parameters
    ----------
    datastore : `~gammapy.data.DataStore`
        Datastore. Observations without a background are left out.
    path : str or `~pathlib.Path`
        Folder of the new store.
    templates : dict of `~gammapy.irf.BackgroundIRF`
        Backgrounds by label.
    labels : dict, optional
        Label by OBS_ID. Default is that the labels are the OBS_IDs.
    overwrite : bool, optional
        Whether to replace a store that this package wrote. Default is False.
    groups : `~astropy.table.Table`, optional
        Groups of observations, whose GROUP_ID are the labels, see
        `~gammapy_mimic.template.make_group_table`. It is written as ``groups.fits``,
        with a column FILE: the template as it is, of a group without observations, too.
        The observation table has a column GROUP_ID then. Default is None.
    others : dict of `~gammapy.irf.BackgroundIRF`, optional
        Backgrounds by the names of files that are written beside, and that no
        observation has. Default is none.

    Raises
    ------
    ValueError
        If there are no backgrounds, a label has none, or a row of the index leads out
        of the datastore.
    FileExistsError
        If the folder has content and may not be replaced.
    """
    check_links(datastore)
    labels = {obs_id: obs_id for obs_id in templates} if labels is None else labels
    missing = sorted({str(_) for _ in labels.values() if _ not in templates})
    if missing or not labels:
        raise ValueError(f"There is no template for {missing or 'any observation'}.")
    path = _resolve(path)
    with _replace_datastore(path, overwrite) as folder:
        for name, irf in (others or {}).items():
            irf.to_hdulist().writeto(folder / DATA_DIR / f"{name}.fits")
        writer = _BackgroundWriter(folder / DATA_DIR, templates)
        if groups is not None:
            _write_groups(groups, writer, folder / GROUPS_FILE)
        rows = []
        for obs_id, label in track(labels.items(), "Write backgrounds"):
            observation = datastore.obs(obs_id, required_irf="all-optional")
            names = [_ for _ in ("events", "gti", *IRF_NAMES) if _ != "bkg"]
            parts = {name: get_hdu(observation, name) for name in names}
            links = {name: _ for name, _ in parts.items() if _ is not None}
            rows += _index_links(obs_id, links, path)
            location = links["events"]
            header = read_fits_header(location.path(), location.hdu_name)
            fraction = get_livetime_fraction(observation)
            rows += _index_written(obs_id, *writer.write(label, fraction, header))
        _make_hdu_table(rows, path).write(folder / DataStore.DEFAULT_HDU_TABLE)
        obs_table = datastore.obs_table
        obs_table = obs_table[np.isin(obs_table["OBS_ID"], list(labels))]
        if groups is not None:
            obs_table["GROUP_ID"] = [labels[_] for _ in obs_table["OBS_ID"].tolist()]
        obs_table.write(folder / DataStore.DEFAULT_OBS_TABLE)


class _BackgroundWriter:
    """Writer of the files of templates, one for each way in which one is needed."""

    def __init__(self, folder, templates):
        self.folder = folder
        self.templates = templates
        self._written = {}

    def write(self, label, livetime_fraction=None, header=None):
        """Write a template for an observation, or as it is. File name and HDUs."""
        template, header = self.templates[label], header or {}
        if livetime_fraction is None:
            livetime_fraction = (template.meta or {}).get("DEADC", 1)
        # what depends on the offset alone reads the same mirrored
        is_mirrored = not template.has_offset_axis and _reads_reversed(header)
        key = label, is_mirrored, round(livetime_fraction, 9)
        if key not in self._written:
            irf = convert_dead_time(template, livetime_fraction)
            irf = _to_gadf_alignment(irf, header)
            number = sum(_[0] == label for _ in self._written)
            suffix = f"_{number}" if number else ""
            file_name = f"background_{label}{suffix}.fits"
            hdu_list = irf.to_hdulist()
            hdu_list.writeto(self.folder / file_name)
            self._written[key] = file_name, hdu_list[1:]
        return self._written[key]


def _write_groups(groups, writer, path):
    """Write the table of the groups, and the templates of all of them."""
    groups = groups.copy()
    labels = groups["GROUP_ID"].tolist()
    files = {label: writer.write(label)[0] for label in writer.templates}
    groups["FILE"] = [f"{DATA_DIR}/{files[_]}" if _ in files else "" for _ in labels]
    groups.meta |= {"EXTNAME": "GROUPS", "CREATOR": f"{CREATOR} {__version__}"}
    groups.write(path)


def open_datastore(path, links=()):
    """Open a DL3 datastore that has observations and their index.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Folder of the store.
    links : list of str or `~pathlib.Path`, optional
        Other folders that its index may lead to, see
        `~gammapy_mimic.data.files.check_links`. Default is none.

    Returns
    -------
    datastore : `~gammapy.data.DataStore`
        Datastore.

    Raises
    ------
    OSError
        If there is no store, it is empty, it has no observation index, or an index
        cannot be read to the end.
    ValueError
        If an index lacks a column, an OBS_ID is not valid, or a row leads elsewhere.
    """
    path = make_path(path)
    if not path.is_dir():
        raise OSError(
            f"There is no datastore in {path}, not a folder.{explain_unset(path)}"
        )
    if not (path / DataStore.DEFAULT_HDU_TABLE).is_file():
        raise OSError(
            f"The folder {path} has no {DataStore.DEFAULT_HDU_TABLE}. Make a datastore "
            "of single files in Python: gammapy_mimic.data.write_datastore("
            "DataStore.from_events_files(paths).get_observations(required_irf=[]), "
            "folder)."
        )
    for name in (DataStore.DEFAULT_HDU_TABLE, DataStore.DEFAULT_OBS_TABLE):
        _check_readable(path / name)
    try:
        datastore = DataStore.from_dir(path)
    # without a column that Gammapy needs
    except KeyError as error:
        text = f"An index table in {path} has no column {error}. See the GADF format."
        raise ValueError(text) from None
    if len(datastore.hdu_table) == 0:
        raise OSError(f"The datastore in {path} is empty.")
    if datastore.obs_table is None:
        raise OSError(
            f"The datastore in {path} has no {DataStore.DEFAULT_OBS_TABLE}, which is "
            "needed to match observations."
        )
    # some archives write OBS_ID as text, which Gammapy would compare with integers
    for table in (datastore.hdu_table, datastore.obs_table):
        if "OBS_ID" not in table.colnames:
            text = f"An index table in {path} has no column 'OBS_ID'."
            raise ValueError(f"{text} See the GADF format.")
        try:
            obs_ids = to_obs_ids(table["OBS_ID"])
        except ValueError as error:
            raise ValueError(f"The index tables in {path}: {error}") from None
        if table["OBS_ID"].dtype.kind != "i":
            table["OBS_ID"] = obs_ids
    set_links(datastore, links)
    check_links(datastore)
    return datastore


def _check_readable(path):
    """Raise an error if an index table is cut, of which Gammapy would read a part."""
    check_regular(path)
    if not path.exists():
        return
    try:
        with open_fits(path) as hdu_list:
            # astropy reads data when they are asked for
            hdu_list[1].data  # noqa: B018
    # a damaged file makes astropy raise nearly anything
    except Exception as error:
        raise OSError(
            f"{path} cannot be read: {describe_error(error)}. Copy it again."
        ) from error


def select_datastore(datastore, obs_ids):
    """Select observations of a datastore.

    Parameters
    ----------
    datastore : `~gammapy.data.DataStore`
        Datastore.
    obs_ids : list of int
        Observation IDs.

    Returns
    -------
    datastore : `~gammapy.data.DataStore`
        Datastore with the rows of these observations.
    """
    obs_ids, tables = to_obs_ids(obs_ids), (datastore.hdu_table, datastore.obs_table)
    return DataStore(*(_[np.isin(to_obs_ids(_["OBS_ID"]), obs_ids)] for _ in tables))


def find_hdu_types(datastore):
    """Find which HDUs the index of a datastore has of each observation.

    Parameters
    ----------
    datastore : `~gammapy.data.DataStore`
        Datastore.

    Returns
    -------
    types : dict of set of str
        Types such as "events", "aeff" and "bkg", by OBS_ID.
    """
    table, types = datastore.hdu_table, {}
    names = np.char.strip(to_str(np.asarray(table["HDU_TYPE"]))).tolist()
    for obs_id, name in zip(to_obs_ids(table["OBS_ID"]).tolist(), names, strict=True):
        types.setdefault(obs_id, set()).add(name)
    return types


def find_broken_files(datastore, obs_ids, n_jobs=None):
    """Find the observations that cannot be read to the end, or have no valid events.

    Parameters
    ----------
    datastore : `~gammapy.data.DataStore`
        Datastore.
    obs_ids : list of int
        Observation IDs.
    n_jobs : int, optional
        Number of processes. Default is that of `gammapy.utils.parallel`, 1.

    Returns
    -------
    broken : dict of str
        Reasons by OBS_ID, with the way out, empty if all is well.
    """
    table, obs_ids = datastore.hdu_table, to_obs_ids(obs_ids).tolist()
    sources, _, broken = find_sources(datastore)
    broken = {_: broken.get(_, "not in the HDU index") for _ in obs_ids}
    broken = {_: reason for _, reason in broken.items() if _ not in sources}
    table_ids = to_obs_ids(table["OBS_ID"])
    # a file may hold several observations, and is opened once
    files = {}
    for idx in np.flatnonzero(np.isin(table_ids, obs_ids)):
        location = table.location_info(idx)
        if not has_hdu(location):
            continue
        names, ids = files.setdefault(location.path(), ([], set()))
        names.append(location.hdu_name)
        ids.add(int(table_ids[idx]))
    tasks = [
        (path, names, [sources[_] for _ in sorted(ids & set(sources))])
        for path, (names, ids) in files.items()
    ]
    for faults in run_parallel(_find_faults, tasks, n_jobs, task_name="Check files"):
        broken |= faults
    return {obs_id: add_way_out(broken[obs_id]) for obs_id in sorted(broken)}


def _find_faults(path, hdu_names, sources):
    """Read HDUs of a file, and check the observations in it. Reasons by OBS_ID."""
    faults = {}
    try:
        # astropy does no more than warn of a file that is cut
        with (
            warnings.catch_warnings(category=AstropyUserWarning, action="error"),
            open_fits(path) as hdu_list,
        ):
            for name in hdu_names:
                # astropy reads data when they are asked for
                hdu_list[name].data  # noqa: B018
            for source in sources:
                if source.events.path != str(path):
                    continue
                try:
                    read_events(source, hdu_list)[0].check_any()
                except ValueError as error:
                    faults[source.obs_id] = describe_error(error, source.events.path)
    except (OSError, EOFError, KeyError, TypeError, ValueError, zlib.error) as error:
        return {source.obs_id: describe_error(error, path) for source in sources}
    return faults
