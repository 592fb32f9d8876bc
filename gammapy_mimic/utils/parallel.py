"""Run a function many times, through `gammapy.utils.parallel`."""

import contextlib
import functools
import multiprocessing
import os
import re
import signal
import threading
from typing import NamedTuple

from gammapy.utils import parallel

from .interrupts import check_interrupts, delay_interrupts
from .progress import show_progress

__all__ = ["name_observation", "run_parallel"]

N_BATCHES = 32
"""Parts of the inputs that each process gets one after the other: many, so that none
waits for the last of another, and few, as the function is sent with each."""


def run_parallel(
    function, inputs, n_jobs=None, parallel_backend=None, task_name="", on_done=None
):
    """Run a function on many inputs, in parallel if asked to, with a progress bar.

    An interrupt waits for the end of a call, so that no file is left half read. An
    error in a call has a note of the observation.

    Parameters
    ----------
    function : callable
        Function that can be pickled.
    inputs : list of tuple
        Arguments of each call.
    n_jobs : int, optional
        Number of processes. Default is that of `gammapy.utils.parallel`, 1.
    parallel_backend : {"multiprocessing", "ray"}, optional
        Backend. Default is that of `gammapy.utils.parallel`.
    task_name : str, optional
        Name of the step, see `~gammapy_mimic.utils.progress.show_progress`. Default is
        to show none.
    on_done : callable, optional
        Called in this process with a list of results that are done, for the progress of
        a step of which the inputs are a part. Default is none.

    Returns
    -------
    results : list
        Results in the order of the inputs.

    Raises
    ------
    ImportError
        If ray is asked for but not installed.
    """
    # Gammapy's default is an enumeration, or a text
    default = getattr(parallel.BACKEND_DEFAULT, "value", parallel.BACKEND_DEFAULT)
    backend = parallel_backend or default
    # Gammapy would go on with multiprocessing
    if backend == "ray" and not parallel.is_ray_available():
        raise ImportError(
            "parallel_backend='ray' needs the package ray: "
            'python -m pip install "gammapy-mimic[ray]"'
        )
    n_jobs = parallel.N_JOBS_DEFAULT if n_jobs is None else n_jobs
    # a pool of no processes is an error, and idle ones are slow to start
    n_jobs = max(min(n_jobs, len(inputs)), 1)
    options = {"processes": n_jobs}
    if backend == "multiprocessing":
        options["initializer"] = _start_worker
    size = -(-len(inputs) // (n_jobs * N_BATCHES)) if n_jobs > 1 else 1
    batches = [inputs[_ : _ + size] for _ in range(0, len(inputs), size or 1)]
    check_interrupts()
    with show_progress(inputs, task_name) as update:

        def count(results):
            update(len(results))
            if on_done is not None:
                on_done(results)
            # without processes it is taken for what is done
            return _Done(results)

        done = parallel.run_multiprocessing(
            functools.partial(_call_all, function),
            [(_,) for _ in batches],
            backend=backend,
            pool_kwargs=options,
            method="apply_async",
            method_kwargs={"callback": count},
            task_name=task_name,
        )
        results = [result for batch in done for result in batch.get()]
    # one that was lost when the processes were started
    check_interrupts()
    return results


class _Done(NamedTuple):
    """Results of a batch, as a pool gives them."""

    results: list

    def get(self):
        """Get the results."""
        return self.results


def _start_worker():
    """Make a process of a pool one that ends with that which started it, not before."""
    # a terminal interrupts all processes, and the first ends the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # where it cannot, as it was killed, or interrupted while it started them
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent():
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)


def _call_all(function, batch):
    return [_call(function, args) for args in batch]


def _call(function, args):
    named = [_ for _ in args if hasattr(_, "obs_id")]
    naming = name_observation(named[0]) if named else contextlib.nullcontext()
    with delay_interrupts(), naming:
        return function(*args)


@contextlib.contextmanager
def name_observation(observation):
    """Note in an error which observation it is of, as far as it does not say so.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation.
    """
    try:
        yield
    except Exception as error:
        obs_id = str(observation.obs_id)
        # alone or in a list, and not a number of something else
        named = rf"\bOBS_IDs?\b[\s:=,\[\d]*\b{re.escape(obs_id)}\b(?!\.\d)"
        if not re.search(named, str(error)):
            error.add_note(f"OBS_ID {obs_id}")
        raise
