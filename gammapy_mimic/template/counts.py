"""Counts and exposure of observations in the bins of a template."""

import copy
import logging

import astropy.units as u
import numpy as np
from astropy.coordinates import AltAz

from ..data.events import get_seconds
from ..data.irfs import get_safe_range
from ..data.obs_ids import get_obs_id, shorten
from ..data.observation import (
    get_fixed_pointing,
    get_good_events,
    get_gti,
    get_location,
    load_events_file,
)
from ..data.template_irfs import TemplateBackground2D, TemplateBackground3D
from ..exclusion.sky_regions import is_excluded
from ..utils.coordinates import altaz_to_radec, get_axes, to_vectors
from ..utils.random import draw_halves
from ..version import __version__
from .bins import get_center
from .nodes import make_nodes
from .norms import fit_norms
from .rate import estimate_rate
from .smoothing import check_smooth

__all__ = ["TemplateCounts"]

log = logging.getLogger(__name__)

TIME_STEP = 60.0  # s, of the rotation of the FoV
# A bin of which less is unmasked has no exposure: in it the area of the cells is not
# precise, and its few counts would be scaled up.
MIN_FRACTION = 0.05


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
    spectra : `~numpy.ndarray`
        The same of each observation, at all positions. Shape (n_obs, n_energy).
    livetimes : `~numpy.ndarray`
        Livetime of each observation in whose safe range an energy bin is, in s. Shape
        (n_obs, n_energy).
    areas : `~numpy.ndarray`
        Unmasked solid angle of each observation, in sr. Shape (n_obs, n_position).
    moments : `~numpy.ndarray`
        Solid angle times distance in position from the mean of the bin, in sr deg. 0 in
        a bin that is not masked. Shape (n_obs, n_axes, n_position).
    meta : dict
        OBS_IDS (list of int), ONTIME and LIVETIME, in s.
    """

    _has_warned = False  # of what all templates of these counts share

    def __init__(
        self, bins, fov_alignment, counts, spectra, livetimes, areas, moments, meta
    ):
        self.bins = bins
        self.fov_alignment = fov_alignment
        self.counts = counts
        self.spectra = spectra
        self.livetimes = livetimes
        self.areas = areas
        self.moments = moments
        self.meta = meta

    @property
    def livetime(self):
        """Livetime in whose safe range an energy bin is, in s. Shape (n_energy,)."""
        return self.livetimes.sum(axis=0)

    @property
    def exposure(self):
        """Livetime times unmasked solid angle, in s sr. Shape as that of the counts."""
        return self.livetimes.T @ self.areas

    @classmethod
    def from_observation(
        cls, observation, bins, fov_alignment="RADEC", angle=0, half=None
    ):
        """Count the events of an observation.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Observation. It is not changed, and does not keep what is read.
        bins : `TemplateBins`
            Bins and exclusion regions.
        fov_alignment : {"RADEC", "ALTAZ"}, optional
            What the FoV is aligned with. Default is "RADEC".
        angle : float, optional
            Angle, in deg, by which a position is turned about the pointing, from north
            to growing RA or azimuth, to what is counted in its stead. Default is 0.
        half : {None, 0, 1}, optional
            Half of the events to count, see `~gammapy_mimic.utils.random.draw_halves`,
            for which times and exposure are halved, too. Default is None, all events.

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
        get_gti(observation)
        pointing = get_fixed_pointing(observation)
        frames = _Frames(observation, pointing, fov_alignment, angle)
        exclusions = bins.find_near_exclusions(frames.axes[2])
        covered = bins.get_covered_mask(*get_safe_range(observation))
        counts = _count_events(observation, bins, exclusions, frames, half)
        counts *= covered[:, np.newaxis]
        if not counts.any():
            log.warning(
                f"OBS_ID {observation.obs_id} has no events in the bins of the "
                "template, only exposure."
            )

        part = 1 if half is None else 0.5
        fraction = part * observation.obs_filter.livetime_fraction
        ontime = float(observation.gti.time_sum.to_value("s") * fraction)
        livetime = observation.observation_live_time_duration.to_value("s")
        livetime = part * float(livetime)
        masked = _get_masked(bins, exclusions, frames)
        return cls(
            bins,
            fov_alignment,
            counts,
            counts.sum(axis=1)[np.newaxis],
            livetime * covered[np.newaxis],
            (bins.solid_angle * (1 - masked[0]).clip(0))[np.newaxis],
            (-bins.solid_angle * masked[1:])[np.newaxis],
            {
                "OBS_IDS": [get_obs_id(observation)],
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
        names = "spectra", "livetimes", "areas", "moments"
        return TemplateCounts(
            self.bins,
            self.fov_alignment,
            self.counts + other.counts,
            *(
                np.concatenate([getattr(_, name) for _ in (self, other)])
                for name in names
            ),
            {key: value + other.meta[key] for key, value in self.meta.items()},
        )

    def to_irf(
        self,
        smooth=None,
        smooth_options=None,
        livetime_fraction=None,
        keep_empty=False,
    ):
        """Make the background IRF.

        Parameters
        ----------
        smooth, smooth_options, livetime_fraction, keep_empty
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
        smooth_options = check_smooth(smooth, smooth_options)
        valid = self._get_exposed_mask()
        # one bin on either side, as the limit of the safe range may lie in it, and
        # Gammapy interpolates up to there
        exposed = np.flatnonzero(valid.any(axis=1))
        start, stop = max(exposed[0] - 1, 0), min(exposed[-1] + 2, len(valid))
        used, bins = slice(start, stop), self.bins.slice_energy(start, stop)
        valid = valid[used]
        counts = np.where(valid, self.counts[used], 0)
        if not counts.any():
            raise ValueError(
                f"There are no events {self._describe()} outside the exclusion regions."
            )
        self._warn(bins, valid, "0" if keep_empty else "left out")

        exposure, moment = self._get_exposure(used, bins, counts)
        exposure = np.where(valid, exposure, 0)
        options = smooth, smooth_options
        rate, ratio, variance = estimate_rate(counts, exposure, moment, bins, *options)
        rate, ratio, exposure = (
            _.reshape(bins.axes.shape) for _ in (rate, ratio, exposure)
        )
        rate = make_nodes(rate, ratio, exposure, bins.axes)
        if livetime_fraction is None:
            livetime_fraction = self.meta["LIVETIME"] / self.meta["ONTIME"]
        neff = (1 / variance).reshape(rate.shape)
        if keep_empty:
            rate, bins = _pad_energy(rate, self.bins.energy_edges, start), self.bins
            n_above = len(rate) - start - len(neff)
            neff = np.pad(neff, [(start, n_above), *[(0, 0)] * (neff.ndim - 1)])
        return self._make_irf(bins, rate, neff, livetime_fraction)

    def _get_exposure(self, used, bins, counts):
        """Exposure, with the norms of the observations, and its moment.

        Shapes (n_energy, n_position) and (n_axes, n_energy, n_position).
        """
        # in one order, for one result
        order = np.argsort(self.meta["OBS_IDS"], kind="stable")
        areas, moments = self.areas[order], self.moments[order]
        livetime = self.livetimes[order, used]
        spectra, positions = self.spectra[order, used], counts.sum(axis=0)
        options = livetime, areas, np.log(bins.energy)
        livetime = livetime * fit_norms(spectra, positions, *options)
        livetime = livetime * bins.energy_width.T
        return livetime.T @ areas, np.einsum("ie,iap->aep", livetime, moments)

    def _describe(self):
        low, high = self.bins.energy_edges[[0, -1]]
        obs_ids = shorten(self.meta["OBS_IDS"])
        return f"between {low:.3g} and {high:.3g} TeV in OBS_ID {obs_ids}"

    def _get_exposed_mask(self):
        """Bins of which enough is unmasked. Shape (n_energy, n_position)."""
        full = np.multiply.outer(self.livetime, self.bins.solid_angle)
        valid = self.exposure > MIN_FRACTION * full
        if not valid.any():
            raise ValueError(
                f"No bin has exposure {self._describe()}: none is in the safe energy "
                "range, or the exclusion regions cover the field of view."
            )
        return valid

    def _warn(self, bins, valid, others):
        """Say which bins have no exposure, and what the others are, once."""
        if self._has_warned:
            return
        self._has_warned = True
        exposed = valid.any(axis=1)
        n_all = len(self.counts)
        n_unexposed = n_all - exposed.sum()
        parts = []
        # a default axis is wide, to be cut
        if n_unexposed and not self.bins.has_default_energy:
            low, high = bins.energy_edges[[0, -1]]
            parts.append(
                f"{n_unexposed} of {n_all} energy bins, in the safe range "
                "of no observation (those next to it are extrapolated, the others "
                f"{others}: the template is from {low:.3g} to {high:.3g} TeV)"
            )
        masked = ~valid & exposed[:, np.newaxis]
        if masked.any():
            where = []
            found = masked.reshape(bins.axes.shape).nonzero()
            for axis, idx in zip(bins.axes, found, strict=True):
                low, high = axis.edges.value[[idx.min(), idx.max() + 1]]
                where.append(f"{axis.name} {low:.3g} to {high:.3g} {axis.unit}")
            parts.append(
                f"{masked.sum()} of {masked.size} bins, {1 - MIN_FRACTION:.0%} or more "
                f"masked ({', '.join(where)}; the rate is that of a mean shape)"
            )
        if parts:
            log.warning(f"Bins without exposure: {'; '.join(parts)}.")

    def _make_irf(self, bins, rate, neff, livetime_fraction):
        obs_ids = self.meta["OBS_IDS"]
        meta = {
            "CREATOR": f"gammapy-mimic {__version__}",
            "N_OBS": len(obs_ids),
            "OBS_IDS": ",".join(map(str, obs_ids)),
            "ONTIME": self.meta["ONTIME"],
            "LIVETIME": self.meta["LIVETIME"],
            "DEADC": float(livetime_fraction),
        }
        options = {"unit": "s-1 TeV-1 sr-1", "neff": neff}
        rate = rate * livetime_fraction
        if not bins.is_3d:
            return TemplateBackground2D(bins.axes, rate, meta=meta, **options)
        meta["FOVALIGN"] = options["fov_alignment"] = self.fov_alignment
        return TemplateBackground3D(bins.axes, rate, meta=meta, **options)


def _pad_energy(rate, edges, start):
    """Pad a rate with energy bins on either side, which are 0.

    But for one bin on either side, which has the value that Gammapy extrapolates to:
    it interpolates the log of the rate, and would go down to 0 in the half of the last
    bin that may still be in the safe range.
    """
    nodes, log_rate = get_center(np.log(edges)), np.log(rate)
    padded = np.zeros((len(nodes), *rate.shape[1:]))
    stop = start + len(rate)
    padded[start:stop] = rate
    for idx, last, step in ((start - 1, 0, 1), (stop, -1, -1)):
        if 0 <= idx < len(nodes):
            slope = log_rate[last] - log_rate[last + step]
            near = nodes[idx + step], nodes[idx + 2 * step]
            ratio = (nodes[idx] - near[0]) / (near[0] - near[1])
            padded[idx] = np.exp(log_rate[last] + ratio * slope)
    return padded


class _Frames:
    """The FoV of an observation, fixed to the sky or turning.

    That it turns rigidly is true to about an arcsecond, the change of aberration over
    the FoV.
    """

    def __init__(self, observation, pointing, alignment, angle):
        self._turn = _make_turn(angle)
        self.axes = self._turn @ get_axes(pointing)
        self.gti = observation.gti
        self.is_fixed = alignment == "RADEC"
        if self.is_fixed:
            return
        location = get_location(observation)
        start, stop = _get_good_time(self.gti)
        start, stop = start.min(), stop.max()
        n_steps = int(np.ceil((stop - start) / TIME_STEP))
        self._nodes = np.linspace(start, stop, n_steps + 1)
        times = self.gti.time_ref + self._nodes * u.s
        frame = AltAz(obstime=times, location=location)
        # vectors (ICRS) to 1 deg above the pointing. Shape (3, n)
        self._up = to_vectors(*altaz_to_radec(0, 1, pointing, frame))

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
        axes = np.stack([right, up, np.full_like(up, pointing)], axis=1)
        return self._turn @ axes

    def make_mean(self):
        """Matrices for steps of the good time, and their weights. Shape (n,)."""
        if self.is_fixed:
            return self.axes[np.newaxis], np.ones(1)
        edges = [
            np.linspace(start, stop, int(np.ceil((stop - start) / TIME_STEP)) + 1)
            for start, stop in zip(*_get_good_time(self.gti), strict=True)
        ]
        weights = np.concatenate([np.diff(_) for _ in edges])
        time = np.concatenate([get_center(_) for _ in edges])
        return self.make(time), weights / weights.sum()


def _make_turn(angle):
    """Matrix that turns vectors of the FoV back by an angle, in deg."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def _get_good_time(gti):
    """Start and stop, in s after ``gti.time_ref``."""
    return gti.met_start.to_value("s"), gti.met_stop.to_value("s")


def _count_events(observation, bins, exclusions, frames, half):
    """Count the events in the good time, outside the regions, all or those of a half.

    Shape (n_energy, n_position).
    """
    events, events_good = get_good_events(observation)
    time = get_seconds(events.time[events_good.is_good], observation.gti.time_ref)
    vectors = to_vectors(events_good.ra, events_good.dec)
    good = ~is_excluded(vectors, exclusions)
    if half is not None:
        halves = draw_halves(get_obs_id(observation), len(events.table))
        good &= halves[events_good.is_good] == half

    matrices = frames.make(time)
    if len(matrices) == 1:
        vectors = matrices[0] @ vectors
    else:
        vectors = np.einsum("nij,jn->in", matrices, vectors)
    idx_position = bins.find(vectors)
    energy = events_good.energy
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
        turned = [_.turn(frame) for _ in exclusions]
        inside = np.flatnonzero(is_excluded(vectors, turned))
        for result, weight in zip(masked, weights, strict=True):
            result += np.bincount(
                idx[inside], duration * weight[inside], minlength=len(result)
            )
    return masked
