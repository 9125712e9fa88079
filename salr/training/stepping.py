"""One step of any optimizer on a closure that only returns its loss."""

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.optim import Optimizer

from salr.closures import Evaluation
from salr.optim import Wrapper


def take_step(
    optimizer: Optimizer,
    closure: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    advance: Callable[[], object],
) -> Tensor:
    """Take a step and return the loss, detached, 0-d.

    Args:
        optimizer: one of torch, or one of the library's around it.
        closure: returns the loss of the present batch.
        parameters: those whose gradients an optimizer of torch needs.
        advance: moves the closure on to its next batch.
    """
    if isinstance(optimizer, Wrapper):
        loss = optimizer.step(closure, advance)
    else:
        # The optimizers of torch expect the closure to call backward, and declare that it returns a float.
        loss = optimizer.step(Evaluation(closure, parameters))  # type: ignore[assignment, arg-type]
    assert isinstance(loss, Tensor)
    return loss
