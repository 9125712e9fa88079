"""A tape keeps noise and gives it again; what it cannot give right, it refuses."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import dropout, rrelu

from models import Dropout
from salr.closures import SideState
from salr.closures.noise_tape import NoiseTape

pytestmark = pytest.mark.usefixtures("default_device")


def draws(x: Tensor) -> list[Tensor]:
    """Draw in the ways that networks and optimizers do."""
    kept = Dropout(0.5)
    return [dropout(x, 0.4), kept(x), torch.rand_like(x), torch.randn(3), torch.empty(5).bernoulli_(0.5)]


def test_after_its_place_has_been_set_back_the_noise_is_the_same() -> None:
    x = torch.randn(40, requires_grad=True)
    with NoiseTape() as tape:
        first = draws(x)
        assert tape.at_end
        end, tape.place = tape.place, 0
        assert not tape.at_end
        again = draws(x)
        assert tape.place == end
        fresh = draws(x)
    for one, same, other in zip(first, again, fresh, strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


def test_the_masks_of_dropout_stay_while_its_input_changes() -> None:
    """The gradient follows the mask, too."""
    x, y = torch.rand(200, requires_grad=True), torch.rand(200, requires_grad=True)
    with NoiseTape() as tape:
        first = dropout(x + 1, 0.3)
        tape.place = 0
        second = dropout(y + 1, 0.3)
    mask = (first != 0).float()
    torch.testing.assert_close(second, (y + 1) * mask / 0.7)
    (gradient,) = torch.autograd.grad(second.sum(), y)
    torch.testing.assert_close(gradient, mask / 0.7)


def test_snapshots_have_the_place_in_the_place_of_the_generators() -> None:
    side = SideState([torch.zeros(1)])
    before = torch.get_rng_state()
    with NoiseTape():
        start = side.snapshot()
        one = torch.rand(4)
        silent = side.snapshot(noise=False)
        start.restore()
        silent.restore()
        assert torch.equal(torch.rand(4), one)
    outside = side.snapshot()
    with NoiseTape(), pytest.raises(RuntimeError, match="from before a capture"):
        outside.restore()
    assert one.device.type != "cpu" or not torch.equal(before, torch.get_rng_state())


def test_noise_that_depends_on_an_input_is_refused() -> None:
    for draw in (
        lambda: rrelu(torch.randn(4), training=True),
        lambda: torch.bernoulli(torch.full((3,), 0.5)),
    ):
        with NoiseTape(), pytest.raises(RuntimeError, match="cannot be kept"):
            draw()


def test_noise_is_not_used_again_for_something_else() -> None:
    with NoiseTape() as tape:
        torch.rand_like(torch.zeros(3))
        tape.place = 0
        with pytest.raises(RuntimeError, match="would be used again by"):
            torch.randn_like(torch.zeros(3))
        tape.place = 1
        kept = dropout(torch.ones(4), 0.5)
        tape.place = 1
        with pytest.raises(RuntimeError, match="would be used again by"):
            dropout(torch.ones(5), 0.5)
    assert kept.shape == (4,)


def test_noise_that_has_been_changed_is_not_used_again() -> None:
    with NoiseTape() as tape:
        torch.rand_like(torch.zeros(3)).mul_(2)
        tape.place = 0
        with pytest.raises(RuntimeError, match="changed in place"):
            torch.rand_like(torch.zeros(3))
