"""The largest significance of a target, against random maps of its background."""

import dataclasses

import astropy.units as u
import numpy as np
import pytest
from astropy.convolution import Tophat2DKernel
from astropy.coordinates import Angle
from astropy.table import Table
from gammapy.datasets import Datasets, MapDatasetOnOff
from gammapy.makers import RingBackgroundMaker
from gammapy.maps import Map
from numpy.testing import assert_allclose, assert_equal
from scipy import stats
from scipy.signal import fftconvolve

from gammapy_mimic import MimicMaker
from gammapy_mimic.estimators import (
    MimicSystematics,
    MimicSystematicsEstimator,
    Verdict,
)
from gammapy_mimic.estimators.calibration import Systematic
from gammapy_mimic.estimators.maximum import (
    _get_map,
    has_more_in_mimics,
    tabulate_maximum,
)
from gammapy_mimic.estimators.measurement import (
    get_bands,
    measure_maps,
    measure_spectra,
)
from gammapy_mimic.estimators.tables import TARGET, Comparison
from gammapy_mimic.makers import reduce_fov_background
from gammapy_mimic.report import make_answer

from .helpers import need_runs
from .maxima_toys import make_fields
from .test_systematics import make_spectra
from .test_systematics_faults import make_dataset, make_geom, make_sets

GEOM = make_geom(width=1.5)
EDGES = [1, 10] * u.TeV
NOTHING = Systematic(0.0, 0.0, np.inf, 0.0, np.inf, 50.0)  # known to be perfect


def compare(target, mimics=(), edges=EDGES, radius=0.1, **options):
    """Measure maps of a target and of mimics."""
    groups = dict(enumerate(mimics)) | {TARGET: target}
    measured = {
        name: measure_maps(_, edges, Angle(radius, "deg")) for name, _ in groups.items()
    }
    geom = target.counts.geom.to_image()
    options |= {"radius": radius, "pixel_size": np.mean(geom.pixel_scales.deg)}
    options["area"] = geom.solid_angle().to_value("deg2")
    return Comparison(measured, get_bands(edges), **options)


def tabulate(target, systematic=NOTHING, n_maps=200, mimics=(), **options):
    """Table of a target, the last row of which is that of all energies."""
    comparison = compare(target, mimics)
    systematics = [systematic] * len(comparison.bands)
    return tabulate_maximum(comparison, target, systematics, n_maps=n_maps, **options)


def make_target(counts, background=4.0):
    """Dataset of given counts, with a flat background."""
    target = make_dataset(np.random.default_rng(0), background, geom=GEOM)
    target.counts.data[0] = counts
    return target


def draw_counts(rng, n=1, f=0.0, background=4.0):
    """Counts of fields whose background is wrong on the scale of the circle."""
    rates = np.ones((n, 30, 30))
    if f:
        kernel = Tophat2DKernel(2).array > 0
        rates = np.maximum(make_fields((30, 30), kernel, f, 1.0, n, rng), 0)
    return rng.poisson(background * rates)


def assert_same(table, other):
    for name in table.colnames:
        assert_equal(table[name].tolist(), other[name].tolist())


# P-values


@pytest.mark.slow
@pytest.mark.parametrize("f", [0, 0.08])
def test_p_values_of_blank_fields_are_uniform(f):
    """If the spread of the background is known. Of noise alone they are not."""
    counts = draw_counts(np.random.default_rng(0), 20, f, 12.0)
    targets = [make_target(_, 12.0) for _ in counts]
    systematic = NOTHING._replace(f_squared=f**2)
    p_values = [tabulate(_, systematic)["p_value"][0] for _ in targets]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    if f:
        p_values = [tabulate(_)["p_value"][0] for _ in targets]
        assert stats.kstest(p_values, "uniform").pvalue < 1e-6


def make_on_off(rng, alpha=0.2, background=4.0):
    dataset = make_target(rng.poisson(background, (30, 30)))
    off = rng.poisson(background / alpha, GEOM.data_shape)
    return MapDatasetOnOff(
        counts=dataset.counts,
        counts_off=Map.from_geom(GEOM, data=off.astype(float)),
        acceptance=Map.from_geom(GEOM, data=1.0),
        acceptance_off=Map.from_geom(GEOM, data=1 / alpha),
        mask_safe=dataset.mask_safe,
    )


