"""Runs in parallel processes: order, shared memory, crashes, too little memory, interrupts."""

import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor

from salr.records import State
from salr.training import (
    Event,
    Listener,
    out_of_memory,
    pool,
    reason,
    run_in_parallel,
    sigterm_interrupts,
)
from salr.training.failure import ADVICE
from salr.training.pool import _Worker
from salr.training.signals import SIGNALS, held_back, interrupt_once
from tests.helpers.commands import gone, until

Shared = tuple[Path, Tensor]


def work(shared: Shared, seed: int, listen: Listener) -> State:
    """Leave a mark in the folder and a count in the shared tensor. Seed 13 kills its process."""
    folder, counts = shared
    (folder / f"begun-{seed}").write_text(f"{os.getpid()} {torch.get_num_threads()}")
    listen(Event(seed, "begun", 0, 1))
    if seed == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    counts[seed] += 1
    listen(Event(seed, "epoch", 1, 1, {"loss": seed / 7}))
    return State.DIVERGED if seed == 2 else State.FINISHED


def patient(shared: Shared, seed: int, listen: Listener) -> State:
    """Wait for an interrupt, and leave a mark once the end is complete."""
    folder, _ = shared
    (folder / f"begun-{seed}").write_text(str(os.getpid()))
    try:
        while True:
            listen(Event(seed, "running", 0, 1))
            time.sleep(0.01)
    except KeyboardInterrupt:
        (folder / f"ending-{seed}").touch()
        time.sleep(0.5)
        (folder / f"ended-{seed}").touch()
        listen(Event(seed, "ended", 0, 1, state=State.INTERRUPTED))
        raise


def stubborn(shared: Shared, seed: int, listen: Listener) -> State:
    """Never end, whatever happens."""
    folder, _ = shared
    (folder / f"begun-{seed}").write_text(str(os.getpid()))
    while True:
        with suppress(KeyboardInterrupt):
            listen(Event(seed, "running", 0, 1))
            time.sleep(0.01)


def patiently(folder: Path) -> None:
    run_in_parallel(
        patient, [(folder, torch.zeros(1))], [0, 1], workers=2, threads=1, listen=lambda event: None
    )


MEMORY = 1 << 30


