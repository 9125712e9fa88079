"""The whole configuration of a cell, and what makes it the same cell."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, ListConfig

from . import dataset, model
from .checks import at_least, expect
from .dataset import DatasetConfig, ImageDatasetConfig, check_dataset, check_schedule
from .model import ModelConfig, check_model
from .optimizer import OptimizerConfig, check_optimizer, gradient_calls
from .trainer import TrackerConfig, TrainerConfig, check_trainer

MOST_SEEDS = 1_000_000  # far more than anybody trains, and a list of them is still made at once


@dataclass
class Config:
    dataset: DatasetConfig = MISSING
    model: ModelConfig = MISSING
    optimizer: OptimizerConfig = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    experiment: str | None = None  # a name that groups runs of a table
    cells: Any = None  # an experiment's: products of data set, network and optimizer choices
    cell: int | None = None  # which of them alone
    preset: str = "paper"  # or short or smoke: how much of an experiment's budget
    seeds: Any = 1  # how many, or which: 30, or [0, 3, 7]
    results: str = "results"


def register() -> None:
    """Makes the types known to Hydra; the files of ``configs/`` are merged into them."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    dataset.register(store)
    model.register(store)


def seeds_of(config: Config) -> list[int]:
    """Raises ValueError where ``seeds`` is neither a count nor a list of different seeds."""
    seeds = config.seeds
    expected = "how many (seeds=30) or which (seeds=[0,3,7])"
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        expect(1 <= seeds <= MOST_SEEDS, "seeds", seeds, f"{expected}, at least one and at most {MOST_SEEDS}")
        return list(range(seeds))
    expect(isinstance(seeds, list | ListConfig), "seeds", seeds, expected)
    chosen = list(seeds)
    expect(len(chosen) > 0, "seeds", chosen, f"{expected}, at least one")
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in chosen)
    expect(whole, "seeds", chosen, "whole numbers >= 0")
    expect(len(set(chosen)) == len(chosen), "seeds", chosen, "each seed once")
    return chosen


def epochs(config: Config) -> int:
    """The budget: the data set's epochs over the optimizer's gradient calls, unless ``trainer.epochs`` says otherwise."""
    if config.trainer.epochs is not None:
        return config.trainer.epochs
    divisor = config.optimizer.budget_divisor or gradient_calls(config.optimizer)
    return max(1, round(config.dataset.budget / divisor))


def check(config: Config) -> None:
    """Raises ValueError with one line where a value is impossible or parts do not fit."""
    seeds_of(config)
    expect(config.results != "", "results", "''", "a folder for the records")
    alone = config.cells is not None or (config.cell is None and config.preset == "paper")
    expect(alone, "cell or preset", "set", "experiment=... with it, for they choose among an experiment's cells")
    check_dataset(config.dataset)
    check_model(config.model)
    check_optimizer(config.optimizer)
    if config.optimizer.schedule is not None:
        check_schedule("optimizer.schedule", config.optimizer.schedule)
    check_trainer(config.trainer)
    at_least("the budget in epochs", epochs(config), 1)
    pair = f"model={config.model.name} on dataset={config.dataset.name}"
    if config.model.inputs != config.dataset.inputs:
        takes, gives = config.model.inputs, config.dataset.inputs
        raise ValueError(f"{pair}: the network takes {takes} inputs, the data set has {gives} inputs; expected the same")
    channels = config.model.channels
    if channels is not None and isinstance(config.dataset, ImageDatasetConfig) and config.dataset.channels not in channels:
        known = " or ".join(map(str, channels))
        raise ValueError(f"{pair}: the images have {config.dataset.channels} channels; expected {known} for this network")


def key_of(plain: dict[str, Any], number_of_epochs: int) -> dict[str, Any]:
    """What of a resolved configuration decides a run's numbers: no paths, logging or device, and not which seeds run beside it.

    The recipe's rates and the budget are left out since the optimizer's rates and the epochs, which they decide, are in.
    Nulls are left out too, so that an option added to the project later leaves the runs without it what they were.
    """
    dataset, optimizer, trainer = dict(plain["dataset"]), dict(plain["optimizer"]), plain["trainer"]
    recipe = {name: value for name, value in dataset.pop("recipe").items() if name not in ("sgd_lr", "adam_lr", "schedule")}
    for name in ("root", "budget"):
        del dataset[name]
    del optimizer["budget_divisor"]
    numerics = {name: trainer[name] for name in ("precision", "recompute_batch_statistics")}
    parts = {"dataset": dataset, "recipe": recipe, "model": plain["model"], "optimizer": optimizer, "trainer": numerics}
    return {**_without_nulls(parts), "epochs": number_of_epochs}


def _without_nulls(mapping: dict[str, Any]) -> dict[str, Any]:
    """Deep."""
    items = ((name, _without_nulls(value) if isinstance(value, dict) else value) for name, value in mapping.items())
    return {name: value for name, value in items if value is not None}
