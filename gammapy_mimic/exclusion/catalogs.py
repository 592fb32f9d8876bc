"""Circles of the sky around catalogued sources and stars."""

import inspect
import logging
import os
import warnings
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle, SkyCoord
from astropy.io.registry import IORegistryError
from astropy.table import Table
from gammapy.catalog import CATALOG_REGISTRY
from gammapy.utils.scripts import make_path
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ..data.events import read_column
from ..utils.coordinates import get_separation, to_lon_lat, to_vectors
from .catalog_sizes import find_size, is_no_size

__all__ = [
    "CATALOGS",
    "Circles",
    "MissingCatalogError",
    "join_circles",
    "join_origins",
    "merge_circles",
    "open_catalog",
    "read_catalog",
    "read_position",
    "read_stars",
]

log = logging.getLogger(__name__)

CATALOGS = ("gamma-cat", "hgps", "3hwc", "2hwc")
"""Tags of the catalogues of Gammapy that are known here."""

NO_VALUE = (-1, -9, -99, -999, -9999)  # sizes that stand for none
MERGE_FRACTION = 0.5  # of the smaller radius
RADIUS_MAX = 90  # deg, of a source

HOURS = ("h", "hourangle", "h:m:s", "hms", '"h:m:s"')

# lower case, without leading underscores
POSITION_COLUMNS = {
    "icrs": (
        ("ra", "raj2000", "ra_j2000", "ra_icrs", "raicrs", "radeg", "ra_deg"),
        (
            *("dec", "dej2000", "decj2000", "de_j2000", "dec_j2000", "de_icrs"),
            *("dec_icrs", "deicrs", "dedeg", "dec_deg", "de_deg"),
        ),
    ),
    "galactic": (("glon", "l"), ("glat", "b")),
}
SHAPE_COLUMNS = ("spatial_model", "morph_type", "model_form", "spatial_type", "shape")
EDGE_SHAPES = ("shell", "disk", "disc")
MAGNITUDE_COLUMNS = ("vmag", "bmag", "hpmag", "gmag", "mag", "magnitude")
NAME_COLUMNS = (
    *("name", "source_name", "common_name", "source", "object"),
    *("hip", "hd", "hr", "star"),
)


class MissingCatalogError(FileNotFoundError):
    """A catalogue of Gammapy has not been downloaded."""


class Circles(NamedTuple):
    """Circles of the sphere. Arrays of shape (n,)."""

    lon: np.ndarray
    """Right ascension of the centres, in deg."""
    lat: np.ndarray
    """Declination of the centres, in deg."""
    radius: np.ndarray
    """Radii, in deg."""
    names: np.ndarray
    """Names (str), empty if there is none."""
    origins: np.ndarray
    """Where the entries come from (str), several with commas between."""

    def take(self, key):
        """Circles of an index array, a mask or a slice."""
        return Circles(*(_[key] for _ in self))

    @property
    def size(self):
        """Number of circles."""
        return len(self.lon)


class _Entries(NamedTuple):
    """What a catalogue says of its sources."""

    lon: np.ndarray
    lat: np.ndarray
    sigma: np.ndarray
    """Width of a Gaussian, in deg, NaN where there is none."""
    edge: np.ndarray
    """Outer radius of a shell or disk, in deg, NaN where there is none."""
    radius: np.ndarray
    """Radius of the region itself, in deg, NaN where there is none."""
    names: np.ndarray


def join_circles(circles):
    """Join a list of circles."""
    numbers, text = np.zeros(0), np.zeros(0, dtype=object)
    empty = Circles(numbers, numbers, numbers, text, text)
    columns = zip(empty, *circles, strict=True)
    return Circles(*(np.concatenate(_) for _ in columns))


