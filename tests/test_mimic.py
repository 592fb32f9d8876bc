"""MimicMaker, and the contract that it shares with the other makers."""

import copy
import pickle
import sys

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from gammapy.data import (
    GTI,
    FixedPointingInfo,
    Observation,
    ObservationMetaData,
    Observations,
)
from gammapy.datasets import SpectrumDataset
from gammapy.irf import FoVAlignment
from gammapy.makers import (
    AdaptiveRingBackgroundMaker,
    DatasetsMaker,
    FoVBackgroundMaker,
    MapDatasetMaker,
    ReflectedRegionsBackgroundMaker,
    RingBackgroundMaker,
    SafeMaskMaker,
    SpectrumDatasetMaker,
)
from gammapy.maps import Map, MapAxis, RegionGeom
from gammapy.modeling.models import FoVBackgroundModel
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic import MimicMaker, ScrambleMaker
from gammapy_mimic.data.observation import IRF_NAMES, get_hdu
from gammapy_mimic.selection import MimicPlan

from .helpers import (
    make_reference,
    remove_location,
    replace,
    replace_events,
    to_old_hess,
)

MAPS = ("counts", "exposure", "background")


@pytest.fixture(scope="module")
def targets(stores):
    return stores["targets"].get_observations()


@pytest.fixture
def maker(stores):
    return MimicMaker(stores["off"], {1: 101, 2: 106, 3: 103})


def get_offset_and_angle(observation):
    pointing = observation.pointing.fixed_icrs
    radec = observation.events.radec
    return radec.separation(pointing).deg, pointing.position_angle(radec).deg


def to_bytes(observation):
    """Everything that an observation in memory holds."""
    parts = [getattr(observation, name) for name in ("aeff", "edisp", "psf", "bkg")]
    arrays = [_.data.tobytes() for _ in parts]
    table, gti = observation.events.table, observation.gti.table
    arrays += [np.asarray(table[_]).tobytes() for _ in ("RA", "DEC", "ENERGY")]
    times = [table["TIME"], gti["START"], gti["STOP"]]
    arrays += [array.tobytes() for _ in times for array in (_.jd1, _.jd2)]
    header = [repr(table.meta), repr(observation.meta), table.colnames]
    return arrays, header, observation.obs_id, repr(observation.pointing)


class ObservationMakerContract:
    """Laws for every maker. A subclass gives ``maker`` and ``targets``."""

    def test_input_is_unchanged(self, maker, targets):
        target = targets[0].copy(in_memory=True)
        before = to_bytes(target)
        maker.make_observation(target)
        assert to_bytes(target) == before

    def test_picklable(self, maker, targets):
        again = pickle.loads(pickle.dumps(maker))
        expected = maker.make_observation(targets[0]).events.table
        result = again.make_observation(targets[0]).events.table
        assert_array_equal(result["RA"], expected["RA"])

    def test_tag_and_str(self, maker):
        assert maker.tag == type(maker).__name__
        assert str(maker).startswith(maker.tag)
        assert len(str(maker).splitlines()) < 15

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_order_and_n_jobs_do_not_matter(self, maker, targets, n_jobs):
        expected = {_.obs_id: maker.make_observation(_) for _ in targets}
        shuffled = Observations(list(targets)[::-1])
        result = maker.make_observations(shuffled, n_jobs=n_jobs)
        assert [_.obs_id for _ in result] == [_.obs_id for _ in shuffled]
        for observation in result:
            table = observation.events.table
            other = expected[observation.obs_id].events.table
            for name in ("RA", "DEC", "ENERGY"):
                assert_array_equal(table[name], other[name])

    def test_chain_and_observation_first_give_equal_maps(self, maker, targets):
        target = targets[0]
        reference = make_reference(target)
        made = maker.make_observation(target)
        expected = MapDatasetMaker().run(reference, made)

        for first in (MapDatasetMaker().run(reference, target), reference):
            result = maker.run(first, target)
            # for the reference dataset
            maker.dataset_maker = MapDatasetMaker()
            for name in MAPS:
                assert_array_equal(
                    getattr(result, name).data, getattr(expected, name).data
                )
            assert_array_equal(result.psf.psf_map.data, expected.psf.psf_map.data)
            assert_array_equal(
                result.edisp.edisp_map.data, expected.edisp.edisp_map.data
            )
            assert result.gti.time_start == expected.gti.time_start
            assert result.mask_safe.data.all()

    def test_name_models_masks(self, maker, targets):
        target = targets[0]
        dataset = MapDatasetMaker().run(make_reference(target, name="mine"), target)
        dataset.models = [FoVBackgroundModel(dataset_name="mine")]
        dataset.mask_fit = Map.from_geom(dataset.counts.geom, data=True, dtype=bool)
        dataset.mask_safe.data[0] = False

        result = maker.run(dataset, target)

        assert result.name == "mine"
        assert result.models.names == ["mine-bkg"]
        assert result.mask_fit.data.all()
        assert_array_equal(result.mask_safe.data.any(axis=(1, 2)), [False, True, True])

    def test_spectrum_dataset(self, maker, targets):
        region = CircleSkyRegion(targets[0].target_radec, 0.1 * u.deg)
        axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2)
        dataset = SpectrumDataset.create(RegionGeom(region, axes=[axis]))
        with pytest.raises(TypeError, match="make_observations"):
            maker.run(dataset, targets[0])


