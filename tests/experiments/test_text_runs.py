"""Runs on text: every optimizer learns, and a killed run ends like an uninterrupted one."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from data import corpora
from experiments.cell import train_cell
from experiments.records import record_of
from experiments.schema import load
from experiments.schema.overrides import choices
from salr.records import Run
from tests.helpers.text import RECIPES, parts_of, text, train

ROOT = Path(__file__).parents[2]
LENGTH = 50_000
OFFLINE = (
    "dataset=pydoc",
    "dataset.batch_size=80",
    "model=lstm_char",
    "model.embedding=4",
    "model.hidden=8",
    "model.dropout=0.5",
)
TIMES = {"seconds", "evaluation_seconds"}


@pytest.mark.parametrize("optimizer", choices("optimizer"))
@pytest.mark.parametrize("dataset", RECIPES)
def test_every_optimizer_learns_text(dataset: str, optimizer: str) -> None:
    """Four short epochs with the data set's recipe reduce the loss."""
    data = text(iterations=12, batch_size=4, sequence_length=8)
    rows = train(dataset, optimizer, data, "trainer.epochs=4").rows
    before = parts_of(dataset, optimizer, data)[0]
    start = before.task.evaluate(before.model, data.evaluation("validation"))["loss"]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["validation_loss"] < start
    for split in ("validation", "test"):
        assert {f"{split}_{metric}" for metric in ("loss", "bits", "perplexity")} <= rows[-1].keys()
    assert "test_accuracy" not in rows[-1]


def kill_within_an_epoch(run: Run, overrides: list[str]) -> None:
    """Kill a process that runs train.py on a tenth of the text when its second epoch begins."""
    code = (
        "import sys; from experiments.train import main; from data import corpora;"
        f"corpora.PYDOC_LENGTH = {LENGTH}; sys.exit(main(sys.argv[1:]))"
    )
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *overrides], cwd=ROOT, env=one_thread, stdout=subprocess.DEVNULL
    )
    limit = time.monotonic() + 120
    try:
        while (run.read_json("status.json") or {"epoch": 0})["epoch"] < 1:
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("optimizer", ["adam_salr", "entropy_sgd_salr"])
def test_a_killed_run_ends_bit_for_bit_as_one_that_was_not(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(corpora, "PYDOC_LENGTH", LENGTH)
    overrides = [*OFFLINE, f"optimizer={optimizer}", "trainer.epochs=5", "trainer.threads=1"]
    killed, whole = ([*overrides, f"results={tmp_path / name}"] for name in ("killed", "whole"))
    run, other = (record_of(load(command), 0) for command in (killed, whole))
    kill_within_an_epoch(run, killed)
    assert run.state() == "interrupted"
    assert 1 <= len(run.read_metrics()) < 5

    assert train_cell(load(killed)) == train_cell(load(whole)) == {0: "finished"}
    shown = capsys.readouterr().out
    assert "resumed after epoch" in shown
    assert re.search(r"epoch 5/5: .*, [\d,]+ tokens/s", shown)
    rows, expected = (
        [{name: value for name, value in row.items() if name not in TIMES} for row in record.read_metrics()]
        for record in (run, other)
    )
    assert repr(rows) == repr(expected)
    assert len(rows) == 5
    ends = [torch.load(record.folder / "checkpoint.pt", weights_only=True) for record in (run, other)]
    for end in ends:
        for name in TIMES:
            del end["progress"][name]
    assert repr(plain(ends[0])) == repr(plain(ends[1]))


def plain(value: object) -> object:
    """Replace tensors by lists of their exact values."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.tolist()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value
