"""Whatever a closure changes besides its result is as after one plain step, however it changes it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.ao.quantization import get_default_qat_qconfig, prepare_qat
from torch.optim import SGD

from salr.optim import SALR, SAM, Wrapper
from tests.helpers.devices import seeded_generator
from tests.helpers.optim import METHODS

pytestmark = pytest.mark.usefixtures("default_device")

STEPS = 4
Closure = Callable[[], Tensor]
# Those that evaluate one batch more often than a plain step does.
methods = pytest.mark.parametrize(
    "method", ["salr", "salr, gradient norm", "released", "sam", "salr+sam", "salr+smoothout", "smoothout"]
)
methods_before_the_update = pytest.mark.parametrize("method", ["salr", "sam", "salr+sam"])


class Counting(nn.Module):
    """A buffer counts the forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return self.norm(x * self.weight).square().sum() + self.weight.square().sum()


class Rebinding(Counting):
    def forward(self, x: Tensor) -> Tensor:
        self.count = self.count + 1
        return (x * self.weight).square().sum()


class Registering(Counting):
    """The buffer appears in the first forward pass."""

    def __init__(self) -> None:
        super().__init__()
        del self.count

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "count"):
            self.register_buffer("count", torch.zeros(()))
        return super().forward(x)


class Vanishing(Counting):
    """A buffer goes in the first forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("first", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "first"):
            del self.first
        return super().forward(x)


class Views(Counting):
    """Buffers that are expanded, a part of another, or a view of a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.ones(1)
        self.register_buffer("expanded", self.one.expand(4))
        self.register_buffer("row", torch.zeros(3, 2)[1])
        self.register_buffer("tied", self.weight.detach())
        self.register_buffer("empty", torch.zeros(0))
        self.register_buffer("none", None)
        self.register_buffer("sparse", torch.eye(2).to_sparse())

    def forward(self, x: Tensor) -> Tensor:
        self.one += 1
        self.row += 1
        self.sparse.mul_(2)
        return super().forward(x) + self.expanded.sum() * self.tied.sum()


class Reshaping(Counting):
    """A buffer that grows in place, and one whose memory is replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log", torch.zeros(0))
        self.register_buffer("other", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        size = len(self.log)
        self.log.resize_(size + 1)[size] = float(size)
        self.other.data = torch.ones(len(self.log))
        return super().forward(x)


class Carrying(Counting):
    """A recurrent state in plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Any = (torch.zeros(2), (torch.zeros(2),))
        self.nothing_yet: Any = None

    def forward(self, x: Tensor) -> Tensor:
        first, (second,) = self.state
        self.state = (first + 1, (second + first,))
        self.nothing_yet = x.sum() if self.nothing_yet is None else self.nothing_yet + 1
        return super().forward(x)


class Bank(Counting):
    """A memory of past inputs that is no buffer, written at a moving place, through a view."""

    def __init__(self) -> None:
        super().__init__()
        self.bank = torch.zeros(8, 2)
        self.place = torch.zeros((), dtype=torch.int64)

    def forward(self, x: Tensor) -> Tensor:
        self.bank.data[self.place] += x[0].detach() + 1
        self.place += 1
        return super().forward(x)