class TestMimicMaker(ObservationMakerContract):
    def test_offset_and_position_angle_are_kept(self, maker, targets):
        for target in targets:
            off = maker.get_off_observation(target)
            mimic = maker.make_observation(target)
            offset, angle = get_offset_and_angle(mimic)
            off_offset, off_angle = get_offset_and_angle(off)
            assert_allclose(offset, off_offset, atol=1e-9)
            difference = (angle - off_angle + 180) % 360 - 180
            assert_allclose(difference * np.radians(offset), 0, atol=1e-9)

    def test_events_livetime_and_gti_are_conserved(self, maker, targets):
        off = maker.get_off_observation(targets[0])
        mimic = maker.make_observation(targets[0])
        assert len(mimic.events.table) == len(off.events.table)
        assert_array_equal(mimic.events.table["ENERGY"], off.events.table["ENERGY"])
        assert_allclose(mimic.gti.time_sum.value, off.gti.time_sum.value, atol=1e-9)
        assert_allclose(
            mimic.observation_live_time_duration.to_value("s"),
            off.observation_live_time_duration.to_value("s"),
            atol=1e-9,
        )

    def test_time(self, stores, targets):
        target = targets[0]
        shifted = MimicMaker(stores["off"], {1: 101}).make_observation(target)
        kept = MimicMaker(stores["off"], {1: 101}, time="off").make_observation(target)
        off = stores["off"].obs(101)

        assert abs(shifted.tstart - target.tstart) < 1 * u.ns
        assert kept.tstart == off.tstart
        for mimic in (shifted, kept):
            delay = (mimic.events.time - mimic.tstart).to_value("s")
            expected = (off.events.time - off.tstart).to_value("s")
            assert_allclose(delay, expected, atol=1e-6)
            header = mimic.events.table.meta
            tstart = mimic.events.time_ref + header["TSTART"] * u.s
            assert abs(tstart - mimic.tstart) < 1 * u.us
            date = Time(header["DATE-OBS"] + "T" + header["TIME-OBS"], scale="tt")
            assert abs(date - mimic.tstart) < 2 * u.ms

    def test_header_and_meta(self, stores, targets):
        target, off = targets[0], stores["off"].obs(101)
        maker = MimicMaker(stores["off"], MimicPlan.create({1: 101}))
        mimic = maker.make_observation(target)
        header = mimic.events.table.meta
        target_header, off_header = target.events.table.meta, off.events.table.meta

        keys = [_ for _ in target_header if _.endswith("_PNT")]
        assert {"RA_PNT", "DEC_PNT", "ALT_PNT", "AZ_PNT", "ZEN_PNT"} <= set(keys)
        for key in [*keys, "OBJECT", "RA_OBJ", "DEC_OBJ", "OBS_ID"]:
            assert header[key] == target_header[key]
        for key in ("CREATOR", "HDUVERS", "LIVETIME", "ONTIME", "DEADC", "MUONEFF"):
            assert header[key] == off_header[key]
        assert header["MIM_OBS"] == 101
        for key in keys:
            assert header[f"{key.removesuffix('_PNT')}_ORG"] == off_header[key]
        assert header["DEC_SRC"] == off_header["DEC_OBJ"]
        assert header["MIM_SET"] == 1
        assert header["MIM_VERS"]
        assert "MIM_SEED" not in header

        assert mimic.obs_id == mimic.meta.obs_info.obs_id == 1
        assert mimic.meta.target.name == target.meta.target.name
        assert mimic.target_radec == target.target_radec
        again = ObservationMetaData.from_header(header)
        assert again.obs_info == mimic.meta.obs_info
        assert again.optional == mimic.meta.optional
        assert again.deadtime_fraction == mimic.meta.deadtime_fraction
        difference = again.time_info.time_stop - mimic.meta.time_info.time_stop
        assert abs(difference) < 1 * u.us

    def test_seed_is_in_the_header(self, stores, targets):
        plan = MimicPlan.create({1: 101})
        plan.table.meta["MIM_SEED"] = 42
        mimic = MimicMaker(stores["off"], plan).make_observation(targets[0])
        assert mimic.events.table.meta["MIM_SEED"] == 42

    def test_irfs_stay_unread(self, maker, targets):
        mimic = maker.make_observation(targets[0])
        for name in ("aeff", "edisp", "psf", "bkg"):
            location = get_hdu(mimic, name)
            assert "000101" in location.file_name
        assert get_hdu(targets[0], "events").hdu_class == "events"

    def test_meta_table(self, maker, targets):
        target = targets[1]
        maker.dataset_maker = MapDatasetMaker()
        dataset = maker.run(make_reference(target), target)
        assert dataset.meta_table["OBS_ID"][0] == 2
        assert dataset.meta_table["OFF_OBS_ID"][0] == 106
        assert dataset.meta_table["MIMIC_SET"][0] == 1

    def test_observations_in_memory(self, stores, maker, targets):
        off = Observations([stores["off"].obs(101).copy(in_memory=True)])
        before = to_bytes(off[0])
        mimic = MimicMaker(off, {1: 101}).make_observation(targets[0])
        MapDatasetMaker().run(make_reference(targets[0]), mimic)
        expected = maker.make_observation(targets[0])
        assert_array_equal(mimic.events.table["RA"], expected.events.table["RA"])
        assert to_bytes(off[0]) == before

    def test_background_of_the_target(self, stores, targets):
        target = targets[0]
        maker = MimicMaker(stores["off"], {1: 101}, background="target")
        mimic = maker.make_observation(target)
        assert_array_equal(mimic.bkg.data, target.bkg.data)
        assert_array_equal(mimic.aeff.data, stores["off"].obs(101).aeff.data)

    def test_fov_columns_stay_and_galactic_columns_go(self, stores, targets):
        off = stores["off"].obs(101).copy(in_memory=True)
        for name in ("DETX", "Xoff", "GLON", "GLAT"):
            off.events.table[name] = np.arange(len(off.events.table)) * u.deg
        mimic = MimicMaker(Observations([off]), {1: 101}).make_observation(targets[0])
        names = set(mimic.events.table.colnames)
        assert {"DETX", "Xoff"} <= names
        assert not names & {"GLON", "GLAT"}
        assert_array_equal(mimic.events.table["DETX"], off.events.table["DETX"])

    def test_altaz_alignment(self, stores, targets):
        """Events keep their camera coordinates, by Gammapy's own frame."""
        target = targets[0]
        maker = MimicMaker(stores["altaz"], {1: 201})
        off, mimic = stores["altaz"].obs(201), maker.make_observation(target)
        select = slice(None, None, 200)
        coords = []
        for observation in (off, mimic):
            events = observation.events
            frame = observation.get_fov_frame(events.time[select], FoVAlignment.ALTAZ)
            coords.append(events.radec[select].transform_to(frame))
        assert_allclose(coords[1].fov_lon.deg, coords[0].fov_lon.deg, atol=1e-6)
        assert_allclose(coords[1].fov_lat.deg, coords[0].fov_lat.deg, atol=1e-6)

        forced = MimicMaker(stores["altaz"], {1: 201}, alignment="radec")
        ra = forced.make_observation(target).events.table["RA"]
        assert np.max(np.abs(ra - mimic.events.table["RA"])) > 0.1

    def test_altaz_needs_the_time_of_the_target(self, stores, targets):
        with pytest.raises(ValueError, match="time='target'"):
            MimicMaker(stores["altaz"], {1: 201}, alignment="altaz", time="off")
        maker = MimicMaker(stores["altaz"], {1: 201}, time="off")
        with pytest.raises(ValueError, match="time='target'"):
            maker.make_observation(targets[0])

    def test_altaz_needs_a_location(self, stores, targets):
        off = stores["altaz"].obs(201).copy(in_memory=True)
        off = remove_location(off)
        maker = MimicMaker(Observations([off]), {1: 201}, alignment="altaz")
        with pytest.raises(ValueError, match="OBS_ID 201 has no observatory location"):
            maker.make_observation(targets[0])

    def test_background_is_asked_for_but_missing(self, stores, targets):
        off = replace(stores["off"].obs(101), bkg=None)
        maker = MimicMaker(Observations([off]), {1: 101})
        reference = make_reference(targets[0])
        with pytest.raises(ValueError, match="background map.*has no bkg.*selection"):
            maker.run(MapDatasetMaker().run(reference, targets[0]), targets[0])

        without = MapDatasetMaker(["counts", "exposure"])
        dataset = maker.run(without.run(reference, targets[0]), targets[0])
        assert dataset.background is None
        assert dataset.counts.data.sum() > 0


