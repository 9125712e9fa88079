"""Every optimizer of torch as a base, in every variant of torch's own test database."""

import copy
import itertools
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from salr.closures import Evaluation
from salr.optim import SALR, SAM, LocalEntropy, SmoothOut, Wrapper
from salr.sharpness import GradientNorm
from tests.helpers.optim import equal

pytest.importorskip("expecttest", reason="torch's test database needs it")

# The import would forbid the whole process to set flags such as cudnn's, as torch's own tests want it.
with patch.object(torch.backends, "disable_global_flags", lambda: None):
    from torch.testing._internal.common_optimizers import OptimizerInfo, optim_db

STEPS = 4
NEVER_AGAIN = 10**6
"""An interval after which the first factor, 1, still holds."""
READ_ONCE = ("ASGD", "Rprop")


class Neutral(Wrapper):
    """Changes nothing."""

    def _gradient(self, evaluation: Evaluation) -> Tensor:
        return evaluation()


NEUTRAL: dict[str, Callable[[Optimizer], Wrapper]] = {
    "neutral": Neutral,
    "salr": lambda base: SALR(base, interval=NEVER_AGAIN),
    "salr, gradient norm": lambda base: SALR(base, GradientNorm(), interval=NEVER_AGAIN),
    "salr around neutral": lambda base: SALR(Neutral(base), interval=NEVER_AGAIN),
}
OTHERS: dict[str, Callable[[Optimizer], Wrapper]] = {
    "salr": lambda base: SALR(base, interval=1),
    "sam": SAM,
    "asam": lambda base: SAM(base, adaptive=True),
    "local entropy": lambda base: LocalEntropy(base, steps=2),
    "smoothout": lambda base: SmoothOut(base, 0.01),
    "ada smoothout": lambda base: SmoothOut(base, 0.01, adaptive=True),
    "salr around sam": lambda base: SALR(SAM(base), interval=1),
}


@dataclass(frozen=True)
class Variant:
    """An optimizer of the database with one of its sets of arguments, in one of its implementations."""

    info: OptimizerInfo
    options: dict[str, Any]
    name: str

    def make(self, parameters: Any) -> Optimizer:
        base: Optimizer = self.info.optim_cls(parameters, **copy.deepcopy(self.options))
        return base


def variants() -> Iterator[Variant]:
    for info in optim_db:
        for case, impl in itertools.product(
            info.optim_inputs_func(device="cpu"), ("", *info.supported_impls)
        ):
            options = dict(case.kwargs) | ({impl: True} if impl else {})
            yield Variant(info, options, f"{info.optim_cls.__name__}, {case.desc}, {impl or 'plain'}")


ALL = list(variants())
QUICK = [variant for variant in ALL if variant.name.endswith((" default, plain", " maximize, plain"))]
each_quick = pytest.mark.parametrize("variant", QUICK, ids=lambda variant: variant.name)
each = pytest.mark.parametrize(
    "variant",
    [pytest.param(v, marks=() if v in QUICK else pytest.mark.soak) for v in ALL],
    ids=lambda variant: variant.name,
)


