"""Records are read as they were written. Runs have names, keys and states, and are found again."""

import io
import json
import math
import os
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from salr.records import Damaged, Run, State, find_runs, load_runs, run_key
from salr.records.sealed import json_bytes, parse_json, parse_yaml, yaml_bytes
from tests.helpers.records import a_run, names, process, same


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return a_run(tmp_path)


# Values.

keys = st.text(max_size=8).filter(lambda key: key not in {"checksum", "$float"})
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
mappings = st.dictionaries(keys, plain_values, max_size=5)


@given(mappings)
def test_json_and_yaml_round_trip(value: dict) -> None:
    data = json_bytes(value)
    json.loads(data, parse_constant=pytest.fail)  # strict JSON
    assert same(parse_json(data), value)
    assert same(parse_json(json_bytes(value, separator=", ")), value)
    assert same(parse_yaml(yaml_bytes(value)), value)


def test_records_in_the_folder_round_trip(run: Run) -> None:
    summary = {"loss": math.nan, "best": -math.inf, "scores": (1, 2.5), "made": {"by": "γ"}}
    run.write_json("summary.json", summary)
    read = run.read_json("summary.json")
    assert same(read, {"loss": math.nan, "best": -math.inf, "scores": [1, 2.5], "made": {"by": "γ"}})
    config = {"optimizer": {"lr": 1e-05, "name": "sgd"}, "epochs": 20}
    run.write_config(config)
    assert run.read_config() == config
    assert "  lr: 1.0e-05\n" in (run.folder / "config.yaml").read_text()
    assert names(run.folder) == {"summary.json", "config.yaml"}


@pytest.mark.parametrize(
    "value", [{"x": torch.ones(1)}, {"x": {1: 2}}, {"x": [Path("a")]}, {"$float": "nan"}, {"checksum": "1"}]
)
def test_what_cannot_be_read_back_is_refused(run: Run, value: dict) -> None:
    with pytest.raises(ValueError, match=r"^record.*expected .*$"):
        run.write_json("summary.json", value)
    assert not run.folder.exists()


def test_run_key_depends_only_on_the_configuration() -> None:
    key = run_key({"model": "lenet", "lr": 0.1, "n": [5, 5]})
    assert key == "9c0e04a90e"  # if keys change, no existing record is found
    assert key == run_key({"n": (5, 5), "lr": 0.1, "model": "lenet"})
    assert key != run_key({"n": (5, 5), "lr": 0.1, "model": "lenet", "dropout": math.inf})
    with pytest.raises(ValueError, match=r"config\.data: a PosixPath cannot be recorded"):
        run_key({"data": Path("mnist")})


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc", "a\n", "A", "a-b", "a.b", "ä", "a\0", None])
@pytest.mark.parametrize("field", ["dataset", "model", "optimizer", "key"])
def test_names_stay_inside_the_results(tmp_path: Path, field: str, name: str) -> None:
    good = {"dataset": "digits", "model": "lenet", "optimizer": "sgd", "key": "0123456789"}
    with pytest.raises(ValueError, match=rf"^{field} .* cannot name a run, expected [^\n]*$"):
        Run(tmp_path, **{**good, field: name}, seed=0)


@pytest.mark.parametrize("seed", [-1, True, "1", 1.0, None])
def test_a_seed_is_a_natural_number(tmp_path: Path, seed: object) -> None:
    with pytest.raises(ValueError, match=r"seed .* expected an integer >= 0"):
        Run(tmp_path, "digits", "lenet", "sgd", "0123456789", seed)


