"""Interrupts, failures, unusable checkpoints, senseless data, and trackers that break."""

import errno
import io
import logging
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam

import salr.training.trainer
from salr.optim import SALR
from salr.records import RecordError, Run
from salr.training import Event
from salr.training.checkpoint import save
from tests.helpers.commands import left
from tests.helpers.trainer import WRAPPERS, Points, of, trainer

# Interrupts.


class Stop:
    """Raise at the n-th event."""

    def __init__(self, after: int, error: BaseException) -> None:
        self.after, self.error = after, error

    def __call__(self, event: Event) -> None:
        if self.after == 0:
            raise self.error
        self.after -= 1


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_run_interrupted_at_any_event_is_resumed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salr.training.trainer, "REPORT_SECONDS", -1)  # an event an iteration
    events: list[Event] = []
    options = {"epochs": 2} | of(name)
    whole = trainer(tmp_path / "whole", listen=events.append, **options)
    whole.train()
    expected = left(whole.run)
    assert [event.kind for event in events] == ["begun", *(["running"] * 4 + ["epoch"]) * 2, "ended"]
    for stop in range(len(events) - 1):
        stopped = trainer(tmp_path / str(stop), listen=Stop(stop, KeyboardInterrupt()), **options)
        with pytest.raises(KeyboardInterrupt):
            stopped.train()
        assert stopped.run.state() == "interrupted"
        status = stopped.run.read_json("status.json")
        assert status is not None
        assert status["epoch"] == stop // 5
        resumed = trainer(tmp_path / str(stop), **options)
        assert resumed.train() == "finished"
        assert left(resumed.run) == expected, stop


def test_a_failure_says_why_and_the_run_is_resumed(tmp_path: Path) -> None:
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if event.kind == "epoch" and event.epoch == 2:
            raise RuntimeError("the lights\nwent out")

    with pytest.raises(RuntimeError, match="lights"):
        trainer(tmp_path / "failed", listen=listen).train()
    failed = trainer(tmp_path / "failed")
    assert failed.run.state() == "failed"
    status = failed.run.read_json("status.json")
    assert status is not None
    assert (status["epoch"], status["reason"]) == (2, "RuntimeError: the lights went out")
    assert "ended" not in {event.kind for event in events}  # the caller, who receives the error, reports it
    assert failed.train() == "finished"
    whole = trainer(tmp_path / "whole")
    whole.train()
    assert left(failed.run) == left(whole.run)


def test_parts_that_cannot_be_built_are_a_recorded_failure(tmp_path: Path) -> None:
    def impossible() -> nn.Module:
        raise ValueError("no such network")

    failed = trainer(tmp_path, model=impossible)
    with pytest.raises(ValueError, match="no such network"):
        failed.train()
    status = failed.run.read_json("status.json")
    assert status is not None
    assert (status["state"], status["reason"]) == ("failed", "ValueError: no such network")


def test_a_write_that_fails_is_named_in_the_error(tmp_path: Path) -> None:
    failed = trainer(tmp_path)
    (failed.run.folder / "metrics.jsonl").mkdir(parents=True)
    with pytest.raises(RecordError, match=r"metrics\.jsonl"):
        failed.train()
    assert failed.run.state() == "failed"


class Writes(io.BytesIO):
    """Fail at the n-th write, and at all later ones if the disk is full."""

    def __init__(self, at: int, error: BaseException) -> None:
        super().__init__()
        self.left, self.error = at, error

    def write(self, data: Any) -> int:
        self.left -= 1
        if self.left == -1 or (self.left < 0 and isinstance(self.error, OSError)):
            raise self.error
        return super().write(data)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_error_at_any_write_of_a_checkpoint_is_raised_unchanged(
    error: BaseException, tmp_path: Path
) -> None:
    trained = trainer(tmp_path, epochs=1)
    trained.train()
    counted = Writes(1_000_000, error)
    save(counted, trained.run.name, trained.parts, trained.progress)
    writes = 1_000_000 - counted.left
    assert writes > 10
    for at in range(writes):
        with pytest.raises(type(error)) as raised:
            save(Writes(at, error), trained.run.name, trained.parts, trained.progress)
        assert raised.value is error


