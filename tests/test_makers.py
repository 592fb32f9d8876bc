"""Laws that all makers share: their maps, their order, parameters and purity."""

import copy
import inspect
import os
import pickle
import shutil

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from gammapy.data import DataStore, EventList, Observations
from gammapy.datasets import SpectrumDataset
from gammapy.makers import (
    DatasetsMaker,
    FoVBackgroundMaker,
    MapDatasetMaker,
    RingBackgroundMaker,
    SafeMaskMaker,
    SpectrumDatasetMaker,
)
from gammapy.maps import MapAxis, RegionGeom
from gammapy.modeling.models import (
    FoVBackgroundModel,
    GaussianSpatialModel,
    PiecewiseNormSpectralModel,
    PowerLawNormSpectralModel,
)
from numpy.testing import assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector, MimicMaker, ScrambleMaker
from gammapy_mimic.analysis.config import MimicConfig
from gammapy_mimic.makers import write_mimic_sets
from gammapy_mimic.scripts.convert import convert
from gammapy_mimic.scripts.options import scramble_options
from gammapy_mimic.selection import MimicPlan, OffIndex
from gammapy_mimic.utils.coordinates import make_ring

from .helpers import ANY_CONDITIONS, make_reference, need_runs

PARTNERS = {1: 101, 2: 106, 3: 103}
MAKERS = ("mimic", "scramble", "select")
MAPS = ("counts", "exposure", "background", "psf", "edisp")
WIDE = ANY_CONDITIONS
TARGET = SkyCoord(329.7, -30.2, unit="deg")
REGION = CircleSkyRegion(TARGET, 0.3 * u.deg)
FAR = CircleSkyRegion(SkyCoord(10, 80, unit="deg"), 0.3 * u.deg)


@pytest.fixture(scope="module")
def index(stores):
    return OffIndex.create(stores["off"])


@pytest.fixture
def target(stores):
    return stores["targets"].obs(1)


@pytest.fixture
def make(stores, index):
    """Make a maker by its short name."""

    def make(name, **kwargs):
        if name == "mimic":
            return MimicMaker(stores["off"], PARTNERS, **kwargs)
        if name == "scramble":
            return ScrambleMaker([REGION], **kwargs)
        options = {"index": index, "kl_max": 0.2, **kwargs}
        return KLBackgroundSelector(stores["off"], WIDE, **options)

    return make


@pytest.fixture(scope="module")
def reduced(stores):
    target = stores["targets"].obs(1)
    return MapDatasetMaker().run(make_reference(target), target)


@pytest.fixture
def dataset(reduced):
    """Dataset of the target."""
    return reduced.copy()


def get_arrays(dataset):
    """Maps of a dataset as arrays, None for those that it does not have."""
    arrays = {}
    for name in MAPS:
        value = getattr(dataset, name)
        value = getattr(value, f"{name}_map", value)
        arrays[name] = None if value is None else value.data
    return arrays


def assert_same_maps(result, expected):
    result, expected = get_arrays(result), get_arrays(expected)
    for name, values in expected.items():
        assert (result[name] is None) == (values is None), name
        if values is not None:
            assert_array_equal(result[name], values, err_msg=name)


def make_spectrum():
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2)
    true_axis = MapAxis.from_energy_bounds(
        "0.5 TeV", "20 TeV", nbin=3, name="energy_true"
    )
    geom = RegionGeom(CircleSkyRegion(TARGET, 0.2 * u.deg), axes=[axis])
    return SpectrumDataset.create(geom, energy_axis_true=true_axis)


