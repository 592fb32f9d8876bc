"""The report for who did not run it: what it says, shows, and gives to be copied."""

import dataclasses
import json
import re
from types import SimpleNamespace

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.table import Table
from gammapy.datasets import Datasets
from gammapy.stats import CashCountsStatistic, WStatCountsStatistic
from numpy.testing import assert_allclose
from regions import CircleSkyRegion

from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.estimators.position import find_factor
from gammapy_mimic.estimators.verdict import Verdict
from gammapy_mimic.exclusion import ExclusionRegions
from gammapy_mimic.report import make_answer, make_report
from gammapy_mimic.report.facts import describe_flux, make_facts
from gammapy_mimic.report.figures import WIDTH, _choose_columns, make_figures
from gammapy_mimic.selection import MimicPlan
from gammapy_mimic.utils.records import StepRecords
from gammapy_mimic.visualization import plot_flux

from .test_report import (
    CENTER,
    CHROMIUM,
    HTMLText,
    Page,
    browse,
    make_dataset,
    replace_row,
    run,
)
from .test_systematics import make_spectra

N_TARGETS = 5  # whose pairs with three sets are a long table


@pytest.fixture(scope="module")
def result():
    """Three mimic sets, and a target with a source, in one band of energy."""
    sets = {
        name: Datasets([make_dataset(_, 100 * name + _) for _ in (1, 2)])
        for name in (1, 2, 3)
    }
    # the lower bin of energy of one mimic is not safe
    sets[1][0].mask_safe.data[0] = False
    target = Datasets([make_dataset(_, 900 + _, 20) for _ in (1, 2)])
    estimator = MimicSystematicsEstimator("0.2 deg", position=CENTER, radii=None)
    return estimator.run(sets, target)


@pytest.fixture(scope="module")
def plan():
    obs_ids = np.repeat(np.arange(1, N_TARGETS + 1), 3)
    sets = np.tile([1, 2, 3], N_TARGETS)
    table = Table({"OBS_ID": obs_ids, "MIMIC_SET": sets})
    table["OFF_OBS_ID"] = 100 * sets + obs_ids
    table["RATE_RATIO"] = np.array([0.8, 0.9, 1.1])[sets - 1]
    return MimicPlan(table)


@pytest.fixture(scope="module")
def regions():
    return ExclusionRegions([CircleSkyRegion(CENTER, 0.3 * u.deg)], names=["A $ star"])


