"""The fixed stratified split that holds out a part of a labelled set."""

import numpy as np
import torch
from torch import Tensor

SEED = 0


def stratified_split(labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Split the examples into the ones that stay and ``size`` held out, each with the classes' proportions.

    The classes' shares are rounded by the largest remainder, so that exactly ``size`` are held out. The split
    depends only on the labels and the size, not on a version: NumPy has frozen ``RandomState``'s stream.

    Args:
        labels: (N,), int64, on the CPU.
        size: How many examples to hold out, 0 to N.

    Returns:
        Indices of the examples that stay (N - size,) and of the ones held out (size,), both in file order.
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
