"""The ``trainer`` and ``tracker`` groups."""

import re
from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING

from salr.checks import check_count, expect

DEVICE = r"auto|cpu|mps|(cuda|xpu)(:[0-9]+)?"
DEVICES = "auto, cpu, cuda, cuda:N, mps or xpu"


class Precision(Enum):
    float32 = "float32"
    bf16 = "bf16"  # bfloat16 autocast, and channels_last for images


@dataclass
class TrainerConfig:
    epochs: int | None = None  # null: the data set's budget over the optimizer's gradient calls
    device: str = "auto"  # auto: an accelerator if there is one, else the CPU
    precision: Precision = Precision.float32
    workers: str = "auto"  # processes that train seeds in parallel
    threads: int | None = None  # of one run on the CPU; null: the cores, shared among the workers
    # Batch statistics recomputed on the training set before each evaluation, as Entropy-SGD's code does.
    recompute_batch_statistics: bool = False


class TrackerName(Enum):
    none = "none"
    wandb = "wandb"


class WandbMode(Enum):
    offline = "offline"
    online = "online"


@dataclass
class TrackerConfig:
    name: TrackerName = MISSING
    project: str = "salr"
    entity: str | None = None
    mode: WandbMode = WandbMode.offline
    directory: str = "${results}/wandb"
    tags: list[str] | None = None


def check_trainer(config: TrainerConfig) -> None:
    """Raise ``ValueError`` with one line that names the wrong value and what was expected."""
    if config.epochs is not None:
        check_count("trainer.epochs", config.epochs, 1)
    if config.threads is not None:
        check_count("trainer.threads", config.threads, 1)
    workers = re.fullmatch(r"auto|[1-9][0-9]*", config.workers) is not None
    expect(workers, "trainer.workers", config.workers, "auto or a whole number >= 1")
    expect(re.fullmatch(DEVICE, config.device) is not None, "trainer.device", config.device, DEVICES)
