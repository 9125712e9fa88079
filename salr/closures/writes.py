"""Which tensors that existed before are changed in place."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from salr.closures.snapshot import Snapshot, Spot, region, tensors_in
from salr.closures.written import written

TRANSPORT = ("c10d", "_c10d_functional", "fsdp")
"""Operations that move gradients and shards between ranks: their buffers belong to the distributed engine."""


class Writes(TorchDispatchMode):
    """Within, note every tensor that is changed in place by a forward pass and was not made within.

    A tensor is added to the snapshots before it is changed for the first time. What a backward pass changes
    (gradients, and the buffers of their exchange between ranks) is left out.

    Args:
        snapshots: what is found is added to them.
        known: storages that the caller takes care of.
    """

    supports_higher_order_operators = True

    def __init__(self, snapshots: list[Snapshot], known: set[int]) -> None:
        super().__init__()
        self.tensors: list[Tensor] = []
        self.generators: list[Generator] = []
        self._snapshots, self._known = snapshots, known
        self._created: set[int] = set()
        self._seen: set[object] = set()

    def created_all(self, value: object) -> bool:
        """Return whether all tensors in a value were made within (or there are none)."""
        return all(storage in self._created for t in tensors_in(value) for storage in storages(t))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        schema = getattr(func, "_schema", None)  # a higher-order operator has none
        if schema is not None:
            self._note_generators(kwargs.values())
            if torch._C._current_graph_task_id() == -1 and func.namespace not in TRANSPORT:
                for tensor in written(func, args, kwargs):
                    self._note(tensor)
        given = {storage for leaf in tree_leaves((args, kwargs)) for storage in storages(leaf)}
        result = func(*args, **kwargs)
        fresh = {storage for leaf in tree_leaves(result) for storage in storages(leaf)}
        self._created |= fresh if func is torch.ops.aten.lift_fresh.default else fresh - given
        return result

    def _note_generators(self, values: Iterable[object]) -> None:
        for value in values:
            if not isinstance(value, Generator) or _is_default(value):
                continue  # snapshots have the default ones, as they were before the evaluation
            if all(not same_generator(value, other) for other in self.generators):
                self.generators.append(value)
                for snapshot in self._snapshots:
                    snapshot.add_generator(value)

    def _note(self, tensor: Tensor) -> None:
        whole = tensor if tensor.is_inference() or tensor._base is None else tensor._base
        if not self._created.union(self._known).isdisjoint(storages(whole)) or region(whole) in self._seen:
            return
        self._seen.add(region(whole))
        self.tensors.append(whole)
        for snapshot in self._snapshots:
            if not snapshot.holds(whole):
                snapshot.add_values([Spot(whole)])


def _is_default(generator: Generator) -> bool:
    """Return whether it is the generator that torch uses if it is given none. (cuDNN's LSTM names it.)"""
    if generator.device.type == "cpu":
        return same_generator(generator, torch.default_generator)
    defaults = getattr(torch.get_device_module(generator.device), "default_generators", ())
    return any(same_generator(generator, each) for each in defaults)


def same_generator(one: Generator, other: Generator) -> bool:
    """Return whether it is the same generator: torch makes a new object for it each time it hands it on."""
    return bool(getattr(one, "_cdata", one) == getattr(other, "_cdata", other))


def storages(value: object) -> list[int]:
    """Return what tells the memory of a tensor from others'.

    It is one number, or one for each part of a tensor made of several.
    """
    if not isinstance(value, Tensor) or is_lazy(value):
        return []
    if is_traceable_wrapper_subclass(value):
        names, _ = value.__tensor_flatten__()
        return [storage for name in names for storage in storages(getattr(value, name))]
    if value.layout is not torch.strided or value.is_nested:
        return [id(value)]
    return [value.untyped_storage()._cdata]
