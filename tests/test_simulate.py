import functools

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord, get_sun
from astropy.time import Time
from gammapy.data import DataStore
from gammapy.data.event_list import EventListChecker
from gammapy.datasets import MapDataset
from gammapy.irf import FoVAlignment
from gammapy.makers import MapDatasetMaker
from gammapy.maps import MapAxis, WcsGeom
from gammapy.modeling.models import (
    ConstantTemporalModel,
    GaussianSpatialModel,
    Models,
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from gammapy.utils.coordinates import FoVICRSFrame
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic.simulate import (
    make_irfs,
    simulate_datastore,
    simulate_observation,
    simulate_observations,
)
from gammapy_mimic.simulate.irfs import energy_threshold

from .helpers import need_runs

POINTING = SkyCoord(0.0, -50.0, unit="deg")
TSTART = Time("2012-10-05T21:30:00")  # zenith angle 27 deg

BACKGROUNDS = {
    "2d": {"background": "2d"},
    "3d radec": {"gradient": 0.1},
    "3d altaz": {"fov_alignment": "ALTAZ", "gradient": 0.1},
}


def simulate(irfs=make_irfs, **kwargs):
    kwargs = {"obs_id": 7, "pointing": POINTING, "tstart": TSTART, **kwargs}
    return simulate_observation(irfs=irfs, **kwargs)


def make_dataset(
    observation, energy_edges=(0.7, 1.5, 3, 50), selection=("background",)
):
    axis = MapAxis.from_energy_edges(energy_edges * u.TeV)
    axis_true = MapAxis.from_energy_bounds("0.1 TeV", "150 TeV", 40, name="energy_true")
    pointing = observation.pointing.fixed_icrs
    geom = WcsGeom.create(skydir=pointing, width=5, binsz=0.1, proj="TAN", axes=[axis])
    dataset = MapDataset.create(geom, energy_axis_true=axis_true)
    maker = MapDatasetMaker(["counts", *selection], fov_rotation_step=0.5 * u.deg)
    return maker.run(dataset, observation)


def chi2_per_dof(counts, npred):
    """Chi2 / dof in pixels with an approximately normal distribution, and its error."""
    valid = npred > 10
    chi2 = np.sum((counts - npred)[valid] ** 2 / npred[valid])
    dof = np.count_nonzero(valid)
    return chi2 / dof, np.sqrt(2 / dof)


def assert_counts_follow_prediction(dataset):
    counts, npred = dataset.counts.data, dataset.background.data
    for image, image_pred in zip(counts, npred, strict=True):
        total = image_pred.sum()
        assert_allclose(image.sum(), total, atol=3.5 * np.sqrt(total))
    value, error = chi2_per_dof(counts, npred)
    assert_allclose(value, 1, atol=4 * error)


def assert_same_events(events, other):
    for name in ["RA", "DEC", "ENERGY", "MC_ID"]:
        assert_array_equal(events.table[name], other.table[name])
    assert_array_equal(events.time.mjd, other.time.mjd)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKGROUNDS)
def test_counts_follow_the_prediction_of_gammapy(name):
    irfs = functools.partial(make_irfs, rate=100, **BACKGROUNDS[name])
    dataset = make_dataset(simulate(irfs))

    assert dataset.counts.data.sum() > 1.2e5
    assert_counts_follow_prediction(dataset)
    if name != "2d":
        # the test would see a mirror image
        mirrored = dataset.background.data[:, :, ::-1]
        assert chi2_per_dof(dataset.counts.data, mirrored)[0] > 2


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKGROUNDS)
def test_counts_are_unbiased_over_many_seeds(name):
    irfs = make_irfs("30 deg", rate=1, **BACKGROUNDS[name])
    counts = []
    for random_state in range(40):
        observation = simulate(irfs, random_state=random_state, ontime="5 min")
        dataset = make_dataset(observation, energy_edges=[0.7, 50])
        counts.append(dataset.counts.data.sum())
    npred = dataset.background.data.sum()

    assert_allclose(np.mean(counts), npred, atol=3 * np.sqrt(npred / len(counts)))
    assert_allclose(np.var(counts, ddof=1) / npred, 1, atol=3 * np.sqrt(2 / 39))