class Small:
    """Parameters of several shapes, one of them unused and one frozen, and a loss with a curvature."""

    def __init__(self, variant: Variant, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        torch.manual_seed(0)
        shapes = [(3, 2), (2, 3), (4, 4)] if variant.info.optim_cls.__name__ == "Muon" else [(3, 2), (5,), ()]
        made = [torch.randn(shape, dtype=dtype) for shape in shapes]
        strided = torch.randn(4, 3, dtype=dtype).t()  # not contiguous
        self.parameters = [nn.Parameter(each.to(device)) for each in [*made, strided]]
        self.unused, self.frozen = (
            nn.Parameter(torch.ones(2, 2, dtype=dtype, device=device)) for _ in range(2)
        )
        self.frozen.requires_grad_(False)
        self.sparse = variant.info.only_supports_sparse_grads
        self.table = nn.Embedding(4, 2, sparse=True) if self.sparse else None

    @property
    def all(self) -> list[Tensor]:
        if self.table is not None:
            return list(self.table.parameters())
        return [*self.parameters, self.unused, self.frozen]

    def loss(self) -> Tensor:
        if self.table is not None:
            return self.table(torch.tensor([1, 2])).square().sum()
        near = sum((parameter - 0.3).abs().square().sum() for parameter in self.parameters)
        size = sum(parameter.abs().square().sum() for parameter in self.parameters)
        return near / 4 + size.square() / 1000  # type: ignore[union-attr]

    def values(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.all]


def train(optimizer: Optimizer, small: Small, steps: int = STEPS) -> list[Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = small.loss()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)  # type: ignore[arg-type]
    return small.values()


def works_plainly(variant: Variant, dtype: torch.dtype = torch.float32) -> bool:
    """Whether torch's own optimizer can take these steps."""
    small = Small(variant, dtype)
    try:
        train(variant.make(small.all), small)
    except (RuntimeError, ValueError, TypeError):
        return False
    return True


def wrapped(wrap: Callable[[Optimizer], Wrapper], base: Optimizer) -> Wrapper | None:
    """None where SALR refuses the base for a reason that it gives."""
    try:
        return wrap(base)
    except ValueError as refused:
        if type(base).__name__ in READ_ONCE or "has no lr" in str(refused):
            return None
        raise


def innermost(optimizer: Optimizer) -> Optimizer:
    while isinstance(optimizer, Wrapper):
        optimizer = optimizer.base
    return optimizer


@each
@pytest.mark.parametrize("method", NEUTRAL)
def test_a_wrapper_that_changes_nothing_is_the_base_bit_for_bit(method: str, variant: Variant) -> None:
    plain, small = Small(variant), Small(variant)
    reference, optimizer = variant.make(plain.all), wrapped(NEUTRAL[method], variant.make(small.all))
    if optimizer is None:
        return
    if plain.sparse:
        with pytest.raises(ValueError, match="sparse_coo gradient; expected dense ones"):
            train(optimizer, small)
        return
    if not works_plainly(variant):
        with pytest.raises((RuntimeError, ValueError, TypeError)):
            train(optimizer, small)
        return
    assert equal(train(optimizer, small), train(reference, plain))
    assert equal(innermost(optimizer).state_dict(), reference.state_dict())


@each
@pytest.mark.parametrize("method", OTHERS)
def test_a_state_goes_round_and_copies_go_their_own_way(method: str, variant: Variant) -> None:
    if variant.info.only_supports_sparse_grads or not works_plainly(variant):
        return
    small = Small(variant)
    optimizer = wrapped(OTHERS[method], variant.make(small.all))
    if optimizer is None:
        return
    train(optimizer, small, 2)
    optimizer.zero_grad()
    copied, its = copy.deepcopy((small, optimizer))
    pickled, others = pickle.loads(pickle.dumps((small, optimizer)))  # noqa: S301 - our own bytes
    fresh = copy.deepcopy(small)
    loaded = OTHERS[method](variant.make(fresh.all))
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert equal(loaded.state_dict(), optimizer.state_dict())
    noise = torch.get_rng_state()
    expected = train(optimizer, small, 2)
    for one, network in ((its, copied), (others, pickled), (loaded, fresh)):
        torch.set_rng_state(noise)
        assert equal(train(one, network, 2), expected)


@pytest.mark.parametrize(
    "variant", [v for v in QUICK if v.name.endswith(" default, plain")], ids=lambda variant: variant.name
)
@pytest.mark.parametrize("method", OTHERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64], ids=str)
def test_kinds_of_parameters(method: str, variant: Variant, dtype: torch.dtype) -> None:
    """The loss of a complex parameter is real; its parts are two real ones."""
    if variant.info.only_supports_sparse_grads or not works_plainly(variant, dtype):
        return
    small = Small(variant, dtype)
    optimizer = wrapped(OTHERS[method], variant.make(small.all))
    if optimizer is None:
        return
    before = small.values()
    after = train(optimizer, small)
    assert all(torch.isfinite(torch.view_as_real(v) if v.is_complex() else v).all() for v in after)
    moved = [not torch.equal(new, old) for new, old in zip(after, before, strict=True)]
    assert moved[:-2] == [True] * len(small.parameters)
    assert moved[-2:] == [False, False]


