"""What a configuration can say since the command line makes one of its options."""
# ruff: noqa: F811

import shutil

import astropy.units as u
import pytest
from astropy.table import Table
from gammapy.data import DataStore

from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.analysis.datasets import read_datasets
from gammapy_mimic.analysis.pipeline import run_pipeline
from gammapy_mimic.data import write_datastore
from gammapy_mimic.exclusion import ExclusionRegions
from gammapy_mimic.selection import MimicPlan

from .test_io import truncate
from .test_pipeline import config, get_out, run  # noqa: F401
from .test_scripts import run as run_command


def read_plan(config):
    return MimicPlan.read(get_out(config) / "plan.ecsv")


class TestTargetQuery:
    @pytest.mark.slow
    def test_with_and_without_obs_ids(self, config):
        config.mimic.target_query = "OBS_ID > 1"
        analysis = MimicAnalysis(config)
        analysis.get_observations()
        assert analysis.observations.ids == ["2"]
        assert config.observations.obs_ids == [1, 2]
        config.observations.obs_ids = []
        assert analysis.factory.observations.ids == ["2", "3"]

    def test_a_change_is_seen(self, config):
        analysis = MimicAnalysis(config)
        analysis.get_observations()
        config.mimic.target_query = "OBS_ID > 1"
        assert analysis.factory.observations.ids == ["2"]

    @pytest.mark.parametrize(
        ("query", "match"),
        [
            ("NAME == 3", "mimic.target_query: .* no column 'NAME'"),
            ("OBS_ID > 2", "mimic.target_query: selects none of observations.obs_ids"),
            ("OBS_ID > 200", "mimic.target_query: No observation of .* satisfies"),
        ],
    )
    def test_bad_input(self, config, query, match):
        config.mimic.target_query = query
        with pytest.raises(ValueError, match=match):
            MimicAnalysis(config).get_observations()

    def test_file_of_obs_ids(self, config, tmp_path):
        config.observations.obs_file = tmp_path / "obs_ids.txt"
        config.observations.obs_file.write_text("1\n")
        config.mimic.target_query = "OBS_ID > 1"
        with pytest.raises(ValueError, match=r"target_query: .*observations\.obs_file"):
            MimicAnalysis(config).get_observations()


@pytest.mark.slow
def test_conditions_alone(config):
    """No events are compared, and there are no tables of divergence."""
    config.mimic.selection.kl_max = None
    config.mimic.off.index = get_out(config).parent / "index.fits"
    run(config)
    tables = [
        DataStore.from_dir(path).obs_table
        for path in (config.observations.datastore, config.mimic.off.datastore)
    ]
    expected = MimicPlan.from_obs_tables(
        tables[0].select_obs_id([1, 2]),
        tables[1],
        {"airmass": None, "zenith": None},
        n_sets=2,
    )
    assert read_plan(config).partners(1) == expected.partners(1)
    assert not (get_out(config) / "kl").exists()
    assert not config.mimic.off.index.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("irfs", "is_copy"), [("link", False), ("copy", True)])
def test_irfs(config, irfs, is_copy):
    config.mimic.irfs = irfs
    config.mimic.n_sets = 1
    run(config, reduce=False)
    table = DataStore.from_dir(get_out(config) / "mimic_1").hdu_table
    aeff = table[table["HDU_TYPE"] == "aeff"]
    assert all((".." not in row["FILE_DIR"]) == is_copy for row in aeff)


def test_regions_as_text(config, tmp_path):
    (tmp_path / "other.reg").write_text("icrs\ncircle(330.1,-30.2,0.2)\n")
    config.mimic.exclusion.regions = ["329.7,-30.2,0.3", str(tmp_path / "other.reg")]
    radii = [_.radius.to_value("deg") for _ in MimicAnalysis(config).exclusion_regions]
    assert sorted(radii) == [0.2, 0.3]
    again = MimicAnalysisConfig.from_yaml(config.to_yaml())
    assert again.mimic.exclusion.regions == config.mimic.exclusion.regions
    with pytest.raises(ValueError, match="'1,2,x' is not RA,DEC,RADIUS"):
        ExclusionRegions.from_text("1,2,x")


def test_empty_region_file(config, tmp_path):
    (tmp_path / "empty.reg").write_text("")
    config.mimic.exclusion.regions = tmp_path / "empty.reg"
    with pytest.raises(ValueError, match=r"exclusion: there is no region in .*empty"):
        run(config)


