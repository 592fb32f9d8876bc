"""Rank the OFF observations of a pool for targets, and keep the rankings in files."""

import dataclasses
from collections import Counter
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from gammapy.utils.scripts import make_path

from ..data.irfs import get_background_version
from ..data.obs_ids import get_obs_id
from ..utils.files import make_checksum, replace_file
from ..utils.progress import track
from ..version import __version__
from .criteria import MatchCriteria, describe_rejections
from .indexed_pool import IndexedPool
from .ranking import KL_MAX, rank_observations

__all__ = ["Failure", "Ranker", "describe_failure", "read_ranking", "write_ranking"]


@dataclasses.dataclass(frozen=True)
class Ranker:
    """Rank the OFF observations of a pool for targets.

    Parameters
    ----------
    pool : `~gammapy_mimic.selection.indexed_pool.IndexedPool`
        OFF observations and their index.
    criteria : `MatchCriteria`
        What an OFF observation must have in common with the target.
    kl_max : float, optional
        Largest KL_CORR of a good pair. Default is
        `~gammapy_mimic.selection.ranking.KL_MAX`.
    distribution : {"counts", "irf"}, optional
        Compare events, or what the background IRFs predict. Default is "counts".
    ranking : {"conditions", "kl"}, optional
        What puts candidates in order. Default is "conditions".
    """

    pool: IndexedPool
    criteria: MatchCriteria
    kl_max: float | None = KL_MAX
    distribution: str = "counts"
    ranking: str = "conditions"

    def rank(self, observation, path=None):
        """Rank the OFF observations for one target.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Target observation.
        path : str or `~pathlib.Path`, optional
            ECSV file to keep the table in. It is read if nothing has changed that the
            table depends on, else made again. Default is None.

        Returns
        -------
        table : `~astropy.table.Table`
            See `~gammapy_mimic.selection.ranking.rank_observations`.
        """
        return next(self._rank_targets([observation], lambda obs_id: path))

    def rank_all(self, observations, folder=None, n_jobs=None):
        """Rank the OFF observations for each of many targets.

        Parameters
        ----------
        observations : `~gammapy.data.Observations`
            Target observations.
        folder : str or `~pathlib.Path`, optional
            Folder to keep the tables in. Default is None.
        n_jobs : int, optional
            Number of processes that read targets. Default is that of
            `gammapy.utils.parallel`, 1.

        Yields
        ------
        table : `~astropy.table.Table`
            As that of `rank`, by rising OBS_ID.
        """

        def get_path(obs_id):
            return None if folder is None else make_path(folder) / f"kl_{obs_id}.ecsv"

        return self._rank_targets(observations, get_path, n_jobs)

    def _rank_targets(self, observations, get_path, n_jobs=None):
        index, targets = self.pool.index, self.pool.index_targets(observations, n_jobs)
        # one warning for all targets
        skip = self.criteria.check_columns(targets.conditions, index.conditions)
        by_obs_id = {get_obs_id(_): _ for _ in observations}
        index_checksum = index.checksum
        name = "Rank targets" if len(targets) > 1 else ""
        for obs_id in track(targets.obs_ids.tolist(), name):
            target = targets if len(targets) == 1 else targets.select([obs_id])
            observation, path = by_obs_id[obs_id], get_path(obs_id)
            made_of, is_only = (target.checksum, index_checksum), len(targets) == 1
            options = skip, made_of, path, is_only
            yield self._rank_target(target, observation, *options)

    def rank_all_parts(self, observation):
        """Rank the OFF observations for the template of an observation.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Target observation.

        Returns
        -------
        rankings : dict of `~astropy.table.Table`
            See `rank_parts`.
        """
        target = self.pool.index_targets([observation])
        conditions = target.conditions, self.pool.index.conditions
        skip = self.criteria.check_columns(*conditions)
        return self.rank_parts(target, observation, skip)

    def rank_parts(self, target, observation=None, skip=()):
        """Rank the OFF observations for the template of a target.

        Of many observations, divergence chooses those whose fluctuations are most like
        the target's. So with the ranking "kl" the events of each OFF observation are
        halved: what is chosen by one half is filled from the other, which knows nothing
        of the choice.

        Parameters
        ----------
        target : `OffIndex`
            Index with the target as its only row. It may be an OFF observation.
        observation : `~gammapy.data.Observation`, optional
            The same, of which the background IRF is read if those are compared. Default
            is that of the pool.
        skip : set of str, optional
            Criteria that are not applied, see `MatchCriteria.check_columns`. Default is
            none.

        Returns
        -------
        rankings : dict of `~astropy.table.Table`
            Rankings by the half that fills what they choose: 0 and 1, or None for one
            ranking of all events. Times are those of whole observations.

        Raises
        ------
        ValueError
            If background IRFs are compared, and there are none.
        """
        index, options = self.pool.index, (self.criteria, self.kl_max)
        rejected, rankings = self._reject(target, skip), {}
        if self.ranking == "kl" and self.distribution == "counts":
            args = *options, None, rejected, self.ranking
            for half in (0, 1):
                table = rank_observations(target, index.get_half(half), *args)
                for name in ("ONTIME", "LIVETIME", "LIVETIME_RATIO"):
                    table[name] *= 2
                rankings[1 - half] = table
            return rankings
        compared, versions = self._find_compared(target, observation, rejected)
        if compared:
            _check_backgrounds(int(target.obs_ids[0]), versions)
        predicted = self._predict(compared, versions)
        args = *options, predicted, rejected, self.ranking
        return {None: rank_observations(target, index, *args)}

    def _reject(self, target, skip):
        conditions = self.pool.index.conditions
        return self.criteria.reject(target.conditions[0], conditions, skip)

    def _find_compared(self, target, observation, rejected):
        """Observations whose background IRFs are compared, and what tells the IRFs.

        Both by OBS_ID, that of the target first, and empty if events are compared.
        """
        if self.distribution == "counts":
            return {}, {}
        is_candidate = ~np.any(list(rejected.values()), axis=0)
        candidates = self.pool.index.obs_ids[is_candidate].tolist()
        obs_id = int(target.obs_ids[0])
        compared = {obs_id: observation or self.pool.get(obs_id)}
        compared |= {_: self.pool.get(_) for _ in candidates}
        return compared, {_: get_background_version(compared[_]) for _ in compared}

    def _predict(self, compared, versions):
        """Predict counts from background IRFs, as `rank_observations` takes them."""
        if not compared:
            return None
        index = self.pool.index
        own, *others = map(self.pool.predict, compared.values(), versions.values())
        predicted = own, np.full((len(index), *own.shape), np.nan)
        if others:
            _, *obs_ids = compared
            predicted[1][np.searchsorted(index.obs_ids, obs_ids)] = others
        return predicted

    def _rank_target(self, target, observation, skip, made_of, path, is_only):
        obs_id, rejected = int(target.obs_ids[0]), self._reject(target, skip)
        # the checksum needs the candidates before they are ranked
        compared, versions = self._find_compared(target, observation, rejected)
        if compared and is_only:
            # one of many without a background IRF is a target without a partner
            _check_backgrounds(obs_id, versions)
        options = self.criteria, self.distribution, self.kl_max, self.ranking
        made_with = *options, versions, __version__
        checksum = make_checksum(*made_of, *made_with)
        table = None if path is None else read_ranking(path, checksum)
        if table is not None:
            return table
        table = rank_observations(
            target,
            self.pool.index,
            self.criteria,
            self.kl_max,
            self._predict(compared, versions),
            rejected,
            self.ranking,
        )
        table.meta.update(OBS_ID=obs_id, CHECKSUM=checksum)
        if path is not None:
            write_ranking(table, path)
        return table


