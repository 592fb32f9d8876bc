"""Background templates: counts of OFF observations over their exposure.

Counts and exposure are those of the same part of the field of view (FoV): source
regions are cut from the events and from the solid angle by one and the same test.
The result is a background IRF, a rate per observation time, energy and solid angle.
"""

import copy
import functools
import itertools
import logging

import astropy.units as u
import numpy as np
from astropy.coordinates import AltAz
from astropy.io import fits
from gammapy.data import Observation
from gammapy.irf import Background2D, Background3D
from gammapy.maps import MapAxes, MapAxis
from gammapy.utils.fits import HDULocation
from scipy.interpolate import BSpline

from .binning import make_ring
from .fov import altaz_to_radec
from .observation import (
    get_fixed_pointing,
    get_fov_alignment,
    get_hdu,
    load_events_file,
)
from .sky_regions import (
    check_regions,
    find_excluded,
    get_offset,
    local_axes,
    make_exclusion,
    to_vectors,
)
from .version import __version__

__all__ = [
    "TemplateBins",
    "TemplateCounts",
    "describe_group",
    "make_group_labels",
    "make_template",
    "make_templates",
    "select_livetime",
    "smooth_rate",
]

log = logging.getLogger(__name__)

CELL_SIZE = 0.02  # deg, of the cells that tell how much of a bin is masked
RING_STEP = 4  # of the points of rings: fractions are true to 1e-3
TIME_STEP = 60.0  # s, of the rotation of the FoV
# A bin of which less is unmasked has no exposure: in it the area of the cells is not
# precise, and its few counts would be scaled up.
MIN_FRACTION = 0.05
SAFE_TOLERANCE = 1e-5  # of energies: bin edges may be in float32
MIN_SHAPE, MAX_CHANGE = 0.01, 0.3  # where the slope inside a bin is not precise
EMPTY_COUNTS = 0.5  # a bin without counts has at most the rate of so many
SPECTRAL_INDEX = 2.7  # of cosmic rays, where the counts do not tell
MAX_LOG_CHANGE = 0.1  # in a step of a correction that may not converge

DIMENSIONS = {"2d": Background2D, "3d": Background3D}
DEFAULT_AXES = {
    "energy": ((0.1, 100), 24),
    "offset": ((0, 2.5), 10),
    "fov_lon": ((-2.5, 2.5), 20),
    "fov_lat": ((-2.5, 2.5), 20),
}
"""Bounds, in TeV or deg, and numbers of bins."""
LIMITS = {"energy": (0, np.inf), "offset": (0, 90)}
"""Limits of the edges, in TeV or deg. Else -90 to 90 deg."""
ALIGNMENTS = ("auto", "RADEC", "ALTAZ")
SMOOTH_OPTIONS = {"gauss": "sigma", "poly": "degree", "spline": "n_intervals"}
WRAPPED_COLUMNS = ("AZ_PNT", "RA_PNT", "GLON_PNT", "RA_OBJ")


def make_template(
    observations,
    dimension="2d",
    energy_axis=None,
    offset_axis=None,
    fov_lon_axis=None,
    fov_lat_axis=None,
    exclusion_regions=(),
    fov_alignment="auto",
    smooth=None,
    smooth_options=None,
):
    """Make a background IRF from the events of observations.

    Each observation counts in the energy bins that lie in its safe energy range, if the
    effective area has one (LO_THRES, HI_THRES). The template ends one bin beyond the
    bins that are in the safe range of any observation: there the spectrum is continued,
    because Gammapy interpolates up to the limit of the safe range.

    The values are not the mean rates of the bins, but those from which Gammapy, which
    interpolates the log of the rate between bin centres, predicts the counts, see
    `make_nodes`. That interpolation makes a hole, as wide as a bin, around each bin
    without counts. Such a bin gets the rate expected from the spectrum and the mean
    shape of the FoV, at most that of half a count. If many bins are empty then make
    them wider, or smooth. Where all observations are masked the rate is interpolated in
    offset, with a warning.

    Gammapy takes a power law between the edges of the energy bins of a dataset. If
    those are much wider than the bins of the template then use
    ``MapDatasetMaker(background_oversampling=...)``.

    Parameters
    ----------
    observations : `~gammapy.data.Observations` or list of, or one, Observation
        OFF observations, or a single one for a background from the run itself. They
        are read one at a time, and what is read is not kept.
    dimension : {"2d", "3d"}, optional
        Rate as a function of offset or of FoV position. Default is "2d".
    energy_axis : `~gammapy.maps.MapAxis`, optional
        Energy axis, "energy". Default is 8 bins a decade from 0.1 to 100 TeV.
    offset_axis : `~gammapy.maps.MapAxis`, optional
        Offset axis, "offset", for "2d". Default is 10 bins to 2.5 deg. Gammapy goes on
        with the rate of the last bin for one bin more.
    fov_lon_axis, fov_lat_axis : `~gammapy.maps.MapAxis`, optional
        Axes "fov_lon" and "fov_lat", for "3d". Default is 20 bins from -2.5 to 2.5 deg.
    exclusion_regions : list of `~regions.SkyRegion`, optional
        Sources in any of the fields.
    fov_alignment : {"auto", "RADEC", "ALTAZ"}, optional
        What a 3D template is aligned with. "auto" is the alignment of the background
        IRF of the first observation. Default is "auto".
    smooth : {None, "gauss", "poly", "spline"}, optional
        Smoothing, see `smooth_rate`. Default is None.
    smooth_options : dict, optional
        Options of the smoothing.

    Returns
    -------
    bkg : `~gammapy.irf.Background2D` or `~gammapy.irf.Background3D`
        Background rate, in s-1 TeV-1 sr-1. ``bkg.meta`` has N_OBS, OBS_IDS, ONTIME and
        LIVETIME (in s).

    Raises
    ------
    ValueError
        If there are no observations, an option or axis is not valid, an observation
        was taken in DRIFT mode or has no location ("ALTAZ"), or there are no counts.
    """
    observations = _to_list(observations)
    bins = TemplateBins.create(
        dimension,
        exclusion_regions,
        energy=energy_axis,
        offset=offset_axis,
        fov_lon=fov_lon_axis,
        fov_lat=fov_lat_axis,
    )
    _check_smooth(smooth, smooth_options)
    alignment = _find_alignment(fov_alignment, dimension, observations)
    parts = (TemplateCounts.from_observation(_, bins, alignment) for _ in observations)
    counts = functools.reduce(TemplateCounts.__add__, parts)
    return counts.to_irf(smooth, smooth_options)


