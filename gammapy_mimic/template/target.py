"""The background template of one target."""

import copy
import logging

import numpy as np
from astropy.table import vstack

from ..data.obs_ids import NO_PARTNER, shorten, to_obs_ids
from ..data.observation import get_livetime_fraction, load_events_file
from .core import make_template_counts
from .groups import select_livetime

__all__ = [
    "WHOLE",
    "find_good",
    "get_halves",
    "make_target_counts",
    "make_target_template",
    "merge_parts",
    "select_ranked",
]

log = logging.getLogger(__name__)


WHOLE = -1
"""``HALF`` of an observation of which all events are used."""


def find_good(table, exclude=(), needs_livetime=False):
    """Find the OFF observations of a ranking that may go into a template.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Ranking, see `~gammapy_mimic.selection.ranking.rank_observations`.
    exclude : list of int, optional
        OFF observations not to use. Default is none.
    needs_livetime : bool, optional
        Whether those without a known livetime are left out, with a warning. Default is
        False.

    Returns
    -------
    table : `~astropy.table.Table`
        Rows of good OFF observations, best first.

    Raises
    ------
    ValueError
        If livetimes are needed, and none is known.
    """
    is_good = np.isin(table["STATUS"], ("ok", "differs", "undecided"))
    table = table[is_good & ~np.isin(table["OFF_OBS_ID"], to_obs_ids(exclude))]
    if not needs_livetime or len(table) == 0:
        return table
    is_known = table["LIVETIME"] > 0
    if not is_known.all():
        obs_ids = table["OFF_OBS_ID"][~is_known].tolist()
        log.warning(
            f"The livetime of OBS_ID {shorten(obs_ids)} is not known, neither from the "
            "observation table nor from its files. Not used, because of time_request."
        )
    if not is_known.any():
        raise ValueError(
            "time_request needs the livetime of OFF observations, of which none has "
            "one. Set LIVETIME in the observation table, or time_request=None."
        )
    return table[is_known]


def select_ranked(table, exclude=(), time_request=None):
    """Select the OFF observations of a template from the ranking for its target.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Ranking, see `~gammapy_mimic.selection.ranking.rank_observations`.
    exclude : list of int, optional
        OFF observations not to use. Default is none.
    time_request : `~astropy.units.Quantity` or str, optional
        Livetime asked for. What has no known livetime is then left out, with a
        warning. Default is None, all good observations.

    Returns
    -------
    table : `~astropy.table.Table`
        Rows of good OFF observations, best first, up to the livetime asked for. None
        of them if there is no good one.

    Raises
    ------
    ValueError
        If a livetime is asked for, and none is known.
    """
    # without a request nothing is summed, and an unknown livetime does not matter
    table = find_good(table, exclude, time_request is not None)
    if time_request is None or len(table) == 0:
        return table
    return table[: select_livetime(table["LIVETIME"].quantity, time_request)]


def merge_parts(parts):
    """Merge what is chosen to be filled from either half of the events.

    Parameters
    ----------
    parts : dict of `~astropy.table.Table`
        Chosen rows of rankings by the half that fills them, as those of
        `~gammapy_mimic.selection.ranker.Ranker.rank_parts`.

    Returns
    -------
    table : `~astropy.table.Table`
        Rows, each OFF observation once, with ``HALF``, the half of the events that is
        used, or `WHOLE`. ``ONTIME`` and ``LIVETIME`` are those that are used. The most
        alike first, if halves are.
    """
    table = vstack([*parts.values()], metadata_conflicts="silent")
    if None in parts:
        table["HALF"] = np.full(len(table), WHOLE)
        return table
    table["HALF"] = np.repeat([*parts], [len(_) for _ in parts.values()])
    _, first, rows, n_parts = np.unique(
        table["OFF_OBS_ID"], return_index=True, return_inverse=True, return_counts=True
    )
    is_half = n_parts[rows] == 1
    table["HALF"][~is_half] = WHOLE
    for name in ("ONTIME", "LIVETIME"):
        table[name][is_half] /= 2
    table = table[np.sort(first)]
    return table[np.argsort(table["KL_CORR"], kind="stable")]


def get_halves(table):
    """Get the half that is used, by OBS_ID, of what `merge_parts` returns."""
    rows = table[table["HALF"] != WHOLE]
    pairs = zip(rows["OFF_OBS_ID"].tolist(), rows["HALF"].tolist(), strict=True)
    return dict(pairs)


def make_target_template(
    observation,
    pool,
    obs_ids,
    smooth=None,
    smooth_options=None,
    keep_empty=False,
    **options,
):
    """Make the template for a target, with the dead time of that.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Target observation. Not changed.
    pool : `~gammapy_mimic.selection.indexed_pool.IndexedPool`
        OFF observations, and sources in any of the fields.
    obs_ids : list of int
        OFF observations to make the template of.
    smooth, smooth_options, keep_empty
        As for `~gammapy_mimic.template.make_template`.
    **options : dict, optional
        Options of `~gammapy_mimic.template.make_template_counts`.

    Returns
    -------
    bkg : `~gammapy.irf.Background2D` or `~gammapy.irf.Background3D`
        Template.

    Raises
    ------
    ValueError
        If the target is a mimic of one of them.
    """
    # a copy, which keeps the header that both need
    observation = copy.copy(observation)
    load_events_file(observation, with_events=False)
    counts = make_target_counts(observation, pool, obs_ids, **options)
    fraction = get_livetime_fraction(observation)
    return counts.to_irf(smooth, smooth_options, fraction, keep_empty)


def make_target_counts(observation, pool, obs_ids, **options):
    """Count the events of OFF observations in the bins of the template for a target.

    Parameters
    ----------
    observation, pool, obs_ids, **options
        As for `make_target_template`.

    Returns
    -------
    counts : `~gammapy_mimic.template.TemplateCounts`
        Counts and exposure.

    Raises
    ------
    ValueError
        If the target is a mimic of one of them.
    """
    obs_ids = to_obs_ids(obs_ids).tolist()
    header = load_events_file(copy.copy(observation), with_events=False)
    # its own events would be in the template, and hide what is looked for
    partner = int(header.get("MIM_OBS", NO_PARTNER))
    if partner in obs_ids:
        raise ValueError(
            f"OBS_ID {observation.obs_id} is a mimic of OFF observations [{partner}], "
            "which the template would be made of. Use MimicMaker(background=selector), "
            "or exclude all OFF observations of the mimic set."
        )
    return make_template_counts(
        [pool.get(_) for _ in obs_ids],
        exclusion_regions=pool.exclusion_regions,
        **options,
    )
