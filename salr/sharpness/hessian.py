"""The Hessian's largest eigenvalues and its trace, from Hessian-vector products."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from salr.checks import check_count, check_positive
from salr.closures.evaluation import Closure
from salr.closures.own_gradients import NoGradient
from salr.closures.side_state import SideState
from salr.closures.vectors import default_generator, flatten, normal, trainable, unflatten, values_kept
from salr.sharpness.dataset_loss import DatasetLoss


class Estimate(NamedTuple):
    """A mean of random samples and its standard error.

    Example:
        >>> import torch
        >>> from salr.sharpness import hessian_trace
        >>> x = torch.ones(2, requires_grad=True)
        >>> estimate = hessian_trace(lambda: x[0] * x[1], [x], samples=1000)
        >>> abs(estimate.mean) < 4 * estimate.standard_error
        True
    """

    mean: float
    """The mean."""
    standard_error: float
    """The standard deviation of the samples, divided by the square root of their number."""


def hessian_eigenvalues(
    closure: Closure,
    parameters: Iterable[Tensor],
    k: int = 1,
    iterations: int = 200,
    tolerance: float = 1e-3,
    generator: Generator | None = None,
) -> Tensor:
    """Return the k largest eigenvalues of ∇²f(θ), by Lanczos with full reorthogonalisation.

    The Krylov space grows from k random vectors at once, so that an eigenvalue that occurs several times is
    counted as often. Each iteration takes one Hessian-vector product (one gradient and one more backward pass
    through it) and keeps one vector of the parameters' size.

    Args:
        closure: return the loss of the same data whenever it is called, and do not call ``backward``. A
            :class:`DatasetLoss` is taken batch by batch. Everything in it must be twice differentiable by
            torch (a compiled model is not); attention runs by its plain implementation meanwhile. Nothing is
            left behind on parameters, gradients, buffers or generators.
        parameters: θ. Those that require no gradient are left out; one that is listed twice counts once; a
            complex one is a pair of real ones.
        k: how many eigenvalues.
        iterations: the largest number of Hessian-vector products.
        tolerance: the iterations end when ‖∇²f v − λ v‖ ≤ tolerance · max |λ| for each of the k. The error of
            λ is of the order of its square if the eigenvalues lie apart.
        generator: draws the first vectors; by default a new one with seed 0.

    Returns:
        (k,), float64, on the CPU, the largest first, with sign; in units of the loss per squared unit of θ.
        If the iterations did not suffice, a warning says so.

    Raises:
        ValueError: an argument is out of range, the closure calls ``backward`` itself, its loss depends on no
            parameter, a layer has no second derivative, or a parameter is a DTensor.

    Example:
        >>> import torch
        >>> from salr.sharpness import hessian_eigenvalues
        >>> x = torch.ones(2, requires_grad=True)
        >>> hessian_eigenvalues(lambda: 3 * x[0] ** 2 + x[1] ** 2, [x], k=2).round(decimals=3).tolist()
        [6.0, 2.0]
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
        if not math.isfinite(scale):
            raise ValueError(
                "the second derivative is not finite at these parameters; expected a finite loss"
            )
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
        f"{iterations} iterations of Lanczos left a residual of {residual:.2g}, more than {tolerance:g} of "
        "the largest eigenvalue",
        RuntimeWarning,
        stacklevel=2,
    )
    return values


