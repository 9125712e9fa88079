"""How far a sweep is: in work, at the pace so far, without what was done before a resume."""

from pathlib import Path

import pytest

from experiments.plan import duration, plan
from experiments.progress import Sweep
from experiments.schema import Cell, load
from salr.records import State
from salr.training import Event


@pytest.fixture
def now() -> list[float]:
    return [100.0]


def cell(*overrides: str) -> Cell:
    return Cell(load(overrides), overrides)


def test_the_time_left_is_that_of_the_work_left(tmp_path: Path, now: list[float]) -> None:
    """Two networks with two runs each; the runs report that one network is three times as costly."""
    shared = ("seeds=2", "trainer.epochs=10", f"results={tmp_path}")
    cells = [cell(f"model={model}", *shared) for model in ("mnistfc", "lenet")]
    sweep = Sweep(plan(cells), clock=lambda: now[0])
    assert sweep.text() == "0 % of all"
    cheap, costly = (sweep.watch(each.config) for each in cells)
    now[0] += 100
    # Until the second network has reported, it is taken to be as fast as the first: 0.4 of 4 runs in 100 s.
    row = {"seconds": 80.0, "gradient_calls": 40}
    assert cheap(Event(0, "epoch", 4, 10, row)) == "10 % of all, 15.0 min left"
    assert (
        costly(Event(0, "epoch", 1, 10, {"seconds": 60.0, "gradient_calls": 10}))
        == "9 % of all, 17.4 min left"
    )
    cheap(Event(0, "ended", 10, 10, state=State.FINISHED))
    assert cheap(Event(1, "ended", 1, 10, state=State.DIVERGED)).startswith("29 % of all")
    now[0] += 100
    for seed in (0, 1):
        last = costly(Event(seed, "ended", 10, 10, state=State.FINISHED))
    assert last == "100 % of all"


def test_work_done_before_a_resume_is_not_counted(tmp_path: Path, now: list[float]) -> None:
    one = cell("seeds=2", "trainer.epochs=10", f"results={tmp_path}")
    sweep = Sweep(plan([one]), clock=lambda: now[0])
    watch = sweep.watch(one.config)
    assert watch(Event(0, "begun", 5, 10)).startswith("0 % of all")
    now[0] += 60
    assert watch(Event(0, "epoch", 10, 10)) == "33 % of all, 2.0 min left"


def test_durations_are_for_people() -> None:
    assert [duration(seconds) for seconds in (-0.4, 40, 720, 11520, 1e6, 1e8)] == [
        "0 s",
        "40 s",
        "12.0 min",
        "3.2 h",
        "11.6 days",
        "3.2 years",
    ]
