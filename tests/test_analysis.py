import logging

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from gammapy.analysis import Analysis
from gammapy.data import DataStore, Observations
from gammapy.datasets import MapDatasetOnOff
from gammapy.estimators import ExcessMapEstimator
from gammapy.makers import RingBackgroundMaker
from gammapy.maps import WcsGeom
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.data.meta_tables import find_losses
from gammapy_mimic.data.template_irfs import make_template_columns
from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.selection import MimicPlan

from .helpers import ANY_CONDITIONS, need_runs

DATASETS = {
    "3d": """
datasets:
  type: 3d
  geom:
    wcs:
      skydir: {frame: icrs, lon: 329.7 deg, lat: -30.2 deg}
      width: {width: 4 deg, height: 4 deg}
      binsize: 0.2 deg
      binsize_irf: 1 deg
    selection: {offset_max: 2 deg}
    axes:
      energy: {min: 1 TeV, max: 10 TeV, nbins: 1}
      energy_true: {min: 0.5 TeV, max: 20 TeV, nbins: 3}
  safe_mask: {methods: [offset-max], parameters: {offset_max: 2 deg}}
""",
    "1d": """
datasets:
  type: 1d
  on_region: {frame: icrs, lon: 329.7 deg, lat: -30.2 deg, radius: 0.1 deg}
  containment_correction: false
  background: {method: reflected}
  geom:
    axes:
      energy: {min: 1 TeV, max: 10 TeV, nbins: 2}
      energy_true: {min: 0.5 TeV, max: 20 TeV, nbins: 3}
""",
}
BACKGROUNDS = {
    "none": "datasets: {background: {method: null}}",
    "fov": "datasets: {background: {method: fov_background}}",
    "ring": """
datasets: {background: {method: ring, parameters: {r_in: 0.5 deg, width: 0.4 deg}}}
""",
}


