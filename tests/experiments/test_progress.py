"""How far a sweep is: in work, at the pace seen, with what was done before left out."""

from pathlib import Path

import pytest

from experiments.plan import duration, plan
from experiments.progress import Sweep
from experiments.schema import load
from salr.training import Event

SECONDS = {("digits", "mnistfc"): 2.0, ("digits", "lenet"): 6.0}


@pytest.fixture
def now() -> list[float]:
    return [100.0]


def test_the_time_left_is_that_of_the_work_left(tmp_path: Path, now: list[float]) -> None:
    """Two networks, one three times as costly as the other, two runs each: the costly half is three quarters of all."""
    configs = [
        load([f"model={model}", "seeds=2", "trainer.epochs=10", f"results={tmp_path}"])
        for model in ("mnistfc", "lenet")
    ]
    plans = plan(configs)
    expected = sum(cell.left * SECONDS["digits", cell.config.model.name] for cell in plans)
    sweep = Sweep(plans, SECONDS, clock=lambda: now[0])
    assert sweep.text() == f"0 % of all, {duration(expected)} left"
    cheap, costly = map(sweep.watch, configs)
    now[0] += 100
    assert cheap(Event(0, "epoch", 4, 10)) == "5 % of all, 31.7 min left"
    cheap(Event(0, "ended", 10, 10, state="finished"))
    assert cheap(Event(1, "ended", 1, 10, state="diverged")).startswith("25 % of all, 5.0 min")
    now[0] += 100
    assert costly(Event(0, "running", 4, 10)).startswith("40 % of all")
    for seed in (0, 1):
        last = costly(Event(seed, "ended", 10, 10, state="finished"))
    assert last == "100 % of all, 0 s left"


def test_what_an_interrupted_run_had_done_is_no_work_of_now(tmp_path: Path, now: list[float]) -> None:
    config = load(["seeds=2", "trainer.epochs=10", f"results={tmp_path}"])
    sweep = Sweep(plan([config]), SECONDS, clock=lambda: now[0])
    watch = sweep.watch(config)
    assert watch(Event(0, "begun", 5, 10)).startswith("0 % of all")
    now[0] += 60
    assert watch(Event(0, "epoch", 10, 10)) == "33 % of all, 2.0 min left"
