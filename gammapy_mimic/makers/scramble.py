"""Hide known sources of a field of view in its own background."""

import copy
import logging

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle
from astropy.table import Column, vstack
from gammapy.data import EventList
from gammapy.stats import WStatCountsStatistic
from gammapy.utils.fits import HDULocation
from regions import PolygonSkyRegion

from ..binning import ENERGY_AXIS, FoVBinning
from ..observation import (
    get_fixed_pointing,
    get_hdu,
    load_events_file,
    read_column,
    replace_parts,
)
from ..random import random_generator
from ..scramble import (
    draw_annulus,
    draw_azimuth,
    draw_fill,
    estimate_background,
    find_annulus,
    get_azimuth,
    get_fov_radius,
    measure_coverage,
    to_fov_vectors,
    turn_fov_columns,
)
from ..sky_regions import (
    check_regions,
    find_excluded,
    get_offset,
    local_axes,
    make_exclusion,
    to_vectors,
)
from .core import ObservationMaker, check_option

__all__ = ["ScrambleMaker"]

log = logging.getLogger(__name__)

SKY_COLUMNS = ("GLON", "GLAT", "ALT", "AZ")
FOV_COLUMNS = (("DETX", "DETY"), ("Xoff", "Yoff"))
HEADER_KEYS = ("SCR_METH", "SCR_NREG", "SCR_NEVT", "SCR_NREM", "SCR_SEED", "SCR_WID")
FOV_RADIUS_MAX = np.radians(10)  # of any IACT
SIGNIFICANCE_MAX = 3
OUTSIDE_MAX = 1e-3  # part of the regions, beyond rounding


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
      (Poisson), at random times of the GTI. No bias even for a bright source.
    - "azimuth": all events of the observation get a new azimuth.

    Where the regions cover more than half of an offset, as at the camera centre, the
    background is measured in a wider annulus.

    Approximations: the acceptance depends on offset and energy alone, a gradient over
    the field of view is not kept. Copies have the energy of other events of the same
    observation.

    Parameters
    ----------
    regions : list of `~regions.SkyRegion` or None
        Regions around known sources, anywhere on the sky. An observation with none of
        them in its field of view is returned as it was. None is for the method
        "azimuth", to scramble every observation.
    method : {"annulus", "fill", "azimuth"}, optional
        Method. Default is "annulus".
    width : `~astropy.coordinates.Angle` or str, optional
        Half width of the annuli. Default is the radius of each region.
    energy_axis : `~gammapy.maps.MapAxis`, optional
        Axis of the name "energy": bands in which the acceptance is measured. Those with
        few events are merged. Default is four bins a decade from 0.5 to 50 TeV.
        Events below and above have bands of their own.
    random_state : int, optional
        Seed. Default is None, for a seed that is drawn once, here, and written to the
        header of the observations.

    Raises
    ------
    TypeError, ValueError
        If a region, the method, the width, the axis or the seed is not valid.

    Examples
    --------
    >>> region = CircleSkyRegion(position, 0.3 * u.deg)  # doctest: +SKIP
    >>> maker = ScrambleMaker([region], method="fill", random_state=0)  # doctest: +SKIP
    >>> observations = maker.make_observations(observations)  # doctest: +SKIP
    """

    tag = "ScrambleMaker"
    changed_maps = ("counts",)
    available_methods = ("annulus", "fill", "azimuth")

    def __init__(
        self,
        regions,
        method="annulus",
        width=None,
        energy_axis=None,
        random_state=None,
    ):
        check_option("method", method, self.available_methods)
        if regions is None and method != "azimuth":
            raise TypeError(
                f"regions must be a list of SkyRegion for method={method!r}, got None"
            )
        self.regions = None if regions is None else check_regions(regions)
        self.method = method
        self.width = _check_width(width)
        axis = ENERGY_AXIS if energy_axis is None else energy_axis
        # checks the axis
        self.energy_axis = FoVBinning.create(energy_axis=axis).energy_axis
        self.random_state = _check_seed(random_state)

        regions = self.regions or []
        self._exclusions = [make_exclusion(_) for _ in regions]
        self._centers = np.reshape([_.axes[2] for _ in self._exclusions], (-1, 3))
        self._bounds = np.array([_.radius for _ in self._exclusions])
        self._radii = np.array([_get_radius(_) for _ in regions])

    def make_observation(self, observation):
        """Make an observation without sources in the regions.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Observation. IRFs that are on disk are not read.

        Returns
        -------
        observation : `~gammapy.data.Observation`
            Scrambled observation, or the same object if no region is in its field of
            view. Its event list and its metadata have the keys SCR_METH (method),
            SCR_NREG (regions in the field of view), SCR_NEVT (events with a new
            position), SCR_NREM (removed events), SCR_SEED, SCR_WID (half width in deg)
            and SCR_R001 and so on (regions).

        Raises
        ------
        ValueError
            If the observation has no events, events that are not valid, no GTI ("fill")
            or was taken in DRIFT mode, or if the regions leave nothing of the field of
            view to measure the background.
        """
        pointing = get_fixed_pointing(observation).icrs
        frame = local_axes(pointing.ra.deg, pointing.dec.deg)
        near = self._find_near(frame, FOV_RADIUS_MAX)
        if not len(near) and self.regions is not None:
            return observation

        # events before the filters of the observation, which stay
        load_events_file(observation)
        events = _get_events(observation)
        if not len(events.table):
            return observation
        ra, dec, energy = (
            _get_values(observation, events, name) for name in ("RA", "DEC", "ENERGY")
        )
        vectors = frame @ to_vectors(ra, dec)
        offset, azimuth = get_offset(vectors), get_azimuth(vectors)

        fov_radius = get_fov_radius(offset)
        near = self._find_near(frame, np.radians(fov_radius))
        exclusions = [self._turn(idx, frame) for idx in near]
        coverage = measure_coverage(exclusions, fov_radius)
        seen = coverage.region_fraction.any(axis=1)
        if not seen.all():
            near = near[seen]
            exclusions = [
                _ for _, is_seen in zip(exclusions, seen, strict=True) if is_seen
            ]
            coverage = measure_coverage(exclusions, fov_radius)
        if not len(near) and self.regions is not None:
            return observation

        is_inside = find_excluded(vectors, exclusions)
        edges = self.energy_axis.edges.to_value("TeV")
        rng = random_generator(self.random_state, self.tag, observation.obs_id)
        data = offset, energy, is_inside
        try:
            moved = self._draw(
                observation, frame, near, data, vectors, coverage, edges, rng
            )
        except ValueError as error:
            raise ValueError(f"OBS_ID {observation.obs_id}: {error}") from None

        table = events.table.copy()
        table.meta = copy.deepcopy(events.table.meta)
        n_removed = int(is_inside.sum()) if self.method == "fill" else 0
        keys = self._make_keys(near, len(moved[0]), n_removed)
        table.meta.update(keys)
        args = table, (ra, dec), (offset, azimuth), moved, frame
        if self.method == "fill":
            gti = _get_gti(observation)
            table = _fill_table(*args, ~is_inside, gti, rng)
        else:
            table = _move_events(*args)
        table.remove_columns([_ for _ in SKY_COLUMNS if _ in table.colnames])
        meta = copy.deepcopy(events.meta)
        return replace_parts(observation, keys, events=EventList(table, meta))

    def make_meta_table(self, observation):
        """Make the meta table of a dataset, with ``SCR_METH`` and so on.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Observation made by this maker.

        Returns
        -------
        meta_table : `~astropy.table.Table`
            Table with one row. ``SCR_NREG`` and ``SCR_NEVT`` are 0 for an observation
            without region in its field of view.
        """
        table = super().make_meta_table(observation)
        header = load_events_file(observation, with_events=False)
        for key, default in {"SCR_METH": "none", "SCR_NREG": 0, "SCR_NEVT": 0}.items():
            table[key] = [header.get(key, default)]
        table["SCR_SEED"] = [self.random_state]
        return table

    def _check_dataset(self, dataset):
        super()._check_dataset(dataset)
        table = dataset.meta_table
        if table is not None and "OFF_OBS_ID" in table.colnames:
            raise ValueError(
                f"The dataset {dataset.name!r} has the events of a mimic observation, "
                "which ScrambleMaker would replace by those of the target. Pass it as "
                "MimicMaker(scramble=...)."
            )

    def _find_near(self, frame, radius):
        """Find regions that may reach into a radius, in rad, around a pointing."""
        separation = np.arctan2(
            np.linalg.norm(np.cross(self._centers, frame[2]), axis=1),
            self._centers @ frame[2],
        )
        return np.nonzero(separation < self._bounds + radius)[0]

    def _turn(self, idx, frame):
        exclusion = self._exclusions[idx]
        return exclusion._replace(axes=exclusion.axes @ frame.T)

    def _draw(self, observation, frame, near, data, vectors, coverage, edges, rng):
        """Draw new positions: indices of events, offsets (deg) and azimuths (rad)."""
        offset = data[0]
        if self.method == "azimuth":
            return np.arange(len(offset)), offset, draw_azimuth(len(offset), rng)
        if self.method == "fill":
            return draw_fill(*data, coverage, edges, rng)

        centers = get_offset(frame @ self._centers[near].T)
        widths = self._get_widths(near)
        annuli = list(zip(centers, widths, strict=True))
        result = draw_annulus(*data, annuli, coverage, edges, rng)
        n_inside = [find_excluded(vectors, [_]).sum() for _ in coverage.exclusions]
        self._check_annuli(observation, data, annuli, coverage, near, n_inside)
        return result

    def _get_widths(self, near):
        if self.width is None:
            return self._radii[near]
        return np.full(len(near), self.width.to_value("deg"))

    def _check_annuli(self, observation, data, annuli, coverage, near, n_inside):
        """Warn of sources that are too bright, or reach out of their annulus."""
        offset = coverage.points[0]
        is_covered = np.zeros(len(offset), dtype=bool)
        for annulus in annuli:
            is_covered |= find_annulus(offset, *annulus)
        if np.mean(~is_covered) > OUTSIDE_MAX:
            log.warning(
                f"OBS_ID {observation.obs_id}: {np.mean(~is_covered):.0%} of the "
                f"regions is outside of the annuli of half width {self.width}, events "
                "there stay where they are. Use a larger width."
            )
        edges = self.energy_axis.edges.to_value("TeV")
        background, error = estimate_background(*data, coverage, edges)
        parts = near, n_inside, background, error
        for idx, counts, mu, sigma in zip(*parts, strict=True):
            if not sigma > 0:
                continue
            stat = WStatCountsStatistic(counts, (mu / sigma) ** 2, sigma**2 / mu)
            if stat.sqrt_ts > SIGNIFICANCE_MAX:
                log.warning(
                    f"OBS_ID {observation.obs_id}: the region "
                    f"{_to_str(self.regions[idx])} has {counts} events, "
                    f"{stat.sqrt_ts:.1f} sigma above a background of {mu:.1f}. "
                    "method='annulus' spreads the excess over the annulus, use "
                    "method='fill'."
                )

    def _make_keys(self, near, n_moved, n_removed):
        values = [self.method, len(near), n_moved, n_removed, self.random_state]
        keys = dict(zip(HEADER_KEYS, values, strict=False))
        if self.width is not None and self.method == "annulus":
            keys["SCR_WID"] = float(self.width.to_value("deg"))
        for number, idx in enumerate(near[:999], start=1):
            keys[f"SCR_R{number:03d}"] = _to_str(self.regions[idx])
        return keys


def _check_width(width):
    if width is None:
        return None
    try:
        # Angle would read "3 m" as minutes
        width = Angle(u.Quantity(width).to("deg"))
    except (u.UnitsError, ValueError, TypeError) as error:
        raise ValueError(
            f"width must be an angle such as '0.3 deg', got {width!r}"
        ) from error
    if not (width.isscalar and np.isfinite(width) and width > 0 * u.deg):
        raise ValueError(f"width must be a positive angle, got {width}")
    return width


def _check_seed(random_state):
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    is_int = isinstance(random_state, int | np.integer)
    if isinstance(random_state, bool) or not is_int or random_state < 0:
        raise ValueError(
            "random_state must be an integer that is not negative, or None, got "
            f"{random_state!r}"
        )
    return int(random_state)


def _get_radius(region):
    """Radius of the circle around the centre that holds a region, in deg."""
    if isinstance(region, PolygonSkyRegion):
        exclusion = make_exclusion(region)
        vertices = region.vertices.icrs
        vectors = exclusion.axes @ to_vectors(vertices.ra.deg, vertices.dec.deg)
        return get_offset(vectors).max()
    for name in ("radius", "outer_radius"):
        if hasattr(region, name):
            return getattr(region, name).to_value("deg")
    prefix = "outer_" if hasattr(region, "outer_width") else ""
    width, height = (
        getattr(region, prefix + name).to_value("deg") for name in ("width", "height")
    )
    is_rectangle = "Rectangle" in type(region).__name__
    return np.hypot(width, height) / 2 if is_rectangle else max(width, height) / 2


def _to_str(region):
    """Write a region in one line of the ds9 format."""
    lines = region.serialize(format="ds9", precision=6).strip().splitlines()
    return ";".join(line.strip() for line in lines if not line.startswith("#"))


def _get_events(observation):
    if get_hdu(observation, "events") is None:
        raise ValueError(f"OBS_ID {observation.obs_id} has no events.")
    return observation._events


def _get_values(observation, events, name):
    column = events.table[name]
    values, n_invalid = read_column(column)
    if n_invalid:
        raise ValueError(
            f"OBS_ID {observation.obs_id} has {n_invalid} events without a valid "
            f"{name}. Remove them from the event list."
        )
    return values * (u.Unit(column.unit).to("TeV") if name == "ENERGY" else 1)


def _get_gti(observation):
    gti = get_hdu(observation, "gti")
    gti = observation._gti if isinstance(gti, HDULocation) else gti
    if gti is None or len(gti.table) == 0:
        raise ValueError(f"OBS_ID {observation.obs_id} has no GTI.")
    return gti


def _to_radec(offset, azimuth, frame):
    x, y, z = frame.T @ to_fov_vectors(offset, azimuth)
    return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))


def _set_column(table, name, values, unit="deg"):
    column = table[name]
    table[name] = Column(
        values,
        unit=getattr(column, "unit", None) or unit,
        description=column.info.description,
    )


def _move_events(table, radec, old, moved, frame):
    """Put events at new positions, at their times."""
    idx, *new = moved
    for name, values, new_values in zip(
        ("RA", "DEC"), radec, _to_radec(*new, frame), strict=True
    ):
        values = values.copy()
        values[idx] = new_values
        _set_column(table, name, values)
    _set_fov_columns(table, table, idx, idx, old, new)
    return table


def _set_fov_columns(
    table, source, rows, donors, old, new, seconds=None, new_seconds=None
):
    """Set the FoV columns in the rows of a table, from those of the original events."""
    if "THETA" in table.colnames:
        values = np.array(table["THETA"], dtype=float)
        values[rows] = new[0] * u.deg.to(table["THETA"].unit or "deg")
        _set_column(table, "THETA", values)
    for names in FOV_COLUMNS:
        if not set(names) <= set(table.colnames):
            continue
        x, y = (np.asarray(source[name], dtype=float) for name in names)
        turned = turn_fov_columns(x, y, old, new, donors, seconds, new_seconds)
        if turned is None:
            log.warning(
                f"The columns {names} do not fit RA and DEC of the events. Left out."
            )
            table.remove_columns(names)
            continue
        for name, new_values in zip(names, turned, strict=True):
            values = np.array(table[name], dtype=float)
            values[rows] = new_values
            _set_column(table, name, values)
    if "PHI" in table.colnames:
        table.remove_column("PHI")


def _fill_table(table, radec, old, moved, frame, keep, gti, rng):
    """Remove events, and add copies of others at new positions and times."""
    donors, *new = moved
    for name, values in zip(("RA", "DEC"), radec, strict=True):
        _set_column(table, name, values)
    copies = table[donors]
    copies.meta = {}
    for name, values in zip(("RA", "DEC"), _to_radec(*new, frame), strict=True):
        copies[name] = Column(values, unit=table[name].unit)
    start = gti.time_start[0]
    copies["TIME"] = _draw_times(gti, table["TIME"], len(donors), rng)
    if "EVENT_ID" in table.colnames:
        first = np.max(table["EVENT_ID"]) + 1
        copies["EVENT_ID"] = np.arange(first, first + len(copies)).astype(
            table["EVENT_ID"].dtype
        )
    seconds = (table["TIME"] - start).to_value("s")
    new_seconds = (copies["TIME"] - start).to_value("s")
    rows = np.arange(len(copies))
    _set_fov_columns(copies, table, rows, donors, old, new, seconds, new_seconds)
    result = table[keep]
    result.remove_columns([_ for _ in result.colnames if _ not in copies.colnames])
    result = vstack([result, copies], join_type="exact", metadata_conflicts="silent")
    result.meta = table.meta
    order = np.argsort(np.concatenate([seconds[keep], new_seconds]), kind="stable")
    return result[order]


def _draw_times(gti, time, size, rng):
    """Draw times that are uniform in the GTI, in the format of the events."""
    durations = (gti.time_stop - gti.time_start).to_value("s")
    edges = np.concatenate([[0], np.cumsum(durations)])
    seconds = rng.uniform(0, edges[-1], size)
    idx = (np.searchsorted(edges, seconds, side="right") - 1).clip(
        0, len(durations) - 1
    )
    times = gti.time_start[idx] + (seconds - edges[idx]) * u.s
    times = getattr(times, time.scale)
    times.format = time.format
    return times
