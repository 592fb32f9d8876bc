"""Apertures that do not overlap, and the counts of datasets in them."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from gammapy.datasets import Datasets, MapDatasetOnOff
from gammapy.makers import RingBackgroundMaker
from gammapy.maps import Map
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion
from scipy.spatial import cKDTree

from gammapy_mimic.data.template_irfs import NEFF_ENERGIES
from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.estimators.aperture_counts import ApertureCounts
from gammapy_mimic.estimators.apertures import (
    OUTSIDE,
    make_grid,
    make_region,
    make_ring,
)
from gammapy_mimic.estimators.counting import BandCounts, count_maps, count_spectra
from gammapy_mimic.estimators.maxima import get_significance
from gammapy_mimic.estimators.position import calibrate
from gammapy_mimic.estimators.template_noise import measure_template_noise

from .test_systematics import CENTER, EDGES, Field, make_spectra, simulate_sets

SHAPE, SIZE = (80, 100), 0.05


@pytest.mark.parametrize("radius", [0.02, 0.1, 0.12, 0.3, 1.0])
def test_grid_fills_the_map_once(radius):
    grid = make_grid(SHAPE, SIZE, radius)
    labels = grid.labels
    # each pixel has one label, that of a center within the radius
    y, x = np.nonzero(labels != OUTSIDE)
    distance = np.hypot(*(np.stack([y, x], axis=1) - grid.pixels[labels[y, x]]).T)
    assert distance.max() <= max(radius / SIZE, 0.5) + 1e-6
    # the densest packing of circles covers 90.7% of a plane
    if radius in (0.1, 0.12, 0.3):
        assert 0.8 < np.mean(labels != OUTSIDE) < 0.95
    if len(grid.pixels) > 1:
        nearest = cKDTree(grid.pixels).query(grid.pixels, 2)[0][:, 1]
        assert nearest.min() >= max(2 * radius / SIZE, 1) * (1 - 1e-9)


def test_ring_has_the_offset_of_the_position():
    y, x = np.indices(SHAPE)
    offset = np.hypot(y - 40, x - 50) * SIZE
    ring = make_ring(SHAPE, SIZE, 0.1, (40, 70), offset)
    assert_array_equal(ring.pixels[0], [40, 70])
    assert np.abs(offset[ring.indices] - 1).max() <= 0.05 + 1e-9
    # 2 pi / 0.2 circles would fit, if they were not on pixels
    assert 20 <= len(ring.pixels) <= 31
    separation = np.hypot(*(ring.pixels[:, np.newaxis] - ring.pixels).T)
    np.fill_diagonal(separation, np.inf)
    assert separation.min() >= 4
    (pixel,) = make_ring(SHAPE, SIZE, 0.1, (40, 70)).pixels
    assert_array_equal(pixel, [40, 70])


def test_region_is_one_aperture():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[10:20, 30:40] = True
    values = np.random.default_rng(0).poisson(3, SHAPE)
    assert_allclose(make_region(mask, SIZE).add(values), [values[mask].sum()])


def get_counts(sets, radius=0.3, edges=EDGES, names=None, **options):
    geom = next(iter(sets.values()))[0].counts.geom.to_image()
    grid = make_grid(geom.data_shape, 0.05, radius)
    runs = names or [
        int(_.meta_table["OFF_OBS_ID"][0]) for one in sets.values() for _ in one
    ]
    (bands,) = count_maps(sets, runs, geom, [grid], edges, **options)
    return grid, bands


@pytest.fixture(scope="module")
def sets():
    sets = simulate_sets(Field(3, 3), 0, n_sets=2, tilt=0.1)
    return dict(zip("ab", sets, strict=True))


class TestMaps:
    def test_sums(self, sets):
        grid, bands = get_counts(sets)
        assert [_.counts.counts.shape for _ in bands] == [(3, 2, len(grid.pixels))] * 3
        for dataset, run, idx in ((sets["a"][1], 1, 0), (sets["b"][0], 0, 1)):
            mask = dataset.mask_safe.data
            for band, bins in zip(bands, (slice(0, 1), slice(1, 3), ...), strict=True):
                for name, map_ in (
                    ("counts", dataset.counts),
                    ("background", dataset.npred_background()),
                ):
                    image = (map_.data * mask)[bins].sum(axis=0)
                    values = getattr(band.counts, name)[run, idx]
                    assert_allclose(values, grid.add(image), atol=1e-9)

    def test_cutouts_are_parts(self, sets):
        """Datasets that are parts of the map give the same."""
        cut = {}
        for name, values in sets.items():
            cut[name] = Datasets()
            for dataset in values:
                table = dataset.meta_table
                center = SkyCoord(table["RA_PNT"][0], table["DEC_PNT"][0], unit="deg")
                cut[name].append(dataset.cutout(center, 4.2 * u.deg))
        geom = sets["a"][0].counts.geom.to_image()
        grid = make_grid(geom.data_shape, 0.05, 0.3)
        options = geom, [grid], EDGES
        (expected,), (found,) = (count_maps(_, None, *options) for _ in (sets, cut))
        assert cut["a"][0].counts.data.shape < sets["a"][0].counts.data.shape
        # without models, which a cutout does not keep
        assert_allclose(found[0].counts.counts, expected[0].counts.counts)

    def test_norm_that_was_fitted_is_found(self, sets):
        _, bands = get_counts(sets)
        # all energies are the counts that the norm was fitted to
        assert_allclose(bands[-1].norm_share.sum(axis=1), 0.91, atol=0.05)
        assert_allclose(
            bands[0].norm_share + bands[1].norm_share, bands[2].norm_share, atol=1e-12
        )
        for dataset in sets["a"]:
            dataset.models[0].spectral_model.norm.value *= 1.01
        try:
            _, (*_, total) = get_counts(sets)
        finally:
            for dataset in sets["a"]:
                dataset.models[0].spectral_model.norm.value /= 1.01
        assert_array_equal(total.norm_share[0], 0)
        assert total.norm_share[1].sum() > 0.8

    def test_sets_are_joined(self, sets):
        _, (*_, total) = get_counts(sets)
        joined = total.join_sets()
        assert joined.counts.counts.shape[1] == 1
        assert_allclose(joined.counts.counts.sum(), total.counts.counts.sum())
        assert_allclose(joined.norm_share.sum(), total.norm_share.sum(axis=1).mean())
        one, other = total.measure(), joined.measure()
        assert_allclose(one.delta.value, other.delta.value)
        assert_allclose(one.delta.error, other.delta.error, rtol=0.2)


def make_on_off(seed, alpha=0.25):
    rng, geom = np.random.default_rng(seed), Field(1, 3).geom
    maps = {
        "counts": rng.poisson(3, geom.data_shape),
        "counts_off": rng.poisson(3 / alpha, geom.data_shape),
        "acceptance": np.full(geom.data_shape, 2.0),
        "acceptance_off": np.full(geom.data_shape, 2 / alpha),
    }
    maps["acceptance_off"][:, :10] = 0
    maps = {
        name: Map.from_geom(geom, data=data.astype(float))
        for name, data in maps.items()
    }
    meta = Table({"OBS_ID": [1], "OFF_OBS_ID": [seed]})
    return MapDatasetOnOff(**maps, meta_table=meta, name=f"on-off-{seed}")


def test_on_off_counts():
    sets = {name: Datasets([make_on_off(idx)]) for idx, name in enumerate("abcde")}
    grid, bands = get_counts(sets)
    counts = bands[0].counts
    mask = sets["a"][0].acceptance_off.data > 0
    off = grid.add((sets["a"][0].counts_off.data * mask)[0])
    assert_allclose(counts.counts_off[0, 0], off)
    has_off = off > 0
    assert_allclose(counts.alpha[0, 0][has_off], 0.25)
    result = bands[-1].measure()
    assert abs(result.delta.value) < 4 * result.delta.error
    assert result.f.low == 0


def test_masks_stay_as_they_are():
    dataset = make_on_off(1)
    dataset.mask_safe = Map.from_geom(dataset.counts.geom, data=True, dtype=bool)
    get_counts({"a": Datasets([dataset])})
    assert dataset.mask_safe.data.all()


def test_spectra_are_apertures_by_target():
    sets = dict(zip("abc", make_spectra(0, n_sets=3), strict=True))
    for datasets in sets.values():
        for idx, dataset in enumerate(datasets):
            dataset.meta_table = Table({"OBS_ID": [idx]})
    # without the second target, the third stays in its place
    sets["b"] = Datasets([_ for i, _ in enumerate(sets["b"]) if i != 1])
    runs = [*range(4), 10, 11, 12, *range(20, 24)]
    *_, total = count_spectra(sets, runs, [1, 3.162, 10] * u.TeV)
    assert total.counts.counts.shape == (4, 3, 4)
    assert total.counts.n_clusters == 11
    assert total.counts.counts[:, 1].sum(axis=0)[1] == 0
    assert np.all(total.counts.counts[:, 1].sum(axis=0)[[0, 2, 3]] > 0)


# Another set, and shared observations


def draw_counts(rng, n_circles, n_sets, common=0.0, norm=0.0, n_runs=10):
    """Counts of sets whose runs have norms of their own, and share a field."""
    field = 1 + rng.normal(0, common, n_circles)
    norms = 1 + rng.normal(0, norm, (n_runs * n_sets, 1))
    counts = rng.poisson(np.maximum(400 / n_runs * norms * field, 0))
    used = np.repeat(np.eye(n_sets), n_runs, axis=0)[..., np.newaxis]
    background = np.broadcast_to(400 / n_runs * used, (*used.shape[:2], n_circles))
    return ApertureCounts(counts[:, np.newaxis] * used, background)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_circles", "common", "norm", "n_runs"),
    [(6, 0.1, 0.0, 10), (20, 0.0, 0.2, 10), (1, 0.0, 0.2, 10), (20, 0.0, 0.1, 1)],
)
def test_target_is_one_more_set(n_circles, common, norm, n_runs):
    """Of a field that all sets have, and of norms: 0.9 and 1.7% were above 3."""
    rng, values = np.random.default_rng(0), []
    for _ in range(400):
        counts = draw_counts(rng, n_circles, 5, common, norm, n_runs)
        bands = BandCounts(counts, np.zeros((5, n_circles)))
        error = 1 + rng.normal(0, common)
        error *= 1 + np.mean(rng.normal(0, norm, n_runs))
        n_on = rng.poisson(max(400 * error, 0))
        significance = float(get_significance(n_on, 400.0))
        row = calibrate(significance, 400.0, 0.0, bands)
        assert np.isfinite(row["calibrated"])
        values.append(row["calibrated"])
    assert np.mean(np.array(values) > 1.645) < 0.09
    assert np.mean(np.array(values) > 3) < 0.0076  # 3 of 400, at 0.2% in 1% of cases


def test_norms_do_not_hide_the_spread_of_regions():
    """Its limit was above 1e38%, as a sum of squares had no degree of freedom."""
    counts = draw_counts(np.random.default_rng(1), 1, 5, norm=0.2)
    result = BandCounts(counts, np.zeros((5, 1))).join_sets().measure()
    assert result.f.reason == ""
    assert result.f.upper_limit < 1


def test_norm_of_some_datasets(sets):
    """One of three that has none is not known better for the others."""
    expected = get_counts(sets)[1][-1].norm_share.sum(axis=1)
    dataset = sets["a"][0]
    dataset.models[0].spectral_model.norm.value *= 1.01
    try:
        share = get_counts(sets)[1][-1].norm_share.sum(axis=1)
    finally:
        dataset.models[0].spectral_model.norm.value /= 1.01
    assert_allclose(share[0], 2 / 3 * expected[0], rtol=0.1)
    assert_allclose(share[1], expected[1])


def test_fit_mask_is_that_of_excess_maps(sets):
    dataset = sets["a"][0].copy(name="masked")
    dataset.mask_fit = Map.from_geom(dataset.counts.geom, data=False, dtype=bool)
    _, (*_, total) = get_counts({"a": Datasets([dataset])}, names=[7])
    assert not total.counts.counts.any()


def test_offset_of_spectra_is_that_of_their_target():
    """Whatever sets lack."""
    sets = make_spectra(0, n_sets=4, has_exposure=False)
    for datasets in sets:
        for idx, dataset in enumerate(datasets):
            dataset.meta_table["OBS_ID"] = [idx]
    # odd targets are at 1 deg, others at 0.5 deg
    sets = [
        Datasets([_ for i, _ in enumerate(one) if i != idx])
        for idx, one in enumerate(sets)
    ]
    estimator = MimicSystematicsEstimator(offset_edges=[0, 0.7, 1.2] * u.deg)
    table = estimator.run(sets).tables["systematics"]
    numbers = dict.fromkeys("01", 0)
    for dataset in (_ for one in sets for _ in one):
        name = str(dataset.meta_table["OBS_ID"][0] % 2)
        numbers[name] += (dataset.counts.data * dataset.mask_safe.data).sum()
    for name, number in numbers.items():
        assert table[table["offset_band"] == name]["n_counts"][0] == number


def test_circles_as_large_as_their_ring():
    field = Field(n_obs=1, n_events=50_000)
    maker = RingBackgroundMaker(r_in="0.5 deg", width="0.3 deg")
    sets = [
        Datasets([maker.run(_) for _ in values])
        for values in simulate_sets(field, 0, n_sets=3)
    ]
    result = MimicSystematicsEstimator(radii=[0.1, 0.6] * u.deg).run(sets)
    small, large = result.tables["scales"]
    assert np.isfinite(small["f_ul"])
    assert np.isfinite(large["delta"])
    assert "not small against the rings" in large["reason"]


def test_errors_of_nights():
    """Observations of a night that have a norm in common are fewer than they seem."""
    field, rng = Field(n_obs=12, binsz=0.1), np.random.default_rng(0)
    sets = []
    for number in range(2):
        # four observations a night
        norms = np.repeat(1 + 0.1 * rng.normal(size=3), 4)
        sets.append(Datasets())
        for idx, norm in enumerate(norms):
            counts = rng.poisson(norm * field.background[idx])
            dataset = field.make_dataset(idx, counts, 100 * number + idx)
            # as it is, not scaled to the counts
            dataset.models = None
            sets[-1].append(dataset)
    nights = {100 * n + idx: f"{n} {idx // 4}" for n in range(2) for idx in range(12)}
    rows = [
        MimicSystematicsEstimator("0.3 deg", radii=None, nights=_)
        .run(sets)
        .select("systematics")[0]
        for _ in (None, nights)
    ]
    assert_allclose(rows[0]["delta"], rows[1]["delta"])
    assert_allclose([_["n_runs"] for _ in rows], [24, 6], rtol=0.05)
    assert rows[1]["delta_err"] > 1.3 * rows[0]["delta_err"]
    with pytest.raises(ValueError, match="nights has no night of the OFF"):
        MimicSystematicsEstimator(nights={1: "a"}).run(sets)


# Noise of templates


@pytest.mark.parametrize(
    ("obs_ids", "factor"),
    [(["1,2", "1,2"], 1), (["1,2", "3,4"], 1 / 2), (["1,2", "2,3"], 3 / 4)],
)
def test_noise_of_shared_templates(obs_ids, factor):
    """Templates of the same observations have one noise, others less together."""
    (datasets,) = simulate_sets(Field(2, 3), 0, n_sets=1)
    for dataset, names in zip(datasets, obs_ids, strict=True):
        dataset.meta_table["BKG_OBS_IDS"] = [names]
        dataset.meta_table["BKG_NEFF"] = np.full((1, len(NEFF_ENERGIES)), 50.0)
    noise = measure_template_noise([datasets], EDGES)
    # one energy of NEFF has all of a narrow band
    narrow = [1, 1.3] * u.TeV
    assert_allclose(measure_template_noise([datasets], narrow), factor / 50)
    assert np.all(noise < factor / 50)
    assert np.all(noise > factor / 50 / 8)
    # stacked, they are side by side
    joined = datasets[0].copy(name="joined")
    joined.meta_table = Table({"BKG_OBS_IDS": [obs_ids]})
    joined.meta_table["BKG_NEFF"] = np.full((1, 2 * len(NEFF_ENERGIES)), 50.0)
    assert_allclose(measure_template_noise([[joined]], narrow), factor / 50)
    datasets[0].meta_table["BKG_NEFF"] = np.nan
    assert measure_template_noise([datasets], EDGES) is None


# What the tables say of them


@pytest.fixture(scope="module")
def result():
    *sets, target = simulate_sets(Field(4, 3, n_events=4e5), 0, n_sets=6, tilt=0.2)
    estimator = MimicSystematicsEstimator(
        "0.2 deg",
        EDGES,
        position=CENTER.directional_offset_by(30 * u.deg, 1 * u.deg),
        radii=[0.1, 0.5] * u.deg,
        regions=[CircleSkyRegion(CENTER, 0.4 * u.deg, meta={"label": "shell"})],
    )
    return estimator.run(sets, target)


class TestTables:
    def test_bias_of_each_band_is_that_of_the_tilt(self, result):
        """Where the width of the significance hides it, as the mean is taken out."""
        field = Field(4, 3)
        truth = field.get_truth(0, tilt=0.2).sum(axis=(1, 2))
        model = field.background[0].sum(axis=(1, 2))
        truth *= model.sum() / truth.sum()
        expected = truth[0] / model[0] - 1, truth[1:].sum() / model[1:].sum() - 1, 0
        table = result.tables["systematics"]
        assert np.all(np.abs(table["delta"] - expected) < 3 * table["delta_err"] + 1e-3)
        assert_allclose(table["delta"][:2], expected[:2], rtol=0.1)
        for row in table[:2]:
            assert row["total_lo"] > 0
            assert row["total"] >= abs(row["delta"])
        assert result.judgement.biased == ["0", "1"]

    def test_scales(self, result):
        table = result.tables["scales"]
        assert table["radius"].tolist() == [0.1] * 3 + [0.5] * 3
        assert np.all(np.isfinite(table["f"]))
        # the bias is of all scales
        assert_allclose(table["delta"][0], table["delta"][3], rtol=0.1)
        # limits are better for larger circles
        assert table["f_ul"][5] < table["f_ul"][2]

    def test_regions(self, result):
        table = result.tables["regions"]
        assert table["region"].tolist() == ["shell"] * 3
        row = table[-1]
        assert_allclose(row["counts"], row["background"], rtol=0.05)
        assert abs(row["calibrated"]) <= abs(row["significance"])
        # the two bands are all counts
        for name in ("counts", "background", "target_counts"):
            assert_allclose(table[name][:2].sum(), table[name][2])

    def test_region_is_not_on_the_map(self):
        sets = simulate_sets(Field(1, 1), 0, n_sets=2)
        region = CircleSkyRegion(
            CENTER.directional_offset_by(0 * u.deg, 9 * u.deg), 1 * u.deg
        )
        with pytest.raises(ValueError, match="region .* is not on the map"):
            MimicSystematicsEstimator(regions=[region]).run(sets)

    def test_text_of_a_paper(self, result):
        text = result.to_text("paper")
        row = result.select("systematics")[0]
        assert "5 mimic sets" in text
        assert f"{1 + row['delta']:.3f} ± {row['delta_err']:.3f}" in text
        for band in result.select("systematics", band=None):
            assert (
                f"{100 * band['delta']:+z.1f} ± {100 * band['delta_err']:.1f}" in text
            )
        with pytest.raises(ValueError, match="Invalid style: 'poster'"):
            result.to_text("poster")

    def test_position_is_never_flattered(self, result):
        table = result.tables["position"]
        assert np.all(np.abs(table["calibrated"]) <= np.abs(table["significance"]))
        for row in table:
            assert f"raw {row['significance']:.2f}" in row["text"]
        # five sets of circles at 1 deg, of which none shares an event
        assert table["n_sample"][-1] % 5 == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("radii", []), ("radii", [0.0, 0.1] * u.deg), ("regions", ["circle"])],
)
def test_parameters(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        MimicSystematicsEstimator(**{name: value})
