"""What a measurement costs by itself, as the page about sharpness says."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from salr import sharpness
from tests.helpers.pages import DOCS

ROW = re.compile(r"^\| `(\w+)` \| (\D*)(\d+)[^|]*\| (\d+)[^|]*\|$", re.MULTILINE)
"""A measure, words before the number of gradients, that number, and the number of losses."""

SHOWN = {name: row for name, *row in ROW.findall((DOCS / "guide" / "sharpness.md").read_text("utf-8"))}

CALLS: dict[str, Callable[..., object]] = {
    "ball_sharpness": lambda closure, parameters: sharpness.ball_sharpness(closure, parameters, epsilon=0.01),
    "loss_surface": lambda closure, parameters: list(
        sharpness.loss_surface(closure, parameters, [[torch.ones(3)]], [[1.0]])
    ),
}
"""Measures that have arguments without a default."""


@pytest.mark.parametrize("name", SHOWN)
def test_a_measure_evaluates_the_closure_as_often_as_the_page_says(name: str) -> None:
    words, gradients, losses = SHOWN[name]
    point = torch.tensor([0.5, 0.3, 0.2], requires_grad=True)
    seen = {True: 0, False: 0}

    def closure() -> Tensor:
        seen[torch.is_grad_enabled()] += 1
        return (1 + torch.tensor([1.0, 10.0, 100.0]) * point.square()).log().sum()

    measure = getattr(sharpness, name)
    call = CALLS.get(name, measure() if isinstance(measure, type) else measure)
    call(closure, [point])
    if words:  # "at most", "one or a few for each of"
        assert 0 < seen[True] <= 3 * int(gradients)
    else:
        assert seen[True] == int(gradients)
    assert seen[False] == int(losses)


def test_every_measure_is_shown() -> None:
    kinds = {name for name in sharpness.__all__ if name.endswith(("_sharpness", "_trace", "_eigenvalues"))}
    assert {*kinds, "AscentDescent", "GradientNorm", "TopEigenvalue", "loss_surface"} <= set(SHOWN)
