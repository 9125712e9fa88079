"""Gradients that are clipped after each backward pass, and how long they were before."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from salr.closures.vectors import total_norm, trainable


class Clipped:
    """A closure whose gradients are clipped each time they are taken.

    Clipping inside a plain closure hides the gradient's norm, and a measure that follows the norm would
    measure the bound instead. This object clips at the same place, and remembers the norm from before. Hand
    it to ``optimizer.step``.

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
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> closure = Clipped(lambda: x.square().sum(), [x], partial(clip_grad_norm_, max_norm=1.0))
        >>> loss = closure()
        >>> float(closure.norm), round(float(x.grad.norm()), 4)
        (10.0, 1.0)
    """

    norm: Tensor
    """‖∇f‖ of the last gradient before it was clipped, over ``parameters``, 0-d."""

    def __init__(
        self,
        closure: Callable[[], Tensor],
        parameters: Iterable[Tensor],
        clip: Callable[[list[Tensor]], object],
    ) -> None:
        self.closure, self.parameters, self.clip = closure, trainable(parameters), clip

    def __call__(self) -> Tensor:
        """Return the loss. If gradients are enabled, they are taken and clipped."""
        loss = self.closure()
        if torch.is_grad_enabled() and isinstance(loss, Tensor) and loss.requires_grad:
            loss.backward()
            gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
            self.norm = total_norm(gradients)
            self.clip(self.parameters)
        return loss

    @contextmanager
    def norm_kept(self) -> Iterator[None]:
        """Put the norm back at the end, for a measurement that takes further gradients elsewhere."""
        norm = self.norm
        try:
            yield
        finally:
            self.norm = norm