class TestChain:
    """MimicMaker in a DatasetsMaker."""

    def make_datasets(self, makers, reference, observations, **kwargs):
        return DatasetsMaker(makers, **kwargs).run(reference.copy(), observations)

    @pytest.mark.parametrize("n_jobs", [1, 2])
    @pytest.mark.parametrize("first", [[MapDatasetMaker()], []])
    @pytest.mark.slow
    def test_stacked(self, maker, targets, first, n_jobs):
        maker.dataset_maker = None if first else MapDatasetMaker()
        reference = make_reference(targets[0], name="stacked")
        rest = [SafeMaskMaker(["offset-max"], offset_max=2 * u.deg)]
        rest += [FoVBackgroundMaker()]
        mimics = maker.make_observations(targets)

        expected = self.make_datasets([MapDatasetMaker(), *rest], reference, mimics)
        result = self.make_datasets(
            [*first, maker, *rest], reference, targets, n_jobs=n_jobs
        )

        assert expected[0].counts.data.sum() > 1000
        for name in MAPS:
            assert_allclose(
                getattr(result[0], name).data,
                getattr(expected[0], name).data,
                rtol=1e-6,
            )
        assert_array_equal(result[0].mask_safe.data, expected[0].mask_safe.data)

    @pytest.mark.slow
    @pytest.mark.parametrize("first", [[MapDatasetMaker()], []])
    @pytest.mark.parametrize("stack", [True, False])
    def test_observation_without_partner(self, stores, targets, first, stack, caplog):
        """It is masked and told of, and the others are what they were."""
        options = {"dataset_maker": MapDatasetMaker()}
        maker = MimicMaker(stores["off"], {1: 101, 3: 103}, **options)
        reference = make_reference(targets[0], name="stacked")
        expected = self.make_datasets(
            [maker], reference, targets[["1", "3"]], stack_datasets=stack
        )
        result = self.make_datasets(
            [*first, maker], reference, targets, stack_datasets=stack
        )
        assert "OBS_ID 2" in caplog.text
        if stack:
            assert_allclose(result[0].counts.data, expected[0].counts.data)
            assert_allclose(result[0].background.data, expected[0].background.data)
        else:
            assert result[0].mask_safe.data.all()
            assert not result[1].mask_safe.data.any()
            assert_array_equal(result[2].counts.data, expected[1].counts.data)

    def test_after_a_ring_background(self, maker, targets):
        reference = make_reference(targets[0])
        dataset = MapDatasetMaker().run(reference, targets[0])
        dataset = RingBackgroundMaker(r_in=0.5 * u.deg, width=0.4 * u.deg).run(
            dataset.to_image()
        )
        with pytest.raises(TypeError, match="MapDatasetOnOff.*make_observations"):
            maker.run(dataset, targets[0])