def hessian_trace(
    closure: Closure, parameters: Iterable[Tensor], samples: int = 100, generator: Generator | None = None
) -> Estimate:
    """Estimate the trace of ∇²f(θ) by Hutchinson's method with Rademacher vectors.

    It is exact for a diagonal Hessian.

    Args:
        closure: as for :func:`hessian_eigenvalues`.
        parameters: as for :func:`hessian_eigenvalues`.
        samples: random vectors, one Hessian-vector product each.
        generator: draws them; by default a new one with seed 0.

    Returns:
        The mean of the samples and its standard error, in units of the loss per squared unit of θ.

    Raises:
        ValueError: fewer than two samples, or as for :func:`hessian_eigenvalues`.

    Example:
        >>> import torch
        >>> from salr.sharpness import hessian_trace
        >>> x = torch.ones(2, requires_grad=True)
        >>> hessian_trace(lambda: 3 * x[0] ** 2 + x[1] ** 2, [x], samples=3).mean
        8.0
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
    """v ↦ ∇²f(θ) v, on rows. Every product evaluates f anew on the same noise and leaves no trace."""

    def __init__(self, closure: Closure, parameters: Iterable[Tensor]) -> None:
        self._terms: Callable[[], Iterator[Tensor]]
        self._terms = closure.terms if isinstance(closure, DatasetLoss) else self._only_term
        self._closure, self._parameters = closure, trainable(parameters)
        self._side = SideState(self._parameters)
        self.like = flatten(self._parameters)
        self.size = self.like.numel()
        self._checked = False

    def __call__(self, row: Tensor) -> Tensor:
        vector = unflatten(row, self._parameters)
        total, reached = torch.zeros_like(self.like), False
        # Of attention's implementations in torch, only this one has a second derivative.
        with (
            self._side.kept(),
            values_kept(self._parameters),
            torch.enable_grad(),
            _BackwardRefused(),
            sdpa_kernel(SDPBackend.MATH),
        ):
            for loss in self._terms():
                product = self._product(loss, vector)
                if product is not None:
                    total += product
                    reached = True
        if not reached:
            raise NoGradient(loss.detach())
        return total

    def _only_term(self) -> Iterator[Tensor]:
        with self._side.watching():
            loss = self._closure()
        yield loss

    def _product(self, loss: Tensor, vector: list[Tensor]) -> Tensor | None:
        """Return the product for one term, None if the term depends on none of the parameters."""
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise ValueError(
                "the closure's result has no gradient; expected a loss of one element, computed from the "
                "parameters"
            )
        # A once_differentiable function says so in the graph only if its input requires a gradient.
        seed = torch.ones_like(loss.reshape(())).requires_grad_()
        gradients = torch.autograd.grad(
            loss.reshape(()), self._parameters, seed, create_graph=True, allow_unused=True
        )
        # Unused parameters have no gradient.
        pairs = [(g, v) for g, v in zip(gradients, vector, strict=True) if g is not None]
        if not pairs:
            return None
        varying, weights = zip(*pairs, strict=True)
        if not self._checked:
            _refuse_first_derivatives_only(varying)
            self._checked = True
        try:
            products = torch.autograd.grad(varying, self._parameters, weights, allow_unused=True)
        except RuntimeError as error:
            if "derivative for" not in str(error) and "double backward" not in str(error):
                raise
            raise _no_second_derivative(str(error).splitlines()[0]) from error
        return flatten(
            [torch.zeros_like(p) if h is None else h for h, p in zip(products, self._parameters, strict=True)]
        )


def _refuse_first_derivatives_only(gradients: Iterable[Tensor]) -> None:
    """Refuse functions marked ``once_differentiable``: the graph ends there, and the product would be 0."""
    ahead = [gradient.grad_fn for gradient in gradients]
    seen = set()
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::Error":
            raise _no_second_derivative("a function is marked with once_differentiable")
        ahead += [function for function, _ in node.next_functions]


def _no_second_derivative(reason: str) -> ValueError:
    return ValueError(
        f"a layer has no second derivative ({reason}); measure without it, or with TopEigenvalue, which "
        "needs only gradients"
    )


def _ritz(columns: list[list[float]], size: int, k: int) -> tuple[Tensor, float, float]:
    """Return the k largest eigenvalues within the multiplied vectors, the residual, and the largest |λ|.

    The residual is the largest norm of H v − λ v.

    Args:
        columns: for each multiplied vector its product's coefficients in the basis; missing ones are zero.
        size: the vectors of the basis.
        k: how many eigenvalues.
    """
    projected = torch.zeros(size, len(columns), dtype=torch.float64)
    for index, column in enumerate(columns):
        projected[: len(column), index] = torch.tensor(column, dtype=torch.float64)
    within, outside = projected[: len(columns)], projected[len(columns) :]
    values, vectors = torch.linalg.eigh((within + within.T) / 2)
    residuals = torch.linalg.vector_norm(outside @ vectors[:, -k:], dim=0)
    return values[-k:].flip(0), float(residuals.max()), float(values.abs().max())


def _orthogonalise(vector: Tensor, basis: list[Tensor]) -> tuple[Tensor, list[float]]:
    """Return the vector without its part along the basis, and its coefficients there.

    Twice is enough for machine precision.
    """
    coefficients = [0.0] * len(basis)
    for _ in range(2):
        for index, base in enumerate(basis):
            along = base @ vector
            vector = vector - along * base
            coefficients[index] += float(along)
    return vector, coefficients
