"""Noise for parameters, from torch's default generators.

On a CPU, drawing floating-point numbers one by one costs as much as a gradient, so that laws with few values
are drawn many bits at a time and come as small integers. To scale them is left to the pass over memory that
adds them.
"""

from functools import cache

import torch
from torch import Tensor

LOWEST_WORD = torch.iinfo(torch.int64).min
FEW = 4096
"""Up to so many elements, torch's own ``uniform_`` is faster."""
SPREAD = 2.0**15
"""Bound of :func:`uniform`."""


def normal(like: Tensor) -> Tensor:
    """Return numbers of the standard normal law in the shape, type and layout of a tensor."""
    if like.device.type != "cpu" or like.is_contiguous():
        return torch.randn_like(like)
    # In another layout than by rows, randn_like draws eight times as slowly.
    return _in_layout(torch.randn(like.numel(), dtype=like.dtype, device="cpu"), like)


def two_point(like: Tensor) -> Tensor:
    """Return the numbers 1 and −1, each with probability ½, in the shape and layout of a tensor.

    They have the mean and the variance of :func:`normal`. On a CPU, those for a real tensor are of type int8.
    """
    if like.is_complex():  # as of a complex normal number, the parts have variance ½
        noise = torch.empty_like(like)
        for part in torch.view_as_real(noise).unbind(-1):
            part.copy_(two_point(part)).mul_(0.5**0.5)
        return noise
    if like.device.type != "cpu":
        return torch.empty_like(like).bernoulli_().mul_(2).sub_(1)
    octets = _random_words(like.numel()).view(torch.uint8).to(torch.int32)
    return _in_layout(torch.index_select(_signs_of_bytes(), 0, octets).view(torch.int8), like)


def uniform(like: Tensor) -> Tensor:
    """Return numbers that are uniform in (−SPREAD, SPREAD), in the shape and layout of a tensor.

    Of a complex number, real and imaginary part are so. On a CPU, those for a large real tensor are the odd
    whole numbers of that interval, each with the same probability, of type int16.
    """
    if like.numel() <= FEW or like.device.type != "cpu" or like.is_complex():
        noise = torch.empty_like(like)
        (torch.view_as_real(noise) if like.is_complex() else noise).uniform_(-SPREAD, SPREAD)
        return noise
    words = _random_words(16 * like.numel())
    words.bitwise_or_(0x0001_0001_0001_0001)  # odd numbers lie symmetrically around 0
    return _in_layout(words.view(torch.int16), like)


def _random_words(bits: int) -> Tensor:
    """Return at least so many random bits."""
    # random_() without bounds would leave the sign bit 0.
    return torch.empty((bits + 63) // 64, dtype=torch.int64, device="cpu").random_(LOWEST_WORD, None)


@cache
def _signs_of_bytes() -> Tensor:
    """Return for each byte the signs, of type int8, that its eight bits stand for: 256 words."""
    bits = torch.arange(256, device="cpu")[:, None] >> torch.arange(8, device="cpu") & 1
    return (2 * bits - 1).to(torch.int8).view(torch.int64).reshape(-1)


def _in_layout(row: Tensor, like: Tensor) -> Tensor:
    """Return the first numbers of a row in the shape and memory layout of a tensor."""
    return row.as_strided(like.shape, torch.empty_like(like, device="meta").stride())
