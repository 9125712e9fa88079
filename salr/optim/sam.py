"""Sharpness-aware minimisation (Foret et al. 2021), and its adaptive variant (Kwon et al. 2021)."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from salr.checks import check_positive
from salr.closures import Evaluation
from salr.optim.wrapper import Wrapper


class SAM(Wrapper):
    """The base steps with the gradient at θ + ρ g/‖g‖, where g is the gradient at θ and ‖·‖ the L2 norm over all parameters.

    ``adaptive`` is ASAM: the perturbation is ρ θ² g / ‖|θ| g‖, element by element, so that rescaling a layer changes nothing.

    Both gradients of an iteration are of one batch and see the same dropout masks. BatchNorm's running statistics are the first
    pass's alone: the second one's belong to other weights. Where ranks exchange gradients (DDP), all perturb alike.

    Args:
        base: any optimizer of torch.optim.
        rho: ρ, in units of the parameters.

    Raises:
        ValueError: ρ is not a positive finite number.
        TypeError: the base is itself a wrapper, which would want gradients elsewhere.
    """

    def __init__(self, base: Optimizer, rho: float = 0.05, adaptive: bool = False) -> None:
        super().__init__(base)
        check_positive("rho", rho)
        self.rho, self.adaptive = rho, adaptive

    @torch.no_grad()
    def _gradient(self, evaluation: Evaluation) -> Tensor:
        with evaluation.without_trace() as loss:
            parameters, gradients = evaluation.gradients()
            if self.adaptive:
                sizes = torch._foreach_abs(parameters)
                gradients = list(torch._foreach_mul(gradients, sizes))
            norm = torch.nn.utils.get_total_norm(gradients)
            if self.adaptive:
                gradients = list(torch._foreach_mul(gradients, sizes))
            scale = torch.where(norm > 0, self.rho / norm, 0.0)
            torch._foreach_add_(parameters, torch._foreach_mul(gradients, scale))
            evaluation()
            perturbed = [parameter.grad for parameter in evaluation.parameters]
        for parameter, gradient in zip(evaluation.parameters, perturbed, strict=True):
            parameter.grad = gradient
        return loss
