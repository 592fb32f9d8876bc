"""Hide known sources of a field of view in its own background."""

import copy
import functools
import logging
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Table
from astropy.units import Quantity
from gammapy.data import EventList, Observation
from gammapy.makers import MapDatasetMaker
from gammapy.maps import MapAxis
from gammapy.stats import WStatCountsStatistic
from regions import SkyRegion

from ..data.events import update_sky_columns
from ..data.headers import derive_header
from ..data.obs_ids import get_obs_id
from ..data.observation import (
    get_fixed_pointing,
    get_good_events,
    get_gti,
    get_hdu,
    get_livetime_fraction,
    load_events_file,
    replace_parts,
)
from ..exclusion.sky_regions import (
    Exclusions,
    check_regions,
    is_excluded,
)
from ..scramble.annuli import get_region_radius, is_in_annulus
from ..scramble.coverage import Coverage, get_fov_radius, measure_coverage
from ..scramble.draw import draw_annulus, draw_azimuth, draw_fill
from ..scramble.estimate import estimate_background
from ..scramble.events import FoVEvents, fill_table, move_events
from ..scramble.significance import get_significance_width, measure_fill
from ..selection.binning import FoVBinning
from ..utils.angles import check_angle
from ..utils.checks import check_integer
from ..utils.coordinates import get_axes, get_offset
from ..utils.random import random_generator
from .core import ObservationMaker, check_dataset_maker, check_option

__all__ = ["ScrambleMaker"]

log = logging.getLogger(__name__)

HEADER_KEYS = ("SCR_METH", "SCR_NREG", "SCR_NEVT", "SCR_NREM", "SCR_SEED")
FILL_KEYS = {"SCR_PHI": 0.0, "SCR_SIG": 1.0}  # with the values of no region
REGION_KEYS_MAX = 999  # with eight characters, as FITS has them
SIGNIFICANCE_MAX = 3
OUTSIDE_MAX = 1e-3  # part of the regions, beyond rounding


class _Field(NamedTuple):
    """Field of view of an observation, with regions in it."""

    observation: Observation
    """Observation, a copy that keeps what was read."""
    events: EventList
    """Events, before the filters of the observation."""
    table: Table
    """Those that count."""
    fov: FoVEvents
    """The same events, in the field of view."""
    near: np.ndarray
    """Indices of the regions in the field of view. Shape (n_regions,)."""
    coverage: Coverage
    """The part of the field of view that these regions cover."""
    is_inside: np.ndarray
    """Whether events are inside any region. Shape (n,)."""


def _list_regions(regions):
    """List of regions or positions, or what is to be refused."""
    if regions is None or isinstance(regions, SkyRegion | str):
        return regions
    return [regions] if isinstance(regions, SkyCoord) else list(regions)


def _check_radius(name, value):
    return None if value is None else check_angle(name, value)


def _check_seed(random_state):
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    return check_integer("random_state", random_state, minimum=0)


