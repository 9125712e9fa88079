#!/usr/bin/env python3
"""Makes tables, verdicts, figures and the page from whatever the records hold. Trains nothing; can be run at any time.

python scripts/report.py                        all nine tables and results/report.html
python scripts/report.py 1 --seeds 3 --override trainer.precision=bf16
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configs.tables import PRESETS, TABLES, read_table
from salr.records import check_writable
from salr.reporting.figures import draw_figures
from salr.reporting.page import write_page
from salr.reporting.render import markdown, write_table
from salr.reporting.tables import Cell
from scripts.command import Parser, start

COMPLETE, INCOMPLETE = 0, 1


def main(arguments: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("tables", nargs="*", type=int, help="numbers from 1 to 9; all by default")
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument("--seeds", default="30", help="which seeds the tables want")
    parser.add_argument("--override", nargs="*", default=[], metavar="NAME=VALUE", help="of the cells, as for train.py")
    chosen = parser.parse_args(arguments)
    return make_tables(chosen.tables or list(TABLES), chosen.preset, [f"seeds={chosen.seeds}", *chosen.override])


def make_tables(numbers: Sequence[int], preset: str, overrides: list[str], networks: Sequence[str] = ()) -> int:
    """Writes the tables, their figures and the page, prints the tables, and says whether anything is missing.

    Args:
        networks: where only these of the paper's count as missing; all where there are none.

    Raises:
        ConfigError: before anything is written.
    """
    tables = [read_table(number, preset, overrides) for number in numbers]
    results = results_of(overrides)
    check_writable(results)
    for table in tables:
        write_table(table, results / "tables")
        print(markdown(table))
    figures = draw_figures(tables, results / "figures")
    page = results / ("report.html" if preset == "paper" else f"report_{preset}.html")
    write_page(tables, figures, page)
    wanted = {table.number: [cell for cell in table.cells if not networks or _network(cell) in networks] for table in tables}
    missing = [f"table {number}: {_missing(cells)}" for number, cells in wanted.items() if not all(cell.complete for cell in cells)]
    print(f"Tables: {results / 'tables'}; page: {page}")
    for line in missing:
        print(f"incomplete: {line}")
    return INCOMPLETE if missing else COMPLETE


def results_of(overrides: list[str]) -> Path:
    """Where the records are, the last word counting."""
    named = [override.partition("=")[2] for override in overrides if override.startswith("results=")]
    return Path(named[-1] if named else "results")


def _network(cell: Cell) -> str:
    return cell.wanted.published.network


def _missing(cells: Sequence[Cell]) -> str:
    runs = sum(len(cell.wanted.runs) for cell in cells)
    finished = sum(len(cell.values) for cell in cells)
    return f"{finished} of {runs} runs, {sum(cell.complete for cell in cells)} of {len(cells)} cells complete"


if __name__ == "__main__":
    sys.exit(start(main))
