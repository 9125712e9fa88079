"""The mean and deviation of a cell's seeds, from their records."""

import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from salr.records import Run

HEADLINES = {"test_accuracy": "test accuracy (%)", "test_perplexity": "test perplexity"}


@dataclass(frozen=True)
class CellSummary:
    """One cell; ``rows`` are the summaries of its finished runs, ``states`` counts all of its runs."""

    name: str
    states: dict[str, int]
    rows: tuple[dict[str, Any], ...]

    @property
    def headline(self) -> str | None:
        """The metric that the cell is judged by; None if nothing has finished."""
        return next((name for name in HEADLINES if self.rows and name in self.rows[0]), None)

    def mean_std(self, name: str) -> tuple[float, float]:
        """Return mean and sample standard deviation over the finished runs; NaN if there are too few."""
        values = [row[name] for row in self.rows]
        mean = statistics.fmean(values) if values else float("nan")
        return mean, statistics.stdev(values) if len(values) > 1 else float("nan")


def summarise(name: str, runs: Iterable[Run]) -> CellSummary:
    """Read the records. A run that has not finished counts in ``states`` only."""
    states: dict[str, int] = {}
    rows = []
    for run in runs:
        state, summary = run.state(), run.read_json("summary.json")
        states[state] = states.get(state, 0) + 1
        if state == "finished" and summary is not None:
            rows.append(summary)
    return CellSummary(name, states, tuple(rows))


def text_table(cells: Sequence[CellSummary]) -> str:
    """Return mean, standard deviation, n, gradient calls and seconds of each cell, in columns."""
    header = ("cell", "metric", "mean", "std", "n", "epochs", "gradient calls", "seconds per run", "others")
    return aligned([header, *(_line(cell) for cell in cells)], left=(0, 1, 8))


def aligned(lines: Sequence[Sequence[str]], left: Collection[int]) -> str:
    """Return lines of texts in columns; those named in ``left`` begin at the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [
            text.ljust(width) if place in left else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _line(cell: CellSummary) -> tuple[str, ...]:
    others = ", ".join(
        f"{count} {state}" for state, count in sorted(cell.states.items()) if state != "finished"
    )
    metric = cell.headline
    if metric is None:
        return (cell.name, "", "", "", "0", "", "", "", others)
    mean, std = cell.mean_std(metric)
    calls, seconds = cell.mean_std("gradient_calls")[0], cell.mean_std("seconds")[0]
    numbers = (f"{mean:.2f}", "" if std != std else f"{std:.2f}", str(len(cell.rows)))
    return (
        cell.name,
        HEADLINES[metric],
        *numbers,
        str(cell.rows[0]["epochs"]),
        f"{calls:.0f}",
        f"{seconds:.1f}",
        others,
    )
