"""Slices of the loss: directions of the network's own scale, exact values, grids that can be resumed."""

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn

from salr.sharpness import filter_normalised_direction, loss_surface
from tests.helpers.devices import random_state, seeded_generator

pytestmark = pytest.mark.usefixtures("default_device")


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5))


def quadratic() -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
    theta = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(3, 2, dtype=torch.float64)
    return theta, weights, lambda: (weights * theta**2).sum() / 2


def test_filters_are_as_long_as_the_networks() -> None:
    model = network()
    nn.init.zeros_(model[0].weight[1])
    parameters = list(model.parameters())
    direction = filter_normalised_direction(parameters)
    for part, parameter in zip(direction, parameters, strict=True):
        assert part.shape == parameter.shape
        if parameter.dim() < 2:
            assert not part.any()  # biases, and the norm's scale and shift
        else:
            torch.testing.assert_close(part.flatten(1).norm(dim=1), parameter.detach().flatten(1).norm(dim=1))
    assert not direction[0][1].any()
    cosine = nn.functional.cosine_similarity(
        direction[-2].flatten(), parameters[-2].detach().flatten(), dim=0
    )
    assert cosine.abs() < 0.3


def test_directions_repeat_and_differ_as_their_generators_do() -> None:
    model = network()
    before = random_state()
    one, again = (filter_normalised_direction(model.parameters()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    generator = seeded_generator(1)
    x, y = (filter_normalised_direction(model.parameters(), generator) for _ in range(2))
    assert not torch.equal(x[0], y[0])
    assert torch.equal(random_state(), before)


def test_frozen_parameters_stay() -> None:
    model = network()
    model[0].requires_grad_(False)
    direction = filter_normalised_direction(model.parameters())
    inputs = torch.randn(2, 3, 5, 5)
    ((_, moved),) = loss_surface(
        lambda: model(inputs).square().sum(), model.parameters(), [direction], [[0.5]]
    )
    expected = nn.Sequential(*model[:4])(inputs) @ (model[4].weight + 0.5 * direction[-2]).T + model[4].bias
    assert moved == pytest.approx(float(expected.square().sum().detach()), rel=1e-5)


def test_a_quadratic_gives_its_exact_line_and_plane() -> None:
    theta, weights, closure = quadratic()
    u, v = torch.randn(2, 3, 2, dtype=torch.float64)
    xs, ys = [-1.0, 0.0, 0.25], [0.0, 2.0]
    start = theta.detach().clone()

    def exact(offset: Tensor) -> float:
        return float((weights * (start + offset) ** 2).sum() / 2)

    line = dict(loss_surface(closure, [theta], [[u]], [xs]))
    assert line == {(i,): pytest.approx(exact(x * u), abs=1e-12) for i, x in enumerate(xs)}
    plane = list(loss_surface(closure, [theta], [[u], [v]], [xs, ys]))
    assert [index for index, _ in plane] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    for (i, j), loss in plane:
        assert loss == pytest.approx(exact(xs[i] * u + ys[j] * v), abs=1e-12)
    assert line[(1,)] == closure().item()  # the middle is θ itself, bit for bit


def test_parameters_are_at_home_whenever_a_point_is_handed_out() -> None:
    theta, _, closure = quadratic()
    theta.grad = gradient = torch.ones_like(theta)
    start = theta.detach().clone()
    points = loss_surface(closure, [theta], [[torch.ones(3, 2)]], [[0.1, 0.2, 0.3]])
    for _ in points:
        assert torch.equal(theta, start)
        assert theta.grad is gradient
        torch.rand(1)
        break
    before = random_state()
    next(points)
    assert torch.equal(random_state(), before)


def test_drawing_between_points_changes_no_masks() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    inputs = torch.randn(6, 4)
    losses = []
    for _, loss in loss_surface(
        lambda: model(inputs).square().sum(),
        model.parameters(),
        [filter_normalised_direction(model.parameters())],
        [[0.0, 0.0]],
    ):
        torch.rand(1)
        losses.append(loss)
    assert losses[0] == losses[1]


def test_a_grid_goes_on_where_it_stopped() -> None:
    theta, _, closure = quadratic()
    calls = 0

    def counted() -> Tensor:
        nonlocal calls
        calls += 1
        return closure()

    def grid(skip: Iterable[tuple[int, ...]]) -> list[tuple[tuple[int, ...], float]]:
        generator = seeded_generator(7)
        directions = [filter_normalised_direction([theta], generator) for _ in range(2)]
        return list(
            loss_surface(counted, [theta], directions, [[-1, 0, 1], [0, 1]], skip=dict.fromkeys(skip))
        )

    whole = grid([])
    calls = 0
    done, rest = whole[:4], grid([index for index, _ in whole[:4]])
    assert done + rest == whole
    assert calls == 1 + 2  # one at θ, one a point
    calls = 0
    assert grid([index for index, _ in whole]) == []
    assert calls == 0


@pytest.mark.parametrize(
    ("directions", "axes", "line"),
    [
        ([], [], "0 directions and 0 axes; expected as many of each, at least one"),
        ([[torch.ones(3, 2)]], [[0.0], [1.0]], "1 directions and 2 axes; expected as many of each"),
        (
            [[torch.ones(2, 3)]],
            [[0.0]],
            "other shapes than the parameters; expected one of its shape for each",
        ),
        ([[]], [[0.0]], "other shapes than the parameters; expected one of its shape for each"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(directions: list, axes: list, line: str) -> None:
    theta, _, closure = quadratic()
    with pytest.raises(ValueError, match=line):
        loss_surface(closure, [theta], directions, axes)
