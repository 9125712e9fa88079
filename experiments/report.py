"""Make tables, figures and the page of whatever the records hold. Trains nothing."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.paper.claims import CLAIMS, FACTS
from experiments.paper.published import (
    CAPTIONS,
    PAPER,
    PAPER_ADDRESS,
    TABLES,
    TEST_IMAGES,
    remarks,
    table_rows,
)
from experiments.paper.tables import TableCell, cells_of_tables
from experiments.records import folder_of, records_of
from experiments.schema import Config, ConfigError
from experiments.schema.config import has_effect
from salr.records import check_writable
from salr.reporting.cells import Cell, Wanted
from salr.reporting.files import write_table
from salr.reporting.gallery import draw_figures
from salr.reporting.metrics import MARGINS
from salr.reporting.overview import claim_lines, headline
from salr.reporting.page import Paper, write_page
from salr.reporting.render import markdown
from salr.reporting.tables import Table, make_table, printed_table
from salr.reporting.verdicts import judge


def make_report(
    numbers: Sequence[int],
    preset: str,
    overrides: Sequence[str],
    results: Path,
    networks: Sequence[str] = (),
    margins: Mapping[str, float] = MARGINS,
) -> list[str]:
    """Write tables, figures and the page below ``results``, and print the tables.

    The page shows all tables, whichever are asked for: p-values are corrected over whole claims.

    Args:
        numbers: the tables to write and print.
        preset: of the cells.
        overrides: of the cells, the results folder included.
        results: the folder of the records.
        networks: only tables with one of these are written and printed, and only these count as missing; all
            if there are none.
        margins: below which a difference does not matter, by metric.

    Returns:
        One line per table that is not complete.

    Raises:
        ConfigError, RecordError: before anything is written.
    """
    tables, notes = read_tables(numbers, preset, overrides)
    check_writable(results)
    notes += _measured(tables)
    judgement = judge(tables, CLAIMS, FACTS, margins)
    asked = [(table, _of(table, networks)) for table in judgement.tables if table.number in numbers]
    asked = [(table, cells) for table, cells in asked if cells]
    for table, _ in asked:
        write_table(table, results / "tables")
        print(markdown(table))
    page = results / ("report.html" if preset == "paper" else f"report_{preset}.html")
    write_page(judgement, printed_paper(), draw_figures(judgement, results / "figures"), page, notes)
    print("\n".join(["", headline(judgement), *claim_lines(judgement), ""]))
    print(f"Tables: {results / 'tables'}; page: {page}")
    missing = [
        f"table {table.number}: {_missing(cells)}"
        for table, cells in asked
        if not all(cell.complete for cell in cells)
    ]
    for line in missing:
        print(f"incomplete: {line}")
    return missing


def read_tables(
    numbers: Sequence[int], preset: str, overrides: Sequence[str]
) -> tuple[list[Table], list[str]]:
    """Return all tables as far as the records fill them, and a line for each that cannot have the overrides.

    Raises:
        ConfigError: if one of the tables that are asked for cannot have them.
    """
    changes = [word for word in overrides if has_effect(word.lstrip("+").split("=")[0])]
    kept = [word for word in overrides if word not in changes]
    cells, notes = _cells(numbers, preset, overrides)
    unchanged = cells_of_tables(TABLES, preset, kept) if changes else {}
    tables = []
    for number, measured in cells.items():
        table = make_table(number, map(_wanted, measured), preset, CAPTIONS[number], remarks(number))
        pairs = [(a.config, b.config) for a, b in zip(measured, unchanged.get(number, []), strict=False)]
        if any(folder_of(changed).name != folder_of(other).name for changed, other in pairs):
            budget_changed = any(_budget(changed) != _budget(other) for changed, other in pairs)
            table = replace(table, overrides=tuple(changes), budget_changed=budget_changed)
        tables.append(table)
    return tables, notes


def _cells(
    numbers: Sequence[int], preset: str, overrides: Sequence[str]
) -> tuple[dict[int, list[TableCell]], list[str]]:
    """Return the cells of all tables that can have the overrides, and a line for each of the others."""
    try:
        return cells_of_tables(sorted({*TABLES, *numbers}), preset, overrides), []
    except ConfigError:  # perhaps an option that only some of the networks have
        cells, notes = cells_of_tables(numbers, preset, overrides), []
    for number in sorted(set(TABLES) - set(numbers)):
        try:
            cells |= cells_of_tables([number], preset, overrides)
        except ConfigError as error:
            notes.append(f"Table {number} is left out: {error}")
    return dict(sorted(cells.items())), notes


def printed_paper() -> Paper:
    """Return the paper as the page shows it: its name, and its claims judged by its own numbers."""
    tables = [printed_table(number, table_rows(number)) for number in TABLES]
    return Paper(PAPER, PAPER_ADDRESS, judge(tables, CLAIMS))


def _measured(tables: Sequence[Table]) -> list[str]:
    """Return a line that names the measured cells, if they are few beside the others."""
    cells = {cell.wanted.published.key: cell for table in tables for cell in table.cells}
    measured = [cell for cell in cells.values() if cell.values]
    if not measured or 2 * len(measured) > len(cells):
        return []
    names = []
    for cell in measured:
        printed = cell.wanted.published
        names.append(f"{printed.dataset} {printed.network} {cell.method} (n = {len(cell.values)})")
    return [f"Measured: {', '.join(names)}. No other cell is measured."]


def _budget(config: Config) -> tuple[int, int]:
    """Return the epochs and the iterations of each."""
    return config.epochs, config.dataset.iterations


def _wanted(cell: TableCell) -> Wanted:
    config = cell.config
    words = [word for word in cell.overrides if not word.startswith("results=")]  # a path of this machine
    return Wanted(
        cell.published,
        config.dataset.name,
        config.model.title,
        config.optimizer.name,
        tuple(records_of(config)),
        command=f"python train.py {' '.join(map(shlex.quote, words))}",
        epochs=config.epochs,
        test_examples=TEST_IMAGES.get(config.dataset.name),
        precision=config.trainer.precision.value,
    )


def _of(table: Table, networks: Sequence[str]) -> list[Cell]:
    """Return the cells of the paper's networks with these names; all cells if there are none."""
    return [cell for cell in table.cells if not networks or cell.wanted.published.network in networks]


def _missing(cells: Sequence[Cell]) -> str:
    runs = sum(len(cell.wanted.runs) for cell in cells)
    finished = sum(len(cell.values) for cell in cells)
    return f"{finished} of {runs} runs, {sum(cell.complete for cell in cells)} of {len(cells)} cells complete"
