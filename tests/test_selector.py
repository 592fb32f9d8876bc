from functools import partial

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table, vstack
from gammapy.data import DataStore, Observations
from gammapy.datasets import MapDataset, SpectrumDataset
from gammapy.irf import Background2D, Background3D
from gammapy.makers import (
    DatasetsMaker,
    FoVBackgroundMaker,
    MapDatasetMaker,
    SafeMaskMaker,
    SpectrumDatasetMaker,
)
from gammapy.maps import MapAxis, RegionGeom
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector, MimicMaker
from gammapy_mimic.data import write_background, write_datastore
from gammapy_mimic.data.irfs import is_in_safe_range
from gammapy_mimic.data.observation import get_hdu, replace_background
from gammapy_mimic.makers.core import NotTreatedError
from gammapy_mimic.selection import MimicPlan, OffIndex
from gammapy_mimic.selection.ranking import (
    KL_MAX,
    find_status,
    predict_counts,
    rank_observations,
)
from gammapy_mimic.simulate import make_irfs, simulate_observations
from gammapy_mimic.utils.files import make_checksum
from gammapy_mimic.visualization import (
    plot_background,
    plot_background_image,
    plot_background_ratio,
    plot_background_spectrum,
    plot_kl_matrix,
    plot_ranking,
)

from .helpers import ANY_CONDITIONS, make_reference, need_runs, replace, to_old_hess
from .test_mimic import ObservationMakerContract

WIDE = ANY_CONDITIONS


@pytest.fixture(scope="module")
def targets(stores):
    return stores["targets"].get_observations()


@pytest.fixture(scope="module")
def index(stores):
    return OffIndex.create(stores["off"])


@pytest.fixture
def maker(stores, index):
    return KLBackgroundSelector(stores["off"], WIDE, index=index, kl_max=0.2)


