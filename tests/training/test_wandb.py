"""W&B as a view of the records: the offline files that it would upload, without a network."""

import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from salr.training import WandbTracker
from tests.helpers.commands import ROOT, SMALL, command, epochs_done, left, runs, train, until

wandb = pytest.importorskip("wandb", reason="needs wandb")

TRACKED = [*SMALL, "tracker=wandb", "trainer.workers=1"]


class Seen(NamedTuple):
    """A W&B run, or a part of one that was interrupted."""

    identity: str
    name: str
    group: str
    project: str
    tags: list[str]
    config: dict[str, Any]
    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    step_metrics: dict[str, str]
    exit_code: int | None


def seen(results: Path) -> list[Seen]:
    """The offline runs below a results folder, in the order in which they were started."""
    folders = sorted(
        (results / "wandb" / "wandb").glob("offline-run-*"), key=lambda folder: folder.stat().st_ctime_ns
    )
    return [_read(file) for folder in folders for file in folder.glob("*.wandb")]


def _read(file: Path) -> Seen:
    from wandb.proto import wandb_internal_pb2

    run, rows, summary, metrics, code = None, [], {}, {}, None
    for payload in _payloads(file.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = run or record.run
        elif kind == "history":
            rows.append({_key(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "summary":
            summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
        elif kind == "metric":
            metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "exit":
            code = record.exit.exit_code
    assert run is not None
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    return Seen(
        run.run_id,
        run.display_name,
        run.run_group,
        run.project,
        list(run.tags),
        config,
        rows,
        summary,
        metrics,
        code,
    )


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _payloads(data: bytes) -> Iterator[bytes]:
    """Parse LevelDB's log format: blocks of 32 KB, records of crc32, length and kind."""
    place, payload = 7, b""
    while place + 7 <= len(data):
        room = 32768 - place % 32768
        if room < 7:
            place += room
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        payload += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield payload
            payload = b""


@pytest.fixture(autouse=True)
def no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B names its process in the environment: children must not look for one that has ended."""
    monkeypatch.delenv("WANDB_SERVICE", raising=False)


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment that asks W&B for all the traffic it can, to a socket where nothing may arrive."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        traffic = dict.fromkeys(
            ("WANDB_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), address
        )
        tempting = {"WANDB_MODE": "online", "WANDB_API_KEY": "0" * 40, "NO_PROXY": "", "no_proxy": ""}
        others = {
            "WANDB_PROJECT": "another",
            "WANDB_RUN_ID": "another",
            "WANDB_RUN_GROUP": "another",
            "WANDB_NAME": "another",
        }
        home = {"WANDB_CONFIG_DIR": str(tmp_path / "home"), "WANDB_CACHE_DIR": str(tmp_path / "home")}
        patient = {"WANDB__SERVICE_WAIT": "300", "WANDB_INIT_TIMEOUT": "300"}  # on a busy machine
        yield traffic | tempting | others | home | patient
        with pytest.raises(BlockingIOError):
            server.accept()


def test_three_seeds_in_one_process_are_three_runs(tmp_path: Path, trap: dict[str, str]) -> None:
    results = tmp_path / "results"
    arguments = [
        *TRACKED,
        "trainer.epochs=2",
        "optimizer=sgd_salr",
        "seeds=3",
        "dataset.validation=true",
        "tracker.tags=[a,b]",
    ]
    with command(tmp_path / "here", *arguments, f"results={results}", environment=trap) as run:
        assert run.wait() == 0, run.text
        assert "W&B" not in run.text
        assert "wandb" not in run.text.lower()
    records, views = runs(results), seen(results)
    assert len(views) == 3
    for (seed, record), view in zip(records.items(), views, strict=True):
        cell = f"digits/lenet/sgd_salr-{record.key}"
        assert (view.identity, view.name, view.group) == (f"{record.key}-{seed}", f"{cell}/seed-{seed}", cell)
        assert (view.project, view.tags, view.exit_code) == ("salr", ["a", "b"], 0)
        recorded = record.read_metrics()
        assert len(view.rows) == 2
        for row, expected in zip(view.rows, recorded, strict=True):
            assert {name: value for name, value in row.items() if not name.startswith("_")} == expected
            assert row["_step"] == expected["epoch"]
        assert view.step_metrics["*"] == "gradient_calls"
        assert {"gradient_calls", "epoch"} <= set(view.step_metrics)
        config = record.read_config()
        assert config is not None
        shown = {name: value for name, value in view.config.items() if name != "_wandb"}
        assert shown == config | {"seed": seed, "epochs": 2}
        assert config["seeds"] == [seed]
        assert config["optimizer"]["salr"]["gamma"] == 0.002
        summary = record.read_json("summary.json")
        assert summary is not None
        assert {name: view.summary[name] for name in summary} == summary
        assert view.summary["state"] == "finished"
    # W&B writes nothing outside the results folder and changes no result.
    assert list((tmp_path / "here").iterdir()) == []
    assert train([*arguments, "tracker=none", f"results={tmp_path / 'untracked'}"]) == 0
    for seed, record in runs(tmp_path / "untracked").items():
        assert left(record) == left(records[seed])


def test_a_resumed_run_is_the_same_run(tmp_path: Path, trap: dict[str, str]) -> None:
    arguments = [*TRACKED, "trainer.epochs=20", f"results={tmp_path / 'results'}"]
    with command(tmp_path / "here", *arguments, environment=trap) as run:
        until(lambda: epochs_done(tmp_path / "results") >= 2)
        run.send(signal.SIGTERM)
        assert run.wait() == 130
    with command(tmp_path / "here", *arguments, environment=trap) as run:
        assert run.wait() == 0
    first, second = seen(tmp_path / "results")
    record = runs(tmp_path / "results")[0]
    assert first.identity == second.identity == f"{record.key}-0"
    assert first.group == second.group
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert (first.summary["state"], second.summary["state"]) == ("interrupted", "finished")
    steps = [row["_step"] for row in first.rows + second.rows]
    assert steps == [row["epoch"] for row in first.rows + second.rows]
    assert steps == sorted(set(steps))
    assert set(range(1, 21)) - set(steps) <= {
        first.rows[-1]["epoch"] + 1
    }  # recorded, but stopped before it was logged


def test_measures_are_added_to_the_summary_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "CACHE"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    tracker = WandbTracker("salr", None, "offline", tmp_path / "wandb")
    tracker.start(0, "cell/seed-0", "cell", "key-0", {})
    tracker.log({"epoch": 1, "gradient_calls": 10, "test_loss": 0.5})
    tracker.finish({"test_loss": 0.5}, "finished")
    time.sleep(1.1)  # W&B names its folders by the second
    tracker.add_measures("key-0", {"leading_eigenvalue": 12.5})
    wandb.teardown()  # ends W&B's process, which writes the files
    first, second = seen(tmp_path)
    assert first.identity == second.identity == "key-0"
    assert first.summary["test_loss"] == 0.5
    assert second.summary["leading_eigenvalue"] == 12.5
    assert second.exit_code == 0


def test_the_sharpness_of_final_weights_is_uploaded(tmp_path: Path, trap: dict[str, str]) -> None:
    results = tmp_path / "results"
    with command(
        tmp_path / "here", *TRACKED, "trainer.epochs=1", f"results={results}", environment=trap
    ) as run:
        assert run.wait() == 0, run.text
        assert "WandbTracker" not in run.text
    time.sleep(1.1)  # W&B names its folders by the second
    measure = [sys.executable, str(ROOT / "scripts" / "sharpness.py"), "--examples", "200"]
    folder = str(runs(results)[0].folder)
    subprocess.run([*measure, folder], cwd=tmp_path, env={**os.environ, **trap}, check=True)
    trained, measured = seen(results)
    assert trained.identity == measured.identity
    values = runs(results)[0].read_json("sharpness.json") or {}
    for name in ("ascent_descent", "keskar_percent"):
        assert measured.summary[name] == values[name]


@pytest.mark.parametrize("broken", ["not installed", "init", "no folder"])
def test_losing_wandb_loses_no_record(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: object) -> None:
        raise wandb.errors.CommError("the service\ncannot be reached")

    arguments = [*TRACKED, "trainer.epochs=2", "seeds=2", f"results={tmp_path / 'results'}"]
    if broken == "not installed":
        monkeypatch.setitem(sys.modules, "wandb", None)
    elif broken == "init":
        monkeypatch.setattr(wandb, "init", fail)
    else:
        (tmp_path / "file").touch()
        arguments.append(f"tracker.directory={tmp_path / 'file' / 'wandb'}")
    with caplog.at_level(logging.WARNING):
        assert train(arguments) == 0
    lines = [
        message
        for message in caplog.messages
        if "the run continues without it, and its record is on disk" in message
    ]
    assert len(lines) == 2  # one a seed
    assert all(line.startswith("WandbTracker: ") and "\n" not in line for line in lines)
    monkeypatch.undo()
    assert train([*arguments, "tracker=none", "trainer.epochs=2", f"results={tmp_path / 'untracked'}"]) == 0
    for seed, record in runs(tmp_path / "untracked").items():
        assert left(record) == left(runs(tmp_path / "results")[seed])


def test_without_a_tracker_wandb_is_not_imported(tmp_path: Path) -> None:
    arguments = [*SMALL, "trainer.epochs=1", f"results={tmp_path}"]
    script = (
        f"import sys; from experiments.train import main; code = main({arguments!r}); "
        "sys.exit(code or 'wandb' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, capture_output=True).returncode
        == 0
    )
