"""All figures that the tables' records can show."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from salr.reporting.cells import Cell
from salr.reporting.figures import Rows, error_and_factor, figure4_left, figure4_right
from salr.reporting.forest import aggregates, forest
from salr.reporting.tables import Table
from salr.reporting.verdicts import Judgement

TRACED = ("sgd_salr", "adam_salr")
"""The methods whose last epoch is shown as in Figure 4 (right), if it is recorded."""


def draw_figures(judgement: Judgement, folder: Path) -> dict[str, Path]:
    """Draw everything that the records can show, as PNG and PDF.

    Returns:
        The PNG files by caption, in reading order. Figure 3, which has a script of its own, is among them if
        it is in the folder.
    """
    figures: dict[str, Path] = {}
    if any(each.aggregate is not None for each in judgement.verdicts):
        path = folder / "claims.png"
        aggregates(judgement.verdicts, path)
        figures["Claims: mean improvement and its probability, with 95 % bootstrap intervals"] = path
    for table in judgement.tables:
        if any(cell.values for cell in table.cells):
            path = folder / f"forest_table{table.number}{_suffix(table)}.png"
            forest(table, path)
            figures[f"Table {table.number}: measured and published means"] = path
    drawn: set[Path] = set()
    for table in judgement.tables:
        for cells in _trained_together(table):
            # Tables 4, 6 and 7 show runs of other tables again.
            folders = {run.folder.parent for cell in cells for run in cell.wanted.runs[:1]}
            if not folders <= drawn:
                figures |= _curves(table, cells, folder)
            drawn |= folders
    figure3 = folder / "figure3.png"
    if figure3.exists():
        figures["Figure 3: the three measures on f(θ) = 0.5 θ sin 3θ + 1"] = figure3
    return figures


def _trained_together(table: Table) -> list[list[Cell]]:
    """Return the measured cells by what was trained, each optimizer once."""
    places: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in table.cells:
        if cell.values:
            place = places.setdefault((cell.wanted.dataset, cell.wanted.network), {})
            place.setdefault(cell.wanted.optimizer, cell)
    return [list(cells.values()) for cells in places.values()]


def _curves(table: Table, cells: Sequence[Cell], folder: Path) -> dict[str, Path]:
    """Draw the curves of one network on one data set."""
    wanted = cells[0].wanted
    name = f"{wanted.dataset} {wanted.network}"
    title, about = f"{name} (Table {table.number})", f"Table {table.number}, {name}"
    if table.preset != "paper" or table.overrides:
        title = f"{title}: {' '.join([f'preset {table.preset}', *table.overrides])}"
    stem = f"table{table.number}_{wanted.dataset}_{wanted.network}{_suffix(table)}.png"
    metric = cells[0].metric if cells[0].metric.curve else None
    runs = {cell.wanted.optimizer: _metrics(cell) for cell in cells}
    figures = {
        f"{about}: test results and learning-rate factor against gradient calls": folder / f"calls_{stem}",
        f"{about}: test results over epochs, as Figure 4 (left)": folder / f"figure4_left_{stem}",
    }
    calls, left = figures.values()
    error_and_factor(runs, calls, title, metric)
    figure4_left(runs, left, title, metric)
    for cell in cells:
        trace = _trace(cell) if cell.wanted.optimizer in TRACED else None
        if trace is not None:
            path = folder / f"figure4_right_{stem}"
            figure4_right(trace, path, f"{title}: {cell.method}, seed {min(cell.values)}")
            figures[f"{about}: sharpness, its median and the rate in {cell.method}'s last epoch"] = path
    return figures


def _metrics(cell: Cell) -> list[Rows]:
    return [run.read_metrics() for run in cell.wanted.runs if run.seed in cell.values]


def _trace(cell: Cell) -> dict[str, list[float]] | None:
    """Return the iterations of the last epoch of the first finished run."""
    first = next(run for run in cell.wanted.runs if run.seed == min(cell.values))
    if (trace := first.read_json("iterations.json")) is not None:
        return trace
    packed = first.folder / "iterations.json.gz"  # of a run that the project has kept
    return json.loads(gzip.decompress(packed.read_bytes())) if packed.exists() else None


def _suffix(table: Table) -> str:
    return "" if table.preset == "paper" else f"_{table.preset}"