class TestBrokenFiles:
    @pytest.mark.slow
    def test_the_only_partner(self, broken, stores):
        """Where there are others, it is no error that all partners are broken."""
        broken.observations.obs_ids = [2]
        broken.mimic.n_sets = 1
        broken.mimic.selection.randomise = False
        broken.mimic.selection.kl_max = 1
        for obs_id in (101, 102):
            path = broken.mimic.off.datastore / f"data/obs_id_{obs_id:06d}.fits"
            truncate(path, 0.95)
        run(broken)
        assert read_plan(broken).table["OFF_OBS_ID"].tolist() == [103]

    @pytest.mark.slow
    def test_partner_that_is_chosen_by_hand(self, broken):
        run(broken, reduce=False)
        path = get_out(broken) / "plan.ecsv"
        plan = Table.read(path)
        plan["OFF_OBS_ID"][0] = 102
        plan.write(path, overwrite=True)
        with pytest.raises(ValueError, match=r"OFF_OBS_ID \[102\] cannot be read"):
            run(broken)

    @pytest.mark.slow
    def test_strict_when_the_plan_is_there(self, broken):
        run(broken, reduce=False)
        broken.mimic.strict = True
        broken.observations.obs_ids = [2, 3]
        with pytest.raises(OSError, match="OBS_ID 102 cannot be read"):
            run(broken)

    def test_in_python(self, broken):
        broken.mimic.target_query = "OBS_ID < 3"
        analysis = MimicAnalysis(broken)
        analysis.get_datasets()
        assert set(analysis.datasets[0].meta_table["OBS_ID"].ravel()) == {2}

    @pytest.fixture
    def broken(self, config, stores, tmp_path):
        """Stores with a file that is cut in its IRFs, after events and GTI."""
        for name, n_obs, obs_id in (("targets", 3, 1), ("off", 3, 102)):
            observations = stores[name].get_observations()[:n_obs]
            write_datastore(observations, tmp_path / name, irfs="copy")
            truncate(tmp_path / f"{name}/data/obs_id_{obs_id:06d}.fits", 0.9)
        config.observations.datastore = tmp_path / "targets"
        config.observations.obs_ids = [1, 2, 3]
        config.mimic.off.datastore = tmp_path / "off"
        return config

    @pytest.mark.parametrize(
        "kl_max", [1.0, pytest.param(None, marks=pytest.mark.slow)]
    )
    @pytest.mark.slow
    def test_left_out(self, broken, caplog, kl_max):
        """Before the plan is made, whatever it is made from."""
        broken.mimic.selection.kl_max = kl_max
        run(broken)
        table = read_plan(broken).table
        assert set(table["OBS_ID"]) == {2, 3}
        assert set(table["OFF_OBS_ID"]) == {101, 103}
        for obs_id in (1, 102):
            assert f"Left out: OBS_ID {obs_id} cannot be read" in caplog.text
        assert run(broken) == []
        (dataset,) = read_datasets(get_out(broken) / "datasets")
        assert set(dataset.meta_table["OBS_ID"].ravel()) == {2, 3}

    @pytest.mark.slow
    @pytest.mark.parametrize("obs_id", [1, 102])
    def test_strict(self, broken, obs_id):
        broken.mimic.strict = True
        if obs_id != 1:
            broken.observations.obs_ids = [2]
            broken.mimic.n_sets = 1
        with pytest.raises(OSError, match=f"OBS_ID {obs_id} cannot be read"):
            run(broken)
        assert not get_out(broken).exists()


