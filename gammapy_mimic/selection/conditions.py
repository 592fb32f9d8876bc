"""Under which conditions observations were taken, and how much these differ."""

import dataclasses
import functools

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord

from ..data.columns import is_no_value, split_missing
from ..data.events import get_time_ref, read_column
from ..data.obs_ids import to_obs_ids

__all__ = ["Conditions", "get_scatter"]

MAD_TO_SIGMA = 1.4826  # of a normal distribution

FOV_RADIUS_MAX = 10 * u.deg
"""Radius of the field of view of any IACT: an object that is farther off is none."""


TINY = np.finfo(float).tiny

NUMBERS = (
    *("airmass", "zenith", "azimuth", "nsb", "n_tels", "muon_efficiency"),
    *("livetime", "elevation", "mjd"),
)
"""Attributes that hold one number an observation."""

DIFFERENCES = {
    "airmass": "airmass",
    "zenith": "zenith",
    "azimuth": "azimuth",
    "nsb": "nsb",
    "n_tels": "n_tels",
    "muon_efficiency": "muon_efficiency",
    "time_difference": "mjd",
}
"""Criteria that limit the difference of a condition, which makes the distance."""

RELATIVE = ("muon_efficiency",)
"""Those of them whose limit is a fraction of the target's."""

RATIOS = ("rate", "effective_area")
"""Criteria that limit a ratio of OFF and target, either way."""

MUONEFF_MIN = 1e-3
"""Smallest muon efficiency: 0 and -1 stand for an unknown one."""

