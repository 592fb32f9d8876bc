"""Flaws of a background, and what the regions of a result say of them."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from gammapy.datasets import Datasets, MapDataset
from gammapy.maps import MapAxis, WcsGeom
from gammapy.modeling.models import PowerLawSpectralModel
from numpy.testing import assert_allclose
from regions import CircleSkyRegion

from gammapy_mimic.estimators.region_flux import get_flux_per_count
from gammapy_mimic.report.regions import format_flux, summarise_region
from gammapy_mimic.simulate import BackgroundFlaw, make_irfs, simulate_observations

CENTER = SkyCoord(83.6, -22, unit="deg")
FLAW = BackgroundFlaw(gradient=0.1, height=0.4, position=(0.8, 0.3), width=0.3)


class TestFlaw:
    def test_events_have_it_and_the_irf_has_not(self):
        drawn, plain = FLAW.make_irfs(20 * u.deg), make_irfs("20 deg")
        hidden = FLAW.hide(drawn)
        assert_allclose(hidden["bkg"].data, plain["bkg"].data, rtol=1e-12)
        assert hidden["aeff"] is drawn["aeff"]
        ratio = (drawn["bkg"].quantity / plain["bkg"].quantity).to_value("")
        coords = plain["bkg"].axes.get_coord()
        position = [coords[_].to_value("deg") for _ in ("fov_lon", "fov_lat")]
        assert_allclose(ratio, FLAW.evaluate(*position) + 0 * ratio, rtol=1e-12)

    def test_value(self):
        assert_allclose(FLAW.evaluate(0.8, 0.3), np.exp(0.08) * 1.4)
        # far from the spot, the gradient
        assert_allclose(FLAW.evaluate(-2, 0), np.exp(-0.2), rtol=1e-6)
        assert BackgroundFlaw().evaluate(1.2, 0.4) == 1

    def test_events(self):
        """More events on the side that the gradient is to, as the factor says."""
        flaw = BackgroundFlaw(gradient=0.3)
        options = {"irfs": flaw.make_irfs, "kept_irfs": flaw.hide}
        (observation,) = simulate_observations(1, **options)
        frame = observation.pointing.fixed_icrs.skyoffset_frame()
        lon = observation.events.radec.transform_to(frame).lon.wrap_at("180d").deg
        # fov_lon grows to the west
        west, east = np.sum(lon < 0), np.sum(lon > 0)
        assert west - east > 5 * np.sqrt(west + east)


@pytest.fixture(scope="module")
def dataset():
    """A dataset with a source of known flux, all in a region, and no background."""
    energy = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=4)
    energy_true = MapAxis.from_energy_bounds(
        "0.5 TeV", "20 TeV", nbin=12, name="energy_true"
    )
    geom = WcsGeom.create(skydir=CENTER, width=3, binsz=0.1, axes=[energy])
    dataset = MapDataset.create(geom, energy_axis_true=energy_true, name="toy")
    dataset.exposure.data += 1e13
    dataset.mask_safe.data[...] = True
    dataset.mask_safe.data[0] = False
    return dataset


class TestFluxPerCount:
    model = PowerLawSpectralModel(index=2, amplitude="3e-12 cm-2 s-1 TeV-1")
    regions = (CircleSkyRegion(CENTER, 0.4 * u.deg),)

    @pytest.mark.parametrize("edges", [[1, 10], [1, 10**0.5, 10]])
    def test_gives_the_flux_back(self, dataset, edges):
        """Of safe energies alone, and of several observations."""
        edges = edges * u.TeV
        flux = get_flux_per_count(Datasets([dataset]), self.regions, edges)
        energy = dataset.counts.geom.axes["energy"].edges
        # the exposure is 1e13 cm2 s, and the lowest bin is not safe
        counts = self.model.integral(energy[1], energy[-1]) * 1e13 * u.Unit("m2 s")
        expected = self.model.integral(edges[0], edges[-1])
        assert_allclose(
            (flux[0, -1] * counts.to_value("")).to_value(expected.unit),
            expected.value,
            rtol=0.01,
        )
        assert flux.shape == (1, len(edges) - 1 + (len(edges) > 2))
        both = Datasets([dataset, dataset.copy(name="other")])
        half = get_flux_per_count(both, self.regions, edges)
        assert_allclose(half.value, flux.value / 2)

    def test_region_elsewhere(self, dataset):
        place = CENTER.directional_offset_by(0 * u.deg, 10 * u.deg)
        regions = [CircleSkyRegion(place, 0.4 * u.deg)]
        flux = get_flux_per_count(Datasets([dataset]), regions, [1, 10] * u.TeV)
        assert np.isnan(flux).all()

    def test_no_exposure(self, dataset):
        other = dataset.copy(name="other")
        other.exposure = None
        options = self.regions, [1, 10] * u.TeV
        assert get_flux_per_count(Datasets([other]), *options) is None


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.234e-12, 3e-13, "(1.2 ± 0.3)e-12"),
        (-2e-13, 1e-12, "(-0.2 ± 1.0)e-12"),
        (0.0, 0.0, "(0.0 ± 0.0)e0"),
        (np.nan, 1.0, "not known"),
    ],
)
def test_format_flux(value, error, text):
    assert format_flux(value, error) == text


@pytest.mark.parametrize("flux", [1e-11, np.nan])
def test_flux_that_is_not_known_is_not_told(flux):
    """Without exposure there is none: it was "not known ... wrong by not known"."""
    values = {"region": "west", "significance": 6.0, "calibrated": 0.5}
    values |= {"calibrated_p_value": 0.3, "text": "calibrated 0.5", "delta": 0.1}
    values |= {"delta_err": 0.01, "mimic_mean": 5.0, "mimic_width": 1.2}
    for name in ("target_flux", "spurious_flux"):
        values |= {name: flux, f"{name}_err": flux / 10}
    text = summarise_region(Table([values])[0])
    assert text.startswith("Region west: 6.0 sigma, calibrated 0.5. The background")
    assert ("wrong by" in text) == np.isfinite(flux)
    assert "not known" not in text
