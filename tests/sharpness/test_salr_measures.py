"""The measures that SALR can follow, by themselves: closed forms, plain twins, costs, state."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from salr.closures import Clipped, Evaluation
from salr.costs import MeasurementCost
from salr.sharpness import (
    AscentDescent,
    DirectionalCurvature,
    GradientNorm,
    Measure,
    ReleasedMeasure,
    SAMSharpness,
    TopEigenvalue,
    ball_sharpness,
    box_sharpness,
    hessian_eigenvalues,
)
from tests.helpers.optim import Flat, Problem

pytestmark = pytest.mark.usefixtures("default_device")

MEASURES: dict[str, Callable[[], Measure]] = {
    "Definition 1": lambda: AscentDescent(0.02),
    "Definition 1, n1 = 2, n2 = 3": lambda: AscentDescent(0.02, 2, 3),
    "Definition 1, ascent only": lambda: AscentDescent(0.02, 0, 4),
    "gradient norm": GradientNorm,
    "curvature": DirectionalCurvature,
    "sam": SAMSharpness,
    "eigenvalue": TopEigenvalue,
    "released": lambda: ReleasedMeasure(0.1, 0.02),
    "released, descent only": lambda: ReleasedMeasure(0.1, 0.02, 3, 0),
}
every_measure = pytest.mark.parametrize("name", MEASURES)


def at(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype, requires_grad=True)


# Closed forms and plain twins


def test_the_gradients_norm() -> None:
    a, b = at(1.0, 2.0), at(2.0)
    found = GradientNorm()(lambda: (3 * a**2).sum() - 5 * b.sum(), [a, b])
    assert float(found) == pytest.approx(math.sqrt(6**2 + 12**2 + 5**2))


@pytest.mark.parametrize("radius", [1e-3, 0.05])
def test_the_curvature_along_the_gradient_of_a_quadratic_is_exact(radius: float) -> None:
    theta = at(0.3, -0.2, 0.1)
    curvatures = torch.tensor([1.0, -4.0, 30.0], dtype=torch.float64)
    u = curvatures * theta.detach()
    u /= u.norm()
    found = DirectionalCurvature(radius)(lambda: (curvatures * theta**2).sum() / 2, [theta])
    assert float(found) == pytest.approx(float((curvatures * u**2).sum()), rel=1e-8)


def test_a_concave_direction_is_negative_and_a_stationary_point_zero() -> None:
    x = at(0.5)
    assert float(DirectionalCurvature()(lambda: -(x**2).sum(), [x])) == pytest.approx(-2)
    top = at(0.0)
    assert float(DirectionalCurvature()(lambda: -(top**2).sum(), [top])) == 0


@every_measure
def test_a_network_against_its_flat_twin(name: str) -> None:
    measure, problem = MEASURES[name](), Flat()
    theta = problem.theta
    found = measure(problem.loss, problem.model.parameters())
    torch.testing.assert_close(problem.theta, theta, rtol=0, atol=0)
    assert float(found) == pytest.approx(twin(measure, problem, theta), rel=1e-7)


def twin(measure: Measure, problem: Flat, theta: Tensor) -> float:
    """The measure as its formula says, on one vector."""
    gradient = problem.gradient_at(theta)
    u = gradient / gradient.norm()
    if isinstance(measure, GradientNorm):
        return float(gradient.norm())
    if isinstance(measure, SAMSharpness):
        return problem.loss_at(theta + measure.rho * u) - problem.loss_at(theta)
    if isinstance(measure, DirectionalCurvature):
        r = measure.radius
        both = problem.loss_at(theta + r * u) + problem.loss_at(theta - r * u)
        return (both - 2 * problem.loss_at(theta)) / r**2
    if isinstance(measure, TopEigenvalue):
        drawn = torch.randn(
            theta.numel(), dtype=theta.dtype, generator=torch.Generator().manual_seed(0), device="cpu"
        )
        v = drawn.to(theta.device)
        v /= v.norm()
        moved = problem.gradient_at(theta + measure.radius * v)
        return float(v @ (moved - gradient)) / measure.radius
    assert isinstance(measure, AscentDescent | ReleasedMeasure)

    def chain(point: Tensor, steps: int, sign: int) -> Tensor:
        for _ in range(steps):
            g = problem.gradient_at(point)
            if isinstance(measure, AscentDescent):
                point = point + sign * measure.gamma * g / g.norm()
            else:
                point = point + sign * (measure.step_scale * g).clamp(-measure.step_limit, measure.step_limit)
        return point

    ascended = chain(theta, measure.ascent_steps, 1)
    start = theta if isinstance(measure, AscentDescent) else ascended
    return problem.loss_at(ascended) - problem.loss_at(chain(start, measure.descent_steps, -1))


def test_the_power_iteration_goes_on_to_the_eigenvalue_and_follows_it() -> None:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64)).Q
    theta = at(*[0.1] * 12)
    spectrum = torch.linspace(0.1, 2, 12, dtype=torch.float64)
    spectrum[-1] = 5.0

    def f() -> Tensor:
        return theta @ (basis * spectrum) @ basis.T @ theta / 2

    measure = TopEigenvalue()
    first = float(measure(f, [theta]))
    values = [float(measure(f, [theta])) for _ in range(30)]
    assert first < 4
    assert values[-1] == pytest.approx(5, rel=1e-9)
    spectrum[0] = 8.0  # another direction leads now
    later = [float(measure(f, [theta])) for _ in range(120)]
    assert later[-1] == pytest.approx(8, rel=1e-6)


def test_the_power_iteration_agrees_with_lanczos_on_a_network() -> None:
    problem = Problem(noise=False)
    measure = TopEigenvalue(1e-4)
    for _ in range(100):
        value = measure(problem.loss, problem.parameters)
    expected = float(hessian_eigenvalues(problem.loss, problem.parameters)[0])
    assert float(value) == pytest.approx(expected, rel=1e-3)


def test_the_power_iteration_starts_anew_on_other_parameters() -> None:
    measure, a, b = TopEigenvalue(), at(1.0, 1.0), at(2.0)
    measure(lambda: (a**2).sum(), [a])
    assert float(measure(lambda: 3 * (b**2).sum(), [b])) == pytest.approx(6)


# Costs


@every_measure
def test_a_measure_costs_what_it_states(name: str) -> None:
    measure, problem, calls = MEASURES[name](), Problem(), {True: 0, False: 0}

    def closure() -> Tensor:
        calls[torch.is_grad_enabled()] += 1
        return problem.loss()

    measure.measure(Evaluation(closure, problem.parameters), shared_noise=True)
    cost = measure.cost
    assert cost.shares_gradient
    assert calls == {True: 1 + cost.gradients, False: cost.losses}


def test_only_the_gradients_norm_needs_no_evaluation() -> None:
    for create in MEASURES.values():
        measure = create()
        assert measure.cost.needs_evaluation != isinstance(measure, GradientNorm)
    assert MeasurementCost(0, 0, shares_gradient=False).needs_evaluation
    with pytest.raises(NotImplementedError, match="SAMSharpness does not follow from the gradients"):
        SAMSharpness().from_gradients([torch.ones(1)])


# Noise


@every_measure
def test_shared_noise_makes_a_function_of_the_loss(name: str) -> None:
    problem, seen = Problem(), []
    problem.model[3].register_forward_hook(lambda _module, _input, output: seen.append(output == 0))
    MEASURES[name]()(problem.loss, problem.parameters)
    dropped = [tuple(zeros.all(0).tolist()) for zeros in seen]
    assert len(set(dropped)) <= 2  # ReLU may close a unit when the parameters move; masks are drawn for each
    seen.clear()
    torch.manual_seed(1)
    first = MEASURES[name]()(problem.loss, problem.parameters)
    torch.manual_seed(1)
    assert torch.equal(MEASURES[name]()(problem.loss, problem.parameters), first)


# Clipping


@pytest.mark.parametrize(
    "clip", [partial(clip_grad_norm_, max_norm=0.01), partial(clip_grad_value_, clip_value=1e-3)]
)
@every_measure
def test_measurements_are_unclipped_and_the_step_is_clipped(
    name: str, clip: Callable[[list[Tensor]], object]
) -> None:
    problem = Problem(noise=False)
    plain, measure = MEASURES[name](), MEASURES[name]()
    evaluation = Evaluation(Clipped(problem.loss, problem.parameters, clip), problem.parameters)
    for _ in range(3):  # the eigenvector is another one each time
        expected = plain(problem.loss, problem.parameters)
        assert torch.equal(measure.measure(evaluation, True), expected)
    for _ in range(2):  # shared with the measurement, then taken anew
        evaluation()
        shared = [parameter.grad for parameter in problem.parameters]
        for parameter in problem.parameters:
            parameter.grad = None
        problem.loss().backward()
        clip(problem.parameters)
        for parameter, gradient in zip(problem.parameters, shared, strict=True):
            assert torch.equal(gradient, parameter.grad)


# Half precision, complex and repeated parameters


def test_a_gradient_too_long_for_half_precision() -> None:
    x = at(*[1.0] * 4, dtype=torch.float16)
    slope = torch.full((4,), 47424.0, dtype=torch.float16)

    def f() -> Tensor:
        return (x.float() * slope.float()).sum()

    assert float(GradientNorm()(f, [x])) == pytest.approx(94848, rel=1e-4)
    # Steps of 0.25 are multiples of half precision's spacing at 1.
    assert float(AscentDescent(0.5, 2, 2)(f, [x])) == pytest.approx(4 * 0.5 * 94848, rel=1e-4)
    assert float(SAMSharpness(0.5)(f, [x])) == pytest.approx(0.5 * 94848, rel=1e-4)


@every_measure
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_float32_and_a_warning_names_what_is_lost(
    name: str, dtype: torch.dtype
) -> None:
    x = at(1.0, 2.0, dtype=dtype)
    with warnings.catch_warnings(record=True) as seen:
        found = MEASURES[name]()(lambda: 100 + x.square().sum(), [x])
    assert [str(each.message).split(" can hold")[0] for each in seen] == (
        [f"{type(MEASURES[name]()).__name__} moves parameters by less than float16 and bfloat16"]
        if MEASURES[name]().cost.needs_evaluation
        else []
    )
    assert all(each.filename == __file__ for each in seen)
    assert found.dtype is torch.float32
    assert found.isfinite()


def as_pairs(z: Tensor) -> tuple[Tensor, Callable[[], Tensor], Callable[[], Tensor]]:
    """The real pairs of a complex parameter, and one function of each."""
    pairs = torch.view_as_real(z.detach()).clone().requires_grad_()

    def f(x: Tensor, y: Tensor) -> Tensor:
        return (1 + (x - 2 * y).square() + 0.3 * torch.sin(3 * x) + y.pow(4)).sum()

    return pairs, lambda: f(z.real, z.imag), lambda: f(pairs[..., 0], pairs[..., 1])


OTHERS: dict[str, Callable[..., Tensor]] = {
    "ball": lambda closure, parameters: ball_sharpness(closure, parameters, 0.1),
    "box": box_sharpness,
    "hessian": hessian_eigenvalues,
}


@pytest.mark.parametrize("name", [*MEASURES, *OTHERS])
def test_a_complex_parameter_is_a_pair_of_real_ones(name: str) -> None:
    z = torch.tensor([0.3 + 0.4j, -0.2 + 0.1j], dtype=torch.complex128, requires_grad=True)
    pairs, complex_loss, real_loss = as_pairs(z)
    measure: Any = MEASURES[name] if name in MEASURES else lambda: OTHERS[name]
    found, expected = measure()(complex_loss, [z]), measure()(real_loss, [pairs])
    assert not found.is_complex()
    torch.testing.assert_close(found, expected)
    assert float(expected.reshape(-1)[0]) != 0


def test_a_box_of_a_complex_parameter() -> None:
    z = torch.tensor([3 + 4j], dtype=torch.complex128, requires_grad=True)
    found = box_sharpness(lambda: z.real.sum() + 2 * z.imag.sum() + 1, [z], epsilon=0.01)
    assert float(found) == pytest.approx(100 * (0.01 * 4 + 2 * 0.01 * 5) / (1 + 12))


@pytest.mark.parametrize("name", [*MEASURES, *OTHERS])
def test_a_parameter_that_is_listed_twice_counts_once(name: str) -> None:
    trunk, head = at(1.0, -0.5), at(0.7)

    def f() -> Tensor:
        return (trunk[0] * head).square().sum() + trunk.square().sum() + head.exp().sum()

    measure: Any = MEASURES[name] if name in MEASURES else lambda: OTHERS[name]
    torch.testing.assert_close(measure()(f, [trunk, head, trunk]), measure()(f, [trunk, head]))


# State and refusals


def test_a_state_is_one_tensor_for_each_parameter() -> None:
    problem = Problem(noise=False)
    measure = TopEigenvalue()
    fresh = measure.state_dict(problem.parameters)["direction"]
    assert [part.shape for part in fresh] == [parameter.shape for parameter in problem.parameters]
    for _ in range(3):
        measure(problem.loss, problem.parameters)
    other = TopEigenvalue()
    other.load_state_dict(
        {"direction": [part.clone() for part in measure.state_dict(problem.parameters)["direction"]]}
    )
    assert torch.equal(other(problem.loss, problem.parameters), measure(problem.loss, problem.parameters))
    assert GradientNorm().state_dict(problem.parameters) == {}
    with pytest.raises(ValueError, match=r"holds \['direction'\]; expected none for GradientNorm"):
        GradientNorm().load_state_dict({"direction": fresh})


def test_saving_while_a_parameter_is_frozen_changes_nothing() -> None:
    values = []
    for saved in (False, True):
        a, b, measure = at(1.0, 2.0), at(0.5), TopEigenvalue()

        def loss(a: Tensor = a, b: Tensor = b) -> Tensor:
            return (a[0] * b).square().sum() + a.pow(4).sum() + 30 * b.square().sum()

        for _ in range(5):
            measure(loss, [a, b])
        if saved:
            assert [part.shape for part in measure.state_dict([a])["direction"]] == [a.shape]
        values.append(measure(loss, [a, b]))
    assert torch.equal(*values)


@pytest.mark.parametrize(
    ("kind", "arguments", "line"),
    [
        (AscentDescent, {"gamma": 0}, "gamma = 0; expected a finite number > 0"),
        (AscentDescent, {"gamma": math.nan}, "gamma = nan; expected a finite number > 0"),
        (AscentDescent, {"descent_steps": -1}, "descent_steps = -1; expected a whole number >= 0"),
        (AscentDescent, {"descent_steps": 0, "ascent_steps": 0}, "expected at least one step"),
        (DirectionalCurvature, {"radius": 0.0}, "radius = 0.0; expected a finite number > 0"),
        (SAMSharpness, {"rho": math.nan}, "rho = nan; expected a finite number > 0"),
        (TopEigenvalue, {"radius": -1.0}, "radius = -1.0; expected a finite number > 0"),
        (ReleasedMeasure, {"step_scale": 0.0}, "step_scale = 0.0; expected a finite number > 0"),
        (ReleasedMeasure, {"step_limit": math.inf}, "step_limit = inf; expected a finite number > 0"),
        (ReleasedMeasure, {"descent_steps": 0}, "descent_steps = 0; expected a whole number >= 1"),
        (ReleasedMeasure, {"ascent_steps": 1.5}, "ascent_steps = 1.5; expected a whole number >= 0"),
    ],
)
def test_arguments_out_of_range(kind: type[Measure], arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=rf"\A[^\n]*{line}\Z"):
        kind(**arguments)
