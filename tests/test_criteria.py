import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle, SkyCoord
from gammapy.data import ObservationTable
from numpy.testing import assert_allclose
from regions import CircleSkyRegion

from gammapy_mimic.selection import MatchCriteria
from gammapy_mimic.selection.conditions import Conditions

from .helpers import select_runs


def make_table(n_obs=3, **columns):
    """Table of observations that differ in nothing but OBS_ID, pointing and name."""
    table = ObservationTable()
    table["OBS_ID"] = np.arange(n_obs) + 1
    table["RA_PNT"] = 10.0 * np.arange(n_obs) * u.deg
    table["DEC_PNT"] = np.zeros(n_obs) * u.deg
    table["OBJECT"] = [f"field {_}" for _ in range(n_obs)]
    table["ALT_PNT"] = np.full(n_obs, 60.0) * u.deg
    table["AZ_PNT"] = np.full(n_obs, 180.0) * u.deg
    table["LIVETIME"] = np.full(n_obs, 1600.0) * u.s
    table["TSTART"] = np.zeros(n_obs) * u.s
    table["N_TELS"] = np.full(n_obs, 4)
    table["MUONEFF"] = np.full(n_obs, 0.8)
    table["NSBLEVEL"] = np.full(n_obs, 5.0)
    table.meta.update(MJDREFI=51910, MJDREFF=0.0, TIMESYS="TT")
    for name, values in columns.items():
        unit = table[name].unit if name in table.colnames else None
        table[name] = values
        table[name].unit = unit
    return table


def find_rejected(table, criteria):
    """Criteria that reject the second observation as a partner of the first."""
    conditions = Conditions.from_obs_table(table)
    rejected = MatchCriteria.create(criteria).reject(conditions[0], conditions)
    return {name for name, mask in rejected.items() if mask[1]}


NO_CUTS = dict.fromkeys(
    ("livetime", "airmass", "zenith", "muon_efficiency", "galactic_latitude")
)

ALT_OF_AIRMASS = np.degrees(np.arcsin(1 / np.array([1.0, 1.14, 1.16])))


@pytest.mark.parametrize(
    ("name", "value", "column", "values"),
    [
        ("livetime", 0.1, "LIVETIME", [1000, 5000, 899]),
        ("livetime", 0.1, "LIVETIME", [1000, 901, 899]),
        ("airmass", 0.15, "ALT_PNT", ALT_OF_AIRMASS),
        ("azimuth", "45 deg", "AZ_PNT", [100, 144, 146]),
        ("nsb", 0.5, "NSBLEVEL", [5, 5.4, 5.6]),
        ("n_tels", 0, "N_TELS", [4, 4, 3]),
        ("muon_efficiency", 0.1, "MUONEFF", [0.8, 0.73, 0.71]),
        ("time_difference", "30 d", "TSTART", [0, 29 * 86400, -31 * 86400]),
        ("epochs", ["2001-06-01"], "TSTART", [0, 86400, 365 * 86400]),
        ("elevation", ["50 deg", "70 deg"], "ALT_PNT", [80, 50, 49]),
        ("galactic_latitude", "10 deg", "DEC_PNT", [0, 0, 0]),
        ("exclude_objects", ["Crab "], "OBJECT", ["x", "y", "CRAB"]),
        ("exclude_obs_ids", [3], "OBS_ID", [1, 2, 3]),
    ],
)
def test_criterion_keeps_the_second_and_rejects_the_third(name, value, column, values):
    table = make_table(**{column: values})
    if name == "galactic_latitude":
        table["RA_PNT"] = [0, 10, 266.4] * u.deg
        table["DEC_PNT"] = [0, 0, -29] * u.deg
    conditions = Conditions.from_obs_table(table)

    rejected = MatchCriteria(**{**NO_CUTS, name: value}).reject(
        conditions[0], conditions
    )

    assert rejected[name].tolist()[1:] == [False, True]
    others = {key for key, mask in rejected.items() if mask[2]} - {name}
    assert not others


