"""Evaluating a loss and leaving everything beside it as it was."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from salr.closures.side_state import BufferWatch, copy_generators, restore_buffers, restore_generators


@contextmanager
def side_state_kept(devices: Iterable[torch.device]) -> Iterator[None]:
    """At the end, module buffers and torch's default generators are bit for bit what they were at the start."""
    generators, watch = copy_generators(set(devices)), BufferWatch()
    try:
        with watch.watching():
            yield
    finally:
        restore_generators(generators)
        restore_buffers(watch.buffers)


@contextmanager
def no_trace(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Keeps, beside buffers and generators, the gradients: those of ``parameters`` and of every module that is called.

    Within the context they start from None. A measure of some parameters would otherwise add to the gradients of the others.
    """
    kept: dict[int, tuple[Tensor, Tensor | None]] = {}
    seen: set[nn.Module] = set()

    def take_gradients(of: Iterable[Tensor]) -> None:
        for parameter in of:
            if id(parameter) not in kept:
                kept[id(parameter)] = (parameter, parameter.grad)
                parameter.grad = None

    def before_forward(module: nn.Module, _arguments: object) -> None:
        if module not in seen:
            seen.update(module.modules())
            take_gradients(module.parameters())

    take_gradients(parameters)
    handle = register_module_forward_pre_hook(before_forward)
    try:
        with side_state_kept(parameter.device for parameter in parameters):
            yield
    finally:
        handle.remove()
        for parameter, gradient in kept.values():
            parameter.grad = gradient
