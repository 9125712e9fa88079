"""Train with SALR in half precision: autocast in the closure, and float16 with a gradient scaler.

The parameters stay in float32: SALR moves them by less than float16 or bfloat16 can hold.
"""

import torch
from torch import Tensor, nn

from salr.optim import SALR

device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
inputs = torch.randn(512, 20, device=device)
targets = (inputs[:, 0] * inputs[:, 1] > 0).long()


def build() -> tuple[nn.Module, SALR]:
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2)).to(device)
    return model, SALR(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


def loss_of(model: nn.Module, batch: Tensor, dtype: torch.dtype) -> Tensor:
    with torch.autocast(device, dtype):
        return nn.functional.cross_entropy(model(inputs[batch]), targets[batch])


model, optimizer = build()
for _ in range(10):
    for batch in torch.randperm(len(inputs), device=device).split(64):
        loss = optimizer.step(lambda batch=batch: loss_of(model, batch, torch.bfloat16))
print(f"bfloat16: loss {float(loss):.3f}, factor {float(optimizer.lr_factor):.3f}")

# The scaler decides whether to step, so the loop calls backward itself. The measured loss is unscaled.
model, optimizer = build()
scaler = torch.amp.GradScaler(device)
for _ in range(10):
    for batch in torch.randperm(len(inputs), device=device).split(64):
        optimizer.measure(lambda batch=batch: loss_of(model, batch, torch.float16))
        optimizer.zero_grad()
        scaler.scale(loss_of(model, batch, torch.float16)).backward()
        scaler.step(optimizer)  # skipped if a scaled gradient overflows
        scaler.update()
loss = loss_of(model, batch, torch.float16).detach()
print(f"float16:  loss {float(loss):.3f}, factor {float(optimizer.lr_factor):.3f}")
