"""Pictures of records: curves over training, and how all of them are saved."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no screen is needed, and there may be none

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from salr.records import atomic
from salr.reporting.methods import COLOURS, Style, style_of, takes_a_fifth
from salr.reporting.metrics import METRICS, Metric

__all__ = ["COLOURS", "Rows", "error_and_factor", "figure4_left", "figure4_right", "save"]

Rows = Sequence[Mapping[str, Any]]
"""The metrics of one run, a row per epoch."""

Cells = Mapping[str, Sequence[Rows]]
"""The runs of each method, by the name of its configuration."""


def error_and_factor(cells: Cells, path: Path, title: str = "", metric: Metric | None = None) -> None:
    """Draw the test error, perplexity or loss and the learning-rate factor against gradient calls.

    Lines are means over the runs of a method. Bands are the range over runs; the bands of the factor are its
    5 % and 95 % quantiles within an epoch, if the records have them.

    Args:
        metric: what is drawn on the left; None for what the records have.
    """
    drawn = metric or _metric_of(cells)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for method, runs in cells.items():
        style, label = style_of(method), _label(method, runs)
        _draw(left, style, label, _Curve(runs, "gradient_calls", drawn.curve, _error(drawn)))
        factor = _Curve(runs, "gradient_calls", "lr_factor", bands=("lr_factor_low", "lr_factor_high"))
        _draw(right, style, label, factor)
    _measured_axis(left, drawn)
    left.set_xlabel("gradient calls")
    right.set(xlabel="gradient calls", ylabel="η / η0 (median of the epoch)")
    right.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    figure.suptitle(title)
    _finish(figure, (left, right), path)


def figure4_left(cells: Cells, path: Path, title: str = "", metric: Metric | None = None) -> None:
    """Draw the test error over epochs: plain methods on the lower axis, Entropy and SALR methods above."""
    drawn = metric or _metric_of(cells)
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    upper = axes.twiny()
    longest = {False: 1, True: 1}
    for method, runs in cells.items():
        fifth = takes_a_fifth(method)
        longest[fifth] = max([longest[fifth], *map(len, runs)])
        curve = _Curve(runs, "epoch", drawn.curve, _error(drawn))
        _draw(upper if fifth else axes, style_of(method), _label(method, runs), curve)
    _measured_axis(axes, drawn)
    axes.set_xlabel("epoch (methods with one gradient per iteration)")
    axes.set_xlim(0, longest[False] * 1.02)
    upper.set_xlabel("epoch (Entropy and SALR methods)")
    upper.set_xlim(0, longest[True] * 1.02)
    handles = [line for part in (axes, upper) for line in part.get_legend_handles_labels()[0]]
    if handles:
        axes.legend(handles, [str(line.get_label()) for line in handles], frameon=False)
    axes.grid(alpha=0.25, which="both")
    figure.suptitle(title)
    save(figure, path)


def figure4_right(trace: Mapping[str, Sequence[float]], path: Path, title: str = "") -> None:
    """Draw the sharpness with its median, and the learning rate, over the iterations of the last epoch.

    Args:
        trace: ``sharpness``, ``median_sharpness``, ``lr_effective``; old records call the latter ``lr``.
    """
    rate = trace["lr_effective"] if "lr_effective" in trace else trace["lr"]
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, layout="constrained")
    top.plot(trace["sharpness"], color=COLOURS[0], label="sharpness Ŝ", linewidth=1)
    top.plot(trace["median_sharpness"], color=COLOURS[1], label="median", linewidth=1.5)
    top.set(ylabel="Ŝ (loss)")
    bottom.plot(rate, color=COLOURS[2], linewidth=1)
    bottom.set(ylabel="learning rate, scaled", xlabel="iteration of the last epoch")
    for axes in (top, bottom):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
    top.legend(frameon=False)
    figure.suptitle(title)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Save a figure as PNG and PDF and close it. The same records give the same files: no date is written."""
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        stream = io.BytesIO()
        figure.savefig(stream, format=suffix[1:], dpi=110, metadata=metadata)
        atomic.write(path.with_suffix(suffix), stream.getvalue(), several=True)
        figure.set_layout_engine("none")  # finding the places again would take as long as drawing
    plt.close(figure)


class _Curve:
    """The mean of several runs and a band, over the epochs that all of the runs have.

    Attributes:
        points: whether there is anything to draw; runs that lack the column have no part in the curve.
    """

    def __init__(
        self,
        runs: Sequence[Rows],
        over: str,
        column: str | None,
        error: bool = False,
        bands: tuple[str, str] | None = None,
    ) -> None:
        chosen = [[row for row in rows if column in row] for rows in runs]
        chosen = [rows for rows in chosen if rows]
        epochs = min(map(len, chosen), default=0)
        self.points = epochs
        if not epochs:
            return
        self.x = [row[over] for row in chosen[0][:epochs]]
        values = self._values(chosen, str(column))
        values = 100 - values if error else values
        self.mean, self.low, self.high = values.mean(0), values.min(0), values.max(0)
        if bands and all(name in row for rows in chosen for row in rows[:epochs] for name in bands):
            self.low, self.high = (self._values(chosen, name).mean(0) for name in bands)

    def _values(self, chosen: Sequence[Rows], column: str) -> np.ndarray:
        return np.array([[row[column] for row in rows[: self.points]] for rows in chosen], dtype=float)


def _draw(axes: Axes, style: Style, label: str, curve: _Curve) -> None:
    """Draw a curve; one of a single epoch as a marker, which a line would not show."""
    if not curve.points:
        return
    marker = "o" if curve.points == 1 else ""
    axes.plot(
        curve.x,
        curve.mean,
        color=style.colour,
        linestyle=style.dash,
        marker=marker,
        label=label,
        linewidth=1.6,
    )
    axes.fill_between(curve.x, curve.low, curve.high, color=style.colour, alpha=0.18, linewidth=0)


def _label(method: str, runs: Sequence[Rows]) -> str:
    """Return the method with its number of runs and its epochs."""
    epochs = max(map(len, runs), default=0)
    return f"{style_of(method).name} (n={len(runs)}, {epochs} epoch{'' if epochs == 1 else 's'})"


def _metric_of(cells: Cells) -> Metric:
    """Return the metric that the records have: accuracy of images, perplexity of texts."""
    columns = {name for runs in cells.values() for rows in runs for row in rows[:1] for name in row}
    return METRICS["accuracy_percent" if "test_accuracy" in columns else "perplexity"]


def _error(metric: Metric) -> bool:
    return metric.name == "accuracy_percent"


def _measured_axis(axes: Axes, metric: Metric) -> None:
    """Label the axis. It is logarithmic, so that 0.7 % and 1.8 % can be told apart beside 90 %."""
    axes.set_ylabel("test error (%)" if _error(metric) else metric.label)
    axes.set_yscale("log", nonpositive="clip")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _finish(figure: Figure, parts: Sequence[Axes], path: Path) -> None:
    """Add grids and legends, and save."""
    for axes in parts:
        axes.grid(alpha=0.25)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize="small")
    save(figure, path)
