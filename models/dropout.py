"""Dropout whose masks cost little on a CPU."""

import torch
from torch import Tensor, nn

LEVELS = 1 << 16  # a mask entry is decided by 16 random bits
LOWEST_WORD = torch.iinfo(torch.int64).min


def cheap_mask(x: Tensor, keep: int) -> Tensor:
    """Return zeros and ones in the shape, data type and memory layout of ``x``.

    Draws ceil(numel / 4) 64-bit words from torch's default CPU generator, four decisions per word.

    Args:
        x: A tensor on the CPU.
        keep: Each element is one with probability ``keep`` / 65536.
    """
    # random_() without bounds leaves the sign bit 0, which would halve the range of every fourth element
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(LOWEST_WORD, None)
    bits = words.view(torch.int16)[: x.numel()]
    # comparing in place, int16 to int16, is vectorised; <= instead of <, so that keep = 65536 still fits
    mask = bits.le_(keep - LEVELS // 2 - 1).to(x.dtype)
    # a mask in another layout than its activation costs as much as was saved
    return mask.as_strided(x.shape, torch.empty_like(x, device="meta").stride())


class Dropout(nn.Module):
    """Set each element to zero with probability ``p`` and scale the others by 1 / (1 - p), only in training.

    On a CPU ``p`` is rounded to a multiple of 1/65536, and the scale is that of the rounded rate, so that
    the expectation is the input (in a 16-bit type up to the rounding of the scale). On any other device it
    is ``torch.nn.functional.dropout``. Masks are drawn from torch's default generator: the same state gives
    the same mask.

    Args:
        p: Probability of a zero, in [0, 1).

    Raises:
        ValueError: ``p`` is out of range.

    Example:
        >>> Dropout(0.5).eval()(torch.ones(3))
        tensor([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout is {p}: expected a probability in [0, 1)")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape and floating-point type."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.p, training=True)
        keep = max(1, round((1 - self.p) * LEVELS))
        return x * cheap_mask(x, keep).mul_(LEVELS / keep)

    def extra_repr(self) -> str:
        return f"p={self.p}"
