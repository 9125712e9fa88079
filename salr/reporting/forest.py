"""Pictures of tables and claims: intervals side by side."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from salr.reporting.bootstrap import Aggregate, Interval
from salr.reporting.cells import Cell
from salr.reporting.figures import COLOURS, save
from salr.reporting.methods import name_of
from salr.reporting.metrics import METRICS
from salr.reporting.statistics import ALPHA, Estimate
from salr.reporting.tables import Table
from salr.reporting.verdicts import Verdict

MEASURED, PUBLISHED = COLOURS[0], COLOURS[1]


def forest(table: Table, path: Path) -> None:
    """Draw measured means with 95 % intervals beside published ones; a panel per unit and data set."""
    panels: dict[tuple[str, str], list[Cell]] = {}
    for cell in table.cells:
        if cell.values:
            panels.setdefault((cell.metric.name, cell.wanted.published.dataset), []).append(cell)
    heights = [len(cells) + 1.5 for cells in panels.values()]
    size = 8, 1.2 + 0.32 * sum(heights)
    figure, axes = plt.subplots(
        len(panels), figsize=size, layout="constrained", height_ratios=heights, squeeze=False
    )
    for part, cells in zip(axes[:, 0], panels.values(), strict=True):
        _panel(part, cells)
    axes[0, 0].legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    save(figure, path)


def aggregates(verdicts: Sequence[Verdict], path: Path) -> None:
    """Draw the mean improvement and its probability for each claim; a row of panels per unit."""
    units: dict[str, list[tuple[str, Aggregate]]] = {}
    for each in verdicts:
        if each.aggregate is not None:
            name = f"({each.claim.letter}) {each.aggregate.pairs} comparisons"
            units.setdefault(each.claim.main_metric, []).append((name, each.aggregate))
    heights = [len(rows) + 1.5 for rows in units.values()]
    size = 9, 0.8 + 0.45 * sum(heights)
    figure, axes = plt.subplots(
        len(units), 2, figsize=size, layout="constrained", height_ratios=heights, squeeze=False
    )
    for (metric, rows), (left, right) in zip(units.items(), axes, strict=True):
        _intervals(left, [aggregate.mean_difference for _, aggregate in rows], 0)
        _intervals(right, [aggregate.improvement for _, aggregate in rows], 0.5)
        left.set_yticks(range(len(rows)), [name for name, _ in rows])
        right.set_yticks(range(len(rows)), [""] * len(rows))
        left.set_xlabel(f"mean improvement: {METRICS[metric].label}")
        right.set(xlabel="probability that a run is better", xlim=(-0.02, 1.02))
    save(figure, path)


def _intervals(axes: Axes, intervals: Sequence[Interval], neutral: float) -> None:
    for place, each in enumerate(intervals):
        reach = np.maximum([[each.value - each.low], [each.high - each.value]], 0)
        axes.errorbar(each.value, place, xerr=reach, fmt="o", color=MEASURED, capsize=3)
    axes.axvline(neutral, color="grey", linewidth=0.8, linestyle=":")
    axes.set_ylim(len(intervals) - 0.5, -0.5)
    axes.grid(alpha=0.25, axis="x")


def _panel(axes: Axes, cells: Sequence[Cell]) -> None:
    for place, cell in enumerate(cells):
        measured = axes.errorbar(
            cell.estimate.mean, place, xerr=_reach(cell.estimate), fmt="o", color=MEASURED, capsize=3
        )
        (published,) = axes.plot(
            cell.wanted.published.mean,
            place,
            "D",
            markerfacecolor="none",
            markeredgecolor=PUBLISHED,
            markersize=8,
            linestyle="",
        )
        if place == 0:
            measured.set_label("measured, 95 % interval over seeds")
            published.set_label("published")
    axes.set_yticks(range(len(cells)), map(_name, cells))
    axes.set_ylim(len(cells) - 0.5, -0.5)
    axes.set_xlabel(cells[0].metric.label)
    axes.grid(alpha=0.25, axis="x")


def _name(cell: Cell) -> str:
    printed = cell.wanted.published
    return f"{printed.dataset} {printed.network} {name_of(printed.method)} (n={cell.estimate.n})"


def _reach(value: Estimate) -> float:
    """Return half the width of the interval of a mean; 0 if one run gives none."""
    if value.n < 2:
        return 0.0
    return float(stats.t.isf(ALPHA / 2, value.n - 1)) * value.std / float(np.sqrt(value.n))
