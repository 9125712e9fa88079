"""The paper's sharpness measure (section 3, Definition 1; section 5, Algorithm 2)."""

from collections.abc import Iterable

import torch
from torch import Tensor

from salr.checks import check_ascent_descent
from salr.closures.evaluation import Closure, Evaluation


def ascent_descent_sharpness(
    closure: Closure | Evaluation,
    parameters: Iterable[Tensor],
    gamma: float = 2e-3,
    descent_steps: int = 5,
    ascent_steps: int = 5,
    shared_noise: bool = True,
) -> Tensor:
    """Definition 1: Ŝ(θ) = f(θ after n2 ascent steps) − f(θ after n1 descent steps), both from θ.

    A step moves all parameters together by γ along ±∇f/‖∇f‖ (L2 norm over all of them; a zero gradient is a zero step). The first
    gradient of both chains is ∇f(θ): it is taken once and is left in ``parameter.grad``, for it is also the training gradient.
    With n1, n2 ≥ 1 that makes n1 + n2 − 1 gradients and two evaluations of the loss alone. Parameters and module buffers
    come out bit for bit, and the random generators where that one gradient leaves them.

    Args:
        closure: returns the loss of one and the same batch whenever it is called (see :class:`Evaluation`).
        parameters: θ.
        gamma: step size γ, in units of θ.
        descent_steps: n1.
        ascent_steps: n2.
        shared_noise: all evaluations see the same random numbers (dropout masks). With fresh ones for each the difference of two
            losses is mostly noise; that is offered for comparison.

    Returns:
        Ŝ, a 0-d tensor on the loss's device, in units of the loss; no synchronisation with the host.

    Raises:
        ValueError: γ ≤ 0, a negative number of steps, or no steps at all.
    """
    check_ascent_descent(gamma, descent_steps, ascent_steps)
    evaluation = closure if isinstance(closure, Evaluation) else Evaluation(closure, parameters)
    with evaluation.without_trace(shared_noise) as loss, torch.no_grad():
        moved, first = evaluation.gradients()
        unit = _over_norm(first)

        def loss_after(steps: int, step_size: float) -> Tensor:
            if steps == 0:
                return loss
            _add_scaled(moved, first, unit * step_size)
            for _ in range(steps - 1):
                evaluation()
                parameters, gradients = evaluation.gradients()
                _add_scaled(parameters, gradients, _over_norm(gradients) * step_size)
            return evaluation.loss()

        descended = loss_after(descent_steps, -gamma)
        evaluation.rewind()
        ascended = loss_after(ascent_steps, gamma)
        # Half precision cannot hold the difference of two nearly equal losses.
        dtype = torch.promote_types(loss.dtype, torch.float32)
        return ascended.to(dtype) - descended.to(dtype)


def _over_norm(gradients: list[Tensor]) -> Tensor:
    """1/‖g‖ over all of them together, 0 where that is 0/0; stays on the device."""
    norm = torch.nn.utils.get_total_norm(gradients)
    return torch.where(norm > 0, 1 / norm, 0.0)


def _add_scaled(parameters: list[Tensor], gradients: list[Tensor], scale: Tensor) -> None:
    """θ ← θ + scale · g in one pass over memory, which is what a step costs."""
    torch._foreach_addcmul_(parameters, gradients, [scale] * len(parameters))
