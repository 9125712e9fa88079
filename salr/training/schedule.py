"""Factors of the base rate as pure functions of the iteration: nothing to save, nothing to restore."""

from collections.abc import Callable

Schedule = Callable[[int, float], float]
"""(epoch from 0, fraction of it done in [0, 1)) → factor of the base rate."""


def constant(_epoch: int, _fraction: float) -> float:
    return 1.0


def step_decay(start: int, every: int | None, factor: float) -> Schedule:
    """The rate is multiplied by ``factor`` when epoch ``start`` begins (from 0), and every ``every`` epochs from then on."""

    def schedule(epoch: int, _fraction: float) -> float:
        if epoch < start:
            return 1.0
        return factor ** (1 if every is None else 1 + (epoch - start) // every)

    return schedule