class TestKLBackgroundSelector(ObservationMakerContract):
    def test_only_the_background_is_new(self, maker, targets):
        target = targets[0]
        made = maker.make_observation(target)
        for name in ("events", "gti", "aeff", "edisp", "psf"):
            assert get_hdu(made, name) is get_hdu(target, name)
        assert isinstance(made.bkg, Background2D)
        assert made.obs_id == target.obs_id

    def test_rank(self, maker, targets):
        table = maker.rank(targets[0])
        assert len(table) == 8
        is_good = table["STATUS"] != "large_kl"
        assert np.all(np.diff(table["DISTANCE"][is_good]) >= 0)
        assert np.all(np.diff(is_good.astype(int)) <= 0)
        assert set(table["STATUS"]) <= {"ok", "differs", "undecided", "large_kl"}
        assert set(table["REASONS"]) == {""}
        assert_allclose(
            table["DELTA_RMS"], np.sqrt(2 * np.maximum(table["KL_CORR"], 0))
        )

    def test_reasons_of_a_rejection(self, stores, index, targets):
        criteria = {**WIDE, "exclude_obs_ids": [103, 104], "elevation": ["0 deg", 1]}
        criteria["elevation"] = ["0 deg", "90 deg"]
        selector = KLBackgroundSelector(stores["off"], criteria, index=index)
        table = selector.rank(targets[0])
        assert sorted(table["OFF_OBS_ID"][-2:]) == [103, 104]
        assert table["REASONS"][-2:].tolist() == ["exclude_obs_ids"] * 2
        assert table["STATUS"][-2:].tolist() == ["rejected"] * 2

    @pytest.mark.slow
    def test_spectrum_dataset(self, maker, targets):
        """The background alone changes, so that spectra can be made, too."""
        region = CircleSkyRegion(targets[0].target_radec, 0.2 * u.deg)
        axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2)
        true_axis = MapAxis.from_energy_bounds(
            "0.5 TeV", "20 TeV", nbin=3, name="energy_true"
        )
        reference = SpectrumDataset.create(
            RegionGeom(region, axes=[axis]), energy_axis_true=true_axis
        )
        makers = [SpectrumDatasetMaker(selection=["counts", "exposure", "edisp"])]
        makers += [maker]
        results = DatasetsMaker(makers, stack_datasets=False).run(reference, targets)
        for target, result in zip(targets, results, strict=True):
            made = maker.make_observation(target)
            selection = ["counts", "exposure", "edisp", "background"]
            expected = SpectrumDatasetMaker(selection).run(reference, made)
            assert_array_equal(result.counts.data, expected.counts.data)
            assert_array_equal(result.background.data, expected.background.data)
            assert result.background.data.sum() > 0

    @pytest.mark.parametrize("n_jobs", [1, 2])
    @pytest.mark.slow
    def test_chain_without_backgrounds_in_the_files(
        self, stores, maker, targets, n_jobs
    ):
        """The same as the makers give on observations made first."""
        bare = Observations([replace(_, bkg=None) for _ in targets])
        reference = make_reference(targets[0], name="stacked")
        rest = [
            SafeMaskMaker(["offset-max"], offset_max=2 * u.deg),
            FoVBackgroundMaker(),
        ]
        first = MapDatasetMaker(selection=["counts", "exposure", "psf", "edisp"])
        made = maker.make_observations(bare, n_jobs=n_jobs)
        expected = DatasetsMaker([MapDatasetMaker(), *rest]).run(
            reference.copy(), made
        )[0]
        result = DatasetsMaker([first, maker, *rest], n_jobs=n_jobs).run(
            reference.copy(), bare
        )[0]
        for name in ("counts", "exposure", "background"):
            assert_allclose(
                getattr(result, name).data, getattr(expected, name).data, rtol=1e-6
            )
        assert result.background.data.sum() > 1000

    def test_no_common_energy(self, stores, index, targets):
        target = targets[0].copy(in_memory=True)
        target.aeff.meta.update(LO_THRES=60.0, HI_THRES=100.0)
        selector = KLBackgroundSelector(stores["off"], WIDE, index=index)
        with pytest.raises(ValueError, match="'no_common_counts': 8 of 8"):
            selector.select(target)

    def test_time_request(self, stores, index, targets):
        selector = KLBackgroundSelector(
            stores["off"], WIDE, index=index, kl_max=0.2, time_request="1 h"
        )
        selected = selector.select(targets[0])
        # 28 min of which 10% are dead time
        assert len(selected) == 3
        ranked = selector.rank(targets[0])
        assert selected["OFF_OBS_ID"].tolist() == ranked["OFF_OBS_ID"][:3].tolist()
        assert selector.make_background(targets[0]).meta["N_OBS"] == 3

    def test_exclude_and_explicit_list(self, maker, targets):
        everything = maker.select(targets[0])["OFF_OBS_ID"].tolist()
        rest = maker.select(targets[0], exclude=everything[:2])["OFF_OBS_ID"].tolist()
        assert rest == everything[2:]
        bkg = maker.make_background(targets[0], obs_ids=[101, 105])
        assert bkg.meta["OBS_IDS"] == "101,105"
        with pytest.raises(ValueError, match="no good OFF observation for OBS_ID 1"):
            maker.select(targets[0], exclude=everything)

    def test_index_is_made_when_needed(self, stores, index, targets):
        selector = KLBackgroundSelector(stores["off"], WIDE)
        assert selector._pool._index is None
        assert selector.index.checksum == index.checksum

    def test_kept_table(self, maker, targets, tmp_path, monkeypatch):
        """It is read again, unless an input has changed."""
        path = tmp_path / "kl.ecsv"
        table = maker.rank(targets[0], path)
        calls = []

        def count(*args, **kwargs):
            calls.append(args)
            return rank_observations(*args, **kwargs)

        monkeypatch.setattr("gammapy_mimic.selection.ranker.rank_observations", count)
        again = maker.rank(targets[0], path)
        assert not calls
        for name in table.colnames:
            assert_array_equal(again[name], table[name])
        maker.kl_max = 0.001
        changed = maker.rank(targets[0], path)
        assert len(calls) == 1
        assert changed.meta["CHECKSUM"] != table.meta["CHECKSUM"]
        assert Table.read(path)["STATUS"].tolist() == changed["STATUS"].tolist()
        maker.rank(targets[1], path)
        assert len(calls) == 2

    def test_irf(self, stores, index, targets):
        """Backgrounds of one zenith angle are closest, and there is no noise."""
        selector = KLBackgroundSelector(
            stores["off"], WIDE, "kl", index=index, distribution="irf"
        )
        table = selector.rank(targets[0])
        assert np.all(np.isnan(table["P_VALUE"]))
        order = np.argsort(np.abs(table["DELTA_ZENITH"]))
        assert order[0] == 0
        assert np.all(table["KL_CORR"] >= 0)
        assert_array_equal(table["KL_CORR"], table["KL_DIV"])

    def test_plan(self, maker, targets):
        plan = maker.make_plan(targets, n_sets=2)
        assert plan.sets == [1, 2]
        for row in plan.table:
            table = maker.rank(targets[str(row["OBS_ID"])])
            ranked = table[table["OFF_OBS_ID"] == row["OFF_OBS_ID"]][0]
            for name in ("KL_CORR", "P_VALUE", "DELTA_ZENITH", "STATUS"):
                assert row[name] == ranked[name]
        shuffled = maker.make_plan(Observations(list(targets)[::-1]), n_sets=2)
        assert_array_equal(plan.table["OFF_OBS_ID"], shuffled.table["OFF_OBS_ID"])

    def test_large_kl_is_avoided(self, stores, index, targets):
        table = KLBackgroundSelector(stores["off"], WIDE, index=index).rank(targets[0])
        kl_max = float(np.sort(np.abs(table["KL_CORR"]))[0]) + 1e-6
        selector = KLBackgroundSelector(
            stores["off"], WIDE, index=index, kl_max=max(kl_max, 1e-4)
        )
        plan = selector.make_plan(targets[:1], n_sets=1)
        statuses = selector.rank(targets[0])["STATUS"]
        good = [_ for _ in statuses if _ != "large_kl"]
        assert (plan.table["STATUS"][0] == "large_kl") == (not good)

    def test_plan_without_candidates(self, stores, index, targets):
        criteria = {**WIDE, "elevation": ["1 deg", "2 deg"]}
        selector = KLBackgroundSelector(stores["off"], criteria, index=index)
        with pytest.raises(ValueError, match=r"'elevation': 24 of 24"):
            selector.make_plan(targets)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"distribution": "flux"}, "Invalid distribution: 'flux'"),
            ({"background": "4d"}, "Invalid background: '4d'"),
            ({"smooth": "much"}, "Invalid smooth: 'much'"),
            ({"kl_max": 0}, "kl_max must be a positive number, or None, got 0"),
            ({"criteria": {"airmas": 1}}, "Did you mean 'airmass'"),
        ],
    )
    def test_invalid_option(self, stores, options, match):
        with pytest.raises(ValueError, match=match):
            KLBackgroundSelector(stores["off"], **options)

    def test_no_pool(self, targets):
        with pytest.raises(ValueError, match="no observations"):
            KLBackgroundSelector([])
        with pytest.raises(ValueError, match="no observations"):
            KLBackgroundSelector(Observations([])).rank(targets[0])

    def test_index_with_other_bins(self, stores, index):
        axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=3)
        with pytest.raises(ValueError, match="energy_axis differs"):
            KLBackgroundSelector(stores["off"], energy_axis=axis, index=index)
        region = CircleSkyRegion(SkyCoord(0, 0, unit="deg"), 1 * u.deg)
        with pytest.raises(ValueError, match="The 1 exclusion_regions are not"):
            KLBackgroundSelector(stores["off"], exclusion_regions=[region], index=index)


