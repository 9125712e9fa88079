"""Records and tables made up for the tests of reporting."""

from collections.abc import Sequence
from pathlib import Path

from experiments.paper.published import Published
from salr.records import Run
from salr.reporting.tables import Table, Wanted, make_table

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


def table(results: Path, cells: dict[str, Sequence[Run]], preset: str = "paper", number: int = 1) -> Table:
    wanted = []
    for method, runs in cells.items():
        printed = Published(number, "mnist", "lenet", method, "accuracy_percent", 99.0, 0.01)
        wanted.append(
            Wanted(printed, "mnist", "lenet", method, tuple(runs), f"python train.py optimizer={method}")
        )
    return make_table(number, wanted, preset)
