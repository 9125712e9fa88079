"""Sharpness measures. They need only torch; ``box_sharpness`` also needs SciPy."""

from salr.sharpness.ascent_descent import AscentDescent
from salr.sharpness.ball import ball_sharpness
from salr.sharpness.box import box_sharpness
from salr.sharpness.dataset_loss import DatasetLoss
from salr.sharpness.directional_curvature import DirectionalCurvature
from salr.sharpness.gradient_norm import GradientNorm
from salr.sharpness.hessian import Estimate, hessian_eigenvalues, hessian_trace
from salr.sharpness.landscape import filter_normalised_direction, loss_surface
from salr.sharpness.measure import Measure
from salr.sharpness.released import ReleasedMeasure
from salr.sharpness.sam import SAMSharpness
from salr.sharpness.top_eigenvalue import TopEigenvalue

__all__ = [
    "AscentDescent",
    "DatasetLoss",
    "DirectionalCurvature",
    "Estimate",
    "GradientNorm",
    "Measure",
    "ReleasedMeasure",
    "SAMSharpness",
    "TopEigenvalue",
    "ball_sharpness",
    "box_sharpness",
    "filter_normalised_direction",
    "hessian_eigenvalues",
    "hessian_trace",
    "loss_surface",
]
