"""Locks that go with the process that holds them, however it ends.

They are locks of the operating system (`fcntl.flock`). Where there are none, on Windows
and some network file systems, a lock file stands for itself: it stays when a run is
killed, and has to be removed by hand.
"""

import contextlib
import datetime
import os
import socket
import threading
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:
    fcntl = None

__all__ = ["acquire", "hold", "release"]

_locks, _inside = {}, set()


class Lock(NamedTuple):
    """Lock file that is open."""

    path: Path
    descriptor: int
    is_new: bool
    """Whether the file was not there before."""
    is_locked: bool
    """Whether the operating system locks it."""


def acquire(path):
    """Lock a file, which is made if it is not there, and never followed if a link.

    Parameters
    ----------
    path : `~pathlib.Path`
        File.

    Returns
    -------
    lock : `Lock`
        Lock, to be given to `release`.

    Raises
    ------
    BlockingIOError
        If it is locked already, also by this process.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    while True:
        try:
            descriptor, is_new = os.open(path, flags | os.O_EXCL, 0o666), True
        except FileExistsError:
            descriptor, is_new = os.open(path, flags, 0o666), False
        try:
            is_locked = _flock(descriptor)
            # another process may have removed it just now
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                    lock = Lock(path, descriptor, is_new, is_locked)
                    _locks[descriptor] = lock
                    return lock
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _flock(descriptor):
    """Lock a file, False where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (AttributeError, OSError):
        return False
    return True


def release(lock):
    """Give back a lock.

    Parameters
    ----------
    lock : `Lock`
        Lock.
    """
    # not in a process that was started meanwhile
    if _locks.pop(lock.descriptor, None):
        os.close(lock.descriptor)


@contextlib.contextmanager
def hold(path, folder):
    """Hold a lock file, and remove it in the end.

    A block in which the same thread holds it already is part of that one.

    Parameters
    ----------
    path : `~pathlib.Path`
        Lock file. Its text names the host, the process and the time.
    folder : `~pathlib.Path`
        What it stands for, for errors.

    Raises
    ------
    BlockingIOError
        If another run holds it, or may do so.
    """
    key = os.path.realpath(path), threading.get_ident()
    if key in _inside:
        yield
        return
    lock = _take(path, folder)
    _inside.add(key)
    try:
        yield
    finally:
        _inside.discard(key)
        if lock.descriptor in _locks:
            # nobody else can get it as long as it is locked
            path.unlink(missing_ok=True)
            release(lock)


def _take(path, folder):
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = acquire(path)
        except BlockingIOError:
            raise BlockingIOError(
                f"{folder} is in use by {_read_holder(path)[1]}. Wait until that has "
                "ended, or choose another folder."
            ) from None
        except FileNotFoundError:
            # the run before has just removed the folder
            continue
        break
    host, holder = _read_holder(path)
    is_here = lock.is_locked and host in (None, socket.gethostname())
    if not (lock.is_new or is_here):
        release(lock)
        raise BlockingIOError(
            f"{folder} is in use by {holder}, as far as can be seen from here. If that "
            f"has ended, remove {path}, or choose another folder."
        )
    start = datetime.datetime.now().isoformat(timespec="seconds")
    os.ftruncate(lock.descriptor, 0)
    os.write(lock.descriptor, f"{socket.gethostname()} {os.getpid()} {start}".encode())
    return lock


def _read_holder(path):
    """Host that has a lock file, None if it is empty, and a description."""
    with contextlib.suppress(OSError):
        words = path.read_text(errors="replace").split()
        if len(words) == 3:
            host, process, start = words
            return host, f"process {process} on {host}, since {start}"
        if words:
            return "unknown", "an unknown process"
    return None, "another run"


def _forget():
    """Leave the locks to the process that this one was forked from."""
    for descriptor in _locks:
        os.close(descriptor)
    _locks.clear()
    _inside.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
