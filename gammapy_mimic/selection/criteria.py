"""Which OFF observations were taken under the conditions of a target observation."""

import dataclasses
import difflib
import logging
from types import MappingProxyType

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle
from astropy.time import Time

from ..data.obs_ids import shorten
from .conditions import DIFFERENCES, RELATIVE, get_scatter
from .criteria_values import ColumnCriterion, convert_criterion

__all__ = ["ColumnCriterion", "MatchCriteria", "describe_rejections"]

log = logging.getLogger(__name__)

APPLIED = (
    *("livetime", "airmass", "zenith", "azimuth", "nsb", "n_tels"),
    *("muon_efficiency", "time_difference", "epochs", "galactic_latitude"),
    *("elevation", "exclude_objects", "exclude_circles", "exclude_obs_ids"),
)
"""Criteria in the order in which reasons are given."""

COLUMNS = {
    "TRGRATE": ColumnCriterion(relative=True),
    "ZTRGRATE": ColumnCriterion(relative=True),
}
"""Columns of GADF that count in the distance where a table has them."""

AUTO = {"zenith": Angle("15 deg"), "rate": 2.0}
"""Limits where there is one of the airmass."""

COMPARED = DIFFERENCES | {"livetime": "livetime", "epochs": "mjd"}
"""Conditions of the target that criteria compare with."""

WAYS_OUT = {
    "same_object": "Archives of surveys may have one OBJECT for all: same_object: "
    "false accepts partners of the same one.",
    "same_field": "The field of the target may be in all of them: same_field: false "
    "accepts such partners, or set a smaller field_radius. Exclude or scramble the "
    "sources that target and partner share.",
    "livetime": "The criterion livetime rejects OFF observations that are too short: a "
    "larger one accepts more. With livetime='whole' it rejects those that are too long "
    "as well: use livetime='cut', which cuts them.",
}
"""What to do where a criterion rejects all candidates of an archive."""


