"""Pictures of records. Colours are Okabe and Ito's, which colour-blind readers tell apart."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no screen is needed, and none may be there

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

Rows = Sequence[Mapping[str, Any]]
"""The metrics of one run, a row an epoch."""


def error_and_factor(cells: Mapping[str, Sequence[Rows]], path: Path) -> None:
    """Test error and learning-rate factor against gradient calls: mean over the runs of each cell, and their range as a band."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for colour, (name, runs) in zip(COLOURS, cells.items(), strict=False):
        _curve(left, name, colour, runs, "test_accuracy", lambda accuracy: 100 - accuracy)
        _curve(right, name, colour, runs, "lr_factor", lambda factor: factor)
    left.set(xlabel="gradient calls", ylabel="test error (%)", yscale="log", title="Test error")
    right.set(xlabel="gradient calls", ylabel="η / η0", title="Learning-rate factor")
    right.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    for axes in (left, right):
        axes.grid(alpha=0.25)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _curve(axes: Axes, name: str, colour: str, runs: Sequence[Rows], metric: str, change: Any) -> None:
    """Nothing is drawn for a metric that the runs do not have; runs are compared where all of them have been."""
    curves = [[(row["gradient_calls"], change(row[metric])) for row in rows if metric in row] for rows in runs]
    epochs = min((len(curve) for curve in curves), default=0)
    if not epochs:
        return
    values = np.array([[value for _, value in curve[:epochs]] for curve in curves])
    calls = [call for call, _ in curves[0][:epochs]]
    axes.plot(calls, values.mean(0), color=colour, label=name, linewidth=1.8)
    axes.fill_between(calls, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)
