"""Which OFF observations were taken under the conditions of a target observation."""

import dataclasses
import difflib
import logging

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle, SkyCoord
from astropy.time import Time
from regions import CircleSkyRegion

from ..data.columns import is_no_value, split_missing
from ..data.events import get_time_ref, read_column
from ..data.obs_ids import to_obs_ids
from ..utils.angles import to_angle

__all__ = ["Conditions", "MatchCriteria", "describe_rejections"]

log = logging.getLogger(__name__)

FOV_RADIUS_MAX = 10 * u.deg
"""Radius of the field of view of any IACT: an object that is farther off is none."""

APPLIED = (
    *("livetime", "airmass", "azimuth", "nsb", "n_tels", "muon_efficiency"),
    *("time_difference", "epochs", "galactic_latitude", "elevation"),
    *("exclude_objects", "exclude_circles", "exclude_obs_ids"),
)
"""Criteria in the order in which reasons are given."""

WAYS_OUT = {
    "same_object": "Archives of surveys may have one OBJECT for all: same_object: "
    "false accepts partners of the same one.",
    "same_field": "The field of the target may be in all of them: same_field: false "
    "accepts such partners, or set a smaller field_radius. Exclude or scramble the "
    "sources that target and partner share.",
}
"""What to do where a criterion rejects all candidates of an archive."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Observation conditions as arrays, one entry an observation.

    An attribute is None where the table has no such column, or no value in it.

    Attributes
    ----------
    obs_id : `~numpy.ndarray`
        Observation IDs.
    name : `~numpy.ndarray` of str
        Names of the observed objects, in lower case, "" if not known.
    pointing, target : `~astropy.coordinates.SkyCoord`
        Pointing, and position of the observed object. The pointing where that is not
        known, is a placeholder (0, 0), or is not in the field of view.
    livetime, elevation, azimuth, nsb, n_tels, muon_efficiency : `~numpy.ndarray`
        Livetime in s, elevation and azimuth in deg, NSBLEVEL in the unit of its
        column, number of telescopes, MUONEFF.
    mjd : `~numpy.ndarray`
        Start time (MJD).
    """

    obs_id: np.ndarray
    name: np.ndarray
    pointing: SkyCoord
    target: SkyCoord
    livetime: np.ndarray | None = None
    elevation: np.ndarray | None = None
    azimuth: np.ndarray | None = None
    nsb: np.ndarray | None = None
    n_tels: np.ndarray | None = None
    muon_efficiency: np.ndarray | None = None
    mjd: np.ndarray | None = None

    @property
    def airmass(self):
        """Airmass, 1 / sin(elevation)."""
        if self.elevation is None:
            return None
        return 1 / np.sin(np.radians(self.elevation))

    @classmethod
    def from_obs_table(cls, table):
        """Read the conditions from an observation index table.

        Parameters
        ----------
        table : `~gammapy.data.ObservationTable`
            Observation table with ``OBS_ID``, ``RA_PNT``, ``DEC_PNT`` and what the
            criteria need.

        Returns
        -------
        conditions : `Conditions`
            Conditions, in the order of the table.

        Raises
        ------
        ValueError
            If a required column is missing.
        """
        missing = {"OBS_ID", "RA_PNT", "DEC_PNT"} - set(table.colnames)
        if missing:
            raise ValueError(
                f"The observation table has no column {sorted(missing)}. "
                "See the GADF format of the observation index."
            )
        pointing = SkyCoord(
            read_column(table, "RA_PNT", "deg"),
            read_column(table, "DEC_PNT", "deg"),
            unit="deg",
        )
        elevation = _read_optional(table, "ALT_PNT", "deg")
        zenith = _read_optional(table, "ZEN_PNT", "deg")
        if zenith is not None:
            known = np.nan if elevation is None else elevation
            elevation = np.where(np.isfinite(known), known, 90 - zenith)
        mjd, start = None, _read_optional(table, "TSTART", "s")
        # TSTART of two tables compares only from their reference times on
        if start is not None and "MJDREFI" in table.meta:
            mjd = (get_time_ref(table.meta, "observation table") + start * u.s).mjd
        name = np.full(len(table), "")
        if "OBJECT" in table.colnames:
            names, is_missing = split_missing(table["OBJECT"])
            names = np.char.lower(np.char.strip(names.astype(str)))
            name = np.where(is_missing | is_no_value(names), "", names)
        return cls(
            obs_id=to_obs_ids(table["OBS_ID"]),
            name=name,
            pointing=pointing,
            target=_get_target(table, pointing),
            livetime=_read_optional(table, "LIVETIME", "s"),
            elevation=elevation,
            azimuth=_read_optional(table, "AZ_PNT", "deg"),
            # its unit differs from one experiment to the other
            nsb=_read_optional(table, "NSBLEVEL"),
            n_tels=_read_optional(table, "N_TELS", "", minimum=1),
            muon_efficiency=_read_optional(table, "MUONEFF", ""),
            mjd=mjd,
        )

    def __len__(self):
        return len(self.obs_id)

    def __getitem__(self, item):
        values = {_.name: getattr(self, _.name) for _ in dataclasses.fields(self)}
        return Conditions(
            **{name: None if _ is None else _[item] for name, _ in values.items()}
        )