@pytest.mark.slow
def test_p_values_of_on_and_off_counts_are_uniform():
    rng = np.random.default_rng(1)
    p_values = [tabulate(make_on_off(rng))["p_value"][0] for _ in range(20)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_pixels_without_off_counts():
    """Circles have some, and the prediction is that of all of them."""
    target = make_on_off(np.random.default_rng(1), alpha=1.0, background=2.0)
    assert np.mean(target.counts_off.data == 0) > 0.1
    comparison = compare(target)
    prediction, kernel, alpha, where = _get_map(comparison, target, 0)
    assert set(np.unique(alpha)) == {0, 1}
    circles = fftconvolve(prediction, kernel, mode="same")
    assert_allclose(circles / 2, comparison.target.background[0])
    assert where.all()


@pytest.mark.slow
def test_p_values_of_rings_are_not_too_small():
    """OFF counts are those of rings, which circles do not add up once more."""
    rng = np.random.default_rng(2)
    maker = RingBackgroundMaker(r_in="0.3 deg", width="0.2 deg")
    p_values = []
    for _ in range(20):
        target = maker.run(make_target(rng.poisson(4.0, (30, 30))))
        background = _get_map(compare(target), target, 0)
        p_values.append(tabulate(target)["p_value"][0])
    assert stats.kstest(p_values, "uniform", alternative="greater").pvalue > 0.01
    assert 0.35 < np.mean(p_values) < 0.75
    # a pixel of the prediction, and the circle over the ring
    assert_allclose(np.mean(background.prediction), 4, rtol=0.1)
    alpha = background.alpha[15, 15]
    assert_allclose(alpha, background.kernel.sum() * 0.05**2 / 0.5027, rtol=0.1)


@pytest.mark.slow
def test_spectra():
    """The largest of several observations, with ON and OFF counts."""
    p_values = []
    for (target,) in (make_spectra(seed, n_sets=1, n_obs=5) for seed in range(20)):
        measured = {TARGET: measure_spectra(target, EDGES)}
        comparison = Comparison(measured, get_bands(EDGES))
        (row,) = tabulate_maximum(comparison, target, [NOTHING], n_maps=200)
        assert row["significance"] == np.max(measured[TARGET].significance)
        p_values.append(row["p_value"])
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.slow
def test_source_is_rarer_than_one_in_all_sets():
    """Its p-value was 1 / 4 with three sets, however bright it was."""
    *sets, target = make_sets(n_sets=4, geom=GEOM)
    target[0].counts.data[0, 15, 15] += 300
    table = MimicSystematicsEstimator().run(sets, target).tables["maximum"]
    assert table["p_value"][-1] == 1 / 10_001
    assert table["n_larger"][-1] == 0
    assert "none of 10000 random maps" in table["text"][-1]


def test_no_more_maps_than_needed():
    row = tabulate(make_target(draw_counts(np.random.default_rng(3))[0]), n_maps=5000)[
        0
    ]
    assert row["p_value"] > 0.1
    assert row["n_larger"] == 99
    assert row["n_maps"] < 5000
    assert abs(row["significance"] - row["random_mean"]) < 2


def test_errors_of_the_spread_make_maxima_less_rare():
    """Of a spread that 4 degrees of freedom tell, and of a mean error."""
    target = make_target(draw_counts(np.random.default_rng(4))[0])
    target.counts.data[0, 15, 15] += 30
    poor = NOTHING._replace(f_dof=4.0)
    biased = NOTHING._replace(delta=0.1, delta_err=0.05, delta_dof=4.0)
    known, *others = (
        tabulate(target, _)["p_value"][0] for _ in (NOTHING, poor, biased)
    )
    assert 2 * known < min(others)


# Masks


def test_masked_pixels_do_not_count():
    rng = np.random.default_rng(5)
    target = make_target(draw_counts(rng)[0])
    safe, fit = np.ones((2, *GEOM.data_shape), dtype=bool)
    safe[:, :, :8], fit[:, :6] = False, False
    target.mask_safe = Map.from_geom(GEOM, data=safe)
    target.mask_fit = Map.from_geom(GEOM, data=fit)
    other = target.copy()
    other.counts.data[~(safe & fit)] += 500
    other.background.data[~(safe & fit)] *= 100
    tables = [tabulate(_) for _ in (target, other)]
    assert_same(*tables)


def test_prediction_is_that_of_the_measurement():
    """With bins that are not safe at some energies, in bands of several bins."""
    geom = make_geom(width=1.5, n_energies=4)
    target = make_dataset(np.random.default_rng(6), geom=geom)
    target.background.data *= np.arange(1, 5)[:, np.newaxis, np.newaxis]
    target.mask_safe.data[0, :, :10] = False
    target.mask_safe.data[3, :5] = False
    target.mask_safe.data[:, 25:] = False
    edges = geom.axes["energy"].edges[[0, 2, 4]]
    comparison = compare(target, edges=edges)
    for idx in range(3):
        prediction, kernel, alpha, where = _get_map(comparison, target, idx)
        circles = fftconvolve(prediction, kernel, mode="same")
        expected = comparison.target.background[idx]
        assert_allclose(circles[where], expected[where])
        assert where[:25, 10:].all()
        assert not where[25:].any()
        assert not alpha.any()


def test_known_sources_are_not_searched():
    target = make_target(draw_counts(np.random.default_rng(7))[0])
    target.counts.data[0, 15, 15] += 300
    source_free = np.ones((30, 30), dtype=bool)
    source_free[12:19, 12:19] = False
    comparison = compare(target, source_free=source_free)
    row = tabulate_maximum(comparison, target, [NOTHING], n_maps=200)[0]
    assert row["significance"] < 5
    assert row["p_value"] > 0.01


# What is given


def test_number_of_processes_does_not_matter():
    geom = make_geom(width=1.5, n_energies=2)
    target = make_dataset(np.random.default_rng(8), geom=geom)
    comparison = compare(target, edges=geom.axes["energy"].edges)
    systematics = [NOTHING._replace(f_dof=4.0)] * 3
    one, two, other = (
        tabulate_maximum(comparison, target, systematics, n_maps=500, **options)
        for options in ({"n_jobs": 1}, {"n_jobs": 2}, {"random_state": 1})
    )
    assert_same(one, two)
    assert one["n_maps"].tolist()[:2] == [50, 50]
    assert one["random_mean"][-1] != other["random_mean"][-1]


def test_mean_error_is_that_beyond_the_norm():
    """The norm of random maps does not take it out. A band has no norm of its own."""
    geom = make_geom(width=1.5, n_energies=2)
    target = make_dataset(np.random.default_rng(9), geom=geom)
    edges = geom.axes["energy"].edges
    comparison = compare(target, edges=edges, radius=0.5)
    region = np.ones((30, 30), dtype=bool)

    def get_means(delta, region):
        systematics = [NOTHING._replace(delta=delta)] * 3
        options = {"norm_region": region, "n_maps": 100}
        table = tabulate_maximum(comparison, target, systematics, **options)
        return table["random_mean"]

    (*bands, total), (*others, other) = (get_means(0.0, _) for _ in (None, region))
    assert bands == others
    assert other != total
    assert get_means(0.2, region)[-1] > other + 3


def test_spread_that_is_not_measured_is_said():
    target = make_target(draw_counts(np.random.default_rng(10))[0])
    target.counts.data[0, 15, 15] += 30
    unknown = [Systematic(), NOTHING._replace(f_dof=1.5), Systematic(0.5, 0.1, 4.0)]
    unknown.append(NOTHING._replace(f_background=np.inf))
    rows = [tabulate(target, _)[0] for _ in (NOTHING, *unknown)]
    assert [_["has_spread"] for _ in rows] == [True] + [False] * 4
    unknown = "noise alone, as the spread of the background was not measured"
    for row in rows[1:]:
        assert row["p_value"] == rows[1]["p_value"]
        is_few = row is rows[2]
        assert (unknown in row["text"]) != is_few
    # a spread that the sentence before it quotes is not one that was not measured
    assert "noise alone, as the mimics are worth 2.5 independent" in rows[2]["text"]
    assert "and 3 are needed" in rows[2]["text"]
    assert "noise alone" not in rows[0]["text"]


def test_what_cannot_be_measured():
    """Is in words, and NaN."""
    row = tabulate(make_target(0, background=1e-3))[0]
    assert row["text"] == "not measured: there is no position with enough background"
    target = make_target(draw_counts(np.random.default_rng(11))[0])
    large = tabulate(target, NOTHING._replace(f_squared=9.0))[0]
    assert "not measured: A spread f of 3 is too large" in large["text"]
    for _ in (row, large):
        assert np.isnan(_["p_value"])
        assert np.isnan(_["random_mean"])
        assert _["n_maps"] == 0


def test_positions_above_2_sigma_check_random_maps():
    """Mimics with a spread of 30% that random maps do not have, and some without."""
    rng = np.random.default_rng(12)
    counts = [*draw_counts(rng, 3, 0.3), *draw_counts(rng, 4)]
    *mimics, target = (make_target(_) for _ in counts)
    rows = [tabulate(target, mimics=_)[0] for _ in (mimics[:3], mimics[3:])]
    assert [has_more_in_mimics(_) for _ in rows] == [True, False]
    assert "too small, as mimic sets have" in rows[0]["text"]
    assert "too small" not in rows[1]["text"]
    for row, part in zip(rows, (mimics[:3], mimics[3:]), strict=True):
        values = [compare(_).target.significance[0] for _ in part]
        assert_allclose(row["n_above"], np.mean([np.sum(_ > 2) for _ in values]))
        largest = [np.max(_) for _ in values]
        assert_allclose(row["mimic_mean"], np.mean(largest))
        assert_allclose(row["mimic_std"], np.std(largest, ddof=1))
        assert_allclose(row["mimic_max"], np.max(largest))
        assert row["n_sets"] == 3


# The verdict


@pytest.fixture(scope="module")
def result():
    *sets, target = make_sets(n_sets=4, geom=GEOM)
    return MimicSystematicsEstimator().run(sets, target)


def judge(result, **values):
    """Result with other values in the table of the maximum."""
    row = dict(result.tables["maximum"][-1])
    row |= {"significance": 6.0, "mimic_max": 4.0, "has_spread": True, "n_sets": 3}
    row |= {"n_maps": 10_000, "n_above": 10.0, "n_above_expected": 9.0}
    row |= {"n_above_p_value": 0.5, "n_larger": 0.0} | values
    row["p_value"] = (1 + row["n_larger"]) / (1 + row["n_maps"])
    tables = {**result.tables, "maximum": Table([row])}
    return dataclasses.replace(result, tables=tables)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({}, Verdict.NOT_EXPLAINED),
        ({"significance": np.nan}, Verdict.NOT_MEASURED),
        ({"significance": 2.9}, Verdict.NO_EXCESS),
        ({"significance": 4.9}, Verdict.UNLIKELY),
        ({"n_maps": 1000}, Verdict.UNLIKELY),
        ({"n_larger": 1}, Verdict.UNLIKELY),
        ({"n_larger": 98}, Verdict.UNLIKELY),
        ({"n_larger": 110}, Verdict.MAY_EXPLAIN),
        ({"n_larger": 501}, Verdict.EXPLAINED),
        # noise alone explains it, and does not
        ({"n_larger": 501, "has_spread": False}, Verdict.EXPLAINED),
        ({"n_larger": 490, "has_spread": False}, Verdict.TOO_FEW),
        ({"n_sets": 2}, Verdict.TOO_FEW),
        ({"n_sets": 2, "n_larger": 501}, Verdict.EXPLAINED),
        ({"mimic_max": 6.1}, Verdict.MAY_EXPLAIN),
        # mimics have structures that random maps have not
        ({"n_above": 20.0, "n_above_p_value": 0.005}, Verdict.UNLIKELY),
        ({"n_above": 2.0, "n_above_p_value": 0.005}, Verdict.NOT_EXPLAINED),
        (
            {"n_above": 20.0, "n_above_p_value": 0.005, "n_larger": 9},
            Verdict.MAY_EXPLAIN,
        ),
    ],
)
def test_verdict(result, values, verdict):
    assert judge(result, **values).judgement.excess.verdict is verdict


