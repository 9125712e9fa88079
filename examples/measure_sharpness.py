"""Measure how sharp a network is, over a whole data set. The model stays unchanged."""

import torch
from torch import nn

from salr.sharpness import AscentDescent, DatasetLoss, SAMSharpness, hessian_eigenvalues

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 2))
inputs = torch.randn(400, 10)
targets = (inputs.sum(1) > 0).long()
batches = list(zip(inputs.split(100), targets.split(100), strict=True))
parameters = list(model.parameters())

loss = DatasetLoss(model, nn.functional.cross_entropy, batches)
print(f"Definition 1: {float(AscentDescent()(loss, parameters)):.5f}")
print(f"SAM's:        {float(SAMSharpness(rho=0.05)(loss, parameters)):.5f}")
print(f"Hessian:      {hessian_eigenvalues(loss, parameters, k=2).tolist()}")
