"""Templates of targets and of their mimics, chosen alike.

Mimics measure the error of the target's template by that of their own. So both are
made by one rule, from pools of one size: the OFF observations that are nearest to the
conditions of those *events* that the template is for, of another field. A mimic's
template is without all OFF observations of its set. A target's is without those of one
set, which is drawn; of what is left to it, which is more, as many are drawn.
"""

import dataclasses
import logging

import astropy.units as u
import numpy as np
from astropy.table import Table

from ..data.obs_ids import get_obs_id, shorten
from ..utils.random import random_generator
from .groups import count_livetime
from .target import find_good, merge_parts

__all__ = [
    "MIN_OBS",
    "FairTemplates",
    "TemplateFamily",
    "explain_missing",
    "summarise_templates",
]

log = logging.getLogger(__name__)

MIN_OBS = 3
"""Fewest OFF observations to choose from: with less, a template is hardly more than the
fluctuations of one observation."""

TARGET = 0
"""Member of a family that is no mimic, whose numbers are those of mimic sets."""

TIME_TOLERANCE = 1e-6

N_KNOWN = 100
"""Rankings of OFF observations to keep, which several targets may need."""

TABLE_COLUMNS = ("OBS_ID", "MIMIC_SET", "N_LEFT", "N_OBS", "LIVETIME", "OFF_OBS_IDS")

_WAYS_OUT = (
    "Use fewer targets, as each leaves out one OFF observation of a set, more OFF "
    "observations, wider criteria, a larger kl_max, or no templates (background 'off')."
)


class TemplateFamily:
    """OFF observations for the templates of a target and of its mimics.

    Parameters
    ----------
    obs_id : int
        OBS_ID of the target.
    pools : dict of dict of `~astropy.table.Table`
        Good OFF observations, best first, by member (0 for the target, or mimic set),
        and by the half of the events that fills the template, see
        `~gammapy_mimic.selection.ranker.Ranker.rank_parts`.
    compared : list of int
        Members that are compared, and so get templates of one size.
    time_request : `~astropy.units.Quantity`, optional
        Livetime asked for. Default is None, that of all OFF observations.
    seed : int, optional
        Seed of the draws. Default is 0.
    """

    def __init__(self, obs_id, pools, compared, time_request=None, seed=0):
        self.obs_id = obs_id
        self._pools, self._time_request, self._seed = pools, time_request, seed
        self.n_left = {
            member: min(map(len, parts.values())) for member, parts in pools.items()
        }
        """Number of OFF observations to choose from, by member (dict of int)."""
        compared = [_ for _ in compared if self.n_left[_] >= MIN_OBS]
        self._n_pool = min((self.n_left[_] for _ in compared), default=0)
        # as many for all, so that all have the livetime asked for, where they can
        self.n_obs = self._n_pool
        """Number of OFF observations in each template, or in each half (int)."""
        if time_request is not None:
            parts = [_ for member in compared for _ in self._draw(member).values()]
            numbers = [count_livetime(_["LIVETIME"], time_request) for _ in parts]
            self.n_obs = min(max(numbers, default=0), self._n_pool)

    def explain(self, mimic_set=None):
        """Say why there is no template.

        Parameters
        ----------
        mimic_set : int, optional
            Mimic set. Default is None, for the target.

        Returns
        -------
        reason : str or None
            Reason, with the ways out. None if there is a template.
        """
        n_left, member = self.n_left[TARGET], "OBS_ID"
        if mimic_set is not None and n_left >= MIN_OBS:
            n_left, member = self.n_left[mimic_set], f"mimic set {mimic_set}, OBS_ID"
        if n_left >= MIN_OBS:
            return None
        return (
            f"No template for {member} {self.obs_id}: it needs {MIN_OBS} OFF "
            f"observations to choose from, and there are {n_left}. {_WAYS_OUT}"
        )

    def select(self, mimic_set=None):
        """Select the OFF observations of a template.

        Parameters
        ----------
        mimic_set : int, optional
            Mimic set. Default is None, for the target.

        Returns
        -------
        table : `~astropy.table.Table`
            See `~gammapy_mimic.template.target.merge_parts`.
        """
        parts = self._draw(TARGET if mimic_set is None else mimic_set)
        return merge_parts({half: _[: self.n_obs] for half, _ in parts.items()})

    def _draw(self, member):
        """Draw a pool of the common size, the same for both halves if it can be."""
        parts = self._pools[member]
        obs_ids = np.unique(np.concatenate([_["OFF_OBS_ID"] for _ in parts.values()]))
        generator = random_generator(self._seed, "template", self.obs_id, member)
        keys, drawn = generator.random(len(obs_ids)), {}
        for half, table in parts.items():
            order = np.argsort(keys[np.searchsorted(obs_ids, table["OFF_OBS_ID"])])
            drawn[half] = table[np.sort(order[: self._n_pool])]
        return drawn


