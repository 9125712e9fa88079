"""The training loss as CUDA graphs: one launch in place of one per operation."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from salr.closures import SideState
from salr.training.task import Batch, Task

WARM_UPS = 3
"""Evaluations before a capture, in which libraries choose their kernels and take their memory."""


def training_loss(task: Task, model: nn.Module, device: torch.device) -> Callable[[Batch], Tensor]:
    """Return what computes the training loss: on a CUDA device from graphs, if the network has no state.

    A recurrent network carries its state from batch to batch as another tensor each time, which a graph
    cannot follow.
    """
    if device.type == "cuda" and not hasattr(model, "reset_state"):
        return CapturedLoss(task, model)
    return partial(task.loss, model)


class StaticBatch(NamedTuple):
    """A batch whose tensors stay where they are. Each new batch is copied into them."""

    inputs: Tensor
    targets: Tensor
    restart: bool


class Captured(NamedTuple):
    """A captured evaluation and its results, which every replay writes to the same memory.

    Attributes:
        graph: replays the evaluation.
        loss: 0-d.
        gradients: one for each parameter, None where the loss does not depend on it; none at all if only the
            loss has been captured.
    """

    graph: torch.cuda.CUDAGraph
    loss: Tensor
    gradients: list[Tensor | None]


class CapturedLoss:
    """The loss of a network on a batch, and its gradients, replayed from CUDA graphs.

    A small network on a GPU waits for the launches of its kernels. A graph launches all of them at once, and
    they compute the same numbers. Forward and backward pass are one graph; the forward pass alone is another.
    Each is captured when it is first needed. Dropout draws from torch's default generator, as without a
    graph.

    If a step watches what its closure does (see :class:`salr.closures.SideState`), or the batch has another
    shape than the first one, the evaluation is not replayed but run. A network that cannot be captured is run
    as well, with a warning.

    Args:
        task: computes the loss.
        model: the network, on a CUDA device and in training mode. It carries no state from batch to batch
            but its buffers.
    """

    def __init__(self, task: Task, model: nn.Module) -> None:
        self._task, self._model = task, model
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._side = SideState(self._parameters, model)
        self._captured: dict[bool, Captured] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._failed = False
        self._present: Batch | None = None
        self._static: StaticBatch | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss, 0-d.

        With gradients enabled, a replay fills ``parameter.grad``. If the evaluation is run, the loss has a
        graph instead.
        """
        if self._failed or _get_current_dispatch_mode() is not None or not self._take(batch):
            return self._task.loss(self._model, batch)
        taking = torch.is_grad_enabled()
        if taking not in self._captured:
            try:
                self._captured[taking] = self._capture(taking)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self._failed = True
                reason = str(error).partition("\n")[0]
                warnings.warn(
                    f"the network cannot be captured in a CUDA graph and is run without: {reason}",
                    stacklevel=2,
                )
                return self._task.loss(self._model, batch)
        captured = self._captured[taking]
        captured.graph.replay()
        there = [gradient for gradient in captured.gradients if gradient is not None]
        with torch.no_grad():
            # Copies, because the next replay overwrites the results: one pass for all of them.
            loss, *copies = torch._foreach_mul([captured.loss, *there], 1)
        for parameter, gradient in zip(self._parameters, captured.gradients, strict=False):
            parameter.grad = None if gradient is None else copies.pop(0)
        return loss

    def _take(self, batch: Batch) -> bool:
        """Copy a new batch to where the graphs read it. Return whether it has their shape."""
        if batch is self._present:
            return True
        if self._static is None:
            self._static = StaticBatch(batch.inputs.clone(), batch.targets.clone(), False)
        static = self._static
        if batch.inputs.shape != static.inputs.shape or batch.targets.shape != static.targets.shape:
            return False
        static.inputs.copy_(batch.inputs)
        static.targets.copy_(batch.targets)
        self._present = batch
        return True

    def _capture(self, taking: bool) -> Captured:
        """Capture an evaluation. Buffers, gradients and generators are afterwards as before."""
        with self._side.kept():
            present, aside = torch.cuda.current_stream(), torch.cuda.Stream()
            aside.wait_stream(present)
            with torch.cuda.stream(aside):
                for _ in range(WARM_UPS):
                    self._evaluate(taking)
            present.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                loss, gradients = self._evaluate(taking)
        return Captured(graph, loss, gradients)

    def _evaluate(self, taking: bool) -> tuple[Tensor, list[Tensor | None]]:
        assert self._static is not None
        loss = self._task.loss(self._model, self._static)
        if not taking:
            return loss, []
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        pairs = zip(self._parameters, gradients, strict=True)
        return loss.detach(), [None if taken is None else _laid_out(taken, like) for like, taken in pairs]


def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Return the gradient in the parameter's memory layout, as ``backward`` leaves it."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)