class Embedded(Counting):
    """An embedding that renorms its weights in the forward pass, and a frozen copy that follows."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 2, max_norm=0.5)
        self.target = nn.Parameter(torch.zeros(2), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.target.lerp_(x.mean(0), 0.1)
        return super().forward(x) + self.table(torch.tensor([0, 1])).square().sum()


class Spectral(Counting):
    def __init__(self) -> None:
        super().__init__()
        self.new = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 3))
        self.old = nn.utils.spectral_norm(nn.Linear(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.new(x).square().mean() + self.old(x).square().mean()


class Lazy(Counting):
    def __init__(self) -> None:
        super().__init__()
        self.lazy = nn.LazyBatchNorm1d(affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.lazy(x * self.weight).pow(4).mean()


def by_call(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)


def by_forward(model: nn.Module, x: Tensor) -> Tensor:
    """Enters the module so that no hook fires."""
    return model.forward(x)


def functional(model: nn.Module, x: Tensor) -> Tensor:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return torch.func.functional_call(model, tensors, (x,))


CASES = [
    (Counting, by_call),
    (Counting, by_forward),
    (Counting, functional),
    (Rebinding, by_call),
    (Registering, by_call),
    (Vanishing, by_call),
    (Views, by_call),
    (Views, by_forward),
    (Reshaping, by_call),
    (Carrying, by_call),
    (Bank, by_call),
    (Bank, by_forward),
    (Embedded, by_call),
    (Spectral, by_call),
    (Lazy, by_call),
]


def state(model: nn.Module) -> dict[str, Any]:
    """Everything that the model holds, but for its parameters."""
    held: dict[str, Any] = {f"buffer {name}": value.clone() for name, value in model.named_buffers()}
    for name in ("one", "state", "nothing_yet", "bank", "place", "target"):
        if hasattr(model, name):
            held[name] = getattr(model, name)
    return held


def trained(kind: type[nn.Module], enter: Callable, wrap: Callable[[SGD], Any] | None) -> dict[str, Any]:
    """Take steps with a rate of zero, so that all forward passes that count are at the same parameters."""
    torch.manual_seed(0)
    model, x = kind(), torch.randn(5, 2)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    base = SGD(parameters, lr=0.0)
    optimizer = base if wrap is None else wrap(base)
    for _ in range(STEPS):
        if wrap is None:
            optimizer.zero_grad()
            enter(model, x).backward()
            optimizer.step()
        else:
            optimizer.step(lambda: enter(model, x))
    return state(model)


@methods
@pytest.mark.parametrize(("kind", "enter"), CASES, ids=lambda case: case.__name__)
def test_what_a_forward_pass_changes_is_as_after_plain_steps(
    method: str, kind: type[nn.Module], enter: Callable
) -> None:
    expected = trained(kind, enter, None)
    measured = trained(kind, enter, METHODS[method].wrap)
    assert measured.keys() == expected.keys()
    if "count" in expected:
        assert int(expected["count"]) == STEPS
    if "smoothout" in method:  # its one evaluation is at other parameters
        expected, measured = (
            {name: value for name, value in held.items() if "norm" not in name and "lazy" not in name}
            for held in (expected, measured)
        )
        if kind is Spectral:
            return
    torch.testing.assert_close(measured, expected, rtol=0, atol=0)


@methods
def test_a_quantisation_aware_network_is_left_as_plain_steps_leave_it(method: str) -> None:
    """Its observers resize their buffers in the first forward pass."""
    ends = []
    for wrap in (None, METHODS[method].wrap):
        torch.manual_seed(0)
        model: nn.Module = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        model.qconfig = get_default_qat_qconfig("fbgemm")  # type: ignore[assignment]
        with pytest.warns(DeprecationWarning, match="torch.ao.quantization"):
            model = prepare_qat(model.train())
        x = torch.randn(6, 4)
        base = SGD(model.parameters(), lr=0.0)
        optimizer: Any = base if wrap is None else wrap(base)
        for _ in range(3):
            if wrap is None:
                model(x).square().mean().backward()
                optimizer.step()
            else:
                optimizer.step(lambda model=model, x=x: model(x).square().mean())
        ends.append(dict(model.named_buffers()))
    if "smoothout" not in method:
        torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=0)


@methods_before_the_update
def test_all_evaluations_of_a_later_step_start_from_the_same_state(method: str) -> None:
    """In the first step, too, if nothing appears in it."""
    model = Carrying()
    model.nothing_yet = torch.zeros(())
    optimizer = METHODS[method].wrap(SGD([model.weight], lr=0.0))
    for _ in range(3):
        seen = []

        def closure(seen: list[tuple[float, ...]] = seen) -> Tensor:
            seen.append(tuple(float(t.sum()) for t in (model.count, *model.state[:1], *model.state[1])))
            return model(torch.ones(2, 2))

        optimizer.step(closure)
        assert len(set(seen)) == 1


@methods
def test_a_sum_that_the_closure_accumulates_and_another_networks_parameters(method: str) -> None:
    """Tensors that no module holds."""
    weight, target = torch.ones(2, requires_grad=True), torch.zeros(2)
    total = torch.zeros(())
    optimizer = METHODS[method].wrap(SGD([weight], lr=0.0))

    def closure() -> Tensor:
        loss = weight.square().sum()
        with torch.no_grad():
            total.add_(1)
            target.mul_(0.5).add_(weight.sign())
        return loss

    for _ in range(STEPS):
        optimizer.step(closure)
    assert float(total) == STEPS
    torch.testing.assert_close(target, torch.full((2,), 2 - 0.5 ** (STEPS - 1)))


@methods_before_the_update
def test_a_generator_of_the_closures_own(method: str) -> None:
    model, generator, reference = Counting(), seeded_generator(5), seeded_generator(5)
    optimizer = METHODS[method].wrap(SGD([model.weight], lr=0.0))
    draws: list[float] = []

    def closure() -> Tensor:
        noise = torch.rand((), generator=generator)
        draws.append(float(noise))
        return model(torch.ones(2, 2)) * noise

    for _ in range(3):
        draws.clear()
        optimizer.step(closure)
        assert set(draws) == {float(torch.rand((), generator=reference))}


def test_modules_that_cannot_be_found_are_given() -> None:
    """A module entered by its forward that binds a buffer anew."""
    counts = []
    for given in (False, True):
        model = Rebinding()
        optimizer = SALR(SGD([model.weight], lr=0.0), modules=model if given else ())
        for _ in range(STEPS):
            optimizer.step(lambda model=model: model.forward(torch.ones(2, 2)))
        counts.append(int(model.count))
    assert counts[0] > STEPS  # as the documentation says
    assert counts[1] == STEPS


def test_noise_that_torch_does_not_own_is_drawn_outside() -> None:
    """As the documentation says: all evaluations see the same batch, and NumPy draws once a step."""
    model, random, reference = nn.Linear(2, 1), np.random.default_rng(0), np.random.default_rng(0)
    optimizer = SALR(SGD(model.parameters(), lr=0.1))
    for _ in range(3):
        share = float(random.beta(1, 1))
        seen = []

        def closure(share: float = share, seen: list[float] = seen) -> Tensor:
            seen.append(share)
            return model(torch.full((1, 2), share)).square().sum()

        optimizer.step(closure)
        assert set(seen) == {float(reference.beta(1, 1))}


def test_a_graph_from_before_the_step_stays_usable() -> None:
    """Restoring a buffer is no change of it: only the model's own would be one."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[1].register_buffer("mask", torch.ones(2))
    weight = torch.ones(2, requires_grad=True)
    before = (weight * model[1].mask * model[1].running_mean).sum()
    SAM(SGD(model.parameters(), lr=0.0)).step(lambda: model(torch.randn(4, 2)).square().mean())
    before.backward()
    assert weight.grad is not None


@methods
def test_measuring_tells_the_evaluations_that_a_plain_step_would_not_make(method: str) -> None:
    model = Counting()
    optimizer: Wrapper = METHODS[method].wrap(SGD([model.weight], lr=0.0))
    metric = []

    def closure() -> Tensor:
        loss = model(torch.ones(2, 2))
        if not optimizer.measuring:
            metric.append(float(loss.detach()))
        return loss

    for _ in range(STEPS):
        optimizer.step(closure)
    assert len(metric) == STEPS
    assert not optimizer.measuring
