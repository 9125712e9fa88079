"""Factors of the base rate as pure functions of the iteration: there is no state to save or restore."""

from collections.abc import Callable, Sequence

from salr.optim import cyclic_rate

Schedule = Callable[[int, float], float]
"""Return the factor, given the epoch (from 0) and the place of the iteration in it, from 0 to 1."""


def constant(_epoch: int, _fraction: float) -> float:
    """Keep the base rate."""
    return 1.0


def step_decay(start: int, every: int | None, factor: float) -> Schedule:
    """Multiply the rate by ``factor`` at epoch ``start`` (from 0), and again every ``every`` epochs."""

    def schedule(epoch: int, _fraction: float) -> float:
        if epoch < start:
            return 1.0
        return factor ** (1 if every is None else 1 + (epoch - start) // every)

    return schedule


def multi_step_decay(milestones: Sequence[int], factor: float) -> Schedule:
    """Multiply the rate by ``factor`` when each epoch of ``milestones`` begins (from 0)."""

    def schedule(epoch: int, _fraction: float) -> float:
        return factor ** sum(epoch >= milestone for milestone in milestones)

    return schedule


def then_cyclic(before: Schedule, start: int, first: float, last: float) -> Schedule:
    """Follow ``before`` until epoch ``start``, then go from factor ``first`` to ``last`` in every epoch.

    The cycles are those of SWA (appendix D). The paper does not give their shape; linear is our choice.
    """

    def schedule(epoch: int, fraction: float) -> float:
        return before(epoch, fraction) if epoch < start else cyclic_rate(fraction, first, last)

    return schedule