def make_templates(observations, obs_table, groups, **kwargs):
    """Make one template for each group of observations.

    Parameters
    ----------
    observations : `~gammapy.data.Observations`
        Observations.
    obs_table : `~gammapy.data.ObservationTable`
        Table with a row for each of them.
    groups : dict of list
        Bin edges by column of the table, see `make_group_labels`.
    **kwargs : dict
        Options of `make_template`.

    Returns
    -------
    templates : dict of `~gammapy.irf.BackgroundIRF`
        Template by label of the group, for the groups that have observations. What
        the group is, is said in ``meta["GROUP"]``.

    Raises
    ------
    ValueError
        If an observation is not in the table, or none is in any group.
    """
    observations = _to_list(observations)
    labels = make_group_labels(obs_table, groups)
    labels = dict(zip(np.asarray(obs_table["OBS_ID"]).tolist(), labels, strict=True))

    members = {}
    for observation in observations:
        obs_id = int(observation.obs_id)
        if obs_id not in labels:
            raise ValueError(f"OBS_ID {obs_id} is not in the observation table.")
        members.setdefault(int(labels[obs_id]), []).append(observation)
    members.pop(-1, None)
    if not members:
        raise ValueError(
            f"None of the {len(observations)} observations is in a group of {groups}."
        )

    templates = {}
    for label in sorted(members):
        templates[label] = make_template(members[label], **kwargs)
        templates[label].meta["GROUP"] = describe_group(groups, label)
    return templates


def make_group_labels(obs_table, groups):
    """Make the label of the group that each observation belongs to.

    Parameters
    ----------
    obs_table : `~astropy.table.Table`
        Observation table.
    groups : dict of list
        Bin edges by column, such as ``{"ZEN_PNT": [0, 30, 49, 90]}``, in the unit of
        the column or as `~astropy.units.Quantity`. The lower edge belongs to a bin.
        With several columns there is a group for each combination. Azimuths and
        right ascensions are wrapped at 360 deg: ``{"AZ_PNT": [-90, 90, 270]}`` is
        north and south.

    Returns
    -------
    labels : `~numpy.ndarray` of int
        From 0, the last column changing first. -1 for a row outside all groups, which
        gives a warning. Shape (n_rows,).

    Raises
    ------
    ValueError
        If a column is missing or has no numbers, or the edges do not increase.
    """
    if not groups:
        raise ValueError("groups is empty, give bin edges by column.")
    indices, shape = [], []
    for name, edges in groups.items():
        values, edges = _read_group(obs_table, name, edges)
        if name in WRAPPED_COLUMNS:
            values = edges[0] + (values - edges[0]) % 360
        idx = np.searchsorted(edges, values, side="right") - 1
        inside = (values >= edges[0]) & (values < edges[-1])  # not NaN
        indices.append(np.where(inside, idx, -1))
        shape.append(len(edges) - 1)

    outside = np.min(indices, axis=0) < 0
    labels = np.ravel_multi_index(np.maximum(indices, 0), shape)
    if outside.any():
        rows = obs_table["OBS_ID"][outside] if "OBS_ID" in obs_table.colnames else []
        log.warning(
            f"{outside.sum()} of {len(outside)} observations are in no group of "
            f"{groups}: OBS_ID {_shorten(rows)}."
        )
    return np.where(outside, -1, labels)


def describe_group(groups, label):
    """Describe the group that a label stands for.

    Parameters
    ----------
    groups : dict of list
        Groups, as for `make_group_labels`.
    label : int
        Label, not -1.

    Returns
    -------
    description : str
        Such as "ZEN_PNT 30 to 49".
    """
    shape = [len(edges) - 1 for edges in groups.values()]
    indices = np.unravel_index(label, shape)
    parts = [
        f"{name} {edges[idx]} to {edges[idx + 1]}"
        for (name, edges), idx in zip(groups.items(), indices, strict=True)
    ]
    return ", ".join(parts)


def select_livetime(livetimes, time_request):
    """Find how many observations, best first, have the livetime asked for.

    Parameters
    ----------
    livetimes : `~astropy.units.Quantity`
        Livetimes, best observation first. Shape (n,).
    time_request : `~astropy.units.Quantity` or str or None
        Livetime asked for. None is all.

    Returns
    -------
    n_obs : int
        Number of observations, the last of which reaches the livetime asked for. All,
        with a warning, if they do not reach it.

    Raises
    ------
    ValueError
        If there are none, or the livetime asked for is not positive.
    """
    livetimes = u.Quantity(livetimes).to("h")
    if livetimes.size == 0:
        raise ValueError("There are no observations to select from.")
    if time_request is None:
        return livetimes.size
    request = u.Quantity(time_request).to("h")
    if not request > 0:
        raise ValueError(f"time_request must be positive, got {time_request}.")

    total = np.cumsum(livetimes)
    # the sum of the livetimes may miss the request by rounding
    enough = total >= request * (1 - 1e-9)
    if not enough.any():
        log.warning(
            f"time_request is {request:.2f}, but there are {total[-1]:.2f} in "
            f"{livetimes.size} observations. Using all."
        )
        return livetimes.size
    return int(np.argmax(enough)) + 1