class TestGeometry:
    @pytest.fixture
    def without_center(self, config):
        wcs = {"binsize": "0.2 deg", "binsize_irf": "1 deg"}
        config.datasets.geom.wcs = wcs
        config.datasets.background.exclusion = None
        config.mimic.exclusion.background = True
        return config

    @pytest.mark.slow
    def test_all_fields(self, without_center):
        analysis = MimicAnalysis(without_center)
        analysis.get_datasets()
        analysis.get_mimic_datasets()
        geom = analysis.datasets[0].counts.geom
        assert geom.projection == "TAN"
        for observation in analysis.observations:
            pointing = observation.get_pointing_icrs(observation.tmid)
            corners = pointing.directional_offset_by(
                [0, 90, 180, 270] * u.deg, 2 * u.deg
            )
            assert geom.to_image().contains(corners).all()
        assert analysis.mimic_datasets[2][0].counts.geom == geom

    def test_width_needs_a_center(self, without_center):
        without_center.datasets.geom.wcs.width = {"width": "3 deg", "height": "3 deg"}
        with pytest.raises(ValueError, match=r"datasets\.geom: wcs\.width needs a wcs"):
            run(without_center)

    @pytest.mark.slow
    def test_targets_with_partner_decide(self, without_center):
        """A change of the plan that changes the map makes all datasets anew."""
        without_center.mimic.n_sets = 1
        run(without_center)
        path = get_out(without_center) / "plan.ecsv"
        plan = Table.read(path)
        plan[plan["OBS_ID"] == 1].write(path, overwrite=True)
        done = run(without_center)
        assert {"datasets", "datasets_mimic_1"} <= set(done)

    def test_half_a_direction(self, without_center):
        without_center.datasets.geom.wcs.skydir.lon = "329.7 deg"
        with pytest.raises(ValueError, match=r"skydir: must be frame, lon and lat"):
            run(without_center)

    @pytest.mark.parametrize("axis", ["energy", "energy_true"])
    def test_axes_are_checked_first(self, without_center, axis):
        getattr(without_center.datasets.geom.axes, axis).min = None
        with pytest.raises(ValueError, match=rf"geom: axes\.{axis} needs all of min"):
            run(without_center)
        assert not get_out(without_center).exists()

    @pytest.mark.slow
    def test_processes_do_not_change_the_last_digit(self, without_center):
        """Geometries of directions with many digits are sent to other processes."""
        maps = []
        for n_jobs in (1, 2):
            without_center.general.n_jobs = n_jobs
            analysis = MimicAnalysis(without_center)
            analysis.get_mimic_datasets()
            maps += [analysis.mimic_datasets[2][0].npred_background()]
        assert maps[0].geom == maps[1].geom
        assert maps[0].data.tobytes() == maps[1].data.tobytes()


@pytest.mark.slow
def test_without_reduce_nothing_of_other_settings_stays(config):
    """A report beside a plan that it is not of would mislead."""
    run(config)
    out = get_out(config)
    run(config, reduce=False)
    assert (out / "report.html").exists()
    config.datasets.geom.axes.energy.nbins = 2
    run(config, reduce=False)
    names = {path.name for path in out.iterdir()}
    gone = {"report.html", "systematics.fits", "datasets", "datasets_mimic_2"}
    assert not gone & names
    assert {"plan.ecsv", "mimic_1", "mimic_2"} <= names


class TestCommandLine:
    """Errors name the option or the key."""

    @pytest.mark.parametrize(
        ("args", "match"),
        [
            (("--kl-max", "nan"), "options, mimic.selection.kl_max: "),
            (("--correlation-radius", "1"), "'--correlation-radius': must be an angle"),
            (("--offset-max", "1 m"), "'--offset-max': must be an angle with its unit"),
            (("--energy-range", "1 TeV", "x"), "'--energy-range': must be an energy"),
            (("--energy-range", "nan TeV", "1 TeV"), "'--energy-range': must be an en"),
            (("--energy-range", "9 TeV", "1 TeV"), "energy.max: must be above min"),
            (("--index", ""), "options, mimic.off.index: must not be empty"),
            (("--off-datastore", ""), "mimic.off.datastore: must not be empty"),
        ],
    )
    def test_bad_values(self, tmp_path, stores, capsys, args, match):
        store = stores["targets"].hdu_table.base_dir
        options = ("--target-obs", "1", "--off-query", "OBS_ID > 1")
        outdir = tmp_path / "out"
        options += ("--outdir", outdir, *args)
        assert run_command("make", "--datastore", store, *options) in (1, 2)
        assert match in capsys.readouterr().err
        assert not outdir.exists()

    def test_written_configuration_runs_from_another_folder(
        self, tmp_path, stores, monkeypatch, capsys
    ):
        shutil.copytree(stores["targets"].hdu_table.base_dir, tmp_path / "targets")
        shutil.copytree(stores["off"].hdu_table.base_dir, tmp_path / "off")
        monkeypatch.chdir(tmp_path)
        args = ("--datastore", "targets", "--off-datastore", "off", "--outdir", "out")
        selection = ("--target-query", "OBS_ID < 3", "--off-query", "OBS_ID > 100")
        options = ("-c", "airmass=null", "--n-sets", "1", "--no-reduce")
        assert run_command("make", *args, *selection, *options) == 0
        monkeypatch.chdir("/")
        capsys.readouterr()
        analysis = MimicAnalysis(MimicAnalysisConfig.read(tmp_path / "out/config.yaml"))
        run_pipeline(analysis, reduce=False, report=print)
        assert "Plan: up to date\nMimic set 1: up to date" in capsys.readouterr().out
