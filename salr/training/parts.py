"""What a run trains with, and how far it has come."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from salr.optim import WeightAverage
from salr.training.schedule import Schedule, constant
from salr.training.task import Task


class Data(Protocol):
    """The data set as the trainer uses it (see the room ``data``)."""

    @property
    def iterations(self) -> int: ...
    def batches(
        self, order: torch.Generator, augmentation: torch.Generator, passes: int = 1
    ) -> Iterator[Any]: ...
    def evaluation(self, split: str) -> Iterator[Any]: ...


@dataclass
class Parts:
    """All that one run trains with, freshly made from its seed.

    Args:
        batches_per_iteration: how many batches the optimizer takes an iteration; a pass more of the data each.
        splits: evaluated after each epoch; the last one is the one reported.
        schedule: the factor of the base rate.
        average, average_from: weights averaged at the end of each epoch from that one (from 0) on, and evaluated instead.
        recompute_statistics: batch statistics are taken anew on the training set before each evaluation.
    """

    model: nn.Module
    optimizer: Optimizer
    data: Data
    task: Task
    device: torch.device
    schedule: Schedule = constant
    batches_per_iteration: int = 1
    splits: tuple[str, ...] = ("test",)
    average: WeightAverage | None = None
    average_from: int = 0
    recompute_statistics: bool = False

    def __post_init__(self) -> None:
        self.model = self.task.prepare(self.model)
        self.base_rates = [float(group["lr"]) for group in self.optimizer.param_groups]


@dataclass
class Progress:
    """What a run has done; saved with its weights."""

    epoch: int = 0
    gradient_calls: int = 0
    loss_calls: int = 0
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
