"""Archives of other instruments: what is optional in them is there, missing or odd."""

import copy
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import astropy.units as u
import numpy as np
import pytest
import yaml
from astropy.coordinates import SkyCoord
from astropy.table import Column, MaskedColumn, Table
from astropy.time import Time
from gammapy.data import DataStore, Observation, Observations
from gammapy.datasets import SpectrumDataset
from gammapy.makers import (
    ReflectedRegionsBackgroundMaker,
    SpectrumDatasetMaker,
    WobbleRegionsFinder,
)
from gammapy.maps import MapAxis, RegionGeom
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion, PointSkyRegion

from gammapy_mimic import KLBackgroundSelector, MimicMaker, ScrambleMaker
from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.analysis.datasets import read_datasets
from gammapy_mimic.analysis.factory import MakerFactory
from gammapy_mimic.data import (
    find_broken_files,
    open_datastore,
    query_obs_table,
    select_datastore,
    write_datastore,
)
from gammapy_mimic.data.irfs import get_fov_alignment
from gammapy_mimic.data.observation import IRF_NAMES, get_hdu
from gammapy_mimic.makers import reduce_fov_background
from gammapy_mimic.makers.reduction import reduce_observations
from gammapy_mimic.selection import MatchCriteria, MimicPlan
from gammapy_mimic.selection.conditions import Conditions
from gammapy_mimic.simulate import (
    make_irfs,
    make_point_like,
    remove_background,
    simulate_datastore,
    simulate_observations,
)

from .helpers import ANY_CONDITIONS, make_obs_table, need_runs
from .test_scripts import run

ANY_FIELD = {"same_object": False, "same_field": False}


def make_survey(separation=1.0, n_obs=4):
    """Observation table of a survey: neighbouring fields of one OBJECT."""
    return make_obs_table(
        {
            "OBS_ID": np.arange(n_obs) + 1,
            "RA_PNT": separation * np.arange(n_obs) * u.deg,
            "DEC_PNT": np.zeros(n_obs) * u.deg,
            "OBJECT": ["Galactic Plane Survey"] * n_obs,
            "ALT_PNT": np.full(n_obs, 60.0) * u.deg,
            "LIVETIME": np.full(n_obs, 1600.0) * u.s,
        }
    )


def find_rejected(table, **criteria):
    """Criteria that reject the other observations as partners of the first."""
    conditions = Conditions.from_obs_table(table)
    criteria = MatchCriteria(galactic_latitude=None, muon_efficiency=None, **criteria)
    rejected = criteria.reject(conditions[0], conditions)
    assert rejected["same_observation"].tolist() == [True, *[False] * (len(table) - 1)]
    return {name for name, mask in rejected.items() if mask[1:].any()}


class TestOneObject:
    """Archives in which all observations have one OBJECT, or one field."""

    @pytest.mark.parametrize("off", [False, None])
    def test_same_object_and_same_field_can_be_switched_off(self, off):
        table = make_survey()
        assert find_rejected(table) == {"same_object", "same_field"}
        assert find_rejected(table, same_object=off) == {"same_field"}
        assert find_rejected(table, same_field=off) == {"same_object"}
        assert find_rejected(table, same_object=off, same_field=off) == set()

    def test_radius_of_the_same_field(self):
        table = make_survey(separation=3.0, n_obs=2)
        assert find_rejected(table, same_object=False) == set()
        options = {"same_object": False, "field_radius": "3.1 deg"}
        assert find_rejected(table, **options) == {"same_field"}

    @pytest.mark.parametrize("name", ["same_object", "same_field"])
    @pytest.mark.parametrize("value", ["false", 0, 1.0])
    def test_switch_is_true_or_false(self, name, value):
        with pytest.raises(ValueError, match=f"{name} must be true or false"):
            MatchCriteria(**{name: value})

    def test_old_name_of_the_radius(self):
        with pytest.raises(ValueError, match="Did you mean 'field_radius'"):
            MatchCriteria.create({"fov_radius": "1 deg"})

    @pytest.mark.parametrize(
        ("separation", "way_out"),
        [
            (5.0, "same_object: false"),
            (0.8, "same_object: false.*same_field: false.*field_radius"),
        ],
    )
    def test_rejection_says_the_way_out(self, separation, way_out):
        table = make_survey(separation)
        criteria = {"galactic_latitude": None}
        with pytest.raises(ValueError, match=f"same_object.*3 of 3.*{way_out}"):
            MimicPlan.from_obs_tables(table[:1], table[1:], criteria)
        plan = MimicPlan.from_obs_tables(table, table, criteria | ANY_FIELD, n_sets=1)
        assert not plan.questionable

    def test_selector_says_the_way_out(self, archive):
        observations = archive["off"].get_observations([101, 102, 103])
        selector = KLBackgroundSelector(observations, {"livetime": None})
        with pytest.raises(ValueError, match="same_object: false"):
            selector.make_plan([observations[0]])
        selector.criteria = {**ANY_CONDITIONS, **ANY_FIELD}
        table = selector.rank(observations[0])
        reasons = dict(zip(table["OFF_OBS_ID"], table["REASONS"], strict=True))
        assert reasons == {101: "same_observation", 102: "", 103: ""}


