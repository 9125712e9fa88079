"""SALR and Definition 1 against closed forms and against a plain twin that follows the paper word by word."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from salr.closures import Evaluation
from salr.costs import MeasurementCost
from salr.optim import SALR
from salr.sharpness import AscentDescent, Measure
from tests.helpers.devices import seeded_generator

pytestmark = pytest.mark.usefixtures("default_device")

Loss = Callable[[], Tensor]


def twin_sharpness(loss: Loss, parameters: list[Tensor], gamma: float, n1: int, n2: int) -> float:
    """Definition 1 with nothing shared and nothing saved."""
    start = [parameter.detach().clone() for parameter in parameters]

    def end(steps: int, sign: float) -> float:
        with torch.no_grad():
            for parameter, value in zip(parameters, start, strict=True):
                parameter.copy_(value)
        for _ in range(steps):
            gradients = torch.autograd.grad(loss(), parameters)
            norm = sum(float((gradient**2).sum()) for gradient in gradients) ** 0.5
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter += sign * gamma * gradient / norm if norm else 0.0
        return float(loss().detach())

    value = end(n2, +1) - end(n1, -1)
    end(0, 0)
    return value


class TwinSALR:
    """Algorithms 3 and 4: the base's rate is set by hand before each step, the median is numpy's."""

    def __init__(self, base: torch.optim.Optimizer, gamma: float, n1: int, n2: int, c: int) -> None:
        self.base, self.gamma, self.n1, self.n2, self.c = base, gamma, n1, n2, c
        self.rates = [group["lr"] for group in base.param_groups]
        self.history: list[float] = []
        self.iteration = 0

    def step(self, loss: Loss) -> None:
        parameters = [parameter for group in self.base.param_groups for parameter in group["params"]]
        if self.iteration % self.c == 0:
            self.history.append(twin_sharpness(loss, parameters, self.gamma, self.n1, self.n2))
        for group, rate in zip(self.base.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.history[-1] / float(np.median(self.history))
        self.base.zero_grad()
        loss().backward()
        self.base.step()
        self.iteration += 1


def small_problem(seed: int = 0) -> tuple[nn.Module, Loss]:
    """A float64 network on fixed data."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    inputs, targets = torch.randn(16, 5).double(), torch.randint(3, (16,))
    return model, lambda: nn.functional.cross_entropy(model(inputs), targets)


class Scripted(Measure):
    """Measures the given values in turn."""

    cost = MeasurementCost(gradients=1, losses=0, shares_gradient=False)

    def __init__(self, *values: float) -> None:
        self.values = iter(values)

    def measure(self, evaluation: Evaluation, shared_noise: bool) -> Tensor:
        return torch.tensor(next(self.values))


BASES: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.3),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.02),
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(("n1", "n2", "c"), [(5, 5, 2), (1, 3, 1), (0, 4, 3), (3, 0, 2)])
def test_a_trajectory_is_the_twins(base: str, n1: int, n2: int, c: int) -> None:
    model, loss = small_problem()
    other, other_loss = small_problem()
    optimizer = SALR(BASES[base](list(model.parameters())), AscentDescent(0.02, n1, n2), c)
    twin = TwinSALR(BASES[base](list(other.parameters())), 0.02, n1, n2, c)
    for _ in range(25):
        optimizer.step(loss)
        twin.step(other_loss)
        torch.testing.assert_close(list(model.parameters()), list(other.parameters()), rtol=1e-9, atol=1e-12)
    assert float(optimizer.last_sharpness) == pytest.approx(twin.history[-1], rel=1e-9)
    assert float(optimizer.median_sharpness) == pytest.approx(float(np.median(twin.history)), rel=1e-9)


def scalar(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]


def test_a_linear_function_rises_by_its_slope() -> None:
    x, y = scalar(0.3, -1.0)
    for n1, n2 in ((5, 5), (2, 3), (0, 4), (1, 0)):
        value = AscentDescent(0.01, n1, n2)(lambda: 3 * x - 4 * y, [x, y])
        assert float(value) == pytest.approx((n1 + n2) * 0.01 * 5)