class TestMimicsOnTemplates:
    """A mimic must never meet a template that it helped to build."""

    @pytest.fixture
    def plan(self):
        return MimicPlan.create({1: 101, 2: 105})

    def test_mimics_tested_on_the_template_that_they_helped_to_build(
        self, stores, maker, targets, plan
    ):
        mimic_maker = MimicMaker(stores["off"], plan, background=maker)
        for target in targets[:2]:
            mimic = mimic_maker.make_observation(target)
            used = [int(_) for _ in mimic.bkg.meta["OBS_IDS"].split(",")]
            assert len(used) >= 3
            assert not set(used) & {101, 105}

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(6))
    def test_random_pools(self, stores, index, targets, seed):
        """No reuse in a set, and no OFF observation in a template of its own set.

        The smaller pools have partners for some targets only, which is told.
        """
        rng = np.random.default_rng(seed)
        pool = rng.choice(index.obs_ids, rng.integers(2, 9), replace=False)
        part = index.select(pool)
        selector = KLBackgroundSelector(stores["off"], WIDE, index=part, kl_max=0.2)
        plan = selector.make_plan(targets, n_sets=2, random_state=seed)
        for mimic_set in plan.sets:
            partners = plan.partners(mimic_set)
            assert len(partners) == min(len(targets), len(pool))
            used = plan.off_obs_ids(mimic_set)
            assert len(set(used)) == len(used)
            maker = MimicMaker(stores["off"], plan, mimic_set, background=selector)
            for target in targets:
                if target.obs_id not in partners:
                    assert (target.obs_id, "no_mimic") in plan.questionable
                    continue
                try:
                    bkg = maker.make_observation(target).bkg
                except NotTreatedError:
                    # there may be two of its own field
                    assert len(pool) < len(used) + 5
                    continue
                assert len(pool) >= len(used) + 3
                in_template = {int(_) for _ in bkg.meta["OBS_IDS"].split(",")}
                assert in_template <= set(pool.tolist())
                assert not in_template & set(used)

    def test_overlap_elsewhere_is_an_error(self, stores, maker, targets, plan):
        mimic_maker = MimicMaker(stores["off"], plan)
        mimic = mimic_maker.make_observation(targets[0])
        off_obs_id = plan.partners(1)[int(targets[0].obs_id)]
        with pytest.raises(ValueError, match=rf"mimic of OFF .* \[{off_obs_id}\]"):
            maker.make_observation(mimic)
        bkg = maker.make_background(mimic, exclude=[off_obs_id])
        assert str(off_obs_id) not in bkg.meta["OBS_IDS"].split(",")

        reference = make_reference(targets[0])
        with pytest.raises(ValueError, match=r"MimicMaker\(background=selector\)"):
            DatasetsMaker([MapDatasetMaker(), mimic_maker, maker]).run(
                reference, targets[:1]
            )

    def test_chain(self, stores, maker, targets, plan):
        reference = make_reference(targets[0])
        options = {"background": maker, "dataset_maker": MapDatasetMaker()}
        mimic_maker = MimicMaker(stores["off"], plan, **options)
        dataset = mimic_maker.run(reference, targets[0])
        counts, background = dataset.counts.data.sum(), dataset.background.data.sum()
        assert abs(counts / background - 1) < 0.3

    def test_store(self, stores, maker, targets, plan, tmp_path):
        mimic = MimicMaker(stores["off"], plan, background=maker).make_observation(
            targets[0]
        )
        write_datastore([mimic], tmp_path / "store")
        again = DataStore.from_dir(tmp_path / "store").obs(1)
        assert_allclose(again.bkg.quantity, mimic.bkg.quantity)


