"""What is compared: every optimizer of this library, a plain loop, Algorithm 2 as written, and a package.

A contestant is a function that takes a :class:`scripts.bench.subjects.Subject` and returns one iteration of
training on its own copy of the network. ``pytorch_optimizer`` has SAM and its adaptive variant, but none of
Entropy-SGD, SmoothOut and SALR.
"""

import copy
from collections.abc import Callable

import pytorch_optimizer
import torch
from torch import Tensor, nn

from models import Dropout
from salr.closures import Evaluation
from salr.optim import SALR, SAM, LocalEntropy, ReleasedSALR, SmoothOut
from salr.sharpness import AscentDescent, GradientNorm
from scripts.bench.subjects import Subject

GAMMA, STEPS, INTERVAL = 2e-3, 5, 2  # the paper's
RATE = 0.01
RHO, ADAPTIVE_RHO = 0.05, 0.5
RADIUS, ADAPTIVE_RADIUS = 0.005, 0.1

Step = Callable[[], object]
Contestant = Callable[[Subject], Step]


def with_plain_dropout(model: nn.Module) -> nn.Module:
    """Return a copy as a user would have written it, with ``nn.Dropout``."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.p))
    return model


def plain_sgd(subject: Subject) -> Step:
    """Train as a user's plain loop does: all ratios are to this one."""
    model = with_plain_dropout(subject.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def step() -> None:
        subject.begin(model)
        optimizer.zero_grad()
        subject.loss(model).backward()
        optimizer.step()

    return step


def our_sgd(subject: Subject) -> Step:
    """Train as the trainer does with a plain optimizer."""
    model = copy.deepcopy(subject.model)
    optimizer, parameters = _fused(model), list(model.parameters())

    def step() -> None:
        subject.begin(model)
        optimizer.step(Evaluation(lambda: subject.loss(model), parameters))

    return step


def our_salr(subject: Subject, steps: int = STEPS) -> Step:
    model = copy.deepcopy(subject.model)
    return _ours(subject, model, SALR(_fused(model), AscentDescent(GAMMA, steps, steps), INTERVAL))


def our_salr_on_plain_dropout(subject: Subject) -> Step:
    model = with_plain_dropout(subject.model)
    return _ours(subject, model, SALR(_fused(model), AscentDescent(GAMMA, STEPS, STEPS), INTERVAL))


def our_first_order_salr(subject: Subject) -> Step:
    """Measure the norm of the training gradient, which costs no further gradient."""
    model = copy.deepcopy(subject.model)
    return _ours(subject, model, SALR(_fused(model), GradientNorm(), INTERVAL))


def our_released_salr(subject: Subject) -> Step:
    model = copy.deepcopy(subject.model)
    return _ours(subject, model, ReleasedSALR(_fused(model)))


def our_entropy_sgd(subject: Subject) -> Step:
    model = copy.deepcopy(subject.model)
    return _ours(subject, model, LocalEntropy(_fused(model, rate=1.0)))


def our_two_point_entropy_sgd(subject: Subject) -> Step:
    model = copy.deepcopy(subject.model)
    return _ours(subject, model, LocalEntropy(_fused(model, rate=1.0), noise_law="two_point"))


def our_smoothout(subject: Subject) -> Step:
    model = copy.deepcopy(subject.model)
    return _ours(subject, model, SmoothOut(_fused(model), RADIUS))


def our_adaptive_smoothout(subject: Subject) -> Step:
    model = copy.deepcopy(subject.model)
    return _ours(subject, model, SmoothOut(_fused(model), ADAPTIVE_RADIUS, adaptive=True))


def our_sam(subject: Subject) -> Step:
    model = copy.deepcopy(subject.model)
    return _ours(subject, model, SAM(_fused(model), RHO))


def our_adaptive_sam(subject: Subject) -> Step:
    model = copy.deepcopy(subject.model)
    return _ours(subject, model, SAM(_fused(model), ADAPTIVE_RHO, adaptive=True))


def published_sam(subject: Subject) -> Step:
    return _published_sam(subject, RHO, adaptive=False)


def published_adaptive_sam(subject: Subject) -> Step:
    return _published_sam(subject, ADAPTIVE_RHO, adaptive=True)


def literal_salr(subject: Subject) -> Step:
    """Train by Algorithms 2 and 3 as they are written: the chains and the update share no gradient."""
    model = with_plain_dropout(subject.model)
    parameters = list(model.parameters())
    history: list[float] = []
    iteration = 0
    factor = 1.0

    def gradients() -> list[Tensor]:
        return list(torch.autograd.grad(subject.loss(model), parameters))

    @torch.no_grad()
    def chain(sign: float) -> float:
        start = [parameter.clone() for parameter in parameters]
        for _ in range(STEPS):
            with torch.enable_grad():
                taken = gradients()
            norm = torch.stack([(gradient**2).sum() for gradient in taken]).sum().sqrt()
            for parameter, gradient in zip(parameters, taken, strict=True):
                parameter.add_(sign * GAMMA * gradient / norm)
        loss = float(subject.loss(model))
        for parameter, value in zip(parameters, start, strict=True):
            parameter.copy_(value)
        return loss

    def step() -> None:
        nonlocal iteration, factor
        subject.begin(model)
        if iteration % INTERVAL == 0:
            descended, ascended = chain(-1), chain(+1)
            history.append(ascended - descended)
            middle = float(torch.tensor(history).median())
            factor = history[-1] / middle if middle else 1.0
        taken = gradients()
        with torch.no_grad():
            for parameter, gradient in zip(parameters, taken, strict=True):
                parameter.sub_(RATE * factor * gradient)
        iteration += 1

    return step


CONTESTANTS: dict[str, Contestant] = {
    "plain SGD": plain_sgd,
    "our SGD": our_sgd,
    "our SALR": our_salr,
    "our SALR on nn.Dropout": our_salr_on_plain_dropout,
    "our first-order SALR": our_first_order_salr,
    "our released SALR": our_released_salr,
    "literal SALR": literal_salr,
    "our Entropy-SGD": our_entropy_sgd,
    "our Entropy-SGD with two-point noise": our_two_point_entropy_sgd,
    "our SmoothOut": our_smoothout,
    "our adaptive SmoothOut": our_adaptive_smoothout,
    "our SAM": our_sam,
    "published SAM": published_sam,
    "our adaptive SAM": our_adaptive_sam,
    "published adaptive SAM": published_adaptive_sam,
}


def _fused(model: nn.Module, rate: float = RATE) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=rate, fused=True)


def _ours(subject: Subject, model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
    def closure() -> Tensor:
        return subject.loss(model)

    def step() -> None:
        subject.begin(model)
        optimizer.step(closure)  # type: ignore[arg-type]  # torch's annotation wants a float

    return step


def _published_sam(subject: Subject, rho: float, adaptive: bool) -> Step:
    """Train with ``pytorch_optimizer.SAM`` on the network as a user would have it."""
    model = with_plain_dropout(subject.model)
    optimizer = pytorch_optimizer.SAM(
        model.parameters(), torch.optim.SGD, rho=rho, adaptive=adaptive, lr=RATE
    )

    def gradient() -> Tensor:
        loss = subject.loss(model)
        loss.backward()
        return loss

    def step() -> None:
        subject.begin(model)
        optimizer.zero_grad()
        gradient()
        optimizer.step(gradient)  # type: ignore[arg-type]  # torch's annotation wants a float

    return step
