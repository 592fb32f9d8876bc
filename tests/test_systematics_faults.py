"""What the estimator must not count: masked sources, no partner, no value."""

import html
import re

import astropy.units as u
import numpy as np
import pytest
from astropy.convolution import Tophat2DKernel
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from gammapy.datasets import Datasets, MapDataset
from gammapy.maps import Map, MapAxis, WcsGeom
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic.analysis.datasets import add_partners
from gammapy_mimic.data.meta_tables import stack_dataset
from gammapy_mimic.estimators import (
    MimicSystematics,
    MimicSystematicsEstimator,
    Verdict,
    average_flux,
)
from gammapy_mimic.estimators.checks import get_off_obs_ids, get_repetition
from gammapy_mimic.estimators.result_fits import RESULT_VERSION
from gammapy_mimic.estimators.tables import make_table
from gammapy_mimic.report import make_answer, make_report

CENTER = SkyCoord(83.6, -22, unit="deg")
MASK_RADIUS = 0.3 * u.deg


def make_geom(width=4, binsz=0.05, n_energies=1):
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=n_energies)
    return WcsGeom.create(
        skydir=CENTER, width=width, binsz=binsz, proj="TAN", axes=[axis]
    )


def make_dataset(rng, background=4.0, n_source=0, geom=None):
    """Flat background, and a source of a sigma of 0.07 deg in the centre."""
    geom = make_geom() if geom is None else geom
    counts = rng.poisson(background, geom.data_shape).astype(float)
    lon, lat = rng.normal(0, 0.07, size=(2, n_source))
    events = CENTER.spherical_offsets_by(lon * u.deg, lat * u.deg)
    dataset = MapDataset(
        counts=Map.from_geom(geom, data=counts),
        background=Map.from_geom(geom, data=np.full(geom.data_shape, background)),
        mask_safe=Map.from_geom(geom, data=True, dtype=bool),
    )
    dataset.counts.fill_by_coord(
        {"skycoord": events, "energy": np.full(n_source, 2) * u.TeV}
    )
    return dataset


def make_sets(seed=0, n_sets=5, **options):
    rng = np.random.default_rng(seed)
    return [Datasets([make_dataset(rng, **options)]) for _ in range(n_sets)]


def make_observed_sets(n_sets):
    """Sets whose datasets tell their observation, and its pointing."""
    sets = make_sets(n_sets=n_sets)
    for datasets in sets:
        columns = {"OBS_ID": [7], "RA_PNT": [83.6], "DEC_PNT": [-22.0]}
        datasets[0].meta_table = Table(columns)
    return sets


def make_mask(geom, center=CENTER):
    region = CircleSkyRegion(center, MASK_RADIUS)
    return geom.to_image().region_mask([region], inside=False)


# A masked source


@pytest.fixture(scope="module", params=["0.1 deg", "0.2 deg", "0.3 deg"])
def masked(request):
    """Results with and without a source of 1000 events, masked with 0.3 deg."""
    sets, mask = make_sets(), make_mask(make_geom())
    estimator = MimicSystematicsEstimator(request.param, exclusion_mask=mask)
    targets = [
        Datasets([make_dataset(np.random.default_rng(9), n_source=_)])
        for _ in (1000, 0)
    ]
    return [estimator.run(sets, _) for _ in targets]


def test_masked_source_is_not_the_largest_significance(masked):
    """It was, with 3.7, 6.0 and 24.4 sigma at 0.1, 0.2 and 0.3 deg."""
    for name in ("maximum", "significance"):
        with_source, without = (_.tables[name][-1] for _ in masked)
        for column in without.colnames:
            if without.columns[column].dtype.kind == "U":
                continue
            # one of the events may be outside of the mask
            assert_allclose(with_source[column], without[column], atol=0.01)


def test_one_place_decides_what_is_source_free(masked, tmp_path):
    """Tables, plots and the result that is read again have the same positions."""
    masked = masked[0]
    (row,) = masked.tables["significance"][-1:]
    target = masked.get_significance("target")
    assert target.size == row["n_positions"] == masked.source_free.data.sum()
    assert target.max() == row["maximum"]
    masked.write(tmp_path / "result.fits")
    again = MimicSystematics.read(tmp_path / "result.fits")
    assert again.source_free.data.dtype == bool
    assert_array_equal(again.source_free.data, masked.source_free.data)
    assert_array_equal(again.get_significance("target"), target)


