"""Where mimics test the target, and what is said of the rest."""

import logging

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from gammapy.data import DataStore
from gammapy.datasets import Datasets, SpectrumDatasetOnOff
from gammapy.makers import DatasetsMaker, MapDatasetMaker, SafeMaskMaker
from gammapy.maps import MapAxis, RegionGeom, RegionNDMap
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic import MimicMaker
from gammapy_mimic.analysis.datasets import add_partners, read_datasets, write_datasets
from gammapy_mimic.data import write_datastore
from gammapy_mimic.data.meta_tables import UNMATCHED, UNTESTED
from gammapy_mimic.data.prediction import find_missing_bins
from gammapy_mimic.estimators import MimicSystematics, MimicSystematicsEstimator
from gammapy_mimic.makers.reduction import reduce_observations
from gammapy_mimic.report import make_answer, make_report
from gammapy_mimic.selection import MimicPlan

from .helpers import make_reference
from .test_report import DASH, Page, make_dataset

PLAN = {1: 101, 2: 106, 3: 103}
RANGE = ("ENERGY_MIN", "ENERGY_MAX")


@pytest.fixture(scope="module")
def targets(stores):
    return stores["targets"].get_observations()


@pytest.fixture(scope="module")
def expected(stores):
    """Common range of target and OFF observation, from their effective areas."""
    ranges = {}
    for obs_id, off_obs_id in PLAN.items():
        metas = [stores["targets"].obs(obs_id).aeff.meta]
        metas.append(stores["off"].obs(off_obs_id).aeff.meta)
        low, high = ([_[key] for _ in metas] for key in ("LO_THRES", "HI_THRES"))
        assert low[0] != low[1]
        ranges[obs_id] = max(low), min(high)
    return ranges


def check_range(table, expected, has_unit=True):
    obs_ids = np.ravel(table["OBS_ID"])
    for idx, name in enumerate(RANGE):
        assert not has_unit or table[name].unit == u.TeV
        values = np.ravel(table[name])
        assert_allclose(
            values, [expected.get(int(_), [np.nan] * 2)[idx] for _ in obs_ids]
        )


class TestCommonRange:
    @pytest.mark.slow
    def test_chain_stacked_or_not(self, stores, targets, expected):
        maker = MimicMaker(stores["off"], PLAN)
        makers = [MapDatasetMaker(), maker, SafeMaskMaker(["offset-max"])]
        reference = make_reference(targets[0], name="stacked")
        for dataset in DatasetsMaker(makers, stack_datasets=False).run(
            reference, targets
        ):
            check_range(dataset.meta_table, expected)
        (stacked,) = DatasetsMaker(makers).run(reference.copy(name="stacked"), targets)
        assert np.ravel(stacked.meta_table["OBS_ID"]).tolist() == [1, 2, 3]
        # Gammapy drops the units of all columns
        check_range(stacked.meta_table, expected, has_unit=False)
        (stacked,) = reduce_observations(reference, targets, makers)
        check_range(stacked.meta_table, expected)

    @pytest.mark.slow
    @pytest.mark.parametrize("stack", [True, False])
    def test_observations_first(self, stores, targets, expected, stack, tmp_path):
        """In memory, from a store, and from datasets on disk."""
        mimics = MimicMaker(stores["off"], PLAN).make_observations(targets)
        write_datastore(mimics, tmp_path / "store")
        written = DataStore.from_dir(tmp_path / "store").get_observations()
        reference = make_reference(targets[0], name="stacked")
        makers = [MapDatasetMaker(), SafeMaskMaker(["offset-max"])]
        for observations in (mimics, written):
            datasets = reduce_observations(reference, observations, makers, stack)
            add_partners(datasets, PLAN, 1, observations)
            for dataset in datasets:
                check_range(dataset.meta_table, expected)
        write_datasets(datasets, tmp_path / "datasets")
        for dataset in read_datasets(tmp_path / "datasets"):
            check_range(dataset.meta_table, expected)

    def test_without_partner_it_is_not_known(self, stores, targets):
        maker = MimicMaker(stores["off"], {2: 106})
        dataset = MapDatasetMaker().run(make_reference(targets[0]), targets[0])
        table = maker.run(dataset, targets[0]).meta_table
        check_range(table, {})

    def test_without_thresholds_it_is_not_known(self, stores, targets):
        off = stores["off"].obs(101).copy(in_memory=True)
        target = targets[0].copy(in_memory=True)
        for observation in (off, target):
            observation.aeff.meta.clear()
        maker = MimicMaker([off], {1: 101})
        mimic = maker.make_observation(target)
        assert not {"MIM_EMIN", "MIM_EMAX"} & set(mimic.events.table.meta)
        check_range(maker.make_meta_table(mimic), {})


