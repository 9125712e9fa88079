"""What a set of cells costs before it is trained. Does not import torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.records import folder_of, records_of
from experiments.schema import Config

DEVICES = (1, 8, 64)


@dataclass(frozen=True)
class CellPlan:
    """One cell: its runs, those that have ended, and the gradient calls of one run."""

    config: Config
    runs: int
    done: int
    gradient_calls: float

    @property
    def left(self) -> float:
        """Gradient calls still to be made."""
        return (self.runs - self.done) * self.gradient_calls

    @property
    def network(self) -> tuple[str, str]:
        """Data set and network, which decide how long a gradient call takes."""
        return self.config.dataset.name, self.config.model.title


def plan(configs: Iterable[Config]) -> list[CellPlan]:
    """Return one plan per cell. A cell that several tables share is planned once."""
    plans: dict[Path, CellPlan] = {}
    for config in configs:
        folder = folder_of(config)
        if folder not in plans:
            records = records_of(config)
            done = sum(record.state().settled for record in records)
            calls = config.epochs * config.dataset.iterations * config.optimizer.gradient_calls
            plans[folder] = CellPlan(config, len(records), done, calls)
    return list(plans.values())


def text(plans: Sequence[CellPlan], seconds_a_call: Mapping[tuple[str, str], float] | None = None) -> str:
    """Return one line per cell and a total.

    Args:
        plans: of all cells.
        seconds_a_call: seconds of a gradient call by data set and network, to estimate the time left.
    """
    lines = [f"{'cell':<46} {'runs':>5} {'done':>5} {'epochs':>6} {'gradient calls left':>20}"]
    for cell in plans:
        config = cell.config
        lines.append(
            f"{config.title:<46} {cell.runs:>5} {cell.done:>5} {config.epochs:>6} {cell.left:>20,.0f}"
        )
    runs, done, left = sum(c.runs for c in plans), sum(c.done for c in plans), sum(c.left for c in plans)
    lines.append(f"{f'{len(plans)} cells':<46} {runs:>5} {done:>5} {'':>6} {left:>20,.0f}")
    if seconds_a_call is not None:
        seconds = sum(cell.left * seconds_a_call[cell.network] for cell in plans if cell.left)
        shares = ", ".join(f"{duration(seconds / number)} on {number}" for number in DEVICES)
        lines.append(f"Time left, estimated from a few iterations on this device: {shares}")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Return a duration for people: ``3.2 h``, ``12.0 min``, ``40 s``."""
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"