@pytest.fixture(autouse=True)
def restore_level():
    """Logging is set up by whoever comes first, and then not by Gammapy."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


@pytest.fixture
def config(stores):
    mimic = {
        "off": {"datastore": stores["off"].hdu_table.base_dir},
        "selection": {"criteria": ANY_CONDITIONS},
        "n_sets": 2,
    }
    config = MimicAnalysisConfig(mimic=mimic)
    config.observations.datastore = stores["targets"].hdu_table.base_dir
    return config


def run(config, kind=MimicAnalysis):
    analysis = kind(config)
    analysis.get_observations()
    analysis.get_datasets()
    if kind is MimicAnalysis and config.mimic:
        analysis.get_mimic_datasets()
    return analysis


def to_arrays(dataset):
    """All maps of a dataset."""
    names = ["counts", "exposure", "background", "counts_off", "acceptance"]
    names += ["acceptance_off", "mask_safe", "mask_fit"]
    maps = {_: getattr(dataset, _, None) for _ in names}
    arrays = {name: _.data for name, _ in maps.items() if _ is not None}
    for name in ("psf", "edisp"):
        kernel = getattr(dataset, name, None)
        if kernel is not None:
            arrays[name] = getattr(kernel, f"{name}_map", kernel).data
    return arrays


def assert_same(datasets, expected):
    assert len(datasets) == len(expected)
    for dataset, other in zip(datasets, expected, strict=True):
        assert type(dataset) is type(other)
        arrays, others = to_arrays(dataset), to_arrays(other)
        assert list(arrays) == list(others)
        for name, array in arrays.items():
            assert_array_equal(array, others[name], err_msg=name)
        assert_array_equal(dataset.gti.table["START"], other.gti.table["START"])
        for name in other.meta_table.colnames:
            assert_array_equal(dataset.meta_table[name], other.meta_table[name])


def make_rings(config):
    """Datasets of Gammapy, with images before the ring as in its tutorial."""
    config = config.update("mimic: null").update(BACKGROUNDS["none"])
    config.datasets.stack = False
    maker = RingBackgroundMaker(r_in="0.5 deg", width="0.4 deg")
    return [maker.run(_.to_image()) for _ in run(config, Analysis).datasets]


def stack_on_off(datasets, like):
    """Stack datasets, with their OFF counts, by Gammapy."""
    stacked = MapDatasetOnOff.from_geoms(**like.geoms)
    for dataset in datasets:
        stacked.stack(dataset)
    return stacked


CASES = {f"3d {name}": (DATASETS["3d"], _) for name, _ in BACKGROUNDS.items()}
CASES["1d"] = (DATASETS["1d"],)


@pytest.mark.parametrize("stack", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_plain_part_is_that_of_gammapy(config, case, stack):
    for text in CASES[case]:
        config = config.update(text)
    config.datasets.stack = stack
    expected = run(config.update("mimic: null"), Analysis).datasets

    analysis = run(config)

    assert_same(run(config.update("mimic: null")).datasets, expected)
    if case == "3d ring":
        # in a MapDataset the noise of the OFF counts would be forgotten
        expected = make_rings(config)
        expected = [stack_on_off(expected, analysis.datasets[0])] if stack else expected
    assert_same(analysis.datasets, expected)
    names = ["stacked"] if stack else ["obs_1", "obs_2", "obs_3"]
    assert analysis.datasets.names == names
    assert list(analysis.mimic_datasets) == analysis.plan.sets == [1, 2]
    for mimic_set, datasets in analysis.mimic_datasets.items():
        # one chain of makers: all but the data is the same
        assert datasets.names == analysis.datasets.names
        for dataset, target in zip(datasets, analysis.datasets, strict=True):
            assert type(dataset) is type(target)
            assert dataset.counts.geom == target.counts.geom
            assert dataset.counts.data.sum() > 0
        # a spectrum of two counts may be the same by chance
        assert any(
            not np.array_equal(dataset.counts.data, target.counts.data)
            for dataset, target in zip(datasets, analysis.datasets, strict=True)
        )
        observations = analysis.mimic_observations[mimic_set]
        partners = analysis.plan.partners(mimic_set)
        headers = [_.events.table.meta for _ in observations]
        assert {_["OBS_ID"]: _["MIM_OBS"] for _ in headers} == partners


@pytest.mark.slow
def test_reduction_is_that_of_mimics_by_hand(config):
    """What comes out is what Gammapy makes of the mimic observations."""
    config = config.update(DATASETS["3d"]).update(BACKGROUNDS["fov"])
    analysis = run(config)
    plain = Analysis(config)
    plain.observations = analysis.mimic_observations[2]
    plain.get_datasets()
    assert_same(analysis.mimic_datasets[2], plain.datasets)


@pytest.mark.slow
@pytest.mark.parametrize("background", ["fov", "ring"])
def test_same_for_any_number_of_jobs(config, background):
    config = config.update(DATASETS["3d"]).update(BACKGROUNDS[background])
    config.mimic.n_sets = 1
    expected = run(config)
    config.general.n_jobs = 2
    analysis = run(config)
    assert str(analysis.plan.table) == str(expected.plan.table)
    assert_same(analysis.datasets, expected.datasets)
    assert_same(analysis.mimic_datasets[1], expected.mimic_datasets[1])


@pytest.mark.slow
def test_blocks_of_datasets(config, monkeypatch):
    """They are the same for any number of processes, and those of Gammapy but for
    rounding, as blocks are added up.
    """
    config = config.update(DATASETS["3d"]).update(BACKGROUNDS["fov"])
    monkeypatch.setattr("gammapy_mimic.makers.reduction.BLOCK_SIZE", 1)
    stacked = []
    for n_jobs in (1, 2):
        config.general.n_jobs = n_jobs
        analysis = MimicAnalysis(config)
        analysis.get_observations()
        analysis.get_datasets()
        stacked.append(analysis.datasets)
    assert_same(*stacked)
    config.general.n_jobs = 1
    (plain,) = run(config.update("mimic: null"), Analysis).datasets
    arrays, others = to_arrays(stacked[0][0]), to_arrays(plain)
    assert list(arrays) == list(others)
    assert_array_equal(arrays.pop("counts"), others["counts"])
    for name, array in arrays.items():
        assert_allclose(array, others[name], rtol=3e-6, err_msg=name)


@pytest.mark.slow
def test_random_state(config):
    config = config.update(DATASETS["1d"])
    plans = []
    for random_state in (0, 0, 1):
        config.mimic.random_state = random_state
        analysis = MimicAnalysis(config)
        analysis.get_plan()
        plans.append(str(analysis.plan.table))
    assert plans[0] == plans[1] != plans[2]


@pytest.mark.slow
def test_template_leaves_the_mimic_set_out(config):
    config = config.update(DATASETS["3d"])
    config.mimic.background = "template"
    analysis = MimicAnalysis(config)
    analysis.get_mimic_observations()
    n_templates = 0
    for mimic_set, observations in analysis.mimic_observations.items():
        left_out = set(analysis.plan.off_obs_ids(mimic_set))
        for observation in observations:
            columns = make_template_columns(observation)
            obs_ids = set(map(int, columns["BKG_OBS_IDS"].split(",")))
            assert len(obs_ids) >= 3
            assert not obs_ids & left_out
            n_templates += 1
    assert n_templates >= 5

    analysis.get_datasets()
    plain = analysis.reduce(analysis.observations)
    assert_array_equal(analysis.datasets[0].counts.data, plain[0].counts.data)
    background = [_[0].background.data.sum() for _ in (analysis.datasets, plain)]
    # targets get templates as well, of few runs, which agree with the true background
    assert background[0] != background[1]
    assert_allclose(*background, rtol=0.2)


TEMPLATE = """
datasets:
  geom: {axes: {energy: {min: 0.15 TeV, max: 10 TeV, nbins: 5}}}
  background: {method: ring, parameters: {r_in: 0.5 deg, width: 0.4 deg}}
