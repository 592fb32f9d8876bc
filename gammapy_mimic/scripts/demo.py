"""``gammapy-mimic demo``: the main job on simulated data."""

import click
from astropy.coordinates import SkyCoord

from ..analysis.config import MimicAnalysisConfig
from ..analysis.pipeline import get_step_names
from ..simulate import simulate_datastore
from ..utils.files import check_folder
from ..utils.records import StepRecords
from .options import n_jobs_option, random_state_option
from .run import run_analysis

__all__ = ["demo"]

TARGET = SkyCoord(83.63, 22.01, unit="deg")
FIRST_OFF_OBS_ID = 101
CONFIG = """
general: {log: {level: warning}}
datasets:
  type: 3d
  stack: false
  geom:
    wcs:
      skydir: {frame: icrs, lon: 83.63 deg, lat: 22.01 deg}
      width: {width: 5 deg, height: 5 deg}
      binsize: 0.05 deg
    selection: {offset_max: 2 deg}
    axes:
      energy: {min: 0.5 TeV, max: 20 TeV, nbins: 10}
      energy_true: {min: 0.3 TeV, max: 40 TeV, nbins: 8}
  background: {method: fov_background, parameters: {method: scale}}
  safe_mask:
    methods: [aeff-default, offset-max]
    parameters: {offset_max: 2 deg}
mimic:
  systematics:
    correlation_radius: 0.1 deg
    position: {frame: icrs, lon: 83.63 deg, lat: 22.01 deg}
"""


@click.command()
@click.option("--outdir", default="gammapy-mimic-demo", help="Folder to fill.")
@click.option("--n-targets", default=8, help="Target observations.")
@click.option("--n-off", default=40, help="OFF observations.")
@click.option("--n-sets", default=3, help="Mimic sets.")
@random_state_option
@n_jobs_option
def demo(outdir, n_targets, n_off, n_sets, random_state, n_jobs):
    """Simulate targets and OFF observations, and mimic the targets.

    Needs no data, and takes less than a minute. The configuration is written to
    config.yaml, to be changed and run again. Results of an earlier demo in the same
    folder are replaced; a config.yaml that was changed is kept under another name.
    """
    check_folder(outdir)
    records = StepRecords(outdir)
    with records.lock():
        outdir = records.path
        config = MimicAnalysisConfig.from_yaml(CONFIG)
        names = get_step_names(config.mimic, range(1, n_sets + 1), write_config=True)
        records.check({"targets", "off", *names, *records.names})
        click.echo(f"Simulating {n_targets} target and {n_off} OFF observations")
        options = {"random_state": random_state, "overwrite": True}
        with records.step("targets"):
            simulate_datastore(
                outdir / "targets",
                n_targets,
                targets={"target": TARGET},
                zenith=("46 deg", "55 deg"),
                **options,
            )
        with records.step("off"):
            simulate_datastore(
                outdir / "off",
                n_off,
                first_obs_id=FIRST_OFF_OBS_ID,
                zenith=("40 deg", "60 deg"),
                **options,
            )
        config.general.outdir = str(outdir)
        config.general.n_jobs = n_jobs
        config.observations.datastore = outdir / "targets"
        config.mimic.off.datastore = outdir / "off"
        config.mimic.n_sets = n_sets
        config.mimic.random_state = random_state
        run_analysis(config, write_config=True)
