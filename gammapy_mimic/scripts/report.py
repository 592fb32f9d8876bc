"""``gammapy-mimic report``: what an analysis has shown, as one HTML file."""

import click
from gammapy.data import ObservationTable
from gammapy.utils.scripts import make_path

from ..analysis.config import MimicAnalysisConfig
from ..analysis.config_text import prefix_errors
from ..estimators import MimicSystematics
from ..exclusion.core import ExclusionRegions
from ..report import make_report
from ..selection.plan import MimicPlan
from ..utils.files import check_file
from .output import tell

__all__ = ["report", "report_folder"]


@click.command()
@click.argument("outdir")
@click.option("--out", help="File. Default is report.html in OUTDIR.")
@click.option("--title", help="Title. Default has the names of the targets.")
@click.option(
    "--pictures",
    is_flag=True,
    help="Write each picture as PNG and PDF, too, to report_files beside the report.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def report(outdir, out, title, pictures, overwrite):
    """Write the report of the analysis in the folder OUTDIR.

    Reads systematics.fits, and plan.ecsv, exclusion.reg and config.yaml if they are
    there. The report is one HTML file that needs no other.
    """
    path = report_folder(
        outdir, out, title=title, pictures=pictures, overwrite=overwrite
    )
    tell(f"Open {path}")


def report_folder(
    outdir, path=None, title=None, templates=None, pictures=False, overwrite=False
):
    """Write the report of the analysis in a folder.

    Parameters
    ----------
    outdir : str or `~pathlib.Path`
        Folder with ``systematics.fits``. If they are there, ``plan.ecsv``,
        ``exclusion.reg``, ``config.yaml`` and the observation index of ``mimic_1`` are
        used as well.
    path : str or `~pathlib.Path`, optional
        File. Default is ``report.html`` in the folder.
    title : str, optional
        Title. Default has the names of the targets.
    templates : dict of `~gammapy.irf.BackgroundIRF`, optional
        Background templates by their labels. Default is none.
    pictures : bool, optional
        Whether to write each picture as PNG and PDF, too, see
        `~gammapy_mimic.report.make_report`. Default is False.
    overwrite : bool, optional
        Whether to replace an existing file. Default is False.

    Returns
    -------
    path : `~pathlib.Path`
        File.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no result in it.
    OSError, ValueError
        If a file cannot be read, or is none. Names the file.
    FileExistsError
        If the file exists and may not be replaced.
    """
    outdir = make_path(outdir)
    path = outdir / "report.html" if path is None else make_path(path)
    if not outdir.is_dir():
        raise FileNotFoundError(f"There is no folder {outdir}.")
    result_path = outdir / "systematics.fits"
    for name in (result_path.name, "config.yaml", "plan.ecsv", "exclusion.reg"):
        check_file(outdir / name)
    if not result_path.is_file():
        raise FileNotFoundError(
            f"{outdir} has no systematics.fits, the result of the analysis. Run it "
            "first: gammapy-mimic run."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent}.")
    config = _load(MimicAnalysisConfig.read, outdir / "config.yaml")
    if config is None:
        config = _load(MimicAnalysisConfig.read, outdir / "mimic_1/config.yaml")
    with prefix_errors(result_path):
        result = MimicSystematics.read(result_path)
    make_report(
        result,
        path,
        plan=_load(MimicPlan.read, outdir / "plan.ecsv"),
        config=config,
        title=title,
        obs_table=_load(ObservationTable.read, outdir / "mimic_1/obs-index.fits.gz"),
        exclusion_regions=_load(ExclusionRegions.read, outdir / "exclusion.reg") or (),
        templates=templates,
        pictures=pictures,
        overwrite=overwrite,
    )
    return path


def _load(read, path):
    """Read a file, None if there is none."""
    if not path.is_file():
        return None
    with prefix_errors(path):
        return read(path)
