"""SALR as the authors' released code means it, against a plain twin."""

import numpy as np
import pytest
import torch
from torch.optim import SGD

from salr.optim import ReleasedSALR
from salr.sharpness import ReleasedMeasure
from tests.helpers.optim import Flat, Problem, assert_same

pytestmark = pytest.mark.usefixtures("default_device")


@pytest.mark.parametrize(("interval", "ascent", "descent"), [(1, 5, 5), (2, 3, 4), (3, 0, 2)])
def test_a_trajectory_is_the_twins(interval: int, ascent: int, descent: int) -> None:
    """Measured after the update: clipped ascent, then descent from there; bounded, and 1 near the median."""
    fast, slow = Flat(), Flat()
    scale, limit, cap, rate = 0.5, 0.01, 1.2, 0.4
    optimizer = ReleasedSALR(
        SGD(fast.model.parameters(), lr=rate),
        ReleasedMeasure(scale, limit, descent, ascent),
        interval,
        max_factor=cap,
    )
    theta, factor = slow.theta, 1.0
    history: list[float] = []
    for iteration in range(15):
        optimizer.step(fast.loss)
        fast.advance()
        theta = theta - rate * factor * slow.gradient_at(theta)
        if iteration % interval == 0:
            point = theta.clone()
            for _ in range(ascent):
                point = point + (scale * slow.gradient_at(point)).clamp(-limit, limit)
            ascended = slow.loss_at(point)
            for _ in range(descent):
                point = point - (scale * slow.gradient_at(point)).clamp(-limit, limit)
            sharpness = ascended - slow.loss_at(point)
            history.append(sharpness)
            low, high = np.quantile(history, (0.49, 0.51))
            factor = 1.0 if low <= sharpness <= high else min(cap, sharpness / float(np.median(history)))
        slow.advance()
        assert_same(fast, theta)
        assert float(optimizer.lr_factor) == pytest.approx(factor)


def test_modes_and_parameters_stay_where_the_update_left_them() -> None:
    """The released code leaves the model in evaluation mode, and the parameters where the chain ends."""
    measured, plain = Problem(), Problem()
    torch.manual_seed(0)
    measured.train(ReleasedSALR(SGD(measured.parameters, lr=0.3), ReleasedMeasure(0.5, 0.1)), 1)
    torch.manual_seed(0)
    reference = SGD(plain.parameters, lr=0.3)
    plain.loss().backward()
    reference.step()
    # On a GPU the rate is a tensor, and the update is rounded once more.
    rounding = 0.0 if torch.get_default_device().type == "cpu" else 1e-14
    torch.testing.assert_close(measured.values(), plain.values(), rtol=rounding, atol=rounding)
    assert all(module.training for module in measured.model.modules())


def test_a_descent_is_needed() -> None:
    with pytest.raises(
        ValueError,
        match=r"\Adescent_steps = 0; expected a whole number >= 1\Z",
    ):
        ReleasedMeasure(descent_steps=0)
