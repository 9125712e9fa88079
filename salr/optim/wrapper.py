"""What all wrappers have in common: they look and behave like the optimizer that they wrap."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from salr.closures import Closure, Evaluation
from salr.closures.side_state import BufferWatch


class Wrapper(Optimizer):
    """An optimizer around another one.

    ``param_groups`` and ``state`` are the base's own objects, so that learning-rate schedulers, ``zero_grad`` and parameter groups
    work as on the base itself. ``state_dict`` is the base's with one more entry, named after the wrapper's class. Hooks, deepcopy
    and pickling work as for any optimizer.

    The modules whose buffers it keeps are those that the closure calls at the first step, at the first one after a parameter group
    has been added, and where a parameter has its first gradient; that one evaluation runs uncompiled.

    A subclass writes ``_gradient(evaluation)`` where it changes the gradient that the base steps with, or ``_step(evaluation)``,
    and ``_own_state``/``_load_own_state`` where it has a state of its own.

    Raises:
        TypeError: the base is not a ``torch.optim.Optimizer``, or is a wrapper that this one cannot go around.
    """

    base: Optimizer
    wraps_wrappers = False
    """SALR alone: it asks for gradients at the parameters, where a wrapper that decides itself takes the base's elsewhere."""

    def __init__(self, base: Optimizer) -> None:
        if not isinstance(base, Optimizer):
            raise TypeError(
                f"{type(self).__name__} got {type(base).__name__}; expected a torch.optim.Optimizer to wrap, "
                f"as in {type(self).__name__}(torch.optim.SGD(model.parameters(), lr=0.01))"
            )
        if isinstance(base, Wrapper) and (base.wraps_wrappers or not self.wraps_wrappers):
            outside, inside = type(self).__name__, type(base).__name__
            raise TypeError(
                f"{outside} got {inside}; expected an optimizer that is not a wrapper (SALR alone may go around others)"
            )
        # Optimizer.__init__ would build groups and state of its own; unpickling builds the rest alone.
        self.__setstate__({"base": base, "defaults": base.defaults})

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        groups: list[dict[str, Any]] = self.base.param_groups
        return groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.base.state

    @property
    def parameters(self) -> list[Tensor]:
        """All parameters of all groups, in order."""
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.base.add_param_group(param_group)
        self._watch = BufferWatch()

    def step(  # type: ignore[override]
        self, closure: Closure | None = None, advance: Callable[[], object] | None = None
    ) -> Tensor:
        """One iteration.

        Args:
            closure: returns the loss on the current batch, and on the same one however often it is called; it may call
                ``backward`` itself (see :class:`salr.sharpness.Evaluation`).
            advance: moves the closure on to its next batch. Methods that take several batches an iteration
                (:class:`LocalEntropy`) call it between them; without it, a closure that takes its next batch by itself
                does the same.

        Returns:
            The loss at the first parameters that the method evaluated, 0-d and detached.

        Raises:
            TypeError: there is no closure.
        """
        if closure is None:
            raise TypeError(
                f"{type(self).__name__}.step() needs a closure, for it evaluates the loss more than once: "
                "define closure() returning the loss of the current batch and call optimizer.step(closure)"
            )
        if not isinstance(closure, Evaluation):
            closure = Evaluation(closure, self.parameters, advance, self._watch)
        return self._step(closure)

    def _step(self, evaluation: Evaluation) -> Tensor:
        return self._step_base(lambda: self._gradient(evaluation))

    def _gradient(self, evaluation: Evaluation) -> Tensor:
        """Leaves in ``parameter.grad`` what the base is to step with and returns the loss; the parameters come out as they were."""
        raise NotImplementedError

    def _step_base(self, closure: Closure) -> Tensor:
        """One step of the base, which finds the gradient by calling the closure. (torch's annotation knows losses as floats.)"""
        loss: Tensor = self.base.step(closure)  # type: ignore[assignment, arg-type]
        return loss

    def _own_state(self) -> dict[str, Any]:
        return {}

    def _load_own_state(self, state: dict[str, Any]) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        state = {**self.base.state_dict(), type(self).__name__: self._own_state()}
        for after in self._optimizer_state_dict_post_hooks.values():
            state = after(self, state) or state
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ValueError where the state is not one of this wrapper around this base."""
        state = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            state = before(self, state) or state
        name = type(self).__name__
        if name not in state:
            raise ValueError(
                f"the state holds {sorted(state)}; expected the state_dict() of a {name}, which has a {name!r}"
            )
        own = state.pop(name)
        self.base.load_state_dict(state)
        self._load_own_state(own)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        # A scheduler puts a bound method over step; it belongs to the scheduler and cannot be pickled. Hooks stay behind, as any
        # optimizer's do. Whose modules a copy's closure calls, it finds by itself.
        left = [name for name in self.__dict__ if name in ("step", "_watch") or name.endswith("_hooks")]
        return {name: value for name, value in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._watch = BufferWatch()
