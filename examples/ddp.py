"""Train with SALR and DistributedDataParallel.

DDP averages the gradients and SALR averages the sharpness, so that all ranks use the same rate.

python examples/ddp.py    starts two processes on the CPU of this machine; with torchrun, use train() as it is
"""

import os
import tempfile

import torch
from torch import distributed, nn

from salr.optim import SALR


def train(rank: int, ranks: int, meeting: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Linear(10, 1))
    optimizer = SALR(torch.optim.SGD(model.parameters(), lr=0.05))
    torch.manual_seed(rank)  # each rank has its own data
    inputs = torch.randn(64, 10)
    for _ in range(30):
        loss = optimizer.step(lambda: nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True)))
    print(f"rank {rank}: loss {float(loss):.4f}, factor {float(optimizer.lr_factor):.6f}", flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(train, (2, os.path.join(folder, "meeting")), nprocs=2)
