"""Data reduction of observations and of their mimics, by the same makers."""

import contextlib
import copy
import functools
import pickle

import numpy as np
from astropy.coordinates import SkyCoord, UnitSphericalRepresentation
from gammapy.data import Observations
from gammapy.datasets import Datasets, MapDataset
from gammapy.makers import (
    DatasetsMaker,
    FoVBackgroundMaker,
    MapDatasetMaker,
    SafeMaskMaker,
)
from gammapy.makers.core import Maker
from gammapy.maps import MapAxis, WcsGeom
from gammapy.utils import parallel, pbar

from ..data.meta_tables import stack_dataset
from ..data.obs_ids import get_obs_id, shorten
from ..data.observation import get_fixed_pointing, get_hdu, load_events_file
from ..utils.angles import to_angle
from ..utils.parallel import name_observation, run_parallel
from ..utils.progress import show_progress
from .coverage import add_coverage

__all__ = [
    "ImageMaker",
    "get_center",
    "make_fields_geom",
    "raise_missing_background",
    "reduce_fov_background",
    "reduce_observations",
]

BLOCK_SIZE = 8
"""Observations that one process stacks. Sums depend on it in their last digits."""

N_WAITING = 2
"""Stacked blocks a process that are in memory before they are added up."""


def get_center(observations):
    """Find the center of the observed fields.

    Parameters
    ----------
    observations : `~gammapy.data.Observations`
        Observations.

    Returns
    -------
    center : `~astropy.coordinates.SkyCoord`
        Mean direction of the pointings (ICRS).
    """
    mean = _get_pointings(observations).cartesian.mean()
    direction = mean.represent_as(UnitSphericalRepresentation)
    return SkyCoord(direction, frame="icrs")


def make_fields_geom(
    observations, energy_axis, binsz, offset_max, center=None, width=None
):
    """Make the geometry of a map that holds the fields of observations.

    Parameters
    ----------
    observations : `~gammapy.data.Observations`
        Observations.
    energy_axis : `~gammapy.maps.MapAxis`
        Energy axis.
    binsz, offset_max : `~astropy.coordinates.Angle` or str
        Size of a pixel, and largest offset of an event.
    center : `~astropy.coordinates.SkyCoord`, optional
        Center. Default is that of the pointings.
    width : `~astropy.coordinates.Angle` or str, optional
        Width. Default is what holds all events up to the largest offset.

    Returns
    -------
    geom : `~gammapy.maps.WcsGeom`
        Geometry, in the TAN projection.
    """
    center = get_center(observations) if center is None else center
    if width is None:
        separation = _get_pointings(observations).separation(center).max()
        width = 2 * (separation + to_angle(offset_max) + to_angle(binsz))
    return WcsGeom.create(
        skydir=center,
        width=to_angle(width),
        binsz=to_angle(binsz).deg,
        proj="TAN",
        axes=[energy_axis],
    )