# Checkpoints that cannot be used.


def stopped_after(epochs: int, results: Path, **options) -> Run:
    def listen(event: Event) -> None:
        if event.kind == "epoch" and event.epoch == epochs:
            raise KeyboardInterrupt

    stopped = trainer(results, listen=listen, **options)
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    return stopped.run


def resumes(
    results: Path, caplog: pytest.LogCaptureFixture, expected: Run, at: int, said: str, **options
) -> Run:
    """Resume the run. It resumes after epoch ``at``, the log says why, and the result is the expected one."""
    events: list[Event] = []
    resumed = trainer(results, listen=events.append, **options)
    assert resumed.train() == "finished"
    assert events[0].epoch == at
    assert said in caplog.text
    assert left(resumed.run) == left(expected)
    return resumed.run


@pytest.fixture
def whole(tmp_path: Path) -> Run:
    trained = trainer(tmp_path / "whole")
    trained.train()
    return trained.run


def test_another_networks_checkpoint_is_set_aside(
    tmp_path: Path, whole: Run, caplog: pytest.LogCaptureFixture
) -> None:
    stopped_after(2, tmp_path, model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(2, 2)))
    run = resumes(tmp_path, caplog, whole, at=0, said="does not fit this configuration")
    assert {path.name for path in run.folder.glob("*.damaged-*")} == {
        "checkpoint.pt.damaged-1",
        "checkpoint.previous.pt.damaged-1",
    }


def test_another_optimizers_checkpoint_is_set_aside(
    tmp_path: Path, whole: Run, caplog: pytest.LogCaptureFixture
) -> None:
    stopped_after(2, tmp_path, base=Adam)
    trained = trainer(tmp_path / "salr", SALR)
    trained.train()
    stopped_after(2, tmp_path / "salr2")
    resumes(tmp_path / "salr2", caplog, trained.run, at=0, said="set aside", wrap=SALR)


