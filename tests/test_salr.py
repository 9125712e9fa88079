"""SALR and Definition 1 against closed forms and against a plain twin that does what the paper writes, word by word."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from salr.optim import SALR
from salr.optim.running_median import RunningMedian
from salr.sharpness import ascent_descent_sharpness

Loss = Callable[[], Tensor]


def twin_sharpness(loss: Loss, parameters: list[Tensor], gamma: float, n1: int, n2: int) -> float:
    """Definition 1 with nothing shared and nothing saved."""
    start = [parameter.detach().clone() for parameter in parameters]

    def end(steps: int, sign: float) -> float:
        with torch.no_grad():
            for parameter, value in zip(parameters, start, strict=True):
                parameter.copy_(value)
        for _ in range(steps):
            gradients = torch.autograd.grad(loss(), parameters)
            norm = sum(float((gradient**2).sum()) for gradient in gradients) ** 0.5
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter += sign * gamma * gradient / norm if norm else 0.0
        return float(loss().detach())

    value = end(n2, +1) - end(n1, -1)
    end(0, 0)
    return value


class TwinSALR:
    """Algorithms 3 and 4: the base's rate is set by hand before each step, the median is numpy's."""

    def __init__(self, base: torch.optim.Optimizer, gamma: float, n1: int, n2: int, c: int) -> None:
        self.base, self.gamma, self.n1, self.n2, self.c = base, gamma, n1, n2, c
        self.rates = [group["lr"] for group in base.param_groups]
        self.history: list[float] = []
        self.iteration = 0

    def step(self, loss: Loss) -> None:
        parameters = [parameter for group in self.base.param_groups for parameter in group["params"]]
        if self.iteration % self.c == 0:
            self.history.append(twin_sharpness(loss, parameters, self.gamma, self.n1, self.n2))
        for group, rate in zip(self.base.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.history[-1] / float(np.median(self.history))
        self.base.zero_grad()
        loss().backward()
        self.base.step()
        self.iteration += 1


def small_problem(seed: int = 0) -> tuple[nn.Module, Loss]:
    """A float64 network on fixed data."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    inputs, targets = torch.randn(16, 5).double(), torch.randint(3, (16,))
    return model, lambda: nn.functional.cross_entropy(model(inputs), targets)


BASES: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.3),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.02),
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(("n1", "n2", "c"), [(5, 5, 2), (1, 3, 1), (0, 4, 3), (3, 0, 2)])
def test_a_trajectory_is_the_twins(base: str, n1: int, n2: int, c: int) -> None:
    model, loss = small_problem()
    other, other_loss = small_problem()
    optimizer = SALR(BASES[base](list(model.parameters())), 0.02, n1, n2, c)
    twin = TwinSALR(BASES[base](list(other.parameters())), 0.02, n1, n2, c)
    for _ in range(25):
        optimizer.step(loss)
        twin.step(other_loss)
        torch.testing.assert_close(list(model.parameters()), list(other.parameters()), rtol=1e-9, atol=1e-12)
    assert float(optimizer.last_sharpness) == pytest.approx(twin.history[-1], rel=1e-9)
    assert float(optimizer.median_sharpness) == pytest.approx(float(np.median(twin.history)), rel=1e-9)


def scalar(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]


def test_a_linear_function_rises_by_its_slope() -> None:
    x, y = scalar(0.3, -1.0)
    for n1, n2 in ((5, 5), (2, 3), (0, 4), (1, 0)):
        value = ascent_descent_sharpness(lambda: 3 * x - 4 * y, [x, y], 0.01, n1, n2)
        assert float(value) == pytest.approx((n1 + n2) * 0.01 * 5)


def test_an_isotropic_quadratic_away_from_its_minimum() -> None:
    theta = torch.tensor([0.6, 0.8], dtype=torch.float64, requires_grad=True)
    value = ascent_descent_sharpness(lambda: 3.5 * (theta**2).sum(), [theta], 0.01, 5, 5)
    assert float(value) == pytest.approx(2 * 5 * 0.01 * 7.0)


def test_the_notes_quadratics() -> None:
    x, y = scalar(0.1, 0.1)
    assert float(ascent_descent_sharpness(lambda: 0.5 * (x**2 + 10 * y**2), [x, y])) == pytest.approx(0.0201001958, abs=5e-11)
    (z,) = scalar(0.003)
    assert float(ascent_descent_sharpness(lambda: 0.5 * z**2, [z])) == pytest.approx(8.4e-5)


def test_a_zero_gradient_is_a_zero_step() -> None:
    (x,) = scalar(0.0)
    assert float(ascent_descent_sharpness(lambda: x**2, [x])) == 0.0


