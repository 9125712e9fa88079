"""Train several runs in parallel processes; a crash loses only that run."""

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch.multiprocessing

from salr.records import State
from salr.training.events import Event, Listener
from salr.training.signals import held_back, interrupt_once

PATIENCE = 30.0
"""Seconds in which processes that are asked to end must have ended, all together. Then they are killed."""

Work = Callable[[Any, int, Listener], State]
"""Train one run, given what the runs of a device share, the seed and a listener. Returns the run's state."""


def run_in_parallel(
    work: Work, shares: Sequence[Any], seeds: Sequence[int], workers: int, threads: int, listen: Listener
) -> dict[int, State]:
    """Call ``work`` for every seed, in at most ``workers`` processes at a time.

    If a process dies, its run has failed, and a new process trains the remaining seeds. If a run is out of
    memory while others use its device, it is retried later. From then on half as many runs share a device.

    Args:
        work: an importable function: it is called in fresh processes.
        shares: what the runs of a device share, one entry per device. A process receives one of them when it
            starts. Tensors are moved to shared memory, not copied.
        seeds: one per run, in the order in which they begin.
        workers: the most processes at a time, over all devices.
        threads: torch's threads in each process.
        listen: called in this process with every event of every run.

    Returns:
        The state of each seed.

    Raises:
        KeyboardInterrupt: on an interrupt, after every run has been interrupted and has ended.
    """
    return _Pool(work, shares, seeds, workers, threads, listen).run()


class _Pool:
    """The processes, and the seeds that none of them has begun."""

    def __init__(
        self,
        work: Work,
        shares: Sequence[Any],
        seeds: Sequence[int],
        workers: int,
        threads: int,
        listen: Listener,
    ) -> None:
        self._work, self._shares, self._threads, self._listen = work, shares, threads, listen
        self._waiting = deque(seeds)
        self._states = dict.fromkeys(seeds, State.FAILED)
        self._limit = workers
        self._workers: list[_Worker] = []

    def run(self) -> dict[int, State]:
        try:
            self._fill()
            while self._workers:
                ready = wait([worker.connection for worker in self._workers])
                for worker in [worker for worker in self._workers if worker.connection in ready]:
                    self._receive(worker)
        except KeyboardInterrupt:
            for worker in self._workers:
                worker.interrupt()
            self._hear_out()
            raise
        finally:
            end = time.monotonic() + PATIENCE
            for worker in self._workers:
                worker.connection.close()
            for worker in self._workers:
                worker.close(end)
        return self._states

    def _hear_out(self) -> None:
        """Pass on what interrupted workers still have to tell, until they have ended."""
        end = time.monotonic() + PATIENCE
        connections = [worker.connection for worker in self._workers]
        while connections and (left := end - time.monotonic()) > 0:
            for connection in wait(connections, left):
                assert isinstance(connection, Connection)
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    connections.remove(connection)
                    continue
                if isinstance(message, Event):
                    self._listen(message)

    def _fill(self) -> None:
        """Start processes until the limit is reached or no seed waits."""
        while self._waiting and len(self._workers) < self._limit:
            worker = _Worker(self._work, min(self._shares, key=self._load), self._threads)
            self._workers.append(worker)
            worker.give(self._waiting.popleft())
            for each in self._workers:
                each.most_on_device = max(each.most_on_device, self._load(each.shared))

    def _load(self, shared: Any) -> int:
        """Return how many processes the device of ``shared`` has."""
        return sum(worker.shared is shared for worker in self._workers)

    def _receive(self, worker: "_Worker") -> None:
        """Read one message of a worker: an event, or the state of its run, or the end of the pipe."""
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if isinstance(message, Event):
            self._listen(message)
        else:
            self._finish(worker, message)

    def _finish(self, worker: "_Worker", state: State) -> None:
        """Record the state of the worker's run, and give the worker the next seed."""
        self._states[worker.seed] = state
        if state == State.OUT_OF_MEMORY and worker.most_on_device > 1:
            self._retry(worker)
        elif self._waiting and len(self._workers) <= self._limit:
            worker.give(self._waiting.popleft())
            worker.most_on_device = self._load(worker.shared)
        else:
            self._dismiss(worker)
        self._fill()

    def _retry(self, worker: "_Worker") -> None:
        """Queue the run again and lower the limit."""
        # Several runs may fail because of the same crowd: the limit is halved once for all of them.
        self._limit = min(self._limit, worker.most_on_device // 2 * len(self._shares))
        self._waiting.append(worker.seed)
        text = f"out of memory; retried with at most {self._limit} in parallel"
        self._listen(Event(worker.seed, "ended", 0, 0, state=State.WAITING, text=text))
        self._dismiss(worker)  # only the end of the process frees all of its memory

    def _bury(self, worker: "_Worker") -> None:
        """Report a process that has died, and replace it."""
        worker.process.join()
        text = f"its process ended with exit code {worker.process.exitcode}"
        self._listen(Event(worker.seed, "ended", 0, 0, state=State.FAILED, text=text))
        self._dismiss(worker)
        self._fill()

    def _dismiss(self, worker: "_Worker") -> None:
        worker.close(time.monotonic() + PATIENCE)
        self._workers.remove(worker)


class _Worker:
    """A process that trains one seed after another."""

    def __init__(self, work: Work, shared: Any, threads: int) -> None:
        context = torch.multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(work, shared, threads, theirs), daemon=True
        )
        resource_tracker.ensure_running()  # its first start would end the delay
        with held_back():
            self.process.start()
        theirs.close()  # otherwise the pipe would outlive the worker
        self.shared = shared
        self.seed: int
        self.most_on_device = 1
        """The most processes on its device since its present run began."""

    def give(self, seed: int) -> None:
        self.seed = seed
        with suppress(OSError):  # the process is dead; the next read of its pipe reports that
            self.connection.send(seed)

    def interrupt(self) -> None:
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGTERM)

    def close(self, end: float) -> None:
        """End the process. An idle one ends at once, an interrupted one as soon as its record is complete.

        Args:
            end: when it is killed, by ``time.monotonic``.
        """
        self.connection.close()
        self.process.join(timeout=max(0.0, end - time.monotonic()))
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(work: Work, shared: Any, threads: int, connection: Connection) -> None:
    def tell(message: Event | State) -> None:
        try:
            connection.send(message)
        except OSError:
            raise KeyboardInterrupt from None  # the parent is gone: stop as if it had been interrupted

    try:
        interrupt_once()
        torch.set_num_threads(threads)
        while True:
            seed = connection.recv()
            tell(work(shared, seed, tell))
    except (EOFError, OSError, KeyboardInterrupt):
        pass  # the parent has closed the pipe, or all runs are interrupted