mimic: {background: template}
"""


@pytest.mark.slow
def test_template_that_does_not_cover_the_dataset(config, caplog):
    """Found for targets and mimics, left out, and said once."""
    config = config.update(DATASETS["3d"]).update(TEMPLATE)
    analysis = run(config)
    messages = [_.getMessage() for _ in caplog.records if "prediction" in _.msg]
    assert len(messages) == 2
    for message, group in zip(messages, ("target", "mimic set 1"), strict=True):
        assert message.startswith(f"{group}, OBS_ID 1: ")
        assert "no prediction of the background, in 0.15 to 0." in message
        assert "the template, does not reach over these bins" in message
    for datasets in (analysis.datasets, *analysis.mimic_datasets.values()):
        losses = find_losses([_.meta_table for _ in datasets])
        obs_ids = {
            int(_) for one in datasets for _ in np.ravel(one.meta_table["OBS_ID"])
        }
        assert {2, 3} <= obs_ids == {_.obs_id for _ in losses}
        assert {_.cause for _ in losses} == {"background"}
        for name in ("counts", "background", "acceptance", "counts_off"):
            assert np.isfinite(getattr(datasets[0], name).data).all()
        valid = datasets[0].mask_safe.data
        excess = (datasets[0].counts - datasets[0].background).data[valid]
        assert abs(excess.sum()) < 5 * np.sqrt(datasets[0].counts.data.sum())


@pytest.mark.slow
def test_run_with_a_ring_in_bins_of_energy(config, tmp_path):
    """From the check of the makers to the report, which names what is lost."""
    config = config.update(DATASETS["3d"]).update(TEMPLATE)
    config.general.outdir = str(tmp_path / "out")
    config.mimic.systematics.correlation_radius = "0.3 deg"
    for stack in (True, False):
        config.datasets.stack = stack
        analysis = MimicAnalysis(config)
        analysis.run()
        assert {_.stat_type for _ in analysis.datasets} == {"wstat"}
        text = (tmp_path / "out/report.html").read_text()
        assert 'id="table-losses"' in text
        assert "no prediction of the background" in text


@pytest.mark.slow
def test_dataset_that_is_masked_completely(config):
    """One bin that no template covers: an error that names what masks it."""
    config = config.update(DATASETS["3d"]).update(TEMPLATE)
    config.datasets.geom.axes.energy.nbins = 1
    analysis = MimicAnalysis(config)
    match = "nothing is left of 3 observations. OBS_ID 1: all is masked, .* template"
    with pytest.raises(ValueError, match=match):
        analysis.get_datasets()
    analysis.config.datasets.safe_mask.methods = ["aeff-default"]
    match = "nothing is left of 3 .* The safe mask 'aeff-default' leaves no bin. Choose"
    with pytest.raises(ValueError, match=match):
        analysis.get_datasets()


@pytest.mark.slow
def test_observation_that_is_not_on_the_map(config, caplog):
    config = config.update(DATASETS["3d"]).update(BACKGROUNDS["fov"])
    analysis = MimicAnalysis(config)
    analysis.get_observations()
    off = DataStore.from_dir(config.mimic.off.datastore).get_observations([101])
    observations = Observations([*analysis.observations, *off])
    (dataset,) = analysis.reduce(observations)
    assert np.ravel(dataset.meta_table["OBS_ID"]).tolist() == [1, 2, 3]
    assert "OBS_ID [101] are in no dataset: their fields of view do not" in caplog.text
    with pytest.raises(ValueError, match="nothing is left of the observations"):
        analysis.reduce(off)


@pytest.mark.slow
def test_changed_configuration_is_used(config):
    analysis = MimicAnalysis(config.update(DATASETS["1d"]))
    analysis.get_plan()
    assert len(analysis.plan.sets) == 2
    analysis.update_config("mimic: {n_sets: 3, off: {obs_ids: [101, 102, 103, 104]}}")
    analysis.get_plan()
    assert len(analysis.plan.sets) == 3
    assert analysis.plan.table["OFF_OBS_ID"].max() == 104


def edit_kl_max(config):
    config.mimic.selection.kl_max = 1e-9


def edit_criteria(config):
    config.mimic.selection.criteria = {"airmass": None, "exclude_obs_ids": [101, 102]}


def edit_off(config):
    config.mimic.off.obs_ids = [103, 104, 105, 106]


def edit_regions(config):
    path = config.mimic.off.datastore / "hole.reg"
    path.write_text("icrs\ncircle(329.7, -30.2, 1)\n")
    config.mimic.exclusion.regions = path


def edit_sets(config):
    config.mimic.n_sets = 1


def edit_scramble(config):
    config.mimic.scramble = {"method": "azimuth"}


def edit_background(config):
    config.mimic.background = "target"


def edit_datasets(config):
    config.datasets.geom.axes.energy.nbins = 2


EDITS = [edit_kl_max, edit_criteria, edit_off, edit_regions, edit_sets]
EDITS += [edit_scramble, edit_background, edit_datasets]


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS)
def test_configuration_that_is_edited_in_place(config, edit):
    """What comes out does not depend on what was called before."""
    config = config.update(DATASETS["3d"]).update(BACKGROUNDS["fov"])
    analysis = run(config)
    before = analysis.mimic_datasets
    edit(analysis.config)

    analysis.get_mimic_datasets()

    expected = MimicAnalysis(analysis.config.model_copy(deep=True))
    expected.get_mimic_datasets()
    assert str(analysis.plan.table) == str(expected.plan.table)
    assert list(analysis.mimic_datasets) == list(expected.mimic_datasets)
    for mimic_set, datasets in expected.mimic_datasets.items():
        assert_same(analysis.mimic_datasets[mimic_set], datasets)
    assert analysis.mimic_datasets is not before


@pytest.mark.slow
def test_systematics_of_an_edited_configuration(config):
    """Only what depends on the edit is made again."""
    config = config.update(DATASETS["3d"]).update(BACKGROUNDS["fov"])
    analysis = MimicAnalysis(config)
    analysis.get_systematics()
    before = analysis.mimic_datasets, analysis.datasets
    analysis.config.mimic.systematics.correlation_radius = "0.4 deg"
    analysis.get_systematics()
    assert analysis.systematics.correlation_radius.deg == 0.4
    assert analysis.mimic_datasets is before[0]
    analysis.config.datasets.geom.axes.energy.nbins = 2
    analysis.get_systematics()
    assert analysis.mimic_datasets is not before[0]
    assert analysis.datasets is not before[1]
    assert analysis.datasets[0].counts.data.shape[0] == 2


@pytest.mark.slow
def test_observations_of_an_edited_configuration(config):
    analysis = run(config.update(DATASETS["3d"]))
    analysis.config.observations.obs_ids = [2]
    analysis.get_datasets()
    (dataset,) = analysis.datasets
    assert np.ravel(dataset.meta_table["OBS_ID"]).tolist() == [2]
    analysis.get_mimic_datasets()
    assert np.unique(analysis.plan.table["OBS_ID"]).tolist() == [2]


@pytest.mark.slow
def test_models_of_the_user_stay(config):
    """Datasets of targets are made again only where they depend on the edit."""
    config = config.update(DATASETS["3d"]).update(BACKGROUNDS["fov"])
    analysis = run(config)
    before = analysis.datasets
    analysis.config.mimic.n_sets = 3
    analysis.config.mimic.scramble = {"method": "azimuth"}
    analysis.get_systematics()
    assert len(analysis.systematics.names) == 3
    assert analysis.datasets is before


@pytest.mark.slow
def test_targets_without_a_template_are_left_out(config, caplog):
    """As mimics are, and with an error only if none is left."""
    config = config.update(DATASETS["3d"])
    config.mimic.background = "template"
    config.mimic.selection.kl_max = 1
    table = DataStore.from_dir(config.observations.datastore).obs_table
    off_table = DataStore.from_dir(config.mimic.off.datastore).obs_table
    airmass, off_airmass = (
        1 / np.sin(np.radians(np.asarray(_["ALT_PNT"]))) for _ in (table, off_table)
    )
    # as many as a template needs to choose from
    nearest = np.sort(np.abs(airmass[:, np.newaxis] - off_airmass), axis=1)[:, 2]
    limit = np.sort(nearest)[:2].mean()
    config.mimic.selection.criteria = {**ANY_CONDITIONS, "airmass": limit}
    analysis = MimicAnalysis(config)
    analysis.get_datasets()
    (dataset,) = analysis.datasets
    kept = np.ravel(dataset.meta_table["OBS_ID"]).tolist()
    assert kept == table["OBS_ID"][nearest < limit].tolist()
    assert len(kept) == 1
    assert caplog.text.count("No template for OBS_ID") == 2

    limits = {**ANY_CONDITIONS, "airmass": 0.99 * nearest.min()}
    analysis.config.mimic.selection.criteria = limits
    with pytest.raises(ValueError, match="no good OFF observation for the template"):
        analysis.get_datasets()


@pytest.mark.slow
def test_plan_set_by_hand_stays(config):
    analysis = run(config.update(DATASETS["3d"]))
    plan = MimicPlan.create({1: 104, 3: 105})
    analysis.plan = plan
    analysis.config.mimic.n_sets = 3
    analysis.get_mimic_datasets()
    assert analysis.plan is plan
    assert list(analysis.mimic_datasets) == [1]


@pytest.mark.slow
def test_own_plan(config):
    analysis = MimicAnalysis(config.update(DATASETS["1d"]))
    analysis.plan = MimicPlan.create({1: 104, 3: 105})
    analysis.get_mimic_datasets()
    assert analysis.mimic_observations[1].ids == ["1", "3"]
    assert len(analysis.mimic_datasets[1]) == 1
    assert_allclose(analysis.mimic_datasets[1][0].gti.time_sum.to_value("min"), 56)


@pytest.mark.slow
@pytest.mark.parametrize("kl_max", [1.0, None])
def test_selected_time(config, kl_max):
    """OFF observations are cut to the livetime that is left, or refused."""
    config.mimic.selection.kl_max = kl_max
    config.mimic.selection.criteria = {**ANY_CONDITIONS, "livetime": 0.1}
    analysis = MimicAnalysis(config)
    analysis.get_observations()
    tstart = analysis.observations[0].tstart
    config.observations.obs_time = {
        "start": tstart.isot,
        "stop": (tstart + 14 * u.min).isot,
    }
    analysis.get_observations()
    assert analysis.observations.ids == ["1"]
    analysis.get_mimic_observations()
    assert_allclose(analysis.plan.table["LIVETIME_RATIO"], 2)
    for (mimic,) in analysis.mimic_observations.values():
        assert_allclose(mimic.gti.time_sum.to_value("min"), 14, rtol=1e-5)
    # what was made by other settings is made again
    config.mimic.livetime = "whole"
    with pytest.raises(ValueError, match="removed most is 'livetime'"):
        analysis.get_mimic_observations()
    config.mimic.selection.criteria = ANY_CONDITIONS
    analysis.get_mimic_observations()
    for (mimic,) in analysis.mimic_observations.values():
        assert_allclose(mimic.gti.time_sum.to_value("min"), 28)


@pytest.mark.slow
def test_systematics(config):
    """As by hand, and for maps with all that single observations tell."""
    config = config.update(DATASETS["3d"]).update(BACKGROUNDS["fov"])
    config = config.update("datasets: {stack: false}")
    config.mimic.systematics.correlation_radius = "0.3 deg"
    config.mimic.systematics.position = {
        "frame": "icrs",
        "lon": "329.7 deg",
        "lat": "-30.2 deg",
    }
    analysis = MimicAnalysis(config)
    analysis.get_systematics()
    result = analysis.systematics
    assert result.names == ["mimic_1", "mimic_2"]
    assert {"systematics", "position", "maximum", "normalisation"} <= set(result.tables)
    estimator = MimicSystematicsEstimator(
        "0.3 deg", position=SkyCoord(329.7, -30.2, unit="deg")
    )
    expected = estimator.run(analysis.mimic_datasets, analysis.datasets)
    assert str(result) == str(expected)
    assert_allclose(result.bias.ratio, expected.bias.ratio)
    assert np.any(result.bias.ratio > 0)


@pytest.mark.slow
def test_exclusion_in_the_background_maker(config, tmp_path):
    """Targets and mimics alike, and not with another mask."""
    config = config.update(DATASETS["3d"]).update(BACKGROUNDS["fov"])
    (tmp_path / "source.reg").write_text("icrs\ncircle(329.7,-30.2,0.5)\n")
    config.mimic.exclusion.regions = tmp_path / "source.reg"
    config.datasets.background.exclusion = None
    config.mimic.exclusion.background = True
    analysis = MimicAnalysis(config)
    mask = analysis._make_chain()[-1].exclusion_mask
    inside, outside = SkyCoord([329.7, 331], [-30.2, -30.2], unit="deg")
    assert mask.get_by_coord(inside)[0] == 0
    assert mask.get_by_coord(outside)[0] == 1
    mask.write(tmp_path / "mask.fits")
    config.datasets.background.exclusion = tmp_path / "mask.fits"
    with pytest.raises(ValueError, match="mimic.exclusion.background: there is a mask"):
        MimicAnalysis(config).check_makers()


def test_mimic_steps_need_the_section():
    analysis = MimicAnalysis(MimicAnalysisConfig())
    analysis.observations = ["one"]
    with pytest.raises(ValueError, match="has no section 'mimic'"):
        analysis.get_plan()


def test_logging_to_a_file(tmp_path, monkeypatch):
    """Gammapy's own needs a filemode as well."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    config = MimicAnalysisConfig()
    config.general.log = {"filename": tmp_path / "log.txt", "level": "info"}
    MimicAnalysis(config)
    logging.getLogger("gammapy").info("written")
    for handler in root.handlers:
        handler.close()
    assert "written" in (tmp_path / "log.txt").read_text()


