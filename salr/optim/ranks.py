"""What the ranks of ``torch.distributed``'s default group must have in common; without one, nothing is done."""

from collections.abc import Iterable

from torch import Tensor, distributed


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
