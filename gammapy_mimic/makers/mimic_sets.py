"""Write mimic sets of a whole archive, reading every OFF observation once."""

import contextlib
import copy
import functools
import logging
from collections import defaultdict

from gammapy.data import Observations
from gammapy.utils.scripts import make_path

from ..data.datastore import DatastoreWriter
from ..data.obs_ids import get_obs_id
from ..data.observation import get_off_observation, load_events_file, to_pool
from ..utils.parallel import run_parallel
from . import MimicMaker
from .core import NotTreatedError

__all__ = ["write_mimic_sets"]

log = logging.getLogger(__name__)


def write_mimic_sets(
    observations,
    off_observations,
    plan,
    outdir,
    sets=None,
    irfs="link",
    overwrite=False,
    n_jobs=None,
    parallel_backend=None,
    finish=None,
    **kwargs,
):
    """Write mimic sets as datastores, see `gammapy_mimic.data.write_datastore`.

    The files of an OFF observation are read once for all sets, and no more than one OFF
    observation is in memory, for each process. The stores are put in place when all of
    them are complete.

    Parameters
    ----------
    observations : `~gammapy.data.Observations`
        Target observations. Those without partner are left out.
    off_observations : `~gammapy.data.DataStore`, `~gammapy.data.Observations` or list
        OFF observations.
    plan : `~gammapy_mimic.selection.MimicPlan`
        Plan.
    outdir : str or `~pathlib.Path`
        Folder for the datastores ``mimic_1``, ``mimic_2`` and so on.
    sets : list of int, optional
        Mimic sets. Default are all of the plan.
    irfs : {"link", "copy"}, optional
        Whether to link or to copy the IRFs. Default is "link".
    overwrite : bool, optional
        Whether to replace earlier stores. Default is False.
    n_jobs : int, optional
        Number of processes. Default is that of `gammapy.utils.parallel`, 1.
    parallel_backend : {"multiprocessing", "ray"}, optional
        Backend. Default is that of `gammapy.utils.parallel`.
    finish : callable, optional
        Called with the list of the folders when all stores are complete, before the
        first one is put in place.
    **kwargs : dict
        Options of `~gammapy_mimic.MimicMaker`.

    Returns
    -------
    paths : dict of `~pathlib.Path`
        Datastore of each set.

    Raises
    ------
    ValueError
        If a set has no mimic.
    FileExistsError
        If a folder has content and may not be replaced.
    """
    off_observations = to_pool(off_observations)
    sets = plan.sets if sets is None else sets
    options = n_jobs, parallel_backend
    # once, and not in each process again
    observations = [(_,) for _ in observations]
    observations = run_parallel(_load, observations, *options, "Read targets")
    pairs = _group_pairs(observations, plan, sets)
    used = {mimic_set for values in pairs.values() for mimic_set, _ in values}
    empty = [_ for _ in sets if _ not in used]
    if empty:
        raise ValueError(f"No observation has a partner in the mimic sets {empty}.")
    paths, checked = {_: make_path(outdir) / f"mimic_{_}" for _ in sets}, set()
    # if one store fails, none is put in place
    with contextlib.ExitStack() as stack:
        writers = {
            mimic_set: stack.enter_context(
                DatastoreWriter.open(path, irfs, overwrite, checked)
            )
            for mimic_set, path in paths.items()
        }
        write = functools.partial(
            _write_mimics, plan=plan, writers=writers, options=kwargs
        )
        tasks = [
            (get_off_observation(off_observations, obs_id), values)
            for obs_id, values in pairs.items()
        ]
        results = run_parallel(write, tasks, *options, "Write mimics")
        written = {key: value for made, _ in results for key, value in made.items()}
        reasons = {key: text for _, failed in results for key, text in failed.items()}
        _report_failures(sets, written, reasons)
        # in the order of the targets, whatever the order of the tasks
        for observation in observations:
            for mimic_set, writer in writers.items():
                key = mimic_set, get_obs_id(observation)
                if key in written:
                    writer.add(written[key])
        for writer in writers.values():
            writer.finish()
        if finish is not None:
            finish([_.folder for _ in writers.values()])
    return paths


def _load(observation):
    """Read what a mimic needs of a target. A copy, which keeps it for all mimics."""
    observation = copy.copy(observation)
    load_events_file(observation, with_events=False)
    return observation


def _group_pairs(observations, plan, sets):
    """Find what is to be made of each OFF observation: sets and targets."""
    pairs = defaultdict(list)
    for mimic_set in sets:
        partners = plan.partners(mimic_set)
        for observation in observations:
            obs_id = get_obs_id(observation)
            if obs_id in partners:
                pairs[partners[obs_id]].append((mimic_set, observation))
    return pairs


def _write_mimics(off, pairs, plan, writers, options):
    """Write the mimics of an OFF observation, and say why one cannot be made."""
    load_events_file(off)
    # not the whole pool, from which each maker would read it again
    pool = Observations([off])
    written, reasons = {}, {}
    for mimic_set, observation in pairs:
        maker = MimicMaker(pool, plan, mimic_set=mimic_set, **options)
        key = mimic_set, get_obs_id(observation)
        try:
            mimic = maker.make_observation(observation)
        except NotTreatedError as error:
            reasons[key] = str(error)
            continue
        written[key] = writers[mimic_set].write(mimic)
    return written, reasons


def _report_failures(sets, written, reasons):
    """Warn of mimics that are left out, an error if these are all of a set."""
    for reason in reasons.values():
        log.warning(f"{reason} Left out.")
    missing = sorted({*sets} - {mimic_set for mimic_set, _ in written})
    if missing:
        reason = next(_ for key, _ in reasons.items() if key[0] == missing[0])
        raise ValueError(f"No mimic of mimic set {missing[0]} can be made. {reason}")
