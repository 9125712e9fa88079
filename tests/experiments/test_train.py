"""The whole command: what it trains, skips, refuses, prints and returns, in sequence and in parallel."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import data.files
from experiments import launch
from experiments.cli import worst
from experiments.records import record_of
from experiments.schema import load
from experiments.seeds import Shared, processes, train_seed
from experiments.train import recorded
from salr.records import State, find_runs
from salr.training import Event
from salr.training.failure import ADVICE
from tests.helpers.commands import ROOT, SMALL, command, epochs_done, gone, left, runs, train, until
from tests.helpers.devices import DEVICES

HUGE = "optimizer.base.lr=1e30"


def test_every_seed_is_trained_once_and_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SMALL, "trainer.epochs=2", "optimizer=sgd_salr", "seeds=[0,3]", f"results={tmp_path}"]
    assert train(arguments) == 0
    first = capsys.readouterr()
    assert first.err == ""
    assert f"digits lenet sgd_salr: 2 epochs, 2 runs on {DEVICES[-1]}" in first.out
    for seed in (0, 3):
        assert re.search(
            rf"seed {seed}: epoch 2/2: loss [\d.]+, test accuracy [\d.]+ %, factor [\d.]+", first.out
        )
        assert f"seed {seed}: finished" in first.out
    records = runs(tmp_path)
    assert list(records) == [0, 3]
    accuracies = [(run.read_json("summary.json") or {})["test_accuracy"] for run in records.values()]
    table = first.out.splitlines()[-2:]
    assert table[0].startswith("cell ")
    assert table[0].endswith("mean   std  n  epochs  gradient calls  seconds per run  others")
    assert f"{sum(accuracies) / 2:.2f}" in table[1]
    assert f"{abs(accuracies[0] - accuracies[1]) / 2**0.5:.2f}" in table[1]

    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert train(arguments) == 0
    again = capsys.readouterr()
    for seed, run in records.items():
        assert f"seed {seed}: already finished, skipped ({run.folder})" in again.out
    assert "epoch 1/" not in again.out
    assert again.out.splitlines()[-2:] == table
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    assert train([*arguments, "seeds=[3,5]"]) == 0  # the last word counts
    more = capsys.readouterr()
    assert "seed 3: already finished" in more.out
    assert "seed 5: finished" in more.out
    assert list(runs(tmp_path)) == [0, 3, 5]


def test_a_skipped_cell_costs_no_torch(tmp_path: Path) -> None:
    arguments = [*SMALL, "trainer.epochs=1", f"results={tmp_path}"]
    assert train(arguments) == 0
    script = (
        "import sys; from experiments.train import main;"
        f"code = main({arguments!r}); sys.exit(code or 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "skipped" in done.stdout


def test_a_run_that_another_process_trains_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SMALL, "trainer.epochs=1", "seeds=2", f"results={tmp_path}"]
    busy = record_of(load(arguments), 0)
    with busy.claim():
        assert train(arguments) == 4
    out = capsys.readouterr().out
    assert re.search(rf"seed 0: busy: \S+/seed-0 is held by process {os.getpid()} on ", out)
    assert "seed 1: finished" in out
    assert {path.name for path in busy.folder.iterdir()} == {"lock"}
    assert train(arguments) == 0


def test_a_run_that_has_ended_in_the_meantime_is_not_touched(tmp_path: Path) -> None:
    """Two processes find the run open; the one that claims it second finds it finished."""
    arguments = [*SMALL, "trainer.epochs=1", f"results={tmp_path}"]
    assert train(arguments) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    events: list[Event] = []
    shared = Shared(load(arguments), data=None, device=torch.device("cpu"))
    assert train_seed(shared, 0, events.append) == "finished"
    assert [(event.kind, event.state) for event in events] == [("ended", "finished")]
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_diverged_run_is_recorded_and_the_others_go_on(
    workers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SMALL, HUGE, "seeds=2", f"trainer.workers={workers}", f"results={tmp_path}"]
    assert train(arguments) == 3
    out = capsys.readouterr().out
    for seed, run in runs(tmp_path).items():
        assert run.state() == "diverged"
        assert f"seed {seed}: diverged" in out
        assert (run.read_json("status.json") or {})["epoch"] == len(run.read_metrics()) >= 1
    assert out.splitlines()[-1].endswith("2 diverged")
    assert train(arguments) == 3
    assert "seed 1: already diverged, skipped" in capsys.readouterr().out


def test_a_failed_run_says_why_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SMALL, "trainer.epochs=1", "seeds=3", f"results={tmp_path}"]
    obstacle = record_of(load(arguments), 1).folder / "metrics.jsonl"
    obstacle.mkdir(parents=True)
    assert train(arguments) == 1
    out = capsys.readouterr().out
    assert len(re.findall(r"seed 1: failed: RecordError: cannot \w+ \S+/metrics\.jsonl: [^\n]+\n", out)) == 1
    assert out.count("seed 1: failed") == 1
    assert {seed: run.state() for seed, run in runs(tmp_path).items()} == {
        0: "finished",
        1: "failed",
        2: "finished",
    }
    obstacle.rmdir()
    assert train(arguments) == 0
    assert "seed 0: already finished" in capsys.readouterr().out


def test_a_device_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train([*SMALL, "trainer.device=cuda:99", f"results={tmp_path}"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert (
        shown.err
        == "train.py: trainer.device = cuda:99; this machine has no such device, expected auto or cpu\n"
    )
    assert not list(tmp_path.iterdir())


def test_missing_data_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data.files, "urlopen", _offline)
    arguments = [
        "dataset=mnist",
        *SMALL,
        f"dataset.root={tmp_path / 'empty'}",
        f"results={tmp_path / 'results'}",
    ]
    assert train(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.count("train.py: ") == 1
    assert "dataset=digits" in shown.err.splitlines()[-1]
    assert "Traceback" not in shown.err


def _offline(*_: object, **__: object) -> None:
    raise OSError("no network")


def test_seeds_differ_and_a_seed_repeats_itself(tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert train([*SMALL, "trainer.epochs=1", "seeds=2", f"results={tmp_path / name}"]) == 0
    first, second = runs(tmp_path / "first"), runs(tmp_path / "second")
    assert left(first[0]) == left(second[0])
    assert left(first[0])["metrics"] != left(first[1])["metrics"]


def test_16_bits_validation_and_recomputed_statistics_train(tmp_path: Path) -> None:
    options = ["trainer.precision=bf16", "trainer.recompute_batch_statistics=true", "dataset.validation=true"]
    arguments = [
        *SMALL,
        "model=mobilenetv2",
        "dataset.batch_size=400",
        "trainer.epochs=1",
        *options,
        f"results={tmp_path}",
    ]
    assert train(arguments) == 0
    (row,) = runs(tmp_path)[0].read_metrics()
    assert {"validation_loss", "validation_accuracy", "test_accuracy"} <= set(row)
    assert row["gradient_calls"] == row["iteration"] == 1294 // 400


def test_results_that_cannot_be_written_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").touch()
    assert train([*SMALL, f"results={tmp_path / 'results'}"]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (
        "",
        f"train.py: cannot write to {tmp_path / 'results'}: it is not a folder\n",
    )


# Many cells.


def test_a_sweep_trains_every_combination_and_its_worst_cell_tells(tmp_path: Path) -> None:
    results = tmp_path / "results"
    arguments = [
        *SMALL,
        "trainer.epochs=1",
        f"results={results}",
        "-m",
        "optimizer=sgd,sgd_salr",
        "optimizer.base.lr=1e30,0.01",
    ]
    with command(tmp_path / "here", *arguments) as sweep:
        assert sweep.wait() == 3
        assert sweep.text.count("seed 0: finished") == 2
        assert sweep.text.count("seed 0: diverged") == 2
        assert "Traceback" not in sweep.text
    states = sorted((run.optimizer, run.state()) for run in find_runs(results))
    assert states == [(name, state) for name in ("sgd", "sgd_salr") for state in ("diverged", "finished")]
    with command(tmp_path / "here", *arguments) as again:
        assert again.wait() == 3
        assert again.text.count("skipped") == 4


def test_an_interrupted_sweep_stops_at_once(tmp_path: Path) -> None:
    results = tmp_path / "results"
    with command(
        tmp_path / "here", *SMALL, "trainer.epochs=500", f"results={results}", "-m", "seeds=[0],[1]"
    ) as sweep:
        until(lambda: epochs_done(results) >= 1)
        sweep.send(signal.SIGINT)
        assert sweep.wait() == 130
        assert "Traceback" not in sweep.text
    assert list(runs(results)) == [0]


def test_after_a_launcher_the_records_decide_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher's jobs return no exit codes; this one trains nothing."""
    monkeypatch.setattr(launch, "launch", lambda *_: None)
    launched = ["-m", "hydra/launcher=basic"]
    arguments = [*SMALL, "trainer.epochs=1", f"results={tmp_path}"]
    config = load(arguments)
    record = record_of(config, 0)
    assert recorded(config) == 1
    with record.claim():
        assert recorded(config) == 4
    assert train(arguments) == 0
    assert recorded(config) == 0
    assert train([*launched, *arguments]) == 0
    record.write_status(State.DIVERGED, 1)
    assert recorded(config) == 3
    assert train([*launched, *arguments, "seeds=1,2"]) == 1


