"""The sharpness that SAM minimises (Foret et al. 2021, equation 2 to first order)."""

from collections.abc import Iterable

import torch
from torch import Tensor

from salr.checks import check_positive
from salr.closures.evaluation import Closure
from salr.closures.neighbourhood import Neighbourhood


def sam_sharpness(closure: Closure, parameters: Iterable[Tensor], rho: float = 0.05) -> Tensor:
    """f(θ + ρ ∇f/‖∇f‖) − f(θ): the rise over one normalised ascent step, which stands for the maximum over the ball of radius ρ.

    One gradient and one loss. Nothing is left behind on parameters, gradients, buffers or generators.

    Args:
        closure: returns the loss of the same data whenever it is called.
        parameters: θ; ‖·‖ is the L2 norm over all of them together. A zero gradient is a zero step.
        rho: ρ, in units of the parameters.

    Returns:
        0-d, in units of the loss.

    Raises:
        ValueError: ρ is not a positive finite number.
    """
    check_positive("rho", rho)
    f = Neighbourhood(closure, parameters)
    norm = torch.linalg.vector_norm(f.gradient)
    return f.loss_at(f.gradient * torch.where(norm > 0, rho / norm, 0.0)) - f.loss
