"""The paper's tables as measured, from records alone."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from salr.records import Run
from salr.reporting.published import Published
from salr.reporting.statistics import Difference, Estimate, difference, estimate, holm

BASES = {
    "sgd_salr": "sgd",
    "entropy_sgd_salr": "entropy_sgd",
    "adam_salr": "adam",
    "entropy_adam_salr": "entropy_adam",
}
"""The method that each SALR method adds to; where a table has no such method (Table 9), the comparison is with its first one."""


@dataclass(frozen=True)
class Wanted:
    """A cell of a table: what the paper prints there, and the runs that are to fill it, begun or not.

    ``dataset``, ``network`` and ``optimizer`` are what is really trained, which a preset for trying things out may replace;
    ``command`` is the line that trains it.
    """

    published: Published
    dataset: str
    network: str
    optimizer: str
    runs: tuple[Run, ...]
    command: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell as measured. ``values`` by seed, of finished runs; ``states`` counts the others."""

    wanted: Wanted
    values: dict[int, float]
    states: dict[str, int]
    rows: tuple[dict[str, Any], ...] = field(repr=False)

    @property
    def estimate(self) -> Estimate:
        return estimate([self.values[seed] for seed in sorted(self.values)])

    @property
    def complete(self) -> bool:
        return len(self.values) == len(self.wanted.runs)

    def mean_of(self, name: str) -> float:
        """Mean over the finished runs of a number in their summaries."""
        return estimate([row[name] for row in self.rows]).mean

    @property
    def others(self) -> str:
        """What became of the runs that do not count, in words; empty where all count."""
        return ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))


@dataclass(frozen=True)
class Comparison:
    """A SALR method against what it adds to, on one data set and network."""

    method: str
    against: str
    first: Cell
    second: Cell
    difference: Difference

    @property
    def favours(self) -> str:
        """ "method", "against" or "neither": who is better beyond doubt, at 5 % after Holm's correction."""
        p = self.difference.adjusted
        if math.isnan(p) or p >= 0.05 or self.difference.mean == 0:
            return "neither"
        better = (
            self.difference.mean > 0
            if higher_is_better(self.first.wanted.published.metric)
            else self.difference.mean < 0
        )
        return "method" if better else "against"


@dataclass(frozen=True)
class Table:
    number: int
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    preset: str
    caption: str
    remarks: tuple[str, ...]


def higher_is_better(metric: str) -> bool:
    return metric == "accuracy_percent"


def make_table(
    number: int,
    wanted: Iterable[Wanted],
    preset: str = "paper",
    caption: str = "",
    remarks: Sequence[str] = (),
) -> Table:
    """Reads the records. Nothing that has not finished is averaged; p-values are corrected over the table's comparisons."""
    cells = tuple(_measure(cell, preset) for cell in wanted)
    comparisons = list(_compare(cells))
    adjusted = holm([comparison.difference.p for comparison in comparisons])
    corrected = (
        replace(comparison, difference=replace(comparison.difference, adjusted=p))
        for comparison, p in zip(comparisons, adjusted, strict=True)
    )
    return Table(number, cells, tuple(corrected), preset, caption, tuple(remarks))


def _measure(wanted: Wanted, preset: str) -> Cell:
    values, rows = {}, []
    states: Counter[str] = Counter()
    for run in wanted.runs:
        state = run.state()
        summary = run.read_json("summary.json") if state == "finished" else None
        value = None if summary is None else _value(run, summary, wanted.published, preset)
        if value is None or summary is None:
            states["missing" if state == "absent" else "unmeasured" if state == "finished" else state] += 1
        else:
            values[run.seed] = value
            rows.append(summary)
    return Cell(wanted, values, dict(states), tuple(rows))


def _value(run: Run, summary: dict[str, Any], published: Published, preset: str) -> float | None:
    """The run's number in the table's unit; None where it has not been measured."""
    if published.metric == "sharpness_1e-3":
        measured = run.read_json("sharpness.json")
        # A measure on a part of the training set is none of the table's, unless the table is for trying things out.
        whole = measured is not None and (
            preset == "smoke" or measured["measured"]["ascent_descent"]["examples"] is None
        )
        return 1e3 * float(measured["ascent_descent"]) if measured is not None and whole else None
    if published.metric == "accuracy_percent":
        return summary.get("test_accuracy")
    return summary.get("test_loss" if published.dataset == "war_and_peace" else "test_perplexity")


def _compare(cells: Sequence[Cell]) -> Iterable[Comparison]:
    places: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in cells:
        printed = cell.wanted.published
        places.setdefault((printed.dataset, printed.network), {})[printed.method] = cell
    for methods in places.values():
        for method, first in methods.items():
            base = BASES.get(method)
            if base is None:
                continue
            for against in [base] if base in methods else [other for other in methods if other not in BASES]:
                second = methods[against]
                yield Comparison(method, against, first, second, difference(first.values, second.values))
