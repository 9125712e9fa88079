"""accelerate prepares a wrapper as it prepares any optimizer."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from salr.optim import SALR
from salr.sharpness import AscentDescent
from tests.helpers.optim import METHODS, Problem, build, same
from tests.helpers.plain_loop import PlainSALR

accelerate = pytest.importorskip("accelerate", reason="needs the extra `clients`")


def batch_loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(inputs), targets)


@pytest.mark.parametrize("window", [1, 2])
def test_a_prepared_optimizer(window: int) -> None:
    """With accumulation the first micro-batch of a due iteration is measured."""
    problem, plain = Problem(), Problem()
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=window)
    optimizer = SALR(SGD(problem.parameters, lr=0.1, momentum=0.9), AscentDescent(gamma=0.02))
    model, prepared = accelerator.prepare(problem.model, optimizer)
    torch.manual_seed(5)
    for inputs, targets in problem.batches * 6:
        with accelerator.accumulate(model):
            optimizer.measure(lambda x=inputs, y=targets: batch_loss(model, x, y))
            accelerator.backward(batch_loss(model, inputs, targets))
            prepared.step()
            prepared.zero_grad()
    base = SGD(plain.parameters, lr=0.1, momentum=0.9)
    twin = PlainSALR(base)
    torch.manual_seed(5)
    for index, (inputs, targets) in enumerate(plain.batches * 6):
        if index % window == 0:
            twin.measure(plain.model, lambda model, x=inputs, y=targets: batch_loss(model, x, y))
        (batch_loss(plain.model, inputs, targets) / window).backward()
        if (index + 1) % window == 0:
            twin.step()
            base.zero_grad()
    torch.testing.assert_close(problem.values(), plain.values(), rtol=1e-9, atol=1e-11)
    assert abs(twin.factor - 1) > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_a_closure_through_the_prepared_optimizer_is_one_to_the_optimizer(method: str) -> None:
    """Preparing passes the state through state_dict and load_state_dict; the methods have twins elsewhere."""
    ends = []
    for prepare in (False, True):
        problem = Problem()
        optimizer = build(method, problem)
        if prepare:
            _, optimizer = accelerate.Accelerator(cpu=True).prepare(problem.model, optimizer)
        torch.manual_seed(5)
        for _ in range(4):
            optimizer.step(problem.loss)
            problem.advance()
        ends.append(problem.values())
    assert same(*ends)
