"""Factors of the base rate as pure functions of the iteration: nothing to save, nothing to restore."""

from collections.abc import Callable, Sequence

from salr.optim import cyclic_rate

Schedule = Callable[[int, float], float]
"""(epoch from 0, place of the iteration in it from 0, the first, to 1, the last) → factor of the base rate."""


def constant(_epoch: int, _fraction: float) -> float:
    return 1.0


def step_decay(start: int, every: int | None, factor: float) -> Schedule:
    """The rate is multiplied by ``factor`` when epoch ``start`` begins (from 0), and every ``every`` epochs from then on."""

    def schedule(epoch: int, _fraction: float) -> float:
        if epoch < start:
            return 1.0
        return factor ** (1 if every is None else 1 + (epoch - start) // every)

    return schedule


def multi_step_decay(milestones: Sequence[int], factor: float) -> Schedule:
    """The rate is multiplied by ``factor`` when each of the epochs ``milestones`` begins (from 0)."""

    def schedule(epoch: int, _fraction: float) -> float:
        return factor ** sum(epoch >= milestone for milestone in milestones)

    return schedule


def then_cyclic(before: Schedule, start: int, first: float, last: float) -> Schedule:
    """From epoch ``start`` on a cycle an epoch, linear from factor ``first`` to ``last`` (SWA, appendix D; linear: our choice)."""

    def schedule(epoch: int, fraction: float) -> float:
        return before(epoch, fraction) if epoch < start else cyclic_rate(fraction, first, last)

    return schedule
