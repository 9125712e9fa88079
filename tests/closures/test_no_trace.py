"""What all measures owe their caller.

Nothing is left behind, whatever the closure is and even when it fails.
"""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from salr.sharpness import (
    AscentDescent,
    DirectionalCurvature,
    GradientNorm,
    ReleasedMeasure,
    SAMSharpness,
    TopEigenvalue,
    ball_sharpness,
    box_sharpness,
    filter_normalised_direction,
    hessian_eigenvalues,
    hessian_trace,
    loss_surface,
)
from tests.helpers.devices import random_state

pytestmark = pytest.mark.usefixtures("default_device")

Closure = Callable[[], Tensor]


def surface(closure: Closure, parameters: list[Tensor]) -> Tensor:
    directions = [filter_normalised_direction(parameters)]
    return torch.tensor([loss for _, loss in loss_surface(closure, parameters, directions, [[-1, 0, 1]])])


FIRST_ORDER = {
    "ball": lambda closure, parameters: ball_sharpness(closure, parameters, 0.1, steps=3),
    "ball, one-sided": lambda closure, parameters: ball_sharpness(
        closure, parameters, 0.1, two_sided=False, steps=3
    ),
    "box": lambda closure, parameters: box_sharpness(closure, parameters, iterations=3),
    "sam": SAMSharpness(),
    "ascent and descent": AscentDescent(),
    "gradient norm": GradientNorm(),
    "curvature": DirectionalCurvature(),
    "released": ReleasedMeasure(),
    "top eigenvalue": lambda closure, parameters: TopEigenvalue()(closure, parameters),
    "surface": surface,
}
SECOND_ORDER = {
    "eigenvalues": lambda closure, parameters: hessian_eigenvalues(
        closure, parameters, iterations=40, tolerance=0.1
    ),
    "trace": lambda closure, parameters: torch.tensor(hessian_trace(closure, parameters, samples=3)),
}
ALL = FIRST_ORDER | SECOND_ORDER


class Case:
    """A network with everything that can be left changed, and closures of each kind."""

    def __init__(self, training: bool) -> None:
        self.model = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(27, 4)
        )
        self.inputs, self.targets = torch.randn(16, 1, 5, 5), torch.randint(4, (16,))
        self.loss().backward()  # running statistics and gradients with values of their own
        self.model.train(training)
        self.model[4].train(not training)
        self.model[0].bias.requires_grad_(False)
        # The last layer is measured by nobody, but the closure's backward reaches it.
        self.measured = list(self.model[0].parameters()) + list(self.model[1].parameters())
        self.failing_call = 0

    def loss(self) -> Tensor:
        return nn.functional.cross_entropy(self.model(self.inputs), self.targets)

    def with_backward(self) -> Tensor:
        self.model.zero_grad()
        loss = self.loss()
        loss.backward()
        return loss

    def fails_at_last(self) -> Tensor:
        self.failing_call -= 1
        if self.failing_call == 0:
            raise RuntimeError("out of memory")
        return self.loss()

    def state(self) -> list[Tensor]:
        gradients = [parameter.grad for parameter in self.model.parameters()]
        values = [*self.model.state_dict().values(), *gradients, random_state()]
        modes = torch.tensor([module.training for module in self.model.modules()])
        return [value.clone() for value in values if value is not None] + [modes]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("measure", ALL)
def test_no_trace(measure: str, training: bool) -> None:
    case = Case(training)
    before, gradients = case.state(), [parameter.grad for parameter in case.model.parameters()]
    first = ALL[measure](case.loss, case.measured)
    assert all(torch.equal(a, b) for a, b in zip(before, case.state(), strict=True))
    assert all(
        parameter.grad is gradient
        for parameter, gradient in zip(case.model.parameters(), gradients, strict=True)
    )
    # All evaluations see the same masks, so that the result is a number, not a sample.
    assert first.isfinite().all()
    assert torch.equal(ALL[measure](case.loss, case.measured), first)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("measure", ALL)
def test_no_trace_of_a_forward_pass_that_changes_parameters(measure: str, fails: bool) -> None:
    """An embedding with ``max_norm`` shortens its weights in the forward pass."""
    embedding = nn.Embedding(5, 3, max_norm=1)
    nn.init.normal_(embedding.weight, std=3)
    before = embedding.weight.detach().clone()
    indices = torch.arange(5)

    def loss() -> Tensor:
        result = embedding(indices).exp().sum()
        if fails:
            raise RuntimeError("out of memory")
        return result

    with pytest.raises(RuntimeError, match="out of memory") if fails else nullcontext():
        ALL[measure](loss, [embedding.weight])
    assert torch.equal(embedding.weight, before)


@pytest.mark.parametrize("measure", ["gradient norm", *SECOND_ORDER])
def test_a_graph_from_before_stays_usable(measure: str) -> None:
    """These measures do not move the parameters."""
    case = Case(training=False)
    loss = case.loss()
    ALL[measure](case.loss, case.measured)
    loss.backward()


@pytest.mark.parametrize("measure", FIRST_ORDER)
def test_a_closure_may_call_backward_itself(measure: str) -> None:
    case = Case(training=True)
    case.model.zero_grad()
    before = case.state()
    expected = FIRST_ORDER[measure](case.loss, case.measured)
    torch.testing.assert_close(FIRST_ORDER[measure](case.with_backward, case.measured), expected)
    assert all(torch.equal(a, b) for a, b in zip(before, case.state(), strict=True))
    assert all(parameter.grad is None for parameter in case.model.parameters())


@pytest.mark.parametrize("measure", ALL)
@pytest.mark.parametrize("failing_call", [1, 2])
def test_no_trace_of_a_measurement_that_fails(measure: str, failing_call: int) -> None:
    if (measure, failing_call) == ("gradient norm", 2):
        pytest.skip("it evaluates once")
    case = Case(training=True)
    case.failing_call = failing_call
    before = case.state()
    with pytest.raises(RuntimeError, match="out of memory"):
        ALL[measure](case.fails_at_last, case.measured)
    assert all(torch.equal(a, b) for a, b in zip(before, case.state(), strict=True))


@pytest.mark.parametrize("measure", FIRST_ORDER)
def test_nothing_to_measure_is_said(measure: str) -> None:
    point = torch.ones(1, requires_grad=True)
    with pytest.raises(
        ValueError, match=r"\Ano parameter requires a gradient; expected at least one that does\Z"
    ):
        FIRST_ORDER[measure](lambda: point.sum(), [point.detach()])


@pytest.mark.parametrize("name", ALL)
def test_a_loss_that_reaches_no_parameter_is_refused(name: str) -> None:
    """The parameters of a copy, for example: a sharpness of 0 would look like a flat minimum."""
    x, others = torch.ones(2, requires_grad=True), [torch.ones(2, requires_grad=True)]
    with pytest.raises(ValueError, match=r"depends on none of the parameters; expected"):
        ALL[name](lambda: x.square().sum(), others)


@pytest.mark.parametrize("name", ALL)
def test_what_are_no_parameters_is_refused(name: str) -> None:
    model = nn.Linear(2, 1)
    for wrong, kind in (
        (model.weight, "Parameter"),
        (model, "Linear"),
        (model.named_parameters(), "an iterable of tuple"),
    ):
        with pytest.raises(TypeError, match=rf"parameters is {kind}; expected tensors, as in"):
            ALL[name](lambda: model.weight.square().sum(), wrong)