@pytest.mark.slow
def test_counts_follow_the_prediction_for_real_irfs(hess_store):
    """Background with zeros, coarse axes and the reversed longitude of H.E.S.S. DR1."""
    hess = hess_store.obs(*need_runs(hess_store, 20136))
    bkg = hess.bkg
    assert bkg.fov_alignment == FoVAlignment.REVERSE_LON_RADEC
    bkg.data = bkg.data * 100.0
    irfs = {"aeff": hess.aeff, "edisp": hess.edisp, "psf": hess.psf, "bkg": bkg}

    # bins of energy between the nodes of the IRF, as Gammapy predicts only those well
    nodes = bkg.axes["energy"].center.value
    nodes = nodes[(nodes > 0.5) & (nodes < 20)]
    observation = simulate(irfs, pointing=hess.pointing.fixed_icrs, tstart=hess.tstart)
    dataset = make_dataset(observation, energy_edges=nodes)

    assert dataset.counts.data.sum() > 1e5
    assert_counts_follow_prediction(dataset)


def test_gradient_is_along_fov_lon():
    irfs = functools.partial(make_irfs, rate=5, gradient=0.2)
    observation = simulate(irfs)
    fov = observation.events.radec.transform_to(FoVICRSFrame(origin=POINTING))
    lon = fov.fov_lon.deg

    # sum of weights exp(-g lon) is the same on both sides: each event undoes its rate
    weights = np.exp(-0.2 * lon)
    difference = weights[lon > 0].sum() - weights[lon < 0].sum()
    assert abs(difference) < 4 * np.sqrt(np.sum(weights**2))
    assert np.sum(lon > 0) > 1.2 * np.sum(lon < 0)


@pytest.mark.parametrize("gradient", [-0.1, 0.2])
def test_gradient_changes_the_rate_by_its_value_per_deg(gradient):
    bkg = make_irfs("20 deg", gradient=gradient)["bkg"]
    flat = make_irfs("20 deg")["bkg"]

    lon = [-2, -0.3, 0, 1.7] * u.deg
    coords = {"energy": 1 * u.TeV, "fov_lon": lon, "fov_lat": 0.4 * u.deg}
    ratio = bkg.evaluate(**coords) / flat.evaluate(**coords)
    assert_allclose(np.log(ratio.to_value("").squeeze()), gradient * lon.value)


@pytest.mark.parametrize("background", ["2d", "3d"])
def test_background_is_a_power_law_above_the_threshold(background):
    """Hence Gammapy integrates it exactly, in energy bins of any width."""
    irfs = make_irfs("40 deg", background=background)
    coords = {"offset": [0.1, 1.3, 2.6] * u.deg}
    if background == "3d":
        coords = {"fov_lon": coords["offset"], "fov_lat": 1 * u.deg}
    coords = {key: np.atleast_2d(value) for key, value in coords.items()}

    threshold = irfs["aeff"].meta["LO_THRES"]
    assert threshold >= energy_threshold(40)
    coarse, fine = (
        np.geomspace(threshold, 60, n)[:, np.newaxis] * u.TeV for n in (2, 400)
    )
    integrals = [
        irfs["bkg"].integrate_log_log(axis_name="energy", energy=energy, **coords)
        for energy in (coarse, fine)
    ]
    assert_allclose(integrals[0].sum(0), integrals[1].sum(0), rtol=1e-6)
    rate = irfs["bkg"].evaluate(energy=fine, **coords).value
    index = np.diff(np.log(rate), axis=0) / np.diff(np.log(fine.value), axis=0)
    assert_allclose(index - index[0], 0, atol=1e-6)
    assert np.all((index > -2.71) & (index < -2.4))


def test_rate_threshold_and_shape_depend_on_zenith():
    irfs = {zenith: make_irfs(zenith * u.deg, background="2d") for zenith in (10, 50)}

    def rate(zenith, energy, offset):
        coords = {"energy": energy * u.TeV, "offset": offset * u.deg}
        return irfs[zenith]["bkg"].evaluate(**coords).value.item()

    assert rate(10, 0.3, 0.5) > 2 * rate(50, 0.3, 0.5)
    assert rate(10, 3, 0.5) < rate(50, 3, 0.5)
    ratio = [rate(zenith, 3, 2) / rate(zenith, 3, 0.2) for zenith in (10, 50)]
    assert ratio[0] < ratio[1]
    ratio = [rate(10, energy, 2) / rate(10, energy, 0.2) for energy in (1, 10)]
    assert ratio[0] < ratio[1]
    low, high = (irfs[zenith]["aeff"].meta["LO_THRES"] for zenith in (10, 50))
    assert low < high


def test_default_rate_is_that_of_hess():
    observation = simulate(irfs=make_irfs("20 deg"))
    assert 7000 < len(observation.events.table) < 9000


