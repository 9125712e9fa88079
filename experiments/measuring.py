"""What the scripts share that train a cell for some iterations and measure meanwhile."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from experiments.cli import count, seed
from experiments.schema import Config, ConfigError, load
from salr.closures import Clipped
from salr.records import atomic
from salr.training import Parts, generator, seed_default
from salr.training.task import reset_if_asked

PHASES = {"all": (0.0, 1.0), "early": (0.0, 1 / 3), "late": (2 / 3, 1.0)}
"""By name: which part of the iterations."""

GROUPS = ("dataset", "model", "optimizer")
"""Their files and values have an effect on such a run."""

WITHOUT_EFFECT = ("dataset.budget", "dataset.recipe.schedule", "optimizer.budget_divisor")
"""But for these, which only decide epochs or a decay."""


def add_arguments(parser: argparse.ArgumentParser, trainer: Sequence[str]) -> None:
    """Add what both scripts take. ``trainer`` names the options of the trainer that have an effect."""
    words = f"the cell: dataset=, model=, optimizer=, their values, {'=, '.join(trainer)}=; no other words"
    parser.add_argument("words", nargs="*", metavar="NAME=VALUE", help=words)
    parser.add_argument("--iterations", type=count, default=500, help="of each run; default %(default)s")
    parser.add_argument(
        "--every", type=count, default=1, help="compare every N-th measurement; default %(default)s"
    )
    parser.add_argument("--seed", type=seed, default=0, help="default %(default)s")
    parser.add_argument("--output", type=Path, default=Path("results/figures"), help="default %(default)s")


def check_words(words: Sequence[str], trainer: Sequence[str]) -> None:
    """Raise ConfigError if a word has no effect on a run of some iterations that leaves no record."""
    for word in words:
        option = word.split("=")[0]
        unused = any(option == each or option.startswith(f"{each}.") for each in WITHOUT_EFFECT)
        if unused or (option.split(".")[0] not in GROUPS and option not in trainer):
            expected = f"dataset, model, optimizer, their values, {', '.join(trainer)}"
            raise ConfigError(f"{word}: without effect here; expected only {expected}")


def check_measurements(config: Config, iterations: int, every: int, fewest: int) -> None:
    """Raise ConfigError if a run is too short for ``fewest`` noted measurements."""
    assert config.optimizer.salr is not None
    measurements = -(-iterations // (config.optimizer.salr.interval * every))
    if measurements < fewest:
        raise ConfigError(
            f"--iterations {iterations} with --every {every} notes {measurements} times; "
            f"expected at least {fewest}"
        )


def configurations(words: Sequence[str], rates: Sequence[str] | None) -> list[Config]:
    """Return one checked configuration for each learning rate. Raise ``ValueError`` without Definition 1."""
    chosen = (
        list(words)
        if any(word.startswith("optimizer=") for word in words)
        else [*words, "optimizer=sgd_salr"]
    )
    lines = [chosen] if rates is None else [[*chosen, f"optimizer.base.lr={rate}"] for rate in rates]
    configs = [load(line) for line in lines]
    salr = configs[0].optimizer.salr
    if salr is None or salr.gamma is None:
        raise ValueError(
            f"optimizer={configs[0].optimizer.name} does not measure Definition 1; expected one that does, "
            "such as optimizer=sgd_salr or optimizer=adam_salr"
        )
    if configs[0].optimizer.batches > 1 or configs[0].optimizer.schedule is not None:
        raise ValueError(
            f"optimizer={configs[0].optimizer.name} takes several batches an iteration or decays its rate; "
            "expected one batch and a constant rate"
        )
    return configs


def steps(parts: Parts, seed: int) -> Iterator[Tensor]:
    """Yield the loss of each iteration, epoch after epoch, as the trainer takes them."""
    parameters = [parameter for parameter in parts.model.parameters() if parameter.requires_grad]
    parts.model.train()
    epoch = 0
    while True:
        seed_default(seed, "noise", epoch)
        order, augmentation = generator(seed, "order", epoch), generator(seed, "augmentation", epoch)
        for batch in parts.data.batches(order, augmentation):
            reset_if_asked(parts.model, batch)

            def closure(batch: Any = batch) -> Tensor:
                return parts.task.loss(parts.model, batch)

            clip = parts.task.clip
            whole: Any = closure if clip is None else Clipped(closure, parameters, clip)
            yield parts.optimizer.step(whole)
        epoch += 1


def train(parts: Parts, seed: int, iterations: int, about: str = "") -> list[float]:
    """Train for some iterations, say on the way how far it is, and return the loss of each iteration."""
    losses = []
    for iteration, loss in enumerate(islice(steps(parts, seed), iterations), 1):
        losses.append(float(loss))
        if iteration % max(1, iterations // 10) == 0:
            print(f"{about}iteration {iteration} of {iterations}, loss {losses[-1]:.4g}", file=sys.stderr)
    return losses


def factors_of(values: np.ndarray) -> list[float]:
    """Return each value divided by the median of those so far; as in SALR, only positive ones count."""
    factors, factor = [], 1.0
    for end, value in enumerate(values, 1):
        if np.isfinite(value) and value > 0:
            seen = values[:end]
            factor = float(value / np.median(seen[np.isfinite(seen) & (seen > 0)]))
        factors.append(factor)
    return factors


def write(rows: Sequence[Any], path: Path) -> None:
    """Write the rows, which are dataclass instances of one kind, as CSV."""
    values = (asdict(row).values() for row in rows)
    texts = ([f"{value:.8g}" if isinstance(value, float) else value for value in row] for row in values)
    atomic.write_csv(path, asdict(rows[0]), texts)