class ScrambleMaker(ObservationMaker):
    """Hide known sources of a field of view in its own background.

    The methods:

    - "annulus": all events of an annulus around the camera centre, whose mean radius is
      the offset of a region, get a new azimuth, and a new offset from the acceptance in
      the annulus outside all regions, in bands of energy. The number of events stays,
      so that the excess of a source is spread over the annulus: for weak sources.
      Annuli that overlap are made one.
    - "fill": events inside of the regions are removed. Events outside at the same
      offsets are copied into the regions, as many as a field without source has there
      (Poisson), at random times of the GTI. No bias even for a bright source. Where
      it is significant, the gradient over the field of view is kept. A background that
      is fit to these events follows them: see
      `~gammapy_mimic.scramble.get_significance_width`.
    - "azimuth": all events of the observation get a new azimuth.

    Where the regions cover more than half of an offset, as at the camera centre, the
    background is measured in a wider annulus. Its variance is then larger than that of
    Poisson numbers, by 10% for a region of 0.3 deg at the centre.

    Approximations: the acceptance depends on offset and energy alone. A gradient over
    the field of view is kept by "fill" alone, if it has 3.3 sigma in the events around
    the region (one in 1000 observations without gradient has), the same for all
    energies. Copies have the energy of other events of the same observation.

    Parameters
    ----------
    regions : list of `~regions.SkyRegion` or `~astropy.coordinates.SkyCoord`, or None
        Regions around known sources, anywhere on the sky, or their positions, with
        ``radius``. An observation with none of them in its field of view stays as it
        was. None is for the method "azimuth", to scramble every observation. The others
        need a region.
    method : {"annulus", "fill", "azimuth"}, optional
        Method. Default is "annulus".
    width : `~astropy.coordinates.Angle` or str, optional
        Half width of the annuli. Default is the radius of each region.
    energy_axis : `~gammapy.maps.MapAxis`, optional
        Axis of the name "energy": bands in which the acceptance is measured. Those with
        few events are merged. Default is four bins a decade from 0.5 to 50 TeV.
        Events below and above have bands of their own.
    random_state : int, optional
        Seed, written to the header of the observations. Default is 0. None is for a
        seed that is drawn here, once.
    radius : `~astropy.coordinates.Angle` or str, optional
        Radius of the circles around positions. Default is None, for regions.
    dataset_maker : `~gammapy.makers.MapDatasetMaker`, optional
        Maker of the maps in a chain, or a `~gammapy.makers.SpectrumDatasetMaker`: the
        one that the chain starts with, with all its options. Default is
        ``MapDatasetMaker()`` with the maps that the dataset has. Not for spectra.

    Raises
    ------
    TypeError, ValueError
        If a region, the method, the width, the axis or the seed is not valid, or if
        there is no region, and the method is not "azimuth".

    Examples
    --------
    >>> region = CircleSkyRegion(position, 0.3 * u.deg)  # doctest: +SKIP
    >>> maker = ScrambleMaker([region], method="fill", random_state=0)  # doctest: +SKIP
    >>> observations = maker.make_observations(observations)  # doctest: +SKIP
    """

    tag = "ScrambleMaker"
    trace = "SCR_METH"
    changed_maps = ("counts",)
    available_methods = ("annulus", "fill", "azimuth")
    checks = MappingProxyType(
        {
            "regions": _list_regions,
            "method": check_option("method", available_methods),
            "width": functools.partial(_check_radius, "width"),
            "energy_axis": lambda axis: FoVBinning.create(axis).energy_axis,
            "random_state": _check_seed,
            "radius": functools.partial(_check_radius, "radius"),
            "dataset_maker": check_dataset_maker,
        }
    )

    def __init__(
        self,
        regions: Iterable[SkyRegion] | SkyCoord | None,
        method: str = "annulus",
        width: Quantity | str | None = None,
        energy_axis: MapAxis | None = None,
        random_state: int | None = 0,
        radius: Quantity | str | None = None,
        dataset_maker: MapDatasetMaker | None = None,
    ) -> None:
        self._set(
            regions=regions,
            method=method,
            width=width,
            energy_axis=energy_axis,
            random_state=random_state,
            radius=radius,
            dataset_maker=dataset_maker,
        )

    def _update(self, changed):
        if changed & {"regions", "radius"}:
            # drawn here, and not for each observation or in each process
            regions = check_regions(self.regions, "regions", self.radius)
            if self.regions is not None and self.radius is None:
                self.__dict__["regions"] = regions
            self._given = list(self.regions or [])
            # by them a region that is changed in place is noticed
            self._copies = copy.deepcopy(self._given)
            self._regions = list(regions)
            self._exclusions = Exclusions(regions)
            self._radii = np.array([get_region_radius(region) for region in regions])
        if not self._regions and self.method != "azimuth":
            raise ValueError(
                f"regions must hold a region for method={self.method!r}, got "
                f"{self.regions!r}. Give a region, or regions=None with "
                "method='azimuth' for all events."
            )

    def make_observation(
        self, observation: Observation, mimic_set: int = 0
    ) -> Observation:
        """Make an observation without sources in the regions.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Observation. IRFs that are on disk are not read.
        mimic_set : int, optional
            Mimic set that the observation is scrambled for, with random numbers of its
            own. Default is 0, for none.

        Returns
        -------
        observation : `~gammapy.data.Observation`
            Scrambled observation, or one with the same parts if no region is in its
            field of view. Its event list and metadata have the keys SCR_METH (method),
            SCR_NREG (regions in the field of view), SCR_NEVT (events with a new
            position), SCR_NREM (removed events), SCR_SEED, SCR_WID (half width in deg)
            and SCR_R001 and so on (regions). For "fill" also SCR_PHI (the share of all
            events that the region with most of them has) and SCR_SIG (the width of the
            significance that this region has with an FoV background).

        Raises
        ------
        ValueError
            If the observation has no events, events that are not valid or far from its
            pointing, no GTI ("fill") or was taken in DRIFT mode, or the regions leave
            nothing of the field of view to measure the background. Also if no region is
            in its field of view.
        """
        field = self._find_field(observation)
        if field is None:
            return copy.copy(observation)
        observation = field.observation
        obs_id = get_obs_id(observation)
        rng = random_generator(self.random_state, self.tag, obs_id, mimic_set)
        try:
            moved = self._draw_positions(field, rng)
            if self.method == "annulus":
                self._check_annuli(field, obs_id)
        except ValueError as error:
            raise ValueError(f"OBS_ID {obs_id}: {error}") from None

        n_removed = 0
        if self.method == "fill":
            # that of all events in the list, as what is filtered is scrambled as well
            gti = get_gti(observation, is_filtered=False)
            table = fill_table(field.table, field.fov, moved, field.is_inside, gti, rng)
            n_removed = int(field.is_inside.sum())
        else:
            table = move_events(field.table, field.fov, moved)
        update_sky_columns(table, observation.observatory_earth_location)
        numbers = len(field.near), len(moved[0]), n_removed
        values = self.method, *numbers, self.random_state
        keys = dict(zip(HEADER_KEYS, values, strict=True))
        if self.width is not None and self.method == "annulus":
            keys["SCR_WID"] = float(self.width.to_value("deg"))
        if self.method == "fill":
            keys |= _measure_fill(field, moved, obs_id)
        for number, idx in enumerate(field.near[:REGION_KEYS_MAX], start=1):
            keys[f"SCR_R{number:03d}"] = _to_line(self._regions[idx])
        table.meta = copy.deepcopy(field.table.meta) | keys
        if get_hdu(observation, "gti") is not None:
            fraction = get_livetime_fraction(observation)
            table.meta |= derive_header(table.meta, get_gti(observation), fraction)
        events = EventList(table, copy.deepcopy(field.events.meta))
        return replace_parts(observation, keys, events=events)

    def find_regions(self, observation: Observation) -> list[SkyRegion]:
        """Find the regions that are in the field of view of an observation.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Observation, scrambled or not.

        Returns
        -------
        regions : list of `~regions.SkyRegion`
            Those of ``regions`` that are at least in part in the field of view.
        """
        field = self._find_field(observation)
        return [] if field is None else [self._regions[idx] for idx in field.near]

    def find_annuli(self, observation: Observation) -> list[tuple[Angle, Angle]]:
        """Find the annuli whose events get new positions.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Observation, scrambled or not.

        Returns
        -------
        annuli : list of tuple of `~astropy.coordinates.Angle`
            Mean offset and half width of the annulus of each region of `find_regions`.
            Empty for the methods "fill" and "azimuth". Annuli that overlap are
            scrambled as one.
        """
        field = self._find_field(observation)
        if field is None or self.method != "annulus":
            return []
        annuli = self._get_annuli(field)
        return [tuple(Angle(value, "deg") for value in annulus) for annulus in annuli]

    def make_columns(self, observation: Observation | None) -> dict[str, Any]:
        """Make the columns ``SCR_METH`` and so on of a meta table.

        Parameters
        ----------
        observation : `~gammapy.data.Observation` or None
            Observation made by this maker, or mimic observation made with it. None if
            there is none.

        Returns
        -------
        columns : dict
            Values by column. For an observation without region in its field of view
            ``SCR_METH`` is "none", the numbers are 0, and ``SCR_SIG`` is 1.
        """
        header = {}
        if observation is not None:
            header = load_events_file(copy.copy(observation), with_events=False)
        values = "none", 0, 0, 0, self.random_state
        defaults = dict(zip(HEADER_KEYS, values, strict=True))
        if self.method == "fill":
            defaults |= FILL_KEYS
        return {key: header.get(key, default) for key, default in defaults.items()}

    def _find_field(self, observation):
        """Look for regions in a field of view. None if there is nothing to scramble."""
        # the list, or a region in it, may have been changed in place
        regions = self.regions or []
        is_same = len(regions) == len(self._given) and all(
            now is given and (not isinstance(now, SkyRegion) or now == old)
            for now, given, old in zip(regions, self._given, self._copies, strict=True)
        )
        if not is_same:
            self._set(regions=self.regions)
        # a copy, as an observation keeps what is read
        observation = copy.copy(observation)
        load_events_file(observation)
        # before regions are looked for, as they are not found where it points wrongly
        events, good = get_good_events(observation, is_filtered=False)
        if not len(good.ra):
            return None

        frame = get_axes(get_fixed_pointing(observation).icrs)
        fov = FoVEvents.create(good.ra, good.dec, good.energy, frame)
        fov_radius = get_fov_radius(fov.offset)
        near = self._exclusions.find_near(frame[2], fov_radius)
        coverage = self._measure_coverage(near, frame, fov_radius)
        is_seen = coverage.region_fraction.any(axis=1)
        if not is_seen.all():
            # again, as the bins are as fine as the smallest region needs
            near = near[is_seen]
            coverage = self._measure_coverage(near, frame, fov_radius)
        if not self._has_work(near):
            return None
        is_inside = is_excluded(fov.vectors, coverage.exclusions)
        table = events.table[good.is_good]
        return _Field(observation, events, table, fov, near, coverage, is_inside)

    def _has_work(self, near):
        return len(near) > 0 or self.regions is None

    def _measure_coverage(self, near, frame, fov_radius):
        """Measure what the regions of indices cover of a FoV of a radius, in deg."""
        exclusions = [self._exclusions.exclusions[idx].turn(frame) for idx in near]
        return measure_coverage(exclusions, fov_radius)

    def _draw_positions(self, field, rng):
        """Draw new positions: indices of events, offsets (deg) and azimuths (rad)."""
        offset = field.fov.offset
        if self.method == "azimuth":
            return np.arange(len(offset)), offset, draw_azimuth(len(offset), rng)
        args = offset, field.fov.energy, field.is_inside
        options = field.coverage, self.energy_axis.edges.value, rng
        if self.method == "fill":
            return draw_fill(*args, *options, field.fov.vectors)
        return draw_annulus(*args, self._get_annuli(field), *options)

    def _get_annuli(self, field):
        """Mean radius and half width of the annulus of each region, in deg."""
        widths = self._radii[field.near]
        if self.width is not None:
            widths = np.full(len(widths), self.width.to_value("deg"))
        centers = self._exclusions.centers[:, field.near]
        centers = get_offset(field.fov.frame @ centers)
        return list(zip(centers, widths, strict=True))

    def _check_annuli(self, field, obs_id):
        """Warn of sources that are too bright, or reach out of their annulus."""
        offset = field.coverage.points[0]
        is_covered = np.zeros(len(offset), dtype=bool)
        for annulus in self._get_annuli(field):
            is_covered |= is_in_annulus(offset, *annulus)
        if np.mean(~is_covered) > OUTSIDE_MAX:
            log.warning(
                f"OBS_ID {obs_id}: {np.mean(~is_covered):.0%} of the regions is "
                f"outside of the annuli of half width {self.width}, events there stay "
                "where they are. Use a larger width."
            )
        background, error = estimate_background(
            field.fov.offset,
            field.fov.energy,
            field.is_inside,
            field.coverage,
            self.energy_axis.edges.value,
        )
        vectors = field.fov.vectors[:, field.is_inside]
        parts = field.near, field.coverage.exclusions, background, error
        for idx, exclusion, mu, sigma in zip(*parts, strict=True):
            if not sigma > 0:
                continue
            # ON against the OFF counts and alpha that have this mean and error
            counts = is_excluded(vectors, [exclusion]).sum()
            stat = WStatCountsStatistic(counts, (mu / sigma) ** 2, sigma**2 / mu)
            if stat.sqrt_ts > SIGNIFICANCE_MAX:
                log.warning(
                    f"OBS_ID {obs_id}: the region {_to_line(self._regions[idx])} has "
                    f"{counts} events, {stat.sqrt_ts:.1f} sigma above a background of "
                    f"{mu:.1f}. method='annulus' spreads the excess over the annulus, "
                    "use method='fill'."
                )


def _measure_fill(field, moved, obs_id):
    """Keys of the header that tell how significant filled regions are."""
    n_outside = len(field.is_inside) - field.is_inside.sum()
    phi, a = measure_fill(moved, n_outside, field.coverage.exclusions)
    width = get_significance_width(phi, a)
    log.info(
        f"OBS_ID {obs_id}: with an FoV background the significance of the region has "
        f"the width {width:.2f} (phi {phi:.3f}, a {a:.2f})."
    )
    return dict(zip(FILL_KEYS, (float(phi), float(width)), strict=True))


def _to_line(region):
    """Write a region in one line of the ds9 format."""
    lines = region.serialize(format="ds9", precision=6).strip().splitlines()
    return ";".join(line.strip() for line in lines if not line.startswith("#"))
