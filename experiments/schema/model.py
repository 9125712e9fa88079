"""What a network is configured by: a class a family, with exactly the options that ``models.build`` takes for it."""

from dataclasses import dataclass, fields
from enum import Enum

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from experiments.schema.paths import CONFIGS
from salr.checks import check_count, check_fraction, check_positive, expect

CHOICES = CONFIGS / "model"  # one file per network


class AllCNNPlacement(Enum):
    """Where All-CNN's dropout stands."""

    input_and_stride = "input_and_stride"
    after_each_layer = "after_each_layer"


class Placement(Enum):
    """Where a residual network's dropout stands."""

    before_classifier = "before_classifier"
    after_block = "after_block"
    none = "none"


class Shortcut(Enum):
    """What joins two widths in the ResNets for CIFAR (He et al. 2016)."""

    A = "A"
    B = "B"


@dataclass
class ModelConfig:
    """What every network has."""

    name: str = MISSING  # as models.build knows it
    inputs: str = MISSING  # what it takes: image or tokens
    channels: list[int] | None = None  # the numbers of image channels it takes; null: any

    @property
    def title(self) -> str:
        """The network's name in records and tables."""
        return self.name


@dataclass
class LeNetConfig(ModelConfig):
    dropout: float = MISSING


@dataclass
class MnistFCConfig(ModelConfig):
    dropout: float = MISSING
    input_dropout: float = MISSING


@dataclass
class AllCNNConfig(ModelConfig):
    dropout: float = MISSING
    input_dropout: float = MISSING
    placement: AllCNNPlacement = MISSING


@dataclass
class ResidualConfig(ModelConfig):
    dropout: float = MISSING
    placement: Placement = MISSING


@dataclass
class CIFARResNetConfig(ResidualConfig):
    shortcut: Shortcut = MISSING


@dataclass
class LSTMConfig(ModelConfig):
    embedding: int = MISSING
    hidden: int = MISSING
    layers: int = MISSING
    dropout: float = MISSING
    init: float | None = MISSING


FAMILIES: dict[str, type[ModelConfig]] = {
    "lenet": LeNetConfig,
    "mnistfc": MnistFCConfig,
    "allcnn": AllCNNConfig,
    "residual": ResidualConfig,
    "cifar_resnet": CIFARResNetConfig,
    "lstm": LSTMConfig,
}


def register(store: ConfigStore) -> None:
    """Stores each family as ``model/base_<family>``; the files of ``configs/model`` start from these."""
    for family, node in FAMILIES.items():
        store.store(group="model", name=f"base_{family}", node=node)


def options(config: ModelConfig) -> dict[str, object]:
    """The keyword arguments of ``models.build``; enumerations by name."""
    common = {field.name for field in fields(ModelConfig)}
    values = {field.name: getattr(config, field.name) for field in fields(config) if field.name not in common}
    return {name: value.name if isinstance(value, Enum) else value for name, value in values.items()}


def check_model(config: ModelConfig) -> None:
    """Raises ValueError with one line: which value, and what was expected."""
    known = sorted(path.stem for path in CHOICES.glob("*.yaml"))
    expect(config.name in known, "model.name", config.name, f"one of {', '.join(known)}")
    expect(config.inputs in ("image", "tokens"), "model.inputs", config.inputs, "image or tokens")
    for name in ("dropout", "input_dropout"):
        if hasattr(config, name):
            check_fraction(f"model.{name}", getattr(config, name))
    if isinstance(config, LSTMConfig):
        for name in ("embedding", "hidden", "layers"):
            check_count(f"model.{name}", getattr(config, name), 1)
        if config.init is not None:
            check_positive("model.init", config.init)
