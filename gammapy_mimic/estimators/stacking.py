"""Stacking of the datasets of a mimic set to one dataset."""

import numpy as np
from gammapy.datasets import MapDataset
from gammapy.maps import Map, WcsGeom

from ..data.meta_tables import stack_dataset
from ..data.prediction import get_safe_mask

__all__ = ["make_stacking_geoms", "stack_counts", "stack_datasets", "stack_groups"]


def make_stacking_geoms(datasets):
    """Make the geometries that hold all of several datasets.

    Parameters
    ----------
    datasets : list of `~gammapy.datasets.MapDataset`
        Datasets, as a rule cutouts of one geometry.

    Returns
    -------
    geoms : dict of `~gammapy.maps.WcsGeom`
        Geometries for `~gammapy.datasets.MapDataset.from_geoms`.

    Raises
    ------
    ValueError
        If they are not parts of one geometry.
    """
    reference = datasets[0].geoms
    for dataset in datasets:
        same = dataset.geoms.keys() == reference.keys() and all(
            geom.is_aligned(reference[name]) for name, geom in dataset.geoms.items()
        )
        if not same:
            raise ValueError(
                f"The datasets {datasets[0].name} and {dataset.name} differ in pixels, "
                "bins of energy or maps. Reduce all with the same configuration."
            )
    joined = {}
    for name, geom in reference.items():
        geoms = [_.geoms[name] for _ in datasets]
        crpix = np.array([_.wcs.wcs.crpix for _ in geoms])
        npix = np.array([_.data_shape[:-3:-1] for _ in geoms])
        first, last = np.min(1 - crpix, axis=0), np.max(npix - crpix, axis=0)
        wcs = geom.wcs.deepcopy()
        wcs.wcs.crpix = 1 - first
        npix = np.rint(last - first + 1).astype(int)
        wcs.array_shape = tuple(npix[::-1])
        joined[name] = WcsGeom(wcs, npix=tuple(npix), axes=geom.axes)
    return joined


def stack_datasets(datasets, geoms):
    """Stack datasets to one.

    Parameters
    ----------
    datasets : list of `~gammapy.datasets.MapDataset`
        Datasets of one mimic set. Not changed. Their background models become part of
        the background.
    geoms : dict of `~gammapy.maps.WcsGeom`
        Geometries of the result.

    Returns
    -------
    dataset : `~gammapy.datasets.MapDataset`
        One dataset.
    """
    stacked = type(datasets[0]).from_geoms(**geoms, name="stacked")
    for dataset in datasets:
        stack_dataset(stacked, dataset)
    return stacked


def stack_counts(datasets, geoms):
    """Stack what a significance needs: counts, background and masks.

    Bins of the result are those of `stack_datasets`. There are no IRFs, and no tables.

    Parameters
    ----------
    datasets : list of `~gammapy.datasets.MapDataset`
        Datasets of one mimic set. Not changed. Their background models become part of
        the background.
    geoms : dict of `~gammapy.maps.WcsGeom`
        Geometries of the result.

    Returns
    -------
    dataset : `~gammapy.datasets.MapDataset`
        One dataset.
    """
    geom = geoms["geom"]
    if datasets[0].stat_type == "wstat":
        stacked = type(datasets[0]).from_geoms(**geoms, name="stacked")
        stacked.exposure = stacked.psf = stacked.edisp = None
        for dataset in datasets:
            stack_dataset(stacked, dataset)
        return stacked
    # the precision of the maps that Gammapy makes
    counts, background = np.zeros((2, *geom.data_shape), dtype=np.float32)
    masks = {"mask_safe": np.zeros(geom.data_shape, dtype=bool)}
    for dataset in datasets:
        part, safe = _find_part(dataset.counts.geom, geom), get_safe_mask(dataset)
        masks["mask_safe"][part] |= safe
        if dataset.mask_fit is not None:
            nothing = np.zeros_like(masks["mask_safe"])
            masks.setdefault("mask_fit", nothing)[part] |= dataset.mask_fit.data
        _add(counts[part], dataset.counts, safe)
        _add(background[part], dataset.npred_background(), safe)
    maps = masks | {"counts": counts, "background": background}
    maps = {name: Map.from_geom(geom, data=data) for name, data in maps.items()}
    return MapDataset(**maps, name="stacked")


def _add(total, map_, where):
    """Add a map where a mask is True, beyond which it may be anything."""
    np.add(total, map_.data.astype(total.dtype), out=total, where=where)


def _find_part(geom, whole):
    """Slices of a geometry that hold a cutout of it."""
    first = np.rint(whole.wcs.wcs.crpix - geom.wcs.wcs.crpix).astype(int)
    n_y, n_x = geom.data_shape[-2:]
    return ..., slice(first[1], first[1] + n_y), slice(first[0], first[0] + n_x)


def stack_groups(groups, has_irfs=False):
    """Stack each of several groups of datasets, all to the same geometry.

    Parameters
    ----------
    groups : dict of `~gammapy.datasets.Datasets`
        Datasets of each mimic set and of the target.
    has_irfs : bool, optional
        Whether IRFs are stacked, too, which takes most of the time. Default is False.

    Returns
    -------
    datasets : dict of `~gammapy.datasets.MapDataset`
        One dataset for each group.
    """
    geoms = make_stacking_geoms(
        [dataset for group in groups.values() for dataset in group]
    )
    stack = stack_datasets if has_irfs else stack_counts
    return {
        name: values[0] if _is_stacked(values, geoms) else stack(values, geoms)
        for name, values in groups.items()
    }


def _is_stacked(datasets, geoms):
    """Whether datasets are one of these geometries, with nothing to be added to it."""
    first = datasets[0]
    same = len(datasets) == 1 and first.counts.geom == geoms["geom"]
    return same and not first.models
