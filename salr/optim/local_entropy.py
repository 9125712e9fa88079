"""Entropy-SGD (Chaudhari and others 2017) over any optimizer.

It descends on the local entropy, whose gradient Langevin dynamics estimate.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.sgd import sgd

from salr.checks import check_count, check_local_entropy, expect
from salr.closures import Evaluation
from salr.closures.own_gradients import NoGradient
from salr.closures.vectors import copy_into, like_shard, local
from salr.optim.gradients import minimised
from salr.optim.noise import normal, two_point
from salr.optim.ranks import drawn_alike
from salr.optim.wrapper import Wrapper

NOISE_LAWS: dict[str, Callable[[Tensor], Tensor]] = {"normal": normal, "two_point": two_point}
FUSED = ("cpu", "cuda")
"""Devices on which torch takes a step of SGD in one pass over memory."""


class LocalEntropy(Wrapper):
    """Let the base step with x − μ, the gradient of the local entropy, instead of the loss's gradient.

    An iteration starts x' and μ at x and takes L Langevin steps, each on its own batch, of size η' =
    ``inner_lr`` along ::

        Nesterov momentum of ∇f(x')  −  γ (x − x')  +  ε √(2/η') N(0, 1),

    each followed by μ ← α μ + (1 − α) x' with α = ``averaging``. The momentum starts anew in each iteration.
    The scope γ = ``scope`` (1 + ``scope_growth``)^k grows with the iteration k and pulls x' closer to x.

    ``LocalEntropy(SGD(lr=1))`` is Entropy-SGD: the base's rate multiplies x − μ, and 1 is its authors' value.
    ``LocalEntropy(Adam(...))`` is Entropy-Adam.

    If the SALR paper and the code of the method's authors differ, this class follows the code: α is the
    weight of the old mean, the scope grows with the iterations, and the noise moves x' by ε √(2 η') N(0, 1)
    per step. The bound ``scope_cap`` is our own choice. It is 1/η' by default. With a larger scope, each step
    moves x' past x, and in the end the iteration diverges.

    With ``noise_law="two_point"`` the numbers 1 and −1, each with probability ½, take the place of N(0, 1).
    On a CPU they cost a small part of it. The Euler scheme of a stochastic differential equation has the same
    weak order with either law (Kloeden and Platen 1992, Numerical Solution of Stochastic Differential
    Equations, section 14.1), and on a quadratic loss mean and variance of x' are the same at every step.

    All ranks of ``torch.distributed`` add the same noise, so that their parameters stay the same.

    The closure is called L times. Give ``step`` an ``advance`` that moves it on to its next batch, which is
    called before each Langevin step but the first, or a closure that takes its next batch by itself.

    Args:
        base: makes the step along x − μ.
        steps: the number L of Langevin steps per iteration.
        inner_lr: η'.
        inner_momentum: in [0, 1).
        scope: γ of the first iteration.
        scope_growth: by what fraction γ grows per iteration.
        noise: ε, in units of the parameters.
        averaging: α, in [0, 1).
        scope_cap: the largest γ; ``math.inf`` lets it grow as the paper writes it.
        noise_law: ``"normal"`` or ``"two_point"``.
        modules: see :class:`Wrapper`.

    Raises:
        ValueError: a value out of range.
        TypeError: the base is itself a wrapper, which would want gradients elsewhere.

    Example:
        >>> import torch
        >>> from salr.optim import LocalEntropy
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> optimizer = LocalEntropy(torch.optim.SGD([x], lr=1.0), steps=5, inner_lr=0.1, noise=0.0)
        >>> calls = []
        >>> def closure():
        ...     calls.append(x.tolist())
        ...     return x.square().sum() / 2
        >>> float(optimizer.step(closure)), len(calls) >= 5
        (12.5, True)
        >>> bool(x.norm() < 5)
        True
    """

    adds_accumulated = False
    capturable = True

    def __init__(
        self,
        base: Optimizer,
        steps: int = 5,
        inner_lr: float = 0.1,
        inner_momentum: float = 0.9,
        scope: float = 0.03,
        scope_growth: float = 1e-3,
        noise: float = 1e-4,
        averaging: float = 0.75,
        scope_cap: float | None = None,
        noise_law: str = "normal",
        modules: nn.Module | Iterable[nn.Module] = (),
    ) -> None:
        super().__init__(base, modules)
        check_local_entropy(steps, inner_lr, inner_momentum, scope, scope_growth, noise, averaging)
        if scope_cap is not None and not scope_cap > 0:
            raise ValueError(f"scope_cap = {scope_cap}; expected a number > 0, math.inf for none")
        expect(noise_law in NOISE_LAWS, "noise_law", repr(noise_law), " or ".join(map(repr, NOISE_LAWS)))
        self.noise_law = noise_law
        self.steps, self.inner_lr, self.inner_momentum = steps, inner_lr, float(inner_momentum)
        self.scope, self.scope_growth, self.noise, self.averaging = scope, scope_growth, noise, averaging
        self.scope_cap = 1 / inner_lr if scope_cap is None else scope_cap
        self._iterations = 0

    @property
    def current_scope(self) -> float:
        """γ of the next iteration."""
        # In logarithms and bounded: the power alone overflows a float in the end.
        growth = math.exp(min(self._iterations * math.log1p(self.scope_growth), 700))
        return min(self.scope * growth, self.scope_cap)

    def _step(self, evaluation: Evaluation) -> Tensor:
        loss = super()._step(evaluation)
        if self._has_gradients():  # a batch that has been skipped is no iteration
            self._iterations += 1
        return loss

    @torch.no_grad()
    def _gradient(self, evaluation: Evaluation) -> Tensor:
        loss = evaluation()
        used, _ = evaluation.gradients()
        moved = [local(parameter) for parameter in used]
        start = [place.clone() for place in moved]
        mean, momentum = start, list[Tensor | None]([None] * len(moved))
        try:
            for step in range(self.steps if moved else 0):
                if step > 0:
                    evaluation.advance()
                    if not self._evaluate_again(evaluation):
                        continue
                    for parameter in _others_with_gradient(evaluation, used):
                        # Until now its gradient was zero, so x' and μ are where they began.
                        place = local(parameter)
                        used.append(parameter)
                        moved.append(place)
                        start.append(place.clone())
                        mean.append(place.clone())
                        momentum.append(torch.zeros_like(place))
                    self._pull_back(moved, start)
                self._descend(used, start, momentum)
                if self.noise > 0:
                    scale = self.noise * math.sqrt(2 * self.inner_lr)
                    torch._foreach_add_(moved, drawn_alike(used, NOISE_LAWS[self.noise_law]), alpha=scale)
                if step == 0:
                    mean = list(torch._foreach_lerp(start, moved, 1 - self.averaging))
                else:
                    torch._foreach_lerp_(mean, moved, 1 - self.averaging)
        finally:
            copy_into(moved, start)
        for old, place in zip(start, mean, strict=True):
            torch.sub(old, place, out=place)
        for parameter, move in zip(used, minimised(self.param_groups, used, mean), strict=True):
            parameter.grad = like_shard(parameter, move)
        return loss

    def _evaluate_again(self, evaluation: Evaluation) -> bool:
        """Take the gradient on a later batch. Return whether there is one: a batch may be skipped."""
        try:
            evaluation()
        except NoGradient as nothing:
            if nothing.loss is not None:
                self._warn_once(f"an inner step has been left out, for {nothing}")
            return False
        return True

    def _descend(self, used: list[Tensor], start: list[Tensor], momentum: list[Tensor | None]) -> None:
        """Move x' along the Nesterov gradient and update the momentum, which starts as None."""
        moved = [local(parameter) for parameter in used]
        # Another batch's loss may not use a parameter.
        gradients = [
            torch.zeros_like(place) if parameter.grad is None else local(parameter.grad)
            for parameter, place in zip(used, moved, strict=True)
        ]
        fused = all(map(_lie_alike, moved, start, gradients, momentum))
        sgd(
            moved,
            minimised(self.param_groups, used, gradients),
            momentum,
            lr=self.inner_lr,
            momentum=self.inner_momentum,
            nesterov=self.inner_momentum > 0,
            fused=fused,
            foreach=not fused,
            dampening=0,
            weight_decay=0,
            maximize=False,
        )

    def _pull_back(self, moved: list[Tensor], start: list[Tensor]) -> None:
        """Move x' towards x."""
        if self._given:
            torch._foreach_lerp_(moved, start, [*self._given] * len(moved))
        else:
            torch._foreach_lerp_(moved, start, self._numbers()[0])

    def _numbers(self) -> list[float]:
        """Return how much of the way back to x each inner step takes first."""
        return [self.inner_lr * self.current_scope]

    def _replayed(self) -> None:
        self._iterations += 1

    def _own_state(self) -> dict[str, Any]:
        return {"iterations": self._iterations}

    def _load_own_state(self, state: dict[str, Any]) -> None:
        check_count("iterations", state["iterations"], 0)
        self._iterations = state["iterations"]


def _others_with_gradient(evaluation: Evaluation, used: list[Tensor]) -> list[Tensor]:
    """Return the parameters with a gradient that are not among the used ones."""
    found, _ = evaluation.gradients()
    known = {id(parameter) for parameter in used}
    return [parameter for parameter in found if id(parameter) not in known]


def _lie_alike(place: Tensor, copy: Tensor, gradient: Tensor, momentum: Tensor | None) -> bool:
    """Return whether torch's fused kernel gets a parameter right: it takes memory as it lies, without gaps.

    Args:
        place: the parameter.
        copy: a clone, which has the same strides only if there are no gaps.
        gradient: the parameter's.
        momentum: its momentum, if there is any yet.
    """
    return (
        place.device.type in FUSED
        and place.is_floating_point()
        and place.dtype == gradient.dtype
        and place.stride() == copy.stride() == gradient.stride()
        and (momentum is None or momentum.stride() == place.stride())
    )
