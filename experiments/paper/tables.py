"""The cells of the paper's tables as cells to train. Imports neither torch nor SciPy."""

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from omegaconf import OmegaConf

from experiments.paper.published import TABLES, optimizer_of, table_rows
from experiments.schema import Cell, Config, ConfigError
from experiments.schema.compose import Choices, load_all, words_of
from experiments.schema.overrides import CHOSEN, parse
from experiments.schema.paths import CONFIGS
from salr.reporting import Published

PRESETS = ("paper", "short", "smoke")
"""The paper's budgets; a tenth of them; one epoch on embedded data, which takes minutes and shows nothing."""

_SMOKE_DATA = {
    "mnist": "digits",
    "cifar10": "digits",
    "cifar100": "digits",
    "ptb": "pydoc",
    "war_and_peace": "pydoc",
}
_SMOKE_TEXT = {"lstm_ptb": "lstm_ptb_small", "lstm_char": "lstm_char"}


@dataclass(frozen=True)
class TableCell(Cell):
    """The cell that measures what the paper prints. Its overrides do not have its tags."""

    published: Published


@cache
def choices_of(experiment: str) -> list[Choices]:
    """Return data set, network and optimizer of every cell of an experiment, in the file's order."""
    products = OmegaConf.load(CONFIGS / "experiment" / f"{experiment}.yaml").cells
    axes = [[product[name].split(",") for name in ("dataset", "model", "optimizer")] for product in products]
    return [combination for product in axes for combination in itertools.product(*product)]


def table_cells(number: int, preset: str, overrides: Sequence[str]) -> list[TableCell]:
    """Return the cells of a table, in the paper's order (see :func:`cells_of_tables`)."""
    return cells_of_tables([number], preset, overrides)[number]


def cells_of_tables(
    numbers: Sequence[int], preset: str, overrides: Sequence[str]
) -> dict[int, list[TableCell]]:
    """Return the cells of tables by the tables' numbers, in the paper's order.

    Args:
        numbers: from 1 to 9.
        preset: one of :data:`PRESETS`.
        overrides: for all cells: seeds, precision, the results folder.

    Raises:
        ConfigError: before anything is trained.
    """
    for number in numbers:
        if number not in TABLES:
            raise ConfigError(f"table {number}: expected one of {TABLES[0]} to {TABLES[-1]}")
    if preset not in PRESETS:
        raise ConfigError(f"preset {preset}: expected one of {', '.join(PRESETS)}")
    for override in parse(overrides):
        if (group := override.key_or_group) in CHOSEN:
            line = f"{override.input_line}: a table sets the {group} of each of its cells"
            raise ConfigError(f"{line}; leave it out (NETWORKS= and --networks choose rows)")
    printed = [(number, choices) for number in numbers for choices in choices_of(f"table{number}")]
    words = {choices: (*_shortened(choices, preset), *overrides) for _, choices in printed}
    configs: dict[Choices, Config] = {}
    for shared in dict.fromkeys(words.values()):
        alike = [choices for choices in words if words[choices] == shared]
        trained = [_trained(choices, preset) for choices in alike]
        configs |= dict(zip(alike, load_all(trained, shared), strict=True))
    tables: dict[int, list[TableCell]] = {number: [] for number in numbers}
    for number, choices in printed:
        wanted = {(cell.dataset, cell.network, optimizer_of(cell)): cell for cell in table_rows(number)}
        cell = _cell(choices, preset, configs[choices], words[choices])
        tables[number].append(TableCell(cell.config, cell.overrides, wanted[choices]))
    return tables


def _cell(choices: Choices, preset: str, loaded: Config, words: Sequence[str]) -> Cell:
    config = copy.deepcopy(loaded)
    overrides = [*words_of(_trained(choices, preset)), *words]
    if preset == "short" and config.trainer.epochs is None:
        config.trainer.epochs = max(1, config.epochs // 10)
        overrides.append(f"trainer.epochs={config.trainer.epochs}")
    config.tracker.tags = [*(config.tracker.tags or []), *_tags(preset, choices)]
    return Cell(config, tuple(overrides))


def tag(number: int, preset: str) -> str:
    """Return the tag by which the tracker finds a table's runs: ``table2``, ``table2-short``."""
    return f"table{number}" + ("" if preset == "paper" else f"-{preset}")


def _tags(preset: str, cell: Choices) -> list[str]:
    """Return the tags of every table that shows the cell, whichever of them trains it."""
    return [tag(number, preset) for number in TABLES if cell in choices_of(f"table{number}")]


def _trained(choices: Choices, preset: str) -> Choices:
    """Return the data set, network and optimizer that a preset trains for a printed cell."""
    if preset != "smoke":
        return choices
    dataset, model, optimizer = choices
    return _SMOKE_DATA[dataset], _SMOKE_TEXT.get(model, "mnistfc"), optimizer


def _shortened(choices: Choices, preset: str) -> list[str]:
    """Return the overrides by which a preset makes a cell cheap."""
    if preset != "smoke":
        return []
    smaller = ["model.embedding=16", "model.hidden=16"] if choices[1] in _SMOKE_TEXT else []
    return ["trainer.epochs=1", "trainer.workers=1", *smaller]