@each_quick
@pytest.mark.parametrize("method", ["salr", "sam", "smoothout", "local entropy"])
def test_what_bases_maximise_is_what_they_minimise_of_its_negative(method: str, variant: Variant) -> None:
    sparse = variant.info.only_supports_sparse_grads
    if sparse or "maximize" not in variant.options or not works_plainly(variant):
        return
    ends = []
    for sign in (1, -1):
        small = Small(variant)
        options = variant.options | {"maximize": sign == 1}
        optimizer = wrapped(OTHERS[method], Variant(variant.info, options, "").make(small.all))
        if optimizer is None:
            return
        torch.manual_seed(1)
        for _ in range(STEPS):
            optimizer.step(lambda small=small, sign=sign: -small.loss() * sign)
        ends.append(small.values())
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("method", OTHERS)
def test_parameters_on_the_meta_device(method: str) -> None:
    """Nothing is computed there, but sizes are: torch's own optimizers run."""
    variant = next(v for v in QUICK if v.name.startswith("SGD, default"))
    small = Small(variant, device="meta")
    optimizer = OTHERS[method](torch.optim.SGD(small.all, lr=0.1))
    train(optimizer, small, 2)
    assert optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("method", [*OTHERS, "neutral"])
def test_a_first_group_that_is_empty(method: str) -> None:
    variant = next(v for v in QUICK if v.name.startswith("SGD, default"))
    one, other = Small(variant), Small(variant)
    wrap = (OTHERS | NEUTRAL)[method]
    ends = []
    for small, groups in ((one, [{"params": one.all}]), (other, [{"params": []}, {"params": other.all}])):
        torch.manual_seed(0)
        optimizer = wrap(torch.optim.SGD(groups, lr=0.1))
        ends.append(train(optimizer, small))
        optimizer.load_state_dict(optimizer.state_dict())
    assert equal(*ends)


RATES: dict[str, Callable[[], list[Any]]] = {
    "requires a gradient": lambda: [torch.tensor(0.1, requires_grad=True)] * 2,
    "integer": lambda: [torch.tensor(1)] * 2,
    "one storage": lambda: list(torch.tensor([0.1, 0.2]).unbind()),
    "one tensor": lambda: [torch.tensor(0.1)] * 2,
    "numbers": lambda: [0.1, 0.2],
}


@pytest.mark.parametrize("kind", RATES)
def test_rates_that_torch_accepts(kind: str) -> None:
    """Three steps against rates multiplied by hand; the rates come out as they were."""
    variant = next(v for v in QUICK if v.name.startswith("SGD, default"))
    ends, factors = [], []
    for by_hand in (False, True):
        small, rates = Small(variant), RATES[kind]()
        groups = [
            {"params": small.parameters[:2], "lr": rates[0]},
            {"params": small.parameters[2:], "lr": rates[1]},
        ]
        base = torch.optim.SGD(groups)
        optimizer: Optimizer = base if by_hand else SALR(base, GradientNorm(), interval=1)
        for step in range(3):
            if by_hand:
                for group, rate in zip(base.param_groups, RATES[kind](), strict=True):
                    group["lr"] = float(rate) * factors[step]
            small.parameters[0].grad = None
            train(optimizer, small, 1)
            if isinstance(optimizer, SALR):
                factors.append(float(optimizer.lr_factor))
                assert all(group["lr"] is rate for group, rate in zip(base.param_groups, rates, strict=True))
                assert [float(rate) for rate in rates] == [float(rate) for rate in RATES[kind]()]
        ends.append(small.values())
    assert factors[1] != 1
    torch.testing.assert_close(*ends)


def test_scaling_a_rate_reaches_nobody_else_who_holds_it() -> None:
    """A base may keep the tensor in its state."""

    class Keeping(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter].setdefault("first_rate", group["lr"])
            return loss

    variant = next(v for v in QUICK if v.name.startswith("SGD, default"))
    small, rate = Small(variant), torch.tensor(0.1)
    optimizer = SALR(Keeping(small.parameters, lr=rate), GradientNorm(), interval=1)
    seen = []
    for _ in range(3):
        optimizer.step(lambda: (seen.append(float(rate)), small.loss())[1])
        assert float(optimizer.state[small.parameters[0]]["first_rate"]) == pytest.approx(0.1)
    assert seen == pytest.approx([0.1] * len(seen))


