import ast
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Column, MaskedColumn
from gammapy.data import ObservationTable
from hypothesis import given
from hypothesis import strategies as st

import gammapy_mimic
from gammapy_mimic.data import query_obs_table

from .helpers import make_obs_table

OBJECTS = ["Crab", "Off data", "Off data ", "", "MSH 15-52", "Cen A"]
NSB = [1.0, np.nan, 2.5, 0.5, np.nan, 3.0]


@pytest.fixture
def table():
    table = make_obs_table({"OBS_ID": [1, 2, 3, 4, 5, 6]})
    table["OBJECT"] = Column([_.encode() for _ in OBJECTS])
    table["ZEN_PNT"] = np.array([10, 20, 30, 40, 50, 0.1], dtype=np.float32)
    table["N_TELS"] = MaskedColumn([4, 3, 4, 3, 4, 4], mask=[0, 0, 1, 0, 0, 0])
    table["NSBLEVEL"] = NSB
    table["GOOD"] = [True, False, True, True, False, True]
    table["FLAG"] = [False, True, True, False, False, True]
    table["SMALL"] = np.array([0, 1, 2, 3, 200, 255], dtype=np.uint8)
    years = [2003, 2004, 2004, 2005, 2006]
    table["DATE-OBS"] = [f"{_}-01-31" for _ in years] + [""]
    table["in"] = [1, 2, 3, 4, 5, 6]
    table["Größe"] = [1, 2, 3, 4, 5, 6]
    table["PAIR"] = np.ones((6, 2))
    table["COMPLEX"] = np.ones(6, dtype=complex)
    return table


def select(table, query):
    return query_obs_table(table, query)["OBS_ID"].tolist()


# the last ones are not those of pandas
VALID = {
    "OBS_ID == 3": [3],
    "OBS_ID > 4": [5, 6],
    "4 < OBS_ID": [5, 6],
    "OBS_ID != 3 and OBS_ID <= 4": [1, 2, 4],
    "10 < ZEN_PNT <= 40": [2, 3, 4],
    "OBJECT == 'Off data'": [2, 3],
    'OBJECT == "Off data" or OBJECT == "Crab"': [1, 2, 3],
    "OBJECT in ['Crab', 'Cen A']": [1, 6],
    "OBJECT not in ('Crab', 'Cen A')": [2, 3, 4, 5],
    "OBS_ID in [1, 2, 77]": [1, 2],
    "OBS_ID == [1, 2]": [1, 2],
    "OBS_ID != [1, 2]": [3, 4, 5, 6],
    "not OBS_ID == 3": [1, 2, 4, 5, 6],
    "(ZEN_PNT < 40) & (N_TELS == 4)": [1, 6],
    "(ZEN_PNT > 40) | (N_TELS == 3)": [2, 4, 5],
    "~(OBS_ID > 2)": [1, 2],
    "~GOOD & FLAG": [2],
    "not (GOOD | FLAG)": [5],
    "GOOD": [1, 3, 4, 6],
    "not GOOD": [2, 5],
    "GOOD and not FLAG": [1, 4],
    "GOOD == True": [1, 3, 4, 6],
    "GOOD == 0": [2, 5],
    "NSBLEVEL < 2": [1, 4],
    "NSBLEVEL != 1": [2, 3, 4, 5, 6],
    "NSBLEVEL != NSBLEVEL": [2, 5],
    "NSBLEVEL == NSBLEVEL": [1, 3, 4, 6],
    "not NSBLEVEL < 2": [2, 3, 5, 6],
    "N_TELS == 4": [1, 5, 6],
    "N_TELS < 10": [1, 2, 4, 5, 6],
    "NSBLEVEL in [1, 3]": [1, 6],
    "ZEN_PNT == 0.1": [6],
    "ZEN_PNT > -0.1": [1, 2, 3, 4, 5, 6],
    "SMALL > -1 and SMALL < 300": [1, 2, 3, 4, 5, 6],
    "OBS_ID % 2 == 0": [2, 4, 6],
    "OBS_ID // 3 == 1": [3, 4, 5],
    "OBS_ID / 2 == 1.5": [3],
    "2 ** OBS_ID == 2 ** (1 + 3)": [4],
    "1 / (OBS_ID - 1) > 0": [1, 2, 3, 4, 5, 6],
    "-OBS_ID + 2 * 3 >= +2": [1, 2, 3, 4],
    "OBJECT < 'D' and OBJECT != ''": [1, 6],
    "`DATE-OBS` >= '2004-01-01' and `DATE-OBS` < '2005'": [2, 3],
    "`in` < 3": [1, 2],
    "Größe < 3 and `OBS_ID` > 1": [2],
    "\n  OBS_ID > 1\n  and\tOBS_ID < 3\n": [2],
    "OBS_ID in [\n1,\n2]": [1, 2],
    "OBJECT == ''": [4],
    "ZEN_PNT in [0.1]": [6],
    "True": [1, 2, 3, 4, 5, 6],
    "SMALL - 1 < 0": [1],
    "-SMALL < -2": [4, 5, 6],
    "N_TELS != 3": [1, 3, 5, 6],
    "`DATE-OBS` < '2004'": [1],
    "not `DATE-OBS` < '2006'": [5, 6],
    "NSBLEVEL == None": [2, 5],
    "NSBLEVEL is None": [2, 5],
    "NSBLEVEL is not None and OBS_ID < 4": [1, 3],
    "N_TELS == None": [3],
    "None != N_TELS": [1, 2, 4, 5, 6],
    "N_TELS in [3, None]": [2, 3, 4],
    "OBJECT == None": [4],
    "OBJECT in ['', 'Crab']": [1, 4],
    "OBJECT != ''": [1, 2, 3, 5, 6],
    "9**9**9 > OBS_ID": [1, 2, 3, 4, 5, 6],
    "OBS_ID in []": [],
    "OBS_ID not in []": [1, 2, 3, 4, 5, 6],
}
NOT_PANDAS = list(VALID).index("OBJECT == ''")


