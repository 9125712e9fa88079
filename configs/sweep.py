"""How far the cells of a sweep are together. No torch here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .plan import CellPlan, duration
from .records import folder_of
from .schema import Config

if TYPE_CHECKING:
    from salr.training import Event


class Sweep:
    """Counts work: of each run its gradient calls, weighed with the seconds that one takes of its network.

    The time left is what the work left takes at the pace so far, whatever runs beside it.

    Args:
        plans: of all cells, before anything is trained.
        seconds_a_call: by (data set, network).
    """

    def __init__(
        self,
        plans: Sequence[CellPlan],
        seconds_a_call: Mapping[tuple[str, str], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds_a_call, self._clock = seconds_a_call, clock
        self._total = sum(plan.left * self._weight(plan.config) for plan in plans)
        self._work = {folder_of(plan.config): plan.gradient_calls * self._weight(plan.config) for plan in plans}
        self._before: dict[tuple[Path, int], float] = {}
        self._done: dict[tuple[Path, int], float] = {}
        self._begun = clock()

    def watch(self, config: Config) -> Callable[[Event], str]:
        """What a display calls with each event of a cell's runs: ``34 % of all, 1.2 h left``."""
        place = folder_of(config)

        def told(event: Event) -> str:
            run = place, event.seed
            share = event.epoch / event.epochs if event.epochs else 0.0
            if event.kind == "begun":  # where an interrupted run goes on, what it had done is no work of now
                self._before[run] = share
            elif event.kind == "ended":
                share = 1.0  # whatever became of it, nothing of it is left
            self._done[run] = share
            return self.text()

        return told

    def text(self) -> str:
        work = sum(self._work[place] * share for (place, _), share in self._before.items())
        done = sum(self._work[place] * share for (place, _), share in self._done.items()) - work
        total = self._total - work
        if total <= 0:
            return "100 % of all"
        left = total - done
        pace = done / (self._clock() - self._begun) if done > 0 else 1.0  # until then, as fast as one was timed
        return f"{100 * done / total:.0f} % of all, {duration(left / pace)} left"

    def _weight(self, config: Config) -> float:
        return self._seconds_a_call[config.dataset.name, config.model.name]