def read_catalog(catalog, point_radius, extension_factor):
    """Read circles that hold the sources of a catalogue.

    Parameters
    ----------
    catalog : str, `~pathlib.Path` or `~astropy.table.Table`
        Tag of a catalogue of Gammapy, or a table or its file, see
        `~gammapy_mimic.exclusion.ExclusionRegions.from_catalogs`.
    point_radius : float
        Radius around a point source, in deg.
    extension_factor : float
        Number of Gaussian widths that are held.

    Returns
    -------
    circles : `Circles`
        One circle a source. Two if gamma-cat has two positions of it.

    Raises
    ------
    FileNotFoundError
        If there is no such catalogue.
    ValueError
        If the tag is not known, or the table not valid.
    """
    # a tag comes before a file of the same name
    if not isinstance(catalog, Table):
        for tag in CATALOGS:
            if str(catalog).lower().replace("-", "") == tag.replace("-", ""):
                return _to_circles(_read_tag(tag), tag, point_radius, extension_factor)
    table, origin = _open_table(catalog)
    entries = _read_entries(table, origin)
    _warn_of_sizes(table, origin, point_radius)
    return _to_circles(entries, origin, point_radius, extension_factor)


def read_stars(stars, magnitude_max, radius):
    """Read circles around the bright stars of a catalogue.

    Parameters
    ----------
    stars : str, `~pathlib.Path` or `~astropy.table.Table`
        Table with columns of position and magnitude, or its file.
    magnitude_max : float
        Magnitude of the faintest star.
    radius : float
        Radius, in deg.

    Returns
    -------
    circles : `Circles`
        One circle a star.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or the table has not got these columns.
    """
    table, origin = _open_table(stars)
    column = _find_column(table, MAGNITUDE_COLUMNS)
    if column is None:
        raise ValueError(
            f"The star catalogue {origin} has no magnitude: its columns are "
            f"{table.colnames}. Name one of {list(MAGNITUDE_COLUMNS)}, of numbers."
        )
    magnitude = read_column(table, column)
    entries = _read_entries(table[magnitude <= magnitude_max], origin)
    entries = entries._replace(radius=np.full_like(entries.lon, radius))
    return _to_circles(entries, origin, radius, 0)


def _to_circles(entries, origin, point_radius, extension_factor):
    """Give every entry its radius, see `ExclusionRegions.from_catalogs`."""
    sigma, edge = np.nan_to_num(entries.sigma), np.nan_to_num(entries.edge)
    has_position = np.isfinite(entries.lon + entries.lat)
    if not has_position.all():
        names = entries.names[~has_position].tolist()
        log.warning("Skipped entries of %s without position: %s", origin, names)
    # a Gaussian source and the point spread function add in squares, an edge does not
    radius = edge + np.hypot(point_radius, extension_factor * sigma)
    radius = np.where(entries.radius > 0, entries.radius, radius)
    too_large = radius > RADIUS_MAX
    if too_large.any():
        idx = np.argmax(too_large)
        raise ValueError(
            f"The source {entries.names[idx]!r} of {origin} has a radius of "
            f"{radius[idx]:g} deg. Check the unit of its size."
        )
    origins = np.full(len(radius), origin, dtype=object)
    circles = Circles(entries.lon, entries.lat, radius, entries.names, origins)
    return circles.take(has_position)


def open_catalog(tag):
    """Read the table of a catalogue of Gammapy.

    Parameters
    ----------
    tag : str
        One of `CATALOGS`.

    Returns
    -------
    table : `~astropy.table.Table`
        Table.

    Raises
    ------
    MissingCatalogError
        If it is not in ``$GAMMAPY_DATA``.
    ValueError
        If it cannot be read.
    """
    catalog = CATALOG_REGISTRY.get_cls(tag)
    path = make_path(inspect.signature(catalog).parameters["filename"].default)
    # what astropy raises without a file depends on its version
    if not path.is_file():
        is_set = "GAMMAPY_DATA" in os.environ
        reason = f"there is no file {path}" if is_set else "it is not set"
        raise MissingCatalogError(
            f"The catalogue {tag!r} is not in $GAMMAPY_DATA: {reason}. Get it with "
            "`gammapy download datasets`, and set $GAMMAPY_DATA to that folder."
        )
    try:
        return catalog().table
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"The catalogue {tag!r} cannot be read: {error}") from error


