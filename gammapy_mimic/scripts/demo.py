"""``gammapy-mimic demo``: the main job on simulated data."""

from pathlib import Path

import click
from astropy.coordinates import SkyCoord

from ..makers import KLBackgroundSelector
from ..simulate import simulate_datastore
from .make import make_mimic_sets, reduce_mimic_sets
from .options import n_jobs_option, random_state_option

__all__ = ["demo"]

TARGET = SkyCoord(83.63, 22.01, unit="deg")
FIRST_OFF_OBS_ID = 101


@click.command()
@click.option(
    "--outdir", default="gammapy-mimic-demo", show_default=True, help="Folder to fill."
)
@click.option("--n-targets", default=8, show_default=True, help="Target observations.")
@click.option("--n-off", default=40, show_default=True, help="OFF observations.")
@click.option("--n-sets", default=3, show_default=True, help="Mimic sets.")
@random_state_option
@n_jobs_option
def demo(outdir, n_targets, n_off, n_sets, random_state, n_jobs):
    """Simulate targets and OFF observations, and mimic the targets.

    Needs no data, and takes less than a minute. Results of an earlier demo in the
    same folder are replaced.
    """
    outdir = Path(outdir)
    click.echo(f"Simulating {n_targets} target and {n_off} OFF observations")
    targets = simulate_datastore(
        outdir / "targets",
        n_targets,
        targets={"target": TARGET},
        zenith=("46 deg", "55 deg"),
        random_state=random_state,
        overwrite=True,
    )
    off = simulate_datastore(
        outdir / "off",
        n_off,
        first_obs_id=FIRST_OFF_OBS_ID,
        zenith=("40 deg", "60 deg"),
        random_state=random_state,
        overwrite=True,
    )
    observations = targets.get_observations()
    selector = KLBackgroundSelector(off)
    plan = selector.make_plan(
        observations, n_sets=n_sets, random_state=random_state, n_jobs=n_jobs
    )
    make_mimic_sets(observations, off, plan, outdir, overwrite=True, n_jobs=n_jobs)
    reduce_mimic_sets(plan, outdir, n_jobs=n_jobs)
    click.echo(f"Open {outdir / 'significance.png'}")
