"""Many records: a tenth of them damaged, ten thousand of them, plans of a thousand runs."""

import logging
import random
import resource
import tracemalloc
from pathlib import Path

import pytest

from experiments.plan import plan
from experiments.records import folder_of
from experiments.schema import Cell
from experiments.schema.compose import load
from salr.records import Run, load_runs
from salr.reporting.render import markdown
from tests.helpers.records import damage
from tests.helpers.tables import record, table

GOOD, BAD = 1000, 100


def test_a_hundred_damaged_among_a_thousand_are_each_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every good value is 98, so that any wrong number would move the mean or the deviation."""
    runs = [record(tmp_path, "sgd", seed, 98.0) for seed in range(GOOD + BAD)]
    chance = random.Random(0)
    hurt = chance.sample(runs, BAD)
    for run in hurt:
        damage(run.folder / chance.choice(["summary.json", "status.json"]), chance)
    caplog.set_level(logging.WARNING, logger="salr.records")
    frame = load_runs(tmp_path)[0]
    assert dict(frame["state"].value_counts()) == {"finished": GOOD, "damaged": BAD}
    assert set(frame["test_accuracy"].dropna()) == {98.0}
    for run in hurt:
        assert sum(f"{run.folder}/" in message for message in caplog.messages) == 1
    caplog.clear()
    (cell,) = table(tmp_path, {"sgd": runs}).cells
    assert (cell.estimate.n, cell.estimate.mean, cell.estimate.std) == (GOOD, 98.0, 0.0)
    assert sum(cell.states.values()) == BAD
    for run in hurt:
        assert any(f"{run.folder}/" in message for message in caplog.messages)


@pytest.mark.soak
def test_ten_thousand_records_are_read_in_bounded_memory(tmp_path: Path) -> None:
    runs = [record(tmp_path, "sgd", seed, 98.0) for seed in range(10_000)]
    tracemalloc.start()
    made = table(tmp_path, {"sgd": runs})
    frame = load_runs(tmp_path)[0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made.cells[0].estimate.n == len(frame) == 10_000
    assert "n=10000" in markdown(made)
    assert peak < 200 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 << 20  # KB, with torch and pandas


def test_a_plan_of_a_thousand_runs_looks_at_each_folder_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    state = Run.state
    monkeypatch.setattr(Run, "state", lambda run: asked.append(run.folder) or state(run))
    cell = Cell(load(["seeds=1000", f"results={tmp_path}"]), ())
    (made,) = plan([cell])
    assert (made.runs, made.done) == (1000, 0)
    assert not asked  # nothing of the cell is there
    folder_of(cell.config).mkdir(parents=True)
    (made,) = plan([cell])
    assert (made.runs, made.done) == (1000, 0)
    assert len(asked) == len(set(asked)) == 1000
