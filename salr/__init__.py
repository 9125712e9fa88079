"""SALR: learning rates that follow the sharpness of the loss.

`salr.optim` (optimizers that wrap any `torch.optim.Optimizer`) and `salr.sharpness` (the measures) need torch alone.
The other rooms serve the experiments and need the extra of that name.
"""

__version__ = "0.1.0"
