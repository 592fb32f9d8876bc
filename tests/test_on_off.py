"""OFF counts fluctuate, too: factors 1 + alpha, with alpha = t_on / t_off."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Table
from gammapy.datasets import MapDatasetOnOff
from gammapy.maps import Map, MapAxis, WcsGeom
from numpy.testing import assert_allclose

from gammapy_mimic.estimators.bias import make_bias_map, stack_fov
from gammapy_mimic.estimators.measurement import measure_maps, measure_spectra

from .test_systematics import make_spectrum

POINTING = SkyCoord(83.63, 22.01, unit="deg")
N_ON, EDGES = 40.0, [1, 10] * u.TeV


def make_maps(alpha):
    axis = MapAxis.from_energy_edges(EDGES)
    geom = WcsGeom.create(skydir=POINTING, width=3, binsz=0.1, axes=[axis], proj="TAN")
    maps = {"counts": N_ON, "counts_off": N_ON / alpha}
    maps |= {"acceptance": 1.0, "acceptance_off": 1 / alpha}
    pointing = {"RA_PNT": [POINTING.ra.deg], "DEC_PNT": [POINTING.dec.deg]}
    return MapDatasetOnOff(
        **{name: Map.from_geom(geom, data=value) for name, value in maps.items()},
        mask_safe=Map.from_geom(geom, data=True, dtype=bool),
        meta_table=Table({"OBS_ID": [1], **pointing}),
        name="maps",
    )


@pytest.mark.parametrize("alpha", [0.1, 0.25, 1])
def test_information_of_a_map(alpha):
    """The variance of the excess over the square of the background, in a circle."""
    result = measure_maps(make_maps(alpha), EDGES, Angle("0.2 deg"))
    # 13 pixels of 0.1 deg have their centre in a circle of 0.2 deg
    background = 13 * N_ON / (1 + alpha)
    assert_allclose(result.background[0, 15, 15], background, rtol=0.01)


@pytest.mark.parametrize("alpha", [0.1, 0.25, 1])
def test_information_of_a_spectrum(alpha):
    spectrum = make_spectrum(np.random.default_rng(1), 1, n_on=1000, alpha=alpha)
    result = measure_spectra([spectrum], EDGES)
    expected = spectrum.background.data.sum() / (1 + alpha)
    assert_allclose(result.background.ravel(), expected)


@pytest.mark.parametrize("alpha", [0.1, 0.25, 1])
def test_variance_in_the_field_of_view(alpha):
    edges = np.linspace(-1, 1, 3)
    counts, background, variance = stack_fov([make_maps(alpha)], EDGES.value, edges)
    assert_allclose(background, counts)
    assert_allclose(variance, background * (1 + alpha))
    assert background.min() > 50 * N_ON


def test_bias_map_has_an_excess_where_it_is():
    dataset = make_maps(0.25)
    expected = [0.5, -0.3]  # to the east and to the north
    source = POINTING.directional_offset_by(180 * u.deg, 0.3 * u.deg)
    source = source.directional_offset_by(90 * u.deg, 0.5 * u.deg)
    near = dataset.counts.geom.separation(source) < 0.15 * u.deg
    dataset.counts.data[0, near] += N_ON
    bias = make_bias_map([dataset], EDGES, "2 deg", "0.2 deg", "0.2 deg")
    edges = bias.position_edges.to_value("deg")
    center = (edges[1:] + edges[:-1]) / 2
    weights = bias.ratio[0] - 1
    grid = np.meshgrid(center, center)
    position = [np.sum(weights * _) / weights.sum() for _ in grid]
    assert_allclose(position, expected, atol=0.04)
    assert_allclose(edges, -edges[::-1])