def test_azimuth_differences_not_wrapped_at_360():
    table = make_table(2, AZ_PNT=[350, 20])
    assert "azimuth" not in find_rejected(table, {"azimuth": "31 deg"})
    assert "azimuth" in find_rejected(table, {"azimuth": "29 deg"})


def test_degrees_compared_with_radians():
    """Angles are compared in one unit, whatever unit column and criterion have."""
    table = make_table(2, AZ_PNT=[180, 200])
    for value in ("21 deg", "0.37 rad", Angle(21, "deg")):
        assert "azimuth" not in find_rejected(table, {"azimuth": value})
    assert "azimuth" in find_rejected(table, {"azimuth": "19 deg"})
    table["AZ_PNT"] = table["AZ_PNT"].quantity.to("rad")
    assert "azimuth" in find_rejected(table, {"azimuth": "19 deg"})


def test_row_0_is_the_run_itself():
    """The observation itself is found by OBS_ID, in whatever row it is."""
    table = make_table(3)[[2, 1, 0]]
    conditions = Conditions.from_obs_table(table)
    rejected = MatchCriteria(**NO_CUTS).reject(conditions[1], conditions)
    assert rejected["same_observation"].tolist() == [False, True, False]


def test_livetime_compared_with_the_wrong_run():
    """Ten percent are those of the target, not of the OFF observation."""
    short_off = make_table(2, LIVETIME=[1000, 905])
    assert "livetime" not in find_rejected(short_off, {"livetime": 0.1})
    shorter_off = make_table(2, LIVETIME=[1000, 895])
    assert "livetime" in find_rejected(shorter_off, {"livetime": 0.1})


def test_misspelt_config_key_silently_ignored():
    with pytest.raises(ValueError, match="'airmas'.*Did you mean 'airmass'"):
        MatchCriteria.create({"airmas": 0.1})


def test_same_object_and_same_field_are_rejected_by_default():
    table = make_table(2, OBJECT=["Crab", " crab "])
    assert find_rejected(table, NO_CUTS) == {"same_object"}

    table = make_table(2, RA_PNT=[0.0, 3.0])
    assert find_rejected(table, {**NO_CUTS, "field_radius": "2.9 deg"}) == set()
    assert find_rejected(table, {**NO_CUTS, "field_radius": "3.1 deg"}) == {
        "same_field"
    }


def test_same_field_is_judged_by_the_position_of_the_target():
    table = make_table(2, RA_PNT=[0.0, 3.0])
    table["RA_OBJ"] = [1.0, 3.0] * u.deg
    table["DEC_OBJ"] = [0.0, 0.0] * u.deg
    assert find_rejected(table, {**NO_CUTS, "field_radius": "2.5 deg"}) == {
        "same_field"
    }


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"RA_OBJ": [0.0, 0], "DEC_OBJ": [0.0, 0]},
        {"RA_OBJ": [np.nan, np.nan], "DEC_OBJ": [-30.0, -30]},
        {"RA_OBJ": [-999.0, -999], "DEC_OBJ": [-999.0, -999]},
        {"RA_OBJ": [266.4, 266.4], "DEC_OBJ": [-29.0, -29]},
        {"OBJECT": ["", ""]},
        {"OBJECT": ["unknown", "N/A"], "RA_OBJ": [0.0, 0], "DEC_OBJ": [0.0, 0]},
    ],
)
def test_wobbles_of_one_source_are_one_field(columns):
    """No matter whether the header tells what was observed, and whether it is true."""
    table = make_table(2, RA_PNT=[83.1, 84.1], DEC_PNT=[22.0, 22.0], **columns)
    assert find_rejected(table, NO_CUTS) == {"same_field"}
    table["RA_PNT"] = [83.1, 90.1] * u.deg
    assert find_rejected(table, NO_CUTS) == set()


def test_field_of_the_pointing_and_of_the_object():
    """A target that is at the edge of its own field of view."""
    columns = {"RA_OBJ": [12.0, 50], "DEC_OBJ": [0.0, 0], "DEC_PNT": [0.0, 0]}
    for lon, is_same in ((7.6, True), (14.4, True), (7.4, False), (14.6, False)):
        table = make_table(2, RA_PNT=[10.0, lon], **columns)
        assert (find_rejected(table, NO_CUTS) == {"same_field"}) is is_same


