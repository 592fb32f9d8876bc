"""Regions around known sources and bright stars."""

import logging
import numbers
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Table
from astropy.units import UnitsError
from astropy.utils.exceptions import AstropyUserWarning
from gammapy.maps import Map, WcsGeom
from gammapy.utils.scripts import make_path
from regions import CircleSkyRegion, Regions, SkyRegion

from ..utils.angles import check_angle, to_angle
from ..utils.coordinates import (
    get_separation,
    get_vectors,
    is_touching,
    is_touching_any,
    to_lon_lat,
    to_vectors,
)
from ..utils.files import replace_file
from .catalogs import (
    CATALOGS,
    MissingCatalogError,
    join_circles,
    join_origins,
    merge_circles,
    read_catalog,
    read_stars,
)
from .names import find_position, is_name
from .sky_regions import REGION_PRECISION, check_regions, is_excluded, make_exclusion

__all__ = ["ExclusionRegions"]

log = logging.getLogger(__name__)

TOLERANCE = 1e-9  # deg, of a circle inside of another
BRACES = str.maketrans("{}\n", "() ")
EMPTY_FILE = "# Region file format: DS9\n"


class ExclusionRegions(Sequence):
    """Regions that are left out, with their names and where they come from.

    A sequence of regions, to be passed on wherever a list of them is asked for: as
    `exclusion_regions` of `~gammapy_mimic.KLBackgroundSelector`, or as `regions` of
    `~gammapy_mimic.ScrambleMaker`.

    Parameters
    ----------
    regions : list of `~regions.SkyRegion`
        Regions. Unions are divided into their parts.
    names : list of str, optional
        Name of each region. Default is the text of its meta data, if there is one.
    origins : list of str, optional
        Where each region comes from: catalogues or files. Default is none.

    Raises
    ------
    TypeError, ValueError
        If a region is not valid, or if there are not as many names or origins.

    Examples
    --------
    >>> regions = ExclusionRegions.from_catalogs(  # doctest: +SKIP
    ...     store.obs_table.pointing_radec, "3 deg", stars="Hipparcos_MAG8_1997.dat"
    ... )
    >>> selector = KLBackgroundSelector(  # doctest: +SKIP
    ...     off_observations, exclusion_regions=regions
    ... )
    """

    def __init__(self, regions=(), names=None, origins=None):
        if isinstance(regions, str | SkyRegion):
            raise TypeError(f"regions must be a list of SkyRegion, got {regions!r}")
        regions = list(regions)
        parts = [check_regions([_]) for _ in regions]
        if names is None:
            names = [_.meta.get("text", "") for _ in regions]
        names = _check_texts("names", names, len(regions))
        origins = _check_texts("origins", origins, len(regions))
        n_parts = [len(_) for _ in parts]
        self.regions = [region for part in parts for region in part]
        self.names = np.repeat(names, n_parts).tolist()
        self.origins = np.repeat(origins, n_parts).tolist()

    def __len__(self):
        return len(self.regions)

    def __getitem__(self, key):
        """Region of an index, or `ExclusionRegions` of a slice, mask or index array."""
        if isinstance(key, int | np.integer):
            return self.regions[key]
        idx = np.arange(len(self))[key]
        columns = ([column[i] for i in idx] for column in self._columns)
        return ExclusionRegions(*columns)

    def __str__(self):
        lines = [f"{type(self).__name__}: {len(self)} regions"]
        if len(self):
            lines += self.to_table().pformat(max_lines=-1, max_width=-1)
        return "\n".join(lines)

    def __repr__(self):
        return f"<{type(self).__name__}: {len(self)} regions>"

    @property
    def _columns(self):
        return self.regions, self.names, self.origins

    @classmethod
    def from_catalogs(
        cls,
        position,
        radius,
        catalogs=CATALOGS,
        point_radius="0.4 deg",
        extension_factor=3,
        stars=None,
        magnitude_max=6,
        star_radius="0.3 deg",
        regions=None,
    ):
        r"""Make the regions that touch fields of view.

        A source has a circle of the radius

        .. math:: R_\mathrm{edge} + \sqrt{R_\mathrm{point}^2 + (k \sigma)^2}

        where :math:`R_\mathrm{point}` is `point_radius`, k is `extension_factor`,
        :math:`\sigma` is the width of a Gaussian source (the larger one of an
        elongated source) and :math:`R_\mathrm{edge}` the outer radius of a shell
        (gamma-cat, HGPS) or disk (3HWC, 2HWC; the largest that was tested). A missing
        size is zero. So, if the point spread function is a Gaussian with a width of up
        to :math:`R_\mathrm{point}` / k, a Gaussian source is contained to 98.9% at
        least. Every point of a shell or disk has :math:`R_\mathrm{point}` around it.

        Entries whose separation is less than half of the smaller radius, or all of it
        if they have the same name, are of one source. They become one circle that holds
        them, whatever the order of the catalogues. As gamma-cat has two positions of
        many sources, of the object and of the emission, both are held.

        Parameters
        ----------
        position : `~astropy.coordinates.SkyCoord`
            Centre of the field of view, or of each of several.
        radius : `~astropy.units.Quantity` or str
            Radius of the field of view.
        catalogs : list of str, `~pathlib.Path` or `~astropy.table.Table`
            Catalogues of sources: "gamma-cat", "hgps", "3hwc", "2hwc" as Gammapy reads
            them, tables or files of tables. The columns of a table have the usual names
            (ra, dec, RAJ2000, ..., or glon, glat; name) and are in deg, if they have no
            units. `extension` (or sigma) is the width of a Gaussian, `radius` the
            radius of the region itself. Rows without position are skipped with a
            warning. Default is the four.
        point_radius : `~astropy.units.Quantity` or str
            Radius around a point source. Default is "0.4 deg".
        extension_factor : float
            Number of Gaussian widths that are held. Default is 3.
        stars : str, `~pathlib.Path` or `~astropy.table.Table`, optional
            Catalogue of stars, with a column of magnitudes (Vmag, Bmag, mag, ...), such
            as $GAMMAPY_DATA/veritas/crab-point-like-ED/Hipparcos_MAG8_1997.dat. Proper
            motion is neglected. Stars are not merged. Default is None.
        magnitude_max : float
            Magnitude of the faintest star. Default is 6: on average, 2.4 stars are in a
            field of view of 2.5 deg radius. With 7 and 8, there are 7 and 20.
        star_radius : `~astropy.units.Quantity` or str
            Radius around a star. Default is "0.3 deg".
        regions : list of `~regions.SkyRegion`, or str or list of str, optional
            Regions, or texts as for `from_text`. They stay as they are drawn. Entries
            of catalogues inside of a drawn circle are left out. Default is None.

        Returns
        -------
        regions : `ExclusionRegions`
            Regions: those that are drawn, sources and stars, by right ascension.
            Those that are not circles are tested by a circle that holds them.

        Raises
        ------
        FileNotFoundError
            If a file is missing, or a catalogue of Gammapy and there is no other. If
            there are others, it is skipped with a warning.
        TypeError, ValueError
            If a parameter or a catalogue is not valid.
        """
        fov = _to_vectors("position", position), check_angle("radius", radius).deg
        sources = _read_catalogs(
            catalogs,
            point_radius=check_angle("point_radius", point_radius).deg,
            extension_factor=_check_number("extension_factor", extension_factor),
        )
        # stars are points: one in a source stays, and does not widen its circle
        circles = [merge_circles(sources)]
        if stars is not None:
            magnitude_max = _check_number("magnitude_max", magnitude_max, low=-np.inf)
            star_radius = check_angle("star_radius", star_radius).deg
            circles.append(read_stars(stars, magnitude_max, star_radius))
        circles = join_circles(circles)
        centers = to_vectors(circles.lon, circles.lat)
        circles = circles.take(is_touching_any(*fov, centers, circles.radius))
        # what a user draws stays as it is, though a source of a catalogue is in it
        drawn = cls._from_any(regions)
        drawn = drawn[is_touching_any(*fov, *drawn._get_caps())]
        return drawn._add_circles(circles)

    @classmethod
    def from_text(cls, text):
        """Make the circle that a text describes, or read a file.

        Parameters
        ----------
        text : str or `~pathlib.Path`
            Circle as ``RA,DEC,RADIUS`` (ICRS, in deg or with units) or ``NAME,RADIUS``
            of a source, see `~gammapy_mimic.exclusion.find_position`, or the path of a
            ds9 region file.

        Returns
        -------
        regions : `ExclusionRegions`
            Regions.

        Raises
        ------
        FileNotFoundError
            If it is neither.
        ValueError
            If the numbers are not valid, the file is not, or nothing knows the name.
        """
        parts = str(text).split(",")
        if make_path(text).is_file():
            return cls.read(text)
        is_named = len(parts) == 2 and is_name(parts[0])
        if len(parts) != 3 and not is_named:
            raise FileNotFoundError(
                f"{str(text)!r} is neither RA,DEC,RADIUS or NAME,RADIUS nor a region "
                "file."
            )
        form = "NAME,RADIUS" if is_named else "RA,DEC,RADIUS"
        *place, radius = parts
        try:
            radius = to_angle(radius, unit="deg")
            if is_named:
                name = place[0].strip()
                return cls([CircleSkyRegion(find_position(name), radius)], [name])
            lon, lat = (to_angle(part, unit="deg") for part in place)
            return cls([CircleSkyRegion(SkyCoord(lon, lat), radius)])
        except (ValueError, UnitsError) as error:
            raise ValueError(f"{text!r} is not {form}: {error}") from error

    @classmethod
    def read(cls, path):
        """Read a ds9 region file.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            File. The text of a region is its name, and its tags are its origin.
            Without tags, the origin is the file.

        Returns
        -------
        regions : `ExclusionRegions`
            Regions.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file has something else than regions of the sky.
        """
        path = make_path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no region file {path}.")
        try:
            with warnings.catch_warnings():
                # a region that is skipped would not be excluded
                warnings.simplefilter("error", AstropyUserWarning)
                regions = list(Regions.read(path, format="ds9"))
            names = [_.meta.get("text", "") for _ in regions]
            origins = [", ".join(_.meta.get("tag", [path.name])) for _ in regions]
            return cls(regions, names, origins)
        # a file of another kind makes regions raise nearly anything
        except Exception as error:
            raise ValueError(f"Cannot read regions from {path}: {error}") from error

    def write(self, path, overwrite=False):
        """Write a ds9 region file.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            File. Names are written as text, origins as tags; as ds9 does not know how
            to quote braces, they become parentheses.
        overwrite : bool, optional
            Whether to replace an existing file. Default is False.

        Raises
        ------
        FileExistsError
            If the file exists and may not be replaced.
        """
        regions = [region.copy() for region in self]
        for region, name, origin in zip(regions, self.names, self.origins, strict=True):
            region.meta["text"] = name.translate(BRACES)
            if origin:
                region.meta["tag"] = [origin.translate(BRACES)]
        text = Regions(regions).serialize(format="ds9", precision=REGION_PRECISION)
        # of no regions, there is no text, not even that of the header
        with replace_file(path, overwrite) as temporary:
            temporary.write_text(text or EMPTY_FILE, encoding="utf-8")

    def to_table(self):
        """Make a table of the regions.

        Returns
        -------
        table : `~astropy.table.Table`
            Columns are name, ra, dec, radius (deg), shape and origin. The radius of a
            region that is not a circle is that of a circle that holds it.
        """
        centers, radius = self._get_caps()
        lon, lat = to_lon_lat(centers)
        table = Table()
        table["name"] = np.array(self.names, dtype=str)
        table["ra"], table["dec"] = Angle(lon, "deg"), Angle(lat, "deg")
        table["radius"] = Angle(radius, "deg")
        shapes = [type(_).__name__.removesuffix("SkyRegion").lower() for _ in self]
        table["shape"] = np.array(shapes, dtype=str)
        table["origin"] = np.array(self.origins, dtype=str)
        for name in ("ra", "dec", "radius"):
            table[name].format = ".3f"
        return table

    def to_mask(self, geom):
        """Make an exclusion mask, for the background makers of Gammapy.

        Parameters
        ----------
        geom : `~gammapy.maps.WcsGeom`
            Geometry, with or without further axes.

        Returns
        -------
        mask : `~gammapy.maps.WcsNDMap`
            Mask of bool. True where the centre of a pixel is outside of all regions.

        Raises
        ------
        TypeError
            If the geometry is another one.
        """
        if not isinstance(geom, WcsGeom):
            raise TypeError(f"geom must be a WcsGeom, got {type(geom).__name__}")
        image = geom.to_image()
        vectors = get_vectors(image.get_coord().skycoord)
        keep = ~is_excluded(vectors, [make_exclusion(_) for _ in self])
        keep = keep.reshape(image.data_shape)
        # a copy, as a user may change a mask in place
        return Map.from_geom(geom, data=np.broadcast_to(keep, geom.data_shape).copy())

    def is_touching(self, pointings, radius):
        """Find which regions touch which fields of view.

        Regions that are not circles are tested by a circle that holds them.

        Parameters
        ----------
        pointings : `~astropy.coordinates.SkyCoord`
            Pointings. Shape (n_pointings,), or a single one.
        radius : `~astropy.units.Quantity` or str
            Radius of the fields of view.

        Returns
        -------
        touching : `~numpy.ndarray`
            Boolean array of shape (n_pointings, n_regions).

        Raises
        ------
        TypeError, ValueError
            If the pointings or the radius are not valid.
        """
        vectors = _to_vectors("pointings", pointings)
        radius = check_angle("radius", radius).deg
        return is_touching(vectors, radius, *self._get_caps())

    def _get_caps(self):
        """Circles that hold the regions: centres of shape (3, n), and radii in deg."""
        centers, radii = [], []
        for region in self:
            # stars are many, and all circles, which need not be drawn
            if isinstance(region, CircleSkyRegion):
                centers.append(get_vectors(region.center)[:, 0])
                radii.append(region.radius.to_value("deg"))
            else:
                exclusion = make_exclusion(region)
                centers.append(exclusion.axes[2])
                radii.append(np.degrees(exclusion.radius))
        return np.reshape(centers, (-1, 3)).T, np.array(radii)

    @classmethod
    def _from_any(cls, regions):
        """Take regions, or read them from files."""
        if regions is None:
            return cls()
        if isinstance(regions, cls):
            return regions
        if isinstance(regions, str | Path | SkyRegion):
            regions = [regions]
        joined = cls()
        for item in regions:
            is_text = isinstance(item, str | Path)
            part = cls.from_text(item) if is_text else cls([item])
            for column, values in zip(joined._columns, part._columns, strict=True):
                column += values
        return joined

    def _add_circles(self, circles):
        """Add circles, except those inside of a circle that is here."""
        centers, radii = self._get_caps()
        is_circle = [isinstance(_, CircleSkyRegion) for _ in self]
        radii = np.where(is_circle, radii, -np.inf)
        separation = get_separation(
            to_vectors(circles.lon, circles.lat).T[:, np.newaxis], centers.T
        )
        inside = np.degrees(separation) + circles.radius[:, np.newaxis] <= (
            radii + TOLERANCE
        )
        names, origins = list(self.names), list(self.origins)
        for row, idx in np.argwhere(inside):
            names[idx] = names[idx] or circles.names[row]
            origins[idx] = join_origins(origins[idx], circles.origins[row])
        added = circles.take(~inside.any(axis=1))
        position = SkyCoord(added.lon, added.lat, unit="deg")
        parts = zip(position, Angle(added.radius, "deg"), strict=True)
        return ExclusionRegions(
            self.regions + [CircleSkyRegion(*part) for part in parts],
            names + added.names.tolist(),
            origins + added.origins.tolist(),
        )


