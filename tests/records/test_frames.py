"""All runs of a results folder in two pandas frames: complete, damaged runs marked, in bounded memory."""

import io
import math
import random
import re
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pandas
import pytest

from salr.records import Run, State, find_runs, load_runs
from salr.records.sealed import json_bytes
from tests.helpers.records import RECORDED, a_run, contents, damage

IDENTITY = ["dataset", "model", "optimizer", "key", "seed"]


def finished(results: Path, count: int, epochs: int = 0) -> list[Run]:
    """Make ``count`` finished runs quickly, 10 seeds per cell, without syncing."""
    results.mkdir(exist_ok=True)
    status = json_bytes(
        {"state": "finished", "epoch": 20, "pid": 1, "host": "h", "time": "2026-01-01T00:00:00+00:00"}
    )
    runs = [
        Run(results, "mnist", "lenet", "sgd", f"{index // 10:010x}", index % 10) for index in range(count)
    ]
    for index, run in enumerate(runs):
        run.folder.mkdir(parents=True)
        (run.folder / "status.json").write_bytes(status)
        facts = {f"fact_{number}": number / 3 for number in range(20)}
        summary = {"accuracy": index / 7, "seed": "not mine", **facts}
        (run.folder / "summary.json").write_bytes(json_bytes(summary))
        if epochs:
            rows = ({"epoch": epoch, "loss": epoch / 7, **facts} for epoch in range(1, epochs + 1))
            lines = b"".join(json_bytes(row, separator=", ") for row in rows)
            (run.folder / "metrics.jsonl").write_bytes(lines)
    return runs


def test_runs_and_epochs_are_what_was_recorded(tmp_path: Path) -> None:
    run = a_run(tmp_path, seed=3)
    run.write_config({"optimizer": {"base": {"lr": 0.1, "betas": [0.9, 0.99]}, "salr": None}, "seeds": [3]})
    run.append_metrics({"epoch": 1, "loss": math.inf})
    run.append_metrics({"epoch": 2, "loss": 0.1 + 0.2})
    run.write_json("summary.json", {"loss": 0.1 + 0.2, "seed": 7, "made_by": {"device": "cpu"}})
    run.write_status(State.FINISHED, epoch=2)
    other = Run(tmp_path, "mnist", "lenet", "sgd", "ab", 0)
    other.write_config({"optimizer": {"salr": {"gamma": 2e-3}}})
    other.append_metrics({"epoch": 1, "perplexity": 120.5})

    runs, epochs = load_runs(str(tmp_path))
    assert list(runs.columns) == [
        *IDENTITY,
        "state",
        "config.optimizer.base.lr",
        "config.optimizer.base.betas",
        "config.optimizer.salr",
        "config.seeds",
        "config.optimizer.salr.gamma",
        "loss",
        "made_by.device",
    ]
    first, second = (row.dropna().to_dict() for _, row in runs.iterrows())
    assert first == {
        **dict(zip(IDENTITY, ("digits", "lenet", "sgd_salr", "0123456789", 3), strict=True)),
        "state": "finished",
        "config.optimizer.base.lr": 0.1,
        "config.optimizer.base.betas": (0.9, 0.99),
        "config.seeds": (3,),
        "loss": 0.1 + 0.2,
        "made_by.device": "cpu",
    }
    assert second == {
        **dict(zip(IDENTITY, ("mnist", "lenet", "sgd", "ab", 0), strict=True)),
        "state": "interrupted",
        "config.optimizer.salr.gamma": 2e-3,
    }
    assert list(epochs.columns) == [*IDENTITY, "epoch", "loss", "perplexity"]
    assert list(epochs["key"]) == ["0123456789"] * 2 + ["ab"]
    assert list(epochs["seed"]) == [3, 3, 0]
    assert list(epochs["epoch"]) == [1, 2, 1]
    assert list(epochs["loss"][:2]) == [math.inf, 0.1 + 0.2]
    assert list(epochs["perplexity"].isna()) == [True, True, False]
    grouped = runs.groupby("config.optimizer.base.betas")["loss"].mean()
    assert grouped.to_dict() == {(0.9, 0.99): 0.1 + 0.2}


def test_means_and_curves_of_recorded_runs() -> None:
    runs, epochs = load_runs(RECORDED)
    finished = runs[runs.state == "finished"]
    means = finished.groupby(["model", "config.optimizer.base.lr"]).test_accuracy.agg(["mean", "count"])
    curves = epochs[epochs.model == "mnistfc"].groupby(["optimizer", "epoch"]).test_accuracy.mean()
    assert means.loc[("mnistfc", 0.01), "mean"] == 95.83333333333333
    assert curves["adam_salr"].to_dict() == {1: 95.0, 2: 95.83333333333333}


