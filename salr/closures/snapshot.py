"""Values and bindings of tensors and the states of generators, as they were at one moment."""

from collections.abc import Callable, Iterable, MutableMapping
from itertools import compress
from typing import Any

import torch
from torch import Generator, Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from salr.closures.noise_tape import NoiseTape
from salr.closures.vectors import local

CPU = torch.device("cpu")
TIMES_ONE = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32)
"""Types whose values come out of a multiplication by 1 bit for bit."""
MISSING = object()
"""Stands for an attribute that is not there."""

Binding = tuple[MutableMapping[str, Any], str, object]


class Snapshot:
    """What was added, as it was then; :meth:`restore` puts it back as often as needed.

    A tensor comes back as the same object: with its values, and with its shape and memory if these have
    changed. Its version counter is not touched, so that a graph from before stays usable.
    """

    def __init__(self) -> None:
        self._bindings: list[Binding] = []
        self._values: list[tuple[_Group, list[Tensor]]] = []
        self._generators: list[tuple[Generator | torch.device, Tensor]] = []
        self._place: int | None = None  # on a tape of noise, which stands for the generators
        self._gradients: dict[int, tuple[Tensor, Tensor | None]] | None = None

    def add_default_generators(self, devices: Iterable[torch.device]) -> None:
        """Add torch's default generators: the CPU's, and those of the given accelerators.

        Nothing waits for a device.
        """
        if (tape := NoiseTape.present()) is not None:
            self._place = tape.place
            return
        self._generators.append((CPU, torch.get_rng_state()))
        for device in devices:
            if device.type not in ("cpu", "meta"):
                state = torch.get_device_module(device).get_rng_state(device)
                self._generators.append((device, state))

    def add_generator(self, generator: Generator) -> None:
        """Add a generator that is not a default one."""
        self._generators.append((generator, generator.get_state()))

    def add_binding(self, namespace: MutableMapping[str, Any], name: str, value: object) -> None:
        """Add what a name stands for, without the values of the tensors in it."""
        self._bindings.append((namespace, name, value))

    def add_values(self, spots: "Iterable[Spot]") -> None:
        """Add the values of tensors."""
        by_type: dict[torch.dtype | None, list[Spot]] = {}
        for spot in spots:
            by_type.setdefault(spot.place.dtype if spot.plain else None, []).append(spot)
        for dtype, alike in by_type.items():
            group = _Group(dtype, alike)
            self._values.append((group, group.copies()))

    def plan(self) -> "Plan":
        """Return what another snapshot of the same tensors needs."""
        return Plan(self._bindings, [group for group, _ in self._values])

    def follow(self, plan: "Plan") -> None:
        """Add what another snapshot has added, as it is now."""
        self._bindings = plan.bindings
        self._values = [(group, group.copies()) for group in plan.groups]

    def set_gradients_aside(self, parameters: Iterable[Tensor]) -> None:
        """Add the gradients of parameters and set them to None."""
        self._gradients = {} if self._gradients is None else self._gradients
        for parameter in parameters:
            if id(parameter) not in self._gradients:
                self._gradients[id(parameter)] = (parameter, owned(parameter.grad))
                parameter.grad = None

    def extend_gradients_aside(self, parameters: Iterable[Tensor]) -> None:
        """Also set aside the gradients of further parameters, if any have been set aside before."""
        if self._gradients is not None:
            self.set_gradients_aside(parameters)

    def holds(self, tensor: Tensor) -> bool:
        """Return whether the values of the same part of memory have been added."""
        wanted = region(tensor)
        return any(region(spot.tensor) == wanted for group, _ in self._values for spot in group.spots)

    def forget_bindings(self, wrong: Callable[[object], bool]) -> None:
        """Leave out the bindings that have changed since, and whose present value is ``wrong``."""
        self._bindings = [
            (namespace, name, value)
            for namespace, name, value in self._bindings
            if (present := bound(namespace, name)) is value or not wrong(present)
        ]

    def forget_values(self, tensor: Tensor) -> None:
        """Leave out the values of a part of memory."""
        wrong, kept = region(tensor), []
        for group, copies in self._values:
            which = [region(spot.tensor) != wrong for spot in group.spots]
            kept.append((_Group(group.dtype, compress(group.spots, which)), list(compress(copies, which))))
        self._values = kept

    def restore(self, noise: bool = True) -> None:
        """Put everything back.

        Args:
            noise: put back the generators, too.
        """
        if noise:
            self._restore_generators()
        for namespace, name, value in self._bindings:
            if bound(namespace, name) is not value and value is not MISSING:
                namespace[name] = value
        for group, copies in self._values:
            group.restore(copies)
        for parameter, gradient in (self._gradients or {}).values():
            parameter.grad = gradient

    def _restore_generators(self) -> None:
        if (tape := NoiseTape.present()) is not None:
            if self._generators:
                raise RuntimeError("a state of a generator from before a capture is put back within it")
            if self._place is not None:
                tape.place = self._place
            return
        for generator, state in self._generators:
            if isinstance(generator, Generator):
                generator.set_state(state)
            elif generator.type == "cpu":
                torch.set_rng_state(state)
            else:
                torch.get_device_module(generator).set_rng_state(state, generator)