def reduce_fov_background(
    observations,
    center=None,
    energy_range=("0.5 TeV", "20 TeV"),
    energy_bins=10,
    width=None,
    binsz="0.05 deg",
    offset_max="2 deg",
    exclusion_mask=None,
    fields=None,
    n_jobs=None,
):
    """Reduce observations to one stacked dataset, with the FoV background.

    The background IRF of every observation is scaled to its counts outside the
    exclusion mask (`~gammapy.makers.FoVBackgroundMaker`).

    Parameters
    ----------
    observations : `~gammapy.data.Observations`
        Observations.
    center : `~astropy.coordinates.SkyCoord`, optional
        Center of the map. Default is that of the pointings of the fields.
    energy_range : tuple of `~astropy.units.Quantity` or str, optional
        Range of the reconstructed energy. Default is 0.5 to 20 TeV.
    energy_bins : int, optional
        Number of energy bins. Default is 10.
    width : `~astropy.coordinates.Angle` or str, optional
        Width of the map. Default is what holds all events up to the largest offset.
    binsz, offset_max : `~astropy.coordinates.Angle` or str, optional
        Size of a pixel, and largest offset of an event. Default is 0.05 deg and 2 deg.
    exclusion_mask : `~gammapy.maps.WcsNDMap`, optional
        Exclusion mask, True where the background is normalised. Default is None.
    fields : `~gammapy.data.Observations`, optional
        Observations whose fields the map holds, such as the targets: for maps of one
        geometry. Default is those that are reduced.
    n_jobs : int, optional
        Number of processes. Default is that of `gammapy.utils.parallel`, 1.

    Returns
    -------
    dataset : `~gammapy.datasets.MapDataset`
        Stacked dataset with counts and background.
    """
    fields = observations if fields is None else fields
    energy_axis = MapAxis.from_energy_bounds(*energy_range, nbin=energy_bins)
    geom = make_fields_geom(fields, energy_axis, binsz, offset_max, center, width)
    methods = ["aeff-default", "offset-max"]
    makers = [
        MapDatasetMaker(selection=["counts", "background"]),
        SafeMaskMaker(methods=methods, offset_max=to_angle(offset_max)),
        FoVBackgroundMaker(method="scale", exclusion_mask=exclusion_mask),
    ]
    reference = MapDataset.create(geom, name="stacked")
    return reduce_observations(reference, observations, makers, n_jobs=n_jobs)[0]


class ImageMaker(Maker):
    """Sum a dataset over energy, so that makers after it see an image."""

    tag = "ImageMaker"

    def run(self, dataset, observation=None):
        """Sum the maps over energy, inside the safe mask.

        Parameters
        ----------
        dataset : `~gammapy.datasets.MapDataset`
            Dataset.
        observation : `~gammapy.data.Observation`, optional
            Not used.

        Returns
        -------
        dataset : `~gammapy.datasets.MapDataset`
            Dataset with one bin of energy, and the name of the input.
        """
        return dataset.to_image(name=dataset.name)


def reduce_observations(
    reference,
    observations,
    makers,
    stack=True,
    cutout_width=None,
    n_jobs=None,
    parallel_backend=None,
    finish=None,
):
    """Reduce observations by a chain of makers, in their order.

    As `~gammapy.makers.DatasetsMaker`, with three differences. Datasets with OFF counts
    are stacked to one with OFF counts, whose noise would be forgotten in a
    `~gammapy.datasets.MapDataset`. Bins without a prediction of the background are
    masked, and counted in the meta tables (`~gammapy_mimic.makers.coverage`). And each
    process stacks blocks of observations, which are the same for any number of
    processes.

    Parameters
    ----------
    reference : `~gammapy.datasets.MapDataset`
        Reference dataset. Its name is that of the stacked one.
    observations : `~gammapy.data.Observations`
        Observations.
    makers : list of `~gammapy.makers.Maker`
        Makers.
    stack : bool, optional
        Whether to stack. Default is True.
    cutout_width : `~astropy.units.Quantity`, optional
        Width of the cutout of the reference dataset for an observation. Default is
        twice the largest offset of a safe mask maker, or none.
    n_jobs : int, optional
        Number of processes. Default is that of `gammapy.utils.parallel`, 1.
    parallel_backend : {"multiprocessing", "ray"}, optional
        Backend. Default is that of `gammapy.utils.parallel`.
    finish : callable, optional
        Called in the process that has reduced a block, with the list of its datasets
        (one if they are stacked) and the list of its observations. Gives what is handed
        back for each of them, such as where it is written. Default is none.

    Returns
    -------
    datasets : `~gammapy.datasets.Datasets` or list
        Datasets in the order of the observations, or one stacked dataset. A list of
        what ``finish`` gives, if datasets are not stacked.

        Empty if no observation is on the geometry.

    Raises
    ------
    ValueError
        If maps of the background are asked for, and an observation has no IRF of it.
    """
    if any("background" in getattr(maker, "selection", ()) for maker in makers[:1]):
        check_backgrounds(observations)
    # a geometry loses its last digits where it is sent to another process: always once
    reference = pickle.loads(pickle.dumps(reference))
    n_jobs = parallel.N_JOBS_DEFAULT if n_jobs is None else n_jobs
    reduce_block = functools.partial(
        _reduce_block, reference, add_coverage(makers), stack, cutout_width, finish
    )
    size = BLOCK_SIZE if stack else 1
    blocks = [
        (list(observations[start : start + size]),)
        for start in range(0, len(observations), size)
    ]
    # of stacked blocks there are no more than a few, and they are added in their order
    n_blocks = N_WAITING * n_jobs if stack else max(len(blocks), 1)
    datasets = []
    with show_progress(observations, "Data reduction") as update:

        def count(results):
            update(sum(n_reduced for _, n_reduced in results))

        options = {"parallel_backend": parallel_backend, "on_done": count}
        for start in range(0, len(blocks), n_blocks):
            part = blocks[start : start + n_blocks]
            for made, _ in run_parallel(reduce_block, part, n_jobs, **options):
                if stack and datasets and made:
                    stack_dataset(datasets[0], made[0])
                else:
                    datasets += made
    return datasets if finish is not None and not stack else Datasets(datasets)


