"""What all data sets share: the batch that they yield, the error that they raise, the way to the device."""

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """One mini-batch on the device.

    Text batches are views of the stored streams: read them, do not write to them.

    Attributes:
        inputs: Images (N, C, H, W), float32, or tokens (N, T), int64.
        targets: Classes (N,) or next tokens (N, T), int64.
        restart: Whether a recurrent state must be reset before this batch. Always ``False`` for images.
    """

    inputs: Tensor
    targets: Tensor
    restart: bool


class DataError(OSError):
    """A data set is missing, damaged or cannot be fetched. One line names the file and says what helps."""


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a CPU tensor on ``device``. For CUDA it is pinned first, so that the host need not wait."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
