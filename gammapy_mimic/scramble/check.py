"""What a scrambled observation looks like, beside what it looked like before."""

import dataclasses
from typing import NamedTuple

import numpy as np
from astropy.coordinates import Angle

from ..data.observation import get_fixed_pointing, get_good_events, get_hdu
from ..exclusion.sky_regions import is_excluded, make_exclusion
from ..utils.coordinates import (
    from_fov_lon_lat,
    from_polar,
    get_axes,
    get_azimuth,
    get_offset,
    to_fov_lon_lat,
    to_vectors,
)
from .annuli import merge_intervals
from .coverage import get_fov_radius, measure_coverage
from .estimate import OutsideEvents, find_covered_intervals
from .gradient import tilt_coverage

__all__ = ["CheckedEvents", "Distribution", "FoVImage", "ScrambleCheck"]

# H.E.S.S. DR1 has events at several times the radius that holds most
EXTENT_QUANTILE, EXTENT_FACTOR = 0.75, 1.2
INTERVAL_FACTOR = 1.1  # by which the scrambled offsets are inside of the picture
MASK_PIXELS = 500
AZIMUTH_EDGES = np.linspace(0, 360, 25)
ENERGY_BINS = 6  # a decade
COVERED_MAX = 0.9  # part of an offset from which on too little is left
ROUNDING = 1e-9  # deg, of offsets from RA and Dec


class CheckedEvents(NamedTuple):
    """Events in the field of view (FoV)."""

    offset: np.ndarray
    """Offset from the pointing, in deg. Shape (n,)."""
    azimuth: np.ndarray
    """Position angle from north to east, 0 to 360 deg. Shape (n,)."""
    energy: np.ndarray
    """Energy, in TeV. Shape (n,)."""
    fov_lon: np.ndarray
    """Longitude of `~gammapy.utils.coordinates.FoVICRSFrame`, in deg. Shape (n,)."""
    fov_lat: np.ndarray
    """Latitude of the same frame, in deg. Shape (n,)."""

    @classmethod
    def create(cls, observation):
        """Create from the events and the pointing of an observation.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Observation that tracks a position.

        Returns
        -------
        events : `CheckedEvents`
            Events that count, and pass the filters of the observation.
        """
        _, events = get_good_events(observation)
        vectors = _get_frame(observation) @ to_vectors(events.ra, events.dec)
        return cls(
            get_offset(vectors),
            np.degrees(get_azimuth(vectors)) % 360,
            events.energy,
            *to_fov_lon_lat(vectors),
        )

    def select(self, selected):
        """Select events by indices, or by a boolean for each."""
        return CheckedEvents(*(_[selected] for _ in self))

    def is_in(self, intervals):
        """Whether events are in intervals of offset, in deg of shape (m, 2)."""
        low, high = intervals.T[:, :, np.newaxis]
        inside = (self.offset > low - ROUNDING) & (self.offset < high + ROUNDING)
        return inside.any(axis=0)


class FoVImage(NamedTuple):
    """Number of events in bins of FoV longitude and latitude, and where regions are."""

    edges: np.ndarray
    """Edges of the bins in ``fov_lon`` and in ``fov_lat``, in deg. Shape (n + 1,)."""
    before: np.ndarray
    """Events before. Shape (n, n) in the order (``fov_lat``, ``fov_lon``)."""
    after: np.ndarray
    """Events after. Shape (n, n)."""
    mask_axis: np.ndarray
    """Coordinates of the pixels of the mask, in deg. Shape (m,)."""
    mask: np.ndarray
    """Whether pixels are inside any region. Shape (m, m)."""

    @property
    def difference(self):
        """Events after less those before. Shape (n, n)."""
        return self.after - self.before


