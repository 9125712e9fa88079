"""The ``dataset`` group: what a data set is, how it is cut into batches, how long it is trained on, and its baseline recipe."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from .checks import above, at_least, expect

CHOICES = Path(__file__).parents[1] / "dataset"  # a file a data set


class Augment(Enum):
    """Augmentation of the training images: the paper's text has none, its authors' code crops (padding 4) and flips."""

    none = "none"
    crop_flip = "crop_flip"


@dataclass
class ScheduleConfig:
    """The rate is multiplied by ``factor`` at the start of epochs ``start``, ``start + every``, ..., counted from 0.

    With ``milestones`` it is at these epochs instead.
    """

    start: int | None = None  # None: the rate stays as it is
    every: int | None = None  # None: once, at ``start``
    factor: float = 1.0
    milestones: list[int] | None = None


@dataclass
class RecipeConfig:
    """The data set's baseline recipe, which the optimizers interpolate."""

    sgd_lr: float = MISSING
    adam_lr: float = MISSING
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    clip_norm: float | None = None  # on the gradient of the loss as it is summed or averaged here
    clip_value: float | None = None  # element by element
    sum_steps: bool = False  # the loss is summed over the steps of a sequence (and averaged over the batch)


@dataclass
class DatasetConfig:
    """What every data set has. ``train_size`` is here so that an impossible batch size is refused before anything is loaded."""

    name: str = MISSING
    inputs: str = MISSING  # "image" or "tokens"
    root: str = "${oc.env:SALR_DATA_DIR,datasets}"
    train_size: int = MISSING
    batch_size: int = MISSING
    budget: int = MISSING  # epochs at one gradient call an iteration
    recipe: RecipeConfig = field(default_factory=RecipeConfig)


@dataclass
class ImageDatasetConfig(DatasetConfig):
    """Labelled images. The recipe is the paper's: 0.01, divided by 10 every 30 epochs."""

    inputs: str = "image"
    channels: int = MISSING
    height: int = MISSING
    width: int = MISSING
    classes: int = MISSING
    augment: Augment = Augment.none
    validation: bool = False
    recipe: RecipeConfig = field(
        default_factory=lambda: RecipeConfig(sgd_lr=0.01, adam_lr=0.01, schedule=ScheduleConfig(start=30, every=30, factor=0.1))
    )


@dataclass
class TextDatasetConfig(DatasetConfig):
    """Token streams: ``batch_size`` of them side by side, ``sequence_length`` steps a batch."""

    inputs: str = "tokens"
    vocabulary: int = MISSING
    sequence_length: int = MISSING


def register(store: ConfigStore) -> None:
    """Stores them as ``dataset/base_image`` and ``dataset/base_text``; the files of ``configs/dataset`` start from these."""
    store.store(group="dataset", name="base_image", node=ImageDatasetConfig)
    store.store(group="dataset", name="base_text", node=TextDatasetConfig)


def check_dataset(config: DatasetConfig) -> None:
    """Raises ValueError with one line: which value, and what was expected. Loads nothing."""
    known = sorted(path.stem for path in CHOICES.glob("*.yaml"))
    expect(config.name in known, "dataset.name", config.name, f"one of {', '.join(known)}")
    text = isinstance(config, TextDatasetConfig)
    inputs = "tokens" if text else "image"
    expect(config.inputs == inputs, "dataset.inputs", config.inputs, f"{inputs}: it is what {config.name} consists of")
    facts = ("vocabulary", "sequence_length") if text else ("channels", "height", "width", "classes")
    for name in ("train_size", "batch_size", "budget", *facts):
        at_least(f"dataset.{name}", getattr(config, name), 1)
    if isinstance(config, TextDatasetConfig):
        most = config.train_size // (config.sequence_length + 1)
        expect(most >= 1, "dataset.sequence_length", config.sequence_length, f"below the {config.train_size} training tokens")
        streams = f"1 to {most} streams of {config.sequence_length} + 1 of the {config.train_size} training tokens"
        expect(config.batch_size <= most, "dataset.batch_size", config.batch_size, streams)
    else:
        most = config.train_size - config.train_size // 10 * getattr(config, "validation", False)
        expect(config.batch_size <= most, "dataset.batch_size", config.batch_size, f"1 to {most}, the number of training images")
    _check_recipe(config.recipe)


def load_options(config: DatasetConfig) -> dict[str, Any]:
    """The options of ``data.load(config.name, config.root, device, **options)``."""
    if isinstance(config, TextDatasetConfig):
        return {"batch_size": config.batch_size, "sequence_length": config.sequence_length}
    assert isinstance(config, ImageDatasetConfig)
    return {"batch_size": config.batch_size, "augment": config.augment.value, "validation": config.validation}


def _check_recipe(recipe: RecipeConfig) -> None:
    for name in ("sgd_lr", "adam_lr"):
        above(f"dataset.recipe.{name}", getattr(recipe, name), 0)
    for name in ("clip_norm", "clip_value"):
        if getattr(recipe, name) is not None:
            above(f"dataset.recipe.{name}", getattr(recipe, name), 0)
    check_schedule("dataset.recipe.schedule", recipe.schedule)


def check_schedule(name: str, schedule: ScheduleConfig) -> None:
    """Raises ValueError with one line; ``name``: where the schedule stands."""
    above(f"{name}.factor", schedule.factor, 0)
    if schedule.start is not None:
        at_least(f"{name}.start", schedule.start, 0)
    if schedule.every is not None:
        at_least(f"{name}.every", schedule.every, 1)
    for milestone in schedule.milestones or ():
        at_least(f"{name}.milestones", milestone, 0)