class TemplateBins:
    """Bins of a template in energy and FoV position, and regions that are left out.

    Directions in the FoV are unit vectors. Their components are those towards growing
    RA or azimuth, which is decreasing ``fov_lon``, growing ``fov_lat``, and the
    pointing.

    Parameters
    ----------
    axes : list of `~gammapy.maps.MapAxis`
        Axes "energy" and "offset", or "energy", "fov_lon" and "fov_lat".
    exclusion_regions : list of `~regions.SkyRegion`, optional
        Regions. Default is none.
    """

    def __init__(self, axes, exclusion_regions=()):
        # as they are after writing and reading: log in energy, linear in position
        energy, *position = axes
        axis = MapAxis.from_energy_edges(energy.edges, name="energy", interp="log")
        self.axes = MapAxes(
            [axis, *(MapAxis.from_edges(_.edges, name=_.name) for _ in position)]
        )
        self.exclusions = [make_exclusion(_) for _ in check_regions(exclusion_regions)]
        self.has_default_energy = False

    @classmethod
    def create(cls, dimension="2d", exclusion_regions=(), **axes):
        """Create from a dimension and axes.

        Parameters
        ----------
        dimension : {"2d", "3d"}
            Dimension.
        exclusion_regions : list of `~regions.SkyRegion`, optional
            Regions. Default is none.
        **axes : dict of `~gammapy.maps.MapAxis`
            Axes by name. What is missing or None has a default, see `make_template`.

        Returns
        -------
        bins : `TemplateBins`
            Bins.

        Raises
        ------
        ValueError
            If the dimension, a region, or name, unit or range of an axis is not valid.
        """
        if dimension not in DIMENSIONS:
            raise ValueError(
                f"dimension must be one of {list(DIMENSIONS)}, got {dimension!r}."
            )
        names = DIMENSIONS[dimension].required_axes
        for name, axis in axes.items():
            if axis is not None and name not in names:
                raise ValueError(
                    f"A template with dimension={dimension!r} has the axes {names}, "
                    f"not {name!r}."
                )
        axes = {name: axes.get(name) for name in names}
        bins = cls([_get_axis(*_) for _ in axes.items()], exclusion_regions)
        bins.has_default_energy = axes["energy"] is None
        return bins

    @property
    def is_3d(self):
        """Whether the rate depends on the FoV position, not on the offset alone."""
        return len(self.axes) == 3

    @functools.cached_property
    def energy_edges(self):
        """Edges of the energy bins, in TeV. Shape (n_energy + 1,)."""
        return self.axes["energy"].edges.to_value("TeV")

    @functools.cached_property
    def energy_width(self):
        """Widths of the energy bins, in TeV. As a column, (n_energy, 1)."""
        return np.diff(self.energy_edges)[:, np.newaxis]

    @functools.cached_property
    def position_edges(self):
        """Edges of offset, or of longitude and latitude, in deg. List of arrays."""
        return [axis.edges.to_value("deg") for axis in self.axes[1:]]

    @functools.cached_property
    def position(self):
        """Centres of the bins, in deg. Shape (1 or 2, n_position)."""
        return _get_grid([_get_center(_) for _ in self.position_edges])

    @functools.cached_property
    def offset(self):
        """Offset of the centres, in deg. Shape (n_position,)."""
        if not self.is_3d:
            return self.position[0]
        return get_offset(_to_fov_vectors(*self.position))

    @property
    def offset_max(self):
        """Offset of the farthest corner, in deg."""
        corner = [np.abs(_).max() for _ in self.position_edges]
        return get_offset(_to_fov_vectors(*corner)) if self.is_3d else corner[0]

    @functools.cached_property
    def ring_edges(self):
        """Edges of rings as wide as the bins, over the whole FoV, in deg."""
        edges = self.position_edges[0]
        if not self.is_3d:
            return edges
        width = np.diff(edges).max()
        return np.arange(0, self.offset.max() + width, width)

    @functools.cached_property
    def solid_angle(self):
        """Solid angles of the bins, in sr. Shape (n_position,)."""
        return _get_solid_angle(*self.position_edges)

    @functools.cached_property
    def cells(self):
        """Fine cells of the FoV: vectors, bins, and weights.

        Shapes (3, n_cells), (n_cells,) and (1 + n_axes, n_cells). The weights are the
        fraction of the solid angle of the bin, and this times the distance in position
        from the mean of the bin, in deg: their sums in a bin are 1 and 0.
        """
        if self.is_3d:
            edges = [_refine(_) for _ in self.position_edges]
            position = _get_grid([_get_center(_) for _ in edges])
            vectors = _to_fov_vectors(*position)
            bins = self.find(vectors)
            fraction = _get_solid_angle(*edges) / self.solid_angle[bins]
        else:
            edges = itertools.pairwise(self.position_edges[0])
            rings = [make_ring(*_)[:, ::RING_STEP] for _ in edges]
            vectors = np.concatenate(rings, axis=1)
            position = get_offset(vectors)[np.newaxis]
            n_points = rings[0].shape[1]
            bins = np.repeat(np.arange(len(rings)), n_points)
            fraction = np.full(len(bins), 1 / n_points)
        mean = [np.bincount(bins, fraction * _)[bins] for _ in position]
        return vectors, bins, np.concatenate([[fraction], fraction * (position - mean)])

    def find(self, vectors):
        """Find the position bins of directions in the FoV, -1 outside. Shape (n,)."""
        position = _to_lon_lat(vectors) if self.is_3d else [get_offset(vectors)]
        indices, inside = [], True
        for values, edges in zip(position, self.position_edges, strict=True):
            indices.append(np.searchsorted(edges, values, side="right") - 1)
            inside &= (indices[-1] >= 0) & (indices[-1] < len(edges) - 1)
        shape = [len(edges) - 1 for edges in self.position_edges]
        idx = np.ravel_multi_index(indices, shape, mode="clip")
        return np.where(inside, idx, -1)

    def find_near_exclusions(self, pointing):
        """Find the regions that reach into the FoV of a pointing, a vector."""
        return [
            _
            for _ in self.exclusions
            if np.arccos((_.axes[2] @ pointing).clip(-1, 1))
            < _.radius + np.radians(self.offset_max)
        ]

    def find_covered(self, energy_min, energy_max):
        """Find the energy bins that lie in a range, in TeV. Shape (n_energy,)."""
        low, high = self.energy_edges[:-1], self.energy_edges[1:]
        tolerance = 1 + SAFE_TOLERANCE
        return (low * tolerance >= energy_min) & (high <= energy_max * tolerance)

    def slice_energy(self, start, stop):
        """Get the bins with the energy bins from start to before stop."""
        edges = self.energy_edges[start : stop + 1] * u.TeV
        energy_axis = MapAxis.from_energy_edges(edges, name="energy")
        return type(self)([energy_axis, *self.axes[1:]])


