"""Many cells together: mean difference and probability of improvement, with a stratified bootstrap.

As in Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice" (2021), the seeds
of each cell are drawn again, and the cells stay as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salr.reporting.statistics import ALPHA

RESAMPLES = 2000

Samples = NDArray[np.float64]
"""The values of a cell's seeds."""


@dataclass(frozen=True)
class Interval:
    """A value with its percentile interval at level 1 − ALPHA."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Aggregate:
    """Two methods over several cells.

    Attributes:
        mean_difference: the mean over cells of first − second; better is larger.
        improvement: the mean over cells of the probability that a run of the first is better than one of the
            second; ties count as half.
        cells: how many.
    """

    mean_difference: Interval
    improvement: Interval
    cells: int


def aggregate(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], seed: int = 0) -> Aggregate | None:
    """Return the aggregate of cells, each the values of two methods of which larger ones are better.

    Cells in which a method has fewer than two values cannot be drawn again and are left out.

    Returns:
        None if no cell is left.
    """
    cells = [(np.asarray(a, float), np.asarray(b, float)) for a, b in pairs if len(a) > 1 and len(b) > 1]
    if not cells:
        return None
    random = np.random.default_rng(seed)
    drawn = [tuple(_draw(values, random) for values in cell) for cell in cells]
    differences = np.mean([a.mean(-1) - b.mean(-1) for a, b in drawn], axis=0)
    improvements = np.mean([improvement(a, b) for a, b in drawn], axis=0)
    measured_difference = float(np.mean([a.mean() - b.mean() for a, b in cells]))
    measured_improvement = float(np.mean([improvement(a, b) for a, b in cells]))
    return Aggregate(
        _interval(measured_difference, differences), _interval(measured_improvement, improvements), len(cells)
    )


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
