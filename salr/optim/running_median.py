"""The median of all values seen so far, exact, kept on the device."""

import copy

import torch
from torch import Tensor


class RunningMedian:
    """Values, sorted in a tensor that ends in +∞. Neither adding nor reading waits for the device.

    The median of an even number of values is the mean of the two middle ones (numpy's convention). An object
    never changes. Memory and time of an addition are linear in the number of values: 8,000 measurements, a
    CIFAR run of the paper, are 32 KB.

    Args:
        values: 1-d, those already seen, in any order. Their dtype and device are kept.

    Example:
        >>> import torch
        >>> from salr.optim.running_median import RunningMedian
        >>> median = RunningMedian(torch.tensor([3.0, 1.0]))
        >>> float(median.median()), float(median.with_value(torch.tensor(7.0)).median())
        (2.0, 3.0)
    """

    def __init__(self, values: Tensor) -> None:
        self._sorted = torch.cat([values.sort().values, values.new_full((64,), torch.inf)])
        # (torch.tensor would wait for the device.)
        self._count = torch.full((), values.numel(), device=values.device)
        self._added = values.numel()

    def with_value(self, value: Tensor) -> "RunningMedian":
        """Return a new object with one more 0-d value. NaN and +∞ are left out."""
        kept = torch.isfinite(value)
        new = copy.copy(self)
        sorted_ = self._sorted
        if self._added == sorted_.numel() - 1:  # the last entry stays +∞
            sorted_ = torch.cat([sorted_, torch.full_like(sorted_, torch.inf)])
        # Insertion into a sorted row: new[i] = max(old[i-1], min(old[i], value)).
        new._sorted = torch.minimum(sorted_, torch.where(kept, value, torch.inf))
        torch.maximum(new._sorted[1:], sorted_[:-1], out=new._sorted[1:])
        new._added, new._count = self._added + 1, self._count + kept
        return new

    def with_room(self, count: int) -> "RunningMedian":
        """Return a new object that takes so many more values without new memory."""
        new = copy.copy(self)
        missing = self._added + count + 1 - self._sorted.numel()
        new._sorted = torch.cat([self._sorted, self._sorted.new_full((max(0, missing),), torch.inf)])
        return new

    def count(self) -> None:
        """Count a value that a CUDA graph has added to this object's tensors."""
        self._added += 1

    def median(self) -> Tensor:
        """Return the median, 0-d; +∞ if there is no value."""
        middle = torch.stack([self._count - 1, self._count]).clamp(min=0).div(2, rounding_mode="floor")
        return self._sorted[middle].mean()

    def quantile(self, fraction: float) -> Tensor:
        """Return a quantile, 0-d, linearly interpolated between neighbours (numpy's default).

        It is +∞ if there is no value.
        """
        place = (self._count - 1).clamp(min=0).to(self._sorted.dtype) * fraction
        below, above = self._sorted[torch.stack([place.floor(), place.ceil()]).long()]
        return torch.where(self._count > 0, below + (above - below) * (place - place.floor()), torch.inf)

    def values(self) -> Tensor:
        """Return all values, sorted. Waits for the device; for saving."""
        return self._sorted[: int(self._count)].clone()