class TemplateCounts:
    """Counts and exposure of observations, in the bins of a template.

    Those of disjoint sets of observations can be added, so that templates without
    some of the observations can be made without reading them again.

    Parameters
    ----------
    bins : `TemplateBins`
        Bins.
    fov_alignment : {"RADEC", "ALTAZ"}
        What the FoV is aligned with.
    counts : `~numpy.ndarray`
        Counts outside the exclusion regions. Shape (n_energy, n_position).
    exposure : `~numpy.ndarray`
        Observation time times unmasked solid angle, in s sr. Same shape.
    moment : `~numpy.ndarray`
        Exposure times distance in position from the mean of the bin, in s sr deg. 0 in
        a bin that is not masked. Shape (n_axes, n_energy, n_position).
    ontime : `~numpy.ndarray`
        Observation time in whose safe range an energy bin is, in s. Shape (n_energy,).
    meta : dict
        OBS_IDS (list of int), ONTIME and LIVETIME, in s.
    """

    def __init__(self, bins, fov_alignment, counts, exposure, moment, ontime, meta):
        self.bins = bins
        self.fov_alignment = fov_alignment
        self.counts = counts
        self.exposure = exposure
        self.moment = moment
        self.ontime = ontime
        self.meta = meta

    @classmethod
    def from_observation(cls, observation, bins, fov_alignment="RADEC"):
        """Count the events of an observation.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Observation. It is not changed, and does not keep what is read.
        bins : `TemplateBins`
            Bins and exclusion regions.
        fov_alignment : {"RADEC", "ALTAZ"}, optional
            What the FoV is aligned with. Default is "RADEC".

        Returns
        -------
        counts : `TemplateCounts`
            Counts and exposure.

        Raises
        ------
        ValueError
            If the observation was taken in DRIFT mode, or has no location ("ALTAZ").
        """
        observation = copy.copy(observation)
        load_events_file(observation)
        pointing = get_fixed_pointing(observation)
        exclusions = bins.find_near_exclusions(
            to_vectors(pointing.ra.deg, pointing.dec.deg)
        )
        frames = _Frames(observation, pointing, fov_alignment)
        covered = bins.find_covered(*_get_safe_range(observation))
        counts = _count_events(observation, bins, exclusions, frames)
        counts *= covered[:, np.newaxis]
        if not counts.any():
            log.warning(
                f"OBS_ID {observation.obs_id} has no events in the bins of the "
                "template, only exposure."
            )

        fraction = observation.obs_filter.livetime_fraction
        ontime = float(observation.gti.time_sum.to_value("s") * fraction)
        livetime = float(observation.observation_live_time_duration.to_value("s"))
        masked = _get_masked(bins, exclusions, frames)
        time = np.multiply.outer(ontime * covered, bins.solid_angle)
        return cls(
            bins,
            fov_alignment,
            counts,
            time * (1 - masked[0]).clip(0),
            -time * masked[1:, np.newaxis],
            ontime * covered,
            {
                "OBS_IDS": [int(observation.obs_id)],
                "ONTIME": ontime,
                "LIVETIME": livetime,
            },
        )

    def __add__(self, other):
        shared = set(self.meta["OBS_IDS"]) & set(other.meta["OBS_IDS"])
        if shared:
            raise ValueError(f"OBS_ID {sorted(shared)} would be counted twice.")
        if (
            self.fov_alignment != other.fov_alignment
            or self.bins.axes != other.bins.axes
        ):
            raise ValueError(
                "Only counts in the same bins and with the same FoV alignment can be "
                "added."
            )
        return TemplateCounts(
            self.bins,
            self.fov_alignment,
            self.counts + other.counts,
            self.exposure + other.exposure,
            self.moment + other.moment,
            self.ontime + other.ontime,
            {key: value + other.meta[key] for key, value in self.meta.items()},
        )

    def to_irf(self, smooth=None, smooth_options=None):
        """Make the background IRF.

        Parameters
        ----------
        smooth, smooth_options
            As for `make_template`.

        Returns
        -------
        bkg : `~gammapy.irf.Background2D` or `~gammapy.irf.Background3D`
            Background rate, in s-1 TeV-1 sr-1.

        Raises
        ------
        ValueError
            If no bin has exposure, or there are no counts.
        """
        _check_smooth(smooth, smooth_options)
        valid = self._find_exposed()
        start, stop = self._find_energy_range(valid)
        bins = self.bins.slice_energy(start, stop)
        valid = valid[start:stop]
        counts, exposure, *moment = (
            np.where(valid, _[start:stop], 0)
            for _ in (self.counts, self.exposure, *self.moment)
        )
        if not counts.any():
            raise ValueError(
                f"There are no events {self._describe()} outside the exclusion regions."
            )
        self._warn(bins, valid)

        rings = bins.offset, bins.ring_edges
        exposure = exposure * bins.energy_width
        rate = fill_unexposed(counts, exposure, *rings)
        exposure = weight_exposure(
            exposure, np.array(moment) * bins.energy_width, rate, bins.position_edges
        )
        rate = fill_unexposed(counts, exposure, *rings)
        if smooth is not None:
            rate = smooth_rate(
                rate,
                exposure,
                bins.solid_angle,
                bins.position,
                smooth,
                **(smooth_options or {}),
            )
        rate = fill_empty(rate, exposure, bins.energy_edges, bins.solid_angle)
        shape = bins.axes.shape
        rate = make_nodes(rate.reshape(shape), exposure.reshape(shape), bins.axes)
        return self._make_irf(bins, rate)

    def _describe(self):
        low, high = self.bins.energy_edges[[0, -1]]
        obs_ids = _shorten(self.meta["OBS_IDS"])
        return f"between {low:.3g} and {high:.3g} TeV in OBS_ID {obs_ids}"

    def _find_exposed(self):
        """Bins of which enough is unmasked. Shape (n_energy, n_position)."""
        full = np.multiply.outer(self.ontime, self.bins.solid_angle)
        valid = self.exposure > MIN_FRACTION * full
        if not valid.any():
            raise ValueError(
                f"No bin has exposure {self._describe()}: none is in the safe energy "
                "range, or the exclusion regions cover the field of view."
            )
        return valid

    def _find_energy_range(self, valid):
        """First, and one after the last, energy bin of the template.

        With one bin on either side of the exposed ones, because the limit of the safe
        range may lie in it, and Gammapy interpolates up to there.
        """
        exposed = np.flatnonzero(valid.any(axis=1))
        return max(exposed[0] - 1, 0), min(exposed[-1] + 2, len(valid))

    def _warn(self, bins, valid):
        """Say which bins have no exposure, once."""
        exposed = valid.any(axis=1)
        n_unexposed = len(self.ontime) - exposed.sum()
        parts = []
        # a default axis is wide, to be cut
        if n_unexposed and not self.bins.has_default_energy:
            low, high = bins.energy_edges[[0, -1]]
            parts.append(
                f"{n_unexposed} of {len(self.ontime)} energy bins, in the safe range "
                "of no observation (those next to it are extrapolated, the others "
                f"left out: the template is from {low:.3g} to {high:.3g} TeV)"
            )
        masked = ~valid & exposed[:, np.newaxis]
        if masked.any():
            where = ", ".join(_describe_ranges(masked, bins.axes))
            parts.append(
                f"{masked.sum()} of {masked.size} bins, {1 - MIN_FRACTION:.0%} or more "
                f"masked ({where}; the rate is interpolated in offset)"
            )
        if parts:
            log.warning(f"Bins without exposure: {'; '.join(parts)}.")

    def _make_irf(self, bins, rate):
        obs_ids = self.meta["OBS_IDS"]
        meta = {
            "CREATOR": f"gammapy-mimic {__version__}",
            "N_OBS": len(obs_ids),
            "OBS_IDS": ",".join(map(str, obs_ids)),
            "ONTIME": self.meta["ONTIME"],
            "LIVETIME": self.meta["LIVETIME"],
        }
        if not bins.is_3d:
            return Background2D(bins.axes, rate, unit="s-1 TeV-1 sr-1", meta=meta)
        return Background3D(
            bins.axes,
            rate,
            unit="s-1 TeV-1 sr-1",
            fov_alignment=self.fov_alignment,
            meta=meta | {"FOVALIGN": self.fov_alignment},
        )


