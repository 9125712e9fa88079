"""The same numbers each time: generators that depend on seed, purpose and epoch only, and exact kernels."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def full_precision() -> Iterator[None]:
    """Within, cuDNN's convolutions give the same numbers each time, and float32 is float32.

    By default torch lets convolutions round to TF32, whose 11 significant bits hide the small differences of
    losses that sharpness is made of, and lets them add in any order.
    """
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
