"""Stochastic weight averaging (Izmailov et al.

2018) on ``torch.optim.swa_utils``, with what it does not have.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_swa_multi_avg_fn

T = TypeVar("T")


class WeightAverage:
    """The mean of a model's parameters over the moments at which ``update`` was called.

    The averaged network is ``model``, a copy. Its batch statistics belong to no weights until
    :func:`recompute_batch_statistics` has taken them; do so before every evaluation. The paper averages from
    three quarters of the epochs on, once a cycle (appendix D).
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model)
        self._source = model
        self._updates = 0
        self._average = get_swa_multi_avg_fn()

    @torch.no_grad()
    def update(self) -> None:
        """Takes the source's present parameters into the mean."""
        averaged: list[Tensor] = list(self.model.parameters())
        present: list[Tensor] = list(self._source.parameters())
        if self._updates == 0:
            torch._foreach_copy_(averaged, present)
        else:
            self._average(averaged, present, self._updates)
        self._updates += 1

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self._updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._updates = state["updates"]
        self.model.load_state_dict(state["model"])


def cyclic_rate(fraction: float, lr_start: float, lr_end: float) -> float:
    """The learning rate within a cycle: linear from α1 = ``lr_start`` at fraction 0 to α2 = ``lr_end`` at fraction 1.

    ``torch.optim.swa_utils.SWALR`` anneals once and stays constant; this starts anew each cycle.
    """
    return lr_start + (lr_end - lr_start) * fraction


@torch.no_grad()
def recompute_batch_statistics(
    model: nn.Module,
    batches: Iterable[T],
    forward: Callable[[nn.Module, T], object] = lambda model, batch: model(batch),
) -> None:
    """Replaces the running statistics of all batch normalisation by those of the given batches, a plain mean over batches.

    Only the normalising layers are in training mode meanwhile: dropout is off, as it is when the statistics
        are used (Entropy-SGD's
    code does the same before each test). Modes and momenta come out as they were.

    Args:
        model: any; one without batch statistics is left alone and the batches unread.
        batches: whatever ``forward(model, batch)`` understands; the default hands each one to the model.
    """
    layers = [
        module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    if not layers:
        return
    modes, momenta = (
        [(module, module.training) for module in model.modules()],
        [layer.momentum for layer in layers],
    )
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean
        layer.train()
    try:
        for batch in batches:
            forward(model, batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, training in modes:
            module.training = training