def fill_unexposed(counts, exposure, offset, ring_edges):
    """Divide counts by exposure, and interpolate in offset where there is none.

    Parameters
    ----------
    counts, exposure : `~numpy.ndarray`
        Counts and exposure, both 0 where there is no exposure. Shape (n_energy,
        n_position).
    offset : `~numpy.ndarray`
        Offset of the positions, in deg. Shape (n_position,).
    ring_edges : `~numpy.ndarray`
        Edges of rings around the pointing, in deg.

    Returns
    -------
    rate : `~numpy.ndarray`
        Rate. Where there is no exposure it is interpolated linearly, per energy,
        between the rings with exposure, and that of the nearest ring beyond them; 0 at
        energies without any exposure.
    """
    valid = exposure > 0
    rate = _divide(counts, exposure, 0)
    ring = np.searchsorted(ring_edges, offset, side="right")
    for idx in np.flatnonzero(valid.any(axis=1) & ~valid.all(axis=1)):
        weights = counts[idx], exposure[idx], exposure[idx] * offset
        sums = np.array([np.bincount(ring, _) for _ in weights])
        ring_counts, ring_exposure, moment = sums[:, sums[1] > 0]
        missing = ~valid[idx]
        rate[idx, missing] = np.interp(
            offset[missing], moment / ring_exposure, ring_counts / ring_exposure
        )
    return rate


def weight_exposure(exposure, moment, rate, position_edges):
    """Weight the exposure by the slope of the rate inside the bins.

    The mean rate of a bin that is partly masked is not that of the part which is left.

    Parameters
    ----------
    exposure : `~numpy.ndarray`
        Exposure. Shape (n_energy, n_position).
    moment : `~numpy.ndarray`
        Exposure times distance from the mean of the bin, in deg. Shape (n_axes,
        n_energy, n_position).
    rate : `~numpy.ndarray`
        First estimate of the rate. Its slope is taken from the sum over energies.
        Shape (n_energy, n_position).
    position_edges : list of `~numpy.ndarray`
        Edges of the bins of each axis, in deg.

    Returns
    -------
    exposure : `~numpy.ndarray`
        Exposure that gives, with the counts, the mean rate of the bin.
    """
    centers = [_get_center(_) for _ in position_edges]
    shape = np.reshape(exposure.sum(axis=1) @ rate, [len(_) for _ in centers])
    log_shape = np.log(np.maximum(shape, MIN_SHAPE * shape.max()))
    change = np.zeros(exposure.shape)
    for idx, (center, distance) in enumerate(zip(centers, moment, strict=True)):
        if len(center) > 1:
            change += distance * np.gradient(log_shape, center, axis=idx).ravel()
    limit = MAX_CHANGE * exposure
    return exposure + change.clip(-limit, limit)


def fill_empty(rate, exposure, energy_edges, solid_angle):
    """Give bins without counts a rate, keeping the integral at each energy.

    Parameters
    ----------
    rate, exposure : `~numpy.ndarray`
        Rate and exposure, the product of which is counts. Shape (n_energy, n_position).
    energy_edges : `~numpy.ndarray`
        Edges of the energy bins, in TeV. Shape (n_energy + 1,).
    solid_angle : `~numpy.ndarray`
        Solid angles. Shape (n_position,).

    Returns
    -------
    rate : `~numpy.ndarray`
        Rate, nowhere 0. Where the counts were less than half of one, the rate is at
        least that of the spectrum times the shape of the FoV over all energies, or of
        half a count if that is less. At energies without any counts the spectrum is
        interpolated, or continued by a power law.
    """
    energy = np.sqrt(energy_edges[:-1] * energy_edges[1:])
    shape = np.diff(energy_edges) @ rate
    shape /= shape @ solid_angle
    spectrum = _fill_spectrum(rate @ solid_angle, exposure @ shape, energy)
    # where there are no counts at any energy
    shape = np.maximum(shape, _divide(EMPTY_COUNTS, spectrum @ exposure, 0))
    limit = _divide(EMPTY_COUNTS, exposure, np.inf)
    expected = np.minimum(np.multiply.outer(spectrum, shape), limit)
    return _keep_integral(np.maximum(rate, expected), spectrum, solid_angle)


def _fill_spectrum(spectrum, exposure, energy):
    """Interpolate a spectrum, log in both, where it is 0. Arrays (n_energy,)."""
    log_energy, seen = np.log(energy), spectrum > 0
    nodes, values = log_energy[seen], np.log(spectrum[seen])
    slope = -SPECTRAL_INDEX
    if len(nodes) > 1:
        weights = np.sqrt((spectrum * exposure)[seen])
        slope = np.polynomial.Polynomial.fit(nodes, values, 1, w=weights).deriv()(0)
    filled = np.interp(log_energy, nodes, values)
    filled += slope * (log_energy - log_energy.clip(nodes[0], nodes[-1]))
    limit = _divide(EMPTY_COUNTS, exposure, np.inf)
    return np.where(seen, spectrum, np.minimum(np.exp(filled), limit))


def smooth_rate(rate, exposure, solid_angle, position, method="gauss", **options):
    """Smooth a rate over the FoV, keeping its integral at each energy.

    - "gauss": mean of the neighbours, weighted by exposure and by a Gauss function of
      the distance in offset, or in longitude and latitude. Option ``sigma``, an angle,
      default 0.2 deg. It flattens what is not wider than that.
    - "poly": the log of the rate is a polynomial in offset (even powers), or in
      longitude and latitude. Option ``degree``, default 6.
    - "spline": the same with cubic splines. Option ``n_intervals`` between knots, in
      each direction, default 4.

    "poly" and "spline" are fitted to the counts by maximum likelihood (Poisson), first
    the shape over all energies, then its change at each energy. Where there are few
    counts the change is held near zero by a normal prior of width 1 on its
    coefficients.

    Parameters
    ----------
    rate : `~numpy.ndarray`
        Rate, not negative. Shape (n_energy, n_position).
    exposure : `~numpy.ndarray`
        Exposure, the product with the rate is counts. 0 where the rate is not measured.
        Same shape.
    solid_angle : `~numpy.ndarray`
        Solid angles. Shape (n_position,).
    position : `~numpy.ndarray`
        Offset, or longitude and latitude, in deg. Shape (1 or 2, n_position).
    method : {"gauss", "poly", "spline"}, optional
        Method. Default is "gauss".
    **options : dict, optional
        Option of the method.

    Returns
    -------
    rate : `~numpy.ndarray`
        Smooth rate, never negative. The sum of rate times solid angle at each energy is
        that of the input. Same shape.

    Raises
    ------
    ValueError
        If the method or an option is not valid.
    """
    _check_smooth(method, options)
    integral = rate @ solid_angle
    if method == "gauss":
        result = _smooth_gauss(rate, exposure, position, **options)
    else:
        basis = {"poly": _make_polynomials, "spline": _make_splines}[method]
        result = _fit_rate(rate * exposure, exposure, basis(position, **options))
    return _keep_integral(result, integral, solid_angle)