def make_sets():
    """Sets: all is there; no prediction, or no event, at the lower energies; a hole."""
    sets = {name: [make_dataset(1, 100 * name)] for name in (1, 2, 3, 4)}
    sets[2][0].mask_safe.data[0] = False
    sets[3][0].counts.data[0] = 0
    sets[4][0].background.data[:, :3] = 0
    return {name: Datasets(values) for name, values in sets.items()}


@pytest.fixture(scope="module")
def result():
    return run_estimator(make_sets(), Datasets([make_dataset(1, 900)]))


def run_estimator(sets, datasets):
    return MimicSystematicsEstimator("0.2 deg").run(sets, datasets)


class TestUntested:
    def test_fractions(self, result):
        table = result.tables["losses"]
        assert table["name"].tolist() == ["mimic_2", "mimic_3", "mimic_4"]
        assert set(table["cause"]) == {UNTESTED}
        assert set(table["obs_id"]) == {-1}
        counts = make_dataset(1, 900).counts.data
        lost = [counts[0].sum(), counts[0].sum(), counts[:, :3].sum()]
        assert_array_equal(table["counts"], lost)
        assert_allclose(table["fraction"], lost / counts.sum())
        assert table["bins"].tolist() == [*["1 to 3.16 TeV"] * 2, "10.0% of the bins"]

    def test_only_what_is_safe_for_the_target(self, caplog):
        """What mimics have besides is of no use."""
        target = make_dataset(1, 900)
        target.mask_safe.data[0] = False
        sets = make_sets()
        result = run_estimator({_: sets[_] for _ in (1, 2, 3)}, Datasets([target]))
        (row,) = result.tables["losses"]
        assert (row["name"], row["cause"]) == ("mimic_1", UNMATCHED)
        counts = sets[1][0].counts.data
        assert row["fraction"] == pytest.approx(counts[0].sum() / counts.sum())
        assert row["bins"] == "1 to 3.16 TeV"
        (text,) = (_ for _ in caplog.messages if "where the target has none" in _)
        assert text in [
            _.replace("Mimic set 1", "mimic_1") for _ in make_answer(result).limits
        ]

    def test_one_of_the_observations_is_enough(self):
        """In stacked datasets, and so in the answer, the set has events there."""
        sets = make_sets()
        sets[2].append(make_dataset(2, 201))
        sets[3].append(make_dataset(2, 301))
        datasets = Datasets([make_dataset(1, 900), make_dataset(2, 901)])
        result = run_estimator({_: sets[_] for _ in (2, 3)}, datasets)
        assert "losses" not in result.tables

    def test_without_target(self):
        result = MimicSystematicsEstimator("0.2 deg").run(make_sets())
        assert "losses" not in result.tables

    def test_warning_and_answer_above_ten_percent(self, caplog):
        with caplog.at_level(logging.WARNING):
            result = run_estimator(make_sets(), Datasets([make_dataset(1, 900)]))
        fraction = result.tables["losses"]["fraction"]
        assert fraction[2] < 0.1 < fraction[0]
        (text,) = (_ for _ in caplog.messages if "not tested" in _)
        assert f"mimic_2, {fraction[0]:.0%} of the target's counts" in text
        assert "in 1 to 3.16 TeV" in text
        assert "mimic_3" in text
        assert "mimic_4" not in text
        assert "threshold" in text
        (text,) = (_ for _ in make_answer(result).limits if "not tested" in _)
        assert "Mimic set 2" in text
        assert "Mimic set 4" not in text

    @pytest.mark.slow
    def test_report_and_file(self, result, tmp_path):
        result.write(tmp_path / "result.fits")
        again = MimicSystematics.read(tmp_path / "result.fits")
        assert make_answer(again).limits == make_answer(result).limits
        make_report(again, tmp_path / "report.html")
        page = Page(tmp_path / "report.html")
        table = page.tables["table-losses"]
        assert [_[table.names.index("obs_id")] for _ in table.texts] == [DASH] * 3
        assert "Mimic set 2" in page.text
        assert "target do not share" in page.text

    @pytest.mark.parametrize("n_off", [0.0, 3.0])
    def test_spectra(self, n_off):
        """Without an ON event, OFF events tell of the energy."""
        axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2)
        geom = RegionGeom.create("icrs;circle(83.6, 22, 0.1)", axes=[axis])

        def make(**values):
            maps = {
                name: RegionNDMap.from_geom(geom, data=np.reshape(data, (2, 1, 1)))
                for name, data in values.items()
            }
            mask = RegionNDMap.from_geom(geom, data=True, dtype=bool)
            return SpectrumDatasetOnOff(mask_safe=mask, **maps)

        acceptances = {"acceptance": [1.0, 1.0], "acceptance_off": [10.0, 10.0]}
        target = make(counts=[4.0, 6.0], counts_off=[10.0, 10.0], **acceptances)
        mimic = make(counts=[0.0, 2.0], counts_off=[n_off, 3.0], **acceptances)
        counts, mask, is_missing = find_missing_bins([target], [mimic])
        assert counts[mask].sum() == 10
        assert is_missing.ravel().tolist() == [n_off == 0, False]


