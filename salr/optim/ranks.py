"""What the ranks of ``torch.distributed``'s default group must have in common;

without one, nothing is done.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, distributed

from salr.closures.vectors import local


def average_over_ranks(value: Tensor) -> None:
    """Replaces a tensor by its mean over all ranks, in place."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(value)
        value /= distributed.get_world_size()


def take_from_first_rank(values: Iterable[Tensor]) -> None:
    """Replaces tensors by those of rank 0, in place."""
    if distributed.is_available() and distributed.is_initialized():
        for value in values:
            distributed.broadcast(value, 0)


def drawn_alike(parameter: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """Return noise for a parameter, the same on all ranks; for a sharded one (DTensor), this rank's shard of it.

    Args:
        parameter: what the noise is for.
        draw: returns the noise for a whole tensor of the parameter's shape, type and device, whose values it
            must not read.
    """
    mesh = getattr(parameter, "device_mesh", None)
    whole = (
        torch.empty(parameter.shape, dtype=parameter.dtype, device=local(parameter).device)
        if mesh
        else parameter
    )
    noise = draw(whole)
    take_from_first_rank([noise])
    if mesh is None:
        return noise
    from torch.distributed.tensor import distribute_tensor

    return local(distribute_tensor(noise, mesh, parameter.placements))  # type: ignore[attr-defined]
