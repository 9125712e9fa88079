"""What somebody who waits for a run sees: bars on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from salr.training.events import Event


def describe(row: Mapping[str, Any]) -> str:
    """The metrics worth a glance, in one line."""
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
"""Is told every event too, and says in a few words how far all is of which these runs are a part."""


class LineDisplay(AbstractContextManager["LineDisplay"]):
    """A line an epoch."""

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
    """A bar a run."""

    def __init__(self, title: str, watch: Watch, console: Console) -> None:
        self._watch = watch
        console.print(title, highlight=False)
        columns = (TextColumn("  seed {task.fields[seed]:>3}"), BarColumn(), TextColumn("{task.fields[at]}"))
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, *times, TextColumn("{task.fields[text]}"), console=console)
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
        at = f"{int(event.epoch)}/{event.epochs}" if event.epochs else ""
        if event.seed not in self._tasks:
            self._tasks[event.seed] = self._progress.add_task(
                "", total=event.epochs or None, seed=event.seed, at=at, text=""
            )
        task = self._tasks[event.seed]
        if event.kind == "ended":
            self._progress.update(task, text=f"{event.state} {event.text}")
            self._progress.stop_task(task)
            return
        self._progress.update(task, completed=event.epoch, at=at)
        if event.row:
            self._progress.update(task, text=_join(describe(event.row), event.text, overall))


def display(title: str, watch: Watch | None = None) -> LineDisplay | BarDisplay:
    console, overall = Console(file=sys.stderr), watch or (lambda event: "")
    return BarDisplay(title, overall, console) if console.is_terminal else LineDisplay(title, overall)


def _join(*words: str) -> str:
    return ", ".join(filter(None, words))
