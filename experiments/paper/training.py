"""Train the cells of the paper's tables, here or through a launcher, and make the tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.cli import ExitCode, attempt, code_of, worst
from experiments.jobs import estimate
from experiments.paper.published import TABLES
from experiments.paper.tables import TableCell, cells_of_tables
from experiments.plan import plan, text
from experiments.records import records_of
from experiments.schema import ConfigError
from experiments.sweep import SweepRequest, seconds_a_call
from salr.records import State

SHARPNESS_TABLE = 4
"""The table of what is measured on the final weights, after training."""

SMOKE_EXAMPLES = 500


@dataclass(frozen=True)
class TableRequest(SweepRequest):
    """What ``scripts/table.py`` is asked for, in the words of its arguments."""

    tables: Sequence[str]
    seeds: str
    networks: str

    @property
    def numbers(self) -> list[int]:
        """The tables' numbers. Raises ConfigError."""
        if list(self.tables) == ["all"]:
            return list(TABLES)
        for table in self.tables:
            if table == "all":
                raise ConfigError("all: expected without other tables")
            if not table.isdecimal() or int(table) not in TABLES:
                raise ConfigError(
                    f"table {table}: expected a number from {TABLES[0]} to {TABLES[-1]}, or all"
                )
        return [int(table) for table in self.tables]

    @property
    def overrides(self) -> list[str]:
        """The overrides of every cell."""
        return [f"seeds={self.seeds}", *self.cell_overrides]

    @property
    def chosen_networks(self) -> list[str]:
        """The networks whose cells are trained; all of them if there are none. Raises ConfigError."""
        names = self.networks.split(",") if self.networks else []
        if "" in names:
            raise ConfigError(f"networks {self.networks!r}: expected names with a comma between them")
        return names

    def cells(self) -> list[TableCell]:
        """Return the chosen cells of all tables. Raises ConfigError."""
        cells = [
            cell
            for table in cells_of_tables(self.numbers, self.preset, self.overrides).values()
            for cell in table
        ]
        networks = set(self.chosen_networks)
        known = list(dict.fromkeys(cell.published.network for cell in cells))
        if unknown := networks - set(known):
            raise ConfigError(f"networks {', '.join(sorted(unknown))}: expected some of {', '.join(known)}")
        return [cell for cell in cells if not networks or cell.published.network in networks]


def train_tables(request: TableRequest) -> ExitCode:
    """Train what is left of the tables, then make them. Returns the exit code.

    Raises:
        ConfigError, RecordError: before anything is trained.
    """
    request.check_launching()
    cells = request.cells()
    request.check_launcher()
    plans = plan(cells)
    print(text(plans), flush=True)
    left = [each for each in plans if each.seeds_left]
    if request.plan:
        if left:
            print(estimate(left, seconds_a_call(left), request.jobs), flush=True)
        return ExitCode.FINISHED
    results = Path(cells[0].config.results)
    codes = request.train(left, results)
    codes.append(code_of(record.state() for each in plans for record in records_of(each.config)))
    if SHARPNESS_TABLE in request.numbers:
        measured = [cell for cell in cells if cell.published.table == SHARPNESS_TABLE]
        codes += _measure_sharpness(measured, request.preset)
    from experiments.report import make_report

    chosen = (request.numbers, request.preset, request.overrides)
    missing = make_report(*chosen, results, request.chosen_networks)
    return worst([*codes, ExitCode.FAILED if missing else ExitCode.FINISHED])


def _measure_sharpness(cells: Sequence[TableCell], preset: str) -> list[ExitCode]:
    """Measure the final weights of finished runs; what a run has been measured for is not measured again."""
    runs = [
        record for cell in cells for record in records_of(cell.config) if record.state() is State.FINISHED
    ]
    if not runs:
        return []
    from experiments.sharpness import REPORTED, measure_and_print

    examples = SMOKE_EXAMPLES if preset == "smoke" else None
    return [attempt(partial(measure_and_print, run, REPORTED, examples, "auto")) for run in runs]
