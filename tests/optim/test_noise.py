"""The laws of the noise: their values, their moments, and that they fit the tensors that they are for."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from salr.optim.noise import FEW, SPREAD, normal, two_point, uniform
from tests.helpers.devices import random_state, set_random_state

pytestmark = pytest.mark.usefixtures("default_device")

COUNT = 400_000
LAWS = [normal, two_point, uniform]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("channels_last", [False, True])
def test_normal_noise_is_what_the_generator_gives_in_the_order_of_memory(channels_last: bool) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    like = torch.empty(40, 30, 5, 5).contiguous(memory_format=layout)
    before = random_state()
    noise = normal(like)
    set_random_state(before)
    row = noise.permute(0, 2, 3, 1).reshape(-1) if channels_last else noise.reshape(-1)
    assert torch.equal(row, torch.randn(like.numel()))


def test_the_two_points_are_drawn_evenly_and_independently() -> None:
    noise = two_point(torch.empty(COUNT))
    assert set(noise.unique().tolist()) == {-1, 1}
    signs = noise.double()
    bound = 4 / math.sqrt(COUNT)
    assert abs(float(signs.mean())) < bound
    for distance in (1, 2, 7, 8, 16, 64):  # bits, bytes and words of the generator
        assert abs(float((signs[:-distance] * signs[distance:]).mean())) < bound
    for place in range(64):
        assert abs(float(signs[place::64].mean())) < 4 / math.sqrt(COUNT / 64)


def test_the_uniform_law_is_symmetric_and_even() -> None:
    noise = uniform(torch.empty(COUNT))
    values = noise.double()
    if noise.device.type == "cpu":
        assert noise.dtype == torch.int16
        assert bool((values % 2 == 1).all())  # odd, so neither 0 nor −32768
        assert values.min() >= -SPREAD + 1
        assert values.max() <= SPREAD - 1
    assert values.abs().max() <= SPREAD
    deviation = SPREAD / math.sqrt(3)
    assert abs(float(values.mean())) < 4 * deviation / math.sqrt(COUNT)
    assert float(values.std()) == pytest.approx(deviation, rel=4 * math.sqrt(0.2 / COUNT))
    counts = torch.histc(values, bins=64, min=-SPREAD, max=SPREAD)
    expected = COUNT / 64
    assert float(((counts - expected) ** 2 / expected).sum()) < 63 + 4 * math.sqrt(2 * 63)
    below = torch.histc(values[values < 0].abs(), bins=16, min=0, max=SPREAD)
    above = torch.histc(values[values > 0], bins=16, min=0, max=SPREAD)
    assert bool(((below - above).abs() < 5 * (below + above).sqrt()).all())


@pytest.mark.parametrize("size", [FEW, FEW + 1])
def test_the_uniform_law_is_the_same_for_few_numbers_and_for_many(size: int) -> None:
    drawn = torch.cat([uniform(torch.empty(size)).double() for _ in range(100)]) / SPREAD
    assert drawn.abs().max() < 1
    bound = 4 / math.sqrt(len(drawn))
    assert abs(float(drawn.mean())) < bound
    assert float(drawn.square().mean()) == pytest.approx(1 / 3, abs=bound)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    "like",
    [
        torch.empty(()),
        torch.empty(0),
        torch.empty(7),
        torch.empty(65, 129),
        torch.empty(65, 129).t(),
        torch.empty(20, 30, 10, 10).contiguous(memory_format=torch.channels_last),
        torch.empty(100, 200)[:, ::2],
        torch.empty(5000, dtype=torch.float64),
        torch.empty(5000, dtype=torch.bfloat16),
        torch.empty(5000, dtype=torch.complex64),
        torch.empty(5000, device="meta"),
    ],
    ids=lambda like: f"{like.dtype} {tuple(like.shape)} {like.stride()} {like.device}",
)
def test_noise_has_the_shape_and_layout_of_its_tensor(law: Callable[[Tensor], Tensor], like: Tensor) -> None:
    if like.device.type != "meta":
        like = like.to(torch.get_default_device())
    noise = law(like)
    assert noise.shape == like.shape
    assert noise.device == like.device
    assert noise.stride() == torch.empty_like(like).stride()
    assert torch.result_type(like, noise) == like.dtype
    before = random_state()
    first = law(like)
    set_random_state(before)
    assert like.device.type == "meta" or torch.equal(law(like), first)


def test_complex_two_point_noise_has_the_moments_of_normal_noise() -> None:
    noise = two_point(torch.empty(COUNT, dtype=torch.complex128))
    assert float(noise.abs().square().mean()) == pytest.approx(1)
    assert abs(complex(noise.mean())) < 4 / math.sqrt(COUNT)
    assert abs(float((noise.real * noise.imag).mean())) < 4 / math.sqrt(COUNT)