@pytest.mark.parametrize("name", MAKERS)
class TestDatasetMaker:
    """The maps are those that the dataset maker makes of the new observation."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "options",
        [
            {"background_oversampling": 5},
            {"background_pad_offset": False, "background_interp_missing_data": False},
            {"selection": ["counts", "background"]},
        ],
        ids=str,
    )
    def test_maps(self, make, target, name, options):
        dataset_maker = MapDatasetMaker(**options)
        maker = make(name, dataset_maker=dataset_maker)
        selection = set(dataset_maker.selection)
        reference = make_reference(target)
        expected = dataset_maker.run(reference, maker.make_observation(target))
        for first in (reference, dataset_maker.run(reference, target)):
            result = maker.run(first, target)
            assert_same_maps(result, expected)
            assert result.gti.time_start == expected.gti.time_start
        assert dataset_maker.selection == selection

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "options",
        [
            {"use_region_center": False, "background_oversampling": 3},
            {"containment_correction": True, "selection": ["counts", "exposure"]},
        ],
        ids=str,
    )
    def test_spectrum(self, make, target, name, options):
        dataset_maker = SpectrumDatasetMaker(**options)
        maker = make(name, dataset_maker=dataset_maker)
        made = maker.make_observation(target)
        expected = dataset_maker.run(make_spectrum(), made)
        for first in (make_spectrum(), dataset_maker.run(make_spectrum(), target)):
            assert_same_maps(maker.run(first, target), expected)

    def test_real_data(self, hess_store, name):
        need_runs(hess_store, 23523, 20275, 20282)
        target = hess_store.obs(23523)
        crab = CircleSkyRegion(SkyCoord(83.633, 22.014, unit="deg"), 0.3 * u.deg)
        off = hess_store.get_observations([20275, 20282])
        dataset_maker = MapDatasetMaker(background_oversampling=10)
        options = {"dataset_maker": dataset_maker}
        if name == "mimic":
            maker = MimicMaker(hess_store, {23523: 20275}, **options)
        elif name == "scramble":
            maker = ScrambleMaker([crab], "fill", **options)
        else:
            maker = KLBackgroundSelector(off, WIDE, kl_max=5, **options)
        reference = make_reference(target)
        expected = dataset_maker.run(reference, maker.make_observation(target))
        result = maker.run(dataset_maker.run(reference, target), target)
        assert_same_maps(result, expected)

    def test_invalid(self, make, name):
        with pytest.raises(TypeError, match="dataset_maker must be a MapDatasetMaker"):
            make(name, dataset_maker=SafeMaskMaker())
        with pytest.raises(TypeError, match="dataset_maker must be a MapDatasetMaker"):
            make(name, dataset_maker=make(name))

    def test_maps_on_a_spectrum(self, make, target, name):
        maker = make(name, dataset_maker=MapDatasetMaker())
        with pytest.raises(TypeError, match="dataset_maker=SpectrumDatasetMaker"):
            maker.run(make_spectrum(), target)


@pytest.mark.parametrize("name", ["mimic", "scramble"])
def test_spectrum_needs_a_dataset_maker(make, target, name):
    """Else a reflected regions maker would count the original events."""
    dataset = SpectrumDatasetMaker().run(make_spectrum(), target)
    with pytest.raises(
        TypeError, match=r"(?s)make_observations.*dataset_maker=SpectrumDatasetMaker"
    ):
        make(name).run(dataset, target)


def attach(dataset, spectral_model=None, spatial_model=None, **values):
    model = FoVBackgroundModel(
        spectral_model=spectral_model,
        spatial_model=spatial_model,
        dataset_name=dataset.name,
    )
    for key, value in values.items():
        setattr(model.parameters["norm"], key, value)
    dataset.models = [model]
    return model


@pytest.mark.parametrize("name", MAKERS)
class TestOrder:
    """What would be silently wrong is an error that says the right order."""

    def test_reference_dataset(self, make, target, name):
        maker, reference = make(name), make_reference(target)
        match = rf"DatasetsMaker\(\[MapDatasetMaker\(\), {maker.tag}.*dataset_maker="
        for makers in ([maker, MapDatasetMaker()], [maker]):
            with pytest.raises(ValueError, match=match):
                DatasetsMaker(makers).run(reference.copy(), [target])

    def test_dataset_of_another_observation(self, make, stores, target, name):
        dataset = MapDatasetMaker().run(
            make_reference(target), stores["targets"].obs(2)
        )
        with pytest.raises(ValueError, match="not made of OBS_ID 1"):
            make(name).run(dataset, target)

    def test_others_stacked_into_the_reference(self, make, reduced, target, name):
        """They do not make it a dataset of this observation."""
        other = reduced.copy()
        other.meta_table["OBS_ID"] = 2
        reference = make_reference(target, name="stacked")
        reference.stack(other)
        reference.stack(reduced)
        maker = make(name, dataset_maker=MapDatasetMaker())
        result = maker.run(reference, target)
        assert_same_maps(result, maker.run(make_reference(target), target))
        assert np.ravel(result.meta_table["OBS_ID"]).tolist() == [1]

    @pytest.mark.parametrize("method", ["scale", "fit"])
    def test_fitted_background(self, make, target, name, method):
        safe = SafeMaskMaker(["offset-max"], offset_max=2 * u.deg)
        makers = [MapDatasetMaker(), safe, FoVBackgroundMaker(method), make(name)]
        with pytest.raises(ValueError, match=r"was fitted already.*FoVBackgroundMaker"):
            DatasetsMaker(makers).run(make_reference(target), [target])

    def test_fitted_where_there_is_no_partner(self, stores, dataset, target, name):
        maker = MimicMaker(stores["off"], {2: 106})
        dataset = FoVBackgroundMaker("scale").run(dataset)
        with pytest.raises(ValueError, match="was fitted already"):
            maker.run(dataset, target)

    @pytest.mark.parametrize(
        "values", [{"value": 1.2}, {"error": 0.01}, {"error": 0.01, "frozen": True}]
    )
    def test_parameter_of_a_fit(self, make, dataset, target, name, values):
        attach(dataset, **values)
        with pytest.raises(ValueError, match="norm = 1.*was fitted already"):
            make(name).run(dataset, target)

    @pytest.mark.parametrize("kind", ["default", "reference", "piecewise", "spatial"])
    def test_attached_background_is_kept(self, make, dataset, target, name, kind):
        if name == "select" and kind != "piecewise":
            pytest.skip("as for the others")
        spatial = GaussianSpatialModel(lon_0="83 deg", lat_0="22 deg", sigma="2 deg")
        options = {
            "default": {},
            "reference": {
                "spectral_model": PowerLawNormSpectralModel(reference="3 TeV")
            },
            "piecewise": {"spectral_model": PiecewiseNormSpectralModel([1, 9] * u.TeV)},
            "spatial": {"spatial_model": spatial},
        }
        model = attach(dataset, **options[kind])
        result = make(name).run(dataset, target)
        assert result.background_model is model
        norm = next(_ for _ in model.parameters if _.name.startswith("norm"))
        norm.value = 2
        with pytest.raises(ValueError, match="was fitted already"):
            make(name).run(dataset, target)

    def test_frozen_norm_is_kept(self, make, dataset, target, name):
        model = attach(dataset, value=1.1, frozen=True)
        assert make(name).run(dataset, target).background_model is model

    def test_after_a_ring_background(self, make, dataset, target, name):
        ring = RingBackgroundMaker(r_in=0.5 * u.deg, width=0.4 * u.deg)
        with pytest.raises(TypeError, match="MapDatasetOnOff"):
            make(name).run(ring.run(dataset.to_image()), target)

    @pytest.mark.slow
    @pytest.mark.parametrize("other", MAKERS)
    def test_two_makers(self, make, dataset, target, name, other):
        """One that would replace the maps of the other is an error."""
        first, second = make(other), make(name)
        dataset = first.run(dataset, target)
        stacked = make_reference(target)
        stacked.stack(dataset)
        hint = "once" if name == other else r"MimicMaker\(background=selector\)"
        for made in (
            dataset,
            dataset.copy(),
            dataset.cutout(TARGET, 2 * u.deg),
            pickle.loads(pickle.dumps(dataset)),
            stacked,
        ):
            if {name, other} == {"scramble", "select"}:
                columns = set(second.run(made, target).meta_table.colnames)
                assert columns > set(made.meta_table.colnames)
                continue
            with pytest.raises(ValueError, match=f"made by {first.tag}.*{hint}"):
                second.run(made, target)

    def test_after_a_masked_mimic(self, make, stores, dataset, target, name):
        """The trace is there also where there was no partner."""
        dataset = MimicMaker(stores["off"], {2: 106}).run(dataset, target)
        assert not dataset.mask_safe.data.any()
        with pytest.raises(ValueError, match="made by MimicMaker"):
            make(name).run(dataset, target)


@pytest.mark.slow
def test_scrambler_and_selector_in_either_order(make, stores, target):
    targets = stores["targets"].get_observations([1, 2])
    safe = SafeMaskMaker(["offset-max"], offset_max=2 * u.deg)
    results = []
    for names in (("scramble", "select"), ("select", "scramble")):
        makers = [MapDatasetMaker(), *map(make, names), safe]
        reference = make_reference(target, name="stacked")
        results.append(DatasetsMaker(makers).run(reference, targets)[0])
    assert_same_maps(*results)
    tables = [_.meta_table for _ in results]
    assert set(tables[0].colnames) == set(tables[1].colnames)
    for column in tables[0].colnames:
        assert_array_equal(tables[0][column], tables[1][column])
    assert tables[0]["SCR_METH"].tolist() == [["annulus", "annulus"]]
    ids = make("select").make_observation(targets[0]).bkg.meta["OBS_IDS"]
    assert tables[0]["BKG_OBS_IDS"][0][0] == ids


def test_meta_table_has_all_columns(make, stores, target):
    """Of a mimic that is scrambled and has a template, also if it is masked."""
    options = {"scramble": make("scramble"), "background": make("select")}
    expected = {"OFF_OBS_ID", "MIMIC_SET", "SCR_METH", "SCR_SEED"}
    expected |= {"BKG_OBS_IDS", "BKG_N_OBS", "BKG_LIVETIME"}
    for partners in ({1: 101}, {2: 106}):
        maker = MimicMaker(stores["off"], partners, **options)
        dataset = MapDatasetMaker().run(make_reference(target), target)
        table = maker.run(dataset, target).meta_table
        assert expected <= set(table.colnames)
        ids = table["BKG_OBS_IDS"][0]
        assert ("105" in ids.split(",")) == (partners == {1: 101})
        # neither itself nor its field
        assert "101" not in ids
        assert "102" not in ids


def test_columns_of_others_are_kept(make, dataset, target):
    dataset.meta_table["MINE"] = [7]
    for name in ("scramble", "select"):
        dataset = make(name).run(dataset, target)
        assert dataset.meta_table["MINE"][0] == 7


def to_values(observation):
    """What an observation holds, to compare."""
    table = observation.events.table
    values = [np.asarray(table[_]) for _ in ("RA", "DEC", "ENERGY")]
    values += [table["TIME"].mjd, observation.gti.time_start.mjd]
    values += [observation.bkg.data, observation.bkg.axes["energy"].edges.value]
    return values, dict(table.meta), observation.bkg.meta


def assert_same_observation(result, expected):
    result, expected = to_values(result), to_values(expected)
    for values, others in zip(result[0], expected[0], strict=True):
        assert_array_equal(values, others)
    assert str(result[1]) == str(expected[1])
    assert str(result[2]) == str(expected[2])


AXIS = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2)
OFFSET_AXIS = MapAxis.from_edges([0, 1, 2], unit="deg", name="offset")
SCRAMBLER = ScrambleMaker([CircleSkyRegion(TARGET, 0.5 * u.deg)], "azimuth")
PLAN = MimicPlan(
    Table(
        rows=[[1, 1, 101], [1, 2, 104], [2, 2, 105]],
        names=["OBS_ID", "MIMIC_SET", "OFF_OBS_ID"],
    )
)


class TestParameters:
    """A parameter that is set acts as one that is given."""

    def check(self, cls, kwargs, name, value, target):
        maker = cls(**kwargs)
        # whatever it keeps, it must not be used again
        maker.make_observation(target)
        str(maker)
        setattr(maker, name, value)
        other = cls(**{**kwargs, name: value})
        made, expected = (_.make_observation(target) for _ in (maker, other))
        assert_same_observation(made, expected)
        tables = [_.make_meta_table(made).pformat() for _ in (maker, other)]
        assert tables[0] == tables[1]
        return maker

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("off_observations", "altaz"),
            ("plan", {1: 102}),
            ("plan", PLAN),
            ("mimic_set", 2),
            ("alignment", "radec"),
            ("time", "off"),
            ("background", "target"),
            ("background", "select"),
            ("scramble", SCRAMBLER),
        ],
        ids=str,
    )
    def test_mimic(self, stores, make, target, name, value):
        kwargs = {"off_observations": stores["off"], "plan": PLAN}
        if value == "altaz":
            off = stores["off"].get_observations([101, 102])
            value = [
                observation.copy(in_memory=True, obs_id=obs_id)
                for observation, obs_id in zip(off, (102, 101), strict=True)
            ]
        elif value == "select":
            value = make("select")
        self.check(MimicMaker, kwargs, name, value, target)

    def test_mimic_set_is_that_of_the_partner(self, stores, target):
        maker = MimicMaker(stores["off"], PLAN)
        maker.mimic_set = 2
        header = maker.make_observation(target).events.table.meta
        assert (header["MIM_OBS"], header["MIM_SET"]) == (104, 2)
        assert maker.can_make(stores["targets"].obs(2))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("regions", [FAR]),
            ("regions", [CircleSkyRegion(TARGET, 0.5 * u.deg)]),
            ("method", "fill"),
            ("method", "azimuth"),
            ("width", "0.4 deg"),
            ("energy_axis", AXIS),
            ("random_state", 7),
        ],
        ids=str,
    )
    def test_scramble(self, target, name, value):
        self.check(ScrambleMaker, {"regions": [REGION]}, name, value, target)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("regions", [SkyCoord(330, -30, unit="deg")]), ("radius", 0.5 * u.deg)],
    )
    def test_radius(self, target, name, value):
        kwargs = {"regions": [TARGET], "radius": "0.3 deg"}
        self.check(ScrambleMaker, kwargs, name, value, target)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("off_observations", None),
            ("criteria", {**WIDE, "exclude_obs_ids": [101, 102]}),
            ("energy_axis", AXIS),
            ("offset_axis", OFFSET_AXIS),
            ("distribution", "irf"),
            ("exclusion_regions", [REGION]),
            ("kl_max", 0.1),
            ("time_request", "1 h"),
            ("background", "3d"),
            ("smooth", "gauss"),
            ("index", None),
        ],
        ids=str,
    )
    def test_select(self, stores, index, target, name, value):
        if name == "off_observations":
            value = stores["off"].get_observations([103, 104])
        elif name == "index":
            value = index.select([101, 104])
        kwargs = {
            "off_observations": stores["off"].get_observations([101, 102, 104]),
            "criteria": WIDE,
            "kl_max": 0.3,
        }
        self.check(KLBackgroundSelector, kwargs, name, value, target)

    @pytest.mark.parametrize("name", MAKERS)
    def test_dataset_maker(self, make, target, name):
        maker, dataset_maker = make(name), MapDatasetMaker(background_oversampling=5)
        maker.dataset_maker = dataset_maker
        other = make(name, dataset_maker=dataset_maker)
        reference = make_reference(target)
        assert_same_maps(maker.run(reference, target), other.run(reference, target))

    @pytest.mark.parametrize(
        ("maker", "name", "value", "match"),
        [
            ("mimic", "mimic_set", 5, r"no mimic set 5, choose from \[1\]"),
            ("mimic", "mimic_set", "x", "mimic_set must be an integer, got 'x'"),
            ("mimic", "alignment", "up", "Invalid alignment: 'up'"),
            ("mimic", "time", "up", "Invalid time: 'up'"),
            ("mimic", "background", "up", "Invalid background: 'up'"),
            ("mimic", "scramble", "fill", "must be a ScrambleMaker, got str"),
            ("mimic", "off_observations", [], "off_observations has no observations"),
            ("scramble", "regions", None, "hold a region for method='annulus'"),
            ("scramble", "method", "up", "Invalid method: 'up'"),
            ("scramble", "width", 0.3, "width must be an angle"),
            ("scramble", "radius", 0.3, "radius must be an angle"),
            ("scramble", "energy_axis", [1], "energy_axis must be a MapAxis"),
            ("scramble", "random_state", -1, "random_state must be"),
            ("select", "off_observations", 1, "off_observations must be"),
            ("select", "criteria", {"airmas": 1}, "Did you mean 'airmass'"),
            ("select", "energy_axis", AXIS, "energy_axis differs"),
            ("select", "offset_axis", AXIS, "offset_axis must have the name 'offset'"),
            ("select", "distribution", "up", "Invalid distribution: 'up'"),
            (
                "select",
                "exclusion_regions",
                [REGION],
                "The 1 exclusion_regions are not",
            ),
            ("select", "kl_max", 0, "kl_max must be a positive number, or None, got 0"),
            ("select", "time_request", "-1 h", "time_request must be a positive"),
            ("select", "background", "4d", "Invalid background: '4d'"),
            ("select", "smooth", "much", "Invalid smooth: 'much'"),
            ("select", "index", "x", "index must be an OffIndex, got str"),
        ],
    )
    def test_invalid_value_changes_nothing(self, make, maker, name, value, match):
        maker = make(maker)
        before = dict(maker.__dict__)
        with pytest.raises((TypeError, ValueError), match=match):
            setattr(maker, name, value)
        assert maker.__dict__ == before

    def test_altaz_needs_the_time_of_the_target(self, make):
        maker = make("mimic", alignment="altaz")
        with pytest.raises(ValueError, match="time='target'"):
            maker.time = "off"
        assert maker.time == "target"

    def test_list_that_is_changed_in_place(self, stores, target):
        maker = ScrambleMaker([FAR])
        assert maker.find_regions(target) == []
        maker.regions.append(REGION)
        assert len(maker.find_regions(target)) == 1
        maker.regions[1] = FAR
        assert maker.find_regions(target) == []
        with pytest.raises(AttributeError):
            KLBackgroundSelector(
                stores["off"], exclusion_regions=[FAR]
            ).exclusion_regions.append(REGION)

    def test_exclusion_regions_are_not_overwritten(self, stores, target):
        regions = [REGION]
        index = OffIndex.create(stores["off"], exclusion_regions=regions)
        selector = KLBackgroundSelector(stores["off"], WIDE, index=index, kl_max=0.2)
        assert selector.exclusion_regions is None
        other = KLBackgroundSelector(
            stores["off"], WIDE, exclusion_regions=regions, kl_max=0.2
        )
        assert_same_observation(
            selector.make_observation(target), other.make_observation(target)
        )

    def test_str_makes_no_index(self, stores):
        selector = KLBackgroundSelector(stores["off"], WIDE)
        assert str(selector).startswith("KLBackgroundSelector")
        assert selector._pool._index is None


GAMMAPY_CACHES = {"_gti", "_meta", "_pointing"}


def read_state(observation):
    return dict(observation.__dict__)


def assert_pure(observation, before):
    """Only Gammapy's own caches of what it reads lazily may be filled."""
    after = observation.__dict__
    assert set(after) - set(before) <= GAMMAPY_CACHES
    for key, value in before.items():
        assert after[key] is value, key


