"""Damaged records are found, set aside and logged, and never read as a wrong value."""

import io
import math
import os
import pickle
import random
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from salr.records import Damaged, Run
from salr.records.sealed import check_stream, parse_json, parse_yaml, seal
from tests.helpers.records import a_run, names, numbered, numbered_writer, process, same


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return a_run(tmp_path)


# Metrics.


def test_a_torn_tail_is_cut_and_never_glued_to(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    path = run.folder / "metrics.jsonl"
    for epoch in (1, 2):
        run.append_metrics(
            {"epoch": epoch, "pad": "x" * 100_000}
        )  # longer than the block searched for the last line
    whole = path.read_bytes()
    for cut in (1, 50, 99_000):
        path.write_bytes(whole[:-cut])
        assert [row["epoch"] for row in run.read_metrics()] == [1]
        run.append_metrics({"epoch": 2, "pad": "x" * 100_000})
        assert path.read_bytes() == whole
    path.write_bytes(whole[:70_000])
    run.append_metrics({"epoch": 7})
    assert run.read_metrics() == [{"epoch": 7}]
    assert "metrics.jsonl ends in a torn line; cut 70000 bytes" in caplog.text


def test_damaged_lines_are_named_and_dropped(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    path = run.folder / "metrics.jsonl"
    assert run.read_metrics() == []
    for epoch in range(1, 6):
        run.append_metrics({"epoch": epoch, "loss": math.inf})
    path.write_bytes(path.read_bytes().replace(b'"epoch": 3', b'"epoch": 8'))
    assert run.read_metrics() == [{"epoch": epoch, "loss": math.inf} for epoch in (1, 2, 4, 5)]
    assert caplog.messages == [f"{path} line 3 is damaged (its checksum does not match); dropped"]
    run.keep_metrics(4)
    caplog.clear()
    assert [row["epoch"] for row in run.read_metrics()] == [1, 2, 4]
    assert caplog.messages == []
    before = path.stat()
    run.keep_metrics(4)
    assert path.stat() == before  # nothing to drop, nothing written
    run.keep_metrics(0)
    assert run.read_metrics() == []
    with pytest.raises(ValueError, match="epoch None, expected an integer"):
        run.append_metrics({"loss": 1.0})


def test_a_long_file_does_not_slow_an_append(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run.folder / "metrics.jsonl"
    run.append_metrics({"epoch": 1})
    path.write_bytes(path.read_bytes() * 500_000)
    read: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, at: (read.append(size), pread(file, size, at))[1])
    tracemalloc.start()
    for epoch in range(100):
        run.append_metrics({"epoch": epoch})
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
    assert read == [1] * 100  # bytes: whether the last one is a newline


# Damage.


@given(st.data())
def test_a_flipped_bit_or_a_cut_never_gives_a_wrong_value(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as results:
        run = a_run(Path(results))
        value = {"accuracy": 98.18, "loss": math.nan, "list": [1, 2], "name": "aé"}
        row = {"epoch": 1, **value}
        run.write_json("summary.json", value)
        run.write_config(value)
        run.append_metrics(row)
        run.write_checkpoint(numbered_writer(7, copies=20))
        readers = {
            "summary.json": (lambda: run.read_json("summary.json"), value),
            "config.yaml": (run.read_config, value),
            "checkpoint.pt": (lambda: run.read_checkpoint(numbered), 7),
        }
        name = data.draw(st.sampled_from(["metrics.jsonl", *readers]))
        path = run.folder / name
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, 8 * len(content) - 1))
        if data.draw(st.booleans()):
            content[place // 8] ^= 1 << place % 8
        else:
            del content[place // 8 :]
        path.write_bytes(content)
        if name == "metrics.jsonl":
            assert run.read_metrics() == []
        else:
            read, _ = readers.pop(name)
            assert read() is None
            assert (run.folder / f"{name}.damaged-1").read_bytes() == content
            assert not path.exists()
        for read, expected in readers.values():
            assert same(read(), expected)


@given(
    st.binary(max_size=300)
    | st.recursive(st.just(b"0"), lambda inner: inner.map(lambda text: b"[" + text + b"]"))
)
def test_readers_take_any_bytes(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as results:
        run = a_run(Path(results))
        run.folder.mkdir(parents=True)
        for name in ("status.json", "summary.json", "config.yaml", "metrics.jsonl", "checkpoint.pt", "lock"):
            (run.folder / name).write_bytes(content)
        assert run.state() == "interrupted"
        assert run.read_json("status.json") is None
        assert run.read_config() is None
        assert run.read_metrics() == []
        assert run.read_checkpoint(numbered) is None
        with run.claim():
            run.append_metrics({"epoch": 1})
        assert [row["epoch"] for row in run.read_metrics()] == [1]


@given(
    st.text(max_size=60)
    | st.sampled_from(["[" * 100_000, "[1]", '{"$float": [1]}', "a: *b", "- 2024-99-99", "? []"])
)
def test_a_true_checksum_over_nonsense_is_damage_too(text: str) -> None:
    for parse, close in ((parse_json, '"}\n'), (parse_yaml, "'\n")):
        for covered in (text, f'{{"a": {text}, "checksum": "', f"{text}\nchecksum: '"):
            try:
                value = parse(seal(covered, close))
            except Damaged:
                continue
            assert isinstance(value, dict)


def test_damaged_files_are_set_aside_under_new_names(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2, 3):
        (run.folder).mkdir(parents=True, exist_ok=True)
        (run.folder / "summary.json").write_bytes(b"%d" % number)
        assert run.read_json("summary.json") is None
        assert (run.folder / f"summary.json.damaged-{number}").read_bytes() == b"%d" % number
        assert caplog.messages[-1].endswith(
            f"(its checksum does not match); set aside as summary.json.damaged-{number}"
        )
    assert run.read_json("summary.json") is None
    assert len(caplog.messages) == 3  # an absent file is no damage
    assert {record.name for record in caplog.records} == {"salr.records"}


def test_a_damaged_file_stays_while_another_process_holds_the_run(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """That process may be about to replace it, and renaming would take the new file away."""
    holder = process("with run.claim(): print(flush=True); time.sleep(60)", run.results)
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        (run.folder / "summary.json").write_bytes(b"1")
        assert run.read_json("summary.json") is None
        assert names(run.folder) == {"lock", "summary.json"}
        assert "left in place while another process holds the run" in caplog.text
    finally:
        holder.kill()
        holder.wait()
    with run.claim():
        assert run.read_json("summary.json") is None
    assert names(run.folder) == {"lock", "summary.json.damaged-1"}


# Checkpoints.


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def test_every_flipped_bit_of_a_torch_checkpoint_is_found(run: Run) -> None:
    run.write_checkpoint(lambda stream: torch.save({"weights": torch.arange(100.0), "epoch": 3}, stream))
    path = run.folder / "checkpoint.pt"
    content = path.read_bytes()
    assert zipfile.is_zipfile(path)
    assert torch.equal(load(path)["weights"], torch.arange(100.0))  # torch reads it as it is, trailer and all
    read = run.read_checkpoint(load)
    assert read is not None
    assert torch.equal(read["weights"], torch.arange(100.0))

    check_stream(io.BytesIO(content))
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << random.randrange(8)
        with pytest.raises(Damaged):
            check_stream(io.BytesIO(damaged))


def test_the_checkpoint_before_is_the_fallback(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    assert run.read_checkpoint(numbered) is None
    for number in (1, 2, 3):
        run.write_checkpoint(numbered_writer(number))
    content = bytearray((run.folder / "checkpoint.pt").read_bytes())
    content[1000] ^= 4
    (run.folder / "checkpoint.pt").write_bytes(content)
    assert run.read_checkpoint(numbered) == 2
    assert (
        "checkpoint.pt is damaged (its checksum does not match); set aside as checkpoint.pt.damaged-1"
        in caplog.text
    )
    run.write_checkpoint(numbered_writer(4))
    assert run.read_checkpoint(numbered) == 4
    assert names(run.folder) == {"checkpoint.pt", "checkpoint.previous.pt", "checkpoint.pt.damaged-1"}


class Trap:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_hostile_checkpoint_is_set_aside_and_never_run(run: Run, tmp_path: Path, caplog) -> None:
    run.write_checkpoint(numbered_writer(1))
    run.write_checkpoint(
        lambda stream: torch.save(Trap(tmp_path / "sprung"), stream)
    )  # with a checksum that holds
    assert run.read_checkpoint(lambda path: load(path) if zipfile.is_zipfile(path) else numbered(path)) == 1
    (run.folder / "checkpoint.pt").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert run.read_checkpoint(lambda path: load(path) if zipfile.is_zipfile(path) else numbered(path)) == 1
    assert len(caplog.messages) == 2
    assert not any("\n" in message for message in caplog.messages)
    assert not (tmp_path / "sprung").exists()


def test_a_refused_checkpoint_is_set_aside_but_other_errors_pass(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run.write_checkpoint(numbered_writer(1))

    def out_of_memory(path: Path) -> int:
        raise RuntimeError("out of memory")

    def refuse(path: Path) -> int:
        raise ValueError("version 7, expected 8")

    with pytest.raises(RuntimeError, match="out of memory"):
        run.read_checkpoint(out_of_memory)
    assert run.read_checkpoint(numbered) == 1
    assert run.read_checkpoint(refuse) is None
    assert "(version 7, expected 8); set aside as checkpoint.pt.damaged-1" in caplog.text
