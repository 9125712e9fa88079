"""The loss around the present parameters, for measures that evaluate it there."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from salr.closures.evaluation import Closure, Evaluation
from salr.closures.side_state import SideState
from salr.closures.vectors import (
    copy_into,
    flatten,
    precise,
    trainable,
    unflatten,
    warn_of_half_precision,
)


class Neighbourhood:
    """f(θ + offset) and its gradient; the offset is one row for all parameters that require a gradient.

    An evaluation leaves no trace: parameters, gradients, buffers and generators are put back bit for bit.
    Every evaluation sees the same random numbers (dropout masks) and the same buffers, so that f is one
    function.

    Args:
        closure: returns the loss of the same data whenever it is called; it may call ``backward`` itself.
        parameters: θ.

    Raises:
        ValueError: no parameter requires a gradient, or what :class:`Evaluation` refuses.

    Example:
        >>> import torch
        >>> from salr.closures import Neighbourhood
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> f = Neighbourhood(lambda: x.square().sum(), [x])
        >>> float(f.loss), float(f.loss_at(torch.tensor([1.0, 0.0]))), x.tolist()
        (25.0, 32.0, [3.0, 4.0])
    """

    loss: Tensor
    """f(θ), 0-d, in at least single precision."""
    gradient: Tensor
    """∇f(θ), one row; zero for parameters that the loss does not depend on."""

    def __init__(self, closure: Closure, parameters: Iterable[Tensor]) -> None:
        self.parameters = trainable(parameters)
        warn_of_half_precision("the measure", self.parameters)
        self._side = SideState(self.parameters)
        self._evaluation = Evaluation(closure, self.parameters, side=self._side)
        self._start = [parameter.detach().clone() for parameter in self.parameters]
        self.loss, self.gradient = self.loss_and_gradient(None)

    @property
    def center(self) -> Tensor:
        """θ, one row."""
        return flatten(self._start)

    def loss_at(self, offset: Tensor) -> Tensor:
        """f(θ + offset), 0-d."""
        with self._moved(offset):
            return precise(self._evaluation.loss())

    def loss_and_gradient(self, offset: Tensor | None) -> tuple[Tensor, Tensor]:
        """f and ∇f at θ + offset; None is θ itself."""
        with self._moved(offset):
            loss = self._evaluation()
            gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
            return precise(loss), flatten(gradients)

    @contextmanager
    def _moved(self, offset: Tensor | None) -> Iterator[None]:
        with self._side.kept():
            if self._evaluation.begun is not None:  # all evaluations see what the first one has seen
                self._evaluation.begun.restore()
            try:
                if offset is not None:
                    copy_into(self.parameters, unflatten(self.center + offset, self.parameters))
                yield
            finally:  # also at θ, which a forward pass may change (an embedding with max_norm)
                copy_into(self.parameters, self._start)


def check_not_negative(loss: Tensor) -> None:
    """Raise ``ValueError`` unless f(θ) ≥ 0, for a measure that divides by 1 + f(θ)."""
    if loss < 0:
        raise ValueError(f"f = {float(loss):.3g}; expected a loss >= 0, since this measure divides by 1 + f")
