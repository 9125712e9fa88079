"""Command lines in processes that can be killed, and what their runs leave on disk."""

import contextlib
import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import forkserver
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from experiments.cli import attempt
from experiments.train import main
from salr.records import Run, find_runs

ROOT = Path(__file__).parents[2]
SMALL = ("model=lenet", "dataset.batch_size=240", "trainer.epochs=4", "trainer.threads=1")
TIMES = {"seconds", "evaluation_seconds"}


class Command:
    """``python train.py`` in its own folder and process, forked from one that has already imported torch."""

    def __init__(
        self, folder: Path, *arguments: str, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["experiments.train", "experiments.seeds", "sklearn.datasets"])
        with contextlib.chdir(ROOT):
            forkserver.ensure_running()
        folder.mkdir(exist_ok=True)
        self._output = folder.with_name(f"{folder.name}-{time.monotonic_ns()}.txt")
        self.process = context.Process(
            target=_command, args=(folder, self._output, arguments, dict(environment))
        )
        self.process.start()

    def wait(self, seconds: float = 600) -> int:
        """Return the exit code, negative for a signal."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(self.text)
        return self.process.exitcode

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        assert self.process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    @property
    def running(self) -> bool:
        return self.process.exitcode is None

    @property
    def text(self) -> str:
        """What the process has printed, errors included."""
        return self._output.read_text() if self._output.exists() else ""


def _command(folder: Path, output: Path, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    os.environ.pop("WANDB_SERVICE", None)  # a W&B process of the tests, which may have ended
    os.environ.update(environment)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(folder)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    sys.argv = ["train.py", *arguments]
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")


def run_script(script: ModuleType, arguments: list[str]) -> int:
    """Return the exit code of a script of ``scripts/``, run in this process."""
    assert script.__file__ is not None
    with mock.patch.object(sys, "argv", [Path(script.__file__).name, *arguments]):
        return attempt(lambda: script.main(arguments))


def train(arguments: list[str]) -> int:
    """Return what ``python train.py`` returns, but in this process."""
    with mock.patch.object(sys, "argv", ["train.py", *arguments]):
        return attempt(lambda: main(arguments))


@contextlib.contextmanager
def command(folder: Path, *arguments: str, **options: Any) -> Iterator[Command]:
    started = Command(folder, *arguments, **options)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.join()


def until(condition: Callable[[], Any], seconds: float = 600) -> Any:
    """Wait until the condition holds, and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


def gone(pid: int) -> bool:
    """Return whether a process has ended, even if nobody has waited for it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def runs(results: Path) -> dict[int, Run]:
    """Return the runs of a results folder with one cell, by seed."""
    return {run.seed: run for run in find_runs(results)}


def epochs_done(results: Path, seed: int = 0) -> int:
    """Return the number of metrics lines; safe while the run is trained."""
    run = runs(results).get(seed)
    path = None if run is None else run.folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path is not None and path.exists() else 0


def left(run: Run) -> dict[str, Any]:
    """Return all that a run has recorded, except times and provenance, so that it compares bit for bit."""
    state = torch.load(run.folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    summary, iterations = run.read_json("summary.json") or {}, run.read_json("iterations.json")
    config = run.read_config() or {}
    return {
        "checkpoint": _bits(state),
        "metrics": repr([_timeless(row) for row in run.read_metrics()]),
        "summary": repr(_timeless({name: value for name, value in summary.items() if name != "made_by"})),
        "iterations": repr(iterations),
        "config": {
            name: value for name, value in config.items() if name not in ("results", "trainer", "tracker")
        },
    }


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in TIMES}


def _bits(state: Any) -> Any:
    if isinstance(state, Tensor):
        return (
            str(state.dtype),
            tuple(state.shape),
            state.contiguous().flatten().view(torch.uint8).numpy().tobytes(),
        )
    if isinstance(state, dict):
        return {name: _bits(value) for name, value in state.items() if name not in TIMES}
    if isinstance(state, list | tuple):
        return [_bits(value) for value in state]
    return repr(state)
