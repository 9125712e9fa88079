"""Seconds that a device has really worked."""

import time
from collections.abc import Callable

import torch


def seconds_of(action: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the seconds per call, measured until the work of all calls is done."""
    wait(device)
    begun = time.perf_counter()
    for _ in range(repeats):
        action()
    wait(device)
    return (time.perf_counter() - begun) / repeats


def wait(device: torch.device) -> None:
    """Wait for an accelerator, whose calls return before their work is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
