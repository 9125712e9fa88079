"""The ``model`` group: a class per family of networks, with the options that ``models.build`` takes."""

from dataclasses import dataclass, fields
from enum import Enum

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from experiments.schema.paths import CONFIGS
from salr.checks import check_count, check_fraction, check_positive, expect, within

CHOICES = CONFIGS / "model"  # one file per network


class AllCNNPlacement(Enum):
    """Where All-CNN's dropout is placed."""

    input_and_stride = "input_and_stride"
    after_each_layer = "after_each_layer"


class Placement(Enum):
    """Where a residual network's dropout is placed."""

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

    name: str = MISSING  # one of models.names()
    inputs: str = MISSING  # what it takes: image or tokens
    channels: list[int] | None = None  # the numbers of image channels that it takes; null: any

    @property
    def title(self) -> str:
        """The network's name in records and tables."""
        return self.name


@dataclass
class LeNetConfig(ModelConfig):
    """LeNet."""

    dropout: float = MISSING


@dataclass
class MnistFCConfig(ModelConfig):
    """The fully connected network."""

    dropout: float = MISSING
    input_dropout: float = MISSING


@dataclass
class AllCNNConfig(ModelConfig):
    """All-CNN-BN."""

    dropout: float = MISSING
    input_dropout: float = MISSING
    placement: AllCNNPlacement = MISSING


@dataclass
class ResidualConfig(ModelConfig):
    """A residual network."""

    dropout: float = MISSING
    placement: Placement = MISSING


@dataclass
class CIFARResNetConfig(ResidualConfig):
    """A narrow ResNet for CIFAR."""

    shortcut: Shortcut = MISSING


@dataclass
class LSTMConfig(ModelConfig):
    """An LSTM language model."""

    embedding: int = MISSING
    hidden: int = MISSING
    layers: int = MISSING
    dropout: float = MISSING
    init: float | None = MISSING


@dataclass
class TimmConfig(ModelConfig):
    """A network of timm."""

    arch: str = MISSING

    @property
    def title(self) -> str:
        """``timm_`` and the network's name in timm."""
        return f"{self.name}_{self.arch}"


FAMILIES: dict[str, type[ModelConfig]] = {
    "lenet": LeNetConfig,
    "mnistfc": MnistFCConfig,
    "allcnn": AllCNNConfig,
    "residual": ResidualConfig,
    "cifar_resnet": CIFARResNetConfig,
    "lstm": LSTMConfig,
    "timm": TimmConfig,
}


def register(store: ConfigStore) -> None:
    """Store each family as ``model/base_<family>``, which the files of ``configs/model`` extend."""
    for family, node in FAMILIES.items():
        store.store(group="model", name=f"base_{family}", node=node)


def options(config: ModelConfig) -> dict[str, object]:
    """Return the keyword arguments of ``models.build``; enumerations by name."""
    common = {field.name for field in fields(ModelConfig)}
    values = {field.name: getattr(config, field.name) for field in fields(config) if field.name not in common}
    return {name: value.name if isinstance(value, Enum) else value for name, value in values.items()}


def check_model(config: ModelConfig) -> None:
    """Raise ``ValueError`` with one line that names the wrong value and what was expected."""
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
    if isinstance(config, TimmConfig):
        expect(config.arch != "", "model.arch", "''", "a network of timm, as in model.arch=resnet10t")


def check_images(config: ModelConfig, shape: tuple[int, int, int], classes: int, pair: str) -> None:
    """Raise ``ValueError`` with one line if a network cannot take images of a shape (C, H, W).

    Only timm knows which images its networks take. Asking it loads torch.

    Args:
        config: The network.
        shape: (C, H, W).
        classes: How many classes there are.
        pair: The names of the network and the data set, for the error.
    """
    channels = config.channels
    if channels is not None and shape[0] not in channels:
        known = " or ".join(map(str, channels))
        raise ValueError(f"{pair}: the images have {shape[0]} channels; expected {known} for this network")
    if isinstance(config, TimmConfig):
        from models.timm_network import check_timm

        with within(f"{pair}: model"):
            check_timm(config.arch, shape, classes)


def with_inputs(group: str, inputs: str) -> list[str]:
    """Return the choices of the group ``model`` or ``dataset`` with these inputs (image or tokens)."""
    files = sorted((CONFIGS / group).glob("*.yaml"))
    return [file.stem for file in files if OmegaConf.select(OmegaConf.load(file), "inputs") == inputs]
