"""Make tables, figures and the page of whatever the records hold. Trains nothing."""

from collections.abc import Sequence
from pathlib import Path

from experiments.paper.published import CAPTIONS, remarks
from experiments.paper.tables import TableCell, table_cells
from experiments.records import records_of
from salr.records import check_writable
from salr.reporting.figures import draw_figures
from salr.reporting.page import write_page
from salr.reporting.render import markdown, write_table
from salr.reporting.tables import Cell, Table, Wanted, make_table


def make_report(
    numbers: Sequence[int], preset: str, overrides: Sequence[str], results: Path, networks: Sequence[str] = ()
) -> list[str]:
    """Write the tables, their figures and the page below ``results``, and print the tables.

    Args:
        numbers: which tables.
        preset: of the cells.
        overrides: of the cells, the results folder included.
        results: the folder of the records.
        networks: only these of the paper's count as missing; all if there are none.

    Returns:
        One line per table that is not complete.

    Raises:
        ConfigError, RecordError: before anything is written.
    """
    tables = [read_table(number, preset, overrides) for number in numbers]
    check_writable(results)
    for table in tables:
        write_table(table, results / "tables")
        print(markdown(table))
    figures = draw_figures(tables, results / "figures")
    page = results / ("report.html" if preset == "paper" else f"report_{preset}.html")
    write_page(tables, figures, page)
    print(f"Tables: {results / 'tables'}; page: {page}")
    missing = []
    for table in tables:
        cells = [cell for cell in table.cells if not networks or cell.wanted.published.network in networks]
        if not all(cell.complete for cell in cells):
            missing.append(f"table {table.number}: {_missing(cells)}")
    for line in missing:
        print(f"incomplete: {line}")
    return missing


def read_table(number: int, preset: str, overrides: Sequence[str]) -> Table:
    """Return the table as far as the records fill it."""
    wanted = (_wanted(cell) for cell in table_cells(number, preset, overrides))
    return make_table(number, wanted, preset, CAPTIONS[number], remarks(number))


def _wanted(cell: TableCell) -> Wanted:
    config = cell.config
    command = f"python train.py {' '.join(cell.overrides)}"
    names = config.dataset.name, config.model.title, config.optimizer.name
    return Wanted(cell.published, *names, tuple(records_of(config)), command)


def _missing(cells: Sequence[Cell]) -> str:
    runs = sum(len(cell.wanted.runs) for cell in cells)
    finished = sum(len(cell.values) for cell in cells)
    return f"{finished} of {runs} runs, {sum(cell.complete for cell in cells)} of {len(cells)} cells complete"
