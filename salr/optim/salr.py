"""SALR (sections 2 and 5, Algorithms 1 to 4)."""

import copy
import inspect
import math
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from salr.checks import check_bound, check_count
from salr.closures import Closure, Evaluation
from salr.closures.own_gradients import NoGradient
from salr.optim.bases import check_direction, check_rates
from salr.optim.ranks import average_over_ranks
from salr.optim.running_median import RunningMedian
from salr.optim.saved import split_tensors, with_tensors
from salr.optim.stand_in import on_the_optimizer
from salr.optim.wrapper import Wrapper
from salr.sharpness import AscentDescent, Measure

UNMEASURED = (
    "step() without a closure or a loss: a measurement was due and has not been taken, so the factor stays; "
    "call optimizer.measure(closure) before each step"
)


class SALR(Wrapper):
    """Scale the learning rate of any optimizer by the local sharpness of the loss.

    Every ``interval`` iterations, before the update and on the same batch, ``measure`` measures the sharpness
    Ŝ_k. The iteration's rate is η_k = η0 · Ŝ_k / median of all Ŝ measured so far, the newest included.
    Between measurements the newest factor is kept. ``SALR(torch.optim.SGD(...))`` is Algorithm 3,
    ``SALR(torch.optim.Adam(...))`` is Algorithm 4, and another measure makes it Algorithm 1 with that
    measure.

    η0 is each group's ``lr``, which belongs to the user and the scheduler: it is multiplied by the factor
    only during the step.

    With the paper's values a measured iteration takes 9 gradients and 2 losses, the training gradient
    included: 5 gradients per iteration on average. With ``GradientNorm()`` it is one gradient per iteration.

    A measurement that is not a positive finite number says nothing about sharpness: it does not enter the
    median, and the factor stays as it was, 1 before the first one. So a rate is never negative or infinite.

    In a loop that calls ``backward`` itself, only the measurement needs a closure::

        optimizer.measure(closure)  # leaves no trace, and does nothing unless a measurement is due
        loss.backward()
        optimizer.step()

    There the measurement cannot share the training gradient: that is 5.5 gradients per iteration, not 5.
    With ``torch.amp.GradScaler`` the closure returns the unscaled loss.

    If ``torch.distributed`` is initialised, Ŝ is averaged over the ranks of the default group, and all ranks
    use the same rate.

    Example:
        >>> import torch
        >>> from salr.optim import SALR
        >>> from salr.sharpness import GradientNorm
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> optimizer = SALR(torch.optim.SGD([x], lr=0.1), GradientNorm(), interval=1)
        >>> for _ in range(2):
        ...     loss = optimizer.step(lambda: x.square().sum())
        >>> round(float(optimizer.lr_factor), 4)  # ‖∇f‖ was 10, then 8
        0.8889

    Args:
        base: the optimizer whose rate is scaled and whose parameters are measured. Any
            ``torch.optim.Optimizer``, also one that needs a closure, or another wrapper of this library. On
            an accelerator the base should accept a tensor as its rate (``fused=True`` or
            ``capturable=True``), otherwise the base itself waits for the device.
        measure: what is measured; by default Definition 1 with the paper's values, ``AscentDescent()``. SALR
            keeps a copy, so that one object can be given to several optimizers.
        interval: c, in iterations.
        shared_noise: whether all evaluations of a measurement see the same dropout masks.
        max_factor: the largest Ŝ_k / median. The paper has no bound. Set one if the base rate is warmed up or
            cycled: a late measurement may then be hundreds of times the median.
        modules: modules whose state cannot be found by watching the closure (see
            :class:`salr.closures.SideState`).

    Raises:
        ValueError: an interval < 1, a bound ≤ 0, or a base whose rate cannot be scaled.
        TypeError: the measure is not a :class:`salr.sharpness.Measure`.
    """

    wraps_wrappers = True
    default_measure: type[Measure] = AscentDescent
    capturable = True

    @classmethod
    def _check_names(cls, options: Iterable[str]) -> None:
        for name in inspect.signature(cls.default_measure).parameters:
            if name in options:
                measure = f"{cls.default_measure.__name__}({name}=...)"
                raise TypeError(
                    f"{name} is an option of the measure; expected {cls.__name__}(base, {measure})"
                )

    def __init__(
        self,
        base: Optimizer,
        measure: Measure | None = None,
        interval: int = 2,
        shared_noise: bool = True,
        max_factor: float = math.inf,
        modules: nn.Module | Iterable[nn.Module] = (),
    ) -> None:
        super().__init__(base, modules)
        if not isinstance(measure, Measure | None):
            raise TypeError(
                f"measure = {measure!r}; expected a measure of salr.sharpness, as in "
                f"{type(self).__name__}(base, AscentDescent(gamma=2e-3))"
            )
        # A copy, since a measure may have a state, such as an eigenvector.
        self.sharpness_measure = self.default_measure() if measure is None else copy.copy(measure)
        check_count("interval", interval, 1)
        check_bound("max_factor", max_factor)
        check_rates(self._bases()[-1])
        check_direction(self.sharpness_measure, self.param_groups)
        self.interval, self.shared_noise, self.max_factor = interval, shared_noise, max_factor
        self._iterations = 0
        self._measured = False  # whether the measurement that is due has been taken
        self._measured_at: list[int] = []  # the indices of the parameters that were measured last
        self._history: RunningMedian | None = None
        device = self.parameters[0].device
        self._sharpness = torch.tensor(torch.nan, device=device)
        self._factor = torch.tensor(1.0, device=device)

    def _options(self) -> dict[str, Any]:
        return {"measure": self.sharpness_measure, **super()._options()}

    @on_the_optimizer
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base. Refuse one that is maximised if the measure is of what is minimised."""
        check_direction(self.sharpness_measure, [param_group])
        super().add_param_group(param_group)

    @property
    def last_sharpness(self) -> Tensor:
        """The newest Ŝ, 0-d, valid or not; NaN before the first measurement."""
        return self._sharpness

    @property
    def median_sharpness(self) -> Tensor:
        """The median of all valid measurements, 0-d; NaN before the first one."""
        if self._history is None:
            return torch.full_like(self._sharpness, torch.nan)
        median = self._history.median()
        return torch.where(torch.isfinite(median), median, torch.nan)

    @property
    def lr_factor(self) -> Tensor:
        """η_k / η0, 0-d."""
        return self._factor

    @property
    def measurement_due(self) -> bool:
        """Whether ``measure`` would measure now. It does so once every ``interval`` steps."""
        return not self._measured and self._iterations % self.interval == 0

    @on_the_optimizer
    def measure(self, closure: Closure | None = None) -> None:
        """Measure the sharpness for a following ``step()`` without closure, if a measurement is due.

        Parameters, gradients, buffers and random generators are afterwards as before. If the measure needs no
        evaluation (``GradientNorm``), a closure is not evaluated here: ``step()`` measures the gradients that
        are there.

        Args:
            closure: return the loss on the current batch. Without one, a measure that needs no evaluation is
                taken from the gradients that are there. If you clip them, call ``measure()`` in between,
                after ``backward``: the norm of clipped gradients is only the bound.

        Raises:
            TypeError: there is no closure, and the measure needs one.
        """
        if not self.measurement_due:
            return
        needs_evaluation = self.sharpness_measure.cost.needs_evaluation
        if needs_evaluation and closure is None:
            raise TypeError(
                f"{type(self).__name__}.measure() needs a closure for "
                f"{type(self.sharpness_measure).__name__}: call optimizer.measure(closure), where closure() "
                "returns the loss on the current batch"
            )
        if not needs_evaluation:
            if closure is None:
                self._take(self._measured_gradients())
            return
        assert closure is not None
        self._take(self.sharpness_measure(closure, self.parameters, self.shared_noise, self._side))

    def _step(self, evaluation: Evaluation) -> Tensor:
        if self.measurement_due:
            evaluation.measures_only = isinstance(self.base, Wrapper) and self.base.starts_elsewhere
            try:
                self._take(self.sharpness_measure.measure(evaluation, self.shared_noise))
            except NoGradient:  # the base meets it again, and steps with the gradients that are there
                if evaluation.accumulated and not self.sharpness_measure.cost.needs_evaluation:
                    present = [gradient for _, gradient in evaluation.accumulated]
                    self._take(self.sharpness_measure.from_gradients(present))
            evaluation.measures_only = False
        with self._scaled_rates():
            loss = self._step_base(evaluation)
        self._count()
        return loss

    def _step_on_gradients(self) -> None:
        """Step with the gradients that are there and the newest factor."""
        if self.measurement_due and self._has_gradients():
            if not self.sharpness_measure.cost.needs_evaluation:
                self._take(self._measured_gradients())
            else:
                self._warn_once(UNMEASURED)
        with self._scaled_rates():
            self.base.step()
        self._count()

    def _say_plain(self, nothing: NoGradient, accumulated: list[tuple[Tensor, Tensor]]) -> None:
        if self.measurement_due:  # a step without a measurement is otherwise one as any
            if accumulated or self._has_gradients():
                self._warn_once(UNMEASURED)
            else:
                super()._say_plain(nothing, accumulated)

    def _count(self) -> None:
        if self._has_gradients():  # a batch that has been skipped is no iteration
            self._iterations += 1
            self._measured = False

    def _phase(self) -> Hashable:
        return self._iterations % self.interval, self._iterations > 0

    def _prepare_replays(self, steps: int) -> None:
        if self._history is not None:
            self._history = self._history.with_room(steps // self.interval + 1)

    def _replayed(self) -> None:
        if self.measurement_due and self._history is not None:
            self._history.count()
        self._iterations += 1

    def _measured_gradients(self) -> Tensor:
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if not gradients:
            raise ValueError("no parameter has a gradient; expected loss.backward() before the measurement")
        return self.sharpness_measure.from_gradients(gradients)

    def _own_namespaces(self) -> list[dict[str, Any]]:
        return [*super()._own_namespaces(), vars(self.sharpness_measure)]

    def _take(self, sharpness: Tensor) -> None:
        """Take in a measurement: the newest Ŝ, the history and the factor follow from it."""
        self._measured = True
        self._measured_at = self._trained()
        average_over_ranks(sharpness)
        if self._history is None:
            self._history = RunningMedian(sharpness.new_empty(0))
        valid = torch.isfinite(sharpness) & (sharpness > 0)
        self._history = self._history.with_value(torch.where(valid, sharpness, torch.nan))
        factor = self._factor_of(sharpness, self._history)
        self._sharpness = sharpness
        self._factor = torch.where(valid & torch.isfinite(factor), factor, self._factor)

    def _factor_of(self, sharpness: Tensor, history: RunningMedian) -> Tensor:
        return (sharpness / history.median()).clamp(max=self.max_factor)

    @contextmanager
    def _scaled_rates(self) -> Iterator[None]:
        if self._factor.is_meta:  # it has no value, and bases ask for one
            yield
            return
        rates = []
        for group in self.param_groups:
            rate = group["lr"]
            if isinstance(rate, Tensor):
                # A new tensor, because others may hold this one.
                factor: Tensor | float = self._factor_for(group).to(rate.device)
                scaled = rate.detach() * factor
            else:
                on_host = self._factor.device.type == "cpu"
                factor = self._factor.item() if on_host else self._factor_for(group)
                scaled = rate * factor
            rates.append((group, rate, factor, scaled))
            group["lr"] = scaled
        try:
            yield
        finally:
            for group, rate, factor, scaled in rates:
                # A base may have set a rate of its own meanwhile, as decays within a step do.
                group["lr"] = rate if group["lr"] is scaled else group["lr"] / factor

    def _factor_for(self, group: dict[str, Any]) -> Tensor:
        """Return the factor in the precision of a group: torch's fused kernels take rates in float32 only."""
        wide = group["params"][0].dtype in (torch.float64, torch.complex128) and not group.get("fused")
        return self._factor.to(torch.float64 if wide else torch.float32)

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state with SALR's own.

        Tensors of the measure (an eigenvector) are with the state of their parameters, so that
        ``torch.distributed.checkpoint`` keeps them; the base never sees them.
        """
        state = super().state_dict()
        parameters = self.parameters
        # Of the parameters that were measured, although they may be frozen or gone by now.
        indices = [index for index in self._measured_at if index < len(parameters)] or self._trained()
        tensors = self.sharpness_measure.state_dict([parameters[i] for i in indices]) if indices else {}
        return with_tensors(state, indices, tensors)

    def _split_state(self, state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        rest, indices, tensors = split_tensors(state)
        own, rest = super()._split_state(rest)
        return {**own, "indices": indices, "tensors": tensors}, rest

    def _trained(self) -> list[int]:
        """Return the indices of the parameters that require a gradient."""
        return [index for index, parameter in enumerate(self.parameters) if parameter.requires_grad]

    def _own_state(self) -> dict[str, Any]:
        # Plain numbers and lists: torch.distributed.checkpoint keeps nothing else exactly.
        return {
            "iterations": self._iterations,
            "measured": self._measured,
            "measure": type(self.sharpness_measure).__name__,
            "measure_options": self._measure_options(),
            "dtype": str(self._sharpness.dtype).removeprefix("torch."),
            "history": None if self._history is None else self._history.values().tolist(),
            "last_sharpness": self._sharpness.item(),
            "lr_factor": self._factor.item(),
        }

    def _measure_options(self) -> dict[str, Any]:
        """Return the measure's options that are plain values; no others can be compared after loading."""
        options = self.sharpness_measure.options()
        # torch.load(weights_only=True) refuses NumPy's numbers, some of which are floats.
        plain = {name: value.item() if hasattr(value, "item") else value for name, value in options.items()}
        return {name: value for name, value in plain.items() if isinstance(value, str | float | int)}

    def _load_own_state(self, state: dict[str, Any]) -> None:
        dtype, device = getattr(torch, state.get("dtype", "float32")), self._factor.device

        def tensor(value: Any) -> Tensor:
            """Return the value as it was saved; older versions saved tensors."""
            if isinstance(value, Tensor):
                return value.to(device)
            return torch.tensor(value, dtype=dtype, device=device)

        measure = type(self.sharpness_measure).__name__
        if state.get("measure", measure) != measure:
            raise ValueError(f"it is of the measure {state['measure']}; expected {measure}")
        # Measurements on two scales in one median would mean nothing.
        saved = state.get("measure_options", {})
        for name, value in self._measure_options().items():
            if saved.get(name, value) != value:
                raise ValueError(f"it is of {measure} with {name} = {saved[name]}; expected {value}")
        check_count("iterations", state["iterations"], 0)
        history = state["history"]
        self._iterations, self._measured = state["iterations"], state.get("measured", False)
        self._history = None if history is None else RunningMedian(tensor(history))
        self._sharpness, self._factor = tensor(state["last_sharpness"]), tensor(state["lr_factor"])
        if state.get("tensors"):
            self.sharpness_measure.load_state_dict(state["tensors"])
            self._measured_at = state["indices"]
