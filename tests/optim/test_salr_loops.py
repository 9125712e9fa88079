"""SALR in loops that call ``backward`` themselves, with every measure, and with clipped gradients."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import SGD, Adam, Optimizer

from salr.closures import Clipped
from salr.optim import SALR, SAM, LocalEntropy, ReleasedSALR, SmoothOut
from salr.sharpness import AscentDescent, GradientNorm, Measure, SAMSharpness, TopEigenvalue
from tests.helpers.devices import random_state
from tests.helpers.optim import Problem, same

pytestmark = pytest.mark.usefixtures("default_device")

MEASURES: dict[str, Callable[[], Measure]] = {
    "Definition 1": lambda: AscentDescent(gamma=0.02),
    "gradient norm": GradientNorm,
    "sam": SAMSharpness,
    "eigenvalue": TopEigenvalue,
}
every_measure = pytest.mark.parametrize("name", MEASURES)


def state(problem: Problem) -> list[Tensor]:
    gradients = [parameter.grad for parameter in problem.parameters if parameter.grad is not None]
    return [value.clone() for value in (*problem.values(), *gradients, random_state())]


# Only the measurement needs a closure


@every_measure
@pytest.mark.parametrize("base", [SGD, Adam])
def test_measure_backward_step_is_step_with_a_closure(name: str, base: type[Optimizer]) -> None:
    """Bit for bit, with dropout and batch normalisation, although no gradient is shared."""
    whole, parts = Problem(), Problem()
    one = SALR(base(whole.parameters, lr=0.1), MEASURES[name]())
    other = SALR(base(parts.parameters, lr=0.1), MEASURES[name]())
    torch.manual_seed(5)
    whole.train(one, 7)
    torch.manual_seed(5)
    for _ in range(7):
        other.measure(parts.loss)
        other.zero_grad()
        parts.loss().backward()
        assert other.step() is None
        parts.advance()
    assert same(whole.values(), parts.values())
    assert float(one.last_sharpness) == float(other.last_sharpness)


@pytest.mark.parametrize("interval", [1, 2])
def test_the_released_variant_measures_after_the_step(interval: int) -> None:
    whole, parts = Problem(), Problem()
    one, other = (
        ReleasedSALR(SGD(problem.parameters, lr=0.1), interval=interval) for problem in (whole, parts)
    )
    torch.manual_seed(5)
    whole.train(one, 6)
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(6):
            other.zero_grad()
            parts.loss().backward()
            other.step()
            other.measure(parts.loss)
            parts.advance()
    assert same(whole.values(), parts.values())
    assert float(one.lr_factor) == float(other.lr_factor)


@every_measure
def test_measuring_leaves_no_trace(name: str) -> None:
    problem = Problem()
    optimizer = SALR(Adam(problem.parameters, lr=0.1), MEASURES[name]())
    problem.loss().backward()
    before, gradients = state(problem), [parameter.grad for parameter in problem.parameters]
    optimizer.measure(problem.loss)
    assert same(state(problem), before)
    assert all(p.grad is g for p, g in zip(problem.parameters, gradients, strict=True))
    assert not optimizer.base.state


def test_a_measurement_costs_its_own_gradient() -> None:
    problem, calls = Problem(), {True: 0, False: 0}

    def closure() -> Tensor:
        calls[torch.is_grad_enabled()] += 1
        return problem.loss()

    optimizer = SALR(SGD(problem.parameters, lr=0.1))
    for _ in range(4):
        optimizer.measure(closure)
        optimizer.zero_grad()
        closure().backward()
        optimizer.step()
    assert calls == {True: 4 * 5.5, False: 2 * 2}


def test_what_is_not_due_is_not_measured() -> None:
    """Micro-batches: only the first of a due iteration is measured, whatever is called in between."""
    problem, calls = Problem(), []

    def closure() -> Tensor:
        calls.append(len(measured))
        return problem.loss()

    measured: list[float] = []
    optimizer = SALR(SGD(problem.parameters, lr=0.1), SAMSharpness(), interval=3)
    for _ in range(7):
        assert optimizer.measurement_due == (len(measured) % 3 == 0)
        for _ in range(2):
            optimizer.measure(closure)
            (problem.loss() / 2).backward()
        assert not optimizer.measurement_due
        optimizer.step()
        optimizer.zero_grad()
        measured.append(float(optimizer.last_sharpness))
    assert sorted(set(calls)) == [0, 3, 6]
    assert len(calls) == 3 * 2  # a gradient and a loss each
    assert len(set(measured)) == 3


def test_a_due_step_that_was_not_measured_warns_once_and_keeps_the_factor() -> None:
    problem = Problem()
    optimizer = SALR(SGD(problem.parameters, lr=0.1), interval=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            problem.loss().backward()
            optimizer.step()
    (warning,) = [str(each.message) for each in caught if "measurement" in str(each.message)]
    assert "was due and has not been taken" in warning
    assert "optimizer.measure(closure)" in warning
    assert "\n" not in warning
    assert float(optimizer.lr_factor) == 1


def test_a_measure_that_needs_a_closure_says_so() -> None:
    problem = Problem()
    optimizer = SALR(SGD(problem.parameters, lr=0.1))
    with pytest.raises(
        TypeError, match=r"\ASALR\.measure\(\) needs a closure for AscentDescent: call [^\n]*\Z"
    ):
        optimizer.measure()
    with pytest.raises(ValueError, match=r"\Ano parameter has a gradient; expected loss\.backward\(\)"):
        SALR(SGD(problem.parameters, lr=0.1), GradientNorm()).measure()


# First-order SALR


@pytest.mark.parametrize("base", [SGD, Adam])
def test_towards_small_steps_salr_is_first_order_salr(base: type[Optimizer]) -> None:
    """In float64, with dropout: the parameters agree to 1e-4 after 200 iterations."""
    ends, factors = [], []
    for measure in (AscentDescent(gamma=1e-6), GradientNorm()):
        problem = Problem()
        torch.manual_seed(1)
        optimizer = SALR(base(problem.parameters, lr=0.05), measure)
        ends.append(problem.train(optimizer, 200))
        factors.append(float(optimizer.lr_factor))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-4)
    assert factors[0] == pytest.approx(factors[1], rel=1e-4)
    assert factors[0] != 1


@pytest.mark.parametrize(
    ("wrap", "gradients"),
    [
        (lambda base: base, 1),
        (lambda base: SAM(base), 2),
        (lambda base: LocalEntropy(base, steps=3), 3),
        (
            lambda base: SmoothOut(base, 0.02),
            1.5,
        ),  # takes its gradient elsewhere, so that a measured one is more
    ],
)
def test_first_order_salr_takes_what_its_base_takes(
    wrap: Callable[[Optimizer], Optimizer], gradients: float
) -> None:
    problem, calls = Problem(), {True: 0, False: 0}

    def closure() -> Tensor:
        calls[torch.is_grad_enabled()] += 1
        return problem.loss()

    optimizer = SALR(wrap(SGD(problem.parameters, lr=0.1)), GradientNorm())
    for _ in range(4):
        optimizer.step(closure, problem.advance)
        problem.advance()
    assert calls == {True: 4 * gradients, False: 0}


def test_first_order_salr_in_a_plain_loop_needs_nothing_but_step() -> None:
    problem, twin = Problem(), Problem()
    optimizer = SALR(SGD(problem.parameters, lr=0.1), GradientNorm(), interval=1)
    norms, rate = [], 0.1
    for iteration in range(6):
        torch.manual_seed(iteration)
        optimizer.zero_grad()
        problem.loss().backward()
        optimizer.step()
        torch.manual_seed(iteration)
        gradients = torch.autograd.grad(twin.loss(), twin.parameters)
        norms.append(float(torch.cat([gradient.flatten() for gradient in gradients]).norm()))
        factor = norms[-1] / float(torch.tensor(norms, dtype=torch.float64).quantile(0.5))
        with torch.no_grad():
            for parameter, gradient in zip(twin.parameters, gradients, strict=True):
                parameter -= rate * factor * gradient
        assert float(optimizer.last_sharpness) == pytest.approx(norms[-1])
        torch.testing.assert_close(problem.values(), twin.values())


# Clipping


CLIPS = [partial(clip_grad_norm_, max_norm=0.05), partial(clip_grad_value_, clip_value=0.01)]


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", MEASURES)
def test_a_clipped_closure_is_measured_unclipped_and_steps_clipped(
    name: str, clip: Callable[[list[Tensor]], object]
) -> None:
    """As a loop that measures, takes the gradient and clips it by itself, bit for bit."""
    ends = []
    for by_itself in (True, False):
        problem = Problem()
        optimizer = SALR(SGD(problem.parameters, lr=0.5), MEASURES[name]())
        torch.manual_seed(2)
        for _ in range(5):
            if by_itself:
                optimizer.zero_grad()
                optimizer.measure(problem.loss)
                problem.loss().backward()
                if optimizer.measurement_due:
                    optimizer.measure()
                clip(problem.parameters)
                optimizer.step()
            else:
                optimizer.step(Clipped(problem.loss, problem.parameters, clip))
            problem.advance()
        ends.append([*problem.values(), optimizer.last_sharpness])
    assert same(*ends)


@pytest.mark.parametrize("clip", CLIPS)
def test_the_norm_before_clipping_is_measured_in_each_kind_of_loop(
    clip: Callable[[list[Tensor]], object],
) -> None:
    plain, whole, parts = Problem(), Problem(), Problem()
    torch.manual_seed(0)
    gradients = torch.autograd.grad(plain.loss(), plain.parameters)
    expected = float(torch.nn.utils.get_total_norm(gradients))
    one, other = (SALR(SGD(problem.parameters, lr=0.5), GradientNorm()) for problem in (whole, parts))
    torch.manual_seed(0)
    one.step(Clipped(whole.loss, whole.parameters, clip))
    torch.manual_seed(0)
    parts.loss().backward()
    other.measure()
    clip(parts.parameters)
    other.step()
    assert float(one.last_sharpness) == pytest.approx(expected)
    assert float(other.last_sharpness) == pytest.approx(expected)
    assert same(whole.values(), parts.values())


def test_mixed_precision_with_a_gradient_scaler() -> None:
    """The scaler skips steps whose scaled gradients overflow; the measurement sees the unscaled loss."""
    problem = Problem(dtype=torch.float32)
    optimizer = SALR(SGD(problem.parameters, lr=0.1), SAMSharpness(), interval=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)
    skipped = 0
    for _ in range(40):
        optimizer.zero_grad()
        optimizer.measure(problem.loss)
        scale = scaler.get_scale()
        scaler.scale(10 * problem.loss()).backward()
        scaler.step(optimizer)
        scaler.update()
        skipped += scaler.get_scale() < scale
        problem.advance()
    assert 0 < skipped < 40
    assert 0 < float(optimizer.last_sharpness) < 1
    assert optimizer.state_dict()["param_groups"][0]["SALR"]["iterations"] == 40 - skipped
    assert all(parameter.isfinite().all() for parameter in problem.parameters)


def test_a_clipped_batch_that_is_skipped_is_skipped() -> None:
    problem = Problem(noise=False)
    optimizer = SALR(SGD(problem.parameters, lr=0.1), GradientNorm())
    before = problem.values()
    assert optimizer.step(Clipped(lambda: None, problem.parameters, lambda _: None)) is None  # type: ignore[arg-type, return-value]
    assert same(problem.values(), before)
    assert optimizer.measurement_due


def test_a_cached_parametrization_is_computed_anew_where_the_parameters_have_moved() -> None:
    values = []
    for cached in (False, True):
        torch.manual_seed(0)
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2, dtype=torch.float64))
        inputs = torch.randn(5, 3, dtype=torch.float64)
        optimizer = SALR(SGD(layer.parameters(), lr=0.1), SAMSharpness(0.1), interval=1)
        with nn.utils.parametrize.cached() if cached else nullcontext():
            for _ in range(2):
                optimizer.step(lambda layer=layer, inputs=inputs: layer(inputs).square().mean())
        values.append(float(optimizer.last_sharpness))
    assert values[0] == values[1]
