"""``gammapy-mimic demo``: the main job on simulated data with a known truth."""

import astropy.units as u
import click
from astropy.coordinates import SkyCoord
from gammapy.modeling.models import (
    GaussianSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from regions import CircleSkyRegion

from ..analysis.config import MimicAnalysisConfig
from ..analysis.core import MimicAnalysis
from ..analysis.pipeline import get_step_names, run_pipeline
from ..exclusion.core import ExclusionRegions
from ..report import select_regions, summarise_region
from ..simulate import BackgroundFlaw, simulate_datastore
from ..utils.files import check_folder
from ..utils.records import StepRecords
from .options import n_jobs_option, n_sets_option, random_state_option
from .output import tell

__all__ = ["demo"]

NUMBER = click.IntRange(min=1)
CENTER = SkyCoord(330, -30, unit="deg")
FIRST_OFF_OBS_ID = 101
OFFSET = 0.8  # deg, of both excesses
RADIUS = 0.4 * u.deg  # in which they are looked for
FLAW = BackgroundFlaw(gradient=0.08, height=0.42, position=(OFFSET, 0), width=0.3)
"""In the events of targets and OFF observations alike, and in no background IRF."""

# so strong that it does not depend on the random numbers: with the seeds 0 to 4, both
# have 6.0 sigma or more, and the calibrated significance is 3.9 to 7.7 for the source,
# and -1.1 to 1.3 for the flaw
FLUX = 6e-12  # of the source, at 1 TeV in cm-2 s-1 TeV-1
# fov_lon grows to the west, and the gradient has no effect in the north
ANGLES = {"north": 0 * u.deg, "west": 270 * u.deg}
PLACES = {
    name: CENTER.directional_offset_by(angle, OFFSET * u.deg)
    for name, angle in ANGLES.items()
}
ORIGIN = {"north": "a source", "west": "a flaw of the background"}
CONFIG = """
general: {log: {level: warning}}
observations: {required_irf: [aeff, bkg]}
datasets:
  type: 3d
  stack: false
  map_selection: [counts, exposure, background]
  geom:
    wcs:
      skydir: {frame: icrs, lon: 330 deg, lat: -30 deg}
      width: {width: 4.8 deg, height: 4.8 deg}
      binsize: 0.1 deg
    selection: {offset_max: 2 deg}
    axes:
      energy: {min: 0.4 TeV, max: 20 TeV, nbins: 6}
      energy_true: {min: 0.4 TeV, max: 20 TeV, nbins: 6}
  background: {method: fov_background, parameters: {method: scale}}
  safe_mask:
    methods: [aeff-default, offset-max]
    parameters: {offset_max: 2 deg}
mimic:
  # events of what is looked for are in no comparison, and in no normalisation
  exclusion: {background: true}
  systematics:
    correlation_radius: 0.4 deg
    radii: [0.2 deg, 0.4 deg, 0.8 deg]
"""


@click.command()
@click.option("--outdir", default="gammapy-mimic-demo", help="Folder to fill.")
@click.option("--n-targets", type=NUMBER, default=7, help="Target observations.")
@click.option("--n-off", type=NUMBER, default=35, help="OFF observations.")
@n_sets_option
@random_state_option
@n_jobs_option
def demo(outdir, n_targets, n_off, n_sets, random_state, n_jobs):
    """Simulate two excesses, of which one is real, and see which one mimics explain.

    Needs no data, and takes half a minute. One excess is a source. The other one is
    made by a flaw of the background that no background model knows: a gradient and a
    spot, fixed in the field of view, of targets and OFF observations alike. The
    configuration is written to config.yaml, to be changed and run again. Results of an
    earlier demo in the same folder are replaced; a config.yaml that was changed is kept
    under another name.
    """
    check_folder(outdir)
    records = StepRecords(outdir)
    with records.lock():
        outdir = records.path
        config = MimicAnalysisConfig.from_yaml(CONFIG)
        names = get_step_names(config.mimic, range(1, n_sets + 1), write_config=True)
        own = {"targets", "off", "regions"}
        records.check({*own, *names, *records.names})
        tell(f"Simulating {n_targets} target and {n_off} OFF observations")
        _simulate(records, n_targets, n_off, random_state)
        config.general.outdir = str(outdir)
        config.general.n_jobs = n_jobs
        config.observations.datastore = outdir / "targets"
        config.mimic.off.datastore = outdir / "off"
        config.mimic.exclusion.regions = [str(outdir / "regions.reg")]
        config.mimic.systematics.regions = [str(outdir / "regions.reg")]
        config.mimic.n_sets = n_sets
        config.mimic.random_state = random_state
        analysis = MimicAnalysis(config)
        run_pipeline(analysis, report=tell, write_config=True)
    _tell(analysis.systematics)


def _simulate(records, n_targets, n_off, random_state):
    """Simulate the datastores, and write the regions in question."""
    options = {
        "irfs": FLAW.make_irfs,
        "kept_irfs": _keep_irfs,
        "zenith": ("10 deg", "30 deg"),
        "random_state": random_state,
        "overwrite": True,
    }
    with records.step("targets"):
        simulate_datastore(
            records.path / "targets",
            n_targets,
            targets={"target": CENTER},
            sources=[make_source()],
            # small, so that a spot of the field of view stays one on the sky
            wobble_offset="0.3 deg",
            **options,
        )
    with records.step("off"):
        simulate_datastore(
            records.path / "off", n_off, first_obs_id=FIRST_OFF_OBS_ID, **options
        )
    with records.step("regions", outputs=["regions.reg"]):
        circles = [CircleSkyRegion(place, RADIUS) for place in PLACES.values()]
        regions = ExclusionRegions(circles, list(PLACES))
        regions.write(records.path / "regions.reg", overwrite=True)


def _keep_irfs(irfs):
    """Keep the IRFs that the demo needs, without the flaw: it writes half as much."""
    return {name: FLAW.hide(irfs)[name] for name in ("aeff", "bkg")}


def make_source():
    """Make the source, in the north.

    Returns
    -------
    model : `~gammapy.modeling.models.SkyModel`
        Source.
    """
    position = PLACES["north"]
    return SkyModel(
        PowerLawSpectralModel(
            index=2.3, amplitude=FLUX * u.Unit("cm-2 s-1 TeV-1"), reference="1 TeV"
        ),
        GaussianSpatialModel(
            lon_0=position.ra, lat_0=position.dec, sigma="0.15 deg", frame="icrs"
        ),
        name="source",
    )


def _tell(result):
    """Say which excess survives, and by how much the flux of the other is wrong."""
    if result is None:
        return
    for row in select_regions(result):
        tell(f"{summarise_region(row)} Truth: {ORIGIN[row['region']]}.")