def _keep_integral(rate, integral, solid_angle):
    """Scale the rate at each energy to an integral, of shape (n_energy,)."""
    return rate * _divide(integral, rate @ solid_angle, 0)[:, np.newaxis]


def _smooth_gauss(rate, exposure, position, sigma="0.2 deg"):
    sigma = u.Quantity(sigma).to_value("deg")
    centers = [np.unique(_) for _ in position]
    kernels = [np.exp(-(((_ - _[:, np.newaxis]) / sigma) ** 2) / 2) for _ in centers]
    shape = len(rate), *map(len, centers)

    counts, weights = (
        _apply(kernels, _.reshape(shape)).reshape(rate.shape)
        for _ in (rate * exposure, exposure)
    )
    # divided by the exposure within reach, which normalises the kernel in each bin
    reached = weights > 1e-6 * exposure.max()
    return np.divide(counts, weights, out=rate.copy(), where=reached)


def _make_polynomials(position, degree=6):
    """Legendre polynomials. Shape (n_position, n_terms)."""
    vander = np.polynomial.legendre.legvander
    terms = [vander(_ / np.abs(_).max(), degree) for _ in position]
    if len(terms) == 1:
        return terms[0][:, ::2]  # even: smooth across the pointing
    first, second = np.indices((degree + 1, degree + 1))
    return _multiply(*terms)[:, (first + second <= degree).ravel()]


def _make_splines(position, n_intervals=4):
    """Cubic B-splines. Shape (n_position, n_terms)."""
    terms = []
    for values in position:
        knots = np.linspace(values.min(), values.max(), n_intervals + 1)
        knots = np.pad(knots, 3, mode="edge")
        terms.append(BSpline.design_matrix(values, knots, 3).toarray())
    return terms[0] if len(terms) == 1 else _multiply(*terms)


def _multiply(first, second):
    """All products of terms. Shape (n_position, n_first * n_second)."""
    return (first[:, :, np.newaxis] * second[:, np.newaxis]).reshape(len(first), -1)


def _fit_rate(counts, exposure, basis):
    """Fit the log of the rate, at each energy, by terms of shape (n_position, n)."""
    total, total_exposure = counts.sum(axis=1), exposure.sum(axis=1)
    mean = _divide(total, total_exposure, 0)
    shape = _fit_factor(counts.sum(axis=0), mean @ exposure, basis)
    result = np.zeros(counts.shape)
    for idx in np.flatnonzero(total):
        expected = exposure[idx] * shape
        scale = total[idx] / expected.sum()
        factor = _fit_factor(counts[idx], scale * expected, basis)
        result[idx] = scale * shape * factor
    return result


def _fit_factor(counts, expected, basis, n_steps=50):
    """Fit the ratio of counts to what is expected, by the exponential of the terms.

    Newton's method for the Poisson likelihood and a normal prior on the coefficients,
    which has a single maximum.
    """
    coefficients = np.zeros(basis.shape[1])
    for _ in range(n_steps):
        predicted = expected * np.exp(basis @ coefficients)
        gradient = basis.T @ (counts - predicted) - coefficients
        hessian = (basis.T * predicted) @ basis + np.eye(len(coefficients))
        step = np.linalg.solve(hessian, gradient)
        change = np.abs(basis @ step).max()
        coefficients += step / max(change, 1)
        if change < 1e-6:
            break
    return np.exp(basis @ coefficients)


def make_nodes(rate, exposure, axes, degree=4, n_steps=10):
    """Make the values to interpolate between, from the mean rates in bins.

    Gammapy interpolates the log of the rate between the centres of the bins, log in
    energy. The integral of that over a bin is not the value at its centre: by the slope
    of the spectrum, the growth of the solid angle with offset, the curvature, and also
    because noise makes the mean of the log smaller than the log of the mean.

    First the rate is scaled, along each axis, by the ratio of centre and mean of a
    smooth function. Then by a smooth function of the bin, such that the integrals in
    the bins along each axis are on average those of the mean rate, and the total
    exactly. To make them exact in each bin would undo the averaging of neighbours, and
    amplify the noise. Smooth is the exponential of a polynomial.

    Parameters
    ----------
    rate, exposure : `~numpy.ndarray`
        Mean rate in the bins, nowhere 0, and exposure, the product of which is counts.
        Same shape as the axes.
    axes : `~gammapy.maps.MapAxes`
        Axes of a background IRF.
    degree : int, optional
        Degree of the polynomials. Default is 4.
    n_steps : int, optional
        Number of steps to solve for them. Default is 10.

    Returns
    -------
    rate : `~numpy.ndarray`
        Rate at the centres. Same shape.
    """
    rules = [_make_rule(axis) for axis in axes]
    _, interpolate, integrate = zip(*rules, strict=True)
    target = rate * _apply(integrate, np.ones([_.shape[1] for _ in integrate]))
    counts = rate * exposure

    def sum_others(values, idx):
        return values.sum(axis=tuple(_ for _ in range(rate.ndim) if _ != idx))

    def expand(values, idx):
        return values.reshape([-1 if _ == idx else 1 for _ in range(rate.ndim)])

    log_rate = np.log(rate)
    for idx, rule in enumerate(rules):
        margins = sum_others(target, idx), sum_others(counts, idx)
        log_rate += expand(_get_log_factor(*margins, rule, degree, n_steps), idx)
    for _ in range(n_steps):
        predicted = _apply(integrate, np.exp(_apply(interpolate, log_rate)))
        log_norm = np.log(target.sum() / predicted.sum())
        changes = [
            _fit_polynomial(
                np.arange(n_bins),
                np.log(sum_others(target, idx) / sum_others(predicted, idx)) - log_norm,
                sum_others(counts, idx),
                degree - 1,
            )
            for idx, n_bins in enumerate(rate.shape)
        ]
        for idx, change in enumerate(changes):
            log_rate += expand(change.clip(-MAX_LOG_CHANGE, MAX_LOG_CHANGE), idx)
        log_rate += log_norm
    return np.exp(log_rate)


