"""Background templates: counts of OFF observations over their exposure.

Counts and exposure are those of the same part of the field of view (FoV): source
regions are cut from the events and from the solid angle by one and the same test.
The result is a background IRF, a rate per observation time, energy and solid angle.

Events come in the livetime, but Gammapy multiplies a background IRF with the
observation time (the sum of the GTI). So a template is made for a dead time.
"""

import functools
from types import MappingProxyType

from gammapy.data import Observation

from ..data.irfs import get_fov_alignment
from ..data.obs_ids import get_obs_id, to_obs_ids
from ..utils.angles import check_angle
from ..utils.parallel import run_parallel
from .bins import TemplateBins
from .counts import TemplateCounts
from .groups import describe_group, make_group_labels
from .smoothing import check_smooth

__all__ = [
    "make_group_counts",
    "make_template",
    "make_template_counts",
    "make_templates",
]

ALIGNMENTS = ("auto", "RADEC", "ALTAZ")


def make_template(
    observations,
    dimension="2d",
    smooth=None,
    smooth_options=None,
    livetime_fraction=None,
    keep_empty=False,
    **options,
):
    """Make a background IRF from the events of observations.

    Each observation counts in the energy bins that lie in its safe energy range, if the
    effective area has one (LO_THRES, HI_THRES). The template ends one bin beyond the
    bins that are in the safe range of any observation: there the spectrum is continued,
    because Gammapy interpolates up to the limit of the safe range.

    The rate is a smooth shape, times what the counts tell beside it: see
    `~gammapy_mimic.template.rate.estimate_rate`. So bins with few counts, or masked in
    all observations, are neither empty nor raised, and no bin is negative. Each
    observation has a norm and a tilt in energy of its own
    (`~gammapy_mimic.template.norms.fit_norms`), and may leave at its threshold without
    a step: the template is the mean of all, weighted by livetime, also where it is made
    of some.

    The values are not the mean rates of the bins, but those from which Gammapy, which
    interpolates the log of the rate between bin centres, predicts the counts, see
    `~gammapy_mimic.template.nodes.make_nodes`.

    Gammapy takes a power law between the edges of the energy bins of a dataset: its
    prediction is up to 1% high if those are as wide as the bins of the template, 2% if
    twice as wide, and 0.2% with ``MapDatasetMaker(background_oversampling=2)``.

    Approximation: next to a part of the camera that is dead, or an edge that is sharper
    than the bins, the interpolation by Gammapy takes up to a third of the rate of bins.

    Parameters
    ----------
    observations : `~gammapy.data.Observations` or list of, or one, Observation
        OFF observations. For a background from the run itself see `make_own_template`.
    dimension : {"2d", "3d"}, optional
        Rate as a function of offset or of FoV position. Default is "2d".
    smooth : {None, "gauss", "poly", "spline"}, optional
        Smoothing of what the smooth shape lacks, see
        `~gammapy_mimic.template.smoothing.smooth_ratio`, instead of taking it as far as
        the counts of each bin tell. Default is None. To have both without reading the
        observations again, use `make_template_counts`.
    smooth_options : dict, optional
        Options of the smoothing.
    livetime_fraction : float, optional
        Livetime over observation time of what the template is for, see
        `~gammapy_mimic.data.observation.get_livetime_fraction`. Default is the mean of
        the observations that it is made of.
    keep_empty : bool, optional
        Whether the template has all energy bins that were asked for. Those beyond are
        0, but for one on either side that continues the spectrum once more: Gammapy
        then predicts the same. Default is False.
    **options : dict, optional
        Axes, exclusion regions and alignment, as for `make_template_counts`.

    Returns
    -------
    bkg : `~gammapy.irf.Background2D` or `~gammapy.irf.Background3D`
        Background rate, in s-1 TeV-1 sr-1. ``bkg.meta`` has N_OBS, OBS_IDS, ONTIME and
        LIVETIME (in s), and DEADC, the fraction of livetime that the rate is for.
        ``bkg.neff`` has the effective counts of each bin, 1 over the variance of the
        log of its rate; they are written as the column BKG_NEFF beside BKG.

    Raises
    ------
    ValueError
        If there are no observations, an option or axis is not valid, an observation
        was taken in DRIFT mode or has no location ("ALTAZ"), or there are no counts.
    """
    # before anything is read
    check_smooth(smooth, smooth_options)
    counts = make_template_counts(observations, dimension, **options)
    return counts.to_irf(smooth, smooth_options, livetime_fraction, keep_empty)