@pytest.mark.parametrize("query", VALID)
def test_valid(table, query):
    if VALID[query]:
        assert select(table, query) == VALID[query]
    else:
        with pytest.raises(ValueError, match="No observation of 6 satisfies"):
            select(table, query)


@pytest.mark.parametrize("query", list(VALID)[:NOT_PANDAS])
def test_same_as_pandas(table, query):
    pytest.importorskip("pandas")
    names = [_ for _ in table.colnames if table[_].ndim == 1]
    frame = table[names].to_pandas(index=False)
    frame["OBJECT"] = [_.strip() for _ in OBJECTS]
    query = " ".join(query.split())
    assert select(table, query) == frame.query(query)["OBS_ID"].tolist()


def test_masked_as_read_from_a_file(table, tmp_path):
    """Empty text and NaN are masked by the reader."""
    table.rename_column("Größe", "SIZE")  # FITS has no other letters
    table.write(tmp_path / "table.fits")
    read = ObservationTable.read(tmp_path / "table.fits")
    assert read["NSBLEVEL"].mask.any()
    for query, expected in VALID.items():
        if expected:
            assert select(read, query.replace("Größe", "SIZE")) == expected


def test_keeps_the_table(table):
    table.meta["TELESCOP"] = "mine"
    selected = query_obs_table(table, "OBS_ID > 2")
    assert type(selected) is ObservationTable
    assert selected.meta["TELESCOP"] == "mine"
    assert selected["PAIR"].shape == (4, 2)


