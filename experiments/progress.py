"""How far the cells of a sweep are together. Does not import torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.plan import CellPlan, duration
from experiments.records import folder_of
from experiments.schema import Config

if TYPE_CHECKING:
    from salr.training import Event


class Sweep:
    """Count the work of all runs: gradient calls times the seconds that one takes.

    The time left assumes that the rest of the work is done at the pace so far.

    Args:
        plans: of all cells, made before anything is trained.
        seconds_a_call: seconds of a gradient call by data set and network.
        clock: the present time in seconds.
    """

    def __init__(
        self,
        plans: Sequence[CellPlan],
        seconds_a_call: Mapping[tuple[str, str], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._total = sum(plan.left * seconds_a_call[plan.network] for plan in plans)
        self._work = {
            folder_of(plan.config): plan.gradient_calls * seconds_a_call[plan.network] for plan in plans
        }
        self._before: dict[tuple[Path, int], float] = {}
        self._done: dict[tuple[Path, int], float] = {}
        self._begun = clock()

    def watch(self, config: Config) -> Callable[[Event], str]:
        """Return what a display calls with each event of a cell: ``34 % of all, 1.2 h left``."""
        folder = folder_of(config)

        def watch(event: Event) -> str:
            run = folder, event.seed
            share = event.epoch / event.epochs if event.epochs else 0.0
            if event.kind == "begun":  # work done before the resume is not counted
                self._before[run] = share
            elif event.kind == "ended":  # nothing of the run is left, however it ended
                share = 1.0
            self._done[run] = share
            return self.text()

        return watch

    def text(self) -> str:
        """Return the share of the work that is done, and the time left."""
        before = sum(self._work[folder] * share for (folder, _), share in self._before.items())
        done = sum(self._work[folder] * share for (folder, _), share in self._done.items()) - before
        total = self._total - before
        if total <= 0:
            return "100 % of all"
        # Until something is done, the pace is that of the timed iterations.
        pace = done / (self._clock() - self._begun) if done > 0 else 1.0
        return f"{100 * done / total:.0f} % of all, {duration((total - done) / pace)} left"