class TestPurity:
    """An observation that is read from disk keeps nothing that is made or read."""

    @pytest.fixture
    def targets(self, stores):
        store = DataStore.from_dir(stores["targets"].hdu_table.base_dir)
        return store.get_observations()

    def all_makers(self, make):
        yield make("mimic")
        yield make("mimic", background="target", scramble=make("scramble"))
        yield make("mimic", background=make("select"))
        for method in ScrambleMaker.available_methods:
            yield make("scramble", method=method)
        yield ScrambleMaker([FAR])
        yield make("select")
        yield make("select", distribution="irf")

    @pytest.mark.slow
    def test_lazy_observations(self, make, targets):
        reference = make_reference(copy.copy(targets[0]))
        for maker in self.all_makers(make):
            for target in [copy.copy(_) for _ in targets[:1]]:
                before = read_state(target)
                dataset = MapDatasetMaker().run(reference, target)
                made = maker.make_observation(target)
                assert made is not target
                made.bkg = made.aeff = None
                made.events = EventList(made.events.table[:0])
                maker.run(dataset, target)
                maker.make_meta_table(target)
                assert_pure(target, before)

    def test_regions_in_the_field(self, make, targets):
        before = read_state(targets[0])
        maker = make("scramble")
        assert len(maker.find_regions(targets[0])) == 1
        assert len(maker.find_annuli(targets[0])) == 1
        assert_pure(targets[0], before)

    def test_plan(self, make, targets):
        before = [read_state(_) for _ in targets]
        make("select").make_plan(targets, n_sets=1)
        for target, state in zip(targets, before, strict=True):
            assert_pure(target, state)

    def test_archive(self, stores, targets, tmp_path):
        before = [read_state(_) for _ in targets]
        plan = MimicPlan.create(PARTNERS)
        write_mimic_sets(targets, stores["off"], plan, tmp_path / "out")
        for target, state in zip(targets, before, strict=True):
            assert_pure(target, state)

    def test_pool_and_targets_in_memory(self, stores, make, targets):
        """Also where Gammapy would fill gaps of the background in place."""
        off = [_.copy(in_memory=True) for _ in stores["off"].get_observations([101])]
        target = targets[0].copy(in_memory=True)
        reference = make_reference(copy.copy(target))
        for observation in (*off, target):
            observation.bkg.data[3] = 0
        for maker in (
            MimicMaker(off, {1: 101}),
            MimicMaker(off, {1: 101}, background="target"),
            make("scramble"),
        ):
            observations = (*off, target)
            before = [read_state(_) for _ in observations]
            data = [copy.deepcopy(_.bkg.data) for _ in observations]
            tables = [_.events.table.copy() for _ in observations]
            dataset = MapDatasetMaker(["counts", "exposure"]).run(reference, target)
            maker.dataset_maker = MapDatasetMaker()
            maker.run(dataset, target)
            maker.run(reference, target)
            for idx, observation in enumerate(observations):
                assert_pure(observation, before[idx])
                assert_array_equal(observation.bkg.data, data[idx])
                table = observation.events.table
                assert_array_equal(table["RA"], tables[idx]["RA"])
                assert table.meta == tables[idx].meta

    def test_headers_of_targets_are_read_once(
        self, stores, targets, tmp_path, monkeypatch
    ):
        opened = []
        original = fits.open

        def count(path, *args, **kwargs):
            opened.append(str(path))
            return original(path, *args, **kwargs)

        table = Table(
            rows=[[1, _, 100 + _] for _ in (1, 2, 3, 4)],
            names=["OBS_ID", "MIMIC_SET", "OFF_OBS_ID"],
        )
        monkeypatch.setattr(fits, "open", count)
        plan = MimicPlan(table)
        write_mimic_sets(targets[:1], stores["off"], plan, tmp_path / "out")
        assert len([_ for _ in opened if "obs_id_000001" in _ and "out" not in _]) == 1