MSH = SkyCoord(228.53, -59.16, unit="deg")
HESS_CONFIG = """
observations:
  datastore: $GAMMAPY_DATA/hess-dl3-dr1
mimic:
  off: {query: TARGET_NAME == 'Off data'}
"""
MSH_CONFIG = """
observations:
  obs_cone: {frame: icrs, lon: 228.32 deg, lat: -59.08 deg, radius: 2.5 deg}
datasets:
  type: 3d
  stack: false
  geom:
    wcs:
      skydir: {frame: icrs, lon: 228.32 deg, lat: -59.08 deg}
      width: {width: 3 deg, height: 3 deg}
      binsize: 0.02 deg
    selection: {offset_max: 2.5 deg}
    axes:
      energy: {min: 0.5 TeV, max: 10 TeV, nbins: 10}
      energy_true: {min: 0.1 TeV, max: 10 TeV, nbins: 10}
mimic: {n_sets: 3}
"""


@pytest.fixture(scope="module")
def hess_config(hess_store, tmp_path_factory):
    need_runs(hess_store, "crab", "msh1552", "offdata")
    path = tmp_path_factory.mktemp("regions") / "sources.reg"
    path.write_text(
        "icrs\ncircle(228.53,-59.16,0.4)\ncircle(83.633,22.014,0.3)\n", encoding="utf-8"
    )
    config = MimicAnalysisConfig.from_yaml(HESS_CONFIG)
    config.mimic.exclusion.regions = path
    return config


