"""Show the progress of runs: bars on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from salr.training.events import Event


def describe(row: Mapping[str, Any]) -> str:
    """Return the most important metrics of an epoch in one line."""
    words = [f"loss {row['train_loss']:.4f}"] if "train_loss" in row else []
    for name, form in (
        ("test_accuracy", "test accuracy {:.2f} %"),
        ("test_perplexity", "test perplexity {:.2f}"),
    ):
        if name in row:
            words.append(form.format(row[name]))
    if "lr_factor" in row:
        words.append(f"factor {row['lr_factor']:.3f}")
    return ", ".join(words)


Watch = Callable[[Event], str]
"""Receive every event, and return in a few words how far the whole sweep is."""


class LineDisplay(AbstractContextManager["LineDisplay"]):
    """Print one line per epoch."""

    def __init__(self, title: str, watch: Watch) -> None:
        self._watch = watch
        print(title, flush=True)

    def __call__(self, event: Event) -> None:
        overall = self._watch(event)
        if event.kind == "begun" and event.epoch:
            self._print(event, f"resumed after epoch {event.epoch:g} of {event.epochs}")
        elif event.kind == "epoch":
            self._print(
                event,
                f"epoch {event.epoch:g}/{event.epochs}: {_join(describe(event.row), event.text, overall)}",
            )
        elif event.kind == "ended":
            self._print(event, f"{event.state}{': ' + event.text if event.text else ''}")

    def __exit__(self, *_: object) -> None:
        pass

    def _print(self, event: Event, text: str) -> None:
        print(f"  seed {event.seed}: {text}", flush=True)


class BarDisplay(AbstractContextManager["BarDisplay"]):
    """Show one bar per run."""

    def __init__(self, title: str, watch: Watch, console: Console) -> None:
        self._watch = watch
        console.print(title, highlight=False)
        # The text takes what is left of the line: otherwise a longer text would shorten the bar.
        rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self._progress = Progress(
            TextColumn("  seed {task.fields[seed]:>3}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[at]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", table_column=rest),
            console=console,
            expand=True,
        )
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        overall = self._watch(event)
        at = f"{int(event.epoch):>{len(str(event.epochs))}}/{event.epochs}" if event.epochs else ""
        if event.seed not in self._tasks:
            self._tasks[event.seed] = self._progress.add_task(
                "", total=event.epochs or None, seed=event.seed, at=at, text=""
            )
        task = self._tasks[event.seed]
        if event.kind == "ended":
            self._progress.update(task, text=event.state)
            self._progress.stop_task(task)
            if event.text:  # above the bars, which have no room for it
                line = f"  seed {event.seed}: {event.state}: {event.text}"
                self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)
            return
        self._progress.update(task, completed=event.epoch, at=at)
        if event.row:
            self._progress.update(task, text=_join(describe(event.row), event.text, overall))


def display(title: str, watch: Watch | None = None) -> LineDisplay | BarDisplay:
    """Return the display that suits the terminal. It is a context manager and a listener."""
    console, overall = Console(file=sys.stderr), watch or (lambda event: "")
    return BarDisplay(title, overall, console) if console.is_terminal else LineDisplay(title, overall)


def _join(*words: str) -> str:
    return ", ".join(filter(None, words))