class TestOneIndex:
    """The archive is indexed once, before anything is sent to other processes."""

    @pytest.fixture
    def count(self, tmp_path, monkeypatch):
        path, original = tmp_path / "count", OffIndex.create.__func__

        def create(cls, *args, **kwargs):
            with path.open("a") as file:
                file.write(f"{os.getpid()}\n")
            return original(cls, *args, **kwargs)

        monkeypatch.setattr(OffIndex, "create", classmethod(create))
        return lambda: path.read_text().split()

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["select", "mimic"])
    def test_chain(self, make, stores, count, name):
        maker = make("select", index=None)
        if name == "mimic":
            maker = make("mimic", background=maker)
        targets = stores["targets"].get_observations()
        makers = [MapDatasetMaker(), maker]
        DatasetsMaker(makers, n_jobs=2).run(make_reference(targets[0]), targets)
        assert count() == [str(os.getpid())]

    @pytest.mark.parametrize("name", ["select", "mimic"])
    def test_make_observations(self, make, stores, count, name):
        maker = make("select", index=None)
        if name == "mimic":
            maker = make("mimic", background=maker)
        targets = stores["targets"].get_observations()
        maker.make_observations(targets, n_jobs=2)
        assert count() == [str(os.getpid())]

    def test_pickle_has_the_index(self, make):
        """As ray sends it, too."""
        selector = make("select", index=None)
        maker = pickle.loads(pickle.dumps(make("mimic", background=selector)))
        assert maker.background._pool._index is not None
        assert selector._pool._index is not None


