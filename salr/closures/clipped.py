"""Gradients that are clipped for the step, and not for measurements."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from salr.closures.vectors import trainable


class Clipped:
    """A closure whose gradients are clipped for the step.

    Clipping inside a plain closure also clips the gradients of a measurement. A measure of the gradient's
    length would then measure the bound instead. This object clips what the base steps with, and measurements
    see the gradients as they are. Hand it to ``optimizer.step``.

    Args:
        closure: return the loss of the current batch, and do not call ``backward``.
        parameters: those whose gradients are clipped.
        clip: called with the list of these parameters after each backward pass, as
            ``torch.nn.utils.clip_grad_norm_`` and ``clip_grad_value_`` are.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from torch.nn.utils import clip_grad_norm_
        >>> from salr.closures import Clipped
        >>> from salr.sharpness import GradientNorm
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> closure = Clipped(lambda: x.square().sum(), [x], partial(clip_grad_norm_, max_norm=1.0))
        >>> loss = closure()
        >>> round(float(x.grad.norm()), 4), float(GradientNorm()(closure, [x]))
        (1.0, 10.0)
    """

    def __init__(
        self,
        closure: Callable[[], Tensor],
        parameters: Iterable[Tensor],
        clip: Callable[[list[Tensor]], object],
    ) -> None:
        self.closure, self.parameters, self._clip = closure, trainable(parameters), clip

    def __call__(self) -> Tensor:
        """Return the loss. If gradients are enabled, they are taken and clipped."""
        loss = self.unclipped()
        if _has_graph(loss):
            self.clip()
        return loss

    def unclipped(self) -> Tensor:
        """Return the loss. If gradients are enabled, they are taken as they are."""
        loss = self.closure()
        if _has_graph(loss):
            loss.backward()
        return loss

    def clip(self) -> None:
        """Clip the gradients that are there."""
        self._clip(self.parameters)


def _has_graph(loss: object) -> bool:
    return torch.is_grad_enabled() and isinstance(loss, Tensor) and loss.requires_grad
