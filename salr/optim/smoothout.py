"""SmoothOut (Wen et al. 2018): descent on the loss averaged over perturbed weights."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from salr.checks import check_positive
from salr.closures import Evaluation
from salr.optim.ranks import take_from_first_rank
from salr.optim.wrapper import Wrapper


class SmoothOut(Wrapper):
    """The base steps with the gradient at θ + u, u uniform in (−a, a) and drawn anew each iteration; θ itself is not moved by u.

    ``adaptive`` (AdaSmoothOut) rescales the noise of each filter, a slice along a parameter's first dimension, to a times the
    filter's L2 norm. Parameters of batch normalisation are not perturbed, as in the authors' code; which those are is seen by
    watching one evaluation before the first iteration. All ranks of ``torch.distributed`` add the same noise.

    Args:
        base: any optimizer of torch.optim.
        radius: a, in units of the parameters, or of a filter's norm where adaptive. The paper that SALR compares with gives none.

    Raises:
        ValueError: a is not a positive finite number.
        TypeError: the base is itself a wrapper, which would want gradients elsewhere.
    """

    def __init__(self, base: Optimizer, radius: float, adaptive: bool = False) -> None:
        super().__init__(base)
        check_positive("radius", radius)
        self.radius, self.adaptive = radius, adaptive
        self._spared: list[bool] = []

    @torch.no_grad()
    def _gradient(self, evaluation: Evaluation) -> Tensor:
        evaluation.discard()  # what SALR has taken at θ
        if len(self._spared) != len(self.parameters):
            self._spared = self._batch_norm_parameters(evaluation)
        pairs = zip(self.parameters, self._spared, strict=True)
        perturbed = [parameter for parameter, spared in pairs if not spared and parameter.requires_grad]
        start = [parameter.clone() for parameter in perturbed]
        noise = [self._noise(parameter) for parameter in perturbed]
        take_from_first_rank(noise)
        torch._foreach_add_(perturbed, noise)
        try:
            return evaluation()
        finally:
            torch._foreach_copy_(perturbed, start)

    def _noise(self, parameter: Tensor) -> Tensor:
        noise = torch.empty_like(parameter).uniform_(-self.radius, self.radius)
        if not self.adaptive:
            return noise
        filters, drawn = (
            tensor.flatten(1) if tensor.dim() > 1 else tensor.reshape(-1, 1) for tensor in (parameter, noise)
        )
        norms = torch.linalg.vector_norm(drawn, dim=1, keepdim=True)
        scale = self.radius * torch.linalg.vector_norm(filters, dim=1, keepdim=True) / norms
        return (drawn * torch.where(norms > 0, scale, 0.0)).view_as(noise)

    def _batch_norm_parameters(self, evaluation: Evaluation) -> list[bool]:
        normalising = [module for module in evaluation.modules() if isinstance(module, _BatchNorm)]
        own = {id(parameter) for module in normalising for parameter in module.parameters(recurse=False)}
        return [id(parameter) in own for parameter in self.parameters]

    def _own_state(self) -> dict[str, Any]:
        return {"spared": self._spared}

    def _load_own_state(self, state: dict[str, Any]) -> None:
        self._spared = list(state["spared"])
