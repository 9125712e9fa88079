"""The loss over a whole data set as one function of the parameters."""

import inspect
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, nll_loss
from torch.nn.utils.rnn import PackedSequence

from salr.closures.side_state import SideState
from salr.closures.vectors import precise

Weight = Callable[[Tensor], Tensor | float]
CLASS_LOSSES: tuple[type[nn.Module], ...] = tuple(
    getattr(nn, name)
    for name in ("CrossEntropyLoss", "NLLLoss", "LinearCrossEntropyLoss")
    if hasattr(nn, name)  # the last is not in older versions of torch
)
MOVED_AS_A_WHOLE: tuple[Any, ...] = (Tensor, PackedSequence)
ROUNDING = 1e-6
"""How far the sum of class weights may differ between passes in another order, relative to its size."""


class DatasetLoss:
    """The mean loss over all targets, batch by batch: a closure for every measure, for any size of data.

    A call returns the mean, 0-d, and adds its gradient to ``parameter.grad`` if gradients are enabled. One
    batch's graph is in memory at a time. It is a function of the parameters only: module modes, buffers and
    torch's default generators are put back, so that all calls see the same dropout masks and the same
    recurrent state. ::

        loss = DatasetLoss(model, nn.CrossEntropyLoss(), loader)
        AscentDescent()(loss, model.parameters())

    Batches must be the same at each pass, in any order: take a loader without augmentation. To show
    progress, pass an object that shows it while it is iterated.

    Args:
        model: called with a batch's inputs; with keywords if they are a mapping.
        loss: ``loss(outputs, targets)``, a mean over the targets, as ``nn.CrossEntropyLoss()`` is.
        batches: (inputs, targets, ...) each: a list, a ``DataLoader``, or a function that returns a fresh
            iterator. They are counted once at the start, and moved to the model's device one by one.
        training: True evaluates the model in train mode, False in eval mode. The mode that the model is in
            does not matter, and is put back.
        weight: what ``loss`` divides a batch's sum by, given its targets. By default it is the number of
            targets. Class weights and ``ignore_index`` of cross entropy and ``nll_loss``, and the reduction
            "batchmean", are honoured without it: for torch's modules and functions, for partials of them, if
            they are compiled, and for modules that contain one. In a plain function or a
            lambda they are not recognised.

    Raises:
        ValueError: there are no batches or no targets, they can be iterated only once, the loss is a sum, or
            targets that may be padding or several losses in one module need a ``weight``; on a call, the
            batches' weight is not that of the first pass.
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
        read = 0.0
        kept = self._side.kept(gradients=False)
        with kept, self._mode(), _differentiable_recurrence(self.model):
            for inputs, targets in self._read():
                weight = float(self._weight(targets))
                read += weight
                share = weight / self._whole
                with self._side.watching():  # but not what the caller does with a term
                    loss = self.loss(self._outputs(inputs), _moved(targets, self._device))
                if share > 0:  # the mean over nothing but padding is 0/0
                    yield precise(loss) * share
        if not math.isclose(read, self._whole, rel_tol=ROUNDING):
            raise ValueError(
                f"the batches differ from pass to pass: their targets weigh {read:g}, and {self._whole:g} in "
                "the first pass; expected the same batches whenever they are iterated"
            )

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


def _divisor_of(loss: object) -> Weight:
    """Return what gives the number that the loss divides a batch's sum by. Refuse a loss that is no mean."""
    divisors = [_divisor(by_class, options) for by_class, options in _losses_in(loss)]
    if all(divisor is _number for divisor in divisors):
        return _number
    if len(divisors) > 1:
        raise ValueError(
            f"the loss contains {len(divisors)} losses, which may divide by different numbers; pass weight=, "
            "the number that their sum divides by"
        )
    return divisors[0]


def _losses_in(loss: Any) -> list[tuple[bool, dict[str, Any]]]:
    """Return the losses that it contains: whether each is one over classes, and its options."""
    loss = getattr(loss, "_orig_mod", loss)  # of a compiled module
    if hasattr(loss, "_torchdynamo_orig_callable"):  # a compiled function
        loss = inspect.unwrap(loss)
    if isinstance(loss, partial):
        return [(by_class, options | loss.keywords) for by_class, options in _losses_in(loss.func)]
    if not isinstance(loss, nn.Module):
        return [(loss in (cross_entropy, nll_loss), {})]
    if isinstance(getattr(loss, "reduction", None), str):
        names = ("reduction", "weight", "ignore_index")
        options = {name: getattr(loss, name) for name in names if hasattr(loss, name)}
        return [(isinstance(loss, CLASS_LOSSES), options)]
    return [each for child in loss.children() for each in _losses_in(child)]


def _divisor(by_class: bool, options: Mapping[str, Any]) -> Weight:
    reduction = options.get("reduction", "mean")
    if reduction not in ("mean", "batchmean"):
        raise ValueError(
            f"the loss has reduction = {reduction!r}; expected a mean over the targets, or weight=, the "
            "number that it divides by"
        )
    if reduction == "batchmean":
        return len
    if by_class:
        return partial(_class_weight, options.get("weight"), options.get("ignore_index", -100))
    return _number


def _class_weight(weights: Tensor | None, ignored: int, targets: Tensor) -> Tensor | float:
    if targets.is_floating_point():  # class probabilities: all count alike
        return targets.numel()
    counted = targets[targets != ignored]
    return counted.numel() if weights is None else precise(weights.to(targets.device)[counted]).sum()


def _number(targets: Tensor) -> int:
    return targets.numel()


def _refuse_padding(targets: Tensor) -> None:
    if not targets.is_floating_point() and not targets.is_complex() and bool((targets < 0).any()):
        raise ValueError(
            "the targets hold negative numbers, which the loss may leave out as padding; pass weight=, the "
            "number that it divides by, as in weight=lambda targets: (targets >= 0).sum()"
        )


def _moved(value: Any, device: torch.device) -> Any:
    """Return the value with its tensors on the device.

    Lists, tuples and named tuples keep their kind; a mapping becomes a dictionary.
    """
    if isinstance(value, MOVED_AS_A_WHOLE):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {name: _moved(each, device) for name, each in value.items()}
    if isinstance(value, list | tuple):
        moved = [_moved(each, device) for each in value]
        if isinstance(value, list):
            return moved
        return type(value)(*moved) if hasattr(value, "_fields") else tuple(moved)
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
