"""Means, intervals and corrections against scipy and against numbers worked by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from salr.reporting import bootstrap
from salr.reporting.bootstrap import aggregate, improvement
from salr.reporting.statistics import (
    ALPHA,
    MIN_SEEDS,
    Difference,
    Estimate,
    chance_to_decide,
    difference,
    estimate,
    holm,
    sampling_error,
    seeds_needed,
    welch,
)


def test_an_estimate_by_hand() -> None:
    value = estimate([1.0, 2.0, 6.0])
    assert (value.mean, value.n) == (3.0, 3)
    assert value.std == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert math.isnan(estimate([4.0]).std)
    assert math.isnan(estimate([]).mean)


def test_a_paired_difference_by_hand() -> None:
    """Gaps 1, 2, 3: mean 2, standard error 1/√3, t quantile 4.302653 at 2 degrees."""
    gap = difference({0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert gap.paired
    assert (gap.mean, gap.n) == (2.0, 3)
    assert gap.high - gap.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert gap.p == pytest.approx(0.0742, abs=1e-4)


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=30))
def test_a_paired_difference_is_scipys(pairs: list[tuple[float, float]]) -> None:
    first, second = ({seed: pair[side] for seed, pair in enumerate(pairs)} for side in (0, 1))
    gaps = np.array(list(first.values())) - np.array(list(second.values()))
    gap = difference(first, second)
    if gaps.std(ddof=1) == 0:
        assert gap.p == (1.0 if gap.mean == 0 else 0.0)
        return
    expected = stats.ttest_1samp(gaps, 0)
    interval = expected.confidence_interval(0.95)
    assert gap.p == pytest.approx(float(expected.pvalue), rel=1e-6, abs=1e-12)
    assert (gap.low, gap.high) == pytest.approx(
        (float(interval.low), float(interval.high)), rel=1e-6, abs=1e-9
    )


def test_without_shared_seeds_it_is_welchs() -> None:
    first, second = {0: 1.0, 1: 2.5, 2: 2.0}, {3: 4.0, 4: 4.5, 5: 7.0, 6: 5.0}
    gap = difference(first, second)
    expected = stats.ttest_ind(list(first.values()), list(second.values()), equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert not gap.paired
    assert gap.p == pytest.approx(float(expected.pvalue))
    assert (gap.low, gap.high) == pytest.approx((float(interval.low), float(interval.high)))


def test_welchs_test_needs_summaries_only() -> None:
    """As scipy's test from statistics, which is given the same means, deviations and sizes."""
    gap = welch(Estimate(99.21, 0.03, 30), Estimate(98.97, 0.01, 5))
    expected = stats.ttest_ind_from_stats(99.21, 0.03, 30, 98.97, 0.01, 5, equal_var=False)
    assert gap.p == pytest.approx(float(expected.pvalue))
    assert gap.n == 5


def test_too_little_data_gives_no_interval() -> None:
    one = difference({0: 3.0}, {0: 1.0})
    assert one.mean == 2.0
    assert math.isnan(one.low)
    assert math.isnan(one.p)
    assert math.isnan(difference({}, {0: 1.0}).mean)


def test_equal_gaps_are_no_certainty_if_values_are_rounded() -> None:
    """Three gaps of one rounding step: exact without a resolution, and uncertain with one."""
    first, second = dict.fromkeys(range(3), 98.01), dict.fromkeys(range(3), 98.0)
    assert difference(first, second).p < 1e-12
    gap = difference(first, second, resolution=0.01)
    assert gap.error == pytest.approx(0.01 / math.sqrt(6 * 3))
    assert gap.p > 0.05
    unpaired = welch(estimate(list(first.values())), estimate(list(second.values())), resolution=0.01)
    assert unpaired.error == pytest.approx(math.sqrt(2 * 0.01**2 / 12 / 3))


def test_equivalence_is_two_one_sided_tests() -> None:
    """Both tests by scipy; the larger p-value counts."""
    gaps = np.array([0.02, -0.03, 0.01, 0.04, -0.01])
    gap = difference(dict(enumerate(gaps)), dict.fromkeys(range(5), 0.0))
    above = stats.ttest_1samp(gaps, -0.1, alternative="greater").pvalue
    below = stats.ttest_1samp(gaps, 0.1, alternative="less").pvalue
    assert gap.equivalence_p(0.1) == pytest.approx(float(max(above, below)))
    assert gap.equivalence_p(0.1) < 0.05 < gap.equivalence_p(0.03)
    low, high = gap.interval(0.1)  # the 90 % interval lies inside the margin exactly if TOST decides at 5 %
    assert max(-low, high) < 0.1
    assert max(-low, high) > 0.03


