"""Archives of other instruments: what is optional in them is there, missing or odd."""

from functools import partial

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Column, MaskedColumn, Table
from astropy.time import Time
from gammapy.data import DataStore

from gammapy_mimic import KLBackgroundSelector, MimicMaker
from gammapy_mimic.analysis import MimicAnalysisConfig
from gammapy_mimic.analysis.factory import MakerFactory
from gammapy_mimic.data import query_obs_table
from gammapy_mimic.selection import MatchCriteria, MimicPlan
from gammapy_mimic.selection.criteria import Conditions
from gammapy_mimic.simulate import make_irfs, simulate_datastore

from .helpers import make_obs_table

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
    criteria = MatchCriteria(galactic_latitude=None, **criteria)
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

    def test_selector_says_the_way_out(self, stores):
        observations = stores["off"].get_observations([101, 102, 103])
        selector = KLBackgroundSelector(observations, {"livetime": None})
        with pytest.raises(ValueError, match="same_object: false"):
            selector.make_plan([observations[0]])
        selector.criteria = {"livetime": None, "airmass": None, **ANY_FIELD}
        table = selector.rank(observations[0])
        reasons = dict(zip(table["OFF_OBS_ID"], table["REASONS"], strict=True))
        assert reasons == {101: "same_observation", 102: "", 103: ""}


@pytest.fixture(scope="class")
def catalog(stores, tmp_path_factory):
    """A source that is 1 deg from the pointing of an OFF observation."""
    path = tmp_path_factory.mktemp("catalog") / "sources.ecsv"
    pointing = stores["off"].obs_table.pointing_radec[0]
    source = pointing.directional_offset_by(0 * u.deg, 1 * u.deg)
    columns = [[source.ra.deg], [source.dec.deg], ["near"]]
    Table(columns, names=["ra", "dec", "name"]).write(path)
    return str(path)


class TestRadiusOfExclusion:
    """Where sources are looked for is no matter of which fields are the same."""

    @pytest.fixture
    def find_names(self, stores, catalog):
        def find_names(criteria=None, **exclusion):
            targets, off = (
                {"datastore": str(stores[name].hdu_table.base_dir)}
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
            observations = stores["targets"].get_observations()
            config = MimicAnalysisConfig.from_dict(data)
            return MakerFactory(config, observations).exclusion_regions.names

        return find_names

    def test_small_field_radius_keeps_the_regions(self, find_names):
        assert find_names() == ["near"]
        assert find_names({"field_radius": "0.1 deg"}) == ["near"]

    def test_radius_of_its_own(self, find_names):
        assert find_names(fov_radius="0.8 deg") == ["near"]
        assert find_names({"field_radius": "5 deg"}, fov_radius="0.6 deg") == []

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
        criteria = {"livetime": None, "airmass": None, "nsb": 10}
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
                "mimic": {"exclusion": {"catalogs": [str(tmp_path / "catalog.ecsv")]}},
            }
        )
        factory = MakerFactory(config, archive["targets"].get_observations())
        assert factory.exclusion_regions.names == ["near"]
