"""Closures that do more than return a loss: they take, clear or change gradients, or differentiate."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from salr.closures.vectors import local


class NoGradient(ValueError):
    """The first evaluation of a closure has given nothing to differentiate: no loss, or one without a graph.

    Args:
        loss: what the closure has returned.
        on_accumulated: whether the gradients from before the step were in place when the closure ran, so that
            they must not be added again.
    """

    def __init__(self, loss: Tensor | None, on_accumulated: bool = False) -> None:
        reason = "returned None" if loss is None else "returned a loss that depends on none of the parameters"
        super().__init__(f"the closure {reason}; expected a loss computed from the parameters")
        self.loss, self.on_accumulated = loss, on_accumulated


class _BackwardReplaced(TorchFunctionMode):
    """Do something else when a closure calls ``backward``, so that it can be evaluated for its loss only."""

    def __init__(self, instead: Callable[[], None]) -> None:
        super().__init__()
        self._instead = instead

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.backward or func is torch.autograd.backward:
            return self._instead()
        return func(*args, **(kwargs or {}))


@contextmanager
def gradients_set_aside(parameters: list[Tensor], training: list[Tensor | None]) -> Iterator[None]:
    """Within, ``backward`` differentiates nothing.

    Whatever the closure then does with its gradients, it does to stand-ins.

    Args:
        parameters: those that the closure differentiates with respect to.
        training: their training gradients, which must not change. Any later gradient has served already and
            may stand in.
    """
    kept = [parameter.grad for parameter in parameters]
    own = training or kept

    def stand_in() -> None:
        for parameter, gradient, first in zip(parameters, kept, own, strict=True):
            if parameter.grad is None:
                parameter.grad = (
                    torch.zeros_like(parameter) if gradient is None or gradient is first else gradient
                )

    for parameter in parameters:
        parameter.grad = None
    try:
        with _BackwardReplaced(stand_in):
            yield
    finally:
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient


def place_copies(gradients: list[tuple[Tensor, Tensor]]) -> dict[int, tuple[Tensor, int]]:
    """Give parameters copies of gradients.

    Returns:
        For the id of each parameter its copy, and how often torch has counted a change of the copy.
    """
    placed = {}
    for parameter, gradient in gradients:
        parameter.grad = copy = gradient.clone()
        placed[id(parameter)] = copy, _changes(copy)
    return placed


def has_taken_gradients(parameters: list[Tensor], placed: dict[int, tuple[Tensor, int]]) -> bool:
    """Return whether a closure has given any parameter a gradient, or changed one that it was given."""
    for parameter in parameters:
        if (gradient := parameter.grad) is not None:
            copy, changes = placed.get(id(parameter), (None, 0))
            if gradient is not copy or _changes(gradient) != changes:
                return True
    return False


def arose_in_differentiation(error: BaseException) -> bool:
    """Return whether the closure was differentiating by itself when the error arose."""
    functions = (torch.autograd.grad.__code__, torch.autograd.backward.__code__)
    return any(frame.f_code in functions for frame, _ in traceback.walk_tb(error.__traceback__))


def _changes(gradient: Tensor) -> int:
    """Return how often torch has counted a change of a gradient."""
    return local(gradient)._version
