import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import (
    AltAz,
    EarthLocation,
    SkyCoord,
    SkyOffsetFrame,
)
from astropy.time import Time
from gammapy.utils.coordinates import FoVAltAzFrame, FoVICRSFrame
from numpy.testing import assert_allclose

from gammapy_mimic.utils.coordinates import (
    altaz_to_radec,
    move_altaz,
    move_radec,
    rotate_fov,
)

from .laws import see

HESS = EarthLocation(lon=16.5002222 * u.deg, lat=-23.2717778 * u.deg, height=1835 * u.m)

POINTINGS = {
    "pole": ((10, 20), (0, 90)),
    "from the south pole": ((123, -90), (83.6, 22)),
    "ra wrap": ((359.9, 5), (0.1, 5)),
    "opposite": ((40, 30), (220, -30)),
    "same": ((83.6, 22.0), (83.6, 22.0)),
    "high declination": ((187.3, 2.6), (228.6, -59.8)),
}


def draw_field(center, size, offset_max, random_state=0):
    """Positions up to an offset around a center: lon and lat, in deg."""
    rng = np.random.default_rng(random_state)
    offset = offset_max * np.sqrt(rng.uniform(size=size))
    angle = rng.uniform(0, 2 * np.pi, size)
    dlon, dlat = offset * np.cos(angle), offset * np.sin(angle)
    return rotate_fov(dlon, dlat, (0, 0), center)


@pytest.mark.parametrize("name", POINTINGS)
@pytest.mark.parametrize("offset_max", [2.5, 58, 179])
def test_offset_and_position_angle_are_kept(name, offset_max):
    start, stop = POINTINGS[name]
    ra, dec = draw_field(start, 1000, offset_max)

    moved = rotate_fov(ra, dec, start, stop)

    offset, angle = see(start, ra, dec)
    offset_moved, angle_moved = see(stop, *moved)
    assert_allclose(offset_moved, offset, atol=1e-9)
    # a position angle is a direction: its error on the sky goes with the offset
    difference = (angle_moved - angle + 180) % 360 - 180
    assert_allclose(difference * np.sin(np.radians(offset)), 0, atol=1e-9)


def test_fov_moved_by_adding_coordinate_differences():
    """No cos(dec), no RA wrap, poles: the move must not add RA/Dec offsets."""
    start, stop = (187.27, 2.55), (228.61, -59.77)
    ra, dec = draw_field(start, 1000, 2.5)
    added = ra - start[0] + stop[0], dec - start[1] + stop[1]
    offset, _ = see(start, ra, dec)

    offset_added, _ = see(stop, *added)
    offset_moved, _ = see(stop, *rotate_fov(ra, dec, start, stop))

    assert np.max(np.abs(offset_added - offset)) > 0.5
    assert_allclose(offset_moved, offset, atol=1e-9)


@pytest.mark.parametrize("name", POINTINGS)
def test_move_radec_agrees_with_sky_offset_frame(name):
    start, stop = (SkyCoord(*_, unit="deg") for _ in POINTINGS[name])
    ra, dec = draw_field(POINTINGS[name][0], 500, 58)

    field = SkyCoord(ra, dec, unit="deg").transform_to(SkyOffsetFrame(origin=start))
    expected = SkyCoord(
        field.lon, field.lat, frame=SkyOffsetFrame(origin=stop)
    ).transform_to("icrs")
    moved = SkyCoord(*move_radec(ra, dec, start, stop), unit="deg")

    assert np.max(moved.separation(expected).deg) < 1e-9


def test_east_stays_east():
    """A source east of the pointing (larger RA, negative fov_lon) stays east."""
    start, stop = SkyCoord(10, 0, unit="deg"), SkyCoord(200, -60, unit="deg")
    ra, dec = move_radec(np.array([11.0]), np.array([0.0]), start, stop)

    assert ra[0] > 200
    moved = SkyCoord(ra, dec, unit="deg")
    assert_allclose(stop.position_angle(moved).deg, 90, atol=1e-9)
    fov = moved.transform_to(FoVICRSFrame(origin=stop))
    assert_allclose(fov.fov_lon.deg, -1, atol=1e-9)
    assert_allclose(fov.fov_lat.deg, 0, atol=1e-9)


def fov_altaz(ra, dec, pointing, time):
    frame = AltAz(obstime=time, location=HESS)
    fov_frame = FoVAltAzFrame(
        origin=pointing.transform_to(frame), obstime=time, location=HESS
    )
    coords = SkyCoord(ra, dec, unit="deg").transform_to(fov_frame)
    return coords.fov_lon.deg, coords.fov_lat.deg


@pytest.mark.parametrize("offset_max", [2.5, 58])
def test_move_altaz_keeps_camera_position(offset_max):
    """The reference is Gammapy's frame, with the full astropy transformation."""
    start, stop = SkyCoord(187.3, 2.6, unit="deg"), SkyCoord(228.6, -59.8, unit="deg")
    ra, dec = draw_field((187.3, 2.6), 50, offset_max)
    seconds = np.linspace(0, 1680, 50) * u.s
    time = Time("2004-04-14T22:00:00", scale="tt") + seconds
    new_time = Time("2004-06-01T20:00:00", scale="tt") + seconds

    moved = move_altaz(
        ra,
        dec,
        start,
        stop,
        AltAz(obstime=time, location=HESS),
        AltAz(obstime=new_time, location=HESS),
    )

    lon, lat = fov_altaz(ra, dec, start, time)
    lon_moved, lat_moved = fov_altaz(*moved, stop, new_time)
    assert_allclose(lon_moved, lon, atol=1e-6)
    assert_allclose(lat_moved, lat, atol=1e-6)


def test_move_altaz_to_the_same_pointing_and_time_returns_the_input():
    pointing = SkyCoord(83.6, 22.0, unit="deg")
    ra, dec = draw_field((83.6, 22.0), 20, 2)
    time = Time("2005-01-01T22:00:00") + np.linspace(0, 1000, 20) * u.s
    frame = AltAz(obstime=time, location=HESS)

    moved = move_altaz(ra, dec, pointing, pointing, frame, frame)

    assert_allclose(moved[0], ra, atol=1e-9)
    assert_allclose(moved[1], dec, atol=1e-9)


def test_altaz_to_radec_is_the_inverse_of_the_frame_of_gammapy():
    rng = np.random.default_rng(3)
    fov = rng.uniform(-2, 2, (2, 50))
    pointing = SkyCoord(83.6, -50, unit="deg")
    time = Time("2012-10-05T23:30:00") + rng.uniform(0, 28, 50) * u.min
    frame = AltAz(obstime=time, location=HESS)

    ra, dec = altaz_to_radec(*fov, pointing, frame)

    assert_allclose(fov_altaz(ra, dec, pointing, time), fov, atol=1e-6)
