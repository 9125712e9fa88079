"""CUDA graphs on a CPU: operations are recorded, and replayed on the same memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from salr.closures.written import written


class EmulatedGraph:
    """What a CUDA graph does: the host's numbers stay as they were, tensors stay where they are."""

    def __init__(self) -> None:
        self.recorded: list[tuple[Any, Any, Any, list[Tensor | None]]] = []

    @torch.no_grad()
    def replay(self) -> None:
        for function, arguments, options, results in self.recorded:
            for place, value in zip(results, tree_leaves(function(*arguments, **options)), strict=True):
                if place is not None:
                    place.detach().copy_(value)


class _Recording(TorchDispatchMode):
    """Record operations. What was there before is afterwards as before: a capture computes nothing."""

    def __init__(self, graph: EmulatedGraph) -> None:
        super().__init__()
        self._graph = graph
        self._made: set[int] = set()
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        options = kwargs or {}
        for tensor in written(func, args, options):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._made | self._before.keys():
                self._before[storage._cdata] = storage, storage.clone()
        result = func(*args, **options)
        given = {_storage(leaf) for leaf in tree_leaves((args, options)) if isinstance(leaf, Tensor)}
        leaves = tree_leaves(result)
        # A view, or what is changed in place, needs no copy.
        new = [isinstance(leaf, Tensor) and _storage(leaf) not in given for leaf in leaves]
        results = [leaf if fresh else None for leaf, fresh in zip(leaves, new, strict=True)]
        self._made |= {_storage(leaf) for leaf in results if leaf is not None}
        self._graph.recorded.append((func, args, options, results))
        return result

    def undo(self) -> None:
        for storage, values in self._before.values():
            storage.copy_(values)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextmanager
def _graph(graph: EmulatedGraph, pool: object = None) -> Iterator[None]:
    generator = torch.get_rng_state()
    recording = _Recording(graph)
    try:
        with recording:
            yield
    finally:
        recording.undo()
        torch.set_rng_state(generator)


def emulate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the emulation in place of CUDA's graphs."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", EmulatedGraph)
    monkeypatch.setattr(torch.cuda, "graph", _graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
