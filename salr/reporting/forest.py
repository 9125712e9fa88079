"""Pictures of tables and claims: intervals side by side."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from salr.reporting.figures import COLOURS, save
from salr.reporting.methods import name_of
from salr.reporting.metrics import METRICS
from salr.reporting.statistics import ALPHA, Estimate
from salr.reporting.tables import Cell, Table
from salr.reporting.verdicts import Verdict

MEASURED, PUBLISHED = COLOURS[0], COLOURS[1]


def forest(table: Table, path: Path) -> None:
    """Draw each measured cell's mean with its 95 % interval, and the published mean; one panel per unit."""
    shown = [cell for cell in table.cells if cell.values]
    metrics = list(dict.fromkeys(cell.metric.name for cell in shown))
    panels = [[cell for cell in shown if cell.metric.name == name] for name in metrics]
    heights = [len(cells) + 1.5 for cells in panels]
    figure, axes = plt.subplots(
        len(panels),
        figsize=(8, 1.2 + 0.32 * sum(heights)),
        layout="constrained",
        height_ratios=heights,
        squeeze=False,
    )
    for part, cells in zip(axes[:, 0], panels, strict=True):
        _panel(part, cells)
    axes[0, 0].legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    save(figure, path)


def aggregates(verdicts: Sequence[Verdict], path: Path) -> None:
    """Draw the mean difference and the probability of improvement of each claim, over its measured cells."""
    shown = [each for each in verdicts if each.aggregate is not None]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 1.4 + 0.5 * len(shown)), layout="constrained")
    names = []
    for place, each in enumerate(shown):
        assert each.aggregate is not None
        for axes, value in ((left, each.aggregate.mean_difference), (right, each.aggregate.improvement)):
            reach = [[value.value - value.low], [value.high - value.value]]
            axes.errorbar(value.value, place, xerr=np.maximum(reach, 0), fmt="o", color=MEASURED, capsize=3)
        names.append(f"({each.claim.letter}) {each.aggregate.cells} comparisons, {_unit(each)}")
    left.set_yticks(range(len(shown)), names)
    right.set_yticks(range(len(shown)), [""] * len(shown))
    left.set(xlabel="mean improvement over cells")
    right.set(xlabel="probability that a run is better", xlim=(-0.02, 1.02))
    for axes, neutral in ((left, 0), (right, 0.5)):
        axes.axvline(neutral, color="grey", linewidth=0.8, linestyle=":")
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.grid(alpha=0.25, axis="x")
    save(figure, path)


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


def _unit(verdict: Verdict) -> str:
    metric = verdict.claim.main_metric
    return "points of accuracy" if metric == "accuracy_percent" else METRICS[metric].label
