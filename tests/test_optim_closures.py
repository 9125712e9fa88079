"""What an iteration of each optimizer does with its closure: how often it is called, what it may contain, what it leaves."""

from collections.abc import Callable

import pytest
import torch
from optim_helpers import METHODS, Problem, build, same
from torch import Tensor, nn
from torch.optim import LBFGS, SGD
from torch.utils._python_dispatch import TorchDispatchMode

from salr.optim import SALR, Wrapper
from salr.sharpness import evaluation, no_trace
from salr.sharpness.side_state import copy_generators

every_method = pytest.mark.parametrize("method", METHODS)


@every_method
def test_with_a_zero_rate_nothing_moves_and_statistics_see_each_batch_once(method: str) -> None:
    problem = Problem()
    optimizer = build(method, problem, lr=0.0)
    before = [parameter.clone() for parameter in problem.parameters]
    problem.train(optimizer, 3)
    assert same(problem.parameters, before)
    assert int(problem.model[1].num_batches_tracked) == 3 * METHODS[method].batches


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

        def closure(problem: Problem = problem, micro_batches: int = micro_batches, optimizer: Wrapper = optimizer) -> Tensor:
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
    """Also where its loss alone is asked for, in which case nothing is differentiated and stand-ins are changed."""
    ends = []
    for by_hand in (False, True):
        problem = Problem(noise=False)
        optimizer = build(method, problem)

        def closure(by_hand: bool = by_hand, problem: Problem = problem, optimizer: Wrapper = optimizer) -> Tensor:
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
    optimizer = SALR(SGD(problem.parameters, lr=0.0), descent_steps=steps, ascent_steps=1)
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
    assert same([2 * parameter.grad for parameter in problem.parameters if parameter.grad is not None], list(expected))


@every_method
def test_sparse_gradients_are_refused(method: str) -> None:
    table = nn.Embedding(4, 3, sparse=True)
    optimizer = METHODS[method].wrap(SGD(table.parameters(), lr=0.1))
    with pytest.raises(ValueError, match=r"\Aa parameter of shape \(4, 3\) has a torch.sparse_coo gradient; expected dense.*\Z"):
        optimizer.step(lambda: table(torch.tensor([1, 2])).sum())


@every_method
def test_autocast(method: str) -> None:
    problem = Problem(dtype=torch.float32)
    optimizer = build(method, problem)

    def closure() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return problem.loss()

    first = float(optimizer.step(closure))
    for _ in range(40):
        optimizer.step(closure)
    assert float(closure().detach()) < first / 2
    assert all(parameter.dtype is torch.float32 for parameter in problem.parameters)


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
def test_no_value_is_read_by_the_host(method: str) -> None:
    """With a rate held in a tensor and a fused base, as on an accelerator."""

    class NoReads(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            read = func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
            assert not read, f"{func} waits for the device"
            return func(*args, **(kwargs or {}))

    problem = Problem(dtype=torch.float32)
    optimizer = METHODS[method].wrap(SGD(problem.parameters, lr=torch.tensor(0.1), fused=True))
    with NoReads():
        problem.train(optimizer, 3)
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.1)


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
    with pytest.raises(TypeError, match=rf"\A{name}\.step\(\) needs a closure.* call optimizer\.step\(closure\)\Z"):
        optimizer.step()
    wrong: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (TypeError, "the closure returned float; expected the loss as a tensor", lambda: float(problem.loss().detach())),
        (ValueError, r"a tensor of shape \(2,\); expected a single loss", lambda: torch.stack([problem.loss()] * 2)),
        (ValueError, "depends on no parameter", lambda: torch.zeros(())),
    ]
    for error, message, closure in wrong:
        with pytest.raises(error, match=message):
            optimizer.step(closure)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the closure is 3; expected a function"):
        optimizer.step(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["salr", "released", "sam", "salr+sam"])
def test_another_optimizers_parameters_get_the_gradient_of_one_evaluation(method: str) -> None:
    """Two optimizers of one network: the second steps with what the closure's gradient has left, once and not eleven times."""
    problem, reference = Problem(noise=False), Problem(noise=False)
    optimizer = METHODS[method].wrap(SGD(problem.parameters[:2], lr=0.0))
    reference.loss().backward()
    optimizer.step(problem.loss)
    mine, expected = problem.model[2].weight.grad, reference.model[2].weight.grad
    assert mine is not None
    assert expected is not None
    torch.testing.assert_close(mine, expected, rtol=0, atol=0)


@every_method
def test_the_generator_of_an_accelerator_ends_where_plain_steps_leave_it(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a pretended accelerator whose generator is a count of draws: the network draws once an evaluation."""

    class Accelerator:
        drawn = torch.zeros(())

        def get_rng_state(self, device: torch.device) -> Tensor:
            assert device.type == "cuda"
            return self.drawn

        def set_rng_state(self, state: Tensor, device: torch.device) -> None:
            assert device.type == "cuda"
            self.drawn = state

    accelerator, problem, seen = Accelerator(), Problem(), []
    monkeypatch.setattr(torch, "get_device_module", lambda _: accelerator)
    for module in (evaluation, no_trace):  # as if the parameters were there
        monkeypatch.setattr(module, "copy_generators", lambda _: copy_generators({torch.device("cuda", 0)}))

    def closure() -> Tensor:
        accelerator.drawn = accelerator.drawn + 1
        seen.append(float(accelerator.drawn))
        return problem.loss()

    optimizer = build(method, problem)
    for iteration in range(1, 5):
        seen.clear()
        optimizer.step(closure)
        assert float(accelerator.drawn) == iteration * METHODS[method].batches
        if method in ("salr", "sam", "salr+sam"):
            assert set(seen) == {iteration}  # all evaluations of an iteration see the same noise


@every_method
def test_noise_that_only_a_loss_draws_is_given_back(method: str) -> None:
    """A forward pass may draw less or more where no gradient is taken; the generator still ends where gradients leave it."""
    problem, drawn = Problem(noise=False), Problem(noise=False)

    def closure(problem: Problem = problem) -> Tensor:
        return problem.loss() + 0 * torch.rand(1 if torch.is_grad_enabled() else 3).sum()

    torch.manual_seed(0)
    build(method, problem).step(closure)
    torch.manual_seed(0)
    if "smoothout" in method:
        for parameter in problem.parameters:
            torch.empty_like(parameter).uniform_()
    for _ in range(METHODS[method].batches):
        torch.rand(1)
        if "local_entropy" in method:
            for parameter in problem.parameters:
                torch.randn_like(parameter)
    after = torch.rand(1)
    torch.manual_seed(0)
    build(method, drawn).step(lambda: closure(drawn))
    assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize("method", ["salr", "sam", "salr+sam"])
def test_all_evaluations_of_an_iteration_start_from_the_same_carried_state(method: str) -> None:
    class Carrying(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))
            self.register_buffer("state", torch.zeros(()))
            self.seen: list[float] = []

        def forward(self) -> Tensor:
            self.seen.append(float(self.state))
            self.state = self.state + 1
            return (self.weight - self.state) ** 2

    model = Carrying()
    optimizer = METHODS[method].wrap(SGD(model.parameters(), lr=0.01))
    for iteration in range(3):
        model.seen.clear()
        optimizer.step(model)
        assert set(model.seen) == {iteration}
    assert float(model.state) == 3


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
