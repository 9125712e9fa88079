"""A finished run's final weights and data, for whatever is measured on them after training."""

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from experiments.build import build_parts, device_of, load_data
from experiments.schema import Config, recorded
from experiments.schema.trainer import DEVICE, DEVICES
from salr.records import RecordError, Run, State
from salr.sharpness import DatasetLoss
from salr.training.checkpoint import load

Report = Callable[[int, int], None]
"""(pass over the data, batch of that pass): called to show the progress. Pass 0 counts the data."""


def device(text: str) -> str:
    """Parse the name of a device, as an argparse type."""
    if re.fullmatch(DEVICE, text) is None:
        raise argparse.ArgumentTypeError(f"{text}: expected {DEVICES}")
    return text


class NotMeasurable(RecordError):
    """A folder without a finished run, or a run whose weights cannot be read: one line says which and why."""


def finished_run(folder: Path) -> Run:
    """The run of a folder ``.../runs/<dataset>/<model>/<optimizer>-<key>/seed-<n>``. Raises NotMeasurable."""
    path = folder.resolve()
    match = re.fullmatch(r"(.*)/runs/(\w+)/(\w+)/(\w+)-(\w+)/seed-(0|[1-9]\d*)", path.as_posix())
    if match is None or not path.is_dir():
        kind = "not a run's folder" if path.is_dir() else "no such folder"
        raise NotMeasurable(
            f"{folder}: {kind}; expected .../runs/<dataset>/<model>/<optimizer>-<key>/seed-<n>"
        )
    results, dataset, model, optimizer, key, seed = match.groups()
    try:
        run = Run(Path(results), dataset, model, optimizer, key, int(seed))
    except ValueError as error:
        raise NotMeasurable(f"{folder}: {error}") from error
    state = run.state()
    if state is not State.FINISHED:
        raise NotMeasurable(f"{folder}: the run is {state}; expected a finished one")
    return run


@dataclass
class Finished:
    """A finished run's data and its network, with the weights that the run last evaluated."""

    run: Run
    config: Config
    model: nn.Module
    data: Any
    device: torch.device
    weights: str
    """"last" or "average"."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.parameters())

    def loss(self, split: str, examples: int | None, report: Report) -> DatasetLoss:
        """Return the mean loss over a split, in evaluation mode and single precision.

        ``examples`` limits it to the first images or tokens.
        """
        return DatasetLoss(self.model, _mean_cross_entropy, Batches(self.data, split, examples, report))


def open_finished(run: Run, device: str) -> Finished:
    """Build what the record describes with its final weights. The caller holds the run's claim.

    Raises:
        NotMeasurable: the configuration or the weights are missing or damaged, or do not fit each other.
        ConfigError, ValueError, data.DataError, RecordError: the parts cannot be built, loaded or read.
    """
    values = run.read_config()
    if values is None:
        raise NotMeasurable(
            f"{run.folder}: config.yaml is missing or damaged; expected the one that the training wrote"
        )
    config = recorded(values)
    config.trainer.device = device
    place = device_of(config)
    # cuDNN would multiply with 10 bits, and a measure is a small difference of losses.
    torch.backends.cudnn.allow_tf32 = False
    data = load_data(config, place)
    parts = build_parts(config, run.seed, data, place)

    def read(path: Path) -> bool:
        try:
            load(path, run.name, parts)
        except ValueError as error:
            # A ValueError would set the file aside, which may well fit the version that trained the run.
            raise NotMeasurable(" ".join(str(error).split())) from error
        return True

    if run.read_checkpoint(read) is None:
        raise NotMeasurable(
            f"{run.folder}: checkpoint.pt is missing or damaged; expected the finished run's weights"
        )
    if parts.average is None:
        return Finished(run, config, parts.model, data, place, "last")
    return Finished(run, config, parts.average.model, data, place, "average")


class Batches:
    """The batches of a split, up to the first ``examples`` targets. They can be iterated again."""

    def __init__(self, data: Any, split: str, examples: int | None, report: Report) -> None:
        self._data, self._split, self._examples, self._report = data, split, examples, report
        self._passes = -1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self._passes += 1
        left = self._examples
        for number, (inputs, targets, _) in enumerate(self._data.evaluation(self._split)):
            self._report(self._passes, number)
            # Images and their labels lie along the first dimension, a stream's tokens along the second.
            along = targets.dim() - 1
            if left is not None and left < targets.shape[along]:
                inputs, targets = (part.narrow(along, 0, left) for part in (inputs, targets))
            yield inputs, targets
            if left is not None and (left := left - targets.shape[along]) <= 0:
                return


def _mean_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Over images, or over all positions of a sequence."""
    return cross_entropy(logits.flatten(0, -2), targets.flatten())
