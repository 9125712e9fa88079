"""Random bytes and random changes of recorded files give the right value or are refused, and nothing else."""

import logging
import math
import random
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from salr.records import Damaged, Run, State, find_runs, load_runs
from salr.records.sealed import json_bytes, parse_json, parse_yaml, seal, yaml_bytes
from tests.helpers.records import RECORDED, a_run, numbered, numbered_writer, same

ROUNDS = [300, pytest.param(30_000, marks=pytest.mark.soak)]
VALUE = {
    "name": "aé",
    "loss": math.nan,
    "accuracy": 95.83333333333333,
    "betas": [0.9, -math.inf],
    "none": None,
    "deep": {"true": True, "empty": {}, "text": "null"},
}


def changed(data: bytes, chance: random.Random) -> bytes:
    """Return the bytes after one to three random changes of the kinds that disks, editors and merges make."""
    result = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        start, end = sorted(chance.randrange(len(result) + 1) for _ in range(2))
        kind = chance.randrange(7)
        if kind == 0 and result:
            place = chance.randrange(len(result))
            result[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del result[start:end]
        elif kind == 2:
            result[start:start] = result[start:end]
        elif kind == 3:
            result[start:end] = bytes(end - start)
        elif kind == 4:
            result[start:start] = chance.randbytes(chance.randint(1, 9))
        elif kind == 5:
            result = result.replace(b"\n", b"\r\n")
        else:
            result[start:end] = bytes(reversed(result[start:end]))
    return bytes(result)


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize(
    ("make", "parse"), [(json_bytes, parse_json), (yaml_bytes, parse_yaml)], ids=["json", "yaml"]
)
def test_changed_bytes_are_damaged(make: Any, parse: Any, rounds: int) -> None:
    chance, whole = random.Random(0), make(VALUE)
    refused = 0
    for _ in range(rounds):
        data = changed(whole, chance)
        try:
            assert same(parse(data), VALUE)
            assert data == whole
        except Damaged:
            refused += 1
    assert refused > rounds / 2


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize(
    ("make", "parse", "close"),
    [(json_bytes, parse_json, '"}\n'), (yaml_bytes, parse_yaml, "'\n")],
    ids=["json", "yaml"],
)
def test_nonsense_with_a_true_checksum_is_a_mapping_or_damaged(
    make: Any, parse: Any, close: str, rounds: int
) -> None:
    """Whoever seals nonsense gets it back as plain data, or a refusal."""
    chance = random.Random(0)
    covered = make(VALUE)[: -16 - len(close)]
    for _ in range(rounds):
        text = changed(covered, chance).decode(errors="ignore")
        try:
            value = parse(seal(text, close))
        except Damaged:
            continue
        assert isinstance(value, dict)
        assert "checksum" not in value


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_record_with_changed_files_gives_true_values_or_refusals(
    rounds: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Change a file of a whole record, read everything, and repeat."""
    caplog.set_level(logging.CRITICAL, logger="salr.records")
    chance = random.Random(0)
    finished = next(find_runs(RECORDED))
    files = {path.name: path.read_bytes() for path in finished.folder.iterdir()}
    config, summary = finished.inspect_config(), finished.inspect()[1]
    rows = [repr(row) for row in finished.read_metrics()]
    trace = finished.read_json("iterations.json")
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        run = Run(results, finished.dataset, finished.model, finished.optimizer, finished.key, 0)
        run.folder.mkdir(parents=True)
        for number in range(rounds // 10):
            for path in run.folder.iterdir():
                path.unlink()
            for name, data in files.items():
                (run.folder / name).write_bytes(data)
            run.write_checkpoint(numbered_writer(7, copies=3))
            name = chance.choice([*files, "checkpoint.pt"])
            content = (run.folder / name).read_bytes()
            (run.folder / name).write_bytes(changed(content, chance))
            if number % 10 == 0:
                runs, epochs = load_runs(results)
                assert set(runs["state"]) <= {"finished", "damaged", "interrupted"}
                assert set(runs.get("test_accuracy", [])) <= {summary["test_accuracy"]}
                assert set(epochs.get("test_accuracy", [])) <= {95.0, 95.83333333333333}
            with suppress(Damaged):
                assert same(run.inspect(), (State.FINISHED, summary))
            assert run.state() in (State.FINISHED, State.INTERRUPTED)
            for found, expected in (
                (run.read_config(), config),
                (run.read_json("summary.json"), summary),
                (run.read_json("iterations.json"), trace),
                (run.read_checkpoint(numbered), 7),
            ):
                assert found is None or same(found, expected)
            found = [repr(row) for row in run.read_metrics()]
            assert set(found) <= set(rows)


def test_random_bytes_in_every_file_are_refused_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(0)
    run = a_run(tmp_path)
    run.folder.mkdir(parents=True)
    for size in (0, 1, 15, 16, 17, 71, 72, 73, 300):
        for name in ("status.json", "summary.json", "config.yaml", "metrics.jsonl", "checkpoint.pt", "lock"):
            (run.folder / name).write_bytes(chance.randbytes(size))
        assert run.state() is State.INTERRUPTED
        assert run.read_config() is None
        assert run.read_metrics() == []
        assert run.read_checkpoint(numbered) is None
        with run.claim():
            assert run.state() is State.RUNNING
    assert not any("\n" in message for message in caplog.messages)
