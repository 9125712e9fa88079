"""Seconds of work that a device has really done."""

import time
from collections.abc import Callable

import torch


def seconds_of(action: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Seconds of one of several calls, all of whose work is done."""
    wait(device)
    begun = time.perf_counter()
    for _ in range(repeats):
        action()
    wait(device)
    return (time.perf_counter() - begun) / repeats


def wait(device: torch.device) -> None:
    """An accelerator's calls return before their work is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