@pytest.fixture(scope="module")
def dataset(stores):
    """A reduced mimic observation."""
    target = stores["targets"].obs(1)
    mimic = MimicMaker(stores["off"], {1: 101}).make_observation(target)
    dataset = MapDatasetMaker().run(make_reference(mimic, name="mimic"), mimic)
    maker = SafeMaskMaker(["offset-max", "aeff-default"], offset_max=2 * u.deg)
    return maker.run(dataset, mimic)


class TestGammapyMakers:
    """Gammapy's background makers on mimic observations."""

    def test_fov(self, dataset):
        result = FoVBackgroundMaker("fit").run(dataset.copy(name="fov"))
        norm = result.background_model.spectral_model.norm
        assert abs(norm.value - 1) < 4 * norm.error

    @pytest.mark.parametrize(
        "maker",
        [
            RingBackgroundMaker(r_in="0.6 deg", width="0.4 deg"),
            AdaptiveRingBackgroundMaker(
                r_in="0.6 deg", r_out_max="1.4 deg", width="0.4 deg", stepsize="0.1 deg"
            ),
        ],
        ids=["ring", "adaptive ring"],
    )
    def test_ring(self, dataset, maker):
        result = maker.run(dataset.to_image())
        mask = result.mask_safe.data
        counts = result.counts.data[mask].sum()
        background = result.background.data[mask].sum()
        assert counts > 500
        assert abs(counts - background) < 5 * np.sqrt(counts)

    def test_reflected_regions(self, stores, targets):
        """A region on the target, in many observations: no excess."""
        mimics = MimicMaker(stores["off"], {1: 101, 2: 106, 3: 103}).make_observations(
            targets
        )
        region = CircleSkyRegion(targets[0].target_radec, 0.11 * u.deg)
        axis = MapAxis.from_energy_bounds("0.5 TeV", "20 TeV", nbin=4)
        true_axis = MapAxis.from_energy_bounds(
            "0.3 TeV", "30 TeV", nbin=5, name="energy_true"
        )
        reference = SpectrumDataset.create(
            RegionGeom(region, axes=[axis]), energy_axis_true=true_axis
        )
        makers = [
            SpectrumDatasetMaker(selection=["counts", "exposure", "edisp"]),
            ReflectedRegionsBackgroundMaker(),
            SafeMaskMaker(methods=["aeff-default"]),
        ]
        datasets = DatasetsMaker(makers, stack_datasets=False).run(reference, mimics)
        info = datasets.info_table(cumulative=True)[-1]
        assert info["counts_off"] > 50
        assert abs(info["sqrt_ts"]) < 4


