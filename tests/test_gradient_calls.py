"""Each configuration says how many gradients its iteration takes, which decides its epochs: counted on a network."""

import pytest
from optim_helpers import Problem

from configs.build import build_optimizer
from configs.compose import choices, load
from configs.schema.optimizer import batches, gradient_calls
from salr.optim import Wrapper
from salr.sharpness import Evaluation

ITERATIONS = 4  # two cycles of the paper's interval


@pytest.mark.parametrize("name", choices("optimizer"))
def test_as_many_backward_calls_as_stated(name: str) -> None:
    config = load([f"optimizer={name}"]).optimizer
    problem, backward = Problem(), []
    problem.parameters[0].register_hook(lambda _: backward.append(1))
    optimizer = build_optimizer(config, problem.model.parameters())
    for _ in range(ITERATIONS):
        if isinstance(optimizer, Wrapper):
            optimizer.step(problem.loss, problem.advance)
        else:
            optimizer.step(Evaluation(problem.loss, problem.parameters))
        problem.advance()
    assert len(backward) == ITERATIONS * gradient_calls(config)
    assert problem.place == ITERATIONS * batches(config)
