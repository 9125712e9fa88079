#!/usr/bin/env python3
"""Train a cell with SALR under bfloat16 autocast, and compare each measurement with the one in float32.

Arguments choose the cell, as for train.py:

python scripts/rounding.py dataset=mnist model=mnistfc --iterations 9380 --every 20

Both use the same parameters, batch and dropout masks. The run follows the one in bfloat16.

Writes rounding_<dataset>_<model>_<optimizer>.csv (a row for each measurement), and the same with _summary: by
how many percent the factor in bfloat16 differs from the one in float32 (mean, standard deviation, largest),
over all iterations, and over the first and the last third.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from experiments.build import build_parts, device_of, load_data
from experiments.cli import Parser, start
from experiments.measuring import (
    PHASES,
    add_arguments,
    check_measurements,
    check_words,
    configurations,
    factors_of,
    train,
    write,
)
from experiments.schema import Config
from salr.closures import Evaluation
from salr.costs import MeasurementCost
from salr.optim import SALR
from salr.records import check_writable
from salr.sharpness import Measure
from salr.training import Task

FEWEST = 6
"""Measurements, so that each third of the run has two."""

TRAINER = ("trainer.device",)
"""The options of the trainer that have an effect."""


class InBoth(Measure):
    """A measure that is followed as the task evaluates it, in bfloat16, and noted in float32 as well.

    Args:
        measure: what SALR follows.
        task: the task of the closure.
        every: measurements from one that is noted to the next.
    """

    def __init__(self, measure: Measure, task: Task, every: int) -> None:
        self.followed, self.task, self.every = measure, task, every
        self.noted: list[tuple[int, float, float]] = []
        """(measurement, in bfloat16, in float32)."""
        self._count = 0

    @property
    def cost(self) -> MeasurementCost:
        return self.followed.cost

    def measure(self, evaluation: Evaluation, shared_noise: bool) -> Tensor:
        exact = None
        if self._count % self.every == 0:
            self.task.bf16 = False
            exact = float(self.followed.measure(evaluation, shared_noise))
            self.task.bf16 = True
            evaluation.discard()  # the step needs the gradient in bfloat16
        sharpness = self.followed.measure(evaluation, shared_noise)
        if exact is not None:
            self.noted.append((self._count, float(sharpness), exact))
        self._count += 1
        return sharpness


@dataclass(frozen=True)
class Row:
    """One measurement; a factor is the value divided by the median of those so far."""

    iteration: int
    bf16: float
    float32: float
    factor_bf16: float
    factor_float32: float


@dataclass(frozen=True)
class Summary:
    """By how many percent the two factors differ over a part of a run."""

    phase: str
    iterations: int
    measurements: int
    mean_percent: float
    std_percent: float
    largest_percent: float


def record(config: Config, iterations: int, every: int, seed: int) -> list[Row]:
    """Train the cell for some iterations and return its measurements."""
    device = device_of(config)
    parts = build_parts(config, seed, load_data(config, device), device)
    optimizer = parts.optimizer
    assert isinstance(optimizer, SALR)
    both = optimizer.sharpness_measure = InBoth(optimizer.sharpness_measure, parts.task, every)
    train(parts, seed, iterations)
    places, rounded, exact = (np.array(column) for column in zip(*both.noted, strict=True))
    columns = zip(places, rounded, exact, factors_of(rounded), factors_of(exact), strict=True)
    return [Row(int(place) * optimizer.interval, *values) for place, *values in columns]


def summarise(rows: Sequence[Row], iterations: int) -> list[Summary]:
    """Return the differences by phase."""
    percents = np.array([100 * (row.factor_bf16 / row.factor_float32 - 1) for row in rows])
    summaries = []
    for phase, (begin, end) in PHASES.items():
        part = percents[round(begin * len(rows)) : round(end * len(rows))]
        largest = float(part[np.abs(part).argmax()])
        summaries.append(
            Summary(phase, iterations, len(part), float(part.mean()), float(part.std(ddof=1)), largest)
        )
    return summaries


def main(arguments: Sequence[str]) -> int:
    parser = Parser(__doc__)
    add_arguments(parser, TRAINER)
    chosen = parser.parse_intermixed_args(arguments)
    if any(word.startswith("trainer.precision") for word in chosen.words):
        raise ValueError("trainer.precision: expected none, since both precisions are measured")
    check_words(chosen.words, TRAINER)
    (config,) = configurations([*chosen.words, "trainer.precision=bf16"], None)
    check_measurements(config, chosen.iterations, chosen.every, FEWEST)
    check_writable(chosen.output)
    rows = record(config, chosen.iterations, chosen.every, chosen.seed)
    name = f"rounding_{config.dataset.name}_{config.model.title}_{config.optimizer.name}"
    path, summaries = chosen.output / name, summarise(rows, chosen.iterations)
    write(rows, path.with_suffix(".csv"))
    write(summaries, path.with_name(f"{name}_summary.csv"))
    for each in summaries:
        numbers = (
            f"{each.mean_percent:+.3f} % ({each.std_percent:.3f}), at most {each.largest_percent:+.3f} %"
        )
        print(
            f"{each.phase:6} {each.measurements:5} measurements: factor in bfloat16 against float32 {numbers}"
        )
    return 0


if __name__ == "__main__":
    start(main)
