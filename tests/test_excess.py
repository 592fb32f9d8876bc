"""Significance in bands of energy, and the stacking before it: equal to Gammapy's."""

import itertools

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle
from gammapy.datasets import Datasets, MapDataset, MapDatasetOnOff
from gammapy.estimators import ExcessMapEstimator
from gammapy.maps import Map, WcsGeom
from gammapy.modeling.models import FoVBackgroundModel
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.estimators.bias import stack_fov
from gammapy_mimic.estimators.measurement import (
    get_bands,
    get_pixel_areas,
    get_pointings,
    measure_maps,
)
from gammapy_mimic.estimators.stacking import (
    make_stacking_geoms,
    stack_datasets,
    stack_groups,
)

from .test_systematics import CENTER, Field, simulate_sets, simulate_stacked

RADIUS = Angle("0.2 deg")
FIELD = Field(n_obs=4, n_energies=6, binsz=0.1)
EDGES = FIELD.geom.axes["energy"].edges
BANDS = {"bins": EDGES, "wide": EDGES[[0, 2, 3, 6]], "part": EDGES[[1, 3, 5]]}
BANDS["one"] = EDGES[[0, -1]]


def make_datasets(name):
    """Observations whose masks differ from energy to energy, and from each other."""
    rng = np.random.default_rng(1)
    datasets = Datasets()
    for idx, dataset in enumerate(FIELD.simulate(rng)):
        geom, background = dataset.counts.geom, dataset.background.data
        safe = dataset.mask_safe.data.copy()
        safe[: 1 + idx % 3, :, : 25 + idx] = safe[4:, 10:20] = False
        maps = {"counts": dataset.counts.data, "mask_safe": safe}
        if name == "mask_fit" and idx % 2:
            maps["mask_fit"] = rng.random(safe.shape) > 0.1
        if name == "no number":
            background = np.where(safe, background, np.nan)
        kwargs = {"meta_table": dataset.meta_table, "name": f"{name}-{idx}"}
        if name in ("OFF", "rings"):
            ratio = 30 if name == "rings" else 3 + idx
            maps["counts_off"] = rng.poisson(background * ratio)
            maps |= {"acceptance": background, "acceptance_off": background * ratio}
        else:
            maps["background"] = background
        for key, data in maps.items():
            dtype = bool if "mask" in key else np.float32
            kwargs[key] = Map.from_geom(geom, data=data.astype(dtype))
        is_on_off = "counts_off" in maps
        made = MapDatasetOnOff(**kwargs) if is_on_off else MapDataset(**kwargs)
        if name == "cutouts":
            pointing = get_pointings([made])[0]
            made = made.cutout(pointing, width="3.3 deg", name=made.name)
            made.meta_table = dataset.meta_table
        if not is_on_off:
            made.models = [FoVBackgroundModel(dataset_name=made.name)]
            made.background_model.spectral_model.norm.value = 1 + 0.1 * idx
        datasets.append(made)
    return datasets


NAMES = ["plain", "mask_fit", "cutouts", "OFF", "rings"]


@pytest.mark.slow
@pytest.mark.parametrize("edges", BANDS)
@pytest.mark.parametrize("name", NAMES)
def test_significance_of_each_band_is_that_of_gammapy(name, edges):
    dataset, edges = make_datasets(name)[1], BANDS[edges]
    found = measure_maps(dataset, edges, RADIUS)
    is_on_off = dataset.stat_type == "wstat"
    for idx, band in enumerate(get_bands(edges)):
        estimator = ExcessMapEstimator(
            RADIUS,
            energy_edges=u.Quantity([band.e_min, band.e_max]),
            selection_optional=["alpha"] if is_on_off else [],
            correlate_off=name != "rings",
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            maps = estimator.run(dataset)
        alpha = maps["alpha"].data[0] if is_on_off else 0
        background = maps["npred_background"].data[0] / (1 + alpha)
        assert_array_equal(found.significance[idx], maps["sqrt_ts"].data[0])
        assert_array_equal(found.background[idx], background)
        assert_array_equal(found.alpha[idx], alpha + np.zeros_like(background))


@pytest.mark.parametrize("make", [simulate_sets, simulate_stacked])
def test_one_run_of_the_estimator_for_each_set(make, monkeypatch):
    runs = []
    original = ExcessMapEstimator.estimate_excess_map

    def count(self, *args):
        runs.append(self)
        return original(self, *args)

    monkeypatch.setattr(ExcessMapEstimator, "estimate_excess_map", count)
    estimator = MimicSystematicsEstimator(RADIUS, BANDS["wide"], min_background=1)
    estimator.run(make(FIELD, 0, n_sets=3))
    assert len(runs) == 3


@pytest.mark.parametrize("name", [*NAMES, "no number"])
def test_stacked_counts_are_those_of_whole_datasets(name):
    datasets = make_datasets(name)
    for dataset in datasets:
        dataset.exposure = Map.from_geom(
            dataset.counts.geom.to_image().to_cube(
                [FIELD.geom.axes["energy"].copy(name="energy_true")]
            ),
            data=1.0,
            unit="m2 s",
        )
    (found,) = stack_groups({"1": datasets}).values()
    assert found.exposure is None
    expected = stack_datasets(datasets, make_stacking_geoms(datasets))
    maps = ["counts", "mask_safe"]
    is_on_off = found.stat_type == "wstat"
    maps += ["counts_off", "acceptance", "acceptance_off"] if is_on_off else []
    maps += ["mask_fit"] if name == "mask_fit" else ["background"]
    for key in maps:
        assert_array_equal(getattr(found, key).data, getattr(expected, key).data)
        assert getattr(found, key).geom == getattr(expected, key).geom


@pytest.mark.parametrize("position", [None, CENTER])
def test_observations_without_a_safe_mask_are_stacked(position):
    """Without one, all bins are safe."""
    sets = simulate_sets(FIELD, 0, n_sets=3)
    for dataset in itertools.chain(*sets):
        dataset.background.data += 0.1
        dataset.mask_safe = None
    estimator = MimicSystematicsEstimator(RADIUS, position=position, min_background=1)
    result = estimator.run(sets)
    n_pixels = np.prod(FIELD.geom.data_shape[1:])
    rows = result.select("significance")
    assert_array_equal(rows["n_positions"][rows["name"] == "1"], n_pixels)


@pytest.mark.parametrize("name", ["plain", "cutouts", "OFF"])
def test_field_of_view_adds_up(name):
    """Datasets of the same pointing, or not, in any order."""
    datasets = [*make_datasets(name), *make_datasets("plain"), *make_datasets("OFF")]
    energy, position = BANDS["part"].value, np.linspace(-2, 2, 21)
    total = np.array(stack_fov(datasets, energy, position))
    single = [np.array(stack_fov([_], energy, position)) for _ in datasets]
    assert_allclose(total, sum(single), rtol=1e-12)
    assert_allclose(total, stack_fov(datasets[::-1], energy, position), rtol=1e-12)
    assert total[0].sum() > 10_000


@pytest.mark.parametrize("lat", [0, 89.5])
def test_pixel_areas(lat):
    """A tangential projection makes the solid angle smaller by the cube of the cosine.

    Gammapy's, next to a pole, is half of that in some pixels.
    """
    geom = WcsGeom.create(skydir=(83, lat), binsz=0.1, width=(5, 4), proj="TAN")
    expected = 0.01 * np.cos(geom.separation(geom.center_skydir).rad) ** 3
    assert_allclose(get_pixel_areas(geom), expected, rtol=1e-5)
