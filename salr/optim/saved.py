"""A wrapper's own state within the state dict of its base."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

TENSOR = "SALR."
"""Prefix of a measure's tensors in the state of a parameter."""
LOADING = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What reading a damaged state may raise."""


def with_own(state: dict[str, Any], name: str, own: dict[str, Any]) -> dict[str, Any]:
    """Return the base's state with a wrapper's own as an entry of the first parameter group."""
    first, *others = state["param_groups"]
    return {**state, "param_groups": [{**first, name: own}, *others]}


def split_own(
    state: dict[str, Any], name: str, bases: Sequence[str], wrappers: set[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a wrapper's own entry, and the state without it. Earlier versions had the entry at the top.

    Args:
        state: what ``state_dict()`` of such a wrapper returns.
        name: the wrapper's.
        bases: the names of what it goes around, from the outside in.
        wrappers: the names of all wrappers.

    Raises:
        ValueError: there is no such entry, or one of a wrapper that is not in this composition.
    """
    groups = state.get("param_groups")
    if not isinstance(groups, list) or not groups or not all(isinstance(group, dict) for group in groups):
        raise ValueError(f"the state holds {sorted(state)}; expected the state_dict() of a {name}")
    there = wrappers.intersection({*state, *groups[0]})
    place = state if name in state else groups[0]
    if not isinstance(place.get(name), dict):
        raise ValueError(
            f"the state has no entry {name!r} in its first parameter group; expected the state_dict() of a "
            f"{name}{_advice(bases, there)}"
        )
    if len(bases) == 1 and (other := there.difference({name})):
        raise ValueError(
            f"the state is also that of a {min(other)}; expected the state_dict() of a {name} around the "
            "same base"
        )
    rest = {key: value for key, value in state.items() if key != name}
    first = {key: value for key, value in groups[0].items() if key != name}
    return place[name], {**rest, "param_groups": [first, *groups[1:]]}


@contextmanager
def refusing_damage(name: str) -> Iterator[None]:
    """Raise ``ValueError`` if the own state of a wrapper of that name cannot be read within."""
    try:
        yield
    except LOADING as error:
        raise ValueError(
            f"the state of {name} is damaged ({type(error).__name__}: {error}); "
            "expected what state_dict() returns"
        ) from error


def with_tensors(
    state: dict[str, Any], indices: Sequence[int], tensors: Mapping[str, Sequence[Tensor]]
) -> dict[str, Any]:
    """Return the state with a measure's tensors, one for each of the parameters with these indices."""
    entries = dict(state["state"])
    for name, values in tensors.items():
        for index, value in zip(indices, values, strict=True):
            entries[index] = {**entries.get(index, {}), TENSOR + name: value}
    return {**state, "state": entries}


def split_tensors(
    state_dict: dict[str, Any],
) -> tuple[dict[str, Any], list[int], dict[str, list[Tensor]]]:
    """Take the measure's tensors out of a state.

    Returns:
        The state without them, the indices of the parameters that have them, and the tensors by name, one for
        each of these parameters.
    """
    entries, groups = state_dict.get("state"), state_dict.get("param_groups")
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        return state_dict, [], {}
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return state_dict, [], {}
    tensors: dict[str, dict[Any, Tensor]] = {}
    rest = {}
    for index, entry in entries.items():
        mine = [key for key in entry if isinstance(key, str) and key.startswith(TENSOR)]
        for key in mine:
            tensors.setdefault(key.removeprefix(TENSOR), {})[index] = entry[key]
        # An entry that is empty now was not there: it would tell the base that its state had been made.
        if len(mine) < len(entry) or not entry:
            rest[index] = {key: value for key, value in entry.items() if key not in mine}
    # torch.distributed.checkpoint keeps the parameters' names here, in another order than the parameters.
    order = [index for group in groups for index in group.get("params", ())]
    by_name = {name: [each[index] for index in order if index in each] for name, each in tensors.items()}
    having = set().union(*tensors.values())
    indices = [place for place, index in enumerate(order) if index in having]
    return {**state_dict, "state": rest}, indices, by_name


def fills_empty_state(optimizer: Optimizer, parameters: Sequence[Tensor]) -> bool:
    """Return whether a step is torch.distributed.checkpoint's, which fills an empty state.

    The rates and gradients of such a step are zero.
    """
    rates = [group["lr"] for group in optimizer.param_groups if "lr" in group]
    if optimizer.state or not rates or any(float(rate) != 0 for rate in rates):
        return False
    gradients = [parameter.grad for parameter in parameters]
    return not any(bool(gradient.any()) for gradient in gradients if gradient is not None)


def names_of(kind: type) -> set[str]:
    """Return the names of a class and of all that inherit from it."""
    return {kind.__name__}.union(*map(names_of, kind.__subclasses__()))


def _advice(bases: Sequence[str], there: set[str]) -> str:
    """Say how to load a state that is one of the bases'."""
    if there.difference(bases):
        return ""
    depth = next((depth for depth, base in enumerate(bases) if base in there), len(bases) - 1)
    return f"; for that of its base, call optimizer.base{'.base' * depth}.load_state_dict(state)"