def test_half_precision_holds_the_difference_in_single() -> None:
    x = torch.ones(4, dtype=torch.bfloat16, requires_grad=True)
    assert ascent_descent_sharpness(lambda: (x**2).sum(), [x], 0.1).dtype is torch.float32


@pytest.mark.parametrize("calls_backward", [False, True])
def test_nine_gradients_and_two_losses_a_measurement(calls_backward: bool) -> None:
    model, loss = small_problem()
    optimizer = SALR(torch.optim.SGD(model.parameters(), lr=0.1))
    calls = {True: 0, False: 0}
    backward = 0

    def count(_gradient: Tensor) -> None:
        nonlocal backward
        backward += 1

    next(model.parameters()).register_hook(count)

    def closure() -> Tensor:
        calls[torch.is_grad_enabled()] += 1
        value = loss()
        if calls_backward:
            optimizer.zero_grad()
            value.backward()
        return value

    optimizer.step(closure)
    assert (calls[True], calls[False], backward) == (9, 2, 9)
    optimizer.step(closure)
    assert (calls[True], calls[False], backward) == (10, 2, 10)


def test_both_kinds_of_closure_and_accumulation_inside_give_the_same() -> None:
    ends = []
    for kind in range(3):
        model, loss = small_problem()
        optimizer = SALR(torch.optim.SGD(model.parameters(), lr=0.3))

        def closure(kind: int = kind, loss: Loss = loss, optimizer: SALR = optimizer) -> Tensor:
            if kind == 0:
                return loss()
            optimizer.zero_grad()
            parts = [loss() * 0.25, loss() * 0.75] if kind == 2 else [loss()]
            for part in parts:
                part.backward()
            return torch.stack([part.detach() for part in parts]).sum()

        for _ in range(6):
            optimizer.step(closure)
        ends.append(list(model.parameters()))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-12, atol=1e-14)


