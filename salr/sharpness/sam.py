"""The sharpness that SAM minimises (Foret et al. 2021, equation 2 to first order)."""

import torch
from torch import Tensor

from salr.checks import check_positive
from salr.closures.evaluation import Evaluation
from salr.closures.vectors import add_scaled, as_real, precise
from salr.costs import SAM_SHARPNESS, MeasurementCost
from salr.sharpness.measure import Measure, one_over_norm


class SAMSharpness(Measure):
    """f(θ + ρ ∇f/‖∇f‖) − f(θ), the rise over one normalised ascent step; in units of the loss.

    It stands for the maximum over the ball of radius ρ. It takes one loss beyond the training gradient. A
    zero gradient is a zero step.

    Example:
        >>> import torch
        >>> from salr.sharpness import SAMSharpness
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> round(float(SAMSharpness(rho=1.0)(lambda: x.square().sum(), [x])), 4)  # from ‖x‖ = 5 to 6
        11.0

    Args:
        rho: ρ, in units of the parameters.

    Raises:
        ValueError: ρ is not a positive finite number.
    """

    capturable = True

    def __init__(self, rho: float = 0.05) -> None:
        check_positive("rho", rho)
        self.rho = rho

    @property
    def cost(self) -> MeasurementCost:
        return SAM_SHARPNESS

    @torch.no_grad()
    def measure(self, evaluation: Evaluation, shared_noise: bool) -> Tensor:
        with evaluation.without_trace(shared_noise) as loss:
            parameters, gradients = map(as_real, evaluation.gradients())
            add_scaled(parameters, gradients, one_over_norm(gradients) * self.rho)
            return precise(evaluation.loss()) - precise(loss)
