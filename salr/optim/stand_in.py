"""Objects that a trainer hands out in place of an optimizer, whose class inherits from the optimizer's."""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

Self = TypeVar("Self")
P = ParamSpec("P")
R = TypeVar("R")


def on_the_optimizer(method: Callable[Concatenate[Self, P], R]) -> Callable[Concatenate[Self, P], R]:
    """Run a method that changes the optimizer on the optimizer itself, also if a stand-in is called.

    Lightning's ``self.optimizers()`` returns a stand-in. It reads the optimizer's attributes, but what a
    method sets would stay with the stand-in, and no step would see it.

    Args:
        method: a method of a :class:`salr.optim.Wrapper`.
    """

    @functools.wraps(method)
    def call(self: Any, /, *arguments: P.args, **options: P.kwargs) -> R:
        return method(self if "base" in vars(self) else self.optimizer, *arguments, **options)

    return call
