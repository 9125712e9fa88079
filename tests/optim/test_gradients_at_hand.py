"""Gradients from before a step, closures without a loss, and SAM in two phases."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from salr.optim import SALR, SAM, LocalEntropy
from tests.helpers.optim import METHODS, Problem, build, same

pytestmark = pytest.mark.usefixtures("default_device")

every_method = pytest.mark.parametrize("method", METHODS)
PARTS = 4
# A rate's factor is 1 at the first step, so that these step as their base does.
first_step_is_plain = pytest.mark.parametrize(
    "method", ["salr", "salr, gradient norm", "salr, curvature", "released"]
)


def closure_of(problem: Problem, part: int, optimizer: Any, kind: str) -> Callable[[], Tensor]:
    """The loss of one of the parts of a batch, as Lightning's closure scales it."""
    inputs, targets = problem.batches[0]

    def closure() -> Tensor:
        if kind == "clears":
            optimizer.zero_grad()
        elif kind == "sets to zero":
            optimizer.zero_grad(set_to_none=False)
        loss = nn.functional.cross_entropy(problem.model(inputs[part::PARTS]), targets[part::PARTS]) / PARTS
        if kind == "differentiates":
            loss.backward(create_graph=True)
        elif kind != "returns the loss":
            loss.backward()
        return loss

    return closure


KINDS = ["returns the loss", "accumulates", "differentiates", "clears", "sets to zero"]


@pytest.mark.filterwarnings("ignore:Using backward\\(\\) with create_graph")
@first_step_is_plain
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_accumulated_before_the_step_are_used_as_a_plain_optimizer_uses_them(
    method: str, kind: str
) -> None:
    ends = []
    for plain in (True, False):
        problem = Problem(noise=False)
        optimizer: Any = SGD(problem.parameters, lr=0.3) if plain else build(method, problem)
        for part in range(PARTS - 1):
            closure_of(problem, part, optimizer, "returns the loss")().backward()
        how = "accumulates" if plain and kind == "returns the loss" else kind
        optimizer.step(closure_of(problem, PARTS - 1, optimizer, how))
        ends.append(problem.values())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-9, atol=1e-12)


def test_accumulation_trains_as_whole_batches_do() -> None:
    """Lightning's loop over several steps; SALR's rate follows from the last part."""
    problem, whole = Problem(noise=False), Problem(noise=False)
    optimizer, reference = build("salr", problem), SGD(whole.parameters, lr=0.3)
    for _ in range(4):
        for part in range(PARTS):
            closure = closure_of(problem, part, optimizer, "clears" if part == 0 else "accumulates")
            if part < PARTS - 1:
                closure()
            else:
                optimizer.step(closure)
        assert isinstance(optimizer, SALR)
        reference.zero_grad()
        for part in range(PARTS):
            closure_of(whole, part, reference, "accumulates")()
        reference.param_groups[0]["lr"] = 0.3 * float(optimizer.lr_factor)
        reference.step()
        torch.testing.assert_close(problem.values(), whole.values(), rtol=1e-9, atol=1e-12)


def test_sam_adds_them_to_the_gradient_at_the_perturbed_parameters() -> None:
    problem, twin = Problem(noise=False), Problem(noise=False)
    optimizer, rho = SAM(SGD(problem.parameters, lr=0.3), rho=0.1), 0.1
    for part in range(PARTS - 1):
        closure_of(problem, part, optimizer, "accumulates")()
        closure_of(twin, part, None, "accumulates")()
    optimizer.step(closure_of(problem, PARTS - 1, optimizer, "returns the loss"))
    loss, start = closure_of(twin, PARTS - 1, None, "returns the loss"), twin.values()
    gradients = torch.autograd.grad(loss(), twin.parameters)
    norm = sum(gradient.square().sum() for gradient in gradients) ** 0.5
    with torch.no_grad():
        for parameter, gradient in zip(twin.parameters, gradients, strict=True):
            parameter += rho * gradient / norm
    loss().backward()
    with torch.no_grad():
        for parameter, value in zip(twin.parameters, start, strict=True):
            parameter.copy_(value)
    SGD(twin.parameters, lr=0.3).step()
    torch.testing.assert_close(problem.values(), twin.values(), rtol=1e-9, atol=1e-12)