def _read_tag(tag):
    """Read the sources of a catalogue of Gammapy."""
    table = open_catalog(tag)
    if tag == "gamma-cat":
        return _read_gamma_cat(table)
    entries = _read_entries(table, tag)
    if tag == "hgps":
        is_shell = np.asarray(table["Spatial_Model"].astype(str)) == "Shell"
        return _set_sizes(entries, _get_extent(table, "Size", tag), is_shell)
    # HAWC searched and measured sources as disks
    names = [name for name in table.colnames if name.endswith("_radius")]
    edge = np.fmax.reduce([_get_extent(table, name, tag) for name in names])
    return _set_sizes(entries, edge, is_edge=True)


def _set_sizes(entries, sizes, is_edge):
    """Take sizes as outer radii where they are, else as widths of a Gaussian."""
    is_edge = np.broadcast_to(is_edge, sizes.shape)
    sigma, edge = np.where(is_edge, np.nan, sizes), np.where(is_edge, sizes, np.nan)
    return entries._replace(sigma=sigma, edge=edge)


def _read_gamma_cat(table):
    """Read gamma-cat, which has two positions of many sources.

    They are those of the object (ra, dec) and of the measured emission (pos_ra,
    pos_dec). As a rule the second is the better one, but not where it is a misprint (IC
    443, 30 Dor C). The region has to hold the source either way.
    """
    entries = _read_entries(table, "gamma-cat")
    names = "morph_sigma", "morph_sigma2"
    sizes = np.fmax(*(_get_extent(table, name, "gamma-cat") for name in names))
    # Gammapy reads morph_sigma of a shell as its outer radius
    is_shell = np.asarray(table["morph_type"].astype(str)) == "shell"
    nominal = _set_sizes(entries, sizes, is_shell)
    measured = nominal._replace(
        lon=_get_angles(table, "pos_ra", "gamma-cat"),
        lat=_get_angles(table, "pos_dec", "gamma-cat"),
    )
    has_position = np.isfinite(measured.lon + measured.lat)
    pairs = zip(nominal, measured, strict=True)
    return _Entries(*(np.concatenate([a, b[has_position]]) for a, b in pairs))


def _open_table(table):
    """Read a table, and where it comes from."""
    if isinstance(table, Table):
        # columns of a QTable become plain ones with units
        return Table(table), str(table.meta.get("name", "table"))
    path = make_path(table)
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(table)!r} is neither a catalogue that is known, {list(CATALOGS)}, "
            "nor the file of a table."
        )
    try:
        with warnings.catch_warnings():
            # units of columns that do not matter here
            warnings.simplefilter("ignore", u.UnitsWarning)
            # the sources are in the first table
            warnings.filterwarnings("ignore", message="hdu= was not specified")
            try:
                table = Table.read(path)
            except IORegistryError:  # the ending does not tell the format
                table = Table.read(path, format="ascii")
        table.convert_bytestring_to_unicode()
        return Table(table), path.stem
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is not a table that can be read: {reason}") from error


def _read_entries(table, origin):
    """Read positions, extensions and names by the usual names of their columns."""
    lon, lat = read_position(table, origin)
    sizes = dict.fromkeys(("sigma", "edge", "radius"), np.full(len(table), np.nan))
    for name, (kind, factor) in _find_sizes(table).items():
        sizes[kind] = np.fmax(sizes[kind], factor * _get_extent(table, name, origin))
    # the size of a shell or a disk is its radius, whatever the column is called
    column = _find_column(table, SHAPE_COLUMNS, kinds="USO")
    texts = [""] * len(table) if column is None else table[column]
    has_edge = [any(_ in str(text).lower() for _ in EDGE_SHAPES) for text in texts]
    has_edge = np.array(has_edge, dtype=bool) & ~np.isfinite(sizes["edge"])
    sizes["edge"] = np.where(has_edge, sizes["sigma"], sizes["edge"])
    sizes["sigma"] = np.where(has_edge, np.nan, sizes["sigma"])
    column = _find_column(table, NAME_COLUMNS, kinds="USOiu")
    if column is None:
        names = [""] * len(table)
    else:
        values = np.ma.asarray(table[column])
        # a number alone, such as that of HIP, is no name
        prefix = f"{column.strip('_')} " if values.dtype.kind in "iu" else ""
        names = [f"{prefix}{_}".strip() for _ in values.astype(str).filled("")]
    return _Entries(lon, lat, **sizes, names=np.array(names, dtype=object))


