import dataclasses
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from types import SimpleNamespace

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from gammapy.datasets import Datasets, MapDataset
from gammapy.maps import Map, MapAxis, WcsGeom
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion
from scipy.stats import norm

from gammapy_mimic.estimators import (
    BandMaps,
    MimicSystematics,
    MimicSystematicsEstimator,
)
from gammapy_mimic.exclusion import ExclusionRegions
from gammapy_mimic.report import make_answer, make_report
from gammapy_mimic.report.page import get_mimic_section, is_on_map
from gammapy_mimic.report.tables import make_table
from gammapy_mimic.scripts.main import main
from gammapy_mimic.selection import MimicPlan
from gammapy_mimic.simulate import make_irfs
from gammapy_mimic.visualization import (
    plot_bias_map,
    plot_flux,
    plot_maximum,
    plot_significance_distribution,
    plot_significance_map,
    plot_systematics,
)

from .helpers import read_axes

DASH = "\N{EN DASH}"  # no value
CENTER = SkyCoord(83.63, 22.01, unit="deg")
EVIL = "<script>document.title = 'evil'</script> & <b>"
CONFIG = """
mimic:
  background: template
  template: {dimension: 3d, time_request: 10 h}
  scramble: {method: fill, width: 0.2 deg}
"""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def make_dataset(obs_id, off_obs_id, source=0):
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2)
    true_axis = axis.copy(name="energy_true")
    geom = WcsGeom.create(skydir=CENTER, width=3, binsz=0.1, axes=[axis], proj="TAN")
    shape = geom.data_shape
    counts = np.random.default_rng(off_obs_id).poisson(5.0, shape)
    counts[:, 15, 15] += source
    return MapDataset(
        counts=Map.from_geom(geom, data=counts.astype(float)),
        background=Map.from_geom(geom, data=np.full(shape, 5.0)),
        exposure=Map.from_geom(
            geom.to_image().to_cube([true_axis]),
            unit="cm2 s",
            data=np.full(shape, 1e13),
        ),
        mask_safe=Map.from_geom(geom, data=np.ones(shape, bool)),
        meta_table=Table(
            {
                "OBS_ID": [obs_id],
                "RA_PNT": [CENTER.ra.deg],
                "DEC_PNT": [CENTER.dec.deg],
                "OFF_OBS_ID": [off_obs_id],
            }
        ),
        name=f"obs_{obs_id}_{off_obs_id}",
    )


@pytest.fixture(scope="module")
def result():
    """Three mimic sets of two observations, and a target with a source."""
    estimator = MimicSystematicsEstimator(
        "0.2 deg",
        energy_edges=np.geomspace(1, 10, 3) * u.TeV,
        offset_edges=[0, 1, 2] * u.deg,
        position=CENTER,
    )
    sets = {
        name: Datasets([make_dataset(_, 100 * name + _) for _ in (1, 2)])
        for name in (1, 2, 3)
    }
    return estimator.run(sets, Datasets([make_dataset(_, 900 + _, 20) for _ in (1, 2)]))


@pytest.fixture(scope="module")
def plan():
    table = Table(
        {
            "OBS_ID": [1, 2, 1, 2, 1, 2],
            "MIMIC_SET": [1, 1, 2, 2, 3, 3],
            "OFF_OBS_ID": [101, 102, 102, 103, 104, -1],
            "KL_CORR": [0.001, 0.1, 0.003, -0.002, 0.01, np.nan],
            "DELTA_ZENITH": [1.0, -2.0, 3.0, 1.0, 0.5, np.nan],
            "STATUS": ["ok", "large_kl", "ok", "ok", "ok", "no_mimic"],
        }
    )
    return MimicPlan(table)


@pytest.fixture(scope="module")
def regions():
    near = CircleSkyRegion(CENTER, 0.3 * u.deg)
    far = CircleSkyRegion(SkyCoord(263, -22, unit="deg"), 0.3 * u.deg)
    return ExclusionRegions([far, near], names=["far", EVIL])