def test_an_armijo_search_that_assigns_data() -> None:
    """Its trial points are no change that torch counts; each must be evaluated."""

    class Armijo(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            loss = closure()
            (group,) = self.param_groups
            start = [(p, p.data.clone(), p.grad.clone()) for p in group["params"]]
            slope = sum(float(gradient.square().sum()) for _, _, gradient in start)
            rate = group["lr"]
            while rate > 1e-8:
                for parameter, value, gradient in start:
                    parameter.data = value - rate * gradient
                if float(closure()) <= float(loss) - 0.1 * rate * slope:
                    break
                rate /= 2
            return loss

    ends = []
    for wrap in (
        None,
        lambda base: SALR(base, interval=NEVER_AGAIN),
        lambda base: SALR(SAM(base, 1e-9), interval=NEVER_AGAIN),
    ):
        point = nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
        base = Armijo([point], lr=10.0)
        optimizer: Any = base if wrap is None else wrap(base)

        def closure(point: Tensor = point) -> Tensor:
            point.grad = None
            loss = (torch.tensor([1.0, 4.0], dtype=torch.float64) * point.square()).sum() / 2
            loss.backward()
            return loss

        for _ in range(15):
            optimizer.step(closure)
        ends.append(point.detach().clone())
    assert float(ends[0].norm()) < 0.1
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=0)
    torch.testing.assert_close(ends[2], ends[0], rtol=1e-6, atol=1e-7)


def test_parameters_below_single_precision_are_warned_of_once() -> None:
    point = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    with pytest.warns(UserWarning, match=r"keep them in float32 and compute the loss under torch\.autocast"):
        SALR(torch.optim.SGD([point], lr=0.1))


def test_the_norm_of_half_precision_gradients_does_not_overflow() -> None:
    """float16 holds numbers up to 65,504; SAM's perturbation is ρ long all the same."""
    point = nn.Parameter(torch.zeros(400, dtype=torch.float16))
    seen = []

    def closure() -> Tensor:
        seen.append(point.detach().float().norm())
        return (point * 5000.0).float().sum()

    with pytest.warns(UserWarning, match="autocast"):
        SAM(torch.optim.SGD([point], lr=0.0), rho=0.5).step(closure)
    assert float(seen[-1]) == pytest.approx(0.5, rel=1e-3)


def test_a_parameter_that_is_listed_twice_counts_once() -> None:
    trunk = nn.Parameter(torch.ones(2, dtype=torch.float64))
    ends = []
    for listed in ([trunk, trunk], [trunk]):
        with torch.no_grad():
            trunk.fill_(1.0)
        with pytest.warns(UserWarning, match="duplicate") if len(listed) == 2 else torch.no_grad():
            base = torch.optim.SGD(listed, lr=0.0)
        seen: list[Tensor] = []

        def closure(seen: list[Tensor] = seen) -> Tensor:
            seen.append(trunk.detach().clone())
            return trunk.square().sum()

        with torch.enable_grad():
            SAM(base, rho=0.1).step(closure)
        ends.append(seen[-1])
    assert torch.equal(*ends)


def test_a_step_within_a_compiled_function_breaks_the_graph() -> None:
    for wrap in (SALR, SAM, lambda base: SmoothOut(base, 0.01), LocalEntropy):
        torch._dynamo.reset()
        ends = []
        for compiles in (False, True):
            torch.manual_seed(0)
            model = nn.Linear(3, 1)
            x = torch.randn(4, 3)
            optimizer = wrap(torch.optim.SGD(model.parameters(), lr=0.1))

            def step(optimizer: Any = optimizer, model: nn.Module = model, x: Tensor = x) -> Tensor:
                loss = optimizer.step(lambda: model(x).square().mean())
                return loss * 2

            run = torch.compile(step, backend="eager") if compiles else step
            ends.append(torch.stack([run() for _ in range(4)]))
        torch.testing.assert_close(*ends)
