"""Measure the sharpness of a finished run's final weights, and add the values to its record."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from experiments.build import build_tracker
from experiments.finished import Finished, Report, open_finished
from salr.records import Run
from salr.sharpness import (
    AscentDescent,
    SAMSharpness,
    ball_sharpness,
    box_sharpness,
    hessian_eigenvalues,
    hessian_trace,
)
from salr.training.provenance import provenance
from salr.training.tracker import Guarded

FILE = "sharpness.json"
SETTINGS: dict[str, Any] = {
    "mode": "eval",
    "gamma": 2e-3,
    "descent_steps": 5,
    "ascent_steps": 5,
    "keskar_epsilon": 5e-4,
    "keskar_iterations": 10,
    "sam_rho": 0.05,
    "ball_epsilon": 0.01,  # n γ, the distance that Definition 1 covers
    "trace_samples": 100,
}

Loss = Callable[[str], Any]
"""(split) → the loss over it."""


def train_loss(loss: Loss, parameters: list[Any]) -> dict[str, float]:
    """Return the loss that the measures compare others with."""
    with torch.no_grad():
        return {"train_loss": float(loss("train")())}


def ascent_descent(loss: Loss, parameters: list[Any]) -> dict[str, float]:
    steps = SETTINGS["descent_steps"], SETTINGS["ascent_steps"]
    return {"ascent_descent": float(AscentDescent(SETTINGS["gamma"], *steps)(loss("train"), parameters))}


def keskar(loss: Loss, parameters: list[Any]) -> dict[str, float]:
    return {"keskar_percent": _box(loss("test"), parameters)}


def keskar_train(loss: Loss, parameters: list[Any]) -> dict[str, float]:
    return {"keskar_train_percent": _box(loss("train"), parameters)}


def _box(loss: Any, parameters: list[Any]) -> float:
    return float(box_sharpness(loss, parameters, SETTINGS["keskar_epsilon"], SETTINGS["keskar_iterations"]))


def sam(loss: Loss, parameters: list[Any]) -> dict[str, float]:
    return {"sam": float(SAMSharpness(SETTINGS["sam_rho"])(loss("train"), parameters))}


def ball(loss: Loss, parameters: list[Any]) -> dict[str, float]:
    return {"ball": float(ball_sharpness(loss("train"), parameters, SETTINGS["ball_epsilon"]))}


def largest_eigenvalue(loss: Loss, parameters: list[Any]) -> dict[str, float]:
    return {"hessian_top": float(hessian_eigenvalues(loss("train"), parameters)[0])}


def trace(loss: Loss, parameters: list[Any]) -> dict[str, float]:
    mean, error = hessian_trace(loss("train"), parameters, SETTINGS["trace_samples"])
    return {"hessian_trace": mean, "hessian_trace_error": error}


MEASURES: dict[str, tuple[str, tuple[str, ...], Callable[[Loss, list[Any]], dict[str, float]]]] = {
    "ascent_descent": ("Definition 1", ("ascent_descent",), ascent_descent),
    "keskar": ("Keskar's φ", ("keskar_percent",), keskar),
    "keskar_train": ("Keskar's φ on training data", ("keskar_train_percent",), keskar_train),
    "sam": ("SAM's sharpness", ("sam",), sam),
    "ball": ("equation 2", ("ball",), ball),
    "hessian_top": ("the Hessian's largest eigenvalue", ("hessian_top",), largest_eigenvalue),
    "train_loss": ("the training loss", ("train_loss",), train_loss),
    "hessian_trace": ("the Hessian's trace", ("hessian_trace", "hessian_trace_error"), trace),
}
"""By name: a title, the entries of the record, and the measure."""

REPORTED = ("ascent_descent", "keskar")
"""What Table 4 may print."""


def measure_and_print(
    run: Run, names: Sequence[str], examples: int | None, device: str, exactly: bool = False
) -> None:
    """Measure what the run's record lacks, and print all the named values in one line."""
    with run.claim():
        values = measure(run, names, examples, device, exactly)
    numbers = (f"{entry} {values[entry]:.6g}" for name in names for entry in MEASURES[name][1])
    print(f"{run.dataset} {run.model} {run.optimizer} seed {run.seed}: {', '.join(numbers)}", flush=True)


def measure(
    run: Run, names: Sequence[str], examples: int | None, device: str, exactly: bool = False
) -> dict[str, Any]:
    """Add the named measures that the record lacks, and return the record. The caller holds the claim.

    A value on more examples counts as well, unless ``exactly`` this number is asked for.
    """
    known = run.read_json(FILE) or {}
    if known.get("settings") != SETTINGS:
        known = {"settings": SETTINGS, "measured": {}}
    missing = [name for name in names if not _covers(known["measured"].get(name), examples, exactly)]
    if missing:
        finished = open_finished(run, device)
        for name in missing:
            begun = time.perf_counter()
            known |= _values(name, finished, examples)
            known["measured"][name] = {"examples": examples, "seconds": time.perf_counter() - begun}
            run.write_json(
                FILE, {**known, "weights": finished.weights, "made_by": provenance(finished.device)}
            )
        entries = {entry: known[entry] for name in names for entry in MEASURES[name][1]}
        Guarded(build_tracker(finished.config)).add_measures(run.identity, entries)
    return known


def _covers(measured: Mapping[str, Any] | None, examples: int | None, exactly: bool) -> bool:
    """Whether a measure was taken on at least this many examples, or on exactly this many."""
    if measured is None:
        return False
    before: int | None = measured["examples"]
    if exactly:
        return before == examples
    return before is None or (examples is not None and before >= examples)


def _values(name: str, finished: Finished, examples: int | None) -> dict[str, float]:
    title, _, function = MEASURES[name]
    with _watched(f"  {finished.run.optimizer} seed {finished.run.seed}: {title}") as report:
        return function(lambda split: finished.loss(split, examples, report), finished.parameters)


@contextmanager
def _watched(title: str) -> Iterator[Report]:
    """Show on a terminal how far a measurement is."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield lambda number, batch: None
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(title)
        yield lambda number, batch: bar.update(task, description=f"{title}, pass {number}, batch {batch + 1}")
