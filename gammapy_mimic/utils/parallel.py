"""Run a function many times, through `gammapy.utils.parallel`."""

from gammapy.utils import parallel

__all__ = ["run_parallel"]


def run_parallel(function, inputs, n_jobs=None, parallel_backend=None, task_name=""):
    """Run a function on many inputs, in parallel if asked to, with a progress bar.

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
    return parallel.run_multiprocessing(
        function,
        inputs,
        backend=parallel_backend,
        pool_kwargs={"processes": max(min(n_jobs, len(inputs)), 1)},
        method="starmap",
        method_kwargs={},
        task_name=task_name,
    )
