"""First-order SALR beside SALR in the findings: which runs are compared."""

import importlib
from pathlib import Path

import pandas as pd
import pytest

from tests.docs.test_pages import pretend
from tests.helpers.pages import DOCS


def run(optimizer: str, seed: int, accuracy: float, **changes: object) -> dict[str, object]:
    """Return a row as ``load_runs`` gives it; a ``__`` in a change's name is a dot."""
    row: dict[str, object] = {
        "dataset": "mnist",
        "model": "mnistfc",
        "optimizer": optimizer,
        "state": "finished",
        "config.optimizer.base.lr": 0.01,
        "config.dataset.batch_size": 128,
        "config.dataset.validation": False,
        "config.trainer.precision": "bf16",
        "epochs": 20,
        "seed": seed,
        "test_accuracy": accuracy,
    }
    if optimizer == "sgd_salr":
        values = {"gamma": 0.002, "descent_steps": 5, "ascent_steps": 5, "interval": 2, "shared_noise": True}
        row |= {f"config.optimizer.salr.{name}": value for name, value in values.items()}
    return row | {name.replace("__", "."): value for name, value in changes.items()}


RUNS = [
    run("sgd_salr", 0, 97.0),
    run("sgd_salr", 1, 97.2),
    run("sgd_salr", 2, 99.0),
    run("sgd_salr_first_order", 0, 97.1),
    run("sgd_salr_first_order", 1, 97.5),
    # None of these belongs to the pair above.
    run("sgd_salr_first_order", 2, 50.0, state="diverged"),
    run("sgd_salr_first_order", 2, 50.0, epochs=100),
    run("sgd_salr_first_order", 2, 50.0, config__dataset__validation=True),
    run("sgd_salr", 0, 50.0, config__optimizer__salr__gamma=0.02),
    run("sgd_salr", 1, 50.0, config__optimizer__salr__shared_noise=False),
    run("sgd", 0, 50.0),
]


def told(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, object]]) -> list[tuple[tuple[str, ...], str]]:
    """Return the row of the table and the sentence about each cell."""
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    extension = importlib.import_module("reference_first_order")
    monkeypatch.setattr(extension, "load_runs", lambda _: (pd.DataFrame(rows), pd.DataFrame()))
    cells = extension.compared(Path("results"))
    return list(zip(extension.table(cells)[1], map(extension.words, cells), strict=True))


def test_only_runs_that_differ_in_the_measure_alone_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    ((row, words),) = told(monkeypatch, RUNS)
    # Differences 0.1 and 0.3: mean 0.2, standard error 0.1, and t(1) of 97.5 % is 12.706.
    where = "mnistfc, mnist", "0.01", "20"
    assert row == (*where, "97.10 (0.14)", "97.30 (0.28)", "+0.20 [-1.07, +1.47]", "2")
    assert words == (
        "mnistfc, mnist, at the same rate (η0 = 0.01) and for as many iterations: "
        "first-order SALR minus SALR is +0.20 percentage points (95 % interval -1.07 to +1.47, 2 seeds)."
    )


def test_one_seed_has_no_interval_and_no_runs_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    ((row, words),) = told(monkeypatch, [RUNS[0], RUNS[3]])
    assert row[3:] == ("97.00", "97.10", "+0.10", "1")
    assert words.endswith("SALR is +0.10 percentage points (1 seed).")
    assert told(monkeypatch, [RUNS[0]]) == []
    assert told(monkeypatch, [RUNS[-1]]) == []
    assert told(monkeypatch, []) == []


def test_without_such_runs_the_findings_say_so(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert pretend(tmp_path).first_order() == "*Not measured yet.*"
