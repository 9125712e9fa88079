"""Train with SALR in a plain loop."""

import torch
from torch import nn

from salr.optim import SALR

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 2))
inputs = torch.randn(512, 20)
targets = (inputs[:, 0] * inputs[:, 1] > 0).long()
optimizer = SALR(torch.optim.SGD(model.parameters(), lr=0.1))

for epoch in range(20):
    for batch in torch.randperm(len(inputs)).split(64):

        def closure(batch: torch.Tensor = batch) -> torch.Tensor:
            return nn.functional.cross_entropy(model(inputs[batch]), targets[batch])

        loss = optimizer.step(closure)
    print(f"epoch {epoch + 1}: loss {float(loss):.3f}, sharpness {float(optimizer.last_sharpness):.4f}")
