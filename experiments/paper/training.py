"""Train the cells of the paper's tables, here or through a launcher, and make the tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.cell import train_cell
from experiments.cli import ExitCode, attempt, code_of, worst
from experiments.launch import LAUNCHERS, check_launcher, launch
from experiments.paper.published import TABLES
from experiments.paper.tables import TableCell, table_cells
from experiments.plan import CellPlan, plan, text
from experiments.progress import Sweep
from experiments.records import folder_of, records_of
from experiments.request import Cell
from experiments.schema import ConfigError
from experiments.schema.overrides import check_overrides, is_launching
from salr.records import State, check_writable

SHARPNESS_TABLE = 4
"""The table of what is measured on the final weights, after training."""

SMOKE_EXAMPLES = 500


@dataclass(frozen=True)
class TableRequest:
    """What ``scripts/table.py`` is asked for, in the words of its arguments."""

    tables: Sequence[str]
    preset: str
    seeds: str
    networks: str
    launcher: str
    plan: bool
    override: Sequence[str]

    @property
    def numbers(self) -> list[int]:
        """The tables' numbers. Raises ConfigError."""
        if list(self.tables) == ["all"]:
            return list(TABLES)
        for table in self.tables:
            if not table.isdigit() or int(table) not in TABLES:
                raise ConfigError(
                    f"table {table}: expected a number from {TABLES[0]} to {TABLES[-1]}, or all"
                )
        return [int(table) for table in self.tables]

    @property
    def launching(self) -> list[str]:
        """The launcher's own overrides. Raises ConfigError if they are not allowed."""
        launching = [word for word in self.override if is_launching(word)]
        check_overrides(launching)
        if launching and self.launcher == "local":
            needed = f"expected --launcher {' or '.join(LAUNCHERS)} with it"
            raise ConfigError(f"{launching[0]}: only for a launcher; {needed}")
        return launching

    @property
    def overrides(self) -> list[str]:
        """The overrides of every cell."""
        return [f"seeds={self.seeds}", *(word for word in self.override if not is_launching(word))]

    @property
    def chosen_networks(self) -> list[str]:
        return [name for name in self.networks.split(",") if name]

    def cells(self) -> list[TableCell]:
        """Return the chosen cells of all tables. Raises ConfigError."""
        cells = [cell for number in self.numbers for cell in table_cells(number, self.preset, self.overrides)]
        networks = set(self.chosen_networks)
        if unknown := networks - {cell.published.network for cell in cells}:
            raise ConfigError(f"networks {', '.join(sorted(unknown))}: expected some that the tables have")
        return [cell for cell in cells if not networks or cell.published.network in networks]


def train_tables(request: TableRequest) -> ExitCode:
    """Train what is left of the tables, then make them. Returns the exit code.

    Raises:
        ConfigError, RecordError: before anything is trained.
    """
    launching, cells = request.launching, request.cells()
    if request.launcher != "local":
        check_launcher(request.launcher)
    plans = plan(cell.config for cell in cells)
    seconds = (
        _times(plans) if request.launcher == "local" else None
    )  # another launcher's machines are unknown
    print(text(plans, seconds), flush=True)
    if request.plan:
        return ExitCode.FINISHED
    results = Path(cells[0].config.results)
    check_writable(results)
    if request.launcher == "local":
        codes = _train(plans, seconds or {})
    else:
        codes = _launch(plans, cells, [*LAUNCHERS[request.launcher], *launching])
    if SHARPNESS_TABLE in request.numbers:
        codes += _measure_sharpness(
            [cell for cell in cells if cell.published.table == SHARPNESS_TABLE], request.preset
        )
    from experiments.report import make_report

    missing = make_report(
        request.numbers, request.preset, request.overrides, results, request.chosen_networks
    )
    return worst([*codes, ExitCode.FAILED if missing else ExitCode.FINISHED])


def _times(plans: Sequence[CellPlan]) -> dict[tuple[str, str], float] | None:
    """Return the seconds of gradient calls; None, without loading torch, if nothing is left."""
    if not any(cell.left for cell in plans):
        return None
    from experiments.calibrate import seconds_a_call

    return seconds_a_call(plans)


def _train(plans: Sequence[CellPlan], seconds_a_call: dict[tuple[str, str], float]) -> list[ExitCode]:
    """Train cell after cell; one that fails does not stop the others."""
    left = [cell for cell in plans if cell.left]
    sweep = Sweep(left, seconds_a_call)
    codes = []
    for place, cell in enumerate(left, 1):
        print(f"[{place}/{len(left)}]", end=" ", flush=True)
        codes.append(code_of(train_cell(cell.config, sweep.watch(cell.config)).values()))
    return [*codes, _recorded(plans)]


def _launch(
    plans: Sequence[CellPlan], cells: Sequence[TableCell], launching: Sequence[str]
) -> list[ExitCode]:
    """Hand every cell that has something left to the launcher, once, whichever tables show it."""
    by_folder = {folder_of(cell.config): Cell(cell.config, cell.overrides) for cell in cells}
    left = [by_folder[folder_of(cell.config)] for cell in plans if cell.left]
    if left:
        launch(left, launching)
    return [_recorded(plans)]


def _recorded(plans: Sequence[CellPlan]) -> ExitCode:
    """Return the exit code that follows from the records of all cells."""
    return code_of(record.state() for cell in plans for record in records_of(cell.config))


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