def make_template_counts(
    observations,
    dimension="2d",
    energy_axis=None,
    offset_axis=None,
    fov_lon_axis=None,
    fov_lat_axis=None,
    exclusion_regions=(),
    fov_alignment="auto",
    angle="0 deg",
    halves=MappingProxyType({}),
    n_jobs=None,
    parallel_backend=None,
):
    """Count the events of observations in the bins of a template.

    What is read once can be made into several templates:

    >>> counts = make_template_counts(observations)  # doctest: +SKIP
    >>> raw, smooth = counts.to_irf(), counts.to_irf("gauss")  # doctest: +SKIP

    Parameters
    ----------
    observations : `~gammapy.data.Observations` or list of, or one, Observation
        OFF observations. They are read one at a time, and what is read is not kept.
    dimension : {"2d", "3d"}, optional
        Rate as a function of offset or of FoV position. Default is "2d".
    energy_axis : `~gammapy.maps.MapAxis`, optional
        Energy axis, "energy". Default is 8 bins a decade from 0.1 to 100 TeV.
    offset_axis : `~gammapy.maps.MapAxis`, optional
        Offset axis, "offset", for "2d". Default is 10 bins to 2.5 deg. Gammapy goes on
        with the rate of the last bin for one bin more.
    fov_lon_axis, fov_lat_axis : `~gammapy.maps.MapAxis`, optional
        Axes "fov_lon" and "fov_lat", for "3d". Default is 20 bins from -2.5 to 2.5 deg.
    exclusion_regions : list of `~regions.SkyRegion`, optional
        Sources in any of the fields.
    fov_alignment : {"auto", "RADEC", "ALTAZ"}, optional
        What a 3D template is aligned with. "auto" is the alignment of the background
        IRF of the first observation. Default is "auto".
    angle : `~astropy.units.Quantity` or str, optional
        Angle by which a position is turned about the pointing, from north to growing RA
        or azimuth, to what is counted in its stead. Default is 0 deg.
    halves : dict of int, optional
        Half of the events to use, 0 or 1, by OBS_ID, see
        `~gammapy_mimic.template.TemplateCounts.from_observation`. Default is to use all
        events of all observations.
    n_jobs : int, optional
        Number of processes. Default is that of `gammapy.utils.parallel`, 1.
    parallel_backend : {"multiprocessing", "ray"}, optional
        Backend. Default is that of `gammapy.utils.parallel`.

    Returns
    -------
    counts : `TemplateCounts`
        Counts and exposure, the same for any number of processes.

    Raises
    ------
    ValueError
        As `make_template`.
    """
    observations = _to_list(observations)
    axes = {
        "energy": energy_axis,
        "offset": offset_axis,
        "fov_lon": fov_lon_axis,
        "fov_lat": fov_lat_axis,
    }
    bins = TemplateBins.create(dimension, exclusion_regions, **axes)
    if fov_alignment not in ALIGNMENTS:
        raise ValueError(
            f"fov_alignment must be one of {ALIGNMENTS}, got {fov_alignment!r}."
        )
    # the offset is the same in both, and RADEC is the one that needs no location
    if dimension == "2d":
        fov_alignment = "RADEC"
    elif fov_alignment == "auto":
        fov_alignment = get_fov_alignment(observations[0]).upper()
    angle = check_angle("angle", angle, low=-360, high=360, with_low=True).deg
    # one at a time: the events of all may not fit into the memory
    inputs = [
        (_, bins, fov_alignment, angle, halves.get(get_obs_id(_))) for _ in observations
    ]
    count = TemplateCounts.from_observation
    parts = run_parallel(count, inputs, n_jobs, parallel_backend)
    return functools.reduce(TemplateCounts.__add__, parts)


def make_templates(
    observations,
    obs_table,
    groups,
    smooth=None,
    smooth_options=None,
    livetime_fraction=None,
    keep_empty=False,
    **options,
):
    """Make one template for each group of observations.

    Parameters
    ----------
    observations : `~gammapy.data.Observations`
        Observations.
    obs_table : `~gammapy.data.ObservationTable`
        Table with a row for each of them.
    groups : dict of list
        Bin edges by column of the table, see `make_group_labels`.
    smooth, smooth_options, livetime_fraction, keep_empty, **options
        As for `make_template`.

    Returns
    -------
    templates : dict of `~gammapy.irf.BackgroundIRF`
        Template by label of the group, for the groups that have observations. What
        the group is, is said in ``meta["GROUP"]``.

    Raises
    ------
    ValueError
        If an observation is not in the table, or none is in any group.
    """
    check_smooth(smooth, smooth_options)
    counts = make_group_counts(observations, obs_table, groups, **options)
    templates = {}
    for label, part in counts.items():
        templates[label] = part.to_irf(
            smooth, smooth_options, livetime_fraction, keep_empty
        )
        templates[label].meta["GROUP"] = describe_group(groups, label)
    return templates


def make_group_counts(observations, obs_table, groups, **options):
    """Count the events of each group of observations in the bins of a template.

    Parameters
    ----------
    observations, obs_table, groups
        As for `make_templates`.
    **options : dict, optional
        As for `make_template_counts`.

    Returns
    -------
    counts : dict of `TemplateCounts`
        Counts by label of the group, for the groups that have observations.

    Raises
    ------
    ValueError
        As `make_templates`.
    """
    observations = _to_list(observations)
    labels = make_group_labels(obs_table, groups)
    obs_ids = to_obs_ids(obs_table["OBS_ID"]).tolist()
    labels = dict(zip(obs_ids, labels, strict=True))

    members = {}
    for observation in observations:
        obs_id = get_obs_id(observation)
        if obs_id not in labels:
            raise ValueError(f"OBS_ID {obs_id} is not in the observation table.")
        members.setdefault(int(labels[obs_id]), []).append(observation)
    # outside all groups, of which there was a warning
    members.pop(-1, None)
    if not members:
        raise ValueError(
            f"None of the {len(observations)} observations is in a group of {groups}."
        )

    return {
        label: make_template_counts(members[label], **options)
        for label in sorted(members)
    }


def _to_list(observations):
    if isinstance(observations, Observation):
        observations = [observations]
    observations = list(observations)
    if not observations:
        raise ValueError("There are no observations to make a template of.")
    return observations
