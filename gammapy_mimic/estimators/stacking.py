"""Stacking of the datasets of a mimic set to one dataset."""

from collections import defaultdict

import numpy as np
from gammapy.datasets import MapDataset
from gammapy.maps import Map, WcsGeom

from ..data.lazy_datasets import LazyDatasets
from ..data.meta_tables import stack_dataset
from ..data.prediction import get_safe_mask

__all__ = [
    "make_stacking_geoms",
    "stack_counts",
    "stack_datasets",
    "stack_groups",
]


def make_stacking_geoms(datasets, has_irfs=True):
    """Make the geometries that hold all of several datasets.

    Parameters
    ----------
    datasets : list of `~gammapy.datasets.MapDataset`
        Datasets, as a rule cutouts of one geometry.
    has_irfs : bool, optional
        Whether with those of the IRFs, which have to be read. Default is True.

    Returns
    -------
    geoms : dict of `~gammapy.maps.WcsGeom`
        Geometries for `~gammapy.datasets.MapDataset.from_geoms`.

    Raises
    ------
    ValueError
        If they are not parts of one geometry.
    """
    reference, geoms = None, defaultdict(list)
    for dataset in datasets:
        parts = dataset.geoms if has_irfs else {"geom": dataset.counts.geom}
        if reference is None:
            first_name, reference = dataset.name, parts
        same = parts.keys() == reference.keys() and all(
            geom.is_aligned(reference[name]) for name, geom in parts.items()
        )
        if not same:
            raise ValueError(
                f"The datasets {first_name} and {dataset.name} differ in pixels, "
                "bins of energy or maps. Reduce all with the same configuration."
            )
        for name, geom in parts.items():
            geoms[name].append(geom)
    return {name: _join_geoms(values) for name, values in geoms.items()}


def _join_geoms(geoms):
    """Make the geometry that holds all of these."""
    crpix = np.array([_.wcs.wcs.crpix for _ in geoms])
    npix = np.array([_.data_shape[:-3:-1] for _ in geoms])
    first, last = np.min(1 - crpix, axis=0), np.max(npix - crpix, axis=0)
    wcs = geoms[0].wcs.deepcopy()
    wcs.wcs.crpix = 1 - first
    npix = np.rint(last - first + 1).astype(int)
    wcs.array_shape = tuple(npix[::-1])
    return WcsGeom(wcs, npix=tuple(npix), axes=geoms[0].axes)


def stack_datasets(datasets, geoms=None):
    """Stack datasets to one, with all that they have.

    Other than `~gammapy.datasets.Datasets.stack_reduce`, for datasets that differ in
    their cutouts, or in the energies that are safe: that of Gammapy 2.1 has the size of
    the first one, and at energies that some of them do not have, a response that is too
    high.

    Parameters
    ----------
    datasets : `~gammapy.datasets.Datasets`
        Datasets of the target or of one mimic set: maps that are parts of one geometry,
        or spectra of one region. Not changed. Their background models become part of
        the background.
    geoms : dict of `~gammapy.maps.WcsGeom`, optional
        Geometries of the result. Default is those that hold all of them, and if there
        is one dataset, that is returned.

    Returns
    -------
    dataset : `~gammapy.datasets.MapDataset`
        One dataset.

    Raises
    ------
    ValueError
        If there are no datasets, or if they are not parts of one geometry.
    """
    if not len(datasets):
        raise ValueError("There are no datasets to be stacked.")
    first = datasets[0]
    if geoms is None:
        if len(datasets) == 1:
            return first
        is_region = first.counts.geom.is_region
        geoms = first.geoms if is_region else make_stacking_geoms(datasets)
    stacked = type(first).from_geoms(**geoms, name="stacked")
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
            masks.setdefault("mask_fit", nothing)[part] |= dataset.mask_fit.data != 0
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


def stack_groups(groups, with_irfs=()):
    """Stack each of several groups of datasets, all to the same geometry.

    Parameters
    ----------
    groups : dict of `~gammapy_mimic.data.lazy_datasets.LazyDatasets`
        Datasets of each mimic set and of the target.
    with_irfs : list of str, optional
        Groups of which IRFs are stacked, too, which takes most of the time. Default is
        none.

    Returns
    -------
    datasets : dict of `~gammapy.datasets.MapDataset`
        One dataset for each group.
    """
    everything = LazyDatasets.join(groups.values())
    geoms = make_stacking_geoms(everything, has_irfs=False)
    if with_irfs:
        those = LazyDatasets.join(groups[_] for _ in with_irfs)
        irf_geoms = make_stacking_geoms(those)
        if irf_geoms["geom"] != geoms["geom"]:
            irf_geoms = make_stacking_geoms(everything)
        geoms = irf_geoms
    return {
        name: _stack_group(
            values, geoms, stack_datasets if name in with_irfs else stack_counts
        )
        for name, values in groups.items()
    }


def _stack_group(datasets, geoms, stack):
    return datasets[0] if _is_stacked(datasets, geoms) else stack(datasets, geoms)


def _is_stacked(datasets, geoms):
    """Whether datasets are one of these geometries, with nothing to be added to it."""
    first = datasets[0]
    same = len(datasets) == 1 and first.counts.geom == geoms["geom"]
    return same and not first.models