def _find_sizes(table):
    """Columns of sizes, and their meaning. All of them count."""
    numbers = [_ for _ in table.colnames if _has_angles(table[_])]
    sizes = {_: find_size(_) for _ in numbers if table[_].ndim == 1}
    return {name: size for name, size in sizes.items() if size is not None}


def _has_angles(column, kinds="fiu"):
    """Whether a column has numbers that can be angles."""
    unit = getattr(column, "unit", None)
    if column.dtype.kind not in kinds or unit is None:
        return column.dtype.kind in kinds
    return u.Unit(unit).is_equivalent("deg") and unit != u.dimensionless_unscaled


def _warn_of_sizes(table, origin, point_radius):
    """Warn of a table that may have sizes, none of which is known."""
    texts = [_ for _ in table.colnames if table[_].dtype.kind in "USO" and find_size(_)]
    if texts:
        log.warning(
            "The column %s of %s is text, and not read as a size. Make it one of "
            "numbers.",
            *(" and ".join(texts), origin),
        )
    if _find_sizes(table):
        return
    known = {*MAGNITUDE_COLUMNS, *NAME_COLUMNS}
    for lon_names, lat_names in POSITION_COLUMNS.values():
        known |= {*lon_names, *lat_names}
    angles = [
        name
        for name in table.colnames
        if _has_angles(table[name], kinds="f")
        and name.lower().lstrip("_") not in known
        and not is_no_size(name)
    ]
    if angles:
        log.warning(
            "No column of %s is known as a size, all sources get a radius of %g deg. "
            "If %s is one, name it extension (width of a Gaussian) or radius. The "
            "columns are: %s",
            *(origin, point_radius, " or ".join(angles), ", ".join(table.colnames)),
        )


def read_position(table, origin):
    """Read the positions of a catalogue.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table with usual names of columns.
    origin : str
        Where it comes from, for errors.

    Returns
    -------
    lon, lat : `~numpy.ndarray`
        Right ascension and declination (ICRS), in deg, NaN where there is none.

    Raises
    ------
    ValueError
        If there are no such columns, or a value is not valid.
    """
    found = {
        frame: [_find_column(table, names, kinds="fiuUSO") for names in spellings]
        for frame, spellings in POSITION_COLUMNS.items()
    }
    frame = next((_ for _ in found if None not in found[_]), None)
    if frame is None:
        raise ValueError(
            f"The table {origin} has no position: its columns are {table.colnames}. "
            "Name two of them ra and dec, of numbers in deg or with units."
        )
    columns = found[frame]
    # the sexagesimal text of a right ascension is in hours
    text_unit = u.hourangle if frame == "icrs" else u.deg
    lon = _get_angles(table, columns[0], origin, text_unit)
    lat = _get_angles(table, columns[1], origin)
    if np.any(np.abs(lat) > 90):
        raise ValueError(
            f"The column {columns[1]!r} of {origin} has the value "
            f"{lat[np.abs(lat) > 90][0]:g} deg, which is not within 90 deg."
        )
    if frame == "icrs":
        return lon % 360, lat
    position = SkyCoord(lon, lat, unit="deg", frame=frame).icrs
    return position.ra.deg, position.dec.deg


def _find_column(table, spellings, kinds="fiu"):
    """Find the column with the first of several names, None if there is none."""
    names = {
        name.lower().lstrip("_"): name
        for name in table.colnames
        if getattr(table[name], "dtype", np.dtype("V")).kind in kinds
    }
    return next((names[_] for _ in spellings if _ in names), None)


def _get_angles(table, name, origin, text_unit="deg"):
    """Get a column in deg. Text such as "05:34:31" is in another unit."""
    column = table[name]
    is_in_hours = str(column.unit) in HOURS
    try:
        if column.dtype.kind not in "USO":
            # astropy has no unit for most spellings of hours
            if is_in_hours:
                return read_column(table, name) * 15
            return read_column(table, name, "deg")
        unit = u.hourangle if is_in_hours else text_unit
        angles = np.empty(len(column))
        for idx, text in enumerate(np.ma.asarray(column).astype(str).filled("")):
            text = str(text).strip()
            try:
                # a single number is in deg, whatever a text with colons is in
                angles[idx] = float(text or "nan")
            except ValueError:
                angles[idx] = Angle(text, unit).deg
        return angles
    except ValueError as error:
        unit = f" has the unit {str(column.unit)!r}, which" if column.unit else ""
        raise ValueError(
            f"The column {name!r} of {origin}{unit} is not one of an angle. Make it "
            f"one of numbers in deg. ({error})"
        ) from error