def test_local_entropy_cannot_use_them_and_says_so_once() -> None:
    problem, untouched = Problem(noise=False), Problem(noise=False)
    optimizer, reference = build("local_entropy", problem), build("local_entropy", untouched)
    for iteration in range(2):
        optimizer.zero_grad()
        (100 * problem.loss()).backward()
        torch.manual_seed(iteration)
        if iteration == 0:
            with pytest.warns(UserWarning, match="LocalEntropy: gradients accumulated before step"):
                optimizer.step(problem.loss)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                optimizer.step(problem.loss)
        torch.manual_seed(iteration)
        reference.step(untouched.loss)
        assert same(problem.values(), untouched.values())


@every_method
def test_what_the_last_step_has_left_is_not_used_again(method: str) -> None:
    """A loop that never clears gradients is one that does."""
    ends = []
    for clears in (False, True):
        problem = Problem()
        optimizer = build(method, problem)
        torch.manual_seed(0)
        for _ in range(4):
            if clears:
                optimizer.zero_grad()
            optimizer.step(problem.loss, problem.advance)
        ends.append(problem.values())
    assert same(*ends)


class Skipping:
    """A closure that now and then has no loss, or one without a graph."""

    def __init__(self, problem: Problem, kind: str) -> None:
        self.problem, self.kind, self.step = problem, kind, 0

    def __call__(self) -> Tensor | None:
        if self.step % 3 == 1:
            if self.kind == "detached":
                with torch.no_grad():
                    return self.problem.loss()
            self.problem.loss()  # Lightning calls training_step, which then returns None
            return None
        return self.problem.loss()


@every_method
@pytest.mark.parametrize("kind", ["none", "detached"])
@pytest.mark.parametrize("base", ["sgd", "adam"])
@pytest.mark.filterwarnings("ignore:.*a plain step of the base has been taken:UserWarning")
def test_a_batch_without_a_loss_is_skipped(method: str, kind: str, base: str) -> None:
    """Parameters and the base's state stay, and buffers are as one forward pass leaves them."""
    problem = Problem()
    optimizer, closure = build(method, problem, base), Skipping(problem, kind)
    for step in range(6):
        closure.step = step
        before, state = problem.values(), optimizer.state_dict()["state"]
        batches = int(problem.model[1].num_batches_tracked)
        loss = optimizer.step(closure)  # type: ignore[arg-type]
        if step % 3 == 1:
            assert (loss is None) == (kind == "none")
            names = [name for name, _ in problem.model.named_parameters()]
            for name, value, old in zip(problem.model.state_dict(), problem.values(), before, strict=True):
                assert name not in names or torch.equal(value, old)
            assert int(problem.model[1].num_batches_tracked) == batches + 1
            torch.testing.assert_close(optimizer.state_dict()["state"], state, rtol=0, atol=0)


@every_method
def test_an_empty_closure_steps_with_the_gradients_that_are_there(method: str) -> None:
    """Lightning's manual optimization. What is then not the method's own step is said once."""
    problem, plain = Problem(noise=False), Problem(noise=False)
    optimizer, reference = build(method, problem), SGD(plain.parameters, lr=0.3)
    said = []
    for _ in range(3):
        optimizer.zero_grad()
        problem.loss().backward()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            optimizer.step(lambda: None)  # type: ignore[arg-type, return-value]
        said += [str(warning.message) for warning in caught]
        reference.param_groups[0]["lr"] = 0.3 * float(getattr(optimizer, "lr_factor", 1.0))
        reference.zero_grad()
        plain.loss().backward()
        reference.step()
        torch.testing.assert_close(problem.values(), plain.values(), rtol=1e-12, atol=0)
    if method == "salr, gradient norm":  # it measures the gradients that are there
        assert not said
        assert float(optimizer.lr_factor) != 1  # type: ignore[attr-defined]
    elif method.startswith(("salr,", "released")) or method == "salr":
        assert len(said) == 1
        assert "a measurement was due and has not been taken" in said[0]
    else:
        plain_steps = [
            text
            for text in said
            if "a plain step of the base has been taken, for the closure returned None" in text
        ]
        assert len(plain_steps) == 1


