"""Nights of OFF observations, in the configuration."""

import types

import numpy as np
import pytest
from astropy.table import Table

from gammapy_mimic.analysis import MimicAnalysisConfig
from gammapy_mimic.analysis.factory import MakerFactory
from gammapy_mimic.analysis.nights import find_nights


@pytest.fixture
def table():
    """Two nights of three observations, not in order, and one years later."""
    hours = np.array([34.0, 0, 10.9, 24, 5, 29, 90_000])
    table = Table({"OBS_ID": [7, 1, 3, 4, 2, 6, 9], "TSTART": hours * 3600})
    table["RA_PNT"] = table["DEC_PNT"] = 10.0
    table["NIGHT"] = ["b", "a", "a", "b", "a ", "b", "c"]
    table.meta |= {"MJDREFI": 53000, "MJDREFF": 0.0, "TIMESYS": "TT"}
    return table


@pytest.mark.parametrize("column", [None, "NIGHT"])
def test_nights(table, column):
    nights = find_nights(table, column)
    names = [nights[_] for _ in (1, 2, 3, 4, 6, 7, 9)]
    assert len(set(names)) == 3
    assert names == [*[names[0]] * 3, *[names[3]] * 3, names[6]]


def test_what_has_no_night(table):
    with pytest.raises(ValueError, match="no column 'DATE'.*Choose from .*NIGHT"):
        find_nights(table, "DATE")
    table["NIGHT"][2] = ""
    with pytest.raises(ValueError, match=r"OBS_ID \[3\] have no value in the column"):
        find_nights(table, "NIGHT")
    table["TSTART"][1] = np.nan
    with pytest.raises(ValueError, match=r"OBS_ID \[1\] have no TSTART"):
        find_nights(table)
    table.remove_column("TSTART")
    with pytest.raises(ValueError, match="Give the name of a column of nights"):
        find_nights(table)


@pytest.mark.parametrize("nights", [False, True, "NIGHT"])
def test_configuration(table, nights):
    config = MimicAnalysisConfig.from_yaml(
        f"datasets: {{stack: false}}\nmimic: {{systematics: {{nights: {nights}}}}}"
    )
    assert config.mimic.systematics.nights == nights
    factory = types.SimpleNamespace(
        config=config, off_datastore=types.SimpleNamespace(obs_table=table)
    )
    found = MakerFactory.systematics_nights.fget(factory)
    assert (found is None) if nights is False else len(set(found.values())) == 3


def test_nights_of_stacked_datasets():
    with pytest.raises(ValueError, match="nights.*left out with datasets.stack"):
        MimicAnalysisConfig.from_yaml(
            "datasets: {stack: true}\nmimic: {systematics: {nights: true}}"
        )
