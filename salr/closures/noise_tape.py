"""Noise that is kept and used again, where a generator cannot be set back: within a CUDA graph."""

from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from salr.closures.written import written

LIKE = ("rand_like", "randn_like", "randint_like", "rand", "randn", "randint", "randperm")
"""Operations whose result depends on no value of a tensor."""


class Draw(NamedTuple):
    """What an operation has drawn.

    Attributes:
        operation: the operation.
        shape: of the result.
        noise: the result; of dropout its mask.
    """

    operation: Any
    shape: torch.Size
    noise: Tensor


class NoiseTape(TorchDispatchMode):
    """Within, keep all random numbers; after :attr:`place` has been set back, use them again.

    ``place`` plays the part of a generator's state: the number of draws so far. What is drawn beyond the last
    one kept is new. A graph that is captured within draws what is new anew at each replay.

    Raises:
        RuntimeError: on an operation whose noise cannot be told from its other arguments, or on one that
            would use the noise of another operation.
    """

    _present: ClassVar[list["NoiseTape"]] = []

    def __init__(self) -> None:
        super().__init__()
        self.place = 0
        self._draws: list[Draw] = []
        self._changed: set[int] = set()  # storages that have been written to

    @classmethod
    def present(cls) -> "NoiseTape | None":
        """Return the tape that is in use."""
        return cls._present[-1] if cls._present else None

    def __enter__(self) -> Self:
        self._present.append(self)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._present.remove(self)
        super().__exit__(*error)

    @property
    def at_end(self) -> bool:
        """Whether all that has been drawn is used up, as by a generator that nobody has set back."""
        return self.place == len(self._draws)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in getattr(func, "tags", ()):
            self._changed |= {_storage(tensor) for tensor in written(func, args, options)}
            return func(*args, **options)
        name = func.overloadpacket.__name__
        if name == "native_dropout":
            return self._dropout(func, *args, **options)
        in_place = name.endswith("_")
        others = tree_leaves((args[1:] if in_place else args, options))
        known = not any(isinstance(each, Tensor) for each in others) if in_place else name in LIKE
        if not known:
            raise RuntimeError(f"the noise of {func} cannot be kept")
        again = self._again(func, args[0].shape if in_place else None)
        if in_place:
            self._changed.add(_storage(args[0]))
            if again is not None:
                return args[0].copy_(again.noise)
            func(*args, **options)
            self._keep(func, args[0].clone())
            return args[0]
        if again is not None:
            return again.noise.clone()
        result: Tensor = func(*args, **options)
        self._keep(func, result)
        return result

    def _dropout(self, func: Any, x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
        again = self._again(func, x.shape)
        if again is not None:
            return x * again.noise * (1 / (1 - p)), again.noise.clone()
        result, mask = func(x, p, train)
        self._keep(func, mask)
        return result, mask

    def _again(self, func: Any, shape: torch.Size | None) -> Draw | None:
        """Return the draw that is kept at the present place, and move on; None if nothing is kept there."""
        if self.at_end:
            return None
        draw = self._draws[self.place]
        if draw.operation is not func or shape not in (None, draw.shape):
            raise RuntimeError(f"the noise of {draw.operation} would be used again by {func}")
        if _storage(draw.noise) in self._changed:
            raise RuntimeError(f"the noise of {draw.operation} has been changed in place")
        self.place += 1
        return draw

    def _keep(self, func: Any, noise: Tensor) -> None:
        self._draws.append(Draw(func, noise.shape, noise))
        self.place += 1


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
