"""Datasets on disk."""

import numpy as np
import pytest
from astropy.table import Table
from gammapy.makers import (
    DatasetsMaker,
    FoVBackgroundMaker,
    MapDatasetMaker,
    SafeMaskMaker,
)

from gammapy_mimic import MimicMaker
from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.analysis.datasets import (
    add_partners,
    read_datasets,
    write_datasets,
)
from gammapy_mimic.data.meta_tables import find_losses, stack_dataset

from .helpers import make_reference

CONFIG = """
datasets:
  type: 3d
  stack: STACK
  geom:
    wcs:
      skydir: {frame: icrs, lon: 329.7 deg, lat: -30.2 deg}
      width: {width: 4 deg, height: 4 deg}
      binsize: 0.2 deg
    axes:
      energy: {min: 1 TeV, max: 10 TeV, nbins: 2}
      energy_true: {min: 0.5 TeV, max: 20 TeV, nbins: 3}
  background: {method: fov_background, parameters: {method: scale}}
mimic: {n_sets: 1}
"""


@pytest.fixture(scope="module", params=[False, True], ids=["single", "stacked"])
def datasets(request, stores):
    config = MimicAnalysisConfig.from_yaml(CONFIG.replace("STACK", str(request.param)))
    config.observations.datastore = stores["targets"].hdu_table.base_dir
    config.mimic.off.datastore = stores["off"].hdu_table.base_dir
    analysis = MimicAnalysis(config)
    analysis.get_mimic_datasets()
    return analysis.mimic_datasets[1]


def test_round_trip(datasets, tmp_path):
    """The scaled background is that of the model, which has to be kept."""
    write_datasets(datasets, tmp_path / "datasets")

    result = read_datasets(tmp_path / "datasets")

    assert result.names == datasets.names
    for old, new in zip(datasets, result, strict=True):
        np.testing.assert_array_equal(new.counts.data, old.counts.data)
        np.testing.assert_array_equal(
            new.npred_background().data, old.npred_background().data
        )
        np.testing.assert_array_equal(new.mask_safe.data, old.mask_safe.data)
        assert new.meta_table.colnames == old.meta_table.colnames
        for name in ("OBS_ID", "RA_PNT", "OFF_OBS_ID", "MIMIC_SET"):
            np.testing.assert_array_equal(new.meta_table[name], old.meta_table[name])


def test_models_of_single_datasets(datasets, tmp_path):
    """Norms are not 1, and keep their errors."""
    write_datasets(datasets, tmp_path / "datasets")
    for old, new in zip(datasets, read_datasets(tmp_path / "datasets"), strict=True):
        if old.background_model is None:
            continue
        norm = new.background_model.spectral_model.norm
        expected = old.background_model.spectral_model.norm
        assert norm.value == pytest.approx(expected.value, rel=1e-6)
        assert norm.error == pytest.approx(expected.error, rel=1e-3)
        assert norm.error > 0


def test_partners_are_those_of_the_maker(stores, datasets):
    """As in a chain with MimicMaker."""
    observation = stores["targets"].get_observations()[0]
    table = datasets[0].meta_table
    off_obs_id = int(np.ravel(table["OFF_OBS_ID"])[0])
    maker = MimicMaker(stores["off"], {observation.obs_id: off_obs_id})
    dataset = make_reference(observation)
    for link in (MapDatasetMaker(), maker, FoVBackgroundMaker()):
        dataset = link.run(dataset, observation)
    assert dataset.meta_table["OFF_OBS_ID"].tolist() == [off_obs_id]
    assert np.ravel(table["OBS_ID"])[0] == observation.obs_id


def test_partners_of_plain_datasets(stores):
    """What Gammapy has made, stacked or not, does not know them."""
    observations = stores["targets"].get_observations()
    plan = {1: 104, 3: 105}
    reference = make_reference(observations[0], name="stacked")
    makers = [MapDatasetMaker(), SafeMaskMaker(["offset-max"])]
    singles = DatasetsMaker(makers, stack_datasets=False).run(reference, observations)
    stacked = DatasetsMaker(makers).run(reference.copy(name="stacked"), observations)
    for datasets in (singles, stacked):
        before = [_.meta_table for _ in datasets]
        add_partners(datasets, plan, 1)
        tables = [_.meta_table for _ in datasets]
        assert np.ravel([_["OFF_OBS_ID"] for _ in tables]).tolist() == [104, -1, 105]
        assert np.ravel([_["MIMIC_SET"] for _ in tables]).tolist() == [1, 1, 1]
        # that of the caller may be in other datasets, too
        assert all("OFF_OBS_ID" not in _.colnames for _ in before)
    with pytest.raises(ValueError, match="has no mimic set 2"):
        add_partners(singles, plan, 2)
    singles[0].meta_table = None
    with pytest.raises(ValueError, match="has no meta_table with OBS_ID"):
        add_partners(singles, plan, 1)


@pytest.mark.parametrize("mimic_first", [True, False])
def test_stacking_keeps_all_columns(stores, mimic_first):
    """Of datasets that know their partners, and of those that do not."""
    observation = stores["targets"].get_observations()[0]
    reference = make_reference(observation, name="stacked")
    datasets = [MapDatasetMaker().run(reference, observation) for _ in range(3)]
    columns = {"OFF_OBS_ID": 101, "SCR_METH": "fill", "SCR_WID": 0.3}
    for name, value in columns.items():
        datasets[0].meta_table[name] = [value]
    before = datasets[0].meta_table.copy()
    if not mimic_first:
        datasets = datasets[::-1]
    stacked = reference.copy(name="stacked")
    for dataset in datasets:
        stack_dataset(stacked, dataset)
    order = slice(None) if mimic_first else slice(None, None, -1)
    values = {_: np.ravel(stacked.meta_table[_])[order].tolist() for _ in columns}
    assert values["OFF_OBS_ID"] == [101, -1, -1]
    assert values["SCR_METH"] == ["fill", "none", "none"]
    np.testing.assert_array_equal(values["SCR_WID"], [0.3, np.nan, np.nan])
    assert np.ravel(stacked.meta_table["OBS_ID"]).tolist() == [1, 1, 1]
    assert stacked.meta_table["RA_PNT"].unit == "deg"
    table = datasets[0 if mimic_first else -1].meta_table
    assert str(table) == str(before)
    assert stacked.counts.data.sum() == 3 * datasets[0].counts.data.sum()


def test_what_was_read_can_be_stacked(datasets, tmp_path):
    """Empty texts are masked on disk, and empty again."""
    write_datasets(datasets, tmp_path / "datasets")
    read = read_datasets(tmp_path / "datasets")
    stacked = read[0].copy(name="stacked")
    stacked.meta_table = read[0].meta_table
    stack_dataset(stacked, read[-1])
    n_obs = sum(np.size(read[_].meta_table["OBS_ID"]) for _ in (0, -1))
    assert np.ravel(stacked.meta_table["LOST_CAUSE"]).tolist() == [""] * n_obs
    assert np.ravel(stacked.meta_table["LOST_FRACTION"]).tolist() == [0] * n_obs
    assert find_losses([stacked.meta_table, read[0].meta_table]) == []


def test_no_datasets(tmp_path):
    with pytest.raises(FileNotFoundError, match="no datasets in"):
        read_datasets(tmp_path)


def test_meta_tables_are_text(datasets, tmp_path):
    write_datasets(datasets, tmp_path / "datasets")
    name = datasets[0].name
    table = Table.read(tmp_path / f"datasets/meta/{name}.ecsv")
    assert "OFF_OBS_ID" in table.colnames
