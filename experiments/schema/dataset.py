"""The ``dataset`` group: what a data set is, its batches, its budget, and its baseline recipe."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from experiments.schema.paths import CONFIGS
from salr.checks import check_at_least, check_count, check_positive, expect, within
from salr.costs import image_batches, text_batches

CHOICES = CONFIGS / "dataset"  # one file per data set


class Augment(Enum):
    """Augmentation of the training images: none in the paper, crop and flip in its authors' code."""

    none = "none"
    crop_flip = "crop_flip"


@dataclass
class ScheduleConfig:
    """Multiply the rate by ``factor`` when the epochs ``start``, ``start + every``, ... begin (from 0).

    ``milestones`` name these epochs directly; then ``start`` and ``every`` are not used, and cannot be given.
    """

    start: int | None = None  # None: the rate is constant
    every: int | None = None  # None: once, at ``start``
    factor: float = 1.0
    milestones: list[int] | None = None


@dataclass
class RecipeConfig:
    """The data set's baseline recipe. The files of the optimizers refer to it."""

    sgd_lr: float = MISSING
    adam_lr: float = MISSING
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    clip_norm: float | None = None  # of the gradient of the training loss
    clip_value: float | None = None  # of each element of that gradient
    sum_steps: bool = False  # sum the loss over the steps of a sequence, and average it over the batch


@dataclass
class DatasetConfig:
    """What every data set has. With ``train_size`` a batch size is refused before the data are loaded."""

    name: str = MISSING
    inputs: str = MISSING  # "image" or "tokens"
    root: str = "${oc.env:SALR_DATA_DIR,downloads}"
    train_size: int = MISSING
    batch_size: int = MISSING
    budget: int = MISSING  # epochs at one gradient call per iteration
    recipe: RecipeConfig = field(default_factory=RecipeConfig)

    @property
    def iterations(self) -> int:
        """Batches per epoch."""
        raise NotImplementedError

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are evaluated after each epoch; the last one is reported."""
        raise NotImplementedError

    def load_options(self) -> dict[str, Any]:
        """Return the options of ``data.load(name, root, device, **options)``."""
        raise NotImplementedError


@dataclass
class ImageDatasetConfig(DatasetConfig):
    """Labelled images. The recipe is the paper's: 0.01, divided by 10 every 30 epochs."""

    inputs: str = "image"
    channels: int = MISSING
    height: int = MISSING
    width: int = MISSING
    classes: int = MISSING
    augment: Augment = Augment.none
    validation: bool = False  # hold a tenth of the training images out
    recipe: RecipeConfig = field(
        default_factory=lambda: RecipeConfig(
            sgd_lr=0.01, adam_lr=0.01, schedule=ScheduleConfig(start=30, every=30, factor=0.1)
        )
    )

    @property
    def training_images(self) -> int:
        """The images that are trained on."""
        return self.train_size - (self.train_size // 10 if self.validation else 0)

    @property
    def iterations(self) -> int:
        return image_batches(self.training_images, self.batch_size)

    @property
    def splits(self) -> tuple[str, ...]:
        return ("validation", "test") if self.validation else ("test",)

    def load_options(self) -> dict[str, Any]:
        return {"batch_size": self.batch_size, "augment": self.augment.value, "validation": self.validation}


@dataclass
class TextDatasetConfig(DatasetConfig):
    """``batch_size`` parallel token streams; a batch has ``sequence_length`` steps of each."""

    inputs: str = "tokens"
    vocabulary: int = MISSING
    sequence_length: int = MISSING

    @property
    def iterations(self) -> int:
        return text_batches(self.train_size, self.batch_size, self.sequence_length)

    @property
    def splits(self) -> tuple[str, ...]:
        return ("validation", "test")

    def load_options(self) -> dict[str, Any]:
        return {"batch_size": self.batch_size, "sequence_length": self.sequence_length}


def register(store: ConfigStore) -> None:
    """Store the types that the files of ``configs/dataset`` extend."""
    store.store(group="dataset", name="base_image", node=ImageDatasetConfig)
    store.store(group="dataset", name="base_text", node=TextDatasetConfig)


def check_dataset(config: DatasetConfig) -> None:
    """Raise ``ValueError`` with one line that names the wrong value and what was expected. Loads no data."""
    known = sorted(path.stem for path in CHOICES.glob("*.yaml"))
    expect(config.name in known, "dataset.name", config.name, f"one of {', '.join(known)}")
    expect(config.root != "", "dataset.root", "''", "the folder of the data, such as downloads")
    text = isinstance(config, TextDatasetConfig)
    inputs = "tokens" if text else "image"
    expect(
        config.inputs == inputs, "dataset.inputs", config.inputs, f"{inputs}, which {config.name} consists of"
    )
    facts = ("vocabulary", "sequence_length") if text else ("channels", "height", "width", "classes")
    with within("dataset"):
        for name in ("train_size", "batch_size", "budget", *facts):
            check_count(name, getattr(config, name), 1)
        if isinstance(config, TextDatasetConfig):
            length, tokens = config.sequence_length, config.train_size
            most = tokens // (length + 1)
            expect(most >= 1, "sequence_length", length, f"below the {tokens} training tokens")
            streams = f"1 to {most} streams of {length} + 1 of the {tokens} training tokens"
            expect(config.batch_size <= most, "batch_size", config.batch_size, streams)
        elif isinstance(config, ImageDatasetConfig):
            most = config.training_images
            images = f"1 to {most}, the number of training images"
            expect(config.batch_size <= most, "batch_size", config.batch_size, images)
    sums = config.recipe.sum_steps
    expect(text or not sums, "dataset.recipe.sum_steps", sums, "false for images, which have no steps")
    with within("dataset.recipe"):
        _check_recipe(config.recipe)


def _check_recipe(recipe: RecipeConfig) -> None:
    for name in ("sgd_lr", "adam_lr"):
        check_positive(name, getattr(recipe, name))
    for name in ("clip_norm", "clip_value"):
        if getattr(recipe, name) is not None:
            check_positive(name, getattr(recipe, name))
    with within("schedule"):
        check_schedule(recipe.schedule)
        milestones = recipe.schedule.milestones
        expect(
            milestones is None, "milestones", milestones, "none; set optimizer.schedule.milestones instead"
        )


def check_schedule(schedule: ScheduleConfig) -> None:
    """Raise ``ValueError`` with one line that names the wrong value and what was expected."""
    check_positive("factor", schedule.factor)
    if schedule.start is not None:
        check_at_least("start", schedule.start, 0)
    if schedule.every is not None:
        check_count("every", schedule.every, 1)
    for milestone in schedule.milestones or ():
        check_count("milestones", milestone, 0)