def _get_log_factor(target, counts, rule, degree, n_steps):
    """Log of the ratio of centre and mean, of a smooth function with the integrals.

    Shape (n,), as the integrals in the bins of an axis, and their counts.
    """
    nodes, interpolate, integrate = rule
    width = integrate.sum(axis=1)
    log_value = np.log(target / width)
    for _ in range(n_steps):
        log_integral = np.log(integrate @ np.exp(interpolate @ log_value))
        log_value += np.log(target) - log_integral
        log_value = _fit_polynomial(nodes, log_value, counts, degree)
    log_integral = np.log(integrate @ np.exp(interpolate @ log_value))
    return log_value - log_integral + np.log(width)


def _fit_polynomial(x, values, counts, degree):
    """Smooth values that have the errors of counts. Shape (n,)."""
    # a bin without counts has a weight, for there to be a solution
    weights = np.sqrt(counts + 0.01)
    degree = min(degree, len(values) - 1)
    if degree == 0:
        return np.full(len(values), np.average(values, weights=weights**2))
    return np.polynomial.Polynomial.fit(x, values, degree, w=weights)(x)


def _make_rule(axis):
    """Matrices to interpolate to points in the bins, and to integrate over bins.

    After the nodes, of shape (n,), log in energy, in rad else. In each half of a bin
    there are two points of Gauss-Legendre: shapes (4 n, n) and (n, 4 n).
    """
    is_energy = axis.name == "energy"
    edges = axis.edges.to_value("TeV" if is_energy else "rad")
    edges = np.log(edges) if is_energy else edges
    nodes = _get_center(edges)
    breaks = np.sort(np.concatenate([edges, nodes]))
    half = np.diff(breaks) / 2
    points = _get_center(breaks)[:, np.newaxis] + np.outer(half, [-1, 1] / np.sqrt(3))
    points, weights = points.ravel(), np.repeat(half, 2)
    measure = {
        "energy": np.exp,
        "offset": lambda offset: 2 * np.pi * np.sin(offset),
        "fov_lon": np.ones_like,
        "fov_lat": np.cos,
    }[axis.name]
    integrate = np.repeat(np.eye(len(nodes)), 4, axis=1) * weights * measure(points)

    interpolate = np.zeros((len(points), len(nodes)))
    if len(nodes) == 1:
        return nodes, interpolate + 1, integrate
    idx = (np.searchsorted(nodes, points) - 1).clip(0, len(nodes) - 2)
    share = (points - nodes[idx]) / (nodes[idx + 1] - nodes[idx])
    if axis.name == "offset":  # MapDatasetMaker pads it towards the pointing
        share = share.clip(0)
    rows = np.arange(len(points))
    interpolate[rows, idx], interpolate[rows, idx + 1] = 1 - share, share
    return nodes, interpolate, integrate


def _divide(values, divisor, fallback):
    """Divide, with a value to fall back on where the divisor is 0."""
    out = np.full(divisor.shape, float(fallback))
    return np.divide(values, divisor, out=out, where=divisor > 0)


def _apply(matrices, array):
    """Multiply the last axes of an array by one matrix each."""
    first = array.ndim - len(matrices)
    for axis, matrix in reversed(list(enumerate(matrices, start=first))):
        before, after = array.shape[:axis], array.shape[axis + 1 :]
        if after:
            array = matrix @ array.reshape(*before, array.shape[axis], -1)
        else:
            array = array @ matrix.T
        array = array.reshape(*before, len(matrix), *after)
    return array


class _Frames:
    """The FoV of an observation, fixed to the sky or turning.

    That it turns rigidly is true to about an arcsecond, the change of aberration over
    the FoV.
    """

    def __init__(self, observation, pointing, alignment):
        self.axes = local_axes(pointing.ra.deg, pointing.dec.deg)
        self.gti = observation.gti
        self.is_fixed = alignment == "RADEC"
        if not self.is_fixed:
            self._nodes, self._up = _get_up(observation, pointing)

    def make(self, time):
        """Matrices from ICRS to FoV vectors, at times in s after ``gti.time_ref``.

        Shape (n, 3, 3), or (1, 3, 3) if it is fixed.
        """
        if self.is_fixed:
            return self.axes[np.newaxis]
        pointing = self.axes[2]
        up = np.stack([np.interp(time, self._nodes, _) for _ in self._up], axis=-1)
        up -= (up @ pointing)[:, np.newaxis] * pointing
        up /= np.linalg.norm(up, axis=1, keepdims=True)
        # azimuth turns the other way round than right ascension
        right = np.cross(pointing, up)
        return np.stack([right, up, np.full_like(up, pointing)], axis=1)

    def make_mean(self):
        """Matrices for steps of the good time, and their weights. Shape (n,)."""
        if self.is_fixed:
            return self.axes[np.newaxis], np.ones(1)
        edges = [
            np.linspace(start, stop, int(np.ceil((stop - start) / TIME_STEP)) + 1)
            for start, stop in zip(*_get_good_time(self.gti), strict=True)
        ]
        weights = np.concatenate([np.diff(_) for _ in edges])
        time = np.concatenate([_get_center(_) for _ in edges])
        return self.make(time), weights / weights.sum()


def _get_up(observation, pointing):
    """Get times, and vectors (ICRS) to 1 deg above the pointing: (n,), (3, n)."""
    location = observation.observatory_earth_location
    if location is None:
        raise ValueError(
            f"OBS_ID {observation.obs_id} has no observatory location, which "
            "fov_alignment='ALTAZ' needs."
        )
    start, stop = _get_good_time(observation.gti)
    start, stop = start.min(), stop.max()
    nodes = np.linspace(start, stop, int(np.ceil((stop - start) / TIME_STEP)) + 1)
    times = observation.gti.time_ref + nodes * u.s
    frame = AltAz(obstime=times, location=location)
    return nodes, to_vectors(*altaz_to_radec(0, 1, pointing, frame))


def _get_good_time(gti):
    """Start and stop, in s after ``gti.time_ref``."""
    return gti.met_start.to_value("s"), gti.met_stop.to_value("s")


def _count_events(observation, bins, exclusions, frames):
    """Count the events in the good time, outside the regions.

    Shape (n_energy, n_position).
    """
    events, gti = observation.events, observation.gti
    time = (events.time - gti.time_ref).to_value("s")
    start, stop = (_[:, np.newaxis] for _ in _get_good_time(gti))
    good = np.any((time >= start) & (time <= stop), axis=0)
    radec = events.radec
    vectors = to_vectors(radec.ra.deg, radec.dec.deg)
    good &= ~find_excluded(vectors, exclusions)

    idx_position = bins.find(_rotate(frames.make(time), vectors))
    energy = events.energy.to_value("TeV")
    idx_energy = np.searchsorted(bins.energy_edges, energy, side="right") - 1
    shape = len(bins.energy_edges) - 1, bins.solid_angle.size
    good &= (idx_position >= 0) & (idx_energy >= 0) & (idx_energy < shape[0])
    idx = np.ravel_multi_index([idx_energy[good], idx_position[good]], shape)
    return np.bincount(idx, minlength=np.prod(shape)).reshape(shape)


