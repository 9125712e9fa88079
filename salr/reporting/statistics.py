"""Means, differences with their uncertainty, and correction for looking often."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """``std`` is the sample standard deviation (n − 1); NaN where n < 2, and the mean NaN where n = 0."""

    mean: float
    std: float
    n: int


@dataclass(frozen=True)
class Difference:
    """Of two means: with a two-sided ``LEVEL`` t interval and p-value; these are NaN where the data cannot give them.

    ``paired`` over shared seeds (n pairs), else Welch's (n the smaller sample). ``adjusted`` is p after Holm's correction.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int
    paired: bool
    adjusted: float = math.nan


def estimate(values: Sequence[float]) -> Estimate:
    mean = float(np.mean(values)) if len(values) else math.nan
    return Estimate(mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan, len(values))


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """``first`` − ``second``, values by seed. Paired over the seeds that both have where there are two of them at least.

    Seeds give the same initialisation and data order to both, so that pairs share that part of their noise.
    """
    shared = sorted(first.keys() & second.keys())
    if len(shared) >= 2:
        gaps = np.array([first[seed] - second[seed] for seed in shared])
        mean, error = float(gaps.mean()), float(gaps.std(ddof=1) / math.sqrt(len(gaps)))
        return _with_interval(mean, error, len(gaps) - 1, len(gaps), paired=True)
    a, b = np.array(list(first.values())), np.array(list(second.values()))
    n = min(len(a), len(b))
    if n == 0:
        return Difference(math.nan, math.nan, math.nan, math.nan, 0, paired=False)
    mean = float(a.mean() - b.mean())
    if n < 2:
        return Difference(mean, math.nan, math.nan, math.nan, n, paired=False)
    parts = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    spread = sum(parts)
    # Welch and Satterthwaite; with no spread at all any number of degrees gives the same answer
    degrees = (
        spread**2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1)) if spread > 0 else n - 1
    )
    return _with_interval(mean, math.sqrt(spread), float(degrees), n, paired=False)


def _with_interval(mean: float, error: float, degrees: float, n: int, paired: bool) -> Difference:
    if error == 0:  # as far as these seeds can tell the difference is exact
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0, n, paired)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, degrees)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, degrees))
    return Difference(mean, mean - reach, mean + reach, p, n, paired)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values adjusted so that the chance of any false one among them stays what it is for one (Holm 1979). NaN stays NaN."""
    order = sorted((index for index, p in enumerate(ps) if not math.isnan(p)), key=lambda index: ps[index])
    adjusted, highest = [math.nan] * len(ps), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted
