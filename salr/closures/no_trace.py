"""Evaluating a loss and leaving everything beside it as it was."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from salr.closures.side_state import SideState


@contextmanager
def side_state_kept(devices: Iterable[torch.device]) -> Iterator[None]:
    """Put back what a :class:`SideState` finds: module buffers and random generators, but not gradients."""
    side = SideState(torch.empty(0, device=device) for device in set(devices))
    with side.kept(gradients=False), side.watching():
        yield


@contextmanager
def no_trace(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Put back what a :class:`SideState` finds, and the gradients: the parameters' and those of every module called.

    Within the context gradients start from None. A measure of some parameters would otherwise add to those of
    others.
    """
    side = SideState(parameters)
    with side.kept(), side.watching():
        yield
