"""The loss over a whole data set as one function of the parameters."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, nll_loss

from salr.closures.side_state import SideState
from salr.closures.vectors import precise

Weight = Callable[[Tensor], Tensor | float]


class DatasetLoss:
    """The mean loss over all targets, batch by batch: a closure for every measure, for any size of data.

    A call returns the mean, 0-d, and adds its gradient to ``parameter.grad`` if gradients are enabled. One
    batch's graph is in memory at a time. It is a function of the parameters only: module modes, buffers and
    torch's default generators come out as they went in, so that all calls see the same dropout masks and the
    same recurrent state. ::

        loss = DatasetLoss(model, nn.CrossEntropyLoss(), loader)
        AscentDescent()(loss, model.parameters())

    Batches must be the same at each pass, in any order: take a loader without augmentation. To show progress,
    hand over an object that shows it when it is iterated.

    Args:
        model: called with a batch's inputs; with keywords if they are a mapping.
        loss: ``loss(outputs, targets)``, a mean over the targets, as ``nn.CrossEntropyLoss()`` is.
        batches: (inputs, targets, ...) each: a list, a ``DataLoader``, or a function that returns a fresh
            iterator. They are counted once at the start, and moved to the model's device one by one.
        training: whether the model is evaluated in train or in eval mode, whichever it is in.
        weight: what ``loss`` divides a batch's sum by, given its targets. By default it is the number of
            targets. For cross entropy and ``nll_loss``, as modules, functions or partials, class weights and
            ``ignore_index`` are honoured without it.

    Raises:
        ValueError: there are no batches or no targets, they can be iterated only once, the loss is a sum, or
            targets that may be padding need a ``weight``.
        TypeError: a batch is not (inputs, targets, ...).

    Example:
        >>> import torch
        >>> from salr.sharpness import DatasetLoss
        >>> model, batches = torch.nn.Linear(2, 1), [(torch.ones(3, 2), torch.zeros(3, 1))]
        >>> loss = DatasetLoss(model, torch.nn.MSELoss(), batches)
        >>> loss().shape
        torch.Size([])
    """

    targets: int
    """How many targets the batches hold."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Tensor], Tensor],
        batches: Iterable[Any] | Callable[[], Iterable[Any]],
        training: bool = False,
        weight: Weight | None = None,
    ) -> None:
        if isinstance(batches, Iterator):
            raise ValueError(
                "the batches can be iterated only once; expected a list, a DataLoader or a function that "
                "returns a fresh iterator"
            )
        self.model, self.loss, self.training = model, loss, training
        self._weight = _divisor_of(loss) if weight is None else weight
        self._batches = batches
        self._device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.targets, self._whole = 0, 0.0
        # A loader draws a seed when it is iterated.
        self._side = SideState(model.parameters(), model)
        with self._side.kept(gradients=False):
            for _, targets in self._read():
                if self._weight is _number:
                    _refuse_padding(targets)
                self.targets += targets.numel()
                self._whole += float(self._weight(targets))
        if not self._whole > 0:
            raise ValueError("the batches hold no targets; expected at least one")

    def __call__(self) -> Tensor:
        """Return the mean loss, detached, 0-d; add its gradient if gradients are enabled."""
        total: Tensor | float = 0.0
        with closing(self.terms()) as terms:
            for term in terms:
                if torch.is_grad_enabled():
                    term.backward()
                total = total + term.detach()
        assert isinstance(total, Tensor)
        return total

    def terms(self) -> Generator[Tensor, None, None]:
        """Yield each batch's share of the mean, 0-d and differentiable; their sum is the loss."""
        kept = self._side.kept(gradients=False)
        with kept, self._mode(), _differentiable_recurrence(self.model):
            for inputs, targets in self._read():
                share = float(self._weight(targets)) / self._whole
                with self._side.watching():  # but not what the caller does with a term
                    loss = self.loss(self._outputs(inputs), _moved(targets, self._device))
                if share > 0:  # the mean over nothing but padding is 0/0
                    yield precise(loss) * share

    def _outputs(self, inputs: Any) -> Any:
        inputs = _moved(inputs, self._device)
        return self.model(**inputs) if isinstance(inputs, Mapping) else self.model(inputs)

    def _read(self) -> Iterator[tuple[Any, Tensor]]:
        for batch in self._batches() if callable(self._batches) else self._batches:
            if not isinstance(batch, tuple | list) or len(batch) < 2 or not isinstance(batch[1], Tensor):
                raise TypeError(
                    f"a batch is {type(batch).__name__}; expected a tuple (inputs, targets, ...) with "
                    "targets a tensor"
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


def _divisor_of(loss: Callable[[Any, Tensor], Tensor]) -> Weight:
    """Return what gives the number that the loss divides a batch's sum by. Refuse a loss that is no mean."""
    options = (
        loss.keywords if isinstance(loss, partial) else vars(loss) if isinstance(loss, nn.Module) else {}
    )
    reduction = options.get("reduction", "mean")
    if reduction not in ("mean", "batchmean"):
        raise ValueError(f"the loss has reduction = {reduction!r}; expected a mean over the targets")
    function = loss.func if isinstance(loss, partial) else loss
    if function in (cross_entropy, nll_loss):
        return partial(_class_weight, options.get("weight"), options.get("ignore_index", -100))
    if isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss):
        return partial(_class_weight, loss.weight, loss.ignore_index)
    return _number


def _class_weight(weights: Tensor | None, ignored: int, targets: Tensor) -> Tensor | float:
    if targets.is_floating_point():  # class probabilities: all count alike
        return targets.numel()
    counted = targets[targets != ignored]
    return counted.numel() if weights is None else weights.to(targets.device)[counted].sum()


def _number(targets: Tensor) -> int:
    return targets.numel()


def _refuse_padding(targets: Tensor) -> None:
    if not targets.is_floating_point() and not targets.is_complex() and bool((targets < 0).any()):
        raise ValueError(
            "the targets hold negative numbers, which the loss may leave out as padding; pass weight=, the "
            "number that it divides by, as in weight=lambda targets: (targets >= 0).sum()"
        )


def _moved(value: Any, device: torch.device) -> Any:
    """Return the value with its tensors on the device; mappings, lists and tuples keep their kind."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {name: _moved(each, device) for name, each in value.items()}
    if isinstance(value, list | tuple):
        moved = [_moved(each, device) for each in value]
        return moved if isinstance(value, list) else tuple(moved)
    return value


@contextmanager
def _differentiable_recurrence(model: nn.Module) -> Iterator[None]:
    """Take torch's own recurrent layers: cuDNN's have no gradient in eval mode, and no second derivative."""
    enabled = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = enabled and not any(
        isinstance(module, nn.RNNBase) for module in model.modules()
    )
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = enabled
