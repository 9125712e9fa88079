"""A trainer with a small network on few points, for tests that need no real data set."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from salr.optim import SALR, SAM, LocalEntropy, SmoothOut
from salr.records import Run
from salr.training import Classification, Event, NoTracker, Parts, Trainer, seed_default


class Batch(NamedTuple):
    inputs: Tensor
    targets: Tensor
    restart: bool = False


class Points:
    """Two noisy classes in the plane, as images of 1x1 with two channels, in 4 batches of 8."""

    iterations = 4

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        labels = torch.arange(48) % 2
        self.images = torch.randn(48, 2, 1, 1, generator=draw) + 2 * labels.view(-1, 1, 1, 1)
        self.labels = labels
        self.orders: list[list[int]] = []

    def batches(
        self, order: torch.Generator, augmentation: torch.Generator, passes: int = 1
    ) -> Iterator[Batch]:
        for _ in range(passes):
            chosen = torch.randperm(32, generator=order)
            self.orders.append(chosen.tolist())
            for some in chosen.split(8):
                yield Batch(self.images[some], self.labels[some])

    def evaluation(self, split: str) -> Iterator[Batch]:
        places = {"train": range(32), "validation": range(32, 40), "test": range(40, 48)}[split]
        for some in torch.tensor(places).split(3):
            yield Batch(self.images[some], self.labels[some])


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(2, 6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 2))


def trainer(
    results: Path,
    wrap: Callable[[Optimizer], Optimizer] = lambda base: base,
    epochs: int = 3,
    lr: float = 0.1,
    seed: int = 0,
    run_key: str = "0123456789",
    listen: Callable[[Event], None] = lambda event: None,
    tracker: Any = None,
    model: Callable[[], nn.Module] = network,
    data: Any = None,
    base: Callable[..., Optimizer] = SGD,
    prepare: Callable[[Parts], None] = lambda parts: None,
    **options: Any,
) -> Trainer:
    """Return the trainer of a run below ``results``. ``prepare`` may change its parts."""
    points = Points() if data is None else data

    def build() -> Parts:
        seed_default(seed, "initialisation")
        built = model()
        chosen = {"task": Classification(), "device": torch.device("cpu")} | options
        parts = Parts(built, wrap(base(built.parameters(), lr=lr)), points, **chosen)
        prepare(parts)
        return parts

    run = Run(results, "points", "network", "sgd", run_key, seed)
    config = {"dataset": {"name": "points"}, "seeds": [seed]}
    return Trainer(run, epochs, build, config, NoTracker() if tracker is None else tracker, listen)


WRAPPERS = {
    "SGD": lambda base: base,
    "SALR": SALR,
    "SALR(Adam)": SALR,
    "SAM": SAM,
    "SmoothOut": lambda base: SmoothOut(base, 0.01),
    "SALR(LocalEntropy)": lambda base: SALR(LocalEntropy(base, steps=2)),
}


def of(name: str) -> dict[str, Any]:
    """Return the options of :func:`trainer` for an optimizer of ``WRAPPERS``."""
    return {
        "wrap": WRAPPERS[name],
        "base": Adam if "Adam" in name else SGD,
        "batches_per_iteration": 2 if "Entropy" in name else 1,
    }
