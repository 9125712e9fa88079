"""What the sharpness measures that SALR can follow have in common."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from salr.closures.evaluation import Closure, Evaluation
from salr.closures.side_state import SideState
from salr.closures.vectors import total_norm, trainable, values_kept, warn_of_half_precision
from salr.costs import MeasurementCost


class Measure(ABC):
    """A sharpness measure, for use in :class:`salr.optim.SALR` and by itself.

    By itself it is called with a closure and the parameters, and leaves no trace::

        loss = DatasetLoss(model, nn.CrossEntropyLoss(), loader)
        sharpness = AscentDescent()(loss, model.parameters())

    A subclass defines ``cost`` and ``measure``. If its cost is only the training gradient, it also defines
    ``from_gradients``. If it has a state of tensors, it defines ``state_dict`` and ``load_state_dict``.

    Example:
        >>> import torch
        >>> from salr.costs import MeasurementCost
        >>> from salr.sharpness import Measure
        >>> class LargestSlope(Measure):
        ...     cost = MeasurementCost(gradients=0, losses=0, shares_gradient=True)
        ...
        ...     def measure(self, evaluation, shared_noise):
        ...         evaluation()
        ...         return self.from_gradients(evaluation.gradients()[1])
        ...
        ...     def from_gradients(self, gradients):
        ...         return torch.stack([gradient.abs().max() for gradient in gradients]).max()
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> float(LargestSlope()(lambda: x.square().sum(), [x]))
        8.0
    """

    symmetric = False
    """Whether f and −f have the same sharpness, so that it also serves an optimizer that maximises."""
    capturable = False
    """Whether a CUDA graph can measure. Each class says so itself; a subclass does not inherit it.

    All that changes from one measurement to the next is then tensors among its attributes.
    """

    @property
    @abstractmethod
    def cost(self) -> MeasurementCost:
        """What one measurement costs. Budgets and tables follow from it."""

    @abstractmethod
    def measure(self, evaluation: Evaluation, shared_noise: bool) -> Tensor:
        """Measure within an iteration of an optimizer.

        Parameters and buffers are afterwards as the training gradient at θ leaves them, and that gradient is
        in ``parameter.grad``. The optimizer uses it without another evaluation.

        Args:
            evaluation: the closure, at the present parameters θ.
            shared_noise: whether all evaluations see the same random numbers (dropout masks).

        Returns:
            The sharpness, 0-d, in float32 or wider, on the loss's device. The host does not wait for it.
        """

    def from_gradients(self, gradients: Sequence[Tensor]) -> Tensor:
        """Return the measurement that follows from the training gradients, if ``cost`` needs no evaluation.

        Args:
            gradients: ∇f(θ), one tensor for each parameter that has a gradient.
        """
        raise NotImplementedError(f"{type(self).__name__} does not follow from the gradients alone")

    def __call__(
        self,
        closure: Closure,
        parameters: Iterable[Tensor],
        shared_noise: bool = True,
        side: SideState | None = None,
    ) -> Tensor:
        """Measure and leave no trace.

        Parameters, gradients, buffers and random generators come out bit for bit.

        Args:
            closure: return the loss of the same data whenever it is called. It may call ``backward`` itself.
            parameters: θ. A parameter that is listed twice counts once.
            shared_noise: whether all evaluations see the same random numbers (dropout masks). With fresh ones
                the difference of two losses is mostly noise.
            side: what the closure changes besides its result, if that has been found before.

        Returns:
            The sharpness, 0-d, in float32 or wider, on the loss's device.

        Raises:
            TypeError: the closure is not callable or does not return a tensor.
            ValueError: the loss is not a single number, or depends on no parameter.
        """
        trained = trainable(parameters)
        if side is None:  # an optimizer has warned before
            if self.cost.needs_evaluation:
                warn_of_half_precision(type(self).__name__, trained, stacklevel=3)
            side = SideState(trained)
        evaluation = Evaluation(closure, trained, side=side)
        evaluation.measures_only = True
        with side.kept(), values_kept(trained):
            return self.measure(evaluation, shared_noise)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.options().items())
        return f"{type(self).__name__}({values})"

    def options(self) -> dict[str, Any]:
        """Return the constructor's arguments that are attributes of the same name."""
        names = inspect.signature(type(self)).parameters
        return {name: vars(self)[name] for name in names if name in vars(self)}

    def state_dict(self, parameters: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """Return the tensors that the next measurement depends on: for each name, one for each parameter.

        It changes nothing.

        Args:
            parameters: those that require a gradient. A measure that has not measured yet returns where it
                would start, so that the names and shapes of a state are the same before and after the first
                measurement.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Sequence[Tensor]]) -> None:
        """Continue from what ``state_dict`` has returned. The base class has no state."""
        if state:
            raise ValueError(f"the state holds {sorted(state)}; expected none for {type(self).__name__}")


def one_over_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return 1/‖g‖ over all gradients together, 0-d; 0 if the norm is 0: a zero gradient is a zero step."""
    norm = total_norm(gradients)
    return torch.where(norm > 0, 1 / norm, 0.0)
