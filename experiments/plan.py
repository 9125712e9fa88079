"""What a set of cells costs before it is trained. Does not import torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.records import records_of
from experiments.schema import Cell, Config

Network = tuple[str, str]
"""Data set and network, which decide how long a gradient call takes."""


@dataclass(frozen=True)
class CellPlan:
    """One cell: the seeds that are left, and the gradient calls of one run."""

    cell: Cell
    runs: int
    seeds_left: tuple[int, ...]
    gradient_calls: float

    @property
    def config(self) -> Config:
        return self.cell.config

    @property
    def done(self) -> int:
        """Runs that have ended."""
        return self.runs - len(self.seeds_left)

    @property
    def left(self) -> float:
        """Gradient calls still to be made."""
        return len(self.seeds_left) * self.gradient_calls

    @property
    def network(self) -> Network:
        return self.config.dataset.name, self.config.model.title


def plan(cells: Iterable[Cell]) -> list[CellPlan]:
    """Return one plan per cell. A cell that several tables share is planned once."""
    plans: dict[Path, CellPlan] = {}
    for cell in cells:
        config = cell.config
        records = records_of(config)
        folder = records[0].folder.parent
        if folder not in plans:
            begun = folder.exists()  # most cells are not, and each of their runs would be looked for
            left = tuple(record.seed for record in records if not begun or not record.state().settled)
            calls = config.epochs * config.dataset.iterations * config.optimizer.gradient_calls
            plans[folder] = CellPlan(cell, len(records), left, calls)
    return list(plans.values())


def text(plans: Sequence[CellPlan]) -> str:
    """Return one line per cell and a total: runs, epochs and the gradient calls that are left."""
    lines = [f"{'cell':<46} {'runs':>5} {'done':>5} {'epochs':>6} {'gradient calls left':>20}"]
    for cell in plans:
        config = cell.config
        lines.append(
            f"{config.title:<46} {cell.runs:>5} {cell.done:>5} {config.epochs:>6} {cell.left:>20,.0f}"
        )
    runs, done, left = sum(c.runs for c in plans), sum(c.done for c in plans), sum(c.left for c in plans)
    lines.append(f"{f'{len(plans)} cells':<46} {runs:>5} {done:>5} {'':>6} {left:>20,.0f}")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Return a duration for people: ``3.2 h``, ``12.0 min``, ``40 s``."""
    for unit, name in ((365 * 86400, "years"), (86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{max(seconds, 0):.0f} s"