class TestPool:
    def test_list(self, stores, target, index):
        off = stores["off"].get_observations()
        expected = MimicMaker(off, PARTNERS).make_observation(target)
        for pool in (list(off), tuple(off)):
            made = MimicMaker(pool, PARTNERS).make_observation(target)
            assert_same_observation(made, expected)
            assert OffIndex.create(pool).checksum == index.checksum
            selector = KLBackgroundSelector(pool, WIDE)
            assert selector.index.checksum == index.checksum

    def test_write_mimic_sets(self, stores, tmp_path):
        plan = MimicPlan.create(PARTNERS)
        targets = list(stores["targets"].get_observations())
        pool = list(stores["off"].get_observations())
        paths = write_mimic_sets(targets, pool, plan, tmp_path / "out")
        assert DataStore.from_dir(paths[1]).obs_ids.tolist() == [1, 2, 3]

    @pytest.mark.parametrize(
        ("pool", "match"),
        [
            ([], "has no observations"),
            ((), "has no observations"),
            (Observations(), "has no observations"),
            (
                [1, 2],
                "DataStore or Observations, or a list of Observation, got list of int",
            ),
            ("off", "DataStore or Observations, or a list of Observation, got str"),
        ],
        ids=str,
    )
    def test_invalid(self, pool, match, tmp_path):
        plan = MimicPlan.create(PARTNERS)
        for function in (
            KLBackgroundSelector,
            OffIndex.create,
            lambda pool: MimicMaker(pool, PARTNERS),
            lambda pool: write_mimic_sets([], pool, plan, tmp_path / "out"),
        ):
            with pytest.raises((ValueError, TypeError), match=match):
                function(pool)


