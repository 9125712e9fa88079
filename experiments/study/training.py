"""Train the study in its two phases, here or through a launcher, and make its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from experiments.cli import ExitCode, attempt, code_of, worst
from experiments.plan import CellPlan, duration, plan
from experiments.records import folder_of, records_of
from experiments.schema import Config
from experiments.study.cells import SEARCH, Study, StudyCell, examples_of
from experiments.sweep import SweepRequest, seconds_a_call
from salr.records import State


@dataclass(frozen=True)
class StudyRequest(SweepRequest):
    """What ``scripts/study.py`` is asked for, in the words of its arguments."""

    skip_sharpness: bool

    def study(self) -> Study:
        """Return the study. Raises ConfigError."""
        return Study(self.preset, self.cell_overrides)


def train_study(request: StudyRequest) -> ExitCode:
    """Train what the records allow, round after round, until nothing is left; then measure, then report.

    Phase 1 is the first round. A part of phase 2 is planned only if all runs that decide its rate have ended.

    Raises:
        ConfigError, RecordError: before anything is trained.
    """
    request.check_launching()
    study = request.study()
    request.check_launcher()
    if request.plan:
        print(costs(study), flush=True)
        return ExitCode.FINISHED
    results = Path(study.search_cells()[0].config.results)
    tried: set[Path] = set()
    while left := [each for each in plan(study.planned()) if _new(each, tried)]:
        print(f"{len(left)} cells, {sum(len(each.seeds_left) for each in left)} runs to train", flush=True)
        request.train(left, results)
        tried |= {folder_of(each.config) for each in left}
    planned = study.planned()
    codes = [_code(cell) for cell in planned]
    if not request.skip_sharpness:
        measured = [
            cell.config for cell in planned if cell.part != SEARCH and study.plan.parts[cell.part].flatness
        ]
        codes += _measure(measured, examples_of(request.preset))
    from experiments.study.report import make_report

    make_report(study, results)
    return worst(codes)


def _code(cell: StudyCell) -> ExitCode:
    """Return what the records say of a cell. A rate at which the search diverges is an answer, no failure."""
    states = (run.state() for run in records_of(cell.config))
    return code_of(state for state in states if cell.part != SEARCH or state is not State.DIVERGED)


def _new(each: CellPlan, tried: set[Path]) -> bool:
    """Return whether a cell has something left that this process has not tried yet: a failed run stays."""
    return bool(each.seeds_left) and folder_of(each.config) not in tried


def _measure(configs: Sequence[Config], examples: Mapping[str, int | None]) -> list[ExitCode]:
    """Measure the final weights of finished runs, unless a record has the value on these very examples."""
    runs = [run for config in configs for run in records_of(config) if run.state() is State.FINISHED]
    if not runs:
        return []
    from experiments.sharpness import measure_and_print

    return [
        attempt(partial(measure_and_print, run, [name], number, "auto", exactly=True))
        for run in runs
        for name, number in examples.items()
    ]


def costs(study: Study) -> str:
    """Return a line per part and method: runs, gradient calls left, and the time they take on this device.

    A gradient call counts in units of the usual batch: one on eight times as many images counts eight times.
    """
    planned = [(cell, plan([cell])[0]) for cell in study.everything()]
    usual = planned[0][0].config.dataset.batch_size
    seconds = seconds_a_call([each for _, each in planned])
    head = f"{'runs':>5}{'left':>6}{'calls of a run':>16}{'calls left':>14}  time left"
    lines = [f"{'part':<26}{'method':<24}{head}"]
    total = runs = calls = 0.0
    for (part, method), group in groupby(planned, key=lambda each: (each[0].part, each[0].method)):
        of_group = [each for _, each in group]
        scale = of_group[0].config.dataset.batch_size / usual
        left = scale * sum(each.left for each in of_group)
        time = left * seconds.get(of_group[0].network, 0.0)
        left_runs = sum(len(each.seeds_left) for each in of_group)
        total, runs, calls = total + time, runs + left_runs, calls + left
        numbers = f"{sum(each.runs for each in of_group):>5}{left_runs:>6}"
        of_a_run = scale * of_group[0].gradient_calls
        lines.append(f"{part:<26}{method:<24}{numbers}{of_a_run:>16,.0f}{left:>14,.0f}  {duration(time)}")
    numbers = f"{runs:>11.0f}{'':>16}{calls:>14,.0f}  {duration(total)}, one after another"
    lines.append(f"{'together':<50}{numbers}")
    return "\n".join(lines)
