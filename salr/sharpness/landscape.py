"""Slices of the loss along filter-normalised random directions (Li et al. 2018)."""

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import product

import torch
from torch import Generator, Tensor

from salr.closures.evaluation import Closure
from salr.closures.neighbourhood import Neighbourhood
from salr.closures.vectors import default_generator, flatten, normal, trainable

Index = tuple[int, ...]


def filter_normalised_direction(
    parameters: Iterable[Tensor], generator: Generator | None = None
) -> list[Tensor]:
    """Return a random direction in which every filter is as long as the network's own.

    A filter is what produces one output: a slice of a parameter along its first dimension. It is drawn from a
    normal distribution and scaled to the L2 norm of the network's filter. Parameters of fewer than two
    dimensions (biases, and the scales and shifts of normalisation layers) are not moved, as in the authors'
    code.

    Args:
        parameters: θ. Those that require no gradient are left out, as in :func:`loss_surface`.
        generator: draws the direction; by default a new one with seed 0. Two directions need one generator,
            or two seeds.

    Returns:
        One tensor for each parameter, of its shape.

    Example:
        >>> import torch
        >>> from salr.sharpness import filter_normalised_direction
        >>> weight = torch.tensor([[3.0, 4.0]], requires_grad=True)
        >>> (direction,) = filter_normalised_direction([weight])
        >>> round(float(direction.norm()), 4)
        5.0
    """
    generator = default_generator(generator)
    return [_direction(parameter.detach(), generator) for parameter in trainable(parameters)]


def _direction(parameter: Tensor, generator: Generator) -> Tensor:
    if parameter.dim() < 2:
        return torch.zeros_like(parameter)
    direction = normal(parameter, generator)
    over = tuple(range(1, parameter.dim()))
    wanted, drawn = (
        torch.linalg.vector_norm(tensor, dim=over, keepdim=True) for tensor in (parameter, direction)
    )
    return direction * (wanted / drawn)


def loss_surface(
    closure: Closure,
    parameters: Iterable[Tensor],
    directions: Sequence[Sequence[Tensor]],
    coordinates: Sequence[Sequence[float]],
    skip: Container[Index] = (),
) -> Iterator[tuple[Index, float]]:
    """Yield f(θ + Σ coordinate · direction) at every point of a grid, one point at a time.

    With one direction it is a line, with two a plane. Parameters are back at θ whenever a point is yielded,
    and nothing is left behind on them, on gradients, buffers or generators. So the caller may save what it
    has, or stop. To resume a grid, make the same directions (same weights, same seed) and skip the points
    that are there. Two directions come from one generator, or from two seeds.

    Args:
        closure: return the loss of the same data whenever it is called.
        parameters: θ, as it is when the first point is asked for. Those that require no gradient are left
            out.
        directions: for each, one tensor for each parameter.
        coordinates: the grid, an axis for each direction; 0 is θ itself, exactly.
        skip: indices that are not wanted.

    Yields:
        The indices into the axes, and the loss. The last axis runs fastest.

    Raises:
        ValueError: directions, axes and parameters do not fit together.

    Example:
        >>> import torch
        >>> from salr.sharpness import loss_surface
        >>> x = torch.tensor([1.0], requires_grad=True)
        >>> line = loss_surface(lambda: x.square().sum(), [x], [[torch.tensor([2.0])]], [[-1.0, 0.0, 1.0]])
        >>> dict(line)
        {(0,): 1.0, (1,): 1.0, (2,): 9.0}
    """
    parameters = trainable(parameters)
    if not directions or len(directions) != len(coordinates):
        raise ValueError(
            f"{len(directions)} directions and {len(coordinates)} axes; "
            "expected as many of each, at least one"
        )
    for direction in directions:
        if [part.shape for part in direction] != [parameter.shape for parameter in parameters]:
            raise ValueError(
                "a direction's tensors have other shapes than the parameters; "
                "expected one of its shape for each"
            )
    return _points(closure, parameters, [flatten(direction) for direction in directions], coordinates, skip)


def _points(
    closure: Closure,
    parameters: list[Tensor],
    directions: list[Tensor],
    coordinates: Sequence[Sequence[float]],
    skip: Container[Index],
) -> Iterator[tuple[Index, float]]:
    wanted = (index for index in product(*(range(len(axis)) for axis in coordinates)) if index not in skip)
    f = None
    for index in wanted:
        # Not before a point is wanted: a finished grid costs nothing.
        f = f or Neighbourhood(closure, parameters)
        offset = torch.zeros_like(f.gradient)
        for axis, position, direction in zip(coordinates, index, directions, strict=True):
            offset += float(axis[position]) * direction
        yield index, float(f.loss_at(offset))
