"""A closure made uniform.

The tests say when it is evaluated, what all evaluations of a measurement share, and what they leave behind.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils.checkpoint import checkpoint

from salr.closures import Evaluation, SideState
from salr.closures.snapshot import Snapshot
from salr.optim import SALR
from salr.sharpness import AscentDescent
from tests.helpers.devices import random_state, seeded_generator

pytestmark = pytest.mark.usefixtures("default_device")

Loss = Callable[[], Tensor]


class Noisy(nn.Module):
    """Draws in every way that a forward pass may."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 12)
        self.norm = nn.BatchNorm1d(12)
        self.drop = nn.Dropout(0.5)
        self.rrelu = nn.RReLU()
        # On a GPU, cuDNN seeds an LSTM's own dropout anew, from the generator, after each time this is set.
        dropout = 0.4 if torch.get_default_device().type == "cpu" else 0.0
        self.lstm = nn.LSTM(12, 5, num_layers=2, dropout=dropout)
        self.last = nn.Linear(5, 3)
        self.seen: list[Tensor] = []
        self.register_buffer("state", torch.zeros(1))

    def grow(self, x: Tensor) -> Tensor:
        return nn.functional.relu(x * torch.rand_like(x))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)) + torch.rand(12)
        x = checkpoint(self.drop, x, use_reentrant=False)
        x = checkpoint(self.grow, x, use_reentrant=False)
        self.seen.append(torch.rand(3))
        self.state = self.state + x.detach().mean()
        hidden, _ = self.lstm(self.rrelu(x).unsqueeze(0))
        return self.last(hidden.squeeze(0)) + self.state


def noisy_problem() -> tuple[Noisy, Loss]:
    torch.manual_seed(1)
    model = Noisy()
    inputs, targets = torch.randn(9, 6), torch.randint(3, (9,))
    return model, lambda: nn.functional.cross_entropy(model(inputs), targets)


def test_a_measurement_leaves_nothing_but_its_number() -> None:
    """Parameters, gradients, buffers and the generator are bit for bit those of a plain gradient."""
    plain, plain_loss = noisy_problem()
    torch.manual_seed(2)
    plain_loss().backward()
    after = random_state()
    model, loss = noisy_problem()
    torch.manual_seed(2)
    registered = list(model.norm.buffers())
    AscentDescent().measure(Evaluation(loss, model.parameters()), shared_noise=True)
    assert torch.equal(random_state(), after)
    assert all(buffer is before for buffer, before in zip(model.norm.buffers(), registered, strict=True))
    for mine, its in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, its)
        assert mine.grad is not None
        assert its.grad is not None
        assert torch.equal(mine.grad, its.grad)
    assert all(torch.equal(mine, its) for mine, its in zip(model.buffers(), plain.buffers(), strict=True))


def test_a_training_run_is_left_as_plain_steps_leave_it() -> None:
    """With a rate of zero, only SALR's measurements could leave a trace."""
    plain, plain_loss = noisy_problem()
    torch.manual_seed(2)
    for _ in range(5):
        plain_loss()
    after = random_state()
    model, loss = noisy_problem()
    optimizer = SALR(torch.optim.SGD(model.parameters(), lr=0.0))
    torch.manual_seed(2)
    for _ in range(5):
        optimizer.step(loss)
    assert torch.equal(random_state(), after)
    assert all(
        torch.equal(mine, its)
        for mine, its in zip(model.state_dict().values(), plain.state_dict().values(), strict=True)
    )


def test_all_evaluations_see_the_same_noise() -> None:
    model, loss = noisy_problem()
    AscentDescent().measure(Evaluation(loss, model.parameters()), shared_noise=True)
    assert len(model.seen) == 11
    assert all(torch.equal(model.seen[0], seen) for seen in model.seen)


def test_a_default_generator_that_is_named_is_put_back_to_before_the_evaluation() -> None:
    """Not to where the watched evaluation had it when it was named. cuDNN's LSTM names it, too."""
    default = torch.get_default_device().type == "cpu"
    check_shared(torch.default_generator if default else torch.cuda.default_generators[0])


def test_a_generator_of_the_closure_s_own_may_be_drawn_from_several_times() -> None:
    check_shared(seeded_generator(3))


def check_shared(named: torch.Generator) -> None:
    weight, seen = nn.Parameter(torch.ones(())), []

    def loss() -> Tensor:
        drawn = torch.stack([torch.rand(()), *(torch.rand((), generator=named) for _ in range(2))])
        seen.append(drawn.tolist())
        return (weight * drawn).sum()

    AscentDescent().measure(Evaluation(loss, [weight]), shared_noise=True)
    assert seen == [seen[0]] * 11