def make_source(spatial_model, amplitude="4e-10 cm-2 s-1 TeV-1", **kwargs):
    spectral_model = PowerLawSpectralModel(index=2.2, amplitude=amplitude)
    return SkyModel(spectral_model, spatial_model, name="source", **kwargs)


@pytest.fixture(scope="module")
def source_position():
    return POINTING.directional_offset_by(60 * u.deg, 0.8 * u.deg)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0, 0.2])
def test_source_has_the_counts_and_the_size_of_its_model(source_position, sigma):
    position = {"lon_0": source_position.ra, "lat_0": source_position.dec}
    spatial_model = PointSpatialModel(**position, frame="icrs")
    if sigma:
        spatial_model = GaussianSpatialModel(
            **position, sigma=sigma * u.deg, frame="icrs"
        )
    model = make_source(spatial_model, amplitude="4e-9 cm-2 s-1 TeV-1")
    observation = simulate(sources=[model])
    is_source = observation.events.table["MC_ID"] == 1
    events = observation.events.select_row_subset(is_source)

    # counts, with Gammapy's exposure, energy dispersion and PSF
    in_range = (events.energy > 0.7 * u.TeV) & (events.energy < 50 * u.TeV)
    dataset = make_dataset(observation, selection=("exposure", "edisp", "psf"))
    dataset.models = Models([model])
    npred = dataset.npred_signal().data.sum()
    assert npred > 10000
    assert_allclose(np.sum(in_range), npred, atol=3 * np.sqrt(npred))

    # position: as in the model, but for the slope of the effective area, offset / 4
    fov = events.radec.transform_to(FoVICRSFrame(origin=source_position))
    for offset in (fov.fov_lon.deg, fov.fov_lat.deg):
        error = np.std(offset) / np.sqrt(offset.size)
        assert_allclose(np.mean(offset), 0, atol=4 * error + 0.2 * sigma**2)

    # size: PSF and extension
    psf = observation.psf
    offset = 0.8 * u.deg
    separation = events.radec.separation(source_position).deg
    sigma_psf = 0.06 * np.geomspace(0.3, 100, 50) ** -0.2 * (1 + 0.05 * 0.64)
    r68 = np.sqrt(-2 * np.log(0.32) * (sigma_psf**2 + sigma**2))
    assert r68.min() < np.quantile(separation, 0.68) < r68.max()
    selected = (events.energy > 2 * u.TeV) & (events.energy < 2.5 * u.TeV)
    energy = 2.2 * u.TeV
    if not sigma:
        radius = psf.containment_radius(0.68, energy_true=energy, offset=offset)
        inside = np.mean(separation[selected] < radius.to_value("deg").item())
        assert_allclose(inside, 0.68, atol=4 * 0.47 / np.sqrt(np.sum(selected)))


def test_source_leaves_the_background_as_it_is(source_position):
    model = make_source(PointSpatialModel.from_position(source_position))
    alone = simulate().events
    together = simulate(sources=[model]).events

    is_background = together.table["MC_ID"] == 0
    assert np.sum(~is_background) > 1000
    assert_same_events(together.select_row_subset(is_background), alone)


def test_source_outside_the_field_of_view_gives_no_events():
    position = SkyCoord(10, -50, unit="deg")
    model = make_source(PointSpatialModel.from_position(position))
    assert_same_events(simulate(sources=[model]).events, simulate().events)


def test_source_must_be_steady_and_somewhere(source_position):
    spatial_model = PointSpatialModel.from_position(source_position)
    variable = make_source(spatial_model, temporal_model=ConstantTemporalModel())
    for model in (variable, make_source(None)):
        with pytest.raises(ValueError, match=r"'source' must have a spatial and no"):
            simulate(sources=[model])


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_same_result_for_any_number_and_order(name):
    irfs = functools.partial(make_irfs, **BACKGROUNDS[name])
    many = simulate_observations(6, irfs=irfs, random_state=3)
    few = simulate_observations(2, irfs=irfs, random_state=3)
    other = simulate_observations(2, irfs=irfs, random_state=4)

    for observation, again, different in zip(many[:2], few, other, strict=True):
        assert_same_events(observation.events, again.events)
        assert observation.events.table.meta == again.events.table.meta
        assert (
            observation.pointing.fixed_icrs.separation(different.pointing.fixed_icrs)
            > 0.1 * u.deg
        )

    header = many[5].events.table.meta
    alone = simulate_observation(
        6,
        many[5].pointing.fixed_icrs,
        many[5].tstart,
        irfs=irfs,
        random_state=3,
    )
    assert_allclose(alone.events.table["RA"], many[5].events.table["RA"], atol=1e-9)
    assert header["OBS_ID"] == 6


