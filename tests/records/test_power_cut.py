"""A power cut at any moment loses no epoch that was recorded, and gives no wrong number.

The file operations of a small run are noted: starting, two epochs, finishing. From them the tests build the
states that a file system may leave after a power cut, and resume the run from each.
"""

import logging
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas
import pytest

from salr.optim import SALR
from salr.records import Run, State, check_writable, load_runs
from salr.records.metrics import read
from salr.training import Event
from tests.helpers.commands import TIMES, left
from tests.helpers.power_cut import Journal, Tree, lay_out, read_back
from tests.helpers.trainer import trainer

EPOCHS = 2

Choices = Callable[[Sequence[Any]], Sequence[Any]]


def train(results: Path) -> int:
    """Train the run as the application does. Return the epoch at which it began, -1 if it had ended."""
    begun: list[float] = []

    def listen(event: Event) -> None:
        if event.kind == "begun":
            begun.append(event.epoch)

    check_writable(results)
    one = trainer(results, wrap=SALR, epochs=EPOCHS, listen=listen)
    with one.run.claim():
        if one.run.state().settled:
            return -1
        assert one.train() is State.FINISHED
    return int(begun[0])


def noted(
    root: Path, monkeypatch: pytest.MonkeyPatch, before: Journal | None = None, until: int = 0
) -> Journal:
    """Train the run below ``root`` and note what it does."""
    root.mkdir(parents=True, exist_ok=True)
    journal = Journal(root, before, until)
    epochs = journal.promised(until).epochs
    write_checkpoint = Run.write_checkpoint

    def write_and_mark(run: Run, write: Callable[[Any], object]) -> None:
        nonlocal epochs
        write_checkpoint(run, write)
        epochs += 1
        journal.mark(epochs)

    with monkeypatch.context() as patch, journal.noting():
        patch.setattr(Run, "write_checkpoint", write_and_mark)
        train(root / "results")
    journal.mark(EPOCHS, finished=True)
    return journal


