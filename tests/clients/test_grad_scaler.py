"""torch.amp.GradScaler on a CPU: its loop, with measurements of the unscaled loss."""

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import SGD, Optimizer

from salr.optim import SALR, SAM
from salr.sharpness import AscentDescent, GradientNorm
from tests.helpers.optim import Problem
from tests.helpers.plain_loop import PlainSALR, length, plain_sam_gradient

OVERFLOWING = (2, 3)


def loss_of(problem: Problem, iteration: int, model: nn.Module | None = None) -> Tensor:
    inputs, targets = problem.batches[iteration % 3]
    return nn.functional.cross_entropy((problem.model if model is None else model)(inputs), targets)


def scaled(problem: Problem, scaler: GradScaler, iteration: int, loss: Tensor | None = None) -> None:
    """Fill the gradients with the scaled loss's, which overflow in some iterations."""
    scaler.scale(loss_of(problem, iteration) if loss is None else loss).backward()
    if iteration in OVERFLOWING:
        gradient = problem.parameters[0].grad
        assert gradient is not None
        gradient[0, 0] = torch.inf


def momentum(problem: Problem) -> SGD:
    return SGD(problem.parameters, lr=0.1, momentum=0.9)


@pytest.mark.parametrize("fused", [False, True])
def test_salr(fused: bool) -> None:
    """An overflowing step is skipped and counts for no interval."""
    problem, plain = Problem(), Problem()
    optimizer = SALR(SGD(problem.parameters, lr=0.1, momentum=0.9, fused=fused), AscentDescent(gamma=0.02))
    scaler = GradScaler("cpu", init_scale=2.0**20)
    torch.manual_seed(5)
    for iteration in range(9):
        optimizer.zero_grad()
        optimizer.measure(lambda iteration=iteration: loss_of(problem, iteration))
        scaled(problem, scaler, iteration)
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 2.0**18
    twin, measured_at = PlainSALR(momentum(plain)), -1
    torch.manual_seed(5)
    for iteration in range(9):
        twin.base.zero_grad()
        if measured_at != twin.iteration:  # once, although the iteration was tried again
            twin.measure(plain.model, lambda model, i=iteration: loss_of(plain, i, model))
            measured_at = twin.iteration
        loss_of(plain, iteration).backward()
        if iteration not in OVERFLOWING:
            twin.step()
    torch.testing.assert_close(problem.values(), plain.values(), rtol=1e-9, atol=1e-11)
    assert float(optimizer.last_sharpness) == pytest.approx(twin.measured[-1], rel=1e-9)
    assert len(twin.measured) == 4


@pytest.mark.parametrize("clipped", [False, True])
def test_the_gradient_norm_is_that_of_the_unscaled_gradients(clipped: bool) -> None:
    problem, plain = Problem(), Problem()
    optimizer = SALR(momentum(problem), GradientNorm())
    scaler = GradScaler("cpu", init_scale=2.0**20)
    torch.manual_seed(5)
    for iteration in range(9):
        optimizer.zero_grad()
        scaled(problem, scaler, iteration)
        if clipped:  # measure before, as the documentation says
            scaler.unscale_(optimizer)
            optimizer.measure()
            nn.utils.clip_grad_norm_(problem.parameters, 0.3)
        scaler.step(optimizer)
        scaler.update()
    twin = PlainSALR(momentum(plain))
    torch.manual_seed(5)
    for iteration in range(9):
        twin.base.zero_grad()
        loss_of(plain, iteration).backward()
        if iteration in OVERFLOWING:
            continue  # an infinite norm says nothing
        if not (clipped and iteration - 1 in OVERFLOWING):  # measured already, although in vain
            twin.take(length([p.grad for p in plain.parameters if p.grad is not None]))
        if clipped:
            nn.utils.clip_grad_norm_(plain.parameters, 0.3)
        twin.step()
    torch.testing.assert_close(problem.values(), plain.values(), rtol=1e-9, atol=1e-11)
    assert float(optimizer.last_sharpness) == pytest.approx(twin.measured[-1], rel=1e-9)


def test_sams_two_phases() -> None:
    """Scaled gradients point where the unscaled ones do. The scaler checks those of the second pass."""
    problem, plain = Problem(), Problem()
    optimizer, scaler = SAM(momentum(problem), rho=0.1), GradScaler("cpu", init_scale=2.0**20)
    torch.manual_seed(5)
    for iteration in range(5):
        optimizer.zero_grad()
        scaler.scale(loss_of(problem, iteration)).backward()
        optimizer.first_step()
        scaler.scale(loss_of(problem, iteration)).backward()
        scaler.unscale_(optimizer)
        optimizer.second_step()
        scaler.update()
    base = momentum(plain)
    torch.manual_seed(5)
    for iteration in range(5):
        plain_sam_gradient(plain.model, lambda model, i=iteration: loss_of(plain, i, model), rho=0.1)
        base.step()
    torch.testing.assert_close(problem.values(), plain.values(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype) -> None:
    """Scaled in half precision, it goes down as plain SGD does."""
    losses = []
    for wrap in (lambda base: base, lambda base: SALR(base, AscentDescent(gamma=0.02))):
        problem = Problem(dtype=torch.float32)
        optimizer: Optimizer = wrap(momentum(problem))
        scaler = GradScaler("cpu", init_scale=2.0**12)

        def closure(problem: Problem = problem) -> Tensor:
            with torch.autocast("cpu", dtype):
                return loss_of(problem, 0)

        first = float(closure().detach())
        for _ in range(30):
            optimizer.zero_grad()
            if isinstance(optimizer, SALR):
                optimizer.measure(closure)
            scaler.scale(closure()).backward()
            scaler.step(optimizer)
            scaler.update()
        losses.append(float(closure().detach()) / first)
    assert max(losses) < 0.5