def _read_catalogs(catalogs, point_radius, extension_factor):
    """Read all catalogues. Those of Gammapy may be missing, if there are others."""
    if isinstance(catalogs, str | Path | Table):
        catalogs = [catalogs]
    circles, missing = [], []
    for catalog in catalogs:
        try:
            circles.append(read_catalog(catalog, point_radius, extension_factor))
        # a user's own table is of use without the catalogues of Gammapy
        except MissingCatalogError as error:
            missing.append(error)
    if missing and not circles:
        raise missing[0]
    for error in missing:
        log.warning("Skipped a catalogue. %s", error)
    return join_circles(circles)


def _check_number(name, value, low=0):
    if not isinstance(value, numbers.Real) or not np.isfinite(value) or value < low:
        least = "" if np.isinf(low) else f", not below {low}"
        raise ValueError(f"{name} must be a number{least}, got {value!r}")
    return float(value)


def _check_texts(name, values, size):
    values = [""] * size if values is None else [str(_) for _ in values]
    if len(values) != size:
        raise ValueError(f"There are {len(values)} {name} of {size} regions.")
    return np.array(values, dtype=object)


def _to_vectors(name, position):
    """Convert positions to unit vectors (ICRS) of shape (3, n)."""
    if not isinstance(position, SkyCoord):
        raise TypeError(f"{name} must be a SkyCoord, got {position!r}")
    vectors = get_vectors(position)
    if not vectors.size:
        raise ValueError(f"{name} is empty. Give one position or more.")
    if not np.isfinite(vectors).all():
        raise ValueError(f"{name} has values that are not finite: {position}")
    return vectors