def _read_optional(table, name, unit=None, minimum=-np.inf):
    """Read a column, None if there is none, or it has no value."""
    if name not in table.colnames:
        return None
    values = read_column(table, name, unit)
    # integers have no NaN: where nothing is known, tables have -1
    values[values < minimum] = np.nan
    return values if np.isfinite(values).any() else None


def _get_target(table, pointing):
    """Position of the observed object, the pointing where that says nothing."""
    lon = _read_optional(table, "RA_OBJ", "deg")
    lat = _read_optional(table, "DEC_OBJ", "deg")
    if lon is None or lat is None:
        return pointing
    # headers that nobody filled have 0, 0 or a number such as 99
    valid = np.isfinite(lon) & (np.abs(lat) <= 90) & ((lon != 0) | (lat != 0))
    lon, lat = (
        np.where(valid, values, known)
        for values, known in ((lon, pointing.ra.deg), (lat, pointing.dec.deg))
    )
    target = SkyCoord(lon, lat, unit="deg")
    # surveys and OFF fields may name an object that is far away
    is_near = target.separation(pointing) < FOV_RADIUS_MAX
    return SkyCoord(
        np.where(is_near, target.ra.deg, pointing.ra.deg),
        np.where(is_near, target.dec.deg, pointing.dec.deg),
        unit="deg",
    )


