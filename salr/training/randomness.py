"""Random generators keyed by (seed, purpose, epoch): independent of one another, of the device and of resuming."""

import hashlib

import torch


def _key(seed: int, purpose: str, epoch: int) -> int:
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """A CPU generator of its own for a purpose."""
    return torch.Generator().manual_seed(_key(seed, purpose, epoch))


def seed_default(seed: int, purpose: str, epoch: int = 0) -> None:
    """Seeds torch's default generators, which initialisation and dropout draw from."""
    torch.manual_seed(_key(seed, purpose, epoch))
