"""Values and bindings of tensors and the states of generators, as they were at one moment."""

from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import torch
from torch import Generator, Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from salr.closures.vectors import local

MISSING = object()
"""Stands for an attribute that is not there."""

Binding = tuple[MutableMapping[str, Any], str, object]


class Snapshot:
    """What was added, as it was then; :meth:`restore` puts it back as often as needed.

    A tensor comes back as the same object: with its values, and with its shape and memory if these have
        changed. Its
    version counter is not touched, so that a graph from before stays usable.
    """

    def __init__(self) -> None:
        self._bindings: list[Binding] = []
        self._values: dict[object, _Values] = {}
        self._generators: list[tuple[Generator | torch.device, Tensor]] = []
        self._gradients: dict[int, tuple[Tensor, Tensor | None]] | None = None

    def add_default_generators(self, devices: Iterable[torch.device]) -> None:
        """Add torch's default generators:

        the CPU's, and those of the given accelerators. Nothing waits for a device.
        """
        self._generators.append((torch.device("cpu"), torch.get_rng_state()))
        for device in devices:
            if device.type not in ("cpu", "meta"):
                state = torch.get_device_module(device).get_rng_state(device)
                self._generators.append((device, state))

    def add_generator(self, generator: Generator) -> None:
        """Add a generator that is not a default one."""
        self._generators.append((generator, generator.get_state()))

    def add_binding(self, namespace: MutableMapping[str, Any], name: str, value: object = MISSING) -> None:
        """Add what a name stands for (by default its present value), with the values of the tensors in it."""
        if value is MISSING:
            value = _bound(namespace, name)
        self._bindings.append((namespace, name, value))
        for tensor in tensors_in(value):
            self.add_tensor(tensor)

    def add_tensor(self, tensor: Tensor) -> None:
        """Add the values of a tensor, once."""
        if not is_lazy(tensor) and (key := region(tensor)) not in self._values:
            self._values[key] = _Values(tensor)

    def set_gradients_aside(self, parameters: Iterable[Tensor]) -> None:
        """Add the gradients of parameters and set them to None."""
        self._gradients = {} if self._gradients is None else self._gradients
        for parameter in parameters:
            if id(parameter) not in self._gradients:
                self._gradients[id(parameter)] = (parameter, owned(parameter.grad))
                parameter.grad = None

    def extend_gradients_aside(self, parameters: Iterable[Tensor]) -> None:
        """Do so for further parameters if that has been done for any."""
        if self._gradients is not None:
            self.set_gradients_aside(parameters)

    def forget_bindings(self, wrong: Callable[[object], bool]) -> None:
        """Leave out the bindings that have changed since, and whose present value is ``wrong``."""
        self._bindings = [
            (namespace, name, value)
            for namespace, name, value in self._bindings
            if (present := _bound(namespace, name)) is value or not wrong(present)
        ]

    def forget_tensor(self, tensor: Tensor) -> None:
        """Leave out the values of a tensor."""
        self._values.pop(region(tensor), None)

    def restore(self, noise: bool = True) -> None:
        """Put everything back.

        Args:
            noise: put back the generators, too.
        """
        if noise:
            for generator, state in self._generators:
                if isinstance(generator, Generator):
                    generator.set_state(state)
                elif generator.type == "cpu":
                    torch.set_rng_state(state)
                else:
                    torch.get_device_module(generator).set_rng_state(state, generator)
        for namespace, name, value in self._bindings:
            if _bound(namespace, name) is not value and value is not MISSING:
                namespace[name] = value
        groups: dict[object, tuple[list[Tensor], list[Tensor]]] = {}
        for values in self._values.values():
            values.restore(groups)
        with torch.no_grad():
            for places, copies in groups.values():
                torch._foreach_copy_(places, copies)
        for parameter, gradient in (self._gradients or {}).values():
            parameter.grad = gradient


class _Values:
    """A tensor's values, shape and memory."""

    __slots__ = ("_as_it_was", "_copy", "_layout", "_place", "_tensor", "_version")

    _place: Tensor | None

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        if is_plain(tensor):
            self._as_it_was = local(tensor).data  # its own shape and version counter, the same memory
            self._place = _without_repetition(self._as_it_was)
            self._copy = self._place.clone()
            self._layout = _layout(self._as_it_was)
        else:
            self._place = None
            self._copy, self._version = tensor.detach().clone(), tensor._version

    def restore(self, groups: dict[object, tuple[list[Tensor], list[Tensor]]]) -> None:
        """Put the shape back at once, and the values by adding them to the groups, which are copied together."""
        if self._place is None:
            if self._tensor._version != self._version:
                with torch.no_grad():
                    self._tensor.copy_(self._copy)
            return
        if _layout(local(self._tensor)) != self._layout:
            local(self._tensor).data = self._as_it_was
        places, copies = groups.setdefault((self._place.dtype, self._place.device), ([], []))
        places.append(self._place)
        copies.append(self._copy)


def _bound(namespace: MutableMapping[str, Any], name: str) -> object:
    return namespace[name] if name in namespace else MISSING  # a scripted module's buffers have no get()


class Place:
    """A part of memory, which is not kept alive."""

    def __init__(self, tensor: Tensor) -> None:
        whole = local(tensor)
        self._storage, self._dtype, self._device = (
            StorageWeakRef(whole.untyped_storage()),
            whole.dtype,
            whole.device,
        )
        self._extent = whole.storage_offset(), whole.shape, whole.stride()

    def tensor(self) -> Tensor | None:
        """Return a tensor there, or None if nobody uses the memory any more."""
        storage = torch.UntypedStorage._new_with_weak_ptr(self._storage.cdata)
        if storage is None:
            return None
        return torch.empty(0, dtype=self._dtype, device=self._device).set_(storage, *self._extent)


def region(tensor: Tensor) -> object:
    """Return what is the same for all tensors that are the same part of memory."""
    if not is_plain(tensor) or not tensor.numel():
        return id(tensor)
    place = _without_repetition(local(tensor))
    return place.device, place.dtype, *_layout(place)


def is_plain(tensor: Tensor) -> bool:
    """Return whether the values lie in one piece of memory that can be written to through a view."""
    whole = local(tensor)
    return whole.layout is torch.strided and not whole.is_nested and not is_traceable_wrapper_subclass(whole)


def _layout(tensor: Tensor) -> tuple[int, torch.Size, tuple[int, ...]]:
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _without_repetition(tensor: Tensor) -> Tensor:
    """Return a view with every element of an expanded tensor once;

    torch refuses to write to the tensor itself.
    """
    if not tensor.is_contiguous():
        for dimension, stride in enumerate(tensor.stride()):
            if stride == 0 and tensor.shape[dimension] > 1:
                tensor = tensor.narrow(dimension, 0, 1)
    return tensor


def owned(gradient: Tensor | None) -> Tensor | None:
    """Return a copy of a view:

    it belongs to somebody else's storage (DDP's buckets), which the next gradient overwrites.
    """
    return gradient.clone() if gradient is not None and gradient._is_view() else gradient


def tensors_in(value: object) -> list[Tensor]:
    """Return the tensors of a value: itself, or those of a tuple and its tuples."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple):
        return [tensor for part in value for tensor in tensors_in(part)]
    return []
