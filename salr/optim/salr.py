"""SALR (sections 2 and 5, Algorithms 1 to 4)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from salr.checks import check_ascent_descent, check_count
from salr.closures import Evaluation
from salr.optim.ranks import average_over_ranks
from salr.optim.running_median import RunningMedian
from salr.optim.wrapper import Wrapper
from salr.sharpness import ascent_descent_sharpness


class SALR(Wrapper):
    """Scales the learning rate of any optimizer by the local sharpness of the loss.

    Every ``interval`` iterations, before the update and on the same batch, Definition 1 measures the sharpness Ŝ_k; the iteration's
    rate is η_k = η0 · Ŝ_k / median of all Ŝ measured so far, the newest included. Between measurements the newest factor is kept.
    ``SALR(torch.optim.SGD(...))`` is Algorithm 3, ``SALR(torch.optim.Adam(...))`` is Algorithm 4.

    η0 is each group's ``lr``, which stays the user's and the scheduler's: it is multiplied by the factor for the step alone.
    With n1 = n2 = 5 a measured iteration takes 9 gradients and 2 losses, the training gradient included; with ``interval`` 2 that
    is 5 gradients an iteration on average.

    A measurement that is not a positive finite number (the loss is not smooth, or has overflowed) says nothing about sharpness: it
    does not enter the median, and the factor stays as it was, 1 before the first one. So a rate is never negative or infinite.

    Where ``torch.distributed`` is initialised, Ŝ is averaged over the ranks of the default group, and all use the same rate.

    Args:
        base: the optimizer; its parameters are measured and its rate is scaled. Any ``torch.optim.Optimizer``, also one that
            needs a closure, or another wrapper of this library. On an accelerator the base should accept a tensor as its
            rate (``fused=True`` or ``capturable=True``), otherwise the base itself waits for the device.
        gamma: step size γ of the measurement, in units of the parameters.
        descent_steps: n1. ascent_steps: n2.
        interval: c, in iterations.
        shared_noise: whether all evaluations of a measurement see the same dropout masks.

    Raises:
        ValueError: γ ≤ 0, a negative number of steps or none at all, an interval < 1.
    """

    wraps_wrappers = True

    def __init__(
        self,
        base: Optimizer,
        gamma: float = 2e-3,
        descent_steps: int = 5,
        ascent_steps: int = 5,
        interval: int = 2,
        shared_noise: bool = True,
    ) -> None:
        super().__init__(base)
        check_ascent_descent(gamma, descent_steps, ascent_steps)
        check_count("interval", interval, 1)
        self.gamma, self.descent_steps, self.ascent_steps = gamma, descent_steps, ascent_steps
        self.interval, self.shared_noise = interval, shared_noise
        self._iterations = 0
        self._history: RunningMedian | None = None
        device = self.parameters[0].device
        self._sharpness = torch.tensor(torch.nan, device=device)
        self._factor = torch.tensor(1.0, device=device)

    @property
    def last_sharpness(self) -> Tensor:
        """The newest Ŝ, 0-d, whatever it was; NaN before the first measurement."""
        return self._sharpness

    @property
    def median_sharpness(self) -> Tensor:
        """The median of all valid measurements, 0-d; NaN before the first one."""
        if self._history is None:
            return torch.full_like(self._sharpness, torch.nan)
        median = self._history.median()
        return torch.where(torch.isfinite(median), median, torch.nan)

    @property
    def lr_factor(self) -> Tensor:
        """η_k / η0, 0-d."""
        return self._factor

    def _step(self, evaluation: Evaluation) -> Tensor:
        if self._iterations % self.interval == 0:
            self._measure(evaluation)
        with self._scaled_rates():
            loss = self._step_base(evaluation)
        self._iterations += 1
        return loss

    def _measure(self, evaluation: Evaluation) -> None:
        sharpness = self._sharpness_of(evaluation)
        average_over_ranks(sharpness)
        if self._history is None:
            self._history = RunningMedian(sharpness.new_empty(0))
        valid = torch.isfinite(sharpness) & (sharpness > 0)
        self._history.push(torch.where(valid, sharpness, torch.nan))
        factor = self._factor_of(sharpness, self._history)
        self._sharpness = sharpness
        self._factor = torch.where(valid & torch.isfinite(factor), factor, self._factor)

    def _sharpness_of(self, evaluation: Evaluation) -> Tensor:
        return ascent_descent_sharpness(
            evaluation, (), self.gamma, self.descent_steps, self.ascent_steps, self.shared_noise
        )

    def _factor_of(self, sharpness: Tensor, history: RunningMedian) -> Tensor:
        return sharpness / history.median()

    @contextmanager
    def _scaled_rates(self) -> Iterator[None]:
        rates = [group["lr"] for group in self.param_groups]
        # In place, for a compiled or captured step holds on to this very tensor; once, for groups may share one.
        tensors = list({id(rate): rate for rate in rates if isinstance(rate, Tensor)}.values())
        kept = [rate.clone() for rate in tensors]
        for rate in tensors:
            rate.mul_(self._factor.to(rate.device))
        for group, rate in zip(self.param_groups, rates, strict=True):
            if not isinstance(rate, Tensor):
                group["lr"] = rate * (
                    self._factor.item() if self._factor.device.type == "cpu" else self._factor
                )
        try:
            yield
        finally:
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)
            for group, rate in zip(self.param_groups, rates, strict=True):
                group["lr"] = rate

    def _own_state(self) -> dict[str, Any]:
        return {
            "iterations": self._iterations,
            "history": None if self._history is None else self._history.values(),
            "last_sharpness": self._sharpness,
            "lr_factor": self._factor,
        }

    def _load_own_state(self, state: dict[str, Any]) -> None:
        device = self._factor.device
        self._iterations = state["iterations"]
        history = state["history"]
        self._history = None if history is None else RunningMedian(history.to(device))
        self._sharpness = state["last_sharpness"].to(device)
        self._factor = state["lr_factor"].to(device)
