"""Gradients as a step finds them: fresh or left by the last one, of what is minimised or maximised."""

from typing import Any

from torch import Tensor

LEFT = "_salr_left"
"""Attribute of a gradient that a step has left.

Its value is the gradient's version then. A gradient without it, or changed since, is fresh.
"""


def fresh_gradients(parameters: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return the parameters with a gradient that the last step has not left there, and the gradients."""
    return [
        (parameter, gradient)
        for parameter in parameters
        if (gradient := parameter.grad) is not None
        and parameter.requires_grad
        and getattr(gradient, LEFT, None) != gradient._version
    ]


def were_left(gradients: list[tuple[Tensor, Tensor]]) -> bool:
    """Return whether a fresh gradient is one that a step has left and that has been changed since."""
    return any(hasattr(gradient, LEFT) for _, gradient in gradients)


def leave_gradients(parameters: list[Tensor]) -> None:
    """Mark the gradients as what a step has left, so that the next one does not take them for fresh."""
    for parameter in parameters:
        if (gradient := parameter.grad) is not None:
            setattr(gradient, LEFT, gradient._version)


def minimised(
    groups: list[dict[str, Any]], parameters: list[Tensor], gradients: list[Tensor]
) -> list[Tensor]:
    """Return the gradients of what an optimizer minimises: of −f if a parameter's group is to maximise f."""
    maximised = {
        id(parameter) for group in groups if group.get("maximize", False) for parameter in group["params"]
    }
    if not maximised:
        return gradients
    pairs = zip(parameters, gradients, strict=True)
    return [-gradient if id(parameter) in maximised else gradient for parameter, gradient in pairs]