def test_an_isotropic_quadratic_away_from_its_minimum() -> None:
    theta = torch.tensor([0.6, 0.8], dtype=torch.float64, requires_grad=True)
    value = AscentDescent(0.01, 5, 5)(lambda: 3.5 * (theta**2).sum(), [theta])
    assert float(value) == pytest.approx(2 * 5 * 0.01 * 7.0)


def test_the_notes_quadratics() -> None:
    x, y = scalar(0.1, 0.1)
    assert float(AscentDescent()(lambda: 0.5 * (x**2 + 10 * y**2), [x, y])) == pytest.approx(
        0.0201001958, abs=5e-11
    )
    (z,) = scalar(0.003)
    assert float(AscentDescent()(lambda: 0.5 * z**2, [z])) == pytest.approx(8.4e-5)


def test_a_zero_gradient_is_a_zero_step() -> None:
    (x,) = scalar(0.0)
    assert float(AscentDescent()(lambda: x**2, [x])) == 0.0


def test_half_precision_holds_the_difference_in_single() -> None:
    x = torch.ones(4, dtype=torch.bfloat16, requires_grad=True)
    assert AscentDescent(0.1)(lambda: (x**2).sum(), [x]).dtype is torch.float32


@pytest.mark.parametrize("calls_backward", [False, True])
def test_nine_gradients_and_two_losses_a_measurement(calls_backward: bool) -> None:
    model, loss = small_problem()
    optimizer = SALR(torch.optim.SGD(model.parameters(), lr=0.1))
    calls = {True: 0, False: 0}
    backward = 0

    def count(_gradient: Tensor) -> None:
        nonlocal backward
        backward += 1

    next(model.parameters()).register_hook(count)

    def closure() -> Tensor:
        calls[torch.is_grad_enabled()] += 1
        value = loss()
        if calls_backward:
            optimizer.zero_grad()
            value.backward()
        return value

    optimizer.step(closure)
    assert (calls[True], calls[False], backward) == (9, 2, 9)
    optimizer.step(closure)
    assert (calls[True], calls[False], backward) == (10, 2, 10)


@pytest.mark.parametrize("bad", [0.0, -3.0, float("nan"), float("inf")])
def test_a_measurement_that_says_nothing_changes_nothing(bad: float) -> None:
    model, loss = small_problem()
    optimizer = SALR(torch.optim.SGD(model.parameters(), lr=0.1), Scripted(2.0, bad, 4.0), interval=1)
    factors = []
    for _ in range(3):
        optimizer.step(loss)
        factors.append(float(optimizer.lr_factor))
    assert factors == [1.0, 1.0, pytest.approx(4 / 3)]
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_bad_first_measurement_leaves_the_base_rate() -> None:
    model, loss = small_problem()
    optimizer = SALR(torch.optim.SGD(model.parameters(), lr=0.1), Scripted(-1.0))
    optimizer.step(loss)
    assert float(optimizer.lr_factor) == 1.0
    assert float(optimizer.last_sharpness) == -1.0
    assert np.isnan(float(optimizer.median_sharpness))
    resumed = SALR(torch.optim.SGD(model.parameters(), lr=0.1), Scripted())
    resumed.load_state_dict(optimizer.state_dict())
    assert np.isnan(float(resumed.median_sharpness))


def test_theorem_4_the_distance_grows_by_one_plus_epsilon() -> None:
    """Exactly so on μx²/2 under gradient descent; at least so under SALR, whose factor grows."""
    mu, epsilon = 4.0, 0.25
    for salr in (False, True):
        (x,) = scalar(0.05)
        base = torch.optim.SGD([x], lr=(2 + epsilon) / mu)
        optimizer = SALR(base, AscentDescent(gamma=0.01), interval=1) if salr else base
        distance = 0.05
        for _ in range(12):
            if not salr:
                optimizer.zero_grad()
                (mu * x**2 / 2).backward()
            optimizer.step(lambda x=x: mu * x**2 / 2)
            grown, distance = abs(float(x.detach())) / distance, abs(float(x.detach()))
            assert (
                grown > 1 + epsilon
                if salr and float(optimizer.lr_factor) > 1
                else grown == pytest.approx(1 + epsilon)
            )
        assert not salr or float(optimizer.lr_factor) > 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the device is the same for all
