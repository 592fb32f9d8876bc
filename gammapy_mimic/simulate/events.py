"""Draw events from IRFs."""

import copy
import functools

import astropy.units as u
import numpy as np
from astropy.coordinates import AltAz, SkyCoord
from astropy.table import Table
from gammapy.irf import FoVAlignment, ParametricPSF
from gammapy.maps import WcsGeom
from gammapy.modeling.models import PointSpatialModel

from ..utils.coordinates import (
    altaz_to_radec,
    from_polar,
    get_ring_area,
    rotate_fov,
    to_fov_lon_lat,
)

__all__ = ["draw_background", "draw_events", "draw_source"]

MEASURES = {
    "energy": (np.positive, np.positive),
    "offset": (
        functools.partial(get_ring_area, 0),
        lambda measure: np.degrees(np.arccos(1 - measure / (2 * np.pi))),
    ),
    "fov_lon": (np.radians, np.degrees),
    "fov_lat": (
        lambda lat: np.sin(np.radians(lat)),
        lambda measure: np.degrees(np.arcsin(measure)),
    ),
}
"""From TeV or deg to a measure uniform in energy or solid angle (sr), and back."""


def draw_background(bkg, ontime, rng):
    """Draw background events from the rate that Gammapy interpolates from the IRF.

    Between the nodes of the IRF the log of the rate is linear in each coordinate, so
    that the largest rate in a cell is that at one of its corners. A Poisson process
    with this rate is drawn and thinned to the rate of the IRF.

    Parameters
    ----------
    bkg : `~gammapy.irf.Background2D` or `~gammapy.irf.Background3D`
        Background rate, of any origin.
    ontime : `~astropy.units.Quantity`
        Observation time, including dead time.
    rng : `~numpy.random.Generator`
        Random generator.

    Returns
    -------
    energy, fov_lon, fov_lat : `~numpy.ndarray`
        Energy, in TeV, and FoV position, in deg, with the signs of Gammapy. Shape (n,).
    """
    # what MapDatasetMaker does to the IRF
    bkg = copy.deepcopy(bkg)
    bkg.interp_missing_data(axis_name="energy")
    if bkg.has_offset_axis:
        bkg = bkg.pad(1, mode="edge", axis_name="offset")

    nodes = _get_nodes(bkg.axes)
    corners = _evaluate_rate(bkg, np.meshgrid(*nodes.values(), indexing="ij"))
    windows = np.lib.stride_tricks.sliding_window_view(corners, (2,) * corners.ndim)
    rate_max = windows.max(axis=tuple(range(corners.ndim, windows.ndim)))
    measures = [MEASURES[name][0](value) for name, value in nodes.items()]
    volume = functools.reduce(np.multiply.outer, [np.diff(_) for _ in measures])

    cells = _draw_cells(rate_max * volume * ontime.to_value("s"), rng)
    coords = [
        MEASURES[name][1](rng.uniform(measure[idx], measure[idx + 1]))
        for name, measure, idx in zip(nodes, measures, cells, strict=True)
    ]
    draw = rng.uniform(size=cells[0].size) * rate_max[cells]
    keep = draw < _evaluate_rate(bkg, coords)
    energy, *position = (_[keep] for _ in coords)

    if bkg.has_offset_axis:
        position = _draw_around(position[0], rng)
    # an IRF of old H.E.S.S. files, which Gammapy mirrors
    elif bkg.fov_alignment == FoVAlignment.REVERSE_LON_RADEC:
        position[0] = -position[0]
    return energy, *position


def _get_nodes(axes):
    """Nodes of the interpolation and outer edges, in TeV and deg."""
    nodes = {}
    for axis in axes:
        values = np.concatenate([axis.edges[:1], axis.center, axis.edges[-1:]])
        nodes[axis.name] = values.to_value("TeV" if "energy" in axis.name else "deg")
    if "offset" in nodes:
        # padding has put an edge below 0
        nodes["offset"] = np.unique(nodes["offset"].clip(0))
    return nodes


def _evaluate_rate(bkg, coords):
    """Rate of the IRF, in s-1 TeV-1 sr-1, for coordinates in TeV and deg."""
    energy, *position = coords
    position = dict(zip(bkg.required_axes[1:], position * u.deg, strict=True))
    rate = bkg.evaluate(energy=energy * u.TeV, **position)
    return rate.to_value("s-1 TeV-1 sr-1")


def _draw_cells(expected, rng, size=None):
    """Draw cells by their expected counts: one array of indices for each dimension."""
    cumulative = np.cumsum(expected)
    size = rng.poisson(cumulative[-1]) if size is None else size
    draw = rng.uniform(0, cumulative[-1], size)
    # rounding may put a draw beyond the last cell
    idx = np.searchsorted(cumulative, draw, side="right").clip(max=expected.size - 1)
    return np.unravel_index(idx, expected.shape)


def _draw_around(offset, rng):
    """Longitude and latitude around (0, 0) at offsets and random angles, in deg."""
    angle = rng.uniform(0, 2 * np.pi, offset.size)
    return to_fov_lon_lat(from_polar(offset, angle - np.pi / 2))


