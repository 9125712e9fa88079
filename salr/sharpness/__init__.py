"""Sharpness measures. Nothing here needs more than torch; Keskar's box alone needs SciPy as well."""

from salr.sharpness.ascent_descent import ascent_descent_sharpness
from salr.sharpness.ball import ball_sharpness
from salr.sharpness.box import box_sharpness
from salr.sharpness.dataset_loss import DatasetLoss
from salr.sharpness.hessian import Estimate, hessian_eigenvalues, hessian_trace
from salr.sharpness.landscape import filter_normalised_direction, loss_surface
from salr.sharpness.sam import sam_sharpness

__all__ = [
    "DatasetLoss",
    "Estimate",
    "ascent_descent_sharpness",
    "ball_sharpness",
    "box_sharpness",
    "filter_normalised_direction",
    "hessian_eigenvalues",
    "hessian_trace",
    "loss_surface",
    "sam_sharpness",
]