class TestSkyCoord:
    @pytest.mark.parametrize(
        "positions",
        [
            [TARGET, FAR.center],
            SkyCoord([TARGET, FAR.center]),
            [SkyCoord([TARGET, FAR.center])],
        ],
        ids=["list", "array", "list of arrays"],
    )
    def test_positions_with_a_radius(self, target, positions):
        expected = ScrambleMaker([REGION, FAR]).make_observation(target)
        maker = ScrambleMaker(positions, radius="0.3 deg")
        assert_same_observation(maker.make_observation(target), expected)
        assert len(maker.find_regions(target)) == 1

    def test_one_position(self, target):
        maker = ScrambleMaker(TARGET, radius=0.3 * u.deg)
        assert len(maker.find_regions(target)) == 1
        assert "radius" in str(maker)

    @pytest.mark.parametrize(
        ("regions", "radius", "match"),
        [
            ([TARGET], None, r"SkyCoord.*needs a radius"),
            ([REGION], "0.3 deg", "radius is for positions"),
            ([], "0.3 deg", "radius is for positions"),
            ([TARGET], "3 m", "radius must be an angle .*, got '3 m'"),
            ([TARGET], "-1 deg", "radius must be an angle above 0"),
        ],
    )
    def test_invalid(self, regions, radius, match):
        with pytest.raises((TypeError, ValueError), match=match):
            ScrambleMaker(regions, radius=radius)

    def test_exclusion_regions_need_a_region(self, stores):
        with pytest.raises(ValueError, match="CircleSkyRegion"):
            KLBackgroundSelector(stores["off"], exclusion_regions=[TARGET])


