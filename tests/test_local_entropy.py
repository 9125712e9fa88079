"""Entropy-SGD's corners: the cap of its scope, parameters that only some batches use, and the batches themselves."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from salr.optim import SALR, LocalEntropy


def one() -> nn.Parameter:
    return nn.Parameter(torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize(("cap", "expected"), [(None, 5.0), (2.0, 2.0), (math.inf, 48.0)])
def test_the_scope_stops_at_its_cap(cap: float | None, expected: float) -> None:
    optimizer = LocalEntropy(SGD([one()], lr=0.0), inner_lr=0.2, scope=1.5, scope_growth=1.0, scope_cap=cap)
    for _ in range(5):
        optimizer.step(lambda: optimizer.parameters[0] ** 2)
    assert optimizer.current_scope == pytest.approx(expected)
    optimizer._iterations = 10**6  # where the power alone would overflow
    assert optimizer.current_scope > 0


@pytest.mark.parametrize("cap", [0.0, -1.0, math.nan])
def test_a_cap_that_is_none(cap: float) -> None:
    with pytest.raises(ValueError, match=rf"\Ascope_cap = {cap}; expected a number > 0, math.inf for none\Z"):
        LocalEntropy(SGD([one()], lr=1.0), scope_cap=cap)


def test_a_parameter_that_another_batch_does_not_use_is_only_pulled_back() -> None:
    """Its gradient counts as zero there: momentum and pull go on."""
    used, sometimes = one(), one()
    batches = iter([True, False])
    optimizer = LocalEntropy(SGD([used, sometimes], lr=1.0), steps=2, inner_momentum=0.5, scope=2.0, noise=0.0)

    def closure() -> Tensor:
        return used**2 + (3 * sometimes if next(batches) else 0.0)

    optimizer.step(closure)
    first = 1 - 0.1 * (3 + 0.5 * 3)
    velocity = 0.5 * 3 + 0
    second = first - 0.1 * (0 + 0.5 * velocity - 2.0 * (1 - first))
    mean = 0.75 * (0.75 * 1 + 0.25 * first) + 0.25 * second
    assert float(sometimes.detach()) == pytest.approx(mean)


def test_without_noise_nothing_is_drawn() -> None:
    weight = one()
    before = torch.get_rng_state()
    LocalEntropy(SGD([weight], lr=1.0), noise=0.0).step(lambda: weight**2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("measured", [False, True])
def test_each_inner_step_sees_the_next_batch_and_a_measurement_the_first(measured: bool) -> None:
    weight, place = one(), 0
    seen: list[int] = []

    def closure() -> Tensor:
        seen.append(place)
        return (weight - place) ** 2

    def advance() -> None:
        nonlocal place
        place += 1

    optimizer = LocalEntropy(SGD([weight], lr=1.0), steps=3)
    outer = SALR(optimizer, descent_steps=2, ascent_steps=2) if measured else optimizer
    outer.step(closure, advance)
    # Two chains of two steps share the first gradient, and so does the first Langevin step.
    assert seen == ([0, 0, 0, 0, 0, 1, 2] if measured else [0, 1, 2])