def test_holm_by_hand() -> None:
    """0.01 · 3, then 0.02 · 2, then 0.04 · 1 raised to what stands before it."""
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_holm_counts_what_is_not_measured_as_one() -> None:
    """So no verdict flips only because cells arrive: what is measured later can only be smaller than 1."""
    adjusted = holm([0.01, math.nan, 0.03])
    full = holm([0.01, 1.0, 0.03])
    assert [adjusted[0], adjusted[2]] == [full[0], full[2]] == pytest.approx([0.03, 0.06])
    assert math.isnan(adjusted[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_as_the_procedure_does(ps: list[float]) -> None:
    """The plain procedure: the smallest p-value against α/m, the next against α/(m − 1), until one fails."""
    rejected = set()
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        if (len(ps) - rank) * ps[index] >= ALPHA:
            break
        rejected.add(index)
    assert {index for index, p in enumerate(holm(ps)) if p < ALPHA} == rejected


@pytest.mark.parametrize(
    ("effect", "std", "paired"), [(0.1, 0.1, True), (0.1, 0.1, False), (0.05, 0.2, True)]
)
def test_the_seeds_needed_have_the_power(effect: float, std: float, paired: bool) -> None:
    """Simulated tests find the difference in 80 % of all cases, and with a tenth fewer seeds in less."""
    n = seeds_needed(effect, 0.0, std, paired, 0.05)
    assert n is not None
    random = np.random.default_rng(0)

    def power(size: int) -> float:
        first = random.normal(effect, std, (20_000, size))
        if paired:
            p = stats.ttest_1samp(first, 0, axis=1).pvalue
        else:
            p = stats.ttest_ind(first, random.normal(0, std, (20_000, size)), axis=1).pvalue
        return float(np.mean(p < 0.05))

    assert 0.78 < power(n) < 0.86
    assert power(n - max(1, n // 10)) < 0.8


def test_the_seeds_needed_have_bounds() -> None:
    assert seeds_needed(1.0, 0.0, 0.0, True, 0.05) == MIN_SEEDS
    assert seeds_needed(1e-6, 0.0, 1.0, True, 0.05) is None
    assert seeds_needed(9.0, 0.0, 1.0, True, 0.05, more_than=7) == 8
    assert seeds_needed(9.0, 0.0, 1.0, True, 0.05, more_than=1000) is None


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [3, 10, 40])
def test_the_chance_of_a_difference_is_the_noncentral_ts(n: int, paired: bool) -> None:
    degrees, shift = (n - 1, math.sqrt(n)) if paired else (2 * (n - 1), math.sqrt(n / 2))
    limit = stats.t.isf(0.005, degrees)
    for effect in (-1.5, 0.0, 0.4, 3.0):
        tails = [stats.nct.sf(limit, degrees, sign * effect * shift / 2) for sign in (-1, 1)]
        found = chance_to_decide(effect, 0.0, 2.0, paired, 0.01, n)
        assert found == pytest.approx(float(sum(tails)), abs=1e-3)


@pytest.mark.parametrize(
    ("effect", "margin", "std", "paired", "alpha"),
    [
        (0.6, 1.1, 1.0, True, 0.05),
        (0.0, 0.5, 1.0, True, 0.01),
        (-0.2, 0.6, 1.0, False, 0.05),
        (0.1, 2.0, 0.5, True, 0.05),
    ],
)
def test_the_seeds_needed_decide_by_either_test(
    effect: float, margin: float, std: float, paired: bool, alpha: float
) -> None:
    """Simulated seeds, each judged by this module's tests: 80 % are decided, and fewer with a seed less."""

    def decided(size: int) -> float:
        random = np.random.default_rng(0)
        first = random.normal(effect, std, (2000, size))
        second = np.zeros_like(first) if paired else random.normal(0, std, (2000, size))
        count = 0
        for a, b in zip(first, second, strict=True):
            seeds = range(size) if paired else range(size, 2 * size)
            gap = difference(dict(enumerate(a)), dict(zip(seeds, b, strict=True)))
            count += gap.p < alpha or gap.equivalence_p(margin) < alpha
        return count / 2000

    n = seeds_needed(effect, margin, std, paired, alpha)
    assert n is not None
    assert decided(n) == pytest.approx(chance_to_decide(effect, margin, std, paired, alpha, n), abs=0.02)
    assert chance_to_decide(effect, margin, std, paired, alpha, n) >= 0.8
    assert decided(n - 1) < 0.82


def test_a_test_sets_sampling_error_is_a_proportions() -> None:
    """√(p (1 − p) / n) in percent: 0.0995 for 99 % of 10,000 images, 0.14 for 98 %."""
    assert sampling_error(99.0, 10_000) == pytest.approx(0.0995, abs=1e-4)
    assert sampling_error(98.0, 10_000) == pytest.approx(0.14, abs=1e-3)


def test_the_probability_of_improvement_counts_pairs() -> None:
    """Of six pairs the first wins three and ties one."""
    first, second = np.array([1.0, 3.0]), np.array([0.0, 3.0, 5.0])
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(first, second)]
    assert float(improvement(first, second)) == pytest.approx(sum(pairs) / 6) == pytest.approx(2.5 / 6)
    expected = stats.mannwhitneyu(first, second).statistic / 6
    assert float(improvement(first, second)) == pytest.approx(expected)


@pytest.mark.parametrize("pairs", [["ab", "cd"], ["ab", "ac", "ad"]], ids=["apart", "a shared cell"])
def test_the_bootstrap_is_that_of_all_draws(pairs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cells with two seeds each have 4⁴ equally probable draws, which are enumerated here."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 40_000)
    monkeypatch.setattr(bootstrap, "LEAST_SEEDS", 2)
    cells = {"a": [1.0, 2.0], "b": [0.0, 0.5], "c": [3.0, 7.0], "d": [2.0, 4.0]}
    means, chances = [], []
    for drawn in itertools.product(*(itertools.product(values, repeat=2) for values in cells.values())):
        named = dict(zip(cells, map(np.array, drawn), strict=True))
        both = [(named[first], named[second]) for first, second in pairs]
        means.append(np.mean([a.mean() - b.mean() for a, b in both]))
        chances.append(np.mean([np.mean([(x > y) + (x == y) / 2 for x in a for y in b]) for a, b in both]))
    made = aggregate(cells, pairs)
    assert made is not None
    expected = np.mean([np.mean(cells[first]) - np.mean(cells[second]) for first, second in pairs])
    assert made.mean_difference.value == pytest.approx(float(expected))
    for interval, values in ((made.mean_difference, means), (made.improvement, chances)):
        low, high = np.quantile(values, [0.025, 0.975], method="inverted_cdf")
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)


def test_the_bootstrap_has_the_width_of_its_closed_form() -> None:
    """The variance of the mean difference is the mean of s²(1 − 1/n)/n over cells, over their number."""
    random = np.random.default_rng(1)
    cells = {
        (side, place): random.normal(mean, std, 30)
        for place in range(20)
        for side, mean, std in (("first", 1, 1), ("second", 0, 2))
    }
    pairs = [(("first", place), ("second", place)) for place in range(20)]
    made = aggregate(cells, pairs)
    assert made is not None
    variance = sum(values.var() / 30 for values in cells.values()) / 20**2
    width = made.mean_difference.high - made.mean_difference.low
    assert width == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.1)
    assert made == aggregate(cells, pairs)  # the same records give the same page


def test_a_pair_given_again_is_no_new_information() -> None:
    """Ten seeds against constants: the interval is that of one pair, however many share its runs."""
    cells = {"salr": np.random.default_rng(2).normal(0, 1, 10).tolist()}
    cells |= {f"constant {place}": [0.5] * 10 for place in range(8)}
    once = aggregate(cells, [("salr", "constant 0")])
    often = aggregate(cells, [("salr", f"constant {place}") for place in range(8)])
    assert once is not None
    assert often is not None
    for one, eight in (
        (once.mean_difference, often.mean_difference),
        (once.improvement, often.improvement),
    ):
        assert (eight.low, eight.high) == pytest.approx((one.low, one.high))
    width = 2 * 1.96 * float(np.std(cells["salr"])) / math.sqrt(10)
    assert often.mean_difference.high - often.mean_difference.low == pytest.approx(width, rel=0.1)


def test_cells_of_too_few_seeds_are_left_out() -> None:
    cells = {"a": [1.0] * 9, "b": [2.0] * 10, "c": [1.0, 2.0] * 5, "d": [0.0] * 10}
    assert aggregate(cells, [("a", "b")]) is None
    made = aggregate(cells, [("a", "b"), ("c", "d")])
    assert made is not None
    assert (made.pairs, made.mean_difference.value, made.improvement.value) == (1, 1.5, 1.0)


def test_an_interval_may_have_any_level() -> None:
    gap = Difference(1.0, 0.5, 9, 10, paired=True)
    assert gap.interval(0.01)[1] - 1.0 == pytest.approx(float(stats.t.isf(0.005, 9)) * 0.5)