class Distribution(NamedTuple):
    """Number of events in bins."""

    edges: np.ndarray
    """Edges of the bins. Shape (n + 1,)."""
    before: np.ndarray
    """Events before. Shape (n,)."""
    after: np.ndarray
    """Events after. Shape (n,)."""
    expected: np.ndarray | None = None
    """Expected events without sources, NaN where regions hide it. Shape (n,)."""
    expected_error: np.ndarray | None = None
    """Statistical error of the expectation. Shape (n,)."""


@dataclasses.dataclass(frozen=True, eq=False)
class ScrambleCheck:
    """Events of an observation before and after they are scrambled.

    Azimuth and energy are those of the events at the scrambled offsets, see
    ``intervals``. The expectation without sources is made of the events outside of
    the regions, each with the weight :math:`1 / (1 - c)` where the regions cover a
    part c of its offset, or of its background if that has a significant gradient.

    Attributes
    ----------
    obs_id : int
        OBS_ID.
    method : str
        Method of the maker.
    before, after : `CheckedEvents`
        Events.
    intervals : `~numpy.ndarray`
        Scrambled offsets, in deg: the annuli, for "fill" the offsets that regions
        reach, for "azimuth" the whole field of view. Shape (n, 2).
    region_azimuths : `~numpy.ndarray`
        Azimuths of the centres of the regions, in deg. Shape (n_regions,).
    image : `FoVImage`
        Events in FoV coordinates.
    offset, azimuth, energy : `Distribution`
        Events by offset and azimuth, in deg, and by energy, in TeV. The azimuth has no
        expectation.
    """

    obs_id: int
    method: str
    before: CheckedEvents
    after: CheckedEvents
    intervals: np.ndarray
    region_azimuths: np.ndarray
    image: FoVImage
    offset: Distribution
    azimuth: Distribution
    energy: Distribution

    @classmethod
    def create(cls, maker, observation, scrambled=None, binsz="0.1 deg"):
        """Create from an observation and the maker that scrambles it.

        Parameters
        ----------
        maker : `~gammapy_mimic.ScrambleMaker`
            Maker.
        observation : `~gammapy.data.Observation`
            Observation before.
        scrambled : `~gammapy.data.Observation`, optional
            Observation that the maker made of it. Default is to make it.
        binsz : `~astropy.coordinates.Angle` or str, optional
            Size of the bins of offset and of the image. Default is 0.1 deg.

        Returns
        -------
        check : `ScrambleCheck`
            Check.

        Raises
        ------
        ValueError
            If the maker has nothing to scramble in the observation.
        """
        if scrambled is None:
            scrambled = maker.make_observation(observation)
        if get_hdu(scrambled, "events") is get_hdu(observation, "events"):
            raise ValueError(
                f"OBS_ID {observation.obs_id} has no events or no region in its field "
                "of view, nothing was scrambled."
            )
        events = [CheckedEvents.create(_) for _ in (observation, scrambled)]
        offset = events[0].offset
        frame, regions = _get_frame(observation), maker.find_regions(observation)
        exclusions = [make_exclusion(region).turn(frame) for region in regions]
        coverage = measure_coverage(exclusions, get_fov_radius(offset))
        coverage = _follow_gradient(coverage, events[0])
        intervals = _find_intervals(maker, observation, coverage)
        extent = np.quantile(offset, EXTENT_QUANTILE) * EXTENT_FACTOR
        # a field that is scrambled as a whole reaches further than is of interest
        if maker.method != "azimuth" and intervals.size:
            end = min(intervals[:, 1].max(), get_fov_radius(offset))
            extent = max(extent, end * INTERVAL_FACTOR)
        binsz = Angle(binsz).deg
        edges = np.arange(np.ceil(extent / binsz) + 1) * binsz
        centers = np.reshape([_.axes[2] for _ in exclusions], (-1, 3))
        region_azimuths = np.degrees(get_azimuth(centers.T)) % 360
        # far from the first region, whose events are not to be cut in two
        begin = -180 if np.any(np.cos(np.radians(region_azimuths[:1])) > 0) else 0
        selected = [_.select(_.is_in(intervals)) for _ in events]
        azimuths = [(_.azimuth - begin) % 360 + begin for _ in selected]
        energies = [_.energy for _ in selected]

        weights = _make_weights(events[0], coverage)
        selected_weights = weights[events[0].is_in(intervals)]
        hidden = coverage.edges[:-1][coverage.fraction > COVERED_MAX]
        is_hidden = np.histogram(hidden, edges)[0] > 0
        energy_edges = _make_energy_edges(np.concatenate(energies))
        return cls(
            obs_id=observation.obs_id,
            method=maker.method,
            before=events[0],
            after=events[1],
            intervals=intervals,
            region_azimuths=region_azimuths,
            image=_make_image(events, edges, exclusions),
            offset=_expect([_.offset for _ in events], edges, weights, is_hidden),
            azimuth=_histogram(azimuths, AZIMUTH_EDGES + begin),
            energy=_expect(energies, energy_edges, selected_weights, hidden.size > 0),
        )


