"""Whole iterations as CUDA graphs: one launch in place of one per operation."""

import warnings
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from salr.closures.noise_tape import NoiseTape
from salr.optim import SALR, Wrapper
from salr.optim.kept import put_back
from salr.optim.running_median import RunningMedian
from salr.training.parts import Progress
from salr.training.stepping import take_step
from salr.training.task import Batch, Task


class Batches(Protocol):
    """What yields batches: ``advance`` moves on to the next one."""

    @property
    def batch(self) -> Batch: ...
    def advance(self) -> None: ...


class StaticBatch(NamedTuple):
    """A batch whose tensors stay where they are. Each new batch is copied into them."""

    inputs: Tensor
    targets: Tensor
    restart: bool = False


class Captured(NamedTuple):
    """A captured iteration, its loss (0-d, rewritten by every replay) and the evaluations that it counts."""

    graph: torch.cuda.CUDAGraph
    loss: Tensor
    counts: Progress


class Feed:
    """The batches of an iteration, in memory that stays where it is."""

    def __init__(self, count: int) -> None:
        self._slots: list[StaticBatch | None] = [None] * count
        self._place = 0

    @property
    def batch(self) -> StaticBatch:
        batch = self._slots[self._place]
        assert batch is not None
        return batch

    def advance(self) -> None:
        self._place += 1

    def load(self, batches: Batches) -> bool:
        """Copy the next batches, of which the first is present. Return whether the memory is still the same.

        It is another one if they have other shapes.
        """
        same = True
        for place, slot in enumerate(self._slots):
            if place > 0:
                batches.advance()
            batch = batches.batch
            if slot is None or slot.inputs.shape != batch.inputs.shape:
                same, slot = False, StaticBatch(batch.inputs.clone(), batch.targets.clone())
                self._slots[place] = slot
            else:
                slot.inputs.copy_(batch.inputs)
                slot.targets.copy_(batch.targets)
        self._place = 0
        return same

    def rewind(self) -> None:
        """Go back to the first batch of the iteration."""
        self._place = 0


