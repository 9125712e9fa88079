"""The loss over a whole data set as one function of the parameters."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from salr.closures.no_trace import side_state_kept


class DatasetLoss:
    """The mean loss over all examples, batch by batch: a closure for every measure of this room, of any size of data.

    A call returns the mean, 0-d, and where gradients are enabled adds its gradient to ``parameter.grad``; one batch's graph is in
    memory at a time. It is a function of the parameters alone: module modes, buffers and torch's default generators come out
    as they went in, so that all calls see the same dropout masks and the same recurrent state. ::

        loss = DatasetLoss(model, nn.CrossEntropyLoss(), loader)
        AscentDescent()(loss, model.parameters())

    Batches must be the same at each pass, in any order: take a loader without augmentation. To show progress, hand over an object
    that shows it when it is iterated.

    Args:
        model: called with a batch's inputs.
        loss: ``loss(outputs, targets)``, a mean over the targets, as ``torch.nn.CrossEntropyLoss()`` is.
        batches: (inputs, targets, ...) each: a list, a ``DataLoader``, or a function that returns a fresh iterator.
            They are counted once at the start, and moved to the model's device one by one. A batch weighs what it holds of targets.
        training: whether the model is evaluated in train or in eval mode, whichever it is in.

    Raises:
        ValueError: there are no batches or no targets, or they can be iterated only once.
        TypeError: a batch is not (inputs, targets, ...).
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Tensor], Tensor],
        batches: Iterable[Any] | Callable[[], Iterable[Any]],
        training: bool = False,
    ) -> None:
        if isinstance(batches, Iterator):
            raise ValueError(
                "the batches can be iterated only once; expected a list, a DataLoader or a function that returns a fresh iterator"
            )
        self.model, self.loss, self.training = model, loss, training
        self._batches = batches
        self._device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        # A loader draws a seed when it is iterated.
        with side_state_kept([self._device]):
            self.targets = sum(targets.numel() for _, targets in self._read())
        if self.targets == 0:
            raise ValueError("the batches hold no targets; expected at least one")

    def __call__(self) -> Tensor:
        total: Tensor | float = 0.0
        with closing(self.terms()) as terms:
            for term in terms:
                if torch.is_grad_enabled():
                    term.backward()
                total = total + term.detach()
        assert isinstance(total, Tensor)
        return total

    def terms(self) -> Generator[Tensor, None, None]:
        """Each batch's share of the mean, 0-d and differentiable any number of times; their sum is the loss."""
        with side_state_kept([self._device]), self._mode(), _differentiable_recurrence(self.model):
            for inputs, targets in self._read():
                outputs = self.model(inputs.to(self._device, non_blocking=True))
                loss = self.loss(outputs, targets.to(self._device, non_blocking=True))
                yield loss.to(torch.promote_types(loss.dtype, torch.float32)) * (
                    targets.numel() / self.targets
                )

    def _read(self) -> Iterator[tuple[Any, Tensor]]:
        for batch in self._batches() if callable(self._batches) else self._batches:
            if not isinstance(batch, tuple | list) or len(batch) < 2 or not isinstance(batch[1], Tensor):
                raise TypeError(
                    f"a batch is {type(batch).__name__}; expected a tuple (inputs, targets, ...) with targets a tensor"
                )
            yield batch[0], batch[1]

    @contextmanager
    def _mode(self) -> Iterator[None]:
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.train(self.training)
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


@contextmanager
def _differentiable_recurrence(model: nn.Module) -> Iterator[None]:
    """cuDNN's recurrent layers give no gradient in eval mode, and no second derivative in any; torch's own do."""
    enabled = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = enabled and not any(
        isinstance(module, nn.RNNBase) for module in model.modules()
    )
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = enabled
