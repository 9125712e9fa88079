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

Buffer = tuple[nn.Module, str, Tensor | None, Tensor | None]
"""The module, the buffer's name, what is registered under it (None: nothing yet), and a copy of its values."""


def _copy(module: nn.Module, name: str) -> Buffer:
    buffer = module._buffers[name]
    return module, name, buffer, None if buffer is None else buffer.clone()


class BufferWatch:
    """Finds the modules that are called, with all their submodules, and copies their buffers as they were before.

    Finding needs a hook, which compiled code cannot run (it would be compiled anew at every step, or go without): what is called
    while modules are looked for runs uncompiled. They are looked for once, and once more where a parameter is used for the
    first time, for it may be a module's that has not been called before; else the buffers of those found are copied.
    """

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.modules: dict[nn.Module, None] = {}
        self.complete = False
        self._used: set[int] = set()

    def misses(self, used: Iterable[Tensor]) -> bool:
        """Whether modules must be looked for once more, now that these parameters have been used."""
        news = {id(parameter) for parameter in used} - self._used
        if news and self._used:
            self.complete = False
        self._used |= news
        return not self.complete

    def _before_forward(self, module: nn.Module, _arguments: object) -> None:
        if module in self.modules:
            return
        for child in module.modules():
            if child not in self.modules:
                self.modules[child] = None
                self.buffers.extend(_copy(child, name) for name, _ in child._buffers.items())

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within, the closure is called; afterwards ``buffers`` holds what its modules' buffers were at the start."""
        self.buffers = [_copy(module, name) for module in self.modules for name, _ in module._buffers.items()]
        if self.complete:
            yield
            return
        handle = register_module_forward_pre_hook(self._before_forward)
        try:
            with _uncompiled():
                yield
        finally:
            handle.remove()
        self.complete = True

    def parameters(self) -> Iterator[Tensor]:
        """Those of the modules found."""
        for module in self.modules:
            yield from module.parameters(recurse=False)


@contextmanager
def _uncompiled() -> Iterator[None]:
    with warnings.catch_warnings():
        # A compiled module warns that such a hook runs for it and for what it has compiled; the second finds nothing new.
        warnings.filterwarnings("ignore", message="Using `torch.compile")
        with torch.compiler.set_stance("force_eager"):
            yield


def copy_buffers(buffers: Iterable[Buffer]) -> list[Buffer]:
    """The present values of the same buffers."""
    return [_copy(module, name) for module, name, _, _ in buffers]


def restore_buffers(buffers: list[Buffer]) -> None:
    """Puts the tensors and their values back, bit for bit."""
    pairs = []
    for module, name, buffer, values in buffers:
        if module._buffers[name] is not buffer:
            module._buffers[name] = buffer
        if buffer is not None and values is not None:
            pairs.append((buffer, values))
    if pairs:
        torch._foreach_copy_([buffer for buffer, _ in pairs], [values for _, values in pairs])


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