@pytest.mark.slow
def test_planted_archive():
    """500 OFF observations of five shapes: the best ten are of the target's class."""
    n_obs, widths = 500, (0.8, 1.0, 1.3, 1.7, 2.6)
    pool, targets, class_of = Observations(), [], {}
    for idx, width in enumerate(widths):
        rate = 2.3 * (1.3 / width) ** 1.1
        irfs = partial(make_irfs, "20 deg", "2d", rate=rate, width=width * u.deg)
        observations = simulate_observations(
            n_obs // 5 + 3,
            first_obs_id=1000 * (idx + 1),
            zenith=("15 deg", "25 deg"),
            irfs=irfs(),
            random_state=idx,
        )
        targets += list(observations)[-3:]
        for observation in list(observations)[:-3]:
            pool.append(observation)
        class_of |= {_.obs_id: idx for _ in observations}

    criteria = {"galactic_latitude": None, "field_radius": "0.1 deg"}
    selector = KLBackgroundSelector(pool, criteria)
    n_events = selector.index.counts.sum(axis=(1, 2))
    assert len(pool) == n_obs
    assert_allclose(n_events.mean(), 5000, rtol=0.3)
    for target in targets:
        table = selector.rank(target)
        best = table["OFF_OBS_ID"][table["STATUS"] != "rejected"][:10]
        assert {class_of[_] for _ in best} == {class_of[target.obs_id]}


@pytest.mark.slow
def test_source_of_the_target_makes_partners_look_bad(hess_store):
    """With the flare of PKS 2155-304 masked, no target is unlike the archive."""
    flare = need_runs(hess_store, "pks2155_flare")
    pool = hess_store.get_observations(need_runs(hess_store, "offdata"))
    source = CircleSkyRegion(SkyCoord(329.717, -30.226, unit="deg"), 0.4 * u.deg)
    is_large = []
    for regions in (None, [source]):
        selector = KLBackgroundSelector(pool, exclusion_regions=regions)
        plan = selector.make_plan(
            hess_store.get_observations(flare), n_sets=1, randomise=False
        )
        is_large.append(plan.table["STATUS"] == "large_kl")
    assert np.sum(is_large[0]) >= 10
    assert not np.any(is_large[1])


