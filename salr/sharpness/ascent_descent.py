"""The paper's sharpness measure (section 3, Definition 1; section 5, Algorithm 2)."""

import torch
from torch import Tensor

from salr.checks import check_ascent_descent
from salr.closures.evaluation import Evaluation
from salr.closures.vectors import add_scaled, as_real, precise
from salr.costs import MeasurementCost, ascent_descent_cost
from salr.sharpness.measure import Measure, one_over_norm


class AscentDescent(Measure):
    """Definition 1: Ŝ(θ) = f(θ after n2 ascent steps) − f(θ after n1 descent steps), both from θ; in units of
    the loss.

    A step moves all parameters together by γ along ±∇f/‖∇f‖ (L2 norm over all of them; a zero gradient is a
    zero step). Both chains share their first gradient with the training step. With n1, n2 ≥ 1 that makes n1 +
    n2 − 2 further gradients and two losses.

    With r1 = n1 γ, r2 = n2 γ and u = ∇f/‖∇f‖, Ŝ = (r1 + r2) ‖∇f‖ + ½ (r2² − r1²) uᵀ∇²f u + O(γ³). So with n1
    = n2 the curvature cancels: away from stationary points Ŝ is, to first order, 2 n γ times
    :class:`GradientNorm`. The expansion needs n γ ‖∇²f u‖ ≪ ‖∇f‖.

    Example:
        >>> import torch
        >>> from salr.sharpness import AscentDescent
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> measure = AscentDescent(gamma=0.01, descent_steps=5, ascent_steps=5)
        >>> round(float(measure(lambda: x.square().sum(), [x])), 4)  # 2 · 5 · 0.01 · ‖∇f‖
        1.0

    Args:
        gamma: γ, the length of a step, in units of the parameters.
        descent_steps: n1.
        ascent_steps: n2.

    Raises:
        ValueError: γ ≤ 0, a negative number of steps, or no steps at all.
    """

    capturable = True

    def __init__(self, gamma: float = 2e-3, descent_steps: int = 5, ascent_steps: int = 5) -> None:
        check_ascent_descent(gamma, descent_steps, ascent_steps)
        self.gamma, self.descent_steps, self.ascent_steps = gamma, descent_steps, ascent_steps

    @property
    def symmetric(self) -> bool:  # type: ignore[override]
        """Whether there are as many steps up as down."""
        return self.descent_steps == self.ascent_steps

    @property
    def cost(self) -> MeasurementCost:
        return ascent_descent_cost(self.descent_steps, self.ascent_steps)

    @torch.no_grad()
    def measure(self, evaluation: Evaluation, shared_noise: bool) -> Tensor:
        with evaluation.without_trace(shared_noise) as loss:
            moved, first = map(as_real, evaluation.gradients())
            unit = one_over_norm(first)

            def loss_after(steps: int, step_size: float) -> Tensor:
                if steps == 0:
                    return loss
                add_scaled(moved, first, unit * step_size)
                for _ in range(steps - 1):
                    evaluation()
                    parameters, gradients = map(as_real, evaluation.gradients())
                    add_scaled(parameters, gradients, one_over_norm(gradients) * step_size)
                return evaluation.loss()

            descended = loss_after(self.descent_steps, -self.gamma)
            evaluation.rewind()
            ascended = loss_after(self.ascent_steps, self.gamma)
            return precise(ascended) - precise(descended)
