"""Eigenvalues and trace of the Hessian, against exact ones and against an independent library."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn

from salr.sharpness import DatasetLoss, hessian_eigenvalues, hessian_trace
from tests.helpers.devices import seeded_generator

pytestmark = pytest.mark.usefixtures("default_device")

N = 12


def quadratic(hessian: Tensor) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """½ θᵀHθ + θ₀, with θ in two parts of different shapes."""
    point = [torch.randn(2, 3, dtype=torch.float64), torch.randn(len(hessian) - 6, dtype=torch.float64)]
    parts = [part.requires_grad_() for part in point]

    def closure() -> Tensor:
        row = torch.cat([part.flatten() for part in parts])
        return row @ hessian @ row / 2 + row[0]

    return closure, parts


def symmetric(values: list[float]) -> Tensor:
    basis = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64)).Q
    return basis * torch.tensor(values, dtype=torch.float64) @ basis.T


def network_and_batches() -> tuple[nn.Sequential, list[tuple[Tensor, Tensor]]]:
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double()
    data = torch.randn(20, 4, dtype=torch.float64), torch.randint(3, (20,))
    model(data[0])
    return model.eval(), list(zip(*(part.split(8) for part in data), strict=True))


def exact_hessian(model: nn.Module, closure: Callable[[], Tensor]) -> Tensor:
    parameters = list(model.parameters())
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(closure(), parameters, create_graph=True)])
    rows = [torch.autograd.grad(element, parameters, retain_graph=True) for element in gradient]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])


SPECTRA = {
    "apart": [9.0, 7.0, 4.0, *np.linspace(-2, 1, N - 3)],
    "the largest negative in size": [3.0, 2.0, 1.0, *np.linspace(-50, 0.5, N - 3)],
    "all negative": list(-np.arange(1.0, N + 1)),
    "repeated": [5.0, 5.0, 5.0, *np.linspace(0, 1, N - 3)],
    "identity": [1.0] * N,
    "zero": [0.0] * N,
}


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("k", [1, 3, N])
def test_eigenvalues_of_a_quadratic(spectrum: str, k: int) -> None:
    closure, parameters = quadratic(symmetric(SPECTRA[spectrum]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = hessian_eigenvalues(closure, parameters, k, tolerance=1e-6)
    expected = torch.tensor(sorted(SPECTRA[spectrum], reverse=True)[:k], dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_few_iterations_find_the_top_of_a_large_spectrum() -> None:
    diagonal = torch.cat([torch.linspace(0, 1, 2000), torch.tensor([10.0, 6.0])])
    theta = torch.randn(2002, requires_grad=True)
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        return (diagonal * theta**2).sum() / 2

    found = hessian_eigenvalues(closure, [theta], k=2)
    torch.testing.assert_close(found, torch.tensor([10.0, 6.0], dtype=torch.float64), atol=1e-4, rtol=0)
    assert calls < 30


def test_a_network_over_batches_has_its_exact_spectrum() -> None:
    model, batches = network_and_batches()
    closure = DatasetLoss(model, nn.CrossEntropyLoss(), batches)
    inputs, targets = (torch.cat(part) for part in zip(*batches, strict=True))
    hessian = exact_hessian(model, lambda: nn.CrossEntropyLoss()(model(inputs), targets))
    expected = torch.linalg.eigvalsh(hessian).flip(0)[:3]
    torch.testing.assert_close(hessian_eigenvalues(closure, model.parameters(), 3, tolerance=1e-7), expected)
    mean, error = hessian_trace(closure, model.parameters(), samples=200)
    assert abs(mean - hessian.trace()) < 3 * error
    assert error < 0.2 * mean


def test_an_independent_library_agrees() -> None:
    from curvlinops import HessianLinearOperator

    model, batches = network_and_batches()
    loss = nn.CrossEntropyLoss()
    some = [parameter for name, parameter in model.named_parameters() if name != "0.bias"]
    oracle = HessianLinearOperator(model, loss, some, batches).to_scipy()
    expected = eigsh(oracle, k=4, which="LA", return_eigenvectors=False)[::-1]
    found = hessian_eigenvalues(DatasetLoss(model, loss, batches), some, 4, tolerance=1e-7)
    np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=1e-6)
    mean, error = hessian_trace(DatasetLoss(model, loss, batches), some, samples=100)
    assert abs(mean - np.trace(oracle @ np.eye(oracle.shape[0]))) < 3 * error


def test_the_trace_of_a_diagonal_hessian_is_exact() -> None:
    diagonal = torch.randn(N, dtype=torch.float64)
    mean, error = hessian_trace(*quadratic(torch.diag(diagonal)), samples=3)
    assert mean == pytest.approx(float(diagonal.sum()), abs=1e-12)
    assert error == pytest.approx(0, abs=1e-12)


def test_the_standard_error_is_that_of_the_mean() -> None:
    """Var zᵀHz = 2 Σ of the squares off the diagonal, for Rademacher z."""
    hessian = symmetric(SPECTRA["apart"])
    closure, parameters = quadratic(hessian)
    _, error = hessian_trace(closure, parameters, samples=2000)
    variance = 2 * (hessian.square().sum() - hessian.diagonal().square().sum())
    assert error == pytest.approx(float(variance / 2000) ** 0.5, rel=0.1)


def test_too_few_iterations_are_said() -> None:
    closure, parameters = quadratic(symmetric(SPECTRA["apart"]))
    with pytest.warns(
        RuntimeWarning, match="3 iterations of Lanczos left a residual of .*, more than 0.001 of the largest"
    ):
        found = hessian_eigenvalues(closure, parameters, k=1, iterations=3)
    assert found[0] < 9  # a Ritz value lies within the spectrum


def test_a_given_generator_draws_and_results_repeat() -> None:
    closure, parameters = quadratic(symmetric(SPECTRA["apart"]))
    assert hessian_trace(closure, parameters, 3) == hessian_trace(closure, parameters, 3)
    other = hessian_trace(closure, parameters, 3, seeded_generator(5))
    assert other != hessian_trace(closure, parameters, 3)
    assert torch.equal(hessian_eigenvalues(closure, parameters), hessian_eigenvalues(closure, parameters))


@pytest.mark.parametrize("measure", [hessian_eigenvalues, hessian_trace])
def test_a_closure_without_second_derivatives_is_refused(measure: Callable) -> None:
    theta = torch.ones(3, requires_grad=True)

    def backward() -> Tensor:
        loss = theta.pow(4).sum()
        loss.backward()
        return loss

    with pytest.raises(
        ValueError, match="the closure calls backward itself; second derivatives need one that only returns"
    ):
        measure(backward, [theta])
    with pytest.raises(ValueError, match="has no gradient; expected a loss of one element"):
        measure(lambda: theta.sum().detach(), [theta])
    with pytest.raises(ValueError, match="no parameter requires a gradient; expected at least one"):
        measure(lambda: theta.sum(), [theta.detach()])
    assert theta.grad is None


def test_linear_and_unused_parameters_have_no_curvature() -> None:
    used, linear, unused = (torch.tensor([2.0], requires_grad=True) for _ in range(3))
    found = hessian_eigenvalues(lambda: (used**3 + 5 * linear).sum(), [used, linear, unused], k=3)
    torch.testing.assert_close(found, torch.tensor([12.0, 0.0, 0.0], dtype=torch.float64), atol=1e-5, rtol=0)
    assert hessian_eigenvalues(lambda: linear.sum(), [linear]) == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"k": 0}, "k = 0; expected a whole number >= 1"),
        ({"k": N + 1}, "k = 13; expected at most 12, the number of parameters"),
        ({"k": 3, "iterations": 2}, "iterations = 2; expected a whole number >= 3"),
        ({"tolerance": 0.0}, "tolerance = 0.0; expected a finite number > 0"),
    ],
)
def test_arguments_out_of_range(arguments: dict, line: str) -> None:
    closure, parameters = quadratic(symmetric(SPECTRA["apart"]))
    with pytest.raises(ValueError, match=line):
        hessian_eigenvalues(closure, parameters, **arguments)
    with pytest.raises(ValueError, match="samples = 1; expected a whole number >= 2"):
        hessian_trace(closure, parameters, samples=1)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.project(x).unflatten(-1, (3, 2, 4)).movedim(-3, 0).transpose(-2, -3)
        return nn.functional.scaled_dot_product_attention(query, key, value)


def test_attention_has_second_derivatives() -> None:
    """torch's fused kernels have none; the plain one is used meanwhile."""
    torch.manual_seed(0)
    model, x = Attention(), torch.randn(2, 5, 8)

    def closure() -> Tensor:
        return model(x).square().mean()

    parameters = list(model.parameters())
    with pytest.raises(RuntimeError, match="derivative for"):
        exact_hessian(model, closure)
    found = float(hessian_eigenvalues(closure, parameters, tolerance=1e-5)[0])
    model, x = model.double(), x.double()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = float(torch.linalg.eigvalsh(exact_hessian(model, closure))[-1])
    assert found == pytest.approx(expected, rel=1e-3)
    assert hessian_trace(closure, parameters, samples=2).mean > 0


class NoSecond(torch.autograd.Function):
    """A square whose derivative cannot be differentiated."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return 2 * ctx.saved_tensors[0] * gradient


def test_a_layer_without_a_second_derivative_is_named() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(
        ValueError, match=r"\Aa layer has no second derivative \([^\n]*\); measure[^\n]*TopEigenvalue"
    ):
        hessian_eigenvalues(lambda: NoSecond.apply(x).sum(), [x])


@pytest.mark.parametrize("k", [1, 2])
def test_a_network_that_has_diverged_is_refused(k: int) -> None:
    x = torch.tensor([float("nan"), 1.0], requires_grad=True)
    with pytest.raises(ValueError, match=r"\Athe second derivative is not finite[^\n]*\Z"):
        hessian_eigenvalues(lambda: x.pow(4).sum(), [x], k=k)
