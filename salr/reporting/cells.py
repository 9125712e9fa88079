"""A cell of a table: what is wanted, and what its records hold."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from salr.records import Run, State
from salr.reporting.methods import name_of
from salr.reporting.metrics import METRICS, Metric
from salr.reporting.published import Published
from salr.reporting.statistics import (
    NO_DIFFERENCE,
    Difference,
    Estimate,
    difference,
    estimate,
    sampling_error,
    welch,
)


@dataclass(frozen=True)
class Wanted:
    """A cell of a table: what the paper prints, and the runs that are to fill it, begun or not.

    Attributes:
        dataset, network, optimizer: what is trained; the preset ``smoke`` trains others than the paper.
        command: the line that trains the cell.
        epochs: the budget of each run.
        test_examples: the size of the test set, if its sampling error is to be shown.
        precision: of the training.
    """

    published: Published
    dataset: str
    network: str
    optimizer: str
    runs: tuple[Run, ...]
    command: str = ""
    epochs: int | None = None
    test_examples: int | None = None
    precision: str = "float32"


@dataclass(frozen=True)
class Cell:
    """A cell as measured.

    Attributes:
        estimate: over the values.
        values: by seed, of finished runs.
        states: how many of the other runs are in which state.
        rows: the summaries of the runs that have values.
        gap: measured − published, and ``gap_p`` its p-value, corrected over all printed cells.
    """

    wanted: Wanted
    estimate: Estimate
    values: dict[int, float]
    states: dict[str, int]
    rows: tuple[dict[str, Any], ...] = field(repr=False)
    gap: Difference = NO_DIFFERENCE
    gap_p: float = float("nan")

    @property
    def metric(self) -> Metric:
        return METRICS[self.wanted.published.metric]

    @property
    def method(self) -> str:
        return name_of(self.wanted.published.method)

    @property
    def complete(self) -> bool:
        return len(self.values) == len(self.wanted.runs)

    @property
    def diverged(self) -> int:
        """How many runs diverged. The mean does not have them, so it is too good."""
        return self.states.get(State.DIVERGED, 0)

    @property
    def others(self) -> str:
        """The states of the runs that do not count, in words; empty if all count."""
        return ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))

    @property
    def sampling_error(self) -> float | None:
        """The standard error that the size of the test set gives to an accuracy."""
        examples = self.wanted.test_examples
        if examples is None or self.metric.name != "accuracy_percent" or not self.estimate.n:
            return None
        return sampling_error(self.estimate.mean, examples)

    def mean_of(self, name: str) -> float:
        """Return the mean over the finished runs of a number in their summaries."""
        return estimate([row[name] for row in self.rows]).mean

    def minus(self, other: "Cell") -> Difference:
        """Return this cell − another one: paired if at least two seeds are shared."""
        if self.values and other.values:
            return difference(self.values, other.values, self.metric.resolution)
        return welch(self.estimate, other.estimate, self.metric.resolution)


def measure(wanted: Wanted, preset: str) -> Cell:
    """Read the records of a cell. Only finished runs have values."""
    values, rows = {}, []
    states: Counter[str] = Counter()
    for run in wanted.runs:
        state = run.state()
        summary = run.read_json("summary.json") if state is State.FINISHED else None
        value = None if summary is None else _value(run, summary, wanted.published, preset)
        if value is None or summary is None:
            states[_WORDS.get(state, state)] += 1
        else:
            values[run.seed] = value
            rows.append(summary)
    return Cell(
        wanted, estimate([values[seed] for seed in sorted(values)]), values, dict(states), tuple(rows)
    )


_WORDS = {State.ABSENT: "missing", State.FINISHED: "unmeasured"}
"""The words for runs that have no value."""


def _value(run: Run, summary: dict[str, Any], published: Published, preset: str) -> float | None:
    """Return the run's number in the table's unit; None if it has not been measured."""
    if published.metric == "sharpness_1e-3":
        measured = run.read_json("sharpness.json")
        if measured is None or "ascent_descent" not in measured:
            return None
        # The paper measures on the whole training set; a table for trying things out may use a part of it.
        if preset != "smoke" and measured["measured"]["ascent_descent"]["examples"] is not None:
            return None
        return 1e3 * float(measured["ascent_descent"])
    column = METRICS[published.metric].curve
    return None if column is None else summary.get(column)
