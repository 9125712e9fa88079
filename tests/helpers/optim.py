"""What the optimizers' tests share: every method with its bases, and a small problem to train."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from salr.optim import SALR, SAM, LocalEntropy, ReleasedSALR, SmoothOut, Wrapper
from salr.sharpness import (
    AscentDescent,
    DirectionalCurvature,
    GradientNorm,
    ReleasedMeasure,
    SAMSharpness,
    TopEigenvalue,
)


@dataclass(frozen=True)
class Method:
    """How a method is put around a base, and what an iteration takes; the first one is measured."""

    wrap: Callable[[Optimizer], Wrapper]
    gradients: int
    first_gradients: int
    batches: int = 1


METHODS = {
    "salr": Method(lambda base: SALR(base, AscentDescent(gamma=0.02)), 1, 9),
    "salr, gradient norm": Method(lambda base: SALR(base, GradientNorm()), 1, 1),
    "salr, curvature": Method(lambda base: SALR(base, DirectionalCurvature()), 1, 1),
    "salr, sam's": Method(lambda base: SALR(base, SAMSharpness()), 1, 1),
    "salr, eigenvalue": Method(lambda base: SALR(base, TopEigenvalue(radius=0.1), max_factor=2), 1, 2),
    "salr, released measure": Method(lambda base: SALR(base, ReleasedMeasure(0.1, 0.02)), 1, 10),
    "released": Method(
        lambda base: ReleasedSALR(base, ReleasedMeasure(step_scale=0.1, step_limit=0.02)), 1, 11
    ),
    "local_entropy": Method(lambda base: LocalEntropy(base, steps=3), 3, 3, batches=3),
    "smoothout": Method(lambda base: SmoothOut(base, 0.02), 1, 1),
    "ada_smoothout": Method(lambda base: SmoothOut(base, 0.05, adaptive=True), 1, 1),
    "sam": Method(lambda base: SAM(base), 2, 2),
    "asam": Method(lambda base: SAM(base, 0.5, adaptive=True), 2, 2),
    "salr+local_entropy": Method(
        lambda base: SALR(LocalEntropy(base, steps=3), AscentDescent(gamma=0.02)), 3, 11, batches=3
    ),
    "salr+sam": Method(lambda base: SALR(SAM(base), AscentDescent(gamma=0.02)), 2, 10),
    # SmoothOut takes its gradient elsewhere, so that the measurement's first one is its own.
    "salr+smoothout": Method(lambda base: SALR(SmoothOut(base, 0.02), AscentDescent(gamma=0.02)), 1, 10),
    "salr+sam, gradient norm": Method(lambda base: SALR(SAM(base), GradientNorm()), 2, 2),
    "salr+smoothout, gradient norm": Method(lambda base: SALR(SmoothOut(base, 0.02), GradientNorm()), 1, 2),
}

BASES: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda parameters, lr=0.3: SGD(parameters, lr=lr),
    "adam": lambda parameters, lr=0.02: Adam(parameters, lr=lr),
}


class Problem:
    """A classifier and three batches; with ``noise`` it has BatchNorm and dropout."""

    def __init__(self, noise: bool = True, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(3)
        between = [nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2)] if noise else [nn.Tanh()]
        self.model = nn.Sequential(nn.Linear(5, 8), *between, nn.Linear(8, 3)).to(dtype)
        inputs = torch.randn(36, 5, dtype=dtype)
        targets = (inputs @ torch.randn(5, 3, dtype=dtype)).argmax(1)
        self.batches = list(zip(inputs.split(12), targets.split(12), strict=True))
        self.place = 0

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.model.parameters())

    def loss(self) -> Tensor:
        inputs, targets = self.batches[self.place % len(self.batches)]
        return nn.functional.cross_entropy(self.model(inputs), targets)

    def advance(self) -> None:
        self.place += 1

    def train(self, optimizer: Wrapper, iterations: int) -> list[Tensor]:
        """Take the iterations, each on its own batch; return a copy of the model's tensors."""
        for _ in range(iterations):
            optimizer.step(self.loss, self.advance)
            self.advance()
        return self.values()

    def values(self) -> list[Tensor]:
        return [value.clone() for value in self.model.state_dict().values()]

    def copy(self) -> "Problem":
        return copy.deepcopy(self)


def build(method: str, problem: Problem, base: str = "sgd", **options: float) -> Wrapper:
    return METHODS[method].wrap(BASES[base](problem.parameters, **options))


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def equal(left: Any, right: Any) -> bool:
    """Bit for bit, NaN being equal to itself."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    return type(left) is type(right) and (left == right or (left != left and right != right))


class Flat:
    """A network on several batches, its parameters as one vector, for the optimizers' plain twins."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        self.batches = [(torch.randn(8, 4).double(), torch.randint(3, (8,))) for _ in range(50)]
        self.place = 0

    def loss(self) -> Tensor:
        inputs, targets = self.batches[self.place % len(self.batches)]
        return nn.functional.cross_entropy(self.model(inputs), targets)

    def advance(self) -> None:
        self.place += 1

    @property
    def theta(self) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()])

    @theta.setter
    def theta(self, values: Tensor) -> None:
        nn.utils.vector_to_parameters(values, self.model.parameters())

    def gradient_at(self, values: Tensor) -> Tensor:
        self.theta = values
        return torch.cat(
            [
                gradient.flatten()
                for gradient in torch.autograd.grad(self.loss(), list(self.model.parameters()))
            ]
        )

    def loss_at(self, values: Tensor) -> float:
        self.theta = values
        return float(self.loss().detach())


def assert_same(problem: Flat, theta: Tensor) -> None:
    """The network is where the twin is."""
    torch.testing.assert_close(problem.theta, theta, rtol=1e-9, atol=1e-11)
