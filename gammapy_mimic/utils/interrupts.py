"""Interrupts (Ctrl-C) that are never taken for an error of the data.

An interrupt inside the reading of a gzip file leaves it half read, and what is raised
in the end is that its checksum is wrong.
"""

import contextlib
import signal
import sys
import threading

__all__ = ["check_interrupts", "delay_interrupts", "note_interrupts"]

_noted = []
"""Lists of the interrupts that are kept account of, the innermost last."""


@contextlib.contextmanager
def delay_interrupts():
    """Let an interrupt wait for the end of the block, but not a second one.

    Raises
    ------
    KeyboardInterrupt
        At the end of the block if there was an interrupt, whatever the block raised.
    """
    with _handle_interrupts(is_delayed=True) as received:
        try:
            yield
        finally:
            if received:
                raise KeyboardInterrupt


@contextlib.contextmanager
def note_interrupts():
    """Keep account of interrupts, which otherwise do what they always do.

    Python loses one that comes in a function that it calls itself, as it does when an
    object is deleted or a process is started. See `check_interrupts`.

    Yields
    ------
    received : list
        Gets an item for each interrupt.
    """
    hook = sys.unraisablehook

    def tell(lost):
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            hook(lost)

    with _handle_interrupts(is_delayed=False) as received:
        sys.unraisablehook = tell
        _noted.append(received)
        try:
            yield received
        finally:
            _noted.pop()
            sys.unraisablehook = hook


def check_interrupts():
    """Raise the interrupt that was lost in a block of `note_interrupts`.

    Raises
    ------
    KeyboardInterrupt
        If there was one.
    """
    if _noted and _noted[-1]:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _handle_interrupts(is_delayed):
    received, before = [], signal.getsignal(signal.SIGINT)
    # other threads get no signals, and what is ignored or not Python's stays so
    if threading.current_thread() is not threading.main_thread() or not callable(
        before
    ):
        yield received
        return

    def handle(*args):
        received.append(args)
        if not is_delayed or len(received) > 1:
            before(*args)

    signal.signal(signal.SIGINT, handle)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)
