"""Optimizers that seek flat minima, each a wrapper around any ``torch.optim`` optimizer. Nothing here needs more than torch."""

from .salr import SALR
from .wrapper import Wrapper

__all__ = ["SALR", "Wrapper"]