def test_fresh_noise_where_asked_for() -> None:
    model, loss = noisy_problem()
    AscentDescent().measure(Evaluation(loss, model.parameters()), shared_noise=False)
    assert len({tuple(seen.tolist()) for seen in model.seen}) == 11


def test_the_generators_of_an_accelerator_are_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        state = torch.tensor([7])

        def get_rng_state(self, _device: torch.device) -> Tensor:
            return self.state.clone()

        def set_rng_state(self, state: Tensor, _device: torch.device) -> None:
            self.state = state

    fake = Module()
    monkeypatch.setattr(torch, "get_device_module", lambda _device: fake)
    kept = Snapshot()
    kept.add_default_generators({torch.device("cuda", 0), torch.device("cpu")})
    fake.state = torch.tensor([9])
    kept.restore()
    assert fake.state.item() == 7


class Counted:
    """A loss whose evaluations are counted, with and without gradients."""

    def __init__(self, calls_backward: bool = False) -> None:
        self.weight = nn.Parameter(torch.ones(2))
        self.calls_backward = calls_backward
        self.gradients = self.losses = 0

    def __call__(self) -> Tensor:
        self.gradients += torch.is_grad_enabled()
        self.losses += not torch.is_grad_enabled()
        loss = (self.weight**2).sum()
        if self.calls_backward:
            loss.backward()
        return loss


@pytest.mark.parametrize("calls_backward", [False, True])
def test_a_shared_gradient_is_served_once_as_long_as_nothing_has_changed(calls_backward: bool) -> None:
    counted = Counted(calls_backward)
    evaluation = Evaluation(counted, [counted.weight])

    def gradient() -> list[float]:
        loss = evaluation()
        assert not loss.requires_grad
        assert counted.weight.grad is not None
        return counted.weight.grad.tolist()

    evaluation.gradient()
    assert gradient() == [2.0, 2.0]
    assert counted.gradients == 1
    assert gradient() == [2.0, 2.0]  # a base that asks twice may have moved the parameters unseen
    assert counted.gradients == 2
    evaluation.gradient()
    with torch.no_grad():
        counted.weight.mul_(3)
    assert gradient() == [6.0, 6.0]
    evaluation.gradient()
    assert counted.weight.grad is not None
    counted.weight.grad.mul_(2)
    assert gradient() == [6.0, 6.0]
    evaluation.gradient()
    counted.weight.grad = None
    assert gradient() == [6.0, 6.0]
    evaluation.gradient()
    evaluation.advance()
    assert gradient() == [6.0, 6.0]
    evaluation.gradient()
    counted.weight.data = torch.full((2,), 5.0)  # not counted as a change by torch
    assert gradient() == [10.0, 10.0]
    assert (counted.gradients, counted.losses) == (12, 0)


@pytest.mark.parametrize("way", ["plain", "backward", "autograd.backward"])
def test_the_loss_alone_leaves_gradients_as_they_are(way: str) -> None:
    weight = nn.Parameter(torch.ones(2))
    kept = weight.grad = torch.full((2,), 7.0)

    def closure() -> Tensor:
        loss = (weight**2).sum()
        if way == "backward":
            loss.backward()
        elif way == "autograd.backward":
            torch.autograd.backward(loss)
        return loss

    assert float(Evaluation(closure, [weight]).loss()) == 2
    assert weight.grad is kept
    assert kept.tolist() == [7.0, 7.0]


@pytest.mark.parametrize("failing", [1, 2, 5, 11])
def test_a_measurement_that_fails_leaves_no_trace(failing: int) -> None:
    model, loss = noisy_problem()
    calls, before = 0, [parameter.detach().clone() for parameter in model.parameters()]

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise KeyboardInterrupt
        return loss()

    with pytest.raises(KeyboardInterrupt):
        AscentDescent().measure(Evaluation(closure, model.parameters()), shared_noise=True)
    assert all(torch.equal(parameter, old) for parameter, old in zip(model.parameters(), before, strict=True))
    assert int(model.norm.num_batches_tracked) == (failing > 1)  # the training gradient's own pass


def test_modules_are_found_without_a_trace() -> None:
    model, loss = noisy_problem()
    before = [value.clone() for value in (*model.state_dict().values(), random_state())]
    assert set(Evaluation(loss, model.parameters()).modules()) == set(model.modules())
    after = [*model.state_dict().values(), random_state()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_plain_gradient_is_not_watched() -> None:
    # Watching is slow and keeps compiled networks from running as such; a plain step needs none of it.
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    modes: list[object] = []

    def closure() -> Tensor:
        modes.append(_get_current_dispatch_mode())
        return x.square().sum()

    Evaluation(closure, [x])()
    Evaluation(closure, [x], side=SideState([x]))()
    assert [mode is None for mode in modes] == [True, False]