class CapturedSteps:
    """The steps of an optimizer on a CUDA device, replayed from graphs of whole iterations.

    A small network on a GPU waits for the launches of its kernels. A graph launches those of an iteration at
    once, and they compute the same numbers. Every kind of iteration (SALR has two: with and without a
    measurement) is run once as it is, and captured the second time. Dropout masks are drawn from torch's
    default generator at each replay; the evaluations of a measurement share them as without a graph.

    What cannot be captured is run as it is, with one warning.

    Args:
        optimizer: a fused optimizer of torch, or one of the library's around it.
        task: computes the loss.
        model: the network, in training mode. It carries no state from batch to batch but its buffers.
        batches: how many batches an iteration takes.
        iterations: of the whole run.
        counts: the evaluations are counted here.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        task: Task,
        model: nn.Module,
        batches: int,
        iterations: int,
        counts: Progress,
    ) -> None:
        self._optimizer, self._task, self._model = optimizer, task, model
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._wrappers = _wrappers(optimizer)
        self._feed, self._iterations = Feed(batches), iterations
        device = self._parameters[0].device
        self._rates = [torch.empty((), device=device) for _ in optimizer.param_groups]
        self._present_rates: list[float] = []
        self._numbers = [
            [torch.empty((), device=device) for _ in wrapper._numbers()] for wrapper in self._wrappers
        ]
        self._captured: dict[Hashable, Captured] = {}
        self._seen: set[Hashable] = set()
        self._pool = torch.cuda.graph_pool_handle()
        self._places: list[int] = []
        self._capturing = self._failed = False
        self._counts = counts

    def set_rates(self, rates: Iterable[float]) -> None:
        """Set the rate of each group, until :meth:`release`."""
        wanted = list(rates)
        if wanted != self._present_rates:
            for rate, value in zip(self._rates, wanted, strict=True):
                rate.fill_(value)
            self._present_rates = wanted
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate

    def release(self) -> None:
        """Give the groups their rates as numbers, as a checkpoint keeps them."""
        for group, rate in zip(self._optimizer.param_groups, self._present_rates, strict=True):
            group["lr"] = rate

    def begin(self) -> None:
        """Begin an epoch. If the network's tensors have moved, what has been captured is of no use."""
        places = [tensor.data_ptr() for tensor in (*self._model.parameters(), *self._model.buffers())]
        if places != self._places:
            self._captured.clear()
            self._places = places

    def __call__(self, batches: Batches) -> Tensor:
        """Take a step on the present batch, and on the next ones that it needs. Return the loss, 0-d."""
        if not self._feed.load(batches):
            self._captured.clear()
        phase = tuple(wrapper._phase() for wrapper in self._wrappers)
        if phase not in self._captured:
            if self._failed or phase not in self._seen:
                self._seen.add(phase)
                return self._step()
            try:
                self._captured[phase] = self._capture()
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self._failed = True
                reason = str(error).partition("\n")[0]
                warnings.warn(
                    f"an iteration cannot be captured in a CUDA graph and is run without: {reason}",
                    stacklevel=2,
                )
                self._feed.rewind()
                return self._step()
        self._give_numbers()
        captured = self._captured[phase]
        captured.graph.replay()
        for wrapper in self._wrappers:
            wrapper._replayed()
        self._counts.gradient_calls += captured.counts.gradient_calls
        self._counts.loss_calls += captured.counts.loss_calls
        return captured.loss

    def _step(self) -> Tensor:
        # The step must not take a replay's gradients for some that have been accumulated.
        for parameter in self._parameters:
            parameter.grad = None
        return take_step(self._optimizer, self._closure, self._parameters, self._feed.advance)

    def _closure(self) -> Tensor:
        loss = self._task.loss(self._model, self._feed.batch)
        if not torch.is_grad_enabled():
            self._counts.loss_calls += 1
            return loss
        self._counts.gradient_calls += 1
        if not self._capturing:
            return loss
        # As backward would, but without the nodes that it keeps for each parameter and stream.
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else _laid_out(gradient, parameter)
        return loss.detach()

    def _capture(self) -> Captured:
        """Capture the next step. It is not taken: a replay takes it."""
        if not self._captured:
            for wrapper in self._wrappers:
                wrapper._prepare_replays(self._iterations)
        namespaces = [space for wrapper in self._wrappers for space in wrapper._own_namespaces()]
        before = [(space, dict(space)) for space in namespaces]
        counts, self._counts = self._counts, Progress()
        graph = torch.cuda.CUDAGraph()
        self._capturing = True
        for wrapper, tensors in zip(self._wrappers, self._numbers, strict=True):
            wrapper._given = tensors
        try:
            with torch.cuda.graph(graph, pool=self._pool), NoiseTape() as noise:
                loss = self._step().clone()
                for space, values in before:
                    _feed_back(values, space)
                if not noise.at_end:
                    raise RuntimeError("the next iteration would draw the same noise once more")
            return Captured(graph, loss, self._counts)
        finally:
            self._capturing, self._counts = False, counts
            put_back(before)
            for wrapper in self._wrappers:
                wrapper._given = ()

    def _give_numbers(self) -> None:
        for wrapper, tensors in zip(self._wrappers, self._numbers, strict=True):
            for tensor, number in zip(tensors, wrapper._numbers(), strict=True):
                tensor.fill_(number)


def can_capture(optimizer: Optimizer, task: Task, model: nn.Module, device: torch.device) -> bool:
    """Return whether to try: on a CUDA device, unless the host has a state that a graph would not see.

    Such are the state of a recurrent network, and whatever a function that clips, a user's optimizer or a
    user's measure keeps.
    """
    if device.type != "cuda" or hasattr(model, "reset_state") or task.clip is not None:
        return False
    wrappers = _wrappers(optimizer)
    innermost = wrappers[-1].base if wrappers else optimizer
    measures = [wrapper.sharpness_measure for wrapper in wrappers if isinstance(wrapper, SALR)]
    return type(innermost) in (SGD, Adam) and all(
        vars(type(each)).get("capturable", False) for each in (*wrappers, *measures)
    )


def _wrappers(optimizer: Optimizer) -> list[Wrapper]:
    """Return the library's wrappers, from the outside in."""
    if not isinstance(optimizer, Wrapper):
        return []
    return [each for each in (optimizer, *optimizer._bases()) if isinstance(each, Wrapper)]


def _feed_back(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Copy tensors that a step has replaced to where the next replay reads them."""
    for name, old in before.items():
        new = after[name]
        if new is old:
            continue
        if isinstance(old, Tensor):
            old.copy_(new)
        elif isinstance(old, RunningMedian):
            _feed_back(vars(old), vars(new))
        elif isinstance(new, Tensor | RunningMedian):
            raise RuntimeError(f"the step has made {name}, which was not there before")


def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Return the gradient in the parameter's memory layout, as ``backward`` leaves it."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)
