"""Run a function many times, through `gammapy.utils.parallel`."""

import functools
import multiprocessing
import os
import signal
import threading

from gammapy.utils import parallel

from .interrupts import check_interrupts, delay_interrupts

__all__ = ["run_parallel"]


def run_parallel(function, inputs, n_jobs=None, parallel_backend=None, task_name=""):
    """Run a function on many inputs, in parallel if asked to, with a progress bar.

    An interrupt waits for the end of a call, so that no file is left half read.

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
        Name for the progress bar. Default is none.

    Returns
    -------
    results : list
        Results in the order of the inputs.

    Raises
    ------
    ImportError
        If ray is asked for but not installed.
    """
    # Gammapy would go on with multiprocessing
    if parallel_backend == "ray" and not parallel.is_ray_available():
        raise ImportError(
            "parallel_backend='ray' needs the package ray: "
            'python -m pip install "gammapy-mimic[ray]"'
        )
    n_jobs = parallel.N_JOBS_DEFAULT if n_jobs is None else n_jobs
    # a pool of no processes is an error, and idle ones are slow to start
    options = {"processes": max(min(n_jobs, len(inputs)), 1)}
    # Gammapy's default is an enumeration, or a text
    backend = getattr(parallel.BACKEND_DEFAULT, "value", parallel.BACKEND_DEFAULT)
    if (parallel_backend or backend) == "multiprocessing":
        options["initializer"] = _start_worker
    check_interrupts()
    results = parallel.run_multiprocessing(
        functools.partial(_call, function),
        inputs,
        backend=parallel_backend,
        pool_kwargs=options,
        method="starmap",
        method_kwargs={},
        task_name=task_name,
    )
    # one that was lost when the processes were started
    check_interrupts()
    return results


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


def _call(function, *args):
    with delay_interrupts():
        return function(*args)
