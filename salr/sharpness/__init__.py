"""Sharpness measures. Nothing here needs more than torch."""

from .ascent_descent import ascent_descent_sharpness
from .evaluation import Closure, Evaluation

__all__ = ["Closure", "Evaluation", "ascent_descent_sharpness"]
