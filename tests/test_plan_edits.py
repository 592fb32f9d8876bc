"""What users edit in a plan, or ask of it, is taken as they mean it or refused."""

import numpy as np
import pytest
from astropy.table import Table

from gammapy_mimic.selection import MimicPlan
from gammapy_mimic.selection.plan_columns import STATUSES

WHOLE = {"CUT_START": np.full(2, np.nan), "CUT_STOP": np.full(2, np.nan)}


def make_table(n_rows=2, **columns):
    """A table of a plan with numbers in all columns of pairs."""
    number = np.arange(n_rows) + 1
    numbers = dict.fromkeys(("KL_DIV", "KL_CORR", "LIVETIME_RATIO"), np.ones(n_rows))
    times = dict.fromkeys(("ONTIME", "LIVETIME"), np.full(n_rows, 1600.0))
    cuts = {"CUT_START": np.full(n_rows, 10.0), "CUT_STOP": np.full(n_rows, 20.0)}
    pairs = {"OBS_ID": number, "OFF_OBS_ID": 10 + number, **numbers, **times, **cuts}
    return Table(pairs | {"STATUS": ["ok"] * n_rows} | columns)


class TestStatus:
    @pytest.mark.parametrize("status", [" ok", "ok  ", b"large_kl ", "undecided"])
    def test_known(self, status):
        table = Table({"OBS_ID": [1], "OFF_OBS_ID": [11], "STATUS": [status]})
        text = status if isinstance(status, str) else status.decode()
        assert MimicPlan(table).table["STATUS"].tolist() == [text.strip()]

    def test_without_one_is_filled(self):
        table = make_table(STATUS=np.ma.array(["x", " "], mask=[True, False]))
        assert MimicPlan(table).table["STATUS"].tolist() == ["ok", "ok"]

    @pytest.mark.parametrize("status", ["bad", "OK", "large_kl_and_more", "rejected"])
    def test_unknown(self, tmp_path, status):
        path = tmp_path / "plan.ecsv"
        make_table(STATUS=["ok", status]).write(path)
        match = f"row 2, STATUS: '{status}' is not valid. Choose from .*'undecided'"
        with pytest.raises(ValueError, match=match):
            MimicPlan.read(path)

    def test_no_mimic_with_a_partner(self):
        table = make_table(STATUS=["ok", "no_mimic"])
        match = "row 2, STATUS: 'no_mimic', but OFF_OBS_ID is 12.*-1"
        with pytest.raises(ValueError, match=match):
            MimicPlan(table)

    def test_all_come_back(self, tmp_path):
        columns = {"OFF_OBS_ID": [11, 12, 13, 14, -1], "STATUS": [*STATUSES]}
        plan = MimicPlan(make_table(len(STATUSES), **columns))
        plan.write(tmp_path / "plan.fits")
        again = MimicPlan.read(tmp_path / "plan.fits")
        assert again.table["STATUS"].tolist() == [*STATUSES]


def test_a_partner_that_is_taken_away_leaves_no_numbers():
    """Not even a part that would be none of the good time of another partner."""
    table = make_table(OFF_OBS_ID=[-1, 12], CUT_STOP=[1e6, 20])
    plan = MimicPlan(table)
    row, other = plan.table
    assert row["STATUS"] == "no_mimic"
    numbers = [_ for _ in plan.table.colnames if plan.table[_].dtype.kind == "f"]
    assert np.isnan([row[_] for _ in numbers]).all()
    assert other["KL_DIV"] == 1
    assert plan.cuts(1) == {2: (10, 20)}


def test_parts_of_an_unknown_set():
    with pytest.raises(ValueError, match=r"no mimic set 9.*\[1\]"):
        MimicPlan(make_table()).cuts(9)


class TestSummary:
    def test_what_is_left_out_does_not_count(self):
        """Neither its time nor its repetition, as in all other numbers."""
        rows = [(1, 1, 11, "ok"), (1, 2, 12, "ok")]
        unlike = [(2, 1, 13, "large_kl"), (2, 2, 13, "large_kl")]
        summaries = []
        for choice in (rows, rows + unlike):
            columns = zip(*choice, strict=True)
            names = "OBS_ID", "MIMIC_SET", "OFF_OBS_ID", "STATUS"
            columns = dict(zip(names, map(list, columns), strict=True))
            columns |= dict.fromkeys(WHOLE, np.full(len(choice), np.nan))
            plan = MimicPlan(make_table(len(choice), **columns))
            summaries.append(plan.make_summary())
        assert summaries[0] == summaries[1]
        assert summaries[1].n_repeated == 0
        assert summaries[1].warning == ""

    def test_nothing_is_left(self):
        summary = MimicPlan(make_table(STATUS=["large_kl"] * 2)).make_summary()
        assert summary.n_sets == 0
        assert summary.warning == ""
        assert str(summary)

    @pytest.mark.parametrize("sets", [[1, 1], [1, 2]])
    def test_way_out_of_little_time(self, sets):
        """Fewer sets are none for one set."""
        table = make_table(MIMIC_SET=sets, LIVETIME_RATIO=[0.3, 0.3], **WHOLE)
        warning = MimicPlan(table).make_summary().warning
        assert "OFF observations have 30%" in warning
        assert "wider criteria or more OFF observations." in warning
        assert ("fewer sets" in warning) == (len(set(sets)) > 1)
