"""Which software and which device made a record."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("salr", "torch", "torchvision", "timm", "numpy")


def provenance(device: torch.device) -> dict[str, object]:
    """Return versions, commit, device and threads as plain data."""
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "commit": _commit(),
        "device": device_name(device),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
    }


def device_name(device: torch.device) -> str:
    """Return the kind of chip, which a time is meaningless without."""
    if device.type == "cpu":
        return f"cpu {_processor()}"
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    return device.type


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _commit() -> str | None:
    """Return the commit at the first call, marked if tracked files differ from it.

    ``None`` if this file is not part of a repository: an installed package may lie inside somebody else's.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + (" with changes" if changed else "")
