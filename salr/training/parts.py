"""What a run trains with, and how far it is."""

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
    """A data set as the trainer uses it. The classes of the package ``data`` fit."""

    @property
    def iterations(self) -> int:
        """Batches per pass over the training data."""

    def batches(
        self, order: torch.Generator, augmentation: torch.Generator, passes: int = 1
    ) -> Iterator[Any]:
        """Yield the training batches of some passes."""

    def evaluation(self, split: str) -> Iterator[Any]:
        """Yield the batches of a split once, in a fixed order."""


@dataclass
class Parts:
    """Everything that one run trains with, freshly built from its seed.

    Args:
        schedule: the factor of the base rate.
        batches_per_iteration: batches that the optimizer takes per iteration; also the passes per epoch.
        splits: evaluated after each epoch.
        average: averages the weights at the end of each epoch from ``average_from`` (counted from 0) on. From
            then on the average is evaluated instead of the model.
        recompute_statistics: recompute the batch statistics on the training set before each evaluation.
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
    """What a run has done so far. It is saved with the weights."""

    epoch: int = 0
    gradient_calls: int = 0
    loss_calls: int = 0
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