def _reduce_block(reference, makers, stack, cutout_width, finish, observations):
    """Reduce observations to a list of datasets, one if they are stacked.

    Returns what is made of them, and how many they are, for the progress.
    """
    # copies with their headers, whose dead time may have to be completed
    observations = [copy.copy(_) for _ in observations]
    for observation in observations:
        with name_observation(observation):
            load_events_file(observation, with_events=False)
    datasets = []
    for observation in observations:
        # anew for each, as it keeps what it has made
        chain = DatasetsMaker(
            makers, stack_datasets=False, n_jobs=1, cutout_width=cutout_width
        )
        # where there is no rate, Gammapy integrates a power law of 0
        with (
            name_observation(observation),
            np.errstate(divide="ignore", invalid="ignore", over="ignore"),
            _hide_progress(),
        ):
            made = chain.run(reference, Observations([observation]))
        if stack and made:
            stacked = datasets or [_make_empty(reference, made[0])]
            stack_dataset(stacked[0], made[0])
            made = [] if datasets else stacked
        datasets += made
    made = finish(datasets, observations) if finish is not None else datasets
    return made, len(observations)


@contextlib.contextmanager
def _hide_progress():
    """Let Gammapy show no bar of its own: that of all observations is there."""
    is_shown, pbar.SHOW_PROGRESS_BAR = pbar.SHOW_PROGRESS_BAR, False
    try:
        yield
    finally:
        pbar.SHOW_PROGRESS_BAR = is_shown


def _make_empty(reference, dataset):
    """Make the dataset to which those like this one are stacked."""
    geoms = reference.geoms
    # a chain may sum over energy, as `ImageMaker` does
    if dataset.counts.geom.axes["energy"].nbin == 1:
        geoms = {
            name: geom.squash("energy") if "energy" in geom.axes.names else geom
            for name, geom in geoms.items()
        }
    return type(dataset).from_geoms(**geoms, name=reference.name)


def check_backgrounds(observations):
    """Raise an error if an observation has no background IRF.

    Parameters
    ----------
    observations : `~gammapy.data.Observations`
        Observations.

    Raises
    ------
    ValueError
        If there is one. Says what can be done without.
    """
    missing = [get_obs_id(_) for _ in observations if get_hdu(_, "bkg") is None]
    if missing:
        raise_missing_background(missing)


def raise_missing_background(obs_ids):
    """Raise an error that names observations without background IRF, and the way out.

    Parameters
    ----------
    obs_ids : list of int
        Their OBS_IDs.
    """
    raise ValueError(
        f"OBS_ID {shorten(obs_ids)} have no background IRF, of which the maps of the "
        "background are made. Give targets and mimics a template (mimic.background: "
        "template, or a KLBackgroundSelector), or reduce them to spectra with "
        "reflected regions (datasets.type: 1d)."
    )


def _get_pointings(observations):
    return SkyCoord([get_fixed_pointing(_) for _ in observations])
