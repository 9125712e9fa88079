"""A table that is killed three times and restarted is the uninterrupted table, byte for byte."""

import random
import time
from pathlib import Path

import pytest

from salr.records import find_runs
from tests.helpers.commands import until
from tests.helpers.sweeps import sweep, tables


def epochs_done(results: Path) -> int:
    """Return the epochs that all runs have done together."""
    files = [run.folder / "metrics.jsonl" for run in find_runs(results)]
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())


@pytest.mark.timeout(2400)
def test_a_table_killed_three_times_is_the_uninterrupted_one(tmp_path: Path) -> None:
    draw = random.Random(0)
    killed = tmp_path / "killed"
    for _ in range(3):
        wanted = epochs_done(killed) + draw.randint(2, 8)  # of 60 in all
        with sweep(killed, "local") as run:
            until(lambda wanted=wanted: epochs_done(killed) >= wanted)  # type: ignore[misc]
            time.sleep(draw.uniform(0, 0.2))  # into the middle of an epoch, a record, a checkpoint
            assert run.process.poll() is None
    with sweep(killed, "local") as run:
        assert run.wait() == 0, run.output.read_text()
    assert "resumed after epoch" in run.output.read_text()
    with sweep(tmp_path / "whole", "local") as run:
        assert run.wait() == 0, run.output.read_text()
    assert tables(killed) == tables(tmp_path / "whole")
