"""Ball, box and SAM: closed forms, brute force, plain twins."""

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import fmin_l_bfgs_b
from torch import Tensor, nn

from salr.sharpness import AscentDescent, SAMSharpness, ball_sharpness, box_sharpness
from tests.helpers.devices import seeded_generator

pytestmark = pytest.mark.usefixtures("default_device")

Closure = Callable[[], Tensor]


def at(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def one_line(pattern: str) -> str:
    """A pattern for a message that is one line."""
    return rf"\A[^\n]*{pattern}[^\n]*\Z"


# Closed forms


@pytest.mark.parametrize(
    ("theta", "phi", "two_sided", "definition_1"),
    [
        (0.3, 0.032543, 0.129944, 0.129944),
        (1.0, 0.058806, 0.279081, 0.279081),
        (2.0, 0.172656, 0.540806, 0.540806),
        (0.6762526, 0.0, 0.021412, 0.018745),
    ],
)
def test_figure_3(theta: float, phi: float, two_sided: float, definition_1: float) -> None:
    point = at(theta)

    def closure() -> Tensor:
        return (0.5 * point * torch.sin(3 * point) + 1).sum()

    assert float(ball_sharpness(closure, [point], 0.1, two_sided=False)) == pytest.approx(phi, abs=6e-7)
    assert float(ball_sharpness(closure, [point], 0.1)) == pytest.approx(two_sided, abs=6e-7)
    assert float(AscentDescent(0.1 / 8, 8, 8)(closure, [point])) == pytest.approx(definition_1, abs=6e-7)


def test_linear_losses_have_the_closed_forms_of_each_set() -> None:
    a, b = at(3.0, -1.0), at(0.5)
    g = torch.tensor([4.0, 1.0, -8.0], dtype=torch.float64)  # ‖g‖ = 9

    def closure() -> Tensor:
        return 20 + torch.cat([a, b]) @ g  # 27 at θ

    assert float(ball_sharpness(closure, [a, b], 0.1)) == pytest.approx(2 * 0.1 * 9)
    assert float(ball_sharpness(closure, [a, b], 0.1, two_sided=False)) == pytest.approx(0.1 * 9 / 28)
    assert float(SAMSharpness(0.1)(closure, [a, b])) == pytest.approx(0.1 * 9)
    corner = 5e-4 * (4 * (3 + 1) + 1 * (1 + 1) + 8 * (0.5 + 1))
    assert float(box_sharpness(closure, [a, b])) == pytest.approx(100 * corner / 28)


def test_sam_on_a_quadratic() -> None:
    point = at(0.3, 0.4)
    # f = 3‖θ‖²: from ‖θ‖ = 0.5 to 0.7
    assert float(SAMSharpness(0.2)(lambda: 3 * point.square().sum(), [point])) == pytest.approx(
        3 * (0.49 - 0.25)
    )
    minimum = at(0.0, 0.0)
    assert SAMSharpness(0.2)(lambda: minimum.square().sum(), [minimum]) == 0


# The ball


@pytest.mark.parametrize("seed", range(4))
def test_ball_in_the_plane_against_brute_force(seed: int) -> None:
    generator = seeded_generator(seed)
    frequencies, phases = (torch.randn(2, 5, 2, dtype=torch.float64, generator=generator) * 2).unbind()

    def f(points: Tensor) -> Tensor:
        return 10 + torch.sin(points.unsqueeze(-2) * frequencies + phases).sum((-1, -2))

    point, epsilon = at(0.2, -0.1), 0.4
    radius, angle = torch.meshgrid(
        torch.linspace(0, epsilon, 300), torch.linspace(0, 2 * math.pi, 900), indexing="ij"
    )
    values = f(point.detach() + torch.stack([radius * angle.cos(), radius * angle.sin()], -1))
    found = float(ball_sharpness(lambda: f(point), [point], epsilon, restarts=4))
    assert found == pytest.approx(float(values.max() - values.min()), rel=1e-4)


def largest_rise(hessian: np.ndarray, gradient: np.ndarray, epsilon: float) -> float:
    """max gᵀx + ½ xᵀHx over ‖x‖ ≤ ε for a convex H: on the sphere, by bisection on the multiplier."""
    values, vectors = np.linalg.eigh(hessian)
    g = vectors.T @ gradient
    low, high = values[-1], values[-1] + np.linalg.norm(g) / epsilon + 1
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(g / (middle - values)) > epsilon else (low, middle)
    x = g / (high - values)
    return float(g @ x + (values * x * x).sum() / 2)


@pytest.mark.parametrize("slope", [0.1, 10])
def test_ball_on_a_convex_quadratic_of_many_dimensions(slope: float) -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    hessian = basis * rng.exponential(size=40) ** 2 @ basis.T
    gradient = slope * rng.normal(size=40) / math.sqrt(40)
    point = at(*rng.normal(size=40))
    start = point.detach().clone()
    h, g = torch.as_tensor(hessian), torch.as_tensor(gradient)
    found = ball_sharpness(
        lambda: g @ (point - start) + (point - start) @ h @ (point - start) / 2, [point], 0.5, two_sided=False
    )
    assert float(found) == pytest.approx(largest_rise(hessian, gradient, 0.5), rel=0.02)
    assert float(found) <= largest_rise(hessian, gradient, 0.5) * (1 + 1e-9)


def test_ball_leaves_a_stationary_point_only_by_restarts() -> None:
    saddle = at(0.0, 0.0)

    def closure() -> Tensor:
        return saddle[0] ** 2 - 2 * saddle[1] ** 2

    assert ball_sharpness(closure, [saddle], 0.5, restarts=0) == 0
    assert float(ball_sharpness(closure, [saddle], 0.5)) == pytest.approx(0.25 + 0.5)


def test_two_restarts_see_both_ends_of_an_interval() -> None:
    point = at(0.0)
    found = ball_sharpness(lambda: (point**2 + point**3).sum(), [point], 0.5, two_sided=False)
    assert float(found) == pytest.approx(0.25 + 0.125)
    found = ball_sharpness(lambda: (point**2 - point**3).sum(), [point], 0.5, two_sided=False)
    assert float(found) == pytest.approx(0.25 + 0.125)


# The box


def test_box_against_a_plain_twin() -> None:
    """The measure as its users write it: in the parameters themselves, with SciPy's older call."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    inputs, targets = torch.randn(30, 5, dtype=torch.float64), torch.randint(3, (30,))
    start = nn.utils.parameters_to_vector(model.parameters()).detach().cpu().numpy()

    def loss(row: np.ndarray) -> Tensor:
        row, parts = torch.as_tensor(row).requires_grad_(), {}
        for (name, parameter), part in zip(
            model.named_parameters(), row.split([p.numel() for p in model.parameters()]), strict=True
        ):
            parts[name] = part.view_as(parameter)
        result = nn.functional.cross_entropy(torch.func.functional_call(model, parts, inputs), targets)
        result.backward()
        return result.detach(), row.grad

    def negative(row: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss(row)
        return -float(value), -gradient.cpu().numpy()

    side = 0.05 * (np.abs(start) + 1)
    bounds = list(zip(start - side, start + side, strict=True))
    _, lowest, _ = fmin_l_bfgs_b(negative, start, bounds=bounds, maxiter=10, factr=0, pgtol=0)
    expected = 100 * (-lowest + negative(start)[0]) / (1 - negative(start)[0])
    found = box_sharpness(
        lambda: nn.functional.cross_entropy(model(inputs), targets), model.parameters(), epsilon=0.05
    )
    assert float(found) == pytest.approx(expected, rel=1e-3)
    assert float(found) > 1


def test_box_measures_slopes_below_the_tolerance_of_scipy() -> None:
    point = at(1.0, -2.0)
    rise = 5e-4 * 1e-6 * (2 * 2 + 4 * 3)
    found = box_sharpness(lambda: 1e-6 * (8 - 2 * point[0] + 4 * point[1]) + 1e-6 * 2, [point])
    assert float(found) == pytest.approx(100 * rise, rel=1e-3)


def test_box_says_that_scipy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(
        ImportError, match=one_line("box_sharpness needs SciPy for L-BFGS-B: pip install scipy")
    ):
        box_sharpness(lambda: torch.zeros(()), [at(1.0)])


@pytest.mark.parametrize(
    ("measure", "arguments", "line"),
    [
        (ball_sharpness, {"epsilon": 0.0}, "epsilon = 0.0; expected a finite number > 0"),
        (ball_sharpness, {"epsilon": math.inf}, "epsilon = inf; expected a finite number > 0"),
        (ball_sharpness, {"epsilon": 1.0, "steps": 0}, "steps = 0; expected a whole number >= 1"),
        (ball_sharpness, {"epsilon": 1.0, "restarts": -1}, "restarts = -1; expected a whole number >= 0"),
        (box_sharpness, {"epsilon": -1e-3}, "epsilon = -0.001; expected a finite number > 0"),
        (box_sharpness, {"iterations": 2.5}, "iterations = 2.5; expected a whole number >= 1"),
    ],
)
def test_arguments_out_of_range(measure: Callable, arguments: dict, line: str) -> None:
    point = at(1.0)
    with pytest.raises(ValueError, match=one_line(line)):
        measure(lambda: point.sum(), [point], **arguments)


def test_half_precision_is_measured_in_single() -> None:
    point = torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True)
    found = SAMSharpness(rho=0.5)(lambda: 100 + point.square().sum(), [point])
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    "measure",
    [box_sharpness, lambda closure, parameters: ball_sharpness(closure, parameters, 0.1, two_sided=False)],
)
def test_a_negative_loss_is_refused_where_it_would_divide(measure: Callable[..., Tensor]) -> None:
    x = at(1.0)
    with pytest.raises(ValueError, match=one_line("f = -9; expected a loss >= 0")):
        measure(lambda: (x**2).sum() - 10, [x])
