"""Treat Ctrl-C (SIGINT) and SIGTERM, which Slurm and systemd send, as one kind of interrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM raise ``KeyboardInterrupt`` within the block, as Ctrl-C does.

    Only the main thread of a process can do this; elsewhere nothing changes.
    """
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
    """Delay both signals until the block ends.

    A process that is started within the block inherits the delay until it calls :func:`interrupt_once`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def interrupt_once() -> None:
    """Raise ``KeyboardInterrupt`` at the first signal and ignore all later ones.

    A worker often receives two: SIGINT from the terminal and SIGTERM from its parent. If the process was
    started with SIGINT ignored, as shell scripts start their background jobs, SIGINT stays ignored.
    """

    raised = False

    def interrupt(*_: object) -> None:
        # The handler stays. If a pending signal were ignored from now on, Python would print a traceback.
        nonlocal raised
        if not raised:
            raised = True
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
