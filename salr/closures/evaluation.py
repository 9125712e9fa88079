"""One way to evaluate a loss for every algorithm of the library, whatever kind of closure the user writes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from salr.closures.clipped import Clipped
from salr.closures.own_gradients import (
    NoGradient,
    arose_in_differentiation,
    gradients_set_aside,
    has_taken_gradients,
    place_copies,
)
from salr.closures.side_state import SideState
from salr.closures.snapshot import Snapshot, owned
from salr.closures.taken import TakenGradient, refuse_sparse
from salr.closures.vectors import copy_into, each_once, local

Closure = Callable[[], Tensor]


class Evaluation:
    """A closure made uniform.

    Calling the object takes the gradient: ``parameter.grad`` is filled and the detached loss returned. A
    gradient that a measurement has taken at the same parameters is used once more, without another
    evaluation: this is how the gradient of a measurement is also the gradient of the step. Parameters count
    as changed if torch has counted a change of their values, or if they have other memory.

    Args:
        closure: return the loss, a tensor of one element. It may call ``backward`` itself: gradients are
            cleared before each call, and taken after it if the closure has not taken them. It may clear and
            accumulate gradients over several micro-batches, and clip them. If only the loss is wanted, it
            runs without gradients: ``backward`` then leaves only stand-ins.
        parameters: those whose gradients are wanted. Those that do not require one are left out; one that is
            listed twice counts once.
        advance: moves the closure on to its next batch. Only methods that use several batches per iteration
            call it.
        side: what the closure changes besides its result, kept from one step to the next. Without it, a plain
            gradient is taken as it is: nothing is watched, and :meth:`undo` puts back only gradients.

    Raises:
        TypeError: the closure is not callable or does not return a tensor.
        ValueError: its loss is not of one element, depends on no parameter, or has a sparse gradient.

    Example:
        >>> import torch
        >>> from salr.closures import Evaluation
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> evaluation = Evaluation(lambda: x.square().sum(), [x])
        >>> float(evaluation()), x.grad.tolist()
        (25.0, [6.0, 8.0])
    """

    def __init__(
        self,
        closure: Closure,
        parameters: Iterable[Tensor],
        advance: Callable[[], object] | None = None,
        side: SideState | None = None,
    ) -> None:
        if not callable(closure):
            raise TypeError(
                f"the closure is {closure!r}; expected a function without arguments that returns the loss"
            )
        self.closure = closure
        self._all = each_once(parameters)
        self.parameters = [parameter for parameter in self._all if parameter.requires_grad]
        self.measures_only = False
        """Whether even the first evaluation belongs to a measurement, and to no step."""
        self.accumulated: list[tuple[Tensor, Tensor]] = []
        """Parameters and their gradients from before the step, which its training gradient is added to."""
        self._on_accumulated = False
        self._advance = advance
        self._can_undo = side is not None
        self._side = SideState(self._all) if side is None else side
        self._side.parameters = self._all
        self.begun: Snapshot | None = None
        """The side state before the first evaluation."""
        self._untouched = True  # nothing has been evaluated
        self._memory: TakenGradient | None = None
        self._nothing: NoGradient | None = None
        self._replay: tuple[Snapshot, bool] | None = None
        self._closure_calls_backward = True  # perhaps; its first gradient tells
        self._closure_differentiates = False
        self._start: list[Tensor] = []
        self._first: list[Tensor | None] = []

    def __call__(self) -> Tensor:
        """Take the gradient at the present parameters and return the loss, detached, 0-d."""
        if self._memory is not None and self._memory.has_graph():
            self.discard()  # the graph holds parameters that have been moved since
        memory, self._memory = self._memory, None
        if memory is not None and memory.is_current():
            if isinstance(self.closure, Clipped):  # a measurement shares its gradient as it is
                self.closure.clip()
            return memory.loss
        return self._take(clipped=self._replay is None)

    def training_gradient(self) -> Tensor:
        """Take the gradient that the base steps with, on top of those from before the step.

        A closure that clips then clips the sum. A closure that clears gradients trains without those from
        before the step.
        """
        if not self.accumulated:
            return self() if self._replay is None else self._take()
        self.discard()
        self._on_accumulated = True
        try:
            return self._take()
        finally:
            self._on_accumulated = False

    def gradient(self) -> Tensor:
        """Take the gradient as a call does, for :meth:`discard` to undo or :meth:`without_trace` to share."""
        return self._shared().loss

    def loss(self) -> Tensor:
        """Return the loss at the present parameters, detached, 0-d.

        Gradients are neither taken nor touched.
        """
        try:
            aside = (
                gradients_set_aside(self.parameters, self._first)
                if self._closure_calls_backward
                else nullcontext()
            )
            with torch.set_grad_enabled(self._closure_differentiates), aside:
                loss = self._call(measuring=True)
                if loss is None:
                    raise NoGradient(None)
                return loss.detach()
        except RuntimeError as error:
            if self._closure_differentiates or not arose_in_differentiation(error):
                raise
        # A loss may contain derivatives (a gradient penalty, a differential equation), for which its closure
        # needs the graph.
        self._closure_differentiates = True
        return self.loss()

    def advance(self) -> None:
        """Move on to the next batch if the caller has said how; a closure may also do so by itself."""
        self._memory = None
        if self._advance is not None:
            self._advance()

    def gradients(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the parameters that have a gradient, and the gradients. Unused parameters have none."""
        used, gradients = [], []
        for parameter in self.parameters:
            if (gradient := parameter.grad) is not None:
                used.append(parameter)
                gradients.append(gradient)
        return used, gradients

    @contextmanager
    def without_trace(self, shared_noise: bool = True) -> Iterator[Tensor]:
        """Take the gradient at the present parameters as a plain step would, then let the caller move them.

        Within the context parameters may be moved and evaluated anywhere. Every evaluation starts from the
        side state (see :class:`SideState`), and with ``shared_noise`` from the random generators, that the
        first one started from, so that all see the same dropout masks and the same recurrent state. At the
        end parameters, gradients and side state are bit for bit what a plain step's gradient has left, and so
        are the generators (without ``shared_noise`` the noise drawn within is used up). Gradients: also those
        of the modules' other parameters, which may be another optimizer's.

        Yields:
            The loss at the present parameters, 0-d.
        """
        memory = self._shared()
        assert memory.before is not None
        after = self._side.snapshot(noise=shared_noise)
        after.set_gradients_aside(self._side.others())
        self._start = [local(parameter).detach().clone() for parameter in self.parameters]
        for parameter in self.parameters:
            parameter.grad = owned(parameter.grad)
        first = self._first = [parameter.grad for parameter in self.parameters]
        self._memory = None
        self._replay = (memory.before, shared_noise)
        try:
            yield memory.loss
        finally:
            self._replay = None
            after.restore()
            self.rewind()
            self._start, self._first = [], []
            for parameter, gradient in zip(self.parameters, first, strict=True):
                parameter.grad = gradient
            self._memory = TakenGradient(memory.loss, self.parameters, memory.before)

    def rewind(self) -> None:
        """Within :meth:`without_trace`: put the parameters back to where it found them."""
        copy_into(self.parameters, self._start)

    def discard(self) -> None:
        """Undo a shared gradient that is of no use for the step.

        Side state and generators are afterwards as before it.
        """
        if self._memory is not None and self._memory.before is not None:
            self._memory.before.restore()
        self._memory = None

    def begin(self) -> None:
        """Remember the side state and the generators for :meth:`undo`.

        The first evaluation does so if nobody has.
        """
        if self.begun is None:
            self.begun = self._side.snapshot()

    def undo(self) -> None:
        """Put side state, generators and gradients back to where the first evaluation found them."""
        self._memory = None
        if self.begun is not None:
            self.begun.restore()
        for parameter in self._all:
            parameter.grad = None
        for parameter, gradient in self.accumulated:
            parameter.grad = gradient

    def add_accumulated(self) -> None:
        """Add to the gradients those from before the step."""
        for parameter, gradient in self.accumulated:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def modules(self) -> Iterable[nn.Module]:
        """Return the modules that the closure calls, with all theirs.

        If no evaluation has been watched yet, one is, for its loss only.
        """
        self._find()
        return self._side.modules

    def _find(self, *snapshots: Snapshot) -> None:
        if not self._side.complete:
            with self._side.kept(gradients=False), self._side.watching(*snapshots):
                self.loss()

    def _shared(self) -> TakenGradient:
        memory = self._memory
        if memory is None or memory.before is None or not memory.is_current():
            before = self._side.snapshot()
            memory = self._memory = TakenGradient(self._take(before, clipped=False), self.parameters, before)
            if self._side.misses(self.gradients()[0]):
                self._find(before)
        return memory

    def _take(self, before: Snapshot | None = None, clipped: bool = True) -> Tensor:
        """Take the gradient. Add to the snapshot what the closure is found to change."""
        if self._nothing is not None:
            raise self._nothing
        if self._replay is not None:
            return self._gradient(clipped)
        first, self._untouched = self._untouched, False
        if before is None and not self._can_undo:
            return self._gradient_or_nothing(first, clipped)
        self.begun = before if self.begun is None else self.begun
        self.begin()
        if self._side.complete:
            return self._gradient_or_nothing(first, clipped)
        snapshots = {snapshot for snapshot in (self.begun, before) if snapshot is not None}
        with self._side.watching(*snapshots):
            return self._gradient_or_nothing(first, clipped)

    def _gradient_or_nothing(self, first: bool, clipped: bool) -> Tensor:
        try:
            return self._gradient(clipped)
        except NoGradient as nothing:
            if first:
                self._nothing = nothing
            raise

    def _gradient(self, clipped: bool) -> Tensor:
        # Also what has been frozen with a gradient, which the base would use again.
        for parameter in self._all:
            parameter.grad = None
        placed = place_copies(self.accumulated) if self._on_accumulated else {}
        with torch.enable_grad():
            loss = self._call(clipped=clipped)
            self._closure_calls_backward = has_taken_gradients(self.parameters, placed)
            if loss is None:
                raise NoGradient(None, self._on_accumulated)
            if not self._closure_calls_backward:
                if not loss.requires_grad:
                    raise NoGradient(loss.detach(), self._on_accumulated)
                loss.backward()
        if self._replay is None:
            if not any(parameter.grad is not None for parameter in self.parameters):
                raise NoGradient(loss.detach(), self._on_accumulated)
            refuse_sparse(self.parameters)
        return loss.detach()

    def _call(self, measuring: bool = False, clipped: bool = False) -> Tensor | None:
        side = self._side
        if self._replay is not None:
            self._replay[0].restore(noise=self._replay[1])
        # Around a whole step, these hold casts and products of parameters that have moved since.
        torch.clear_autocast_cache()
        parametrize._cache.clear()
        side.reshard()
        side.measuring = measuring or self.measures_only or self._replay is not None
        closure = self.closure
        if isinstance(closure, Clipped) and not clipped:
            closure = closure.unclipped
        try:
            loss = closure()
        finally:
            side.measuring = False
            if measuring:
                side.reshard()
        if loss is None:
            return None
        if not isinstance(loss, Tensor):
            raise TypeError(f"the closure returned {type(loss).__name__}; expected the loss as a tensor")
        if loss.numel() != 1:
            raise ValueError(
                f"the closure returned a tensor of shape {tuple(loss.shape)}; expected a single loss"
            )
        return loss.reshape(())
