"""The gradient calls that a configuration states, which decide its epochs, are those that are counted."""

from dataclasses import replace
from typing import Any

import pytest

from experiments.build import build_optimizer
from experiments.schema import load
from experiments.schema.optimizer import (
    BaseConfig,
    BaseName,
    OptimizerConfig,
    SAMConfig,
    SmoothOutConfig,
    check_optimizer,
)
from experiments.schema.overrides import choices
from salr.closures import Evaluation
from salr.optim import Wrapper
from tests.helpers.optim import Problem

ITERATIONS = 4  # two cycles of the paper's interval
PAPER = {
    name: getattr(load([f"optimizer={choice}"]).optimizer, name)
    for name, choice in (
        ("salr", "sgd_salr"),
        ("released", "sgd_salr_released"),
        ("local_entropy", "entropy_sgd"),
    )
}
SAM = SAMConfig(rho=0.05, adaptive=False)
SMOOTHOUT = SmoothOutConfig(radius=0.01, adaptive=False)


def part(name: str, **changes: Any) -> dict[str, Any]:
    """Return a part with the paper's values, but for the changes."""
    return {name: replace(PAPER[name], **changes)}


PARTS: dict[str, dict[str, Any]] = {
    "salr, descent alone": {**part("salr", ascent_steps=0)},
    "salr, one step each": {**part("salr", descent_steps=1, ascent_steps=1, interval=1)},
    "salr, rarely": {**part("salr", descent_steps=2, ascent_steps=3, interval=4)},
    "salr, sam": {**part("salr"), "sam": SAM},
    "salr, smoothout": {**part("salr"), "smoothout": SMOOTHOUT},
    "released, descent alone": {**part("released", ascent_steps=0)},
    "released, smoothout": {**part("released"), "smoothout": SMOOTHOUT},
    "released, local entropy": {
        **part("released"),
        **part("local_entropy", steps=2),
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
            {"smoothout": SMOOTHOUT, "sam": SAM},
            r"smoothout \+ sam; expected at most one of smoothout, sam",
        ),
        (
            {"sam": SAM, **part("local_entropy")},
            r"sam \+ local_entropy; expected at most one",
        ),
        (
            {**part("salr"), **part("released")},
            r"salr \+ released; expected at most one of salr, released",
        ),
        (
            {**part("released", descent_steps=0)},
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
    assert len(backward) == ITERATIONS * config.gradient_calls
    assert problem.place == ITERATIONS * config.batches
