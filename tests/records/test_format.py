"""Records say their format: earlier ones are read as before, later ones are refused and left as they are."""

import math
import shutil
from pathlib import Path

import pytest

from salr.records import RecordError, Run, State, find_runs
from salr.records.sealed import json_bytes, parse_json, parse_yaml, yaml_bytes
from tests.helpers.records import RECORDED, a_run, contents, numbered_writer


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return a_run(tmp_path)


def test_a_record_says_its_format_and_hides_it_from_the_configuration(run: Run) -> None:
    run.write_config({"epochs": 20})
    run.write_status(State.RUNNING, epoch=0)
    assert (run.folder / "config.yaml").read_text().startswith("format: 2\nepochs: 20\n")
    assert parse_json((run.folder / "status.json").read_bytes())["format"] == 2
    assert run.read_config() == {"epochs": 20}
    for write in (run.write_config, lambda facts: run.write_status(State.RUNNING, 0, **facts)):
        with pytest.raises(ValueError, match="key 'format' is the record's own, expected another name"):
            write({"format": 7})


@pytest.mark.parametrize("later", [3, 0, -1, "two", 2.5, math.nan, None, [2]])
@pytest.mark.parametrize("name", ["status.json", "config.yaml"])
@pytest.mark.parametrize("state", ["finished", "running", "unheard"])
def test_a_later_format_is_refused_and_nothing_is_touched(
    run: Run, name: str, later: object, state: str
) -> None:
    run.write_json("summary.json", {"test_accuracy": 98.0})
    run.append_metrics({"epoch": 1})
    run.write_checkpoint(numbered_writer(1))
    run.write_config({"epochs": 20})
    run.write_status(State.FINISHED, epoch=1)
    make, parse = {"status.json": (json_bytes, parse_json), "config.yaml": (yaml_bytes, parse_yaml)}[name]
    path = run.folder / name
    entries = parse(path.read_bytes()) | {"format": later}
    if name == "status.json":
        entries["state"] = state
    path.write_bytes(make(entries))
    before = contents(run.folder)

    refusal = r"^\S+ has format [^\n]+, written by a later version; expected an update of salr$"
    askers = [run.state, run.inspect] if name == "status.json" else [run.read_config]
    for ask in askers:
        with pytest.raises(RecordError, match=refusal) as caught:
            ask()
        assert str(caught.value).startswith(f"{path} has format {later!r}, ")
    with pytest.raises(RecordError, match=refusal), run.claim():
        pytest.fail("claimed")
    assert contents(run.folder) == before


def test_runs_of_the_format_before_are_read(tmp_path: Path) -> None:
    shutil.copytree(RECORDED, tmp_path, dirs_exist_ok=True)
    finished, interrupted = find_runs(tmp_path)
    before = {run: contents(run.folder) for run in (finished, interrupted)}

    state, summary = finished.inspect()
    assert state is State.FINISHED
    assert (summary["epoch"], summary["test_accuracy"]) == (2, 95.83333333333333)
    assert [row["epoch"] for row in finished.read_metrics()] == [1, 2]
    assert (finished.read_json("iterations.json") or {})["epoch"] == 2

    assert interrupted.inspect() == (State.INTERRUPTED, {})
    assert [row["epoch"] for row in interrupted.read_metrics()] == [1]
    size = interrupted.read_checkpoint(lambda path: path.stat().st_size)
    assert size == (interrupted.folder / "checkpoint.pt").stat().st_size

    for run in (finished, interrupted):
        config = run.read_config() or {}
        assert (config["dataset"]["name"], config["model"]["name"]) == (run.dataset, run.model)
        assert "format" not in config
        with run.claim():
            assert run.state() is (State.FINISHED if run is finished else State.RUNNING)
        assert contents(run.folder).keys() - before[run].keys() == {"lock"}
        assert before[run].items() <= contents(run.folder).items()
