"""CUDA graphs on a CPU: operations are recorded, and replayed on the same memory."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


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
    def __init__(self, graph: EmulatedGraph) -> None:
        super().__init__()
        self._graph = graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        options = kwargs or {}
        result = func(*args, **options)
        given = {_storage(leaf) for leaf in tree_leaves((args, options)) if isinstance(leaf, Tensor)}
        leaves = tree_leaves(result)
        # A view, or what is changed in place, needs no copy.
        made = [isinstance(leaf, Tensor) and _storage(leaf) not in given for leaf in leaves]
        results = [leaf if new else None for leaf, new in zip(leaves, made, strict=True)]
        self._graph.recorded.append((func, args, options, results))
        return result


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class _Stream:
    def wait_stream(self, other: object) -> None: ...


@contextmanager
def _graph(graph: EmulatedGraph, pool: object = None) -> Iterator[None]:
    with _Recording(graph):
        yield


def emulate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the emulation in place of CUDA's graphs and streams."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", EmulatedGraph)
    monkeypatch.setattr(torch.cuda, "graph", _graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", _Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