def test_global_random_state_is_not_used():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    simulate()
    assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_header_meta_and_data_say_the_same():
    meta = {"OBJECT": "nothing", "RA_OBJ": 0.5, "DEC_OBJ": -50, "NSBLEVEL": 1.7}
    observation = simulate(ontime="20 min", deadtime_fraction=0.2, meta=meta)
    events, header = observation.events, observation.events.table.meta

    assert set(EventListChecker.meta_required) <= set(header)
    # the other checks of Gammapy 2.1 fail for any event list or leave files open
    records = [
        *observation.check(["gti", "aeff", "edisp"]),
        *EventListChecker(events).run(["meta", "times"]),
    ]
    assert not [_ for _ in records if _["level"] != "debug"]
    assert header["CREATOR"].startswith("gammapy-mimic")
    assert header["NSBLEVEL"] == 1.7
    assert events.table["RA"].dtype == events.table["DEC"].dtype == np.float64

    assert observation.obs_id == observation.meta.obs_info.obs_id == header["OBS_ID"]
    assert observation.meta.target.name == header["OBJECT"] == "nothing"
    assert_allclose(observation.target_radec.ra.deg, 0.5)
    assert observation.meta.optional["NSBLEVEL"] == 1.7
    radec = observation.meta.pointing.radec_mean
    for pointing in (radec, observation.pointing.fixed_icrs):
        assert pointing.separation(POINTING) < 1e-9 * u.deg
    altaz = observation.get_pointing_altaz(observation.tmid)
    assert_allclose(header["ALT_PNT"], altaz.alt.deg, atol=1e-6)
    assert_allclose(header["AZ_PNT"], altaz.az.deg, atol=1e-6)
    assert_allclose(header["ZEN_PNT"] + header["ALT_PNT"], 90)

    assert_allclose(observation.tstart.utc.mjd, TSTART.mjd, rtol=0, atol=1e-10)
    assert_allclose(header["TSTOP"] - header["TSTART"], 1200)
    assert_allclose(observation.observation_time_duration.to_value("s"), 1200)
    assert_allclose(observation.observation_live_time_duration.to_value("s"), 960)
    assert_allclose([header["LIVETIME"], header["ONTIME"]], [960, 1200])
    assert f"{header['DATE-OBS']}T{header['TIME-OBS']}" == observation.tstart.tt.isot
    seconds = (events.time - observation.tstart).to_value("s")
    assert np.all((seconds >= 0) & (seconds <= 1200))
    assert_allclose(np.mean(seconds), 600, atol=4 * 1200 / np.sqrt(12 * len(seconds)))


def test_observations_are_at_night_apart_and_at_the_zenith_angles_asked_for():
    observations = simulate_observations(
        32, zenith=("20 deg", "45 deg"), ontime=("20 min", "28 min"), random_state=1
    )
    headers = [_.events.table.meta for _ in observations]

    assert [_["OBS_ID"] for _ in headers] == list(range(1, 33))
    zenith = np.array([_["ZEN_PNT"] for _ in headers])
    assert np.all((zenith > 19) & (zenith < 46))
    ontime = np.array([_["ONTIME"] for _ in headers])
    assert np.all((ontime >= 1200) & (ontime <= 1680))
    assert np.ptp(ontime) > 200

    time = Time([_.tmid for _ in observations])
    assert np.all((time.decimalyear > 2009.99) & (time.decimalyear < 2020))
    pointing = SkyCoord([_.pointing.fixed_icrs for _ in observations])
    sun = get_sun(time)
    frame = observations[0].get_pointing_altaz(time).frame
    assert np.all(SkyCoord(sun.ra, sun.dec).transform_to(frame).alt.deg < -10)

    target = SkyCoord([_.target_radec for _ in observations])
    assert_allclose(pointing.separation(target).deg, 0.5)
    fields = target[::4]
    assert len({_["OBJECT"] for _ in headers}) == len(fields) == 8
    for idx in range(len(fields)):
        assert np.all(fields[idx].separation(np.delete(fields, idx)) > 7 * u.deg)
    assert np.all(np.abs(fields.galactic.b) > 10 * u.deg)
    north, south, east, west = pointing[:4]
    assert north.dec > south.dec
    assert target[0].position_angle(east).deg == pytest.approx(90)
    assert target[0].position_angle(west).deg == pytest.approx(270)


