"""SALR: learning rates that follow the sharpness of the loss.

``salr.optim`` has the optimizers, which wrap any ``torch.optim.Optimizer``, and ``salr.sharpness`` has the
measures. Both need only torch. The optimizers can be imported from here: ``from salr import SALR``. The other
packages serve the experiments and need the extra ``experiments``.
"""

from importlib import import_module

__version__ = "0.1.0"

__all__ = ["SALR", "SAM", "LocalEntropy", "ReleasedSALR", "SmoothOut", "WeightAverage", "optim", "sharpness"]


def __getattr__(name: str) -> object:
    """Load torch only when an optimizer or a measure is asked for."""
    if name in ("optim", "sharpness"):
        return import_module(f"salr.{name}")
    if name in __all__:
        return getattr(import_module("salr.optim"), name)
    raise AttributeError(f"module 'salr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