INVALID = {
    "": "invalid syntax",
    "   ": "invalid syntax",
    "OBS_ID = 3": "invalid syntax .write == to compare.?, at character 8",
    "OBS_ID ==": "invalid syntax",
    "OBSID == 3": r"there is no column 'OBSID' \(did you mean 'OBS_ID'",
    "OBS_ID == 3 and FOO": r"no column 'FOO', at character 17 \(FOO\)\. Columns",
    "Größe == 1 and FOO": r"at character 16 \(FOO\)",
    "`DATE OBS` == ''": "no column 'DATE OBS' .did you mean 'DATE-OBS'",
    "PAIR == 1": "the column 'PAIR' cannot be used, it has 2 dimensions",
    "COMPLEX == 1": "the column 'COMPLEX' cannot be used, it has the type complex128",
    "OBJECT < 3": r"cannot compare OBJECT \(text\) with 3 \(number\), at character 1",
    "OBS_ID == '3'": r"cannot compare OBS_ID \(number\) with '3' \(text\)",
    "OBS_ID in [1, 'a']": r"cannot compare OBS_ID \(number\) with 'a' \(text\)",
    "OBS_ID == ''": r"cannot compare OBS_ID \(number\) with '' \(text\)",
    "GOOD == 'yes'": r"cannot compare GOOD \(truth\) with 'yes' \(text\)",
    "NSBLEVEL < None": "cannot compare",
    "OBJECT + 'a' == 'b'": "text where a number is needed, at character 1",
    "GOOD + 1 == 2": "truth where a number is needed",
    "OBS_ID": "number where true or false is needed",
    "N_TELS and OBS_ID": "number where true or false is needed",
    "not OBJECT": "text where true or false is needed",
    "~N_TELS": "number where true or false is needed",
    "None": "None where true or false is needed",
    "N_TELS == 4 & OBS_ID == 1": "the parts of & and | in parentheses, or write and",
    "GOOD == False & FLAG == True": "put the parts of & and | in parentheses",
    "GOOD | FLAG and OBS_ID > 4": "put the parts of & and | in parentheses",
    "not GOOD & FLAG": "put the parts of & and | in parentheses",
    "N_TELS & OBS_ID": "number where true or false is needed; put the parts",
    "OBS_ID in 1": r"in needs a list such as OBS_ID in \[1, 2\], at character 11",
    "OBS_ID in (1)": "in needs a list",
    "'Crab' in OBJECT": "in needs a list",
    "OBS_ID in OBS_ID": "in needs a list",
    "OBS_ID in [OBS_ID]": "a list must have values, not columns",
    "OBS_ID < [1, 2]": "a list that is not on the right of in is not part of a query",
    "[1, 2] == OBS_ID": "a list that is not on the right of in is not part",
    "OBS_ID in [[1]]": "a list that is not on the right of in is not part",
    "OBS_ID in {1}": "'{' is not part of a query, at character 11",
    "OBS_ID is 1": "is and is not are for None",
    "OBS_ID > 1 # and OBS_ID < 3": "'#' is not part of a query, at character 12",
    "OBS_ID @ 3": "'@' is not part of a query",
    "OBS_ID ^ 3": "BitXor is not part",
    "OBS_ID << 3": "LShift is not part",
    "OBS_ID == 3j": "complex is not part",
    "OBJECT == b'Crab'": "bytes is not part",
    "OBJECT == f'Crab'": "JoinedStr is not part",
    "OBS_ID == ...": "ellipsis is not part",
    "OBS_ID == 1 if GOOD else 2": "a condition with if is not part",
    "(x := 3) == 3": "NamedExpr is not part",
    "lambda: 3": "a function is not part",
    "OBS_ID[0] == 1": "an index is not part",
    "OBS_ID.size": "an attribute is not part",
    "abs(OBS_ID) == 1": r"a function call is not part of a query, at character 1 \(abs",
    "OBS_ID == " + "9" * 100: "the number is too large",
    "OBS_ID == " + "9" * 5000: "Exceeds the limit",
    "OBS_ID == 0x" + "f" * 50_000: "the number is too large",
    "GOOD" + " and GOOD" * 20_000: "it has more than 100000 characters",
    "a\0b": "null",
    "\ud800 == 1": "surrogates not allowed",
}
for _opening in ("(", "[", "-", "not ", "~", "f(", "a.", "1+", "1**", "x[", "(("):
    INVALID[_opening * 9000 + "1"] = "nested too deeply|invalid syntax|not part"
INVALID["(" * 9000 + "1" + ")" * 9000] = "nested too deeply"
INVALID["GOOD" + " & GOOD" * 9000] = r"nested too deeply"
INVALID["1 < 2" + " < 3" * 20_000 + " < a"] = "no column 'a'"


@pytest.mark.parametrize(
    ("query", "match"), INVALID.items(), ids=[ascii(_[:30]) for _ in INVALID]
)
def test_invalid(table, query, match):
    start = time.monotonic()
    with pytest.raises(ValueError, match=match) as info:
        query_obs_table(table, query)
    assert type(info.value) is ValueError
    assert str(info.value).startswith("Cannot evaluate ")
    assert len(str(info.value)) < 600
    assert "\n" not in str(info.value)
    assert time.monotonic() - start < 5


def test_many_terms(table):
    query = " or ".join(f"OBS_ID == {_}" for _ in range(5, 3000))
    assert select(table, query) == [5, 6]
    query = f"OBS_ID in {list(range(5, 15_000))}"
    assert select(table, query) == [5, 6]


