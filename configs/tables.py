"""The cells of the paper's tables as configurations. No torch here."""

import itertools
from dataclasses import dataclass
from functools import cache

from omegaconf import OmegaConf

from salr.reporting.published import Published, optimizer_of, table_rows
from salr.reporting.tables import Table, Wanted, make_table

from .compose import FOLDER, ConfigError, load
from .records import records_of
from .schema import Config, epochs

TABLES = range(1, 10)
PRESETS = ("paper", "short", "smoke")
"""The paper's budgets; a tenth of them; everything end to end in minutes on embedded data, which reproduces nothing."""

_SMOKE_DATA = {"mnist": "digits", "cifar10": "digits", "cifar100": "digits", "ptb": "pydoc", "war_and_peace": "pydoc"}
_SMOKE_TEXT = {"lstm_ptb": "lstm_ptb_small", "lstm_char": "lstm_char"}


@dataclass(frozen=True)
class TableCell:
    """What the paper prints, and the configuration that is to measure it."""

    published: Published
    config: Config
    overrides: tuple[str, ...]


@cache
def choices_of(experiment: str) -> list[tuple[str, str, str]]:
    """Data set, network and optimizer of every cell of an experiment, in the file's order."""
    products = OmegaConf.load(FOLDER / "experiment" / f"{experiment}.yaml").cells
    axes = [[product[name].split(",") for name in ("dataset", "model", "optimizer")] for product in products]
    return [combination for product in axes for combination in itertools.product(*product)]


def table_cells(number: int, preset: str, overrides: list[str]) -> list[TableCell]:
    """The cells of a table, in the paper's order.

    Args:
        preset: one of :data:`PRESETS`.
        overrides: for all cells: seeds, precision, where the results go.

    Raises:
        ConfigError: before anything has been trained.
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
            chosen.append(f"trainer.epochs={max(1, epochs(config) // 10)}")
            config = load(chosen)
        # Neither is part of what the runs are.
        config.experiment = f"table{number}"
        config.tracker.tags = [*(config.tracker.tags or []), *_tags(preset, (dataset, model, optimizer))]
        cells.append(TableCell(wanted[dataset, model, optimizer], config, tuple(chosen)))
    return cells


def cells_of(config: Config, overrides: list[str]) -> list[Config]:
    """The cells that a command line asks for: an experiment's, or the one that it spells out.

    Raises:
        ConfigError: a cell that the experiment does not have.
    """
    if config.cells is None:
        return [config]
    kept = [override for override in overrides if override.partition("=")[0] not in ("experiment", "preset", "cell")]
    number = int(str(config.experiment).removeprefix("table"))
    cells = [cell.config for cell in table_cells(number, config.preset, kept)]
    if config.cell is None:
        return cells
    if not 0 <= config.cell < len(cells):
        raise ConfigError(f"cell = {config.cell}; expected 0 to {len(cells) - 1}, a cell of {config.experiment}")
    return [cells[config.cell]]


def _tags(preset: str, cell: tuple[str, str, str]) -> list[str]:
    """Every table that shows the cell, whichever of them has it trained."""
    return [tag(number, preset) for number in TABLES if cell in choices_of(f"table{number}")]


def tag(number: int, preset: str) -> str:
    """By which the tracker finds a table's runs: ``table2``, ``table2-short``."""
    return f"table{number}" + ("" if preset == "paper" else f"-{preset}")


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


def read_table(number: int, preset: str, overrides: list[str]) -> Table:
    """The table as far as its records fill it."""
    cells = table_cells(number, preset, overrides)
    return make_table(number, (_wanted(cell) for cell in cells), preset)


def _wanted(cell: TableCell) -> Wanted:
    config = cell.config
    command = f"python train.py {' '.join(cell.overrides)}"
    names = config.dataset.name, config.model.name, config.optimizer.name
    return Wanted(cell.published, *names, tuple(records_of(config)), command)
