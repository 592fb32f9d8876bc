"""Tables of the bias and spread of a background: by energy, offset, scale, region."""

import itertools

import astropy.units as u
import numpy as np

from .apertures import make_grid, make_region
from .intervals import not_measurable
from .maxima import get_significance
from .measurement import ALL
from .position import calibrate
from .region_flux import make_flux_columns
from .statistics import average_sets
from .tables import describe_sample, make_table

__all__ = [
    "describe_background",
    "make_grids",
    "make_region_masks",
    "make_regions",
    "tabulate_regions",
    "tabulate_scales",
    "tabulate_systematics",
]


def describe_background(counts, positions=None):
    """Describe bias and spread of a background, as columns of a table.

    Parameters
    ----------
    counts : `~gammapy_mimic.estimators.counting.BandCounts`
        Counts.
    positions : `~numpy.ndarray`, optional
        Positions of the apertures, in deg. Shape (n_apertures, 2).

    Returns
    -------
    row : dict
        Columns, NaN where something is not measured, for the ``reason``.
    """
    result = counts.measure(positions)
    if counts.reason:
        nothing = not_measurable(counts.reason)
        names = "f", "total", "f_other", "total_other"
        result = result._replace(
            **dict.fromkeys(names, nothing), f_squared=np.nan, f_squared_err=np.nan
        )
    row = {"delta": result.delta.value, "delta_err": result.delta.error}
    for name in ("f", "total"):
        columns = getattr(result, name).to_row(name)
        del columns[f"{name}_err"]
        row |= columns
    return row | {
        "f_squared": result.f_squared,
        "f_squared_err": result.f_squared_err,
        "f_other_ul": result.f_other.upper_limit,
        "total_other_ul": result.total_other.upper_limit,
        "norm_share": float(np.mean(np.sum(counts.norm_share, axis=1))),
        "template_err": float(np.sqrt(counts.template_variance)),
        "n_runs": result.n_runs,
        "n_apertures": result.n_apertures,
        "n_counts": result.n_counts,
        "reason": result.f.reason,
    }


def tabulate_systematics(
    comparison, counts, apertures=None, offset_edges=None, offset=None
):
    """Tabulate the systematic error by band of energy and of offset.

    Parameters
    ----------
    comparison : `~gammapy_mimic.estimators.tables.Comparison`
        Measurements.
    counts : list of `~gammapy_mimic.estimators.counting.BandCounts`
        Counts of mimics in each band of energy.
    apertures : `~gammapy_mimic.estimators.apertures.Apertures`, optional
        Apertures of maps. Default is none, for spectra.
    offset_edges : `~astropy.units.Quantity`, optional
        Edges of bands of offset. Default is none. Not used where no offset is known.
    offset : `~numpy.ndarray`, optional
        Mean offset of each aperture in deg. Shape (n_apertures,). Default is not known.

    Returns
    -------
    table : `~astropy.table.Table`
        Bias, spread and total of the background, see `describe_background`, and mean
        and width of the significance. Errors of these are from the scatter of sets, but
        not below the statistical ones.
    """
    offset_bands = {ALL: (np.nan, np.nan) * u.deg}
    if offset_edges is not None and offset is not None:
        pairs = itertools.pairwise(offset_edges.to("deg"))
        offset_bands |= {str(idx): u.Quantity(_) for idx, _ in enumerate(pairs)}
    rows = []
    for idx, band in enumerate(comparison.bands):
        for name, (low, high) in offset_bands.items():
            row = band._asdict() | {"offset_band": name}
            row |= {"offset_min": low, "offset_max": high}
            part, positions = counts[idx], None
            where = slice(None)
            if name != ALL:
                where = (offset >= low.value) & (offset < high.value)
                part = part.select(where)
            if apertures is not None:
                positions = apertures.positions[where]
            row |= describe_background(part, positions)
            rows.append(row | _average_significance(comparison, idx, low, high))
    return make_table(rows)


def _average_significance(comparison, idx, offset_min, offset_max):
    """Mean and width of the significance over sets, in a band."""
    samples = []
    for measurement in comparison.mimics.values():
        where = True
        if np.isfinite(offset_min):
            where = measurement.offset >= offset_min
            where &= measurement.offset < offset_max
        samples.append(comparison.get_sample(measurement, idx, where))
    rows = [describe_sample(_, comparison.variance_fraction) for _ in samples]
    weights = np.array([row["n_positions"] for row in rows])
    result = {}
    for name in ("mean", "width"):
        values, errors = (
            np.array([row[_] for row in rows]) for _ in (name, f"{name}_err")
        )
        estimate = average_sets(values, weights)
        valid = np.isfinite(errors) & (weights > 0)
        share = weights[valid] / max(weights[valid].sum(), 1)
        # sets can agree by chance, but are never better than their counts
        noise = np.sqrt(np.sum((share * errors[valid]) ** 2))
        error = np.fmax(estimate.error, noise) if valid.sum() > 1 else np.nan
        error *= np.sqrt(comparison.repetition)
        result |= {name: estimate.value, f"{name}_err": float(error)}
    for name in ("expected_mean", "n_background"):
        result[name] = average_sets([row[name] for row in rows], weights).value
    return result


def tabulate_scales(comparison, radii, grids, counts):
    """Tabulate the systematic error by the radius of apertures.

    Parameters
    ----------
    comparison : `~gammapy_mimic.estimators.tables.Comparison`
        Measurements of maps.
    radii : `~astropy.units.Quantity`
        Radii.
    grids : list of `~gammapy_mimic.estimators.apertures.Apertures`
        Apertures of each radius.
    counts : list of list of `~gammapy_mimic.estimators.counting.BandCounts`
        Counts of mimics for each radius and band of energy.

    Returns
    -------
    table : `~astropy.table.Table`
        Bias, spread and total of the background by ``radius`` and band.
    """
    rows = []
    for radius, grid, bands in zip(radii, grids, counts, strict=True):
        for band, one in zip(comparison.bands, bands, strict=True):
            row = {"radius": radius} | band._asdict()
            rows.append(row | describe_background(one, grid.positions))
    return make_table(rows)


