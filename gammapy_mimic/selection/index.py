"""The binned events of an archive of observations, in one small file.

Comparing one observation with thousands of others needs their counts in bins of energy
and offset, and the conditions they were taken under. `OffIndex` keeps both, so that
every file of the archive is read only once.
"""

import contextlib
import functools
import hashlib
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from astropy.io import fits
from astropy.table import Table
from gammapy.data import ObservationTable
from gammapy.maps import MapAxis
from gammapy.utils.scripts import make_path
from regions import Regions, SkyRegion

from ..data.checks import add_way_out
from ..data.files import open_fits
from ..data.irfs import interpolate_area
from ..data.obs_ids import get_obs_id, to_obs_ids
from ..data.observation import PoolLike, describe_error, to_pool
from ..data.readers import (
    NO_FILE,
    find_sources,
    get_conditions,
    get_file_version,
    get_good_time,
    read_file,
    read_held,
)
from ..exclusion.sky_regions import regions_to_text
from ..utils.files import check_own, replace_file
from ..utils.parallel import run_parallel
from ..utils.random import draw_halves
from ..version import __version__
from .binning import FoVBinning
from .conditions import Conditions
from .cuts import get_ontime
from .index_table import (
    FILE_COLUMNS,
    add_columns,
    has_unknown,
    make_broken_table,
    make_index_table,
    report_broken,
    to_native,
    to_plain_table,
)
from .shards import check_shards, merge_tables, parse_shard, take_shard

__all__ = ["OffIndex"]

CREATOR = "gammapy-mimic"
INDEX_VERSION = 6
ARRAYS = {
    "counts": np.int32,
    "half_counts": np.int32,
    "fraction": np.float64,
    # equal, whether it was rounded on its way to a file and back or not
    "aeff": np.float32,
}
"""Arrays with a row for each observation, and their types."""

TIME_COLUMNS = ("ONTIME", "LIVETIME", "GOOD_TIME")


