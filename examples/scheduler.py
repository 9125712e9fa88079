"""Train with SALR over Adam and a scheduler: the scheduler sets the base rate, and SALR multiplies it."""

import torch
from torch import nn

from salr.optim import SALR

torch.manual_seed(0)
model = nn.Linear(10, 1)
inputs = torch.randn(256, 10)
targets = inputs.sum(1, keepdim=True)
optimizer = SALR(torch.optim.Adam(model.parameters(), lr=0.1))
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=60)

for step in range(60):
    loss = optimizer.step(lambda: nn.functional.mse_loss(model(inputs), targets))
    if step % 20 == 0:
        rate, factor = optimizer.param_groups[0]["lr"], float(optimizer.lr_factor)
        print(f"step {step}: loss {float(loss):.4f}, base rate {rate:.4f}, factor {factor:.3f}")
    scheduler.step()
print(f"loss {float(loss):.4f}")
