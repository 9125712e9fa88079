"""The columns about learning rate, factor and sharpness, against values computed by hand."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from salr.optim import SALR
from salr.training import Parts, step_decay
from salr.training.trace import Trace
from tests.helpers.devices import no_waiting
from tests.helpers.trainer import of, trainer


class Scripted(SALR):
    """SALR whose sharpness, factor and median are the values of a table."""

    now = (math.nan, 1.0, math.nan)

    @property
    def last_sharpness(self) -> Tensor:
        return torch.tensor(self.now[0])

    @property
    def lr_factor(self) -> Tensor:
        return torch.tensor(self.now[1])

    @property
    def median_sharpness(self) -> Tensor:
        return torch.tensor(self.now[2])


def scripted(before: float = math.nan) -> Scripted:
    optimizer = Scripted(SGD([nn.Parameter(torch.zeros(1))], lr=0.1))
    optimizer.now = (before, 1.0, math.nan)
    return optimizer


def traced(optimizer: Scripted, sharpness: list[float], factors: list[float], **options: bool) -> Trace:
    trace = Trace(optimizer, **options)
    for place, values in enumerate(zip(sharpness, factors, strict=True)):
        optimizer.now = (*values, float(place))
        trace.add(0.1)
    return trace


def test_the_factor_is_the_median_with_its_5_and_95_percent_quantiles() -> None:
    """0.0, 0.1, ..., 2.0 in another order: every quantile is one of the values."""
    factors = [0.1 * (8 * place % 21) for place in range(21)]
    row = traced(scripted(), [1.0] * 21, factors).metrics()
    assert sorted(factors) == pytest.approx([place / 10 for place in range(21)])
    assert row["lr_factor_low"] == pytest.approx(0.1)
    assert row["lr_factor"] == pytest.approx(1.0)
    assert row["lr_factor_high"] == pytest.approx(1.9)
    assert row["lr"] == 0.1
    assert row["lr_effective"] == pytest.approx(0.1 * 1.0)
    assert row["median_sharpness"] == 20


def test_quantiles_between_two_values_are_interpolated() -> None:
    row = traced(scripted(), [1.0] * 3, [1.0, 2.0, 4.0]).metrics()
    assert row["lr_factor_low"] == pytest.approx(1.1)  # 0.1 of the way from 1 to 2
    assert row["lr_factor"] == 2
    assert row["lr_factor_high"] == pytest.approx(3.8)  # 0.9 of the way from 2 to 4
    assert row["lr_effective"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("before", "sharpness", "median"),
    [
        (9.0, [9.0, 1.0, 1.0, 2.0, 2.0], 1.5),  # 9 was measured in the epoch before
        (math.nan, [1.0, 1.0, 5.0, 5.0, 2.0], 2.0),
        (math.nan, [1.0, math.inf, math.nan, math.nan, 2.0, -4.0], 1.0),  # only finite values count
        (3.0, [3.0, 3.0], 3.0),  # no measurement in this epoch
        (3.0, [math.inf, math.inf], math.inf),
    ],
)
def test_the_sharpness_is_the_median_of_the_epoch_s_measurements(
    before: float, sharpness: list[float], median: float
) -> None:
    row = traced(scripted(before), sharpness, [1.0] * len(sharpness)).metrics()
    assert row["sharpness"] == median


def test_every_iteration_is_kept_with_its_base_rate_and_its_scaled_rate() -> None:
    optimizer = scripted()
    assert traced(optimizer, [1.0], [1.0]).iterations() is None
    assert traced(optimizer, [3.0, 3.0, 6.0], [0.5, 0.5, 2.0], detailed=True).iterations() == {
        "sharpness": [3.0, 3.0, 6.0],
        "median_sharpness": [0.0, 1.0, 2.0],
        "lr_factor": [0.5, 0.5, 2.0],
        "lr": [0.1, 0.1, 0.1],
        "lr_effective": [0.05, 0.05, 0.2],
    }


def test_without_salr_the_scaled_rate_is_the_base_rate() -> None:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    trace = Trace(optimizer, detailed=True)
    trace.add(0.3)
    trace.add(0.2)
    assert trace.metrics() == {"lr": 0.2, "lr_effective": 0.2}
    assert trace.iterations() is None


@pytest.mark.usefixtures("default_device")
def test_no_iteration_waits_for_the_device() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = SALR(SGD([weight], lr=0.1, fused=True), interval=1)
    optimizer.step(lambda: (weight**4).sum())
    trace = Trace(optimizer, detailed=True)
    with no_waiting():
        for _ in range(5):
            trace.add(0.1)
    with pytest.raises(AssertionError, match="waits for the device"), no_waiting():
        trace.metrics()


@pytest.mark.parametrize("name", ["SALR", "SALR(LocalEntropy)"])
def test_every_row_agrees_with_numpy_on_what_each_step_left(name: str, tmp_path: Path) -> None:
    steps: list[tuple[float, float, float]] = []

    def watch(parts: Parts) -> None:
        optimizer: Any = parts.optimizer
        step = optimizer.step

        def stepping(*arguments: object) -> object:
            loss = step(*arguments)
            steps.append(
                tuple(map(float, (optimizer.last_sharpness, optimizer.lr_factor, optimizer.median_sharpness)))
            )
            return loss

        optimizer.step = stepping

    trained = trainer(tmp_path, epochs=3, schedule=step_decay(1, 1, 0.5), prepare=watch, **of(name))
    trained.train()
    rows = trained.run.read_metrics()
    assert len(steps) == 12
    for epoch, (row, values) in enumerate(zip(rows, _epochs(np.array(steps), 4), strict=True)):
        sharpness, factors, medians = values.T
        assert row["sharpness"] == pytest.approx(np.median(sharpness[::2]))  # measured every second iteration
        assert row["median_sharpness"] == medians[-1]
        low, middle, high = np.quantile(factors, [0.05, 0.5, 0.95])
        assert row["lr_factor_low"] == pytest.approx(low)
        assert row["lr_factor"] == pytest.approx(middle)
        assert row["lr_factor_high"] == pytest.approx(high)
        assert row["lr_factor_mean"] == pytest.approx(np.mean(factors))
        assert row["lr"] == pytest.approx(0.1 * 0.5**epoch)
        assert row["lr_effective"] == pytest.approx(0.1 * 0.5**epoch * middle)
    iterations = trained.run.read_json("iterations.json")
    assert iterations is not None
    assert iterations["sharpness"] == [values[0] for values in steps[-4:]]
    assert iterations["lr_factor"] == [values[1] for values in steps[-4:]]


def _epochs(values: np.ndarray, iterations: int) -> Iterator[np.ndarray]:
    yield from values.reshape(-1, iterations, values.shape[1])
