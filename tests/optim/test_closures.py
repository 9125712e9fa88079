"""What an iteration of each optimizer does with its closure.

The tests say how often it is called, and what it may contain.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD

from salr.optim import SALR, Wrapper
from salr.sharpness import AscentDescent
from tests.helpers.optim import METHODS, Problem, build, same

pytestmark = pytest.mark.usefixtures("default_device")

every_method = pytest.mark.parametrize("method", METHODS)


@every_method
def test_gradients_an_iteration(method: str) -> None:
    problem, backward = Problem(), []
    problem.parameters[0].register_hook(lambda _: backward.append(1))
    optimizer = build(method, problem)
    counts = []
    for _ in range(4):
        backward.clear()
        problem.train(optimizer, 1)
        counts.append(len(backward))
    first, other = METHODS[method].first_gradients, METHODS[method].gradients
    assert counts == [first, other, first, other]


@every_method
def test_a_resumed_run_evaluates_as_often_as_one_that_never_stopped(method: str) -> None:
    problem, calls = Problem(), [0, 0]

    def closure() -> Tensor:
        calls[torch.is_grad_enabled()] += 1
        return problem.loss()

    optimizer = build(method, problem)
    for _ in range(3):
        optimizer.step(closure)
    resumed = build(method, problem)
    resumed.load_state_dict(optimizer.state_dict())
    counts = []
    for one in (optimizer, resumed):
        calls[:] = 0, 0
        one.step(closure)
        counts.append(tuple(calls))
    assert counts[0] == counts[1]


@every_method
def test_the_closure_may_call_backward_itself_and_accumulate(method: str) -> None:
    ends = []
    for micro_batches in (0, 1, 2):
        problem = Problem(noise=False)
        optimizer = build(method, problem)

        def closure(
            problem: Problem = problem, micro_batches: int = micro_batches, optimizer: Wrapper = optimizer
        ) -> Tensor:
            if micro_batches == 0:
                return problem.loss()
            optimizer.zero_grad()
            total = torch.zeros((), dtype=torch.float64)
            inputs, targets = problem.batches[problem.place % 3]
            for part in range(micro_batches):
                logits = problem.model(inputs[part::micro_batches])
                loss = nn.functional.cross_entropy(logits, targets[part::micro_batches]) / micro_batches
                loss.backward()
                total += loss.detach()
            return total

        for _ in range(6):
            optimizer.step(closure, problem.advance)
            problem.advance()
        ends.append(problem.values())
        torch.manual_seed(0)
    assert same(ends[0], ends[1])
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-9, atol=1e-11)


@every_method
def test_a_closure_may_change_its_gradients_by_hand(method: str) -> None:
    """Also if only its loss is wanted: then nothing is differentiated, and stand-ins are changed."""
    ends = []
    for by_hand in (False, True):
        problem = Problem(noise=False)
        optimizer = build(method, problem)

        def closure(
            by_hand: bool = by_hand, problem: Problem = problem, optimizer: Wrapper = optimizer
        ) -> Tensor:
            loss = problem.loss() / (1 if by_hand else 2)
            if by_hand:
                optimizer.zero_grad()
                loss.backward()
                for parameter in problem.parameters:
                    assert parameter.grad is not None
                    parameter.grad /= 2
                loss = loss / 2
            return loss

        for _ in range(4):
            optimizer.step(closure, problem.advance)
            problem.advance()
        ends.append(problem.values())
        torch.manual_seed(0)
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("zeroed", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_evaluating_the_loss_alone_does_not_touch_the_training_gradient(zeroed: bool, steps: int) -> None:
    problem = Problem(noise=False)
    optimizer = SALR(SGD(problem.parameters, lr=0.0), AscentDescent(descent_steps=steps, ascent_steps=1))
    expected = torch.autograd.grad(problem.loss(), problem.parameters)

    def closure() -> Tensor:
        if zeroed:
            optimizer.zero_grad()
        loss = problem.loss()
        loss.backward()
        for parameter in problem.parameters:
            assert parameter.grad is not None
            parameter.grad /= 2  # a change that shows when it is made twice
        return loss

    optimizer.step(closure)
    assert same(
        [2 * parameter.grad for parameter in problem.parameters if parameter.grad is not None], list(expected)
    )


@every_method
def test_sparse_gradients_are_refused(method: str) -> None:
    table = nn.Embedding(4, 3, sparse=True)
    optimizer = METHODS[method].wrap(SGD(table.parameters(), lr=0.1))
    with pytest.raises(
        ValueError,
        match=r"\Aa parameter of shape \(4, 3\) has a torch.sparse_coo gradient; expected dense.*\Z",
    ):
        optimizer.step(lambda: table(torch.tensor([1, 2])).sum())


@every_method
def test_autocast(method: str) -> None:
    problem = Problem(dtype=torch.float32)
    optimizer = build(method, problem)

    def closure() -> Tensor:
        with torch.autocast(torch.get_default_device().type, torch.bfloat16):
            return problem.loss()

    first = float(optimizer.step(closure))
    for _ in range(100):
        optimizer.step(closure)
    assert float(closure().detach()) < first / 2
    assert all(parameter.dtype is torch.float32 for parameter in problem.parameters)


@every_method
def test_autocast_around_the_whole_step_is_autocast_around_the_loss(method: str) -> None:
    """There autocast keeps its casts of the parameters, which move between the evaluations."""
    ends = []
    for around_step in (False, True):
        problem = Problem(noise=False, dtype=torch.float32)
        optimizer = build(method, problem)
        torch.manual_seed(0)

        def closure(around_step: bool = around_step, problem: Problem = problem) -> Tensor:
            if around_step:
                return problem.loss()
            with torch.autocast(torch.get_default_device().type, torch.bfloat16):
                return problem.loss()

        for _ in range(4):
            with torch.autocast(torch.get_default_device().type, torch.bfloat16, enabled=around_step):
                optimizer.step(closure)
        ends.append([*problem.values(), getattr(optimizer, "last_sharpness", torch.ones(()))])
    assert same(*ends)


@every_method
def test_a_closure_that_fails_leaves_the_parameters_where_they_were(method: str) -> None:
    for failing in range(1, METHODS[method].first_gradients + 1):
        problem, optimizer = Problem(), None
        calls, before = 0, [parameter.clone() for parameter in problem.parameters]
        optimizer = build(method, problem)

        def closure(failing: int = failing, problem: Problem = problem) -> Tensor:
            nonlocal calls
            calls += torch.is_grad_enabled()
            if calls == failing:
                raise KeyboardInterrupt
            return problem.loss()

        with pytest.raises(KeyboardInterrupt):
            optimizer.step(closure)
        if method != "released" or failing == 1:  # its update comes first
            assert same(problem.parameters, before)
        assert all(group["lr"] == 0.3 for group in optimizer.param_groups)


@every_method
def test_a_loss_may_contain_derivatives(method: str) -> None:
    """A gradient penalty: the closure differentiates, also where its loss alone is asked for."""
    problem = Problem(noise=False)
    optimizer = build(method, problem, "adam")

    def closure() -> Tensor:
        inputs = problem.batches[0][0].clone().requires_grad_()
        logits = problem.model(inputs)
        (slope,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
        return nn.functional.cross_entropy(logits, problem.batches[0][1]) + 0.1 * slope.square().mean()

    first = float(optimizer.step(closure))
    for _ in range(40):
        optimizer.step(closure)
    assert float(closure().detach()) < first


@every_method
def test_what_is_wrong_is_said(method: str) -> None:
    problem = Problem()
    optimizer, name = build(method, problem), type(build(method, problem)).__name__
    wrong: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (
            TypeError,
            "the closure returned float; expected the loss as a tensor",
            lambda: float(problem.loss().detach()),
        ),
        (
            ValueError,
            r"a tensor of shape \(2,\); expected a single loss",
            lambda: torch.stack([problem.loss()] * 2),
        ),
    ]
    for error, message, closure in wrong:
        with pytest.raises(error, match=message):
            optimizer.step(closure)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the closure is 3; expected a function"):
        optimizer.step(3)  # type: ignore[arg-type]
    if "salr" not in method and method != "released":
        with pytest.raises(
            TypeError, match=rf"\A{name}\.step\(\) needs a closure.* optimizer\.step\(closure\)"
        ):
            optimizer.step()


@pytest.mark.parametrize("method", ["salr", "released"])
def test_the_first_step_over_lbfgs_is_its_own(method: str) -> None:
    """The first factor is 1, and a base may call its closure at many points."""
    problem, plain = Problem(noise=False), Problem(noise=False)
    options = {"lr": 0.5, "max_iter": 6, "line_search_fn": "strong_wolfe"}
    METHODS[method].wrap(LBFGS(problem.parameters, **options)).step(problem.loss)
    reference = LBFGS(plain.parameters, **options)

    def closure() -> Tensor:
        reference.zero_grad()
        loss = plain.loss()
        loss.backward()
        return loss

    reference.step(closure)
    assert same(problem.values(), plain.values())