def test_targets_and_meta_can_be_given():
    targets = {"A": SkyCoord(10, -30, unit="deg"), "B": SkyCoord(150, -20, unit="deg")}
    observations = simulate_observations(
        12, targets=targets, first_obs_id=100, meta={"NSBLEVEL": 3.0}
    )
    headers = [_.events.table.meta for _ in observations]
    assert "".join(_["OBJECT"] for _ in headers) == "AAAABBBBAAAA"
    assert headers[0]["OBS_ID"] == 100
    assert {_["NSBLEVEL"] for _ in headers} == {3.0}
    assert len({_["TSTART"] for _ in headers}) == 12


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_datastore_holds_the_observations(tmp_path, name):
    irfs = functools.partial(make_irfs, **BACKGROUNDS[name])
    datastore = simulate_datastore(tmp_path / "store", 3, irfs=irfs)
    observations = simulate_observations(3, irfs=irfs)

    records = list(datastore.check(["obs_table", "consistency"]))
    assert not [_ for _ in records if _["level"] != "debug"]
    table = DataStore.from_dir(tmp_path / "store").obs_table
    assert_array_equal(table["OBS_ID"], [1, 2, 3])
    columns = {"ZEN_PNT", "AZ_PNT", "NSBLEVEL", "MUONEFF", "N_TELS", "LIVETIME"}
    assert columns | {"OBJECT", "RA_OBJ", "GLAT_PNT", "DATE-OBS"} <= set(table.colnames)

    for read, made in zip(datastore.get_observations(), observations, strict=True):
        for column in ("RA", "DEC", "ENERGY"):
            assert_array_equal(read.events.table[column], made.events.table[column])
        difference = (read.events.time - made.events.time).to_value("s")
        assert_allclose(difference, 0, atol=1e-6)
        assert read.bkg == made.bkg
        assert read.bkg.fov_alignment == made.bkg.fov_alignment
        assert read.psf == made.psf
        assert read.edisp == made.edisp
        assert read.aeff == made.aeff
        assert read.aeff.meta["LO_THRES"] == made.aeff.meta["LO_THRES"]
        assert_allclose(read.gti.time_sum.to_value("s"), 1680)


def test_existing_datastore_is_not_overwritten_unasked(tmp_path):
    simulate_datastore(tmp_path, 1)
    with pytest.raises(FileExistsError, match=str(tmp_path)):
        simulate_datastore(tmp_path, 1)
    datastore = simulate_datastore(tmp_path, 2, overwrite=True)
    assert len(datastore.obs_table) == 2


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"ontime": "0 s"}, r"ontime must be positive, got 0\.0 s"),
        ({"deadtime_fraction": 1}, r"deadtime_fraction .* got 1"),
        ({"irfs": {}}, r"irfs must have a background IRF, 'bkg'"),
        ({"tstart": Time("2012-04-05T21:30:00")}, r"OBS_ID 7.*below the horizon"),
    ],
)
def test_bad_observation(kwargs, match):
    with pytest.raises(ValueError, match=match):
        simulate(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"zenith": "85 deg"}, r"zenith .* got 85\.0 deg"),
        ({"background": "4d"}, r"background must be '2d' or '3d', got '4d'"),
        ({"background": "2d", "gradient": 0.1}, r"gradient=0\.1 needs background='3d'"),
        ({"fov_alignment": "GALACTIC"}, r"'GALACTIC' is not a valid FoVAlignment"),
        ({"rate": 0}, r"rate and width must be positive, got 0"),
        ({"width": "-1 deg"}, r"rate and width must be positive, got .* -1\.0 deg"),
    ],
)
def test_bad_irfs(kwargs, match):
    with pytest.raises(ValueError, match=match):
        make_irfs(**{"zenith": "20 deg", **kwargs})


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"n_obs": 0}, r"n_obs must be 1 or more, got 0"),
        ({"n_obs": 4000}, r"no room in the sky for 1000 fields"),
        ({"dates": ("2012-01-01", "2012-07-01")}, r"dates must be a year or more"),
        (
            {"targets": {"north": SkyCoord(0, 60, unit="deg")}},
            r"culminates at a zenith angle of 8\d\.\d deg, outside the range",
        ),
    ],
)
def test_bad_observations(kwargs, match):
    with pytest.raises(ValueError, match=match):
        simulate_observations(**kwargs)
