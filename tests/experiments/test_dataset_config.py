"""The ``dataset`` group: every data set has its file, and impossible values are refused before loading."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

import data
from experiments.schema.compose import choices
from experiments.schema.dataset import ImageDatasetConfig, TextDatasetConfig, check_dataset
from tests.helpers.data import configuration, load


def test_every_data_set_has_a_configuration() -> None:
    assert sorted(data.names()) == choices("dataset")
    for name in data.names():
        assert configuration(name).name == name


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("digits", "batch_size", 0, "dataset.batch_size = 0; expected a whole number >= 1"),
        ("digits", "batch_size", 1438, "expected 1 to 1437, the number of training images"),
        ("mnist", "name", "../mnist", "dataset.name = ../mnist; expected one of cifar10"),
        ("mnist", "inputs", "tokens", "dataset.inputs = tokens; expected image"),
        ("cifar10", "budget", 0, "dataset.budget = 0"),
        ("ptb", "sequence_length", 0, "dataset.sequence_length = 0"),
        ("ptb", "sequence_length", 929_589, "expected below the 929589 training tokens"),
        ("ptb", "batch_size", 25_822, "expected 1 to 25821 streams of 35"),
        ("ptb", "recipe.clip_norm", 0.0, "dataset.recipe.clip_norm = 0.0"),
        ("pydoc", "recipe.adam_lr", -1.0, "dataset.recipe.adam_lr = -1.0"),
        ("pydoc", "recipe.schedule.factor", math.inf, "dataset.recipe.schedule.factor = inf"),
        ("pydoc", "recipe.schedule.start", -1, "dataset.recipe.schedule.start = -1"),
        ("digits", "recipe.sum_steps", True, "dataset.recipe.sum_steps = True; expected false for images"),
        ("pydoc", "recipe.schedule.every", 0, "dataset.recipe.schedule.every = 0"),
    ],
)
def test_impossible_configurations_are_refused(name: str, key: str, value: object, message: str) -> None:
    config = configuration(name)
    *path, last = key.split(".")
    part: object = config
    for step in path:
        part = getattr(part, step)
    setattr(part, last, value)
    with pytest.raises(ValueError) as refused:
        check_dataset(config)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_limits_of_a_configuration_are_those_of_loading() -> None:
    """The check and the loading accept the same batch sizes, here at the largest one, for images and text."""
    for name, most in (("digits", 1294), ("pydoc", 6274)):
        config = configuration(name)
        if isinstance(config, ImageDatasetConfig):
            config.validation = True
        assert isinstance(config, ImageDatasetConfig | TextDatasetConfig)
        config.batch_size = most
        check_dataset(config)
        assert load(name, Path("unused"), **config.load_options()).iterations == config.iterations == 1
        config.batch_size = most + 1
        with pytest.raises(ValueError):
            check_dataset(config)
        with pytest.raises(ValueError):
            load(name, Path("unused"), **config.load_options())


def test_the_recipes_are_those_of_the_notes() -> None:
    for name in data.names():
        recipe = configuration(name).recipe
        assert recipe.sum_steps == (name == "ptb")
        assert recipe.clip_norm == (10 if name == "ptb" else None)
        assert recipe.clip_value == (5 if name in ("war_and_peace", "pydoc") else None)
    ptb, characters, images = (configuration(name).recipe for name in ("ptb", "war_and_peace", "cifar10"))
    assert (ptb.sgd_lr, ptb.schedule.start, ptb.schedule.every) == (1, 15, 1)
    assert ptb.schedule.factor == 1 / 1.15
    assert characters.adam_lr == 2e-3
    assert (characters.schedule.start, characters.schedule.every, characters.schedule.factor) == (5, 5, 0.5)
    assert (images.sgd_lr, images.adam_lr) == (0.01, 0.01)
    assert (images.schedule.start, images.schedule.every, images.schedule.factor) == (30, 30, 0.1)
    budgets = {"mnist": 100, "cifar10": 200, "cifar100": 200, "ptb": 55, "war_and_peace": 50}
    assert {name: configuration(name).budget for name in budgets} == budgets


def test_the_schema_does_not_load_torch() -> None:
    code = "import experiments.schema.dataset, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)
