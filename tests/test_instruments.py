"""Archives of other instruments: what is optional in them is there, missing or odd."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table

from gammapy_mimic import KLBackgroundSelector
from gammapy_mimic.analysis import MimicAnalysisConfig
from gammapy_mimic.analysis.factory import MakerFactory
from gammapy_mimic.selection import MatchCriteria, MimicPlan
from gammapy_mimic.selection.criteria import Conditions

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
