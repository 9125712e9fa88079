"""The sharpness measure of the authors' released code, which differs from the paper's."""

import torch
from torch import Tensor

from salr.checks import check_released
from salr.closures.evaluation import Evaluation
from salr.closures.vectors import as_real, precise
from salr.costs import MeasurementCost, released_cost
from salr.sharpness.measure import Measure


class ReleasedMeasure(Measure):
    """f(θ after n2 ascent steps) − f(n1 descent steps after that), one chain from θ; in units of the loss.

    This is the measure in the code that the paper's authors released later. A step moves each element by its
    gradient times ``step_scale``, at most ``step_limit`` in magnitude, without normalisation. The chain
    shares its first gradient with the training step, and takes n1 + n2 − 1 further gradients and a loss. In
    that code the parameters stay where the chain ends, and the model stays in evaluation mode. Here both are
    afterwards as before.

    Example:
        >>> import torch
        >>> from salr.sharpness import ReleasedMeasure
        >>> x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        >>> measure = ReleasedMeasure(step_scale=1.0, step_limit=0.1, descent_steps=2, ascent_steps=1)
        >>> round(float(measure(lambda: x**2, [x])), 4)  # from 1 to 1.1, then to 0.9
        0.4

    Args:
        step_scale: what a gradient is multiplied by.
        step_limit: the longest step of an element, in units of the parameters.
        descent_steps: n1, at least 1.
        ascent_steps: n2.

    Raises:
        ValueError: a size is not a positive finite number, or a number of steps is too small.
    """

    capturable = True

    def __init__(
        self,
        step_scale: float = 1e-3,
        step_limit: float = 5e-4,
        descent_steps: int = 5,
        ascent_steps: int = 5,
    ) -> None:
        check_released(step_scale, step_limit, descent_steps, ascent_steps)
        self.step_scale, self.step_limit = step_scale, step_limit
        self.descent_steps, self.ascent_steps = descent_steps, ascent_steps

    @property
    def cost(self) -> MeasurementCost:
        return released_cost(self.descent_steps, self.ascent_steps)

    @torch.no_grad()
    def measure(self, evaluation: Evaluation, shared_noise: bool) -> Tensor:
        scales = [self.step_scale] * self.ascent_steps + [-self.step_scale] * self.descent_steps
        with evaluation.without_trace(shared_noise) as loss:
            for step, scale in enumerate(scales):
                if step > 0:
                    loss = evaluation()
                if step == self.ascent_steps:
                    ascended = loss
                for parameter, gradient in zip(*map(as_real, evaluation.gradients()), strict=True):
                    parameter.add_((gradient * scale).clamp_(-self.step_limit, self.step_limit))
            return precise(ascended) - precise(evaluation.loss())