class FairTemplates:
    """What goes into the templates of targets, and of the mimics of a plan.

    Parameters
    ----------
    ranker : `~gammapy_mimic.selection.ranker.Ranker`
        Ranker. The criterion ``same_field`` is always applied: by its pointing, an
        observation of the field of the events, or of the target, is in no template.
    plan : `~gammapy_mimic.selection.MimicPlan`
        Plan.
    time_request : `~astropy.units.Quantity`, optional
        Livetime asked for. Default is None, that of all OFF observations.
    """

    def __init__(self, ranker, plan, time_request=None):
        criteria = dataclasses.replace(ranker.criteria, same_field=True)
        self._ranker = dataclasses.replace(ranker, criteria=criteria)
        self.plan, self._time_request = plan, time_request
        self._known, self._known_index = {}, None

    def __getstate__(self):
        """Send no rankings to other processes."""
        return self.__dict__ | {"_known": {}, "_known_index": None}

    def find(self, observation):
        """Find what a target and its mimics can choose from.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Target observation.

        Returns
        -------
        family : `TemplateFamily`
            OFF observations to choose from.

        Raises
        ------
        ValueError
            If a partner is not in the index.
        """
        ranker, plan, obs_id = self._ranker, self.plan, get_obs_id(observation)
        index = ranker.pool.index
        target = ranker.pool.index_targets([observation])
        skip = ranker.criteria.check_columns(target.conditions, index.conditions)
        rankings = ranker.rank_parts(target, observation, skip)
        needs_livetime = self._time_request is not None
        good = {half: find_good(_, (), needs_livetime) for half, _ in rankings.items()}
        good = self._leave_set_out(good, obs_id)
        pools, compared = {TARGET: good}, [TARGET]
        # what is looked for may be in them
        field = ranker.criteria.find_field(target.conditions[0], index.conditions)
        for mimic_set in plan.sets:
            partners = plan.partners(mimic_set)
            if obs_id not in partners:
                continue
            others = np.union1d([*partners.values()], index.obs_ids[field])
            pools[mimic_set] = {
                half: table[~np.isin(table["OFF_OBS_ID"], others)]
                for half, table in self._get_good(partners[obs_id], skip).items()
            }
            if obs_id in plan.partners(mimic_set, questionable=False):
                compared.append(mimic_set)
        options = self._time_request, plan.seed or 0
        return TemplateFamily(obs_id, pools, compared, *options)

    def _leave_set_out(self, good, obs_id):
        """Leave one set out for a target, too, if enough are left.

        Its OFF observations are the nearest to many of the others, and so what the
        templates of mimics lack.
        """
        others = []
        for mimic_set in self.plan.sets:
            left_out = self.plan.off_obs_ids(mimic_set)
            left = {
                half: table[~np.isin(table["OFF_OBS_ID"], left_out)]
                for half, table in good.items()
            }
            if min(map(len, left.values())) >= MIN_OBS:
                others.append(left)
        if not others:
            return good
        generator = random_generator(self.plan.seed or 0, "set left out", obs_id)
        return others[generator.integers(len(others))]

    def make_table(self, observations):
        """Tell what the templates of targets and of their mimics are made of.

        Parameters
        ----------
        observations : list of `~gammapy.data.Observation`
            Target observations.

        Returns
        -------
        table : `~astropy.table.Table`
            A row for each target and for each of its mimics, with ``OBS_ID``,
            ``MIMIC_SET`` (0 for the target), ``N_LEFT``, the number of OFF observations
            to choose from, ``N_OBS``, that of the template (0 if there is none),
            ``LIVETIME`` and ``OFF_OBS_IDS``, such as "101,105".
        """
        rows = []
        for observation in observations:
            family = self.find(observation)
            for member, n_left in family.n_left.items():
                mimic_set, chosen, livetime = member or None, [], 0.0
                if family.explain(mimic_set) is None:
                    table = family.select(mimic_set)
                    chosen = table["OFF_OBS_ID"].tolist()
                    livetime = float(np.sum(table["LIVETIME"]))
                numbers = member, n_left, len(chosen), livetime
                rows.append((family.obs_id, *numbers, ",".join(map(str, chosen))))
        table = Table(rows=rows, names=TABLE_COLUMNS)
        table["LIVETIME"].unit = u.s
        self._warn_of_time(table[table["MIMIC_SET"] == TARGET])
        return table

    def _warn_of_time(self, table):
        """Warn if templates of targets do not have the livetime asked for."""
        request = self._time_request
        if request is None:
            return
        livetimes = table["LIVETIME"].quantity.to("h")
        is_less = (table["N_OBS"] > 0) & (livetimes < request * (1 - TIME_TOLERANCE))
        if is_less.any():
            low, high = livetimes[is_less].min(), livetimes[is_less].max()
            obs_ids = shorten(table["OBS_ID"][is_less].tolist())
            log.warning(
                f"time_request is {request.to('h'):.2f}, but the templates for OBS_ID "
                f"{obs_ids} have {low:.2f} to {high:.2f}: there are no more OFF "
                "observations for their mimics, and all of a target have one number."
            )

    def _get_good(self, off_obs_id, skip):
        """Good OFF observations for the events of one of them, by half."""
        index = self._ranker.pool.index
        if self._known_index is not index or len(self._known) >= N_KNOWN:
            self._known, self._known_index = {}, index
        key = off_obs_id, *sorted(skip)
        if key not in self._known:
            rankings = self._ranker.rank_parts(index.select([off_obs_id]), skip=skip)
            needs_livetime = self._time_request is not None
            self._known[key] = {
                half: find_good(table, (), needs_livetime)
                for half, table in rankings.items()
            }
        return self._known[key]


