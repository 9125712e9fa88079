"""How sharp is a trained network? Several measures over a whole data set; the model comes out as it went in."""

import torch
from torch import nn

from salr.sharpness import DatasetLoss, ascent_descent_sharpness, hessian_eigenvalues, sam_sharpness

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 2))
inputs = torch.randn(400, 10)
targets = (inputs.sum(1) > 0).long()
batches = list(zip(inputs.split(100), targets.split(100), strict=True))
parameters = list(model.parameters())

loss = DatasetLoss(model, nn.functional.cross_entropy, batches)
print(f"Definition 1: {float(ascent_descent_sharpness(loss, parameters)):.5f}")
print(f"SAM's:        {float(sam_sharpness(loss, parameters, rho=0.05)):.5f}")
print(f"Hessian:      {hessian_eigenvalues(loss, parameters, k=2).tolist()}")