class TestBadInput:
    @pytest.fixture
    def off(self, stores):
        return stores["off"].obs(101).copy(in_memory=True)

    def make(self, off, target, **kwargs):
        maker = MimicMaker(Observations([off]), {1: 101}, **kwargs)
        return maker.make_observation(target)

    def test_no_partner(self, maker, stores):
        target = stores["off"].obs(102)
        with pytest.raises(ValueError, match="OBS_ID 102 has no partner in mimic set"):
            maker.make_observation(target)

    def test_no_partner_for_some(self, stores, targets, caplog):
        result = MimicMaker(stores["off"], {1: 101}).make_observations(targets)
        assert [_.obs_id for _ in result] == [1]
        assert "OBS_ID 2, left out" in caplog.text

    def test_unknown_off_observation(self, stores, targets):
        maker = MimicMaker(stores["off"], {1: 999})
        with pytest.raises(ValueError, match="OBS_ID 999 is not among"):
            maker.make_observation(targets[0])

    def test_no_events(self, off, targets):
        off = replace_events(off, off.events.table[:0])
        with pytest.raises(ValueError, match="OBS_ID 101 has no events"):
            self.make(off, targets[0])

    @pytest.mark.parametrize("name", ["RA", "DEC", "ENERGY"])
    @pytest.mark.parametrize("kind", ["nan", "masked"])
    def test_invalid_events(self, off, targets, name, kind):
        table = off.events.table.copy()
        if kind == "nan":
            table[name][3] = np.nan
        else:
            table = table.copy()
            table[name] = np.ma.masked_array(table[name], np.arange(len(table)) == 3)
            table[name].unit = off.events.table[name].unit
        off = replace_events(off, table)
        with pytest.raises(ValueError, match=f"1 events without a valid {name}"):
            self.make(off, targets[0])

    def test_no_gti(self, off, targets):
        for gti in (GTI(off.gti.table[:0]), None):
            with pytest.raises(ValueError, match="OBS_ID 101 has no GTI"):
                self.make(replace(off, gti=gti), targets[0])

    def test_target_without_gti(self, off, targets):
        target = replace(targets[0], gti=None)
        with pytest.raises(ValueError, match="OBS_ID 1 has no GTI"):
            self.make(off, target)
        assert self.make(off, target, time="off").tstart == off.tstart

    @pytest.mark.parametrize("which", ["target", "off"])
    def test_drift_mode(self, off, targets, which):
        drift = FixedPointingInfo(
            fixed_altaz=SkyCoord(alt=70 * u.deg, az=0 * u.deg, frame="altaz")
        )
        pair = {"off": off, "target": targets[0]}
        pair[which] = replace(pair[which], pointing=drift)
        with pytest.raises(ValueError, match="DRIFT"):
            self.make(*pair.values())

    @pytest.mark.parametrize("name", ["alignment", "time", "background"])
    def test_invalid_option(self, stores, name):
        with pytest.raises(ValueError, match=f"Invalid {name}: 'up'. Choose from"):
            MimicMaker(stores["off"], {1: 101}, **{name: "up"})

    def test_invalid_scramble(self, stores):
        with pytest.raises(TypeError, match="must be a ScrambleMaker, got str"):
            MimicMaker(stores["off"], {1: 101}, scramble="fill")

    def test_not_a_pool(self):
        with pytest.raises(TypeError, match="a list of Observation, got str"):
            MimicMaker("store", {1: 101})