@pytest.mark.parametrize(
    ("codes", "expected"), [([], 0), ([0, 0], 0), ([0, 4], 4), ([4, 3], 3), ([3, 2, 0], 2), ([2, 1, 3], 1)]
)
def test_the_most_severe_exit_code_wins(codes: list[int], expected: int) -> None:
    assert worst(codes) == expected


# In parallel.


@pytest.mark.parametrize(
    ("overrides", "seeds", "cores", "devices", "expected"),
    [
        ([], 1, 4, ["cpu"], (1, 4)),
        ([], 3, 4, ["cpu"], (3, 1)),
        ([], 30, 4, ["cpu"], (4, 1)),
        ([], 2, 4, ["cpu"], (2, 2)),
        ([], 3, 4, ["cuda"], (1, 4)),
        ([], 30, 4, ["cuda:0", "cuda:1"], (2, 2)),
        ([], 1, 4, ["cuda:0", "cuda:1"], (1, 4)),
        (["trainer.workers=4"], 30, 4, ["cuda:0", "cuda:1"], (4, 1)),
        (["trainer.workers=2"], 30, 4, ["cpu"], (2, 2)),
        (["trainer.workers=9"], 3, 4, ["cpu"], (3, 1)),
        (["trainer.workers=2", "trainer.threads=3"], 30, 4, ["cpu"], (2, 3)),
        (["trainer.threads=1"], 1, 4, ["cpu"], (1, 1)),
    ],
)
def test_cores_are_shared_without_a_fight(
    overrides: list[str],
    seeds: int,
    cores: int,
    devices: list[str],
    expected: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
    assert processes(load(overrides), seeds, [torch.device(name) for name in devices]) == expected


ALONG = [*SMALL, "optimizer=sgd_salr", "seeds=3", "trainer.epochs=12"]


def test_side_by_side_is_one_after_another_and_a_death_costs_one_run(tmp_path: Path) -> None:
    assert train([*ALONG, "trainer.workers=1", f"results={tmp_path / 'alone'}"]) == 0
    results, alone = tmp_path / "beside", runs(tmp_path / "alone")
    arguments = [*ALONG, "trainer.workers=2", f"results={results}"]
    with command(tmp_path / "here", *arguments) as beside:
        until(lambda: epochs_done(results, seed=1) >= 2)
        pid = (runs(results)[1].read_json("status.json") or {})["pid"]
        assert pid not in (os.getpid(), beside.process.pid)
        os.kill(pid, signal.SIGKILL)
        assert beside.wait() == 1
        assert f"3 runs on {DEVICES[-1]}, 2 in parallel" in beside.text
        assert "seed 1: failed: its process ended with exit code -9" in beside.text
        assert "Traceback" not in beside.text
    states = {seed: run.state() for seed, run in runs(results).items()}
    assert states == {0: "finished", 1: "interrupted", 2: "finished"}
    with command(tmp_path / "here", *arguments) as again:
        assert again.wait() == 0
        assert "seed 1: resumed after epoch" in again.text
    for seed, run in runs(results).items():
        assert left(run) == left(alone[seed])


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, which limits a process's data")
def test_a_batch_too_large_for_the_memory_is_one_line_that_says_what_to_change(tmp_path: Path) -> None:
    """The batch is too large for one run as well: each run is retried by itself before it fails."""
    large = [
        "model=resnet18",
        "dataset.batch_size=1437",
        "trainer.epochs=1",
        "trainer.threads=1",
        "seeds=2",
        "trainer.workers=2",
    ]
    arguments = [sys.executable, str(ROOT / "train.py"), *large, f"results={tmp_path / 'results'}"]
    limited = ["prlimit", f"--data={1200 << 20}", *arguments]
    done = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    advice = f"{ADVICE} (RuntimeError: "
    for seed, run in runs(tmp_path / "results").items():
        assert run.state() == "failed"
        assert (run.read_json("status.json") or {})["reason"].startswith(advice)
        told = re.findall(rf"^  seed {seed}: (\w+): (.*)$", done.stdout, re.MULTILINE)
        assert [state for state, _ in told] == ["failed", "waiting", "failed"]
        assert told[0][1].startswith(advice)
        assert told[1][1] == "out of memory; retried with at most 1 in parallel"


def test_an_interrupt_stops_all_that_run_side_by_side(tmp_path: Path) -> None:
    """A terminal sends Ctrl-C to every process, and the parent sends it to its children again."""
    results = tmp_path / "results"
    with command(
        tmp_path / "here", *ALONG, "trainer.epochs=500", "trainer.workers=2", f"results={results}"
    ) as run:
        until(lambda: min(epochs_done(results, seed=seed) for seed in (0, 1)) >= 1)
        workers = [(runs(results)[seed].read_json("status.json") or {})["pid"] for seed in (0, 1)]
        run.send(signal.SIGINT)
        for pid in workers:
            os.kill(pid, signal.SIGINT)
        assert run.wait() == 130
        assert "Traceback" not in run.text
        assert run.text.endswith("train.py: interrupted; run the same command again to resume\n")
    assert {seed: run.state() for seed, run in runs(results).items()} == {0: "interrupted", 1: "interrupted"}
    assert {(run.read_json("status.json") or {})["state"] for run in runs(results).values()} == {
        "interrupted"
    }
    assert all(map(gone, workers))
