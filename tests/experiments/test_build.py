"""What a configuration asks for reaches the optimizer, the task, the schedule and the average."""

import math
from functools import cache
from typing import Any

import pytest
import torch

from experiments.build import build_optimizer, build_parts, load_data
from experiments.schema import load
from salr.training import Parts

CPU = torch.device("cpu")


@cache
def digits() -> Any:
    return load_data(load([]), CPU)


def parts(*words: str) -> Parts:
    return build_parts(load(["model=lenet", *words]), 0, digits(), CPU)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("optimizer=sgd", "optimizer.base.momentum=0.8", "optimizer.base.weight_decay=0.01"),
            {"momentum": 0.8, "weight_decay": 0.01},
        ),
        (
            ("optimizer=adam", "optimizer.base.betas=[0.7,0.8]", "optimizer.base.weight_decay=0.01"),
            {"betas": (0.7, 0.8), "weight_decay": 0.01},
        ),
    ],
    ids=["sgd", "adam"],
)
def test_options_of_the_base_reach_torch(words: tuple[str, ...], expected: dict[str, object]) -> None:
    config = load([*words, "optimizer.base.lr=0.125"]).optimizer
    (group,) = build_optimizer(config, [torch.zeros(2, requires_grad=True)]).param_groups
    assert {name: group[name] for name in ("lr", *expected)} == {"lr": 0.125, **expected}


def test_options_of_salr_reach_it() -> None:
    words = ("interval=3", "shared_noise=false", "max_factor=2.5", "gamma=0.004", "ascent_steps=2")
    config = load(["optimizer=sgd_salr", *(f"optimizer.salr.{word}" for word in words)]).optimizer
    optimizer: Any = build_optimizer(config, [torch.zeros(2, requires_grad=True)])
    measure = optimizer.sharpness_measure
    assert (optimizer.interval, optimizer.shared_noise, optimizer.max_factor) == (3, False, 2.5)
    assert (measure.gamma, measure.ascent_steps) == (0.004, 2)


def test_the_schedule_and_the_average_begin_where_the_configuration_says() -> None:
    words = ("trainer.epochs=10", "optimizer.averaging.start=0.75", "optimizer.base.lr=0.1")
    built = parts(
        "optimizer=swa", *words, "optimizer.averaging.lr_start=0.05", "optimizer.averaging.lr_end=0.001"
    )
    assert built.average is not None
    assert built.average_from == math.floor(0.75 * 10) == 7
    assert built.schedule(7, 0.0) == pytest.approx(0.5)


def test_milestones_decay_the_rate() -> None:
    words = ("optimizer.schedule.milestones=[2,4]", "optimizer.schedule.factor=0.1", "trainer.epochs=6")
    schedule = parts("optimizer=sgd", *words).schedule
    assert [schedule(epoch, 0.0) for epoch in range(6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_precision_and_clipping_reach_the_task() -> None:
    task = parts("optimizer=sgd", "trainer.precision=bf16", "dataset.recipe.clip_norm=0.5").task
    assert task.bf16
    parameter = torch.zeros(2, requires_grad=True)
    parameter.grad = torch.tensor([3.0, 4.0])
    assert task.clip is not None
    task.clip([parameter])
    assert torch.linalg.vector_norm(parameter.grad) == pytest.approx(0.5, rel=1e-4)
