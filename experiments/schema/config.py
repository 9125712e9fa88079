"""The configuration of a cell, and what makes two configurations the same cell."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, ListConfig

from experiments.schema import dataset, model
from experiments.schema.dataset import DatasetConfig, ImageDatasetConfig, check_dataset
from experiments.schema.model import ModelConfig, check_images, check_model, with_inputs
from experiments.schema.optimizer import OptimizerConfig, check_optimizer
from experiments.schema.trainer import TrackerConfig, TrainerConfig, check_trainer
from salr.checks import check_count, expect

MOST_SEEDS = 1_000_000  # far more than anybody trains, and few enough to list at once

RETIRED = ("experiment", "cells", "cell", "preset")
"""Keys that configurations once had, as dotted paths. They are ignored in old records."""


@dataclass
class Config:
    """A cell (data set, network, optimizer, budget, overrides) and the seeds to train it with."""

    dataset: DatasetConfig = MISSING
    model: ModelConfig = MISSING
    optimizer: OptimizerConfig = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    seeds: Any = 1  # how many (30) or which ([0, 3, 7])
    results: str = "results"

    @property
    def title(self) -> str:
        """The cell's name for people: data set, network and optimizer."""
        return f"{self.dataset.name} {self.model.title} {self.optimizer.name}"

    @property
    def epochs(self) -> int:
        """``trainer.epochs`` if set, else the data set's budget over the gradient calls per iteration."""
        if self.trainer.epochs is not None:
            return self.trainer.epochs
        divisor = self.optimizer.budget_divisor or self.optimizer.gradient_calls
        return max(1, round(self.dataset.budget / divisor))

    @property
    def seed_list(self) -> list[int]:
        """The seeds. Raises ``ValueError`` if ``seeds`` is neither a count nor a list of different seeds."""
        seeds = self.seeds
        expected = "how many (seeds=30) or which (seeds=[0,3,7])"
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            limits = f"{expected}, at least one and at most {MOST_SEEDS}"
            expect(1 <= seeds <= MOST_SEEDS, "seeds", seeds, limits)
            return list(range(seeds))
        expect(isinstance(seeds, list | ListConfig), "seeds", seeds, expected)
        chosen = list(seeds)
        expect(len(chosen) > 0, "seeds", chosen, f"{expected}, at least one")
        whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in chosen)
        expect(whole, "seeds", chosen, "whole numbers >= 0")
        expect(len(set(chosen)) == len(chosen), "seeds", chosen, "each seed once")
        return chosen


@dataclass(frozen=True)
class Cell:
    """A checked configuration and the overrides that compose it, but for the tags of its tables."""

    config: Config
    overrides: tuple[str, ...]

    def words(self, seeds: Sequence[int] | None = None) -> list[str]:
        """Return overrides that compose the cell elsewhere, with its tags, for some or all of its seeds."""
        tags = self.config.tracker.tags
        tagged = [f"tracker.tags=[{','.join(tags)}]"] if tags else []
        chosen = [] if seeds is None else [f"seeds=[{','.join(map(str, seeds))}]"]
        return [*self.overrides, *tagged, *chosen]


@dataclass
class Parts:
    """Files of the groups by name, to compose those of several cells at once."""

    dataset: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, OptimizerConfig] = field(default_factory=dict)


def register() -> None:
    """Make the types known to Hydra, which merges the files of ``configs/`` into them."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="parts", node=Parts)
    dataset.register(store)
    model.register(store)


def check(config: Config) -> None:
    """Raise ``ValueError`` with one line if a value is impossible or parts do not fit together."""
    _ = config.seed_list
    expect(config.results != "", "results", "''", "a folder for the records")
    check_dataset(config.dataset)
    check_model(config.model)
    check_optimizer(config.optimizer)
    check_trainer(config.trainer)
    check_count("the budget in epochs", config.epochs, 1)
    _check_pair(config.model, config.dataset)


def _check_pair(model: ModelConfig, dataset: DatasetConfig) -> None:
    pair = f"model={model.name} on dataset={dataset.name}"
    if model.inputs != dataset.inputs:
        kinds = {"image": "images", "tokens": "tokens"}
        needs = f"the network takes {kinds[model.inputs]}, the data set has {kinds[dataset.inputs]}"
        # Most networks and data sets are for images: the one for text was probably meant.
        group, inputs = ("model", dataset.inputs) if dataset.inputs == "tokens" else ("dataset", model.inputs)
        known = ", ".join(with_inputs(group, inputs))
        raise ValueError(f"{pair}: {needs}; expected one of {known} for {group}=")
    if isinstance(dataset, ImageDatasetConfig):
        check_images(model, (dataset.channels, dataset.height, dataset.width), dataset.classes, pair)


WITHOUT_EFFECT = (
    "seeds",
    "results",
    "tracker",
    "dataset.root",
    "trainer.device",
    "trainer.workers",
    "trainer.threads",
)
"""Options, and groups of them, that do not change a run's numbers."""


def has_effect(name: str) -> bool:
    """Return whether an option, such as ``trainer.epochs``, can change a run's numbers."""
    return not any(name == each or name.startswith(f"{each}.") for each in WITHOUT_EFFECT)


TAKEN = {
    "sgd_lr": "optimizer.base.lr",
    "adam_lr": "optimizer.base.lr",
    "schedule": "optimizer.schedule",
}
"""What an optimizer may take from a data set's recipe, and the option of its own that holds it."""


def key_of(plain: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Return the part of a resolved configuration that decides a run's numbers.

    Paths, logging, the device and the choice of seeds are left out. So are the recipe's rates and the budget,
    since the optimizer's rates and the epochs, which follow from them, are in. Nulls are left out, so that a
    new option that is off by default does not change the keys of older runs.
    """
    dataset, optimizer, trainer = dict(plain["dataset"]), dict(plain["optimizer"]), plain["trainer"]
    recipe = {name: value for name, value in dataset.pop("recipe").items() if name not in TAKEN}
    for name in ("root", "budget"):
        del dataset[name]
    del optimizer["budget_divisor"]
    numerics = {name: trainer[name] for name in ("precision", "recompute_batch_statistics")}
    parts = {
        "dataset": dataset,
        "recipe": recipe,
        "model": plain["model"],
        "optimizer": optimizer,
        "trainer": numerics,
    }
    return {**_without_nulls(parts), "epochs": epochs}


def _without_nulls(mapping: dict[str, Any]) -> dict[str, Any]:
    items = (
        (name, _without_nulls(value) if isinstance(value, dict) else value) for name, value in mapping.items()
    )
    return {name: value for name, value in items if value is not None}