def explain_missing(table):
    """Say which templates cannot be made.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table of `FairTemplates.make_table`.

    Returns
    -------
    text : str
        Sentences, with the ways out. Empty if none is missing.
    """
    table = table[table["N_OBS"] == 0]
    if len(table) == 0:
        return ""
    rows = list(table.iterrows("OBS_ID", "MIMIC_SET", "N_LEFT"))
    names = [
        f"OBS_ID {obs_id} ({'target' if member == TARGET else f'set {member}'}, "
        f"{n_left} left)"
        for obs_id, member, n_left in rows
    ]
    return (
        f"{len(names)} of the templates have too few OFF observations to choose from, "
        f"less than {MIN_OBS}: {', '.join(names)}. These targets, and mimics in these "
        f"sets, are left out. {_WAYS_OUT}"
    )


def summarise_templates(table):
    """Count what templates are made of, for the targets and for each mimic set.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table of `FairTemplates.make_table`.

    Returns
    -------
    summary : `~astropy.table.Table`
        Table with ``name``, ``n_templates``, ``n_missing``, the smallest, mean and
        largest number of OFF observations, ``n_min``, ``n_mean`` and ``n_max``, and
        their mean livetime, ``livetime``. 0 where there is no template.
    """
    rows = []
    for member in np.unique(table["MIMIC_SET"]).tolist():
        part = table[table["MIMIC_SET"] == member]
        made = part[part["N_OBS"] > 0]
        numbers = made["N_OBS"].tolist() or [0]
        livetime = made["LIVETIME"].quantity.sum().to_value("h")
        rows.append(
            {
                "name": "targets" if member == TARGET else f"mimic set {member}",
                "n_templates": len(made),
                "n_missing": len(part) - len(made),
                "n_min": min(numbers),
                "n_mean": np.mean(numbers),
                "n_max": max(numbers),
                "livetime": livetime / max(len(made), 1),
            }
        )
    summary = Table(rows)
    summary["livetime"].unit = u.h
    for name in ("n_mean", "livetime"):
        summary[name].info.format = ".1f"
    return summary