@pytest.mark.slow
def test_kl_max_of_hess_pairs(hess_store):
    """The default lets 98% of the pairs of OFF runs with equal conditions pass."""
    off = need_runs(hess_store, "offdata")
    selector = KLBackgroundSelector(hess_store.get_observations(off))
    index = selector.index
    tables = [
        rank_observations(index.select([_]), index, selector.criteria)
        for _ in index.obs_ids
    ]
    table = vstack([_[_["STATUS"] != "rejected"] for _ in tables])
    # two of 45 targets differ from most of their candidates
    assert 0.5 < KL_MAX / np.mean(table["KL_CORR"]) / 2 < 2
    assert np.mean(table["STATUS"] == "large_kl") < 0.02
    assert np.mean(table["STATUS"] == "differs") < 0.12
    # a factor of 2 beyond three standard errors
    assert np.all(table["RATE_RATIO"] <= 2.6)
    assert np.all(np.abs(table["DELTA_ZENITH"]) <= 15)


def test_status():
    p_value = np.array([0.001, 0.001, 0.3, np.nan])
    is_refused = np.array([False, True, False, False])
    status = find_status(p_value, is_refused)
    assert status.tolist() == ["differs", "large_kl", "ok", "undecided"]
    status = find_status(np.full(4, np.nan), is_refused, is_noisy=False)
    assert status.tolist() == ["ok", "large_kl", "ok", "ok"]


def test_safe_range():
    selected = is_in_safe_range(
        np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.5]), np.array([3.0, np.inf])
    )
    assert selected.tolist() == [[True, True], [False, True]]


def test_checksum_depends_on_every_part():
    assert make_checksum("a", 1) == make_checksum("a", 1)
    assert len({make_checksum("a", 1), make_checksum("a", 2), make_checksum("a1")}) == 3


@pytest.mark.parametrize("background", ["2d", "3d"])
def test_predicted_counts(background):
    """The sum over rings is what Gammapy predicts in them."""
    irfs = make_irfs("20 deg", background)
    observation = simulate_observations(1, irfs=irfs)[0]
    energy_axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2)
    offset_axis = MapAxis.from_edges([0, 1, 2], unit="deg", name="offset")
    counts = predict_counts(irfs["bkg"], energy_axis, offset_axis)

    reference = make_reference(observation)
    geom = reference.counts.geom.to_image().to_cube([energy_axis])
    dataset = MapDatasetMaker(["counts", "background"]).run(
        MapDataset.create(geom), observation
    )
    offset = geom.to_image().separation(observation.pointing.fixed_icrs).deg
    ontime = observation.observation_time_duration.to_value("s")
    for idx in range(2):
        ring = (offset >= idx) & (offset < idx + 1)
        expected = dataset.background.data[:, ring].sum(axis=1)
        assert_allclose(counts[:, idx] * ontime, expected, rtol=0.05)