def get_defaults(cls):
    parameters = inspect.signature(cls).parameters.values()
    return {_.name: _.default for _ in parameters}


def test_defaults_are_the_same_everywhere():
    """In Python, in the configuration and on the command line."""
    mimic, scramble, select = map(
        get_defaults, (MimicMaker, ScrambleMaker, KLBackgroundSelector)
    )
    config = MimicConfig(scramble={})
    assert config.scramble.method == scramble["method"] == "annulus"
    assert config.scramble.width is scramble["width"] is None
    assert config.random_state == scramble["random_state"] == 0
    for name in ("alignment", "time", "background"):
        assert getattr(config, name) == mimic[name]
    for name in ("distribution", "kl_max"):
        assert getattr(config.selection, name) == select[name]
    assert config.template.dimension == select["background"]
    assert config.template.smooth is select["smooth"] is None
    assert config.template.time_request is select["time_request"] is None

    options = {_.name: _.default for _ in convert.params}
    for name in ("alignment", "time", "background"):
        assert options[name] == mimic[name]
    assert options["random_state"] == 0
    scrambler = scramble_options(lambda scrambler: scrambler)
    made = scrambler([[REGION]], None, None, options["random_state"])
    assert made.method == scramble["method"]


def test_default_seed():
    assert ScrambleMaker([REGION]).random_state == 0
    seeds = {ScrambleMaker([REGION], random_state=None).random_state for _ in range(3)}
    assert len(seeds) == 3


def test_cached_ring_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        make_ring(0.0, 1.0)[0, 0] = 1