def test_a_folder_without_runs_gives_empty_frames(tmp_path: Path) -> None:
    for results in (tmp_path, tmp_path / "missing"):
        runs, epochs = load_runs(results)
        assert list(runs.columns) == [*IDENTITY, "state"]
        assert list(epochs.columns) == [*IDENTITY, "epoch"]
        assert len(runs) == len(epochs) == 0


def test_runs_that_have_not_finished_have_their_state(tmp_path: Path) -> None:
    runs = finished(tmp_path, 3)
    runs[1].write_status(State.DIVERGED, epoch=2)
    runs[2].write_status(State.RUNNING, epoch=2)
    table, _ = load_runs(tmp_path)
    assert list(table["state"]) == ["finished", "diverged", "interrupted"]
    assert list(table["seed"]) == [0, 1, 2]
    with runs[2].claim():
        assert list(load_runs(tmp_path)[0]["state"]) == ["finished", "diverged", "running"]


@pytest.mark.parametrize("name", ["status.json", "summary.json", "config.yaml"])
def test_a_run_that_cannot_be_read_is_marked_and_touched_by_nobody(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(RECORDED, tmp_path, dirs_exist_ok=True)
    (run, _) = find_runs(tmp_path)
    path = run.folder / name
    path.write_bytes(path.read_bytes()[:-4])
    before = contents(run.folder)
    runs, epochs = load_runs(tmp_path)
    assert list(runs["state"]) == ["damaged", "interrupted"]
    assert runs.iloc[0].drop([*IDENTITY, "state"]).isna().all()
    assert list(epochs["model"]) == ["resnet44"]
    assert caplog.messages == [f"{path} is damaged (its checksum does not match); the run counts as damaged"]
    assert contents(run.folder) == before


def test_damaged_lines_of_metrics_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (run,) = finished(tmp_path, 1, epochs=3)
    path = run.folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"epoch": 2', b'"epoch": 9')[:-1])
    runs, epochs = load_runs(tmp_path)
    assert list(runs["state"]) == ["finished"]
    assert list(epochs["epoch"]) == [1]
    assert [f"{path} line {number} is damaged" in caplog.text for number in (1, 2, 3)] == [False, True, True]


def test_each_damaged_record_among_good_ones_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = finished(tmp_path, 1100)
    chance = random.Random(0)
    hurt = chance.sample(runs, 100)
    for run in hurt:
        damage(run.folder / chance.choice(["summary.json", "status.json"]), chance)
    for _ in range(2):  # reading repairs nothing and hides nothing
        caplog.clear()
        table, _ = load_runs(tmp_path)
        assert len(table) == 1100
        assert set(table["state"]) == {"finished", "damaged"}
        lost = table[table["state"] == "damaged"]
        assert {(row.key, row.seed) for row in lost.itertuples()} == {(run.key, run.seed) for run in hurt}
        assert lost["accuracy"].isna().all()
        assert {re.split(r" is damaged|: ", line)[0].rpartition("/")[0] for line in caplog.messages} == {
            str(run.folder) for run in hurt
        }
        assert len(caplog.messages) == 100
    good = table[table["state"] == "finished"]
    expected = [index / 7 for index, run in enumerate(runs) if run not in hurt]
    assert list(good["accuracy"]) == expected


def test_loading_opens_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(tmp_path, 300, epochs=1)
    opened: Counter[Path] = Counter()
    real = io.open

    def counted(path: Path, *arguments: Any) -> Any:
        opened[path] += 1
        return real(path, *arguments)

    monkeypatch.setattr(io, "open", counted)
    assert (load_runs(tmp_path)[0]["state"] == "finished").all()
    monkeypatch.undo()
    assert set(opened.values()) == {1}
    assert Counter(path.name for path in opened) == dict.fromkeys(
        ("status.json", "summary.json", "config.yaml", "metrics.jsonl"), 300
    )


@pytest.mark.parametrize(("count", "epochs"), [(500, 0), (60, 200)])
def test_loading_needs_the_memory_of_its_frames(tmp_path: Path, count: int, epochs: int) -> None:
    finished(tmp_path, count, epochs)
    for run in find_runs(tmp_path):
        (run.folder / "checkpoint.pt").write_bytes(bytes(1 << 16))
        (run.folder / "iterations.json").write_bytes(json_bytes({"values": [0.5] * 4000}))
    load_runs(tmp_path)  # imports
    tracemalloc.start()
    frames: tuple[pandas.DataFrame, ...] = load_runs(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(int(frame.memory_usage(deep=True).sum()) for frame in frames)
    assert peak < 4 * size + 1_000_000
