"""``gammapy-mimic make``: mimic datastores without a configuration file."""

import click
from gammapy.utils.scripts import make_path

from ..utils.files import check_folder
from ..utils.records import StepRecords
from .inputs import config_options
from .options import (
    AngleText,
    EnergyText,
    alignment_option,
    background_option,
    livetime_option,
    n_sets_option,
    random_state_option,
    time_option,
)
from .run import run_analysis

__all__ = ["make"]


@click.command()
@config_options
@n_sets_option
@livetime_option
@click.option(
    "--randomise/--best-first",
    default=True,
    help="Draw among the partners, or take the best.",
)
@click.option(
    "--n-best",
    type=click.IntRange(min=1),
    help="Draw among so many best ones. Default is all.",
)
@random_state_option
@alignment_option
@time_option
@background_option
@click.option(
    "--irfs",
    type=click.Choice(["link", "copy"]),
    default="link",
    help="Link the IRFs of the OFF observations, or copy them.",
)
@click.option("--outdir", required=True, help="Folder for the result.")
@click.option("--overwrite", is_flag=True, help="Replace results of an earlier run.")
@click.option(
    "--reduce/--no-reduce",
    default=True,
    help="Make datasets and the report, or end with the mimic datastores.",
)
@click.option(
    "--energy-range",
    nargs=2,
    type=EnergyText(),
    default=("0.5 TeV", "20 TeV"),
    help="Energy range of the maps.",
)
@click.option(
    "--correlation-radius",
    type=AngleText(),
    default="0.1 deg",
    help="Correlation radius of the maps.",
)
@click.option(
    "--offset-max",
    type=AngleText(),
    default="2 deg",
    help="Largest offset of events in the maps.",
)
def make(
    config,
    randomise,
    n_best,
    outdir,
    overwrite,
    reduce,
    energy_range,
    correlation_radius,
    offset_max,
    **options,
):
    """Make mimic sets of target observations from OFF observations.

    Queries are expressions in the columns of the observation index, for instance
    "TARGET_NAME == 'Off data'". Exclude the sources of the targets, too: their events
    would make all OFF observations look different.

    All is done as by "run" with the config.yaml that is written to the folder, to be
    changed and run again. It ends with report.html. The maps, with the FoV background,
    hold the fields of all targets. For numbers of the target itself, set
    mimic.exclusion.background in config.yaml: else its source is in the normalisation
    of its background.
    """
    path = make_path(outdir).absolute()
    check_folder(path)
    energy = {"min": energy_range[0], "max": energy_range[1], "nbins": 10}
    # maps that hold all fields, with the FoV background
    datasets = {
        "type": "3d",
        # the bias map and errors of shared runs need single observations
        "stack": False,
        "map_selection": ["counts", "background"],
        "geom": {
            "wcs": {"binsize": "0.05 deg"},
            "selection": {"offset_max": offset_max},
            "axes": {"energy": energy},
        },
        "background": {"method": "fov_background", "parameters": {"method": "scale"}},
        "safe_mask": {
            "methods": ["aeff-default", "offset-max"],
            "parameters": {"offset_max": offset_max},
        },
    }
    systematics = {"correlation_radius": correlation_radius}
    data = {"general": {"outdir": str(path)}, "datasets": datasets}
    data["mimic"] = options | {
        "selection": {"randomise": randomise, "n_best": n_best},
        "systematics": systematics,
    }
    config = config.update(type(config).from_dict(data, "options"))
    records = StepRecords(path)
    with records.lock():
        if not (overwrite or records.is_empty):
            raise FileExistsError(
                f"{path} is not empty. Choose another --outdir, or use --overwrite."
            )
        run_analysis(config, reduce=reduce, write_config=True)
