"""Records and tables made up for the tests of reporting."""

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.paper.claims import CLAIMS
from experiments.paper.published import Published
from experiments.paper.tables import TableCell, table_cells
from experiments.records import records_of
from salr.records import Run
from salr.records.sealed import json_bytes
from salr.reporting.cells import Wanted
from salr.reporting.tables import Table, make_table
from salr.reporting.verdicts import Judgement, judge

MADE = {"versions": {"torch": "2"}, "commit": "c", "device": "cpu", "threads": 1}


def record(
    results: Path,
    optimizer: str,
    seed: int,
    accuracy: float | None,
    state: str = "finished",
    epochs: int = 20,
) -> Run:
    run = Run(results, "mnist", "lenet", optimizer, "abc", seed)
    if state == "absent":
        return run
    costs = {"epochs": epochs, "gradient_calls": 46800, "seconds": 10.0 + seed, "epoch": epochs}
    if accuracy is not None:
        run.write_json("summary.json", {"test_accuracy": accuracy, **costs, "made_by": MADE})
        run.append_metrics({"epoch": 1, "gradient_calls": 46800, "test_accuracy": accuracy})
    run.write_status(state, epochs)
    return run


def table(
    results: Path, cells: dict[str, Sequence[Run]], preset: str = "paper", number: int = 1, **options: Any
) -> Table:
    """A table of one row, LeNet on MNIST."""
    wanted = []
    for method, runs in cells.items():
        printed = Published(number, "mnist", "lenet", method, "accuracy_percent", 99.0, 0.01)
        wanted.append(
            Wanted(printed, "mnist", "lenet", method, tuple(runs), f"python train.py optimizer={method}")
        )
    return make_table(number, wanted, preset, **options)


def judged(*tables: Table) -> Judgement:
    """The tables, judged by the paper's claims."""
    return judge(tables, CLAIMS)


def synthetic_records(
    results: Path,
    numbers: Iterable[int],
    overrides: Sequence[str],
    epochs: int | None = None,
    scale: float = 5,
) -> None:
    """Records of all runs of tables, as if they had been trained: the published values with noise.

    Args:
        epochs: rows of the metrics; the whole budget if None.
        scale: the deviation of the runs, in published deviations.
    """
    seen: set[Path] = set()
    # Table 4 is measured on runs of Table 2, whose records must have accuracies.
    for number in sorted(numbers, key=lambda each: each == 4):
        for cell in table_cells(number, "paper", [*overrides, f"results={results}"]):
            for run in records_of(cell.config):
                random = np.random.default_rng(zlib.crc32(f"{number} {run.name}".encode()))
                printed = cell.published
                value = float(random.normal(printed.mean, max(scale * printed.std, 0.02 * (printed.std > 0))))
                if printed.metric == "sharpness_1e-3":
                    _write_sharpness(run, abs(value))
                if run.folder not in seen:
                    seen.add(run.folder)
                    _write_run(run, cell, value, epochs, random)


def _write_run(
    run: Run, cell: TableCell, value: float, epochs: int | None, random: np.random.Generator
) -> None:
    config, metric = cell.config, cell.published.metric
    rows, salr = epochs or config.epochs, "salr" in config.optimizer.name
    calls = config.dataset.iterations * config.optimizer.gradient_calls * config.epochs
    progress = np.arange(1, rows + 1) / rows
    start = {"accuracy_percent": 60.0, "perplexity": 600.0, "nats": 3.0}.get(metric, 60.0)
    final = 90.0 if metric == "sharpness_1e-3" else value
    curve = final + (start - final) * (1 - progress) ** 2 + random.normal(0, abs(start - final) / 200, rows)
    curve[-1] = final
    lines = []
    for number, current in enumerate(curve.tolist(), 1):
        row: dict[str, Any] = {
            "epoch": number,
            "iteration": number * config.dataset.iterations,
            "train_loss": 1.0 / number,
            "lr": 0.01,
            "gradient_calls": round(calls * number / rows),
            "loss_calls": 0,
            "seconds": 10.0 * number,
            "evaluation_seconds": 1.0,
            **_measured(metric, current),
        }
        if salr:
            factor = float(random.uniform(0.9, 1.1))
            row |= {"sharpness": 0.05 * factor, "median_sharpness": 0.05, "lr_factor": factor}
            row |= {
                "lr_effective": 0.01 * factor,
                "lr_factor_low": factor - 0.3,
                "lr_factor_high": factor + 0.4,
            }
        lines.append(json_bytes(row, separator=", "))
    run.write_json("summary.json", {**row, "epochs": config.epochs, "gradient_calls": calls, "made_by": MADE})
    run.write_status("finished", config.epochs)
    (run.folder / "metrics.jsonl").write_bytes(b"".join(lines))
    if salr and run.seed == 0:
        sharpness = random.uniform(0.03, 0.07, 60)
        trace = {"sharpness": sharpness.tolist(), "median_sharpness": [0.05] * 60}
        rate = {"lr_factor": (sharpness / 0.05).tolist(), "lr_effective": (sharpness / 5).tolist()}
        run.write_json("iterations.json", {"epoch": rows, **trace, **rate})


def _measured(metric: str, value: float) -> dict[str, float]:
    if metric == "perplexity":
        return {"test_perplexity": value, "test_loss": float(np.log(value))}
    if metric == "nats":
        return {"test_perplexity": float(np.exp(value)), "test_loss": value}
    return {"test_accuracy": value, "test_loss": (100 - value) / 30}


def _write_sharpness(run: Run, value: float) -> None:
    measured = {"ascent_descent": {"examples": None, "seconds": 1.0}}
    run.write_json("sharpness.json", {"ascent_descent": value / 1e3, "measured": measured, "settings": {}})