def test_east_west_mirror_image(stores, targets):
    """DETX and fov_lon have opposite signs: background and events must agree.

    The background has a gradient along fov_lon. Seen from the pointing of the target,
    the mimic's events must follow its own background, and not the mirrored one.
    """
    mimic = MimicMaker(stores["gradient"], {1: 301}).make_observation(targets[0])
    reference = make_reference(targets[0])
    dataset = MapDatasetMaker(["counts", "background"]).run(reference, mimic)
    counts, background = dataset.counts, dataset.background
    lon = mimic.events.radec.transform_to(
        mimic.get_fov_frame(mimic.tstart, FoVAlignment.RADEC)
    ).fov_lon.deg
    frame = mimic.get_fov_frame(mimic.tstart, FoVAlignment.RADEC)
    coords = counts.geom.to_image().get_coord().skycoord.transform_to(frame)
    weights = background.data.sum(axis=0)
    expected = np.average(coords.fov_lon.deg, weights=weights)
    inside = counts.geom.to_image().contains(mimic.events.radec)
    error = np.std(lon[inside]) / np.sqrt(inside.sum())

    assert expected > 10 * error
    assert abs(np.mean(lon[inside]) - expected) < 5 * error


@pytest.mark.parametrize("old_target", [True, False])
@pytest.mark.parametrize("old_off", [True, False])
@pytest.mark.parametrize("background", ["off", "target"])
def test_reverse_lon_radec(stores, targets, old_target, old_off, background):
    """The background keeps its sense, whichever observation it comes from."""
    off = stores["gradient"].obs(301).copy(in_memory=True)
    target = replace(targets[0], bkg=copy.deepcopy(off.bkg))
    if old_target:
        target = to_old_hess(target)
    if old_off:
        off = to_old_hess(off)
    maker = MimicMaker(Observations([off]), {1: 301}, background=background)

    mimic = maker.make_observation(target)

    is_old = old_off if background == "off" else old_target
    expected = "REVERSE_LON_RADEC" if is_old else "RADEC"
    assert mimic.bkg.fov_alignment == expected