@dataclasses.dataclass(frozen=True)
class MatchCriteria:
    """Conditions that an OFF observation must share with its target observation.

    Criteria that are None are not applied. The observation itself is always rejected.

    Parameters
    ----------
    livetime : float, optional
        Largest difference of the livetimes, as a fraction of the target's.
        Default is 0.1.
    airmass : float, optional
        Largest difference of the airmass, 1 / sin(elevation). Default is 0.15.
    azimuth : `~astropy.coordinates.Angle` or str, optional
        Largest difference of the azimuths, on the circle. Default is None.
    nsb : float, optional
        Largest difference of NSBLEVEL, in the unit of that column. Default is None.
    n_tels : int, optional
        Largest difference of the number of telescopes. Default is None.
    muon_efficiency : float, optional
        Largest difference of MUONEFF, as a fraction of the target's. Default is None.
    time_difference : `~astropy.units.Quantity` or str, optional
        Longest time between the starts of the observations. Default is None.
    epochs : `~astropy.time.Time` or list of str, optional
        Times at which the instrument changed. Both observations must lie between the
        same two. Default is None.
    galactic_latitude : `~astropy.coordinates.Angle` or str, optional
        Smallest absolute Galactic latitude of an OFF pointing. Default is 10 deg.
    elevation : list of `~astropy.coordinates.Angle` or of str, optional
        Range of the elevation of OFF observations. Default is None.
    exclude_objects : list of str, optional
        OBJECT names of OFF observations to leave out. Default is none.
    exclude_circles : list of `~regions.CircleSkyRegion` or tuple, optional
        Circles on the sky in which no OFF observation may point, also as
        ``(ra, dec, radius)``. Default is none.
    exclude_obs_ids : list of int, optional
        OFF observations to leave out. Default is none.
    same_object : bool, optional
        Whether observations of the same OBJECT are rejected. Surveys may have one for
        all; names such as "unknown" are none. Default is True.
    same_field : bool, optional
        Whether pointings are rejected that are no farther than ``field_radius`` from
        the position of the target observation's object, or from its pointing: the
        source is in their field, too, whatever their OBJECT says. Default is True.
    field_radius : `~astropy.coordinates.Angle` or str, optional
        Radius of the same field, for ``same_field`` alone. Default is 2.5 deg.
    strict : bool, optional
        Whether a criterion whose column is missing is an error. By default it is
        skipped with a warning.

    Raises
    ------
    ValueError
        If a value is negative or has the wrong unit.
    """

    livetime: float | None = 0.1
    airmass: float | None = 0.15
    azimuth: Angle | None = None
    nsb: float | None = None
    n_tels: int | None = None
    muon_efficiency: float | None = None
    time_difference: u.Quantity | None = None
    epochs: Time | None = None
    galactic_latitude: Angle | None = "10 deg"
    elevation: tuple | None = None
    exclude_objects: tuple = ()
    exclude_circles: tuple = ()
    exclude_obs_ids: tuple = ()
    same_object: bool = True
    same_field: bool = True
    field_radius: Angle = "2.5 deg"
    strict: bool = False

    def __post_init__(self):
        # as a list, a text would be one of its characters
        if isinstance(self.exclude_objects, str):
            raise ValueError(
                f"Invalid value of exclude_objects: {self.exclude_objects!r}, "
                "a list of names is needed"
            )
        for name in ("same_object", "same_field", "strict"):
            value = getattr(self, name)
            if not isinstance(value, bool | None):
                raise ValueError(f"{name} must be true or false, got {value!r}")
        numbers = ("livetime", "airmass", "nsb", "n_tels", "muon_efficiency")
        angles = ("azimuth", "galactic_latitude", "field_radius")
        converters = {
            **dict.fromkeys(numbers, float),
            **dict.fromkeys(angles, lambda value: to_angle(value).to("deg")),
            "time_difference": lambda value: u.Quantity(value).to("d"),
            # in order, as they are searched
            "epochs": lambda value: np.atleast_1d(Time(value)).sort(),
            "elevation": lambda ends: Angle([to_angle(_) for _ in ends]).to("deg"),
            "exclude_objects": lambda names: tuple(_.strip().lower() for _ in names),
            "exclude_circles": lambda circles: tuple(map(_to_circle, circles)),
            "exclude_obs_ids": lambda obs_ids: tuple(to_obs_ids(obs_ids).tolist()),
        }
        for name, convert in converters.items():
            value = getattr(self, name)
            if value is None:
                continue
            try:
                converted = convert(value)
            except (TypeError, ValueError, u.UnitsError) as error:
                raise ValueError(
                    f"Invalid value of {name}: {value!r}, {error}"
                ) from error
            is_number = isinstance(converted, float | u.Quantity)
            if is_number and not np.all(converted >= 0 * getattr(converted, "unit", 1)):
                raise ValueError(f"{name} must not be negative, got {value!r}")
            # the class is frozen, as what is kept depends on its values
            object.__setattr__(self, name, converted)

        if self.elevation is not None and self.elevation.shape != (2,):
            raise ValueError(
                f"elevation must be a range of two angles, got {self.elevation}"
            )

    @classmethod
    def create(cls, criteria=None):
        """Create criteria from a dict.

        Parameters
        ----------
        criteria : `MatchCriteria` or dict, optional
            Criteria, or values by name. Default are the default criteria.

        Returns
        -------
        criteria : `MatchCriteria`
            Criteria.

        Raises
        ------
        ValueError
            If a key of the dict is not the name of a criterion.
        """
        if isinstance(criteria, cls):
            return criteria
        criteria = dict(criteria or {})
        names = [_.name for _ in dataclasses.fields(cls)]
        for key in criteria:
            if key not in names:
                close = difflib.get_close_matches(key, names, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"Unknown criterion {key!r}.{hint} Valid: {names}")
        return cls(**criteria)

    def check_columns(self, *conditions):
        """Find the criteria that cannot be applied, as their column is missing.

        Parameters
        ----------
        *conditions : `Conditions`
            Conditions of the target and of the OFF observations.

        Returns
        -------
        skipped : set of str
            Names of the criteria to be skipped. One warning names them all.

        Raises
        ------
        ValueError
            If there is one, and the criteria are strict.
        """
        columns = {
            "livetime": "livetime",
            "airmass": "elevation",
            "azimuth": "azimuth",
            "nsb": "nsb",
            "n_tels": "n_tels",
            "muon_efficiency": "muon_efficiency",
            "time_difference": "mjd",
            "epochs": "mjd",
            "elevation": "elevation",
        }
        skipped = {
            name
            for name, column in columns.items()
            if getattr(self, name) is not None
            and any(getattr(_, column) is None for _ in conditions)
        }
        if skipped:
            message = f"No column in the observation table for {sorted(skipped)}"
            if self.strict:
                raise ValueError(f"{message}. Set these criteria to None.")
            log.warning(f"{message}: these criteria are skipped.")
        return skipped

    def reject(self, target, off, skip=()):
        """Find the OFF observations that do not match a target observation.

        Parameters
        ----------
        target : `Conditions`
            Conditions of one target observation.
        off : `Conditions`
            Conditions of the OFF observations.
        skip : set of str, optional
            Criteria that are not applied. Default is none.

        Returns
        -------
        rejected : dict of `~numpy.ndarray`
            For each criterion, which OFF observations it rejects. Boolean arrays of
            shape (n_off,). An unknown value (NaN) is rejected.
        """
        accepted = {"same_observation": off.obs_id != target.obs_id}
        if self.same_object:
            accepted["same_object"] = (off.name != target.name) | (off.name == "")
        if self.same_field:
            # the source is in neighbouring fields too, whatever their OBJECT says
            positions = target.target, target.pointing
            separations = [off.pointing.separation(_) for _ in positions]
            accepted["same_field"] = np.minimum(*separations) > self.field_radius
        for name in APPLIED:
            value = getattr(self, name)
            if name not in skip and value is not None and np.size(value) > 0:
                accepted[name] = _is_accepted(name, value, target, off)
        # this way round, a comparison with NaN rejects
        return {name: ~np.asarray(mask) for name, mask in accepted.items()}


