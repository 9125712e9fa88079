"""First-order SALR beside SALR, from the runs that are kept: the same rate, and as many iterations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from reference_words import Table, seeds

from salr.records import load_runs
from salr.reporting.metrics import METRICS
from salr.reporting.statistics import Difference, Estimate, difference, estimate

ACCURACY = METRICS["accuracy_percent"]

PAPERS = {"gamma": 0.002, "descent_steps": 5, "ascent_steps": 5, "interval": 2, "shared_noise": True}
"""Values by which a run of SALR is the paper's, and not a variant."""

SAME = [
    "dataset",
    "model",
    "config.optimizer.base.lr",
    "config.dataset.batch_size",
    "config.dataset.validation",
    "config.trainer.precision",
    "epochs",
]
"""Columns in which the two must agree."""

HEAD = ("network, data", "η0", "epochs", "SALR", "first-order SALR", "difference [95 %]", "seeds")


@dataclass(frozen=True)
class Compared:
    """Both methods in one cell, over the seeds that both have."""

    place: str
    rate: float
    epochs: int
    exact: Estimate
    first: Estimate
    gap: Difference


def compared(results: Path) -> list[Compared]:
    """Return the test accuracies of both methods, cell by cell."""
    runs, _ = load_runs(results)
    if "config.optimizer.salr.gamma" not in runs or "test_accuracy" not in runs:
        return []
    finished = runs[runs.state == "finished"]
    papers = pd.concat([finished[f"config.optimizer.salr.{name}"] == PAPERS[name] for name in PAPERS], axis=1)
    exact = finished[(finished.optimizer == "sgd_salr") & papers.all(axis=1)]
    first = finished[finished.optimizer == "sgd_salr_first_order"]
    pairs = exact.merge(first, on=[*SAME, "seed"], suffixes=("_exact", "_first"))
    found = []
    for (dataset, network, rate, _, _, _, epochs), group in pairs.groupby(SAME, sort=True):
        sides = group.test_accuracy_exact, group.test_accuracy_first
        exactly, firstly = (dict(zip(group.seed, side, strict=True)) for side in sides)
        gap = difference(firstly, exactly, ACCURACY.resolution)
        means = (estimate(list(side)) for side in sides)
        found.append(Compared(f"{network}, {dataset}", rate, int(epochs), *means, gap))
    return found


def table(cells: Sequence[Compared]) -> Table:
    """Return the comparisons for people."""
    rows = []
    for cell in cells:
        span = f" [{_signed(cell.gap.low)}, {_signed(cell.gap.high)}]" if cell.gap.n > 1 else ""
        numbers = (_mean(cell.exact), _mean(cell.first), _signed(cell.gap.mean) + span, str(cell.gap.n))
        rows.append((cell.place, f"{cell.rate:g}", str(cell.epochs), *numbers))
    return HEAD, rows


def words(cell: Compared) -> str:
    """Return a comparison as a sentence."""
    gap = cell.gap
    span = f"95 % interval {_signed(gap.low)} to {_signed(gap.high)}, " if gap.n > 1 else ""
    size = ACCURACY.difference(_signed(gap.mean))
    return (
        f"{cell.place}, at the same rate (η0 = {cell.rate:g}) and for as many iterations: "
        f"first-order SALR minus SALR is {size} ({span}{seeds(str(gap.n))})."
    )


def _mean(values: Estimate) -> str:
    return f"{values.mean:.2f}" + (f" ({values.std:.2f})" if values.n > 1 else "")


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-0.00", "0.00").replace("+0.00", "0.00")