class Noisy(nn.Module):
    """Draws in every way that a forward pass may."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 12)
        self.norm = nn.BatchNorm1d(12)
        self.drop = nn.Dropout(0.5)
        self.rrelu = nn.RReLU()
        self.lstm = nn.LSTM(12, 5, num_layers=2, dropout=0.4)
        self.last = nn.Linear(5, 3)
        self.seen: list[Tensor] = []
        self.register_buffer("state", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)) + torch.rand(12)
        x = torch.utils.checkpoint.checkpoint(self.drop, x, use_reentrant=False)
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
    after = torch.get_rng_state()
    model, loss = noisy_problem()
    torch.manual_seed(2)
    ascent_descent_sharpness(loss, model.parameters())
    assert torch.equal(torch.get_rng_state(), after)
    for mine, its in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, its)
        assert mine.grad is not None
        assert its.grad is not None
        assert torch.equal(mine.grad, its.grad)
    assert all(torch.equal(mine, its) for mine, its in zip(model.buffers(), plain.buffers(), strict=True))


def test_all_evaluations_see_the_same_noise() -> None:
    model, loss = noisy_problem()
    ascent_descent_sharpness(loss, model.parameters())
    assert len(model.seen) == 11
    assert all(torch.equal(model.seen[0], seen) for seen in model.seen)


def test_fresh_noise_where_asked_for() -> None:
    model, loss = noisy_problem()
    ascent_descent_sharpness(loss, model.parameters(), shared_noise=False)
    assert len({tuple(seen.tolist()) for seen in model.seen}) == 11


def test_the_generators_of_an_accelerator_are_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from salr.sharpness import side_state

    class Module:
        state = torch.tensor([7])

        def get_rng_state(self, _device: torch.device) -> Tensor:
            return self.state.clone()

        def set_rng_state(self, state: Tensor, _device: torch.device) -> None:
            self.state = state

    fake = Module()
    monkeypatch.setattr(torch, "get_device_module", lambda _device: fake)
    kept = side_state.copy_generators({torch.device("cuda", 0), torch.device("cpu")})
    fake.state = torch.tensor([9])
    side_state.restore_generators(kept)
    assert fake.state.item() == 7


@given(st.lists(st.floats(2**-20, 2**20, width=32), min_size=1, max_size=90))
def test_the_running_median_is_numpys(values: list[float]) -> None:
    median = RunningMedian(torch.empty(0, dtype=torch.float64))
    for place, value in enumerate(values, 1):
        median.push(torch.tensor(value, dtype=torch.float64))
        assert float(median.median()) == float(np.median(values[:place]))
        assert float(median.quantile(0.3)) == pytest.approx(float(np.quantile(values[:place], 0.3)))
    assert median.values().tolist() == sorted(values)


@pytest.mark.parametrize("bad", [0.0, -3.0, float("nan"), float("inf")])
def test_a_measurement_that_says_nothing_changes_nothing(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([2.0, bad, 4.0])
    monkeypatch.setattr("salr.optim.salr.ascent_descent_sharpness", lambda *_: torch.tensor(next(measured)))
    model, loss = small_problem()
    optimizer = SALR(torch.optim.SGD(model.parameters(), lr=0.1), interval=1)
    factors = []
    for _ in range(3):
        optimizer.step(loss)
        factors.append(float(optimizer.lr_factor))
    assert factors == [1.0, 1.0, pytest.approx(4 / 3)]
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_bad_first_measurement_leaves_the_base_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salr.optim.salr.ascent_descent_sharpness", lambda *_: torch.tensor(-1.0))
    model, loss = small_problem()
    optimizer = SALR(torch.optim.SGD(model.parameters(), lr=0.1))
    optimizer.step(loss)
    assert float(optimizer.lr_factor) == 1.0
    assert float(optimizer.last_sharpness) == -1.0
    assert np.isnan(float(optimizer.median_sharpness))


def test_a_scheduler_owns_the_base_rate_and_salr_the_factor() -> None:
    model, loss = small_problem()
    optimizer = SALR(torch.optim.SGD(model.parameters(), lr=0.5))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.1)
    used = []
    optimizer.base.register_step_pre_hook(lambda base, *_: used.append(base.param_groups[0]["lr"]))
    for iteration in range(7):
        rate = 0.5 * 0.1 ** (iteration // 3)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
        optimizer.step(loss)
        assert used[-1] == pytest.approx(rate * float(optimizer.lr_factor))
        scheduler.step()


def test_a_state_goes_through_a_file_and_the_run_goes_on_exactly() -> None:
    model, loss = small_problem()
    optimizer = SALR(torch.optim.Adam(model.parameters(), lr=0.02))
    for _ in range(7):
        optimizer.step(loss)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other, other_loss = small_problem()
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    resumed = SALR(torch.optim.Adam(other.parameters(), lr=9.0))
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    for _ in range(7):
        optimizer.step(loss)
        resumed.step(other_loss)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert torch.equal(optimizer.lr_factor, resumed.lr_factor)


def test_a_step_reads_nothing_from_the_device() -> None:
    """With a rate held in a tensor and a fused base, as on an accelerator: no value is read by the host."""

    class NoReads(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            assert func is not torch.ops.aten._local_scalar_dense.default
            assert func is not torch.ops.aten.nonzero.default
            return func(*args, **(kwargs or {}))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    inputs, targets = torch.randn(8, 4), torch.randint(2, (8,))
    optimizer = SALR(torch.optim.SGD(model.parameters(), lr=torch.tensor(0.1), fused=True))
    with NoReads():
        for _ in range(4):
            optimizer.step(lambda: nn.functional.cross_entropy(model(inputs), targets))
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.1)


def test_theorem_4_the_distance_grows_by_one_plus_epsilon() -> None:
    mu, epsilon = 4.0, 0.25
    (x,) = scalar(0.001)
    optimizer = torch.optim.SGD([x], lr=(2 + epsilon) / mu)
    for step in range(1, 20):
        optimizer.zero_grad()
        (mu * x**2 / 2).backward()
        optimizer.step()
        assert abs(float(x.detach())) == pytest.approx(0.001 * (1 + epsilon) ** step)


def test_theorem_5_the_median_is_bounded_by_the_lipschitz_constant() -> None:
    """The proof's upper bound (n1 + n2) L0 γ, for a function whose slope is at most 1."""

    def f(x: Tensor) -> Tensor:
        return torch.sqrt(1e-4 + (x / 2) ** 2) * 2

    gamma, n = 0.01, 5
    (x,) = scalar(3.0)
    optimizer = SALR(torch.optim.SGD([x], lr=0.015), gamma, n, n, interval=1)
    for _ in range(300):
        optimizer.step(lambda: f(x))
        assert float(optimizer.median_sharpness) <= 2 * n * 1.0 * gamma * (1 + 1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 0.0}, "gamma = 0.0; expected"),
        ({"gamma": float("nan")}, "gamma = nan; expected"),
        ({"descent_steps": -1}, "descent_steps = -1; expected"),
        ({"ascent_steps": 1.5}, "ascent_steps = 1.5; expected"),
        ({"descent_steps": 0, "ascent_steps": 0}, "at least one step"),
        ({"interval": 0}, "interval = 0; expected"),
    ],
)
def test_values_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SALR(torch.optim.SGD(scalar(1.0), lr=0.1), **options)  # type: ignore[arg-type]


def test_no_closure_and_no_optimizer_say_what_to_do() -> None:
    optimizer = SALR(torch.optim.SGD(scalar(1.0), lr=0.1))
    with pytest.raises(TypeError, match="needs a closure"):
        optimizer.step()
    with pytest.raises(TypeError, match=r"expected a torch\.optim\.Optimizer"):
        SALR([torch.zeros(1)])  # type: ignore[arg-type]
