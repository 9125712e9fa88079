"""Train the cells of the paper's tables, here or through a launcher, and make the tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.cell import train_cell
from experiments.cli import ExitCode, attempt, code_of, worst
from experiments.jobs import cut, estimate
from experiments.launch import LAUNCHERS, check_launcher, launch
from experiments.paper.published import TABLES
from experiments.paper.tables import TableCell, cells_of_tables
from experiments.plan import CellPlan, Network, plan, text
from experiments.progress import Sweep
from experiments.records import records_of
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
    jobs: int
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
        cells = [
            cell
            for table in cells_of_tables(self.numbers, self.preset, self.overrides).values()
            for cell in table
        ]
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
    local = request.launcher == "local"
    if not local:
        check_launcher(request.launcher)
    plans = plan(cells)
    print(text(plans), flush=True)
    left = [each for each in plans if each.seeds_left]
    if request.plan:
        if left:
            print(estimate(left, _seconds_a_call(left), request.jobs), flush=True)
        return ExitCode.FINISHED
    results = Path(cells[0].config.results)
    if local and left:
        _check_devices(left)
    check_writable(results)
    codes = []
    if left and local:
        codes = _train(left)
    elif left:
        _launch(left, request.jobs, [*LAUNCHERS[request.launcher], *launching])
    codes.append(code_of(record.state() for each in plans for record in records_of(each.config)))
    if SHARPNESS_TABLE in request.numbers:
        measured = [cell for cell in cells if cell.published.table == SHARPNESS_TABLE]
        codes += _measure_sharpness(measured, request.preset)
    from experiments.report import make_report

    chosen = (request.numbers, request.preset, request.overrides)
    missing = make_report(*chosen, results, request.chosen_networks)
    return worst([*codes, ExitCode.FAILED if missing else ExitCode.FINISHED])


def _check_devices(plans: Sequence[CellPlan]) -> None:
    """Raise ``ValueError`` before anything is made on disk if this machine lacks a chosen device."""
    from experiments.build import device_of  # loads torch

    for each in plans:
        device_of(each.config)


def _train(plans: Sequence[CellPlan]) -> list[ExitCode]:
    """Train cell after cell; one that fails does not stop the others."""
    sweep = Sweep(plans)
    codes = []
    for place, each in enumerate(plans, 1):
        print(f"[{place}/{len(plans)}]", end=" ", flush=True)
        codes.append(code_of(train_cell(each.config, sweep.watch(each.config)).values()))
    return codes


def _launch(plans: Sequence[CellPlan], jobs: int, launching: Sequence[str]) -> None:
    """Hand all that is left to the launcher, in jobs of about equal cost."""
    seconds = _seconds_a_call(plans)
    print(estimate(plans, seconds, jobs), flush=True)
    launch([job.cells for job in cut(plans, seconds, jobs)], plans[0].config.results, launching)


def _seconds_a_call(plans: Sequence[CellPlan]) -> dict[Network, float]:
    from experiments.calibrate import seconds_a_call  # loads torch

    return seconds_a_call(plans)


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