def test_source_free_positions_are_those_without_excluded_sky():
    """By the distance of each pixel from all excluded ones."""
    geom = make_geom(width=1.5)
    off_center = CENTER.directional_offset_by(30 * u.deg, 0.3 * u.deg)
    mask = make_mask(geom, off_center)
    target = make_sets(1, 1, geom=geom)[0]
    estimator = MimicSystematicsEstimator("0.17 deg", exclusion_mask=mask)
    source_free = estimator.run(make_sets(geom=geom), target).source_free.data
    y, x = np.nonzero(~mask.data)
    pixels = np.indices(mask.data.shape)
    distance = np.hypot(
        pixels[0][..., np.newaxis] - y, pixels[1][..., np.newaxis] - x
    ).min(axis=-1)
    assert_array_equal(source_free, distance > 0.17 / 0.05)
    # the circle of Gammapy
    circle = Tophat2DKernel(0.17 / 0.05).array > 0
    pixels = np.indices(circle.shape) - circle.shape[0] // 2
    assert_array_equal(circle, np.hypot(*pixels) <= 0.17 / 0.05)


def test_excluded_sky_outside_of_the_map():
    geom, wide = make_geom(width=1), make_geom(width=3)
    outside = CENTER.directional_offset_by(0 * u.deg, 0.85 * u.deg)
    mask = make_mask(wide, outside)
    assert np.all(make_mask(geom, outside).data)
    estimator = MimicSystematicsEstimator("0.2 deg", exclusion_mask=mask)
    sets = make_sets(geom=geom)
    source_free = estimator.run(sets[:3], sets[3]).source_free.data
    edge = np.nonzero(~source_free)
    assert len(edge[0]) > 0
    # up to 0.55 deg less 0.2 deg from the centre, at the northern edge of 0.5 deg
    assert edge[0].min() == 20 - 3
    assert edge[0].max() == 19
    assert source_free[:, [0, -1]].all()


def test_no_mask():
    sets = make_sets()
    result = MimicSystematicsEstimator("0.2 deg").run(sets[:3], sets[3])
    assert result.source_free is None
    row = result.tables["significance"][-1]
    assert result.get_significance("target").size == row["n_positions"]


# Partners of mimics


def test_no_partner_is_not_one_observation_used_often():
    """75 distinct ones, and 4 targets without a partner in 5 sets: 5.0 before."""
    assert get_repetition([[_] for _ in [*range(75), *[-1] * 20]]) == 1
    assert get_repetition([[1, 1], [2, -1], [-1, -1]]) == 5 / 3
    assert get_repetition([[-1], [-1]]) == get_repetition([[]]) == 1


def test_partners_from_a_plan(caplog):
    """Datasets that Gammapy has made do not know them, and there is a warning."""
    sets = dict(enumerate(make_observed_sets(3), start=1))
    obs_ids = [int(_.meta_table["OBS_ID"][0]) for _ in sets[1]]
    rows = [(obs_id, number, 100 + obs_id) for number in sets for obs_id in obs_ids]
    plan = Table(rows=rows, names=["OBS_ID", "MIMIC_SET", "OFF_OBS_ID"])
    estimator = MimicSystematicsEstimator("0.2 deg")

    unknown = estimator.run(sets)
    assert "OFF observations of the mimics are not known" in caplog.text
    assert all("OFF_OBS_ID" not in _.meta_table.colnames for _ in sets[1])
    caplog.clear()
    known = estimator.run(sets, plan=plan)
    assert all("OFF_OBS_ID" not in _.meta_table.colnames for _ in sets[1])
    for number, datasets in sets.items():
        add_partners(datasets, plan, number)
    expected = estimator.run(sets)
    assert "not known" not in caplog.text
    # each is in all three sets
    assert_allclose(known.bias.error, unknown.bias.error * np.sqrt(3))
    assert_allclose(known.bias.error, expected.bias.error)
    with pytest.raises(ValueError, match="has no mimic set 3"):
        estimator.run(sets, plan=plan[plan["MIMIC_SET"] < 3])


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_no_prediction_is_no_background_of_zero(value, caplog):
    """Also in datasets that nobody has masked."""
    sets = make_observed_sets(4)
    dataset = sets[3][0]
    background = dataset.background.data.copy()
    background[:, 30:40, 30:40] = value
    broken = MapDataset(
        counts=dataset.counts,
        background=Map.from_geom(dataset.counts.geom, data=background),
        mask_safe=Map.from_geom(dataset.counts.geom, data=True, dtype=bool),
        meta_table=dataset.meta_table,
    )
    estimator = MimicSystematicsEstimator("0.2 deg")
    expected = estimator.run(sets[:3], sets[3]).tables["maximum"]
    table = estimator.run(sets[:3], Datasets([broken])).tables["maximum"]
    assert table["significance"][-1] < expected["significance"][-1] + 0.5
    assert "100 bins of the dataset" in caplog.text
    assert broken.mask_safe.data.all()