def test_verdict_is_that_of_the_file(result, tmp_path):
    result = judge(result, text="p = 0.002 (20 of 10000 random maps)")
    result.write(tmp_path / "result.fits")
    again = MimicSystematics.read(tmp_path / "result.fits")
    assert again.judgement == result.judgement
    assert_same(result.tables["maximum"], again.tables["maximum"])


def test_answer_has_the_p_value_and_its_limits(result):
    answer = make_answer(judge(result, text="p = 0.002 (20 of 10000 random maps)"))
    assert answer.lines[2].endswith(": p = 0.002 (20 of 10000 random maps).")
    assert "(mean and standard deviation of 3 mimic sets" in answer.lines[1]
    assert "Random maps of the spread of mimics have" in answer.lines[1]
    assert not any("random maps" in _ for _ in answer.limits)
    values = {"n_above": 20.0, "n_above_p_value": 0.005, "has_spread": False}
    answer = make_answer(judge(result, **values))
    assert "Random maps of noise alone have" in answer.lines[1]
    (limit,) = (_ for _ in answer.limits if "random maps" in _)
    assert "20 positions above 2 sigma, random maps 9 (p = 0.005)" in limit


@pytest.mark.slow
def test_blank_fields_of_hess_off_runs(hess_store):
    """Six groups of OFF runs, each in turn the target and the others its mimics."""
    off = np.reshape(need_runs(hess_store, "offdata")[:42], (6, 7))
    obs_ids = need_runs(hess_store, "pks2155_flare")[:7]
    targets = hess_store.get_observations(obs_ids)
    fields = []
    for group in off:
        plan = dict(zip(obs_ids, group.tolist(), strict=True))
        mimics = MimicMaker(hess_store, plan).make_observations(targets)
        fields.append(Datasets([reduce_fov_background(mimics, fields=targets)]))
    verdicts, p_values = [], []
    for idx, target in enumerate(fields):
        sets = fields[:idx] + fields[idx + 1 :]
        result = MimicSystematicsEstimator().run(sets, target)
        verdicts.append(result.judgement.excess.verdict)
        p_values.append(result.select("maximum")["p_value"][0])
    # more than one of six has a probability of 0.15% for p <= 0.01
    assert sum(_ in (Verdict.UNLIKELY, Verdict.NOT_EXPLAINED) for _ in verdicts) < 2
    assert sum(np.array(p_values) <= 0.01) < 2
    assert stats.kstest(p_values, "uniform", alternative="greater").pvalue > 0.01
