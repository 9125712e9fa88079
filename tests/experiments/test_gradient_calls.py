"""Each configuration says how many gradients its iteration takes, which decides its epochs: counted on a network."""

from typing import Any

import pytest

from experiments.build import build_optimizer
from experiments.schema.compose import choices, load
from experiments.schema.optimizer import (
    BaseConfig,
    BaseName,
    LocalEntropyConfig,
    OptimizerConfig,
    ReleasedSALRConfig,
    SALRConfig,
    SAMConfig,
    SmoothOutConfig,
    batches,
    check_optimizer,
    gradient_calls,
)
from salr.closures import Evaluation
from salr.optim import Wrapper
from tests.helpers.optim import Problem

ITERATIONS = 4  # two cycles of the paper's interval
PARTS: dict[str, dict[str, Any]] = {
    "salr, descent alone": {"salr": SALRConfig(ascent_steps=0)},
    "salr, one step each": {"salr": SALRConfig(descent_steps=1, ascent_steps=1, interval=1)},
    "salr, rarely": {"salr": SALRConfig(descent_steps=2, ascent_steps=3, interval=4)},
    "salr, sam": {"salr": SALRConfig(), "sam": SAMConfig()},
    "salr, smoothout": {"salr": SALRConfig(), "smoothout": SmoothOutConfig(radius=0.01)},
    "released, descent alone": {"released": ReleasedSALRConfig(ascent_steps=0)},
    "released, smoothout": {"released": ReleasedSALRConfig(), "smoothout": SmoothOutConfig(radius=0.01)},
    "released, local entropy": {
        "released": ReleasedSALRConfig(),
        "local_entropy": LocalEntropyConfig(steps=2),
    },
}


@pytest.mark.parametrize("name", choices("optimizer"))
def test_each_configuration_takes_as_many_gradients_as_it_states(name: str) -> None:
    count(load([f"optimizer={name}"]).optimizer)


@pytest.mark.parametrize("name", PARTS)
def test_parts_put_together_take_as_many_gradients_as_stated(name: str) -> None:
    config = OptimizerConfig(name=name, base=BaseConfig(name=BaseName.sgd, lr=0.1), **PARTS[name])
    check_optimizer(config)
    count(config)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"smoothout": SmoothOutConfig(radius=0.1), "sam": SAMConfig()},
            r"smoothout \+ sam; expected at most one of smoothout, sam",
        ),
        (
            {"sam": SAMConfig(), "local_entropy": LocalEntropyConfig()},
            r"sam \+ local_entropy; expected at most one",
        ),
        (
            {"salr": SALRConfig(), "released": ReleasedSALRConfig()},
            r"salr \+ released; expected at most one of salr, released",
        ),
        (
            {"released": ReleasedSALRConfig(descent_steps=0)},
            "released.descent_steps = 0; expected a whole number >= 1",
        ),
    ],
)
def test_parts_that_cannot_be_put_together(parts: dict[str, Any], message: str) -> None:
    config = OptimizerConfig(name="mine", base=BaseConfig(name=BaseName.sgd, lr=0.1), **parts)
    with pytest.raises(ValueError, match=message):
        check_optimizer(config)


def count(config: OptimizerConfig) -> None:
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
