"""Exclusive claims of live processes, by `flock`: a dead process holds nothing, because the kernel lets go for it."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from salr.records.errors import RunBusy, cannot

_PATIENCE = 20  # tries of 5 ms each: a reader that asks `is_held` holds the lock for some microseconds
_held: set[int] = set()


@contextmanager
def hold(lock: Path) -> Iterator[None]:
    """Hold `lock` while the block runs; RunBusy names the process that holds it already, this one included."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise cannot("claim", lock.parent, error) from error
    _held.add(descriptor)
    try:
        _lock(descriptor, lock)
        yield
    finally:
        # Closing lets go. A forked child has closed its copy already, and must not unlock its parent's.
        if descriptor in _held:
            _held.remove(descriptor)
            os.close(descriptor)


def is_held(lock: Path) -> bool:
    """Whether a live process holds `lock`. Needs read permission only and creates nothing."""
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


def _lock(descriptor: int, lock: Path) -> None:
    for attempt in range(_PATIENCE):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            return
        except BlockingIOError:
            if attempt < _PATIENCE - 1:
                time.sleep(0.005)
        except OSError as error:
            raise cannot("claim", lock.parent, error) from error
    holder = os.pread(descriptor, 200, 0).decode(errors="replace").partition("\n")[0] or "another process"
    raise RunBusy(f"{lock.parent} is held by {holder}: let it finish, or stop it first")


def _let_go_in_child() -> None:
    """A forked child shares its parent's lock and would keep it alive after the parent's death."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
