"""Sizes in catalogues: known names with their meaning, unknown ones with a warning."""

import logging

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table
from numpy.testing import assert_allclose

from gammapy_mimic.exclusion import ExclusionRegions
from gammapy_mimic.exclusion.catalog_sizes import find_size
from gammapy_mimic.exclusion.catalogs import read_catalog

from .helpers import find_data


def make_table(**columns):
    return Table({"ra": [83.6, 100.0], "dec": [22.0, -10.0], **columns})


def get_radii(table):
    return read_catalog(table, 0.3, 3).radius


@pytest.mark.parametrize(
    "name", ["r39", "R39", "r68", "r80", "r95", "r39_b", "ext_r68"]
)
def test_containment_is_that_of_a_gaussian(name):
    fraction = int("".join(_ for _ in name if _.isdigit())) / 100
    sigma = find_size(name).factor
    assert find_size(name).kind == "sigma"
    assert_allclose(1 - np.exp(-0.5 / sigma**2), fraction, atol=0.004)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "extension",
            "sigma",
            "morph_sigma",
            "morph_sigma2",
            "size",
            "Size",
            "size_a",
        ),
        *("semi_major", "semi_minor", "SemiMajor", "Model_SemiMajor", "extent"),
    ],
)
def test_gaussian_width(name):
    assert find_size(name) == ("sigma", 1)
    radii = get_radii(make_table(**{name: [0.5, np.nan] * u.deg}))
    assert_allclose(radii, [np.hypot(0.3, 1.5), 0.3])


@pytest.mark.parametrize(
    "name",
    [
        *("r39_err", "r39_ul", "Size_UL", "Size_Err", "extension_err", "pos_err"),
        *("Conf_95_SemiMajor", "Conf_68_SemiMinor", "Pos_Err_95", "Pos_Err_68"),
        *("ASSO_Sep", "TS", "r95_err", "sigma_sep_err", "flux", "N_TELS"),
    ],
)
def test_errors_and_limits_are_no_sizes(name):
    size = find_size(name)
    assert size is None


@pytest.mark.parametrize(
    "name",
    [
        *("pos_err_sigma", "err_sigma", "significance_sigma", "sqrt_ts_sigma"),
        *("bkg_sigma", "flux_sigma", "flux_radius", "search_radius", "unc_radius"),
    ],
)
def test_errors_and_significances_are_no_sizes(name):
    assert find_size(name) is None
    assert_allclose(get_radii(make_table(**{name: [2.0, 1.0]})), 0.3)


def test_unit_that_is_no_angle():
    table = make_table(sigma=[1, 2] * u.Unit("cm-2 s-1"))
    assert_allclose(get_radii(table), 0.3)


def test_size_that_is_text(caplog):
    assert_allclose(get_radii(make_table(extension=["1.2", "point"])), 0.3)
    assert "The column extension of" in caplog.text
    assert "is text, and not read as a size" in caplog.text


def test_other_kinds():
    assert find_size("spec0_radius") == ("edge", 1)
    assert find_size("radius") == ("radius", 1)
    assert find_size("diameter") == ("edge", 0.5)
    assert_allclose(find_size("fwhm").factor, 1 / 2.3548, rtol=1e-4)
    assert_allclose(find_size("HWHM").factor, 1 / 1.1774, rtol=1e-4)


def test_units_limits_and_components():
    expected = [np.hypot(0.3, 1.5), 0.3]
    arcmin = make_table(r39=[30, np.nan] * u.arcmin)
    assert_allclose(get_radii(arcmin), expected)
    two = make_table(r39=[0.2, np.nan] * u.deg, r39_b=[0.5, np.nan] * u.deg)
    assert_allclose(get_radii(two), expected)
    axes = make_table(size_a=[0.5, -99.0], size_b=[0.1, -1.0])
    assert_allclose(get_radii(axes), expected)
    masked = make_table(r39=MaskedColumn([0.5, 7.0], mask=[False, True]))
    assert_allclose(get_radii(masked), expected)


def test_size_of_a_shell_is_its_radius():
    table = make_table(size=[0.5, 0.5], spatial_model=["Shell", "Gaussian"])
    assert_allclose(get_radii(table), [0.8, np.hypot(0.3, 1.5)])


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (("_RAJ2000", "_DEJ2000"), ([83.6] * u.deg, [22.0] * u.deg)),
        (("RA", "DEC"), ([83.6 / 15] * u.hourangle, [22 * 60] * u.arcmin)),
        (("ra", "dec"), (["05:34:24"], ["+22:00:00"])),
        (("RAJ2000", "DEJ2000"), (["05 34 24"], ["+22 00 00"])),
        (("ra", "dec"), (["5h34m24s"], ["22d00m00s"])),
        (("ra", "dec"), (["83.6"], ["22.0"])),
        (("RA_deg", "DE_deg"), ([83.6], [22.0])),
        (("l", "b"), None),
        (("GLON", "GLAT"), None),
    ],
)
def test_positions(names, values):
    position = SkyCoord(83.6, 22.0, unit="deg")
    if values is None:
        values = [position.galactic.l.deg], [position.galactic.b.deg]
    circles = read_catalog(Table(list(values), names=names), 0.3, 3)
    found = SkyCoord(circles.lon, circles.lat, unit="deg")
    assert found.separation(position)[0] < 0.01 * u.arcsec


def test_unknown_size_warns_once(caplog):
    table = make_table(blob=[0.5, 0.6] * u.deg, flux=[1, 2] / u.s)
    with caplog.at_level(logging.WARNING):
        assert_allclose(get_radii(table), 0.3)
    (record,) = caplog.records
    message = record.getMessage()
    assert "blob" in message
    assert "ra, dec, blob, flux" in message


def test_points_need_no_warning(caplog):
    with caplog.at_level(logging.WARNING):
        get_radii(make_table(name=["a", "b"], pos_err=[0.1, 0.1] * u.deg))
        get_radii(make_table(r39=[0.1, 0.1], blob=[0.1, 0.1]))
    assert not caplog.records


class TestFiles:
    def test_lhaaso(self):
        path = find_data("catalogs", "1LHAASO_catalog.fits")
        table, circles = Table.read(path), read_catalog(path, 0.3, 3)
        size = np.fmax(*(np.ma.filled(table[_], np.nan) for _ in ("r39", "r39_b")))
        assert_allclose(circles.radius, np.hypot(0.3, 3 * np.nan_to_num(size)))
        assert circles.radius.max() > 4

    @pytest.mark.parametrize("name", ["2HWC", "3HWC"])
    def test_file_is_as_tag(self, name):
        path = find_data("catalogs", f"{name}.ecsv")
        expected = read_catalog(name.lower(), 0.3, 3)
        assert_allclose(read_catalog(path, 0.3, 3).radius, expected.radius)

    def test_hgps(self):
        path = find_data("catalogs", "hgps_catalog_v1.fits.gz")
        expected, circles = (read_catalog(_, 0.3, 3) for _ in ("hgps", path))
        assert np.all(circles.radius >= expected.radius - 1e-6)
        # R70 holds the point spread function as well
        assert_allclose(circles.radius, expected.radius, atol=0.08)

    def test_regions(self):
        crab = SkyCoord(83.63, 22.01, unit="deg")
        path = str(find_data("catalogs", "1LHAASO_catalog.fits"))
        regions = ExclusionRegions.from_catalogs(crab, "3 deg", catalogs=[path])
        radii = np.sort(regions.to_table()["radius"])
        assert_allclose(radii, [0.4, np.hypot(0.4, 3 * 1.45)], rtol=1e-6)
