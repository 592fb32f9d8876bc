"""Interrupts (Ctrl-C) that are never taken for an error of the data.

An interrupt inside the reading of a gzip file leaves it half read, and what is raised
in the end is that its checksum is wrong.
"""

import contextlib
import signal
import threading

__all__ = ["delay_interrupts", "note_interrupts"]


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

    Yields
    ------
    received : list
        Gets an item for each interrupt.
    """
    with _handle_interrupts(is_delayed=False) as received:
        yield received


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
