"""Criteria with values that make no sense, in Python, YAML and on the command line."""

import dataclasses
import datetime

import astropy.units as u
import numpy as np
import pytest
import yaml
from astropy.coordinates import SkyCoord
from astropy.time import Time
from regions import CircleSkyRegion, PointSkyRegion

from gammapy_mimic.analysis import MimicAnalysisConfig
from gammapy_mimic.scripts.main import main
from gammapy_mimic.selection import MatchCriteria
from gammapy_mimic.template import make_group_labels

from .helpers import make_obs_table

GOOD = {
    "livetime": 0.2,
    "airmass": 0.1,
    "zenith": "10 deg",
    "azimuth": "45 deg",
    "nsb": 3,
    "n_tels": 1,
    "muon_efficiency": 0.1,
    "rate": 1.5,
    "effective_area": 1.2,
    "time_difference": "10 d",
    "epochs": ["2004-01-01", "2013-01-01T12:00:00"],
    "galactic_latitude": "5 deg",
    "elevation": ["30 deg", "60 deg"],
    "exclude_objects": ["Crab", "Vela X"],
    "exclude_circles": [["10 deg", "20 deg", "1 deg"]],
    "exclude_obs_ids": [1, 2],
    "same_object": False,
    "same_field": False,
    "field_radius": "2 deg",
    "columns": {"ZTRGRATE": {"max_difference": 0.1, "relative": True, "weight": 2}},
    "weights": {"azimuth": 0, "rate": 2},
    "strict": True,
}
NAMES = [_.name for _ in dataclasses.fields(MatchCriteria)]
SWITCHES = [name for name, value in GOOD.items() if isinstance(value, bool)]
DICTS = [name for name, value in GOOD.items() if isinstance(value, dict)]
LISTS = [name for name, value in GOOD.items() if isinstance(value, list)]

NONSENSE = [
    *(np.nan, np.inf, -np.inf, -1, -0.5, 1e400, 3 + 1j),
    *("nonsense", "", "[1", "10 TeV", "-5 deg", "-5 d", "nan deg", "inf d", "1 m"),
    *({"a": 1}, [[]], [None], [True], [np.nan], [-1], [{}], [""], ((),)),
    *(b"x", object, datetime.timedelta(1), -1 * u.deg, np.inf * u.d, [3 * u.TeV]),
    *(np.array([np.nan]), np.array(["x", "y"]).reshape(1, 2), np.zeros((2, 2))),
]
"""Values that make sense for no criterion."""


def find_errors(name, value):
    """The error of a criterion."""
    with pytest.raises(ValueError, match=f"^{name} must be ") as caught:
        MatchCriteria(**{name: value})
    text = str(caught.value)
    assert text.endswith(f", got {value!r}")
    assert text.count(" got ") == 1
    return text


def test_there_is_a_good_value_of_each():
    assert list(GOOD) == NAMES
    MatchCriteria(**GOOD)


@pytest.mark.parametrize("value", NONSENSE, ids=repr)
@pytest.mark.parametrize("name", NAMES)
def test_nonsense(name, value):
    find_errors(name, value)


@pytest.mark.parametrize("name", [_ for _ in NAMES if _ not in DICTS])
def test_empty_dict(name):
    find_errors(name, {})


@pytest.mark.parametrize("name", NAMES)
def test_wrong_shape(name):
    good = GOOD[name]
    find_errors(name, good[0] if name in LISTS else [good])


@pytest.mark.parametrize("name", [_ for _ in NAMES if _ not in SWITCHES])
@pytest.mark.parametrize("value", [True, np.True_])
def test_truth_is_no_number(name, value):
    find_errors(name, value)


@pytest.mark.parametrize(
    ("name", "value", "bounds"),
    [
        ("livetime", -1, "a finite number of 0 or more, or null for none"),
        ("n_tels", 1.5, "a whole number of 0 or more"),
        ("azimuth", "181 deg", "an angle from 0 to 180 deg such as .0.3 deg., or null"),
        ("galactic_latitude", "91 deg", "an angle from 0 to 90 deg"),
        ("field_radius", "0 deg", "an angle above 0 and up to 180 deg"),
        ("field_radius", None, "an angle above 0.*same_field: false"),
        ("time_difference", "10 m", "a time of 0 or more such as '30 d'"),
        ("time_difference", 10, "a time of 0 or more such as '30 d'"),
        ("epochs", [2004], "a list of dates such as .'2004-01-01'"),
        ("epochs", ["2004-13-01"], "a list of dates"),
        ("elevation", ["60 deg", "30 deg"], "a range of two angles from 0 to 90 deg"),
        ("elevation", ["50 deg"], "a range of two angles"),
        ("exclude_objects", "Crab", "a list of names"),
        ("exclude_circles", "foo", "a list of circles such as .*'83.6 deg'"),
        ("exclude_circles", [["10 deg", "91 deg", "1 deg"]], "a list of circles"),
        ("exclude_circles", [["10 deg", "9 deg", "0 deg"]], "a list of circles"),
        ("exclude_circles", [["10 deg", "9 deg"]], "a list of circles"),
        ("exclude_obs_ids", [1.5], "a list of OBS_IDs such as"),
        ("strict", "yes", "true or false"),
    ],
)
def test_bounds(name, value, bounds):
    with pytest.raises(ValueError, match=f"^{name} must be {bounds}"):
        MatchCriteria(**{name: value})


