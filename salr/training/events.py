"""What a run tells whoever shows its progress, in this process or another one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """``kind``: "begun", "running", "epoch" (a row of metrics; ``text``: how fast the training data were read) or "ended"
    (``state`` says how, ``text`` why). Epochs done are a float."""

    seed: int
    kind: str
    epoch: float
    epochs: int
    row: Mapping[str, Any] = field(default_factory=dict)
    state: str = ""
    text: str = ""


Listener = Callable[[Event], None]
