"""The runs that the project keeps: copied without weights, hosts, processes and paths; and what follows."""

import copy
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.records import records_of
from experiments.report import make_report, read_tables
from experiments.study.cells import Study
from experiments.study.report import make_report as make_study_report
from salr.records import RecordError, Run, State, atomic, find_runs
from salr.records.sealed import plain

SCRUBBED = {
    "results": "results",
    "dataset.root": "downloads",
    "trainer.device": "auto",
    "tracker.directory": "results/wandb",
}
"""Values that name paths or a device, and what replaces them. None is part of a run's key."""

SHARPNESS = "sharpness.json"
KEPT = ("summary.json", SHARPNESS)

SEEDS = 10
"""How many the tables want of each cell."""

OVERRIDES = (f"seeds={SEEDS}", "trainer.precision=bf16")
"""Of the tables' cells: what the project trains."""

TRACE = "iterations.json.gz"
"""The iterations of the last epoch, compressed, of one seed per cell."""


def export(results: Path, reference: Path) -> list[Run]:
    """Copy runs that the reference folder lacks, or whose sharpness it lacks, and return the copies.

    A run is copied once it has finished or diverged, since a diverged run decides a search as well. A copy
    has the configuration, the status, the summary, the metrics and the measured sharpness. The first finished
    seed of a cell also has its trace of iterations.

    Raises:
        RecordError: a record cannot be read or written, or an ended run has no readable configuration.
    """
    copies = []
    traced = set()
    for run in find_runs(results):
        target = Run(reference, run.dataset, run.model, run.optimizer, run.key, run.seed)
        state = run.state()
        if not state.settled:
            continue
        first = state is State.FINISHED and run.cell not in traced
        if first:
            traced.add(run.cell)
        if not target.state().settled:
            _copy(run, target, first)
            copies.append(target)
        elif (measured := run.read_json(SHARPNESS)) not in (None, target.read_json(SHARPNESS)):
            target.write_json(SHARPNESS, measured or {})  # measured after the run was copied
            copies.append(target)
    return copies


def make(reference: Path) -> None:
    """Make tables, figures and pages from the runs of a reference folder. Trains nothing.

    Raises:
        RecordError: a record cannot be read, or a file cannot be written.
    """
    if numbers := measured_tables(reference):
        make_report(numbers, "paper", [*OVERRIDES, f"results={reference}"], reference)
    if (study := measured_study(reference)) is not None:
        make_study_report(study, reference)


def measured_tables(reference: Path) -> list[int]:
    """Return the numbers of the tables of which a run is kept."""
    tables, _ = read_tables([], "paper", [*OVERRIDES, f"results={reference}"])
    return [table.number for table in tables if any(cell.values for cell in table.cells)]


def measured_study(reference: Path) -> Study | None:
    """Return the study if a run of it is kept."""
    study = Study("paper", [f"results={reference}"])
    runs = (run for cell in study.planned() for run in records_of(cell.config))
    return study if any(run.state() is State.FINISHED for run in runs) else None


def _rounded(iterations: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns with six digits, which is more than a picture shows."""
    return {
        name: [float(f"{value:.6g}") for value in column] if isinstance(column, list) else column
        for name, column in iterations.items()
    }


def _copy(run: Run, target: Run, trace: bool) -> None:
    config = run.read_config()
    if config is None:
        raise RecordError(
            f"{run.folder}: config.yaml is missing or damaged; restore it, or move this folder elsewhere"
        )
    target.write_config(_scrubbed(config))
    target.keep_metrics(0)
    for row in run.read_metrics():
        target.append_metrics(row)
    for name in KEPT:
        if (values := run.read_json(name)) is not None:
            target.write_json(name, values)
    if trace and (iterations := run.read_json("iterations.json")) is not None:
        text = json.dumps(plain(_rounded(iterations)))
        atomic.write(target.folder / TRACE, gzip.compress(text.encode(), mtime=0))
    status = run.read_json("status.json") or {}
    # The status comes last: until then the copy is not a run that has ended.
    target.write_json("status.json", {name: status[name] for name in status if name not in ("pid", "host")})


def _scrubbed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without paths and devices."""
    values = copy.deepcopy(dict(config))
    for path, replacement in SCRUBBED.items():
        *parts, name = path.split(".")
        node = values
        for part in parts:
            node = node[part]
        node[name] = replacement
    return values