@pytest.fixture(scope="module")
def page(tmp_path_factory, result, plan, regions):
    """The report with everything in it, and with names that are HTML."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    make_report(
        result,
        path,
        plan=plan,
        config=CONFIG + f"# {EVIL}\n",
        obs_table=Table({"OBS_ID": [1, 2], "OBJECT": [EVIL, EVIL]}),
        exclusion_regions=regions,
        templates={"<all>": make_irfs("0 deg", background="2d")["bkg"]},
    )
    return path


class Page(HTMLParser):
    """Tables (by id: names, values, texts), pictures and texts of a page."""

    def __init__(self, path):
        super().__init__()
        self.tables, self.images, self.tags, self.texts = {}, [], [], []
        self.cell = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag == "table":
            self.table = self.tables[attrs["id"]] = SimpleNamespace(
                names=[], values=[], texts=[], marked=[]
            )
        elif tag == "button":
            self.cell = self.table.names
            self.cell.append("")
        elif tag in ("small", "br"):
            self.cell = None
        elif tag == "tr" and self.table.names:
            self.table.values.append([])
            self.table.texts.append([])
            self.table.marked.append(attrs.get("class") == "marked")
        elif tag == "td":
            self.table.values[-1].append(attrs["data-value"])
            self.cell = self.table.texts[-1]
            self.cell.append("")
        elif tag == "img":
            self.images.append(attrs)

    def handle_endtag(self, tag):
        if tag in ("td", "button"):
            self.cell = None

    def handle_data(self, data):
        self.texts.append(data)
        if self.cell:
            self.cell[-1] += data.strip()

    @property
    def names(self):
        return [name for name, _ in self.tags]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


class TestPage:
    def test_numbers_are_those_of_the_result(self, page, result):
        tables = Page(page).tables
        for name, table in result.tables.items():
            shown = tables[f"table-{name}"]
            assert len(shown.values) == len(table)
            filled = [
                _
                for _ in table.colnames
                if table[_].dtype.kind != "f" or np.isfinite(table[_]).any()
                # those of a matrix are not for reading
                if table[_].ndim == 1
            ]
            assert shown.names == filled
            for idx, column in enumerate(filled):
                for row, value in enumerate(table[column]):
                    number, text = shown.values[row][idx], shown.texts[row][idx]
                    if isinstance(value, str):
                        assert text == number == value
                    elif isinstance(value, np.bool_):
                        assert text == number == ("yes" if value else "no")
                    elif np.isfinite(value):
                        assert float(number) == value
                        assert_allclose(float(text), value, rtol=5e-4)
                    else:
                        assert (number, text) == ("", DASH)

    def test_units(self, page):
        text = Page(page).text
        assert "e_ min TeV" in text.replace("_min", "_ min")
        assert "cm-2 s-1" in text

    def test_questionable_pairs_come_first(self, page, plan):
        table = Page(page).tables["table-plan"]
        status = table.names.index("STATUS")
        rows = [_[status] for _ in table.values]
        assert rows == ["large_kl", "no_mimic", "ok", "ok", "ok", "ok"]
        assert table.marked == [True, True, False, False, False, False]
        off = table.names.index("OFF_OBS_ID")
        numbers = [int(_[off]) for _ in table.values if _[off]]
        assert sorted(numbers) == [101, 102, 102, 103, 104]
        assert table.texts[1][off] == DASH

    def test_answer_is_on_the_page(self, page, result, plan):
        answer = make_answer(result, plan)
        text = Page(page).text
        for line in (answer.question, *answer.lines, *answer.findings, *answer.limits):
            parts = [_.strip() for _ in line.split(": ")]
            assert all(_ in text for _ in parts)

    @pytest.mark.slow
    def test_what_the_plan_is_worth(self, page, tmp_path, result):
        assert "Their livetime is not known, nor what sets share." in page.read_text()
        names = ["OBS_ID", "MIMIC_SET", "OFF_OBS_ID"]
        table = Table(rows=[(1, 1, 101), (1, 2, 101), (1, 3, 103)], names=names)
        table["LIVETIME"], table["ONTIME"], table["LIVETIME_RATIO"] = 3600, 3600, 2
        table["CUT_START"], table["CUT_STOP"] = [0, 360, 0], [1800, 2160, 1800]
        plan = MimicPlan(table)
        make_report(result, tmp_path / "report.html", plan=plan)
        text = (tmp_path / "report.html").read_text()
        assert "1.1 h of livetime, 2.20 times that of the targets" in text
        assert "3 sets are worth 2.0 independent ones" in text
        assert 'id="table-plan-summary"' in text
        limits = make_answer(result, plan).limits
        assert sum("Mimic sets 1 and 2 share 80%" in _ for _ in limits) == 1

    def test_names_are_escaped(self, page):
        content = page.read_text(encoding="utf-8")
        assert "<script>document" not in content
        parsed = Page(page)
        assert parsed.names.count("script") == 1
        assert (
            parsed.text.count(EVIL) >= 4
        )  # title, heading, plan, region, configuration

    def test_needs_no_other_file(self, page):
        for tag, attrs in Page(page).tags:
            for name in ("src", "href", "srcset", "data", "action"):
                assert attrs.get(name, "#").startswith(("#", "data:")), tag
        content = page.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(|https?://", content)
        assert page.stat().st_size < 5e6

    def test_figures_have_alt_text_and_caption(self, page):
        parsed = Page(page)
        names = [_["id"] for tag, _ in parsed.tags if tag == "figure"]
        for name in (
            "plan",
            "maps",
            "maps-energy",
            "distributions",
            "maximum",
            "systematics",
            "bias",
            "flux",
            "template-1",
        ):
            assert f"figure-{name}" in names
        assert parsed.names.count("figcaption") == len(names)
        assert all(len(_["alt"]) > 10 for _ in parsed.images)

    def test_contents_lead_somewhere(self, page):
        tags = Page(page).tags
        ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        links = [attrs["href"][1:] for tag, attrs in tags if tag == "a"]
        assert len(links) == 12
        assert set(links) <= set(ids)

    def test_settings(self, page):
        text = Page(page).text
        assert "time_request 10 h" in text
        assert "method fill" in text
        assert "correlation_radius 0.2 deg" in text
        assert re.search(r"gammapy 2\.\d", text)

    @pytest.mark.usefixtures("no_figures")
    def test_result_from_a_file_gives_the_same(self, tmp_path, page, result, plan):
        result.write(tmp_path / "systematics.fits")
        other = MimicSystematics.read(tmp_path / "systematics.fits")
        make_report(other, tmp_path / "report.html", plan=plan)
        before, after = (Page(_).tables for _ in (page, tmp_path / "report.html"))
        for name in result.tables:
            name = f"table-{name}"
            assert after[name].values == before[name].values


@pytest.fixture
def no_figures(monkeypatch):
    """Pages without pictures, which take most of the time."""
    monkeypatch.setattr("gammapy_mimic.report.page.make_figures", lambda *args: {})


class TestPartialPage:
    @pytest.mark.usefixtures("no_figures")
    def test_result_alone(self, tmp_path, result):
        path = tmp_path / "report.html"
        make_report(result, path, title="A & B")
        text = Page(path).text
        assert "A & B" in text
        assert "The plan is not known" in text
        assert "The configuration is not known" in text
        assert "There are none, or they are not known" in text
        assert result.missing["normalisation"] in text
        assert "Templates and scrambling" not in text

    def test_spectra(self, tmp_path, result):
        """Spectra have no maps, no bias map and no position."""
        tables = {name: _ for name, _ in result.tables.items() if name != "scales"}
        options = {"maps": {}, "bias": None, "position": None}
        spectra = dataclasses.replace(result, tables=tables, **options)
        path = tmp_path / "report.html"
        make_report(
            spectra, path, exclusion_regions=[CircleSkyRegion(CENTER, 1 * u.deg)]
        )
        parsed = Page(path)
        assert "in the on region" in parsed.text
        shown = parsed.text.partition('"use strict"')[0].partition("main {")[2]
        assert not re.findall(r"\b(?:random )?maps?\b|circles? of|pixel", shown)
        assert not {_["href"] for tag, _ in parsed.tags if tag == "a"} & {"#bias"}
        assert "table-maximum" not in parsed.tables
        assert not make_answer(spectra).findings

    @pytest.mark.usefixtures("no_figures")
    def test_large_plan(self, tmp_path, result):
        ids = np.arange(100)
        path = tmp_path / "report.html"
        make_report(result, path, plan={int(_): int(_) + 1000 for _ in ids})
        parsed = Page(path)
        assert "too large for a picture" in parsed.text
        assert len(parsed.tables["table-plan"].values) == 100

    @pytest.mark.slow
    def test_no_target(self, tmp_path, result):
        keep = ("significance", "systematics", "sets", "time")
        tables = {name: result.tables[name] for name in keep}
        for name in ("significance", "sets"):
            tables[name] = tables[name][tables[name]["name"] != "target"]
        maps = {name: _ for name, _ in result.maps.items() if name != "target"}
        path = tmp_path / "report.html"
        make_report(dataclasses.replace(result, tables=tables, maps=maps), path)
        text = Page(path).text
        assert "How large is the systematic error of the background?" in text
        assert "Excess of the target" not in text

    def test_existing_file(self, tmp_path, result):
        path = tmp_path / "report.html"
        path.write_text("mine")
        with pytest.raises(FileExistsError, match="exists"):
            make_report(result, path)
        assert path.read_text() == "mine"

    def test_complete_or_not_at_all(self, tmp_path, result):
        with pytest.raises(ValueError, match="no column"):
            make_report(result, tmp_path / "report.html", plan=Table({"OBS_ID": [1]}))
        assert not list(tmp_path.iterdir())


def replace_row(result, name, **values):
    """Result with other values in the last row of a table."""
    table = result.tables[name].copy()
    for column, value in values.items():
        table[column] = np.array(table[column].data, dtype=float)
        table[column][-1] = value
    return dataclasses.replace(result, tables={**result.tables, name: table})


@pytest.mark.parametrize(
    ("name", "plot"),
    [
        ("map", plot_significance_map),
        ("distribution", plot_significance_distribution),
        ("systematics", plot_systematics),
        ("maximum", plot_maximum),
        ("bias", plot_bias_map),
        ("flux", plot_flux),
    ],
)
def test_result_plots_itself(result, name, plot):
    """Methods of the result draw what the functions of the plots draw."""
    # the map makes its own axes, the others draw into the current ones
    plt.figure()
    drawn = read_axes(getattr(result, f"plot_{name}")())
    plt.figure()
    expected = read_axes(plot(result.bias if name == "bias" else result))
    plt.close("all")
    assert drawn[0] == expected[0]
    assert len(drawn[1]) == len(expected[1]) > 0
    for values, others in zip(drawn[1], expected[1], strict=True):
        assert_array_equal(values, others)


class TestAnswer:
    @pytest.mark.parametrize(
        ("values", "verdict"),
        [
            ((5.2, 4.7, 0), "unlikely to explain it"),
            ((6.2, 5.7, 0), "does not explain it"),
            # the tail of the mimics is longer than that of a Gaussian
            ((6.2, 5.7, 1), "may explain it"),
            ((6.2, 2.9, 0), "may explain it"),
            ((4.0, 1.6, 0), "The background explains it"),
            ((9.0, np.nan, 0), "too few mimics"),
            ((2.9, 2.8, 0), "no excess"),
            ((-3.0, -3.0, 75), "no excess"),
        ],
    )
    def test_position(self, result, values, verdict):
        names = "significance", "calibrated", "n_larger"
        values = dict(zip(names, values, strict=True))
        values |= {"mimic_mean": 0.1, "mimic_width": 1.1, "n_sample": 75.0}
        values |= {"calibrated_p_value": norm.sf(values["calibrated"])}
        answer = make_answer(replace_row(result, "position", **values))
        assert len(answer.lines) == 3
        assert verdict in answer.lines[2]
        assert f"{values['significance']:.1f} sigma" in answer.lines[0]
        assert "RA 83.630 deg, Dec +22.010 deg" in answer.lines[0]

    def test_position_numbers(self, result):
        """One number for the decision, the text and the table."""
        row = {"significance": 5.2, "mimic_mean": 0.1, "mimic_width": 1.08}
        row |= {"n_sample": 75.4, "calibrated": 4.6, "calibrated_p_value": 2.1e-6}
        row |= {"n_larger": 0.0, "n_places": 15}
        answer = make_answer(replace_row(result, "position", **row))
        for text in ("mean of 0.10", "width of 1.08", "same offset"):
            assert text in answer.lines[1]
        assert "calibrated significance is 4.6 (p = 2.1e-06)." in answer.lines[2]
        # samples that share events are fewer than they seem
        row |= {"n_larger": 1.3}
        answer = make_answer(replace_row(result, "position", **row))
        assert "2 of 75 positions are as large." in answer.lines[2]
        # few OFF observations have a tail of their own
        row |= {"n_larger": 0.0, "significance": 35.0}
        answer = make_answer(replace_row(result, "position", **row))
        assert "and 32.3 if mean and width were known exactly" in answer.lines[2]

    def test_position_of_unknown_offset(self, result):
        """Without pointings there is one circle, that at the position."""
        row = {"significance": 5.2, "calibrated": 4.6, "n_larger": 1.0}
        row |= {"n_sample": 3.0, "calibrated_p_value": 2.1e-6, "n_places": 1}
        answer = make_answer(replace_row(result, "position", **row))
        assert "as mimics show it at the position" in answer.lines[1]
        assert "1 of 3 sets is as large." in answer.lines[2]
        assert not any("offset" in _ for _ in (*answer.lines, *answer.limits))

    def test_position_without_data(self, result):
        answer = make_answer(replace_row(result, "position", significance=np.nan))
        assert "no significance" in answer.lines[0]
        assert len(answer.lines) == 3

    def test_systematic_error(self, result):
        table = result.tables["systematics"].copy()
        is_total = table["offset_band"] == "all"
        tables = {"significance": result.tables["significance"], "systematics": table}
        result = dataclasses.replace(result, tables=tables)
        columns = ("delta", "delta_err", "f", "f_lo", "f_hi", "f_ul")
        columns += ("total", "total_lo", "total_hi", "total_ul", "reason")
        nothing = (np.nan,) * 4
        why = "there are 2.1 independent OFF observations, fewer than 3"
        for values, texts in (
            (
                (0.1, 0.01, 0.03, 0.02, 0.04, 0.05, 0.11, 0.1, 0.12, 0.13, ""),
                [
                    "is 11.0% (10.0 to 12.0%, 68% confidence): a bias of +10.0% ± 1.0%",
                    "and a spread of 3.0% (2.0 to 4.0%, 68% confidence).",
                ],
            ),
            (
                (0.0, 0.01, 0.01, 0.0, 0.03, 0.04, 0.01, 0.0, 0.03, 0.04, ""),
                ["is below 4.0% (95% confidence): a bias of", "a spread below 4.0%"],
            ),
            (
                (-0.1, 0.01, *nothing, *nothing, "fewer than two apertures"),
                ["has a bias of -10.0% ± 1.0%; its spread is not measurable: fewer"],
            ),
            ((np.nan,) * 10 + (why,), [f"is not measurable: {why}."]),
        ):
            table["reason"] = table["reason"].astype("U80")
            for name, value in zip(columns, values, strict=True):
                table[name][is_total] = value
            answer = make_answer(result)
            for text in texts:
                assert text in answer.lines[0]
            assert "nan" not in " ".join(answer.lines)

    def test_nothing_is_measured(self, result):
        tables = {name: _ for name, _ in result.tables.items() if name != "position"}
        empty = replace_row(
            dataclasses.replace(result, tables=tables), "maximum", significance=np.nan
        )
        answer = make_answer(empty)
        assert "target's map has no position with enough" in answer.lines[0]
        assert len(answer.lines) == 3

        table = result.tables["systematics"].copy()
        for name in table.colnames:
            if table[name].dtype.kind == "f" and not name.startswith(("e_", "off")):
                table[name] = np.nan
        tables = {"significance": result.tables["significance"], "systematics": table}
        answer = make_answer(dataclasses.replace(result, tables=tables))
        assert "is not known" in answer.lines[0]
        assert "nan" not in " ".join(answer.lines)

    def test_findings(self, result):
        table = result.tables["systematics"].copy()
        is_total = table["offset_band"] == "all"
        table["delta"][is_total], table["delta_err"][is_total] = -0.1, 0.02
        bias = dataclasses.replace(result.bias, p_value=1e-5)
        tables = {**result.tables, "systematics": table}
        changed = dataclasses.replace(result, tables=tables, bias=bias)
        changed = replace_row(changed, "maximum", significance=30.0)
        # of the target
        changed = replace_row(changed, "significance", mean=1.0, width=1.7)
        findings = " ".join(make_answer(changed).findings)
        assert (
            "over prediction are 0.900 ± 0.020, so that the prediction is too"
            in findings
        )
        assert "is too high" in findings
        assert "a source leaks out of what is excluded" in findings
        assert "p = 1e-05" in findings
        assert "no sources are excluded" in findings
        assert "mean significance of the target's map is +1.00" in findings
        geom = result.maps["target"].total.geom.to_image()
        source_free = Map.from_geom(geom, data=True, dtype=bool)
        changed = dataclasses.replace(changed, source_free=source_free)
        findings = " ".join(make_answer(changed).findings)
        assert "there is more than the excluded sources" in findings

    def test_limits(self, result, plan):
        limits = " ".join(make_answer(result, plan).limits)
        assert "3 mimic sets are few" in limits
        assert "Mimics test the background only" in limits
        assert "1 of 2 targets are left out of at least one set" in limits
        assert "Missing: normalisation." in limits


def test_table_cells():
    table = Table({"n": [3, 1], "x": [np.nan, 1 / 3], "none": [np.nan, np.nan]})
    table["masked"] = np.ma.masked_array([1, 2], mask=[False, True])
    report = make_table(table, "t", "A table.", marked=[False, True])
    assert [_.name for _ in report.columns] == ["n", "x", "masked"]
    assert [_.text for _ in report.rows[0]] == ["1", "0.3333", DASH]
    assert [_.value for _ in report.rows[0]] == ["1", repr(1 / 3), ""]
    assert [_.text for _ in report.rows[1]] == ["3", DASH, "1"]
    assert report.marked == [True, False]


def test_regions_on_the_map(result, regions):
    assert is_on_map(result, regions).tolist() == [False, True]
    assert is_on_map(result, ExclusionRegions()).tolist() == []


@pytest.mark.parametrize("config", [None, "", "mimic:", "general: {}", "[1]"])
def test_configuration_without_mimics(config):
    assert get_mimic_section(config) == {}


class TestPlots:
    @pytest.fixture(autouse=True)
    def close(self):
        yield
        plt.close("all")

    def test_axes_have_labels_and_units(self, result):
        for plot, x_unit, y_unit in (
            (plot_significance_distribution, "sigma", "sigma"),
            (plot_systematics, "TeV", "%"),
            (plot_flux, "Energy", "cm"),
            (plot_maximum, "sigma", "Energy"),
        ):
            _, ax = plt.subplots()
            assert plot(result, ax=ax) is ax
            assert x_unit in ax.get_xlabel()
            assert y_unit in ax.get_ylabel()

    def test_distribution_is_that_of_the_maps(self, result):
        _, ax = plt.subplots()
        plot_significance_distribution(result, band=0, ax=ax)
        row = result.select("significance", 0, name="all")[0]
        x, y = ax.lines[0].get_xydata().T
        assert_allclose(y, norm.pdf(x, row["mean"], row["width"]))
        for patch, name in zip(ax.patches, ("all", "target"), strict=True):
            values = result.get_significance(name, 0)
            edges = np.unique(patch.get_path().vertices[:, 0])
            share = [np.mean((values >= a) & (values < a + 0.25)) for a in edges[:-1]]
            drawn = patch.get_path().vertices[:, 1].max()
            assert_allclose(drawn, max(share) / 0.25)

    @pytest.mark.parametrize("by", ["energy", "offset", "radius"])
    def test_systematics_are_in_percent(self, result, by):
        """A point with its error for each bias, and a box for each spread."""
        table = result.tables["scales" if by == "radius" else "systematics"]
        if by == "offset":
            table = table[table["offset_band"] != "all"]
        _, ax = plt.subplots()
        plot_systematics(result, ax=ax, by=by)
        is_frame = (table["band"] == "all") & (by == "energy")
        shown = table[np.isfinite(table["delta"]) & ~is_frame]
        points = [_.lines[0].get_ydata()[0] for _ in ax.containers]
        assert_allclose(np.sort(points), np.sort(100 * shown["delta"]))
        boxed = table[np.isfinite(table["f"])]
        spread = np.where(boxed["f_lo"] > 0, boxed["f"], boxed["f_ul"])
        heights = 200 * spread * (1 + boxed["delta"])
        assert len(boxed) >= 2
        assert_allclose(np.sort([_.get_height() for _ in ax.patches]), np.sort(heights))

    def test_maxima_are_those_of_the_table(self, result):
        _, ax = plt.subplots()
        plot_maximum(result, ax=ax)
        table = result.tables["significance"]
        table = table[table["name"] != "all"]
        largest = 1.6 * max(table["maximum"][table["name"] != "target"].max(), 5)
        drawn = np.concatenate([_.get_xdata() for _ in ax.lines])
        expected = np.minimum(table["maximum"], largest)
        assert_allclose(np.sort(drawn), np.sort(expected))

    def test_fluxes_are_those_of_the_table(self, result):
        _, ax = plt.subplots()
        plot_flux(result, ax=ax)
        table, means = (result.tables[_] for _ in ("flux", "spurious_flux"))
        is_target = table["name"] == "target"
        fluxes, bars, *stars = ax.containers
        assert_allclose(fluxes.lines[0].get_ydata(), table["flux"][~is_target])
        values = [_.lines[0].get_ydata()[0] for _ in stars]
        arrows = [_ for _ in ax.lines if _.get_marker() == "^"]
        expected = table["flux"][is_target].tolist()
        assert_allclose(values, expected[: len(values)])
        assert len(values) + len(arrows) == len(expected)
        assert_allclose([_.get_height() for _ in bars], 2 * means["std"])
        middle = [_.get_y() + _.get_height() / 2 for _ in bars]
        assert_allclose(middle, means["mean"])

    @pytest.mark.parametrize("quantity", ["ratio", "significance"])
    def test_bias_map_holds_the_values_of_its_band(self, result, quantity):
        _, ax = plt.subplots()
        plot_bias_map(result.bias, 1, ax=ax, quantity=quantity)
        (mesh,) = ax.collections
        expected = np.where(result.bias.error > 0, getattr(result.bias, quantity), 0)[1]
        assert_allclose(np.ma.filled(mesh.get_array(), 0), expected)
        assert expected.any()
        edges = result.bias.position_edges.to_value("deg")
        assert_allclose(mesh.get_coordinates()[0, :, 0], edges)
        assert_allclose(mesh.get_coordinates()[:, 0, 1], edges)

    def test_default_axes(self, result):
        _, ax = plt.subplots()
        assert plot_maximum(result) is ax

    def test_map(self, result):
        ax = plot_significance_map(result, "mimic_2", band=0, position=CENTER)
        values = ax.images[0].get_array()
        assert_allclose(values, result.maps["mimic_2"].bands.data[0])
        assert ax.get_title() == "Mimic set 2"

    def test_empty_maps(self, result):
        empty = {
            name: BandMaps(*(part * np.nan for part in (_.bands, _.total)))
            for name, _ in result.maps.items()
        }
        table = result.tables["systematics"].copy()
        for name in table.colnames:
            if table[name].dtype.kind == "f" and not name.startswith(("e_", "off")):
                table[name] = np.nan
        tables = {**result.tables, "systematics": table}
        empty = dataclasses.replace(result, maps=empty, tables=tables)
        _, ax = plt.subplots()
        labels = plot_significance_distribution(empty, ax=ax).get_legend().get_texts()
        assert [_.get_text() for _ in labels] == ["mean 0, width 1"]

    def test_offset(self, result):
        _, ax = plt.subplots()
        assert "deg" in plot_systematics(result, ax=ax, by="offset").get_xlabel()
        table = result.tables["systematics"]
        total = table[table["offset_band"] == "all"]
        other = dataclasses.replace(
            result, tables={**result.tables, "systematics": total}
        )
        with pytest.raises(ValueError, match="no bands of offset"):
            plot_systematics(other, ax=ax, by="offset")

    def test_east_is_left(self, result):
        for quantity in ("ratio", "significance"):
            _, ax = plt.subplots()
            plot_bias_map(result.bias, ax=ax, quantity=quantity)
            low, high = ax.get_xlim()
            assert low > high
            assert "deg" in ax.get_xlabel()

    def test_sources_of_the_target_are_left_out(self, result, regions):
        mimics, target = (result.get_significance(_) for _ in ("all", "target"))
        assert mimics.size == 3 * 900
        assert target.size == 900
        geom = result.maps["target"].total.geom.to_image()
        source_free = geom.region_mask(regions[[1]], inside=False)
        other = dataclasses.replace(result, source_free=source_free)
        assert other.get_significance().size == mimics.size
        kept = other.get_significance("target")
        assert 865 < kept.size < 880
        assert kept.max() < target.max()


@pytest.fixture
def outdir(tmp_path, result, plan, regions):
    path = tmp_path / "out"
    path.mkdir()
    result.write(path / "systematics.fits")
    plan.write(path / "plan.ecsv")
    regions.write(path / "exclusion.reg")
    (path / "config.yaml").write_text(CONFIG)
    return path


def run(*args):
    try:
        main([str(_) for _ in args])
    except SystemExit as error:
        return error.code or 0
    return 0


@pytest.mark.usefixtures("no_figures")
class TestCommand:
    def test_report(self, outdir, capsys):
        assert run("report", outdir) == 0
        assert "report.html" in capsys.readouterr().out
        parsed = Page(outdir / "report.html")
        assert {"table-plan", "table-exclusion-regions"} <= set(parsed.tables)
        assert "method fill" in parsed.text

    def test_overwrite_and_out(self, outdir, capsys):
        path = outdir / "report.html"
        path.write_text("mine")
        assert run("report", outdir) == 1
        assert path.read_text() == "mine"
        assert run("report", outdir, "--overwrite", "--title", "My title") == 0
        assert "My title" in Page(path).text
        other = outdir / "other.html"
        assert run("report", outdir, "--out", other) == 0
        assert Page(other).tables.keys() == Page(path).tables.keys()

    def test_result_alone(self, outdir):
        for name in ("plan.ecsv", "exclusion.reg", "config.yaml"):
            (outdir / name).unlink()
        assert run("report", outdir) == 0

    @pytest.mark.parametrize(
        ("name", "content", "match"),
        [
            ("systematics.fits", None, "has no systematics.fits"),
            ("systematics.fits", "text", "systematics.fits"),
            ("plan.ecsv", "text", "plan.ecsv"),
            ("config.yaml", "mimics: 1", "Did you mean 'mimic'"),
            ("exclusion.reg", "circle", "exclusion.reg"),
        ],
    )
    def test_bad_folder(self, outdir, capsys, name, content, match):
        (outdir / name).unlink()
        if content is not None:
            (outdir / name).write_text(content)
        before = sorted(outdir.iterdir())
        assert run("report", outdir) == 1
        error = capsys.readouterr().err.splitlines()
        assert len([_ for _ in error if _.startswith("Error: ")]) == 1
        assert match in error[-1]
        assert sorted(outdir.iterdir()) == before

    def test_no_folder(self, tmp_path, outdir, capsys):
        assert run("report", tmp_path / "nowhere") == 1
        assert "There is no folder" in capsys.readouterr().err
        assert run("report", outdir, "--out", tmp_path / "nowhere/report.html") == 1
        assert "There is no folder" in capsys.readouterr().err


# clicks at the heads of a table, and writes what a reader would see
PROBE = """
<script>
const seen = {title: document.title, images: [], sorts: []};
for (const image of document.images) seen.images.push(image.naturalWidth);
const table = document.getElementById("table-plan");
const heads = Array.from(table.tHead.rows[0].cells);
for (const name of ["KL_CORR", "KL_CORR", "OFF_OBS_ID", "STATUS"]) {
  const index = heads.findIndex((head) => head.textContent.trim() === name);
  heads[index].querySelector("button").click();
  const rows = Array.from(table.tBodies[0].rows);
  const values = rows.map((row) => row.cells[index].textContent);
  seen.sorts.push([name, heads[index].getAttribute("aria-sort"), values]);
}
seen.sorted = document.querySelectorAll("th[aria-sort]").length;
seen.wide = document.documentElement.scrollWidth > window.innerWidth;
const output = document.createElement("pre");
output.id = "seen";
output.textContent = JSON.stringify(seen);
document.body.append(output);
</script>
</body>"""


def browse(path, profile):
    """Open a page. The document that scripts have made of it, and the console."""
    process = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={profile}",
            "--window-size=1366,768",
            "--virtual-time-budget=5000",
            "--enable-logging=stderr",
            "--v=0",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return process.stdout, [_ for _ in process.stderr.splitlines() if "CONSOLE" in _]


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
class TestBrowser:
    @pytest.mark.slow
    def test_console_is_read(self, tmp_path):
        path = tmp_path / "page.html"
        path.write_text("<script>no_such_function()</script>")
        _, console = browse(path, tmp_path / "profile")
        assert "no_such_function" in console[0]

    def test_page(self, tmp_path, page):
        path = tmp_path / "page.html"
        content = page.read_text(encoding="utf-8").replace("</body>", PROBE)
        path.write_text(content, encoding="utf-8")
        document, console = browse(path, tmp_path / "profile")
        assert console == []
        parsed = re.search(r'<pre id="seen">(.*?)</pre>', document, re.DOTALL)
        seen = json.loads(HTMLText(parsed.group(1)).text)

        assert seen["title"] == f"Background systematics: {EVIL}"
        assert len(seen["images"]) == 10
        assert min(seen["images"]) > 300
        assert not seen["wide"]
        # numbers by value, and those that are missing last
        divergences = ["-0.0020", "0.0010", "0.0030", "0.0100", "0.1000"]
        assert seen["sorts"] == [
            ["KL_CORR", "ascending", [*divergences, DASH]],
            ["KL_CORR", "descending", [*divergences[::-1], DASH]],
            ["OFF_OBS_ID", "ascending", ["101", "102", "102", "103", "104", DASH]],
            ["STATUS", "ascending", ["large_kl", "no_mimic", "ok", "ok", "ok", "ok"]],
        ]
        assert seen["sorted"] == 1


class HTMLText(HTMLParser):
    """Text of a piece of HTML."""

    def __init__(self, content):
        super().__init__()
        self.text = ""
        self.feed(content)
        self.close()

    def handle_data(self, data):
        self.text += data
