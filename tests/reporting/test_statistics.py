"""Means, intervals and corrections against scipy and against numbers worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from salr.reporting.statistics import difference, estimate, holm


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


def test_too_little_data_gives_no_interval() -> None:
    one = difference({0: 3.0}, {0: 1.0})
    assert one.mean == 2.0
    assert math.isnan(one.low)
    assert math.isnan(one.p)
    assert math.isnan(difference({}, {0: 1.0}).mean)


def test_holm_by_hand() -> None:
    """0.01 · 3, then 0.02 · 2, then 0.04 · 1 raised to what stands before it."""
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_holm_leaves_out_what_was_not_measured() -> None:
    adjusted = holm([0.01, math.nan, 0.03])
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])
    assert adjusted[2] == pytest.approx(0.03)
