"""What is timed: the paper's networks on random batches of the shapes that they are trained on."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

import models
from salr.training import Classification, LanguageModelling, Task

SIZES: dict[str, tuple[tuple[int, ...], int, int]] = {
    "mnistfc": ((1, 28, 28), 128, 10),
    "lenet": ((1, 28, 28), 128, 10),
    "allcnn_bn": ((3, 32, 32), 32, 10),  # a quarter of the paper's batch: it is the slowest
    "resnet18": ((1, 8, 8), 32, 10),  # digits
    "lstm_char": ((50,), 128, 87),
    "lstm_ptb_small": ((35,), 20, 10_000),
}
"""Input shape (for text the number of steps), batch size, outputs."""


PAPER_SIZES = SIZES | {"allcnn_bn": ((3, 32, 32), 128, 10), "resnet18": ((3, 32, 32), 128, 10)}
"""The same at the paper's batch sizes, for an accelerator."""


@dataclass(frozen=True)
class Batch:
    """Inputs and targets on the device. ``restart``: the model forgets its carried state first."""

    inputs: Tensor
    targets: Tensor
    restart: bool = False


@dataclass(frozen=True)
class Subject:
    """A network with its batch and its loss.

    Attributes:
        name: as in the configuration, if the network is one of the paper's.
        model: the network, in training mode.
        batch: the same for all iterations.
        task: computes the loss.
        unit: what ``count`` counts, in the plural.
        count: examples per batch.
    """

    name: str
    model: nn.Module
    batch: Batch
    task: Task
    unit: str
    count: int

    def begin(self, model: nn.Module) -> None:
        """Prepare an iteration of a copy of the network: a language model forgets its carried state."""
        if isinstance(self.task, LanguageModelling):
            model.reset_state()  # type: ignore[operator]

    def loss(self, model: nn.Module) -> Tensor:
        """Return the loss of a copy of the network on the batch, 0-d."""
        return self.task.loss(model, self.batch)


@dataclass(frozen=True)
class CountedSubject(Subject):
    """A subject that counts how often its loss is evaluated, and how often differentiated."""

    counts: dict[str, int] = field(default_factory=lambda: {"evaluations": 0, "gradients": 0})

    def loss(self, model: nn.Module) -> Tensor:
        loss = super().loss(model)
        self.counts["evaluations"] += 1
        if loss.requires_grad:
            loss.register_hook(self._count_gradient)
        return loss

    def _count_gradient(self, _gradient: Tensor) -> None:
        self.counts["gradients"] += 1


def subject(name: str, bf16: bool, device: torch.device) -> Subject:
    """Build one of the paper's networks and a batch for it, always the same."""
    shape, count, outputs = (SIZES if device.type == "cpu" else PAPER_SIZES)[name]
    torch.manual_seed(0)
    language = len(shape) == 1
    task = LanguageModelling(bf16=bf16) if language else Classification(bf16=bf16)
    model = task.prepare(models.build(name, () if language else shape, outputs).to(device)).train()
    if language:
        tokens = torch.randint(outputs, (2, count, *shape), device=device)
        return Subject(name, model, Batch(tokens[0], tokens[1]), task, "tokens", count * shape[0])
    inputs = torch.randn(count, *shape, device=device)
    targets = torch.randint(outputs, (count,), device=device)
    return Subject(name, model, Batch(inputs, targets), task, "images", count)


def multilayer(width: int, bf16: bool, device: torch.device) -> Subject:
    """Build two hidden layers of a width on MNIST's shape, without dropout: only the parameters vary."""
    torch.manual_seed(0)
    hidden = [nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)]
    model = nn.Sequential(nn.Flatten(), *hidden).to(device)
    inputs = torch.randn(128, 1, 28, 28, device=device)
    targets = torch.randint(10, (128,), device=device)
    task = Classification(bf16=bf16)
    return Subject(f"multilayer_{width}", model, Batch(inputs, targets), task, "images", 128)


def matrix_rate(bf16: bool, device: torch.device, time_of: Callable[[Callable[[], object]], float]) -> float:
    """Return the floating-point operations per second of a large matrix product on this device."""
    size = 1024 if device.type == "cpu" else 8192
    dtype = torch.bfloat16 if bf16 else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / time_of(lambda: left @ right)
