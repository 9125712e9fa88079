"""What an evaluation of a loss changes besides its result: module buffers and random generators.

A BatchNorm layer moves its running statistics, a recurrent network its carried state, dropout the random stream. An optimizer is
handed parameters, not modules, so the modules are found by watching which of them the closure calls.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

Buffer = tuple[nn.Module, str, Tensor, Tensor]
"""The module, the buffer's name, the tensor registered under it, and a copy of its values."""


class BufferWatch:
    """Copies the buffers of every module that is called, just before its first call."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self._seen: set[nn.Module] = set()

    def _before_forward(self, module: nn.Module, _arguments: object) -> None:
        if module in self._seen:
            return
        for child in module.modules():
            if child not in self._seen:
                self._seen.add(child)
                self.buffers.extend(
                    (child, name, buffer, buffer.clone()) for name, buffer in child._buffers.items() if buffer is not None
                )

    @contextmanager
    def watching(self) -> Iterator[None]:
        handle = register_module_forward_pre_hook(self._before_forward)
        try:
            with warnings.catch_warnings():
                # A compiled module warns that it runs such a hook twice; the second time nothing is left to copy.
                warnings.filterwarnings("ignore", message="Using `torch.compile")
                yield
        finally:
            handle.remove()


def copy_buffers(buffers: Iterable[Buffer]) -> list[Buffer]:
    """The present values of the same buffers."""
    now = ((module, name, module._buffers[name]) for module, name, _, _ in buffers)
    return [(module, name, buffer, buffer.clone()) for module, name, buffer in now if buffer is not None]


def restore_buffers(buffers: list[Buffer]) -> None:
    """Puts the tensors and their values back, bit for bit."""
    for module, name, buffer, _ in buffers:
        if module._buffers[name] is not buffer:
            module._buffers[name] = buffer
    if buffers:
        torch._foreach_copy_([buffer for _, _, buffer, _ in buffers], [values for _, _, _, values in buffers])


Generators = list[tuple[torch.device, Tensor]]


def copy_generators(devices: Iterable[torch.device]) -> Generators:
    """The states of torch's default generators: the CPU's and those of the given accelerators (no synchronisation)."""
    states = [(torch.device("cpu"), torch.get_rng_state())]
    for device in devices:
        if device.type not in ("cpu", "meta"):
            states.append((device, torch.get_device_module(device).get_rng_state(device)))
    return states


def restore_generators(states: Generators) -> None:
    for device, state in states:
        if device.type == "cpu":
            torch.set_rng_state(state)
        else:
            torch.get_device_module(device).set_rng_state(state, device)
