"""SmoothOut (Wen et al. 2018): descent on the loss averaged over perturbed weights."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from salr.checks import check_positive
from salr.closures import Evaluation
from salr.closures.own_gradients import NoGradient
from salr.closures.vectors import like_shard, local
from salr.optim.noise import SPREAD, uniform
from salr.optim.ranks import drawn_alike
from salr.optim.wrapper import Wrapper


class SmoothOut(Wrapper):
    """Let the base step with the gradient at θ + u, where u is uniform in (−a, a).

    u is drawn anew each iteration, and does not move θ itself. ``adaptive`` (AdaSmoothOut) rescales the noise
    of each filter, a slice along a parameter's first dimension, to a times the filter's L2 norm. Parameters
    of batch normalisation are not perturbed, as in the authors' code; one evaluation before the first
    iteration is watched to find them. All ranks of ``torch.distributed`` add the same noise. Of a complex
    parameter, real and imaginary part are perturbed each by itself.

    Args:
        base: any optimizer of torch.optim.
        radius: a, in units of the parameters, or of a filter's norm if adaptive. The paper that SALR compares
            with gives none.
        adaptive: whether to rescale the noise of each filter.
        modules: see :class:`Wrapper`.

    Raises:
        ValueError: a is not a positive finite number.
        TypeError: the base is itself a wrapper, which would want gradients elsewhere.

    Example:
        >>> import torch
        >>> from salr.optim import SmoothOut
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> optimizer = SmoothOut(torch.optim.SGD([x], lr=0.1), radius=0.01)
        >>> loss = optimizer.step(lambda: x.square().sum())
        >>> bool((x - torch.tensor([2.4, 3.2])).abs().max() <= 0.1 * 2 * 0.01)
        True
    """

    starts_elsewhere = True
    capturable = True

    def __init__(
        self,
        base: Optimizer,
        radius: float,
        adaptive: bool = False,
        modules: nn.Module | Iterable[nn.Module] = (),
    ) -> None:
        super().__init__(base, modules)
        check_positive("radius", radius)
        self.radius, self.adaptive = radius, adaptive
        self._spared: list[bool] = []

    @torch.no_grad()
    def _gradient(self, evaluation: Evaluation) -> Tensor:
        evaluation.begin()  # before the noise
        evaluation.discard()  # what SALR has taken at θ
        parameters = self.parameters
        if len(self._spared) != len(parameters):
            try:
                self._spared = self._batch_norm_parameters(evaluation)
            except NoGradient:  # a batch that is skipped says nothing about the modules
                return evaluation()
        pairs = zip(parameters, self._spared, strict=True)
        perturbed = [parameter for parameter, spared in pairs if not spared and parameter.requires_grad]
        if not perturbed:
            return evaluation.training_gradient()
        places = [local(parameter) for parameter in perturbed]
        start = [place.clone() for place in places]
        noise, scale = self._noise(perturbed)
        torch._foreach_add_(places, noise, alpha=scale)
        before = [place._version for place in places]
        written = []
        try:
            loss = evaluation.training_gradient()
            # What a forward pass does to a parameter (an embedding's max_norm, a clamp) it also does to θ.
            written = [
                (place, place - scale * drawn)
                for place, drawn, version in zip(places, noise, before, strict=True)
                if place._version != version
            ]
            return loss
        finally:
            torch._foreach_copy_(places, start)
            for place, value in written:
                place.copy_(value)

    def _noise(self, parameters: list[Tensor]) -> tuple[list[Tensor], float]:
        """Return a tensor for each parameter, and the number by which they are multiplied."""
        noise = drawn_alike(parameters, uniform)
        if not self.adaptive:
            return noise, self.radius / SPREAD
        rescaled = (
            self._rescaled(like_shard(parameter, drawn.to(parameter.dtype) / SPREAD), parameter)
            for drawn, parameter in zip(noise, parameters, strict=True)
        )
        return [local(drawn) for drawn in rescaled], 1.0

    def _rescaled(self, noise: Tensor, parameter: Tensor) -> Tensor:
        """Return the noise of each filter with a times the filter's norm."""
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
        spared = state["spared"]
        if spared and (
            len(spared) != len(self.parameters) or not all(isinstance(each, bool) for each in spared)
        ):
            raise ValueError(
                f"spared has {len(spared)} entries; expected one a parameter, {len(self.parameters)}"
            )
        self._spared = list(spared)
