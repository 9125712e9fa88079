"""What a run reports to whoever shows its progress, in this process or another one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from salr.records import State

Kind = Literal["begun", "running", "epoch", "ended"]


@dataclass(frozen=True)
class Event:
    """One report of a run.

    Attributes:
        kind: "begun" (or resumed), "running" (within an epoch), "epoch" (one has ended) or "ended".
        epoch: epochs done; fractional within an epoch.
        epochs: the budget; 0 if it is not known.
        row: the metrics of the epoch, or the summary of the run.
        state: how the run has ended.
        text: the speed of the epoch, or why the run has ended.
    """

    seed: int
    kind: Kind
    epoch: float
    epochs: int
    row: Mapping[str, Any] = field(default_factory=dict)
    state: State | None = None
    text: str = ""


Listener = Callable[[Event], None]
