"""A small table that is trained through a launcher in its own process, and what it leaves on disk."""

import contextlib
import csv
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from salr.records import find_runs
from salr.reporting.csv_files import TIMES
from tests.helpers.commands import ROOT

LONG = 20
"""Epochs. A run takes seconds, so that it can be stopped halfway."""


class Sweep:
    def __init__(
        self, results: Path, launcher: str, environment: Mapping[str, str], arguments: tuple[str, ...]
    ) -> None:
        self.output = results.with_suffix(".txt")
        chosen = ["9", "--preset", "smoke", "--seeds", "1", "--launcher", launcher]
        values = [f"results={results}", f"trainer.epochs={LONG}", "trainer.threads=1", *arguments]
        command = [sys.executable, str(ROOT / "scripts" / "table.py"), *chosen, "--override", *values]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                command,
                cwd=results.parent,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, seconds: float = 1200) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(self.output.read_text()) from error


@contextlib.contextmanager
def sweep(
    results: Path, launcher: str, environment: Mapping[str, str] = os.environ, *arguments: str
) -> Iterator[Sweep]:
    started = Sweep(results, launcher, environment, arguments)
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.process.pid, signal.SIGKILL)  # with the process that waits for the jobs
        started.process.wait()


def epochs_of(results: Path) -> int:
    """Return the most epochs that a running run has done; safe while it is trained."""
    files = [run.folder / "metrics.jsonl" for run in find_runs(results) if run.state() == "running"]
    return max((file.read_bytes().count(b"\n") for file in files if file.exists()), default=0)


def tables(results: Path) -> dict[str, object]:
    """Return the tables without the columns that hold times."""
    texts = {path.name: path.read_text() for path in (results / "tables").iterdir()}
    assert {name.rpartition(".")[2] for name in texts} == {"csv", "md", "tex"}
    return {name: _timeless(text) if name.endswith("csv") else text for name, text in texts.items()}


def _timeless(text: str) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if name not in TIMES}
        for row in csv.DictReader(io.StringIO(text))
    ]
