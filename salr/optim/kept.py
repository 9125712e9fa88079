"""An optimizer, its parameters and its attributes as they were before a step."""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from salr.closures.vectors import copy_into, local


class KeptStep:
    """The parameters, state and options of an optimizer and of what it wraps; :meth:`restore` puts them back.

    Args:
        optimizer: any. Of its state, tensors and lists that belong to a parameter are copied;
            the tensors within such lists are not, for torch's optimizers replace these.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        while isinstance(base := getattr(optimizer, "base", None), Optimizer):
            self._attributes.append((vars(optimizer), dict(vars(optimizer))))
            optimizer = base
        self._optimizer = optimizer
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._values = [local(parameter).detach().clone() for parameter in self._parameters]
        self._state = {key: _copied(entry) for key, entry in optimizer.state.items()}
        self._options = [_without_parameters(group) for group in optimizer.param_groups]

    def restore(self) -> None:
        """Put everything back."""
        put_back(self._attributes)
        copy_into(self._parameters, self._values)
        self._optimizer.state.clear()
        self._optimizer.state.update(self._state)
        for group, options in zip(self._optimizer.param_groups, self._options, strict=True):
            for name in _without_parameters(group):
                del group[name]
            group.update(options)


def put_back(attributes: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Put attributes back: pairs of a namespace and what it was."""
    for namespace, before in attributes:
        namespace.update(before)


def _without_parameters(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def _copied(entry: Any) -> Any:
    if isinstance(entry, Tensor):
        return entry.clone()
    if isinstance(entry, dict):
        return {key: _copied(value) for key, value in entry.items()}
    return list(entry) if isinstance(entry, list) else entry
