"""From the words of a command line to the cells that they ask for. Does not import torch."""

from collections.abc import Sequence

from experiments.paper.tables import PRESETS, table_cells
from experiments.schema import Cell, ConfigError, load
from experiments.schema.compose import check_recipe
from experiments.schema.overrides import check_choice, expand, parse
from experiments.study.cells import NAME as STUDY
from experiments.study.cells import Study


def requested(words: Sequence[str], multirun: bool = False) -> list[Cell]:
    """Return the cells that the words ask for, all of them checked.

    ``experiment=NAME`` stands for all cells of ``configs/experiment/NAME.yaml``, of the study for those that
    the records allow; ``preset=NAME`` shortens them. The other words are overrides of each cell.

    Args:
        words: ``name=value`` each.
        multirun: whether a word may have several values, for one cell per combination.

    Raises:
        ConfigError: one line about what is wrong.
    """
    combinations = expand(words) if multirun else [list(words)]
    return [cell for combination in combinations for cell in _cells(combination)]


def _cells(words: list[str]) -> list[Cell]:
    """Return an experiment's cells, or the one cell that the words spell out."""
    chosen: dict[str, str] = {}
    overrides = []
    for override in parse(words):
        plain = override.package is None and not override.is_delete() and not override.is_sweep_override()
        if override.key_or_group in ("experiment", "preset") and plain:
            chosen[override.key_or_group] = str(override.value())
        else:
            overrides.append(override.input_line)
    if "experiment" not in chosen:
        if "preset" in chosen:
            line = f"preset={chosen['preset']}: expected experiment=... with it, whose budget it shortens"
            raise ConfigError(line)
        cell = Cell(load(overrides), tuple(overrides))
        check_recipe(overrides)
        return [cell]
    check_choice("experiment", chosen["experiment"])
    preset = chosen.get("preset", PRESETS[0])
    if chosen["experiment"] == STUDY:
        return [Cell(cell.config, cell.overrides) for cell in Study(preset, overrides).planned()]
    number = int(chosen["experiment"].removeprefix("table"))
    cells = table_cells(number, preset, overrides)
    return [Cell(cell.config, cell.overrides) for cell in cells]