def _get_extent(table, name, origin):
    """Get a column of sizes in deg, NaN where it holds none."""
    no_value = np.isin(read_column(table, name), NO_VALUE)
    values = np.where(no_value, np.nan, _get_angles(table, name, origin))
    if np.any(values < 0):
        raise ValueError(
            f"The column {name!r} of {origin} has the value {np.nanmin(values):g} deg. "
            "Give sizes that are not negative, or mask them."
        )
    return values


def merge_circles(circles):
    """Merge the entries of one source to a circle that holds them.

    Entries whose separation is less than half of the smaller radius, or all of it if
    they have the same name, belong together, also through others. The result does not
    depend on their order, except that a name is that of the first.

    Parameters
    ----------
    circles : `Circles`
        Entries of several catalogues.

    Returns
    -------
    merged : `Circles`
        Circles by right ascension.
    """
    vectors = to_vectors(circles.lon, circles.lat).T
    chord_max = 2 * np.sin(np.radians(circles.radius.max(initial=0)) / 2)
    # a tree, as most pairs of thousands of entries are far from each other
    first, second = cKDTree(vectors).query_pairs(chord_max, output_type="ndarray").T
    separation = np.degrees(get_separation(vectors[first], vectors[second]))
    smaller = np.minimum(circles.radius[first], circles.radius[second])
    names = circles.names[first]
    same_name = (names == circles.names[second]) & (names != "")
    same = separation < np.where(same_name, 1, MERGE_FRACTION) * smaller
    graph = coo_array(
        (same[same], (first[same], second[same])), shape=(circles.size, circles.size)
    )
    _, labels = connected_components(graph, directed=False)
    order = np.argsort(labels, kind="stable")
    edges = np.nonzero(np.diff(labels[order]))[0] + 1
    groups = np.split(order, edges) if circles.size else []
    merged = join_circles([_merge_source(circles.take(_)) for _ in groups])
    return _sort_by_position(merged)


def _sort_by_position(circles):
    return circles.take(np.lexsort((circles.radius, circles.lat, circles.lon)))


def _merge_source(circles):
    """Merge circles to one, which holds them.

    Its diameter joins those two that reach furthest apart (one circle, if it holds all
    others), and is enlarged if a third reaches out.
    """
    if circles.size == 1:
        return circles
    # sorted, so that ties do not depend on the order of the catalogues
    ordered = _sort_by_position(circles)
    vectors = to_vectors(ordered.lon, ordered.lat).T
    radius = np.radians(ordered.radius)
    separation = get_separation(vectors[:, np.newaxis], vectors)
    reach = separation + radius[:, np.newaxis] + radius
    first, second = np.unravel_index(np.argmax(reach), reach.shape)
    step = (reach[first, second] / 2 - radius[first]) if first != second else 0
    start, end = vectors[first], vectors[second]
    # from one centre towards the other, by the angle of the step
    direction = end - (start @ end) * start
    norm = np.linalg.norm(direction)
    direction = direction / norm if norm > 0 else direction
    center = np.cos(step) * start + np.sin(step) * direction
    radius = np.degrees(np.max(get_separation(center, vectors) + radius))
    # names in the first catalogue that has one
    named = circles.take(circles.names != "")
    names = named.names[named.origins == named.origins[0]] if named.size else []
    return Circles(
        *to_lon_lat(center[:, np.newaxis]),
        np.array([radius]),
        np.array([" / ".join(dict.fromkeys(names))], dtype=object),
        np.array([join_origins(*circles.origins)], dtype=object),
    )


def join_origins(*origins):
    """Join origins, each of which may be several, without duplicates."""
    parts = dict.fromkeys(", ".join(origins).split(", "))
    return ", ".join(part for part in parts if part)
