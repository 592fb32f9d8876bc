"""What the report says of a plan: its pairs, their statuses, and what is left out."""

import numpy as np
import pytest
from astropy.table import Table
from gammapy.datasets import Datasets

from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.report import make_answer, make_report
from gammapy_mimic.report.column_descriptions import COLUMN_DESCRIPTIONS
from gammapy_mimic.selection import MimicPlan

from .test_report import Page, make_dataset

STATUS = ["ok", "differs", "undecided", "large_kl", "no_mimic"]


@pytest.fixture(scope="module")
def result():
    sets = {_: Datasets([make_dataset(1, 100 + _)]) for _ in (1, 2)}
    return MimicSystematicsEstimator("0.2 deg").run(sets)


@pytest.fixture(scope="module")
def plan():
    table = Table({"OBS_ID": np.arange(5) + 1, "OFF_OBS_ID": [11, 12, 13, 14, -1]})
    table["STATUS"] = STATUS
    values = {"KL_CORR": 0.000312, "P_VALUE": 0.000213, "DISTANCE": 1.23456}
    values |= {"RATE_RATIO": 0.87654, "DELTA_ZENITH": -3.4567, "ENERGY_MIN": 0.51234}
    values |= {"ONTIME": 1690.0, "LIVETIME": 1605.4, "LIVETIME_RATIO": 1.0512}
    values |= {"CUT_START": 12.345, "CUT_STOP": 1612.345, "DELTA_RMS": 0.02498}
    for name, value in values.items():
        table[name] = np.where(table["OFF_OBS_ID"] == -1, np.nan, value)
    table["DELTA_ZENITH"][1] = -0.003
    return MimicPlan(table)


@pytest.fixture(scope="module")
def page(tmp_path_factory, result, plan):
    path = tmp_path_factory.mktemp("report") / "report.html"
    make_report(result, path, plan=plan)
    return Page(path)


@pytest.mark.slow
def test_what_is_left_out(page):
    assert "Pairs: 1 ok, 1 differs, 1 undecided, 1 large_kl, 1 no_mimic." in page.text
    assert "Left out, as none is like it: OBS_ID 4 (large_kl)." in page.text
    assert "Left out, as there is no partner: OBS_ID 5 (no_mimic)." in page.text
    assert "No target is questionable" not in page.text


@pytest.mark.slow
def test_nothing_is_left_out(tmp_path, result):
    make_report(result, tmp_path / "report.html", plan={1: 11, 2: 12})
    text = Page(tmp_path / "report.html").text
    assert "Pairs: 2 ok. No target is left out." in text


def test_statuses_are_explained(page):
    text = COLUMN_DESCRIPTIONS["plan"]["STATUS"]
    assert all(f"{_}:" in text for _ in STATUS)
    assert text in page.text


def test_p_value_of_a_chosen_pair_is_none(page):
    assert "none for pairs that were chosen by it" in page.text


def test_columns_that_say_most_come_first(page):
    """What tells of the pair is in view, what only helps to cut is in the file."""
    table = page.tables["table-plan"]
    assert table.names[:4] == ["OBS_ID", "MIMIC_SET", "OFF_OBS_ID", "STATUS"]
    assert set(table.names) == {
        *("OBS_ID", "MIMIC_SET", "OFF_OBS_ID", "STATUS", "DISTANCE", "DELTA_ZENITH"),
        *("RATE_RATIO", "LIVETIME_RATIO", "ENERGY_MIN", "CUT_START", "CUT_STOP"),
        *("KL_CORR", "P_VALUE", "DELTA_RMS"),
    }
    row = dict(zip(table.names, table.texts[-1], strict=True))
    assert row["DISTANCE"] == "1.23"
    assert row["RATE_RATIO"] == "0.88"
    assert row["DELTA_ZENITH"] == "-3.5"
    assert row["KL_CORR"] == "0.0003"
    assert row["P_VALUE"] == "0.00021"
    assert row["DELTA_RMS"] == "0.025"
    assert row["CUT_START"] == "12"
    assert page.tables["table-plan"].texts[-2][5] == "0.0"
    # sorted by what is known
    values = dict(zip(table.names, table.values[-1], strict=True))
    assert float(values["DISTANCE"]) == 1.23456


@pytest.mark.parametrize(
    ("rates", "text"),
    [
        ([0.661, 0.664, 0.67], "3 mimic sets have 66% to 67% of the target's rate"),
        ([0.661, 0.662, 0.663], "3 mimic sets have 66% of the target's rate"),
        ([0.6, 0.7, 1.0], "Mimic set 1 has 60%, Mimic set 2 has 70% of the target's"),
    ],
)
def test_rates_of_sets(result, rates, text):
    table = Table({"OBS_ID": [1, 1, 1], "OFF_OBS_ID": [11, 12, 13]})
    table["MIMIC_SET"], table["RATE_RATIO"] = [1, 2, 3], rates
    limits = make_answer(result, MimicPlan(table)).limits
    assert any(text in _ for _ in limits)
