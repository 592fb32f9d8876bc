"""Progress of the steps of a run: a bar on a terminal, else one line a step."""

import contextlib
import logging
import time

from gammapy.utils import pbar

__all__ = ["show_progress", "track"]

log = logging.getLogger(__name__)


@contextlib.contextmanager
def show_progress(inputs, name):
    """Show how much of a step is done, with its rate and the time that is left.

    With `gammapy.utils.pbar.SHOW_PROGRESS_BAR` it is a bar, else one line of the log
    (level INFO) at the end. What runs inside has neither.

    Parameters
    ----------
    inputs : list
        What is to be done.
    name : str
        Name of the step. Nothing is shown of one without.

    Yields
    ------
    update : callable
        To be called with the number of inputs that were done since.
    """
    if not (name and len(inputs)) or _Shown.is_inside:
        yield lambda number=1: None
        return
    has_bar, start = pbar.SHOW_PROGRESS_BAR, time.monotonic()
    bar = pbar.progress_bar(inputs, desc=name)
    # those of Gammapy count what was begun, and a step has one
    pbar.SHOW_PROGRESS_BAR, _Shown.is_inside = False, True
    try:
        yield bar.update
    finally:
        pbar.SHOW_PROGRESS_BAR, _Shown.is_inside = has_bar, False
        bar.close()
    if not has_bar:
        seconds = time.monotonic() - start
        rate = len(inputs) / max(seconds, 1e-3)
        log.info(f"{name}: {len(inputs)} in {seconds:.1f} s, {rate:.3g} a second")


class _Shown:
    """State of this process."""

    is_inside = False


def track(inputs, name):
    """Go through inputs, and show how many are done, see `show_progress`.

    Parameters
    ----------
    inputs : iterable
        Inputs.
    name : str
        Name of the step.

    Yields
    ------
    item : object
        Each of the inputs.
    """
    inputs = [*inputs]
    with show_progress(inputs, name) as update:
        for item in inputs:
            yield item
            update(1)
