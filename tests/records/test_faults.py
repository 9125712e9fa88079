"""Records survive kills at any moment, two processes at once, and disks that are full or read-only."""

import errno
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from salr.records import RecordError, Run, RunBusy, check_writable, load_runs
from tests.helpers.records import a_run, fill, names, numbered, numbered_writer, process


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return a_run(tmp_path)


# Several processes.


def test_a_live_claim_is_kept_and_a_dead_one_is_taken_over(run: Run) -> None:
    holder = process(
        """
        with run.claim():
            if os.fork() == 0:
                print(os.getpid(), flush=True)  # outlives its parent, and must not keep the claim alive
            time.sleep(60)
        """,
        run.results,
    )
    assert holder.stdout is not None
    orphan = int(holder.stdout.readline())
    try:
        assert run.is_claimed()
        with (
            pytest.raises(RunBusy, match=rf"^.*seed-0 is held by process {holder.pid} on \S+: [^\n]+$"),
            run.claim(),
        ):
            pytest.fail("claimed twice")
        holder.kill()
        holder.wait()
        assert not run.is_claimed()
        with run.claim():
            assert run.is_claimed()
            with pytest.raises(RunBusy, match=f"process {os.getpid()}"), run.claim():
                pytest.fail("claimed twice")
        assert not run.is_claimed()
    finally:
        holder.kill()
        os.kill(orphan, signal.SIGKILL)


def test_only_one_of_four_processes_holds_the_run(run: Run) -> None:
    code = """
        held = 0
        (Path(sys.argv[1]) / f"ready-{os.getpid()}").touch()
        while len(list(Path(sys.argv[1]).glob("ready-*"))) < 4:
            time.sleep(0.001)
        marker = Path(sys.argv[1]) / "inside"
        while held < 15:
            run.state()
            try:
                with run.claim():
                    marker.touch(exist_ok=False)
                    time.sleep(0.002)
                    marker.unlink()
                    held += 1
            except RunBusy:
                pass
    """
    workers = [process(code, run.results) for _ in range(4)]
    assert [worker.wait(timeout=600) for worker in workers] == [0] * 4


def test_is_claimed_does_not_disturb_a_claim(run: Run) -> None:
    with run.claim():
        pass
    asker = process("print(flush=True)\nwhile True: run.is_claimed()", run.results)
    try:
        assert asker.stdout is not None
        asker.stdout.readline()
        for _ in range(200):
            with run.claim():
                pass
    finally:
        asker.kill()
        asker.wait()


# Kills.


