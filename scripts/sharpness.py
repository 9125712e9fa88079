#!/usr/bin/env python3
"""Measures the sharpness of finished runs' final weights and adds the values to their records, as sharpness.json.

python scripts/sharpness.py results/runs/mnist/lenet/*/seed-*              Definition 1 and Keskar's φ, on all the data
python scripts/sharpness.py --examples 2000 --hessian RUN_FOLDER           on a part of it, and the Hessian's measures too

Always in eval mode and single precision: Definition 1 on the training set (γ 0.002, n1 = n2 = 5) and Keskar's φ on the test set
(ε 5e-4, 10 iterations of L-BFGS-B, in percent). What a record has already is not measured again, and what is measured is kept at
once. Exit code: 0 all is measured, 1 a measurement failed, 2 not a finished run, 4 another process holds a run, 130 interrupted.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from salr.records import Run
from salr.sharpness import (
    ascent_descent_sharpness,
    ball_sharpness,
    box_sharpness,
    hessian_eigenvalues,
    hessian_trace,
    sam_sharpness,
)
from salr.training.provenance import provenance
from scripts.command import Parser, start
from scripts.finished import Finished, Tell, count, guarded, open_finished
from train import INTERRUPTED, worst

FILE = "sharpness.json"
SETTINGS: dict[str, Any] = {
    "mode": "eval",
    "gamma": 2e-3,
    "descent_steps": 5,
    "ascent_steps": 5,
    "keskar_epsilon": 5e-4,
    "keskar_iterations": 10,
    "sam_rho": 0.05,
    "ball_epsilon": 0.01,  # n γ: as far as Definition 1 goes
    "trace_samples": 100,
}

Loss = Callable[[str], Any]
"""Gives the loss over a split."""


def ascent_descent(loss: Loss, parameters: list[Any]) -> dict[str, float]:
    steps = SETTINGS["descent_steps"], SETTINGS["ascent_steps"]
    return {"ascent_descent": float(ascent_descent_sharpness(loss("train"), parameters, SETTINGS["gamma"], *steps))}


def keskar(loss: Loss, parameters: list[Any]) -> dict[str, float]:
    found = box_sharpness(loss("test"), parameters, SETTINGS["keskar_epsilon"], SETTINGS["keskar_iterations"])
    return {"keskar_percent": float(found)}


def sam(loss: Loss, parameters: list[Any]) -> dict[str, float]:
    return {"sam": float(sam_sharpness(loss("train"), parameters, SETTINGS["sam_rho"]))}


def ball(loss: Loss, parameters: list[Any]) -> dict[str, float]:
    return {"ball": float(ball_sharpness(loss("train"), parameters, SETTINGS["ball_epsilon"]))}


def hessian(loss: Loss, parameters: list[Any]) -> dict[str, float]:
    largest = float(hessian_eigenvalues(loss("train"), parameters)[0])
    trace, error = hessian_trace(loss("train"), parameters, SETTINGS["trace_samples"])
    return {"hessian_top": largest, "hessian_trace": trace, "hessian_trace_error": error}


MEASURES: dict[str, tuple[str, tuple[str, ...], Callable[[Loss, list[Any]], dict[str, float]]]] = {
    "ascent_descent": ("Definition 1", ("ascent_descent",), ascent_descent),
    "keskar": ("Keskar's φ", ("keskar_percent",), keskar),
    "sam": ("SAM's sharpness", ("sam",), sam),
    "ball": ("equation 2", ("ball",), ball),
    "hessian": ("the Hessian", ("hessian_top", "hessian_trace", "hessian_trace_error"), hessian),
}
"""By flag: a title, the record's entries, and the measure."""


def main(arguments: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--sam", action="store_true", help="also SAM's sharpness, ρ = 0.05")
    parser.add_argument("--ball", action="store_true", help="also equation 2, ε = 0.01 (some 130 gradients)")
    parser.add_argument("--hessian", action="store_true", help="also the Hessian's largest eigenvalue and its trace")
    parser.add_argument("--examples", type=count, metavar="N", help="the first N images or tokens of a split; default all")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N; default %(default)s")
    chosen = parser.parse_args(arguments)
    names = [name for name in MEASURES if getattr(chosen, name, True)]

    def work(run: Run) -> None:
        values = measure(run, names, chosen.examples, chosen.device)
        numbers = (f"{entry} {values[entry]:.6g}" for name in names for entry in MEASURES[name][1])
        print(f"{run.dataset} {run.model} {run.optimizer} seed {run.seed}: {', '.join(numbers)}", flush=True)

    codes = []
    try:
        for folder in chosen.folders:
            codes.append(guarded("sharpness.py", folder, work))
    except KeyboardInterrupt:
        print("sharpness.py: interrupted; the same command goes on where it was", file=sys.stderr)
        return INTERRUPTED
    return worst(codes)


def measure(run: Run, names: list[str], examples: int | None, device: str) -> dict[str, Any]:
    """Adds to the run's record what it lacks of the named measures, and returns the record. The caller holds the claim."""
    known = run.read_json(FILE) or {}
    if known.get("settings") != SETTINGS:
        known = {"settings": SETTINGS, "measured": {}}
    missing = [name for name in names if not _covers(known["measured"].get(name), examples)]
    if missing:
        finished = open_finished(run, device)
        for name in missing:
            begun = time.perf_counter()
            known |= _values(name, finished, examples)
            known["measured"][name] = {"examples": examples, "seconds": time.perf_counter() - begun}
            run.write_json(FILE, {**known, "weights": finished.weights, "made_by": provenance(finished.device)})
    return known


def _covers(measured: Mapping[str, Any] | None, examples: int | None) -> bool:
    """Whether a measure has been taken, on at least so many examples."""
    if measured is None:
        return False
    before: int | None = measured["examples"]
    return before is None or (examples is not None and before >= examples)


def _values(name: str, finished: Finished, examples: int | None) -> dict[str, float]:
    title, _, function = MEASURES[name]
    with _watched(f"  {finished.run.optimizer} seed {finished.run.seed}: {title}") as tell:
        return function(lambda split: finished.loss(split, examples, tell), finished.parameters)


@contextmanager
def _watched(title: str) -> Iterator[Tell]:
    """On a terminal, a line that says how far a measurement is."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield lambda number, batch: None
        return
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(title)
        yield lambda number, batch: bar.update(task, description=f"{title}, pass {number}, batch {batch + 1}")


if __name__ == "__main__":
    sys.exit(start(main))