def test_names_that_stand_for_none():
    """Not the same object, or all observations of an archive would be."""
    for name in ("", "None", " unknown ", "N/A"):
        table = make_table(2, OBJECT=[name, name])
        assert find_rejected(table, NO_CUTS) == set()
    assert find_rejected(make_table(2, OBJECT=["M 87", " m 87"]), NO_CUTS) == {
        "same_object"
    }


def test_exclude_circles():
    table = make_table(2)
    circle = CircleSkyRegion(SkyCoord(9, 0, unit="deg"), 2 * u.deg)
    for value in ([circle], [("9 deg", "0 deg", "2 deg")]):
        assert find_rejected(table, {**NO_CUTS, "exclude_circles": value}) == {
            "exclude_circles"
        }
    assert not find_rejected(
        table, {**NO_CUTS, "exclude_circles": [("9 deg", "0 deg", "0.5 deg")]}
    )


def test_off_field_can_hold_a_source_found_since(hess_store):
    """SN 1006, Cen A, NGC 253 and 1ES 0414+009 are among the H.E.S.S. OFF targets."""
    off = select_runs(hess_store, "offdata")
    conditions = Conditions.from_obs_table(off)
    sources = ["SN 1006", "Cen A", "NGC 253", "1ES 0414+009"]
    by_name = MatchCriteria(**NO_CUTS, exclude_objects=sources)
    circles = [
        ("225.6 deg", "-41.9 deg", "2 deg"),
        ("201.4 deg", "-43.0 deg", "2 deg"),
        ("11.9 deg", "-25.3 deg", "2 deg"),
        ("64.2 deg", "1.1 deg", "2 deg"),
    ]
    by_position = MatchCriteria(**NO_CUTS, exclude_circles=circles)

    named = by_name.reject(conditions[0], conditions)["exclude_objects"]
    near = by_position.reject(conditions[0], conditions)["exclude_circles"]

    assert named.sum() == 9
    # one run of 1ES 0414+009 has the right name and points elsewhere
    assert np.sum(near & ~named) == 0
    assert near.sum() == 8


def test_unknown_value_is_rejected():
    table = make_table(2, NSBLEVEL=[5, np.nan])
    assert find_rejected(table, {**NO_CUTS, "nsb": 100}) == {"nsb"}


def test_missing_column(caplog):
    table = make_table(2)
    table.remove_columns(["NSBLEVEL", "MUONEFF"])
    conditions = Conditions.from_obs_table(table)
    options = {"nsb": 1, "muon_efficiency": 0.1}

    skipped = MatchCriteria(**options).check_columns(conditions)

    assert skipped == {"nsb", "muon_efficiency"}
    assert len(caplog.records) == 1
    assert "['muon_efficiency', 'nsb']" in caplog.text
    with pytest.raises(ValueError, match="nsb"):
        MatchCriteria(**options, strict=True).check_columns(conditions)


def test_elevation_from_zenith():
    table = make_table(2)
    table["ZEN_PNT"] = [30.0, 60.0] * u.deg
    table.remove_column("ALT_PNT")
    assert_allclose(Conditions.from_obs_table(table).elevation, [60, 30])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"azimuth": "10"}, "azimuth"),
        ({"azimuth": "10 TeV"}, "azimuth.*'10 TeV'"),
        ({"livetime": -0.1}, "livetime must be a finite number of 0.*-0.1"),
        ({"azimuth": "-5 deg"}, "azimuth must be an angle from 0 to 180 deg"),
        ({"time_difference": "5 deg"}, "time_difference"),
        ({"elevation": ["50 deg"]}, "range of two"),
        ({"exclude_objects": "Crab"}, "list of names"),
        ({"livetime": "much"}, "livetime.*'much'"),
    ],
)
def test_invalid_value(options, match):
    with pytest.raises(ValueError, match=match):
        MatchCriteria(**options)


def test_missing_pointing():
    table = make_table(2)
    table.remove_column("RA_PNT")
    with pytest.raises(ValueError, match="RA_PNT"):
        Conditions.from_obs_table(table)
