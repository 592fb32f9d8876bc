"""Response of stacked datasets, whose energies are safe in some of them only."""

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from gammapy.datasets import Datasets, MapDataset
from gammapy.irf import EDispKernelMap
from gammapy.maps import Map, MapAxis, WcsGeom
from gammapy.modeling.models import (
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from numpy.testing import assert_allclose

from gammapy_mimic.estimators.stacking import make_stacking_geoms, stack_datasets

POSITION = SkyCoord(83.6, 22, unit="deg")
AXIS = MapAxis.from_energy_bounds("0.5 TeV", "20 TeV", nbin=12)
TRUE = MapAxis.from_energy_bounds("0.3 TeV", "50 TeV", nbin=24, name="energy_true")


def make_dataset(n_masked):
    """Dataset whose lowest energies are not safe."""
    geom = WcsGeom.create(skydir=POSITION, width=1, binsz=0.1, axes=[AXIS])
    mask = np.ones(geom.data_shape, dtype=bool)
    mask[:n_masked] = False
    edisp = EDispKernelMap.from_gauss(AXIS, TRUE, sigma=0.1, bias=0)
    edisp.exposure_map.quantity = np.ones(edisp.exposure_map.data.shape) * u.Unit(
        "m2 s"
    )
    zero = Map.from_geom(geom, data=np.zeros(geom.data_shape))
    return MapDataset(
        counts=zero,
        background=zero.copy(),
        exposure=Map.from_geom(geom.to_image().to_cube([TRUE]), data=1e10, unit="m2 s"),
        edisp=edisp,
        mask_safe=Map.from_geom(geom, data=mask),
        name=f"from_{n_masked}",
    )


def count_signal(dataset):
    """Predicted counts in safe bins, by energy."""
    source = SkyModel(
        PowerLawSpectralModel(),
        PointSpatialModel.from_position(POSITION),
        name="source",
    )
    dataset.models = [source]
    signal = np.where(dataset.mask_safe.data, dataset.npred_signal().data, 0)
    dataset.models = None
    return signal.sum(axis=(1, 2))


def test_stacked_response_is_that_of_safe_energies():
    """Regression: the prediction of a bin below the threshold of a dataset had it."""
    datasets = Datasets([make_dataset(_) for _ in (1, 2, 5)])
    stacked = stack_datasets(datasets, make_stacking_geoms(datasets))
    before = [_.edisp.edisp_map.data.copy() for _ in datasets]
    expected = np.sum([count_signal(_) for _ in datasets], axis=0)
    assert expected[0] == 0
    assert_allclose(count_signal(stacked), expected, rtol=1e-5)
    # those of the datasets stay
    for dataset, data in zip(datasets, before, strict=True):
        assert_allclose(dataset.edisp.edisp_map.data, data)
