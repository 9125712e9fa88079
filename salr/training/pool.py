"""Several runs side by side, each in a process of its own, one of whose deaths costs that run alone."""

import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch.multiprocessing

from salr.training.events import Event, Listener
from salr.training.signals import held_back, interrupt_once

OUT_OF_MEMORY = "out of memory"
"""The state of a run that has failed for want of memory, which it may have again with fewer beside it."""

Work = Callable[[Any, int, Listener], str]
"""(what the runs of a device share, seed, listener) → the run's state."""


def run_side_by_side(
    work: Work, shares: Sequence[Any], seeds: Sequence[int], workers: int, threads: int, listen: Listener
) -> dict[int, str]:
    """Calls ``work`` for every seed, ``workers`` at a time, and returns the state of each.

    Args:
        work: an importable function, for it is called in fresh processes.
        shares: what runs share, for each device. A process is sent the one that the fewest others have, once; tensors in it are
            moved into shared memory, not copied.
        threads: torch's threads in each process.
        listen: is told all that the runs tell, in this process.

    A process that dies leaves its seed as "failed", and another one takes its place. A run that is :data:`OUT_OF_MEMORY` beside
    others on its device waits for its turn again, with half as many side by side from then on; alone, that is its state. An
    interrupt is passed on to all: each run is left as interrupted, and KeyboardInterrupt is raised here.
    """
    waiting, states, room = deque(seeds), dict.fromkeys(seeds, "failed"), workers
    crew: list[_Worker] = []

    def crowd(shared: Any) -> int:
        return sum(worker.shared is shared for worker in crew)

    def hire() -> None:
        while waiting and len(crew) < room:
            crew.append(_Worker(work, min(shares, key=crowd), threads))
            crew[-1].give(waiting.popleft())
            for worker in crew:
                worker.beside = max(worker.beside, crowd(worker.shared))

    def dismiss(worker: _Worker) -> None:
        worker.close()
        crew.remove(worker)

    try:
        hire()
        while crew:
            working = {worker.connection: worker for worker in crew}
            for connection in wait(list(working)):
                worker = working[connection]  # type: ignore[index]
                seed = worker.seed
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    text = f"its process ended with exit code {worker.process.exitcode}"
                    listen(Event(seed, "ended", 0, 0, state="failed", text=text))
                    dismiss(worker)
                    hire()
                    continue
                if isinstance(message, Event):
                    listen(message)
                    continue
                states[seed] = message
                if message == OUT_OF_MEMORY and worker.beside > 1:
                    # Others may have failed for the same crowd: it is halved once for all of them.
                    room = min(room, worker.beside // 2 * len(shares))
                    waiting.append(seed)
                    listen(
                        Event(
                            seed,
                            "ended",
                            0,
                            0,
                            state="waiting",
                            text=f"it is trained again, {room} at most side by side",
                        )
                    )
                    dismiss(worker)  # the process would keep what memory it has
                elif waiting and len(crew) <= room:
                    worker.give(waiting.popleft())
                    worker.beside = crowd(worker.shared)
                else:
                    dismiss(worker)
                hire()
    except KeyboardInterrupt:
        for worker in crew:
            worker.interrupt()
        raise
    finally:
        for worker in crew:
            worker.close()
    return states


class _Worker:
    """A process that waits for seeds."""

    def __init__(self, work: Work, shared: Any, threads: int) -> None:
        context = torch.multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(work, shared, threads, theirs), daemon=True
        )
        with held_back():
            self.process.start()
        theirs.close()  # so that the worker's death closes the pipe
        self.shared = shared
        self.seed: int
        self.beside = 1
        """The most runs side by side on its device since its own began."""

    def give(self, seed: int) -> None:
        self.seed = seed
        with suppress(OSError):  # it is dead, which the next look at its pipe finds
            self.connection.send(seed)

    def interrupt(self) -> None:
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGINT)

    def close(self) -> None:
        """Lets the process end: at once where it waits, after its last whole record where it was interrupted."""
        self.connection.close()
        self.process.join(timeout=30)
        if self.process.is_alive():
            self.process.kill()


def _serve(work: Work, shared: Any, threads: int, connection: Connection) -> None:
    def tell(message: Event | str) -> None:
        try:
            connection.send(message)
        except OSError:
            raise KeyboardInterrupt from None  # the parent is gone: the run stops as it would with it

    try:
        interrupt_once()
        torch.set_num_threads(threads)
        while True:
            seed = connection.recv()
            tell(work(shared, seed, tell))
    except (EOFError, OSError, KeyboardInterrupt):
        pass  # the parent has closed the pipe, or everything is being interrupted
