"""Exclusive claims of live processes by ``flock``. The kernel releases the claims of a process that ends."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from salr.records import atomic
from salr.records.errors import RunBusy, cannot

_TRIES = 20  # of 5 ms each: a reader that calls `is_held` holds the lock for some microseconds
_held: dict[int, Path] = {}  # this process's own locks, by descriptor


@contextmanager
def hold(lock: Path) -> Iterator[None]:
    """Hold a lock while the block runs.

    Raises:
        RunBusy: a live process, perhaps this one, holds it already. The message names the process.
        RecordError: the folder cannot be written.
    """
    try:
        atomic.make_folder(lock.parent)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise cannot("claim", lock.parent, error) from error
    _held[descriptor] = lock
    try:
        _lock(descriptor, lock)
        yield
    finally:
        # Closing the file releases the lock. A forked child has closed its copy already.
        if descriptor in _held:
            del _held[descriptor]
            os.close(descriptor)


def is_held(lock: Path) -> bool:
    """Return whether a live process holds a lock. Needs only read permission and creates nothing."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise cannot("read", lock, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise cannot("read", lock, error) from error
    finally:
        os.close(descriptor)
    return False


def is_held_elsewhere(lock: Path) -> bool:
    """Return whether another live process holds a lock."""
    return lock not in _held.values() and is_held(lock)


def _lock(descriptor: int, lock: Path) -> None:
    for attempt in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            return
        except BlockingIOError:
            if attempt < _TRIES - 1:
                time.sleep(0.005)
        except OSError as error:
            raise cannot("claim", lock.parent, error) from error
    holder = os.pread(descriptor, 200, 0).decode(errors="replace").partition("\n")[0] or "another process"
    raise RunBusy(f"{lock.parent} is held by {holder}: let it finish, or stop it first")


def _close_in_child() -> None:
    """Close the locks in a forked child, which would keep them after its parent's death."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