class TestSafeRange:
    """aeff-default in a chain sees the target."""

    def run(self, stores, ranges):
        """Mimics of OFF observations with these lower ends of the safe range."""
        off = []
        for obs_id, low in ranges.items():
            off.append(stores["off"].obs(obs_id).copy(in_memory=True))
            off[-1].aeff.meta["LO_THRES"] = low
        targets = stores["targets"].get_observations()
        makers = [MapDatasetMaker(["counts"]), MimicMaker(off, PARTNERS)]
        DatasetsMaker(makers).run(make_reference(targets[0]), targets)

    def get_ranges(self, stores):
        return {
            off: stores["targets"].obs(target).aeff.meta["LO_THRES"]
            for target, off in PARTNERS.items()
        }

    def test_warning_once(self, stores, caplog):
        low = self.get_ranges(stores)
        self.run(stores, low | {106: 3.0, 103: 2.0})
        (message,) = (_.message for _ in caplog.records if "SafeMask" in _.message)
        assert f"of OBS_ID 2 is {low[106]:.3g} to" in message
        assert "observation 106 is 3 to 100 TeV" in message
        assert "make_observations(observations) first" in message
        # another maker says it again
        self.run(stores, low | {106: 3.0})
        assert caplog.text.count("aeff-default") == 2

    def test_no_warning(self, stores, caplog):
        self.run(stores, self.get_ranges(stores))
        assert "aeff-default" not in caplog.text


# What a fresh reader tried


def test_obs_id_that_is_text_in_a_chain(stores):
    """Gammapy looks for the datasets by it, and leaves out the others in silence."""
    targets = stores["targets"].get_observations()
    named = Observations(
        [_.copy(in_memory=True, obs_id=f"000{_.obs_id}") for _ in targets]
    )
    maker = MimicMaker(stores["off"], PARTNERS)
    chain = DatasetsMaker([MapDatasetMaker(), maker], stack_datasets=False)
    datasets = chain.run(make_reference(targets[0]), named)
    assert [str(_.meta_table["OBS_ID"][0]) for _ in datasets] == named.ids
    assert [int(_.meta_table["OFF_OBS_ID"][0]) for _ in datasets] == [
        PARTNERS[_.obs_id] for _ in targets
    ]


def test_first_observation_without_partner_makes_its_own_maps(stores, caplog):
    targets = stores["targets"].get_observations()
    plan = {obs_id: off for obs_id, off in PARTNERS.items() if obs_id != 1}
    maker = MimicMaker(stores["off"], plan, dataset_maker=MapDatasetMaker())
    safe_mask = SafeMaskMaker(["offset-max"], offset_max="2 deg")
    reference = make_reference(targets[0])
    (dataset,) = DatasetsMaker([maker, safe_mask]).run(reference, targets)
    assert np.ravel(dataset.meta_table["OFF_OBS_ID"])[0] == -1
    assert dataset.counts.data.sum() > 0
    assert "cannot treat OBS_ID 1" in caplog.text


def test_dataset_maker_without_a_map_that_is_made_again(stores, target):
    region = CircleSkyRegion(target.pointing.fixed_icrs, 0.3 * u.deg)
    maker = ScrambleMaker(
        [region], dataset_maker=MapDatasetMaker(selection=["background"])
    )
    dataset = MapDatasetMaker().run(make_reference(target), target)
    with pytest.raises(ValueError, match=r"makes the maps \['counts'\] .* selection"):
        maker.run(dataset, target)


def test_region_that_is_changed_in_place(stores, target):
    region = CircleSkyRegion(target.pointing.fixed_icrs, 0.3 * u.deg)
    maker = ScrambleMaker([region], method="fill")
    before = maker.make_observation(target).events.table.meta["SCR_NREM"]
    maker.regions[0].radius = 0.6 * u.deg
    header = maker.make_observation(target).events.table.meta
    expected = ScrambleMaker(maker.regions, method="fill").make_observation(target)
    assert header["SCR_NREM"] == expected.events.table.meta["SCR_NREM"] > before


def test_selector_uses_the_pool_and_not_all_of_its_index(stores, index, target):
    pool = stores["off"].get_observations([101, 102])
    selector = KLBackgroundSelector(pool, WIDE, index=index)
    assert sorted(selector.rank(target)["OFF_OBS_ID"]) == [101, 102]
    selector.off_observations = stores["off"].get_observations([103, 104, 105])
    assert sorted(selector.rank(target)["OFF_OBS_ID"]) == [103, 104, 105]
    with pytest.raises(ValueError, match="index has none of the off_observations"):
        KLBackgroundSelector(stores["targets"], WIDE, index=index)


def test_index_of_files_that_have_changed(stores, tmp_path, caplog):
    shutil.copytree(stores["off"].hdu_table.base_dir, tmp_path / "off")
    store = DataStore.from_dir(tmp_path / "off")
    index = OffIndex.create(store)
    KLBackgroundSelector(store, WIDE, index=index)
    assert "have changed" not in caplog.text
    path = tmp_path / "off/data/obs_id_000103.fits"
    with fits.open(path, memmap=False) as hdu_list:
        hdu_list["EVENTS"].data = hdu_list["EVENTS"].data[:100]
        hdu_list.writeto(path, overwrite=True)
    KLBackgroundSelector(store, WIDE, index=index)
    assert "The files of OBS_ID 103 have changed since the index" in caplog.text
    caplog.clear()
    KLBackgroundSelector(store, WIDE, index=index.update(store))
    assert "have changed" not in caplog.text
