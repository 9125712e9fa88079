"""Jobs of about equal cost, by simulation."""

from collections import Counter
from pathlib import Path

import pytest

from experiments.jobs import Job, cut, estimate, makespan
from experiments.paper.tables import cells_of_tables
from experiments.plan import CellPlan, plan
from experiments.records import records_of
from experiments.schema import Cell, load
from salr.records import State

SECONDS = {
    "mnistfc": 0.0045,
    "lenet": 0.011,
    "lstm_char": 0.09,
    "lstm_ptb": 1.9,
    "regnetx": 0.25,
    "mobilenetv2": 0.3,
    "resnet44": 0.2,
    "resnet56": 0.26,
    "resnet18": 0.8,
    "allcnn_bn": 0.5,
    "resnet50": 2.1,
    "resnet101": 3.6,
}
"""Seconds of a gradient call, of the order that two cores take. Only their ratios matter here."""


@pytest.fixture(scope="module")
def whole() -> list[CellPlan]:
    """All nine tables at 30 seeds."""
    folder = "results=nothing_is_there"
    tables = cells_of_tables(range(1, 10), "paper", ["seeds=30", folder])
    return plan(cell for cells in tables.values() for cell in cells)


def seconds_of(plans: list[CellPlan]) -> dict[tuple[str, str], float]:
    return {each.network: SECONDS[each.network[1]] for each in plans}


def seeds_of(jobs: list[Job]) -> Counter[tuple[str, int]]:
    return Counter(
        (" ".join(part.plan.cell.overrides), seed)
        for job in jobs
        for part in job.parts
        for seed in part.seeds
    )


def test_every_run_is_in_one_job(whole: list[CellPlan]) -> None:
    runs = {(" ".join(each.cell.overrides), seed) for each in whole for seed in range(30)}
    assert len(runs) == 97 * 30
    for most in (1, 7, 300, 1000, 5000):
        jobs = cut(whole, seconds_of(whole), most)
        assert len(jobs) <= most
        assert seeds_of(jobs) == dict.fromkeys(runs, 1)
        assert [job.seconds for job in jobs] == sorted((job.seconds for job in jobs), reverse=True)


@pytest.mark.parametrize(("devices", "most"), [(1, 1.001), (8, 1.02), (64, 1.1), (256, 1.5)])
def test_devices_are_kept_busy(whole: list[CellPlan], devices: int, most: float) -> None:
    jobs = cut(whole, seconds_of(whole))
    assert 4 * 64 <= len(jobs) <= 1000
    ideal = sum(job.seconds for job in jobs) / devices
    assert ideal <= makespan(jobs, devices) * 1.000001
    assert makespan(jobs, devices) <= most * ideal


def test_short_runs_share_a_job_and_long_ones_do_not(tmp_path: Path) -> None:
    cells = []
    for model, seeds in (("mnistfc", 30), ("resnet50", 3)):
        overrides = (f"model={model}", "dataset=mnist", f"seeds={seeds}", f"results={tmp_path}")
        cells.append(Cell(load(overrides), overrides))
    plans = plan(cells)
    jobs = cut(plans, {("mnist", "mnistfc"): 1.0, ("mnist", "resnet50"): 20.0}, jobs=5)
    parts = [[(part.plan.network[1], part.seeds) for part in job.parts] for job in jobs]
    assert parts[:3] == [[("resnet50", (seed,))] for seed in range(3)]
    assert parts[3:] == [[("mnistfc", tuple(range(15)))], [("mnistfc", tuple(range(15, 30)))]]
    assert jobs[-1].cells == [
        ["model=mnistfc", "dataset=mnist", "seeds=30", f"results={tmp_path}", f"seeds={seeds}"]
        for seeds in ["[15,16,17,18,19,20,21,22,23,24,25,26,27,28,29]"]
    ]


def test_ended_runs_are_in_no_job(tmp_path: Path) -> None:
    overrides = ("seeds=4", f"results={tmp_path}")
    cell = Cell(load(overrides), overrides)
    records = records_of(cell.config)
    records[0].write_status(State.DIVERGED, 1)
    records[2].write_status(State.FAILED, 1)
    plans = plan([cell])
    assert (plans[0].runs, plans[0].done, plans[0].seeds_left) == (4, 1, (1, 2, 3))
    (job,) = cut(plans, {plans[0].network: 1.0}, jobs=1)
    assert job.parts[0].seeds == (1, 2, 3)


def test_makespan_is_that_of_a_list_schedule() -> None:
    class Fixed:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

    jobs = [Fixed(seconds) for seconds in (5, 4, 3, 3, 3)]
    assert makespan(jobs, 1) == 18  # type: ignore[arg-type]
    assert makespan(jobs, 2) == 10  # type: ignore[arg-type]  # 5 + 3, then 4 + 3 + 3
    assert makespan(jobs, 9) == 5  # type: ignore[arg-type]


def test_the_estimate_names_devices(whole: list[CellPlan]) -> None:
    line = estimate(whole, seconds_of(whole))
    for devices in ("on 1,", "on 8,", "on 64,", "on 256 "):
        assert devices in line