class TestRates:
    def scale(self, factor):
        """Sets whose background is a multiple of that of the target."""
        sets = {name: Datasets([make_dataset(1, 100 * name)]) for name in (1, 2, 3)}
        for dataset in sets[1]:
            dataset.background.data *= factor
        return run_estimator(sets, Datasets([make_dataset(1, 900)]))

    @pytest.mark.parametrize("factor", [0.5, 0.9, 1.2, 2.0])
    def test_counts(self, factor):
        result = self.scale(factor)
        rows = result.select("significance")
        ratios = dict(rows.iterrows("name", "background_ratio"))
        expected = {"mimic_1": factor, "mimic_2": 1, "mimic_3": 1, "target": 1}
        expected["all"] = (factor + 2) / 3
        assert ratios == pytest.approx(expected)
        texts = [_ for _ in make_answer(result).limits if "of the target's back" in _]
        assert len(texts) == (factor in (0.5, 2.0))
        for text in texts:
            share = f"Mimic set 1 has {factor:.0%}"
            assert f"{share} of the target's background counts. " in text

    def test_a_set_without_events_there(self):
        """Less than the minimum is not left out of the ratio."""
        result = self.scale(1e-3)
        (ratio,) = result.select("significance", name="mimic_1")["background_ratio"]
        assert ratio == pytest.approx(1e-3, rel=1e-4)

    def test_without_target(self):
        result = MimicSystematicsEstimator("0.2 deg").run(make_sets())
        assert np.isnan(result.tables["significance"]["background_ratio"]).all()
        assert not [
            _ for _ in make_answer(result).limits if "of the target's back" in _
        ]

    def test_rates_of_the_plan(self):
        table = Table({"OBS_ID": [1, 2, 1, 2], "OFF_OBS_ID": [11, 12, 13, 14]})
        table["MIMIC_SET"] = [1, 1, 2, 2]
        table["RATE_RATIO"] = [0.6, 0.8, 1.0, np.nan]
        result = self.scale(0.5)
        (text,) = (
            _ for _ in make_answer(result, MimicPlan(table)).limits if "rate" in _
        )
        assert "Mimic set 1 has 70% of the target's rate of events. " in text
        # alike in rate, but not in counts
        table["RATE_RATIO"] = 1.0
        limits = make_answer(result, MimicPlan(table)).limits
        assert any("50% of the target's background counts" in _ for _ in limits)

    def test_many_sets(self):
        table = Table({"OBS_ID": np.ones(8, int), "OFF_OBS_ID": np.arange(8) + 10})
        table["MIMIC_SET"] = np.arange(8) + 1
        table["RATE_RATIO"] = np.linspace(0.1, 0.5, 8)
        limits = make_answer(self.scale(1.0), MimicPlan(table)).limits
        text = "8 mimic sets have 10% to 50% of the target's rate of events"
        assert any(text in _ for _ in limits)
