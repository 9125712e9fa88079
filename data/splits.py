"""The fixed stratified split that takes a part out of a labelled set."""

import numpy as np
import torch
from torch import Tensor

SEED = 0


def stratified_split(labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Indices of what stays and of the `size` examples taken, each in file order and with the classes in their proportions.

    `labels`: (N,) int64 on the CPU. The classes' shares are rounded by largest remainder, so that exactly `size` are taken.
    The choice depends on the labels and the size alone, whatever the version of numpy or torch: RandomState's stream is frozen.
    """
    random = np.random.RandomState(SEED)
    quota = torch.bincount(labels).double() * size / len(labels)
    shares = quota.floor().long()
    shares[torch.argsort(shares - quota, stable=True)[: size - int(shares.sum())]] += 1
    taken = torch.zeros(len(labels), dtype=torch.bool)
    for label, share in enumerate(shares.tolist()):
        members = torch.nonzero(labels == label).flatten()
        taken[members[torch.from_numpy(random.permutation(len(members))[:share])]] = True
    return torch.nonzero(~taken).flatten(), torch.nonzero(taken).flatten()
