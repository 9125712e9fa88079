"""What a base optimizer must be."""

import warnings
from collections.abc import Iterable
from typing import Any

from torch.optim import ASGD, Adafactor, Optimizer, Rprop

from salr.sharpness import Measure


def check_optimizer(name: str, base: object) -> None:
    """Raise ``TypeError`` if the base of a wrapper of that name is not an optimizer of torch."""
    if not isinstance(base, Optimizer):
        raise TypeError(
            f"{name} got {type(base).__name__}; expected a torch.optim.Optimizer to wrap, "
            f"as in {name}(torch.optim.SGD(model.parameters(), lr=0.01))"
        )


def check_rates(base: Optimizer) -> None:
    """Refuse a base whose rate SALR cannot scale from step to step."""
    if isinstance(base, ASGD | Rprop):
        raise ValueError(
            f"base = {type(base).__name__}: it reads its lr only at its first step, so SALR cannot "
            "scale it; expected an optimizer that reads lr at each step, such as SGD or Adam"
        )
    for group in base.param_groups:
        if group.get("lr") is None:
            raise ValueError(f"base = {type(base).__name__} has no lr, which SALR scales; expected a number")
    if isinstance(base, Adafactor):
        warnings.warn(
            "Adafactor steps at the smaller of lr and 1/√t, so SALR's factor acts only on an lr below it",
            stacklevel=4,
        )


def check_direction(measure: Measure, groups: Iterable[dict[str, Any]]) -> None:
    """Refuse a measure of the loss that is minimised for an optimizer that maximises."""
    if not measure.symmetric and any(group.get("maximize", False) for group in groups):
        raise ValueError(
            f"maximize=True with {measure!r}, which measures what is minimised; expected a base that "
            "minimises the negative loss, or GradientNorm()"
        )