def cramped(shared: Shared, seed: int, listen: Listener) -> State:
    """Allocate 0.4 of a memory that the running processes share evenly. Seed 1 needs more than there is."""
    folder, _ = shared
    (folder / f"begun-{seed}").write_text(str(os.getpid()))
    if not list(marks(folder, "again")):
        until(lambda: len(marks(folder, "begun")) == 4)
    (folder / "again-0").touch()
    at_work = {pid for pid in pids(folder) if not gone(pid)}
    data, hard = resource.RLIMIT_DATA, resource.getrlimit(resource.RLIMIT_DATA)[1]
    taken = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(data, (taken + MEMORY // len(at_work), hard))
    try:
        torch.empty(MEMORY * 2 if seed == 1 else MEMORY * 2 // 5, dtype=torch.uint8)
    except RuntimeError as error:
        listen(Event(seed, "ended", 0, 0, state=State.FAILED, text=reason(error)))
        return State.OUT_OF_MEMORY if out_of_memory(error) else State.FAILED
    finally:
        resource.setrlimit(data, (hard, hard))
    return State.FINISHED


def marks(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"{kind}-*"))


def pids(folder: Path) -> list[int]:
    return [int(mark.read_text().split()[0]) for mark in marks(folder, "begun")]


def test_seeds_run_in_order_and_a_crash_loses_one(tmp_path: Path) -> None:
    seeds, counts, events = [4, 13, 0, 2, 7], torch.zeros(14), []
    states = run_in_parallel(work, [(tmp_path, counts)], seeds, workers=1, threads=1, listen=events.append)
    assert list(states.items()) == [
        (4, "finished"),
        (13, "failed"),
        (0, "finished"),
        (2, "diverged"),
        (7, "finished"),
    ]
    assert counts.nonzero().flatten().tolist() == [0, 2, 4, 7]  # the data are shared, not copied
    told = [(event.seed, event.kind) for event in events]
    assert told == [
        *((4, "begun"), (4, "epoch"), (13, "begun"), (13, "ended"), (0, "begun")),
        *((0, "epoch"), (2, "begun"), (2, "epoch"), (7, "begun"), (7, "epoch")),
    ]
    died = events[3]
    assert (died.state, died.text) == ("failed", "its process ended with exit code -9")
    assert [event.row["loss"] for event in events if event.row] == [seed / 7 for seed in (4, 0, 2, 7)]
    used = [int((tmp_path / f"begun-{seed}").read_text().split()[0]) for seed in seeds]
    assert used[0] == used[1] != used[2] == used[3] == used[4]
    assert os.getpid() not in used
    assert all(map(gone, used))
    assert {mark.read_text().split()[1] for mark in marks(tmp_path, "begun")} == {"1"}


def there(shared: Shared, seed: int, listen: Listener) -> State:
    """Leave a mark in the folder of the device and wait until all have begun. Seed 13 kills its process."""
    folder, _ = shared
    (folder / f"begun-{seed}").write_text(str(os.getpid()))
    if seed == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    until(lambda: len(list(folder.parent.glob("*/begun-*"))) >= 4)
    return State.FINISHED


def test_processes_are_spread_over_devices_and_a_dead_one_is_replaced_on_its_device(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    shares = [(folder, torch.zeros(1)) for folder in folders]
    states = run_in_parallel(there, shares, [0, 13, 1, 2], workers=3, threads=1, listen=lambda event: None)
    assert states == {0: "finished", 13: "failed", 1: "finished", 2: "finished"}
    assert [[mark.name for mark in marks(folder, "begun")] for folder in folders] == [
        ["begun-0", "begun-1"],
        ["begun-13", "begun-2"],
    ]


def alone(shared: Shared, seed: int, listen: Listener) -> State:
    """Run out of memory while another run uses another device."""
    folder, _ = shared
    with (folder / "tries").open("a") as file:
        file.write(f"{seed}\n")
    until(lambda: len(list(folder.parent.glob("*/tries"))) == 2)
    return State.OUT_OF_MEMORY


def test_a_run_that_is_alone_on_its_device_is_not_retried(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    shares, events = [(folder, torch.zeros(1)) for folder in folders], []
    states = run_in_parallel(alone, shares, [0, 1], workers=2, threads=1, listen=events.append)
    assert states == {0: State.OUT_OF_MEMORY, 1: State.OUT_OF_MEMORY}
    assert [(folder / "tries").read_text() for folder in folders] == ["0\n", "1\n"]
    assert events == []


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="needs Linux, which limits and counts a process's data"
)
def test_runs_out_of_memory_are_retried_with_half_as_many_in_parallel(tmp_path: Path) -> None:
    events: list[Event] = []
    shared = (tmp_path, torch.zeros(1))
    states = run_in_parallel(cramped, [shared], [0, 1, 2, 3], workers=4, threads=1, listen=events.append)
    assert states == {0: "finished", 1: State.OUT_OF_MEMORY, 2: "finished", 3: "finished"}
    assert len(set(pids(tmp_path))) <= 3  # the processes of the last attempts
    waiting = [(event.seed, event.text) for event in events if event.state == "waiting"]
    rooms = [f"out of memory; retried with at most {room} in parallel" for room in (2, 1)]
    assert {seed for seed, _ in waiting} == {0, 1, 2, 3}
    assert [text for seed, text in waiting if seed == 1] == rooms
    assert {text for _, text in waiting} == set(rooms)
    failed = [event for event in events if event.state == "failed"]
    assert len(failed) == len(waiting) + 1  # seed 1 alone
    for event in failed:
        expected = f"{ADVICE} (RuntimeError: "
        assert event.text.startswith(expected)
        assert "can't allocate memory" in event.text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_failures(error: Exception, expected: bool) -> None:
    assert out_of_memory(error) is expected
    assert ("dataset.batch_size" in reason(error)) is expected
    assert "\n" not in reason(error)


def test_an_interrupt_waits_until_each_has_ended(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A terminal sends SIGINT to every process, and the parent passes it on. The second signal is ignored."""

    def listen(event: Event) -> None:
        if len(marks(tmp_path, "begun")) == 2:
            for pid in pids(tmp_path):
                os.kill(pid, signal.SIGINT)
            until(lambda: len(marks(tmp_path, "ending")) == 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_parallel(patient, [(tmp_path, torch.zeros(1))], [0, 1, 2], workers=2, threads=1, listen=listen)
    assert [mark.name for mark in marks(tmp_path, "ended")] == ["ended-0", "ended-1"]
    assert all(map(gone, pids(tmp_path)))
    assert "Traceback" not in capfd.readouterr().err


def test_an_interrupted_run_says_so_at_its_end(tmp_path: Path) -> None:
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        if len(marks(tmp_path, "begun")) == 2 and not marks(tmp_path, "asked"):
            (tmp_path / "asked-0").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_parallel(patient, [(tmp_path, torch.zeros(1))], [0, 1], workers=2, threads=1, listen=listen)
    ended = {event.seed: event.state for event in heard if event.kind == "ended"}
    assert ended == {0: State.INTERRUPTED, 1: State.INTERRUPTED}


def test_processes_that_do_not_end_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PATIENCE", 0.5)

    def listen(event: Event) -> None:
        if len(marks(tmp_path, "begun")) == 2 and not marks(tmp_path, "asked"):
            (tmp_path / "asked-0").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_parallel(stubborn, [(tmp_path, torch.zeros(1))], [0, 1], workers=2, threads=1, listen=listen)
    until(lambda: all(map(gone, pids(tmp_path))))


def test_runs_are_interrupted_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = multiprocessing.get_context("forkserver").Process(target=patiently, args=(tmp_path,))
    parent.start()
    until(lambda: len(marks(tmp_path, "begun")) == 2)
    parent.kill()
    until(lambda: len(marks(tmp_path, "ended")) == 2)
    until(lambda: all(map(gone, pids(tmp_path))))


def test_an_interrupt_waits_until_a_new_process_can_handle_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Loading torch takes seconds, and an interrupt within it would print a traceback."""
    worker = _Worker(patient, (tmp_path, torch.zeros(1)), threads=1)
    worker.give(0)
    worker.interrupt()
    worker.process.join(60)
    assert worker.process.exitcode == 0
    assert capfd.readouterr().err == ""
    worker.close(time.monotonic())


def test_a_worker_ignores_ctrl_c_if_its_parent_does(tmp_path: Path) -> None:
    """A shell script starts its background jobs so. The parent can still stop the worker."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        worker = _Worker(patient, (tmp_path, torch.zeros(1)), threads=1)
    finally:
        signal.signal(signal.SIGINT, before)
    worker.give(0)
    (pid,) = until(lambda: pids(tmp_path))
    os.kill(pid, signal.SIGINT)
    time.sleep(0.2)
    assert marks(tmp_path, "ending") == []
    worker.interrupt()
    worker.process.join(60)
    assert worker.process.exitcode == 0
    assert len(marks(tmp_path, "ended")) == 1
    worker.close(time.monotonic())


def test_two_signals_at_once_are_one_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with held_back():
            for number in SIGNALS:
                signal.pthread_kill(threading.get_ident(), number)
            with pytest.raises(KeyboardInterrupt):
                interrupt_once()
            assert signal.sigpending() == set()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert unraisable == []


def test_a_termination_is_an_interrupt_for_a_while() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_leaves_signals_alone() -> None:
    def enter() -> bool:
        with sigterm_interrupts():
            return signal.getsignal(signal.SIGTERM) is before

    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(enter).result()
