"""All parameters as one vector, and back."""

from collections.abc import Iterable, Sequence

import torch
from torch import Generator, Tensor


def trainable(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters that require a gradient; raises ValueError where there are none."""
    found = [parameter for parameter in parameters if parameter.requires_grad]
    if not found:
        raise ValueError("no parameter requires a gradient; expected at least one that does")
    return found


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """All elements in one row, in at least single precision."""
    row = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    return row.to(torch.promote_types(row.dtype, torch.float32))


def unflatten(row: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The row cut into tensors of the shapes and types of ``like``."""
    parts = row.split([tensor.numel() for tensor in like])
    return [part.view(tensor.shape).to(tensor.dtype) for part, tensor in zip(parts, like, strict=True)]


def normal(like: Tensor, generator: Generator) -> Tensor:
    """Standard normal numbers in the shape, type and place of ``like``.

    They are drawn where the generator lives, so that one on the CPU gives the same numbers for every device.
    """
    drawn = torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device)


def default_generator(generator: Generator | None) -> Generator:
    """The caller's generator, or a new one with seed 0: a measure never draws from the global one."""
    return torch.Generator().manual_seed(0) if generator is None else generator
