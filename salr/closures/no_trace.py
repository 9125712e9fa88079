"""Evaluating a loss and leaving everything beside it as it was."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from salr.closures.side_state import SideState


@contextmanager
def side_state_kept(devices: Iterable[torch.device]) -> Iterator[None]:
    """Put back what a :class:`SideState` finds: module buffers and random generators, but not gradients.

    Example:
        >>> import torch
        >>> from salr.closures import side_state_kept
        >>> with side_state_kept([torch.device("cpu")]):
        ...     first = torch.rand(())
        >>> bool(torch.rand(()) == first)
        True
    """
    side = SideState(torch.empty(0, device=device) for device in set(devices))
    with side.kept(gradients=False), side.watching():
        yield


@contextmanager
def no_trace(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Put back what a :class:`SideState` finds, and the gradients.

    These are the parameters' gradients and those of every module called. Within the context gradients start
    from None. A measure of some parameters would otherwise add to those of others.

    Example:
        >>> import torch
        >>> from salr.closures import no_trace
        >>> model = torch.nn.BatchNorm1d(2)
        >>> with no_trace(model.parameters()):
        ...     model(torch.randn(4, 2)).sum().backward()
        >>> int(model.num_batches_tracked), model.weight.grad
        (0, None)
    """
    side = SideState(parameters)
    with side.kept(), side.watching():
        yield
