"""Datasets of which one at a time is in memory."""

import copy
import itertools
from collections.abc import Sequence
from math import prod

import numpy as np
from astropy.io import fits
from gammapy.data import GTI
from gammapy.datasets import MapDataset, MapDatasetOnOff
from gammapy.maps import Map
from gammapy.utils.fits import HDULocation

__all__ = ["LazyDatasets", "StoredDataset"]

LAZY_MAPS = ("counts", "background", "mask_safe", "mask_fit")
OFF_MAPS = ("counts_off", "acceptance", "acceptance_off")
IRFS = {"exposure": "map", "psf": "psf_map", "edisp": "edisp_map"}
"""Maps of a dataset, and classes of its IRFs, by the name of their HDU."""


class LazyDatasets(Sequence):
    """Datasets that are read each time one is taken, and not kept.

    Parameters
    ----------
    items : list
        Datasets, and objects with a method ``load`` that gives one.
    """

    def __init__(self, items):
        self.items = list(items)

    @classmethod
    def create(cls, datasets):
        """Create from any datasets.

        Parameters
        ----------
        datasets : `~gammapy.datasets.Dataset`, `LazyDatasets` or list
            Datasets.

        Returns
        -------
        datasets : `LazyDatasets`
            Datasets.
        """
        if isinstance(datasets, cls):
            return datasets
        return cls(datasets if isinstance(datasets, Sequence) else [datasets])

    @classmethod
    def join(cls, groups):
        """Join several groups of datasets to one.

        Parameters
        ----------
        groups : list of `LazyDatasets`
            Datasets.

        Returns
        -------
        datasets : `LazyDatasets`
            All datasets.
        """
        return cls(itertools.chain(*(cls.create(_).items for _ in groups)))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, idx):
        item = self.items[idx]
        if isinstance(idx, slice):
            return type(self)(item)
        return item.load() if hasattr(item, "load") else item

    def take(self, indices):
        """Take some of the datasets.

        Parameters
        ----------
        indices : list of int
            Their indices.

        Returns
        -------
        datasets : `LazyDatasets`
            Datasets.
        """
        return type(self)(self.items[_] for _ in indices)


class StoredMap(HDULocation):
    """Map in a file, whose geometry is known: its bytes are all that is read.

    Parameters
    ----------
    path : `~pathlib.Path`
        File.
    hdu : `~astropy.io.fits.ImageHDU`
        HDU of an open file, not compressed.
    geom : `~gammapy.maps.Geom`
        Geometry.
    """

    def __init__(self, path, hdu, geom):
        super().__init__("map", file_dir=path.parent, file_name=path.name)
        self.hdu_name, self.geom = hdu.name, geom
        self.offset = hdu.fileinfo()["datLoc"]
        # numbers in FITS files are those of the most significant byte first
        self.dtype = hdu.data.dtype.newbyteorder(">")

    def load(self):
        """Read the map (`~gammapy.maps.Map`)."""
        shape = self.geom.data_shape
        options = {"count": prod(shape), "offset": self.offset}
        data = np.fromfile(self.path(), self.dtype, **options).reshape(shape)
        is_mask = self.hdu_name.startswith("MASK")
        dtype = bool if is_mask else self.dtype.newbyteorder("=")
        # Gammapy keeps the coordinates of a geometry as long as there is that object
        return Map.from_geom(copy.copy(self.geom), data=data.astype(dtype))


class NoMap(HDULocation):
    """Place of a map that is not to be read."""

    def __init__(self):
        super().__init__("map", cache=False)

    def load(self):
        """Read nothing."""
        return None


class StoredDataset:
    """Dataset in a file, of which maps are read when they are needed.

    Parameters
    ----------
    path : `~pathlib.Path`
        File of a `~gammapy.datasets.MapDataset` or
        `~gammapy.datasets.MapDatasetOnOff`.
    name : str
        Name.
    models : `~gammapy.modeling.models.DatasetModels`, optional
        Models of the dataset. Default is none.
    meta_table : `~astropy.table.Table`, optional
        Meta table. Default is none.
    """

    def __init__(self, path, name, models=None, meta_table=None):
        parts, self.off_maps = {"name": name, "meta_table": meta_table}, {}
        with fits.open(path, memmap=False) as hdus:
            geom, names = (
                Map.from_hdulist(hdus, hdu="counts").geom,
                {_.name for _ in hdus},
            )
            if "GTI" in names:
                parts["gti"] = GTI.from_table_hdu(hdus["GTI"])
            stored = {
                key: StoredMap(path, hdus[key], geom)
                for key in (*LAZY_MAPS, *OFF_MAPS)
                if key.upper() in names
            }
            irfs = {
                key: HDULocation(
                    hdu_class,
                    file_dir=path.parent,
                    file_name=path.name,
                    hdu_name=key.upper(),
                    format="gadf",
                )
                for key, hdu_class in IRFS.items()
                if key.upper() in names
            }
        self.off_maps = {key: stored.pop(key) for key in OFF_MAPS if key in stored}
        parts |= stored | {key: NoMap() for key in irfs}
        self.dataset = (MapDatasetOnOff if self.off_maps else MapDataset)(**parts)
        # Gammapy would read the IRFs, for models that do not need them
        self.dataset.models = models
        for key, irf in irfs.items():
            setattr(self.dataset, key, irf)

    def load(self):
        """Make the dataset (`~gammapy.datasets.MapDataset`), with no map read yet."""
        # a shallow copy, which keeps to itself what is read and evaluated
        dataset = copy.copy(self.dataset)
        # Gammapy cannot read OFF counts lazily
        for key, stored in self.off_maps.items():
            setattr(dataset, key, stored.load())
        return dataset
