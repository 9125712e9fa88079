"""Runs that an earlier version recorded are read, skipped and resumed."""

import shutil
from pathlib import Path

import pytest

from experiments.records import records_of
from experiments.schema import ConfigError, load, recorded
from salr.records import Run, State, find_runs
from tests.helpers.commands import ROOT, train

RECORDED = ROOT / "tests" / "recorded_runs"
FINISHED = ["model=mnistfc", "optimizer=adam_salr", "trainer.epochs=2"]
INTERRUPTED = ["model=resnet44", "optimizer=sgd_salr", "trainer.epochs=2"]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Copy the recorded runs: one finished (without its weights), one interrupted after its first epoch."""
    shutil.copytree(RECORDED / "runs", tmp_path / "runs")
    return tmp_path


def the_run(words: list[str], results: Path) -> Run:
    (run,) = records_of(load([*words, f"results={results}"]))
    return run


def test_their_configurations_are_read_and_have_the_same_keys(results: Path) -> None:
    for run in find_runs(results):
        config = recorded(run.read_config() or {})
        config.results = str(results)
        assert records_of(config) == [run]


def test_a_finished_run_is_skipped(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = the_run(FINISHED, results)
    before = {path: path.read_bytes() for path in run.folder.iterdir()}
    assert run.state() is State.FINISHED
    assert train([*FINISHED, f"results={results}"]) == 0
    assert "seed 0: already finished, skipped" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.folder.iterdir()} == before


def test_an_interrupted_run_is_resumed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = the_run(INTERRUPTED, results)
    first = run.read_metrics()
    assert [row["epoch"] for row in first] == [1]
    assert train([*INTERRUPTED, f"results={results}"]) == 0
    assert "seed 0: resumed after epoch 1 of 2" in capsys.readouterr().out
    assert run.read_metrics()[0] == first[0]
    # The same run without an interruption, on the machine that recorded it; another one rounds differently.
    (results / "whole").mkdir()
    whole = Run(results / "whole", run.dataset, run.model, run.optimizer, run.key, run.seed)
    whole.folder.mkdir(parents=True)
    shutil.copy(RECORDED / "uninterrupted.jsonl", whole.folder / "metrics.jsonl")
    expected, resumed = whole.read_metrics()[1], run.read_metrics()[1]
    for name in ("epoch", "iteration", "gradient_calls", "loss_calls"):
        assert resumed[name] == expected[name]
    assert resumed["train_loss"] == pytest.approx(expected["train_loss"], rel=0.02)
    assert resumed["median_sharpness"] == pytest.approx(expected["median_sharpness"], rel=0.02)


@pytest.mark.parametrize("key", ["experiment", "cells", "cell", "preset"])
def test_retired_keys_are_ignored_and_other_unknown_ones_refused(results: Path, key: str) -> None:
    values = next(find_runs(results)).read_config() or {}
    assert key in values
    with pytest.raises(ConfigError, match="not one of this version"):
        recorded({**values, f"{key}_x": 1})