class TestWriteBackground:
    @pytest.fixture(scope="class")
    @classmethod
    def bkg(cls):
        return make_irfs("20 deg", "3d", gradient=0.2)["bkg"]

    def test_store(self, stores, tmp_path, bkg):
        write_background(
            stores["off"], tmp_path / "s", {"a": bkg}, {101: "a", 102: "a"}
        )
        store = DataStore.from_dir(tmp_path / "s")
        assert store.obs_ids.tolist() == [101, 102]
        files = set(store.hdu_table["FILE_NAME"][store.hdu_table["HDU_TYPE"] == "bkg"])
        assert len(files) == 1
        again, original = store.obs(101), stores["off"].obs(101)
        assert_allclose(again.bkg.quantity, bkg.quantity)
        assert_array_equal(again.events.table["RA"], original.events.table["RA"])
        assert_array_equal(again.psf.data, original.psf.data)

    def test_old_hess_header(self, stores, tmp_path, bkg):
        """Gammapy reverses what it reads, and must get what was given."""
        old = to_old_hess(stores["gradient"].obs(301).copy(in_memory=True))
        write_datastore([old], tmp_path / "old", irfs="copy")
        source = DataStore.from_dir(tmp_path / "old")
        write_background(source, tmp_path / "new", {301: bkg})
        again = DataStore.from_dir(tmp_path / "new").obs(301)
        assert again.bkg.fov_alignment == "REVERSE_LON_RADEC"
        assert_allclose(again.bkg.data, bkg.data[:, ::-1])

        altaz = Background3D(
            axes=bkg.axes, data=bkg.data, unit=bkg.unit, fov_alignment="ALTAZ"
        )
        with pytest.raises(ValueError, match="cannot be aligned with ALTAZ"):
            write_background(source, tmp_path / "altaz", {301: altaz})
        assert not (tmp_path / "altaz").exists()

    def test_maker_on_old_hess(self, stores, bkg, tmp_path):
        """The template keeps its sense in memory, and through a store."""
        old = to_old_hess(stores["gradient"].obs(301).copy(in_memory=True))
        made = replace_background(old, bkg)
        assert made.bkg.fov_alignment == "RADEC"
        write_datastore([made], tmp_path / "store")
        again = DataStore.from_dir(tmp_path / "store").obs(301)
        assert again.bkg.fov_alignment == "RADEC"
        assert_allclose(again.bkg.quantity, bkg.quantity)
        path = tmp_path / "store/data/obs_id_000301.fits"
        assert fits.getheader(path, "EVENTS")["HDUVERS"] == "0.3"

    def test_bad_input(self, stores, tmp_path, bkg):
        with pytest.raises(ValueError, match=r"no template for \['b'\]"):
            write_background(stores["off"], tmp_path / "s", {"a": bkg}, {101: "b"})
        with pytest.raises(ValueError, match="no template for any"):
            write_background(stores["off"], tmp_path / "s", {})
        with pytest.raises(ValueError, match="999"):
            write_background(stores["off"], tmp_path / "s", {999: bkg})
        assert list(tmp_path.iterdir()) == []


def test_conditions_are_off_over_target(maker, targets, stores):
    """Differences are OFF minus target, ratios OFF over target, as in a plan."""
    table = maker.rank(targets[0])
    table.sort("OFF_OBS_ID")
    off, target = (stores[_].obs_table for _ in ("off", "targets"))
    assert off["OBS_ID"].tolist() == table["OFF_OBS_ID"].tolist()
    assert_allclose(table["DELTA_ZENITH"], off["ZEN_PNT"] - target["ZEN_PNT"][0])
    ratio = off["LIVETIME"] / target["LIVETIME"][0]
    assert_allclose(table["LIVETIME_RATIO"], ratio)
    assert np.ptp(table["DELTA_ZENITH"]) > 1


def test_plots(maker, targets):
    tables = [maker.rank(_) for _ in targets]
    _, ax = plt.subplots()
    assert plot_kl_matrix(tables, ax=ax) is ax
    expected = [
        np.where(_["STATUS"] == "rejected", np.nan, _["KL_CORR"])[
            np.argsort(_["OFF_OBS_ID"])
        ]
        for _ in tables
    ]
    assert_array_equal(ax.images[0].get_array().filled(np.nan), expected)
    assert np.isfinite(expected).any()
    _, ax = plt.subplots()
    assert plot_ranking(tables[0], tables[0]["DELTA_ZENITH"], "x", ax=ax) is ax
    points = np.concatenate([_.get_xydata() for _ in ax.lines[:-1]])
    expected = np.transpose([tables[0][_] for _ in ("DELTA_ZENITH", "KL_CORR")])
    assert_array_equal(*(_[np.argsort(_[:, 0])] for _ in (points, expected)))
    plt.close("all")


@pytest.mark.parametrize("dimension", ["2d", "3d"])
def test_plots_of_backgrounds(dimension):
    bkg = make_irfs("20 deg", dimension)["bkg"]
    double = type(bkg)(axes=bkg.axes, data=2 * bkg.data, unit=bkg.unit)
    for plot in (plot_background, plot_background_spectrum, plot_background_image):
        _, ax = plt.subplots()
        assert plot(bkg, ax=ax) is ax
    _, ax = plt.subplots()
    plot_background_ratio(double, bkg, ax=ax)
    values = np.concatenate([_.get_ydata() for _ in ax.lines[:-1]])
    assert_allclose(values[np.isfinite(values)], 2)
    plt.close("all")
