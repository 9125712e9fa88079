"""What Definition 1 measures: Ŝ = (r1 + r2) ‖∇f‖ + ½ (r2² − r1²) uᵀ∇²f u + O(γ³).

It is tested on functions whose derivatives are known.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from salr.sharpness import AscentDescent, GradientNorm

CURVATURES = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)


def point(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def quadratic(x: Tensor) -> Tensor:
    return (CURVATURES * x**2).sum() / 2


def bumpy(x: Tensor) -> Tensor:
    """Third derivatives do not vanish, and the Hessian is not diagonal."""
    return torch.sin(x[0] + 2 * x[1]) + torch.exp(x[1] * x[2] / 3) + x[2].square() + x[0].pow(4) / 4


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[float, ...]]] = {
    "anisotropic quadratic": (quadratic, (1.0, 0.5, -0.2)),
    "neither quadratic nor diagonal": (bumpy, (0.4, -0.7, 0.9)),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def derivatives(f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, float]:
    """‖∇f‖ and uᵀ∇²f u, by automatic differentiation."""
    gradient, hessian = torch.func.grad(f)(x.detach()), torch.func.hessian(f)(x.detach())
    u = gradient / gradient.norm()
    return float(gradient.norm()), float(u @ hessian @ u)


def sharpness(f: Callable[[Tensor], Tensor], x: Tensor, gamma: float, n1: int, n2: int) -> float:
    return float(AscentDescent(gamma, n1, n2)(lambda: f(x), [x]))


def slope(gammas: np.ndarray, errors: list[float]) -> float:
    return float(np.polyfit(np.log(gammas), np.log(np.abs(errors)), 1)[0])


@every_function
@pytest.mark.parametrize(("n1", "n2"), [(0, 5), (5, 0), (2, 7), (6, 3)])
def test_the_coefficient_of_the_curvature(name: str, n1: int, n2: int) -> None:
    f, values = FUNCTIONS[name]
    x, gamma = point(*values), 1e-5
    norm, curvature = derivatives(f, x)
    rest = sharpness(f, x, gamma, n1, n2) - (n1 + n2) * gamma * norm
    coefficient = (n2**2 - n1**2) * gamma**2 / 2
    assert rest / coefficient == pytest.approx(curvature, rel=1e-3)


@every_function
@pytest.mark.parametrize(("n1", "n2"), [(1, 4), (3, 0)])
def test_with_unequal_steps_the_first_order_is_off_by_the_square_of_gamma(
    name: str, n1: int, n2: int
) -> None:
    f, values = FUNCTIONS[name]
    x, gammas = point(*values), np.geomspace(1e-5, 1e-4, 8)
    norm, _ = derivatives(f, x)
    errors = [sharpness(f, x, gamma, n1, n2) - (n1 + n2) * gamma * norm for gamma in gammas]
    assert slope(gammas, errors) == pytest.approx(2, abs=0.1)


@every_function
@pytest.mark.parametrize("n", [1, 3, 5])
def test_with_equal_steps_the_curvature_cancels_and_the_cube_of_gamma_is_left(name: str, n: int) -> None:
    f, values = FUNCTIONS[name]
    x, gammas = point(*values), np.geomspace(3e-4, 3e-3, 8)
    norm, curvature = derivatives(f, x)
    errors = [sharpness(f, x, gamma, n, n) - 2 * n * gamma * norm for gamma in gammas]
    if n == 1 and f is quadratic:
        # One step each: f is a quadratic along u, so that nothing is left at all.
        assert np.abs(errors).max() < 1e-12
        return
    assert slope(gammas, errors) == pytest.approx(3, abs=0.1)
    assert abs(curvature) > 0.1  # had it not cancelled, the slope would be 2


@pytest.mark.parametrize(("n1", "n2"), [(5, 5), (2, 7), (0, 4)])
def test_an_isotropic_quadratic_has_no_error(n1: int, n2: int) -> None:
    curvature, gamma = 7.0, 0.01
    x = point(0.6, 0.8)
    norm, r1, r2 = curvature, n1 * gamma, n2 * gamma
    expected = (r1 + r2) * norm + (r2**2 - r1**2) * curvature / 2
    found = sharpness(lambda x: curvature * x.square().sum() / 2, x, gamma, n1, n2)
    assert found == pytest.approx(expected, rel=1e-13)


def test_where_the_expansion_ends() -> None:
    """It needs n γ ‖∇²f u‖ ≪ ‖∇f‖: towards the minimum Ŝ falls more slowly than the gradient."""
    ratios = []
    for scale in (1.0, 0.3, 0.1, 0.03):
        x = point(*(scale * value for value in (0.9, 0.01, 0.001)))
        norm = float(GradientNorm()(lambda x=x: quadratic(x), [x]))
        ratios.append(sharpness(quadratic, x, 2e-3, 5, 5) / (2 * 5 * 2e-3 * norm))
    assert ratios == sorted(ratios)
    assert ratios[0] == pytest.approx(1, abs=0.05)
    assert ratios[-1] > 2