def draw_source(model, observation, rng):
    """Draw events of a source, through effective area, energy dispersion and PSF.

    Parameters
    ----------
    model : `~gammapy.modeling.models.SkyModel`
        Source, constant in time.
    observation : `~gammapy.data.Observation`
        Observation with IRFs, GTI and pointing.
    rng : `~numpy.random.Generator`
        Random generator.

    Returns
    -------
    energy, ra, dec : `~numpy.ndarray`
        Reconstructed energy, in TeV, and position, in deg. Shape (n,).
    """
    if model.spatial_model is None or model.temporal_model is not None:
        raise ValueError(
            f"Source {model.name!r} must have a spatial and no temporal model."
        )
    aeff, pointing = observation.aeff, observation.pointing.fixed_icrs
    offset_max = aeff.axes["offset"].edges[-1] + model.evaluation_radius
    if model.position.separation(pointing) > offset_max:
        return np.empty((3, 0))

    edges = aeff.axes["energy_true"].upsample(10).edges
    energy = np.sqrt(edges[:-1] * edges[1:])
    # drawn for the largest area at any offset, and thinned to that at their own
    offset = _get_nodes(aeff.axes)["offset"] * u.deg
    area_max = aeff.evaluate(energy_true=energy[:, np.newaxis], offset=offset).max(1)
    expected = model.spectral_model(energy) * area_max * np.diff(edges)
    expected *= observation.observation_live_time_duration
    (cells,) = _draw_cells(expected.to_value(""), rng)
    log_edges = np.log(edges.to_value("TeV"))
    energy = np.exp(rng.uniform(log_edges[cells], log_edges[cells + 1])) * u.TeV

    position = _draw_position(model.spatial_model, energy.size, rng)
    offset = position.separation(pointing)
    area = aeff.evaluate(energy_true=energy, offset=offset)
    keep = rng.uniform(size=cells.size) * area_max[cells] < area
    position, energy, offset = position[keep], energy[keep], offset[keep]

    # a parametric PSF has no axis to draw from
    psf = observation.psf
    psf = psf.to_psf3d() if isinstance(psf, ParametricPSF) else psf
    migra = _draw_axis(observation.edisp, "migra", energy, offset, rng)
    rad = _draw_axis(psf, "rad", energy, offset, rng)
    lon, lat = _draw_around(rad, rng)
    ra, dec = rotate_fov(lon, lat, (0, 0), (position.ra.deg, position.dec.deg))
    keep = np.isfinite(migra) & np.isfinite(rad)
    return (energy.to_value("TeV") * migra)[keep], ra[keep], dec[keep]


def _draw_position(model, size, rng):
    """Draw positions (ICRS) from a spatial model, as fine as 1% of its radius."""
    if isinstance(model, PointSpatialModel):
        position = model.position.icrs
        return SkyCoord(np.repeat(position.ra, size), np.repeat(position.dec, size))
    radius = model.evaluation_radius
    geom = WcsGeom.create(
        skydir=model.position, width=2 * radius, binsz=radius / 100, frame=model.frame
    )
    weights = model.evaluate_geom(geom) * geom.solid_angle()
    y, x = _draw_cells(weights.value, rng, size) + rng.uniform(-0.5, 0.5, (2, size))
    return SkyCoord(*geom.pix_to_coord((x, y)), frame=model.frame).icrs


def _draw_axis(irf, name, energy, offset, rng):
    """Draw migra, or rad in deg, for energies and offsets. NaN where the IRF is 0."""
    axis = irf.axes[name]
    is_rad = name == "rad"
    # the PSF is a density in solid angle, which goes as the square of rad
    edges = axis.edges.to_value("deg") ** 2 if is_rad else axis.edges.value
    density = irf.evaluate(
        energy_true=energy[:, np.newaxis],
        offset=offset[:, np.newaxis],
        **{name: axis.center[np.newaxis]},
    )
    cumulative = np.cumsum(density.value * np.diff(edges), axis=1)
    total = cumulative[:, -1]
    draw = rng.uniform(size=energy.size) * total
    idx = np.sum(cumulative <= draw[:, np.newaxis], axis=1).clip(max=axis.nbin - 1)
    value = np.where(total > 0, rng.uniform(edges[idx], edges[idx + 1]), np.nan)
    return np.sqrt(value) if is_rad else value


def draw_events(observation, sources, rng):
    """Draw the events of background and sources.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation with IRFs, GTI and pointing.
    sources : list of `~gammapy.modeling.models.SkyModel`
        Sources.
    rng : `~numpy.random.Generator`
        Random generator.

    Returns
    -------
    table : `~astropy.table.Table`
        Events in the order of time. MC_ID is 0 for background, 1 for the first source.
    """
    ontime = observation.observation_time_duration.to("s")
    bkg, pointing = observation.bkg, observation.pointing.fixed_icrs

    energy, lon, lat = draw_background(bkg, ontime, rng)
    seconds = rng.uniform(0, ontime.value, energy.size)
    if bkg.fov_alignment == FoVAlignment.ALTAZ and not bkg.has_offset_axis:
        time = observation.tstart + seconds * u.s
        frame = AltAz(obstime=time, location=observation.observatory_earth_location)
        ra, dec = altaz_to_radec(lon, lat, pointing, frame)
    else:
        # fov_lon grows to the west, RA to the east
        ra, dec = rotate_fov(-lon, lat, (0, 0), (pointing.ra.deg, pointing.dec.deg))
    parts = [(energy, ra, dec, seconds, np.zeros(energy.size, dtype=int))]

    for mc_id, model in enumerate(sources, start=1):
        energy, ra, dec = draw_source(model, observation, rng)
        seconds = rng.uniform(0, ontime.value, energy.size)
        parts.append((energy, ra, dec, seconds, np.full(energy.size, mc_id)))

    energy, ra, dec, seconds, mc_id = map(np.concatenate, zip(*parts, strict=True))
    order = np.argsort(seconds)
    return Table(
        {
            "EVENT_ID": np.arange(1, energy.size + 1),
            "TIME": observation.tstart + seconds[order] * u.s,
            "RA": ra[order] * u.deg,
            "DEC": dec[order] * u.deg,
            "ENERGY": energy[order] * u.TeV,
            "MC_ID": mc_id[order],
        }
    )