PERIODS = {"azimuth": 360}
"""Of conditions on a circle."""


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
    effective_area : `~numpy.ndarray`
        Effective area in m2 by energy, NaN where it is not known. Shape
        (n_obs, n_energy).
    columns : dict of `~numpy.ndarray`
        All columns of the table that hold one number an observation, by name.
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
    effective_area: np.ndarray | None = None
    columns: dict = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def airmass(self):
        """Airmass, 1 / sin(elevation)."""
        if self.elevation is None:
            return None
        return 1 / np.sin(np.radians(self.elevation))

    @functools.cached_property
    def galactic_latitude(self):
        """Galactic latitude of the pointing in deg."""
        return self.pointing.galactic.b.deg

    @functools.cached_property
    def zenith(self):
        """Zenith angle in deg."""
        return None if self.elevation is None else 90 - self.elevation

    def get_values(self, name):
        """Get the values of a condition.

        Parameters
        ----------
        name : str
            Attribute, or column of the table.

        Returns
        -------
        values : `~numpy.ndarray` or None
            Values, None if they are not known.
        """
        if name in (*NUMBERS, "effective_area"):
            return getattr(self, name)
        return self.columns.get(name)

    def get_scatter(self, name):
        """Get the robust scatter of a condition, see `get_scatter`, computed once."""
        if name not in self._scatters:
            self._scatters[name] = get_scatter(self.get_values(name), name)
        return self._scatters[name]

    @functools.cached_property
    def _scatters(self):
        return {}

    def get_differences(self, target, name, is_relative=False):
        """Get how much a condition differs from that of a target.

        Parameters
        ----------
        target : `Conditions`
            Conditions of one observation.
        name : str
            Attribute, or column of the table.
        is_relative : bool, optional
            Whether it is a fraction of the target's. Default is False.

        Returns
        -------
        differences : `~numpy.ndarray` or None
            Not negative, in the unit of the condition. NaN where it is not known, None
            if it is not known of target or of any other. Shape (n_obs,).
        """
        values, own = self.get_values(name), target.get_values(name)
        is_known = own is not None and np.isfinite(own) and (own or not is_relative)
        if values is None or not is_known:
            return None
        differences = np.abs(values - own)
        if name in PERIODS:
            period = PERIODS[name]
            differences = np.minimum(differences % period, -differences % period)
        return differences / np.abs(own) if is_relative else differences

    def get_area_ratios(self, target, is_compared):
        """Get the ratios of the effective areas of observations and of a target.

        Parameters
        ----------
        target : `Conditions`
            Conditions of one observation.
        is_compared : `~numpy.ndarray` of bool
            Energies that count, all alike, as counts would bring in their fluctuations.
            Shape (n_energy,).

        Returns
        -------
        log_ratios : `~numpy.ndarray`
            Mean logarithm of the ratio, over the energies at which both are known. NaN
            where there is none. Shape (n_obs,).
        """
        log_ratios = np.full(len(self), np.nan)
        if self.effective_area is None or target.effective_area is None:
            return log_ratios
        areas = self.effective_area, target.effective_area
        off, own = (_[..., is_compared].astype(float) for _ in areas)
        # where an area is 0 or NaN, nothing is known
        with np.errstate(divide="ignore", invalid="ignore"):
            differences = np.log(off / own)
        is_known = np.isfinite(differences)
        n_known = is_known.sum(axis=1)
        total = np.sum(differences, axis=1, where=is_known)
        return np.divide(total, n_known, out=log_ratios, where=n_known > 0)

    @classmethod
    def from_obs_table(cls, table, effective_area=None):
        """Read the conditions from an observation index table.

        Parameters
        ----------
        table : `~gammapy.data.ObservationTable`
            Observation table with ``OBS_ID``, ``RA_PNT``, ``DEC_PNT`` and what the
            criteria need.
        effective_area : `~numpy.ndarray`, optional
            Effective area of its rows, see the attribute. Default is not known.

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
        if effective_area is not None and np.isnan(effective_area).all():
            effective_area = None
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
            # 0 stands for none
            livetime=_read_optional(table, "LIVETIME", "s", minimum=TINY),
            elevation=elevation,
            azimuth=_read_optional(table, "AZ_PNT", "deg"),
            # its unit differs from one experiment to the other
            nsb=_read_optional(table, "NSBLEVEL"),
            n_tels=_read_optional(table, "N_TELS", "", minimum=1),
            muon_efficiency=_read_optional(table, "MUONEFF", "", minimum=MUONEFF_MIN),
            mjd=mjd,
            effective_area=effective_area,
            columns=_read_numbers(table),
        )

    def __len__(self):
        return len(self.obs_id)

    def __getitem__(self, item):
        values = {_.name: getattr(self, _.name) for _ in dataclasses.fields(self)}
        columns = {name: _[item] for name, _ in values.pop("columns").items()}
        values = {name: None if _ is None else _[item] for name, _ in values.items()}
        return Conditions(**values, columns=columns)


def get_scatter(values, name=None):
    """Get the robust scatter of values: 1.4826 times their median absolute deviation.

    Where more than half of them are equal, it is the rms deviation instead.

    Parameters
    ----------
    values : `~numpy.ndarray`
        Values. Those that are NaN do not count. Shape (n,).
    name : str, optional
        Condition. The deviation of azimuths, on the circle, is that from their mean
        direction. Default is None.

    Returns
    -------
    scatter : float
        The standard deviation, if they are normally distributed. NaN without values.
    """
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return np.nan
    period = PERIODS.get(name)
    if period is None:
        deviations = np.abs(values - np.median(values))
    else:
        phases = np.exp(2j * np.pi * values / period)
        deviations = np.abs(np.angle(phases * np.conj(phases.mean())))
        deviations *= period / (2 * np.pi)
    scatter = MAD_TO_SIGMA * np.median(deviations)
    # of most that are equal it is 0, such as numbers of telescopes
    return scatter if scatter > 0 else np.sqrt(np.mean(deviations**2))


def _read_numbers(table):
    """Read the columns that hold one number an observation."""
    numbers = {}
    for name in table.colnames:
        column = table[name]
        if column.ndim == 1 and column.dtype.kind in "iuf":
            values = read_column(table, name)
            if np.isfinite(values).any():
                numbers[name] = values
    return numbers


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
