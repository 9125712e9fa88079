"""Entropy-SGD: against a plain twin, its noise, its scope, and which batches it sees."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from salr.optim import SALR, LocalEntropy
from salr.optim.noise import two_point
from salr.sharpness import AscentDescent
from tests.helpers.devices import random_state
from tests.helpers.optim import Flat, assert_same

pytestmark = pytest.mark.usefixtures("default_device")


def sharpness_at(problem: Flat, theta: Tensor, gamma: float, steps: int) -> float:
    """Definition 1, nothing shared."""
    ends = []
    for sign in (1, -1):
        point = theta
        for _ in range(steps):
            gradient = problem.gradient_at(point)
            point = point + sign * gamma * gradient / gradient.norm()
        ends.append(problem.loss_at(point))
    return ends[0] - ends[1]


@pytest.mark.parametrize("law", ["normal", "two_point"])
@pytest.mark.parametrize("measured", [False, True], ids=["alone", "under SALR"])
@pytest.mark.parametrize(("base", "rate"), [(SGD, 1.0), (Adam, 0.05)])
def test_a_trajectory_is_the_twins(base: type[SGD | Adam], rate: float, measured: bool, law: str) -> None:
    """Langevin steps on new batches, Nesterov on the loss, α for the old mean; the base steps along x − μ.

    Under SALR the first of the batches is measured, and the outer rate is scaled.
    """
    fast, slow = Flat(), Flat()
    steps, inner_lr, momentum, scope, growth, noise, averaging = 4, 0.1, 0.9, 0.5, 0.2, 0.01, 0.75
    entropy = LocalEntropy(
        base(fast.model.parameters(), lr=rate),
        steps,
        inner_lr,
        momentum,
        scope,
        growth,
        noise,
        averaging,
        noise_law=law,
    )
    draw = torch.randn_like if law == "normal" else two_point
    optimizer = (
        SALR(entropy, AscentDescent(gamma=0.02, descent_steps=3, ascent_steps=3)) if measured else entropy
    )
    held = nn.Parameter(slow.theta)
    twin_base = base([held], lr=rate)
    history: list[float] = []
    for k in range(20):
        torch.manual_seed(k)
        optimizer.step(fast.loss, fast.advance)
        fast.advance()
        torch.manual_seed(k)
        x = held.detach().clone()
        if measured and k % 2 == 0:
            history.append(sharpness_at(slow, x, 0.02, 3))
            twin_base.param_groups[0]["lr"] = rate * history[-1] / float(np.median(history))
        inner, mean, velocity = x.clone(), x.clone(), torch.zeros_like(x)
        gamma = min(scope * (1 + growth) ** k, 1 / inner_lr)
        for _ in range(steps):
            gradient = slow.gradient_at(inner)
            velocity = momentum * velocity + gradient
            inner = inner - inner_lr * (gradient + momentum * velocity - gamma * (x - inner))
            drawn = torch.cat(
                [draw(parameter).to(parameter).flatten() for parameter in slow.model.parameters()]
            )
            inner = inner + noise * math.sqrt(2 * inner_lr) * drawn  # of either sign alike
            mean = averaging * mean + (1 - averaging) * inner
            slow.advance()
        held.grad = x - mean
        twin_base.step()
        assert fast.place == slow.place
        assert_same(fast, held.detach())


def one() -> nn.Parameter:
    return nn.Parameter(torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize(("cap", "expected"), [(None, 5.0), (2.0, 2.0), (math.inf, 48.0)])
def test_the_scope_stops_at_its_cap(cap: float | None, expected: float) -> None:
    optimizer = LocalEntropy(SGD([one()], lr=0.0), inner_lr=0.2, scope=1.5, scope_growth=1.0, scope_cap=cap)
    for _ in range(5):
        optimizer.step(lambda: optimizer.parameters[0] ** 2)
    assert optimizer.current_scope == pytest.approx(expected)
    optimizer._iterations = 10**6  # where the power alone would overflow
    assert optimizer.current_scope > 0


@pytest.mark.parametrize("cap", [0.0, -1.0, math.nan])
def test_a_cap_that_is_none(cap: float) -> None:
    with pytest.raises(ValueError, match=rf"\Ascope_cap = {cap}; expected a number > 0, math.inf for none\Z"):
        LocalEntropy(SGD([one()], lr=1.0), scope_cap=cap)


def test_a_parameter_that_another_batch_does_not_use_is_only_pulled_back() -> None:
    """Its gradient counts as zero there: momentum and pull go on."""
    used, sometimes = one(), one()
    batches = iter([True, False])
    optimizer = LocalEntropy(
        SGD([used, sometimes], lr=1.0), steps=2, inner_momentum=0.5, scope=2.0, noise=0.0
    )

    def closure() -> Tensor:
        return used**2 + (3 * sometimes if next(batches) else 0.0)

    optimizer.step(closure)
    first = 1 - 0.1 * (3 + 0.5 * 3)
    velocity = 0.5 * 3 + 0
    second = first - 0.1 * (0 + 0.5 * velocity - 2.0 * (1 - first))
    mean = 0.75 * (0.75 * 1 + 0.25 * first) + 0.25 * second
    assert float(sometimes.detach()) == pytest.approx(mean)


def test_without_noise_nothing_is_drawn() -> None:
    weight = one()
    before = random_state()
    LocalEntropy(SGD([weight], lr=1.0), noise=0.0).step(lambda: weight**2)
    assert torch.equal(random_state(), before)


@pytest.mark.parametrize("measured", [False, True])
def test_each_inner_step_sees_the_next_batch_and_a_measurement_the_first(measured: bool) -> None:
    weight, place = one(), 0
    seen: list[int] = []

    def closure() -> Tensor:
        seen.append(place)
        return (weight - place) ** 2

    def advance() -> None:
        nonlocal place
        place += 1

    optimizer = LocalEntropy(SGD([weight], lr=1.0), steps=3)
    outer = SALR(optimizer, AscentDescent(descent_steps=2, ascent_steps=2)) if measured else optimizer
    outer.step(closure, advance)
    # Two chains of two steps share the first gradient, and so does the first Langevin step.
    assert seen == ([0, 0, 0, 0, 0, 1, 2] if measured else [0, 1, 2])


def test_the_scope_grows_and_is_capped_where_it_would_diverge() -> None:
    problem = Flat()
    optimizer = LocalEntropy(SGD(problem.model.parameters(), lr=1.0))
    assert optimizer.current_scope == pytest.approx(0.03)
    optimizer.step(problem.loss)
    assert optimizer.current_scope == pytest.approx(0.03 * 1.001)
    for iterations, scope in ((5811, 0.03 * 1.001**5811), (5813, 10.0), (10**7, 10.0)):
        optimizer._iterations = iterations
        assert optimizer.current_scope == pytest.approx(scope)


@pytest.mark.parametrize("law", ["normal", "two_point"])
def test_langevin_noise_has_the_stated_scale(law: str) -> None:
    """One step with no gradient moves x' by ε √(2 η') N(0, 1); μ takes (1 − α) of it."""
    weight = nn.Parameter(torch.zeros(200_000))
    optimizer = LocalEntropy(
        SGD([weight], lr=1.0), steps=1, noise=1e-2, scope=0.0, averaging=0.75, noise_law=law
    )
    optimizer.step(lambda: (weight * 0).sum())
    assert float(weight.detach().std()) == pytest.approx(0.25 * 1e-2 * math.sqrt(0.2), rel=0.02)


def test_a_closure_that_takes_its_next_batch_by_itself_is_enough() -> None:
    fast, slow = Flat(), Flat()

    def taking() -> Tensor:
        loss = fast.loss()
        fast.advance()
        return loss

    ours = LocalEntropy(SGD(fast.model.parameters(), lr=1.0), noise=0.0)
    theirs = LocalEntropy(SGD(slow.model.parameters(), lr=1.0), noise=0.0)
    for _ in range(3):
        ours.step(taking)
        theirs.step(slow.loss, slow.advance)
        slow.advance()
        assert fast.place == slow.place
        assert torch.equal(fast.theta, slow.theta)


@pytest.mark.parametrize("law", ["normal", "two_point"])
def test_mean_and_variance_on_a_quadratic_are_the_stationary_ones(law: str) -> None:
    """On f(x) = a x² / 2, x' and the momentum v follow a linear map with noise.

    So their mean follows the map, and their stationary covariance C solves C = M C Mᵀ + s² e eᵀ.
    """
    torch.manual_seed(0)
    count, steps, curvature, x = 40_000, 300, 2.0, 0.5
    inner_lr, momentum, scope, noise = 0.05, 0.6, 3.0, 0.3
    weight, seen = nn.Parameter(torch.full((count,), x, dtype=torch.float64)), []

    def closure() -> Tensor:
        seen.append(weight.detach().clone())
        return curvature * weight.square().sum() / 2

    optimizer = LocalEntropy(
        SGD([weight], lr=1.0), steps, inner_lr, momentum, scope, 0.0, noise, noise_law=law
    )
    optimizer.step(closure)
    # v becomes m v + a x', and x' moves by −η' (a x' + m v) + η' γ (x − x').
    step = np.array(
        [
            [1 - inner_lr * (curvature * (1 + momentum) + scope), -inner_lr * momentum**2],
            [curvature, momentum],
        ]
    )
    drive = np.array([inner_lr * scope * x, 0.0])
    mean = np.array([x, 0.0])
    for k in range(4):
        expected = pytest.approx(mean[0], abs=4 * float(seen[k].std()) / math.sqrt(count) + 1e-12)
        assert float(seen[k].mean()) == expected
        mean = step @ mean + drive
    source = np.array([2 * inner_lr * noise**2, 0.0, 0.0, 0.0])
    covariance = np.linalg.solve(np.eye(4) - np.kron(step, step), source)
    stationary = np.linalg.solve(np.eye(2) - step, drive)
    last = seen[steps - 1]
    assert float(last.var()) == pytest.approx(covariance[0], rel=4 * math.sqrt(2 / count))
    assert float(last.mean()) == pytest.approx(stationary[0], abs=4 * math.sqrt(covariance[0] / count))
    assert stationary[0] == pytest.approx(scope * x / (scope + curvature / (1 - momentum)))


def test_a_law_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"\Anoise_law = 'uniform'; expected 'normal' or 'two_point'\Z"):
        LocalEntropy(SGD([one()], lr=1.0), noise_law="uniform")


def strided() -> nn.Parameter:
    return nn.Parameter(torch.arange(24.0).reshape(3, 8)[:, ::2])


def transposed() -> nn.Parameter:
    return nn.Parameter(torch.arange(12.0).reshape(4, 3).t())


@pytest.mark.parametrize("make", [strided, transposed])
@pytest.mark.parametrize("given", [True, False], ids=["gradient in rows", "gradient as torch lays it"])
def test_parameters_and_gradients_may_lie_in_memory_as_they_like(
    make: Callable[[], nn.Parameter], given: bool
) -> None:
    """The same values in rows give the same result, and what lies between a parameter's elements stays."""
    weight = make()
    plain = nn.Parameter(weight.detach().contiguous().clone())
    evaluations = 0

    def closure() -> Tensor:
        nonlocal evaluations
        evaluations += 1
        loss = weight.pow(3).sum() / 300
        if given and evaluations != 2:  # so that the momentum is laid out in another way than a gradient
            weight.grad = (weight.detach().square() / 100).contiguous()
        return loss

    between = None if weight._base is None else weight._base.clone()
    for parameter, loss in ((weight, closure), (plain, lambda: plain.pow(3).sum() / 300)):
        torch.manual_seed(0)
        LocalEntropy(SGD([parameter], lr=1.0), noise=0.0).step(loss)
    torch.testing.assert_close(weight, plain)
    assert between is None or torch.equal(between, weight._base)


