"""The curvature of the loss along its gradient."""

import torch
from torch import Tensor

from salr.checks import check_positive
from salr.closures.evaluation import Evaluation
from salr.closures.vectors import add_scaled, as_real, precise
from salr.costs import DIRECTIONAL_CURVATURE, MeasurementCost
from salr.sharpness.measure import Measure, one_over_norm


class DirectionalCurvature(Measure):
    """(f(θ + r u) − 2 f(θ) + f(θ − r u)) / r² along u = ∇f/‖∇f‖; in units of the loss per squared unit of θ.

    As r → 0 this is uᵀ∇²f(θ) u, the second-order part of f along its gradient, which Definition 1 with n1 =
    n2 cancels. It takes two losses beyond the training gradient. It is negative where f is concave along its
    gradient, and 0 at a stationary point, where u is taken as 0; SALR keeps its former factor in both cases.

    Rounding limits r from below: the error is about 4 f ε / r², with ε = 6e-8 in float32.

    Example:
        >>> import torch
        >>> from salr.sharpness import DirectionalCurvature
        >>> x = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
        >>> round(float(DirectionalCurvature()(lambda: 3 * x[0] ** 2 + 50 * x[1] ** 2, [x])), 6)
        6.0

    Args:
        radius: r, in units of the parameters.

    Raises:
        ValueError: the radius is not a positive finite number.
    """

    capturable = True

    def __init__(self, radius: float = 0.05) -> None:
        check_positive("radius", radius)
        self.radius = radius

    @property
    def cost(self) -> MeasurementCost:
        return DIRECTIONAL_CURVATURE

    @torch.no_grad()
    def measure(self, evaluation: Evaluation, shared_noise: bool) -> Tensor:
        with evaluation.without_trace(shared_noise) as loss:
            parameters, gradients = map(as_real, evaluation.gradients())
            step = one_over_norm(gradients) * self.radius
            add_scaled(parameters, gradients, step)
            above = precise(evaluation.loss())
            evaluation.rewind()
            add_scaled(parameters, gradients, -step)
            below = precise(evaluation.loss())
            return (above - 2 * precise(loss) + below) / self.radius**2
