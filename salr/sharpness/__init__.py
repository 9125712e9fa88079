"""Sharpness measures. Nothing here needs more than torch; Keskar's box alone needs SciPy as well."""

from .ascent_descent import ascent_descent_sharpness
from .ball import ball_sharpness
from .box import box_sharpness
from .dataset_loss import DatasetLoss
from .evaluation import Closure, Evaluation
from .hessian import Estimate, hessian_eigenvalues, hessian_trace
from .landscape import filter_normalised_direction, loss_surface
from .sam import sam_sharpness

__all__ = [
    "Closure",
    "DatasetLoss",
    "Estimate",
    "Evaluation",
    "ascent_descent_sharpness",
    "ball_sharpness",
    "box_sharpness",
    "filter_normalised_direction",
    "hessian_eigenvalues",
    "hessian_trace",
    "loss_surface",
    "sam_sharpness",
]
