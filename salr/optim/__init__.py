"""Optimizers that seek flat minima, each a wrapper around any ``torch.optim`` optimizer. Nothing here needs more than torch."""

from .averaging import WeightAverage, cyclic_rate, recompute_batch_statistics
from .local_entropy import LocalEntropy
from .salr import SALR
from .salr_released import ReleasedSALR
from .sam import SAM
from .smoothout import SmoothOut
from .wrapper import Wrapper

__all__ = [
    "SALR",
    "SAM",
    "LocalEntropy",
    "ReleasedSALR",
    "SmoothOut",
    "WeightAverage",
    "Wrapper",
    "cyclic_rate",
    "recompute_batch_statistics",
]
