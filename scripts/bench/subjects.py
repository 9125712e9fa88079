"""What is timed: the paper's networks on batches of the shapes that they are trained on, of random values."""

from collections.abc import Callable

import torch
from torch import nn

import models
from salr.training import Classification, LanguageModelling
from scripts.bench.contestants import Batch, Subject

SIZES: dict[str, tuple[tuple[int, ...], int, int]] = {
    "mnistfc": ((1, 28, 28), 128, 10),
    "lenet": ((1, 28, 28), 128, 10),
    "allcnn_bn": ((3, 32, 32), 32, 10),  # a quarter of the paper's batch: it is the slowest
    "resnet18": ((1, 8, 8), 32, 10),  # digits
    "lstm_char": ((50,), 128, 87),
    "lstm_ptb_small": ((35,), 20, 10_000),
}
"""Input shape (for text the number of steps), batch size, outputs."""


def subject(name: str, bf16: bool, device: torch.device) -> Subject:
    shape, count, outputs = SIZES[name]
    torch.manual_seed(0)
    language = len(shape) == 1
    task = LanguageModelling(bf16=bf16) if language else Classification(bf16=bf16)
    model = task.prepare(models.build(name, () if language else shape, outputs).to(device)).train()
    if language:
        tokens = torch.randint(outputs, (2, count, *shape), device=device)
        return Subject(name, model, Batch(tokens[0], tokens[1]), task, "tokens", count * shape[0])
    inputs, targets = (
        torch.randn(count, *shape, device=device),
        torch.randint(outputs, (count,), device=device),
    )
    return Subject(name, model, Batch(inputs, targets), task, "images", count)


def multilayer(width: int, bf16: bool, device: torch.device) -> Subject:
    """Two hidden layers of a width on MNIST's shape, without dropout: only the number of parameters changes."""
    torch.manual_seed(0)
    hidden = [nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)]
    model = nn.Sequential(nn.Flatten(), *hidden).to(device)
    inputs, targets = torch.randn(128, 1, 28, 28, device=device), torch.randint(10, (128,), device=device)
    return Subject(
        f"multilayer_{width}", model, Batch(inputs, targets), Classification(bf16=bf16), "images", 128
    )


def matrix_rate(bf16: bool, device: torch.device, time_of: Callable[[Callable[[], object]], float]) -> float:
    """Floating-point operations a second of a large matrix product, here and now."""
    size = 1024 if device.type == "cpu" else 8192
    left, right = (
        torch.randn(size, size, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
        for _ in range(2)
    )
    return 2 * size**3 / time_of(lambda: left @ right)
