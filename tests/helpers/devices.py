"""The devices of this machine: the random numbers drawn on them, and what makes the host wait for them."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def random_state() -> Tensor:
    """Return the states of the generators of the CPU and of the default device, one after the other."""
    states = [torch.get_rng_state()]
    if torch.get_default_device().type != "cpu":
        states.append(_module().get_rng_state())
    return torch.cat(states)


def set_random_state(state: Tensor) -> None:
    """Put back what :func:`random_state` returned."""
    size = len(torch.get_rng_state())
    torch.set_rng_state(state[:size])
    if torch.get_default_device().type != "cpu":
        _module().set_rng_state(state[size:])


def seeded_generator(seed: int) -> torch.Generator:
    """Return a new generator of the default device."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


class _NoReads(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        assert not read, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Fail where the host reads a value of the device; on a GPU also where CUDA says that it waits."""
    with _NoReads():
        if not torch.cuda.is_available():
            yield
            return
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        except RuntimeError as error:
            if "synchronizing" in str(error):
                raise AssertionError(f"waits for the device: {error}") from error
            raise
        finally:
            torch.cuda.set_sync_debug_mode("default")


def _module() -> object:
    return torch.get_device_module(torch.get_default_device())