ATTACKS = [
    "@np.f2py.os.system('touch pwned') == 0",
    "@pd.io.common.os.system('touch pwned') == 0",
    "np.f2py.os.system('touch pwned') == 0",
    "OBS_ID.to_pickle('pwned')",
    "OBS_ID.to_csv('pwned')",
    "@table.write('pwned')",
    "@np.save('pwned', OBS_ID)",
    "@frame.to_csv('pwned')",
    "__import__('os').system('touch pwned') == 0",
    "open('pwned', 'w')",
    "[open(_, 'w') for _ in ['pwned']]",
    "(lambda: open('pwned', 'w'))()",
    "OBS_ID.__class__.__base__.__subclasses__()",
    "f'{open(\"pwned\", \"w\")}' == ''",
    "OBJECT == '%s' % open('pwned', 'w')",
    "`open('pwned', 'w')` == 1",
    'eval(\'open("pwned", "w")\')',
    "OBS_ID.values.tofile('pwned')",
    "OBS_ID == 1; open('pwned', 'w')",
    "OBS_ID == 1\nopen('pwned', 'w')",
]


@pytest.mark.parametrize("query", ATTACKS)
def test_nothing_is_run(table, tmp_path, monkeypatch, query):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="Cannot evaluate"):
        query_obs_table(table, query)
    assert os.listdir(tmp_path) == []


PIECES = ["OBS_ID", "OBJECT", "GOOD", "`DATE-OBS`", "PAIR", "open", "os", "@", ".", "("]
PIECES += [
    ")",
    "[",
    "]",
    ",",
    "==",
    "!=",
    "<",
    "in",
    "not",
    "and",
    "or",
    "is",
    "&",
    "|",
]
PIECES += ["~", "+", "-", "*", "**", "/", "%", "1", "2.5", "'a'", '"', "'", "`"]
PIECES += [
    "None",
    "True",
    "lambda",
    ":",
    "{",
    "}",
    "\\",
    "\n",
    "#",
    "=",
    " ",
    "é",
    "9" * 30,
]
TEXTS = st.one_of(
    st.text(),
    st.text(alphabet="()[]'\"`@&|~<>=!.,+-*/%_ aO1\\\n"),
    st.lists(st.sampled_from(PIECES)).map(" ".join),
    st.lists(st.sampled_from(PIECES)).map("".join),
)


@given(query=TEXTS)
def test_any_text_gives_rows_or_a_value_error(tmp_path_factory, query):
    folder = tmp_path_factory.getbasetemp()
    before = sorted(os.listdir(folder))
    table = make_obs_table({"OBS_ID": [1, 2], "OBJECT": ["a", "b"]})
    table["GOOD"] = [True, False]
    table["DATE-OBS"] = ["2004-01-01", ""]
    table["PAIR"] = np.ones((2, 2))
    cwd = os.getcwd()
    os.chdir(folder)
    try:
        assert len(query_obs_table(table, query)) in (1, 2)
    except ValueError as error:
        assert re.match("Cannot evaluate|No observation of 2", str(error))  # noqa: PT017
    finally:
        os.chdir(cwd)
    assert sorted(os.listdir(folder)) == before


def test_many_rows_are_fast():
    n_obs = 100_000
    table = make_obs_table({"OBS_ID": np.arange(n_obs)})
    table["OBJECT"] = [b"Object %d" % (_ % 100) for _ in range(n_obs)]
    table["ZEN_PNT"] = np.linspace(0, 90, n_obs)
    query = "OBJECT in ['Object 1', 'Object 2'] and 10 < ZEN_PNT <= 40 and OBS_ID % 2"
    start = time.monotonic()
    assert len(query_obs_table(table, f"{query} == 0")) == 333
    assert time.monotonic() - start < 2


def test_pandas_is_not_imported():
    for path in Path(gammapy_mimic.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [getattr(node, "module", None) or ""]
            if isinstance(node, ast.Import):
                names = [_.name for _ in node.names]
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not [_ for _ in names if _.split(".")[0] == "pandas"], path


@pytest.mark.parametrize("query", ["ZEN_PNT <", "ZEN_PNT < 30 or"])
def test_place_of_what_is_missing_is_the_end(table, query):
    with pytest.raises(ValueError, match=rf"at character {len(query) + 1}\b"):
        query_obs_table(table, query)


@pytest.mark.parametrize("query", [None, 3, b"OBS_ID == 1"])
def test_query_that_is_no_text(table, query):
    with pytest.raises(ValueError, match="A query must be text, got"):
        query_obs_table(table, query)