def describe_rejections(counts, n_candidates):
    """Say which criterion removed most candidates.

    Parameters
    ----------
    counts : dict of int
        Number of candidates that each criterion rejects.
    n_candidates : int
        Number of candidates.

    Returns
    -------
    text : str
        Sentences, with the way out for an archive of one object or field.
    """
    name = max(counts, key=counts.get) if counts else "nothing"
    most = counts.get(name, 0)
    ways_out = [
        text for key, text in WAYS_OUT.items() if most and counts.get(key) == most
    ]
    removed = f"The criterion that removed most is {name!r}: {most} of {n_candidates}"
    return " ".join([f"{removed} candidates.", *ways_out])


def _to_circle(circle):
    if isinstance(circle, CircleSkyRegion):
        return circle
    lon, lat, radius = circle
    return CircleSkyRegion(
        SkyCoord(to_angle(lon), to_angle(lat)), to_angle(radius).to("deg")
    )


def _is_accepted(name, value, target, off):
    """Whether a criterion accepts OFF observations. Shape (n_off,)."""
    match name:
        case "airmass" | "nsb" | "n_tels":
            return np.abs(getattr(off, name) - getattr(target, name)) <= value
        # of the target's, not of the candidate's: one limit for all of them
        case "livetime" | "muon_efficiency":
            own = getattr(target, name)
            return np.abs(getattr(off, name) - own) <= value * own
        case "azimuth":
            # north is 0 and 360 deg
            difference = (off.azimuth - target.azimuth + 180) % 360 - 180
            return np.abs(difference) <= value.deg
        case "time_difference":
            return np.abs(off.mjd - target.mjd) <= value.to_value("d")
        case "epochs":
            epochs = value.mjd
            return np.searchsorted(epochs, off.mjd) == np.searchsorted(
                epochs, target.mjd
            )
        case "galactic_latitude":
            return np.abs(off.pointing.galactic.b) > value
        case "elevation":
            low, high = value.deg
            return (off.elevation >= low) & (off.elevation <= high)
        case "exclude_objects":
            return ~np.isin(off.name, value)
        case "exclude_circles":
            outside = [off.pointing.separation(_.center) > _.radius for _ in value]
            return np.all(outside, axis=0)
        case "exclude_obs_ids":
            return ~np.isin(off.obs_id, value)
