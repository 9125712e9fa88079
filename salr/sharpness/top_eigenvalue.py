"""The Hessian's leading eigenvalue, by a power iteration that continues from one measurement to the next."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from salr.checks import check_positive
from salr.closures.evaluation import Evaluation
from salr.closures.vectors import default_generator, flatten, normal, unflatten
from salr.costs import TOP_EIGENVALUE, MeasurementCost
from salr.sharpness.measure import Measure


class TopEigenvalue(Measure):
    """The eigenvalue of ∇²f(θ) that is largest in magnitude; in units of the loss per squared unit of θ.

    A measurement is one step of the power iteration: it returns vᵀ∇²f(θ) v for the present unit vector v and
    continues with ∇²f(θ) v, normalised. So the first measurements are too small, and the vector follows θ
    while it moves. By itself, call the same object until the value settles, or use
    :func:`hessian_eigenvalues`.

    The product with the Hessian is (∇f(θ + r v) − ∇f(θ)) / r, one gradient beyond the training gradient. So
    closures that call ``backward`` themselves and layers without a second derivative work. A negative value,
    which SALR does not follow, means that a negative eigenvalue leads. The first v is random, from a
    generator of its own with a fixed seed. If the trainable parameters change in shape or number, the
    iteration starts anew.

    Example:
        >>> import torch
        >>> from salr.sharpness import TopEigenvalue
        >>> x = torch.ones(2, dtype=torch.float64, requires_grad=True)
        >>> measure = TopEigenvalue()
        >>> for _ in range(20):
        ...     value = measure(lambda: 3 * x[0] ** 2 + x[1] ** 2, [x])
        >>> round(float(value), 4)
        6.0

    Args:
        radius: r, in units of the parameters.

    Raises:
        ValueError: the radius is not a positive finite number; on measuring, a parameter is a DTensor.
    """

    capturable = True

    def __init__(self, radius: float = 0.01) -> None:
        check_positive("radius", radius)
        self.radius = radius
        self._direction: Tensor | None = None
        self._shapes: list[torch.Size] = []

    @property
    def cost(self) -> MeasurementCost:
        return TOP_EIGENVALUE

    @torch.no_grad()
    def measure(self, evaluation: Evaluation, shared_noise: bool) -> Tensor:
        parameters = evaluation.parameters
        direction = self._direction_for(parameters)
        with evaluation.without_trace(shared_noise):
            first = flatten(_gradients(parameters))
            torch._foreach_add_(parameters, unflatten(direction, parameters), alpha=self.radius)
            evaluation()
            product = (flatten(_gradients(parameters)) - first) / self.radius
        norm = torch.linalg.vector_norm(product)
        self._direction = torch.where(torch.isfinite(norm) & (norm > 0), product / norm, direction)
        self._shapes = [parameter.shape for parameter in parameters]
        return (direction * product).sum()  # autocast around the step would take @ in bfloat16

    def state_dict(self, parameters: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        return {"direction": unflatten(self._direction_for(parameters), parameters, exact=True)}

    def load_state_dict(self, state: Mapping[str, Sequence[Tensor]]) -> None:
        self._shapes = [tensor.shape for tensor in state["direction"]]
        self._direction = flatten(state["direction"]).clone()

    def _direction_for(self, parameters: Sequence[Tensor]) -> Tensor:
        """Return the present unit vector as one row; a random one if there is none for these parameters."""
        if self._direction is None or self._shapes != [parameter.shape for parameter in parameters]:
            drawn = normal(flatten(parameters), default_generator(None))
            return drawn / torch.linalg.vector_norm(drawn)
        return self._direction.to(parameters[0].device)


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