def test_other_regions():
    center = SkyCoord(1, 2, unit="deg")
    find_errors("exclude_circles", [PointSkyRegion(center)])
    find_errors("exclude_circles", CircleSkyRegion(center, 1 * u.deg))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("livetime", 0),
        ("livetime", np.float32(0.25)),
        ("livetime", "1e-1"),
        ("livetime", 10 * u.percent),
        ("n_tels", np.int64(2)),
        ("azimuth", 45 * u.deg),
        ("time_difference", 3 * u.yr),
        ("epochs", Time(["2004-01-01", "2013-01-01"])),
        ("epochs", (Time(53000, format="mjd"),)),
        ("elevation", [30, 60] * u.deg),
        ("exclude_objects", np.array(["Crab"])),
        ("exclude_circles", [CircleSkyRegion(SkyCoord("0d", "1d"), 1 * u.deg)]),
        ("exclude_obs_ids", np.array([1, 2])),
        ("exclude_obs_ids", ["0001"]),
    ],
)
def test_values_from_python(name, value):
    assert getattr(MatchCriteria(**{name: value}), name) is not None


@pytest.mark.parametrize("name", [_ for _ in NAMES if _ != "field_radius"])
def test_none_switches_off(name):
    value = getattr(MatchCriteria(**{name: None}), name)
    assert not value


@pytest.mark.parametrize(
    "dates",
    [
        "2004-01-01",
        "2004-01-01T00:00:00Z",
        "2004-01-01 00:00:00",
        "2004-01-01T02:00:00+02:00",
    ],
)
def test_dates_of_yaml(dates):
    """YAML makes dates of them."""
    (value,) = yaml.safe_load(f"[{dates}]")
    assert isinstance(value, datetime.date)
    criteria = MatchCriteria(epochs=[value, "2013-01-01"])
    assert criteria.epochs[0].isot == "2004-01-01T00:00:00.000"
    text = f"mimic: {{selection: {{criteria: {{epochs: [{dates}]}}}}}}"
    config = MimicAnalysisConfig.from_yaml(text)
    again = MimicAnalysisConfig.from_yaml(config.to_yaml())
    epochs = [
        MatchCriteria.create(_.mimic.selection.criteria).epochs.isot.tolist()
        for _ in (config, again)
    ]
    assert epochs == [["2004-01-01T00:00:00.000"]] * 2


@pytest.mark.parametrize("criteria", [5, "livetime", ["livetime"], [1]])
def test_no_dict(criteria):
    with pytest.raises(ValueError, match="criteria must be a dict .* got"):
        MatchCriteria.create(criteria)


TEXTS = [".nan", ".inf", "-1", "nonsense", "10 TeV", "[[]]", "[.nan]", "{a: 1}"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", NAMES)
def test_in_yaml(name, text):
    text = (
        "mimic:\n  selection:\n    criteria:\n"
        f"      # a comment\n      {name}: {text}\n      "
    )
    key = f"mimic.selection.criteria.{name}"
    match = f"^configuration, line 5: {key}: must be .*, got "
    with pytest.raises(ValueError, match=match) as caught:
        MimicAnalysisConfig.from_yaml(text)
    assert str(caught.value).count("got ") == 1


OBS_IDS = ("--target-obs", "1", "--off-obs", "2")


def run_rank(capsys, *criteria):
    """What is said of options, before any data are read."""
    options = [_ for criterion in criteria for _ in ("-c", criterion)]
    with pytest.raises(SystemExit):
        main(["rank", "--datastore", "none", *OBS_IDS, *options])
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", NAMES)
def test_on_the_command_line(name, text, capsys):
    said = run_rank(capsys, f"{name}={text}")
    assert said.startswith(f"Error: {name} must be ")
    assert ", got " in said


@pytest.mark.parametrize("text", ["[1", "{", "a: b: c", "'x", "*a", "[" * 40, ""])
@pytest.mark.parametrize("name", NAMES)
def test_no_value_on_the_command_line(name, text, capsys):
    said = run_rank(capsys, f"{name}={text}")
    assert f"Invalid value for '--criterion' / '-c': {name}: " in said
    assert "a number, a text or a list in YAML" in said
    assert "unicode string" not in said


@pytest.mark.parametrize("text", ["livetime", "=3", ""])
def test_no_name_on_the_command_line(text, capsys):
    assert "is not of the form NAME=VALUE" in run_rank(capsys, text)


def test_good_values_on_the_command_line(capsys):
    """All go through, and the datastore is missing."""
    texts = [f"{name}={yaml.safe_dump(GOOD[name])}" for name in NAMES]
    texts = [_.removesuffix("\n").removesuffix("\n...") for _ in texts]
    assert "Datastore not found" in run_rank(capsys, *texts)
    said = run_rank(capsys, "epochs=[2004-01-01, 2013-01-01]")
    assert "Datastore not found" in said


@pytest.mark.parametrize(
    "edges",
    [
        *(3, None, True, "0, 30", {}, [], [1], [30, 0], [0, 0], ["a", "b"]),
        *([0, np.nan], [0, np.inf, 90], [True, 2], [[0, 1]], [0, None], [0, 1] * u.TeV),
        *([0, "30"], object),
    ],
    ids=repr,
)
def test_edges_of_groups(edges):
    table = make_obs_table({"OBS_ID": [1, 2], "ZEN_PNT": [10.0, 20.0] * u.deg})
    with pytest.raises(ValueError, match="^The edges of 'ZEN_PNT' must be ") as caught:
        make_group_labels(table, {"ZEN_PNT": edges})
    assert str(caught.value).endswith(f", got {edges!r}.")
