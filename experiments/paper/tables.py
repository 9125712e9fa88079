"""The cells of the paper's tables as configurations. Imports neither torch nor SciPy, for every command line needs it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from omegaconf import OmegaConf

from experiments.paper.published import TABLES, optimizer_of, table_rows
from experiments.schema import Config, ConfigError, load
from experiments.schema.paths import CONFIGS
from salr.reporting import Published

PRESETS = ("paper", "short", "smoke")
"""The paper's budgets; a tenth of them; one epoch on embedded data, which reproduces nothing and takes minutes."""

_SMOKE_DATA = {
    "mnist": "digits",
    "cifar10": "digits",
    "cifar100": "digits",
    "ptb": "pydoc",
    "war_and_peace": "pydoc",
}
_SMOKE_TEXT = {"lstm_ptb": "lstm_ptb_small", "lstm_char": "lstm_char"}


@dataclass(frozen=True)
class TableCell:
    """What the paper prints, and the configuration that measures it.

    ``overrides`` compose the configuration, tags aside.
    """

    published: Published
    config: Config
    overrides: tuple[str, ...]


@cache
def choices_of(experiment: str) -> list[tuple[str, str, str]]:
    """Return data set, network and optimizer of every cell of an experiment, in the file's order."""
    products = OmegaConf.load(CONFIGS / "experiment" / f"{experiment}.yaml").cells
    axes = [[product[name].split(",") for name in ("dataset", "model", "optimizer")] for product in products]
    return [combination for product in axes for combination in itertools.product(*product)]


def table_cells(number: int, preset: str, overrides: Sequence[str]) -> list[TableCell]:
    """Return the cells of a table, in the paper's order.

    Args:
        number: 1 to 9.
        preset: one of :data:`PRESETS`.
        overrides: for all cells: seeds, precision, the results folder.

    Raises:
        ConfigError: before anything is trained.
    """
    if number not in TABLES:
        raise ConfigError(f"table {number}: expected one of {TABLES[0]} to {TABLES[-1]}")
    if preset not in PRESETS:
        raise ConfigError(f"preset {preset}: expected one of {', '.join(PRESETS)}")
    wanted = {(cell.dataset, cell.network, optimizer_of(cell)): cell for cell in table_rows(number)}
    cells = []
    for dataset, model, optimizer in choices_of(f"table{number}"):
        chosen = [*_choose(dataset, model, preset), f"optimizer={optimizer}", *overrides]
        config = load(chosen)
        if preset == "short":
            chosen.append(f"trainer.epochs={max(1, config.epochs // 10)}")
            config = load(chosen)
        config.tracker.tags = [*(config.tracker.tags or []), *_tags(preset, (dataset, model, optimizer))]
        cells.append(TableCell(wanted[dataset, model, optimizer], config, tuple(chosen)))
    return cells


def tag(number: int, preset: str) -> str:
    """Return the tag by which the tracker finds a table's runs: ``table2``, ``table2-short``."""
    return f"table{number}" + ("" if preset == "paper" else f"-{preset}")


def _tags(preset: str, cell: tuple[str, str, str]) -> list[str]:
    """Return the tags of every table that shows the cell, whichever of them trains it."""
    return [tag(number, preset) for number in TABLES if cell in choices_of(f"table{number}")]


def _choose(dataset: str, model: str, preset: str) -> list[str]:
    if preset != "smoke":
        return [f"dataset={dataset}", f"model={model}"]
    smaller = ["model.embedding=16", "model.hidden=16"] if model in _SMOKE_TEXT else []
    return [
        f"dataset={_SMOKE_DATA[dataset]}",
        f"model={_SMOKE_TEXT.get(model, 'mnistfc')}",
        "trainer.epochs=1",
        "trainer.workers=1",
        *smaller,
    ]