def test_partners_are_unknown_after_stacking_what_does_not_know_them():
    sets = make_observed_sets(2)
    sets[0][0].meta_table["OFF_OBS_ID"] = [101]
    sets[0][0].meta_table["MIMIC_SET"] = [1]
    stacked = MapDataset.from_geoms(**sets[0][0].geoms)
    for datasets in sets:
        stack_dataset(stacked, datasets[0])
    assert get_off_obs_ids({1: [stacked]}) == [[]]


@pytest.mark.slow
def test_losses_are_in_the_result_and_in_the_report(tmp_path):
    sets = make_observed_sets(4)
    for number, datasets in enumerate(sets):
        columns = {"LOST_COUNTS": 0, "LOST_FRACTION": 0.0}
        columns |= {"LOST_BINS": "", "LOST_CAUSE": ""}
        if number == 1:
            columns = {"LOST_COUNTS": 77, "LOST_FRACTION": 0.25}
            columns |= {"LOST_BINS": "1 to 2 TeV", "LOST_CAUSE": "background"}
        for name, value in columns.items():
            datasets[0].meta_table[name] = [value]
    result = MimicSystematicsEstimator("0.2 deg").run(sets[:3], sets[3])
    result.write(tmp_path / "result.fits")
    result = MimicSystematics.read(tmp_path / "result.fits")
    (row,) = result.tables["losses"]
    assert (row["name"], row["counts"], row["bins"]) == ("mimic_2", 77, "1 to 2 TeV")
    limits = make_answer(result).limits
    assert any(
        "Mimic set 2, OBS_ID" in _ and "25% of its counts (77)" in _ for _ in limits
    )
    make_report(result, tmp_path / "report.html")
    assert 'id="table-losses"' in (tmp_path / "report.html").read_text()


# What cannot be measured


def test_masked_position():
    """It had p = 1 / 51, the smallest possible."""
    sets = make_sets(n_sets=4)
    target = sets.pop().copy()
    hole = CircleSkyRegion(CENTER, 0.5 * u.deg)
    mask = target[0].counts.geom.region_mask([hole], inside=False)
    target[0].mask_safe = mask
    estimator = MimicSystematicsEstimator("0.1 deg", position=CENTER)
    row = estimator.run(sets, target).tables["position"][-1]
    for name in ("significance", "calibrated", "n_larger", "p_value"):
        assert np.isnan(row[name]), name
    assert row["text"] == "not measured: there is no significance"


@pytest.mark.parametrize("n_empty", [1, 2, 3])
def test_sets_without_background(n_empty):
    """Sets, and a target, without a position are NaN, and are not counted."""
    sets = make_sets(n_sets=3)
    empty = make_sets(7, background=1e-3)[0]
    sets[:n_empty] = [empty] * n_empty
    result = MimicSystematicsEstimator("0.2 deg").run(sets, empty)
    row = result.tables["maximum"][-1]
    assert row["n_sets"] == 3 - n_empty
    for name in ("significance", "p_value", "n_larger"):
        assert np.isnan(row[name]), name
    assert np.isfinite(row["mimic_mean"]) == (n_empty < 3)
    assert np.isfinite(row["mimic_std"]) == (n_empty < 2)
    assert np.isfinite(result.to_table()["width"][-1]) == (n_empty < 3)
    for table in result.tables.values():
        for name in table.colnames:
            if table[name].dtype.kind == "f":
                assert not np.any(table[name] <= -90), name


def test_number_of_larger_values():
    sets = make_sets(n_sets=6)
    target = sets.pop()
    result = MimicSystematicsEstimator("0.1 deg", position=CENTER).run(sets, target)
    for name, number in (("maximum", "n_maps"), ("position", "n_sample")):
        row = result.tables[name][-1]
        assert row["n_larger"] == int(row["n_larger"])
        assert row["p_value"] == (1 + row["n_larger"]) / (1 + row[number])
    *largest, _, value = result.tables["significance"]["maximum"]
    (row,) = result.tables["maximum"]
    assert (row["significance"], row["mimic_max"]) == (value, max(largest))


def test_bias_map_without_background(tmp_path):
    """Its p-value was 1, as if counts and prediction were known to agree."""
    rng = np.random.default_rng(0)
    sets = []
    for idx in range(3):
        dataset = make_dataset(rng, background=1e-3)
        columns = {"RA_PNT": [CENTER.ra.deg], "DEC_PNT": [CENTER.dec.deg]}
        dataset.meta_table = Table({**columns, "OFF_OBS_ID": [idx]})
        sets.append(Datasets([dataset]))
    result = MimicSystematicsEstimator("0.2 deg").run(sets)
    assert np.isnan(result.bias.p_value)
    assert not result.bias.is_significant
    result.write(tmp_path / "result.fits")
    assert np.isnan(MimicSystematics.read(tmp_path / "result.fits").bias.p_value)
    with pytest.raises(ValueError, match="no bin with enough background"):
        result.apply_bias_correction(sets[0][0])


