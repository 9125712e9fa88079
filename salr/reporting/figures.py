"""Pictures of records. Colours are Okabe and Ito's, which colour-blind readers tell apart."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no screen is needed, and none may be there

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from salr.records import atomic
from salr.reporting.render import name_of, unit
from salr.reporting.tables import Cell, Table

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

Rows = Sequence[Mapping[str, Any]]
"""The metrics of one run, a row an epoch."""


def error_and_factor(cells: Mapping[str, Sequence[Rows]], path: Path) -> None:
    """Test error and learning-rate factor against gradient calls: mean over the runs of each cell, and their range as a band."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for colour, (name, runs) in zip(COLOURS, cells.items(), strict=False):
        _curve(left, name, colour, runs, "gradient_calls", "test_accuracy", error=True)
        _curve(right, name, colour, runs, "gradient_calls", "lr_factor")
    left.set(xlabel="gradient calls", ylabel="test error (%)", title="Test error")
    left.set_ylim(bottom=0)
    right.set(xlabel="gradient calls", ylabel="η / η0", title="Learning-rate factor")
    right.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    _finish(figure, (left, right), path)


def draw_figures(tables: Sequence[Table], folder: Path) -> dict[str, Path]:
    """Everything that the tables' records can show, as PNG and PDF; by caption, in reading order. Figure 3 is a script's own."""
    figures: dict[str, Path] = {}
    for table in tables:
        suffix = "" if table.preset == "paper" else f"_{table.preset}"
        if any(cell.values for cell in table.cells):
            path = folder / f"forest_table{table.number}{suffix}.png"
            forest(table, path)
            figures[
                f"Table {table.number}: measured (filled, 95 % interval over seeds) against published (hollow)"
            ] = path
        for network, cells in _by_place(table).items():
            if table.number in (4, 6, 7) or not any(
                "test_accuracy" in row for cell in cells for row in cell.rows
            ):
                continue  # these tables' runs are other tables'
            stem = f"{network.replace(' ', '_')}{suffix}"
            curves = {name_of(cell.wanted.published.method): _metrics(cell) for cell in cells if cell.values}
            path = folder / f"calls_{table.number}_{stem}.png"
            error_and_factor(curves, path)
            figures[
                f"{network}: test error and learning-rate factor against gradient calls (mean and range over seeds)"
            ] = path
            path = folder / f"figure4_left_{table.number}_{stem}.png"
            figure4_left(curves, path)
            figures[f"{network}: test error over epochs, as Figure 4 (left)"] = path
            traced = next(
                (cell for cell in cells if cell.wanted.published.method == "sgd_salr" and cell.values), None
            )
            trace = None if traced is None else _trace(traced)
            if trace is not None:
                path = folder / f"figure4_right_{table.number}_{stem}.png"
                figure4_right(trace, path)
                figures[
                    f"{network}: sharpness, its median and the rate over SGD-SALR's last epoch, as Figure 4 (right)"
                ] = path
    figure3 = folder / "figure3.png"
    if figure3.exists():
        figures["Figure 3: the three measures on f(θ) = 0.5 θ sin 3θ + 1"] = figure3
    return figures


def figure4_left(cells: Mapping[str, Sequence[Rows]], path: Path) -> None:
    """Test error over epochs: long runs on the lower axis, the short ones of a fifth on the upper one."""
    figure, axes = plt.subplots(figsize=(7, 4.6), layout="constrained")
    upper = axes.twiny()
    longest = max(len(rows) for runs in cells.values() for rows in runs)
    short = [len(rows) for runs in cells.values() for rows in runs if len(rows) < longest]
    for colour, (name, runs) in zip(COLOURS, cells.items(), strict=False):
        below = max(len(rows) for rows in runs) == longest
        _curve(axes if below else upper, name, colour, runs, "epoch", "test_accuracy", error=True)
    axes.set(xlabel="epoch (plain methods)", ylabel="test error (%)")
    axes.set_xlim(0, longest)
    axes.set_ylim(bottom=0)
    upper.set(xlabel="epoch (Entropy and SALR methods)")
    upper.set_xlim(0, max(short, default=longest))
    handles = [line for part in (axes, upper) for line in part.get_legend_handles_labels()[0]]
    axes.legend(handles, [str(line.get_label()) for line in handles], frameon=False)
    axes.grid(alpha=0.25)
    _finish(figure, (), path)