@dataclasses.dataclass(frozen=True)
class MatchCriteria:
    r"""Conditions that an OFF observation must share with its target observation.

    Criteria that are None are not applied. The observation itself is always rejected.

    Of what they accept, the distance is

    .. math:: \sqrt{\sum_i w_i (\Delta_i / s_i)^2}

    with the differences of airmass, zenith angle, azimuth, NSB, number of telescopes,
    muon efficiency and time, of the columns, and of the logarithms of rates and of
    effective areas. Their scale s is the limit of the criterion, or without one the
    robust scatter of the OFF observations
    (`~gammapy_mimic.selection.conditions.get_scatter`). What is known of the target but
    not of a candidate counts as a difference of one scale. What is not known of the
    target, or of no candidate, or where all are equal, does not count.

    Parameters
    ----------
    livetime : float, optional
        By how much an OFF observation may be shorter than the target, as a fraction of
        the target's livetime. What is longer is cut when it is used, or refused in a
        plan that uses OFF observations whole. Default is 0.1.
    airmass : float, optional
        Largest difference of the airmass, 1 / sin(elevation). Default is 0.15.
    zenith : `~astropy.coordinates.Angle` or str, optional
        Largest difference of the zenith angle: near zenith, where the airmass hardly
        changes, it is what limits. Default is "auto": 15 deg, or none if there is no
        limit of the airmass.
    azimuth : `~astropy.coordinates.Angle` or str, optional
        Largest difference of the azimuths, on the circle. Default is None.
    nsb : float, optional
        Largest difference of NSBLEVEL, in the unit of that column. Default is None.
    n_tels : int, optional
        Largest difference of the number of telescopes. Default is None.
    muon_efficiency : float, optional
        Largest difference of MUONEFF, as a fraction of the target's. Default is 0.3
        where the table has it.
    rate : float, optional
        Largest factor between the rates of events of OFF and target, either way,
        outside all sources and where both are compared. Only what is beyond three
        standard errors of counting counts, here and in the distance. Default is "auto":
        2, or none if there is no limit of the airmass, on which rates depend.
    effective_area : float, optional
        Largest factor between the effective areas of OFF and target, either way: their
        mean ratio in the logarithm, over all energies that are compared alike. Default
        is None. Where one is not known, it rejects nothing.
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
    columns : dict of dict, optional
        Limits and weights of other columns of the observation table, see
        `ColumnCriterion`: ``{"ZTRGRATE": {"max_difference": 0.1, "relative": True}}``.
        TRGRATE and ZTRGRATE have the weight 1 where there are no others.
    weights : dict of float, optional
        Weights of the criteria in the distance, such as ``{"azimuth": 0}``.
        Default is 1 each.
    strict : bool, optional
        Whether a criterion whose column is missing is an error. By default it is
        skipped with a warning.

    Raises
    ------
    ValueError
        If a value makes no sense. Names the criterion, what it can be, and the value.
    """

    livetime: float | None = 0.1
    airmass: float | None = 0.15
    zenith: Angle | None = "auto"
    azimuth: Angle | None = None
    nsb: float | None = None
    n_tels: int | None = None
    muon_efficiency: float | None = 0.3
    rate: float | None = "auto"
    effective_area: float | None = None
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
    columns: dict = dataclasses.field(default_factory=dict)
    weights: dict = dataclasses.field(default_factory=dict)
    strict: bool = False

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = convert_criterion(field.name, getattr(self, field.name))
            # the class is frozen, as what is kept depends on its values
            object.__setattr__(self, field.name, value)
        for name, limit in AUTO.items():
            if isinstance(getattr(self, name), str):
                value = None if self.airmass is None else limit
                object.__setattr__(self, name, value)

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
            If it is no dict, a key is not the name of a criterion, or a value makes no
            sense.
        """
        if isinstance(criteria, cls):
            return criteria
        criteria = {} if criteria is None else criteria
        if not isinstance(criteria, dict):
            raise ValueError(
                "criteria must be a dict such as {'livetime': 0.2}, or MatchCriteria, "
                f"got {criteria!r}"
            )
        names = [_.name for _ in dataclasses.fields(cls)]
        for key in criteria:
            if key not in names:
                close = difflib.get_close_matches(key, names, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"Unknown criterion {key!r}.{hint} Valid: {names}")
        return cls(**criteria)

    def check_columns(self, *conditions):
        """Find the criteria that cannot be applied, as their column is missing.

        Also those that reject nothing, but have a weight in the distance.

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
        columns = DIFFERENCES | {
            "livetime": "livetime",
            "epochs": "mjd",
            "elevation": "elevation",
            "effective_area": "effective_area",
        }
        limits = {name: getattr(self, name) for name in columns}
        limits |= {name: _.max_difference for name, _ in self.columns.items()}
        # those that only have a weight would be missed in the distance
        weights = self.weights | {name: _.weight for name, _ in self.columns.items()}
        unknown = {
            name
            for name, limit in limits.items()
            if (limit is not None or weights.get(name, 0) > 0)
            and any(_.get_values(columns.get(name, name)) is None for _ in conditions)
        }
        # a default that is for those who have the column
        is_default = self.muon_efficiency == type(self).muon_efficiency
        skipped = unknown - ({"muon_efficiency"} if is_default else set())
        if skipped:
            message = f"No column in the observation table for {sorted(skipped)}"
            if self.strict:
                raise ValueError(f"{message}. {self._describe_ways_out(skipped)}")
            log.warning(f"{message}: these criteria are skipped.")
        self._check_targets(conditions[0], unknown)
        return unknown

    def _describe_ways_out(self, skipped):
        """Say what to do about criteria whose column is missing."""
        columns = skipped & set(self.columns)
        limited = {_ for _ in skipped - columns if getattr(self, _) is not None}
        ways_out = {
            "Set {} to None.": limited,
            "Leave {} out of weights.": skipped - columns - limited,
            "Leave {} out of columns.": columns,
        }
        return " ".join(text.format(sorted(_)) for text, _ in ways_out.items() if _)

    def _check_targets(self, targets, skip):
        """Warn of targets of which a condition is not known that others have."""
        for name, attribute in COMPARED.items():
            values = targets.get_values(attribute)
            if getattr(self, name) is None or name in skip or values is None:
                continue
            obs_ids = np.ravel(targets.obs_id)[~np.isfinite(np.ravel(values))].tolist()
            if obs_ids:
                message = f"OBS_ID {shorten(obs_ids)} has no value for {name!r}"
                if self.strict:
                    raise ValueError(f"{message}. Set the one, or the other to None.")
                log.warning(f"{message}: not compared there.")

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
            shape (n_off,). An unknown value (NaN) is rejected, but if that of the
            target is not known, the criterion is not applied.
        """
        accepted = self._find_other_fields(target, off)
        for name in APPLIED:
            value = getattr(self, name)
            if name in skip or value is None or np.size(value) == 0:
                continue
            if _is_known(target, COMPARED.get(name)):
                accepted[name] = _is_accepted(name, value, target, off)
        for name, column in self.columns.items():
            if name in skip or column.max_difference is None:
                continue
            if _is_known(target, name):
                differences = off.get_differences(target, name, column.relative)
                accepted[name] = _is_within(differences, column.max_difference, off)
        # this way round, a comparison with NaN rejects
        return {name: ~np.asarray(mask) for name, mask in accepted.items()}

    def find_field(self, target, off):
        """Find the OFF observations that are of the field of a target observation.

        Parameters
        ----------
        target, off : `Conditions`
            As for `reject`.

        Returns
        -------
        is_field : `~numpy.ndarray` of bool
            Whether one is the target observation itself, or of the same object or
            field, as far as these are criteria. Shape (n_off,).
        """
        return ~np.all([*self._find_other_fields(target, off).values()], axis=0)

    def _find_other_fields(self, target, off):
        """Whether OFF observations are of another field, by criterion."""
        accepted = {"same_observation": off.obs_id != target.obs_id}
        if self.same_object:
            accepted["same_object"] = (off.name != target.name) | (off.name == "")
        if self.same_field:
            # the source is in neighbouring fields too, whatever their OBJECT says
            positions = target.target, target.pointing
            separations = [off.pointing.separation(_) for _ in positions]
            accepted["same_field"] = np.minimum(*separations) > self.field_radius
        return accepted

    @property
    def needs_all_rates(self):
        """Whether rates of all OFF observations count, as their scatter is the scale.

        Without a limit, but with a weight. Else those that the conditions reject need
        no rate (bool).
        """
        return self.rate is None and self.weights.get("rate", 1) > 0

    def reject_ratios(self, log_ratios):
        """Find the OFF observations that differ too much by a factor.

        Parameters
        ----------
        log_ratios : dict of `~numpy.ndarray`
            Logarithm of the ratio of OFF and target, by criterion ("rate" and
            "effective_area"). Shape (n_off,).

        Returns
        -------
        rejected : dict of `~numpy.ndarray`
            Which OFF observations a criterion rejects, not those that are NaN.
        """
        limits = {name: getattr(self, name) for name in log_ratios}
        return {
            name: np.abs(log_ratios[name]) > np.log(limit)
            for name, limit in limits.items()
            if limit is not None
        }

    def get_distances(self, target, off, log_ratios=MappingProxyType({})):
        """Get how much the conditions of OFF observations differ from a target's.

        Parameters
        ----------
        target : `Conditions`
            Conditions of one target observation.
        off : `Conditions`
            Conditions of the OFF observations.
        log_ratios : dict of `~numpy.ndarray`, optional
            As for `reject_ratios`.

        Returns
        -------
        distances : `~numpy.ndarray`
            Distances, see the class. Shape (n_off,).
        """
        total = np.zeros(len(off))
        for name, attribute in DIFFERENCES.items():
            limit, is_relative = getattr(self, name), name in RELATIVE
            limit = getattr(limit, "value", limit)
            column = ColumnCriterion(limit, is_relative, self.weights.get(name, 1))
            total += _get_term(target, off, attribute, column)
        for name, column in (COLUMNS | self.columns).items():
            total += _get_term(target, off, name, column)
        for name, values in log_ratios.items():
            limit, weight = getattr(self, name), self.weights.get(name, 1)
            if weight == 0 or np.isnan(values).all():
                continue
            scale = get_scatter(values) if limit is None else np.log(limit)
            total += weight * _to_scales(np.abs(values), scale) ** 2
        return np.sqrt(total)


def describe_rejections(counts, n_candidates, alone, n_targets=1):
    """Say which criterion removed most candidates, and what would let some in.

    Parameters
    ----------
    counts : dict of int
        Number of candidates that each criterion rejects.
    n_candidates : int
        Number of candidates.
    alone : dict of int
        Number of those that it alone rejects.
    n_targets : int, optional
        Number of targets. Candidates of several are pairs. Default is 1.

    Returns
    -------
    text : str
        Sentences, with the way out for an archive of one object or field, and the line
        of a configuration that lets in most.
    """
    name = max(counts, key=counts.get) if counts else "nothing"
    most = counts.get(name, 0)
    ways_out = [
        text for key, text in WAYS_OUT.items() if most and counts.get(key) == most
    ]
    removed = f"The criterion that removed most is {name!r}: {most} of {n_candidates}"
    what = (
        "candidates" if n_targets == 1 else "pairs of a target and an OFF observation"
    )
    return " ".join([f"{removed} {what}.", _describe_lifting(alone), *ways_out])


def _describe_lifting(alone):
    """Say how many candidates each criterion alone keeps out, and how to lift it."""
    off = {
        field.name: _get_off_value(field) for field in dataclasses.fields(MatchCriteria)
    }
    alone = {name: n for name, n in alone.items() if n and name in off}
    if not alone:
        return "No criterion alone keeps candidates out: lift several."
    alone = dict(sorted(alone.items(), key=lambda _: -_[1]))
    name, *_ = alone
    numbers = ", ".join(f"{number} without {key}" for key, number in alone.items())
    return (
        f"There would be {numbers}: write criteria: {{{name}: {off[name]}}}, on the "
        f"command line -c {name}={off[name]}."
    )


def _get_off_value(field):
    """Value of a criterion that is not applied, in YAML."""
    if isinstance(field.default, bool):
        return "false"
    return "[]" if field.default == () else "null"


def _is_known(target, name):
    """Whether a condition is known of one target, or none is needed."""
    values = None if name is None else target.get_values(name)
    return values is None or bool(np.isfinite(values))


def _is_within(differences, limit, off):
    """Whether differences are within a limit, none of them if they are not known."""
    if differences is None:
        return np.zeros(len(off), dtype=bool)
    return differences <= limit


def _to_scales(differences, scale):
    """Differences in units of a scale, 1 where one is not known, 0 without a scale."""
    if not scale > 0:
        return np.zeros(len(differences))
    return np.where(np.isnan(differences), 1, differences / scale)


def _get_term(target, off, name, column):
    """Term of a condition in the square of the distances. Shape (n_off,)."""
    differences = off.get_differences(target, name, column.relative)
    if column.weight == 0 or differences is None:
        return np.zeros(len(off))
    scale = column.max_difference
    if scale is None:
        scale = off.get_scatter(name)
        scale /= np.abs(target.get_values(name)) if column.relative else 1
    return column.weight * _to_scales(differences, scale) ** 2


def _is_accepted(name, value, target, off):
    """Whether a criterion accepts OFF observations. Shape (n_off,)."""
    if name in DIFFERENCES:
        limit = getattr(value, "value", value)
        differences = off.get_differences(target, DIFFERENCES[name], name in RELATIVE)
        return _is_within(differences, limit, off)
    match name:
        # of the target's, not of the candidate's: one limit for all of them
        case "livetime":
            return off.livetime >= (1 - value) * target.livetime
        case "epochs":
            epochs = value.mjd
            return np.searchsorted(epochs, off.mjd) == np.searchsorted(
                epochs, target.mjd
            )
        case "galactic_latitude":
            return np.abs(off.galactic_latitude) > value.deg
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