def _get_masked(bins, exclusions, frames):
    """Sum the weights of the cells in the regions, in the mean over the good time.

    See `TemplateBins.cells`. Shape (1 + n_axes, n_position).
    """
    masked = np.zeros((len(bins.axes), bins.solid_angle.size))
    if not exclusions:
        return masked
    vectors, idx, weights = bins.cells
    for frame, duration in zip(*frames.make_mean(), strict=True):
        # the regions are turned into the FoV
        turned = [_._replace(axes=_.axes @ frame.T) for _ in exclusions]
        inside = np.flatnonzero(find_excluded(vectors, turned))
        for result, weight in zip(masked, weights, strict=True):
            result += np.bincount(
                idx[inside], duration * weight[inside], minlength=len(result)
            )
    return masked


def _rotate(frames, vectors):
    """Multiply vectors of shape (3, n) by one matrix, or by one each."""
    if len(frames) == 1:
        return frames[0] @ vectors
    return np.einsum("nij,jn->in", frames, vectors)


def _get_safe_range(observation):
    """Safe energy range of an observation in TeV, reading no more than a header."""
    aeff = get_hdu(observation, "aeff")
    if isinstance(aeff, HDULocation):
        header = fits.getheader(aeff.path(), aeff.hdu_name)
    else:
        header = {} if aeff is None else aeff.meta
    # 0 is none, as in Gammapy
    return header.get("LO_THRES") or 0, header.get("HI_THRES") or np.inf


def _to_fov_vectors(lon, lat):
    """Vectors, of shape (3, n), for ``fov_lon`` and ``fov_lat`` in deg."""
    return to_vectors(-lon, lat)[[1, 2, 0]]


def _to_lon_lat(vectors):
    """``fov_lon`` and ``fov_lat``, in deg, of vectors of shape (3, n)."""
    x, y, z = vectors
    return np.degrees(np.arctan2(-x, z)), np.degrees(np.arctan2(y, np.hypot(x, z)))


def _get_center(edges):
    return (edges[:-1] + edges[1:]) / 2


def _get_grid(centers):
    """All combinations, of shape (n_axes, n)."""
    return np.reshape(np.meshgrid(*centers, indexing="ij"), (len(centers), -1))


def _get_solid_angle(*edges):
    """Solid angle, in sr, of rings, or of rectangles in longitude and latitude."""
    edges = [np.radians(_) for _ in edges]
    if len(edges) == 1:
        return -2 * np.pi * np.diff(np.cos(edges[0]))
    lon, lat = edges
    return np.multiply.outer(np.diff(lon), np.diff(np.sin(lat))).ravel()


def _refine(edges):
    """Divide bins, in deg, into cells."""
    n_cells = np.ceil(np.diff(edges) / CELL_SIZE).astype(int)
    parts = map(np.linspace, edges[:-1], edges[1:], n_cells + 1)
    return np.append(np.concatenate([_[:-1] for _ in parts]), edges[-1])


def _get_axis(name, axis):
    """Check an axis, or make the default."""
    unit = "TeV" if name == "energy" else "deg"
    if axis is None:
        bounds, n_bins = DEFAULT_AXES[name]
        interp = "log" if name == "energy" else "lin"
        axis = MapAxis.from_bounds(*bounds, n_bins, interp=interp, name=name, unit=unit)
    if axis.name != name:
        raise ValueError(
            f"The {name} axis must have the name {name!r}, got {axis.name!r}."
        )
    if not axis.unit.is_equivalent(unit):
        raise ValueError(
            f"The {name} axis must have a unit like {unit!r}, got {str(axis.unit)!r}."
        )
    low, high = LIMITS.get(name, (-90, 90))
    edges = axis.edges.to_value(unit)
    if not (edges[0] >= low and edges[-1] <= high):
        raise ValueError(
            f"The {name} axis must lie between {low} and {high} {unit}, "
            f"got {edges[0]:.4g} to {edges[-1]:.4g} {unit}."
        )
    return axis


def _to_list(observations):
    if isinstance(observations, Observation):
        observations = [observations]
    observations = list(observations)
    if not observations:
        raise ValueError("There are no observations to make a template of.")
    return observations


def _find_alignment(alignment, dimension, observations):
    if alignment not in ALIGNMENTS:
        raise ValueError(
            f"fov_alignment must be one of {ALIGNMENTS}, got {alignment!r}."
        )
    if dimension == "2d":
        return "RADEC"
    if alignment == "auto":
        return get_fov_alignment(observations[0]).upper()
    return alignment


def _check_smooth(method, options):
    if method is None and not options:
        return
    if method not in SMOOTH_OPTIONS:
        raise ValueError(
            f"smooth must be None or one of {list(SMOOTH_OPTIONS)}, got {method!r}."
        )
    unknown = sorted(set(options or {}) - {SMOOTH_OPTIONS[method]})
    if unknown:
        raise ValueError(
            f"smooth={method!r} has no option {unknown}, but "
            f"{SMOOTH_OPTIONS[method]!r}."
        )


def _describe_ranges(mask, axes):
    """Describe the range of each axis in which a mask has any True."""
    mask = mask.reshape(axes.shape)
    for idx, axis in enumerate(axes):
        others = tuple(_ for _ in range(mask.ndim) if _ != idx)
        found = np.flatnonzero(mask.any(axis=others))
        low, high = axis.edges.value[[found[0], found[-1] + 1]]
        yield f"{axis.name} {low:.3g} to {high:.3g} {axis.unit}"


def _read_group(table, name, edges):
    """Values of a column and edges, as floats in the unit of the column."""
    if name not in table.colnames:
        raise ValueError(f"There is no column {name!r}, choose from {table.colnames}.")
    column = table[name]
    if column.dtype.kind not in "iuf":
        raise ValueError(f"Column {name!r} has no numbers, but {column.dtype}.")
    if isinstance(edges, u.Quantity):
        edges = edges.to_value(column.unit)
    edges = np.asarray(edges, dtype=float)
    if len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise ValueError(
            f"The edges of {name!r} must be 2 or more that increase, got {edges}."
        )
    return np.asarray(column, dtype=float), edges


def _shorten(obs_ids, n_max=10):
    """OBS_IDs as text, no more than n_max of them."""
    text = ", ".join(str(_) for _ in obs_ids[:n_max])
    more = len(obs_ids) - n_max
    return f"{text} and {more} more" if more > 0 else text
