"""Cells that are composed together are those that are composed one by one."""

import pytest

from experiments.schema import ConfigError, load
from experiments.schema.compose import Choices, load_all

CELLS: list[Choices] = [
    ("digits", "mnistfc", "sgd"),
    ("mnist", "lenet", "entropy_sgd_salr"),
    ("cifar100", "resnet56", "sgd"),
    ("cifar10", "resnet56", "sgd"),
    ("cifar10", "resnet44", "ada_smoothout"),
    ("ptb", "lstm_ptb", "swa"),
    ("war_and_peace", "lstm_char", "adam_salr"),
    ("war_and_peace", "lstm_char", "adam"),
]


@pytest.mark.parametrize(
    "shared",
    [
        ["seeds=3", "trainer.precision=bf16", "results=~/x"],
        [
            "optimizer.base.lr=0.5",
            "optimizer.base.weight_decay=${dataset.recipe.sgd_lr}",
            "dataset.batch_size=7",
        ],
        ["optimizer.base={lr:0.5,weight_decay:0.1}", "dataset.root=a=b, c"],
        ["tracker=wandb", "tracker.project=x"],
    ],
)
def test_they_are_the_same(shared: list[str]) -> None:
    for cell, config in zip(CELLS, load_all(CELLS, shared), strict=True):
        dataset, model, optimizer = cell
        assert config == load([f"dataset={dataset}", f"model={model}", f"optimizer={optimizer}", *shared])


def test_no_cells_are_none() -> None:
    assert load_all([], ["seeds=3"]) == []


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["trainer.epochs=0"], "trainer.epochs = 0"),
        (["optimizer.salr.gamma=1"], "no optimizer.salr part"),
        (["optimizer.base.lr=high"], "optimizer.base.lr: Value 'high'"),
        (["optimizer.x=1"], "optimizer has no 'x'"),
    ],
)
def test_they_are_refused_as_one_is(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_all(CELLS, overrides)


def test_milestones_are_checked_in_each_cell() -> None:
    cells = [("mnist", "lenet", "sgd"), ("cifar10", "resnet44", "ada_smoothout")]
    with pytest.raises(ConfigError, match="every=3: unused"):
        load_all(cells, ["optimizer.schedule.every=3"])
