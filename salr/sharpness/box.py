"""Keskar et al.'s sharpness (2017, Metric 2.1): how far the loss rises within a box around θ."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from salr.checks import check_count, check_positive
from salr.closures.evaluation import Closure
from salr.closures.neighbourhood import Neighbourhood, check_not_negative


def box_sharpness(
    closure: Closure, parameters: Iterable[Tensor], epsilon: float = 5e-4, iterations: int = 10
) -> Tensor:
    """Return Keskar's φ, 100 · (max f − f(θ)) / (1 + f(θ)) in percent, over a box around θ.

    The box is |offset_i| ≤ ε (|θ_i| + 1), in the full space (their A is the identity). As in their
    experiments the maximum is what ``iterations`` of SciPy's L-BFGS-B reach from θ: a lower bound, and 0 if
    ∇f(θ) = 0. No tolerance ends them earlier: SciPy's default, 1e-5 for each element of the gradient, would
    find many trained networks perfectly flat. L-BFGS-B works in double precision on the CPU and takes some
    250 bytes a parameter.

    Args:
        closure: return the loss ≥ 0 of the same data whenever it is called. Nothing is left behind on
            parameters, gradients, buffers or generators.
        parameters: θ. A parameter that is listed twice counts once; a complex one is a pair of real ones.
        epsilon: ε. Their values are 1e-3 and 5e-4.
        iterations: of L-BFGS-B, each of one gradient or a few.

    Returns:
        0-d, in percent of 1 + f(θ).

    Raises:
        ValueError: an argument is out of range, f(θ) < 0, or a parameter is a DTensor.
        ImportError: SciPy is not installed.

    Example:
        >>> import torch
        >>> from salr.sharpness import box_sharpness
        >>> x = torch.tensor([1.0], requires_grad=True)
        >>> round(float(box_sharpness(lambda: x.sum(), [x], epsilon=0.01)), 4)  # 100 · 0.02 / 2
        1.0
    """
    check_positive("epsilon", epsilon)
    check_count("iterations", iterations, 1)
    try:
        from scipy.optimize import Bounds, minimize
    except ImportError as error:
        raise ImportError("box_sharpness needs SciPy for L-BFGS-B: pip install scipy") from error
    f = Neighbourhood(closure, parameters)
    check_not_negative(f.loss)
    highest = f.loss

    def negative(offset: Any) -> tuple[float, Any]:
        nonlocal highest
        loss, gradient = f.loss_and_gradient(torch.from_numpy(offset).to(f.gradient))
        highest = torch.maximum(highest, loss)
        return -float(loss), -gradient.double().cpu().numpy()

    side = (epsilon * (f.center.double().abs() + 1)).cpu().numpy()
    minimize(
        negative,
        x0=0 * side,
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(-side, side),
        options={"maxiter": iterations, "ftol": 0.0, "gtol": 0.0},
    )
    return 100 * (highest - f.loss) / (1 + f.loss)
