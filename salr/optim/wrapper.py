"""What all wrappers have in common: they look and behave like the optimizer that they wrap."""

import inspect
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Self

from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.optim import Optimizer

from salr.closures import Closure, Evaluation, SideState
from salr.closures.own_gradients import NoGradient
from salr.closures.vectors import each_once, warn_of_half_precision
from salr.optim.bases import check_optimizer
from salr.optim.gradients import fresh_gradients, leave_gradients, were_left
from salr.optim.kept import KeptStep, put_back
from salr.optim.saved import fills_empty_state, names_of, refusing_damage, split_own, with_own
from salr.optim.stand_in import on_the_optimizer


class Wrapper(Optimizer):
    """An optimizer that wraps another one, its base.

    ``param_groups`` and ``state`` are the base's own objects, so that learning-rate schedulers, ``zero_grad``
    and parameter groups work as on the base itself. ``state_dict`` is the base's, with the wrapper's own
    numbers as one more entry of the first parameter group, named after the class. Hooks, deepcopy and
    pickling work as for any optimizer. torch's global step hooks and profiler records fire once for each
    layer of wrapping.

    A step evaluates the closure more often than a plain one does, but leaves everything else as one
    evaluation leaves it: see :class:`salr.closures.SideState` for what it finds by itself. The first step
    runs one evaluation uncompiled to find it, as does the first step after a parameter group has been added.
    If the closure raises, parameters, optimizer, side state and accumulated gradients are as before the step,
    so that it can be tried again.

    Noise that torch does not own (NumPy's, ``random``'s, as in Mixup) differs from one evaluation to the
    next. Draw it outside the closure::

        images, targets = mixup(images, targets)
        optimizer.step(lambda: loss_fn(model(images), targets))

    Gradients that were accumulated before ``step(closure)`` are added to the training gradient, as by a plain
    optimizer, unless the closure clears them; a closure that clips clips their sum. Measurements see only the
    closure's own loss, so a measured step then takes one more gradient. Gradients that the last step has left
    are cleared, not added. If they are changed in place, as by another ``backward`` or by clipping, they
    count as accumulated, and a warning says so.

    A subclass defines ``_gradient(evaluation)`` if it changes the gradient that the base steps with, or
    ``_step(evaluation)``, and ``_own_state``/``_load_own_state`` if it has a state of its own. That state
    must be replaced, never changed in place.

    Args:
        base: any ``torch.optim.Optimizer``.
        modules: modules whose state cannot be found by watching the closure (see
            :class:`salr.closures.SideState`).

    Raises:
        TypeError: the base is not a ``torch.optim.Optimizer``, or is a wrapper that this one cannot wrap.

    Example:
        >>> import torch
        >>> from salr.optim import Wrapper
        >>> class Halved(Wrapper):
        ...     def _gradient(self, evaluation):
        ...         loss = evaluation()
        ...         for parameter, gradient in zip(*evaluation.gradients(), strict=True):
        ...             parameter.grad = gradient / 2
        ...         return loss
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> loss = Halved(torch.optim.SGD([x], lr=0.1)).step(lambda: x.square().sum())
        >>> [round(value, 4) for value in x.tolist()]
        [2.7, 3.6]
    """

    base: Optimizer
    wraps_wrappers = False
    """Whether the base may be a wrapper.

    SALR's may, since SALR takes gradients at the parameters. The others take the base's gradient elsewhere.
    """
    starts_elsewhere = False
    """Whether the first gradient is taken elsewhere than at the present parameters."""
    adds_accumulated = True
    """Whether gradients from before the step can be added to the one that the base steps with."""
    capturable = False
    """Whether a CUDA graph can take its steps. Each class says so itself; a subclass does not inherit it.

    All that a step reads and changes is then tensors among its attributes, the numbers that ``_numbers``
    returns, and what ``_replayed`` counts. Steps for which ``_phase`` returns the same take the same
    operations.
    """

    _given: Sequence[Tensor] = ()
    """Tensors that take the place of ``_numbers`` within a capture."""

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        # Before __init__, which would complain of the names of another package's form, SAM(parameters, SGD,
        # lr=0.1).
        if arguments or options:
            check_optimizer(cls.__name__, arguments[0] if arguments else options.get("base"))
            cls._check_names(options)
        return super().__new__(cls)

    @classmethod
    def _check_names(cls, options: Iterable[str]) -> None:
        """Raise TypeError for an option of another form. ``__init__`` would only call it unexpected."""

    def __init__(self, base: Optimizer, modules: nn.Module | Iterable[nn.Module] = ()) -> None:
        if isinstance(base, Wrapper) and (base.wraps_wrappers or not self.wraps_wrappers):
            raise TypeError(
                f"{type(self).__name__} got {type(base).__name__}; expected an optimizer that is not a "
                "wrapper (only SALR may go around others)"
            )
        self.modules = [modules] if isinstance(modules, nn.Module) else list(modules)
        if wrong := [module for module in self.modules if not isinstance(module, nn.Module)]:
            raise TypeError(f"modules holds {wrong[0]!r}; expected modules of torch.nn, as in modules=model")
        # Optimizer.__init__ would build groups and state of its own; unpickling builds only the rest.
        self.__setstate__({"base": base, "defaults": base.defaults})
        self._one_call: bool | None = None
        self._warned: frozenset[str] = frozenset()
        if not isinstance(base, Wrapper):
            warn_of_half_precision(type(self).__name__, self.parameters)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = self.base.param_groups
        return groups

    @param_groups.setter
    @on_the_optimizer
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.base.param_groups = groups
        self._side = SideState(self.parameters, self.modules)

    @property
    def state(self) -> Any:
        return self.base.state

    @state.setter
    def state(self, state: Any) -> None:
        self.base.state = state

    @property
    def parameters(self) -> list[Tensor]:
        """All parameters of all groups, in order, each once."""
        return each_once(parameter for group in self.base.param_groups for parameter in group["params"])

    @property
    def measuring(self) -> bool:
        """Whether the closure is in an evaluation that a plain step would not make.

        Check it before what must happen only once per step, such as a metric or a log::

            def closure():
                loss = loss_fn(model(images), targets)
                if not optimizer.measuring:
                    losses.append(loss.detach())
                return loss
        """
        return self._side.measuring

    def __getattr__(self, name: str) -> Any:
        # Bases that average their own iterates (schedulefree) have two modes.
        if name in ("train", "eval") and "base" in vars(self):
            return getattr(self.base, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options().items())
        return f"{type(self).__name__}({options}) around {self.base!r}"

    def _options(self) -> dict[str, Any]:
        """Return the constructor's arguments, for ``repr``."""
        names = inspect.signature(type(self)).parameters
        return {
            name: vars(self)[name] for name in names if name in vars(self) and name not in ("base", "modules")
        }

    @on_the_optimizer
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base."""
        self.base.add_param_group(param_group)
        self._side = SideState(self.parameters, self.modules)
        if not isinstance(self.base, Wrapper):
            warn_of_half_precision(type(self).__name__, self.param_groups[-1]["params"])

    @on_the_optimizer
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters, as any optimizer does."""
        super().zero_grad(set_to_none)
        if not set_to_none:
            leave_gradients(self.parameters)  # zeros are nothing that has been accumulated

    @_disable_dynamo  # a graph that contains the step breaks here
    def step(  # type: ignore[override]
        self, closure: Closure | None = None, advance: Callable[[], object] | None = None
    ) -> Tensor | None:
        """Take one iteration.

        Args:
            closure: returns the loss on the current batch. All calls of a step must use the same batch,
                except those of :class:`LocalEntropy` (see ``advance``). The closure may call ``backward``
                itself (see :class:`salr.closures.Evaluation`). If it returns None or a loss without a graph,
                the base steps with the gradients that are there, as a plain optimizer does.
            advance: moves the closure on to its next batch. Methods that take several batches per iteration
                (:class:`LocalEntropy`) call it between them; without it, a closure that takes its next batch
                by itself does the same.

        Returns:
            The loss at the first parameters that the method evaluated, 0-d and detached.

        Raises:
            TypeError: there is no closure, and the method needs one.
        """
        parameters, own, evaluation, loss = self.parameters, self._own_attributes(), None, None
        try:
            if isinstance(closure, Evaluation):  # of a wrapper around this one, or of a trainer
                return self._step(closure)
            if closure is not None:
                evaluation = Evaluation(closure, parameters, advance, self._side)
                evaluation.accumulated = fresh_gradients(parameters)
                if were_left(evaluation.accumulated):
                    self._warn_once(
                        "gradients that the last step has left have been changed in place, so they count as "
                        "accumulated, with what was left; call optimizer.zero_grad() after the step"
                    )
                loss = self._step(evaluation)
            elif fills_empty_state(self, parameters):
                self.base.step()
            else:
                self._step_on_gradients()
        except BaseException:
            put_back(own)
            if evaluation is not None:
                evaluation.undo()
            raise
        leave_gradients(parameters)
        return loss

    def _step(self, evaluation: Evaluation) -> Tensor:
        return self._step_base(evaluation, lambda: self._gradient(evaluation))

    def _step_on_gradients(self) -> None:
        """Take a step without a closure."""
        raise TypeError(
            f"{type(self).__name__}.step() needs a closure, for it evaluates the loss more than once: "
            "define closure() returning the loss of the current batch and call optimizer.step(closure)"
        )

    def _gradient(self, evaluation: Evaluation) -> Tensor:
        """Leave in ``parameter.grad`` what the base is to step with, and return the loss.

        The parameters come out as they were.
        """
        raise NotImplementedError

    def _step_base(self, evaluation: Evaluation, gradient: Closure | None = None) -> Tensor:
        """Take one step of the base with the closure's gradient, or with another one."""
        if isinstance(self.base, Wrapper):
            return self.base.step(evaluation)  # type: ignore[return-value]
        take = evaluation.training_gradient if gradient is None else gradient
        kept = None if self._one_call else KeptStep(self.base)
        calls = 0

        def closure() -> Tensor | None:
            nonlocal calls
            calls += 1
            try:
                loss: Tensor | None = take()
            except NoGradient as nothing:
                loss = nothing.loss
                self._say_plain(nothing, evaluation.accumulated)
                if not nothing.on_accumulated:
                    evaluation.add_accumulated()
            else:
                if not self.adds_accumulated and evaluation.accumulated:
                    evaluation.accumulated = []
                    self._warn_once(
                        "gradients accumulated before step(closure) are not used, for it does not step with "
                        "the loss's gradient; compute the whole batch in the closure"
                    )
            return loss

        try:
            # torch declares that a step takes and returns a loss as a float
            loss: Tensor = self.base.step(closure)  # type: ignore[assignment, arg-type]
        except BaseException:
            if kept is not None:
                kept.restore()
            raise
        self._one_call = calls <= 1 and self._one_call is not False
        return loss

    def _say_plain(self, nothing: NoGradient, accumulated: list[tuple[Tensor, Tensor]]) -> None:
        """Warn once of a step without the method's own gradient.

        A batch skipped by None has no gradients at all.
        """
        if nothing.loss is not None or accumulated or self._has_gradients():
            self._warn_once(f"a plain step of the base has been taken, for {nothing}")

    def _has_gradients(self) -> bool:
        return any(parameter.grad is not None for parameter in self.parameters)

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned |= {message}
            warnings.warn(f"{type(self).__name__}: {message}", stacklevel=2)

    def _bases(self) -> list[Optimizer]:
        """Return what it goes around, from the outside in."""
        bases = [self.base]
        while isinstance(base := bases[-1], Wrapper):
            bases.append(base.base)
        return bases

    def _own_namespaces(self) -> list[dict[str, Any]]:
        """Return the attributes that are put back if a step or a load fails."""
        return [vars(self)]

    def _phase(self) -> Hashable:
        """Return what tells which operations the next step takes."""
        return None

    def _numbers(self) -> list[float]:
        """Return the numbers of the host that the next step uses and that change from step to step."""
        return []

    def _prepare_replays(self, steps: int) -> None:
        """Take the memory that so many replays will need."""

    def _replayed(self) -> None:
        """Count a step that a CUDA graph has taken."""

    def _own_attributes(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return [(namespace, dict(namespace)) for namespace in self._own_namespaces()]

    def _own_state(self) -> dict[str, Any]:
        """Return the wrapper's own state as plain numbers, strings and lists.

        Other programs keep nothing else exactly.
        """
        return {}

    def _load_own_state(self, state: dict[str, Any]) -> None:
        """Take in an own state. Raise if it is damaged."""

    def _split_state(self, state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the wrapper's own state and the base's. Raise ValueError for another composition's."""
        bases = [type(base).__name__ for base in self._bases()]
        return split_own(state, type(self).__name__, bases, names_of(Wrapper))

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state, with the wrapper's own in its first parameter group.

        It is ``state_dict()["param_groups"][0][name]``, where the name is the class's. There
        ``torch.distributed.checkpoint.state_dict`` keeps it.
        """
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        state = with_own(self.base.state_dict(), type(self).__name__, self._own_state())
        for after in self._optimizer_state_dict_post_hooks.values():
            state = after(self, state) or state
        return state

    @on_the_optimizer
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a ``state_dict()`` of the same composition, also of an earlier version.

        Raises:
            ValueError: the state is of another composition, or damaged. Nothing has been changed then.
        """
        state = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            state = before(self, state) or state
        own, rest = self._split_state(state)
        attributes = self._own_attributes()
        try:
            with refusing_damage(type(self).__name__):
                self._load_own_state(own)
            self.base.load_state_dict(rest)
        except BaseException:
            put_back(attributes)
            raise
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        # A scheduler puts a bound method over step; it belongs to the scheduler and cannot be pickled. Hooks
        # stay behind, as any optimizer's do. Whose modules a copy's closure calls, it finds by itself.
        left = [name for name in self.__dict__ if name in ("step", "_side") or name.endswith("_hooks")]
        return {name: value for name, value in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._side = SideState(self.parameters, getattr(self, "modules", ()))
