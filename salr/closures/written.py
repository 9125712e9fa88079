"""Which of its arguments an operation changes in place."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

UNDECLARED = ("running_mean", "running_var")
"""Arguments that operations of batch normalisation change in place although their schema does not say so."""
HARMLESS = ("detach_", "record_stream")
"""Operations whose schema declares a change, but which change no value."""


def written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Return the arguments that an operation changes in place."""
    schema = func._schema
    name = schema.name.rpartition("::")[2]
    undeclared = UNDECLARED if "batch_norm" in name and not name.endswith("backward") else ()
    if name in HARMLESS or not (schema.is_mutable or undeclared):
        return
    for place, argument in enumerate(schema.arguments):
        declared = argument.alias_info is not None and argument.alias_info.is_write
        if declared or argument.name in undeclared:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            yield from (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))