def _get_frame(observation):
    return get_axes(get_fixed_pointing(observation))


def _find_intervals(maker, observation, coverage):
    """Find the scrambled intervals of offset, in deg. Shape (n, 2)."""
    if maker.method == "azimuth":
        return np.array([[0, coverage.edges[-1]]])
    if maker.method == "fill":
        return find_covered_intervals(coverage)
    annuli = maker.find_annuli(observation)
    return merge_intervals(
        [(max(mean.deg - width.deg, 0), mean.deg + width.deg) for mean, width in annuli]
    )


def _follow_gradient(coverage, events):
    azimuth = np.radians(events.azimuth)
    is_inside = coverage.is_inside(events.offset, azimuth)
    outside = OutsideEvents.create(events.offset, events.energy, is_inside, coverage)
    return tilt_coverage(coverage, outside, from_polar(events.offset, azimuth))


def _make_weights(events, coverage):
    """Weights of events, 0 inside of the regions, with which they are as without."""
    azimuth = np.radians(events.azimuth)
    outside = ~coverage.is_inside(events.offset, azimuth)
    fraction = coverage.fraction[coverage.find_bin(events.offset)]
    # the coverage ends at the radius of the FoV
    fraction = np.where(events.offset < coverage.edges[-1], fraction, 0)
    return np.where(outside, 1 / (1 - fraction.clip(max=COVERED_MAX)), 0)


def _make_image(events, edges, exclusions):
    edges = np.concatenate([-edges[:0:-1], edges])
    bins = edges, edges
    before, after = (np.histogram2d(_.fov_lat, _.fov_lon, bins)[0] for _ in events)
    axis = np.linspace(edges[0], edges[-1], MASK_PIXELS)
    lat, lon = (_.ravel() for _ in np.meshgrid(axis, axis, indexing="ij"))
    mask = is_excluded(from_fov_lon_lat(lon, lat), exclusions)
    return FoVImage(edges, before, after, axis, mask.reshape(len(axis), len(axis)))


def _make_energy_edges(energy):
    if not len(energy):
        energy = np.array([1.0, 10.0])
    low = np.floor(np.log10(energy.min()) * ENERGY_BINS)
    high = np.floor(np.log10(energy.max()) * ENERGY_BINS) + 1
    return 10 ** (np.arange(low, high + 1) / ENERGY_BINS)


def _histogram(values, edges):
    return Distribution(edges, *(np.histogram(_, edges)[0] for _ in values))


def _expect(values, edges, weights, is_hidden):
    """Make the distribution with its expectation, NaN where too little is left."""
    expected, variance = (
        np.histogram(values[0], edges, weights=weights**power)[0] for power in (1, 2)
    )
    expected = np.where(is_hidden, np.nan, expected)
    distribution = _histogram(values, edges)
    return distribution._replace(expected=expected, expected_error=np.sqrt(variance))
