"""What the ranks of ``torch.distributed``'s default group must have in common.

Without a default group, nothing is done.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, distributed

from salr.closures.vectors import local


def average_over_ranks(value: Tensor) -> None:
    """Replace a tensor by its mean over all ranks, in place."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(value)
        value /= distributed.get_world_size()


def take_from_first_rank(values: Iterable[Tensor]) -> None:
    """Replace tensors by those of rank 0, in place."""
    if distributed.is_available() and distributed.is_initialized():
        for value in values:
            distributed.broadcast(value, 0)


def drawn_alike(parameters: Sequence[Tensor], draw: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Return noise for each parameter, the same on all ranks.

    For a sharded parameter (DTensor) it is this rank's shard of the noise.

    Args:
        parameters: what the noise is for.
        draw: returns the noise for a whole parameter; of a sharded one it is handed a tensor of its shape,
            type and device, whose values it must not read.
    """
    noise = [draw(each) if local(each) is each else _shard_of_noise(each, draw) for each in parameters]
    take_from_first_rank(each for each, like in zip(noise, parameters, strict=True) if local(like) is like)
    return noise


def _shard_of_noise(parameter: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    whole = torch.empty(parameter.shape, dtype=parameter.dtype, device=local(parameter).device)
    noise = draw(whole)
    take_from_first_rank([noise])
    return local(distribute_tensor(noise, parameter.device_mesh, parameter.placements))