def test_location_is_that_of_the_target(stores, targets):
    location = EarthLocation(lon=10 * u.deg, lat=20 * u.deg, height=0 * u.m)
    target = replace(targets[0], location=location)
    mimic = MimicMaker(stores["off"], {1: 101}).make_observation(target)
    assert mimic.observatory_earth_location == location


def test_target_without_events(stores):
    """A target can be a pointing and a time, as Observation.create makes it."""
    pointing = FixedPointingInfo(fixed_icrs=SkyCoord(83.6, 22, unit="deg"))
    target = Observation.create(
        pointing,
        obs_id=1,
        livetime="28 min",
        irfs={},
        tstart=Time("2015-01-01T20:00:00"),
    )
    mimic = MimicMaker(stores["off"], {1: 101}).make_observation(target)
    assert mimic.events.table.meta["RA_PNT"] == 83.6
    assert mimic.meta.pointing.radec_mean.ra.deg == 83.6
    assert "OBJECT" not in mimic.events.table.meta
    assert mimic.meta.obs_info.obs_id == 1


def test_what_is_in_memory_goes_before_what_is_on_disk(stores, targets):
    pointing = SkyCoord(10, 20, unit="deg")
    target = stores["targets"].obs(1)
    target = replace(target, pointing=FixedPointingInfo(fixed_icrs=pointing))
    mimic = MimicMaker(stores["off"], {1: 101}).make_observation(target)
    assert mimic.pointing.fixed_icrs == pointing
    assert mimic.events.table.meta["RA_PNT"] == 10
    assert target.pointing.fixed_icrs == pointing


def test_obs_filter(stores, targets):
    off = stores["off"].obs(101)
    middle = off.tstart + 10 * u.min
    part = off.select_time(Time([off.tstart, middle]))
    mimic = MimicMaker(Observations([part]), {1: 101}).make_observation(targets[0])
    assert len(mimic.events.table) == len(part.events.table) < len(off.events.table)
    assert_allclose(mimic.gti.time_sum.to_value("min"), 10)


@pytest.mark.parametrize("name", IRF_NAMES)
def test_get_hdu_agrees_with_gammapy(stores, name):
    lazy = stores["off"].obs(101)
    assert (get_hdu(lazy, name) is not None) == (name in lazy.available_irfs)
    memory = lazy.copy(in_memory=True)
    assert get_hdu(memory, name) is getattr(memory, name)


