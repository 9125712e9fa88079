"""Stochastic weight averaging (Izmailov and others 2018).

It builds on ``torch.optim.swa_utils`` and adds what is missing there.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_swa_multi_avg_fn

from salr.closures.vectors import HALF, copy_into, precise

T = TypeVar("T")


class WeightAverage:
    """The mean of a model's parameters over the moments at which ``update`` was called.

    The averaged network is ``model``, a copy. Its buffers are those of the last update. Its batch statistics
    do not fit the averaged weights, so call :func:`recompute_batch_statistics` before every evaluation. The
    paper averages during the last quarter of the epochs, once per cycle (appendix D).

    The mean is accumulated in float32 or wider; parameters in half precision are rounded from it.

    Args:
        model: the network that is trained.

    Example:
        >>> import torch
        >>> from salr.optim import WeightAverage
        >>> model = torch.nn.Linear(1, 1)
        >>> average = WeightAverage(model)
        >>> for value in (1.0, 4.0):
        ...     _ = torch.nn.init.constant_(model.weight, value)
        ...     average.update()
        >>> average.model.weight.item()
        2.5
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model)
        self._source = model
        self._updates = 0
        # Means of parameters whose own precision could not hold small changes.
        self._precise = {
            index: precise(parameter.detach())
            for index, parameter in enumerate(self.model.parameters())
            if parameter.dtype in HALF
        }

    @torch.no_grad()
    def update(self) -> None:
        """Take the source's present parameters into the mean, and copy its buffers."""
        averaged = [parameter.detach() for parameter in self.model.parameters()]
        present = [parameter.detach() for parameter in self._source.parameters()]
        means = [self._precise.get(index, parameter) for index, parameter in enumerate(averaged)]
        varying = [index for index, mean in enumerate(means) if mean.is_floating_point() or mean.is_complex()]
        if self._updates == 0 or not varying:
            copy_into(means, present)
        else:  # frozen parameters of whole numbers have no mean
            average = get_swa_multi_avg_fn()
            average([means[i] for i in varying], [precise(present[i]) for i in varying], self._updates)
        self._updates += 1
        for index, mean in self._precise.items():
            averaged[index].copy_(mean)
        copies: dict[int, Tensor] = {}  # a buffer that modules share stays shared
        for mine, its in zip(self.model.modules(), self._source.modules(), strict=True):
            for name, buffer in its._buffers.items():
                if buffer is not None and id(buffer) not in copies:
                    copies[id(buffer)] = buffer.clone()
                mine._buffers[name] = None if buffer is None else copies[id(buffer)]

    def state_dict(self) -> dict[str, Any]:
        """Return the number of updates, the averaged model's state, and means more precise than it."""
        state = {"updates": self._updates, "model": self.model.state_dict()}
        return state | ({"precise": self._precise} if self._precise else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state. Raises ``KeyError`` or ``RuntimeError`` if it is of another model."""
        updates, means = state["updates"], state.get("precise", {})
        self.model.load_state_dict(state["model"])
        self._updates = updates
        for index, parameter in enumerate(self.model.parameters()):
            if index in self._precise:
                self._precise[index] = precise(means.get(index, parameter.detach())).to(
                    parameter.device, copy=True
                )


def cyclic_rate(fraction: float, lr_start: float, lr_end: float) -> float:
    """Return the learning rate within a cycle, linear from α1 = ``lr_start`` to α2 = ``lr_end``.

    ``torch.optim.swa_utils.SWALR`` anneals once and stays constant; this starts anew each cycle.

    Args:
        fraction: the place in the cycle, from 0 to 1.
        lr_start: α1.
        lr_end: α2.

    Example:
        >>> from salr.optim import cyclic_rate
        >>> cyclic_rate(0.5, 0.3, 0.1)
        0.2
    """
    return lr_start + (lr_end - lr_start) * fraction


@torch.no_grad()
def recompute_batch_statistics(
    model: nn.Module,
    batches: Iterable[T],
    forward: Callable[[nn.Module, T], object] = lambda model, batch: model(batch),
) -> None:
    """Replace the running statistics of all batch normalisation by a plain mean over the given batches.

    Only the normalising layers are in training mode meanwhile: dropout is off, as it is when the statistics
    are used (Entropy-SGD's code does the same before each test). Modes and momenta are afterwards as before.
    If a batch fails, so are the statistics. A layer that no batch reaches keeps its statistics.

    Args:
        model: any model. One without batch statistics is left as it is, and no batch is read.
        batches: whatever ``forward(model, batch)`` takes.
        forward: by default it calls the model with the batch.

    Raises:
        ValueError: there is no batch, as from an iterator that has been read before.

    Example:
        >>> import torch
        >>> from salr.optim import recompute_batch_statistics
        >>> model = torch.nn.BatchNorm1d(1)
        >>> recompute_batch_statistics(model, [torch.tensor([[1.0], [3.0]]), torch.tensor([[4.0], [6.0]])])
        >>> model.running_mean.item()
        3.5
    """
    layers = [
        module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    if not layers:
        return
    modes = [(module, module.training) for module in model.modules()]
    before = [(layer, layer.momentum, [buffer.clone() for buffer in layer.buffers()]) for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean
        layer.train()
    try:
        read = False
        for batch in batches:
            read = True
            forward(model, batch)
        if not read:
            raise ValueError(
                "batches holds no batch; expected at least one, and a new iterator for each call, as in "
                "recompute_batch_statistics(model, iter(loader))"
            )
        for layer, _, values in before:
            if not layer.num_batches_tracked:
                copy_into(layer.buffers(), values)
    except BaseException:
        for layer, _, values in before:
            copy_into(layer.buffers(), values)
        raise
    finally:
        for layer, momentum, _ in before:
            layer.momentum = momentum
        for module, training in modes:
            module.training = training