def test_small_set_does_not_move_the_averages():
    """A set of few positions, beside four of many, made f 19.2 +- 8.6%."""
    sets = make_sets(n_sets=4)
    part = make_dataset(np.random.default_rng(3))
    part.mask_safe = part.mask_safe.geom.region_mask(
        [CircleSkyRegion(CENTER, 0.12 * u.deg)]
    )
    part.counts.data[0, 39:41, 39:42] += 4
    estimator = MimicSystematicsEstimator("0.1 deg")
    alone, both = (
        estimator.run(_).to_table()[-1] for _ in (sets, [*sets, Datasets([part])])
    )
    for name in ("mean", "width", "f_squared"):
        error = alone[f"{name}_err"]
        assert abs(both[name] - alone[name]) < 0.5 * error, name
        assert both[f"{name}_err"] < 1.5 * error, name
    assert both["f_ul"] < 1.5 * alone["f_ul"]


# Order of rows


def make_fluxes(n_sets=3, n_bands=2):
    rows = [
        {
            "name": f"mimic_{mimic_set}",
            "band": str(band),
            "e_min": 10.0**band * u.TeV,
            "e_max": 10.0 ** (band + 1) * u.TeV,
            "flux": 10.0 * band + mimic_set,
            "flux_err": 1.0,
            "flux_ul": 5.0,
        }
        for mimic_set in range(n_sets)
        for band in range(n_bands)
    ]
    return make_table(rows)


def test_average_flux_does_not_depend_on_the_order():
    table = make_fluxes()
    expected = average_flux(table)
    assert expected["mean"].tolist() == [1, 11]
    for order in ([0, 2, 4, 1, 3, 5], [4, 1, 0, 3, 2, 5]):
        shuffled = average_flux(table[order])
        shuffled.sort("e_min")
        assert shuffled["band"].tolist() == ["0", "1"]
        for name in expected.colnames[1:]:
            assert_allclose(shuffled[name], expected[name])
    missing = average_flux(table[:-1])
    assert missing["n_sets"].tolist() == [3, 2]
    with pytest.raises(ValueError, match="set mimic_2 is 2 times in the table"):
        average_flux(table[[0, 1, 2, 3, 4, 5, 5]])


@pytest.mark.parametrize("version", range(1, RESULT_VERSION))
def test_old_result(tmp_path, version):
    primary = fits.PrimaryHDU()
    primary.header["MIM_RES"] = version
    primary.writeto(tmp_path / "old.fits")
    match = (
        f"version {version} of the format, this is version {RESULT_VERSION}. Run the "
    )
    with pytest.raises(ValueError, match=match):
        MimicSystematics.read(tmp_path / "old.fits")


# The verdict


@pytest.mark.slow
def test_no_blank_field_is_called_unlikely():
    """Six blank fields, each in turn the target: one was called unlikely, p = 0.17."""
    fields = make_sets(n_sets=6)
    estimator = MimicSystematicsEstimator("0.1 deg")
    for idx, target in enumerate(fields):
        sets = fields[:idx] + fields[idx + 1 :]
        result = estimator.run(sets, target)
        assert result.judgement.excess.verdict is Verdict.EXPLAINED
        assert "The background explains it: p = 0." in make_answer(result).lines[-1]


# Words for what cannot be measured


def get_words(result, path):
    """Text of the report, without tags and what is not shown."""
    make_report(result, path)
    content = path.read_text(encoding="utf-8")
    content = re.sub(
        r"<style>.*?</style>|<script>.*?</script>", "", content, flags=re.DOTALL
    )
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", content)).split())


@pytest.mark.parametrize(
    ("n_empty", "is_empty", "words"),
    [
        (3, True, "The target's map has no position with enough background counts."),
        (3, False, "Of the mimic sets, none has a position with enough background"),
        (2, False, "Of the mimic sets, one has a position with enough background"),
        (2, True, "The target's map has no position with enough background counts."),
    ],
)
@pytest.mark.slow
def test_words_of_a_report(tmp_path, n_empty, is_empty, words):
    """No number stands for what is not known, and no NaN."""
    sets = make_sets(n_sets=4)
    empty = make_sets(7, background=1e-3)[0]
    target = empty if is_empty else sets[3]
    sets = [empty] * n_empty + sets[: 3 - n_empty]
    result = MimicSystematicsEstimator("0.2 deg").run(sets, target)
    text = get_words(result, tmp_path / "report.html")
    assert words in text
    for number in ("nan", "inf", "-99", "-90"):
        assert not re.search(rf"(?<![\w.]){number}(?![\w.])", text), number
    assert "nan" not in str(result).split("mimic_mean")[0]
