"""Compiled networks: the same run as uncompiled ones, buffers included, and compiled once."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from tests.helpers.optim import Problem, build

CASES = [
    # way, method, whether the closure calls backward itself
    ("module", "salr", False),
    ("module", "salr", True),
    ("in place", "salr", False),
    ("function", "salr", True),
    ("function", "sam", True),
    ("function", "smoothout", False),
    ("function", "local_entropy", False),
]


def compiled_loss(problem: Problem, way: str) -> Callable[[], Tensor]:
    inputs, targets = problem.batches[0]
    model: Callable[[Tensor], Tensor] = problem.model
    if way == "module":
        model = torch.compile(problem.model, backend="aot_eager")
    elif way == "in place":
        problem.model.compile(backend="aot_eager")

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(x), y)

    call = torch.compile(loss, backend="aot_eager") if way == "function" else loss
    return lambda: call(inputs, targets)


def problem() -> Problem:
    made = Problem()
    made.model[3].p = 0.0  # the compiler may draw masks in another order
    return made


@pytest.mark.parametrize(("way", "method", "calls_backward"), CASES)
def test_a_compiled_network_trains_alike(way: str, method: str, calls_backward: bool) -> None:
    torch._dynamo.reset()
    counters.clear()
    plain, compiled = problem(), problem()
    torch.manual_seed(0)
    optimizer = build(method, plain)
    for _ in range(8):
        optimizer.step(plain.loss)
    torch.manual_seed(0)
    optimizer, loss = build(method, compiled), compiled_loss(compiled, way)

    def closure() -> Tensor:
        value = loss()
        if calls_backward:
            value.backward()
        return value

    graphs = []
    for _ in range(8):
        optimizer.step(closure)
        graphs.append(counters["stats"]["unique_graphs"])
    torch.testing.assert_close(compiled.values(), plain.values())
    assert graphs[3:] == [graphs[3]] * 5
    if way == "in place" and torch.__version__ < (2, 7):
        return  # there Module.compile() leaves an nn.Sequential uncompiled
    assert 1 <= graphs[3] <= 2  # with and without a gradient


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_network_keeps_its_buffers() -> None:
    plain, scripted = problem(), problem()
    scripted.model = torch.jit.script(scripted.model)
    for each in (plain, scripted):
        torch.manual_seed(0)
        each.train(build("salr", each), 3)
    torch.testing.assert_close(scripted.values(), plain.values())