@pytest.fixture(scope="class")
def catalog(archive, tmp_path_factory):
    """A source that is 1 deg from the pointing of an OFF observation."""
    path = tmp_path_factory.mktemp("catalog") / "sources.ecsv"
    pointing = archive["off"].obs_table.pointing_radec[0]
    source = pointing.directional_offset_by(0 * u.deg, 1 * u.deg)
    columns = [[source.ra.deg], [source.dec.deg], ["near"]]
    Table(columns, names=["ra", "dec", "name"]).write(path)
    return str(path)


class TestRadiusOfExclusion:
    """Where sources are looked for is no matter of which fields are the same."""

    @pytest.fixture
    def find_names(self, archive, catalog):
        def find_names(criteria=None, **exclusion):
            targets, off = (
                {"datastore": str(archive[name].hdu_table.base_dir)}
                for name in ("targets", "off")
            )
            data = {
                "observations": targets,
                "mimic": {
                    "off": off,
                    "exclusion": {"catalogs": [catalog], **exclusion},
                    "selection": {"criteria": criteria or {}},
                },
            }
            observations = archive["targets"].get_observations()
            config = MimicAnalysisConfig.from_dict(data)
            return MakerFactory(config, observations).exclusion_regions.names

        return find_names

    def test_small_field_radius_keeps_the_regions(self, find_names):
        assert find_names() == ["near"]
        assert find_names({"field_radius": "0.1 deg"}) == ["near"]

    def test_radius_of_its_own(self, find_names):
        assert find_names(fov_radius="0.8 deg") == ["near"]
        assert find_names({"field_radius": "5 deg"}, fov_radius="0.5 deg") == []

    def test_radius_must_be_positive(self, find_names):
        with pytest.raises(ValueError, match="exclusion.fov_radius.*positive"):
            find_names(fov_radius="-1 deg")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Small stores: one target, and six OFF observations."""
    path = tmp_path_factory.mktemp("archive")
    position = {"target": SkyCoord(329.7, -30.2, unit="deg")}
    options = {"irfs": partial(make_irfs, rate=0.1, background="2d")}
    targets = {"targets": position, "random_state": 1}
    return {
        "targets": simulate_datastore(path / "targets", 2, **targets, **options),
        "off": simulate_datastore(path / "off", 6, first_obs_id=101, **options),
    }


def to_objects(values, *unknown):
    """Column of Python objects, with others at its begin."""
    column = np.empty(len(values), dtype=object)
    column[:] = [*unknown, *np.asarray(values).tolist()[len(unknown) :]]
    return column


def in_text(values):
    return Column(["", *np.asarray(values).astype(str)[1:]])


def mask_first(values):
    return MaskedColumn(values, mask=np.arange(len(values)) == 0)


def convert(table, **units):
    return {name: table[name].quantity.to(unit) for name, unit in units.items()}


REDONE = {
    "objects": lambda t: {name: to_objects(t[name]) for name in t.colnames},
    "no bytes": lambda t: {"OBJECT": t["OBJECT"].astype(str)},
    "masks of none": lambda t: {n: MaskedColumn(t[n]) for n in t.colnames},
    "text": lambda t: {n: t[n].astype(str) for n in ("OBS_ID", "ALT_PNT", "N_TELS")},
    "units": lambda t: convert(t, RA_PNT="hourangle", ALT_PNT="rad", TSTART="h"),
    "times": lambda t: {"START": Time(np.arange(6.0), format="mjd"), "N": [None] * 6},
    "positions": lambda t: {"POINTING": t.pointing_radec},
    "masked": lambda t: {n: mask_first(t[n]) for n in ("ALT_PNT", "LIVETIME")},
    "None": lambda t: {n: to_objects(t[n], None) for n in ("ALT_PNT", "LIVETIME")},
    "masked objects": lambda t: {"AZ_PNT": to_objects(t["AZ_PNT"], np.ma.masked)},
    "empty text": lambda t: {n: in_text(t[n]) for n in ("ALT_PNT", "TSTART")},
}
"""Index tables that say the same, or less, than the files tell."""

UNKNOWN = {
    "None": lambda t: {n: to_objects(t[n], None) for n in ("NSBLEVEL", "OBJECT")},
    "masked": lambda t: {n: mask_first(t[n]) for n in ("NSBLEVEL", "OBJECT")},
    "NaN": lambda t: {n: to_objects(t[n], np.nan) for n in ("NSBLEVEL", "OBJECT")},
    "text": lambda t: {n: in_text(t[n]) for n in ("NSBLEVEL", "OBJECT")},
}
"""Index tables that do not know two values of their first row."""


def redo(store, columns):
    """Make a datastore whose index has other columns."""
    table = store.obs_table.copy()
    for name, values in columns.items():
        # not what is given to a column, which would be converted to its type
        unit = table[name].unit if name in table.colnames else None
        table[name] = values
        if table[name].info.unit is None and unit is not None:
            table[name].unit = unit
    redone = DataStore(store.hdu_table)
    redone.obs_table = table
    return redone


def get_result(archive, store):
    """Ranking, plan and mimics, all as text."""
    criteria = {"livetime": None, "airmass": 0.5, "azimuth": "90 deg", "n_tels": 0}
    targets = archive["targets"].get_observations()
    selector = KLBackgroundSelector(store, criteria)
    plan = selector.make_plan(targets, n_sets=1)
    mimics = MimicMaker(store, plan).make_observations(targets)
    tables = [selector.rank(targets[0]), plan.table]
    tables += [_.events.table["RA", "DEC", "ENERGY"] for _ in mimics]
    return [_.pformat(max_lines=-1, max_width=-1) for _ in tables]


@pytest.fixture(scope="module")
def result(archive):
    return get_result(archive, archive["off"])


class TestMixedTables:
    """Index tables as from a query of an archive, in any type and unit."""

    @pytest.mark.parametrize("change", REDONE.values(), ids=list(REDONE))
    def test_any_type_gives_the_same_result(self, archive, result, change):
        store = redo(archive["off"], change(archive["off"].obs_table))
        assert get_result(archive, store) == result

    @pytest.mark.parametrize("change", UNKNOWN.values(), ids=list(UNKNOWN))
    def test_unknown_values(self, archive, change):
        store = redo(archive["off"], change(archive["off"].obs_table))
        conditions = Conditions.from_obs_table(store.obs_table)
        assert conditions.name[0] == ""
        assert np.isnan(conditions.nsb[0])
        assert np.isfinite(conditions.nsb[1:]).all()
        assert all(conditions.name[1:])
        criteria = {**ANY_CONDITIONS, "nsb": 10}
        target = archive["targets"].obs(1)
        table = KLBackgroundSelector(store, criteria).rank(target)
        reasons = dict(zip(table["OFF_OBS_ID"], table["REASONS"], strict=True))
        assert reasons == {101: "nsb"} | dict.fromkeys(range(102, 107), "")
        plan = MimicPlan.from_obs_tables(
            archive["targets"].obs_table, store.obs_table, criteria, n_sets=1
        )
        assert 101 not in plan.off_obs_ids(1)

    def test_column_without_any_value_is_none(self, archive, caplog):
        """As one that is missing: skipped, with a warning."""
        columns = {
            "NSBLEVEL": MaskedColumn(np.zeros(6), mask=True),
            "MUONEFF": np.full(6, None),
            "N_TELS": np.full(6, -1),
        }
        store = redo(archive["off"], columns)
        criteria = {"livetime": None, "airmass": 1, "nsb": 0, "muon_efficiency": 0}
        args = archive["targets"].obs_table, store.obs_table, criteria | {"n_tels": 0}
        assert not MimicPlan.from_obs_tables(*args, n_sets=1).questionable
        assert "No column in the observation table for ['muon_eff" in caplog.text

    @pytest.mark.parametrize(
        ("query", "n_rows"),
        [
            ("NSBLEVEL == None", 1),
            ("NSBLEVEL > 0", 5),
            ("OBJECT == None", 1),
            ("OBJECT != ''", 5),
            ("OBS_ID in [101, 102]", 2),
        ],
    )
    def test_queries(self, archive, query, n_rows):
        for change in (UNKNOWN["None"], UNKNOWN["masked"], UNKNOWN["NaN"]):
            table = archive["off"].obs_table
            store = redo(
                archive["off"], change(table) | {"OBS_ID": table["OBS_ID"].astype(str)}
            )
            assert len(query_obs_table(store.obs_table, query)) == n_rows

    def test_pointings_of_exclusion_regions(self, archive, tmp_path):
        """In any unit, also where the index does not know one of them."""
        table = archive["off"].obs_table.copy()
        position = table.pointing_radec[1]
        table["RA_PNT"] = mask_first(table["RA_PNT"].quantity.to("rad"))
        table["RA_PNT"].unit = "rad"
        for name in ("hdu-index.fits.gz", "data"):
            (tmp_path / name).symlink_to(archive["off"].hdu_table.base_dir / name)
        table.write(tmp_path / "obs-index.fits.gz")
        catalog = Table([[position.ra.deg], [position.dec.deg], ["near"]])
        catalog.rename_columns(catalog.colnames, ["ra", "dec", "name"])
        catalog.write(tmp_path / "catalog.ecsv")
        config = MimicAnalysisConfig.from_dict(
            {
                "observations": {"datastore": str(tmp_path)},
                "mimic": {
                    "exclusion": {"catalogs": [str(tmp_path / "catalog.ecsv")]},
                    "links": [str(archive["off"].hdu_table.base_dir)],
                },
            }
        )
        factory = MakerFactory(config, archive["targets"].get_observations())
        assert factory.exclusion_regions.names == ["near"]


class TestSingleFiles:
    """Files without index tables, for which Gammapy guesses what they have."""

    @pytest.fixture
    def files(self, archive):
        return [
            sorted((archive[name].hdu_table.base_dir / "data").glob("*.fits"))
            for name in ("targets", "off")
        ]

    def test_as_a_store(self, archive, files, tmp_path):
        targets, off = map(DataStore.from_events_files, files)
        criteria = {"livetime": None, "airmass": 0.5}
        observations = targets.get_observations(required_irf=[])
        selector = KLBackgroundSelector(off, criteria)
        other = KLBackgroundSelector(archive["off"], criteria)
        rankings = [
            selector.rank(observations[0]),
            other.rank(archive["targets"].obs(1)),
        ]
        for table in rankings:
            # the order depends on what else the table of the archive has
            table.sort("OFF_OBS_ID")
        for name in ("OFF_OBS_ID", "KL_CORR", "RATE_RATIO", "REASONS"):
            assert_array_equal(rankings[0][name], rankings[1][name])
        plan = selector.make_plan(observations, n_sets=1)
        mimics = MimicMaker(off, plan).make_observations(observations)
        assert find_broken_files(off, off.obs_ids) == {}
        assert len(query_obs_table(off.obs_table, "OBS_ID > 101 and OBJECT != ''")) == 5
        for irfs in ("link", "copy"):
            write_datastore(mimics, tmp_path / irfs, irfs=irfs)
            store = DataStore.from_dir(tmp_path / irfs)
            # what is not in the files is not in the index either
            expected = {"events", "gti", "aeff", "edisp", "bkg"}
            assert set(store.hdu_table["HDU_TYPE"]) == expected

    def test_airmass_is_not_in_the_table(self, files, caplog):
        targets, off = (DataStore.from_events_files(_).obs_table for _ in files)
        MimicPlan.from_obs_tables(targets, off, n_sets=1)
        assert "for ['airmass', 'zenith']: these criteria" in caplog.text

    def test_unknown_names_are_none(self, archive, files):
        """That of Gammapy, where the header has none, would be one OBJECT for all."""
        table = DataStore.from_events_files(files[1]).obs_table
        table["OBJECT"], table["N_TELS"] = "NOT AVAILABLE", -1
        conditions = Conditions.from_obs_table(table)
        assert not any(conditions.name)
        assert conditions.n_tels is None

    @pytest.mark.parametrize("name", ["datastore", "off_datastore"])
    def test_folder_without_index(self, archive, name, capsys):
        store = archive["off"].hdu_table.base_dir
        options = {"datastore": store, "off_datastore": store} | {name: store / "data"}
        args = [_ for key, path in options.items() for _ in (f"--{key}", str(path))]
        args = [_.replace("off_", "off-") if _[:2] == "--" else _ for _ in args]
        assert run("rank", *args, "--target-obs", "101", "--off-obs", "102") == 1
        text = capsys.readouterr().err
        assert f"datastore: The folder {store / 'data'} has no hdu-index" in text
        assert "DataStore.from_events_files(paths)" in text

    def test_the_way_out(self, files, tmp_path):
        store = DataStore.from_events_files(files[1])
        write_datastore(store.get_observations(required_irf=[]), tmp_path / "store")
        store = open_datastore(tmp_path / "store")
        assert find_broken_files(store, store.obs_ids) == {}
        assert "ALT_PNT" in store.obs_table.colnames


POSITION = SkyCoord(329.7, -30.2, unit="deg")
OFF_OBS_IDS = range(101, 109)
KINDS = {
    "point-like": {"kept_irfs": make_point_like},
    "rad_max": {
        "kept_irfs": partial(make_point_like, rad_max=["0.12 deg", "0.08 deg"])
    },
    "no background": {"kept_irfs": remove_background},
    "altaz": {"irfs": partial(make_irfs, rate=0.1, fov_alignment="ALTAZ")},
}
"""Options of the simulation by the kind of the instrument."""

IRFS = {
    "point-like": {"aeff", "edisp"},
    "rad_max": {"aeff", "edisp", "rad_max"},
    "no background": {"aeff", "edisp", "psf"},
    "altaz": {"aeff", "edisp", "psf", "bkg"},
}


class Instrument(NamedTuple):
    kind: str
    path: Path
    observations: Observations

    @property
    def targets(self):
        return self.observations[["1", "2"]]

    @property
    def off(self):
        return self.observations[[str(_) for _ in OFF_OBS_IDS]]


@pytest.fixture(scope="module", params=KINDS)
def instrument(request, tmp_path_factory):
    options = {"irfs": partial(make_irfs, rate=0.1)} | KINDS[request.param]
    observations = Observations(
        [
            *simulate_observations(2, targets={"target": POSITION}, **options),
            *simulate_observations(
                len(OFF_OBS_IDS),
                first_obs_id=OFF_OBS_IDS[0],
                zenith=("10 deg", "25 deg"),
                **options,
            ),
        ]
    )
    path = tmp_path_factory.mktemp("instrument") / "store"
    write_datastore(observations, path, irfs="copy")
    read = DataStore.from_dir(path).get_observations(required_irf=[])
    return Instrument(request.param, path, read)


def get_irfs(observation):
    return {_ for _ in IRF_NAMES if get_hdu(observation, _) is not None}


def reduce_spectrum(observation, kind):
    """Reduce an observation with reflected regions, in plain Gammapy."""
    energy_axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2)
    true_axis = MapAxis.from_energy_bounds(
        "0.5 TeV", "20 TeV", nbin=4, name="energy_true"
    )
    region, options = CircleSkyRegion(POSITION, 0.1 * u.deg), {}
    if kind == "rad_max":
        region = PointSkyRegion(POSITION)
        options["region_finder"] = WobbleRegionsFinder(n_off_regions=3)
    geom = RegionGeom.create(region, axes=[energy_axis])
    makers = [
        SpectrumDatasetMaker(selection=["counts", "exposure", "edisp"]),
        ReflectedRegionsBackgroundMaker(**options),
    ]
    reference = SpectrumDataset.create(geom, energy_axis_true=true_axis)
    return reduce_observations(reference, [observation], makers)[0]


class TestInstruments:
    """Each kind of IRFs goes through all, and back through Gammapy."""

    criteria = MappingProxyType({"livetime": None, "airmass": 0.5})

    @pytest.mark.slow
    def test_simulation_has_these_irfs(self, instrument):
        for observation in instrument.observations:
            assert get_irfs(observation) == IRFS[instrument.kind]
            is_pointlike = "psf" not in IRFS[instrument.kind]
            assert observation.aeff.is_pointlike == is_pointlike
            # what Gammapy finds in the header of another IRF, it keeps as one more
            rad_max = copy.copy(observation).rad_max
            assert (rad_max is not None) == is_pointlike

    @pytest.mark.slow
    def test_mimic_store(self, instrument, tmp_path):
        """Ranked, planned, scrambled, moved, written and read back."""
        off, kind = instrument.off, instrument.kind
        selector = KLBackgroundSelector(off, dict(self.criteria))
        plan = selector.make_plan(instrument.targets, n_sets=1)
        assert not plan.questionable
        scramble = ScrambleMaker([CircleSkyRegion(off[0].target_radec, 0.3 * u.deg)])
        maker = MimicMaker(off, plan, scramble=scramble)
        mimics = maker.make_observations(instrument.targets)
        for mimic, irfs in zip(mimics, ("link", "copy"), strict=True):
            write_datastore([mimic], tmp_path / irfs, irfs=irfs)
            store = DataStore.from_dir(tmp_path / irfs)
            assert find_broken_files(store, store.obs_ids) == {}
            (read,) = store.get_observations(required_irf=[])
            assert get_irfs(read) == IRFS[kind]
            assert len(read.events.table) == len(mimic.events.table)
            assert get_fov_alignment(read) == ("altaz" if kind == "altaz" else "radec")
            if "psf" not in IRFS[kind]:
                assert_allclose(read.rad_max.quantity, mimic.rad_max.quantity)
        dataset = reduce_spectrum(read, kind)
        assert dataset.counts_off.data.sum() > 0
        assert dataset.exposure.data.min() > 0

    @pytest.mark.slow
    @pytest.mark.parametrize("dimension", ["2d", "3d"])
    def test_template(self, instrument, dimension):
        """Made of events, so that no instrument needs a background of its own."""
        selector = KLBackgroundSelector(
            instrument.off, dict(self.criteria), background=dimension
        )
        observation = selector.make_observation(instrument.targets[0])
        assert get_irfs(observation) == IRFS[instrument.kind] | {"bkg"}
        assert observation.bkg.data.sum() > 0

    def test_maps(self, instrument):
        """Without a background, maps are an error that names the way out."""
        options = {"energy_bins": 2, "binsz": "0.2 deg", "center": POSITION}
        targets = instrument.targets[["1"]]
        if instrument.kind == "altaz":
            dataset = reduce_fov_background(targets, **options)
            assert dataset.npred_background().data.sum() > 0
            return
        with pytest.raises(
            ValueError, match="OBS_ID 1 have no background IRF.*template"
        ):
            reduce_fov_background(targets, **options)

    @pytest.mark.slow
    def test_commands(self, instrument, tmp_path):
        files = [instrument.path / f"data/obs_id_{_:06d}.fits" for _ in (1, 101)]
        assert run("convert", *files, tmp_path / "mimic.fits") == 0
        region = f"{POSITION.ra.deg},{POSITION.dec.deg},0.3"
        assert (
            run("scramble", files[0], tmp_path / "scrambled.fits", "--region", region)
            == 0
        )
        # Gammapy makes a table of the RAD_MAX in a header when it reads a file
        expected = get_irfs(Observation.read(files[0]))
        for name in ("mimic", "scrambled"):
            observation = Observation.read(tmp_path / f"{name}.fits")
            assert get_irfs(observation) == expected
        options = ("--datastore", instrument.path, "--target-obs", "1,2")
        options += ("--off-obs", ",".join(map(str, OFF_OBS_IDS)), "-c", "airmass=0.5")
        assert run("rank", *options, "--outdir", tmp_path / "rank") == 0
        made = ("--outdir", tmp_path / "make", "--n-sets", 1, "--no-reduce")
        assert run("make", *options, *made) == 0
        assert run("background", *options, "--outdir", tmp_path / "background") == 0
        store = open_datastore(tmp_path / "background")
        assert get_irfs(store.obs(1, required_irf=["bkg"])) >= {"aeff", "edisp", "bkg"}

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["reflected", "ring", "fov_background"])
    def test_run(self, instrument, tmp_path, method):
        if instrument.kind in ("rad_max", "point-like") and method != "reflected":
            pytest.skip("point-like IRFs are for spectra")
        config = make_config(instrument.path, tmp_path / "run", method)
        if instrument.kind == "rad_max":
            del config["datasets"]["on_region"]["radius"]
        if instrument.kind == "no background" and method != "reflected":
            config["mimic"]["background"] = "template"
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        assert run("run", tmp_path / "config.yaml") == 0
        total = 0
        for name in ("datasets", "datasets_mimic_1", "datasets_mimic_2"):
            (dataset,) = read_datasets(tmp_path / "run" / name)
            total += np.nansum(dataset.npred_background().data)
        # a small region may have no OFF count in one of them
        assert total > 0
        assert (tmp_path / "run/systematics.fits").exists()


def make_config(path, outdir, method, radius="0.1 deg"):
    """Configuration of a run of spectra with reflected regions, or of maps."""
    center = {"frame": "icrs", "lon": "329.7 deg", "lat": "-30.2 deg"}
    parameters = {"ring": {"r_in": "0.5 deg", "width": "0.5 deg"}}
    datasets = {
        "type": "1d" if method == "reflected" else "3d",
        "map_selection": ["counts", "exposure", "background"],
        "geom": {
            "wcs": {
                "skydir": center,
                "width": {"width": "3 deg", "height": "3 deg"},
                "binsize": "0.1 deg",
            },
            "selection": {"offset_max": "2 deg"},
            "axes": {
                "energy": {"min": "1 TeV", "max": "10 TeV", "nbins": 2},
                "energy_true": {"min": "0.5 TeV", "max": "20 TeV", "nbins": 4},
            },
        },
        "on_region": center | {"radius": radius},
        "containment_correction": False,
        "safe_mask": {"methods": ["aeff-default"]},
        "background": {"method": method, "parameters": parameters.get(method, {})},
    }
    return {
        "general": {"outdir": str(outdir)},
        "observations": {
            "datastore": str(path),
            "obs_ids": [1, 2],
            "required_irf": ["aeff", "edisp"],
        },
        "datasets": datasets,
        "mimic": {
            "n_sets": 2,
            "off": {"obs_ids": list(OFF_OBS_IDS)},
            "selection": {"criteria": {"airmass": 0.5}},
        },
    }


class TestConfigurationOfInstruments:
    """What does not fit the IRFs is an error that names the key."""

    @pytest.mark.parametrize("method", ["ring", "fov_background"])
    def test_background_is_not_selected(self, tmp_path, method):
        config = make_config(tmp_path, tmp_path / "out", method)
        config["datasets"]["map_selection"] = ["counts", "exposure"]
        with pytest.raises(ValueError, match=f"datasets.map_selection: .*'{method}'"):
            MimicAnalysis(config).check_makers()

    def test_region_of_point_like_irfs(self, instrument, tmp_path):
        config = make_config(instrument.path, tmp_path, "reflected", "0.15 deg")
        errors = {
            "point-like": "on_region.radius: .*OBS_ID 1 .* for 0.1 deg.*got 0.15",
            "rad_max": "on_region.radius: .*depends on energy.*Leave radius out",
        }
        if instrument.kind not in errors:
            pytest.skip("of any region")
        with pytest.raises(ValueError, match=errors[instrument.kind]):
            MimicAnalysis(config).reduce(instrument.targets)


@pytest.fixture(scope="module")
def veritas(veritas_store):
    """The four runs of the Crab nebula: two targets, and two as OFF observations."""
    obs_ids = need_runs(veritas_store, 64080, 64081, 64082, 64083)
    targets = veritas_store.get_observations(obs_ids[:2], required_irf="point-like")
    return targets, select_datastore(veritas_store, obs_ids[2:])


class TestVeritas:
    """One OBJECT and one field, point-like, without PSF and background."""

    crab = CircleSkyRegion(SkyCoord(83.633, 22.014, unit="deg"), 0.3 * u.deg)
    criteria = MappingProxyType({"galactic_latitude": None, **ANY_FIELD})

    def test_rank(self, veritas):
        targets, off = veritas
        regions = [self.crab]
        selector = KLBackgroundSelector(
            off, {"galactic_latitude": None}, exclusion_regions=regions
        )
        with pytest.raises(ValueError, match="same_object: false.*same_field: false"):
            selector.make_plan(targets)
        selector.criteria = dict(self.criteria)
        table = selector.rank(targets[0])
        assert sorted(table["OFF_OBS_ID"]) == [64082, 64083]
        assert "rejected" not in table["STATUS"]

    @pytest.mark.slow
    def test_mimics_have_no_crab(self, veritas, tmp_path):
        """Hidden in the OFF observations, and looked for in the mimics by spectra."""
        targets, off = veritas
        selector = KLBackgroundSelector(
            off, dict(self.criteria), exclusion_regions=[self.crab]
        )
        plan = selector.make_plan(targets, n_sets=1)
        scramble = ScrambleMaker([self.crab], method="fill")
        maker = MimicMaker(off, plan, scramble=scramble)
        write_datastore(maker.make_observations(targets), tmp_path / "mimic")
        mimics = DataStore.from_dir(tmp_path / "mimic").get_observations(
            required_irf="point-like"
        )
        significance = []
        for observations in (targets, mimics):
            datasets = [self.reduce(observations[0]), self.reduce(observations[1])]
            tables = [_.info_dict() for _ in datasets]
            counts, excess = (sum(_[n] for _ in tables) for n in ("counts", "excess"))
            significance.append(excess / np.sqrt(max(counts, 1)))
            for observation in observations:
                columns = {"Xoff", "Yoff"}
                assert columns <= set(observation.events.table.colnames)
        assert significance[0] > 10
        assert abs(significance[1]) < 4

    def reduce(self, observation):
        region = CircleSkyRegion(self.crab.center, observation.rad_max.quantity[0, 0])
        axes = [MapAxis.from_energy_bounds("0.3 TeV", "10 TeV", nbin=3)]
        true_axis = MapAxis.from_energy_bounds(
            "0.2 TeV", "20 TeV", nbin=8, name="energy_true"
        )
        reference = SpectrumDataset.create(
            RegionGeom.create(region, axes=axes), energy_axis_true=true_axis
        )
        makers = [
            SpectrumDatasetMaker(selection=["counts", "exposure", "edisp"]),
            ReflectedRegionsBackgroundMaker(),
        ]
        return reduce_observations(reference, [observation], makers)[0]
