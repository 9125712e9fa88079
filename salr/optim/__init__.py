"""Optimizers that seek flat minima, each a wrapper around any ``torch.optim`` optimizer.

Nothing here needs more than torch.
"""

from salr.optim.averaging import WeightAverage, cyclic_rate, recompute_batch_statistics
from salr.optim.local_entropy import LocalEntropy
from salr.optim.salr import SALR
from salr.optim.salr_released import ReleasedSALR
from salr.optim.sam import SAM
from salr.optim.smoothout import SmoothOut
from salr.optim.wrapper import Wrapper

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