@pytest.mark.parametrize("other", [{"lr": 0.2}, {"seed": 1}])
def test_a_checkpoint_of_another_run_is_set_aside(
    other: dict[str, Any], tmp_path: Path, whole: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """It would fit, and the record would show the results of the other run."""
    run = stopped_after(2, tmp_path)
    stranger = stopped_after(2, tmp_path / "other", run_key="f00d", **other)
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (run.folder / name).write_bytes((stranger.folder / name).read_bytes())
    resumes(
        tmp_path,
        caplog,
        whole,
        at=0,
        said=f"belongs to another run, points/network/sgd-f00d/seed-{stranger.seed})",
    )


@pytest.mark.parametrize(
    "state",
    [{"version": 0}, {"version": 1}, [1, 2], {"version": 1, "model": {}, "optimizer": {}, "progress": {}}],
)
def test_a_checkpoint_of_another_version_or_shape_is_set_aside(
    state: object, tmp_path: Path, whole: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run = stopped_after(2, tmp_path)
    run.write_checkpoint(lambda stream: torch.save(state, stream))
    resumes(tmp_path, caplog, whole, at=2, said="set aside")


class Hostile:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("save", [torch.save, pickle.dump])
def test_code_in_a_checkpoint_is_not_run(
    save, tmp_path: Path, whole: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run, trace = stopped_after(2, tmp_path), tmp_path / "trace"
    run.write_checkpoint(lambda stream: save({"version": 1, "model": Hostile(trace)}, stream))
    resumes(tmp_path, caplog, whole, at=2, said="set aside")
    assert not trace.exists()


def test_a_flipped_bit_costs_an_epoch(tmp_path: Path, whole: Run, caplog: pytest.LogCaptureFixture) -> None:
    run = stopped_after(2, tmp_path)
    path = run.folder / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    resumes(tmp_path, caplog, whole, at=1, said="checkpoint.pt is damaged")


@pytest.mark.parametrize("lost", [1, 2])
def test_an_epoch_whose_metrics_are_lost_is_trained_again(
    lost: int, tmp_path: Path, whole: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise the summary would show the metrics of an earlier epoch."""
    run = stopped_after(3, tmp_path)
    path = run.folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: 3 - lost]))
    resumes(tmp_path, caplog, whole, at=2 if lost == 1 else 0, said="metrics of its epoch, 3, are not there")


# Runs that go wrong without an error.


def test_a_run_that_diverges_says_when(tmp_path: Path) -> None:
    trained = trainer(tmp_path, epochs=50, lr=3e38)
    assert trained.train() == "diverged"
    rows = trained.run.read_metrics()
    assert not math.isfinite(rows[-1]["train_loss"] + rows[-1]["test_loss"])
    assert all(math.isfinite(row["train_loss"] + row["test_loss"]) for row in rows[:-1])
    summary, status = trained.run.read_json("summary.json"), trained.run.read_json("status.json")
    assert summary is not None
    assert status is not None
    assert summary["epoch"] == status["epoch"] == len(rows) < 50
    assert status["state"] == trained.run.state() == "diverged"


class Odd(Points):
    """Points with a fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        if fault == "NaN in one image":
            self.images[3] = math.nan
        elif fault == "one class only":
            self.labels = torch.zeros_like(self.labels)
        elif fault == "all images alike":
            self.images = torch.zeros_like(self.images)


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize(
    ("fault", "state"),
    [("NaN in one image", "diverged"), ("one class only", "finished"), ("all images alike", "finished")],
)
def test_odd_data_end_in_a_clear_record(name: str, fault: str, state: str, tmp_path: Path) -> None:
    trained = trainer(tmp_path, data=Odd(fault), **of(name))
    assert trained.train() == state
    assert trained.run.state() == state
    assert len(trained.run.read_metrics()) == (1 if state == "diverged" else 3)


class Flat(nn.Module):
    """A constant loss: every gradient is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, images: Tensor) -> Tensor:
        return (0 * self.weight).expand(len(images), 2)


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_run_with_zero_gradients_finishes_with_the_initial_loss(name: str, tmp_path: Path) -> None:
    trained = trainer(tmp_path, model=Flat, **of(name))
    assert trained.train() == "finished"
    row = trained.run.read_metrics()[-1]
    assert row["test_loss"] == pytest.approx(math.log(2))
    if "SALR" in name:
        assert row["lr_factor"] == 1


# A tracker never changes a run.


class Failing:
    def __init__(self, *names: str) -> None:
        self.failing, self.calls = names, []

    def __getattr__(self, name: str):
        def call(*arguments: object) -> None:
            self.calls.append(name)
            if name in self.failing:
                raise ConnectionError("the service\nis down")

        return call


@pytest.mark.parametrize("names", [(), ("start",), ("log",), ("finish",), ("start", "log", "finish")])
def test_a_tracker_that_fails_is_logged_once(
    names: tuple[str, ...], tmp_path: Path, whole: Run, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Failing(*names)
    with caplog.at_level(logging.WARNING):
        trained = trainer(tmp_path, tracker=tracker)
        assert trained.train() == "finished"
    assert tracker.calls == ["start", "log", "log", "log", "finish"]
    assert left(trained.run) == left(whole)
    warnings = [message for message in caplog.messages if "the service is down" in message]
    assert len(warnings) == (1 if names else 0)
    assert all("\n" not in warning for warning in warnings)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError()])
def test_a_tracker_is_finished_however_the_run_ends(error: BaseException, tmp_path: Path) -> None:
    tracker = Failing()
    with pytest.raises(type(error)):
        trainer(tmp_path, tracker=tracker, listen=Stop(2, error)).train()
    assert tracker.calls[-1] == "finish"