def check_msh(dataset, has_source):
    edges = dataset.counts.geom.axes["energy"].edges[[0, -1]]
    estimator = ExcessMapEstimator("0.15 deg", energy_edges=edges)
    significance = estimator.run(dataset).sqrt_ts.sum_over_axes(keepdims=False)
    at_source = significance.get_by_coord(MSH)[0]
    if has_source:
        assert at_source > 6
        return
    assert abs(at_source) < 4.5
    assert np.nanmax(significance.data) < 6
    # about 130 values that are independent
    assert abs(np.nanstd(significance.data) - 1) < 0.3


@pytest.mark.slow
def test_msh_1552_ring(hess_config):
    """Ten bins of energy, and the image of Gammapy's tutorial on ring backgrounds."""
    config = hess_config.update(MSH_CONFIG)
    plain = Analysis(config)
    plain.get_observations()
    plain.observations = plain.observations[:4]
    plain.get_datasets()
    geom = plain.datasets[0].counts.geom.to_image()
    axis = plain.datasets[0].counts.geom.axes["energy"].squash()
    region = CircleSkyRegion(MSH, 0.4 * u.deg)
    mask = WcsGeom.create(skydir=geom.center_skydir, width=5, binsz=0.02, axes=[axis])
    mask = mask.region_mask([region], inside=False)
    maker = RingBackgroundMaker(r_in="0.5 deg", width="0.3 deg", exclusion_mask=mask)
    expected = [maker.run(_.to_image()) for _ in plain.datasets]

    config.datasets.background = {
        "method": "ring",
        "parameters": {"r_in": "0.5 deg", "width": "0.3 deg", "exclusion_mask": mask},
    }
    config.datasets.stack = True
    analysis = MimicAnalysis(config)
    analysis.get_observations()
    analysis.observations = analysis.observations[:4]
    analysis.get_datasets()
    (stacked,) = analysis.datasets
    assert_same([stacked], [stack_on_off(expected, stacked)])

    analysis.get_mimic_datasets()
    check_msh(stacked, has_source=True)
    assert list(analysis.mimic_datasets) == [1, 2, 3]
    for (dataset,) in analysis.mimic_datasets.values():
        assert isinstance(dataset, MapDatasetOnOff)
        check_msh(dataset, has_source=False)