def test_a_method_that_needs_a_closure_says_so_and_what_to_do() -> None:
    problem = Problem()
    problem.loss().backward()
    for optimizer, advice in (
        (LocalEntropy(SGD(problem.parameters, lr=1.0)), r"define closure\(\).*optimizer\.step\(closure\)"),
        (SAM(SGD(problem.parameters, lr=1.0)), r"first_step\(\) and second_step\(\)"),
    ):
        with pytest.raises(TypeError, match=advice):
            optimizer.step()


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("clears", ["zero_grad", "arguments"])
def test_sam_in_two_phases_is_sam_with_a_closure(adaptive: bool, clears: str) -> None:
    """Parameters, BatchNorm's statistics, dropout masks and generators."""
    by_closure, by_phases = Problem(), Problem()
    one = SAM(Adam(by_closure.parameters, lr=0.02), 0.1, adaptive)
    two = SAM(Adam(by_phases.parameters, lr=0.02), 0.1, adaptive)
    torch.manual_seed(1)
    noise = []
    for _ in range(5):
        one.step(by_closure.loss)
        by_closure.advance()
        noise.append(torch.rand(()))  # as a data loader draws
    torch.manual_seed(1)
    for step in range(5):
        two.zero_grad()
        by_phases.loss().backward()
        two.first_step(zero_grad=clears == "arguments")
        if clears == "zero_grad":
            two.zero_grad()
        by_phases.loss().backward()
        two.second_step(zero_grad=clears == "arguments")
        by_phases.advance()
        assert torch.rand(()) == noise[step]
    torch.testing.assert_close(by_phases.values(), by_closure.values(), rtol=0, atol=0)


def test_sam_in_two_phases_goes_on_after_a_second_pass_that_failed() -> None:
    problem, reference = Problem(), Problem()
    optimizer, other = (SAM(SGD(each.parameters, lr=0.1)) for each in (problem, reference))
    before = problem.values()
    reference.loss()  # the first pass's statistics stay
    problem.loss().backward()
    optimizer.first_step()
    after_first_pass = problem.values()
    assert not same(after_first_pass, before)  # and then the second pass fails
    optimizer.zero_grad()
    for _ in range(2):
        torch.manual_seed(0)
        optimizer.step(problem.loss)
        torch.manual_seed(0)
        other.step(reference.loss)
    assert same(problem.values(), reference.values())


def test_sam_in_two_phases_says_what_is_out_of_order() -> None:
    optimizer = SAM(SGD(Problem().parameters, lr=0.1))
    with pytest.raises(RuntimeError, match=r"found no gradient; call loss\.backward\(\)"):
        optimizer.first_step()
    with pytest.raises(RuntimeError, match=r"second_step\(\) follows first_step\(\)"):
        optimizer.second_step()
    table = nn.Embedding(3, 2, sparse=True)
    sparse = SAM(SGD(table.parameters(), lr=0.1))
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match=r"expected dense ones \(for an embedding: sparse=False\)"):
        sparse.first_step()


@pytest.mark.parametrize("method", ["salr, gradient norm", "sam", "local_entropy"])
def test_gradients_that_are_zeroed_in_place_are_not_accumulated_ones(method: str) -> None:
    ends, counts = [], []
    for zeroed in (False, True):
        problem, backward = Problem(noise=False), []
        problem.parameters[0].register_hook(lambda _, backward=backward: backward.append(1))
        optimizer = build(method, problem)
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(4):
                if zeroed:
                    optimizer.zero_grad(set_to_none=False)
                optimizer.step(problem.loss, problem.advance)
                problem.advance()
        ends.append(problem.values())
        counts.append(len(backward))
    assert same(*ends)
    assert counts[0] == counts[1]


@first_step_is_plain
def test_accumulation_on_what_the_last_step_has_left_is_named(method: str) -> None:
    """A plain optimizer adds to it in silence."""
    problem = Problem(noise=False)
    optimizer = build(method, problem)
    for clears in (True, True, False, False):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            problem.loss().backward()
            optimizer.step(problem.loss)
        if clears:
            optimizer.zero_grad()
            assert not seen
    assert len(seen) == 1
    assert "count as accumulated, with what was left; call optimizer.zero_grad()" in str(seen[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problem.loss().backward()
        optimizer.step(problem.loss)


@every_method
def test_a_loss_that_reaches_no_parameter_is_a_plain_step(method: str) -> None:
    problem, elsewhere = Problem(noise=False), torch.ones(2, requires_grad=True)
    optimizer, before = build(method, problem), problem.values()
    loss = optimizer.step(lambda: elsewhere.square().sum())
    assert float(loss) == 2
    assert same(problem.values(), before)
    assert all(parameter.grad is None for parameter in problem.parameters)
    problem.train(optimizer, 2)
    assert not same(problem.values(), before)
