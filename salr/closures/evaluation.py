"""One way to evaluate a loss for every algorithm of the library, whatever kind of closure the user writes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from salr.closures.side_state import (
    Buffer,
    BufferWatch,
    Generators,
    copy_buffers,
    copy_generators,
    restore_buffers,
    restore_generators,
)

Closure = Callable[[], Tensor]


class _BackwardReplaced(TorchFunctionMode):
    """Does something else where a closure calls ``backward``, so that it can be evaluated for its loss alone."""

    def __init__(self, instead: Callable[[], None]) -> None:
        super().__init__()
        self._instead = instead

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.backward or func is torch.autograd.backward:
            return self._instead()
        return func(*args, **(kwargs or {}))


@dataclass
class _Memory:
    """The last gradient taken, and what tells whether it is still that of the present parameters."""

    loss: Tensor
    gradients: list[Tensor | None]
    versions: list[int]
    before: tuple[Generators, list[Buffer]] | None


class Evaluation:
    """A closure made uniform.

    Args:
        closure: returns the loss, a tensor of one element. Whether it calls ``backward`` itself does not matter: gradients are
            cleared before each call and taken after it where the closure has not taken them. It may clear and accumulate
            gradients over several micro-batches, and clip them. Where the loss alone is wanted, it runs without gradients:
            ``backward`` then does nothing but leave stand-ins.
        parameters: those whose gradients are wanted; those that do not require one are left out.
        advance: moves the closure on to its next batch; only methods that use several batches an iteration call it.
        watch: knows the modules that the closure calls, where they have been found before.

    Calling the object takes the gradient: ``parameter.grad`` is filled and the detached loss returned. As long as neither the
    parameters nor the gradients have changed since, another call gives the same loss without evaluating again: this is how the
    gradient of a measurement is also the gradient of the step (its closure argument is this object). What counts as a change is
    what torch counts; its fused optimizers do not, so an evaluation serves one step of an optimizer.

    Raises:
        TypeError: the closure is not callable or does not return a tensor.
        ValueError: its loss is not of one element, depends on no parameter, or has a sparse gradient.
    """

    def __init__(
        self,
        closure: Closure,
        parameters: Iterable[Tensor],
        advance: Callable[[], object] | None = None,
        watch: BufferWatch | None = None,
    ) -> None:
        if not callable(closure):
            raise TypeError(
                f"the closure is {closure!r}; expected a function without arguments that returns the loss"
            )
        self.closure = closure
        self._all = list(parameters)
        self.parameters = [parameter for parameter in self._all if parameter.requires_grad]
        self._own = {id(parameter) for parameter in self._all}
        self._advance = advance
        self._watch = BufferWatch() if watch is None else watch
        self._memory: _Memory | None = None
        self._replay: tuple[Generators, list[Buffer]] | None = None
        self._closure_calls_backward = True  # perhaps; its first gradient tells
        self._closure_differentiates = False
        self._start: list[Tensor] = []
        self._first: list[Tensor | None] = []

    def __call__(self) -> Tensor:
        if self._memory is not None and self._holds(self._memory):
            return self._memory.loss
        self._memory = None
        return self._remember(self._gradient(), before=None).loss

    def loss(self) -> Tensor:
        """The loss alone, detached, at the present parameters; gradients are neither taken nor touched."""
        try:
            with torch.set_grad_enabled(self._closure_differentiates), self._gradients_set_aside():
                return self._call()
        except RuntimeError as error:
            if self._closure_differentiates or "does not require grad" not in str(error):
                raise
        # A loss may contain derivatives (a gradient penalty, a differential equation), for which its closure needs the graph.
        self._closure_differentiates = True
        return self.loss()

    def gradient(self) -> Tensor:
        """Take the gradient as a call does, but in a way that :meth:`discard` can undo and :meth:`without_trace` can share."""
        return self._watched().loss

    def advance(self) -> None:
        """Moves on to the next batch where the caller has said how; a closure may also do so by itself."""
        self._memory = None
        if self._advance is not None:
            self._advance()

    def gradients(self) -> tuple[list[Tensor], list[Tensor]]:
        """Parameters that have a gradient, and the gradients. Unused parameters have none."""
        pairs = [(parameter, parameter.grad) for parameter in self.parameters if parameter.grad is not None]
        return [parameter for parameter, _ in pairs], [gradient for _, gradient in pairs]

    @contextmanager
    def without_trace(self, shared_noise: bool = True) -> Iterator[Tensor]:
        """Takes the gradient at the present parameters as a plain step would, then lets the caller move about.

        Within the context parameters may be moved and evaluated anywhere. Every evaluation starts from the buffers, and with
        ``shared_noise`` from the random generators, that the first one started from, so that all see the same dropout masks and
        the same recurrent state. At the end parameters, gradients and buffers are bit for bit what a plain step's gradient has
        left, and so are the generators (without ``shared_noise`` the noise drawn within is simply used up). Gradients: also
        those of the modules' other parameters, which may be another optimizer's.

        Yields:
            The loss at the present parameters, 0-d.
        """
        memory = self._watched()
        assert memory.before is not None
        generators, buffers = memory.before
        after = (copy_generators(self._devices()) if shared_noise else [], copy_buffers(buffers))
        self._start = [parameter.detach().clone() for parameter in self.parameters]
        strangers = [parameter for parameter in self._watch.parameters() if id(parameter) not in self._own]
        others = [(parameter, _owned(parameter.grad)) for parameter in strangers]
        for parameter in strangers:
            parameter.grad = None
        for parameter in self.parameters:
            parameter.grad = _owned(parameter.grad)
        memory.gradients = self._first = [parameter.grad for parameter in self.parameters]
        self._memory = None
        self._replay = (generators if shared_noise else [], buffers)
        try:
            yield memory.loss
        finally:
            self._replay = None
            restore_generators(after[0])
            restore_buffers(after[1])
            self.rewind()
            self._start, self._first = [], []
            for parameter, gradient in zip(self.parameters, memory.gradients, strict=True):
                parameter.grad = gradient
            for parameter, gradient in others:
                parameter.grad = gradient
            self._remember(memory.loss, memory.before)

    def rewind(self) -> None:
        """Within :meth:`without_trace`: puts the parameters back to where it found them."""
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self._start)

    def discard(self) -> None:
        """Undoes a gradient of :meth:`without_trace` that is of no use for the step: buffers and generators are as before it."""
        if self._memory is not None and self._memory.before is not None:
            generators, buffers = self._memory.before
            restore_generators(generators)
            restore_buffers(buffers)
        self._memory = None

    def modules(self) -> Iterable[nn.Module]:
        """The modules that the closure calls, with all theirs; where unknown, found by a loss evaluated without a trace."""
        if not self._watch.complete:
            generators = copy_generators(self._devices())
            try:
                with self._watch.watching():
                    self.loss()
            finally:
                restore_generators(generators)
                restore_buffers(self._watch.buffers)
        return self._watch.modules

    def _watched(self) -> _Memory:
        memory = self._memory
        if memory is None or memory.before is None or not self._holds(memory):
            memory = self._evaluate_watched()
        return memory

    def _evaluate_watched(self) -> _Memory:
        generators = copy_generators(self._devices())
        with self._watch.watching():
            loss = self._gradient()
        buffers = self._watch.buffers
        if self._watch.misses(self.gradients()[0]):
            known = set(self._watch.modules)
            self.modules()
            buffers = buffers + [buffer for buffer in self._watch.buffers if buffer[0] not in known]
        return self._remember(loss, (generators, buffers))

    @contextmanager
    def _gradients_set_aside(self) -> Iterator[None]:
        """Within, ``backward`` differentiates nothing; whatever the closure then does with its gradients, it does to stand-ins."""
        if not self._closure_calls_backward:
            yield
            return
        kept = [parameter.grad for parameter in self.parameters]
        first = (
            self._first or kept
        )  # the training gradient; any later one has served already and may stand in

        def stand_in() -> None:
            for parameter, gradient, own in zip(self.parameters, kept, first, strict=True):
                if parameter.grad is None:
                    parameter.grad = (
                        torch.zeros_like(parameter) if gradient is None or gradient is own else gradient
                    )

        for parameter in self.parameters:
            parameter.grad = None
        try:
            with _BackwardReplaced(stand_in):
                yield
        finally:
            for parameter, gradient in zip(self.parameters, kept, strict=True):
                parameter.grad = gradient

    def _gradient(self) -> Tensor:
        for parameter in (
            self._all
        ):  # also what has been frozen with a gradient of its own, which the base would use again
            parameter.grad = None
        with torch.enable_grad():
            loss = self._call(detach=False)
            self._closure_calls_backward = any(parameter.grad is not None for parameter in self.parameters)
            if not self._closure_calls_backward:
                if not loss.requires_grad:
                    raise ValueError(
                        "the closure's loss depends on no parameter of the optimizer; expected a loss computed from them"
                    )
                loss.backward()
        for parameter in self.parameters:
            if parameter.grad is not None and parameter.grad.layout is not torch.strided:
                raise ValueError(
                    f"a parameter of shape {tuple(parameter.shape)} has a {parameter.grad.layout} gradient; "
                    "expected dense ones (for an embedding: sparse=False)"
                )
        return loss.detach()

    def _call(self, detach: bool = True) -> Tensor:
        if self._replay is not None:
            restore_generators(self._replay[0])
            restore_buffers(self._replay[1])
        torch.clear_autocast_cache()  # around a whole step it would hold casts of parameters that have moved since
        loss = self.closure()
        if not isinstance(loss, Tensor):
            raise TypeError(f"the closure returned {type(loss).__name__}; expected the loss as a tensor")
        if loss.numel() != 1:
            raise ValueError(
                f"the closure returned a tensor of shape {tuple(loss.shape)}; expected a single loss"
            )
        return loss.detach().reshape(()) if detach else loss.reshape(())

    def _remember(self, loss: Tensor, before: tuple[Generators, list[Buffer]] | None) -> _Memory:
        memory = _Memory(loss, [parameter.grad for parameter in self.parameters], self._versions(), before)
        if self._replay is None:
            self._memory = memory
        return memory

    def _holds(self, memory: _Memory) -> bool:
        same = all(p.grad is g for p, g in zip(self.parameters, memory.gradients, strict=True))
        return same and memory.versions == self._versions()

    def _versions(self) -> list[int]:
        """In-place changes that torch has counted, of parameters and gradients."""
        gradients = [parameter.grad for parameter in self.parameters]
        return [t._version for t in (*self.parameters, *gradients) if t is not None]

    def _devices(self) -> set[torch.device]:
        return {parameter.device for parameter in self.parameters}


def _owned(gradient: Tensor | None) -> Tensor | None:
    """A view belongs to somebody else's storage (DDP's buckets), which the next gradient overwrites."""
    return gradient.clone() if gradient is not None and gradient._is_view() else gradient