def _check_backgrounds(obs_id, versions):
    """Raise an error if there are no background IRFs to compare."""
    others = [version for name, version in versions.items() if name != obs_id]
    what = None
    if versions[obs_id] is None:
        what = f"OBS_ID {obs_id} has no background IRF"
    elif others and not any(others):
        match = f"{len(others)} OFF observations that match OBS_ID {obs_id}"
        what = f"None of the {match} has a background IRF"
    if what is not None:
        raise ValueError(
            f"{what}, which distribution 'irf' compares. Use distribution 'counts', "
            "which compares events."
        )


def read_ranking(path, checksum):
    """Read a ranking that was kept.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        ECSV file.
    checksum : str
        Checksum of all that the ranking depends on.

    Returns
    -------
    table : `~astropy.table.Table` or None
        Ranking. None if there is none, or it was made of something else.

    Raises
    ------
    FileExistsError
        If the file is not a ranking.
    """
    path = make_path(path)
    if not path.exists():
        return None
    table = Table.read(path)
    if "CHECKSUM" not in table.meta:
        raise FileExistsError(
            f"{path} is not a ranking and will not be replaced. Choose another "
            "folder, or remove it yourself."
        )
    return table if table.meta["CHECKSUM"] == checksum else None


def write_ranking(table, path):
    """Write a ranking, and its folder if need be.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Ranking, with its checksum in ``meta["CHECKSUM"]``.
    path : str or `~pathlib.Path`
        ECSV file. An older ranking is replaced.
    """
    path = make_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path, overwrite=True) as temporary:
        table.write(temporary)


class Failure(NamedTuple):
    """Why there is no candidate in a ranking."""

    counts: Counter
    """Number of OFF observations that each criterion rejects."""
    alone: Counter
    """Number of those that it alone rejects."""
    n_off: int
    """Number of OFF observations."""
    best: float
    """Smallest KL_CORR of what the criteria accept, infinity if there is none."""

    @classmethod
    def create(cls, table):
        """Create from a ranking."""
        reasons, numbers = np.unique(table["REASONS"], return_counts=True)
        counts, alone = Counter(), Counter()
        for text, number in zip(reasons.tolist(), numbers.tolist(), strict=True):
            names = [name for name in text.split(", ") if name]
            counts.update(dict.fromkeys(names, number))
            if len(names) == 1:
                alone.update({names[0]: number})
        accepted = np.asarray(table["KL_CORR"])[table["STATUS"] != "rejected"]
        return cls(counts, alone, len(table), np.min(accepted, initial=np.inf))


def describe_failure(failures):
    """Say why there is no candidate in any ranking.

    Parameters
    ----------
    failures : list of `Failure`
        What each of them tells.

    Returns
    -------
    text : str
        The criterion that removed most, what would let some in, and the best KL_CORR
        of what is left.
    """
    counts, alone, numbers, best = zip(*failures, strict=True)
    counts, alone = (sum(_, Counter()) for _ in (counts, alone))
    text = describe_rejections(counts, sum(numbers), alone, len(failures))
    if np.isfinite(min(best)):
        text += f" The best KL_CORR of the others is {min(best):.3g}."
    return text
