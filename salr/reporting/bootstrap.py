"""Many cells together: mean difference and probability of improvement, with a stratified bootstrap.

As in Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice" (2021), the seeds
of each cell are drawn again, and the cells stay as they are. All pairs of a cell share its draws.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from salr.reporting.statistics import ALPHA

RESAMPLES = 2000

LEAST_SEEDS = 10
"""With fewer values in a cell, resamples vary too little, and the intervals are too narrow."""

Samples = NDArray[np.float64]
"""The values of a cell's seeds."""

CellKey = TypeVar("CellKey", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A value with its percentile interval at level 1 − ALPHA."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Aggregate:
    """Several pairs of cells together.

    Attributes:
        mean_difference: the mean over pairs of first − second; better is larger.
        improvement: the mean over pairs of the probability that a run of the first is better than one of the
            second; ties count as half.
        pairs: how many.
    """

    mean_difference: Interval
    improvement: Interval
    pairs: int


def aggregate(
    cells: Mapping[CellKey, Sequence[float]], pairs: Sequence[tuple[CellKey, CellKey]], seed: int = 0
) -> Aggregate | None:
    """Return the aggregate of pairs of cells.

    A cell that several pairs share is drawn once per resample, since its runs are the same in each of them.
    Pairs of a cell with fewer than ``LEAST_SEEDS`` values are left out.

    Args:
        cells: the values of each cell; larger ones are better.
        pairs: which cell is compared with which.

    Returns:
        None if no pair is left.
    """
    chosen = [pair for pair in pairs if all(len(cells[key]) >= LEAST_SEEDS for key in pair)]
    if not chosen:
        return None
    measured = {key: np.asarray(cells[key], float) for key in chain.from_iterable(chosen)}
    random = np.random.default_rng(seed)
    drawn = {key: _draw(values, random) for key, values in measured.items()}
    difference, chance = (_over(measured, chosen, each) for each in (_mean_difference, improvement))
    differences, chances = (_over(drawn, chosen, each) for each in (_mean_difference, improvement))
    return Aggregate(
        _interval(float(difference), differences), _interval(float(chance), chances), len(chosen)
    )


def _over(
    samples: Mapping[CellKey, Samples],
    pairs: Sequence[tuple[CellKey, CellKey]],
    measure: Callable[[Samples, Samples], Samples],
) -> Samples:
    """Return the mean over pairs."""
    return np.asarray(np.mean([measure(samples[first], samples[second]) for first, second in pairs], axis=0))


def _mean_difference(first: Samples, second: Samples) -> Samples:
    return np.asarray(first.mean(-1) - second.mean(-1))


def improvement(first: Samples, second: Samples) -> Samples:
    """Return P(first > second) + ½ P(first = second) over all pairs of the last axis (Mann and Whitney)."""
    left, right = first[..., :, None], second[..., None, :]
    return ((left > right).mean((-2, -1)) + (left >= right).mean((-2, -1))) / 2


def _draw(values: Samples, random: np.random.Generator) -> Samples:
    """Return resamples, one per row."""
    return values[random.integers(len(values), size=(RESAMPLES, len(values)))]


def _interval(value: float, resampled: Samples) -> Interval:
    low, high = np.quantile(resampled, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(value, float(low), float(high))
