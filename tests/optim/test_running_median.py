"""The running median against numpy's of the whole history."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from salr.optim.running_median import RunningMedian

finite = st.floats(-(2**20), 2**20, width=32)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@dtypes
@given(values=st.lists(finite, min_size=1, max_size=150), fraction=st.floats(0, 1))
def test_it_is_numpys_after_every_value(dtype: torch.dtype, values: list[float], fraction: float) -> None:
    median = RunningMedian(torch.empty(0, dtype=dtype))
    array = torch.tensor(values, dtype=dtype).numpy()
    for place, value in enumerate(array, 1):
        median = median.with_value(torch.tensor(value, dtype=dtype))
        assert float(median.median()) == np.median(array[:place])
    assert float(median.quantile(fraction)) == pytest.approx(
        float(np.quantile(array, fraction)), rel=1e-5, abs=1e-5
    )
    assert median.values().tolist() == sorted(array.tolist())


@given(
    st.lists(st.one_of(finite, st.sampled_from([float("nan"), float("inf")])), max_size=150),
    st.lists(finite, max_size=150),
)
def test_what_is_not_a_number_is_left_out_and_a_history_goes_on(
    values: list[float], more: list[float]
) -> None:
    median = RunningMedian(torch.tensor(more, dtype=torch.float64))
    for value in values:
        median = median.with_value(torch.tensor(value, dtype=torch.float64))
    kept = [value for value in [*more, *values] if np.isfinite(value)]
    assert float(median.median()) == (np.median(kept) if kept else np.inf)
    resumed = RunningMedian(median.values())
    assert float(resumed.median()) == float(median.median())
    for one in (median, resumed):
        longer = one.with_value(torch.tensor(3.5, dtype=torch.float64))
        assert float(longer.median()) == np.median([*kept, 3.5])


def test_a_long_history() -> None:
    values = np.random.default_rng(0).lognormal(size=3000)
    median = RunningMedian(torch.empty(0, dtype=torch.float64))
    for place, value in enumerate(values, 1):
        median = median.with_value(torch.tensor(value))
        if place % 500 < 2:
            assert float(median.median()) == np.median(values[:place])


def test_nothing_seen() -> None:
    median = RunningMedian(torch.empty(0))
    assert float(median.median()) == float(median.quantile(0.5)) == np.inf
    assert median.values().numel() == 0


def test_an_object_never_changes() -> None:
    """A step that fails goes back to it."""
    median = RunningMedian(torch.arange(5.0))
    for value in range(70):  # past the room that is kept free
        before = median.values().tolist()
        longer = median.with_value(torch.tensor(float(value)))
        assert median.values().tolist() == before
        median = longer
    assert median.values().numel() == 75


def test_room_for_more_values_changes_nothing_else() -> None:
    """Within a CUDA graph the memory must be there, and the graph cannot count on the host."""
    median = RunningMedian(torch.tensor([3.0, 1.0])).with_room(200)
    size = median._sorted.numel()
    for value in range(200):
        new = median.with_value(torch.tensor(float(value)))
        assert new._sorted.numel() == size
        median._sorted.copy_(new._sorted)
        median._count.copy_(new._count)
        median.count()
    assert median.values().tolist() == sorted([3.0, 1.0, *map(float, range(200))])
    more = median
    for value in (7.0, 8.0, 9.0):  # beyond the room, it takes new memory
        more = more.with_value(torch.tensor(value))
    assert float(more.median()) == np.median([3.0, 1.0, 7.0, 8.0, 9.0, *range(200)])
