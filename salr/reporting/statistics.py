"""Means, differences with their uncertainty, equivalence, and correction for looking often."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

ALPHA = 0.05
"""The chance of a false decision that is accepted; intervals cover with probability 1 − ALPHA."""

MIN_SEEDS = 3
"""With fewer seeds nothing is decided."""

POWER = 0.8
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: NaN if n = 0.
        std: the sample standard deviation (n − 1); NaN if n < 2.
    """

    mean: float
    std: float
    n: int


@dataclass(frozen=True)
class Difference:
    """A difference of two means and its uncertainty by Student's t.

    Attributes:
        error: the standard error; NaN if the data cannot give one.
        degrees: of freedom.
        n: pairs, or the smaller sample if not ``paired``.
        paired: over shared seeds; else Welch's.
    """

    mean: float
    error: float
    degrees: float
    n: int
    paired: bool

    def interval(self, alpha: float = ALPHA) -> tuple[float, float]:
        """Return the two-sided interval at level 1 − alpha."""
        if self.error == 0:
            return self.mean, self.mean
        reach = float(stats.t.isf(alpha / 2, self.degrees)) * self.error
        return self.mean - reach, self.mean + reach

    @property
    def low(self) -> float:
        return self.interval()[0]

    @property
    def high(self) -> float:
        return self.interval()[1]

    @property
    def p(self) -> float:
        """The two-sided p-value of no difference."""
        if self.error == 0:  # as far as these seeds can tell, the difference is exact
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.degrees))

    def equivalence_p(self, margin: float) -> float:
        """Return the p-value of a difference of at least ``margin``, by two one-sided tests (TOST)."""
        inside = margin - abs(self.mean)
        if self.error == 0:
            return 0.0 if inside > 0 else 1.0
        return float(stats.t.sf(inside / self.error, self.degrees))


NO_DIFFERENCE = Difference(math.nan, math.nan, math.nan, 0, False)


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean and sample standard deviation."""
    mean = float(np.mean(values)) if len(values) else math.nan
    return Estimate(mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan, len(values))


def difference(
    first: Mapping[int, float], second: Mapping[int, float], resolution: float = 0.0
) -> Difference:
    """Return ``first`` − ``second``, values by seed: paired if at least two seeds are shared, else Welch's.

    A seed gives both methods the same initialisation and data order, so a pair shares that part of the noise.

    Args:
        resolution: the smallest step between values. A deviation is at least what rounding to it gives.
    """
    shared = sorted(first.keys() & second.keys())
    if len(shared) < 2:
        return welch(estimate(list(first.values())), estimate(list(second.values())), resolution)
    gaps = estimate([first[seed] - second[seed] for seed in shared])
    std = max(gaps.std, resolution / math.sqrt(6))  # two rounded values, each of variance resolution² / 12
    return Difference(gaps.mean, std / math.sqrt(gaps.n), gaps.n - 1, gaps.n, paired=True)


def welch(first: Estimate, second: Estimate, resolution: float = 0.0) -> Difference:
    """Return ``first`` − ``second`` of independent samples, from their summaries (Welch 1947)."""
    n = min(first.n, second.n)
    if n == 0:
        return NO_DIFFERENCE
    mean = first.mean - second.mean
    if n < 2:
        return Difference(mean, math.nan, math.nan, n, paired=False)
    floor = resolution**2 / 12
    parts = [max(each.std**2, floor) / each.n for each in (first, second)]
    spread = sum(parts)
    # Welch and Satterthwaite. Without any spread, all degrees give the same answer.
    weights = [part**2 / (each.n - 1) for part, each in zip(parts, (first, second), strict=True)]
    degrees = spread**2 / sum(weights) if sum(weights) > 0 else n - 1
    return Difference(mean, math.sqrt(spread), degrees, n, paired=False)


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ρ of n pairs, with its interval at level 1 − ALPHA; NaN if the data cannot give one."""

    rho: float
    low: float
    high: float
    n: int


def rank_correlation(
    first: Sequence[float], second: Sequence[float], given: Sequence[float] | None = None
) -> RankCorrelation:
    """Return Spearman's rank correlation, with the interval of Bonett and Wright (2000).

    Args:
        given: values that may explain both. The correlation is then the partial one: that of what is left of
            the ranks of both after a linear regression on the ranks of ``given``.
    """
    n, rho = len(first), _spearman(first, second)
    degrees = n - 3
    if given is not None:
        degrees -= 1
        one, other = _spearman(first, given), _spearman(second, given)
        left = (1 - one**2) * (1 - other**2)
        rho = (rho - one * other) / math.sqrt(left) if left > 1e-12 else math.nan
    if math.isnan(rho) or degrees < 1 or abs(rho) > 1 - 1e-12:
        return RankCorrelation(rho, math.nan, math.nan, n)
    reach = float(stats.norm.isf(ALPHA / 2)) * math.sqrt((1 + rho**2 / 2) / degrees)
    low, high = (math.tanh(math.atanh(rho) + sign * reach) for sign in (-1, 1))
    return RankCorrelation(rho, low, high, n)


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    if len(first) < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        return math.nan
    return float(stats.spearmanr(first, second).statistic)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979), in the same order.

    The chance of any false decision among them stays what it is for one. NaN stands for what is not measured.
    It counts as 1 and stays NaN, so the number of tests does not change while cells arrive.
    """
    order = sorted((index for index, p in enumerate(ps) if not math.isnan(p)), key=lambda index: ps[index])
    adjusted, highest = [math.nan] * len(ps), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def seeds_needed(
    effect: float, margin: float, std: float, paired: bool, alpha: float, more_than: int = 0
) -> int | None:
    """Return how many seeds decide with probability ``POWER``, by either test of :func:`chance_to_decide`.

    Args:
        more_than: seeds that did not decide.

    Returns:
        At least ``MIN_SEEDS``; None if more than ``MOST_SEEDS`` are needed.
    """
    sizes = range(max(MIN_SEEDS, more_than + 1), MOST_SEEDS + 1)
    place = bisect_left(sizes, POWER, key=lambda n: chance_to_decide(effect, margin, std, paired, alpha, n))
    return sizes[place] if place < len(sizes) else None


def chance_to_decide(effect: float, margin: float, std: float, paired: bool, alpha: float, n: int) -> float:
    """Return the probability that n seeds show a difference or an equivalence.

    Args:
        effect: the true difference.
        margin: of the equivalence, by two one-sided tests at level alpha; 0 for no such test.
        std: the true one, of the gaps if ``paired``, else of one sample; both samples count as equally wide.
        alpha: two-sided level of the test of no difference.
    """
    if std == 0:
        return 1.0
    degrees = n - 1 if paired else 2 * (n - 1)
    error = std * math.sqrt((1 if paired else 2) / n)
    # The measured mean and the measured error are independent. So this is a mean over quantiles of the error:
    # at each, the tests ask for a mean beyond one limit or within another one.
    measured = error * np.sqrt(stats.chi2.ppf(_QUANTILES, degrees) / degrees)
    different = stats.t.isf(alpha / 2, degrees) * measured
    equal = np.clip(margin - stats.t.isf(alpha, degrees) * measured, 0, different)

    def within(reach: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(
            stats.norm.cdf((reach - effect) / error) - stats.norm.cdf((-reach - effect) / error)
        )

    return float(np.mean(1 - within(different) + within(equal)))


_QUANTILES = (np.arange(500) + 0.5) / 500


def sampling_error(accuracy: float, examples: int) -> float:
    """Return the standard error of an accuracy (%) that a test set of this size gives, whatever the seeds."""
    return math.sqrt(accuracy * (100 - accuracy) / examples)