@pytest.fixture(scope="module")
def path(tmp_path_factory, result, plan, regions):
    """Report, with files of its pictures."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    options = {"exclusion_regions": regions, "pictures": True}
    make_report(result, path, plan=plan, **options)
    return path


@pytest.fixture(scope="module")
def figures(result, regions):
    return make_figures(result, regions)


class TestMaps:
    @pytest.mark.parametrize("number", range(1, 10))
    def test_no_map_is_lonely(self, number):
        n_columns = _choose_columns(number)
        assert n_columns <= 4
        assert number <= 3 or number % n_columns != 1

    @pytest.mark.slow
    def test_width_of_the_page(self, figures):
        for name in ("maps", "bias"):
            (figure,) = figures[name]
            assert 0.94 < figure.width / (96 * WIDTH) < 1.01

    @pytest.mark.slow
    def test_labels_of_the_target(self, figures):
        figure = figures["maps"][0].drawing
        first, *others, _ = figure.axes
        assert first.get_title() == "Target"
        assert [_.get_text() for _ in first.texts] == ["A $ star"]
        assert all(not _.texts for _ in others)
        longitude, latitude = first.coords
        assert longitude.get_axislabel() == "Right ascension [h m]"
        assert latitude.get_axislabel() == "Declination [deg]"

    @pytest.mark.slow
    def test_text_of_the_pictures_is_that_of_the_page(self, path, figures):
        label = figures["maps"][0].drawing.axes[-1].yaxis.label
        # 12 points are 16 pixels
        assert label.get_fontsize() == 12
        css = re.search(r"<style>(.*?)</style>", path.read_text(), re.DOTALL)[1]
        for name in ("figcaption", "caption", "th small"):
            rule = re.search(rf"(?m)^{name} {{(.*?)}}", css, re.DOTALL)[1]
            assert "font-size: 0" not in rule


class TestFacts:
    @pytest.mark.slow
    def test_sets(self, result):
        table = result.tables["sets"]
        assert table["name"].tolist() == ["mimic_1", "mimic_2", "mimic_3", "target"]
        assert table["n_datasets"].tolist() == [2, 2, 2, 2]
        edge = np.sqrt(10)
        assert table["e_min"].unit == "TeV"
        assert_allclose(table["e_min"], 1)
        assert_allclose(table["e_min_all"], [edge, 1, 1, 1])
        assert_allclose(table["e_max"], 10)
        # half of the pixels of one energy of one observation
        assert_allclose(table["background_ratio"][0], 0.75, rtol=0.01)

    @pytest.mark.slow
    def test_page(self, path, result, plan):
        text = Page(path).text
        facts = make_facts(result, plan)
        assert facts["Energies with data"] == (
            "target 1 to 10 TeV; mimic sets 1 to 10 TeV, in all observations from "
            "3.16 TeV"
        )
        rates = facts["Background of the mimic sets"]
        assert rates.startswith("75% to 100% of the target's counts; 80% to 110% of")
        for name, fact in facts.items():
            assert f"{name} {fact}" in text
        rows = Page(path).tables["table-sets"]
        column = rows.names.index("rate_ratio")
        assert [_[column] for _ in rows.values] == ["0.8", "0.9", "1.1", ""]

    def test_independent_off_hours(self, result):
        tables = {**result.tables, "time": result.tables["time"].copy()}
        tables["time"]["target_time"], tables["time"]["off_time"] = 2.0, 5.0
        facts = make_facts(dataclasses.replace(result, tables=tables))
        assert facts["Independent OFF time"] == (
            "5.0 h, what sets share counted once; 6 observations; 2.5 times the target"
        )
        assert facts["Target"] == "2 datasets, 2.0 h"

    @pytest.mark.slow
    def test_flux_of_the_target_is_beside_the_spurious_one(self, result, path):
        means, table = result.tables["spurious_flux"], result.tables["flux"]
        target = table[table["name"] == "target"]
        assert_allclose(means["target_flux"], target["flux"])
        assert_allclose(means["target_flux_err"], target["flux_err"])
        assert means["target_flux"].unit == means["mean"].unit
        text = describe_flux(result)
        assert text in Page(path).text
        number = re.match(r"The target has a flux of (\S+) ± (\S+) cm-2 s-1", text)
        assert_allclose(float(number[1]), means["target_flux"][0], rtol=0.01)
        assert_allclose(float(number[2]), means["target_flux_err"][0], rtol=0.05)

    @pytest.mark.slow
    def test_text_for_a_paper(self, path, result):
        paragraph = result.to_text("paper").splitlines()[0]
        assert f'id="paper-text">{paragraph}</p>' in path.read_text()
        row = result.tables["spurious_flux"][0]
        parts = (row[_] / row["target_flux"] for _ in ("sys_errn", "sys_errp"))
        errors = "-{:.1%} and +{:.1%}".format(*parts)
        assert f"the systematic error by the background is {errors}." in paragraph


class TestTooLarge:
    @pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
    def test_factor_leaves_three_sigma(self, alpha):
        def measure(n_on, factor):
            if alpha:
                return WStatCountsStatistic(n_on, 20 / alpha, alpha * factor).sqrt_ts
            return CashCountsStatistic(n_on, 20 * factor).sqrt_ts

        significance = float(measure(500.0, 1))
        factor = find_factor(significance, 20 / (1 + alpha), alpha)
        assert factor > 10
        assert_allclose(measure(500.0, factor), 3, rtol=1e-4)
        assert np.isnan(find_factor(2.9, 20, alpha))
        assert np.isnan(find_factor(np.nan, 20, alpha))
        assert np.isnan(find_factor(30.0, 0, alpha))

    @pytest.mark.parametrize(
        ("values", "verdict"),
        [
            ({}, Verdict.TOO_LARGE),
            ({"background_factor": 1.9}, Verdict.TOO_FEW),
            ({"background_factor": np.nan}, Verdict.TOO_FEW),
            ({"significance": 4.9}, Verdict.TOO_FEW),
            # mimics show something like it
            ({"n_larger": 1.0}, Verdict.TOO_FEW),
            ({"mimic_width": 8.0}, Verdict.TOO_FEW),
            # three OFF observations, whose scatter is hardly known
            ({"mimic_width": 1.1, "calibrated": 2.5}, Verdict.TOO_LARGE),
            ({"mimic_width": 8.0, "calibrated": 2.5}, Verdict.MAY_EXPLAIN),
            ({"mimic_width": 1.1, "calibrated": 6.0}, Verdict.NOT_EXPLAINED),
        ],
    )
    def test_a_bright_source_is_none_of_the_background(self, result, values, verdict):
        """Regression: a Crab of 37 sigma was "too few mimics to tell"."""
        row = {"significance": 37.0, "mimic_mean": 0.0, "mimic_width": np.nan}
        row |= {"calibrated": np.nan, "calibrated_p_value": np.nan, "n_larger": 0.0}
        changed = replace_row(
            result, "position", **(row | {"background_factor": 12.0} | values)
        )
        excess = changed.judgement.excess
        assert excess.verdict is verdict
        last = make_answer(changed).lines[2]
        is_said = "the background would have to be 12.0 times its prediction" in last
        assert is_said == (verdict is Verdict.TOO_LARGE)


@pytest.fixture(scope="module")
def spectra():
    """Two sets, whose scatter is not known, and a bright target."""
    *sets, target = make_spectra(0, n_sets=3, n_obs=2, n_on=2.0)
    for dataset in target:
        dataset.counts.data += 60
    return MimicSystematicsEstimator().run(sets, target)


class TestSpectra:
    def test_bright_source(self, spectra):
        assert spectra.judgement.excess.verdict is Verdict.TOO_LARGE
        assert "too large for the background" in make_answer(spectra).lines[2]

    def test_no_word_of_maps_and_no_empty_axes(self, spectra, tmp_path, monkeypatch):
        drawn = []
        monkeypatch.setattr(
            "gammapy_mimic.report.page.make_figures",
            lambda *args: drawn.append(make_figures(*args)) or drawn[0],
        )
        regions = [CircleSkyRegion(CENTER, 0.3 * u.deg)]
        make_report(spectra, tmp_path / "report.html", exclusion_regions=regions)
        content = (tmp_path / "report.html").read_text()
        content = re.sub(r"<(style|script)>.*?</\1>", "", content, flags=re.DOTALL)
        page = SimpleNamespace(text=HTMLText(content).text)
        found = re.findall(r"(?i)\bmaps?\b|circles|pixels?|n_maps", page.text)
        assert found == []
        assert 'title="' in content
        assert not re.findall(r'title="[^"]*\b(map|pixel|circles)', content)
        for figure in [_ for part in drawn[0].values() for _ in part]:
            for ax in figure.drawing.axes:
                assert ax.has_data()

    def test_warning_is_one_of_spectra(self, caplog):
        *sets, target = make_spectra(0, n_sets=3, n_obs=1, n_on=1.0, has_exposure=False)
        MimicSystematicsEstimator().run(sets, target)
        assert "no observation has 10 background counts" in caplog.text
        assert "correlation radius" not in caplog.text


def test_bands_without_positions_have_no_axes(result):
    """Regression: axes without a histogram."""
    figures = make_figures(dataclasses.replace(result, min_background=1e6))
    assert figures["distributions"] == []


def test_flux_of_the_target_alone(result):
    """Regression: an error where no flux of mimics has an error."""
    table, means = (result.tables[_].copy() for _ in ("flux", "spurious_flux"))
    table["flux_err"][table["name"] != "target"] = np.nan
    for name in ("mean", "std"):
        means[name] = np.full(len(means), np.nan) * means[name].unit
    tables = {**result.tables, "flux": table, "spurious_flux": means}
    changed = dataclasses.replace(result, tables=tables)
    _, ax = plt.subplots()
    plot_flux(changed, ax=ax)
    *_, star = ax.containers
    target = table[table["name"] == "target"]
    assert_allclose(star.lines[0].get_ydata().astype(float), target["flux"])
    plt.close("all")
    assert describe_flux(changed) == ""


def test_long_tables_fold(path):
    content = path.read_text()
    (summary,) = re.findall(r'<details class="fold"><summary>(.*?)</summary>', content)
    assert "Pairs of target and OFF observation" in summary
    assert f"{3 * N_TARGETS} rows" in summary
    # all others are short
    short = [name for name, _ in Page(path).tables.items() if name != "table-plan"]
    for name in short:
        assert f'id="{name}" class="sortable short"' in content


class TestPictures:
    def test_files(self, path):
        folder = path.with_name("report_files")
        ids = [attrs["id"] for tag, attrs in Page(path).tags if tag == "figure"]
        names = {_.removeprefix("figure-") for _ in ids}
        written = {_.name for _ in folder.iterdir() if not _.name.startswith(".")}
        assert written == {
            f"{name}.{kind}" for name in names for kind in ("png", "pdf")
        }
        for file in folder.glob("[!.]*"):
            start = {".png": b"\x89PNG", ".pdf": b"%PDF"}[file.suffix]
            assert file.read_bytes().startswith(start)

    @pytest.mark.slow
    def test_same_report_with_and_without(self, path, tmp_path, result, plan, regions):
        other = tmp_path / "report.html"
        make_report(result, other, plan=plan, exclusion_regions=regions)
        assert not (tmp_path / "report_files").exists()
        assert Page(other).images == Page(path).images

    def test_files_of_others_stay(self, tmp_path, result, monkeypatch):
        monkeypatch.setattr("gammapy_mimic.report.page.make_figures", lambda *args: {})
        path, folder = tmp_path / "report.html", tmp_path / "report_files"
        folder.mkdir()
        with pytest.raises(FileExistsError, match="report_files exists"):
            make_report(result, path, pictures=True)
        (folder / "mine.txt").write_text("mine")
        with pytest.raises(FileExistsError, match=r"mine\.txt was not written"):
            make_report(result, path, pictures=True, overwrite=True)
        assert (folder / "mine.txt").read_text() == "mine"
        assert not path.exists()

    @pytest.mark.slow
    def test_command(self, tmp_path, result):
        result.write(tmp_path / "systematics.fits")
        assert run("report", tmp_path, "--pictures") == 0
        assert (tmp_path / "report_files/maps.pdf").exists()
        assert run("report", tmp_path, "--pictures") == 1

    def test_step_knows_them(self, tmp_path):
        """Pictures of an earlier run go, where none are asked for."""
        records = StepRecords(tmp_path)
        with records.step("report", "1", ["report.html", "report_files"]):
            (tmp_path / "report.html").write_text("old")
        with records.step("report", "2", ["report.html"]):
            pass
        assert records.is_done("report", "2")


# what is copied, and what a printer gets
PROBE = """
<script>
const count = () => document.querySelectorAll("details:not([open])").length;
const seen = {copies: {}, folded: [count()]};
for (const one of document.querySelectorAll("table.sortable")) {
  seen.copies[one.id] = [toEcsv(one), toLatex(one)];
}
seen.buttons = document.querySelectorAll(".copy button").length;
window.dispatchEvent(new Event("beforeprint"));
seen.folded.push(count());
window.dispatchEvent(new Event("afterprint"));
seen.folded.push(count());
const output = document.createElement("pre");
output.id = "seen";
output.textContent = JSON.stringify(seen);
document.body.append(output);
</script>
</body>"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory, path):
    folder = tmp_path_factory.mktemp("browser")
    content = path.read_text(encoding="utf-8").replace("</body>", PROBE)
    (folder / "page.html").write_text(content, encoding="utf-8")
    document, console = browse(folder / "page.html", folder / "profile")
    assert console == []
    text = re.search(r'<pre id="seen">(.*?)</pre>', document, re.DOTALL)[1]
    return json.loads(HTMLText(text).text)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
class TestBrowser:
    def test_ecsv_is_the_table(self, seen, result, plan):
        """To the last bit, with units and masks."""
        for name, expected in result.tables.items():
            table = Table.read(seen["copies"][f"table-{name}"][0], format="ascii.ecsv")
            for column in set(table.colnames) - {"rate_ratio"}:
                values, others = table[column], expected[column]
                assert u.Unit(values.unit or "") == u.Unit(others.unit or "")
                if column != "obs_id":
                    np.testing.assert_array_equal(values, others)
            left_out = [_ for _ in expected.colnames if _ not in table.colnames]
            for column in left_out:
                is_matrix = expected[column].ndim > 1
                assert is_matrix or not np.isfinite(expected[column]).any()
        pairs = Table.read(seen["copies"]["table-plan"][0], format="ascii.ecsv")
        assert pairs["OFF_OBS_ID"].tolist() == plan.table["OFF_OBS_ID"].tolist()
        regions = Table.read(
            seen["copies"]["table-exclusion-regions"][0], format="ascii.ecsv"
        )
        assert regions["name"].tolist() == ["A $ star"]
        assert regions["on the map"].tolist() == [True]

    def test_latex(self, seen):
        latex = seen["copies"]["table-spurious_flux"][1]
        lines = latex.splitlines()
        n_columns = len(lines[2].partition("{tabular}{")[2].rstrip("}"))
        assert lines[4].count("&") == lines[5].count("&") == n_columns - 1
        assert "target\\_flux\\_err" in lines[4]
        assert "cm$^{-2}$ s$^{-1}$" in lines[5]
        assert re.search(r"\$-?\d\.\d+ \\times 10\^\{-\d+\}\$", lines[7])
        names = seen["copies"]["table-exclusion-regions"][1]
        assert "A \\$ star" in names
        for _, text in seen["copies"].values():
            assert text.count("\\begin") == text.count("\\end") == 2
            assert not re.search(r"(?<![\\{$])_", text)

    def test_buttons_and_print(self, seen):
        # two for each table, one for the text of a paper
        assert seen["buttons"] == 2 * len(seen["copies"]) + 1
        before, printed, after = seen["folded"]
        assert before == after > 0 == printed

    @pytest.mark.slow
    def test_without_scripts_there_are_no_buttons(self, path):
        assert "Copy as" not in path.read_text().partition("<script>")[0]
