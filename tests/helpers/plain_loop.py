"""SALR and SAM written out in plain torch: what the trainers of other packages are held against."""

import copy
import statistics
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Loss = Callable[[nn.Module], Tensor]


def length(tensors: Sequence[Tensor]) -> float:
    return sum(float(tensor.double().square().sum()) for tensor in tensors) ** 0.5


def gradients_of(model: nn.Module, loss: Loss) -> tuple[list[nn.Parameter], list[Tensor]]:
    """Return the parameters that the loss depends on, and their gradients."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss(model), parameters, allow_unused=True)
    pairs = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
    return [parameter for parameter, _ in pairs], [gradient for _, gradient in pairs]


def plain_sharpness(model: nn.Module, loss: Loss, gamma: float, steps: int) -> float:
    """Definition 1 on copies of the model, each evaluation with the same noise. The model is not touched."""
    noise = torch.get_rng_state()

    def loss_after_steps(sign: float) -> float:
        there = copy.deepcopy(model)
        for _ in range(steps):
            torch.set_rng_state(noise)
            parameters, gradients = gradients_of(there, loss)
            norm = length(gradients)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter += sign * gamma * gradient / norm
        torch.set_rng_state(noise)
        with torch.no_grad():
            return float(loss(there))

    sharpness = loss_after_steps(+1) - loss_after_steps(-1)
    torch.set_rng_state(noise)
    return sharpness


class PlainSALR:
    """A measurement every ``interval`` steps, and the base's rate times the newest one over their median.

    Gradients are the loop's affair: ``measure``, then ``backward``, then ``step``.
    """

    def __init__(self, base: Optimizer, gamma: float = 0.02, steps: int = 5, interval: int = 2) -> None:
        self.base, self.gamma, self.steps, self.interval = base, gamma, steps, interval
        self.measured: list[float] = []
        self.iteration = 0
        self.factor = 1.0

    def measure(self, model: nn.Module, loss: Loss) -> None:
        self.take(plain_sharpness(model, loss, self.gamma, self.steps) if self.due else 0.0)

    @property
    def due(self) -> bool:
        return self.iteration % self.interval == 0

    def take(self, sharpness: float) -> None:
        if self.due:
            self.measured.append(sharpness)
            self.factor = sharpness / statistics.median(self.measured)

    def step(self) -> None:
        rates = [group["lr"] for group in self.base.param_groups]
        for group, rate in zip(self.base.param_groups, rates, strict=True):
            group["lr"] = rate * self.factor
        self.base.step()
        for group, rate in zip(self.base.param_groups, rates, strict=True):
            group["lr"] = rate
        self.iteration += 1


def plain_sam_gradient(model: nn.Module, loss: Loss, rho: float) -> None:
    """Leave SAM's gradient in ``parameter.grad``, and everything else as one evaluation of the loss does."""
    noise = torch.get_rng_state()
    there = copy.deepcopy(model)
    parameters, gradients = gradients_of(model, loss)
    after = torch.get_rng_state()
    own = dict(zip(model.parameters(), there.parameters(), strict=True))
    norm = length(gradients)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            own[parameter].add_(rho * gradient / norm)
    torch.set_rng_state(noise)
    loss(there).backward()
    torch.set_rng_state(after)
    for parameter, moved in own.items():
        parameter.grad = moved.grad