def test_a_parameter_that_only_a_later_batch_uses_moves_as_one_with_zero_gradients_before() -> None:
    """Its gradient there is not the step of the base, whose rate is 1."""
    ends = []
    for touched in (False, True):
        used, later, never = one(), one(), one()
        batches = iter(range(10))

        def closure(
            used: Tensor = used, later: Tensor = later, batches: object = batches, touched: bool = touched
        ) -> Tensor:
            loss = used.square()
            if next(batches) % 5:  # type: ignore[call-overload]
                return loss + later.square()
            return loss + 0 * later if touched else loss

        optimizer = LocalEntropy(SGD([used, later, never], lr=1.0), steps=5, noise=0.0)
        for _ in range(2):
            optimizer.step(closure)
        assert never.grad is None
        assert float(never.detach()) == 1
        ends.append([float(each.detach()) for each in (used, later)])
    assert ends[0] == pytest.approx(ends[1], rel=1e-12)
    assert 0 < ends[0][1] < 1


@pytest.mark.parametrize("skipped", [1, 3])
def test_an_inner_batch_that_is_skipped_leaves_out_its_step_only(skipped: int) -> None:
    weight, batches = one(), iter(range(5))

    def closure() -> Tensor | None:
        return None if next(batches) == skipped else weight.square()

    optimizer = LocalEntropy(SGD([weight], lr=1.0), steps=5, inner_lr=0.2, noise=0.0)
    optimizer.step(closure)  # type: ignore[arg-type]
    shorter = one()
    plain = LocalEntropy(SGD([shorter], lr=1.0), steps=4, inner_lr=0.2, noise=0.0)
    plain.step(lambda: shorter.square())
    assert float(weight.detach()) == pytest.approx(float(shorter.detach()), rel=1e-12)
    assert optimizer.current_scope == pytest.approx(0.03 * 1.001)


def test_an_inner_batch_without_a_graph_is_left_out_with_a_warning() -> None:
    weight, batches = one(), iter(range(5))

    def closure() -> Tensor:
        return weight.square().detach() if next(batches) == 2 else weight.square()

    optimizer = LocalEntropy(SGD([weight], lr=1.0), noise=0.0)
    with pytest.warns(UserWarning, match="an inner step has been left out, for the closure returned a loss"):
        optimizer.step(closure)


def test_a_skipped_iteration_does_not_grow_the_scope() -> None:
    optimizer = LocalEntropy(SGD([one()], lr=1.0))
    optimizer.step(lambda: None)  # type: ignore[arg-type, return-value]
    assert optimizer.current_scope == pytest.approx(0.03)
