"""The Hessian's largest eigenvalues and its trace, from Hessian-vector products alone."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from salr.checks import check_count, check_positive
from salr.closures.evaluation import Closure
from salr.closures.no_trace import no_trace
from salr.closures.vectors import default_generator, flatten, normal, trainable, unflatten
from salr.sharpness.dataset_loss import DatasetLoss


class Estimate(NamedTuple):
    """A mean of random samples and its standard error."""

    mean: float
    standard_error: float


def hessian_eigenvalues(
    closure: Closure,
    parameters: Iterable[Tensor],
    k: int = 1,
    iterations: int = 200,
    tolerance: float = 1e-3,
    generator: Generator | None = None,
) -> Tensor:
    """The k largest eigenvalues of ∇²f(θ), by Lanczos with full reorthogonalisation.

    The Krylov space grows from k random vectors at once, so that an eigenvalue that occurs several times is counted as often.
    Each iteration takes one Hessian-vector product (one gradient and one more backward pass through it) and keeps one vector of
    the parameters' size.

    Args:
        closure: returns the loss of the same data whenever it is called, and does not call ``backward`` itself;
            a :class:`DatasetLoss` is taken batch by batch. Everything in it must be twice differentiable by torch (a compiled model
            and the fused kernels of attention are not). Nothing is left behind on parameters, gradients, buffers or generators.
        parameters: θ; those that require no gradient are left out.
        k: how many.
        iterations: Hessian-vector products at the most.
        tolerance: the iterations end when ‖∇²f v − λ v‖ ≤ tolerance · max |λ| for each of the k; λ's own error is of the order
            of its square where the eigenvalues lie apart.
        generator: draws the first vectors; by default a new one with seed 0.

    Returns:
        (k,), double precision, on the CPU, the largest first, with sign. Where the iterations did not suffice, a warning says so.

    Raises:
        ValueError: an argument is out of range, the closure calls ``backward`` itself, or its loss depends on no parameter.
    """
    check_count("k", k, 1)
    check_positive("tolerance", tolerance)
    product = _HessianProduct(closure, parameters)
    if k > product.size:
        raise ValueError(f"k = {k}; expected at most {product.size}, the number of parameters")
    check_count("iterations", iterations, k)
    generator = default_generator(generator)

    basis: list[Tensor] = []
    for _ in range(k):
        vector, _ = _orthogonalise(normal(product.like, generator), basis)
        basis.append(vector / torch.linalg.vector_norm(vector))
    columns: list[list[float]] = []
    values, residual = torch.zeros(k), math.inf
    for done in range(1, min(iterations, product.size) + 1):
        vector = product(basis[done - 1])
        scale = float(torch.linalg.vector_norm(vector))
        vector, coefficients = _orthogonalise(vector, basis)
        norm = float(torch.linalg.vector_norm(vector))
        # Rounding leaves that much of a vector that lies within the basis.
        if norm > scale * 10 * torch.finfo(vector.dtype).eps * math.sqrt(product.size):
            basis.append(vector / norm)
            coefficients.append(norm)
        columns.append(coefficients)
        if done >= k:
            values, residual, largest = _ritz(columns, len(basis), k)
            if residual <= tolerance * largest:
                return values
    warnings.warn(
        f"{iterations} iterations of Lanczos left a residual of {residual:.2g}, more than {tolerance:g} of the largest eigenvalue",
        RuntimeWarning,
        stacklevel=2,
    )
    return values


def hessian_trace(
    closure: Closure, parameters: Iterable[Tensor], samples: int = 100, generator: Generator | None = None
) -> Estimate:
    """The trace of ∇²f(θ), estimated by Hutchinson's method with Rademacher vectors; exact for a diagonal Hessian.

    Args:
        closure, parameters: as for :func:`hessian_eigenvalues`.
        samples: random vectors, one Hessian-vector product each.
        generator: draws them; by default a new one with seed 0.

    Returns:
        The mean of the samples and its standard error.

    Raises:
        ValueError: fewer than two samples, the closure calls ``backward`` itself, or its loss depends on no parameter.
    """
    check_count("samples", samples, 2)
    product = _HessianProduct(closure, parameters)
    generator = default_generator(generator)
    drawn = []
    for _ in range(samples):
        vector = normal(product.like, generator).sign()
        drawn.append(float(vector.double() @ product(vector).double()))
    values = torch.tensor(drawn, dtype=torch.float64)
    return Estimate(float(values.mean()), float(values.std()) / math.sqrt(samples))


class _BackwardRefused(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.backward or func is torch.autograd.backward:
            raise ValueError(
                "the closure calls backward itself; second derivatives need one that only returns the loss"
            )
        return func(*args, **(kwargs or {}))


class _HessianProduct:
    """v ↦ ∇²f(θ) v, on rows; every product evaluates f afresh on the same random numbers and leaves no trace."""

    def __init__(self, closure: Closure, parameters: Iterable[Tensor]) -> None:
        self._terms: Callable[[], Iterator[Tensor]]
        self._terms = closure.terms if isinstance(closure, DatasetLoss) else lambda: iter([closure()])
        self._parameters = trainable(parameters)
        self.like = flatten(self._parameters)
        self.size = self.like.numel()

    def __call__(self, row: Tensor) -> Tensor:
        vector = unflatten(row, self._parameters)
        total = torch.zeros_like(row)
        with no_trace(self._parameters), torch.enable_grad(), _BackwardRefused():
            for loss in self._terms():
                total += self._product(loss, vector)
        return total

    def _product(self, loss: Tensor, vector: list[Tensor]) -> Tensor:
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise ValueError(
                "the closure's result has no gradient; expected a loss of one element, computed from the parameters"
            )
        gradients = torch.autograd.grad(
            loss.reshape(()), self._parameters, create_graph=True, allow_unused=True
        )
        # The gradient of a linear or unused parameter is constant.
        pairs = [(g, v) for g, v in zip(gradients, vector, strict=True) if g is not None and g.requires_grad]
        if not pairs:
            return torch.zeros_like(self.like)
        varying, weights = zip(*pairs, strict=True)
        products = torch.autograd.grad(varying, self._parameters, weights, allow_unused=True)
        return flatten(
            [torch.zeros_like(p) if h is None else h for h, p in zip(products, self._parameters, strict=True)]
        )


def _ritz(columns: list[list[float]], size: int, k: int) -> tuple[Tensor, float, float]:
    """The k largest eigenvalues of the Hessian within the multiplied vectors, the largest norm of H v − λ v, and the largest |λ|.

    ``columns``: for each multiplied vector its product's coefficients in the basis of ``size`` vectors (missing ones are zero).
    """
    projected = torch.zeros(size, len(columns), dtype=torch.float64)
    for index, column in enumerate(columns):
        projected[: len(column), index] = torch.tensor(column, dtype=torch.float64)
    within, outside = projected[: len(columns)], projected[len(columns) :]
    values, vectors = torch.linalg.eigh((within + within.T) / 2)
    residuals = torch.linalg.vector_norm(outside @ vectors[:, -k:], dim=0)
    return values[-k:].flip(0), float(residuals.max()), float(values.abs().max())


def _orthogonalise(vector: Tensor, basis: list[Tensor]) -> tuple[Tensor, list[float]]:
    """``vector`` without its part along the basis, and its coefficients there. Twice is enough for machine precision."""
    coefficients = [0.0] * len(basis)
    for _ in range(2):
        for index, base in enumerate(basis):
            along = base @ vector
            vector = vector - along * base
            coefficients[index] += float(along)
    return vector, coefficients