def test_a_kill_at_any_moment_leaves_every_record_whole(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    code = """
        with run.claim():
            done = run.read_checkpoint(lambda path: int(path.read_bytes()[:9])) or 0
            run.keep_metrics(done)
            print(done, flush=True)
            for epoch in range(done + 1, 10**6):
                run.append_metrics({"epoch": epoch, "loss": epoch / 7, "pad": "x" * 20_000})
                run.write_json("iterations.json", {"epoch": epoch, "values": [epoch] * 2000})
                run.write_checkpoint(lambda stream: [stream.write(b"%9d" % epoch * 1000) for _ in range(40)])
                run.write_status("running", epoch)
                print(epoch, flush=True)
    """
    saved = acknowledged = 0
    for kill in range(25):
        writer = process(code, run.results)
        assert writer.stdout is not None
        if kill % 5 == 0:
            time.sleep(random.uniform(0, 0.2))  # while starting or recovering
            said = b""
        else:
            said = b"".join(writer.stdout.readline() for _ in range(random.randrange(1, 5)))
            time.sleep(random.uniform(0, 0.01))
        writer.kill()
        said += writer.communicate()[0]
        begun_at, *ended = [int(line) for line in said.split(b"\n")[:-1]] or [saved]
        assert begun_at == saved
        acknowledged = max([acknowledged, *ended])

        caplog.clear()
        assert not run.is_claimed()
        before, saved = saved, run.read_checkpoint(numbered) or 0
        last = max([before, *ended])
        assert saved in (last, last + 1)
        rows = run.read_metrics()
        assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
        assert len(rows) in (saved, saved + 1)
        if saved:
            iterations = run.read_json("iterations.json")
            assert iterations is not None
            assert iterations["epoch"] in (saved, saved + 1)
            assert iterations["values"] == [iterations["epoch"]] * 2000
        status = run.read_json("status.json") or {"epoch": 0}
        assert acknowledged <= status["epoch"] <= saved
        torn = f"metrics.jsonl line {len(rows) + 1} is damaged"
        assert [line for line in caplog.messages if torn not in line] == []
    assert acknowledged >= 20
    assert not [name for name in names(run.folder) if "damaged" in name]


def test_a_kill_between_the_two_renames_leaves_the_last_checkpoint(run: Run) -> None:
    run.write_checkpoint(numbered_writer(1))
    run.write_checkpoint(numbered_writer(2))
    os.replace(run.folder / "checkpoint.pt", run.folder / "checkpoint.previous.pt")
    assert run.read_checkpoint(numbered) == 2


# Disks.


FULL = (
    r"^cannot write \S+: No space left on device; free some space and start the same command again: [^\n]+$"
)


def test_a_full_disk_loses_nothing(small_disk: Path) -> None:
    run = a_run(small_disk)
    run.write_checkpoint(numbered_writer(1, 5_000))
    run.write_checkpoint(numbered_writer(2, 5_000))
    run.write_json("summary.json", {"accuracy": 1.0})
    run.append_metrics({"epoch": 1})
    filler = fill(small_disk, leave=100_000)

    for write in (numbered_writer(3), lambda stream: torch.save(torch.zeros(100_000), stream)):
        with pytest.raises(RecordError, match=FULL):
            run.write_checkpoint(write)
        assert (numbered(run.folder / "checkpoint.pt"), numbered(run.folder / "checkpoint.previous.pt")) == (
            2,
            1,
        )
    with pytest.raises(RecordError, match=FULL):
        run.write_json("summary.json", {"text": "x" * 200_000})
    refusal, written = "", 1
    while not refusal:
        try:
            run.append_metrics({"epoch": written + 1, "pad": "x" * 1000})
            written += 1
        except RecordError as error:
            refusal = str(error)
    assert re.match(FULL, refusal)
    assert names(run.folder) == {"checkpoint.pt", "checkpoint.previous.pt", "summary.json", "metrics.jsonl"}
    assert run.read_checkpoint(numbered) == 2
    assert run.read_json("summary.json") == {"accuracy": 1.0}
    assert (run.folder / "metrics.jsonl").read_bytes().endswith(b'"}\n')

    filler.unlink()
    run.append_metrics({"epoch": written + 1})
    run.write_checkpoint(numbered_writer(3))
    assert [row["epoch"] for row in run.read_metrics()] == list(range(1, written + 2))
    assert run.read_checkpoint(numbered) == 3


def test_a_quota_loses_nothing(run: Run) -> None:
    """A limit on the file size of a process stops a write as a quota does."""
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        from salr.records import RecordError
        def refused(write):
            try:
                write()
            except RecordError as error:
                print(error)
            else:
                raise SystemExit("written")
        refused(lambda: run.write_checkpoint(lambda stream: stream.write(bytes(200_000))))
        refused(lambda: run.write_json("summary.json", {"text": "x" * 200_000}))
        refused(lambda: run.append_metrics({"epoch": 2, "text": "x" * 200_000}))
    """
    run.write_checkpoint(numbered_writer(1))
    run.append_metrics({"epoch": 1})
    writer = process(code, run.results)
    lines = writer.communicate()[0].decode().splitlines()
    assert writer.returncode == 0
    assert len([line for line in lines if "free some space and start the same command again" in line]) == 3
    assert run.read_checkpoint(numbered) == 1
    assert run.read_metrics() == [{"epoch": 1}]
    assert names(run.folder) == {"checkpoint.pt", "metrics.jsonl"}


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), TypeError("x")]
)
def test_the_earlier_checkpoint_survives_whatever_stops_a_write(run: Run, error: BaseException) -> None:
    def write(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise error

    run.write_checkpoint(numbered_writer(1))
    with pytest.raises(RecordError if isinstance(error, OSError) else type(error)):
        run.write_checkpoint(write)
    assert names(run.folder) == {"checkpoint.pt"}
    assert run.read_checkpoint(numbered) == 1


def test_results_that_cannot_be_written_are_refused_at_the_start(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "results")
    assert list((tmp_path / "new" / "results").iterdir()) == []
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "results"):
        with pytest.raises(RecordError, match=rf"^cannot write to {place}: it is not a folder$"):
            check_writable(place)


def test_a_read_only_disk_is_refused_at_the_start_and_still_read(small_disk: Path, caplog) -> None:
    run = a_run(small_disk)
    run.write_json("summary.json", {"accuracy": 1.0})
    run.write_status("finished", epoch=1)
    run.folder.joinpath("iterations.json").write_text("damaged")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(RecordError, match=rf"^cannot write to {small_disk}: Read-only file system$"):
        check_writable(small_disk)
    with pytest.raises(RecordError, match=r"^cannot claim \S+: Read-only file system$"), run.claim():
        pytest.fail("claimed")
    assert run.state() == "finished"
    assert run.read_json("iterations.json") is None
    assert "could not be set aside: Read-only file system" in caplog.text
    assert list(load_runs(small_disk)[0]["accuracy"]) == [1.0]
