"""Who is timed: ours, a plain loop as a user would write it, the paper's algorithm taken literally, and a published SAM."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytorch_optimizer
import torch
from torch import Tensor, nn

from models import Dropout
from salr.closures import Evaluation
from salr.optim import SALR, SAM, Wrapper
from salr.sharpness import AscentDescent, GradientNorm
from salr.training import LanguageModelling, Task

GAMMA, STEPS, INTERVAL = 2e-3, 5, 2
RATE = 0.01


@dataclass(frozen=True)
class Batch:
    inputs: Tensor
    targets: Tensor
    restart: bool = False


@dataclass(frozen=True)
class Subject:
    """A network with a batch; ``language``: the state is carried and forgotten before each iteration."""

    name: str
    model: nn.Module
    batch: Batch
    task: Task
    unit: str
    count: int


Step = Callable[[], object]


def with_plain_dropout(model: nn.Module) -> nn.Module:
    """A copy as a user would have written it, with ``nn.Dropout``."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.p))
    return model


def plain_sgd(subject: Subject) -> Step:
    model = with_plain_dropout(subject.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def step() -> None:
        _reset(subject, model)
        optimizer.zero_grad()
        subject.task.loss(model, subject.batch).backward()
        optimizer.step()

    return step


def our_sgd(subject: Subject) -> Step:
    """As the trainer steps a plain optimizer."""
    model = copy.deepcopy(subject.model)
    optimizer, parameters = _fused(model), list(model.parameters())

    def step() -> None:
        _reset(subject, model)
        optimizer.step(Evaluation(lambda: subject.task.loss(model, subject.batch), parameters))

    return step


def our_salr(subject: Subject, steps: int = STEPS) -> Step:
    model = copy.deepcopy(subject.model)
    return _wrapped(subject, model, SALR(_fused(model), AscentDescent(GAMMA, steps, steps), INTERVAL))


def our_salr_on_plain_dropout(subject: Subject) -> Step:
    model = with_plain_dropout(subject.model)
    return _wrapped(subject, model, SALR(_fused(model), AscentDescent(GAMMA, STEPS, STEPS), INTERVAL))


def our_first_order_salr(subject: Subject) -> Step:
    """SALR at the price of SGD: the norm of the training gradient is its measure."""
    model = copy.deepcopy(subject.model)
    return _wrapped(subject, model, SALR(_fused(model), GradientNorm(), INTERVAL))


def our_sam(subject: Subject) -> Step:
    model = copy.deepcopy(subject.model)
    return _wrapped(subject, model, SAM(_fused(model), rho=0.05))


def published_sam(subject: Subject) -> Step:
    """``pytorch_optimizer.SAM``, on the network as a user would have it."""
    model = with_plain_dropout(subject.model)
    optimizer = pytorch_optimizer.SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=RATE)

    def gradient() -> Tensor:
        loss = subject.task.loss(model, subject.batch)
        loss.backward()
        return loss

    def step() -> None:
        _reset(subject, model)
        optimizer.zero_grad()
        gradient()
        optimizer.step(gradient)  # type: ignore[arg-type]

    return step


def literal_salr(subject: Subject) -> Step:
    """Algorithms 2 and 3 word for word: every chain takes all of its gradients, and the update takes its own."""
    model = with_plain_dropout(subject.model)
    parameters = list(model.parameters())
    history: list[float] = []
    iteration = 0
    factor = 1.0

    def gradients() -> list[Tensor]:
        return list(torch.autograd.grad(subject.task.loss(model, subject.batch), parameters))

    @torch.no_grad()
    def chain(sign: float) -> float:
        start = [parameter.clone() for parameter in parameters]
        for _ in range(STEPS):
            with torch.enable_grad():
                taken = gradients()
            norm = torch.stack([(gradient**2).sum() for gradient in taken]).sum().sqrt()
            for parameter, gradient in zip(parameters, taken, strict=True):
                parameter.add_(sign * GAMMA * gradient / norm)
        loss = float(subject.task.loss(model, subject.batch))
        for parameter, value in zip(parameters, start, strict=True):
            parameter.copy_(value)
        return loss

    def step() -> None:
        nonlocal iteration, factor
        _reset(subject, model)
        if iteration % INTERVAL == 0:
            descended, ascended = chain(-1), chain(+1)
            history.append(ascended - descended)
            middle = float(torch.tensor(history).median())
            factor = history[-1] / middle if middle else 1.0
        with torch.no_grad():
            with torch.enable_grad():
                taken = gradients()
            for parameter, gradient in zip(parameters, taken, strict=True):
                parameter.sub_(RATE * factor * gradient)
        iteration += 1

    return step


CONTESTANTS: dict[str, Callable[[Subject], Step]] = {
    "plain SGD": plain_sgd,
    "our SGD": our_sgd,
    "our SALR": our_salr,
    "our SALR on nn.Dropout": our_salr_on_plain_dropout,
    "our first-order SALR": our_first_order_salr,
    "literal SALR": literal_salr,
    "our SAM": our_sam,
    "published SAM": published_sam,
}


def _fused(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=RATE, fused=True)


def _wrapped(subject: Subject, model: nn.Module, optimizer: Wrapper) -> Step:
    def closure() -> Tensor:
        return subject.task.loss(model, subject.batch)

    def step() -> None:
        _reset(subject, model)
        optimizer.step(closure)

    return step


def _reset(subject: Subject, model: nn.Module) -> None:
    if isinstance(subject.task, LanguageModelling):
        model.reset_state()  # type: ignore[operator]