class _Group:
    """Tensors of one type, which are copied together, or (``dtype`` None) tensors copied one by one."""

    def __init__(self, dtype: torch.dtype | None, spots: "Iterable[Spot]") -> None:
        self.dtype, self.spots = dtype, list(spots)
        self._places = [spot.place if dtype is not None else spot.tensor for spot in self.spots]

    def copies(self) -> list[Tensor]:
        """Return copies of the present values."""
        if self.dtype in TIMES_ONE and self._places:
            return list(torch._foreach_mul(self._places, 1))  # one call for all of them
        return [place.detach().clone() for place in self._places]

    def restore(self, copies: list[Tensor]) -> None:
        """Put shapes, memory and values back."""
        with torch.no_grad():
            if self.dtype is None:
                for place, values in zip(self._places, copies, strict=True):
                    place.copy_(values)
                return
            for spot in self.spots:
                if not spot.is_current():
                    spot.shard.data = spot.as_it_was
            if self._places:
                torch._foreach_copy_(self._places, copies)


class Plan:
    """The names and tensors of a snapshot, without their values."""

    def __init__(self, bindings: list[Binding], groups: list[_Group]) -> None:
        self.bindings, self.groups = bindings, groups

    def is_current(self) -> bool:
        """Return whether the names stand for the same tensors, and these have the same shapes and memory."""
        return all(bound(namespace, name) is value for namespace, name, value in self.bindings) and all(
            spot.is_current() for group in self.groups for spot in group.spots
        )


class Spot:
    """A tensor with its shape and memory, as they were.

    Attributes:
        tensor: the tensor.
        plain: whether its values lie in one piece of memory that can be written to through a view.
        place: a view of them that can be written to without touching the tensor's version counter.
    """

    __slots__ = ("as_it_was", "place", "plain", "shard", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.shard, self.plain = tensor, local(tensor), is_plain(tensor)
        self.as_it_was = self.shard.data if self.plain else tensor.detach()
        self.place = without_repetition(self.as_it_was) if self.plain else self.as_it_was

    def is_current(self) -> bool:
        """Return whether the tensor still has that shape and memory."""
        return not self.plain or self.shard.is_set_to(self.as_it_was)


class Place:
    """A part of memory, which is not kept alive if it is in one piece."""

    def __init__(self, tensor: Tensor) -> None:
        self._kept = None if is_plain(tensor) else tensor
        if self._kept is not None:
            return
        whole = local(tensor)
        self._storage = StorageWeakRef(whole.untyped_storage())
        self._dtype, self._device = whole.dtype, whole.device
        self._extent = whole.storage_offset(), whole.shape, whole.stride()

    def tensor(self) -> Tensor | None:
        """Return a tensor there, or None if nobody uses the memory any more."""
        if self._kept is not None:
            return self._kept
        storage = torch.UntypedStorage._new_with_weak_ptr(self._storage.cdata)
        if storage is None:
            return None
        return torch.empty(0, dtype=self._dtype, device=self._device).set_(storage, *self._extent)


def bound(namespace: MutableMapping[str, Any], name: str) -> object:
    """Return what a name stands for. (A scripted module's buffers have no ``get``.)"""
    return namespace[name] if name in namespace else MISSING  # noqa: SIM401


def region(tensor: Tensor) -> object:
    """Return what is the same for all tensors that are the same part of memory."""
    if not is_plain(tensor) or not tensor.numel():
        return id(tensor)
    place = without_repetition(local(tensor))
    return place.device, place.dtype, place.data_ptr(), place.shape, place.stride()


def is_plain(tensor: Tensor) -> bool:
    """Return whether the values lie in one piece of memory that can be written to through a view."""
    if is_lazy(tensor):
        return False
    whole = local(tensor)
    simple = whole.layout is torch.strided and not whole.is_nested
    return simple and (type(whole) is Tensor or not is_traceable_wrapper_subclass(whole))


def without_repetition(tensor: Tensor) -> Tensor:
    """Return a view with every element of an expanded tensor once: torch refuses to write to the tensor."""
    if not tensor.is_contiguous():
        for dimension, stride in enumerate(tensor.stride()):
            if stride == 0 and tensor.shape[dimension] > 1:
                tensor = tensor.narrow(dimension, 0, 1)
    return tensor


def owned(gradient: Tensor | None) -> Tensor | None:
    """Return a copy if it is a view, of DDP's buckets perhaps, which the next gradient overwrites."""
    return gradient.clone() if gradient is not None and gradient._is_view() else gradient


def tensors_in(value: object) -> list[Tensor]:
    """Return the tensors of a value that have values: itself, or those of a tuple and its tuples."""
    if isinstance(value, Tensor):
        return [] if is_lazy(value) else [value]
    if isinstance(value, tuple):
        return [tensor for part in value for tensor in tensors_in(part)]
    return []
