"""All parameters as one vector, and back."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.parameter import is_lazy

PLAIN = (Tensor, torch.nn.Parameter)
HALF = (torch.float16, torch.bfloat16)


def trainable(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the parameters that require a gradient, each once.

    Raises:
        TypeError: they are not an iterable of tensors; a tensor would be one of its own rows.
        ValueError: there are none.
    """
    one = isinstance(parameters, Tensor | torch.nn.Module)
    given: list[Any] = [] if one else list(parameters)
    wrong = [type(each).__name__ for each in given if not isinstance(each, Tensor)]
    if one or wrong:
        kind = type(parameters).__name__ if one else f"an iterable of {wrong[0]}"
        raise TypeError(f"parameters is {kind}; expected tensors, as in model.parameters() or [x]")
    found = each_once(parameter for parameter in given if parameter.requires_grad)
    if not found:
        raise ValueError("no parameter requires a gradient; expected at least one that does")
    return found


def warn_of_half_precision(name: str, parameters: Iterable[Tensor], stacklevel: int = 4) -> None:
    """Warn if a parameter cannot hold what a wrapper or a measure of that name moves it by."""
    if any(parameter.dtype in HALF for parameter in parameters):
        warnings.warn(
            f"{name} moves parameters by less than float16 and bfloat16 can hold; "
            "keep them in float32 and compute the loss under torch.autocast",
            stacklevel=stacklevel,
        )


def each_once(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return the tensors in their order, each once. (A tensor's own hash is slow.)"""
    return list({id(tensor): tensor for tensor in tensors}.values())


def local(tensor: Tensor) -> Tensor:
    """Return this rank's shard of a sharded tensor (DTensor), which shares its memory.

    Return any other tensor itself.
    """
    if type(tensor) in PLAIN:
        return tensor
    shard: Tensor = getattr(tensor, "_local_tensor", tensor)
    return shard


def like_shard(parameter: Tensor, shard: Tensor) -> Tensor:
    """Return the sharded tensor of which ``shard`` is this rank's part, if the parameter is sharded.

    Return ``shard`` itself if it is not.
    """
    if local(parameter) is parameter:
        return shard
    from torch.distributed.tensor import DTensor

    assert isinstance(parameter, DTensor)
    mesh, placements = parameter.device_mesh, parameter.placements
    return DTensor.from_local(shard, mesh, placements, shape=parameter.shape, stride=parameter.stride())


def copy_into(places: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    """Copy values into tensors, shard by shard if they are sharded alike."""
    to, from_ = [local(place) for place in places], [local(value) for value in values]
    if to:
        with torch.no_grad():
            torch._foreach_copy_(to, from_)


@contextmanager
def values_kept(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Put the values of parameters back at the end, although a forward pass may change them, too.

    (An embedding with ``max_norm`` does.) Their version counters stay, so that older graphs can be used.
    """
    places = [local(parameter).data for parameter in parameters if not is_lazy(parameter)]
    values = [place.clone() for place in places]
    try:
        yield
    finally:
        there = [(place, value) for place, value in zip(places, values, strict=True) if not is_freed(place)]
        copy_into((place for place, _ in there), (value for _, value in there))


def is_freed(tensor: Tensor) -> bool:
    """Return whether a tensor's memory has been given back, as ``fully_shard`` does after a pass."""
    return tensor.numel() > 0 and tensor.untyped_storage().size() == 0


def as_real(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return the tensors, complex ones as views of their real and imaginary parts in one more dimension."""
    return [
        torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor for tensor in tensors
    ]


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """Return all elements as one real row, in float32 or wider. A complex element takes two places.

    Raises:
        ValueError: a tensor is a DTensor.
    """
    if any(hasattr(tensor, "device_mesh") for tensor in tensors):
        raise ValueError(
            "a parameter is a DTensor; this measure needs whole parameters: gather the model before "
            "(full_tensor()), or take AscentDescent, GradientNorm, DirectionalCurvature or SAMSharpness"
        )
    row = torch.cat([tensor.detach().reshape(-1) for tensor in as_real(tensors)])
    return precise(row)


def unflatten(row: Tensor, like: Sequence[Tensor], exact: bool = False) -> list[Tensor]:
    """Return the row cut into tensors of the shapes and types of ``like``.

    ``exact`` keeps the row's precision.
    """
    shapes = [tensor.shape for tensor in as_real(like)]
    parts = row.split([shape.numel() for shape in shapes])
    cut = []
    for part, shape, tensor in zip(parts, shapes, like, strict=True):
        shaped = torch.view_as_complex(part.view(shape)) if tensor.is_complex() else part.view(shape)
        cut.append(shaped if exact else shaped.to(tensor.dtype))
    return cut


def precise(tensor: Tensor) -> Tensor:
    """Return the tensor in float32 or wider.

    Half precision cannot hold the difference of nearly equal losses.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the L2 norm over all elements of all tensors together, 0-d, in float32 or wider.

    The host does not wait for it.
    """
    if any(tensor.dtype in HALF for tensor in tensors):
        norms = [
            torch.linalg.vector_norm(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))
            for tensor in tensors
        ]
        norm = torch.linalg.vector_norm(torch.stack([each.to(norms[0]) for each in norms]))
    else:
        norm = torch.nn.utils.get_total_norm(tensors)
    # Sharded gradients (DTensor) give a norm that has yet to be summed over the ranks.
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def add_scaled(parameters: Sequence[Tensor], tensors: Sequence[Tensor], scale: Tensor) -> None:
    """Add scale · tensor to each parameter in place, in one pass over memory. ``scale`` is 0-d."""
    parameters, tensors = [local(each) for each in parameters], [local(each) for each in tensors]
    if any(tensor.dtype in HALF for tensor in (*parameters, *tensors)):
        for parameter, tensor in zip(parameters, tensors, strict=True):
            parameter.add_(precise(tensor) * scale)  # the scale may be below what half precision can hold
    else:
        torch._foreach_addcmul_(list(parameters), list(tensors), [scale] * len(parameters))


def normal(like: Tensor, generator: Generator) -> Tensor:
    """Return standard normal numbers in the shape, type and place of ``like``.

    They are drawn where the generator lives, so that one on the CPU gives the same numbers for every device.
    """
    drawn = torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device, non_blocking=True)


def default_generator(generator: Generator | None) -> Generator:
    """Return the caller's generator, or a new one with seed 0.

    A measure never draws from the global one.
    """
    return torch.Generator().manual_seed(0) if generator is None else generator
