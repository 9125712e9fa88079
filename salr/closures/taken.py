"""A gradient that has been taken, and whether it is still that of the present parameters."""

import torch
from torch import Tensor

from salr.closures.snapshot import Snapshot
from salr.closures.vectors import local


class TakenGradient:
    """The gradient that the parameters have.

    Args:
        loss: at the parameters.
        parameters: those whose gradients have been taken.
        before: the side state before the evaluation, if it has been kept.
    """

    def __init__(self, loss: Tensor, parameters: list[Tensor], before: Snapshot | None) -> None:
        self.loss, self.before = loss, before
        self._parameters = parameters
        self._gradients = [parameter.grad for parameter in parameters]
        self._places = self._present_places()

    def has_graph(self) -> bool:
        """Return whether it can be differentiated further.

        Its graph then holds the parameters as they were.
        """
        return any(gradient is not None and gradient.requires_grad for gradient in self._gradients)

    def is_current(self) -> bool:
        """Return whether neither the parameters nor their gradients have changed or moved since."""
        pairs = zip(self._parameters, self._gradients, strict=True)
        same = all(parameter.grad is gradient for parameter, gradient in pairs)
        return same and self._places == self._present_places()

    def _present_places(self) -> list[tuple[int, int]]:
        """Return where parameters and gradients are in memory, and how often torch has seen them change."""
        gradients = [parameter.grad for parameter in self._parameters]
        return [
            (local(tensor).data_ptr(), tensor._version)
            for tensor in (*self._parameters, *gradients)
            if tensor is not None
        ]


def refuse_sparse(parameters: list[Tensor]) -> None:
    """Raise ``ValueError`` if a parameter has a gradient that is not dense."""
    for parameter in parameters:
        if (gradient := parameter.grad) is not None and gradient.layout is not torch.strided:
            raise ValueError(
                f"a parameter of shape {tuple(parameter.shape)} has a {gradient.layout} gradient; "
                "expected dense ones (for an embedding: sparse=False)"
            )
