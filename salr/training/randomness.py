"""Random generators that depend on seed, purpose and epoch only, not on the device and not on resuming."""

import hashlib

import torch


def _key(seed: int, purpose: str, epoch: int) -> int:
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """Return a CPU generator for one purpose."""
    return torch.Generator().manual_seed(_key(seed, purpose, epoch))


def seed_default(seed: int, purpose: str, epoch: int = 0) -> None:
    """Seed torch's default generators, which initialisation and dropout use."""
    torch.manual_seed(_key(seed, purpose, epoch))
