"""Several processes work on one results folder: each run is trained once, and none is damaged."""

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from experiments.cli import ExitCode
from salr.records import find_runs
from tests.helpers.commands import SMALL, command, left, runs, train
from tests.helpers.sweeps import LONG, sweep, tables


@pytest.mark.timeout(2400)
def test_the_same_table_started_twice_trains_each_run_once(tmp_path: Path) -> None:
    both = tmp_path / "both"
    with sweep(both, "local") as first:
        second_output = tmp_path / "second"
        with sweep(second_output, "local", os.environ, f"results={both}") as second:
            codes = {first.wait(), second.wait()}
            told = first.output.read_text() + second.output.read_text()
    assert codes <= {0, 1, ExitCode.BUSY}  # whoever came to a run that was being trained says so
    assert "Traceback" not in told
    trained = [run.read_metrics() for run in find_runs(both)]
    assert [[row["epoch"] for row in rows] for rows in trained] == [list(range(1, LONG + 1))] * 3
    epochs = Counter(re.findall(rf"seed 0: epoch (\d+)/{LONG}:", told))
    assert epochs == {str(epoch): 3 for epoch in range(1, LONG + 1)}  # three runs, none of them twice
    with sweep(both, "local") as third:
        assert third.wait() == 0, third.output.read_text()
        assert f"/{LONG}:" not in third.output.read_text()
    with sweep(tmp_path / "single", "local") as single:
        assert single.wait() == 0, single.output.read_text()
    assert tables(both) == tables(tmp_path / "single")


def test_four_processes_on_one_folder_train_each_seed_once(tmp_path: Path) -> None:
    arguments = [*SMALL, "optimizer=sgd_salr", "seeds=4", "trainer.workers=1"]
    assert train([*arguments, f"results={tmp_path / 'alone'}"]) == 0
    shared = [*arguments, f"results={tmp_path / 'shared'}"]
    with (
        command(tmp_path / "a", *shared) as a,
        command(tmp_path / "b", *shared) as b,
        command(tmp_path / "c", *shared) as c,
        command(tmp_path / "d", *shared) as d,
    ):
        codes = [process.wait() for process in (a, b, c, d)]
        told = "".join(process.text for process in (a, b, c, d))
    assert set(codes) <= {0, ExitCode.BUSY}
    assert "Traceback" not in told
    lines = Counter(re.findall(r"^  seed (\d): epoch (\d)/4:", told, re.MULTILINE))
    assert lines == {(str(seed), str(epoch)): 1 for seed in range(4) for epoch in range(1, 5)}
    alone = runs(tmp_path / "alone")
    for seed, run in runs(tmp_path / "shared").items():
        assert run.state() == "finished"
        assert left(run) == left(alone[seed])