@given(st.floats(0.1, 3), st.floats(0, 20), st.integers(1, 6), st.integers(0, 2**16))
def test_theorem_5_the_proofs_bounds_of_a_measurement(mu: float, more: float, n: int, seed: int) -> None:
    """Equations 4 and 8 from below, 13 and 14 from above; curvatures from μ to L = μ + more."""
    gamma, curvatures = 0.05, torch.tensor([mu, mu + more / 2, mu + more], dtype=torch.float64)
    theta = torch.randn(3, generator=seeded_generator(seed), dtype=torch.float64).requires_grad_()
    start = theta.detach().clone()

    def loss() -> Tensor:
        return (curvatures * theta**2).sum() / 2

    for sign, curvature in ((-1, mu + more), (1, mu)):
        norms, point = [], start.clone()
        for _ in range(n):
            norms.append((curvatures * point).norm())
            point = point + sign * gamma * curvatures * point / norms[-1]
        rise = float(AscentDescent(gamma, n if sign < 0 else 0, n if sign > 0 else 0)(loss, [theta]))
        slack = sign * n * curvature * gamma**2 / 2
        assert rise >= float(gamma * sum(norms) + slack) - 1e-12
        steepest = float(max([*norms, (curvatures * point).norm()]))
        assert rise <= n * steepest * gamma + 1e-12


def test_theorem_5_the_median_is_bounded_by_the_lipschitz_constant() -> None:
    """Equation 15, (n1 + n2) L0 γ, for a function whose slope is at most 1."""

    def f(x: Tensor) -> Tensor:
        return torch.sqrt(1e-4 + (x / 2) ** 2) * 2

    gamma, n = 0.01, 5
    (x,) = scalar(3.0)
    optimizer = SALR(torch.optim.SGD([x], lr=0.015), AscentDescent(gamma, n, n), interval=1)
    for _ in range(300):
        optimizer.step(lambda: f(x))
        assert float(optimizer.median_sharpness) <= 2 * n * 1.0 * gamma * (1 + 1e-12)


@pytest.mark.parametrize("salr", [False, True])
def test_theorem_5_a_sharp_well_is_left_that_the_base_rate_alone_does_not_leave(salr: bool) -> None:
    """A plain of slope 0.1 with a well whose sides are ten times as steep: the median remembers the plain."""
    mu, edge, slope = 10.0, 0.1, 0.1

    def f(x: Tensor) -> Tensor:
        return torch.where(x.abs() < edge, mu * x**2 / 2, mu * edge**2 / 2 + slope * (x.abs() - edge))

    (x,) = scalar(1.0)
    base = torch.optim.SGD([x], lr=1.5 / mu)
    optimizer = SALR(base, AscentDescent(gamma=1e-3), interval=1)
    inside = []
    for _ in range(80):
        if salr:
            optimizer.step(lambda: f(x))
        else:
            base.step(Evaluation(lambda: f(x), [x]))
        inside.append(abs(float(x.detach())) < edge)
    entered = inside.index(True)
    assert all(inside[entered:]) == (not salr)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
def test_a_rate_in_a_tensor_has_the_precision_that_its_kernel_takes(dtype: torch.dtype, fused: bool) -> None:
    """torch's fused kernels read rates as float32 and nothing else; elsewhere the rate is as exact as θ."""
    if dtype.is_complex and fused:
        pytest.skip("torch has no fused kernel for complex parameters")
    x = torch.ones(2, dtype=dtype, requires_grad=True)
    rate = torch.tensor(0.3, dtype=torch.float32 if fused else torch.float64)
    optimizer = SALR(torch.optim.SGD([x], lr=rate, fused=fused))
    used: list[Tensor] = []
    optimizer.base.register_step_pre_hook(lambda base, *_: used.append(base.param_groups[0]["lr"]))
    for _ in range(3):
        optimizer.step(lambda: x.abs().square().sum())
    wide = dtype is not torch.float32 and not fused
    assert {each.dtype for each in used} == {torch.float64 if wide or not fused else torch.float32}
    assert float(used[-1]) == pytest.approx(0.3 * float(optimizer.lr_factor), rel=1e-15 if wide else 1e-6)
