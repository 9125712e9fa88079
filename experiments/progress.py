"""How far the cells of a sweep are together. Does not import torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.plan import CellPlan, Network, duration
from experiments.records import folder_of
from experiments.schema import Config

if TYPE_CHECKING:
    from salr.training import Event


class Sweep:
    """Estimate from the runs themselves how much of all work is done, and how long the rest takes.

    Work is a run's gradient calls times the seconds that a call of its network takes. The runs report these
    seconds epoch by epoch. Until a network has reported, it is taken to be as fast as the others on average.
    The time left assumes that the rest of the work is done at the pace so far.

    Args:
        plans: of all cells, made before anything is trained.
        clock: the present time in seconds.
    """

    def __init__(self, plans: Sequence[CellPlan], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._plans = {folder_of(plan.config): plan for plan in plans}
        self._seconds_a_call: dict[Network, float] = {}
        self._before: dict[tuple[Path, int], float] = {}
        self._done: dict[tuple[Path, int], float] = {}
        self._begun = clock()

    def watch(self, config: Config) -> Callable[[Event], str]:
        """Return what a display calls with each event of a cell: ``34 % of all, 1.2 h left``."""
        folder = folder_of(config)
        network = self._plans[folder].network

        def watch(event: Event) -> str:
            run = folder, event.seed
            share = event.epoch / event.epochs if event.epochs else 0.0
            if event.kind == "begun":  # work done before the resume is not counted
                self._before[run] = share
            elif event.kind == "ended":  # nothing of the run is left, however it ended
                share = 1.0
            if event.row.get("gradient_calls"):
                self._seconds_a_call[network] = event.row["seconds"] / event.row["gradient_calls"]
            self._done[run] = share
            return self.text()

        return watch

    def text(self) -> str:
        """Return the share of the work that is done, and the time left if anything has been timed."""
        before = self._work(self._before)
        done = self._work(self._done) - before
        total = sum(len(plan.seeds_left) * self._work_of(plan) for plan in self._plans.values()) - before
        if total <= 0 or done >= total:
            return "100 % of all"
        share = f"{100 * done / total:.0f} % of all"
        elapsed = self._clock() - self._begun
        if done <= 0 or elapsed <= 0:
            return share
        return f"{share}, {duration((total - done) * elapsed / done)} left"

    def _work(self, shares: dict[tuple[Path, int], float]) -> float:
        return sum(self._work_of(self._plans[folder]) * share for (folder, _), share in shares.items())

    def _work_of(self, plan: CellPlan) -> float:
        """Return the work of one of a cell's runs."""
        known = self._seconds_a_call
        mean = sum(known.values()) / len(known) if known else 1.0
        return plan.gradient_calls * known.get(plan.network, mean)
