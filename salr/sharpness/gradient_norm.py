"""The size of the gradient, which is what Definition 1 measures to first order."""

from collections.abc import Sequence

from torch import Tensor

from salr.closures.evaluation import Evaluation
from salr.closures.vectors import total_norm
from salr.costs import GRADIENT_NORM, MeasurementCost
from salr.sharpness.measure import Measure


class GradientNorm(Measure):
    """‖∇f(θ)‖, the L2 norm over all parameters together; in units of the loss per unit of the parameters.

    It needs no evaluation beyond the training gradient. SALR with this measure is *first-order SALR*: with n1
    = n2, Definition 1 is 2 n γ ‖∇f‖ + O(γ³), and SALR divides by the median of its measurements, so that the
    factor 2 n γ cancels. An iteration takes one gradient instead of five.

    If you clip gradients, the norm must be the one before clipping. Hand the optimizer a
    :class:`salr.closures.Clipped` closure; in a loop that calls ``backward`` itself, call
    ``optimizer.measure()`` before clipping.

    Example:
        >>> import torch
        >>> from salr.sharpness import GradientNorm
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> float(GradientNorm()(lambda: x.square().sum(), [x]))
        10.0
    """

    capturable = True
    symmetric = True

    @property
    def cost(self) -> MeasurementCost:
        return GRADIENT_NORM

    def measure(self, evaluation: Evaluation, shared_noise: bool) -> Tensor:
        evaluation.gradient()
        return self.from_gradients(evaluation.gradients()[1])

    def from_gradients(self, gradients: Sequence[Tensor]) -> Tensor:
        return total_norm(gradients)