def test_datastore_is_read_once(stores, targets, monkeypatch):
    opened = []
    original = fits.open

    def count(path, *args, **kwargs):
        opened.append(str(path))
        return original(path, *args, **kwargs)

    target = targets[0]
    maker = MimicMaker(stores["2d"], {1: 401})
    maker.make_observation(target)
    monkeypatch.setattr(fits, "open", count)
    maker.make_observation(target)
    assert len([_ for _ in opened if "000401" in _]) == 1


def test_scrambled_before_it_is_moved(stores, targets):
    """The mimic has the events of the scrambled OFF observation."""
    off = stores["off"].obs(101)
    region = CircleSkyRegion(off.target_radec, 0.3 * u.deg)
    scrambler = ScrambleMaker([region], method="fill", random_state=5)
    scrambled = scrambler.make_observation(off, mimic_set=1)
    maker = MimicMaker(stores["off"], {1: 101}, scramble=scrambler)
    mimic = maker.make_observation(targets[0])

    assert len(mimic.events.table) == len(scrambled.events.table)
    offset, _ = get_offset_and_angle(mimic)
    assert_allclose(offset, get_offset_and_angle(scrambled)[0], atol=1e-9)
    plain = MimicMaker(stores["off"], {1: 101}).make_observation(targets[0])
    assert not np.array_equal(plain.events.table["RA"], mimic.events.table["RA"])
    header = mimic.events.table.meta
    assert header["SCR_METH"] == "fill"
    assert header["SCR_SEED"] == 5
    assert header["MIM_OBS"] == 101
    again = maker.make_observation(targets[0])
    assert_array_equal(again.events.table["RA"], mimic.events.table["RA"])


def test_scrambled_anew_in_each_mimic_set(stores, targets):
    """An OFF observation that two sets share is not the same field twice."""
    rows = [[1, 1, 101], [1, 2, 101]]
    table = Table(rows=rows, names=["OBS_ID", "MIMIC_SET", "OFF_OBS_ID"])
    region = CircleSkyRegion(stores["off"].obs(101).target_radec, 0.3 * u.deg)
    scrambler = ScrambleMaker([region], random_state=5)
    first, second = (
        MimicMaker(stores["off"], table, _, scramble=scrambler)
        .make_observation(targets[0])
        .events.table
        for _ in (1, 2)
    )
    assert len(first) == len(second)
    assert not np.array_equal(first["RA"], second["RA"])
    assert first.meta["SCR_SEED"] == second.meta["SCR_SEED"] == 5
    assert [_.meta["MIM_SET"] for _ in (first, second)] == [1, 2]


def test_scrambling_is_in_the_meta_table(stores, targets):
    region = CircleSkyRegion(stores["off"].obs(101).target_radec, 0.3 * u.deg)
    scrambler = ScrambleMaker([region], method="fill", random_state=5)
    options = {"dataset_maker": MapDatasetMaker()}
    maker = MimicMaker(stores["off"], {1: 101, 2: 106}, scramble=scrambler, **options)
    header = maker.make_observation(targets[0]).events.table.meta
    rows = [maker.run(make_reference(_), _).meta_table[0] for _ in targets]

    names = ["SCR_METH", "SCR_NREG", "SCR_NEVT", "SCR_NREM", "SCR_SEED"]
    assert [rows[0][_] for _ in names] == [header[_] for _ in names]
    assert rows[0]["SCR_NREM"] > 0
    # no region in the FoV, and no partner
    for row in rows[1:]:
        assert [row[_] for _ in names] == ["none", 0, 0, 0, 5]
    assert [row["OFF_OBS_ID"] for row in rows] == [101, 106, -1]
    plain = MimicMaker(stores["off"], {1: 101}, **options)
    table = plain.run(make_reference(targets[0]), targets[0]).meta_table
    assert not set(names) & set(table.colnames)


def test_ray_is_an_extra(stores, targets, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    maker = MimicMaker(stores["off"], {1: 101})
    with pytest.raises(ImportError, match=r"gammapy-mimic\[ray\]"):
        maker.make_observations(targets[:1], n_jobs=2, parallel_backend="ray")
