"""Sharpness over a Euclidean ball: the paper's equations 1 and 2 (section 3)."""

from collections.abc import Iterable

import torch
from torch import Generator, Tensor

from salr.checks import check_count, check_positive
from salr.closures.evaluation import Closure
from salr.closures.neighbourhood import Neighbourhood, check_not_negative
from salr.closures.vectors import default_generator, normal


def ball_sharpness(
    closure: Closure,
    parameters: Iterable[Tensor],
    epsilon: float,
    two_sided: bool = True,
    steps: int = 20,
    restarts: int = 2,
    generator: Generator | None = None,
) -> Tensor:
    """Return how much f varies within the ball of radius ε around θ.

    Two-sided it is equation 2, S(ε, θ) = max f − min f over the ball. One-sided it is equation 1,
    φ(ε, θ) = (max f − f(θ)) / (1 + f(θ)), which expects a loss ≥ 0.

    Projected gradient ascent and descent search the extremes, from θ and from random points of the sphere.
    The result is what they find: never more than the true value, and nearly all of it if f has one maximum
    and one minimum in the ball. A step goes along the normalised gradient, 2ε long at first (on a convex f
    this walks on the sphere as the power method does). It is twice as long after a success, and a quarter
    after a failure, which is less than a quarter of the rise that the gradient promised. Each side takes
    (1 + restarts) · (1 + steps) gradients.

    Args:
        closure: return the loss of the same data whenever it is called. Nothing is left behind on parameters,
            gradients, buffers or generators.
        parameters: θ. A parameter that is listed twice counts once; a complex one is a pair of real ones.
        epsilon: ε, in units of the parameters.
        two_sided: which equation.
        steps: gradient steps from each start.
        restarts: random starts beside θ itself. They come in opposite pairs: two are enough to see both ends
            in one dimension.
        generator: draws the starts; by default a new one with seed 0.

    Returns:
        S in units of the loss, or φ, which has none; 0-d, in float32 or wider.

    Raises:
        ValueError: an argument is out of range, f(θ) < 0 in equation 1, or a parameter is a DTensor.

    Example:
        >>> import torch
        >>> from salr.sharpness import ball_sharpness
        >>> x = torch.tensor([1.0], requires_grad=True)
        >>> round(float(ball_sharpness(lambda: x.square().sum(), [x], epsilon=0.5)), 4)  # 1.5² − 0.5²
        2.0
    """
    check_positive("epsilon", epsilon)
    check_count("steps", steps, 1)
    check_count("restarts", restarts, 0)
    generator = default_generator(generator)
    f = Neighbourhood(closure, parameters)
    if not two_sided:
        check_not_negative(f.loss)
    starts = _starts(f, epsilon, restarts, generator)
    highest = torch.stack([_climb(f, start, epsilon, steps, sign=1) for start in starts]).max()
    if not two_sided:
        return (highest - f.loss) / (1 + f.loss)
    lowest = torch.stack([_climb(f, start, epsilon, steps, sign=-1) for start in starts]).min()
    return highest - lowest


def _starts(f: Neighbourhood, epsilon: float, restarts: int, generator: Generator) -> list[Tensor]:
    starts = [torch.zeros_like(f.gradient)]
    for index in range(restarts):
        if index % 2:
            starts.append(-starts[-1])
        else:
            direction = normal(f.gradient, generator)
            starts.append(direction * (epsilon / torch.linalg.vector_norm(direction)))
    return starts


def _climb(f: Neighbourhood, offset: Tensor, epsilon: float, steps: int, sign: int) -> Tensor:
    """Return the highest (sign 1) or lowest (sign −1) loss on the way up or down from ``offset``."""
    loss, gradient = f.loss_and_gradient(offset)
    length = 2 * epsilon
    for _ in range(steps):
        norm = torch.linalg.vector_norm(gradient)
        if norm == 0:
            break
        tried = _project(offset + gradient * (sign * length / norm), epsilon)
        tried_loss, tried_gradient = f.loss_and_gradient(tried)
        # A mere rise would let the step swing across a ridge for ever.
        promised = sign * (gradient @ (tried - offset))
        if sign * (tried_loss - loss) > promised.clamp(min=0) / 4:
            offset, loss, gradient = tried, tried_loss, tried_gradient
            length = min(2 * length, 2 * epsilon)
        else:
            length /= 4
    return loss


def _project(offset: Tensor, epsilon: float) -> Tensor:
    return offset * (epsilon / torch.linalg.vector_norm(offset)).clamp(max=1)
