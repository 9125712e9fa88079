"""The records' public interface against a small model, with calls, crashes and damage in any order."""

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from salr.records import Damaged, Run, RunBusy, State, claim, find_runs, load_runs
from tests.helpers.records import a_run, numbered, numbered_writer, same

DAMAGED = "damaged"
FILES = ("status.json", "summary.json", "config.yaml", "checkpoint.pt", "checkpoint.previous.pt")
PLACES = (*FILES, "metrics.jsonl")
seeds = st.integers(0, 1)
numbers = st.floats() | st.integers(-(2**53), 2**53)


class Model:
    """What a run should hold: the value of each file, ``DAMAGED`` or None, and the rows of its metrics."""

    def __init__(self) -> None:
        self.files: dict[str, Any] = dict.fromkeys(FILES)
        self.rows: list[dict[str, Any]] = []
        self.lines: dict[bytes, dict[str, Any]] = {}  # every line that was ever appended
        self.has_metrics = self.has_folder = self.held = False

    @property
    def state(self) -> State:
        begun = self.has_metrics or any(self.files[name] is not None for name in FILES[3:])
        status, summary = self.files["status.json"], self.files["summary.json"]
        if DAMAGED in (status, summary):
            return State.RUNNING if self.held else State.INTERRUPTED
        if status in (State.DIVERGED, State.FAILED) or (status is State.FINISHED and summary is not None):
            return status
        if self.held:
            return State.RUNNING
        return State.INTERRUPTED if begun or status is not None else State.ABSENT

    def take(self, name: str) -> Any:
        """Return what a reader gets, who renames a damaged file."""
        if self.files[name] == DAMAGED:
            self.files[name] = None
        return self.files[name]


