"""What a set of cells costs, before it is trained. No torch, unless a network has to be timed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .records import ENDED, folder_of, records_of
from .schema import Config, epochs, seeds_of
from .schema.dataset import DatasetConfig, TextDatasetConfig
from .schema.optimizer import gradient_calls


@dataclass(frozen=True)
class CellPlan:
    """One cell: its runs, those already ended, and the gradient calls of one run."""

    config: Config
    runs: int
    done: int
    gradient_calls: float

    @property
    def left(self) -> float:
        """Gradient calls still to be made."""
        return (self.runs - self.done) * self.gradient_calls


def iterations(dataset: DatasetConfig) -> int:
    """Batches a pass, as the data set will cut itself."""
    if isinstance(dataset, TextDatasetConfig):
        return (dataset.train_size // dataset.batch_size - 1) // dataset.sequence_length
    held_out = dataset.train_size // 10 if getattr(dataset, "validation", False) else 0
    return (dataset.train_size - held_out) // dataset.batch_size


def plan(configs: Iterable[Config]) -> list[CellPlan]:
    """One plan a cell; a cell that several tables share is planned once."""
    plans: dict[Path, CellPlan] = {}
    for config in configs:
        where = folder_of(config)
        if where not in plans:
            records = records_of(config)
            done = sum(record.state() in ENDED for record in records)
            calls = epochs(config) * iterations(config.dataset) * gradient_calls(config.optimizer)
            plans[where] = CellPlan(config, len(seeds_of(config)), done, calls)
    return list(plans.values())


def text(plans: Sequence[CellPlan], seconds_a_call: dict[tuple[str, str], float] | None = None) -> str:
    """A line a cell and a total; with the seconds of a gradient call by (data set, network), also the time left."""
    lines = [f"{'cell':<46} {'runs':>5} {'done':>5} {'epochs':>6} {'gradient calls left':>20}"]
    for cell in plans:
        config = cell.config
        name = f"{config.dataset.name} {config.model.name} {config.optimizer.name}"
        lines.append(f"{name:<46} {cell.runs:>5} {cell.done:>5} {epochs(config):>6} {cell.left:>20,.0f}")
    runs, done, left = sum(c.runs for c in plans), sum(c.done for c in plans), sum(c.left for c in plans)
    lines.append(f"{f'{len(plans)} cells':<46} {runs:>5} {done:>5} {'':>6} {left:>20,.0f}")
    if seconds_a_call is not None:
        seconds = sum(cell.left * seconds_a_call[cell.config.dataset.name, cell.config.model.name] for cell in plans if cell.left)
        shares = ", ".join(f"{duration(seconds / number)} on {number}" for number in (1, 8, 64))
        lines.append(f"Time left, from a few timed iterations on this device: {shares} like it")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """``3.2 h``, ``12 min``, ``40 s``."""
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"