def make_grids(comparison, radii):
    """Make the apertures of several radii on the maps.

    Parameters
    ----------
    comparison : `~gammapy_mimic.estimators.tables.Comparison`
        Measurements of maps.
    radii : `~astropy.units.Quantity`
        Radii.

    Returns
    -------
    apertures : list of `~gammapy_mimic.estimators.apertures.Apertures`
        Apertures.
    """
    shape, size = comparison.geom.data_shape, comparison.pixel_size
    return [make_grid(shape, size, _) for _ in radii.to_value("deg")]


def make_regions(comparison, regions):
    """Make an aperture of each region.

    Parameters
    ----------
    comparison : `~gammapy_mimic.estimators.tables.Comparison`
        Measurements of maps.
    regions : list of `~regions.SkyRegion`
        Regions, which may overlap. A ``comment`` in their ``meta`` tells where they
        were written, for errors.

    Returns
    -------
    apertures : list of `~gammapy_mimic.estimators.apertures.Apertures`
        Apertures.

    Raises
    ------
    ValueError
        If a region holds the center of no pixel, or is not whole on the map.
    """
    masks = make_region_masks(comparison.geom, regions)
    return [make_region(mask, comparison.pixel_size) for mask in masks]


def make_region_masks(geom, regions):
    """Make a mask of each region.

    Parameters
    ----------
    geom : `~gammapy.maps.WcsGeom`
        Geometry of an image.
    regions : list of `~regions.SkyRegion`
        Regions, which may overlap.

    Returns
    -------
    masks : list of `~numpy.ndarray` of bool
        True in the region. Each of shape (n_y, n_x).

    Raises
    ------
    ValueError
        If a region holds the center of no pixel, or is not whole on the map.
    """
    masks = []
    for region in regions:
        mask = geom.region_mask([region]).data
        written = region.meta.get("comment")
        text = f" ({', '.join(str(region).splitlines())})"
        prefix, name = (f"{written}: ", "region") if written else ("", f"region{text}")
        if not mask.any():
            raise ValueError(
                f"{prefix}The {name} is not on the map, or holds no center of a pixel. "
                "Use a larger map, or leave the region out."
            )
        missing = _find_missing_part(region, geom, mask.sum())
        if missing > 0:
            raise ValueError(
                f"{prefix}{missing:.1%} of the {name} is off the map. Use a larger "
                "map, or cut the region to it."
            )
        masks.append(mask)
    return masks


def _find_missing_part(region, geom, n_pixels):
    """Find the part of a region beyond the map, which has so many of its pixels."""
    box, (n_y, n_x) = region.to_pixel(geom.wcs).bounding_box, geom.data_shape
    margin = max(-box.ixmin, -box.iymin, box.ixmax - n_x, box.iymax - n_y)
    if margin <= 0:
        return 0.0
    # of a region that is larger than the sky around, that there is more of it
    geom = geom.pad(min(margin, max(n_x, n_y)), axis_name=None)
    return 1 - n_pixels / np.count_nonzero(geom.region_mask([region]).data)


def tabulate_regions(comparison, names, counts, target=None, flux_per_count=None):
    """Tabulate the systematic error in regions, and what the target has there.

    The spread of a region is that between sets.

    Parameters
    ----------
    comparison : `~gammapy_mimic.estimators.tables.Comparison`
        Measurements of maps.
    names : list of str
        Names of the regions.
    counts, target : list of list of `~gammapy_mimic.estimators.counting.BandCounts`
        Counts of mimics and of the target for each region and band of energy. Default
        is no target.
    flux_per_count : `~astropy.units.Quantity`, optional
        Flux of a source of the target for one count, by region and band. Default is not
        known.

    Returns
    -------
    table : `~astropy.table.Table`
        A row for each region and band: ``counts`` and ``background`` of the mean mimic
        set, its bias, spread and total, and with a target its ``target_counts`` and
        ``target_background``, the columns of
        `~gammapy_mimic.estimators.position.calibrate`, and if it is known, the
        ``target_flux`` of the excess and the ``spurious_flux`` of the bias.
    """
    rows = []
    for number, name in enumerate(names):
        for idx, band in enumerate(comparison.bands):
            mimics = counts[number][idx]
            row = {"region": name} | band._asdict()
            numbers = _add_counts(mimics.counts)
            n_sets = len(comparison.mimics)
            row |= {"counts": numbers[0] / n_sets, "background": numbers[1] / n_sets}
            row |= describe_background(mimics.join_sets())
            if target is not None:
                n_on, background, alpha = _add_counts(target[number][idx].counts)
                significance = float(get_significance(n_on, background, alpha))
                row |= {"target_counts": n_on, "target_background": background}
                effective = background / (1 + alpha)
                row |= calibrate(significance, effective, alpha, mimics)
                if flux_per_count is not None:
                    variance = n_on + alpha * background
                    per_count = flux_per_count[number, idx]
                    row |= make_flux_columns(row, variance, per_count)
            rows.append(row)
    return make_table(rows)


def _add_counts(counts):
    """Add up counts and background, with their ratio of exposures."""
    n_on = float(counts.counts.sum())
    if counts.background is not None:
        return n_on, float(counts.background.sum()), 0.0
    n_off = float(counts.counts_off.sum())
    background = float(np.sum(counts.alpha * counts.counts_off))
    return n_on, background, background / n_off if n_off > 0 else 0.0