def figure4_right(trace: Mapping[str, Sequence[float]], path: Path) -> None:
    """Sharpness with its median, and the learning rate, over the iterations of the last epoch."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, layout="constrained")
    top.plot(trace["sharpness"], color=COLOURS[0], label="sharpness Ŝ", linewidth=1)
    top.plot(trace["median_sharpness"], color=COLOURS[1], label="median", linewidth=1.5)
    top.set(ylabel="Ŝ (loss)")
    top.set_ylim(bottom=0)
    top.legend(frameon=False)
    bottom.plot(trace["lr"], color=COLOURS[2], linewidth=1)
    bottom.set(ylabel="learning rate", xlabel="iteration of the last epoch")
    bottom.set_ylim(bottom=0)
    for axes in (top, bottom):
        axes.grid(alpha=0.25)
    _finish(figure, (), path)


def forest(table: Table, path: Path) -> None:
    """Each cell's mean with its 95 % interval, and beside it what is published."""
    shown = [cell for cell in table.cells if cell.values]
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.34 * len(shown)), layout="constrained")
    for place, cell in enumerate(shown):
        value, printed = cell.estimate, cell.wanted.published
        reach = 0.0 if value.n < 2 else _t_quantile(value.n - 1) * value.std / np.sqrt(value.n)
        axes.errorbar(value.mean, place, xerr=reach, fmt="o", color=COLOURS[0], capsize=3)
        axes.plot(printed.mean, place, "o", markerfacecolor="none", markeredgecolor=COLOURS[1], markersize=8)
    names = [
        f"{c.wanted.published.network} {name_of(c.wanted.published.method)} (n={c.estimate.n})" for c in shown
    ]
    axes.set_yticks(range(len(shown)), names)
    axes.invert_yaxis()
    axes.set(
        xlabel={"accuracy_percent": "test accuracy (%)", "nats": "nats per character"}.get(
            unit(shown[0].wanted.published), "value"
        )
    )
    axes.grid(alpha=0.25, axis="x")
    _finish(figure, (), path)


def _t_quantile(degrees: int) -> float:
    from scipy import stats

    return float(stats.t.ppf(0.975, degrees))


def _by_place(table: Table) -> dict[str, list[Cell]]:
    """Cells by what was trained, each method once."""
    places: dict[str, list[Cell]] = {}
    for cell in table.cells:
        place = places.setdefault(f"{cell.wanted.dataset} {cell.wanted.network}", [])
        if all(cell.wanted.optimizer != other.wanted.optimizer for other in place):
            place.append(cell)
    return places


def _metrics(cell: Cell) -> list[Rows]:
    return [run.read_metrics() for run in cell.wanted.runs if run.seed in cell.values]


def _trace(cell: Cell) -> dict[str, list[float]] | None:
    return next(
        (trace for run in cell.wanted.runs if (trace := run.read_json("iterations.json")) is not None), None
    )


def _curve(
    axes: Axes, name: str, colour: str, runs: Sequence[Rows], over: str, metric: str, error: bool = False
) -> None:
    """Nothing is drawn for a metric that the runs do not have; runs are averaged where all of them have been."""
    curves = [
        [(row[over], 100 - row[metric] if error else row[metric]) for row in rows if metric in row]
        for rows in runs
    ]
    epochs = min((len(curve) for curve in curves), default=0)
    if not epochs:
        return
    values = np.array([[value for _, value in curve[:epochs]] for curve in curves])
    places = [place for place, _ in curves[0][:epochs]]
    axes.plot(places, values.mean(0), color=colour, label=name, linewidth=1.6)
    axes.fill_between(places, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)


def _finish(figure: Figure, with_legends: Sequence[Axes], path: Path) -> None:
    """Legends and grids, then PNG and PDF."""
    for axes in with_legends:
        axes.grid(alpha=0.25)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """As PNG and PDF, and done with; without a date, so that the same records give the same files."""
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        stream = io.BytesIO()
        figure.savefig(stream, format=suffix[1:], dpi=150, metadata=metadata)
        atomic.write(path.with_suffix(suffix), stream.getvalue(), several=True)
    plt.close(figure)
