"""The demo: which runs its picture shows."""

from pathlib import Path

import pytest

from experiments.records import records_of
from experiments.schema import Config
from salr.records import State
from scripts import demo


def made(config: Config) -> dict[int, State]:
    """Record a finished and a diverged run, and leave the third absent."""
    states = {0: State.FINISHED, 1: State.DIVERGED}
    for run in records_of(config)[:2]:
        run.append_metrics({"epoch": 1, "gradient_calls": 1, "test_accuracy": 90.0})
        run.write_json(
            "summary.json", {"test_accuracy": 90.0, "epochs": 1, "gradient_calls": 1, "seconds": 1.0}
        )
        run.write_status(states[run.seed], 1)
    return states


def test_the_picture_shows_finished_runs_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list] = {}
    monkeypatch.setattr(demo, "train_cell", made)
    monkeypatch.setattr(demo, "error_and_factor", lambda curves, path: drawn.update(curves))
    demo.main([f"results={tmp_path}"])
    assert {name: len(runs) for name, runs in drawn.items()} == dict.fromkeys(demo.OPTIMIZERS, 1)
