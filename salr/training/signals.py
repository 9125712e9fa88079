"""Ctrl-C and SIGTERM, which Slurm and systemd send, as one kind of interrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt meanwhile, as Ctrl-C does. Does nothing in a thread that is not the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def held_back() -> Iterator[None]:
    """Both signals wait meanwhile, here and in processes started meanwhile until these call :func:`interrupt_once`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def interrupt_once() -> None:
    """The first of them raises KeyboardInterrupt; later ones (a terminal and a parent send two) do not disturb the end."""

    def interrupt(*_: object) -> NoReturn:
        for name in SIGNALS:
            signal.signal(name, signal.SIG_IGN)
        raise KeyboardInterrupt

    for name in SIGNALS:
        signal.signal(name, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