@pytest.mark.parametrize("name", ["../x.json", "a/b.json", "status", ".json", "x.yaml"])
def test_record_names_are_checked(run: Run, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a record"):
        run.write_json(name, {})
    with pytest.raises(ValueError, match="cannot name a record"):
        run.read_json(name)


# States.


def test_states_from_the_beginning_to_the_end(run: Run) -> None:
    assert run.state() == "absent"
    assert not run.folder.exists()
    with run.claim():
        assert run.state() == "running"
        run.write_status("running", epoch=0)
        assert run.state() == "running"
    assert run.state() == "interrupted"
    run.write_status("interrupted", epoch=3, reason="stopped by the user")
    assert run.state() == "interrupted"
    for state in ("diverged", "failed"):
        run.write_status(state, epoch=3)
        assert run.state() == state
    run.write_status("finished", epoch=4)
    assert run.state() == "interrupted"  # no summary yet
    run.write_json("summary.json", {"accuracy": 1.0})
    with run.claim():
        assert run.state() == "finished"
    status = run.read_json("status.json")
    assert status is not None
    assert (status["epoch"], status["pid"]) == (4, os.getpid())
    assert status.keys() == {"format", "state", "epoch", "pid", "host", "time"}
    for state in ("done", "absent", "damaged", "busy", "out of memory"):
        with pytest.raises(
            ValueError, match=f"state '{state}' cannot be recorded, expected one of running, interrupted, "
        ):
            run.write_status(state, epoch=1)


def test_a_run_with_traces_but_no_status_is_interrupted(run: Run) -> None:
    run.append_metrics({"epoch": 1})
    assert run.state() == "interrupted"


def test_skipping_a_finished_run_costs_two_small_reads(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_json("summary.json", {"accuracy": 1.0})
    run.write_status("finished", epoch=4)
    opened: list[str] = []
    real = io.open
    monkeypatch.setattr(
        io, "open", lambda path, *rest: (opened.append(Path(path).name), real(path, *rest))[1]
    )
    assert a_run(run.results).state() == "finished"
    assert opened == ["status.json", "summary.json"]


@pytest.mark.parametrize("name", ["status.json", "summary.json"])
def test_a_finished_run_with_a_damaged_record_is_resumed(
    run: Run, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    run.write_json("summary.json", {"accuracy": 1.0})
    run.write_status("finished", epoch=4)
    (run.folder / name).write_bytes((run.folder / name).read_bytes()[:-5])
    assert run.state() == "interrupted"
    assert f"{name} is damaged" in caplog.text
    with run.claim():
        assert run.state() == "running"


@pytest.mark.parametrize(
    "status", [{}, {"state": "done"}, {"state": "absent"}, {"state": None}, {"state": [1]}]
)
def test_a_status_without_a_state_that_can_be_recorded_is_damaged(
    run: Run, status: dict, caplog: pytest.LogCaptureFixture
) -> None:
    run.write_json("status.json", {"epoch": 4, **status})
    line = f"status.json is damaged (it has no state that can be recorded: {status.get('state')!r})"
    with pytest.raises(Damaged, match=re.escape(line)):
        run.inspect()
    assert run.state() is State.INTERRUPTED
    assert caplog.messages == [f"{run.folder}/{line}; the run counts as not ended"]
    assert list(load_runs(run.results)[0]["state"]) == ["damaged"]


# Collections.


def test_find_runs_skips_what_is_not_named_like_a_run(tmp_path: Path) -> None:
    assert list(find_runs(tmp_path)) == []
    runs = [
        Run(tmp_path, "mnist", "lenet", optimizer, "ab", seed)
        for optimizer in ("adam", "sgd")
        for seed in (2, 10)
    ]
    for run in runs:
        run.folder.mkdir(parents=True)
    for stranger in (
        "mnist/lenet/sgd-ab/seed-01",
        "mnist/lenet/sgd/seed-1",
        "mnist/lenet/sgd-a-b/seed-1",
        "Mnist/x/y-z/seed-1",
    ):
        (tmp_path / "runs" / stranger).mkdir(parents=True)
    (tmp_path / "runs" / "notes").touch()
    (tmp_path / "runs/mnist/lenet/sgd-ab/seed-5").touch()
    assert list(find_runs(tmp_path)) == runs


def test_records_need_neither_torch_nor_pandas_to_be_written() -> None:
    reader = process("print(sorted({'torch', 'pandas', 'numpy'} & sys.modules.keys()))", "results")
    assert reader.communicate()[0].strip() == b"[]"
