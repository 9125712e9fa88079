"""Entropy-SGD (Chaudhari et al.

2017) over any optimizer: descent on local entropy, whose gradient Langevin dynamics estimate.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from salr.checks import check_count, check_local_entropy
from salr.closures import Evaluation
from salr.closures.vectors import copy_into, like_shard, local
from salr.optim.ranks import drawn_alike
from salr.optim.wrapper import Wrapper


class LocalEntropy(Wrapper):
    """Hand the base the gradient x − μ of the local entropy instead of the loss's.

    An iteration starts x' and μ at x and takes L Langevin steps, each on its own batch, of size η' =
    ``inner_lr`` along ::

        Nesterov momentum of ∇f(x')  −  γ (x − x')  +  ε √(2/η') N(0, 1),

    each followed by μ ← α μ + (1 − α) x' with α = ``averaging``; the momentum starts anew each iteration. The
    scope γ = ``scope`` (1 + ``scope_growth``)^k grows with the iteration k and draws x' ever closer to x.

    ``LocalEntropy(SGD(lr=1))`` is Entropy-SGD: the base's rate multiplies x − μ, and 1 is its authors' value.
    ``LocalEntropy(Adam(...))`` is Entropy-Adam.

    Where the paper and the method's own sources differ, this follows the latter's code: α weighs the old
    mean, the scope's counter does grow, and the noise has the displacement ε √(2 η') a step. Our own choice:
    the scope stops growing at ``scope_cap``, 1/η' where none is given, past which the pull throws x' beyond x
    and in the end the iteration diverges.

    All ranks of ``torch.distributed`` add the same noise, so that their parameters stay the same.

    The closure is called L times. Give ``step`` an ``advance`` that moves it on to its next batch, which is
    called before each Langevin step but the first, or a closure that takes its next batch by itself.

    Args:
        base: makes the step along x − μ.
        steps: L.
        inner_lr: η'.
        inner_momentum: in [0, 1).
        scope: γ of the first iteration.
        scope_growth: by what fraction γ grows an iteration.
        noise: ε, in units of the parameters.
        averaging: α, in [0, 1).
        scope_cap: the largest γ; ``math.inf`` lets it grow as the paper writes it.
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
        modules: nn.Module | Iterable[nn.Module] = (),
    ) -> None:
        super().__init__(base, modules)
        check_local_entropy(steps, inner_lr, inner_momentum, scope, scope_growth, noise, averaging)
        if scope_cap is not None and not scope_cap > 0:
            raise ValueError(f"scope_cap = {scope_cap}; expected a number > 0, math.inf for none")
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
        self._iterations += 1
        return loss

    @torch.no_grad()
    def _gradient(self, evaluation: Evaluation) -> Tensor:
        loss = evaluation()
        used, _ = evaluation.gradients()
        moved = [local(parameter) for parameter in used]
        start = [parameter.clone() for parameter in moved]
        mean = [parameter.clone() for parameter in moved]
        momentum = [torch.zeros_like(parameter) for parameter in moved]
        try:
            for step in range(self.steps if moved else 0):
                if step > 0:
                    evaluation.advance()
                    evaluation()
                self._langevin(used, start, momentum)
                torch._foreach_lerp_(mean, moved, 1 - self.averaging)
        finally:
            copy_into(moved, start)
        moves = self._minimised(used, list(torch._foreach_sub(start, mean)) if used else [])
        for parameter, move in zip(used, moves, strict=True):
            parameter.grad = like_shard(parameter, move)
        return loss

    def _langevin(self, used: list[Tensor], start: list[Tensor], momentum: list[Tensor]) -> None:
        """Move x' along the Nesterov gradient, the pull towards x and the noise."""
        moved = [local(parameter) for parameter in used]
        # Another batch's loss may not use a parameter.
        gradients = [
            torch.zeros_like(place) if parameter.grad is None else local(parameter.grad)
            for parameter, place in zip(used, moved, strict=True)
        ]
        gradients = self._minimised(used, gradients)
        torch._foreach_mul_(momentum, self.inner_momentum)
        torch._foreach_add_(momentum, gradients)
        change = torch._foreach_add(gradients, momentum, alpha=self.inner_momentum)
        torch._foreach_add_(change, torch._foreach_sub(moved, start), alpha=self.current_scope)
        torch._foreach_mul_(change, -self.inner_lr)
        if self.noise > 0:
            noise = drawn_alike(used, torch.randn_like)
            torch._foreach_add_(change, noise, alpha=self.noise * math.sqrt(2 * self.inner_lr))
        torch._foreach_add_(moved, change)

    def _own_state(self) -> dict[str, Any]:
        return {"iterations": self._iterations}

    def _load_own_state(self, state: dict[str, Any]) -> None:
        check_count("iterations", state["iterations"], 0)
        self._iterations = state["iterations"]