class Records(RuleBasedStateMachine):
    """Two runs of one results folder."""

    def __init__(self) -> None:
        super().__init__()
        self.results = Path(tempfile.mkdtemp())
        self.runs = [a_run(self.results, seed) for seed in (0, 1)]
        self.models = [Model(), Model()]
        self.claims = [ExitStack(), ExitStack()]
        self.patches = ExitStack()
        self.patches.enter_context(mock.patch.object(os, "fsync"))  # the disk is only waited for
        self.patches.enter_context(mock.patch.object(claim, "_TRIES", 1))

    def teardown(self) -> None:
        for stack in (*self.claims, self.patches):
            stack.close()
        shutil.rmtree(self.results)

    @rule(seed=seeds)
    def begin_or_resume(self, seed: int) -> None:
        """Claim the run, and do what the trainer does first."""
        run, model = self.runs[seed], self.models[seed]
        if model.held:
            with pytest.raises(RunBusy, match=f"process {os.getpid()}"), run.claim():
                pass
            return
        self.claims[seed].enter_context(run.claim())
        model.held = model.has_folder = True
        assert run.state() is model.state
        newest = model.take("checkpoint.pt")
        expected = newest if newest is not None else model.take("checkpoint.previous.pt")
        assert run.read_checkpoint(numbered) == expected
        run.keep_metrics(expected or 0)
        model.rows = [row for row in model.rows if row["epoch"] <= (expected or 0)]
        run.write_status(State.RUNNING, expected or 0)
        model.files["status.json"] = State.RUNNING

    def held(self, seed: int) -> tuple[Run, Model]:
        """Return a run that is held."""
        if not self.models[seed].held:
            self.begin_or_resume(seed)
        return self.runs[seed], self.models[seed]

    @rule(seed=seeds, value=numbers, items=st.lists(numbers, max_size=3))
    def write_config(self, seed: int, value: float, items: list[float]) -> None:
        run, model = self.held(seed)
        model.files["config.yaml"] = {"optimizer": {"lr": value, "betas": items}, "schedule": None}
        run.write_config(model.files["config.yaml"])

    @rule(seed=seeds, epoch=st.integers(1, 4), loss=st.floats())
    def append(self, seed: int, epoch: int, loss: float) -> None:
        run, model = self.held(seed)
        row = {"epoch": epoch, "loss": loss}
        run.append_metrics(row)
        model.rows.append(row)
        model.has_metrics = True
        model.lines[(run.folder / "metrics.jsonl").read_bytes().split(b"\n")[-2]] = row

    @rule(seed=seeds, number=st.integers(1, 4))
    def checkpoint(self, seed: int, number: int) -> None:
        run, model = self.held(seed)
        run.write_checkpoint(numbered_writer(number, copies=3))
        if model.files["checkpoint.pt"] is not None:
            model.files["checkpoint.previous.pt"] = model.files["checkpoint.pt"]
        model.files["checkpoint.pt"] = number

    @rule(seed=seeds, state=st.sampled_from([State.FINISHED, State.DIVERGED, State.FAILED]), loss=numbers)
    def end(self, seed: int, state: State, loss: float) -> None:
        run, model = self.held(seed)
        if state is State.FINISHED:
            model.files["summary.json"] = {"loss": loss, "made_by": {"device": "cpu"}}
            run.write_json("summary.json", model.files["summary.json"])
        run.write_status(state, epoch=1)
        model.files["status.json"] = state
        self.crash(seed)

    @rule(seed=seeds)
    def crash(self, seed: int) -> None:
        """Let the claim go, as the kernel does."""
        self.claims[seed].close()
        self.models[seed].held = False

    @rule(seed=seeds, name=st.sampled_from(PLACES))
    def crash_while_writing(self, seed: int, name: str) -> None:
        """Leave half of a new file, or half of a line, or a checkpoint between its two renames."""
        run, model = self.held(seed)
        if name == "metrics.jsonl":
            with (run.folder / name).open("ab") as stream:
                stream.write(b'{"epoch": 3, "lo')
            model.has_metrics = True
        elif name == "checkpoint.previous.pt" and model.files["checkpoint.pt"] is not None:
            os.replace(run.folder / "checkpoint.pt", run.folder / name)
            model.files |= {"checkpoint.pt": None, name: model.files["checkpoint.pt"]}
        else:
            (run.folder / f"{name}.partial").write_bytes(b"half")
        self.crash(seed)

    @rule(seed=seeds, data=st.data(), place=st.integers(0, 2**20), flip=st.booleans())
    def damage(self, seed: int, data: st.DataObject, place: int, flip: bool) -> None:
        run, model = self.runs[seed], self.models[seed]
        contents = {name: path.read_bytes() for name in PLACES if (path := run.folder / name).exists()}
        present = [name for name, content in contents.items() if content]
        if not present:
            return
        name = data.draw(st.sampled_from(present))
        content = bytearray(contents[name])
        if flip:
            content[place // 8 % len(content)] ^= 1 << place % 8
        else:
            del content[place % len(content) :]
        (run.folder / name).write_bytes(content)
        if name == "metrics.jsonl":
            whole = bytes(content).split(b"\n")[:-1]
            model.rows = [model.lines[line] for line in whole if line in model.lines]
        else:
            model.files[name] = DAMAGED

    @rule(seed=seeds)
    def read(self, seed: int) -> None:
        """Read all that readers may rename."""
        run, model = self.runs[seed], self.models[seed]
        assert same(run.read_config(), model.take("config.yaml"))
        assert same(run.read_json("summary.json"), model.take("summary.json"))
        status, expected = run.read_json("status.json"), model.take("status.json")
        assert (status or {"state": None})["state"] == expected

    @invariant()
    def states_and_metrics_are_the_models(self) -> None:
        for run, model in zip(self.runs, self.models, strict=True):
            assert run.is_claimed() == model.held
            assert run.state() is model.state
            assert same(run.read_metrics(), model.rows)
            if DAMAGED in (model.files["status.json"], model.files["summary.json"]):
                with pytest.raises(Damaged):
                    run.inspect()
            else:
                assert same(run.inspect(), (model.state, model.files["summary.json"] or {}))

    @rule()
    def load(self) -> None:
        """Load both runs into pandas."""
        both = zip(self.runs, self.models, strict=True)
        present = [(run, model) for run, model in both if model.has_folder]
        runs, epochs = load_runs(self.results)
        assert list(find_runs(self.results)) == [run for run, _ in present]
        assert list(runs["seed"]) == [run.seed for run, _ in present]
        rows: list[tuple[int, int, str]] = []
        for (run, model), (_, found) in zip(present, runs.iterrows(), strict=True):
            files = [model.files[name] for name in FILES[:3]]
            if DAMAGED in files:
                assert found["state"] == "damaged"
                files = [None] * 3
            else:
                assert found["state"] == model.state
                rows += [(run.seed, row["epoch"], repr(row["loss"])) for row in model.rows]
            _, summary, config = files
            expected = {
                "loss": summary and summary["loss"],
                "made_by.device": summary and "cpu",
                "config.optimizer.lr": config and config["optimizer"]["lr"],
                "config.optimizer.betas": config and tuple(config["optimizer"]["betas"]),
            }
            for name, value in expected.items():
                assert same_cell(found.get(name), value), (name, found.get(name), value)
        assert [(row.seed, row.epoch, repr(float(row.loss))) for row in epochs.itertuples()] == rows


def same_cell(found: object, expected: object) -> bool:
    """Return whether a cell of a frame holds a value. A missing value and NaN are the same to pandas."""
    if isinstance(expected, tuple | str):
        return same(found, expected) if isinstance(expected, str) else repr(found) == repr(expected)
    if expected is None or expected != expected:
        return found is None or found != found
    return bool(found == expected)


class TestRecords(Records.TestCase):
    settings = settings(max_examples=80, stateful_step_count=40)


@pytest.mark.soak
class TestRecordsForLong(Records.TestCase):
    settings = settings(max_examples=500, stateful_step_count=50)
