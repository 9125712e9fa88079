"""Records of the study that are written instead of trained."""

import csv
from collections.abc import Sequence
from pathlib import Path

from experiments.records import records_of
from experiments.study.cells import Study, StudyCell
from salr.records import Run, State
from tests.helpers.tables import MADE


def study(results: Path, preset: str = "smoke", *overrides: str) -> Study:
    return Study(preset, [f"results={results}", *overrides])


def write(run: Run, state: State = State.FINISHED, **values: float) -> None:
    """Write the record of a run that has ended."""
    costs = {"epochs": 5, "gradient_calls": 55.0, "loss_calls": 0, "seconds": 1.0}
    run.write_json("summary.json", {**costs, "made_by": MADE, **values})
    run.append_metrics({"epoch": 1, "lr_factor_mean": 0.5})
    run.append_metrics({"epoch": 2, "lr_factor_mean": 0.9})
    run.write_status(state, 5)


def search(of: Study, method: str, accuracies: Sequence[float]) -> None:
    """Write the search of a method with these validation accuracies, the rates in the order of the file."""
    for rate, accuracy in zip(of.plan.search.rates, accuracies, strict=True):
        for run in records_of(of.search_cell(method, rate).config):
            write(run, validation_accuracy=accuracy)


def finish(of: Study, cell: StudyCell | None, accuracies: Sequence[float]) -> None:
    assert cell is not None
    for run, accuracy in zip(records_of(cell.config), accuracies, strict=True):
        write(run, test_accuracy=accuracy)


def table(results: Path, name: str) -> dict[str, dict[str, str]]:
    with (results / "study_smoke" / f"{name}.csv").open(newline="") as stream:
        return {row["name"]: row for row in csv.DictReader(stream)}
