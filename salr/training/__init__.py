"""The trainer. It is handed a network, a data set and an optimizer, and imports none of them."""

from .display import Watch, display
from .events import Event, Listener
from .failure import out_of_memory, reason
from .parts import Parts
from .pool import OUT_OF_MEMORY, run_side_by_side
from .provenance import device_name
from .randomness import generator, seed_default
from .schedule import Schedule, constant, multi_step_decay, step_decay, then_cyclic
from .signals import sigterm_interrupts
from .task import Task
from .tracker import NoTracker, Tracker
from .trainer import Trainer
from .wandb_tracker import WandbTracker

__all__ = [
    "OUT_OF_MEMORY",
    "Event",
    "Listener",
    "NoTracker",
    "Parts",
    "Schedule",
    "Task",
    "Tracker",
    "Trainer",
    "WandbTracker",
    "Watch",
    "constant",
    "device_name",
    "display",
    "generator",
    "multi_step_decay",
    "out_of_memory",
    "reason",
    "run_side_by_side",
    "seed_default",
    "sigterm_interrupts",
    "step_decay",
    "then_cyclic",
]
