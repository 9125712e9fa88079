"""What every data set hands out, and the one error it raises."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """One mini-batch, on the device.

    `inputs`: images (N, C, H, W) float32, or tokens (N, T) int64. `targets`: classes (N,) or next tokens (N, T), int64.
    `restart`: a recurrent state must be reset before this batch (always False for images).
    Text batches are views of the stored streams: read them, do not write into them.
    """

    inputs: Tensor
    targets: Tensor
    restart: bool


class DataError(OSError):
    """A data set is missing, damaged or cannot be fetched: one line that names the file and says what helps."""


def read_bytes(path: Path, dataset: str) -> bytes:
    """The file's content, with a DataError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{dataset}: cannot read {path}: {error.strerror or error}") from error


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` (on the CPU) on `device`; pinned for CUDA, so that the host does not wait for the copy."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