class OffIndex:
    """The binned events and the conditions of many observations.

    See `create`, `read` and `update` to get one. The rows are sorted by OBS_ID.

    Parameters
    ----------
    table : `~gammapy.data.ObservationTable`
        Observation table with ``ENERGY_MIN``, ``ENERGY_MAX``, ``EVENT_COUNT``,
        ``GOOD_TIME`` (sum of the GTI), ``FILE_SIZE``, ``FILE_TIME`` and ``FILE_HDUS``.
    counts : `~numpy.ndarray` of int
        Counts outside the exclusion regions. Shape (n_obs, n_energy, n_offset).
    fraction : `~numpy.ndarray` of float
        Part of the solid angle of each ring of offset that is outside the exclusion
        regions. Shape (n_obs, n_offset).
    binning : `FoVBinning`
        Bins and exclusion regions.
    broken : `~astropy.table.Table`, optional
        ``OBS_ID`` and ``REASON`` of the observations that cannot be used.
    aeff : `~numpy.ndarray` of float, optional
        Effective area in m2 at the centre of the energy bins, see
        `~gammapy_mimic.data.irfs.interpolate_area`, NaN where it is not known. Shape
        (n_obs, n_energy). Default is not known.
    half_counts : `~numpy.ndarray` of int, optional
        Counts of half of the events, see `~gammapy_mimic.utils.random.draw_halves`, of
        the shape of ``counts``. Default is -1, not known.
    archive : `~numpy.ndarray` of int, optional
        All OBS_IDs of the archive that this is a shard of, see `create`. Default is
        None, for an index that is complete.

    Examples
    --------
    >>> index = OffIndex.create(data_store, n_jobs=4)  # doctest: +SKIP
    >>> index.write("off-index.fits")  # doctest: +SKIP
    >>> index = OffIndex.read("off-index.fits").update(data_store)  # doctest: +SKIP
    """

    def __init__(
        self,
        table: ObservationTable,
        counts: np.ndarray,
        fraction: np.ndarray,
        binning: FoVBinning,
        broken: Table | None = None,
        aeff: np.ndarray | None = None,
        half_counts: np.ndarray | None = None,
        archive: np.ndarray | None = None,
    ) -> None:
        self.table, self.archive = table, archive
        if aeff is None:
            aeff = np.full(counts.shape[:2], np.nan, dtype=np.float32)
        if half_counts is None:
            half_counts = np.full_like(counts, -1)
        self.counts, self.fraction, self.aeff, self.half_counts = (
            _.view() for _ in (counts, fraction, aeff, half_counts)
        )
        # the checksum, and whoever keeps it, relies on them
        for array in self._arrays:
            array.setflags(write=False)
        self.binning = binning
        self.broken = make_broken_table({}) if broken is None else broken

    @classmethod
    def create(
        cls,
        observations: PoolLike,
        energy_axis: MapAxis | None = None,
        offset_axis: MapAxis | None = None,
        exclusion_regions: Iterable[SkyRegion] = (),
        n_jobs: int | None = None,
        parallel_backend: str | None = None,
        shard: str | tuple[int, int] | None = None,
    ) -> Self:
        """Read the events of all observations and count them.

        The result does not depend on the order of the observations, the number of jobs
        or the backend. Of a file only the events and the effective area are read, in
        one go; `~gammapy_mimic.data.find_broken_files` finds damage in the rest of it.

        Parameters
        ----------
        observations : `~gammapy.data.DataStore`, `~gammapy.data.Observations` or list
            Observations. Those that are in memory, or have an ``obs_filter``, are
            counted in this process.
        energy_axis : `~gammapy.maps.MapAxis`, optional
            Axis of the name "energy". Default is `ENERGY_AXIS`.
        offset_axis : `~gammapy.maps.MapAxis`, optional
            Axis of the name "offset". Default is `OFFSET_AXIS`.
        exclusion_regions : list of `~regions.SkyRegion`, optional
            Sources in any of the fields. Default is none.
        n_jobs : int, optional
            Number of processes. Default is that of `gammapy.utils.parallel`, 1.
        parallel_backend : {"multiprocessing", "ray"}, optional
            Backend. Default is that of `gammapy.utils.parallel`.
        shard : str or tuple of int, optional
            Part of the observations to read, such as ``"3/100"``, the third of 100
            that `merge` makes an index of. Default is to read all.

        Returns
        -------
        index : `OffIndex`
            Index. Observations that cannot be used are in ``broken``, with a warning.

        Raises
        ------
        TypeError, ValueError
            If an argument is not valid, an OBS_ID is there twice, or there is no
            observation that can be used.
        """
        if shard is not None:
            parse_shard(shard)
        binning = FoVBinning.create(energy_axis, offset_axis, exclusion_regions)
        table = ObservationTable()
        table["OBS_ID"] = np.zeros(0, dtype=int)
        add_columns(table, [], [])
        n_energy, n_offset = binning.shape
        counts = np.zeros((0, n_energy, n_offset), dtype=np.int32)
        empty = cls(table, counts, np.zeros((0, n_offset)), binning)
        return empty._update(observations, n_jobs, parallel_backend, shard)

    @classmethod
    def merge(cls, shards: Iterable["OffIndex | str | Path"]) -> Self:
        """Merge the shards of an index.

        Parameters
        ----------
        shards : list of `OffIndex`, str or `~pathlib.Path`
            Shards of one archive, or their files, in any order.

        Returns
        -------
        index : `OffIndex`
            The same as `create` gives without ``shard``.

        Raises
        ------
        ValueError
            If they are not all shards of one archive, each once. Names the OBS_IDs
            that are in two of them, or in none.
        """
        named: dict[str, Any] = {}
        for number, shard in enumerate(shards, start=1):
            # numbered, as the same file may be given twice
            if isinstance(shard, OffIndex):
                named[f"shard {number}"] = shard
            else:
                named[f"{shard} (number {number})"] = cls.read(shard)
        if not named:
            raise ValueError("There are no shards to merge.")
        check_shards(named)
        parts = [*named.values()]
        broken = dict(row for _ in parts for row in _.broken.iterrows())
        report_broken(broken, len(parts[0].archive))
        table = merge_tables([_.table for _ in parts])
        order = np.argsort(table["OBS_ID"])
        arrays = {
            name: np.concatenate([getattr(_, name) for _ in parts])[order]
            for name in ARRAYS
        }
        return cls(
            table[order],
            binning=parts[0].binning,
            broken=make_broken_table(broken),
            **arrays,
        )

    def update(
        self,
        observations: PoolLike,
        n_jobs: int | None = None,
        parallel_backend: str | None = None,
    ) -> Self:
        """Make the index of these observations, reading only what is not known yet.

        An observation is known if it is in this index and the size and time of its
        files have not changed. One in memory never is. The conditions are always those
        of the given observations. Where their table tells more time than the GTI have,
        ONTIME is that of the GTI, and LIVETIME follows from it, with a warning.

        Parameters
        ----------
        observations : `~gammapy.data.DataStore`, `~gammapy.data.Observations` or list
            All observations of the new index, not only the added ones.
        n_jobs, parallel_backend
            As for `create`.

        Returns
        -------
        index : `OffIndex`
            The same as `create` gives with this binning.

        Raises
        ------
        TypeError, ValueError
            As for `create`.
        """
        return self._update(observations, n_jobs, parallel_backend)

    def _update(self, observations, n_jobs, parallel_backend, shard=None):
        observations = to_pool(observations, "observations")
        sources, archive = find_sources(observations), None
        if shard is not None:
            archive = np.unique([obs_id for _ in sources for obs_id in _])
            own = {*take_shard(archive, shard).tolist()}
            sources = [{i: _[i] for i in sorted(own & _.keys())} for _ in sources]
        files, held, broken = sources
        # before they are read: a file that changes meanwhile is read again next time
        versions = {obs_id: get_file_version(_) for obs_id, _ in files.items()}
        rows = self._get_known_rows(versions)
        obs_table = getattr(observations, "obs_table", None)
        with_header = has_unknown(obs_table)
        new = {obs_id: _ for obs_id, _ in files.items() if obs_id not in rows}
        # what is in memory is counted in less time than it takes to send it
        for sources, is_file, processes in ((new, True, n_jobs), (held, False, 1)):
            tasks = [(_, is_file, self.binning, with_header) for _ in sources.values()]
            options = processes, parallel_backend, "Index observations"
            results = run_parallel(_count_source, tasks, *options)
            for obs_id, (row, reason) in zip(sources, results, strict=True):
                if row is None:
                    broken[obs_id] = reason
                else:
                    rows[obs_id] = row

        broken = {obs_id: add_way_out(reason) for obs_id, reason in broken.items()}
        report_broken(broken, len(rows) + len(broken), is_shard=shard is not None)
        # `select` searches, and the checksum must not depend on the order of the pool
        rows = dict(sorted(rows.items()))
        table = make_index_table(obs_table, rows, files)
        versions = [versions.get(obs_id, NO_FILE) for obs_id in rows]
        add_columns(table, rows.values(), versions)
        arrays = {
            name: np.array([getattr(_, name) for _ in rows.values()], dtype=dtype)
            for name, dtype in ARRAYS.items()
        }
        for name, known in zip(ARRAYS, self._arrays, strict=True):
            # also if there are no rows
            arrays[name] = arrays[name].reshape(-1, *known.shape[1:])
        return type(self)(
            table=table,
            binning=self.binning,
            broken=make_broken_table(broken),
            archive=archive,
            **arrays,
        )

    def find_changed(self, observations: PoolLike) -> list[int]:
        """Find the observations whose files have changed since they were counted.

        Parameters
        ----------
        observations : `~gammapy.data.DataStore` or `~gammapy.data.Observations`
            Observations. Those that are in memory are taken as they are.

        Returns
        -------
        obs_ids : list of int
            Observation IDs, of those in this index. `update` reads them again.
        """
        files, _, _ = find_sources(observations)
        known = self._get_file_versions()
        now = {i: get_file_version(files[i]) for i in known if i in files}
        # a file that is gone, or an archive that is not there, has not changed
        return [i for i, version in now.items() if version not in (NO_FILE, known[i])]

    def _get_file_versions(self):
        """Versions of the files when they were counted, by OBS_ID."""
        columns = [self.table[name].tolist() for name in FILE_COLUMNS]
        rows = zip(self.obs_ids.tolist(), zip(*columns, strict=True), strict=True)
        return {obs_id: version for obs_id, version in rows if version != NO_FILE}

    def _get_known_rows(self, versions):
        """Rows of the files that have not changed, by OBS_ID."""
        names = ("ENERGY_MIN", "ENERGY_MAX", "EVENT_COUNT", "GOOD_TIME")
        low, high, n_events, good_time = (self.table[name] for name in names)
        energy_ranges = zip(low, high, strict=True)
        rows = map(_Row, *self._arrays, energy_ranges, n_events, good_time)
        rows = dict(zip(self.obs_ids.tolist(), rows, strict=True))
        known = self._get_file_versions().items()
        return {i: rows[i] for i, version in known if versions.get(i) == version}

    @property
    def _arrays(self):
        """All that is kept of the observations in bins, with a row for each."""
        return tuple(getattr(self, name) for name in ARRAYS)

    @property
    def obs_ids(self) -> np.ndarray:
        """Observation IDs, rising (`~numpy.ndarray`)."""
        return np.asarray(self.table["OBS_ID"])

    @property
    def energy_axis(self) -> MapAxis:
        """Energy axis in TeV (`~gammapy.maps.MapAxis`)."""
        return self.binning.energy_axis

    @property
    def offset_axis(self) -> MapAxis:
        """Offset axis in deg (`~gammapy.maps.MapAxis`)."""
        return self.binning.offset_axis

    @property
    def exclusion_regions(self) -> list[SkyRegion]:
        """Exclusion regions (list of `~regions.SkyRegion`)."""
        return self.binning.exclusion_regions

    @functools.cached_property
    def ontime(self) -> np.ndarray:
        """Good time in s, NaN where it is not known (`~numpy.ndarray`)."""
        return get_ontime(self.table)

    @functools.cached_property
    def ring_counts(self) -> np.ndarray:
        """Counts of all energies. Shape (n_obs, n_offset)."""
        return self.counts.sum(axis=1)

    @functools.cached_property
    def ring_total(self) -> np.ndarray:
        """Counts of all energies and observations. Shape (n_offset,)."""
        return self.ring_counts.sum(axis=0)

    @functools.cached_property
    def conditions(self) -> Conditions:
        """Conditions of the observations (`Conditions`)."""
        return Conditions.from_obs_table(self.table, self.aeff)

    @property
    def checksum(self) -> str:
        """Hash of bins, regions, counts, effective area and observation table (str).

        It does not depend on where the files are and when they were written, nor on
        the order of columns. That of a shard depends on what it is a shard of.
        """
        digest = hashlib.sha256(regions_to_text(self.exclusion_regions).encode())
        names = sorted(set(self.table.colnames) - set(FILE_COLUMNS))
        columns = [self.table[name] for name in names]
        binning = self.binning.energy_edges, self.binning.offset_edges
        archive = [] if self.archive is None else [self.archive]
        for values in (names, *binning, *self._arrays, *columns, *archive):
            values = np.asarray(values)
            if values.dtype.kind == "U":
                # the width of a column of text depends on its longest
                digest.update("\0".join(values.ravel()).encode())
            else:
                # the byte order depends on the machine
                values = values.astype(values.dtype.newbyteorder("<"), order="C")
                digest.update(values.tobytes())
        return digest.hexdigest()

    def is_same(self, other: "OffIndex") -> bool:
        """Whether another index is the same, of files that have not changed.

        Parameters
        ----------
        other : `OffIndex`
            Index.

        Returns
        -------
        is_same : bool
            Whether writing it would make the same file.
        """
        tables = [
            [index.table[_].tolist() for _ in FILE_COLUMNS]
            + [index.broken[_].tolist() for _ in index.broken.colnames]
            for index in (self, other)
        ]
        return tables[0] == tables[1] and self.checksum == other.checksum

    def __len__(self):
        return len(self.table)

    def __str__(self):
        energy, offset = self.binning.energy_edges, self.binning.offset_edges
        return (
            f"{type(self).__name__}\n\n"
            f"  observations      : {len(self)}\n"
            f"  broken            : {len(self.broken)}\n"
            f"  events            : {self.counts.sum()}\n"
            f"  energy            : {len(energy) - 1} bins, "
            f"{energy[0]:.3g} to {energy[-1]:.3g} TeV\n"
            f"  offset            : {len(offset) - 1} bins, "
            f"{offset[0]:.3g} to {offset[-1]:.3g} deg\n"
            f"  exclusion regions : {len(self.exclusion_regions)}\n"
        )

    def select(self, obs_ids: Iterable[int]) -> Self:
        """Select observations.

        Parameters
        ----------
        obs_ids : list of int
            Observation IDs, in any order.

        Returns
        -------
        index : `OffIndex`
            Their rows, sorted by OBS_ID.

        Raises
        ------
        ValueError
            If one is not in the index, or none is given.
        """
        obs_ids = np.unique(to_obs_ids(obs_ids))
        if len(obs_ids) == 0:
            raise ValueError("There are no observations to select.")
        missing = np.setdiff1d(obs_ids, self.obs_ids)
        if len(missing):
            reasons = dict(self.broken.iterrows())
            reason = reasons.get(missing[0], "it was not among the observations.")
            raise ValueError(
                f"{len(missing)} of {len(obs_ids)} observations are not in the index: "
                f"OBS_ID {missing[0]}: {reason}"
            )
        rows = np.searchsorted(self.obs_ids, obs_ids)
        index = type(self)(
            self.table[rows],
            self.counts[rows],
            self.fraction[rows],
            self.binning,
            # one for each of many targets
            broken=self.broken[:0],
            aeff=self.aeff[rows],
            half_counts=self.half_counts[rows],
        )
        if "conditions" in self.__dict__:
            # to read them again takes longer, for each of many targets
            index.conditions = self.conditions[rows]
        return index

    def get_half(self, half: int) -> Self:
        """Get the index of half of the events of each observation, and half its time.

        Parameters
        ----------
        half : {0, 1}
            Half, see `~gammapy_mimic.utils.random.draw_halves`.

        Returns
        -------
        index : `OffIndex`
            Index of all observations. That halves of it are not known.

        Raises
        ------
        ValueError
            If the counts of halves are not known.
        """
        if np.any(self.half_counts < 0):
            raise ValueError(
                "The index does not know the counts of half of the events. Make it "
                "with OffIndex.create."
            )
        return self._halves[half]

    @functools.cached_property
    def _halves(self):
        """Indices of both halves, which keep their conditions for many targets."""
        table = self.table.copy()
        for name in TIME_COLUMNS:
            if name in table.colnames:
                table[name] = table[name] / 2
        return [
            type(self)(table, counts, self.fraction, self.binning, aeff=self.aeff)
            for counts in (self.half_counts, self.counts - self.half_counts)
        ]

    def write(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the index to a FITS file, complete or not at all.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            File.
        overwrite : bool, optional
            Whether to replace an existing index. Default is False.

        Raises
        ------
        FileExistsError
            If the file exists and may not be replaced, see `check_own`.
        """
        if overwrite:
            self.check_own(path)
        primary = fits.PrimaryHDU()
        primary.header["CREATOR"] = f"{CREATOR} {__version__}"
        primary.header["IDX_VERS"] = INDEX_VERSION, "version of the format"
        primary.header["IDX_HASH"] = self.checksum
        arrays = {name.upper(): getattr(self, name) for name in ARRAYS}
        arrays["ENERGY_EDGES"] = self.binning.energy_edges
        arrays["OFFSET_EDGES"] = self.binning.offset_edges
        regions = regions_to_text(self.exclusion_regions).splitlines()
        tables = {
            "OBS_INDEX": self.table,
            "EXCLUSION_REGIONS": Table([np.array(regions, dtype=str)], names=["DS9"]),
            "BROKEN": self.broken,
        }
        if self.archive is not None:
            tables["ARCHIVE"] = Table([self.archive], names=["OBS_ID"])
        hdus = [fits.ImageHDU(_, name=name) for name, _ in arrays.items()]
        hdus += [fits.BinTableHDU(_, name=name) for name, _ in tables.items()]
        with replace_file(path, overwrite) as temporary:
            fits.HDUList([primary, *hdus]).writeto(temporary)

    @staticmethod
    def check_own(path: str | Path) -> None:
        """Raise an error if a file is there that is not an index.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            File. One whose header says that it is an index may be replaced by another
            one, also if it is damaged or of another version.

        Raises
        ------
        FileExistsError
            If it is another kind of file, or a link.
        """
        path = make_path(path)
        check_own(path)
        if not path.exists():
            return
        try:
            with (
                warnings.catch_warnings(action="ignore"),
                open_fits(path) as hdu_list,
            ):
                header = hdu_list[0].header
        # a file of another kind makes astropy raise nearly anything
        except Exception:
            header = {}
        creator = str(header.get("CREATOR", ""))
        if "IDX_VERS" not in header or not creator.startswith(CREATOR):
            raise FileExistsError(
                f"{path} is not an index of observations and will not be replaced. "
                "Choose another name for the index, or remove the file yourself."
            )

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read an index.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            File.

        Returns
        -------
        index : `OffIndex`
            Index, equal to the one that was written.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is not an index of this version, or is damaged. It can be
            created anew.
        """
        path = make_path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no index of observations in {path}.")
        try:
            with open_fits(path) as hdu_list:
                return cls._from_hdu_list(hdu_list)
        # a damaged file makes astropy raise nearly anything
        except Exception as error:
            raise ValueError(
                f"{path} cannot be read as an index of observations: "
                f"{describe_error(error)}. Create it anew."
            ) from error

    @classmethod
    def _from_hdu_list(cls, hdu_list):
        """Make an index of what `write` wrote, an error if it is not that."""
        header = hdu_list[0].header
        if "IDX_VERS" not in header:
            raise ValueError("it is another kind of file")
        if header["IDX_VERS"] != INDEX_VERSION:
            raise ValueError(
                f"it has the version {header['IDX_VERS']} of the format, "
                f"this is version {INDEX_VERSION}"
            )
        names = ("ENERGY_EDGES", "OFFSET_EDGES", *map(str.upper, ARRAYS))
        energy_edges, offset_edges, *arrays = (_read_array(hdu_list[_]) for _ in names)
        table, text, broken = (
            # NaN and empty text are values here
            to_plain_table(Table.read(hdu_list[name], mask_invalid=False))
            for name in ("OBS_INDEX", "EXCLUSION_REGIONS", "BROKEN")
        )
        regions = Regions.parse("\n".join(text["DS9"]), format="ds9")
        binning = FoVBinning(energy_edges, offset_edges, regions)
        broken, arrays = Table(broken, meta={}), dict(zip(ARRAYS, arrays, strict=True))
        archive = None
        if "ARCHIVE" in hdu_list:
            archive = to_native(hdu_list["ARCHIVE"].data["OBS_ID"])
        index = cls(table, binning=binning, broken=broken, archive=archive, **arrays)
        if index.checksum != header["IDX_HASH"]:
            raise ValueError("its content does not fit its checksum")
        return index


# --------------------------------------------------------------------------- reading


def _read_array(hdu):
    """Read an image, also one without rows, which has no data in FITS."""
    if hdu.data is None:
        return np.zeros(hdu.shape, dtype=ARRAYS[hdu.name.lower()])
    return to_native(hdu.data)


class _Row(NamedTuple):
    counts: np.ndarray
    half_counts: np.ndarray
    fraction: np.ndarray
    aeff: np.ndarray
    energy_range: tuple[float, float]
    n_events: int
    good_time: float
    header: dict[str, Any] | None = None


def _count_source(source, is_file, binning, with_header):
    """Count the events of an observation: its row, or None and why it has none."""
    try:
        read = read_file if is_file else read_held
        events, pointing, energy_range, aeff, header = read(source)
        good_time = get_good_time(*header)
        # most of the time of a file is spent on the cards
        header = get_conditions(*header) if with_header else None
        events.check_any()
    # a damaged file makes astropy raise nearly anything
    except Exception as error:
        return None, describe_error(error, source.events.path if is_file else "")
    # the rows of the table, whatever is left out: as a template draws them
    obs_id = source.obs_id if is_file else get_obs_id(source)
    halves = draw_halves(obs_id, len(events.is_good))[events.is_good]
    binned = binning.count(events.ra, events.dec, events.energy, pointing, halves)
    area = _get_area(aeff, binning.energy_centers)
    row = *binned, area, energy_range, len(events.ra), good_time, header
    return _Row(*row), None


def _get_area(aeff, energy):
    """Effective area in m2, NaN where a table does not tell it. Shape (n_energy,)."""
    # an image has no columns, and a table may have others
    with contextlib.suppress(IndexError, KeyError, TypeError, ValueError):
        return interpolate_area(aeff, energy)
    return np.full(len(energy), np.nan)