@pytest.mark.slow
def test_msh_1552_fov_background(hess_config, tmp_path):
    config = hess_config.update(MSH_CONFIG)
    config.datasets.geom.wcs.binsize = "0.05 deg"
    config.datasets.stack = True
    region = CircleSkyRegion(MSH, 0.4 * u.deg)
    geom = MimicAnalysis(config)._create("geometry")
    mask = geom.to_image().region_mask([region], inside=False)
    mask.write(tmp_path / "mask.fits")
    config.datasets.background = {
        "method": "fov_background",
        "exclusion": tmp_path / "mask.fits",
        "parameters": {"method": "scale"},
    }
    config.datasets.safe_mask = {"methods": ["aeff-default"]}
    analysis = MimicAnalysis(config)
    analysis.get_observations()
    analysis.observations = analysis.observations[:4]
    analysis.get_datasets()
    analysis.get_mimic_datasets()
    inside = geom.region_mask([region], inside=True)
    excess = []
    for datasets in (analysis.datasets, *analysis.mimic_datasets.values()):
        counts, background = (
            getattr(datasets[0], _).data[inside.data].sum()
            for _ in ("counts", "background")
        )
        excess.append((counts - background) / np.sqrt(background))
    assert excess[0] > 6
    assert np.all(np.abs(excess[1:]) < 4)


@pytest.mark.slow
def test_crab_reflected_regions(hess_config):
    config = hess_config.update("""
observations: {obs_ids: [23523, 23526, 23559]}
datasets:
  type: 1d
  on_region: {frame: icrs, lon: 83.633 deg, lat: 22.014 deg, radius: 0.11 deg}
  geom:
    axes:
      energy: {min: 0.5 TeV, max: 30 TeV, nbins: 12}
      energy_true: {min: 0.1 TeV, max: 60 TeV, nbins: 20}
  background: {method: reflected}
mimic:
  selection: {criteria: {livetime: 0.3, airmass: 0.3}}
""")
    analysis = run(config)
    assert analysis.datasets[0].info_dict()["sqrt_ts"] > 30
    infos = [_[0].info_dict() for _ in analysis.mimic_datasets.values()]
    assert len(infos) == 5
    assert np.all(np.abs([_["sqrt_ts"] for _ in infos]) < 4)
    counts, counts_off, excess = (
        sum(_[name] for _ in infos) for name in ("counts", "counts_off", "excess")
    )
    alpha = (counts - excess) / counts_off
    assert abs(excess) < 3 * np.sqrt(counts + alpha**2 * counts_off)
