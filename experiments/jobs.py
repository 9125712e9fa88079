"""Cut the work that is left into jobs of about equal cost, for a launcher. Does not import torch."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from experiments.plan import CellPlan, Network, duration

MOST_JOBS = 1000
"""Four jobs for each of 250 devices, and no more than Slurm allows in a job array."""

DEVICES = (1, 8, 64, 256)


@dataclass(frozen=True)
class Part:
    """Some seeds of a cell."""

    plan: CellPlan
    seeds: tuple[int, ...]
    seconds_a_run: float


@dataclass(frozen=True)
class Job:
    """What one device trains, part after part."""

    parts: tuple[Part, ...]

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return sum(part.seconds_a_run * len(part.seeds) for part in self.parts)

    @property
    def cells(self) -> list[list[str]]:
        """The overrides of its cells."""
        return [part.plan.cell.words(part.seeds) for part in self.parts]


def cut(
    plans: Sequence[CellPlan], seconds_a_call: Mapping[Network, float], jobs: int = MOST_JOBS
) -> list[Job]:
    """Cut what is left into at most ``jobs`` jobs of about equal cost, and return the longest first.

    A run is never cut. Long runs get jobs of their own; the short ones share the jobs that remain.

    Args:
        plans: of all cells.
        seconds_a_call: seconds of a gradient call by data set and network; only their ratios matter.
        jobs: at most this many, at least one.
    """
    runs = [
        (plan.gradient_calls * seconds_a_call[plan.network], plan, seed)
        for plan in plans
        for seed in plan.seeds_left
    ]
    runs.sort(key=lambda run: -run[0])  # stable: the seeds of a cell stay together
    left = sum(seconds for seconds, _, _ in runs)
    made: list[Job] = []
    at = 0
    while at < len(runs):
        share = left / max(1, jobs - len(made))
        begin, seconds = at, 0.0
        while at < len(runs) and (at == begin or seconds + runs[at][0] / 2 <= share or len(made) + 1 == jobs):
            seconds += runs[at][0]
            at += 1
        left -= seconds
        made.append(Job(_parts(runs[begin:at])))
    return sorted(made, key=lambda job: -job.seconds)


def makespan(jobs: Sequence[Job], devices: int) -> float:
    """Return the seconds until all jobs are done, if each device that is free takes the next one."""
    free = [0.0] * devices
    for job in jobs:
        heapq.heappush(free, heapq.heappop(free) + job.seconds)
    return max(free)


def estimate(
    plans: Sequence[CellPlan], seconds_a_call: Mapping[Network, float], jobs: int = MOST_JOBS
) -> str:
    """Return a line that says how long the jobs take on 1, 8, 64 and 256 devices like this one."""
    made = cut(plans, seconds_a_call, jobs)
    times = [f"{duration(makespan(made, number))} on {number}" for number in DEVICES]
    times_left = ", ".join(times)
    return f"Time left in {len(made)} jobs, from a few timed iterations on this device: {times_left} like it"


def _parts(runs: Sequence[tuple[float, CellPlan, int]]) -> tuple[Part, ...]:
    """Group a job's runs by cell; the runs of a cell are neighbours."""
    grouped = [list(group) for _, group in groupby(runs, key=lambda run: id(run[1]))]
    return tuple(Part(group[0][1], tuple(seed for _, _, seed in group), group[0][0]) for group in grouped)
