"""The trainer. It receives a network, a data set and an optimizer, and does not know which."""

from salr.training.display import Watch, display
from salr.training.events import Event, Listener
from salr.training.failure import out_of_memory, reason
from salr.training.parts import Parts
from salr.training.pool import run_in_parallel
from salr.training.provenance import device_name
from salr.training.randomness import generator, seed_default
from salr.training.schedule import Schedule, constant, multi_step_decay, step_decay, then_cyclic
from salr.training.signals import sigterm_interrupts
from salr.training.task import Classification, LanguageModelling, Task
from salr.training.tracker import NoTracker, Tracker
from salr.training.trainer import Trainer
from salr.training.wandb_tracker import WandbTracker

__all__ = [
    "Classification",
    "Event",
    "LanguageModelling",
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
    "run_in_parallel",
    "seed_default",
    "sigterm_interrupts",
    "step_decay",
    "then_cyclic",
]