class Survival:
    """Resumes the run from one tree after another and compares it with the run that was never stopped."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING, logger="salr.records")
        self.folder, self.caplog = folder, caplog
        self.tried = self.damaged = self.trained_anew = 0
        self.seen: set[tuple[frozenset[tuple[str, bytes | None]], int, bool]] = set()
        train(folder / "whole")
        self.run = trainer(folder / "whole").run
        self.left = left(self.run)
        self.runs, self.epochs = load_runs(folder / "whole")

    def check_cuts(self, journal: Journal, moments: Iterable[int], choices: Choices) -> None:
        """Cut the power at each of the moments, and resume from what may be left."""
        for until in moments:
            promised = journal.promised(until)
            for tree in journal.left_by_a_power_cut(until, choices):
                self.check(tree, promised.epochs, promised.finished)

    def check(self, tree: Tree, epochs: int, finished: bool) -> None:
        """Resume from the tree. At least ``epochs`` epochs were durable."""
        key = (frozenset(tree.items()), epochs, finished)
        if key in self.seen:
            return
        self.seen.add(key)
        self.tried += 1
        root = self.folder / f"tree-{self.tried}"
        lay_out(tree, root)
        results = root / "results"
        run = trainer(results).run
        torn = self.is_torn(run)
        self.caplog.clear()

        self.no_wrong_number(results)
        begun = train(results)
        if finished:
            assert begun == -1
        elif begun != -1:
            assert begun in (epochs, epochs + 1)
        self.trained_anew += begun == 0

        assert bool(self.caplog.messages) == torn, self.caplog.messages
        assert all("metrics.jsonl" in message for message in self.caplog.messages)
        self.damaged += torn
        assert left(run) == self.left
        leftovers = [name for name in read_back(root) if "damaged" in name or name.endswith("partial")]
        assert leftovers == []

    def is_torn(self, run: Run) -> bool:
        path = run.folder / "metrics.jsonl"
        if not path.exists():
            return False
        whole = [line for line in path.read_bytes().split(b"\n") if line]
        return len(read(path)) != len(whole) or not (path.read_bytes() or b"\n").endswith(b"\n")

    def no_wrong_number(self, results: Path) -> None:
        """Compare every value in the tables, other than times, with the run that was never stopped."""
        runs, epochs = load_runs(results)
        assert len(runs) <= 1
        for expected, found in ((self.runs, runs), (self.epochs, epochs)):
            timeless = [name for name in found if name not in TIMES and name != "state"]
            for _, row in found[timeless].iterrows():
                true = expected.iloc[int(row["epoch"]) - 1 if found is epochs else 0]
                for name, value in row.items():
                    assert is_missing(value) or value == true[name], (name, value)
        assert set(runs.get("state", [])) <= {"absent", "interrupted", "finished"}


def is_missing(value: object) -> bool:
    return not isinstance(value, tuple) and bool(pandas.isna(value))


def all_of(combinations: Sequence[Any]) -> Sequence[Any]:
    """Take all combinations, or 40 of them, the first and the last included."""
    if len(combinations) <= 40:
        return combinations
    return [combinations[0], *random.Random(0).sample(combinations[1:-1], 38), combinations[-1]]


def few_of(combinations: Sequence[Any]) -> Sequence[Any]:
    """Take at most four: nothing that was not synced, and three at random."""
    chance = random.Random(len(combinations))
    return [combinations[0], *chance.sample(combinations[1:], min(3, len(combinations) - 1))]


def first_of(combinations: Sequence[Any]) -> Sequence[Any]:
    """Take the worst: nothing that was not synced."""
    return combinations[:1]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing wait for the real disk: only the order of the operations matters here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def survival(tmp_path: Path, caplog: pytest.LogCaptureFixture, quick_disk: None) -> Iterator[Survival]:
    survival = Survival(tmp_path, caplog)
    yield survival
    print(
        f"{survival.tried} states, {survival.damaged} with torn metrics, "
        f"{survival.trained_anew} before an epoch was durable"
    )


def test_noted_operations_give_the_real_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = noted(tmp_path, monkeypatch)
    assert journal.whole() == read_back(tmp_path)


@pytest.mark.parametrize("choices", [few_of, pytest.param(all_of, marks=pytest.mark.soak)])
def test_a_power_cut_at_any_moment(
    choices: Choices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survival: Survival
) -> None:
    journal = noted(tmp_path / "noted", monkeypatch)
    survival.check_cuts(journal, range(len(journal.operations) + 1), choices)
    assert survival.tried > 60
    assert survival.damaged > 0
    assert survival.trained_anew > 0


@pytest.mark.parametrize("step", [19, pytest.param(3, marks=pytest.mark.soak)])
def test_a_kill_and_then_a_power_cut(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survival: Survival
) -> None:
    """A killed process may have done things that it did not sync; the next one must not rely on them."""
    first = noted(tmp_path / "noted", monkeypatch)
    for kill in range(step, len(first.operations), step):
        root = tmp_path / f"killed-{kill}"
        lay_out(first.whole(kill), root)
        journal = noted(root, monkeypatch, first, kill)
        survival.check_cuts(journal, range(kill, len(journal.operations) + 1, step), first_of)
    assert survival.tried > 3


@pytest.mark.parametrize("number", [1, pytest.param(20, marks=pytest.mark.soak)])
def test_a_power_cut_while_resuming_from_one(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survival: Survival
) -> None:
    first = noted(tmp_path / "noted", monkeypatch)
    cuts = [
        (tree, first.promised(until))
        for until in range(len(first.operations))
        for tree in first.left_by_a_power_cut(until, all_of)
        if first.promised(until).epochs
    ]
    for tree, promised in random.Random(0).sample(cuts, number):
        root = tmp_path / f"cut-{survival.tried}"
        lay_out(tree, root)
        before = Journal.durable(tree, root, promised)
        journal = noted(root, monkeypatch, before, len(before.operations))
        start = len(before.operations)
        survival.check_cuts(journal, range(start, len(journal.operations) + 1), first_of)
    assert survival.tried > number
