"""Bases from timm, pytorch_optimizer and schedulefree under SALR, against the same bases in a plain loop."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from salr.optim import SALR, SAM
from salr.sharpness import AscentDescent
from tests.helpers.optim import Problem, build
from tests.helpers.plain_loop import PlainSALR, plain_sam_gradient

timm_optim = pytest.importorskip("timm.optim", reason="needs the extra `clients`")
pytorch_optimizer = pytest.importorskip("pytorch_optimizer", reason="needs the extra `clients`")
schedulefree = pytest.importorskip("schedulefree", reason="needs the extra `clients`")

Build = Callable[[nn.Module], Optimizer]


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def assert_salr_is_the_plain_loop(make: Build, training: bool = False) -> None:
    """Over seven steps, four of them measured."""
    # No batch normalisation: the bias before it has a gradient of rounding errors, whose sign some take.
    problem, plain = Problem(noise=False), Problem(noise=False)
    seed()
    optimizer = SALR(make(problem.model), AscentDescent(gamma=0.02))
    if training:
        optimizer.train()
    for index in range(7):
        batch = problem.batches[index % 3]
        optimizer.step(lambda batch=batch: loss_of(problem.model, batch))
    seed()
    twin = PlainSALR(make(plain.model))
    if training:
        twin.base.train()  # type: ignore[attr-defined]
    for index in range(7):
        batch = plain.batches[index % 3]
        twin.measure(plain.model, lambda model, batch=batch: loss_of(model, batch))
        twin.base.zero_grad()
        loss_of(plain.model, batch).backward()
        twin.step()
    assert len(twin.measured) == 4
    torch.testing.assert_close(problem.values(), plain.values(), rtol=1e-7, atol=1e-9)
    if training:
        optimizer.eval()
        twin.base.eval()  # type: ignore[attr-defined]
        torch.testing.assert_close(problem.values(), plain.values(), rtol=1e-7, atol=1e-9)


def seed() -> None:
    """Some bases draw numbers."""
    torch.manual_seed(5)
    random.seed(5)


def timm_base(name: str) -> Build:
    return lambda model: timm_optim.create_optimizer_v2(model, opt=name, lr=0.01, weight_decay=0.01)


def other_base(name: str) -> Build:
    return lambda model: pytorch_optimizer.load_optimizer(name)(model.parameters(), lr=0.01)


@pytest.mark.parametrize("name", ["adamp", "lamb", "lion", "madgrad", "nadamw"])
def test_timms(name: str) -> None:
    assert_salr_is_the_plain_loop(timm_base(name))


@pytest.mark.parametrize("name", ["adabelief", "adan", "lion", "prodigy", "schedulefreeadamw", "sm3", "soap"])
def test_pytorch_optimizers(name: str) -> None:
    assert_salr_is_the_plain_loop(other_base(name), training="schedulefree" in name)


@pytest.mark.soak
@pytest.mark.parametrize("name", timm_optim.list_optimizers())
def test_all_of_timms(name: str) -> None:
    try:
        timm_base(name)(Problem(noise=False).model)
    except (AssertionError, ImportError, RuntimeError) as error:
        pytest.skip(f"needs more than a CPU: {error}")
    if name == "adahessian":
        pytest.skip("needs gradients with a graph: see the test of a closure that makes them")
    assert_salr_is_the_plain_loop(timm_base(name))


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(pytorch_optimizer.get_supported_optimizers()))
def test_all_of_pytorch_optimizers(name: str) -> None:
    try:
        base = other_base(name)(Problem(noise=False).model)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        pytest.skip(f"takes no list of parameters and a rate: {error}")
    if name in ("adahessian", "demo", "fadam", "lbfgs", "sophiah", "spectralsphere"):
        pytest.skip("needs a closure, gradients with a graph, ranks, float32 or matrices")
    if not all("lr" in group for group in base.param_groups):
        with pytest.raises(ValueError, match="has no lr, which SALR scales"):
            SALR(base)
        return
    assert_salr_is_the_plain_loop(other_base(name), training="schedulefree" in name)


@pytest.mark.parametrize("kind", ["SGDScheduleFree", "AdamWScheduleFree", "RAdamScheduleFree"])
def test_schedulefree(kind: str) -> None:
    """train() and eval() reach the base."""
    assert_salr_is_the_plain_loop(
        lambda model: getattr(schedulefree, kind)(model.parameters(), lr=0.05), training=True
    )


def test_schedulefree_under_sam() -> None:
    problem, plain = Problem(noise=False), Problem(noise=False)
    optimizer = SAM(schedulefree.SGDScheduleFree(problem.parameters, lr=0.05), rho=0.1)
    base = schedulefree.SGDScheduleFree(plain.parameters, lr=0.05)
    optimizer.train()
    base.train()
    for batch in problem.batches * 2:
        optimizer.step(lambda batch=batch: loss_of(problem.model, batch))
        plain_sam_gradient(plain.model, lambda model, batch=batch: loss_of(model, batch), rho=0.1)
        base.step()
    optimizer.eval()
    base.eval()
    torch.testing.assert_close(problem.values(), plain.values(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("method", ["salr", "sam", "local_entropy"])
def test_modes_that_the_base_does_not_have(method: str) -> None:
    optimizer: Any = build(method, Problem())
    assert not hasattr(optimizer, "train")
    assert not hasattr(optimizer, "eval")


@pytest.mark.filterwarnings("ignore:Using backward")
def test_a_base_that_needs_gradients_with_a_graph() -> None:
    """AdaHessian differentiates the gradients; the closure makes them with ``create_graph=True``."""
    problem, plain = Problem(noise=False), Problem(noise=False)
    options = {"lr": 0.05, "hessian_distribution": "rademacher"}
    base = pytorch_optimizer.AdaHessian(problem.parameters, **options)
    optimizer = SALR(base, AscentDescent(gamma=0.02))
    twin = PlainSALR(pytorch_optimizer.AdaHessian(plain.parameters, **options))
    torch.manual_seed(5)
    for batch in problem.batches:

        def closure(batch: tuple[Tensor, Tensor] = batch) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(problem.model, batch)
            loss.backward(create_graph=True)
            return loss

        optimizer.step(closure)
    torch.manual_seed(5)
    for batch in plain.batches:
        twin.measure(plain.model, lambda model, batch=batch: loss_of(model, batch))
        twin.base.zero_grad()
        loss_of(plain.model, batch).backward(create_graph=True)
        twin.step()
    torch.testing.assert_close(problem.values(), plain.values(), rtol=1e-7, atol=1e-9)


def test_lookahead_around_sgd() -> None:
    """A base that is itself around an optimizer."""
    assert_salr_is_the_plain_loop(
        lambda model: pytorch_optimizer.Lookahead(SGD(model.parameters(), lr=0.1), k=2)
    )
